//! Ids that no two processes get.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use synod_core::client::{Client, IntoPath};
use synod_core::model::{Error as ClientError, Path};

use super::cell::Cell;
use crate::error::Error;

/// How often a block is asked for anew when it is not known whether one was taken.
const ATTEMPTS_MAX: usize = 8;

/// Numbers from 1 on, each of them given out once at most, by all processes together. A process
/// takes a block of them at a time, and gives those out without asking anybody.
///
/// They are unique, but neither without gaps nor in order: a process that ends, or drops this, takes
/// the rest of its block along; a block is lost when a reply is, or when the call that takes it is
/// cancelled; and of two processes the one with the older block gives out lower numbers later.
///
/// Clones share the block.
#[derive(Clone, Debug)]
pub struct IdBlocks {
    /// The highest number that was taken.
    taken: Cell<u64>,
    size: u64,
    ranges: Arc<Mutex<VecDeque<Range<u64>>>>,
}

impl IdBlocks {
    /// Ids from the counter at `path`, in blocks of `size`. Nothing is sent yet. Others may take
    /// blocks of another size.
    ///
    /// # Errors
    /// [`Error::Client`] if the path is not valid, or the size is 0.
    pub fn new(client: &Client, path: impl IntoPath, size: u64) -> Result<IdBlocks, Error> {
        if size == 0 {
            let rule = "a block has at least one number";
            return Err(ClientError::invalid("size of a block", size, rule).into());
        }
        Ok(IdBlocks { taken: Cell::new(client, path, 0)?, size, ranges: Arc::default() })
    }

    /// The path of the counter.
    pub fn path(&self) -> &Path {
        self.taken.path()
    }

    /// The next id. It asks the coordinator when the block is used up, and then only.
    ///
    /// Cancelling it may lose a block.
    ///
    /// # Errors
    /// [`Error::Client`], also when the numbers are used up; [`Error::BadData`];
    /// [`Error::Indeterminate`] when replies are lost again and again. No id is given out then.
    pub async fn next(&self) -> Result<u64, Error> {
        loop {
            // The lock is not held over the await.
            if let Some(id) = self.next_of_block() {
                return Ok(id);
            }
            let block = self.take_block().await?;
            self.ranges().push_back(block);
        }
    }

    fn ranges(&self) -> MutexGuard<'_, VecDeque<Range<u64>>> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_of_block(&self) -> Option<u64> {
        let mut ranges = self.ranges();
        while let Some(first) = ranges.front_mut() {
            match first.next() {
                Some(id) => return Some(id),
                None => drop(ranges.pop_front()),
            }
        }
        None
    }

    async fn take_block(&self) -> Result<Range<u64>, Error> {
        let upto = |taken: &u64| {
            // The end of the range is a number too.
            let upto = taken.checked_add(self.size).filter(|upto| *upto < u64::MAX);
            upto.ok_or_else(|| {
                let rule = "there are 2^64 - 2 numbers";
                ClientError::invalid("number of ids", taken, rule).into()
            })
        };
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.taken.try_update(upto).await {
                // A block that may have been taken is nobody's: the next one is certainly new.
                Err(Error::Indeterminate { .. }) if attempts < ATTEMPTS_MAX => {}
                taken => {
                    let upto = taken?;
                    return Ok(upto - self.size + 1..upto + 1);
                }
            }
        }
    }
}
