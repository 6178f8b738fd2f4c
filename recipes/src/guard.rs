//! What an exclusive recipe grants: one object that says what number proves the holding, when it
//! was lost, and how to write only while it lasts.

use std::future::Future;

use synod_core::client::{Client, Session, Txn};
use synod_core::model::{Acl, Code, CreateMode, Error as ClientError, OpResult, Path, Zxid};
use tokio::time::Instant;

use crate::error::{Error, Loss, LossReason};
use crate::holding::Holding;
pub use crate::holding::Released;
use crate::lock::revocation;
use crate::znodes::persist;

/// Proof of an exclusive holding: of a lock, or of a leadership.
///
/// A guard belongs to one session and never outlives it. It cannot be cloned.
///
/// **Dropping** it releases in the background, and needs no runtime: the release is handed to the
/// session, which carries it out even if the connection is broken now. [`release`](Guard::release)
/// waits for the confirmation. **On session loss** the guard is lost: [`lost`](Guard::lost)
/// resolves, [`run`](Guard::run) drops the work, guarded transactions are refused.
#[must_use = "a guard that is dropped releases what it holds"]
pub struct Guard {
    holding: Holding,
}

impl Guard {
    pub(crate) fn new(holding: Holding) -> Guard {
        holding.begins();
        Guard { holding }
    }

    pub(crate) fn into_holding(self) -> Holding {
        self.holding
    }

    /// The fencing token: greater than that of every earlier holder. Send it along with what you
    /// write elsewhere, and let that resource refuse lower ones (see [`Fence`](crate::Fence)).
    ///
    /// It is the zxid at which the guard's znode was created.
    pub fn token(&self) -> Zxid {
        self.holding.token()
    }

    /// The guard's znode.
    pub fn path(&self) -> &Path {
        self.holding.path()
    }

    /// The session that the guard belongs to.
    pub fn session(&self) -> Session {
        self.holding.session()
    }

    /// Waits until the guard is lost: its session is over (expired, closed, or out of reach until
    /// its deadline), or somebody deleted its znode. It resolves at
    /// [`valid_until`](Guard::valid_until) at the latest, even if nobody can be reached.
    ///
    /// Cancelling it changes nothing.
    pub async fn lost(&self) -> Loss {
        self.holding.lost().await
    }

    /// Waits until somebody asks this holder of a lock to let go, by
    /// [`Lock::revoke_request`](crate::Lock::revoke_request). It is a wish: the guard is held until it
    /// is released. A request that was made before is seen at once.
    ///
    /// Cancelling it changes nothing.
    ///
    /// # Errors
    /// The [`Loss`], when the guard is lost first.
    pub async fn revocation_requested(&self) -> Result<(), Loss> {
        let requested = async {
            loop {
                match persist!(self.client().get(self.path()).watched()) {
                    Ok(((data, _), _)) if revocation::is_requested(&data) => return,
                    Ok((_, changed)) => drop(changed.await),
                    // The loss is all that may still be seen.
                    Err(_) => return std::future::pending().await,
                }
            }
        };
        tokio::select! {
            biased;
            loss = self.lost() => Err(loss),
            () = requested => Ok(()),
        }
    }

    /// Until when the session lives at least; see
    /// [`Session::valid_until`], and [`Session::deadline_is_proof`] for what that is worth.
    pub fn valid_until(&self) -> Instant {
        self.session().valid_until()
    }

    /// Does `work` while the guard is held. If the guard is lost first, the work is dropped.
    ///
    /// The work begins only after the coordinator has said that the guard is held, and a loss that
    /// is known is looked at before the work at every poll. A future is dropped at an await, and only
    /// there: code that blocks, or runs long without one, is *not* stopped, nor is a task or a
    /// thread that the work has started. What such code writes must be fenced by
    /// [`token`](Guard::token).
    ///
    /// Cancelling it drops the work and keeps the guard.
    ///
    /// # Errors
    /// [`Error::Lost`]; [`Error::Client`] when the coordinator refuses to say.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        self.holding.held().await?;
        tokio::select! {
            biased;
            loss = self.lost() => Err(Error::Lost(loss)),
            output = work => Ok(output),
        }
    }

    /// Begins a transaction that is done only while the guard is held: the coordinator itself
    /// judges that, at the moment of the write.
    pub fn txn(&self) -> GuardedTxn<'_> {
        GuardedTxn::new(self.holding.client(), std::slice::from_ref(self))
    }

    /// Releases, and waits until that is confirmed. While the connection is broken it waits for
    /// it, at most until the session is over. Releasing twice does nothing.
    ///
    /// Cancelling it leaves the release to the background, as dropping the guard does.
    ///
    /// # Errors
    /// What the deletion of the guard's znode was refused with; it stays held then.
    pub async fn release(&self) -> Result<Released, Error> {
        self.holding.leave().await
    }

    /// Releases in the background, as dropping the guard does.
    pub(crate) fn abandon(&self) {
        self.holding.abandon();
    }

    /// Pinned to the guard's session.
    pub(crate) fn client(&self) -> &Client {
        self.holding.client()
    }

    /// Asks the coordinator whether it is held.
    pub(crate) async fn held(&self) -> Result<(), Error> {
        self.holding.held().await
    }

    /// It was given up in another way than by a release.
    pub(crate) fn gone(&self) {
        self.holding.gone();
    }

    pub(crate) fn loss(&self, reason: LossReason) -> Loss {
        self.holding.loss(reason)
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (path, token) = (self.path(), self.token());
        f.debug_struct("Guard").field("path", path).field("token", &token).finish()
    }
}

