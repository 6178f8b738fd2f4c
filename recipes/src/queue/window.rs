//! What a consumer knows of the head of the queue, and keeps up to date by watches.
//!
//! It holds the first items that nobody works on, as far as is known: listed once, a bucket at a
//! time, then told by events. A consumer that is alone takes the very first. Where others are
//! quicker it looks a little further back, so that they do not all reach for the same item.

use std::collections::BTreeSet;

use synod_core::client::{Client, Notice, Watch};
use synod_core::model::{Event, EventKind, Path};

use super::Core;
use super::claim::CLAIM;
use super::delayed::due_of;
use super::item::PRIORITY_MAX;
use super::lane::{Key, bucket_name, bucket_of, sequence_of};
use crate::error::Error;

/// A listing goes on to the next bucket until it has found so many items.
const LISTED_MIN: usize = 200;

/// Most items that are remembered: those behind are listed again when their turn comes.
const REMEMBERED_MAX: usize = 4_000;

/// How far back a consumer may reach where others are quicker.
const SPREAD_MAX: usize = 64;

/// When the first delayed item is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// It has to be looked up.
    Unknown,
    Never,
    At(i64),
}

pub(crate) struct Window {
    /// Pinned: watches and claims are of one session.
    pub(crate) client: Client,
    ready: Watch,
    delayed: Watch,
    ready_path: Path,
    items: BTreeSet<Key>,
    /// From there on (rank and bucket) nothing is known; `None` when all is known.
    unknown_from: Option<(u8, u64)>,
    pub(crate) due: Due,
    spread: usize,
}

/// What an event tells of an item.
enum News {
    Free(Key),
    Taken(Key),
}

impl Window {
    pub(crate) async fn open(core: &Core) -> Result<Window, Error> {
        let client = core.client.pin().await?;
        let ready = client.watch(&core.ready_path).recursive().await?;
        let delayed = client.watch(core.delayed.path()).recursive().await?;
        Ok(Window {
            client,
            ready,
            delayed,
            ready_path: core.ready_path.clone(),
            items: BTreeSet::new(),
            unknown_from: Some((0, 0)),
            due: Due::Unknown,
            spread: 1,
        })
    }

    /// Whether its session goes on.
    pub(crate) fn is_alive(&self) -> bool {
        self.client.session().end().is_none()
    }

