//! Who works on an item: an ephemeral child of it, that goes with its session.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use synod_core::client::{CleanupSlot, Client};
use synod_core::model::{Code, Error as ClientError, Path, Stat, Zxid};
use tracing::warn;

use crate::error::{Error, Loss, LossReason};
use crate::znodes::persist;

/// The child's name. It is the same for everybody, which is what excludes.
pub(crate) const CLAIM: &str = "claim";

/// What came of trying to claim an item.
pub(crate) enum Tried {
    /// The item is ours; what its znode holds.
    Ours(Box<Claim>, Bytes, Stat),
    /// Somebody else works on it.
    Busy,
    /// It is gone.
    Gone,
}

/// A claim that this session has made, or is making. Dropping it, at any moment, lets the item go.
pub(crate) struct Claim {
    /// Pinned to the session that claims.
    client: Client,
    item: Path,
    path: Path,
    /// What tells this claim from another one of the same session.
    id: String,
    /// The claim's creation; zero until that is known.
    token: Zxid,
    /// Taken when there is nothing left to clean up.
    slot: Mutex<Option<CleanupSlot>>,
}

impl Claim {
    /// Claims an item for the session of `client`, and reads it in the same round trip.
    pub(crate) async fn attempt(client: &Client, item: Path) -> Result<Tried, Error> {
        let slot = Mutex::new(Some(client.session().reserve_cleanup()?));
        let (path, id) = (item.join(CLAIM)?, client.random_id().simple().to_string());
        let mut claim = Claim { client: client.clone(), item, path, id, token: Zxid::ZERO, slot };
        loop {
            let create = client.create(&claim.path, &claim.id).ephemeral().with_stat();
            // Sent together, in this order: the Stat that is read counts this claim.
            let both = futures::future::join(
                std::future::IntoFuture::into_future(create),
                std::future::IntoFuture::into_future(client.get(&claim.item)),
            );
            let (created, read) = both.await;
            match created {
                Ok((_, stat)) => claim.token = stat.czxid,
                Err(error) if error.is(Code::NodeExists) => {
                    claim.settled();
                    return Ok(Tried::Busy);
                }
                Err(error) if error.is(Code::NoNode) => {
                    claim.settled();
                    return Ok(Tried::Gone);
                }
                Err(ClientError::ConnectionLost { maybe_applied: false, .. }) => continue,
                Err(ClientError::ConnectionLost { .. }) => match claim.look().await? {
                    Some((data, stat)) if data == claim.id.as_bytes() => claim.token = stat.czxid,
                    Some(_) => {
                        claim.settled();
                        return Ok(Tried::Busy);
                    }
                    None => continue,
                },
                Err(error) => return Err(error.into()),
            }
            let read = match read {
                Err(ClientError::ConnectionLost { .. }) => persist!(client.get(&claim.item)),
                read => read,
            };
            return match read {
                Ok((data, stat)) => Ok(Tried::Ours(Box::new(claim), data, stat)),
                // An item with a claim cannot be deleted but by force.
                Err(error) if error.is(Code::NoNode) => Ok(Tried::Gone),
                Err(error) => Err(error.into()),
            };
        }
    }

    /// The claim that is there now, behind everything that was sent before.
    async fn look(&self) -> Result<Option<(Bytes, Stat)>, ClientError> {
        persist!(self.client.sync())?;
        match persist!(self.client.get(&self.path)) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is(Code::NoNode) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<CleanupSlot>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is left to clean up.
    pub(crate) fn settled(&self) {
        drop(self.slot().take());
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn item(&self) -> &Path {
        &self.item
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn token(&self) -> Zxid {
        self.token
    }

    pub(crate) fn loss(&self, reason: LossReason) -> Loss {
        Loss { path: self.path.clone(), token: self.token, reason }
    }

    /// After a reply was lost: whether the claim is still there.
    pub(crate) async fn stands(&self) -> Result<bool, Error> {
        let found = self.look().await?;
        Ok(found.is_some_and(|(_, stat)| stat.czxid == self.token))
    }

    /// After a reply was lost, and the claim is gone: whether the item is, too.
    pub(crate) async fn item_is_gone(&self) -> Result<bool, Error> {
        Ok(persist!(self.client.exists(&self.item))?.is_none())
    }

    /// Waits until this no longer stands: the session is over, or somebody removed the claim.
    pub(crate) async fn lost(&self) -> Loss {
        let session = self.client.session();
        loop {
            if self.slot().is_none() {
                return self.loss(LossReason::Removed);
            }
            let end = match persist!(self.client.get(&self.path).watched()) {
                Ok(((_, stat), changed)) if stat.czxid == self.token => tokio::select! {
                    biased;
                    end = session.lost() => end,
                    _ = changed => continue,
                },
                Ok(_) => return self.loss(LossReason::Removed),
                Err(error) if error.is(Code::NoNode) => return self.loss(LossReason::Removed),
                // It cannot be watched: the session is all there is to go by.
                Err(_) => session.lost().await,
            };
            return self.loss(LossReason::SessionOver(end));
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(slot) = self.slot().take() else { return };
        let (client, path, id) = (self.client.clone(), self.path.clone(), self.id.clone());
        slot.run(async move {
            if let Err(error) = let_go(&client, &path, &id).await
                && !error.session_over()
            {
                warn!(%path, %error, "a claim could not be let go");
            }
        });
    }
}

/// Deletes a claim if it is the one of that id.
async fn let_go(client: &Client, path: &Path, id: &str) -> Result<(), ClientError> {
    persist!(client.sync())?;
    match persist!(client.get(path)) {
        Ok((data, _)) if data == id.as_bytes() => {}
        Err(error) if !error.is(Code::NoNode) => return Err(error),
        _ => return Ok(()),
    }
    match persist!(client.delete(path)) {
        Err(error) if !error.is(Code::NoNode) => Err(error),
        _ => Ok(()),
    }
}
