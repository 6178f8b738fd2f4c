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
//!    name begins with that id.
//! 2. If the reply is lost, list and look for the id: it was created, or it is created now.
//! 3. List. The lowest suffix is first in line.
//! 4. Otherwise watch the one just before, and list again when it changes.
//! 5. Whoever goes away early leaves the znode to the reaper, which deletes it as soon as the
//!    coordinator can be reached. If the session ends, so does the znode.
//!
//! The algorithm is the one of ZooKeeper's recipes (Hunt et al. 2010, "Simple Locks without Herd
//! Effect"), with the id from Curator's protected create. A contender belongs to one session and
//! never outlives it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use synod_core::client::{CleanupSlot, Client, Session};
use synod_core::model::{Acl, Code, CreateMode, Error as ClientError, OpResult, Path, Stat, Zxid};
use tracing::{debug, warn};

use crate::error::{Error, Loss, LossReason};

/// A contender looks again now and then, even if no watch has fired: events of a znode that it
/// may not read are swallowed by the coordinator.
const RECHECK: Duration = Duration::from_secs(30);

/// How often the parent may be found missing while it is made. It can go again, since an empty
/// container is reaped, but not many times in a row.
const PARENT_ATTEMPTS_MAX: usize = 16;

/// From this suffix on, a parent that is empty is deleted, so that its sequence begins anew long
/// before it ends.
const ROTATE_FROM: i32 = 1 << 30;

/// What contenders of one recipe have between id and suffix. Each recipe has its own, so that a
/// lock and an election at one path do not mix in silence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marker(pub(crate) &'static str);

/// A child that follows the grammar `_c_{id}{marker}{suffix}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entrant {
    pub(crate) name: String,
    /// Negative on servers that count past the end.
    suffix: i64,
}

/// Bytes of an id in its usual form, with hyphens.
const ID_BYTES: usize = 36;

impl Marker {
    fn parse(self, name: &str) -> Option<Entrant> {
        let rest = name.strip_prefix("_c_")?;
        let suffix = rest.get(ID_BYTES..)?.strip_prefix(self.0)?;
        let digits = suffix.strip_prefix('-').unwrap_or(suffix);
        // A negative suffix has its sign within the ten places, or before them.
        let regular = suffix.len() >= 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let suffix = suffix.parse().ok().filter(|_| regular)?;
        Some(Entrant { name: name.to_owned(), suffix })
    }

    /// The contenders among the children, first in line first.
    ///
    /// Children that do not follow the grammar are passed over, and told of: they must not wedge
    /// the others.
    ///
    /// # Errors
    /// [`Error::SequenceExhausted`] for negative or equal suffixes: the sequence has overflown,
    /// and any rule to break the tie would let two be first.
    pub(crate) fn line_up(self, parent: &Path, names: &[String]) -> Result<Vec<Entrant>, Error> {
        let mut entrants: Vec<Entrant> = Vec::with_capacity(names.len());
        for name in names {
            match self.parse(name) {
                Some(entrant) => entrants.push(entrant),
                None => warn!(%parent, child = name, "passed over a child of another kind"),
            }
        }
        entrants.sort_unstable_by(|a, b| (a.suffix, &a.name).cmp(&(b.suffix, &b.name)));
        let exhausted = |rule| Err(Error::SequenceExhausted { path: parent.clone(), rule });
        if entrants.first().is_some_and(|first| first.suffix < 0) {
            return exhausted("a sequence suffix is not negative");
        }
        if entrants.windows(2).any(|pair| pair[0].suffix == pair[1].suffix) {
            return exhausted("no two sequence suffixes are equal");
        }
        Ok(entrants)
    }
}

/// Repeats a request that does no harm when done twice, until it is answered. Each attempt waits
/// for the connection, so this ends with the session at the latest. (A macro, since the future of
/// an async closure that borrows cannot be promised to be `Send`.)
macro_rules! persist {
    ($request:expr) => {
        loop {
            match $request.await {
                Err(ClientError::ConnectionLost { .. }) => {}
                answer => break answer,
            }
        }
    };
}

/// How a contender's znode was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Released {
    /// The coordinator has deleted it: the next in line holds now.
    Confirmed,
    /// The session is over. The znode is gone, or goes when the coordinator expires the session.
    WithSession(synod_core::model::SessionEnd),
}

