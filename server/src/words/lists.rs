//! The words whose answers grow with the state: they tell of a part of it, and hold the state while
//! that is copied. None of them is answered by default.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};
use std::path::Path;

use crate::Shared;
use crate::limits::WORD_ENTRIES_MAX;

/// Sessions, and whose the ephemeral znodes are.
pub(super) fn dump(out: &mut String, shared: &Shared) -> fmt::Result {
    let sessions = shared.member.sessions(WORD_ENTRIES_MAX);
    writeln!(out, "SessionTracker dump:")?;
    writeln!(out, "Global Sessions({}):", sessions.len())?;
    for session in &sessions {
        writeln!(out, "{}\t{}ms", session.id, session.timeout_ms)?;
    }
    let owners = sessions.iter().filter(|session| !session.ephemerals.is_empty());
    writeln!(out, "ephemeral nodes dump:")?;
    writeln!(out, "Sessions with Ephemerals ({}):", owners.clone().count())?;
    for session in owners {
        writeln!(out, "{}:", session.id)?;
        session.ephemerals.iter().try_for_each(|path| writeln!(out, "\t{path}"))?;
    }
    writeln!(out, "Connections dump:")
}

/// Who watches what, by session.
pub(super) fn watches_by_session(out: &mut String, shared: &Shared) -> fmt::Result {
    grouped(out, shared.member.watches(WORD_ENTRIES_MAX))
}

/// The same by path.
pub(super) fn watches_by_path(out: &mut String, shared: &Shared) -> fmt::Result {
    let watches = shared.member.watches(WORD_ENTRIES_MAX);
    grouped(out, watches.into_iter().map(|(session, path)| (path, session)))
}

/// Each key with what belongs to it.
fn grouped<K: Ord + Display, V: Display>(
    out: &mut String,
    pairs: impl IntoIterator<Item = (K, V)>,
) -> fmt::Result {
    let mut groups: BTreeMap<K, Vec<V>> = BTreeMap::new();
    for (key, value) in pairs {
        groups.entry(key).or_default().push(value);
    }
    for (key, values) in groups {
        writeln!(out, "{key}")?;
        values.iter().try_for_each(|value| writeln!(out, "\t{value}"))?;
    }
    writeln!(out)
}

/// Bytes on disk: of snapshots, and of the log.
pub(super) fn folders(out: &mut String, shared: &Shared) -> fmt::Result {
    let data = shared.config.member.as_ref().map(|member| member.data.as_path());
    let (snapshots, log) = data.map_or((0, 0), sizes);
    writeln!(out, "datadir_size: {snapshots}")?;
    writeln!(out, "logdir_size: {log}")
}

fn sizes(folder: &Path) -> (u64, u64) {
    let mut sizes = (0, 0);
    // A file may go while it is looked at.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
        let is_of_log = !entry.file_name().to_string_lossy().starts_with("snapshot-");
        *if is_of_log { &mut sizes.1 } else { &mut sizes.0 } += bytes;
    }
    sizes
}
