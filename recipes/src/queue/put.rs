//! Putting items in.

use std::future::IntoFuture;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Serialize;
use synod_core::client::{Client, Txn};
use synod_core::model::{Acl, Code, CreateMode, Error as ClientError, OpResult, Path};

use super::clock::millis;
use super::ids::Ticket;
use super::item::{Head, Item, PRIORITY_MAX, encode};
use super::{Core, Queue, Shelf};
use crate::error::Error;
use crate::znodes::persist;

/// Most items of one [`put_all`](Queue::put_all).
pub const PUT_ALL_ITEMS_MAX: usize = 1_000;

/// How often the place for an item may be found swept away by others before it is given up.
const PLACES_MAX: usize = 16;

/// What came of a put.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Added {
    /// It is in the queue.
    New {
        /// Its id, which deliveries carry.
        id: String,
    },
    /// An item of that [`dedup`](Put::dedup) id was put within the window: nothing was added.
    Duplicate,
}

/// A put, done when awaited. Made by [`Queue::put`].
#[must_use = "an item is put when this is awaited"]
pub struct Put<'a> {
    core: &'a Core,
    payload: Result<Vec<u8>, Error>,
    priority: u8,
    delay: Duration,
    dedup: Option<String>,
}

impl<T: Serialize> Queue<T> {
    /// Adds an item: at priority 0, to be taken at once, unless the builder says otherwise.
    ///
    /// Cancelling it after its first poll may have added the item.
    ///
    /// # Errors
    /// [`Error::Client`]: if [`maybe_applied`](Error::maybe_applied) says so the item may have
    /// been added, and putting it again may add it twice. With a [`dedup`](Put::dedup) id it is
    /// safe to put it again. [`Error::Full`] for a queue with a bound that refuses.
    pub fn put(&self, value: &T) -> Put<'_> {
        let (priority, delay) = (0, Duration::ZERO);
        Put { core: &self.core, payload: encode(value), priority, delay, dedup: None }
    }

    /// Adds items of priority 0, in their order, all of them or none.
    ///
    /// # Errors
    /// As [`put`](Queue::put); [`Error::Client`] for more than [`PUT_ALL_ITEMS_MAX`] items, or
    /// more than a transaction holds (1 MiB).
    pub async fn put_all<'v>(&self, values: impl IntoIterator<Item = &'v T>) -> Result<(), Error>
    where
        T: 'v,
    {
        let payloads: Result<Vec<_>, _> = values.into_iter().map(encode).collect();
        self.core.put_all(payloads?).await
    }
}

impl Put<'_> {
    /// Items of a higher priority are taken first: 0, the default, to 9.
    pub fn priority(self, priority: u8) -> Self {
        Put { priority, ..self }
    }

    /// It can be taken only after that time, by the coordinator's clock.
    pub fn delay(self, delay: Duration) -> Self {
        Put { delay, ..self }
    }

    /// Adds nothing if an item of the same id was put within the queue's
    /// [`dedup_window`](super::OpenQueue::dedup_window), whatever became of it since. It makes a
    /// put safe to repeat when its outcome was unknown.
    pub fn dedup(self, id: impl Into<String>) -> Self {
        Put { dedup: Some(id.into()), ..self }
    }

    async fn run(self) -> Result<Added, Error> {
        if self.priority > PRIORITY_MAX {
            let rule = "a priority is 0 to 9";
            return Err(ClientError::invalid("priority", self.priority, rule).into());
        }
        let core = self.core;
        let client = core.client.pin().await?;
        let id = client.random_id().simple().to_string();
        let ticket = match &self.dedup {
            Some(dedup) => {
                let now_ms = core.clock.now_ms(&client).await?;
                Some(core.ids.ticket(&client, dedup, now_ms, core.settings.dedup_window).await?)
            }
            None => None,
        };
        core.room(&client, 1).await?;
        let head = Head { id: id.clone(), priority: self.priority, ..Head::default() };
        let item = Item { head, payload: self.payload? };
        let due_ms = match self.delay.is_zero() {
            true => None,
            false => Some(core.clock.now_ms(&client).await?.saturating_add(millis(self.delay))),
        };
        core.put(&client, &item, due_ms, ticket).await
    }
}

