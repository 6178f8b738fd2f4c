//! The log: what the members say to have applied, made one, and compared with what was asked.

use std::collections::{BTreeMap, BTreeSet};

use synod_core::model::{Code, Entry, Refusal, Response, SessionId, Write, Zxid};

use super::{Checked, Findings};
use crate::model::{Fault, NaiveCoordinator, Told};
use crate::sim::history::{Committed, History};

/// An entry of the log, and what the model says to it.
pub(crate) struct Line {
    pub(crate) zxid: Zxid,
    pub(crate) entry: Entry,
    /// When the first member applied it.
    pub(crate) at_ms: u64,
    pub(crate) result: Result<Response, Fault>,
    /// Changes, as a watch on everything is told.
    pub(crate) told: Vec<Told>,
}

pub(crate) struct Log {
    pub(crate) lines: Vec<Line>,
}

/// The session that watches everything, in the model alone.
pub(crate) const OBSERVER: SessionId = SessionId(-1);

/// Whether the answer to a write is that of its own entry, rather than of a server that could not
/// or would not put it into the log.
pub(crate) fn is_verdict(result: &Result<Response, Refusal>) -> bool {
    let Err(refusal) = result else { return true };
    !matches!(
        refusal.code,
        Code::SessionMoved
            | Code::SessionExpired
            | Code::ConnectionLoss
            | Code::OperationTimeout
            | Code::RequestTimeout
            | Code::Throttled
            | Code::SystemError
    )
}

/// A model in the state before the first entry, with the observer.
pub(crate) fn fresh_model() -> NaiveCoordinator {
    let mut model = NaiveCoordinator::new();
    model.observe_everything(OBSERVER);
    model
}

pub(super) fn read(history: &History, found: &mut Findings, checked: &mut Checked) -> Log {
    let entries = merge(history, found);
    let mut model = fresh_model();
    let mut lines = Vec::with_capacity(entries.len());
    for (zxid, (entry, at_ms)) in entries {
        let next = model.next_zxid(u64::from(zxid.epoch()));
        if next != Some(zxid) {
            found.add(format!("{zxid:?} follows on {:?}", model.last_zxid()));
        }
        let (verdict, told) = model.apply(u64::from(zxid.epoch()), &entry);
        lines.push(Line { zxid, entry, at_ms, result: verdict.result, told });
    }
    let log = Log { lines };
    asked_once_and_in_order(history, &log, found, checked);
    log
}

/// One log from what all members have applied: where two have a zxid, they have one entry.
fn merge(history: &History, found: &mut Findings) -> BTreeMap<Zxid, (Entry, u64)> {
    let mut entries: BTreeMap<Zxid, (Entry, u64)> = BTreeMap::new();
    let mut first: BTreeMap<Zxid, u8> = BTreeMap::new();
    for committed in &history.committed {
        let (zxid, member) = (committed.zxid, committed.member);
        match entries.get(&zxid) {
            None => {
                entries.insert(zxid, (committed.entry.clone(), committed.at_ms));
                first.insert(zxid, member);
            }
            Some((entry, _)) if *entry != committed.entry => {
                found.add(format!(
                    "at {zxid:?} member {} has applied {entry:?}, and member {member} {:?}",
                    first[&zxid], committed.entry
                ));
            }
            Some(_) => {}
        }
    }
    unbroken(history, &entries, found);
    entries
}

