//! What a reader and a writer hold, and how one becomes the other.

use std::ops::Deref;

use synod_core::model::{Acl, Code, CreateMode, Error as ClientError, OpResult, Path, Stat, Zxid};
use tracing::debug;

use super::{READ, WRITE};
use crate::contender::{Contender, Marker};
use crate::error::{Error, LossReason};
use crate::guard::Guard;
use crate::holding::Holding;
use crate::znodes::persist;

/// Where the transaction of a change has its create.
const CREATE: usize = 1;

/// Proof that one reads, along with others: a [`Guard`].
///
/// Readers hold together, each with a token of its own, and a later one must not shut out an earlier
/// one. So a resource takes a reader's token by
/// [`Fence::admit_shared`](crate::Fence::admit_shared), never by
/// [`admit`](crate::Fence::admit): it compares with the highest token of a *writer*.
///
/// Dropping it releases in the background.
#[must_use = "a guard that is dropped releases what it holds"]
#[derive(Debug)]
pub struct ReadGuard {
    guard: Guard,
    writer_token: Option<Zxid>,
}

/// Proof that one writes, alone: a [`Guard`]. A resource takes its token by
/// [`Fence::admit`](crate::Fence::admit).
///
/// Dropping it releases in the background.
#[must_use = "a guard that is dropped releases what it holds"]
#[derive(Debug)]
pub struct WriteGuard {
    guard: Guard,
}

/// Why a reader has not become a writer.
#[derive(Debug, thiserror::Error)]
pub enum NotUpgraded {
    /// Somebody else reads, or waits. This guard has read on all the while, under the same token.
    /// Release it and ask for the write lock, or go on reading. To wait for the others to go, guard in
    /// hand, would be for ever as soon as two of them do so.
    #[error("{} does not become a writer: others read or wait", .0.path())]
    Conflict(ReadGuard),
    /// A request failed, or the guard was lost. What may still be held is released in the background.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl ReadGuard {
    pub(super) fn granted(contender: Contender) -> Result<ReadGuard, Error> {
        let writer_token = contender.waited_for();
        Ok(ReadGuard { guard: Guard::new(contender.into_holding()?), writer_token })
    }

    /// The token of the last writer that was before this reader; `None` if it had not to wait for any.
    /// What that writer has written under it is what is read at the least. After a
    /// [`downgrade`](WriteGuard::downgrade) it is this guard's own token.
    ///
    /// That writer may have gone without ever having held.
    pub fn writer_token(&self) -> Option<Zxid> {
        self.writer_token
    }

    /// Becomes a writer without letting go in between, if nobody else is in line: no other reader, and
    /// nobody who waits. It never waits itself.
    ///
    /// The token is a new one, greater than that of every reader and writer before.
    ///
    /// **Cancelling** it releases the guard in the background.
    ///
    /// # Errors
    /// [`NotUpgraded::Conflict`] gives the guard back, which holds as before; somebody who came just
    /// now counts, too. [`NotUpgraded::Failed`] when a request was refused or the guard is lost.
    pub async fn upgrade(self) -> Result<WriteGuard, NotUpgraded> {
        if !self.is_alone().await? {
            return Err(NotUpgraded::Conflict(self));
        }
        let (kept, writer_token) = (self.token(), self.writer_token);
        // From here on no reader is admitted that is not yet; who was admitted before is in the list.
        let guard = change(self.guard, WRITE, None).await?;
        let upgraded = ReadGuard { guard, writer_token };
        if upgraded.is_alone().await? {
            return Ok(WriteGuard { guard: upgraded.guard });
        }
        let guard = change(upgraded.guard, READ, Some(kept)).await?;
        Err(NotUpgraded::Conflict(ReadGuard { guard, writer_token }))
    }

    /// Whether nobody else is in line.
    async fn is_alone(&self) -> Result<bool, Error> {
        let parent = self.path().parent().unwrap_or_else(Path::root);
        let names = match persist!(self.client().children(&parent)) {
            Err(error) if error.is(Code::NoNode) => Vec::new(),
            Err(ClientError::SessionOver { end, .. }) => {
                return Err(self.loss(LossReason::SessionOver(end)).into());
            }
            names => names?,
        };
        let line = READ.line_up(&parent, &names)?;
        match line.iter().any(|entrant| entrant.name == self.path().name()) {
            true => Ok(line.len() == 1),
            false => Err(self.loss(LossReason::Removed).into()),
        }
    }
}

