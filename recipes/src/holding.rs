//! What every guard stands on: an ephemeral znode of one session, by which something is held.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use synod_core::client::{CleanupSlot, Client, Session};
use synod_core::model::{Code, Error as ClientError, Path, Stat, Zxid};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::error::{Error, Loss, LossReason};
use crate::telemetry::Recipe;
use crate::znodes::{PARENT_ATTEMPTS_MAX, make_parents, persist};

/// From this suffix on, a parent that is empty is deleted, so that its sequence begins anew long
/// before it ends.
const ROTATE_FROM: i32 = 1 << 30;

/// How a guard's znode was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Released {
    /// The coordinator has deleted it: the next in line holds now.
    Confirmed,
    /// The session is over. The znode is gone, or goes when the coordinator expires the session.
    WithSession(synod_core::model::SessionEnd),
}

/// An ephemeral znode that its session owns, and the token of what it stands for. Dropping it
/// hands its deletion to the session's reaper.
pub(crate) struct Holding {
    recipe: &'static Recipe,
    /// Pinned to the session that owns the znode.
    client: Client,
    path: Path,
    token: Zxid,
    /// Whether znodes of others may come to be at the path: then a deletion looks first whose it is.
    shared_path: bool,
    /// Whether others rely on the parent to stay when it is empty.
    keeps_parent: bool,
    /// Whether it is held: granted, and neither given up nor known to be lost.
    held: AtomicBool,
    /// Taken when there is nothing left to clean up.
    slot: Mutex<Option<CleanupSlot>>,
}

impl Holding {
    /// Takes over a znode that the session of `client` has created.
    pub(crate) fn new(
        recipe: &'static Recipe,
        client: Client,
        path: Path,
        token: Zxid,
        slot: CleanupSlot,
    ) -> Holding {
        let (shared_path, keeps_parent) = (false, false);
        let (held, slot) = (AtomicBool::new(false), Mutex::new(Some(slot)));
        Holding { recipe, client, path, token, shared_path, keeps_parent, held, slot }
    }

    /// It is held from now on, so that its end is counted.
    pub(crate) fn begins(&self) {
        self.held.store(true, Ordering::Relaxed);
    }

    /// Counts a loss, once.
    pub(crate) fn count_loss(&self, reason: LossReason) {
        if self.held.swap(false, Ordering::Relaxed) {
            self.recipe.lost(reason);
        }
    }

