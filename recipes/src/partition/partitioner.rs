//! The partitioner itself: which items it takes part in, and the stream of what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{Stream, StreamExt};
use synod_core::client::{Client, IntoPath};
use synod_core::model::{Error as ClientError, Path};
use tokio::sync::{mpsc, oneshot, watch as latest};
use tracing::debug;

use super::member::{Member, View};
use super::ring::{HashRing, WEIGHT_MAX};
use super::tend::Tend;
use crate::error::{Error, Loss};
use crate::guard::{Guard, Released};
use crate::membership::Group;
use crate::telemetry::PARTITION;

/// Most items of one partitioner: a member that is left alone holds them all in one session.
pub const ITEMS_MAX: usize = 16_384;

/// Most events that wait to be asked for. Whatever has more to tell waits.
const EVENTS_MAX: usize = 1_024;

/// Divides items among the members that live. Cheap to clone.
///
/// All members are to name the same items; one that nobody names is nobody's.
#[derive(Clone, Debug)]
pub struct Partitioner {
    client: Client,
    group: Group,
    /// Below it each item has its lock.
    locks: Path,
    items: Arc<BTreeSet<Arc<str>>>,
    weight: u32,
}

impl Partitioner {
    /// A partitioner of these items, at `path`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Client`] if the path or an item is not valid (an item is one part of a path), or
    /// there are more than [`ITEMS_MAX`] of them.
    pub fn new<I: AsRef<str>>(
        client: &Client,
        path: impl IntoPath,
        items: impl IntoIterator<Item = I>,
    ) -> Result<Partitioner, Error> {
        let path = path.into_path()?;
        let (group, locks) = (Group::new(client, path.join("members")?)?, path.join("items")?);
        let mut all = BTreeSet::new();
        for item in items {
            let item = item.as_ref();
            locks.join(item)?;
            all.insert(Arc::from(item));
            if all.len() > ITEMS_MAX {
                let rule = "a partitioner has at most 16384 items";
                return Err(ClientError::invalid("items", all.len(), rule).into());
            }
        }
        Ok(Partitioner { client: client.clone(), group, locks, items: Arc::new(all), weight: 1 })
    }

    /// A partitioner of the items `"0"`, `"1"`, … below `count`.
    ///
    /// # Errors
    /// As [`new`](Partitioner::new).
    pub fn numbered(
        client: &Client,
        path: impl IntoPath,
        count: u32,
    ) -> Result<Partitioner, Error> {
        Partitioner::new(client, path, (0..count).map(|number| number.to_string()))
    }

    /// The weight to take part with: a member of 2 gets about twice as many items as one of 1, and
    /// one of 0 gets none. It is 1 by default.
    ///
    /// # Errors
    /// [`Error::Client`] if it is above [`WEIGHT_MAX`](super::WEIGHT_MAX).
    pub fn with_weight(self, weight: u32) -> Result<Partitioner, Error> {
        match weight {
            0..=WEIGHT_MAX => Ok(Partitioner { weight, ..self }),
            _ => Err(ClientError::invalid("weight", weight, "a weight is 0 to 100").into()),
        }
    }

    /// Who takes part, by name.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Takes part under `name`, as soon as the stream is asked for events.
    ///
    /// Names are to be unique. A process that is restarted under its name gets the same items; of
    /// two members under one name the one that came last has them.
    ///
    /// # Errors
    /// [`Error::Client`] if the name is not valid (it is one part of a path).
    pub fn join(&self, name: &str) -> Result<Partitions, Error> {
        self.locks.join(name)?;
        let name: Arc<str> = Arc::from(name);
        let member =
            Member::new(self.client.clone(), self.group.clone(), name.clone(), self.weight);
        let (tell, events) = mpsc::channel(EVENTS_MAX);
        Ok(Partitions {
            name,
            locks: self.locks.clone(),
            items: self.items.clone(),
            views: Some(member.views()),
            tended: FuturesUnordered::new(),
            wanted: BTreeMap::new(),
            tell,
            events,
        })
    }
}

/// An item that is held: a [`Guard`] of its own, with a token of its own.
///
/// **Dropping** it gives the item up, in the background; [`release`](Partition::release) waits for
/// the confirmation. One that is given up unasked, while the item is still this member's, is
/// assigned again after a second.
#[must_use = "a partition that is dropped is given up"]
#[derive(Debug)]
pub struct Partition {
    // The first, so that it is known to be given up before its znode goes.
    pub(super) dropped: oneshot::Sender<()>,
    pub(super) item: Arc<str>,
    pub(super) guard: Guard,
    pub(super) revoked: latest::Receiver<bool>,
}

impl Partition {
    /// The item.
    pub fn item(&self) -> &str {
        &self.item
    }

    /// Waits until the item is another's: finish what you are at, and release. The other waits for
    /// it, as long as it takes. It is held until then, so that [`lost`](Guard::lost) does not
    /// resolve. It resolves, too, when the [`Partitions`] leave or are dropped.
    ///
    /// Cancelling it changes nothing.
    pub async fn revoked(&self) {
        // An error: there is nobody who could revoke it any more.
        let _ = self.revoked.clone().wait_for(|revoked| *revoked).await;
    }

