//! The checkers: each holds a whole history to one promise of the specification.
//!
//! | file | what it holds the history to |
//! |---|---|
//! | `log` | one log: members agree on it, nothing in it that was not asked, once, in order |
//! | `replay` | every answer is what an independent model says, at its place in that log |
//! | `sessions` | zxids unique, growing, and in the order of real time |
//! | `watches` | each event once, before what shows the change, none lost across a reconnect |
//! | `ephemerals` | sessions that speak live, sessions that are silent end, in time |
//! | `sequences` | sequence numbers unique and growing |
//! | `linear` | each register linearizable, from what its clients saw alone |

mod ephemerals;
mod linear;
mod log;
mod replay;
mod sequences;
mod sessions;
mod watches;

use std::fmt;

use super::history::History;

/// A promise that was not held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which checker saw it.
    pub checker: &'static str,
    /// What it saw.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.checker, self.what)
    }
}

/// Where the checkers put what they see.
pub(crate) struct Findings {
    checker: &'static str,
    all: Vec<Violation>,
}

/// Violations of one checker that are told: the first ones say what is wrong.
const TOLD_MAX: usize = 8;

impl Findings {
    fn add(&mut self, what: String) {
        if self.all.iter().filter(|it| it.checker == self.checker).count() < TOLD_MAX {
            self.all.push(Violation { checker: self.checker, what });
        }
    }
}

/// What the checkers counted, so that a history that gave them nothing to check is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Writes whose outcome was compared with the model's.
    pub writes: usize,
    /// Reads that were compared with a state of the model's.
    pub reads: usize,
    /// Writes of unknown outcome that the log turned out to hold.
    pub unknown_done: usize,
    /// Events that were expected and came.
    pub events: usize,
    /// Of them, those told to a client that came back.
    pub missed_events: usize,
    /// Sessions that were expired.
    pub expired: usize,
    /// Sessions that were judged dead and heard of before the log had it.
    pub spared: usize,
    /// Histories of registers in which an order was looked for: one a register and run.
    pub register_histories: usize,
    /// Their operations.
    pub register_ops: usize,
}

/// Checks everything.
pub(crate) fn check(history: &History) -> (Vec<Violation>, Checked) {
    let mut found = Findings { checker: "client", all: Vec::new() };
    let mut checked = Checked::default();
    history.complaints.iter().for_each(|complaint| found.add(complaint.clone()));
    found.checker = "sessions";
    sessions::check(history, &mut found);
    found.checker = "sequences";
    sequences::check(history, &mut found);
    found.checker = "linear";
    linear::check(history, &mut found, &mut checked);
    found.checker = "log";
    let log = log::read(history, &mut found, &mut checked);
    found.checker = "replay";
    replay::check(history, &log, &mut found, &mut checked);
    found.checker = "watches";
    watches::check(history, &log, &mut found, &mut checked);
    found.checker = "ephemerals";
    ephemerals::check(history, &log, &mut found, &mut checked);
    (found.all, checked)
}

impl std::ops::AddAssign for Checked {
    fn add_assign(&mut self, other: Checked) {
        self.writes += other.writes;
        self.reads += other.reads;
        self.unknown_done += other.unknown_done;
        self.events += other.events;
        self.missed_events += other.missed_events;
        self.expired += other.expired;
        self.spared += other.spared;
        self.register_histories += other.register_histories;
        self.register_ops += other.register_ops;
    }
}
