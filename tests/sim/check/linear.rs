//! Linearizability of each register, from what clients saw alone.
//!
//! The algorithm is Wing and Gong's (1993) with Lowe's memory of configurations seen before
//! (2017): operations are tried in every order that real time allows, on a register that knows its
//! version and its value. Registers are checked apart: linearizability is compositional (Herlihy
//! and Wing 1990).

use std::collections::BTreeSet;

use bytes::Bytes;
use synod_core::model::{Code, Op, Read, Request, Response, Write};

use super::{Checked, Findings};
use crate::sim::history::{History, OpRecord, Place};
use crate::sim::workload::{REGISTERS, register};

/// Configurations that are tried before a history is given up as undecided.
const CONFIGURATIONS_MAX: usize = 300_000;

type Value = Option<Bytes>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Register {
    version: i32,
    value: Value,
}

/// What was done and answered.
#[derive(Clone, Debug)]
enum Did {
    /// Set, if the version was this one; the version that came of it.
    Set {
        value: Value,
        expected: i32,
        now: Option<i32>,
    },
    /// As above, and the version was another.
    SetRefused {
        expected: i32,
    },
    Got {
        value: Value,
        version: i32,
    },
}

#[derive(Clone, Debug)]
struct Span {
    number: usize,
    from: Place,
    /// `None`: it may have been done at any time since, or not at all.
    to: Option<Place>,
    did: Did,
}

impl Span {
    /// The register after it, if it can be done now with that answer.
    fn step(&self, register: &Register) -> Option<Register> {
        match &self.did {
            Did::Set { value, expected, now } => {
                let version = register.version + 1;
                let fits = *expected == -1 || *expected == register.version;
                (fits && now.is_none_or(|now| now == version))
                    .then(|| Register { version, value: value.clone() })
            }
            Did::SetRefused { expected } => {
                (*expected != register.version).then(|| register.clone())
            }
            Did::Got { value, version } => {
                (*version == register.version && *value == register.value).then(|| register.clone())
            }
        }
    }
}

pub(super) fn check(history: &History, found: &mut Findings, checked: &mut Checked) {
    for number in 0..REGISTERS {
        let path = register(number);
        let spans = spans(history, &path);
        checked.register_ops += spans.len();
        checked.register_histories += usize::from(!spans.is_empty());
        if let Err(why) = linearize(&spans) {
            found.add(format!("{path} of {} operations: {why}", spans.len()));
        }
    }
}

fn spans(history: &History, path: &str) -> Vec<Span> {
    let ops = history.ops.iter().enumerate();
    let mut spans: Vec<Span> =
        ops.filter_map(|(number, op)| span(history, path, number, op)).collect();
    spans.sort_by_key(|span| span.from);
    spans
}

fn span(history: &History, path: &str, number: usize, op: &OpRecord) -> Option<Span> {
    let to = op.reply.as_ref().map(|reply| reply.at);
    match &op.request {
        Request::Write(Write::Op(Op::SetData { path: of, data, version })) if **of == *path => {
            let set = |now| Did::Set { value: data.clone(), expected: *version, now };
            let (did, to) = match op.reply.as_ref().map(|reply| &reply.result) {
                Some(Ok(Response::Stat(stat))) => (set(Some(stat.version)), to),
                Some(Err(refusal)) if refusal.code == Code::BadVersion => {
                    (Did::SetRefused { expected: *version }, to)
                }
                // Not answered, or not by the register.
                _ => (set(None), None),
            };
            Some(Span { number, from: op.sent, to, did })
        }
        Request::Read(Read::GetData { path: of, .. }) if **of == *path => {
            let sync = &history.ops[op.synced_by?];
            sync.reply.as_ref().filter(|reply| reply.result.is_ok())?;
            let Ok(Response::Data { data, stat }) = &op.reply.as_ref()?.result else { return None };
            let did = Did::Got { value: data.clone(), version: stat.version };
            Some(Span { number, from: sync.sent, to, did })
        }
        _ => None,
    }
}

