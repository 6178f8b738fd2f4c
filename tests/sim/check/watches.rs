//! Watches: who left one is told of the next change, once, and before any reply that shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use synod_core::model::{
    AddWatchMode, Code, Event, EventKind, Read, Rearm, Request, SessionId, WatchRequest, Write,
    Zxid,
};

use super::log::Log;
use super::{Checked, Findings};
use crate::sim::history::{History, Received};

/// What an event tells of.
type Change = (Zxid, EventKind, Arc<str>);

/// The changes of the log, in order.
struct Changes {
    all: Vec<Change>,
    by_path: BTreeMap<Arc<str>, Vec<(Zxid, EventKind)>>,
}

/// The lists of a re-arming: also what a one-shot watch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Data,
    Exist,
    Child,
}

impl Kind {
    fn waits_for(self, event: EventKind) -> bool {
        match self {
            Kind::Data | Kind::Exist => event != EventKind::ChildrenChanged,
            Kind::Child => matches!(event, EventKind::ChildrenChanged | EventKind::Deleted),
        }
    }
}

/// The two kinds of watch that stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Staying {
    Persistent,
    Recursive,
}

impl Staying {
    fn covers(self, at: &str, kind: EventKind, path: &str) -> bool {
        match self {
            Staying::Persistent => at == path,
            Staying::Recursive => {
                let below = path.strip_prefix(at).is_some_and(|rest| rest.starts_with('/'));
                kind != EventKind::ChildrenChanged && (at == path || below)
            }
        }
    }
}

impl Changes {
    fn of(log: &Log) -> Changes {
        let (mut all, mut by_path) = (Vec::new(), BTreeMap::<Arc<str>, Vec<_>>::new());
        for line in &log.lines {
            for told in &line.told {
                let Event { kind, path, .. } = &told.event;
                all.push((line.zxid, *kind, Arc::clone(path)));
                if *kind != EventKind::DataChanged {
                    let slash = path.rfind('/').unwrap_or(0).max(1);
                    all.push((line.zxid, EventKind::ChildrenChanged, Arc::from(&path[..slash])));
                }
            }
        }
        for (zxid, kind, path) in &all {
            by_path.entry(Arc::clone(path)).or_default().push((*zxid, *kind));
        }
        Changes { all, by_path }
    }

    /// The changes after one zxid and up to another.
    fn between(&self, after: Zxid, until: Zxid) -> &[Change] {
        let place = |zxid| self.all.partition_point(|(of, ..)| *of <= zxid);
        &self.all[place(after)..place(until).max(place(after))]
    }

    fn of_path(&self, path: &str) -> &[(Zxid, EventKind)] {
        self.by_path.get(path).map_or(&[], Vec::as_slice)
    }

    /// What a watch of that kind, left at `since`, is to be told of.
    fn next(&self, kind: Kind, path: &str, since: Zxid) -> Option<(Zxid, EventKind)> {
        let all = self.of_path(path);
        let from = all.partition_point(|(zxid, _)| *zxid <= since);
        all[from..].iter().find(|(_, event)| kind.waits_for(*event)).copied()
    }

    fn last(&self, path: &str, until: Zxid, kinds: &[EventKind]) -> Option<(Zxid, EventKind)> {
        let all = self.of_path(path);
        let to = all.partition_point(|(zxid, _)| *zxid <= until);
        all[..to].iter().rev().find(|(_, kind)| kinds.contains(kind)).copied()
    }

    /// What a re-arming is to tell of a watch, by the state at `now`; `None` where it leaves it.
    fn missed(&self, kind: Kind, path: &str, since: Zxid, now: Zxid) -> Option<EventKind> {
        use EventKind::{ChildrenChanged, Created, DataChanged, Deleted};
        let born_or_gone = self.last(path, now, &[Created, Deleted]);
        let exists = matches!(born_or_gone, Some((_, Created)));
        let changed = |kinds| self.last(path, now, kinds).is_some_and(|(zxid, _)| zxid > since);
        match kind {
            Kind::Exist => exists.then_some(Created),
            Kind::Data | Kind::Child if !exists => Some(Deleted),
            Kind::Data => changed(&[Created, DataChanged]).then_some(DataChanged),
            Kind::Child => changed(&[Created, ChildrenChanged]).then_some(ChildrenChanged),
        }
    }
}

