//! The znodes of a cache at one zxid.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use synod_core::model::{Path, Stat, Zxid};

use super::map::{Edit, NodeMap};
use crate::error::Error;
use crate::subtree::{Change, Cut};

/// A znode in a cache.
pub struct Node {
    /// Where it is, as the cache's client names it.
    pub path: Path,
    /// Its data.
    pub data: Bytes,
    /// Its Stat. No event tells of a change of the fields about children (`cversion`, `children`,
    /// `pzxid`) and about the ACL (`aversion`): these are as of when the znode was read last. The
    /// others are exact.
    pub stat: Stat,
    /// What [`Node::json`] has made of the data.
    parsed: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Node {
    pub(super) fn new(path: Path, data: Bytes, stat: Stat) -> Node {
        Node { path, data, stat, parsed: OnceLock::new() }
    }

    /// The data as a `T`, in JSON. It is parsed once, by who asks first, and kept with this version
    /// of the znode; another `T` than the first is parsed each time.
    ///
    /// # Errors
    /// [`Error::BadData`] when the data is no valid `T`.
    pub fn json<T: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Arc<T>, Error> {
        if let Some(parsed) = self.parsed.get()
            && let Ok(value) = Arc::clone(parsed).downcast()
        {
            return Ok(value);
        }
        match serde_json::from_slice::<T>(&self.data) {
            Ok(value) => {
                let value = Arc::new(value);
                // Somebody may have been faster; nobody waits for anybody.
                let _ = self.parsed.set(Arc::clone(&value) as Arc<dyn Any + Send + Sync>);
                Ok(value)
            }
            Err(error) => {
                let (path, zxid, reason) = (self.path.clone(), self.stat.mzxid, error.to_string());
                Err(Error::BadData { path, zxid, reason })
            }
        }
    }

    /// Whether it is the same version of the same znode. Versions alone do not tell: one that was
    /// deleted and created again begins anew at 0.
    fn is(&self, stat: &Stat) -> bool {
        (self.stat.czxid, self.stat.mzxid) == (stat.czxid, stat.mzxid)
    }

    fn bytes(&self) -> usize {
        self.path.len() + self.data.len()
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.path == other.path && self.is(&other.stat) && self.data == other.data
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("path", &self.path)
            .field("data", &self.data)
            .field("stat", &self.stat)
            .finish()
    }
}

/// What a cache holds at one zxid: every znode that belongs to it, as it was then, and no other.
/// It never changes; the cache has another one by the next change.
#[derive(Clone, Default)]
pub struct Snapshot {
    nodes: NodeMap,
    bytes: usize,
    zxid: Zxid,
}

impl Snapshot {
    /// The zxid at which the tree was that.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// The znode at `path`; `None` if there was none, or it does not belong to the cache.
    pub fn get(&self, path: impl AsRef<str>) -> Option<&Arc<Node>> {
        self.nodes.get(path.as_ref())
    }

    /// Every znode, in the order of paths: a parent comes before its children.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.iter_from("/")
    }

    /// The znodes below `path`, at any depth, in the order of paths.
    pub fn below(&self, path: impl AsRef<str>) -> impl Iterator<Item = &Arc<Node>> {
        let prefix = prefix_of(path.as_ref());
        let from = self.nodes.iter_from(&prefix);
        let below = from.take_while(move |node| node.path.starts_with(&prefix));
        below.filter(|node| !node.path.is_root())
    }

    /// The children of `path`, in the order of names. It does not look at what is below them.
    pub fn children(&self, path: impl AsRef<str>) -> impl Iterator<Item = &Arc<Node>> {
        let prefix = prefix_of(path.as_ref());
        // What comes directly behind it: no path has a NUL, and `0` follows `/`.
        let mut from = if prefix == "/" { "/\0".to_owned() } else { prefix.clone() };
        std::iter::from_fn(move || {
            loop {
                let node = self.nodes.iter_from(&from).next()?;
                let name = node.path.strip_prefix(&prefix)?;
                match name.find('/') {
                    None => {
                        from = format!("{}\0", node.path);
                        return Some(node);
                    }
                    Some(end) => from = format!("{prefix}{}0", &name[..end]),
                }
            }
        })
    }

    /// How many znodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none: not even the root.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes paths and data have.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it has that version of that znode.
    pub(super) fn holds(&self, path: &Path, stat: &Stat) -> bool {
        self.nodes.get(path).is_some_and(|node| node.is(stat))
    }