impl WriteGuard {
    pub(super) fn new(holding: Holding) -> WriteGuard {
        WriteGuard { guard: Guard::new(holding) }
    }

    /// Becomes a reader without letting go in between. Readers that wait just behind are let in; a
    /// writer that waits goes on waiting.
    ///
    /// The token stays the writer's: what is read is what this guard has written, or what it found.
    ///
    /// **Cancelling** it releases the guard in the background.
    ///
    /// # Errors
    /// [`Error::Lost`] when the guard was not held any more; [`Error::Client`] when a request was
    /// refused. What may still be held is released in the background.
    pub async fn downgrade(self) -> Result<ReadGuard, Error> {
        let token = self.token();
        let guard = change(self.guard, READ, Some(token)).await?;
        Ok(ReadGuard { guard, writer_token: Some(token) })
    }
}

/// Puts a znode of another kind in the place of the guard's, with the same suffix, in one
/// transaction. (A znode created by sequence would have a later place, and let in whoever is between
/// the two.) The token is the new znode's, unless another one is kept.
async fn change(guard: Guard, to: Marker, kept: Option<Zxid>) -> Result<Guard, Error> {
    let held = guard.into_holding();
    let client = held.client().clone();
    let suffix = to.suffix_of(held.path().name()).unwrap_or_default();
    let parent = held.path().parent().unwrap_or_else(Path::root);
    let path = parent.join(&to.name(&client, suffix))?;
    // From before the transaction on, so that one which is cancelled is cleaned up.
    let slot = client.session().reserve_cleanup()?;
    let mut next = Holding::new(held.recipe(), client, path, Zxid::ZERO, slot);
    // Dropped before the next one: a transaction that comes late finds nothing to replace.
    let held = held;
    match replace(&held, next.path()).await {
        Ok(Some(stat)) => next.granted(kept.unwrap_or(stat.czxid)),
        // One of the two was deleted.
        Ok(None) => {
            let loss = held.noticed(LossReason::Removed);
            held.gone();
            return Err(loss.into());
        }
        Err(ClientError::SessionOver { end, .. }) => {
            return Err(held.noticed(LossReason::SessionOver(end)).into());
        }
        Err(error) => return Err(error.into()),
    }
    held.gone();
    debug!(from = %held.path(), path = %next.path(), token = %next.token(), "changed places");
    Ok(Guard::new(next))
}

/// Deletes the znode that is held and creates the one at `path`, at once; `None` if one of the two is
/// not there.
async fn replace(held: &Holding, path: &Path) -> Result<Option<Stat>, ClientError> {
    let client = held.client();
    loop {
        // What it says of itself, and what was asked of it, stay with it.
        let (data, stat) = match persist!(client.get(held.path())) {
            Err(error) if error.is(Code::NoNode) => return Ok(None),
            read => read?,
        };
        let txn = client.txn().delete_at(held.path(), stat.version);
        let txn = txn.create_as(path, data, CreateMode::Ephemeral, Acl::open());
        match txn.commit().await {
            Ok(results) => match results.get(CREATE) {
                Some(OpResult::Created { stat, .. }) if stat.czxid != Zxid::ZERO => {
                    return Ok(Some(*stat));
                }
                // Apache ZooKeeper leaves the Stat out here.
                _ => return persist!(client.exists(path)),
            },
            Err(error) if error.is(Code::NoNode) => return Ok(None),
            Err(error) if error.is(Code::BadVersion) => {}
            Err(ClientError::ConnectionLost { .. }) => {
                // Behind a sync, on the same session, the answer is final.
                persist!(client.sync())?;
                if let Some(stat) = persist!(client.exists(path))? {
                    return Ok(Some(stat));
                }
            }
            Err(error) => return Err(error),
        }
    }
}

impl Deref for ReadGuard {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.guard
    }
}

impl Deref for WriteGuard {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.guard
    }
}