    pub(crate) fn recipe(&self) -> &'static Recipe {
        self.recipe
    }

    /// Whether to leave the parent when it is empty, whatever its sequence has come to.
    pub(crate) fn keeping_parent(mut self, keeps_parent: bool) -> Holding {
        self.keeps_parent = keeps_parent;
        self
    }

    /// A znode that the session of `client` is about to create where others may do so too.
    pub(crate) fn at_shared_path(
        recipe: &'static Recipe,
        client: Client,
        path: Path,
        slot: CleanupSlot,
    ) -> Holding {
        let own = Holding::new(recipe, client, path, Zxid::ZERO, slot);
        own.with_shared_path()
    }

    fn with_shared_path(mut self) -> Holding {
        self.shared_path = true;
        self
    }

    /// The znode was created at `token`.
    pub(crate) fn granted(&mut self, token: Zxid) {
        self.token = token;
    }

    /// Creates the znode for the session of `client`, a pinned one, and makes what is missing above
    /// it as containers. The name has to be new, by an id in it, so that nobody else's can be there.
    ///
    /// Cancelling it leaves nothing behind.
    pub(crate) async fn create(
        recipe: &'static Recipe,
        client: &Client,
        path: Path,
        data: impl AsRef<[u8]>,
    ) -> Result<Holding, Error> {
        let slot = client.session().reserve_cleanup()?;
        // From before the create on, so that one which is cancelled is cleaned up.
        let mut holding = Holding::new(recipe, client.clone(), path, Zxid::ZERO, slot);
        let stat = create_ephemeral(client, &holding.path, data.as_ref()).await?;
        holding.token = stat.czxid;
        match stat.ephemeral_owner == Some(client.session().id()) {
            true => Ok(holding),
            false => Err(holding.removed().into()),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<CleanupSlot>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn session(&self) -> Session {
        self.client.session()
    }

    /// Pinned to the session.
    pub(crate) fn client(&self) -> &Client {
        &self.client
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

    /// A loss that is known from now on.
    pub(crate) fn noticed(&self, reason: LossReason) -> Loss {
        self.count_loss(reason);
        self.loss(reason)
    }

    pub(crate) fn removed(&self) -> Loss {
        self.loss(LossReason::Removed)
    }

    /// Asks the coordinator whether this is held.
    pub(crate) async fn held(&self) -> Result<(), Error> {
        if self.slot().is_none() {
            return Err(self.removed().into());
        }
        match persist!(self.client.exists(&self.path)) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(self.noticed(LossReason::Removed).into()),
            Err(ClientError::SessionOver { end, .. }) => {
                Err(self.noticed(LossReason::SessionOver(end)).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until this is no longer held: its session is over, or its znode was deleted.
    pub(crate) async fn lost(&self) -> Loss {
        if self.slot().is_none() {
            // Given up by its own wish.
            return self.removed();
        }
        self.noticed(gone(&self.client, &self.path).await)
    }

    /// Deletes the znode and waits for the confirmation. Doing so twice does nothing.
    pub(crate) async fn leave(&self) -> Result<Released, Error> {
        if self.slot().is_some() {
            match remove(&self.client, &self.path, self.removal()).await {
                Ok(()) if self.held.swap(false, Ordering::Relaxed) => {
                    let valid_until = self.session().valid_until();
                    self.recipe.released(valid_until.saturating_duration_since(Instant::now()));
                }
                Ok(()) => {}
                Err(error) if error.session_over() => {
                    let end = self.session().lost().await;
                    self.count_loss(LossReason::SessionOver(end));
                    self.gone();
                    return Ok(Released::WithSession(end));
                }
                Err(error) => return Err(error.into()),
            }
            self.gone();
            debug!(path = %self.path, token = %self.token, "left");
        }
        Ok(self.session().end().map_or(Released::Confirmed, Released::WithSession))
    }

    fn removal(&self) -> Removal {
        match (self.shared_path, self.keeps_parent) {
            (true, _) => Removal::IfOwn(self.token),
            (false, true) => Removal::Alone,
            (false, false) => Removal::WithParent,
        }
    }

    /// The znode is gone, by a transaction say: nothing is left to clean up.
    pub(crate) fn gone(&self) {
        self.held.store(false, Ordering::Relaxed);
        drop(self.slot().take());
    }

    /// Hands the deletion to the session's reaper, as dropping this does.
    pub(crate) fn abandon(&self) {
        let Some(slot) = self.slot().take() else { return };
        match self.session().end() {
            Some(end) => self.count_loss(LossReason::SessionOver(end)),
            None => self.recipe.reaped(),
        }
        self.held.store(false, Ordering::Relaxed);
        let (client, path, removal) = (self.client.clone(), self.path.clone(), self.removal());
        slot.run(async move {
            if let Err(error) = remove(&client, &path, removal).await
                && !error.session_over()
            {
                warn!(%path, %error, "a znode could not be cleaned up");
            }
        });
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// Creates a znode whose name is new: one that is there already is what an attempt without a reply
/// has made.
async fn create_ephemeral(client: &Client, path: &Path, data: &[u8]) -> Result<Stat, ClientError> {
    let (mut unsure, mut attempts) = (false, 0);
    loop {
        match client.create(path, data).ephemeral().with_stat().await {
            Ok((_, stat)) => return Ok(stat),
            Err(ClientError::ConnectionLost { maybe_applied, .. }) => unsure |= maybe_applied,
            // A parent that was made may be reaped again before it has a child.
            Err(error) if error.is(Code::NoNode) && attempts < PARENT_ATTEMPTS_MAX => {
                attempts += 1;
                make_parents(client, path).await?;
            }
            Err(error) if error.is(Code::NodeExists) && unsure => {
                if let Some(stat) = persist!(client.exists(path))? {
                    return Ok(stat);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// How a znode is deleted.
#[derive(Clone, Copy)]
enum Removal {
    /// And its parent, when that is due.
    WithParent,
    Alone,
    /// Only if it is the one that was created at the token: others may have znodes there too.
    IfOwn(Zxid),
}

async fn remove(client: &Client, path: &Path, removal: Removal) -> Result<(), ClientError> {
    match removal {
        Removal::WithParent => delete(client, path).await,
        Removal::Alone => delete_alone(client, path).await,
        Removal::IfOwn(token) => delete_own(client, path, token).await,
    }
}

/// Deletes the znode if it is of this session and was created at `token` (zero: it is not known
/// when). Of what may be deleted, and replaced by another's, between look and deletion, the version
/// is all there is to go by.
async fn delete_own(client: &Client, path: &Path, token: Zxid) -> Result<(), ClientError> {
    // A create without a reply may not have come to the member that answers now.
    persist!(client.sync())?;
    while let Some(stat) = persist!(client.exists(path))? {
        let own = stat.ephemeral_owner == Some(client.session().id())
            && (token == Zxid::ZERO || token == stat.czxid);
        if !own {
            break;
        }
        match persist!(client.delete(path).version(stat.version)) {
            Err(error) if error.is(Code::BadVersion) => {}
            Err(error) if !error.is(Code::NoNode) => return Err(error),
            _ => break,
        }
    }
    Ok(())
}

/// Waits until an ephemeral znode of the session of `client`, a pinned one, is gone, or counts as
/// gone since the session is over.
pub(crate) async fn gone(client: &Client, path: &Path) -> LossReason {
    let session = client.session();
    let deleted = async {
        loop {
            match persist!(client.get(path).watched()) {
                Ok((_, changed)) => drop(changed.await),
                Err(error) if error.is(Code::NoNode) => return,
                // It cannot be watched: the session is all there is to go by.
                Err(_) => return std::future::pending().await,
            }
        }
    };
    tokio::select! {
        biased;
        end = session.lost() => LossReason::SessionOver(end),
        () = deleted => LossReason::Removed,
    }
}

/// Deletes a znode that may be gone already, and its parent when that is due.
pub(crate) async fn delete(client: &Client, path: &Path) -> Result<(), ClientError> {
    delete_alone(client, path).await?;
    rotate(client, path).await;
    Ok(())
}

/// Deletes a znode that may be gone already, and leaves its parent.
pub(crate) async fn delete_alone(client: &Client, path: &Path) -> Result<(), ClientError> {
    match persist!(client.delete(path)) {
        Err(error) if !error.is(Code::NoNode) => Err(error),
        _ => Ok(()),
    }
}

/// Deletes the parent of a znode that is gone, if it is empty, and its sequence has come far or
/// no server reaps it.
pub(crate) async fn rotate(client: &Client, gone: &Path) {
    let Some(parent) = gone.parent() else { return };
    let name = gone.name();
    let suffix = name.get(name.len().saturating_sub(10)..).and_then(|digits| digits.parse().ok());
    let far = suffix.is_some_and(|suffix: i32| suffix >= ROTATE_FROM);
    if far || !client.server_kind().has_containers() {
        // It is not empty, or somebody was faster: then a later one does it.
        let _ = client.delete(&parent).await;
    }
}
