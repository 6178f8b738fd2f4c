//! The coordinator's time: what delays are counted by, so that the clocks of producers and
//! consumers need not agree.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use synod_core::client::Client;
use synod_core::model::{Code, Path};
use tokio::time::Instant;

use crate::error::Error;
use crate::znodes::persist;

/// How long a reading is carried on by this process's monotonic clock.
const FRESH: Duration = Duration::from_secs(60);

/// Reads the time from the Stat of a write, which the leader has dated.
pub(crate) struct ServerClock {
    path: Path,
    read: Mutex<Option<(Instant, i64)>>,
}

impl ServerClock {
    pub(crate) fn new(path: Path) -> ServerClock {
        ServerClock { path, read: Mutex::new(None) }
    }

    fn carried(&self) -> Option<i64> {
        let read = *self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, ms) = read.filter(|(at, _)| at.elapsed() < FRESH)?;
        Some(ms.saturating_add(millis(at.elapsed())))
    }

    /// The coordinator's time, in milliseconds since the Unix epoch.
    pub(crate) async fn now_ms(&self, client: &Client) -> Result<i64, Error> {
        if let Some(ms) = self.carried() {
            return Ok(ms);
        }
        // A reading that took long would be behind by as much: it counts from before it was asked.
        let asked = Instant::now();
        let stat = match persist!(client.set(&self.path, b"")) {
            Err(error) if error.is(Code::NoNode) => {
                match persist!(client.create(&self.path, b"")) {
                    Err(error) if !error.is(Code::NodeExists) => return Err(error.into()),
                    _ => persist!(client.set(&self.path, b""))?,
                }
            }
            stat => stat?,
        };
        let read = (asked, stat.mtime_ms);
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
        Ok(stat.mtime_ms.saturating_add(millis(asked.elapsed())))
    }
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
