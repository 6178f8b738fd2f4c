//! Who on this member watches what.
//!
//! Watches are local: they belong to a session's connection to this member and are neither logged
//! nor part of a snapshot. Five kinds share one table: one-shot *data* and *child* watches,
//! *persistent* and *persistent recursive* ones (an *exists* watch is a data watch that may be
//! left on a znode that is not there).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{BitAnd, BitOr, Not};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::limits::{RECURSIVE_WATCH_LEVELS_MAX, WATCHES_PER_SESSION_MAX};
use crate::model::{AddWatchMode, Code, Identity, Refusal, SessionId, WatchKind};

#[cfg(test)]
mod tests;

/// A set of kinds of watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl Kinds {
    pub(crate) const DATA: Kinds = Kinds(1);
    pub(crate) const CHILD: Kinds = Kinds(2);
    pub(crate) const PERSISTENT: Kinds = Kinds(4);
    pub(crate) const RECURSIVE: Kinds = Kinds(8);
    const NONE: Kinds = Kinds(0);
    const ALL: Kinds = Kinds(15);
    const ONE_SHOT: Kinds = Kinds(3);

    fn intersects(self, other: Kinds) -> bool {
        (self & other) != Kinds::NONE
    }
}

impl BitAnd for Kinds {
    type Output = Kinds;

    fn bitand(self, other: Kinds) -> Kinds {
        Kinds(self.0 & other.0)
    }
}

impl BitOr for Kinds {
    type Output = Kinds;

    fn bitor(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }
}

impl Not for Kinds {
    type Output = Kinds;

    fn not(self) -> Kinds {
        Kinds(!self.0 & Kinds::ALL.0)
    }
}

impl From<WatchKind> for Kinds {
    fn from(kind: WatchKind) -> Kinds {
        match kind {
            WatchKind::Children => Kinds::CHILD,
            WatchKind::Data => Kinds::DATA,
            WatchKind::Any => Kinds::ALL,
            WatchKind::Persistent => Kinds::PERSISTENT,
            WatchKind::PersistentRecursive => Kinds::RECURSIVE,
        }
    }
}

impl From<AddWatchMode> for Kinds {
    fn from(mode: AddWatchMode) -> Kinds {
        match mode {
            AddWatchMode::Persistent => Kinds::PERSISTENT,
            AddWatchMode::PersistentRecursive => Kinds::RECURSIVE,
        }
    }
}

#[derive(Debug)]
struct Watcher {
    paths: BTreeSet<Arc<str>>,
    identities: Arc<[Identity]>,
}

/// What a watch takes besides its path, in bytes, in the two tables together.
const WATCH_BYTES: usize = 160;

fn weight(path: &str) -> usize {
    WATCH_BYTES + path.len()
}

/// The watches of every session on this member.
#[derive(Debug)]
pub(crate) struct Watches {
    // Both are looked up only, or summed over, so that their order cannot show. Within a path the
    // sessions are sorted: events come in the same order in every run.
    by_path: HashMap<Arc<str>, BTreeMap<SessionId, Kinds>, foldhash::fast::RandomState>,
    by_session: HashMap<SessionId, Watcher, foldhash::fast::RandomState>,
    /// How many (session, path) pairs have a recursive watch; while it is 0, a change does not
    /// look at its ancestors.
    recursive: usize,
    /// What all of them take, in bytes.
    bytes: usize,
    /// Most of them that a session may have.
    pub(crate) per_session_max: usize,
}

impl Default for Watches {
    fn default() -> Watches {
        Watches {
            by_path: HashMap::default(),
            by_session: HashMap::default(),
            recursive: 0,
            bytes: 0,
            per_session_max: WATCHES_PER_SESSION_MAX,
        }
    }
}