    /// Gives the item up, and waits until that is confirmed: the next owner holds it then.
    ///
    /// Cancelling it leaves that to the background.
    ///
    /// # Errors
    /// As [`Guard::release`].
    pub async fn release(self) -> Result<Released, Error> {
        let Partition { dropped, guard, .. } = self;
        drop(dropped);
        guard.release().await
    }
}

impl Deref for Partition {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.guard
    }
}

/// What a member is told.
#[derive(Debug)]
#[non_exhaustive]
pub enum PartitionEvent {
    /// An item is held, from now on until the partition is dropped or lost.
    Assigned(Partition),
    /// An item is another's by now: drop or release its partition when it can be handed over. The
    /// other gets it then, and not before.
    Revoked {
        /// Which.
        item: Arc<str>,
    },
    /// An item is held no longer, and may be another's already. Drop its partition: it is not
    /// assigned again before.
    Lost {
        /// Which.
        item: Arc<str>,
        /// How.
        loss: Loss,
    },
    /// Something was refused. It is tried again, every second.
    Failed {
        /// The item whose lock could not be had; `None`: the group could not be joined.
        item: Option<Arc<str>>,
        /// Why.
        error: Error,
    },
}

/// What one member has: a stream of [`PartitionEvent`]s. Made by [`Partitioner::join`].
///
/// Everything happens while it is asked for the next event, and only then: keep asking, in a loop,
/// and do the work elsewhere. It goes on over broken connections and expired sessions: the
/// partitions of a session that is over are lost, and the member takes part again in the next one.
/// It ends when the client is closed, or after [`leave`](Partitions::leave), once every partition
/// has been dropped.
///
/// **Dropping** it leaves the group, in the background. Partitions that are held stay held until
/// they are dropped, and are [`revoked`](Partition::revoked).
#[must_use = "a member that is dropped takes no part"]
pub struct Partitions {
    name: Arc<str>,
    locks: Path,
    items: Arc<BTreeSet<Arc<str>>>,
    /// `None`: takes no part any more.
    views: Option<BoxStream<'static, View>>,
    tended: FuturesUnordered<BoxFuture<'static, Arc<str>>>,
    /// An item that is tended has an entry.
    wanted: BTreeMap<Arc<str>, latest::Sender<Option<Client>>>,
    tell: mpsc::Sender<PartitionEvent>,
    events: mpsc::Receiver<PartitionEvent>,
}

impl Partitions {
    /// The next event; `None` when there will be none.
    ///
    /// Cancelling it loses nothing.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub async fn next(&mut self) -> Option<PartitionEvent> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// Leaves the group, so that its items are the others', and revokes what is held. Go on asking
    /// for events: the stream ends when every partition has been dropped.
    pub fn leave(&mut self) {
        self.views = None;
        self.want_nothing();
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<PartitionEvent>> {
        while let Some(views) = &mut self.views
            && let Poll::Ready(view) = views.poll_next_unpin(context)
        {
            match view {
                Some(View::In(client, weights)) => self.want(&client, &weights),
                Some(View::Out) => self.want_nothing(),
                Some(View::Failed(error)) => {
                    self.want_nothing();
                    return Poll::Ready(Some(PartitionEvent::Failed { item: None, error }));
                }
                None => self.leave(),
            }
        }
        while let Poll::Ready(Some(item)) = self.tended.poll_next_unpin(context) {
            self.wanted.remove(&item);
        }
        match self.events.poll_recv(context) {
            Poll::Ready(event) => Poll::Ready(event),
            Poll::Pending if self.views.is_none() && self.tended.is_empty() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    fn want(&mut self, client: &Client, weights: &BTreeMap<String, u32>) {
        let members = weights.iter().map(|(name, &weight)| (name, weight));
        // The weights are within bounds.
        let Ok(ring) = HashRing::of(members) else { return };
        let mut own = 0;
        for item in &*self.items {
            let is_own = ring.owner(&**item) == Some(&*self.name);
            own += usize::from(is_own);
            match self.wanted.get(item) {
                Some(wanted) => set(wanted, is_own.then_some(client)),
                None if is_own => {
                    let (wanted, tend) = latest::channel(Some(client.clone()));
                    self.wanted.insert(item.clone(), wanted);
                    // The item is valid.
                    let Ok(path) = self.locks.join(item) else { continue };
                    let (item, events) = (item.clone(), self.tell.clone());
                    let tend = Tend { item, path: path.clone(), wanted: tend, events };
                    let tend = async move { PARTITION.waiting("tend", &path, tend.run()).await };
                    self.tended.push(tend.boxed());
                }
                None => {}
            }
        }
        debug!(name = &*self.name, members = weights.len(), items = own, "the items are divided");
    }

    fn want_nothing(&self) {
        self.wanted.values().for_each(|wanted| set(wanted, None));
    }
}

/// Says in which session an item is wanted, if that is news.
fn set(wanted: &latest::Sender<Option<Client>>, client: Option<&Client>) {
    let session = |client: &Client| client.session().id();
    wanted.send_if_modified(|known| {
        let news = known.as_ref().map(session) != client.map(session);
        if news {
            *known = client.cloned();
        }
        news
    });
}

impl Stream for Partitions {
    type Item = PartitionEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<PartitionEvent>> {
        self.get_mut().poll_event(context)
    }
}

impl std::fmt::Debug for Partitions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let wanted = self.wanted.keys();
        f.debug_struct("Partitions").field("name", &self.name).field("tended", &wanted).finish()
    }
}
