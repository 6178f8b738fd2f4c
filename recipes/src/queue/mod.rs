//! A queue of work: at least once, with a claim that dies with its consumer.
//!
//! ```text
//! /jobs
//! ├── ready/p3/b0000000000/              a lane for each priority, in buckets of 1,000
//! │   ├── i-3fa9c2d1-0000000041          an item
//! │   │   └── claim                      ephemeral: who works on it; czxid = fencing token
//! │   └── i-90c0ffee-0000000042
//! ├── delayed/h…/s…/d1700000733120-…     until its time comes
//! ├── dead/b0000000000/i-…               given up, with the reason
//! ├── ids/w…/3f/i-order-991              what dedup remembers
//! └── clock                              asked for the coordinator's time
//! ```
//!
//! 1. A put appends a sequential znode to the last bucket of its lane.
//! 2. A consumer lists the first buckets once and keeps up by a watch. It claims the first item
//!    that is free by creating its ephemeral child; the count of such creations is the count of
//!    attempts, whoever dies.
//! 3. Done: one transaction deletes claim and item, with operations of the application.
//! 4. Not done: one transaction gives the item back, delays it, or puts it to the dead letters.
//! 5. A consumer whose session ends loses its claims, and others are told.
//!
//! An item is delivered at least once, and again only when a consumer died, lost its session, or
//! gave it back. Those of one priority are taken about in their order: in it if there is one
//! consumer and nothing fails.
//!
//! # What it is for
//! For work that has to be coordinated more than it has to be fast: each item costs three writes
//! that a quorum has to sync, and lies in the memory of every member. Thousands of items a second
//! and hundreds of thousands that wait are fine; beyond that, or for items above some kilobytes, or
//! for streams that many read, use a message broker. See the book's page for figures.

mod claim;
mod clock;
mod dead;
mod delayed;
mod delivery;
mod ids;
mod item;
mod lane;
mod put;
mod room;
mod simple;
mod stats;
mod take;
mod window;

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use synod_core::client::{Client, IntoPath};
use synod_core::model::{Code, Error as ClientError, Path};
use tokio::sync::watch as latest;

pub use dead::DeadLetter;
pub use delivery::{Delivery, Nacked};
pub use item::PRIORITY_MAX;
pub use put::{Added, PUT_ALL_ITEMS_MAX, Put};
pub use room::Full;
pub use simple::SimpleQueue;
pub use stats::{Peeked, Stats};

use crate::error::Error;
use crate::znodes::{make_parents, persist};
use clock::ServerClock;
use delayed::Delayed;
use ids::Ids;
use lane::Lane;
use room::Room;
use window::Window;

/// Attempts of an item, unless the queue says otherwise.
const ATTEMPTS_MAX: u32 = 5;

/// Pause before the second attempt, unless the queue says otherwise; it doubles with each.
const BACKOFF: Duration = Duration::from_secs(1);

/// Longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// How long an id is remembered, unless the queue says otherwise.
const DEDUP_WINDOW: Duration = Duration::from_secs(3_600);

/// Windows that are kept for the next consumer.
const WINDOWS_MAX: usize = 16;

/// What a handle of a queue was opened with. Handles of one queue may differ in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) attempts_max: u32,
    backoff: Duration,
    pub(crate) dedup_window: Duration,
}

impl Settings {
    /// The pause after that attempt.
    pub(crate) fn backoff_of(&self, attempt: u32) -> Duration {
        let doubled = 2_u32.checked_pow(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        self.backoff.saturating_mul(doubled).min(BACKOFF_MAX)
    }
}

/// Where items lie in a sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shelf {
    Ready(u8),
    Dead,
}

/// What all clones of a handle share.
pub(crate) struct Core {
    pub(crate) client: Client,
    pub(crate) path: Path,
    pub(crate) settings: Settings,
    pub(crate) ready_path: Path,
    lanes: Vec<Lane>,
    pub(crate) delayed: Delayed,
    pub(crate) dead: Lane,
    pub(crate) ids: Ids,
    pub(crate) clock: ServerClock,
    room: Option<Room>,
    /// Those that no consumer uses at the moment.
    windows: Mutex<Vec<Window>>,
    stopped: latest::Sender<bool>,
    outstanding: Arc<latest::Sender<usize>>,
}

impl Core {
    pub(crate) fn lane(&self, priority: u8) -> &Lane {
        &self.lanes[usize::from(priority.min(PRIORITY_MAX))]
    }

    fn lend(&self) -> Option<Window> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give_back(&self, window: Window) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if window.is_alive() && windows.len() < WINDOWS_MAX && !*self.stopped.borrow() {
            windows.push(window);
        }
    }
}

/// A take or a delivery that is under way.
pub(crate) struct Outstanding(Arc<latest::Sender<usize>>);

