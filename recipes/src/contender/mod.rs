//! The state machine behind every recipe in which one of many is first: an ephemeral sequential
//! znode that waits for its turn.
//!
//! ```text
//! /path                                    a container
//! ├── _c_9f1c…-lock-0000000007             the first in line: it holds
//! ├── _c_40ab…-lock-0000000008             watches …07 alone
//! └── _c_d33e…-lock-0000000010             watches …08 alone
//! ```
//!
//! 1. Choose a random id and take a place in the session's reaper; then create the znode, whose
//!    name begins with that id, and list in the same flight.
//! 2. If the reply is lost, list and look for the id: it was created, or it is created now.
//! 3. In the list, the lowest suffix is first in line.
//! 4. Otherwise watch the one just before, and list again when it changes.
//! 5. Whoever goes away early leaves the znode to the reaper, which deletes it as soon as the
//!    coordinator can be reached. If the session ends, so does the znode.
//!
//! The algorithm is the one of ZooKeeper's recipes (Hunt et al. 2010, "Simple Locks without Herd
//! Effect"), with the id from Curator's protected create. A contender belongs to one session and
//! never outlives it.

mod marker;

use std::time::Duration;

use futures::future::join;
use synod_core::client::{CleanupSlot, Client};
use synod_core::model::{Acl, Code, CreateMode, Error as ClientError, OpResult, Path, Stat, Zxid};
use tracing::{debug, warn};

pub(crate) use marker::{Entrant, Marker};

use crate::error::{Error, Loss, LossReason};
use crate::holding::{self, Holding, Released};
use crate::znodes::{PARENT_ATTEMPTS_MAX, make_parents, persist};

/// A contender looks again now and then, even if no watch has fired: events of a znode that it
/// may not read are swallowed by the coordinator.
const RECHECK: Duration = Duration::from_secs(30);

/// One that waits for its turn. Dropping it, at any moment, leaves nothing behind.
pub(crate) struct Contender {
    /// Pinned to the session that the contender belongs to.
    client: Client,
    parent: Path,
    marker: Marker,
    /// The name without its suffix; the id in it is new for each contender.
    stem: String,
    /// The znode, once it is known where it is.
    entered: Option<Holding>,
    /// The children as they were just after it was created, until they are looked at.
    listed: Option<Vec<String>>,
    /// Whether it has seen its place yet.
    looked: bool,
    /// The highest token of those that it has waited for.
    waited_for: Option<Zxid>,
    /// Taken when the znode is known.
    slot: Option<CleanupSlot>,
}

impl Contender {
    /// Enters the line at `parent`, which is made if it is missing (as a container).
    pub(crate) async fn enter(
        client: &Client,
        parent: &Path,
        marker: Marker,
        data: &[u8],
    ) -> Result<Contender, Error> {
        let client = client.pin().await?;
        let slot = Some(client.session().reserve_cleanup()?);
        let stem = marker.stem(&client);
        let parent = parent.clone();
        let (entered, listed, looked, waited_for) = (None, None, false, None);
        let mut contender =
            Contender { client, parent, marker, stem, entered, listed, looked, waited_for, slot };
        let (path, stat) = contender.create(data).await?;
        let owned = stat.ephemeral_owner == Some(contender.client.session().id());
        if let Some(slot) = contender.slot.take() {
            let client = contender.client.clone();
            let holding = Holding::new(marker.recipe(), client, path, stat.czxid, slot);
            let holding = holding.keeping_parent(marker.keeps_parent());
            debug!(path = %holding.path(), token = %holding.token(), "in line");
            contender.entered = Some(holding);
        }
        match owned {
            true => Ok(contender),
            // Not ours to hold: a znode of an earlier session, say.
            false => Err(contender.removed().into()),
        }
    }

