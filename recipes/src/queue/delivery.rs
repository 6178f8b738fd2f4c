//! An item in the hands of a consumer, and the ways in which it leaves them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use synod_core::client::{Session, Txn};
use synod_core::model::{Acl, Code, CreateMode, Error as ClientError, Path, Zxid};
use tokio::time::Instant;

use super::claim::Claim;
use super::clock::millis;
use super::item::Item;
use super::{Core, Outstanding, Shelf};
use crate::error::{Error, Loss, LossReason};

/// How often the place for an item may be found swept away by others before it is given up.
const PLACES_MAX: usize = 16;

/// Where an item goes that was not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Nacked {
    /// It can be taken again at once.
    Ready,
    /// It can be taken again after that time.
    In(Duration),
    /// It had its last attempt, and lies with the dead letters.
    Dead,
}

/// How a delivery ends.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Done,
    Again,
    Later { due_ms: i64 },
    Bury,
}

/// An item that this consumer works on. It dereferences to the value.
///
/// The claim on it dies with the session: then [`lost`](Delivery::lost) resolves, and another
/// consumer gets the item. **Dropping** a delivery lets the item go at once, in the background;
/// the attempt counts. Whatever the work writes elsewhere should carry the
/// [`token`](Delivery::token), or be written by [`ack_with`](Delivery::ack_with).
#[must_use = "a delivery that is dropped is delivered again"]
pub struct Delivery<T> {
    value: T,
    claimed: Box<Claimed>,
}

/// A delivery without its value.
pub(crate) struct Claimed {
    pub(crate) core: Arc<Core>,
    pub(crate) claim: Box<Claim>,
    pub(crate) item: Item,
    /// Of the item's znode.
    pub(crate) version: i32,
    /// This one included.
    pub(crate) attempt: u32,
    pub(crate) _outstanding: Outstanding,
}

impl<T> Delivery<T> {
    pub(crate) fn new(value: T, claimed: Box<Claimed>) -> Delivery<T> {
        Delivery { value, claimed }
    }

    /// What was put.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The item's id: the same in every attempt.
    pub fn id(&self) -> &str {
        &self.claimed.item.head.id
    }

    /// Which attempt this is, from 1. An attempt is counted when it begins, so that an item that
    /// kills its consumers comes to its end too.
    pub fn attempt(&self) -> u32 {
        self.claimed.attempt
    }

    /// The priority that it was put with.
    pub fn priority(&self) -> u8 {
        self.claimed.item.head.priority
    }

    /// The fencing token: greater than that of every earlier delivery of this item.
    pub fn token(&self) -> Zxid {
        self.claimed.claim.token()
    }

    /// The item's znode.
    pub fn path(&self) -> &Path {
        self.claimed.claim.item()
    }

    /// The session that the claim hangs on.
    pub fn session(&self) -> Session {
        self.claimed.claim.client().session()
    }

    /// Until when the session lives at least; see [`Session::valid_until`].
    pub fn valid_until(&self) -> Instant {
        self.session().valid_until()
    }

    /// Waits until the claim is lost: the session is over, or somebody removed the claim. Then
    /// another consumer may have the item. Cancelling it changes nothing.
    pub async fn lost(&self) -> Loss {
        self.claimed.claim.lost().await
    }

    /// Finishes the item: it is gone when this returns.
    ///
    /// A reply that is lost is asked about, so that success is certain. Cancelling it leaves the
    /// item finished or let go.
    ///
    /// # Errors
    /// [`Error::Lost`]: the claim was lost before, and the item is delivered again;
    /// [`Error::Client`], then it may have been finished if
    /// [`maybe_applied`](Error::maybe_applied) says so.
    pub async fn ack(self) -> Result<(), Error> {
        self.claimed.end(Turn::Done, None, |txn| txn).await
    }

    /// Finishes the item together with operations of the application: all of it is done, or
    /// nothing. `operations` may be called more than once.
    ///
    /// # Errors
    /// As [`ack`](Delivery::ack). If an operation is refused nothing is done, and the item is
    /// still in these hands.
    pub async fn ack_with(&self, operations: impl Fn(Txn) -> Txn) -> Result<(), Error> {
        self.claimed.end(Turn::Done, None, operations).await
    }

    /// Gives the item back: it is delivered again after a back-off that doubles with each attempt
    /// ([`backoff`](super::OpenQueue::backoff)), or goes to the dead letters after its last one
    /// ([`max_attempts`](super::OpenQueue::max_attempts)). The reason is kept with it.
    ///
    /// # Errors
    /// As [`ack`](Delivery::ack).
    pub async fn nack(self, reason: impl fmt::Display) -> Result<Nacked, Error> {
        let delay = self.claimed.core.settings.backoff_of(self.claimed.attempt);
        self.nack_in(delay, reason).await
    }