impl Outstanding {
    fn new(count: &Arc<latest::Sender<usize>>) -> Outstanding {
        count.send_modify(|count| *count += 1);
        Outstanding(Arc::clone(count))
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// A queue at a path, of values that are written as JSON. Cheap to clone: clones share what a
/// consumer has to know, and are shut down together.
///
/// It outlives sessions: only deliveries belong to one.
pub struct Queue<T> {
    core: Arc<Core>,
    value: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        Queue { core: Arc::clone(&self.core), value: PhantomData }
    }
}

impl<T> std::fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("path", &self.core.path).finish_non_exhaustive()
    }
}

impl<T> Queue<T> {
    /// The queue at `path`, made if it is missing: done when the builder is awaited.
    pub fn open(client: &Client, path: impl IntoPath) -> OpenQueue<T> {
        OpenQueue {
            client: client.clone(),
            path: path.into_path(),
            settings: Settings {
                attempts_max: ATTEMPTS_MAX,
                backoff: BACKOFF,
                dedup_window: DEDUP_WINDOW,
            },
            bound: None,
            value: PhantomData,
        }
    }

    /// The path of the queue.
    pub fn path(&self) -> &Path {
        &self.core.path
    }

    /// Ends consuming in good order: from now on every `take` of this handle and its clones yields
    /// `None`, also one that waits; this returns when their deliveries have ended.
    ///
    /// Cancelling it stops waiting; takes yield `None` all the same.
    pub async fn shutdown(&self) {
        self.core.stopped.send_replace(true);
        self.core.windows.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let mut outstanding = self.core.outstanding.subscribe();
        // The sender is this queue's own, so that it does not go meanwhile.
        let _ = outstanding.wait_for(|count| *count == 0).await;
    }
}

/// Options of a queue; opens it when awaited. Made by [`Queue::open`].
#[must_use = "a queue is opened when this is awaited"]
pub struct OpenQueue<T> {
    client: Client,
    path: Result<Path, ClientError>,
    settings: Settings,
    bound: Option<(u64, Full)>,
    value: PhantomData<fn(T) -> T>,
}

impl<T: Send + 'static> OpenQueue<T> {
    /// How many attempts an item has (5): a delivery that is given back after the last one, or
    /// lost, puts it to the dead letters.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings.attempts_max = attempts;
        self
    }

    /// The pause after an item's first failed attempt (1 s). It doubles with each, up to 5
    /// minutes.
    pub fn backoff(mut self, first: Duration) -> Self {
        self.settings.backoff = first;
        self
    }

    /// How long [`dedup`](Put::dedup) remembers an id at least (1 hour); it is twice that at most.
    /// All producers must name the same.
    pub fn dedup_window(mut self, window: Duration) -> Self {
        self.settings.dedup_window = window;
        self
    }

    /// How many items may be in line, and what a put does when there are as many. Each handle
    /// counts now and then, and takes an eighth of the room that is left: with more than eight
    /// producers at a time, what they add meanwhile may pass the bound.
    pub fn max_length(mut self, length: u64, full: Full) -> Self {
        self.bound = Some((length, full));
        self
    }

    async fn run(self) -> Result<Queue<T>, Error> {
        let OpenQueue { client, path, settings, bound, .. } = self;
        let path = path?;
        if settings.attempts_max == 0 {
            let rule = "an item has at least one attempt";
            return Err(ClientError::invalid("attempts", 0, rule).into());
        }
        if settings.dedup_window < Duration::from_secs(1) {
            let rule = "an id is remembered for a second at least";
            let window = format!("{:?}", settings.dedup_window);
            return Err(ClientError::invalid("window of dedup", window, rule).into());
        }
        let ready_path = path.join("ready")?;
        // It stays, so that what is above it is not reaped.
        make_parents(&client, &ready_path).await?;
        match persist!(client.create(&ready_path, b"")) {
            Err(error) if !error.is(Code::NodeExists) => return Err(error.into()),
            _ => {}
        }
        let lane = |priority| Ok(Lane::new(ready_path.join(&format!("p{priority}"))?));
        let lanes: Result<Vec<Lane>, ClientError> = (0..=PRIORITY_MAX).map(lane).collect();
        let core = Core {
            lanes: lanes?,
            ready_path,
            delayed: Delayed::new(path.join("delayed")?),
            dead: Lane::new(path.join("dead")?),
            ids: Ids::new(path.join("ids")?),
            clock: ServerClock::new(path.join("clock")?),
            room: bound.map(|(length, full)| Room::new(length, full)),
            windows: Mutex::default(),
            stopped: latest::channel(false).0,
            outstanding: Arc::new(latest::channel(0).0),
            client,
            path,
            settings,
        };
        Ok(Queue { core: Arc::new(core), value: PhantomData })
    }
}

impl<T: Send + 'static> IntoFuture for OpenQueue<T> {
    type Output = Result<Queue<T>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_bound() {
        let settings = Settings { attempts_max: 99, backoff: BACKOFF, dedup_window: DEDUP_WINDOW };
        let seconds = |attempt| settings.backoff_of(attempt).as_secs();
        assert_eq!([1, 2, 3, 9, 10, 99].map(seconds), [1, 2, 4, 256, 300, 300]);
    }
}