/// No member goes past an entry that another has applied: one that was applied once is there for
/// good. A snapshot may take a member further at once, and a life may begin anywhere.
fn unbroken(history: &History, entries: &BTreeMap<Zxid, (Entry, u64)>, found: &mut Findings) {
    let mut followed: BTreeSet<(Option<Zxid>, Zxid)> = BTreeSet::new();
    let mut last: BTreeMap<(u8, u32), Zxid> = BTreeMap::new();
    for Committed { member, life, zxid, .. } in &history.committed {
        let before = last.insert((*member, *life), *zxid);
        if let Some(before) = before.filter(|before| before >= zxid) {
            found.add(format!("member {member} applies {zxid:?} after {before:?}"));
        }
        followed.insert((before, *zxid));
    }
    for (before, after) in entries.keys().zip(entries.keys().skip(1)) {
        if !followed.contains(&(Some(*before), *after)) && !followed.contains(&(None, *after)) {
            let entry = &entries[before].0;
            found.add(format!(
                "{before:?} was applied by some member, and by none that went on to {after:?}: \
                 {entry:?}"
            ));
        }
    }
}

/// Whether the entry came to its turn: not through an old attachment, not with one missing.
fn is_admitted(result: &Result<Response, Fault>) -> bool {
    let Err(fault) = result else { return true };
    !matches!(fault.code, Code::SessionMoved | Code::SessionExpired | Code::SequenceGap)
}

/// Holds every write in the log to one that was asked: each at most once, each session's in the
/// order in which it asked, a connection's without one missing in between.
fn asked_once_and_in_order(
    history: &History,
    log: &Log,
    found: &mut Findings,
    checked: &mut Checked,
) {
    // By session: what it asked, in order; the place of each among its connection's writes.
    let mut asked: BTreeMap<SessionId, Vec<(usize, u64)>> = BTreeMap::new();
    let mut acknowledged: BTreeMap<Zxid, usize> = BTreeMap::new();
    for session in &history.sessions {
        let list = asked.entry(session.id).or_default();
        for &connection in &session.connections {
            let ops = history.connections[connection].ops.iter();
            let writes = ops.filter(|op| history.ops[**op].write().is_some());
            list.extend(writes.zip(1..).map(|(op, place)| (*op, place)));
        }
        for (op, _) in list {
            let reply = history.ops[*op].reply.as_ref();
            if let Some(reply) = reply.filter(|reply| is_verdict(&reply.result))
                && let Some(zxid) = reply.zxid
            {
                acknowledged.insert(zxid, *op);
            }
        }
    }
    let mut next: BTreeMap<SessionId, usize> = BTreeMap::new();
    let mut done: BTreeSet<usize> = BTreeSet::new();
    for line in &log.lines {
        let Line { zxid, entry, .. } = line;
        if entry.session == SessionId::SYSTEM || matches!(entry.request, Write::Attach { .. }) {
            continue;
        }
        if !is_admitted(&line.result) {
            continue;
        }
        let Some(list) = asked.get(&entry.session) else {
            // A session whose client did not hear of it cannot have asked for anything.
            found.add(format!("{zxid:?} is of session {}, which no client has", entry.session));
            continue;
        };
        let from = next.get(&entry.session).copied().unwrap_or(0);
        let known = acknowledged.get(zxid);
        let is_it = |(op, place): &(usize, u64)| {
            let same = history.ops[*op].write() == Some(&entry.request);
            same && *place == entry.sequence && known.is_none_or(|known| known == op)
        };
        let Some(at) = list[from..].iter().position(is_it) else {
            found.add(format!(
                "{zxid:?} does {:?} of session {}, number {}: that was not asked, or not now, or \
                 it was done before",
                entry.request, entry.session, entry.sequence
            ));
            continue;
        };
        let (op, _) = list[from + at];
        next.insert(entry.session, from + at + 1);
        done.insert(op);
        let reply = history.ops[op].reply.as_ref();
        checked.unknown_done += usize::from(reply.is_none());
        if let Some(reply) = reply.filter(|reply| !is_verdict(&reply.result)) {
            found.add(format!("{zxid:?} does #{op}, which was answered {:?}", reply.result));
        }
    }
    for (zxid, op) in &acknowledged {
        if !done.contains(op) {
            let write = history.ops[*op].write();
            found.add(format!("#{op} was acknowledged at {zxid:?} and is not there: {write:?}"));
        }
    }
}
