//! Sequence numbers, from the answers alone.

use std::collections::BTreeMap;

use synod_core::model::{Create, Op, OpResult, Request, Response, Write, Zxid};

use super::Findings;
use crate::sim::history::History;
use crate::sim::workload::LASTING;

/// Digits of a sequence number.
const DIGITS: usize = 10;

/// Sequence numbers below one parent and the operations that got them, by zxid and place in the
/// transaction: in the order in which they were given.
type Given = BTreeMap<(Zxid, usize), (u64, usize)>;

pub(super) fn check(history: &History, found: &mut Findings) {
    let mut given: BTreeMap<String, Given> = BTreeMap::new();
    for (number, op) in history.ops.iter().enumerate() {
        let Some((zxid, Ok(response))) =
            op.reply.as_ref().and_then(|it| it.zxid.map(|zxid| (zxid, &it.result)))
        else {
            continue;
        };
        let mut note = |at, create: &Create, path: &str| {
            if !create.mode.is_sequential() {
                return;
            }
            let sequence = path
                .strip_prefix(&*create.path)
                .filter(|digits| digits.len() == DIGITS)
                .and_then(|digits| digits.parse::<u64>().ok());
            let Some(sequence) = sequence else {
                return found.add(format!("#{number} asked for {}, got {path}", create.path));
            };
            let parent = create.path.rfind('/').map_or("", |at| &create.path[..at]);
            // One that is deleted and created again counts anew.
            if LASTING.contains(&parent) {
                given.entry(parent.to_owned()).or_default().insert((zxid, at), (sequence, number));
            }
        };
        match (&op.request, response) {
            (Request::Write(Write::Op(Op::Create(create))), Response::Created { path, .. }) => {
                note(0, create, path);
            }
            (Request::Write(Write::Multi(ops)), Response::Multi(results)) => {
                for (at, pair) in ops.iter().zip(results).enumerate() {
                    if let (Op::Create(create), OpResult::Created { path, .. }) = pair {
                        note(at, create, path);
                    }
                }
            }
            _ => {}
        }
    }
    for (parent, given) in given {
        for (before, after) in given.values().zip(given.values().skip(1)) {
            if before.0 >= after.0 {
                found.add(format!(
                    "below {parent:?} #{} got {} and #{}, later, {}",
                    before.1, before.0, after.1, after.0
                ));
            }
        }
    }
}
