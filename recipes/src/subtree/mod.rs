//! The engine behind `cache` and `feed`: it follows a subtree from one *cut* to the next. A cut is
//! what the whole subtree was at one zxid.
//!
//! | file | what it holds |
//! |---|---|
//! | `scope` | which znodes belong to it, and how many there may be |
//! | `ledger` | what is known between two cuts, and when it is enough for the next; no I/O |
//! | `follower` | the watch, the reads, what happens on a loss |

mod follower;
mod ledger;
mod scope;

use bytes::Bytes;
use synod_core::model::{Path, Stat, Zxid};

pub(crate) use follower::{Asks, Follower, View};
pub(crate) use scope::{Scope, scope_options};

/// What became of a znode since the cut before.
pub(crate) enum Change {
    /// It is as the holder of the last cut has it.
    Same,
    /// It was created, or set, or both.
    Put(Bytes, Stat),
    /// It is not there.
    Gone,
}

/// What the subtree was at a zxid.
pub(crate) struct Cut {
    /// At which.
    pub(crate) zxid: Zxid,
    /// Whether `changes` tells of every znode that there is, and not only of what has changed.
    pub(crate) whole: bool,
    /// In the order of paths, so that a parent comes before its children.
    pub(crate) changes: Vec<(Path, Change)>,
    /// How many of those who asked for the newest have it with this.
    pub(crate) answered: u64,
}