    /// As [`nack`](Delivery::nack), after that time instead. After its last attempt the item goes
    /// to the dead letters all the same.
    ///
    /// # Errors
    /// As [`ack`](Delivery::ack).
    pub async fn nack_in(
        self,
        delay: Duration,
        reason: impl fmt::Display,
    ) -> Result<Nacked, Error> {
        let Claimed { core, claim, attempt, .. } = &*self.claimed;
        let reason = reason.to_string();
        let (turn, nacked) = if *attempt >= core.settings.attempts_max {
            (Turn::Bury, Nacked::Dead)
        } else if delay.is_zero() {
            (Turn::Again, Nacked::Ready)
        } else {
            let now_ms = core.clock.now_ms(claim.client()).await?;
            let due_ms = now_ms.saturating_add(millis(delay));
            (Turn::Later { due_ms }, Nacked::In(delay))
        };
        self.claimed.end(turn, Some(&reason), |txn| txn).await?;
        Ok(nacked)
    }

    /// Puts the item to the dead letters, whatever attempt this is.
    ///
    /// # Errors
    /// As [`ack`](Delivery::ack).
    pub async fn reject(self, reason: impl fmt::Display) -> Result<(), Error> {
        self.claimed.bury(&reason.to_string()).await
    }
}

impl<T> Deref for Delivery<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Delivery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("path", self.path())
            .field("attempt", &self.attempt())
            .field("token", &self.token())
            .field("value", &self.value)
            .finish()
    }
}

impl Claimed {
    pub(crate) async fn bury(&self, reason: &str) -> Result<(), Error> {
        self.end(Turn::Bury, Some(reason), |txn| txn).await
    }

    /// The item as it is written where it goes.
    fn moved(&self, turn: Turn, reason: Option<&str>) -> Result<Vec<u8>, Error> {
        let mut item = self.item.clone();
        // The new znode counts its own claims from 0; one that stays goes on counting.
        if !matches!(turn, Turn::Again) {
            item.head.attempts = self.attempt;
        }
        match reason {
            Some(reason) => item.because(reason).rewrite(),
            None => item.rewrite(),
        }
    }

    /// One transaction: the claim goes, and the item goes where it has to.
    async fn end(
        &self,
        turn: Turn,
        reason: Option<&str>,
        operations: impl Fn(Txn) -> Txn,
    ) -> Result<(), Error> {
        let Claimed { core, claim, version, .. } = self;
        let (client, mode) = (claim.client(), CreateMode::PersistentSequential);
        let mut places = 0;
        loop {
            let begun = operations(client.txn().delete(claim.path()));
            let txn = match turn {
                Turn::Done => begun.delete_at(claim.item(), *version),
                Turn::Again => begun.set_at(claim.item(), self.moved(turn, reason)?, *version),
                Turn::Later { due_ms } => {
                    let place = core.delayed.place(client, due_ms).await?;
                    let begun = begun.delete_at(claim.item(), *version);
                    begun.create_as(place, self.moved(turn, reason)?, mode, Acl::open())
                }
                Turn::Bury => {
                    let place = core.dead.place(client, &self.item.head.id).await?;
                    let begun = begun.delete_at(claim.item(), *version);
                    begun.create_as(place, self.moved(turn, reason)?, mode, Acl::open())
                }
            };
            match txn.commit().await {
                Ok(results) => {
                    claim.settled();
                    if let Turn::Bury = turn {
                        core.created(client, Shelf::Dead, &results).await;
                    }
                    return Ok(());
                }
                Err(ClientError::ConnectionLost { maybe_applied: false, .. }) => {}
                Err(ClientError::ConnectionLost { .. }) => {
                    if claim.stands().await.map_err(Error::in_doubt)? {
                        continue;
                    }
                    let done = matches!(turn, Turn::Again)
                        || claim.item_is_gone().await.map_err(Error::in_doubt)?;
                    claim.settled();
                    return match done {
                        true => Ok(()),
                        false => Err(claim.loss(LossReason::Removed).into()),
                    };
                }
                Err(ClientError::Refused { index: Some(0), code: Code::NoNode, .. }) => {
                    claim.settled();
                    return Err(claim.loss(LossReason::Removed).into());
                }
                // The place was swept away.
                Err(error)
                    if error.is(Code::NoNode)
                        && matches!(turn, Turn::Later { .. } | Turn::Bury)
                        && places < PLACES_MAX =>
                {
                    places += 1;
                    core.dead.forget();
                }
                Err(ClientError::SessionOver { end, maybe_applied: false, .. }) => {
                    return Err(claim.loss(LossReason::SessionOver(end)).into());
                }
                Err(ClientError::Refused { request, path, code, rule, index }) => {
                    // Counted as the caller counts them.
                    let index = index.map(|index| index.saturating_sub(1));
                    return Err(ClientError::Refused { request, path, code, rule, index }.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