/// One that waits for its turn, or has it. Dropping it, at any moment, leaves nothing behind.
pub(crate) struct Contender {
    /// Pinned to the session that the contender belongs to.
    client: Client,
    parent: Path,
    marker: Marker,
    /// The name without its suffix; the id in it is new for each contender.
    stem: String,
    /// Where the znode is, once that is known.
    entered: Option<(Path, Stat)>,
    /// Taken when there is nothing left to clean up.
    slot: Mutex<Option<CleanupSlot>>,
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
        let slot = Mutex::new(Some(client.session().reserve_cleanup()?));
        let stem = format!("_c_{}{}", client.random_id().hyphenated(), marker.0);
        let mut contender =
            Contender { client, parent: parent.clone(), marker, stem, entered: None, slot };
        let (path, stat) = contender.create(data).await?;
        let (session, owner) = (contender.session().id(), stat.ephemeral_owner);
        contender.entered = Some((path, stat));
        if owner != Some(session) {
            // Not ours to hold: a znode of an earlier session, say.
            return Err(contender.removed().into());
        }
        debug!(path = %contender.path(), token = %contender.token(), "in line");
        Ok(contender)
    }

    async fn create(&self, data: &[u8]) -> Result<(Path, Stat), Error> {
        let stem = self.parent.join(&self.stem)?;
        let mut attempts = 0;
        loop {
            let create = self.client.create(&stem, data).ephemeral().sequential();
            let created = match create.with_stat().await {
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
        let mut missing = Vec::new();
        let mut above = self.parent.parent();
        while let Some(path) = above {
            if persist!(self.client.exists(&path))?.is_some() {
                break;
            }
            above = path.parent();
            missing.push(path);
        }
        for path in missing.iter().rev() {
            let create = || match self.client.server_kind().has_containers() {
                true => self.client.create(path, b"").container(),
                false => self.client.create(path, b""),
            };
            match persist!(create()) {
                Err(error) if !error.is(Code::NodeExists) => return Err(error),
                _ => {}
            }
        }
        let mode = CreateMode::EphemeralSequential;
        let txn = self.client.txn();
        let parent_mode = match self.client.server_kind().has_containers() {
            true => CreateMode::Container,
            false => CreateMode::Persistent,
        };
        let txn = txn.create_as(&self.parent, b"", parent_mode, Acl::open());
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

    fn slot(&self) -> MutexGuard<'_, Option<CleanupSlot>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn session(&self) -> Session {
        self.client.session()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The znode. The parent until it is entered.
    pub(crate) fn path(&self) -> &Path {
        self.entered.as_ref().map_or(&self.parent, |(path, _)| path)
    }

    /// The fencing token: the zxid of the znode's creation.
    pub(crate) fn token(&self) -> Zxid {
        self.entered.as_ref().map_or(Zxid::ZERO, |(_, stat)| stat.czxid)
    }

    pub(crate) fn loss(&self, reason: LossReason) -> Loss {
        Loss { path: self.path().clone(), token: self.token(), reason }
    }

    fn removed(&self) -> Loss {
        self.loss(LossReason::Removed)
    }

    /// The one just before this, or `None` when this is first in line.
    pub(crate) async fn predecessor(&self) -> Result<Option<Entrant>, Error> {
        let names = match persist!(self.client.children(&self.parent)) {
            Err(error) if error.is(Code::NoNode) => return Err(self.removed().into()),
            names => names?,
        };
        let mut line = self.marker.line_up(&self.parent, &names)?;
        match line.iter().position(|entrant| entrant.name == self.path().name()) {
            None => Err(self.removed().into()),
            Some(0) => Ok(None),
            Some(place) => Ok(Some(line.swap_remove(place - 1))),
        }
    }

    /// Waits until this is first in line.
    pub(crate) async fn first_in_line(&self) -> Result<(), Error> {
        let session = self.session();
        while let Some(before) = self.predecessor().await? {
            let path = self.parent.join(&before.name)?;
            // By `get`, which leaves no watch where there is no znode: one that is gone never
            // comes back.
            let gone = match self.client.get(&path).watched().await {
                Ok((_, gone)) => gone,
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

    /// Asks the coordinator whether this is held.
    pub(crate) async fn held(&self) -> Result<(), Error> {
        if self.slot().is_none() {
            return Err(self.removed().into());
        }
        match persist!(self.client.exists(self.path())) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(self.removed().into()),
            Err(ClientError::SessionOver { end, .. }) => {
                Err(self.loss(LossReason::SessionOver(end)).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until this is no longer held: its session is over, or its znode was deleted.
    pub(crate) async fn lost(&self) -> Loss {
        let session = self.session();
        loop {
            if self.slot().is_none() {
                // Given up by its own wish.
                return self.removed();
            }
            let watched = persist!(self.client.get(self.path()).watched());
            let end = match watched {
                Ok((_, changed)) => tokio::select! {
                    biased;
                    end = session.lost() => end,
                    _ = changed => continue,
                },
                Err(error) if error.is(Code::NoNode) => return self.removed(),
                // It cannot be watched: the session is all there is to go by.
                Err(_) => session.lost().await,
            };
            return self.loss(LossReason::SessionOver(end));
        }
    }

    /// Leaves the line and waits for the confirmation.
    pub(crate) async fn leave(&self) -> Result<Released, Error> {
        let Some((path, stat)) = self.entered.clone() else { return Ok(Released::Confirmed) };
        if self.slot().is_some() {
            match persist!(self.client.delete(&path)) {
                Ok(()) => {}
                Err(error) if error.is(Code::NoNode) => {}
                Err(error) if error.session_over() => {
                    drop(self.slot().take());
                    let end = self.session().lost().await;
                    return Ok(Released::WithSession(end));
                }
                Err(error) => return Err(error.into()),
            }
            drop(self.slot().take());
            rotate(&self.client, &self.parent, path.name()).await;
            debug!(%path, token = %stat.czxid, "left");
        }
        Ok(self.session().end().map_or(Released::Confirmed, Released::WithSession))
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        let Some(slot) = self.slot().take() else { return };
        let (client, parent, stem) = (self.client.clone(), self.parent.clone(), self.stem.clone());
        let entered = self.entered.take().map(|(path, _)| path);
        slot.run(async move {
            if let Err(error) = clean_up(&client, &parent, &stem, entered).await
                && !error.session_over()
            {
                warn!(%parent, stem, %error, "a contender could not be cleaned up");
            }
        });
    }
}

/// Deletes the znode of a contender that went away, wherever it may be.
async fn clean_up(
    client: &Client,
    parent: &Path,
    stem: &str,
    entered: Option<Path>,
) -> Result<(), ClientError> {
    let paths = match entered {
        Some(path) => vec![path],
        None => {
            persist!(client.sync())?;
            let names = match persist!(client.children(parent)) {
                Err(error) if error.is(Code::NoNode) => return Ok(()),
                names => names?,
            };
            let ours = names.iter().filter(|name| name.starts_with(stem));
            ours.map(|name| parent.join(name)).collect::<Result<_, _>>()?
        }
    };
    for path in paths {
        match persist!(client.delete(&path)) {
            Err(error) if !error.is(Code::NoNode) => return Err(error),
            _ => rotate(client, parent, path.name()).await,
        }
    }
    Ok(())
}

/// Deletes a parent, if it is empty, whose sequence has come far, or which no server reaps.
async fn rotate(client: &Client, parent: &Path, name: &str) {
    let suffix = name.get(name.len().saturating_sub(10)..).and_then(|digits| digits.parse().ok());
    let far = suffix.is_some_and(|suffix: i32| suffix >= ROTATE_FROM);
    if far || !client.server_kind().has_containers() {
        // It is not empty, or somebody was faster: then a later one does it.
        let _ = client.delete(parent).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: Marker = Marker("-lock-");

    fn name(id: u128, suffix: &str) -> String {
        format!("_c_{:08x}-0000-4000-8000-000000000000-lock-{suffix}", id)
    }

    fn line_up(names: &[String]) -> Result<Vec<i64>, Error> {
        let line = LOCK.line_up(&Path::root(), names)?;
        Ok(line.into_iter().map(|entrant| entrant.suffix).collect())
    }

    #[test]
    fn the_lowest_suffix_is_first_whatever_the_id() {
        let names = [name(1, "0000000012"), name(9, "0000000003"), name(5, "2147483646")];
        assert_eq!(line_up(&names).expect("valid"), [3, 12, 2_147_483_646]);
    }

    #[test]
    fn foreign_children_are_passed_over() {
        let foreign = ["", "x", "_c_", "_c_short-lock-0000000001", "lock-0000000001"];
        let mut names: Vec<String> = foreign.map(str::to_owned).into();
        names.push(name(1, "0000000001").replace("-lock-", "-lead-"));
        names.push(name(1, "00000001x1"));
        names.push(name(1, "1"));
        names.push(name(1, ""));
        names.push("_c_ü".repeat(20));
        names.push(name(2, "0000000007"));
        assert_eq!(line_up(&names).expect("valid"), [7]);
    }

    #[test]
    fn equal_suffixes_are_refused() {
        let error = line_up(&[name(1, "2147483647"), name(2, "2147483647")]);
        let error = error.expect_err("two would be first").to_string();
        assert!(error.contains("exhausted") && error.contains("equal"), "{error}");
    }

    #[test]
    fn negative_suffixes_are_refused() {
        for suffix in ["-2147483648", "-000000001"] {
            let error = line_up(&[name(1, "0000000007"), name(2, suffix)]);
            let error = error.expect_err("the sequence has overflown").to_string();
            assert!(error.contains("exhausted") && error.contains("negative"), "{error}");
        }
    }
}
