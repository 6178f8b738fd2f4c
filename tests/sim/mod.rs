//! A whole cluster, its network, its clients and what goes wrong, on virtual time and from a seed:
//! one seed gives one run, byte for byte, and checkers hold what was seen to the specification.
//!
//! | module | what it holds |
//! |---|---|
//! | `net` | a network in memory: delays, partitions, resets, late delivery |
//! | `cluster` | the members, which crash, stop and start again; their clocks |
//! | `faults` | what goes wrong, when, and for how long |
//! | `operator` | changes of who the members are, meanwhile |
//! | `ending` | the quiet end, where everything must be well |
//! | `wire`, `client`, `workload` | clients that speak the protocol through its codec alone |
//! | `history` | what was done and seen, in order; the trace |
//! | `check` | the checkers |
//! | `panics` | what panicked within a run |
//! | `liar` | a server that is wrong in a way of choice, so that checkers are seen to see |
//! | `run` | one seed, from the start to the verdict |
//! | `parallel` | several runs at a time |

mod check;
mod client;
mod cluster;
mod ending;
mod faults;
mod history;
mod liar;
mod net;
mod operator;
mod panics;
mod parallel;
mod run;
mod wire;
mod workload;

pub use check::{Checked, Violation};
pub use history::Tally;
pub use liar::Lie;
pub use parallel::with_each;
pub use run::{Plan, Plant, Report, run};
