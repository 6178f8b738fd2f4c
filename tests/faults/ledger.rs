//! What a worker knows the tree must hold.
//!
//! One worker alone writes a path, so what is there is the outcome of its own requests in their
//! order. One that was acknowledged leaves one possibility; one whose connection broke before the
//! reply leaves two. A later acknowledgement settles the matter: what an old connection sent is
//! never done after what a new one of the same session did.

use std::collections::{BTreeMap, BTreeSet};

use synod_core::model::{SessionId, Zxid};

/// How a path may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The value that was written last; `None` if there is no znode.
    pub value: Option<u64>,
    /// At which zxid, if that was acknowledged.
    pub zxid: Option<Zxid>,
}

/// What is known of a path.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// It stands in one of these ways.
    pub possible: Vec<State>,
    /// So many changes of it were acknowledged.
    pub acknowledged: u32,
    /// So many have an unknown fate.
    pub unknown: u32,
}

/// What a worker asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets a znode.
    Set(String),
    /// Sets two at once.
    Pair(String, String),
    /// Creates one.
    Create(String),
    /// Creates one whose name the server completes.
    Sequential(String),
    /// Deletes one.
    Delete(String),
}

/// The session of a worker, and the ephemeral znode that it holds.
#[derive(Clone, Debug)]
pub struct Held {
    /// The session.
    pub session: SessionId,
    /// The znode.
    pub path: String,
    /// Where it was created.
    pub czxid: Zxid,
}

/// What one worker knows.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By path.
    pub paths: BTreeMap<String, Known>,
    /// Beginnings of names that the server was to complete and whose fate is unknown: each may be
    /// there once.
    pub lost: BTreeSet<String>,
    /// Suffixes that the server has given.
    pub suffixes: Vec<u64>,
    /// What must be there for the whole of the run.
    pub held: Option<Held>,
    /// Zxids of acknowledgements since the last check, in their order.
    pub zxids: Vec<Zxid>,
    /// The last acknowledgement of the session.
    last: Zxid,
    /// Broken promises that only the worker could see.
    pub violations: Vec<String>,
}

impl Ledger {
    fn put(&mut self, path: &str, value: Option<u64>, zxid: Zxid) {
        let known = self.paths.entry(path.to_owned()).or_default();
        known.possible = vec![State { value, zxid: Some(zxid) }];
        known.acknowledged += 1;
    }

    fn may_be(&mut self, path: &str, value: Option<u64>) {
        let known = self.paths.entry(path.to_owned()).or_default();
        if known.possible.is_empty() {
            known.possible.push(State { value: None, zxid: None });
        }
        known.possible.push(State { value, zxid: None });
        known.unknown += 1;
    }

    /// A change was acknowledged. `sent_after` is the highest zxid that anybody had seen when it
    /// was sent; `path` what was created.
    pub fn acknowledged(
        &mut self,
        change: &Change,
        value: u64,
        zxid: Zxid,
        sent_after: Zxid,
        path: &str,
    ) {
        if zxid <= self.last {
            self.violations.push(format!("{change:?} at {zxid}, and before it {}", self.last));
        }
        if zxid <= sent_after {
            self.violations.push(format!(
                "{change:?} at {zxid}, which was sent when {sent_after} had been seen"
            ));
        }
        self.last = zxid;
        self.zxids.push(zxid);
        match change {
            Change::Set(path) | Change::Create(path) => self.put(path, Some(value), zxid),
            Change::Pair(one, other) => {
                self.put(one, Some(value), zxid);
                self.put(other, Some(value), zxid);
            }
            Change::Sequential(prefix) => {
                let suffix = path.strip_prefix(prefix).filter(|suffix| suffix.len() == 10);
                match suffix.and_then(|suffix| suffix.parse().ok()) {
                    Some(suffix) => self.suffixes.push(suffix),
                    None => self.violations.push(format!("{prefix} was completed to {path}")),
                }
                self.put(path, Some(value), zxid);
            }
            Change::Delete(path) => self.put(path, None, zxid),
        }
    }

    /// The connection has broken before the reply.
    pub fn unknown(&mut self, change: &Change, value: u64) {
        match change {
            Change::Set(path) | Change::Create(path) => self.may_be(path, Some(value)),
            Change::Pair(one, other) => {
                self.may_be(one, Some(value));
                self.may_be(other, Some(value));
            }
            Change::Sequential(prefix) => _ = self.lost.insert(prefix.clone()),
            Change::Delete(path) => self.may_be(path, None),
        }
    }
}

/// The data of a znode whose value this is: unique, and easy to find in a file.
pub fn data_of(worker: usize, value: u64, bytes: usize) -> Vec<u8> {
    let mut data = format!("<w{worker}v{value}>").into_bytes();
    data.resize(bytes.max(data.len()), b'.');
    data
}

/// The value that data was made of.
pub fn value_of(data: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(data).ok()?;
    let (inner, _) = text.strip_prefix("<w")?.split_once('>')?;
    inner.split_once('v')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/load/w0/k0";

    fn set() -> Change {
        Change::Set(PATH.to_owned())
    }

    #[test]
    fn data_tells_its_value() {
        assert_eq!(value_of(&data_of(3, 17, 40)), Some(17));
        assert_eq!(value_of(b"other"), None);
    }

    #[test]
    fn what_is_unknown_leaves_two_ways_until_the_next_acknowledgement() {
        let mut ledger = Ledger::default();
        ledger.acknowledged(&set(), 1, Zxid::new(1, 1), Zxid::ZERO, "");
        ledger.unknown(&set(), 2);
        let values = |ledger: &Ledger| -> Vec<Option<u64>> {
            ledger.paths[PATH].possible.iter().map(|state| state.value).collect()
        };
        assert_eq!(values(&ledger), [Some(1), Some(2)]);
        ledger.acknowledged(&set(), 3, Zxid::new(1, 3), Zxid::new(1, 1), "");
        assert_eq!(values(&ledger), [Some(3)]);
        assert!(ledger.violations.is_empty());
    }

    #[test]
    fn a_zxid_that_does_not_grow_is_a_violation() {
        let mut ledger = Ledger::default();
        ledger.acknowledged(&set(), 1, Zxid::new(1, 2), Zxid::ZERO, "");
        ledger.acknowledged(&set(), 2, Zxid::new(1, 2), Zxid::ZERO, "");
        assert_eq!(ledger.violations.len(), 1);
        ledger.acknowledged(&set(), 3, Zxid::new(1, 3), Zxid::new(1, 9), "");
        assert_eq!(ledger.violations.len(), 2, "somebody had seen 1:9 when it was sent");
    }
}