/// A transaction that is done only while a guard is held, or several. Made by [`Guard::txn`],
/// [`MultiGuard::txn`](crate::multi_lock::MultiGuard::txn) and
/// [`Permits::txn`](crate::semaphore::Permits::txn).
///
/// The operations are those of [`Txn`].
#[must_use = "a transaction is done when committed"]
pub struct GuardedTxn<'a> {
    guards: &'a [Guard],
    txn: Txn,
}

macro_rules! guarded {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $kind:ty),*);)*) => {
        impl<'a> GuardedTxn<'a> {
            $(
                $(#[$doc])*
                pub fn $name(
                    self,
                    path: impl synod_core::client::IntoPath,
                    $($argument: $kind),*
                ) -> GuardedTxn<'a> {
                    GuardedTxn { txn: self.txn.$name(path, $($argument),*), ..self }
                }
            )*
        }
    };
}

guarded! {
    /// Aborts the transaction unless the znode exists and has that version (−1: any).
    check(version: i32);
    /// Creates a persistent znode that is open to everybody.
    create(data: impl AsRef<[u8]>);
    /// Creates a znode of that mode and ACL.
    create_as(data: impl AsRef<[u8]>, mode: CreateMode, acl: Vec<Acl>);
    /// Sets the data, whatever the version.
    set(data: impl AsRef<[u8]>);
    /// Sets the data if the znode has that version (−1: any).
    set_at(data: impl AsRef<[u8]>, version: i32);
    /// Deletes a znode without children, whatever its version.
    delete();
    /// Deletes a znode without children if it has that version (−1: any).
    delete_at(version: i32);
}

impl<'a> GuardedTxn<'a> {
    /// Begins with a check of each guard.
    pub(crate) fn new(client: &Client, guards: &'a [Guard]) -> GuardedTxn<'a> {
        let txn = guards.iter().fold(client.txn(), |txn, guard| txn.check(guard.path(), -1));
        GuardedTxn { guards, txn }
    }

    /// Does all of it, if the guard is held, or nothing. The results are in the order of the
    /// operations.
    ///
    /// # Errors
    /// [`Error::Lost`] when the guard was not held; then nothing was done. Otherwise as
    /// [`Txn::commit`], `index` counting the operations added here.
    pub async fn commit(self) -> Result<Vec<OpResult>, Error> {
        // The first operations are the guards' own checks.
        let checks = self.guards.len();
        match self.txn.commit().await {
            Ok(mut results) => Ok(results.split_off(checks.min(results.len()))),
            Err(ClientError::Refused { request, path, code, rule, index }) => {
                let lost = index.and_then(|index| self.guards.get(index));
                if let Some(guard) = lost.filter(|_| code == Code::NoNode) {
                    return Err(guard.holding.noticed(LossReason::Removed).into());
                }
                let index = index.map(|index| index.saturating_sub(checks));
                let request = match index {
                    Some(index) => format!("operation {index} of a transaction, on {path:?},"),
                    None => request,
                };
                Err(ClientError::Refused { request, path, code, rule, index }.into())
            }
            Err(error @ ClientError::SessionOver { end, maybe_applied: false, .. }) => {
                let reason = LossReason::SessionOver(end);
                let loss = self.guards.first().map(|guard| guard.holding.noticed(reason));
                Err(loss.map_or_else(|| error.into(), Error::Lost))
            }
            Err(error) => Err(error.into()),
        }
    }
}
