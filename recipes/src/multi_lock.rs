//! Several locks at once: all of them or none.
//!
//! ```text
//! /locks/accounts/ann                      the locks are those of `Lock`, each at its own path
//! └── _c_9f1c…-lock-0000000007             held; its czxid is the token for ann
//! /locks/accounts/bob
//! └── _c_40ab…-lock-0000000002             held, or waited for with ann in hand
//! ```
//!
//! 1. Sort the paths: who takes locks in one order never waits in a circle.
//! 2. Acquire one after the other, in one session, by one deadline.
//! 3. If one fails, those before it are released.
//! 4. At last ask in one transaction whether all are held: the first may have been lost while the last
//!    was waited for.
//! 5. Each path has a token of its own; the loss of one lock is the loss of all.

use std::future::Future;
use std::time::Duration;

use futures::future::{join_all, select_all};
use synod_core::client::{Client, IntoPath, Session};
use synod_core::model::{Error as ClientError, Path, Zxid};
use tokio::time::Instant;

use crate::error::{Error, Loss};
use crate::guard::{Guard, GuardedTxn, Released};
use crate::lock::Lock;
use crate::telemetry;

/// Locks at several paths that are acquired together. Cheap to clone. They exclude a
/// [`Lock`] of the same path, too, whoever has it.
///
/// As long as everybody who needs several locks takes them by this, nobody waits in a circle.
#[derive(Clone, Debug)]
pub struct MultiLock {
    client: Client,
    /// In the order in which they are acquired.
    locks: Vec<Lock>,
}

impl MultiLock {
    /// The locks at `paths`, in whatever order. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Client`] if a path is not valid or is named twice, or if there is none.
    pub fn new<P: IntoPath>(
        client: &Client,
        paths: impl IntoIterator<Item = P>,
    ) -> Result<MultiLock, Error> {
        let paths: Result<Vec<Path>, _> = paths.into_iter().map(IntoPath::into_path).collect();
        let mut paths = paths?;
        paths.sort_unstable();
        if let Some(pair) = paths.windows(2).find(|pair| pair[0] == pair[1]) {
            let rule = "a lock is named once among those that are held together";
            return Err(ClientError::invalid("path", &pair[0], rule).into());
        }
        if paths.is_empty() {
            return Err(ClientError::invalid("paths", "none", "there is at least one lock").into());
        }
        let locks: Result<_, _> = paths.into_iter().map(|path| Lock::new(client, path)).collect();
        Ok(MultiLock { client: client.clone(), locks: locks? })
    }

    /// The paths, in the order in which they are acquired.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.locks.iter().map(Lock::path)
    }

    /// Waits for its turn at one lock after the other, until all are held.
    ///
    /// **Cancelling** it, at any moment, leaves nothing behind: what is held already is released and
    /// the place in line given up, in the background if need be. **If the session ends** meanwhile, it
    /// fails, and holds nothing.
    ///
    /// # Errors
    /// As [`Lock::acquire`], of the first that fails; also [`Error::Lost`] when one of them was lost
    /// while another was waited for. Those that were held are released in the background.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time, if it has to wait.
    pub async fn acquire(&self) -> Result<MultiGuard, Error> {
        self.acquire_into(&mut Vec::new()).await
    }

    /// Takes all of them if nobody holds or waits for any; `None` otherwise, and then none is held.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// As [`acquire`](MultiLock::acquire).
    pub async fn try_acquire(&self) -> Result<Option<MultiGuard>, Error> {
        let client = self.client.pin().await?;
        let mut guards = Vec::with_capacity(self.locks.len());
        for lock in &self.locks {
            match lock.on(&client).try_acquire().await? {
                Some(guard) => guards.push(guard),
                None => {
                    released(&guards).await?;
                    return Ok(None);
                }
            }
        }
        self.granted(client, guards).await.map(Some)
    }

    /// Waits at most `limit` for all of them together.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::TimedOut`], with the path that was waited for: then nothing is held, or is about to be
    /// released in the background. Otherwise as [`acquire`](MultiLock::acquire).
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub async fn acquire_within(&self, limit: Duration) -> Result<MultiGuard, Error> {
        let mut guards = Vec::new();
        match tokio::time::timeout(limit, self.acquire_into(&mut guards)).await {
            Ok(acquired) => acquired,
            Err(_) => {
                let last = self.locks.len() - 1;
                let path = self.locks[guards.len().min(last)].path().clone();
                Err(Error::TimedOut { path, waited: limit })
            }
        }
    }

    /// Acquires all; `guards` are those that are held so far.
    async fn acquire_into(&self, guards: &mut Vec<Guard>) -> Result<MultiGuard, Error> {
        let first = self.locks[0].path();
        telemetry::MULTI_LOCK.acquiring(first, self.acquire_each(guards)).await
    }

    async fn acquire_each(&self, guards: &mut Vec<Guard>) -> Result<MultiGuard, Error> {
        // In one session, which is none but the one that began.
        let client = self.client.pin().await?;
        for lock in &self.locks {
            guards.push(lock.on(&client).acquire().await?);
        }
        self.granted(client, std::mem::take(guards)).await
    }

    async fn granted(&self, client: Client, guards: Vec<Guard>) -> Result<MultiGuard, Error> {
        let guard = MultiGuard::new(client, self.paths().cloned().collect(), guards);
        guard.held().await?;
        Ok(guard)
    }
}