/// The value of every write of unknown outcome that no read has seen. (Workloads write others.)
const UNSEEN: Value = Some(Bytes::from_static(b"unseen"));

/// The same, but writes whose outcome is unknown and whose value no read has seen write [`UNSEEN`]:
/// nobody can tell one of them from another that expects the same version.
fn forget_unseen(spans: &[Span]) -> Vec<Span> {
    let seen: BTreeSet<&Value> = spans
        .iter()
        .filter_map(|span| match &span.did {
            Did::Got { value, .. } => Some(value),
            _ => None,
        })
        .collect();
    let forgotten = |span: &Span| match &span.did {
        Did::Set { value, expected, now: None } if span.to.is_none() && !seen.contains(value) => {
            Span { did: Did::Set { value: UNSEEN, expected: *expected, now: None }, ..span.clone() }
        }
        _ => span.clone(),
    };
    spans.iter().map(forgotten).collect()
}

/// One step of the search: which operation was taken, and the register before it.
struct Taken {
    span: usize,
    before: Register,
    /// Operations that were tried at this place before it.
    tried: BTreeSet<usize>,
}

fn linearize(spans: &[Span]) -> Result<(), String> {
    let spans = &forget_unseen(spans)[..];
    let mut register = Register { version: 0, value: Some(Bytes::from_static(b"0")) };
    let mut open: BTreeSet<usize> = (0..spans.len()).collect();
    let mut taken: Vec<Taken> = Vec::new();
    let mut seen: BTreeSet<(Vec<u64>, Register)> = BTreeSet::new();
    let mut tried = BTreeSet::new();
    let mut bits = vec![0_u64; spans.len().div_ceil(64)];
    let mut furthest: (usize, String) = (0, String::new());
    loop {
        if open.iter().all(|span| spans[*span].to.is_none()) {
            return Ok(());
        }
        let mut next = None;
        for (span, after) in candidates(spans, &open, &register) {
            if tried.contains(&span) {
                continue;
            }
            bits[span / 64] |= 1 << (span % 64);
            if seen.insert((bits.clone(), after.clone())) {
                next = Some((span, after));
                break;
            }
            bits[span / 64] &= !(1 << (span % 64));
            tried.insert(span);
        }
        if seen.len() > CONFIGURATIONS_MAX {
            return Err("undecided: too many configurations".to_owned());
        }
        match next {
            Some((span, after)) => {
                open.remove(&span);
                let before = std::mem::replace(&mut register, after);
                let tried = std::mem::take(&mut tried);
                taken.push(Taken { span, before, tried });
            }
            None => {
                if taken.len() >= furthest.0 {
                    furthest = (taken.len(), stuck(spans, &open, &register));
                }
                let Some(back) = taken.pop() else {
                    return Err(format!("not linearizable; {}", furthest.1));
                };
                bits[back.span / 64] &= !(1 << (back.span % 64));
                open.insert(back.span);
                register = back.before;
                tried = back.tried;
                tried.insert(back.span);
            }
        }
    }
}

/// Operations that may come next: none that was answered may be overtaken by one that was asked
/// only then. Those that were answered stand first: the others need not have happened. Of those that
/// nobody can tell apart the one that was asked first stands for all: whatever holds with another in
/// its place holds with it.
fn candidates(
    spans: &[Span],
    open: &BTreeSet<usize>,
    register: &Register,
) -> Vec<(usize, Register)> {
    let first_end = open.iter().filter_map(|span| spans[*span].to).min().unwrap_or(Place::MAX);
    let may = open.iter().take_while(|span| spans[**span].from < first_end);
    let mut alike = BTreeSet::new();
    let may = may.filter(|span| match &spans[**span].did {
        Did::Set { value, expected, now: None } if *value == UNSEEN => alike.insert(*expected),
        _ => true,
    });
    let mut fit: Vec<(usize, Register)> =
        may.filter_map(|span| Some((*span, spans[*span].step(register)?))).collect();
    fit.sort_by_key(|(span, _)| spans[*span].to.unwrap_or(Place::MAX));
    fit
}

