//! Looking at a queue without taking from it.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use synod_core::model::{Code, Path};

use super::Queue;
use super::item::{Item, PRIORITY_MAX, claims_of};
use crate::error::Error;
use crate::znodes::persist;

/// How many items there are where. They are counted one folder after the other, so that items
/// that move meanwhile may be counted twice or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Items in line, those that are worked on included, by priority.
    pub ready: BTreeMap<u8, u64>,
    /// Of them, those that are worked on.
    pub claimed: u64,
    /// Items whose time has not come.
    pub delayed: u64,
    /// Dead letters.
    pub dead: u64,
}

impl Stats {
    /// Items in line, of every priority.
    pub fn length(&self) -> u64 {
        self.ready.values().sum()
    }
}

/// An item that was looked at.
#[derive(Clone, Debug)]
pub struct Peeked<T> {
    /// Its id.
    pub id: String,
    /// Its znode.
    pub path: Path,
    /// The priority that it was put with.
    pub priority: u8,
    /// How many attempts it has had; one that is under way counts.
    pub attempts: u32,
    /// Whether somebody works on it.
    pub claimed: bool,
    /// Why the last attempt failed, if one did.
    pub reason: Option<String>,
    /// When it got in line, in milliseconds since the Unix epoch, by the coordinator's clock.
    pub since_ms: i64,
    /// What was put, or why it cannot be decoded.
    pub value: Result<T, String>,
}

impl<T: DeserializeOwned> Queue<T> {
    /// The first items in line, at most `limit`, in the order in which they are taken.
    ///
    /// # Errors
    /// [`Error::Client`].
    pub async fn peek(&self, limit: usize) -> Result<Vec<Peeked<T>>, Error> {
        let client = self.core.client.pin().await?;
        let mut peeked = Vec::new();
        for priority in (0..=PRIORITY_MAX).rev() {
            let lane = self.core.lane(priority);
            for bucket in lane.buckets(&client).await? {
                for (_, name) in lane.items(&client, bucket).await? {
                    if peeked.len() == limit {
                        return Ok(peeked);
                    }
                    let path = lane.bucket_path(bucket)?.join(&name)?;
                    let (data, stat) = match persist!(client.get(&path)) {
                        Err(error) if error.is(Code::NoNode) => continue,
                        read => read?,
                    };
                    let item = Item::read(&data);
                    peeked.push(Peeked {
                        value: item.value(),
                        id: item.head.id,
                        path,
                        priority,
                        attempts: item.head.attempts.saturating_add(claims_of(&stat)),
                        claimed: stat.children > 0,
                        reason: item.head.reason,
                        since_ms: stat.ctime_ms,
                    });
                }
            }
        }
        Ok(peeked)
    }
}

impl<T> Queue<T> {
    /// How many items there are where. They are counted one place after the other: one that moves
    /// meanwhile may be counted twice, or nowhere.
    ///
    /// It costs a request for each thousand items.
    ///
    /// # Errors
    /// [`Error::Client`].
    pub async fn stats(&self) -> Result<Stats, Error> {
        let core = &self.core;
        let client = core.client.pin().await?;
        let mut stats = Stats::default();
        for priority in 0..=PRIORITY_MAX {
            let lane = core.lane(priority);
            let below = match persist!(client.descendant_count(lane.path())) {
                Err(error) if error.is(Code::NoNode) => continue,
                below => u64::from(below?),
            };
            let buckets = lane.buckets(&client).await?.len() as u64;
            let items = lane.count(&client).await?;
            stats.claimed += below.saturating_sub(buckets + items);
            if items > 0 {
                stats.ready.insert(priority, items);
            }
        }
        stats.delayed = core.delayed.count(&client).await?;
        stats.dead = core.dead.count(&client).await?;
        Ok(stats)
    }
}