    /// Whether nothing is left that could be had, or listed.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.items.is_empty() && self.unknown_from.is_none()
    }

    /// Everything has to be looked up anew.
    pub(crate) fn forget(&mut self) {
        self.items.clear();
        self.unknown_from = Some((0, 0));
        self.due = Due::Unknown;
    }

    /// An item to try.
    pub(crate) fn candidate(&self) -> Option<&Key> {
        let reach = self.spread.min(self.items.len());
        let place = match reach {
            0 | 1 => 0,
            _ => (self.client.random_id().as_u128() % reach as u128) as usize,
        };
        self.items.iter().nth(place)
    }

    /// The item was had or is gone.
    pub(crate) fn took(&mut self, key: &Key) {
        self.items.remove(key);
        self.spread = self.spread.saturating_sub(1).max(1);
    }

    /// Somebody else was quicker.
    pub(crate) fn missed(&mut self, key: &Key) {
        self.items.remove(key);
        self.spread = (2 * self.spread).min(SPREAD_MAX);
    }

    pub(crate) fn path_of(&self, key: &Key) -> Result<Path, Error> {
        let lane = self.ready_path.join(&format!("p{}", PRIORITY_MAX - key.rank))?;
        Ok(lane.join(&bucket_name(key.bucket))?.join(&key.name)?)
    }

    /// Takes in what has been told so far, without waiting.
    pub(crate) fn catch_up(&mut self) {
        use futures::FutureExt;
        while let Some(Some(notice)) = self.ready.next().now_or_never() {
            self.on_ready(&notice);
        }
        while let Some(Some(notice)) = self.delayed.next().now_or_never() {
            self.on_delayed(&notice);
        }
    }

    /// Waits until something is told; `false` when the session is over.
    pub(crate) async fn changed(&mut self) -> bool {
        tokio::select! {
            biased;
            notice = self.ready.next() => match notice {
                Some(notice) => self.on_ready(&notice),
                None => return false,
            },
            notice = self.delayed.next() => match notice {
                Some(notice) => self.on_delayed(&notice),
                None => return false,
            },
        }
        true
    }

    fn on_delayed(&mut self, notice: &Notice) {
        let Notice::Event(event) = notice else {
            self.due = Due::Unknown;
            return;
        };
        let name = event.path.rsplit('/').next().unwrap_or_default();
        if let (EventKind::Created, Some(due_ms)) = (event.kind, due_of(name)) {
            self.due = match self.due {
                Due::Never => Due::At(due_ms),
                Due::At(first_ms) => Due::At(first_ms.min(due_ms)),
                Due::Unknown => Due::Unknown,
            };
        }
    }

    fn on_ready(&mut self, notice: &Notice) {
        let Notice::Event(event) = notice else {
            self.forget();
            return;
        };
        match self.read(event) {
            Some(News::Free(key)) => {
                let known = self.unknown_from.is_none_or(|from| (key.rank, key.bucket) < from);
                if known {
                    self.items.insert(key);
                    self.trim();
                }
            }
            Some(News::Taken(key)) => {
                self.items.remove(&key);
            }
            None => {}
        }
    }

    fn read(&self, event: &Event) -> Option<News> {
        let below = event.path.strip_prefix(self.ready_path.as_str())?.strip_prefix('/')?;
        let mut parts = below.split('/');
        let priority: u8 = parts.next()?.strip_prefix('p')?.parse().ok()?;
        let rank = PRIORITY_MAX.checked_sub(priority)?;
        let bucket = bucket_of(parts.next()?)?;
        let name = parts.next()?;
        let key = Key { rank, bucket, sequence: sequence_of(name)?, name: name.to_owned() };
        let of_claim = match parts.next() {
            None => false,
            Some(CLAIM) => true,
            Some(_) => return None,
        };
        match (event.kind, of_claim) {
            (EventKind::Created, false) | (EventKind::Deleted, true) => Some(News::Free(key)),
            (EventKind::Deleted, false) | (EventKind::Created, true) => Some(News::Taken(key)),
            _ => None,
        }
    }

    /// Forgets whole buckets at the end while there is too much, but never the first.
    fn trim(&mut self) {
        while self.items.len() > REMEMBERED_MAX {
            let (Some(first), Some(last)) = (self.items.first(), self.items.last()) else { return };
            let (rank, bucket) = (last.rank, last.bucket);
            if (first.rank, first.bucket) == (rank, bucket) {
                return;
            }
            let from = Key { rank, bucket, sequence: i64::MIN, name: String::new() };
            drop(self.items.split_off(&from));
            self.unknown_from = Some((rank, bucket));
        }
    }

    /// Lists on, from where it ended: bucket by bucket until there is enough.
    pub(crate) async fn list_on(&mut self, core: &Core) -> Result<(), Error> {
        let Some(from) = self.unknown_from else { return Ok(()) };
        for rank in from.0..=PRIORITY_MAX {
            let lane = core.lane(PRIORITY_MAX - rank);
            let buckets = lane.buckets(&self.client).await?;
            let last = buckets.last().copied();
            for bucket in buckets.into_iter().filter(|bucket| (rank, *bucket) >= from) {
                if self.items.len() >= LISTED_MIN {
                    self.unknown_from = Some((rank, bucket));
                    return Ok(());
                }
                let items = lane.items(&self.client, bucket).await?;
                if items.is_empty() && Some(bucket) != last {
                    lane.sweep(&self.client, bucket).await?;
                }
                let key = |(sequence, name)| Key { rank, bucket, sequence, name };
                self.items.extend(items.into_iter().map(key));
                // Before the next await: what is told of this bucket from now on counts.
                self.unknown_from = Some((rank, bucket.saturating_add(1)));
            }
            self.unknown_from = Some((rank + 1, 0));
        }
        self.unknown_from = None;
        Ok(())
    }
}
