//! A live copy of a znode, or of a whole subtree.
//!
//! ```text
//! /services                      one recursive watch, on the root
//! ├── api      {"v": 3}          ┐
//! │   ├── 10.0.0.7:80            │ read once, and again when an event tells of a change
//! │   └── 10.0.0.9:80            │
//! └── billing  {"v": 1}          ┘
//! ```
//!
//! 1. Leave the watch, then read the znodes from the root down, as many at a time as one reply can
//!    carry.
//! 2. When events come, read what they name, all of it at one moment.
//! 3. What was read is shown when it is known to be what the whole subtree was at one zxid: from
//!    the zxids of reads, events and znodes. So a reader never sees half a transaction.
//! 4. After the connection was broken, or events were lost, all is read again, and what differs by
//!    `czxid` or `mzxid` is told.
//! 5. In a new session, wait until the member is not behind what was seen: a cache never goes back.

mod events;
mod map;
mod shared;
mod snapshot;

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;

use futures::future::BoxFuture;
use synod_core::client::{Client, IntoPath};
use synod_core::model::{Error as ClientError, Path, SessionEnd, Zxid};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use events::{CacheEvent, CacheEvents};
pub use shared::CacheState;
pub use snapshot::{Node, Snapshot};

use crate::error::Error;
use crate::subtree::{Follower, Scope, scope_options};
use shared::{Published, Shared};

/// The znodes of a subtree, kept up to date by a task that ends with the last handle.
///
/// Cheap to clone. It is read without waiting and without a lock, from any thread. What is read at
/// one time is what the subtree was at one zxid: [`current`](Cache::current) says at which.
///
/// It goes on over broken connections and expired sessions, and when its root is deleted and
/// created again; [`state`](Cache::state) says when it may be behind. It knows no more than its
/// client does, which takes two thirds of a session timeout to notice a connection that has gone
/// silent. When the client is closed, it stays as it is.
///
/// Znodes that the client may not read are not in it, and what permissions do to that is not told:
/// events are of znodes that are created, set and deleted.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
    client: Client,
    root: Path,
    _task: Arc<Task>,
}

struct Task {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.end();
    }
}

/// A cache to open, and what it is to hold. Made by [`Cache::open`]; awaiting it opens the cache.
#[must_use = "a cache is opened when this is awaited"]
pub struct OpenCache {
    client: Client,
    scope: Scope,
    invalid: Option<ClientError>,
}

impl OpenCache {
    scope_options! {}

    /// Begins to read, and does not wait for it: the cache is empty and its state
    /// [`Uncertain`](CacheState::Uncertain) until then.
    ///
    /// # Errors
    /// [`Error::Client`] if the path is not valid.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub fn start(self) -> Result<Cache, Error> {
        let OpenCache { client, scope, invalid } = self;
        if let Some(error) = invalid {
            return Err(error.into());
        }
        let (shared, root) = (Arc::new(Shared::new()), scope.root.clone());
        let follower = Follower::new(client.clone(), scope, Arc::clone(&shared.asks), Zxid::ZERO);
        let task = tokio::spawn(Arc::clone(&shared).keep(follower));
        let task = Arc::new(Task { shared: Arc::clone(&shared), task });
        Ok(Cache { shared, client, root, _task: task })
    }
}

impl IntoFuture for OpenCache {
    type Output = Result<Cache, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// Waits until all is read. Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// As [`Cache::initialized`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let cache = self.start()?;
            cache.initialized().await?;
            Ok(cache)
        })
    }
}

impl Cache {
    /// A cache of the znode at `path` and of all below it, unless the options say less. The znode
    /// need not exist.
    ///
    /// It takes a watch that stays and is recursive: Apache ZooKeeper has it since 3.6; older ones,
    /// and what is taken for a ClickHouse Keeper, do not, and opening the cache says so. (Before 3.9
    /// do not mix it with watched reads of the same path by the same client.)
    pub fn open(client: &Client, path: impl IntoPath) -> OpenCache {
        let (root, invalid) = match path.into_path() {
            Ok(root) => (root, None),
            Err(error) => (Path::root(), Some(error)),
        };
        OpenCache { client: client.clone(), scope: Scope::new(root), invalid }
    }

    /// Waits until all has been read for the first time. Cancelling it changes nothing.
    ///
    /// # Errors
    /// [`Error::Client`] when the root cannot be read or watched, or the client is closed;
    /// [`Error::TooLarge`] past a bound. The cache goes on trying, and this may be called again. A
    /// broken connection is no error: it waits.
    pub async fn initialized(&self) -> Result<(), Error> {
        self.until(|now| now.initialized).await.map(drop)
    }

    /// What the subtree was at the zxid that it names: the newest that is known. It neither waits
    /// nor locks.
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.shared.current.load().snapshot)
    }

    /// The znode at `path`, in the newest snapshot. It neither waits nor locks.
    pub fn get(&self, path: impl AsRef<str>) -> Option<Arc<Node>> {
        self.shared.current.load().snapshot.get(path).cloned()
    }

    /// Waits until the cache holds everything that was committed before this was called, by
    /// whomever, and gives it. Cancelling it changes nothing.
    ///
    /// # Errors
    /// As [`initialized`](Cache::initialized).
    pub async fn sync(&self) -> Result<Arc<Snapshot>, Error> {
        let number = self.shared.asks.ask();
        let now = self.until(|now| now.initialized && now.answered >= number).await?;
        Ok(Arc::clone(&now.snapshot))
    }

    /// Waits for what is `wanted`, unless there is a reason why it may not come.
    async fn until(&self, wanted: impl Fn(&Published) -> bool) -> Result<Arc<Published>, Error> {
        let failed = |now: &Published| match &now.state {
            CacheState::Uncertain { reason, .. } => reason.clone(),
            CacheState::Current => None,
        };
        match self.shared.until(|now| wanted(now) || failed(now).is_some()).await {
            Some(now) if wanted(&now) => Ok(now),
            Some(now) => Err(failed(&now).unwrap_or_else(|| self.closed())),
            None => Err(self.closed()),
        }
    }

    fn closed(&self) -> Error {
        let (session, end) = (self.client.session().id(), SessionEnd::Closed);
        ClientError::SessionOver { session, end, maybe_applied: false }.into()
    }

    /// Whether it is up to date, as far as its client knows.
    pub fn state(&self) -> CacheState {
        self.shared.current.load().state.clone()
    }

    /// Since when what it holds may be behind; `None` while it is up to date.
    pub fn stale_since(&self) -> Option<Instant> {
        match &self.shared.current.load().state {
            CacheState::Uncertain { since, .. } => Some(*since),
            CacheState::Current => None,
        }
    }

    /// What happens to it, from an empty one on: a stream that begins with what is there. A reader
    /// that is slow is told the difference between two snapshots, so that it may miss what came and
    /// went in between, but never how things stand; what is told waits in the snapshots, in no
    /// queue. It ends with the last handle of the cache, or when the client is closed.
    pub fn events(&self) -> CacheEvents {
        CacheEvents::of(Arc::clone(&self.shared))
    }

    /// The root of the subtree.
    pub fn path(&self) -> &Path {
        &self.root
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("path", &self.root)
            .field("current", &self.current())
            .field("state", &self.state())
            .finish()
    }
}