/// One session's watches, as its client has reason to trust in them.
struct Watcher<'a> {
    changes: &'a Changes,
    session: SessionId,
    connection: usize,
    /// What is watched, and since which state.
    pending: BTreeMap<(Kind, Arc<str>), Zxid>,
    /// Missed events that were told on this connection.
    told_missed: Vec<(EventKind, Arc<str>)>,
    /// The connection has the watches: none were there, or they were re-armed.
    armed: bool,
    /// Watches that stay, and since when the connection has them.
    staying: BTreeMap<(Staying, Arc<str>), Zxid>,
    /// What was told on this connection.
    told: BTreeSet<Change>,
    /// Up to where the staying watches are known to have been told of everything.
    told_until: Zxid,
}

pub(super) fn check(history: &History, log: &Log, found: &mut Findings, checked: &mut Checked) {
    let changes = Changes::of(log);
    for session in &history.sessions {
        let mut watcher = Watcher {
            changes: &changes,
            session: session.id,
            connection: 0,
            pending: BTreeMap::new(),
            told_missed: Vec::new(),
            armed: true,
            staying: BTreeMap::new(),
            told: BTreeSet::new(),
            told_until: Zxid::ZERO,
        };
        for &connection in &session.connections {
            watcher.connection = connection;
            watcher.armed = watcher.pending.is_empty() && watcher.staying.is_empty();
            watcher.told_missed.clear();
            watcher.told.clear();
            for received in &history.connections[connection].received {
                match received {
                    Received::Event(event) if watcher.armed => watcher.event(event, found, checked),
                    Received::Event(event) => watcher.missed_event(event, found),
                    Received::Reply(op) => watcher.reply(history, *op, found, checked),
                }
            }
        }
    }
}

