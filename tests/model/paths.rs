//! Paths as text: which are valid, what lies above, what lies below.

use synod_core::model::limits::PATH_BYTES_MAX;

/// The znodes that the coordinator itself made and that nobody can delete.
pub(super) const OWN: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];

/// Whether a znode may have this path.
pub(super) fn is_valid(path: &str) -> bool {
    if path == "/" {
        return true;
    }
    let mut parts = path.split('/');
    parts.next() == Some("")
        && path.len() <= PATH_BYTES_MAX
        && parts.clone().count() > 0
        && parts.all(|part| !part.is_empty() && part != "." && part != "..")
        && path.chars().all(|c| {
            !matches!(u32::from(c),
                0..=0x1F | 0x7F..=0x9F | 0xD800..=0xF8FF | 0xFFF0..=0xFFFF | 0x1_0000..)
        })
}

/// What stands before the last slash (`/` if nothing does); `None` without a slash. The root is
/// its own parent here, which is what makes creating it fail with "it exists".
pub(super) fn parent(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 => Some("/"),
        slash => Some(&path[..slash]),
    }
}

/// The path itself, then its parent, and so on up to the root.
pub(super) fn upwards(path: &str) -> Vec<&str> {
    let mut all = vec![path];
    let mut at = path;
    while at != "/" {
        let Some(above) = parent(at) else { break };
        all.push(above);
        at = above;
    }
    all
}

/// Whether `path` is a child of `above`, both being valid.
pub(super) fn is_child(path: &str, above: &str) -> bool {
    path != "/" && parent(path) == Some(above)
}

/// Whether `path` lies below `above` at any depth, both being valid.
pub(super) fn is_below(path: &str, above: &str) -> bool {
    path != above && upwards(path).contains(&above)
}
