//! What the handles of a cache share with the task that keeps it up to date.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, info};

use super::Snapshot;
use crate::error::Error;
use crate::subtree::{Asks, Follower, View};

/// Whether a cache is up to date, as far as its client knows.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CacheState {
    /// It is told of changes, and takes them in.
    Current,
    /// What it holds may be behind: it is being read, the connection is broken, or it cannot be
    /// read.
    Uncertain {
        /// Since when.
        since: Instant,
        /// Why, if not for the connection: the coordinator refused it, or the subtree is too large.
        /// It is tried again all the while.
        reason: Option<Error>,
    },
}

impl CacheState {
    pub(super) fn is_uncertain(&self) -> bool {
        matches!(self, CacheState::Uncertain { .. })
    }
}

/// What the cache shows, all of one moment.
#[derive(Clone)]
pub(super) struct Published {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) state: CacheState,
    /// Whether the snapshot is one of the tree: there was a first.
    pub(super) initialized: bool,
    /// How many of those who asked for the newest have it with this.
    pub(super) answered: u64,
}

pub(super) struct Shared {
    pub(super) current: ArcSwap<Published>,
    pub(super) asks: Arc<Asks>,
    changed: Notify,
    /// Nothing more comes: the client is closed, or the last handle is gone.
    ended: AtomicBool,
}

impl Shared {
    pub(super) fn new() -> Shared {
        let state = CacheState::Uncertain { since: Instant::now(), reason: None };
        let (snapshot, initialized, answered) = (Arc::default(), false, 0);
        let published = Published { snapshot, state, initialized, answered };
        Shared {
            current: ArcSwap::from_pointee(published),
            asks: Arc::default(),
            changed: Notify::new(),
            ended: AtomicBool::new(false),
        }
    }

    /// What is shown, as soon as it is `wanted`; `None` when that cannot come any more.
    pub(super) async fn until(
        &self,
        wanted: impl Fn(&Published) -> bool,
    ) -> Option<Arc<Published>> {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before the look, so that no change after it is missed.
            changed.as_mut().enable();
            let ended = self.ended.load(Ordering::Acquire);
            let now = self.current.load_full();
            if wanted(&now) {
                return Some(now);
            }
            if ended {
                return None;
            }
            changed.await;
        }
    }

    fn publish(&self, published: Published) {
        self.current.store(Arc::new(published));
        self.changed.notify_waiters();
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Keeps the cache up to date until the client is closed. Nobody else publishes.
    pub(super) async fn keep(self: Arc<Shared>, mut follower: Follower) {
        let mut snapshot = self.current.load().snapshot.clone();
        loop {
            let view = follower.next(&|path, stat| snapshot.holds(path, stat)).await;
            let cut = match view {
                Some(View::Cut(cut)) => cut,
                Some(View::OutOfSight) => {
                    self.lose_sight(None);
                    continue;
                }
                Some(View::Failed(error)) => {
                    self.lose_sight(Some(error));
                    continue;
                }
                None => break,
            };
            let (whole, answered) = (cut.whole, cut.answered);
            let next = snapshot.at(cut);
            let scope = follower.scope();
            let bounds =
                [("znodes", next.len(), scope.nodes_max), ("bytes", next.bytes(), scope.bytes_max)];
            if let Some((what, _, max)) = bounds.into_iter().find(|(_, is, max)| is > max) {
                self.lose_sight(Some(follower.too_large(what, max)));
                continue;
            }
            if whole {
                let (nodes, zxid) = (next.len(), next.zxid());
                info!(root = %scope.root, nodes, %zxid, "the cache is current");
            }
            snapshot = Arc::new(next);
            let (shown, state) = (Arc::clone(&snapshot), CacheState::Current);
            self.publish(Published { snapshot: shown, state, initialized: true, answered });
        }
        self.lose_sight(None);
        self.end();
    }

    fn lose_sight(&self, reason: Option<Error>) {
        let now = self.current.load_full();
        let since = match &now.state {
            CacheState::Uncertain { since, .. } => *since,
            CacheState::Current => Instant::now(),
        };
        debug!(?reason, "the cache may be behind");
        let state = CacheState::Uncertain { since, reason };
        self.publish(Published { state, ..(*now).clone() });
    }
}