impl Watcher<'_> {
    fn complain(&self, found: &mut Findings, what: &str) {
        found.add(format!("session {}, connection {}: {what}", self.session, self.connection));
    }

    fn event(&mut self, event: &Event, found: &mut Findings, checked: &mut Checked) {
        let changes = self.changes;
        let before = self.pending.len();
        self.pending.retain(|(kind, path), since| {
            let is_of = *path == event.path
                && changes.next(*kind, path, *since).is_some_and(|(zxid, what)| {
                    what == event.kind && event.zxid.is_none_or(|told| told == zxid)
                });
            !is_of
        });
        let mut waited = self.pending.len() < before;
        if let Some(zxid) = event.zxid {
            let change = (zxid, event.kind, Arc::clone(&event.path));
            let happened = changes.between(Zxid::from_i64(zxid.as_i64() - 1), zxid);
            waited |= self.is_covered(&change) && happened.contains(&change);
            if !self.told.insert(change) {
                self.complain(found, &format!("told twice: {event:?}"));
            }
        }
        if !waited {
            return self.complain(found, &format!("nothing waits for {event:?}"));
        }
        checked.events += 1;
    }

    /// Whether a watch that stays is about the change.
    fn is_covered(&self, (zxid, kind, path): &Change) -> bool {
        let mut staying = self.staying.iter();
        staying.any(|((staying, at), since)| since < zxid && staying.covers(at, *kind, path))
    }

    /// The watches that stay have told of everything up to a state that a reply shows.
    fn everything_is_told(&mut self, until: Zxid, op: usize, found: &mut Findings) {
        let changes = self.changes.between(self.told_until, until);
        self.told_until = self.told_until.max(until);
        for change in changes {
            if self.is_covered(change) && !self.told.contains(change) {
                let (zxid, kind, path) = change;
                self.complain(
                    found,
                    &format!(
                        "the reply to #{op} shows {until:?}, and {kind:?} of {path} at {zxid:?} \
                         was not told, for which a watch stays: {:?}",
                        self.staying
                    ),
                );
            }
        }
    }

    /// An event between the attachment and the end of the re-arming.
    fn missed_event(&mut self, event: &Event, found: &mut Findings) {
        self.told_missed.push((event.kind, Arc::clone(&event.path)));
        let waits =
            |(kind, path): &(Kind, Arc<str>)| *path == event.path && kind.waits_for(event.kind);
        if !self.pending.keys().any(waits) {
            self.complain(found, &format!("nothing waited for the missed {event:?}"));
        }
    }

    fn reply(&mut self, history: &History, op: usize, found: &mut Findings, checked: &mut Checked) {
        let record = &history.ops[op];
        let Some(reply) = &record.reply else { return };
        let Some(zxid) = reply.zxid else { return };
        if self.armed {
            // Who closes its session hears nothing of what goes with it.
            let closes = matches!(record.request, Request::Write(Write::CloseSession));
            let shown = Zxid::from_i64(zxid.as_i64() - i64::from(closes));
            self.nothing_is_due(shown, op, found);
            self.everything_is_told(shown, op, found);
        }
        match &record.request {
            Request::Watch(WatchRequest::Rearm(rearm)) if reply.result.is_ok() => {
                self.rearmed(rearm, zxid, found, checked);
            }
            Request::Watch(WatchRequest::Add { path, mode }) if reply.result.is_ok() => {
                let staying = match mode {
                    AddWatchMode::Persistent => Staying::Persistent,
                    AddWatchMode::PersistentRecursive => Staying::Recursive,
                };
                self.staying.entry((staying, Arc::clone(path))).or_insert(zxid);
            }
            Request::Read(read) => {
                let found_it = reply.result.as_ref().map(|_| ()).map_err(|it| it.code);
                if let Some((kind, path)) = left(read, found_it) {
                    self.pending.entry((kind, path)).or_insert(zxid);
                }
            }
            _ => {}
        }
    }

    /// A reply that shows the state at `zxid` comes after the events up to it.
    fn nothing_is_due(&mut self, zxid: Zxid, op: usize, found: &mut Findings) {
        let changes = self.changes;
        let mut late = Vec::new();
        self.pending.retain(|(kind, path), since| {
            let due = changes.next(*kind, path, *since).filter(|(change, _)| *change <= zxid);
            late.extend(due.map(|due| (due, *kind, Arc::clone(path), *since)));
            due.is_none()
        });
        for ((change, what), kind, path, since) in late {
            self.complain(
                found,
                &format!(
                    "the reply to #{op} shows {zxid:?}, and {what:?} of {path} at {change:?} was \
                     not told ({kind:?} watch since {since:?})"
                ),
            );
        }
    }

    fn rearmed(&mut self, rearm: &Rearm, now: Zxid, found: &mut Findings, checked: &mut Checked) {
        let lists =
            [(Kind::Data, &rearm.data), (Kind::Exist, &rearm.exist), (Kind::Child, &rearm.child)];
        let listed: Vec<_> = lists
            .iter()
            .flat_map(|(kind, paths)| paths.iter().map(|path| (*kind, Arc::clone(path))))
            .collect();
        if !listed.iter().eq(self.pending.keys()) {
            let text = format!("the client re-arms {listed:?}, and has {:?}", self.pending);
            self.complain(found, &text);
        }
        // What those that stay have missed is not told.
        self.staying.values_mut().for_each(|since| *since = now);
        self.told_until = now;
        let mut expected = Vec::new();
        let (changes, since) = (self.changes, rearm.since);
        self.pending.retain(|(kind, path), left| {
            *left = now;
            let missed = changes.missed(*kind, path, since, now);
            expected.extend(missed.map(|missed| (missed, Arc::clone(path))));
            missed.is_none()
        });
        let told = std::mem::take(&mut self.told_missed);
        for missed in &expected {
            if told.contains(missed) {
                checked.missed_events += 1;
            } else {
                let text = format!("re-armed since {since:?} at {now:?}: {missed:?} was not told");
                self.complain(found, &text);
            }
        }
        for (at, extra) in told.iter().enumerate() {
            let times = told[..=at].iter().filter(|it| *it == extra).count();
            let allowed = expected.iter().filter(|it| *it == extra).count();
            if times > allowed {
                let text = format!("re-armed since {since:?} at {now:?}: {extra:?} did not happen");
                self.complain(found, &text);
            }
        }
        self.armed = true;
    }
}

/// The watch that a read has left.
fn left(read: &Read, found: Result<(), Code>) -> Option<(Kind, Arc<str>)> {
    match (read, found) {
        (Read::Exists { path, watch: true } | Read::GetData { path, watch: true }, Ok(())) => {
            Some((Kind::Data, Arc::clone(path)))
        }
        (Read::Exists { path, watch: true }, Err(Code::NoNode)) => {
            Some((Kind::Exist, Arc::clone(path)))
        }
        (Read::Children { path, watch: true }, Ok(())) => Some((Kind::Child, Arc::clone(path))),
        _ => None,
    }
}
