//! The differences that are meant: `interop/differences.toml`.

use serde::Deserialize;

use crate::compare::Difference;

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Allowed {
    difference: Vec<Entry>,
}

/// A difference that is meant. In `operation`, `field`, `apache` and `ours`, `*` stands for
/// anything.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    operation: String,
    field: String,
    apache: String,
    ours: String,
    why: String,
    /// The two servers hold different states from here on: the program ends.
    #[serde(default)]
    diverges: bool,
    /// Why no program comes to it.
    unreachable: Option<String>,
    #[serde(skip)]
    seen: u64,
}

impl Allowed {
    pub(crate) fn load() -> Allowed {
        let text = include_str!("../interop/differences.toml");
        let allowed: Allowed = toml::from_str(text).expect("differences.toml follows its format");
        assert!(allowed.difference.iter().all(|entry| entry.why.len() > 20), "each says why");
        allowed
    }

    /// Whether it is listed, and if so whether the states differ from here on.
    pub(crate) fn find(&mut self, difference: &Difference) -> Option<bool> {
        let mut entries = self.difference.iter_mut();
        let entry = entries.find(|entry| {
            entry.unreachable.is_none()
                && matches(&entry.operation, &difference.operation)
                && matches(&entry.field, &difference.field)
                && matches(&entry.apache, &difference.apache)
                && matches(&entry.ours, &difference.ours)
        })?;
        entry.seen += 1;
        Some(entry.diverges)
    }

    /// Entries that did not occur although they could.
    pub(crate) fn unseen(&self) -> Vec<String> {
        let entries = self.difference.iter();
        let unseen = entries.filter(|entry| entry.seen == 0 && entry.unreachable.is_none());
        unseen.map(|entry| format!("{}, {}", entry.operation, entry.field)).collect()
    }
}

impl std::fmt::Display for Allowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for Entry { operation, field, apache, ours, seen, .. } in &self.difference {
            writeln!(f, "{seen:>8} × {operation}, {field}: Apache {apache}, ours {ours}")?;
        }
        Ok(())
    }
}

/// Whether the text follows the pattern, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| matches(after, &rest[at..]))
        }),
    }
}
