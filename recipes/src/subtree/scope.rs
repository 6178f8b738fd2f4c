//! Which znodes belong to a subtree, and how many there may be.

use std::fmt;
use std::sync::Arc;

use synod_core::model::Path;

/// Most znodes of a subtree, unless an option says otherwise.
pub(crate) const NODES_MAX: usize = 200_000;

/// Most bytes of paths and data of a subtree, unless an option says otherwise.
pub(crate) const BYTES_MAX: usize = 256 << 20;

type Filter = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

/// Which znodes belong to it, and how many there may be.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) root: Path,
    /// How many levels below the root.
    pub(crate) depth: usize,
    pub(crate) filter: Option<Filter>,
    pub(crate) nodes_max: usize,
    pub(crate) bytes_max: usize,
}

/// The options that every recipe on a subtree has, for a builder whose field is `scope`.
macro_rules! scope_options {
    () => {
        /// Only so many levels below the root: 0 is the root alone, 1 its children too. All of
        /// them unless this is called.
        pub fn depth(mut self, levels: usize) -> Self {
            self.scope.depth = levels;
            self
        }

        /// Only znodes that `keep` says yes to, and whose ancestors up to the root (which always
        /// belongs to it) it says yes to: what lies below one that is left out is not even
        /// listed. The answer must depend on the path alone.
        pub fn filter(mut self, keep: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
            self.scope.filter = Some(std::sync::Arc::new(keep));
            self
        }

        /// Most znodes, 200,000 unless this is called.
        pub fn nodes_max(mut self, nodes: usize) -> Self {
            self.scope.nodes_max = nodes;
            self
        }

        /// Most bytes of paths and data, 256 MiB unless this is called. Besides, there is what is
        /// being read: at most 256 znodes at a time.
        pub fn bytes_max(mut self, bytes: usize) -> Self {
            self.scope.bytes_max = bytes;
            self
        }
    };
}
pub(crate) use scope_options;

impl Scope {
    pub(crate) fn new(root: Path) -> Scope {
        let (nodes_max, bytes_max) = (NODES_MAX, BYTES_MAX);
        Scope { root, depth: usize::MAX, filter: None, nodes_max, bytes_max }
    }

    /// How many levels `path` is below the root; `None` if it is neither the root nor below it.
    fn level(&self, path: &Path) -> Option<usize> {
        let below = match self.root.is_root() {
            true => path.as_str(),
            false => path.strip_prefix(self.root.as_str())?,
        };
        match below {
            "" | "/" => Some(0),
            below => below.starts_with('/').then(|| below.matches('/').count()),
        }
    }

    /// Whether the children of a znode that belongs to it may belong to it.
    pub(super) fn descends(&self, path: &Path) -> bool {
        self.level(path).is_some_and(|level| level < self.depth)
    }

    /// Whether the child of a znode that belongs to it belongs to it.
    pub(super) fn admits_child(&self, path: &Path) -> bool {
        self.filter.as_ref().is_none_or(|keep| keep(path))
    }

    /// Whether the znode belongs to it.
    pub(super) fn admits(&self, path: &Path) -> bool {
        let Some(level) = self.level(path).filter(|level| *level <= self.depth) else {
            return false;
        };
        let Some(keep) = &self.filter else { return true };
        let mut above = Some(path.clone());
        (0..level).all(|_| match above.take() {
            Some(path) => {
                above = path.parent();
                keep(&path)
            }
            None => true,
        })
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("root", &self.root)
            .field("depth", &self.depth)
            .field("filtered", &self.filter.is_some())
            .field("nodes_max", &self.nodes_max)
            .field("bytes_max", &self.bytes_max)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::new(text).expect("valid")
    }

    #[test]
    fn a_neighbour_whose_name_begins_alike_does_not_belong_to_it() {
        let scope = Scope::new(path("/app"));
        for (text, belongs) in [("/app", true), ("/app/a/b", true), ("/apple", false), ("/", false)]
        {
            assert_eq!(scope.admits(&path(text)), belongs, "{text}");
        }
        assert!(Scope::new(Path::root()).admits(&path("/a/b")));
    }

    #[test]
    fn the_depth_counts_levels_below_the_root() {
        for root in ["/", "/app"] {
            let root = path(root);
            let (child, grandchild) = (root.join("a").expect("valid"), "b");
            let grandchild = child.join(grandchild).expect("valid");
            let mut scope = Scope::new(root.clone());
            scope.depth = 1;
            assert!(scope.admits(&root) && scope.admits(&child) && !scope.admits(&grandchild));
            assert!(scope.descends(&root) && !scope.descends(&child));
        }
    }

    #[test]
    fn what_is_below_one_that_is_left_out_is_left_out_and_the_root_never_is() {
        let mut scope = Scope::new(path("/app"));
        scope.filter = Some(Arc::new(|path: &Path| path.name() != "app" && path.name() != "tmp"));
        assert!(scope.admits(&path("/app")) && scope.admits(&path("/app/a")));
        assert!(!scope.admits(&path("/app/tmp")) && !scope.admits(&path("/app/tmp/a/b")));
        assert!(!scope.admits_child(&path("/app/a/tmp")));
    }
}
