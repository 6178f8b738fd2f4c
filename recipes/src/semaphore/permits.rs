//! What a semaphore grants.

use std::fmt;
use std::future::Future;

use synod_core::client::{Client, Session};
use synod_core::model::Zxid;
use tokio::time::Instant;

use crate::error::{Error, Loss};
use crate::guard::{Guard, GuardedTxn, Released};
use crate::holding::Holding;
use crate::multi_lock::MultiGuard;

/// A slot of a semaphore, and the fencing token under which it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// From 0. It is below the limit that there was when it was granted.
    pub number: u32,
    /// Greater than that of every earlier holder of the slot. It says nothing about other slots:
    /// see [`SlotFences`](crate::fence::SlotFences).
    pub token: Zxid,
}

/// Proof of one or more permits of a semaphore, each with a slot and a token.
///
/// They belong to one session and never outlive it, and cannot be cloned. They are held and lost
/// together: when one of several is gone, all count as lost.
///
/// **Dropping** them releases in the background, and needs no runtime. [`release`](Permits::release)
/// waits for the confirmation. **On session loss** they are lost: [`lost`](Permits::lost) resolves,
/// [`run`](Permits::run) drops the work, guarded transactions are refused.
#[must_use = "permits that are dropped are released"]
pub struct Permits {
    /// One for each slot.
    guards: MultiGuard,
    slots: Vec<Slot>,
}

impl Permits {
    /// Slot and znode of each permit, all created at `token` by the session of `client`.
    pub(super) fn new(client: &Client, token: Zxid, granted: Vec<(u32, Holding)>) -> Permits {
        let (mut slots, mut paths, mut guards) = (Vec::new(), Vec::new(), Vec::new());
        for (number, mut holding) in granted {
            holding.granted(token);
            slots.push(Slot { number, token });
            paths.push(holding.path().clone());
            guards.push(Guard::new(holding));
        }
        Permits { guards: MultiGuard::new(client.clone(), paths, guards), slots }
    }

    /// The slots that are held, each with its token, in their order.
    ///
    /// A slot is a number that nobody else has at the same time: the name of a scratch directory,
    /// an index into a pool of connections, a port.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The session that the permits belong to.
    pub fn session(&self) -> Session {
        self.guards.session()
    }

    /// Waits until a permit is lost: the session is over (expired, closed, or out of reach until
    /// its deadline), or somebody deleted its znode. It resolves at
    /// [`valid_until`](Permits::valid_until) at the latest, even if nobody can be reached.
    ///
    /// Cancelling it changes nothing.
    pub async fn lost(&self) -> Loss {
        self.guards.lost().await
    }

    /// Until when the session lives at least; see [`Session::valid_until`], and
    /// [`Session::deadline_is_proof`] for what that is worth.
    pub fn valid_until(&self) -> Instant {
        self.guards.valid_until()
    }

    /// Does `work` while all the permits are held. If one is lost first, the work is dropped; see
    /// [`Guard::run`](crate::Guard::run).
    ///
    /// Cancelling it drops the work and keeps the permits.
    ///
    /// # Errors
    /// [`Error::Lost`]; [`Error::Client`] when the coordinator refuses to say.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        self.guards.run(work).await
    }

    /// Begins a transaction that is done only while all the permits are held: the coordinator itself
    /// judges that, at the moment of the write.
    pub fn txn(&self) -> GuardedTxn<'_> {
        self.guards.txn()
    }

    /// Releases all the permits, and waits until that is confirmed. While the connection is broken
    /// it waits for it, at most until the session is over. Releasing twice does nothing.
    ///
    /// Cancelling it leaves the rest to the background, as dropping the permits does.
    ///
    /// # Errors
    /// What the first deletion that failed was refused with. The others are released all the same.
    pub async fn release(&self) -> Result<Released, Error> {
        self.guards.release().await
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits").field("slots", &self.slots).finish_non_exhaustive()
    }
}
