//! What a client can tell of zxids by itself.

use std::collections::BTreeMap;

use synod_core::model::{Request, Write, Zxid};

use super::Findings;
use super::log::is_verdict;
use crate::sim::history::{History, Received};

pub(super) fn check(history: &History, found: &mut Findings) {
    for session in &history.sessions {
        writes_after_reads(history, session.id, &session.connections, found);
        grow(history, session.id, &session.connections, found);
    }
    unique_and_in_real_time(history, found);
}

/// What a session sees never goes back, across its connections either.
fn grow(
    history: &History,
    session: synod_core::model::SessionId,
    connections: &[usize],
    found: &mut Findings,
) {
    let mut seen = Zxid::ZERO;
    for &number in connections {
        let connection = &history.connections[number];
        for received in &connection.received {
            let (zxid, what) = match received {
                Received::Event(event) => (event.zxid, format!("{event:?}")),
                Received::Reply(op) => {
                    let reply = history.ops[*op].reply.as_ref();
                    (reply.and_then(|reply| reply.zxid), format!("the reply to #{op}"))
                }
            };
            let Some(zxid) = zxid else { continue };
            if zxid < seen {
                found.add(format!(
                    "session {session}, connection {number}: {what} has {zxid:?} after {seen:?}"
                ));
            }
            seen = seen.max(zxid);
        }
    }
}

/// A read does not see what its own session has written after it.
fn writes_after_reads(
    history: &History,
    session: synod_core::model::SessionId,
    connections: &[usize],
    found: &mut Findings,
) {
    let mut next: Option<(Zxid, usize)> = None;
    let ops = connections.iter().rev().flat_map(|it| history.connections[*it].ops.iter().rev());
    for &number in ops {
        let op = &history.ops[number];
        let Some(reply) = op.reply.as_ref() else { continue };
        let Some(zxid) = reply.zxid else { continue };
        match &op.request {
            Request::Write(_) if is_verdict(&reply.result) => next = Some((zxid, number)),
            Request::Read(_) => {
                if let Some((at, write)) = next.filter(|(at, _)| *at <= zxid) {
                    found.add(format!(
                        "session {session}: the read #{number} is of {zxid:?}, and the write \
                         #{write}, asked after it, was done at {at:?}"
                    ));
                }
            }
            _ => {}
        }
    }
}

/// A write that was acknowledged before another was asked has the lower zxid, and no two have one.
fn unique_and_in_real_time(history: &History, found: &mut Findings) {
    let mut by_zxid = BTreeMap::new();
    for (number, op) in history.ops.iter().enumerate() {
        let Some(reply) = op.reply.as_ref() else { continue };
        let Request::Write(write) = &op.request else { continue };
        // The end of a session is answered by what it is; all others by their zxids.
        if !is_verdict(&reply.result) || matches!(write, Write::Attach { .. }) {
            continue;
        }
        let Some(zxid) = reply.zxid else {
            found.add(format!("the write #{number} is answered without a zxid"));
            continue;
        };
        if let Some(other) = by_zxid.insert(zxid, number) {
            found.add(format!("the writes #{other} and #{number} both have {zxid:?}"));
        }
    }
    let mut asked: Option<(u64, usize)> = None;
    for (zxid, &number) in &by_zxid {
        let op = &history.ops[number];
        let Some(reply) = &op.reply else { continue };
        if let Some((sent, other)) = asked.filter(|(sent, _)| reply.at < *sent) {
            found.add(format!(
                "#{number} at {zxid:?} was answered (at {}) before #{other}, of a lower zxid, was \
                 asked (at {sent})",
                reply.at
            ));
        }
        if asked.is_none_or(|(sent, _)| op.sent > sent) {
            asked = Some((op.sent, number));
        }
    }
}