impl Watches {
    /// Who watches what, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SessionId, Arc<str>)> {
        self.by_session
            .iter()
            .flat_map(|(id, watcher)| watcher.paths.iter().map(move |path| (*id, Arc::clone(path))))
    }

    /// Leaves a watch.
    ///
    /// # Errors
    /// `Throttled` when the session has as many as it may have; `BadArguments` for a recursive one too
    /// deep in the tree.
    pub(crate) fn add(
        &mut self,
        session: SessionId,
        identities: &Arc<[Identity]>,
        path: &Arc<str>,
        kinds: Kinds,
    ) -> Result<(), Refusal> {
        if kinds.intersects(Kinds::RECURSIVE)
            && path.split('/').skip(1).nth(RECURSIVE_WATCH_LEVELS_MAX).is_some()
        {
            let rule = "a recursive watch is left on a path of at most 128 levels";
            return Err(Refusal::new(Code::BadArguments, rule));
        }
        let watcher = self.by_session.entry(session).or_insert_with(|| Watcher {
            paths: BTreeSet::new(),
            identities: Arc::clone(identities),
        });
        if !Arc::ptr_eq(&watcher.identities, identities) {
            watcher.identities = Arc::clone(identities);
        }
        if watcher.paths.len() >= self.per_session_max && !watcher.paths.contains(&**path) {
            if watcher.paths.is_empty() {
                self.by_session.remove(&session);
            }
            let rule = "a session's watches on one member are at most as many as its bound says";
            return Err(Refusal::new(Code::Throttled, rule));
        }
        let sessions = self.by_path.entry(Arc::clone(path)).or_default();
        let present = sessions.entry(session).or_insert(Kinds::NONE);
        if kinds.intersects(Kinds::RECURSIVE & !*present) {
            self.recursive += 1;
        }
        *present = *present | kinds;
        if watcher.paths.insert(Arc::clone(path)) {
            self.bytes += weight(path);
        }
        Ok(())
    }

    /// The session's kinds of watch on that very path.
    fn kinds(&self, session: SessionId, path: &str) -> Kinds {
        self.by_path
            .get(path)
            .and_then(|sessions| sessions.get(&session))
            .copied()
            .unwrap_or(Kinds::NONE)
    }

    /// Whether the session has such a watch.
    pub(crate) fn has(&self, session: SessionId, path: &str, kind: WatchKind) -> bool {
        self.kinds(session, path).intersects(Kinds::from(kind))
    }

    /// Removes the session's watches of that kind; whether there was one.
    pub(crate) fn remove(&mut self, session: SessionId, path: &str, kind: WatchKind) -> bool {
        let had = self.has(session, path, kind);
        self.clear(session, path, Kinds::from(kind));
        had
    }

    fn clear(&mut self, session: SessionId, path: &str, kinds: Kinds) {
        let Some(sessions) = self.by_path.get_mut(path) else { return };
        let Some(present) = sessions.get_mut(&session) else { return };
        if kinds.intersects(*present & Kinds::RECURSIVE) {
            self.recursive -= 1;
        }
        *present = *present & !kinds;
        if *present == Kinds::NONE {
            sessions.remove(&session);
            if sessions.is_empty() {
                self.by_path.remove(path);
            }
            if let Some(watcher) = self.by_session.get_mut(&session) {
                if watcher.paths.remove(path) {
                    self.bytes -= weight(path);
                }
                if watcher.paths.is_empty() {
                    self.by_session.remove(&session);
                }
            }
        }
    }

    /// Drops all watches of a session.
    pub(crate) fn disconnect(&mut self, session: SessionId) {
        let Some(watcher) = self.by_session.remove(&session) else { return };
        for path in watcher.paths {
            self.bytes -= weight(&path);
            if let Some(sessions) = self.by_path.get_mut(&path) {
                if sessions.remove(&session).is_some_and(|kinds| kinds.intersects(Kinds::RECURSIVE))
                {
                    self.recursive -= 1;
                }
                if sessions.is_empty() {
                    self.by_path.remove(&path);
                }
            }
        }
    }

    /// The identities by which the session's events are filtered from now on.
    pub(crate) fn set_identities(&mut self, session: SessionId, identities: &Arc<[Identity]>) {
        if let Some(watcher) = self.by_session.get_mut(&session) {
            watcher.identities = Arc::clone(identities);
        }
    }

    /// Whether nobody watches anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    /// The number of (session, path) pairs with a watch.
    pub(crate) fn len(&self) -> usize {
        self.by_session.values().map(|watcher| watcher.paths.len()).sum()
    }

    /// What they take, in bytes, paths and tables.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of sessions with a watch.
    pub(crate) fn session_count(&self) -> usize {
        self.by_session.len()
    }

    /// The number of paths with a watch.
    pub(crate) fn path_count(&self) -> usize {
        self.by_path.len()
    }

    /// Calls `told` for every session that a change of `path` concerns, once each, in ascending
    /// order, and uses up the one-shot watches among `exact`. `exact` are the kinds of watch on
    /// the path itself; `recursive` says whether recursive watches on it and above are concerned.
    pub(crate) fn fire(
        &mut self,
        path: &str,
        exact: Kinds,
        recursive: bool,
        mut told: impl FnMut(SessionId, &Arc<[Identity]>),
    ) {
        if self.by_path.is_empty() {
            return;
        }
        if recursive && self.recursive > 0 {
            // Sessions of several paths: gathered into one sorted set first.
            let mut sessions = BTreeSet::new();
            self.gather(path, exact | Kinds::RECURSIVE, &mut sessions);
            for above in ancestors(path) {
                self.gather(above, Kinds::RECURSIVE, &mut sessions);
            }
            for session in sessions {
                if let Some(watcher) = self.by_session.get(&session) {
                    told(session, &watcher.identities);
                }
                self.clear(session, path, exact & Kinds::ONE_SHOT);
            }
            return;
        }
        let Some(sessions) = self.by_path.get_mut(path) else { return };
        let one_shot = exact & Kinds::ONE_SHOT;
        let (by_session, bytes) = (&mut self.by_session, &mut self.bytes);
        sessions.retain(|session, kinds| {
            if !kinds.intersects(exact) {
                return true;
            }
            if let Some(watcher) = by_session.get(session) {
                told(*session, &watcher.identities);
            }
            *kinds = *kinds & !one_shot;
            if *kinds != Kinds::NONE {
                return true;
            }
            if let Some(watcher) = by_session.get_mut(session) {
                if watcher.paths.remove(path) {
                    *bytes -= weight(path);
                }
                if watcher.paths.is_empty() {
                    by_session.remove(session);
                }
            }
            false
        });
        if sessions.is_empty() {
            self.by_path.remove(path);
        }
    }

    fn gather(&self, path: &str, kinds: Kinds, into: &mut BTreeSet<SessionId>) {
        if let Some(sessions) = self.by_path.get(path) {
            let concerned = sessions.iter().filter(|(_, present)| present.intersects(kinds));
            into.extend(concerned.map(|(session, _)| *session));
        }
    }
}

/// `/a/b/c` → `/`, `/a`, `/a/b`; no deeper than a recursive watch can be.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let parts = path.match_indices('/').skip(1).take(RECURSIVE_WATCH_LEVELS_MAX);
    (path.len() > 1).then_some("/").into_iter().chain(parts.map(move |(at, _)| &path[..at]))
}