    /// The snapshot of the next cut.
    pub(super) fn at(&self, cut: Cut) -> Snapshot {
        let mut bytes = if cut.whole { 0 } else { self.bytes };
        let edit = |(path, change): (Path, Change)| -> Option<Edit> {
            let had = self.nodes.get(&path);
            let has = match change {
                // Not read into a new one, so that what was parsed stays, and is not told of.
                Change::Same => had.map(Arc::clone),
                Change::Put(data, stat) => Some(Arc::new(Node::new(path.clone(), data, stat))),
                Change::Gone => None,
            };
            if !cut.whole {
                bytes -= had.map_or(0, |node| node.bytes());
            }
            bytes += has.as_ref().map_or(0, |node| node.bytes());
            (has.is_some() || had.is_some()).then_some((path, has))
        };
        let edits: Vec<Edit> = cut.changes.into_iter().filter_map(edit).collect();
        let nodes = match cut.whole {
            true => NodeMap::of(edits),
            false => self.nodes.edited(edits),
        };
        Snapshot { nodes, bytes, zxid: cut.zxid }
    }

    /// Calls `differs` for every znode that is not the same in both.
    pub(super) fn diff<'a>(
        &'a self,
        newer: &'a Snapshot,
        differs: impl FnMut(Option<&'a Arc<Node>>, Option<&'a Arc<Node>>),
    ) {
        self.nodes.diff(&newer.nodes, differs);
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("zxid", &self.zxid)
            .field("len", &self.len())
            .field("bytes", &self.bytes)
            .finish()
    }
}

/// What the paths below begin with.
fn prefix_of(path: &str) -> String {
    match path {
        "/" => path.to_owned(),
        path => format!("{path}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(paths: &[&str]) -> Snapshot {
        let put = |text: &&str| {
            let path = Path::new(*text).expect("valid");
            (path, Change::Put(Bytes::from_static(b"1"), Stat::default()))
        };
        let mut changes: Vec<_> = paths.iter().map(put).collect();
        changes.sort_by(|(a, _), (b, _)| a.cmp(b));
        Snapshot::default().at(Cut { zxid: Zxid::ZERO, whole: true, changes, answered: 0 })
    }

    fn names<'a>(nodes: impl Iterator<Item = &'a Arc<Node>>) -> Vec<&'a str> {
        nodes.map(|node| node.path.as_str()).collect()
    }

    /// `-` sorts before `/`, and `0` behind it.
    const PATHS: [&str; 9] =
        ["/", "/a", "/a-b", "/a/b", "/a/b-c", "/a/b/x", "/a/b/x/y", "/a/b0", "/a0"];

    #[test]
    fn children_are_those_of_that_very_znode() {
        let snapshot = snapshot(&PATHS);
        assert_eq!(names(snapshot.children("/")), ["/a", "/a-b", "/a0"]);
        assert_eq!(names(snapshot.children("/a")), ["/a/b", "/a/b-c", "/a/b0"]);
        assert_eq!(names(snapshot.children("/a/b")), ["/a/b/x"]);
        assert_eq!(names(snapshot.children("/a-b")), [""; 0]);
        assert_eq!(names(snapshot.children("/nothing")), [""; 0]);
    }

    #[test]
    fn what_is_below_is_at_any_depth_and_not_the_znode_itself() {
        let snapshot = snapshot(&PATHS);
        assert_eq!(names(snapshot.below("/")).len(), PATHS.len() - 1);
        assert_eq!(names(snapshot.below("/a")), ["/a/b", "/a/b-c", "/a/b/x", "/a/b/x/y", "/a/b0"]);
        assert_eq!(names(snapshot.below("/a/b/x/y")), [""; 0]);
    }

    #[test]
    fn a_value_is_parsed_once_and_another_type_is_another_value() {
        let snapshot = snapshot(&["/a"]);
        let node = snapshot.get("/a").expect("there");
        let first = node.json::<u32>().expect("a number");
        assert!(*first == 1 && Arc::ptr_eq(&first, &node.json::<u32>().expect("a number")));
        assert_eq!(*node.json::<f64>().expect("a number"), 1.0);
        let error = node.json::<String>().expect_err("no text");
        assert!(matches!(&error, Error::BadData { path, .. } if &**path == "/a"), "{error}");
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
