//! Who is told of what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use synod_core::model::{
    Acl, AddWatchMode, Code, Event, EventKind, Identity, Perms, Rearm, SessionId, WatchKind, Zxid,
};

use super::{NaiveCoordinator, Told, acl, paths};

/// The four kinds of watch that can be left at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// One-shot, left by `exists` or `get`.
    Data,
    /// One-shot, left by `children`.
    Child,
    /// Stays; all events of the path.
    Persistent,
    /// Stays; the events of the path and of all below it, but for those about children.
    Recursive,
}

impl Kind {
    pub(super) fn of_mode(mode: AddWatchMode) -> Kind {
        match mode {
            AddWatchMode::Persistent => Kind::Persistent,
            AddWatchMode::PersistentRecursive => Kind::Recursive,
        }
    }

    fn meant_by(kind: WatchKind) -> &'static [Kind] {
        match kind {
            WatchKind::Children => &[Kind::Child],
            WatchKind::Data => &[Kind::Data],
            WatchKind::Any => &[Kind::Data, Kind::Child, Kind::Persistent, Kind::Recursive],
            WatchKind::Persistent => &[Kind::Persistent],
            WatchKind::PersistentRecursive => &[Kind::Recursive],
        }
    }

    /// Whether a watch of this kind, left at `at`, is about such an event of `path`.
    fn is_about(self, at: &str, event: EventKind, path: &str) -> bool {
        match self {
            Kind::Data => at == path && event != EventKind::ChildrenChanged,
            Kind::Child => {
                at == path && matches!(event, EventKind::ChildrenChanged | EventKind::Deleted)
            }
            Kind::Persistent => at == path,
            Kind::Recursive => {
                event != EventKind::ChildrenChanged && paths::upwards(path).contains(&at)
            }
        }
    }

    fn is_one_shot(self) -> bool {
        matches!(self, Kind::Data | Kind::Child)
    }
}

/// The watches of one member, and what the connections of those who watch have proved.
#[derive(Clone, Debug, Default)]
pub struct Watches {
    all: BTreeSet<(SessionId, Kind, Arc<str>)>,
    identities: BTreeMap<SessionId, Arc<[Identity]>>,
    withheld: u64,
}

impl Watches {
    /// How many watches there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many events were told to nobody because their znode may not be read.
    pub fn withheld(&self) -> u64 {
        self.withheld
    }

    /// Whether the session has such a watch at that path.
    pub fn has(&self, session: SessionId, path: &Arc<str>, kind: WatchKind) -> bool {
        self.check(path, kind, session).is_ok()
    }

    /// The paths at which somebody watches, each once.
    pub fn paths(&self) -> BTreeSet<Arc<str>> {
        self.all.iter().map(|(.., path)| path.clone()).collect()
    }

    /// Remembers what a connection has proved by now.
    pub(super) fn know(&mut self, session: SessionId, who: &Arc<[Identity]>) {
        self.identities.insert(session, who.clone());
    }

    pub(super) fn leave(&mut self, kind: Kind, path: &Arc<str>, session: SessionId) {
        self.all.insert((session, kind, path.clone()));
    }

    pub(super) fn forget(&mut self, session: SessionId) {
        self.all.retain(|(watcher, ..)| *watcher != session);
        self.identities.remove(&session);
    }

    pub(super) fn check(
        &self,
        path: &Arc<str>,
        kind: WatchKind,
        session: SessionId,
    ) -> Result<(), Code> {
        let there = |kind: &Kind| self.all.contains(&(session, *kind, path.clone()));
        if Kind::meant_by(kind).iter().any(there) { Ok(()) } else { Err(Code::NoWatcher) }
    }

    pub(super) fn remove(
        &mut self,
        path: &Arc<str>,
        kind: WatchKind,
        session: SessionId,
    ) -> Result<(), Code> {
        self.check(path, kind, session)?;
        for kind in Kind::meant_by(kind) {
            self.all.remove(&(session, *kind, path.clone()));
        }
        Ok(())
    }

    /// Tells each session with a watch that is about the event, once; `acl` decides who may know
    /// of it. One-shot watches are used up even where nothing is told.
    pub(super) fn tell(
        &mut self,
        kind: EventKind,
        path: &str,
        acl: &[Acl],
        zxid: Zxid,
        told: &mut Vec<Told>,
    ) {
        let about: Vec<_> = self
            .all
            .iter()
            .filter(|(_, watch, at)| watch.is_about(at, kind, path))
            .cloned()
            .collect();
        let sessions: BTreeSet<SessionId> = about.iter().map(|(session, ..)| *session).collect();
        for watch in about {
            if watch.1.is_one_shot() {
                self.all.remove(&watch);
            }
        }
        for session in sessions {
            if acl::permits(acl, &self.identities[&session], Perms::READ) {
                let event = Event { kind, path: path.into(), zxid: Some(zxid) };
                told.push(Told { session, event });
            } else {
                self.withheld += 1;
            }
        }
    }
}

impl NaiveCoordinator {
    /// The watches of one member.
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Leaves the watches of a session that comes back, and says what it has missed. A one-shot
    /// watch that has missed something is used up by that.
    pub(super) fn rearm(
        &mut self,
        session: SessionId,
        who: &[Identity],
        rearm: &Rearm,
    ) -> Vec<Told> {
        let mut missed = Vec::new();
        let mut withheld = 0;
        let mut miss = |kind, path: &Arc<str>, acl: Option<&[Acl]>| {
            if acl.is_none_or(|acl| acl::permits(acl, who, Perms::READ)) {
                let event = Event { kind, path: path.clone(), zxid: None };
                missed.push(Told { session, event });
            } else {
                withheld += 1;
            }
        };
        for path in &rearm.data {
            match self.nodes.get(&**path) {
                None => miss(EventKind::Deleted, path, None),
                Some(node) if self.stat(path).mzxid > rearm.since => {
                    miss(EventKind::DataChanged, path, Some(&node.acl));
                }
                Some(_) => self.watches.leave(Kind::Data, path, session),
            }
        }
        for path in &rearm.exist {
            match self.nodes.get(&**path) {
                Some(node) => miss(EventKind::Created, path, Some(&node.acl)),
                None => self.watches.leave(Kind::Data, path, session),
            }
        }
        for path in &rearm.child {
            match self.nodes.get(&**path) {
                None => miss(EventKind::Deleted, path, None),
                Some(node) if self.stat(path).pzxid > rearm.since => {
                    miss(EventKind::ChildrenChanged, path, Some(&node.acl));
                }
                Some(_) => self.watches.leave(Kind::Child, path, session),
            }
        }
        for path in &rearm.persistent {
            self.watches.leave(Kind::Persistent, path, session);
        }
        for path in &rearm.recursive {
            self.watches.leave(Kind::Recursive, path, session);
        }
        self.watches.withheld += withheld;
        missed
    }
}
