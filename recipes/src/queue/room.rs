//! The bound of a queue's length.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use synod_core::client::Client;
use tokio::time::Instant;

use super::Core;
use super::item::PRIORITY_MAX;
use crate::error::Error;

/// How long a count is believed.
const FRESH: Duration = Duration::from_secs(1);

/// What a handle may take of the room that it has found: one part in so many.
const SHARE: u64 = 8;

/// How long a producer waits for room before it counts again.
const RECOUNT: Duration = Duration::from_millis(250);

/// What a put does when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// It fails with [`Error::Full`].
    Refuse,
    /// It waits until there is room.
    Wait,
}

pub(crate) struct Room {
    length: u64,
    full: Full,
    /// How many may still be put, by a count of that moment.
    allowance: Mutex<(u64, Option<Instant>)>,
}

impl Room {
    pub(crate) fn new(length: u64, full: Full) -> Room {
        Room { length, full, allowance: Mutex::new((0, None)) }
    }

    fn draw(&self, count: u64) -> bool {
        let mut allowance = self.allowance.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, counted) = *allowance;
        let fresh = counted.is_some_and(|at| at.elapsed() < FRESH);
        let enough = fresh && left >= count;
        if enough {
            allowance.0 -= count;
        }
        enough
    }

    /// There is so much room: the share of it is drawn from from now on.
    fn found(&self, room: u64, count: u64) {
        let share = (room / SHARE).max(count);
        *self.allowance.lock().unwrap_or_else(PoisonError::into_inner) =
            (share - count, Some(Instant::now()));
    }
}

impl Core {
    /// Sees to it that there is room for so many items, or fails.
    pub(crate) async fn room(&self, client: &Client, count: u64) -> Result<(), Error> {
        let Some(room) = &self.room else { return Ok(()) };
        loop {
            if room.draw(count) {
                return Ok(());
            }
            let mut length = 0;
            for priority in 0..=PRIORITY_MAX {
                length += self.lane(priority).count(client).await?;
            }
            let left = room.length.saturating_sub(length);
            if left >= count {
                room.found(left, count);
                return Ok(());
            }
            match room.full {
                Full::Refuse => {
                    let path = self.path.clone();
                    return Err(Error::Full { path, length, max: room.length });
                }
                Full::Wait => tokio::time::sleep(RECOUNT).await,
            }
        }
    }
}
