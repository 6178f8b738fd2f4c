//! A configuration: typed, published in versions, followed by everybody who uses it.
//!
//! ```text
//! /config/limits          {"current":7,"last":8,"chunked":{"8":"9f1c…"},"rollout":{"version":8,…}}
//! ├── versions
//! │   ├── 0000000007      who and why, then {"rps": 200, "burst": 400}: never changed
//! │   └── 0000000008      who and why; what it holds is in chunks
//! ├── chunks
//! │   └── 9f1c…           a value too large for one znode
//! │       ├── 0000
//! │       └── 0001
//! └── reports
//!     └── node-7@10a…     {"running":7,"offered":7}, ephemeral
//! ```
//!
//! 1. Publish: read the pointer, and make the next document of the version that applies. One
//!    transaction sets the pointer (at the znode version that was read), creates the version and
//!    deletes the oldest ones. Who comes second is refused, and begins anew or gives up.
//! 2. A large value is written first, in chunks, with an ephemeral owner that this transaction
//!    deletes.
//! 3. Read: get the pointer, leaving a watch in the same step; get the version that it names. One
//!    znode, written once: what is read is never a mixture of two versions.
//! 4. Merge the layers that concern this reader, check type and rules, and only then swap the
//!    value in. What is bad is reported, and the last good value stays.
//! 5. When the watch fires, or a new session begins, read again; never follow a pointer that is
//!    older than the last one. (A coordinator that begins anew after its memory was lost is
//!    followed: a sync tells it from one that lags.)
//!
//! A publisher may die between any two steps. Before the transaction nothing can be seen but
//! chunks, which no pointer names: once their owner is gone with the session, any publisher sweeps
//! them. The transaction is done or not. After it, the sweep of what the deleted versions leave is
//! any later publisher's, too. A reply that is lost with the connection is found out about: each
//! version carries a random id.
//!
//! # Layout
//! | file | what it holds |
//! |---|---|
//! | `open` | [`Open`]: options; disk copy and file at the start |
//! | `follow`, `report` | the task behind a [`Config`], and what it says of itself |
//! | `store`, `diff` | [`ConfigStore`]: versions read, listed, compared |
//! | `publish`, `chunks`, `rollout` | what publishers write |
//! | `pointer`, `record`, `disk` | what lies in the znodes, and on disk |
//! | `layer`, `format`, `typed`, `fault`, `secret` | from texts to a value, and what is wrong with it |
//! | [`limits`] | every bound |

mod chunks;
mod diff;
mod disk;
mod fault;
mod follow;
mod format;
mod layer;
pub mod limits;
mod open;
mod pointer;
mod publish;
mod record;
mod report;
mod rollout;
mod secret;
mod store;
mod typed;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use futures::Stream;
use synod_core::model::{Error as ClientError, SessionEnd, Zxid};
use tokio::sync::watch as latest;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::Error;
pub use diff::Difference;
pub use fault::{Fault, Position};
use follow::{News, Shared};
pub use format::Format;
use layer::Layers;
pub use layer::{Explanation, Layer};
pub use open::{Open, Verdict};
pub use pointer::Rollout;
pub use publish::{If, Publish};
pub use rollout::Report;
pub use secret::Secret;
pub use store::{ConfigStore, Record, Status};

/// A value, and which version it is.
#[derive(Clone)]
pub struct Versioned<T> {
    /// The value: its layers merged, of the type, and held to the rules.
    pub value: T,
    /// The version; 0 if nothing is published. It goes back only when a roll-out is aborted, and
    /// begins anew at 1 when the znode is deleted and published again.
    pub version: u64,
    /// The zxid of its publication.
    pub zxid: Zxid,
    /// Where it comes from.
    pub origin: Origin,
    layers: Layers,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// It was published, and read from the coordinator.
    Published,
    /// It was published, and read from the disk copy: there may be a newer one.
    Disk,
    /// Nothing is published; the defaults and the file are all there is.
    Local,
}

impl<T> Versioned<T> {
    /// Which layer the value of a key comes from, and what it won over; `None` if there is no such
    /// key. `key` is of the form `db.pool.size`, or a JSON pointer, `/db/pool/size`; empty, it is
    /// the whole. Secrets are not shown.
    pub fn explain(&self, key: &str) -> Option<Explanation> {
        self.layers.explain(key)
    }
}

