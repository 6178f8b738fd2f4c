//! A read/write lock: many readers or one writer, first come, first served.
//!
//! ```text
//! /locks/index                             a container, made when needed
//! ├── _c_9f1c…-read-0000000007  {"host":…} reads
//! ├── _c_40ab…-read-0000000008             reads, too
//! ├── _c_d33e…-write-0000000009            waits for …08 to go
//! └── _c_71b0…-read-0000000010             waits for …09: it does not overtake
//! ```
//!
//! 1. Create an ephemeral sequential znode, whose name says what for.
//! 2. List. A writer that is first in line holds; a reader that has no writer before it does.
//! 3. Otherwise a writer watches the one just before, a reader the *last* writer before it, and both
//!    list again after each wake.
//! 4. A downgrade puts a read znode in the write znode's place, with the same suffix, in one
//!    transaction; so a writer that waits goes on waiting. An upgrade does the reverse, and succeeds
//!    if nobody else is in line.
//! 5. The token is the `czxid` of the znode; a downgrade keeps the writer's, an upgrade has a new one.

mod guards;

use std::sync::Arc;
use std::time::Duration;

use synod_core::client::{Client, IntoPath};
use synod_core::model::Path;

use crate::contender::{Contender, Marker};
use crate::error::Error;
use crate::layout::Layout;
use crate::lock::line::Line;
use crate::lock::{Owner, owner};
use crate::telemetry;
pub use guards::{NotUpgraded, ReadGuard, WriteGuard};

const READ: Marker = Marker::new("-read-", &telemetry::RWLOCK).beside("-write-").shared();
const WRITE: Marker = Marker::new("-write-", &telemetry::RWLOCK).beside("-read-");

/// A read/write lock at a path. Cheap to clone; every clone, and every `RwLock` of the same path
/// anywhere, is the same lock. It is not reentrant: a holder that asks again waits, for itself if one
/// of the two is a writer.
///
/// Nobody overtakes: a reader that comes after a waiting writer waits for that writer.
#[derive(Clone, Debug)]
pub struct RwLock {
    client: Client,
    path: Path,
    /// What its contenders say of themselves.
    metadata: Arc<[u8]>,
}

impl RwLock {
    /// The lock at `path`. Nothing is sent yet; the znode is made (as a container) when somebody
    /// acquires.
    ///
    /// # Errors
    /// [`Error::Client`] if the path is not valid.
    pub fn new(client: &Client, path: impl IntoPath) -> Result<RwLock, Error> {
        let (client, path) = (client.clone(), path.into_path()?);
        Ok(RwLock { client, path, metadata: owner::metadata("") })
    }

    /// What is to be told of those who acquire by this, as by
    /// [`Lock::with_label`](crate::Lock::with_label).
    pub fn with_label(self, label: &str) -> RwLock {
        RwLock { metadata: owner::metadata(label), ..self }
    }

    /// The path of the lock.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until no writer is before it, and reads along with the other readers.
    ///
    /// **Cancelling** it, at any moment, leaves nothing behind: the place in line is given up,
    /// in the background if need be. **If the session ends** while it waits, it fails; the lock is
    /// not asked for again in another session behind your back.
    ///
    /// # Errors
    /// [`Error::Client`] when a request failed or the session is over; [`Error::Lost`] when the
    /// session ended, or somebody deleted the znode, while it waited;
    /// [`Error::SequenceExhausted`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with time, if it has to wait.
    pub async fn read(&self) -> Result<ReadGuard, Error> {
        let acquire = async {
            let mut contender = self.enter(READ).await?;
            contender.turn().await?;
            ReadGuard::granted(contender)
        };
        telemetry::RWLOCK.acquiring(&self.path, acquire).await
    }

    /// Waits until nobody is before it, and writes alone.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// As [`read`](RwLock::read).
    ///
    /// # Panics
    /// As [`read`](RwLock::read).
    pub async fn write(&self) -> Result<WriteGuard, Error> {
        let acquire =
            async { Ok(WriteGuard::new(self.enter(WRITE).await?.first_in_line().await?)) };
        telemetry::RWLOCK.acquiring(&self.path, acquire).await
    }

    /// Reads if no writer holds or waits; `None` otherwise.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// As [`read`](RwLock::read).
    pub async fn try_read(&self) -> Result<Option<ReadGuard>, Error> {
        let mut contender = self.enter(READ).await?;
        if contender.predecessor().await?.is_none() {
            return Ok(Some(ReadGuard::granted(contender)?));
        }
        contender.leave().await?;
        Ok(None)
    }

    /// Writes if nobody holds or waits; `None` otherwise.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// As [`read`](RwLock::read).
    pub async fn try_write(&self) -> Result<Option<WriteGuard>, Error> {
        let mut contender = self.enter(WRITE).await?;
        if contender.predecessor().await?.is_none() {
            return Ok(Some(WriteGuard::new(contender.into_holding()?)));
        }
        contender.leave().await?;
        Ok(None)
    }

    /// Waits at most `limit` until it may read.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::TimedOut`]: then nothing is held and the place in line is given up, in the
    /// background if need be. Otherwise as [`read`](RwLock::read).
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub async fn read_within(&self, limit: Duration) -> Result<ReadGuard, Error> {
        tokio::time::timeout(limit, self.read()).await.map_err(|_| self.timed_out(limit))?
    }

    /// Waits at most `limit` until it may write.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// As [`read_within`](RwLock::read_within).
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub async fn write_within(&self, limit: Duration) -> Result<WriteGuard, Error> {
        tokio::time::timeout(limit, self.write()).await.map_err(|_| self.timed_out(limit))?
    }

    /// Who holds the lock now: one writer, or readers, or nobody. A reader
    /// [`shares`](Owner::shares).
    ///
    /// They are read one by one: one who comes or goes meanwhile may be among them or not.
    ///
    /// # Errors
    /// [`Error::Client`], also when one of them may not be read; [`Error::SequenceExhausted`].
    pub async fn holders(&self) -> Result<Vec<Owner>, Error> {
        self.line().holders().await
    }

    /// Who waits for the lock, in the order in which they came, behind those who hold it.
    ///
    /// # Errors
    /// As [`holders`](RwLock::holders).
    pub async fn waiters(&self) -> Result<Vec<Owner>, Error> {
        self.line().waiters().await
    }

    /// Asks a holder to let go, as [`Lock::revoke_request`](crate::Lock::revoke_request) does. The
    /// request stays with it when it upgrades or downgrades.
    ///
    /// # Errors
    /// As [`Lock::revoke_request`](crate::Lock::revoke_request).
    pub async fn revoke_request(&self, owner: &Owner) -> Result<Option<Owner>, Error> {
        self.line().revoke_request(owner).await
    }

    /// Takes the lock away from a holder, or its place from one that waits, as
    /// [`Lock::force_release`](crate::Lock::force_release) does.
    ///
    /// # Errors
    /// As [`Lock::force_release`](crate::Lock::force_release).
    pub async fn force_release(&self, owner: &Owner) -> Result<bool, Error> {
        self.line().force_release(owner).await
    }

    fn line(&self) -> Line<'_> {
        // Of the two markers that of those who hold together.
        Line { client: &self.client, path: &self.path, marker: READ, layout: Layout::Synod }
    }

    async fn enter(&self, marker: Marker) -> Result<Contender, Error> {
        Contender::enter(&self.client, &self.path, marker, &self.metadata).await
    }

    fn timed_out(&self, limit: Duration) -> Error {
        Error::TimedOut { path: self.path.clone(), waited: limit }
    }
}
