//! A typed configuration that follows a znode.
//!
//! ```text
//! /config/limits   {"rps": 200, "burst": 400}   JSON; the znode's version is the config's
//! ```
//!
//! 1. Read the znode and leave a watch in the same step.
//! 2. Parse. What parses replaces the current value at once; what does not is reported, and the
//!    last good value stays.
//! 3. When the watch fires, or a new session begins, read again.
//! 4. Never go back: data of an older zxid, from a member that lags, is passed over. (A coordinator
//!    that begins anew after its memory was lost is followed: a sync tells it from one that lags.)
//! 5. If the znode is deleted the last good value stays, until there is one again.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::Stream;
use serde::de::DeserializeOwned;
use synod_core::client::{Client, IntoPath};
use synod_core::model::{Code, Error as ClientError, Path, SessionEnd, Stat, Zxid};
use tokio::sync::watch as latest;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::error::Error;

/// How long to wait after a read that was refused, before the next.
const RETRY: Duration = Duration::from_secs(1);

/// A value, and which version of the znode it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The znode's version. It begins anew at 0 when the znode is deleted and created again.
    pub version: i32,
    /// The zxid of the change that wrote it. It only ever grows, unless the coordinator loses its
    /// memory and begins anew.
    pub zxid: Zxid,
}

/// What happened last: a new value, or why there is none.
type Latest<T> = Option<Result<Arc<Versioned<T>>, Error>>;

struct Shared<T> {
    client: Client,
    path: Path,
    current: ArcSwap<Versioned<T>>,
}

/// The task's own: the streams end with it.
struct Follower<T> {
    shared: Arc<Shared<T>>,
    latest: latest::Sender<Latest<T>>,
}

/// A typed value that follows a znode, kept up to date by a task that ends with this handle.
///
/// It goes on over broken connections and expired sessions: as long as the coordinator is out of
/// reach, the last good value stays.
pub struct ConfigWatch<T> {
    shared: Arc<Shared<T>>,
    latest: latest::Receiver<Latest<T>>,
    follower: JoinHandle<()>,
}

impl<T> Drop for ConfigWatch<T> {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> ConfigWatch<T> {
    /// Reads the value at `path`, and follows it from then on.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::Client`] when the znode is missing or cannot be read; [`Error::BadValue`] when
    /// its data is no valid `T`: a service does not start on a configuration it does not
    /// understand.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub async fn open(client: &Client, path: impl IntoPath) -> Result<ConfigWatch<T>, Error> {
        let path = path.into_path()?;
        let (data, stat) = client.get(&path).await?;
        let current = ArcSwap::from(parse(&path, &data, &stat)?);
        let shared = Arc::new(Shared { client: client.clone(), path, current });
        let (sender, latest) = latest::channel(None);
        let follower = Follower { shared: Arc::clone(&shared), latest: sender };
        let follower = tokio::spawn(follower.follow());
        Ok(ConfigWatch { shared, latest, follower })
    }

    /// The last good value. It neither waits nor locks.
    pub fn current(&self) -> Arc<Versioned<T>> {
        self.shared.current.load_full()
    }

    /// What happens from now on (take it before [`current`](ConfigWatch::current), so that nothing
    /// falls between the two): a stream of new values, and of errors where there is none
    /// ([`Error::BadValue`], [`Error::Deleted`], [`Error::Client`]); the last good value stays
    /// then. A reader that is slow sees the newest and may miss ones between. It ends when this
    /// handle is dropped or the client is closed.
    pub fn changes(
        &self,
    ) -> impl Stream<Item = Result<Arc<Versioned<T>>, Error>> + Send + Unpin + 'static {
        let mut changes = self.latest.clone();
        changes.mark_unchanged();
        Box::pin(futures::stream::unfold(changes, async |mut changes| {
            loop {
                changes.changed().await.ok()?;
                let latest = changes.borrow_and_update().clone();
                if let Some(latest) = latest {
                    return Some((latest, changes));
                }
            }
        }))
    }

    /// The znode that this follows.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }
}

fn parse<T: DeserializeOwned>(
    path: &Path,
    data: &[u8],
    stat: &Stat,
) -> Result<Arc<Versioned<T>>, Error> {
    let (version, zxid) = (stat.version, stat.mzxid);
    match serde_json::from_slice(data) {
        Ok(value) => Ok(Arc::new(Versioned { value, version, zxid })),
        // The reason ends with line and column.
        Err(error) => {
            let (path, reason) = (path.clone(), error.to_string());
            Err(Error::BadValue { path, version, zxid, reason })
        }
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Follower<T> {
    /// Keeps the value up to date until the client is closed or the task aborted.
    async fn follow(self) {
        let Shared { path, current, .. } = &*self.shared;
        // The zxid of what was read last, good or bad.
        let mut seen = current.load().zxid;
        loop {
            let Err(error) = self.follow_session(&mut seen).await else { continue };
            match error {
                ClientError::SessionOver { end: SessionEnd::Closed, .. } => return,
                ClientError::SessionOver { .. } | ClientError::ConnectionLost { .. } => {}
                error => {
                    warn!(%path, %error, "the configuration cannot be read");
                    self.latest.send_replace(Some(Err(error.into())));
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Follows the znode through one session.
    async fn follow_session(&self, seen: &mut Zxid) -> Result<(), ClientError> {
        let client = self.shared.client.pin().await?;
        let path = &self.shared.path;
        // Behind a sync no member lags: one that has seen less than this has lost its memory, and
        // numbers anew.
        let last = client.sync().await?;
        if last < *seen {
            warn!(%path, %last, %seen, "the coordinator has begun anew");
            *seen = Zxid::ZERO;
        }
        let mut reported_missing = false;
        loop {
            match client.get(path).watched().await {
                Ok(((data, stat), change)) => {
                    reported_missing = false;
                    if stat.mzxid > *seen {
                        *seen = stat.mzxid;
                        self.take(&data, &stat);
                    }
                    change.await?;
                }
                Err(error) if error.is(Code::NoNode) => {
                    let (stat, change) = client.exists(path).watched().await?;
                    if stat.is_none() {
                        if !reported_missing {
                            reported_missing = true;
                            warn!(%path, "the configuration was deleted; the last good value stays");
                            let deleted = Error::Deleted { path: path.clone() };
                            self.latest.send_replace(Some(Err(deleted)));
                        }
                        change.await?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&self, data: &[u8], stat: &Stat) {
        let Shared { path, current, .. } = &*self.shared;
        let latest = parse(path, data, stat);
        match &latest {
            Ok(good) => {
                info!(%path, version = good.version, "the configuration changed");
                current.store(Arc::clone(good));
            }
            Err(error) => warn!(%error, "the last good value stays"),
        }
        self.latest.send_replace(Some(latest));
    }
}
