//! What happens to a cache, as a stream.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::stream::{BoxStream, Stream, StreamExt};
use synod_core::model::Zxid;

use super::shared::{Published, Shared};
use super::{Node, Snapshot};

/// What happens to a cache.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CacheEvent {
    /// There is such a znode.
    Created(Arc<Node>),
    /// A znode was set, or deleted and created again (then `czxid` differs).
    Changed {
        /// As it was.
        old: Arc<Node>,
        /// As it is.
        new: Arc<Node>,
    },
    /// A znode was deleted; this is what it was.
    Deleted(Arc<Node>),
    /// All that was to tell has been told: the events so far add up to what the subtree was at
    /// this zxid. The first one says that the cache is initialized, even when it is empty.
    Current(Zxid),
    /// What it has become since is not known for the moment; `Current` follows when it is.
    Uncertain,
}

/// What happens to a cache: a stream of [`CacheEvent`]s. Made by
/// [`Cache::events`](super::Cache::events).
pub struct CacheEvents {
    events: BoxStream<'static, CacheEvent>,
}

struct Teller {
    shared: Arc<Shared>,
    /// What the events so far add up to.
    told: Arc<Snapshot>,
    /// Whether `Current` was told last of the two.
    current: bool,
    /// Whether it was ever told.
    begun: bool,
    telling: VecDeque<CacheEvent>,
}

impl CacheEvents {
    pub(super) fn of(shared: Arc<Shared>) -> CacheEvents {
        let (told, telling) = (Arc::default(), VecDeque::new());
        let teller = Teller { shared, told, current: false, begun: false, telling };
        let events = futures::stream::unfold(teller, async |mut teller| {
            let event = teller.next().await?;
            Some((event, teller))
        });
        CacheEvents { events: events.boxed() }
    }
}

impl Teller {
    async fn next(&mut self) -> Option<CacheEvent> {
        loop {
            if let Some(event) = self.telling.pop_front() {
                return Some(event);
            }
            let news = |now: &Published| {
                let changed = !Arc::ptr_eq(&now.snapshot, &self.told);
                now.initialized && (changed || self.current == now.state.is_uncertain())
            };
            let now = self.shared.until(news).await?;
            self.tell(&now);
        }
    }

    /// Tells the difference between what was told and what there is: deletions first, children
    /// before their parents; then the others, parents before their children.
    fn tell(&mut self, now: &Published) {
        let telling = &mut self.telling;
        let mut others = Vec::new();
        self.told.diff(&now.snapshot, |old, new| match (old.cloned(), new.cloned()) {
            (Some(old), Some(new)) => others.push(CacheEvent::Changed { old, new }),
            (Some(old), None) => telling.push_front(CacheEvent::Deleted(old)),
            (None, Some(new)) => others.push(CacheEvent::Created(new)),
            (None, None) => {}
        });
        telling.extend(others);
        self.told = Arc::clone(&now.snapshot);
        let uncertain = now.state.is_uncertain();
        let again = !uncertain && !self.current;
        let added_up = !telling.is_empty() || !self.begun || again;
        if added_up {
            telling.push_back(CacheEvent::Current(now.snapshot.zxid()));
        }
        if uncertain && (added_up || self.current) {
            telling.push_back(CacheEvent::Uncertain);
        }
        (self.current, self.begun) = (!uncertain, true);
    }
}

impl Stream for CacheEvents {
    type Item = CacheEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<CacheEvent>> {
        self.events.poll_next_unpin(context)
    }
}

impl fmt::Debug for CacheEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheEvents").finish_non_exhaustive()
    }
}
