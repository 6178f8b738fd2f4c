use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::Error;
use super::limits::PATH_BYTES_MAX;

/// The znode that says who the members of a cluster are, in ZooKeeper's form: a line
/// `server.ID=HOST:PORT:PORT:participant;HOST:PORT` each (`observer` for one without a vote; behind
/// the semicolon is where clients reach it, if that is known), and at last `version=HEX`, the zxid at
/// which that came to be so. Empty where no member has others.
pub const CONFIG_PATH: &str = "/zookeeper/config";

/// The absolute path of a znode, validated once and trusted from then on.
///
/// It begins with `/`, has no empty, `.` or `..` part and does not end with `/` (but for the
/// root itself); it holds none of the characters U+0000–001F, U+007F–009F, U+FFF0–FFFF,
/// U+E000–F8FF (private use), nor any above U+FFFF. These are the rules of ZooKeeper, so that a
/// path that is valid here is valid on every ground. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Arc<str>);

/// Checks the rules of [`Path`] without making one.
///
/// # Errors
/// The rule that does not hold.
pub fn validate_path(path: &str) -> Result<(), &'static str> {
    if path.len() > PATH_BYTES_MAX {
        return Err("a path has at most 8192 bytes");
    }
    let Some(rest) = path.strip_prefix('/') else {
        return Err("a path begins with /");
    };
    if rest.is_empty() {
        return Ok(());
    }
    for part in rest.split('/') {
        match part {
            "" => return Err("a path has no empty part and no / at its end"),
            "." | ".." => return Err("a path has no part . or .."),
            _ => {}
        }
    }
    let plain = path.bytes().all(|byte| (0x20..0x7F).contains(&byte));
    if !plain && path.chars().any(is_refused) {
        return Err("a path has no control character (U+0000-001F, U+007F-009F), none of \
                    U+E000-F8FF or U+FFF0-FFFF, and none above U+FFFF");
    }
    Ok(())
}

fn is_refused(c: char) -> bool {
    matches!(c, '\0'..='\u{1F}' | '\u{7F}'..='\u{9F}' | '\u{E000}'..='\u{F8FF}'
        | '\u{FFF0}'..='\u{10FFFF}')
}

impl Path {
    /// Validates `path`.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the path and the rule.
    pub fn new(path: impl Into<Arc<str>>) -> Result<Path, Error> {
        let path = path.into();
        match validate_path(&path) {
            Ok(()) => Ok(Path(path)),
            Err(rule) => Err(Error::invalid("path", &*path, rule)),
        }
    }

    /// `/`.
    pub fn root() -> Path {
        Path(Arc::from("/"))
    }

    /// The path of a child.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `name` is not one valid part.
    pub fn join(&self, name: &str) -> Result<Path, Error> {
        if name.is_empty() || name.contains('/') {
            return Err(Error::invalid(
                "name",
                name,
                "the name of a child is not empty and has no /",
            ));
        }
        let parent = if self.is_root() { "" } else { &self.0 };
        Path::new(format!("{parent}/{name}"))
    }

    /// The path of the parent; `None` for the root.
    pub fn parent(&self) -> Option<Path> {
        if self.is_root() {
            return None;
        }
        match self.0.rfind('/') {
            Some(0) | None => Some(Path::root()),
            Some(slash) => Some(Path(Arc::from(&self.0[..slash]))),
        }
    }

    /// The last part; empty for the root.
    pub fn name(&self) -> &str {
        &self.0[self.0.rfind('/').map_or(0, |slash| slash + 1)..]
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Path {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Path {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Path {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<Path> for Arc<str> {
    fn from(path: Path) -> Arc<str> {
        path.0
    }
}

impl TryFrom<&str> for Path {
    type Error = Error;

    fn try_from(path: &str) -> Result<Path, Error> {
        Path::new(path)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_paths_pass() {
        for path in ["/", "/a", "/a/b", "/a b/…/ü", "/...", "/.a", "/\u{D7FF}", "/\u{FFEF}"] {
            assert_eq!(validate_path(path), Ok(()), "{path:?}");
        }
    }

    #[test]
    fn every_broken_rule_is_named() {
        let too_long = format!("/{}", "a".repeat(PATH_BYTES_MAX));
        for (path, rule) in [
            ("", "begins with /"),
            ("a", "begins with /"),
            ("a/b", "begins with /"),
            ("/a/", "no / at its end"),
            ("//", "no empty part"),
            ("/a//b", "no empty part"),
            ("/.", "no part ."),
            ("/a/..", "no part ."),
            ("/a/./b", "no part ."),
            ("/a\0", "control"),
            ("/a\u{1}", "control"),
            ("/\u{1F}", "control"),
            ("/\u{7F}", "control"),
            ("/\u{9F}", "control"),
            ("/\u{E000}", "U+E000"),
            ("/\u{F8FF}", "U+E000"),
            ("/\u{FFF0}", "U+FFF0"),
            ("/\u{FFFF}", "U+FFF0"),
            ("/\u{1F980}", "above U+FFFF"),
            (too_long.as_str(), "8192"),
        ] {
            let error = Path::new(path).expect_err(path).to_string();
            assert!(error.contains(rule), "{path:?}: {error}");
        }
    }

    #[test]
    fn parts_come_apart_and_together() {
        let path = Path::new("/a/b").expect("valid");
        assert_eq!((path.name(), path.parent()), ("b", Some(Path::new("/a").expect("valid"))));
        assert_eq!(Path::new("/a").expect("valid").parent(), Some(Path::root()));
        assert_eq!((Path::root().name(), Path::root().parent()), ("", None));
        assert_eq!(Path::root().join("a").expect("valid").as_str(), "/a");
        assert_eq!(path.join("c").expect("valid").as_str(), "/a/b/c");
        assert!(path.join("c/d").is_err() && path.join("").is_err() && path.join("..").is_err());
        assert!(Path::root().join("").is_err() && Path::root().join(".").is_err());
    }
}
