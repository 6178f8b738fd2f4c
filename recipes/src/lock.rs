//! A lock: one holder at a time, first come, first served.
//!
//! ```text
//! /locks/report                            a container, made when needed
//! ├── _c_9f1c…-lock-0000000007             the holder; czxid = fencing token
//! └── _c_40ab…-lock-0000000008             waits for …07 to go
//! ```
//!
//! 1. Create an ephemeral sequential znode with a random id in its name.
//! 2. List; the lowest suffix holds.
//! 3. Otherwise watch the one just before, and list again when it goes: each release wakes one.
//! 4. The token is the znode's `czxid`, which grows over the whole tree.
//! 5. Release deletes the znode; a session that ends takes it along.

use std::time::Duration;

use synod_core::client::{Client, IntoPath};
use synod_core::model::Path;

use crate::contender::{Contender, Marker};
use crate::error::Error;
use crate::guard::Guard;

const LOCK: Marker = Marker("-lock-");

/// A lock at a path. Cheap to clone; every clone, and every `Lock` of the same path anywhere,
/// is the same lock. It is not reentrant: a holder that acquires again waits for itself.
#[derive(Clone, Debug)]
pub struct Lock {
    client: Client,
    path: Path,
}

impl Lock {
    /// The lock at `path`. Nothing is sent yet; the znode is made (as a container) when somebody
    /// acquires.
    ///
    /// # Errors
    /// [`Error::Client`] if the path is not valid.
    pub fn new(client: &Client, path: impl IntoPath) -> Result<Lock, Error> {
        Ok(Lock { client: client.clone(), path: path.into_path()? })
    }

    /// The path of the lock.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for its turn and takes the lock.
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
    pub async fn acquire(&self) -> Result<Guard, Error> {
        let contender = Contender::enter(&self.client, &self.path, LOCK, b"").await?;
        contender.first_in_line().await?;
        Ok(Guard::new(contender))
    }

    /// Takes the lock if nobody holds it or waits for it; `None` otherwise.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// As [`acquire`](Lock::acquire).
    pub async fn try_acquire(&self) -> Result<Option<Guard>, Error> {
        let contender = Contender::enter(&self.client, &self.path, LOCK, b"").await?;
        if contender.predecessor().await?.is_none() {
            return Ok(Some(Guard::new(contender)));
        }
        contender.leave().await?;
        Ok(None)
    }

    /// Waits at most `limit` for its turn.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::TimedOut`]: then nothing is held and the place in line is given up, in the
    /// background if need be. Otherwise as [`acquire`](Lock::acquire).
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub async fn acquire_within(&self, limit: Duration) -> Result<Guard, Error> {
        let timed_out = |_| Error::TimedOut { path: self.path.clone(), waited: limit };
        tokio::time::timeout(limit, self.acquire()).await.map_err(timed_out)?
    }
}
