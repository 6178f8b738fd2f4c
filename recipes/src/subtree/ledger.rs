//! What is known of a subtree between two cuts.
//!
//! Reads of many znodes are done at different moments, while others write: what they give does not
//! fit together by itself. The ledger says when it does. It rests on three facts about a session:
//!
//! * a read's reply carries the zxid *at* which it was done, and a multi-read has one for all;
//! * a znode's `mzxid` says *since* when it is what it is;
//! * the events of all changes up to a zxid come before the first reply that carries it.
//!
//! So the value of a znode is known from `since` *through* the change before the next event of it,
//! and where the intervals of all znodes overlap, there is a cut:
//!
//! ```text
//! /a  ────┤since            next event├───
//! /b            ┤since                         (nothing told since: known through `position`)
//! /c  (as at the last cut)   next event├──
//!               └── cuts ───┘
//! ```
//!
//! If they do not, because a znode was written again while it was read: everything that is out of
//! date is read, and the zxid of that read is aimed at (`target`); then only what was not known
//! there is read, until everything is. A znode that is written all the time is left alone in that
//! second part, so that it cannot put off the cut for ever.

use std::collections::{BTreeMap, BTreeSet};

use synod_core::model::{Path, Zxid};

/// Of a znode of which nothing is known: before every zxid, that of the root's creation too.
const UNKNOWN: Zxid = Zxid::from_i64(-1);

/// The zxid of the last change that is certainly before that one.
fn before(zxid: Zxid) -> Zxid {
    Zxid::from_i64(zxid.as_i64() - 1)
}

struct Read<V> {
    at: Zxid,
    value: V,
}

struct Entry<V> {
    /// What was read since the last cut.
    read: Option<Read<V>>,
    /// Through which zxid what was read last, before the last cut or since, is known; `None` while
    /// no event says that it has changed.
    through: Option<Zxid>,
    /// The zxid of the last event, where the server tells it.
    told: Option<Zxid>,
}

/// What is known of the znodes that are not as they were at the last cut, or may not be.
pub(super) struct Ledger<V> {
    entries: BTreeMap<Path, Entry<V>>,
    /// Those that have to be read, by the zxid through which they are known.
    stale: BTreeSet<(Zxid, Path)>,
    /// Through which zxid every event has been noted.
    position: Zxid,
    /// The latest `since` of what was read since the last cut.
    since: Zxid,
    /// Whether something was read since the last cut.
    fresh: bool,
    /// The zxid of the cut that is aimed at.
    target: Option<Zxid>,
    /// Whether there was no cut yet, by which what is not in `entries` would be known.
    loading: bool,
}

impl<V> Ledger<V> {
    /// Nothing is known; every event through `position` has been noted.
    pub(super) fn new(position: Zxid) -> Ledger<V> {
        Ledger {
            entries: BTreeMap::new(),
            stale: BTreeSet::new(),
            position,
            since: Zxid::ZERO,
            fresh: false,
            target: None,
            loading: true,
        }
    }

    /// How many znodes it holds something about.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn entry(&mut self, path: &Path) -> &mut Entry<V> {
        let nothing = || Entry { read: None, through: None, told: None };
        self.entries.entry(path.clone()).or_insert_with(nothing)
    }

    /// There is such a znode, of which nothing is known.
    pub(super) fn discover(&mut self, path: &Path) {
        if !self.entries.contains_key(path) {
            self.entry(path).through = Some(UNKNOWN);
            self.stale.insert((UNKNOWN, path.clone()));
        }
    }

    /// It was told that the znode has changed. Events come in the order of their zxids; `None`
    /// where the server does not say it.
    pub(super) fn event(&mut self, path: &Path, zxid: Option<Zxid>) {
        let (position, loading) = (self.position, self.loading);
        let entry = self.entry(path);
        entry.told = zxid;
        let at = entry.read.as_ref().map_or(position, |read| read.at);
        let through = match zxid {
            // What was read shows the change already.
            Some(zxid) if entry.read.is_some() && zxid <= at => {
                self.since = self.since.max(zxid);
                return;
            }
            // It may have been there before, and be found by no list that is read after it.
            _ if entry.read.is_none() && loading => UNKNOWN,
            Some(zxid) => before(zxid),
            None => at.max(position),
        };
        if entry.through.is_none() {
            entry.through = Some(through);
            self.stale.insert((through, path.clone()));
        }
    }

    /// What to read next, at most `max` of them, what is known least first.
    pub(super) fn wanted(&self, max: usize) -> Vec<Path> {
        let wanted = |through: &Zxid| self.target.is_none_or(|target| *through < target);
        let stale = self.stale.iter().take_while(|(through, _)| wanted(through));
        stale.take(max).map(|(_, path)| path.clone()).collect()
    }

    /// The znode was read at that zxid. `since`: the zxid of its last change, `None` if there is
    /// no znode to tell. It gives back what an earlier read had found since the last cut.
    pub(super) fn read(
        &mut self,
        path: &Path,
        at: Zxid,
        since: Option<Zxid>,
        value: V,
    ) -> Option<V> {
        let entry = self.entry(path);
        let through = entry.through.take();
        // Of one that is gone, the event of that tells it. If it is yet to come, it raises this.
        let since = since.or(entry.told).unwrap_or(at);
        let earlier = entry.read.replace(Read { at, value });
        if let Some(through) = through {
            self.stale.remove(&(through, path.clone()));
        }
        self.since = self.since.max(since);
        self.fresh = true;
        earlier.map(|read| read.value)
    }

    /// Every event through `position` has been noted.
    pub(super) fn reached(&mut self, position: Zxid) {
        self.position = self.position.max(position);
    }

    /// The next cut, if there is one yet: its zxid, and what was read for it, in the order of
    /// paths. Without anything new there is one only from the zxid `wished` on.
    pub(super) fn settle(&mut self, wished: Option<Zxid>) -> Option<(Zxid, Vec<(Path, V)>)> {
        let through = self.stale.first().map_or(self.position, |(through, _)| *through);
        let through = through.min(self.position);
        if !self.fresh && wished.is_none_or(|wished| through < wished) {
            return None;
        }
        if self.since > through {
            self.target = match self.target {
                None => Some(self.position),
                // On the way there.
                Some(target) if self.since <= target && through < target => Some(target),
                // One of what was read was written again since: it cannot be reached.
                Some(_) => None,
            };
            return None;
        }
        (self.since, self.fresh, self.target) = (Zxid::ZERO, false, None);
        self.loading = false;
        let mut read = Vec::new();
        self.entries.retain(|path, entry| {
            read.extend(entry.read.take().map(|read| (path.clone(), read.value)));
            entry.through.is_some()
        });
        Some((through, read))
    }
}

#[cfg(test)]
mod tests;
