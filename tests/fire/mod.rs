//! Safety under fire: holders in processes of their own write to a resource in another, under the
//! tokens of their guards, while holders and members of the cluster are stopped, killed and cut
//! off. A resource that asks for tokens must never be written by a stale holder; one beside it, to
//! which the same holders offer the same writes and which asks for none, must be, or else the
//! faults have not bitten.
//!
//! ```text
//! holder ─┬─ proxy ── members of a cluster        stopped, killed, parted
//! holder ─┤           (connections are cut)
//! holder ─┴─ every write ─┬─ resource, fenced     never breaks
//!  stopped, killed        └─ resource, open       breaks
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `line` | a line of a resource's journal |
//! | `gate` | what a resource admits |
//! | `account` | what a journal shows, reckoned apart from the gate |
//! | `journal` | the journal of a resource that runs |
//! | `service` | how a holder speaks to a resource |
//! | `stage` | the processes of a run, and what stands between them |
//! | `faults` | what is done to them |
//! | `run` | a run from its begin to its verdict |
//! | `bin/` | the resource and the holder, as programs |

pub mod account;
pub mod faults;
pub mod gate;
pub mod journal;
pub mod line;
pub mod run;
pub mod service;
pub mod stage;

use std::fmt;
use std::str::FromStr;

/// Which recipe decides who may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// One lock; each holder waits for it again and again.
    Lock,
    /// One read/write lock, with downgrades and upgrades.
    RwLock,
    /// One semaphore; each of its slots is written by whoever has it.
    Semaphore,
    /// One election.
    Election,
    /// Items that are divided among the holders.
    Partition,
}

/// How many items there are to divide.
pub const ITEMS: u32 = 8;

/// How many permits the semaphore has: fewer than there are holders.
pub const PERMITS: u32 = 2;

impl Recipe {
    /// All of them.
    pub const ALL: [Recipe; 5] =
        [Recipe::Lock, Recipe::RwLock, Recipe::Semaphore, Recipe::Election, Recipe::Partition];
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Recipe::Lock => "lock",
            Recipe::RwLock => "rwlock",
            Recipe::Semaphore => "semaphore",
            Recipe::Election => "election",
            Recipe::Partition => "partition",
        })
    }
}

impl FromStr for Recipe {
    type Err = String;

    fn from_str(name: &str) -> Result<Recipe, String> {
        let of_that_name = |recipe: &Recipe| recipe.to_string() == name;
        Recipe::ALL.into_iter().find(of_that_name).ok_or_else(|| format!("no recipe {name:?}"))
    }
}
