//! What an exclusive recipe grants: one object that says what number proves the holding, when it
//! was lost, and how to write only while it lasts.

use std::future::Future;

use synod_core::client::{Session, Txn};
use synod_core::model::{Acl, Code, CreateMode, Error as ClientError, OpResult, Path, Zxid};
use tokio::time::Instant;

use crate::contender::Contender;
pub use crate::contender::Released;
use crate::error::{Error, Loss, LossReason};

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
    contender: Contender,
}

impl Guard {
    pub(crate) fn new(contender: Contender) -> Guard {
        Guard { contender }
    }

    /// The fencing token: greater than that of every earlier holder. Send it along with what you
    /// write elsewhere, and let that resource refuse lower ones (see [`Fence`](crate::Fence)).
    ///
    /// It is the zxid at which the guard's znode was created.
    pub fn token(&self) -> Zxid {
        self.contender.token()
    }

    /// The guard's znode.
    pub fn path(&self) -> &Path {
        self.contender.path()
    }

    /// The session that the guard belongs to.
    pub fn session(&self) -> Session {
        self.contender.session()
    }

    /// Waits until the guard is lost: its session is over (expired, closed, or out of reach until
    /// its deadline), or somebody deleted its znode. It resolves at
    /// [`valid_until`](Guard::valid_until) at the latest, even if nobody can be reached.
    ///
    /// Cancelling it changes nothing.
    pub async fn lost(&self) -> Loss {
        self.contender.lost().await
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
        self.contender.held().await?;
        tokio::select! {
            biased;
            loss = self.lost() => Err(Error::Lost(loss)),
            output = work => Ok(output),
        }
    }

    /// Begins a transaction that is done only while the guard is held: the coordinator itself
    /// judges that, at the moment of the write.
    pub fn txn(&self) -> GuardedTxn<'_> {
        let held = self.contender.client().txn().check(self.path(), -1);
        GuardedTxn { guard: self, txn: held }
    }

    /// Releases, and waits until that is confirmed. While the connection is broken it waits for
    /// it, at most until the session is over. Releasing twice does nothing.
    ///
    /// Cancelling it leaves the release to the background, as dropping the guard does.
    ///
    /// # Errors
    /// What the deletion of the guard's znode was refused with; it stays held then.
    pub async fn release(&self) -> Result<Released, Error> {
        self.contender.leave().await
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (path, token) = (self.path(), self.token());
        f.debug_struct("Guard").field("path", path).field("token", &token).finish()
    }
}

/// A transaction that is done only while a guard is held. Made by [`Guard::txn`].
///
/// The operations are those of [`Txn`].
#[must_use = "a transaction is done when committed"]
pub struct GuardedTxn<'a> {
    guard: &'a Guard,
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

impl GuardedTxn<'_> {
    /// Does all of it, if the guard is held, or nothing. The results are in the order of the
    /// operations.
    ///
    /// # Errors
    /// [`Error::Lost`] when the guard was not held; then nothing was done. Otherwise as
    /// [`Txn::commit`], `index` counting the operations added here.
    pub async fn commit(self) -> Result<Vec<OpResult>, Error> {
        match self.txn.commit().await {
            Ok(mut results) => {
                // The first is the guard's own check.
                results.remove(0);
                Ok(results)
            }
            Err(ClientError::Refused { index: Some(0), code: Code::NoNode, .. }) => {
                Err(self.guard.contender.loss(LossReason::Removed).into())
            }
            Err(ClientError::Refused { request, path, code, rule, index }) => {
                let index = index.map(|index| index.saturating_sub(1));
                let request = match index {
                    Some(index) => format!("operation {index} of a transaction, on {path:?},"),
                    None => request,
                };
                Err(ClientError::Refused { request, path, code, rule, index }.into())
            }
            Err(ClientError::SessionOver { end, maybe_applied: false, .. }) => {
                Err(self.guard.contender.loss(LossReason::SessionOver(end)).into())
            }
            Err(error) => Err(error.into()),
        }
    }
}