fn stuck(spans: &[Span], open: &BTreeSet<usize>, register: &Register) -> String {
    let first = open.iter().filter_map(|span| spans[*span].to.map(|to| (to, *span))).min();
    let first = first.map(|(_, span)| format!("#{} {:?}", spans[span].number, spans[span].did));
    format!("after {register:?} there is no place for {first:?}")
}

/// How often each outcome is there, for who wonders whether a history says anything.
#[cfg(test)]
fn outcomes(spans: &[Span]) -> std::collections::BTreeMap<&'static str, usize> {
    let mut outcomes = std::collections::BTreeMap::new();
    for span in spans {
        let name = match (&span.did, span.to) {
            (_, None) => "unknown",
            (Did::Set { .. }, _) => "set",
            (Did::SetRefused { .. }, _) => "refused",
            (Did::Got { .. }, _) => "got",
        };
        *outcomes.entry(name).or_default() += 1;
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Some(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn set(from: Place, to: impl Into<Option<Place>>, text: &str, now: i32) -> Span {
        let to = to.into();
        let did = Did::Set { value: value(text), expected: -1, now: to.map(|_| now) };
        Span { number: from as usize, from, to, did }
    }

    fn got(from: Place, to: Place, text: &str, version: i32) -> Span {
        let did = Did::Got { value: value(text), version };
        Span { number: from as usize, from, to: Some(to), did }
    }

    #[test]
    fn concurrent_operations_may_come_in_either_order() {
        let spans = [set(1, 4, "a", 2), set(2, 5, "b", 1), got(6, 7, "a", 2)];
        assert_eq!(linearize(&spans), Ok(()));
        assert_eq!(outcomes(&spans), std::collections::BTreeMap::from([("set", 2), ("got", 1)]));
    }

    #[test]
    fn a_read_from_before_a_write_that_was_answered_is_seen() {
        let spans = [set(1, 2, "a", 1), got(3, 4, "0", 0)];
        assert!(linearize(&spans).is_err());
    }

    #[test]
    fn a_write_of_unknown_outcome_may_be_done_late_or_never() {
        let late = [set(1, None, "a", 1), got(2, 3, "0", 0), got(4, 5, "a", 1)];
        assert_eq!(linearize(&late), Ok(()));
        let never = [set(1, None, "a", 1), got(2, 3, "0", 0), got(4, 5, "0", 0)];
        assert_eq!(linearize(&never), Ok(()));
        let undone = [set(1, None, "a", 1), got(2, 3, "a", 1), got(4, 5, "0", 0)];
        assert!(linearize(&undone).is_err());
    }

    /// In any order they are more than can be tried.
    #[test]
    fn writes_of_unknown_outcome_that_nobody_has_seen_are_tried_in_one_order() {
        let unknown = |from: Place| set(from, None, &from.to_string(), 0);
        let mut spans: Vec<Span> = (1..=40).map(unknown).collect();
        spans.push(got(50, 51, "7", 30));
        assert_eq!(linearize(&spans), Ok(()));
        spans.push(got(52, 53, "8", 40));
        assert_eq!(linearize(&spans), Ok(()));
        spans.pop();
        spans.push(got(52, 53, "8", 41));
        let why = linearize(&spans).expect_err("there were 40");
        assert!(why.starts_with("not linearizable"), "{why}");
    }

    #[test]
    fn a_write_that_was_lost_is_seen_by_its_version() {
        let spans = [set(1, 2, "a", 1), set(3, 4, "b", 1)];
        assert!(linearize(&spans).is_err());
    }

    #[test]
    fn a_compare_and_set_that_was_refused_had_another_version_before_it() {
        let refused = |from, to, expected| Span {
            number: 0,
            from,
            to: Some(to),
            did: Did::SetRefused { expected },
        };
        assert_eq!(linearize(&[set(1, 4, "a", 1), refused(2, 3, 0)]), Ok(()));
        assert!(linearize(&[refused(2, 3, 0)]).is_err());
    }
}