impl<T: PartialEq> PartialEq for Versioned<T> {
    fn eq(&self, other: &Versioned<T>) -> bool {
        (self.version, self.zxid, self.origin) == (other.version, other.zxid, other.origin)
            && self.value == other.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Versioned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Versioned")
            .field("value", &self.value)
            .field("version", &self.version)
            .field("zxid", &self.zxid)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// A typed configuration that follows what is published, by a task that ends with the last clone
/// of this handle. Opened by [`Config::open`]; publishing, history and roll-outs are those of
/// [`ConfigStore`], which it is too.
///
/// **On session loss** it goes on in the next session. As long as the coordinator is out of reach
/// the last good value stays, and [`stale_since`](Config::stale_since) says since when.
pub struct Config<T> {
    inner: Arc<Following<T>>,
}

struct Following<T> {
    store: ConfigStore<T>,
    shared: Arc<Shared<T>>,
    latest: latest::Receiver<News<T>>,
    follower: JoinHandle<()>,
}

impl<T> Drop for Following<T> {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl<T> Clone for Config<T> {
    fn clone(&self) -> Config<T> {
        Config { inner: Arc::clone(&self.inner) }
    }
}

impl<T> Deref for Config<T> {
    type Target = ConfigStore<T>;

    fn deref(&self) -> &ConfigStore<T> {
        &self.inner.store
    }
}

impl<T> fmt::Debug for Config<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.inner.shared.current.load().version;
        f.debug_struct("Config").field("path", self.path()).field("version", &version).finish()
    }
}

impl<T: Send + Sync + 'static> Config<T> {
    /// The last good value. It neither waits nor locks.
    pub fn current(&self) -> Arc<Versioned<T>> {
        self.inner.shared.current.load_full()
    }

    /// Since when nobody vouches for [`current`](Config::current): the connection is broken, no
    /// session is open, or the znode cannot be read. A value from the disk copy is stale from the
    /// opening on, until the coordinator has been asked. `None` while it is followed.
    pub fn stale_since(&self) -> Option<Instant> {
        self.inner.shared.stale_since.load().as_deref().copied()
    }

    /// What happens from now on (take it before [`current`](Config::current), so that nothing
    /// falls between the two): a stream of new values, and of errors where there is none
    /// ([`Error::BadValue`], [`Error::Unpublished`], [`Error::Client`]); the last good value stays
    /// then. A reader that is slow sees the newest and may miss ones between. It ends when the
    /// last clone of this handle is dropped or the client is closed.
    pub fn changes(
        &self,
    ) -> impl Stream<Item = Result<Arc<Versioned<T>>, Error>> + Send + Unpin + use<T> {
        let mut changes = self.inner.latest.clone();
        changes.mark_unchanged();
        Box::pin(futures::stream::unfold(changes, async |mut changes| {
            loop {
                changes.changed().await.ok()?;
                let latest = changes.borrow_and_update().latest.clone();
                if let Some(latest) = latest {
                    return Some((latest, changes));
                }
            }
        }))
    }

    /// Waits until `version`, or a later one, is taken here, and yields what is taken. A version
    /// that is being rolled out to others is not taken until it is promoted.
    ///
    /// Cancelling it changes nothing.
    ///
    /// # Errors
    /// [`Error::BadValue`] if `version`, or a later one, was refused here; [`Error::Client`] when
    /// the client is closed.
    pub async fn wait_for(&self, version: u64) -> Result<Arc<Versioned<T>>, Error> {
        let mut news = self.inner.latest.clone();
        loop {
            let refused = news.borrow_and_update().refused.clone();
            let current = self.current();
            if current.version >= version {
                return Ok(current);
            }
            if let Some((_, error)) = refused.filter(|(refused, _)| *refused >= version) {
                return Err(error);
            }
            if news.changed().await.is_err() {
                let session = self.inner.store.inner.client.session().id();
                let (end, maybe_applied) = (SessionEnd::Closed, false);
                return Err(ClientError::SessionOver { session, end, maybe_applied }.into());
            }
        }
    }
}
