//! Faults against real processes of `synod serve`: a cluster whose members are killed, paused and
//! cut off, a load on it that remembers what was acknowledged, and what must hold afterwards.
//!
//! | file | what it holds |
//! |---|---|
//! | `process` | one server process: it dies with the harness, always |
//! | `cluster` | the members, their folders and addresses, and who leads |
//! | `links` | what stands between the members, so that they can be parted |
//! | `connection` | the protocol without a client's conveniences |
//! | `load` | connections that write without end, as long as they are let |
//! | `worker` | one of them |
//! | `ledger` | what a worker knows the tree must hold |
//! | `dump` | a whole tree, as one member has it |
//! | `check` | ledgers against trees |
//! | `segment` | where the batches of a log file stand |
//! | `report` | medians and maxima |

pub mod check;
pub mod cluster;
pub mod connection;
pub mod dump;
pub mod ledger;
pub mod links;
pub mod load;
pub mod process;
pub mod report;
pub mod segment;
mod worker;

use std::time::Duration;

use tokio::time::Instant;

/// Longer than anything takes, on a loaded machine: it guards against hangs and measures nothing.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at what cannot be waited for.
pub const POLL: Duration = Duration::from_millis(5);

/// Looks until there is something to see.
///
/// # Panics
/// After [`PATIENCE`], naming what was looked for.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// How often a scenario is repeated: once, or as often as `SYNOD_KILLS` says.
///
/// # Panics
/// If that is no number.
pub fn repetitions() -> usize {
    match std::env::var("SYNOD_KILLS") {
        Ok(count) => count.parse().expect("SYNOD_KILLS is a number"),
        Err(_) => 1,
    }
}
