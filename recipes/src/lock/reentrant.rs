//! A lock that its owner may enter again and again.
//!
//! ```text
//! Reentrant ── clone ── clone      one owner
//!     │ enters    │ enters again
//!   Entry       Entry              share one guard; the last one to exit releases
//! ```

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use synod_core::client::Session;
use synod_core::model::{Path, Zxid};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Lock;
use crate::error::{Error, Loss, LossReason};
use crate::guard::{Guard, GuardedTxn, Released};

/// One owner of a lock, made by [`Lock::reentrant`]. Its clones are the same owner: hand them to the
/// code that belongs together. What a thread or a task is has no say in it.
///
/// The first to enter acquires the lock; whoever enters while it is held shares the holding, and
/// does not wait; the last one to exit releases.
#[derive(Clone, Debug)]
pub struct Reentrant {
    lock: Lock,
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner {
    /// Alive as long as anybody is in.
    guard: Mutex<Weak<Guard>>,
    /// One at a time enters: who is second waits for the first, not for a lock of its own.
    entering: Semaphore,
}

impl Owner {
    fn guard(&self) -> MutexGuard<'_, Weak<Guard>> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lock {
    /// A new owner of the lock that may enter it again while it is in. It excludes every other
    /// owner, also one made of the same `Lock`, and the guards of [`acquire`](Lock::acquire).
    pub fn reentrant(&self) -> Reentrant {
        let owner = Owner { guard: Mutex::default(), entering: Semaphore::new(1) };
        Reentrant { lock: self.clone(), owner: Arc::new(owner) }
    }
}

impl Reentrant {
    /// Enters: at once if this owner is in, else when it is its turn. To enter again asks the
    /// coordinator whether the lock is still held.
    ///
    /// **Cancelling** it, at any moment, leaves nothing behind; of several that wait to be the first
    /// in, another one asks for the lock then, at the end of the line.
    ///
    /// # Errors
    /// [`Error::Lost`] when what this owner is in with is lost, until all have exited: code that
    /// enters again relies on what was done since it entered first. Otherwise as [`Lock::acquire`].
    ///
    /// # Panics
    /// As [`Lock::acquire`].
    pub async fn enter(&self) -> Result<Entry, Error> {
        // It is never closed.
        let _turn = self.owner.entering.acquire().await;
        match self.inside().await? {
            Some(entry) => Ok(entry),
            None => Ok(self.first(self.lock.acquire().await?)),
        }
    }

    /// Enters if this owner is in, or nobody else holds the lock or waits for it; `None` otherwise, or
    /// if this owner is just about to enter.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// As [`enter`](Reentrant::enter).
    pub async fn try_enter(&self) -> Result<Option<Entry>, Error> {
        let Ok(_turn) = self.owner.entering.try_acquire() else { return Ok(None) };
        match self.inside().await? {
            Some(entry) => Ok(Some(entry)),
            None => Ok(self.lock.try_acquire().await?.map(|guard| self.first(guard))),
        }
    }

    /// How many entries of this owner have not exited.
    pub fn entries(&self) -> usize {
        self.owner.guard().strong_count()
    }

    async fn inside(&self) -> Result<Option<Entry>, Error> {
        let Some(guard) = self.owner.guard().upgrade() else { return Ok(None) };
        let entry = Entry { guard };
        if let Some(end) = entry.session().end() {
            return Err(entry.guard.loss(LossReason::SessionOver(end)).into());
        }
        entry.guard.held().await?;
        Ok(Some(entry))
    }

    fn first(&self, guard: Guard) -> Entry {
        let guard = Arc::new(guard);
        *self.owner.guard() = Arc::downgrade(&guard);
        Entry { guard }
    }
}

/// Proof that an owner is in; see [`Reentrant`]. Token, loss and transactions are those of the
/// [`Guard`] that all entries share.
///
/// Dropping the last entry releases in the background, as dropping a guard does.
#[must_use = "an entry that is dropped exits"]
#[derive(Debug)]
pub struct Entry {
    guard: Arc<Guard>,
}

impl Entry {
    /// As [`Guard::token`].
    pub fn token(&self) -> Zxid {
        self.guard.token()
    }

    /// As [`Guard::path`].
    pub fn path(&self) -> &Path {
        self.guard.path()
    }

    /// As [`Guard::session`].
    pub fn session(&self) -> Session {
        self.guard.session()
    }

    /// As [`Guard::lost`]: a loss is seen by all entries.
    pub async fn lost(&self) -> Loss {
        self.guard.lost().await
    }

    /// As [`Guard::revocation_requested`]: a request is seen by all entries.
    ///
    /// # Errors
    /// As [`Guard::revocation_requested`].
    pub async fn revocation_requested(&self) -> Result<(), Loss> {
        self.guard.revocation_requested().await
    }

    /// As [`Guard::valid_until`].
    pub fn valid_until(&self) -> Instant {
        self.guard.valid_until()
    }

    /// As [`Guard::run`].
    ///
    /// # Errors
    /// As [`Guard::run`].
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        self.guard.run(work).await
    }

    /// As [`Guard::txn`].
    pub fn txn(&self) -> GuardedTxn<'_> {
        self.guard.txn()
    }

    /// Exits. The last one releases, and waits until that is confirmed; it is `None` while others
    /// are in.
    ///
    /// Cancelling it leaves the release to the background.
    ///
    /// # Errors
    /// As [`Guard::release`]; the release is left to the background then.
    pub async fn exit(self) -> Result<Option<Released>, Error> {
        match Arc::into_inner(self.guard) {
            Some(guard) => guard.release().await.map(Some),
            None => Ok(None),
        }
    }
}