impl<'a> IntoFuture for Put<'a> {
    type Output = Result<Added, Error>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl Core {
    async fn put(
        &self,
        client: &Client,
        item: &Item,
        due_ms: Option<i64>,
        ticket: Option<Ticket>,
    ) -> Result<Added, Error> {
        let (id, priority) = (&item.head.id, item.head.priority);
        let lane = self.lane(priority);
        let data = item.write()?;
        let new = || Added::New { id: id.clone() };
        let (mut places, mut asked) = (0, false);
        loop {
            let place = match due_ms {
                Some(due_ms) => self.delayed.place(client, due_ms).await?,
                None => lane.place(client, id).await?,
            };
            let txn = match &ticket {
                Some(ticket) => ticket.add(client.txn(), id),
                None => client.txn(),
            };
            let mode = CreateMode::PersistentSequential;
            match txn.create_as(place.clone(), &data, mode, Acl::open()).commit().await {
                Ok(results) => {
                    if due_ms.is_none() {
                        self.created(client, Shelf::Ready(priority), &results).await;
                    }
                    return Ok(new());
                }
                Err(error) if error.is(Code::NodeExists) => {
                    // Ours, if an earlier attempt was done though no reply said so.
                    let own = match (&ticket, asked) {
                        (Some(ticket), true) => {
                            ticket.is_of(client, id).await.map_err(Error::in_doubt)?
                        }
                        _ => false,
                    };
                    return Ok(if own { new() } else { Added::Duplicate });
                }
                Err(error) if error.is(Code::NoNode) && places < PLACES_MAX => {
                    places += 1;
                    lane.forget();
                    if let Some(ticket) = &ticket {
                        ticket.make(client).await?;
                    }
                }
                Err(ClientError::ConnectionLost { maybe_applied: false, .. }) => {}
                // The id decides.
                Err(ClientError::ConnectionLost { .. }) if ticket.is_some() => asked = true,
                Err(error @ ClientError::ConnectionLost { .. }) => {
                    return match self
                        .is_there(client, &place, lane, id)
                        .await
                        .map_err(Error::in_doubt)?
                    {
                        true => Ok(new()),
                        // Not added, or taken and finished already.
                        false => Err(error.into()),
                    };
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Looks for an item whose put was not answered.
    async fn is_there(
        &self,
        client: &Client,
        place: &Path,
        lane: &super::lane::Lane,
        id: &str,
    ) -> Result<bool, Error> {
        persist!(client.sync())?;
        if lane.find(client, id).await?.is_some() {
            return Ok(true);
        }
        // Delayed: among those that are due in the same second.
        let Some(folder) = place.parent() else { return Ok(false) };
        let names = match persist!(client.children(&folder)) {
            Err(error) if error.is(Code::NoNode) => return Ok(false),
            names => names?,
        };
        for name in names.iter().filter(|name| name.starts_with(place.name())) {
            match persist!(client.get(folder.join(name)?)) {
                Ok((data, _)) if Item::read(&data).head.id == id => return Ok(true),
                Err(error) if !error.is(Code::NoNode) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(false)
    }

    async fn put_all(&self, payloads: Vec<Vec<u8>>) -> Result<(), Error> {
        if payloads.len() > PUT_ALL_ITEMS_MAX {
            let rule = "at most 1000 items are put at once";
            return Err(ClientError::invalid("number of items", payloads.len(), rule).into());
        }
        let client = self.client.pin().await?;
        self.room(&client, payloads.len() as u64).await?;
        let mut items = Vec::with_capacity(payloads.len());
        for payload in payloads {
            let id = client.random_id().simple().to_string();
            let data =
                Item { head: Head { id: id.clone(), ..Head::default() }, payload }.write()?;
            items.push((id, data));
        }
        let Some((last, _)) = items.last() else { return Ok(()) };
        let (lane, mode) = (self.lane(0), CreateMode::PersistentSequential);
        let mut places = 0;
        loop {
            let mut txn: Txn = client.txn();
            for (id, data) in &items {
                txn = txn.create_as(lane.place(&client, id).await?, data, mode, Acl::open());
            }
            match txn.commit().await {
                Ok(results) => {
                    self.created(&client, Shelf::Ready(0), &results).await;
                    return Ok(());
                }
                Err(error) if error.is(Code::NoNode) && places < PLACES_MAX => {
                    places += 1;
                    lane.forget();
                }
                Err(ClientError::ConnectionLost { maybe_applied: false, .. }) => {}
                // The last stays the longest.
                Err(error @ ClientError::ConnectionLost { .. }) => {
                    let found = async {
                        persist!(client.sync())?;
                        lane.find(&client, last).await
                    };
                    return match found.await.map_err(|error| Error::from(error).in_doubt())? {
                        Some(_) => Ok(()),
                        None => Err(error.into()),
                    };
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What has to be done after an item was appended.
    pub(crate) async fn created(&self, client: &Client, shelf: Shelf, results: &[OpResult]) {
        let lane = match shelf {
            Shelf::Ready(priority) => self.lane(priority),
            Shelf::Dead => &self.dead,
        };
        if let Some(OpResult::Created { path, .. }) = results.last()
            && let Ok(path) = Path::new(path.clone())
        {
            lane.appended(client, &path).await;
        }
    }
}
