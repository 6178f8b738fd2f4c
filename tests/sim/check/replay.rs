//! Every answer is the model's.

use std::collections::BTreeMap;
use std::sync::Arc;

use synod_core::model::{Identity, Read, Refusal, Request, Response, SessionId, Zxid};

use super::log::{Log, fresh_model, is_verdict};
use super::{Checked, Findings};
use crate::model::{Fault, NaiveCoordinator};
use crate::sim::history::{History, OpRecord, brief};
use crate::sim::net::Node;

pub(super) fn check(history: &History, log: &Log, found: &mut Findings, checked: &mut Checked) {
    writes(history, log, found, checked);
    reads(history, log, found, checked);
}

fn same(answer: &Result<Response, Refusal>, model: &Result<Response, Fault>) -> bool {
    match (answer, model) {
        (
            Ok(Response::Children { names, stat }),
            Ok(Response::Children { names: other, stat: of }),
        ) => {
            // In no particular order.
            let sorted = |names: &Vec<String>| {
                let mut names = names.clone();
                names.sort();
                names
            };
            stat == of && sorted(names) == sorted(other)
        }
        (Ok(answer), Ok(model)) => answer == model,
        (Err(refusal), Err(fault)) => refusal.code == fault.code && refusal.index == fault.index,
        _ => false,
    }
}

fn writes(history: &History, log: &Log, found: &mut Findings, checked: &mut Checked) {
    let by_zxid: BTreeMap<Zxid, usize> =
        log.lines.iter().enumerate().map(|(at, line)| (line.zxid, at)).collect();
    for (number, op) in history.ops.iter().enumerate() {
        let (Some(_), Some(reply)) = (op.write(), &op.reply) else { continue };
        if !is_verdict(&reply.result) {
            continue;
        }
        // One that is not there is the log's checker's to tell.
        let Some(at) = reply.zxid.and_then(|zxid| by_zxid.get(&zxid)) else { continue };
        let line = &log.lines[*at];
        checked.writes += 1;
        if !same(&reply.result, &line.result) {
            found.add(format!(
                "#{number} {} at {:?} was answered {:?}, the model says {:?}",
                brief(&op.request),
                line.zxid,
                reply.result,
                line.result
            ));
        }
    }
}

/// A read with the zxids between which its state must lie.
struct Asked<'a> {
    number: usize,
    op: &'a OpRecord,
    result: &'a Result<Response, Refusal>,
    session: SessionId,
    who: Arc<[Identity]>,
    from: Zxid,
    to: Zxid,
}

fn reads(history: &History, log: &Log, found: &mut Findings, checked: &mut Checked) {
    let mut all = collect(history);
    all.sort_by_key(|asked| asked.to);
    checked.reads += all.len();
    // Nearly all are of the last moment that they can be of.
    let mut odd = Vec::new();
    let mut model = fresh_model();
    let mut waiting = all.into_iter().peekable();
    let mut lines = log.lines.iter().peekable();
    loop {
        let next = lines.peek().map(|line| line.zxid);
        while let Some(asked) = waiting.next_if(|asked| next.is_none_or(|next| asked.to < next)) {
            if !agrees(&mut model, &asked) {
                odd.push(asked);
            }
        }
        let Some(line) = lines.next() else { break };
        model.apply(u64::from(line.zxid.epoch()), &line.entry);
    }
    if odd.is_empty() {
        return;
    }
    let mut model = fresh_model();
    for line in &log.lines {
        // The state before this entry is the one of the zxid before it.
        let before = model.last_zxid();
        odd.retain(|asked| {
            let within = asked.from < line.zxid && before <= asked.to;
            !(within && agrees(&mut model, asked))
        });
        model.apply(u64::from(line.zxid.epoch()), &line.entry);
    }
    for asked in odd {
        let Asked { number, op, from, to, result, .. } = asked;
        let what = brief(&op.request);
        found.add(format!("#{number} {what}: {result:?} is of no state of {from:?} to {to:?}"));
    }
}

fn agrees(model: &mut NaiveCoordinator, asked: &Asked<'_>) -> bool {
    let Request::Read(read) = &asked.op.request else { return true };
    same(asked.result, &model.read(asked.session, &asked.who, &unwatched(read)))
}

/// The question alone: watches have a checker of their own.
fn unwatched(read: &Read) -> Read {
    let mut read = read.clone();
    if let Read::Exists { watch, .. } | Read::GetData { watch, .. } | Read::Children { watch, .. } =
        &mut read
    {
        *watch = false;
    }
    read
}

fn collect(history: &History) -> Vec<Asked<'_>> {
    let mut all = Vec::new();
    for session in &history.sessions {
        let ip = Node::Client(session.client).ip().to_string();
        let who: Arc<[Identity]> = Arc::from([Identity::new("ip", ip)]);
        let mut seen = Zxid::ZERO;
        let connections = session.connections.iter();
        let ops = connections.flat_map(|connection| &history.connections[*connection].ops);
        for &number in ops {
            let op = &history.ops[number];
            let Some(reply) = &op.reply else { continue };
            let Some(zxid) = reply.zxid else { continue };
            if matches!(op.request, Request::Read(_)) && is_verdict(&reply.result) {
                all.push(Asked {
                    number,
                    op,
                    result: &reply.result,
                    session: session.id,
                    who: Arc::clone(&who),
                    from: seen,
                    to: zxid,
                });
            }
            seen = seen.max(zxid);
        }
    }
    all
}