/// Proof that several locks are held. It is lost as a whole when one of them is.
///
/// It belongs to one session and never outlives it. It cannot be cloned. **Dropping** it releases all
/// in the background, and needs no runtime. **On session loss** [`lost`](MultiGuard::lost) resolves,
/// [`run`](MultiGuard::run) drops the work, guarded transactions are refused.
#[must_use = "a guard that is dropped releases what it holds"]
#[derive(Debug)]
pub struct MultiGuard {
    /// Pinned to the session.
    client: Client,
    /// One for each guard.
    paths: Vec<Path>,
    guards: Vec<Guard>,
}

impl MultiGuard {
    /// Of guards of the session that `client` is pinned to, each with its path.
    pub(crate) fn new(client: Client, paths: Vec<Path>, guards: Vec<Guard>) -> MultiGuard {
        MultiGuard { client, paths, guards }
    }

    /// The fencing token of each lock, by its path. Tokens of different paths have nothing to do with
    /// each other: send along with what you write the token of the lock that guards it.
    pub fn tokens(&self) -> impl Iterator<Item = (&Path, Zxid)> {
        self.paths.iter().zip(self.guards.iter().map(Guard::token))
    }

    /// The fencing token of the lock at that path, as it was given to [`MultiLock::new`]; `None` if it
    /// is not among them.
    pub fn token(&self, path: &str) -> Option<Zxid> {
        self.tokens().find(|(of, _)| &***of == path).map(|(_, token)| token)
    }

    /// The session that all of them belong to.
    pub fn session(&self) -> Session {
        self.client.session()
    }

    /// Until when the session lives at least, as [`Guard::valid_until`].
    pub fn valid_until(&self) -> Instant {
        self.session().valid_until()
    }

    /// Waits until one of the locks is lost, as [`Guard::lost`] does. The others are held on until this
    /// guard is released or dropped.
    ///
    /// Cancelling it changes nothing.
    pub async fn lost(&self) -> Loss {
        let each = self.guards.iter().map(|guard| Box::pin(guard.lost()));
        select_all(each).await.0
    }

    /// Does `work` while all are held, as [`Guard::run`] does.
    ///
    /// Cancelling it drops the work and keeps the guard.
    ///
    /// # Errors
    /// [`Error::Lost`]; [`Error::Client`] when the coordinator refuses to say.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        self.held().await?;
        tokio::select! {
            biased;
            loss = self.lost() => Err(Error::Lost(loss)),
            output = work => Ok(output),
        }
    }

    /// Begins a transaction that is done only while all are held: the coordinator itself judges that,
    /// at the moment of the write.
    pub fn txn(&self) -> GuardedTxn<'_> {
        GuardedTxn::new(&self.client, &self.guards)
    }

    /// Asks the coordinator whether all are held, at one moment.
    async fn held(&self) -> Result<(), Error> {
        loop {
            match self.txn().commit().await {
                // It does no harm when done twice.
                Err(Error::Client(ClientError::ConnectionLost { .. })) => {}
                Err(error) if error.session_over() => return Err(Error::Lost(self.lost().await)),
                checked => return checked.map(drop),
            }
        }
    }

    /// Releases all, and waits until that is confirmed, as [`Guard::release`] does. Releasing twice does
    /// nothing.
    ///
    /// Cancelling it leaves the release to the background, once the guard is dropped.
    ///
    /// # Errors
    /// What the first deletion that failed was refused with. The others are released all the same.
    pub async fn release(&self) -> Result<Released, Error> {
        released(&self.guards).await
    }
}

async fn released(guards: &[Guard]) -> Result<Released, Error> {
    let mut all = Released::Confirmed;
    for released in join_all(guards.iter().map(Guard::release)).await {
        match released? {
            Released::Confirmed => {}
            with_session => all = with_session,
        }
    }
    Ok(all)
}