    async fn create(&mut self, data: &[u8]) -> Result<(Path, Stat), Error> {
        let stem = self.parent.join(&self.stem)?;
        let mut attempts = 0;
        loop {
            let create = self.client.create(&stem, data).ephemeral().sequential().with_stat();
            let list = self.client.children(&self.parent);
            let (created, listed) = join(create, list.into_future()).await;
            // One that went ahead of the create, over a new connection say, says nothing.
            self.listed = listed.ok().filter(|names| match &created {
                Ok((path, _)) => names.iter().any(|name| name == path.name()),
                Err(_) => false,
            });
            let created = match created {
                Err(error) if error.is(Code::NoNode) && attempts < PARENT_ATTEMPTS_MAX => {
                    attempts += 1;
                    self.create_with_parent(&stem, data).await
                }
                created => created,
            };
            match created {
                Ok(created) => return Ok(created),
                // Somebody else made the parent, or it was reaped again: begin again.
                Err(error)
                    if attempts > 0
                        && attempts < PARENT_ATTEMPTS_MAX
                        && (error.is(Code::NodeExists) || error.is(Code::NoNode)) => {}
                Err(error) if error.is(Code::SequenceExhausted) => {
                    let rule = "a parent gives out sequence suffixes up to 2147483646";
                    return Err(Error::SequenceExhausted { path: self.parent.clone(), rule });
                }
                Err(ClientError::ConnectionLost { maybe_applied, .. }) => {
                    if maybe_applied && let Some(found) = self.find().await? {
                        return Ok(found);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes the parent and the contender in one transaction: an empty container may be reaped
    /// at any moment, one with a child is not.
    async fn create_with_parent(
        &self,
        stem: &Path,
        data: &[u8],
    ) -> Result<(Path, Stat), ClientError> {
        make_parents(&self.client, &self.parent).await?;
        let mode = CreateMode::EphemeralSequential;
        let txn = self.client.txn();
        let txn =
            txn.create_as(&self.parent, b"", self.marker.parent_mode(&self.client), Acl::open());
        let mut results = txn.create_as(stem, data, mode, Acl::open()).commit().await?;
        match results.pop() {
            // Apache ZooKeeper leaves the Stat out here.
            Some(OpResult::Created { path, stat }) if stat.czxid == Zxid::ZERO => {
                let path = Path::new(path)?;
                let stat = persist!(self.client.exists(&path))?.unwrap_or(stat);
                Ok((path, stat))
            }
            Some(OpResult::Created { path, stat }) => Ok((Path::new(path)?, stat)),
            other => {
                let rule = "a create answers with path and Stat";
                Err(ClientError::invalid("reply", format!("{other:?}"), rule))
            }
        }
    }

    /// Looks for the znode by its id. Behind a sync, on the same session, the answer is final:
    /// what was sent before has been done by now or never will be.
    async fn find(&self) -> Result<Option<(Path, Stat)>, ClientError> {
        persist!(self.client.sync())?;
        let names = match persist!(self.client.children(&self.parent)) {
            Err(error) if error.is(Code::NoNode) => return Ok(None),
            names => names?,
        };
        let Some(name) = names.iter().find(|name| name.starts_with(&self.stem)) else {
            return Ok(None);
        };
        let path = self.parent.join(name)?;
        // Between the two reads it can only go, not come.
        let stat = persist!(self.client.exists(&path))?;
        Ok(stat.map(|stat| (path, stat)))
    }

    /// The znode. The parent until it is entered.
    pub(crate) fn path(&self) -> &Path {
        self.entered.as_ref().map_or(&self.parent, Holding::path)
    }

    fn loss(&self, reason: LossReason) -> Loss {
        let token = self.entered.as_ref().map_or(Zxid::ZERO, Holding::token);
        Loss { path: self.path().clone(), token, reason }
    }

    fn removed(&self) -> Loss {
        self.loss(LossReason::Removed)
    }

    /// The one before this that it has to wait for, or `None` when it is this one's turn.
    pub(crate) async fn predecessor(&mut self) -> Result<Option<Entrant>, Error> {
        let names = match self.listed.take() {
            Some(names) => names,
            None => match persist!(self.client.children(&self.parent)) {
                Err(error) if error.is(Code::NoNode) => return Err(self.removed().into()),
                names => names?,
            },
        };
        let line = self.marker.line_up(&self.parent, &names)?;
        match line.iter().position(|entrant| entrant.name == self.path().name()) {
            None => Err(self.removed().into()),
            Some(place) => {
                if !std::mem::replace(&mut self.looked, true) {
                    self.marker.recipe().came_behind(place);
                }
                Ok(self.marker.waits_for(&line[..place]).cloned())
            }
        }
    }

    /// The highest token of those that this has waited for, if it could read any.
    pub(crate) fn waited_for(&self) -> Option<Zxid> {
        self.waited_for
    }

    /// Waits until this is first in line.
    pub(crate) async fn first_in_line(mut self) -> Result<Holding, Error> {
        self.turn().await?;
        self.into_holding()
    }

    /// Waits until it is this one's turn.
    pub(crate) async fn turn(&mut self) -> Result<(), Error> {
        let session = self.client.session();
        while let Some(before) = self.predecessor().await? {
            let path = self.parent.join(&before.name)?;
            // By `get`, which leaves no watch where there is no znode: one that is gone never
            // comes back.
            let gone = match self.client.get(&path).watched().await {
                Ok(((_, stat), gone)) => {
                    self.waited_for = self.waited_for.max(Some(stat.czxid));
                    gone
                }
                Err(error) if error.is(Code::NoNode) => continue,
                Err(ClientError::ConnectionLost { .. }) => continue,
                Err(error) if error.is(Code::NoAuth) => {
                    tokio::time::sleep(RECHECK).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            tokio::select! {
                biased;
                end = session.lost() => {
                    return Err(self.loss(LossReason::SessionOver(end)).into());
                }
                event = gone => {
                    event?;
                }
                () = tokio::time::sleep(RECHECK) => {}
            }
        }
        match session.end() {
            Some(end) => Err(self.loss(LossReason::SessionOver(end)).into()),
            None => Ok(()),
        }
    }

    /// What a contender that is first in line holds.
    pub(crate) fn into_holding(mut self) -> Result<Holding, Error> {
        let removed = self.removed();
        self.entered.take().ok_or_else(|| removed.into())
    }

    /// Leaves the line and waits for the confirmation.
    pub(crate) async fn leave(self) -> Result<Released, Error> {
        self.into_holding()?.leave().await
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        let (client, parent, stem) = (self.client.clone(), self.parent.clone(), self.stem.clone());
        let keeps_parent = self.marker.keeps_parent();
        self.marker.recipe().reaped();
        slot.run(async move {
            if let Err(error) = clean_up(&client, &parent, &stem, keeps_parent).await
                && !error.session_over()
            {
                warn!(%parent, stem, %error, "a contender could not be cleaned up");
            }
        });
    }
}

/// Deletes the znode of a contender that went away while it entered, wherever it may be.
async fn clean_up(
    client: &Client,
    parent: &Path,
    stem: &str,
    keeps_parent: bool,
) -> Result<(), ClientError> {
    persist!(client.sync())?;
    let names = match persist!(client.children(parent)) {
        Err(error) if error.is(Code::NoNode) => return Ok(()),
        names => names?,
    };
    for name in names.iter().filter(|name| name.starts_with(stem)) {
        let path = parent.join(name)?;
        match keeps_parent {
            true => holding::delete_alone(client, &path).await?,
            false => holding::delete(client, &path).await?,
        }
    }
    Ok(())
}
