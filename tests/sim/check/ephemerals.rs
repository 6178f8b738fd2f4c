//! Sessions end in time, and not before; with them their ephemeral znodes, which the replay of the
//! log compares.

use std::collections::BTreeMap;

use synod_core::model::{Request, SessionId, Write};

use super::log::{Log, is_verdict};
use super::{Checked, Findings};
use crate::sim::cluster::TICK_MS;
use crate::sim::history::{History, SessionRecord};
use crate::sim::run::ELECTION_MS;

/// The end of a session, as the log has it.
#[derive(Clone, Copy, Debug)]
struct Ended {
    at_ms: u64,
    expired: bool,
}

pub(super) fn check(history: &History, log: &Log, found: &mut Findings, checked: &mut Checked) {
    let mut ended: BTreeMap<SessionId, Ended> = BTreeMap::new();
    let mut opened: BTreeMap<SessionId, (u64, u64)> = BTreeMap::new();
    let refused = log.lines.iter().filter(|line| line.result.is_err());
    checked.spared +=
        refused.filter(|line| matches!(line.entry.request, Write::ExpireSession { .. })).count();
    for line in log.lines.iter().filter(|line| line.result.is_ok()) {
        match &line.entry.request {
            Write::CloseSession => {
                ended.insert(line.entry.session, Ended { at_ms: line.at_ms, expired: false });
            }
            Write::ExpireSession { id, .. } => {
                ended.insert(*id, Ended { at_ms: line.at_ms, expired: true });
            }
            Write::CreateSession { id, timeout_ms, .. } => {
                if opened.contains_key(id) {
                    found.add(format!("{:?} opens session {id}, as an entry before", line.zxid));
                }
                opened.insert(*id, (line.at_ms, u64::from(*timeout_ms)));
            }
            _ => {}
        }
    }
    checked.expired += ended.values().filter(|ended| ended.expired).count();
    for (index, session) in history.sessions.iter().enumerate() {
        let end = ended.get(&session.id).copied();
        if let Some(end) = end.filter(|end| end.expired) {
            not_while_it_speaks(history, session, end.at_ms, found);
        }
        if let Some(told_ms) = session.told_over_ms
            && end.is_none_or(|end| end.at_ms > told_ms)
        {
            found.add(format!(
                "session {} was said to be over at {told_ms} ms: {end:?}",
                session.id
            ));
        }
        let heard_ms = last_heard_ms(history, Some(index));
        in_time(history, session.id, session.timeout_ms, heard_ms, end, found);
        opened.remove(&session.id);
    }
    // Sessions that were opened for clients that had gone by then.
    let unknown_ms = last_heard_ms(history, None);
    for (id, (at_ms, timeout_ms)) in opened {
        let end = ended.get(&id).copied();
        in_time(history, id, timeout_ms, unknown_ms.max(at_ms), end, found);
    }
}

/// Who was answered a ping or a write lives for a timeout from when it asked.
fn not_while_it_speaks(
    history: &History,
    session: &SessionRecord,
    end_ms: u64,
    found: &mut Findings,
) {
    let mut proof: Option<(u64, String)> = None;
    let mut prove = |sent_ms, what: String| {
        if proof.as_ref().is_none_or(|(latest, _)| *latest < sent_ms) {
            proof = Some((sent_ms, what));
        }
    };
    for &number in &session.connections {
        let connection = &history.connections[number];
        prove(connection.hello_ms, format!("connection {number}"));
        for &op in &connection.ops {
            let record = &history.ops[op];
            let Some(reply) = &record.reply else { continue };
            let counts = matches!(record.request, Request::Ping | Request::Write(_));
            if counts && is_verdict(&reply.result) {
                prove(record.sent_ms, format!("#{op}"));
            }
        }
    }
    let Some((sent_ms, what)) = proof else { return };
    if end_ms < sent_ms + session.timeout_ms {
        found.add(format!(
            "session {} of {} ms was expired at {end_ms} ms, and {what} was asked at {sent_ms} ms \
             and answered",
            session.id, session.timeout_ms
        ));
    }
}

/// When a server last had anything of the session; of those without one, if there is none.
fn last_heard_ms(history: &History, session: Option<usize>) -> u64 {
    let of_it = history.connections.iter().filter(|it| it.session == session);
    of_it.map(|it| history.at_ms(it.heard.at())).max().unwrap_or(0)
}

/// Who is not heard of is over after its timeout and two ticks, unless that moment fell into a
/// time of trouble, or into the election behind it.
fn in_time(
    history: &History,
    id: SessionId,
    timeout_ms: u64,
    heard_ms: u64,
    end: Option<Ended>,
    found: &mut Findings,
) {
    let allowed_ms = timeout_ms + 2 * u64::from(TICK_MS);
    let mut from_ms = heard_ms;
    let by_ms = loop {
        let by_ms = from_ms + allowed_ms;
        let touched = history
            .troubles
            .iter()
            .map(|trouble| (trouble.from_ms, trouble.to_ms + u64::from(ELECTION_MS)))
            .filter(|(begins_ms, ends_ms)| *begins_ms <= by_ms && *ends_ms > from_ms);
        match touched.map(|(_, ends_ms)| ends_ms).max() {
            Some(ends_ms) => from_ms = ends_ms,
            None => break by_ms,
        }
    };
    if by_ms < history.ended_ms && end.is_none_or(|end| end.at_ms > by_ms) {
        found.add(format!(
            "session {id} of {timeout_ms} ms was last heard at {heard_ms} ms, should be over by \
             {by_ms} ms, and: {end:?} (the run ended at {} ms)",
            history.ended_ms
        ));
    }
}
