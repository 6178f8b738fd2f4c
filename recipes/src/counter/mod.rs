//! Values that several change: a counter, a cell of any type, ids that nobody else gets.
//!
//! ```text
//! /counters/orders      {"value":42,"ops":["9f1c…","40ab…"]}    persistent
//! ```
//!
//! 1. Read the value and the znode's version, reckon the new value, and write it if the version is
//!    still that one. Each write has a random id, which stands among the last ones in `ops`.
//! 2. If it is not that version, others were faster: again from the beginning.
//! 3. If the reply is lost, write the very same once more, in the next session if need be: of two
//!    writes at one version at most one is done.
//! 4. If that is refused, read: when the id is in `ops`, the write was done. When it is not, though
//!    all the writes since then are in it, it was not, and never will be: again from the beginning.
//! 5. When more have written since than `ops` has room for, nobody can tell: `Indeterminate`.
//!
//! So a change is done exactly once, or it is said that this is not known; it is never done twice.

mod cell;
mod ids;

pub use cell::{Cell, OPS_KEPT, Reading};
pub use ids::IdBlocks;

use synod_core::client::{Client, IntoPath};
use synod_core::model::{Error as ClientError, Path};

use crate::error::Error;

/// A counter at a path, of 64 bits with a sign. Cheap to clone; every `Counter` of the same path is
/// the same counter. It begins at 0, and belongs to no session.
///
/// Each change is a write to one znode, and of those who change it at once one is done at a time.
/// What is counted often is to be counted locally, and added now and then.
#[derive(Clone, Debug)]
pub struct Counter {
    cell: Cell<i64>,
}

impl Counter {
    /// The counter at `path`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Client`] if the path is not valid.
    pub fn new(client: &Client, path: impl IntoPath) -> Result<Counter, Error> {
        Ok(Counter { cell: Cell::new(client, path, 0)? })
    }

    /// The path of the counter.
    pub fn path(&self) -> &Path {
        self.cell.path()
    }

    /// The value now.
    ///
    /// # Errors
    /// [`Error::Client`]; [`Error::BadData`] if others have written something else there.
    pub async fn get(&self) -> Result<i64, Error> {
        Ok(self.cell.get().await?.value)
    }

    /// Adds `delta`, exactly once, and yields the value that this has led to.
    ///
    /// It goes on over broken connections, and in the client's next session if the present one ends.
    /// **Cancelling** it may leave it done or not.
    ///
    /// # Errors
    /// [`Error::Indeterminate`] when nobody can tell whether it was done: read, and decide. After
    /// every other error it was not done: [`Error::Client`], also when the sum is out of range;
    /// [`Error::BadData`].
    pub async fn add(&self, delta: i64) -> Result<i64, Error> {
        let sum = |value: &i64| {
            value.checked_add(delta).ok_or_else(|| {
                let rule = "the sum of a counter fits into 64 bits";
                ClientError::invalid("delta", delta, rule).into()
            })
        };
        self.cell.try_update(sum).await
    }
}
