//! The task that keeps a configuration up to date.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use serde::de::DeserializeOwned;
use synod_core::client::{Client, Session, WatchOnce};
use synod_core::model::{Code, Error as ClientError, SessionEnd, Stat, Zxid};
use tokio::sync::watch as latest;
use tokio::time::Instant;
use tracing::{info, warn};

use super::disk::Copy;
use super::fault::Fault;
use super::layer::{Layers, Parsed, Viewpoint};
use super::open::blocking;
use super::pointer::Pointer;
use super::record::Document;
use super::report::Reported;
use super::rollout::Standing;
use super::store::{ConfigStore, Stored, Unreadable, load};
use super::{Config, Following, Origin, Versioned};
use crate::error::Error;
use crate::znodes::persist;

/// How long to wait after a read that was refused, before the next.
const RETRY: Duration = Duration::from_secs(1);

/// How often the znode is read although no watch has fired: events of a znode that may not be
/// read are swallowed by the coordinator.
const RECHECK: Duration = Duration::from_secs(60);

/// What readers look at.
pub(crate) struct Shared<T> {
    pub(crate) current: ArcSwap<Versioned<T>>,
    /// Since when nobody vouches for it; none while somebody does.
    pub(crate) stale_since: ArcSwapOption<Instant>,
}

/// What is told to those who wait.
pub(crate) struct News<T> {
    /// What happened last: a new value, or why there is none.
    pub(crate) latest: Option<Result<Arc<Versioned<T>>, Error>>,
    /// The version that was refused last, if none was taken since.
    pub(crate) refused: Option<(u64, Error)>,
}

/// Which version was to be taken, at which znode: one that is deleted and made again counts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offered {
    version: u64,
    made: Zxid,
}

/// What a follower starts with.
pub(crate) struct Begun<T> {
    pub(crate) value: Versioned<T>,
    offered: Option<Offered>,
    seen: Zxid,
    published: bool,
    copy: Option<Copy>,
}

impl<T> Begun<T> {
    /// A value that did not come from the coordinator: of what is there, nothing is known.
    pub(crate) fn unseen(value: Versioned<T>) -> Begun<T> {
        Begun { value, offered: None, seen: Zxid::ZERO, published: true, copy: None }
    }
}

/// What the pointer leads to.
enum Found {
    Nothing,
    /// What it has led to before.
    Known,
    /// It was moved while it was followed.
    Again,
    Offered(Offered, Result<Stored, Fault>),
}

/// The task's own; streams end with it.
pub(crate) struct Follower<T> {
    pub(crate) store: ConfigStore<T>,
    viewpoint: Viewpoint,
    local: Vec<Parsed>,
    pub(crate) disk_copy: Option<PathBuf>,
}

impl<T: DeserializeOwned + Send + Sync + 'static> Follower<T> {
    pub(crate) fn new(
        store: ConfigStore<T>,
        viewpoint: Viewpoint,
        local: Vec<Parsed>,
        disk_copy: Option<PathBuf>,
    ) -> Follower<T> {
        Follower { store, viewpoint, local, disk_copy }
    }

    /// The value that a document comes to here.
    pub(crate) fn value(
        &self,
        document: &Document,
        version: u64,
        zxid: Zxid,
        origin: Origin,
    ) -> Result<Versioned<T>, Fault> {
        self.versioned(document.seen_from(&self.viewpoint, &self.local)?, version, zxid, origin)
    }

    fn versioned(
        &self,
        layers: Layers,
        version: u64,
        zxid: Zxid,
        origin: Origin,
    ) -> Result<Versioned<T>, Fault> {
        let value = self.store.checked(&layers)?;
        Ok(Versioned { value, version, zxid, origin, layers })
    }

    /// Reads the first value, however many sessions that takes.
    pub(crate) async fn begin_in_any_session(&self) -> Result<Begun<T>, Error> {
        loop {
            match self.begin().await {
                Err(Error::Client(ClientError::SessionOver { end, .. }))
                    if end != SessionEnd::Closed => {}
                begun => return begun,
            }
        }
    }

    /// Reads the first value.
    pub(crate) async fn begin(&self) -> Result<Begun<T>, Error> {
        let client = self.store.inner.client.pin().await?;
        // Behind it no member lags: a service that starts again does not start on less.
        persist!(client.sync())?;
        let mut missing = None;
        loop {
            let (data, stat) = match persist!(client.get(self.store.path())) {
                Err(error) if error.is(Code::NoNode) => return self.begin_unpublished(),
                read => read?,
            };
            let found = match self.find(&client, &data, &stat, None, &mut missing).await {
                Err(ClientError::ConnectionLost { .. }) => continue,
                found => found?,
            };
            match found {
                Found::Nothing => return self.begin_unpublished(),
                Found::Known | Found::Again => {}
                Found::Offered(offered, stored) => {
                    let value = stored.and_then(|Stored { version, stat, document }| {
                        let value = self.value(&document, version, stat.czxid, Origin::Published);
                        Ok((value?, Copy { version, zxid: stat.czxid, document }))
                    });
                    let bad = |fault| self.store.bad(offered.version, stat.mzxid, fault);
                    let (value, copy) = value.map_err(bad)?;
                    let (seen, published) = (stat.mzxid, true);
                    let (offered, copy) = (Some(offered), Some(copy));
                    return Ok(Begun { value, offered, seen, published, copy });
                }
            }
        }
    }

    /// Nothing is published: there may be enough here.
    fn begin_unpublished(&self) -> Result<Begun<T>, Error> {
        if self.local.is_empty() {
            return Err(Error::Unpublished { path: self.store.path().clone() });
        }
        let layers = Layers::new(self.local.clone());
        let value = self.versioned(layers, 0, Zxid::ZERO, Origin::Local);
        let value = value.map_err(|fault| self.store.bad(0, Zxid::ZERO, fault))?;
        Ok(Begun { published: false, ..Begun::unseen(value) })
    }

    /// Follows the pointer to the version that this instance is to run. `missing` remembers at
    /// which pointer a version was not there.
    async fn find(
        &self,
        client: &Client,
        data: &[u8],
        stat: &Stat,
        known: Option<Offered>,
        missing: &mut Option<Zxid>,
    ) -> Result<Found, ClientError> {
        let pointer = match Pointer::decode(data) {
            Ok(pointer) => pointer,
            Err(fault) => {
                let offered = Offered { version: 0, made: stat.mzxid };
                return Ok(Found::Offered(offered, Err(fault)));
            }
        };
        let instance = self.viewpoint.instance.as_deref();
        let Some(version) = pointer.version_for(instance) else { return Ok(Found::Nothing) };
        let offered = Offered { version, made: stat.czxid };
        if known == Some(offered) {
            return Ok(Found::Known);
        }
        let stored = match load(client, &self.store.inner.places, version).await {
            Ok(Some(stored)) => Ok(stored),
            Ok(None) if *missing == Some(stat.mzxid) => {
                Err(Fault::whole("the znode of the version is missing"))
            }
            // Deleted since, when many have published; then the pointer has moved on, too.
            Ok(None) => {
                *missing = Some(stat.mzxid);
                client.sync().await?;
                return Ok(Found::Again);
            }
            Err(Unreadable::Client(error)) => return Err(error),
            Err(Unreadable::Fault(fault)) => Err(fault),
        };
        Ok(Found::Offered(offered, stored))
    }

    /// Begins to follow.
    pub(crate) fn start(self, begun: Begun<T>) -> Config<T> {
        let from_disk = begun.value.origin == Origin::Disk;
        let shared = Arc::new(Shared {
            current: ArcSwap::from_pointee(begun.value),
            stale_since: ArcSwapOption::from(from_disk.then(|| Arc::new(Instant::now()))),
        });
        let (news, latest) = latest::channel(News { latest: None, refused: None });
        let store = self.store.clone();
        let course = Course {
            follower: self,
            shared: Arc::clone(&shared),
            news,
            seen: begun.seen,
            offered: begun.offered,
            fault: None,
            missing: None,
            anew: false,
            published: begun.published,
            reported: None,
        };
        let follower = tokio::spawn(course.follow(begun.copy));
        Config { inner: Arc::new(Following { store, shared, latest, follower }) }
    }
}

/// A follower on its way.
struct Course<T> {
    follower: Follower<T>,
    shared: Arc<Shared<T>>,
    news: latest::Sender<News<T>>,
    /// The mzxid of the pointer that was followed last.
    seen: Zxid,
    offered: Option<Offered>,
    /// Why the version that was offered last was not taken.
    fault: Option<String>,
    missing: Option<Zxid>,
    /// Whether the coordinator has begun anew: what has the number and the zxid of what runs may
    /// be another version all the same.
    anew: bool,
    /// Whether there was something when it was looked at last.
    published: bool,
    reported: Option<Reported>,
}

impl<T: DeserializeOwned + Send + Sync + 'static> Course<T> {
    /// Keeps the value up to date until the client is closed or the task aborted.
    async fn follow(mut self, copy: Option<Copy>) {
        self.write_copy(copy).await;
        loop {
            let Err(error) = self.follow_session().await else { continue };
            self.mark_stale();
            match error {
                ClientError::SessionOver { end: SessionEnd::Closed, .. } => return,
                ClientError::SessionOver { .. } | ClientError::ConnectionLost { .. } => {}
                error => {
                    let path = self.follower.store.path();
                    warn!(%path, %error, "the configuration cannot be read");
                    self.tell(Err(error.into()));
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Follows the znode through one session.
    async fn follow_session(&mut self) -> Result<(), ClientError> {
        let client = self.follower.store.inner.client.pin().await?;
        let path = self.follower.store.path().clone();
        // Behind a sync no member lags: one that has seen less than this has lost its memory, and
        // numbers anew.
        let last = client.sync().await?;
        if last < self.seen {
            warn!(%path, %last, seen = %self.seen, "the coordinator has begun anew");
            self.seen = Zxid::ZERO;
            self.offered = None;
            self.anew = true;
        }
        loop {
            let change = match client.get(&path).watched().await {
                Ok(((data, stat), change)) => {
                    if stat.mzxid > self.seen {
                        let (known, missing) = (self.offered, &mut self.missing);
                        match self.follower.find(&client, &data, &stat, known, missing).await? {
                            Found::Again => continue,
                            Found::Known => {}
                            Found::Nothing => self.unpublished(),
                            Found::Offered(offered, stored) => {
                                self.take(offered, stored, stat.mzxid).await;
                            }
                        }
                        self.seen = stat.mzxid;
                    }
                    change
                }
                Err(error) if error.is(Code::NoNode) => {
                    let (stat, change) = client.exists(&path).watched().await?;
                    if stat.is_some() {
                        continue;
                    }
                    self.unpublished();
                    change
                }
                Err(error) => return Err(error),
            };
            self.shared.stale_since.store(None);
            self.report(&client).await?;
            self.wait(client.session(), change).await?;
        }
    }

    /// Waits until it is time to look again.
    async fn wait(&self, session: Session, change: WatchOnce) -> Result<(), ClientError> {
        tokio::select! {
            biased;
            event = change => drop(event?),
            () = session.disconnected() => {
                self.mark_stale();
                session.connected().await;
            }
            () = tokio::time::sleep(RECHECK) => {}
        }
        Ok(())
    }

    fn mark_stale(&self) {
        if self.shared.stale_since.load().is_none() {
            self.shared.stale_since.store(Some(Arc::new(Instant::now())));
        }
    }

    fn unpublished(&mut self) {
        self.offered = None;
        if std::mem::take(&mut self.published) {
            let path = self.follower.store.path().clone();
            warn!(%path, "nothing is published any more; the last good value stays");
            self.tell(Err(Error::Unpublished { path }));
        }
    }

    async fn take(&mut self, offered: Offered, stored: Result<Stored, Fault>, moved: Zxid) {
        self.published = true;
        self.offered = Some(offered);
        let running = self.shared.current.load_full();
        let taken = stored.and_then(|Stored { version, stat, document }| {
            let zxid = stat.czxid;
            let is_running = (version, zxid) == (running.version, running.zxid);
            if is_running && running.origin == Origin::Published && !self.anew {
                // Back from one that was bad.
                return Ok(None);
            }
            let value = self.follower.value(&document, version, zxid, Origin::Published)?;
            Ok(Some((value, Copy { version, zxid, document })))
        });
        match taken {
            Ok(None) => {
                self.fault = None;
                // Nobody waits for that.
                self.news.send_if_modified(|news| {
                    news.refused = None;
                    false
                });
            }
            Ok(Some((value, copy))) => {
                self.fault = None;
                let path = self.follower.store.path();
                info!(%path, version = value.version, "the configuration changed");
                self.anew = false;
                let value = Arc::new(value);
                self.shared.current.store(Arc::clone(&value));
                self.tell(Ok(value));
                self.write_copy(Some(copy)).await;
            }
            Err(fault) => {
                self.fault = Some(fault.to_string());
                let error = self.follower.store.bad(offered.version, moved, fault);
                warn!(%error, "the last good value stays");
                self.news.send_modify(|news| {
                    news.refused = Some((offered.version, error.clone()));
                    news.latest = Some(Err(error));
                });
            }
        }
    }

    fn tell(&self, latest: Result<Arc<Versioned<T>>, Error>) {
        self.news.send_modify(|news| {
            if latest.is_ok() {
                news.refused = None;
            }
            news.latest = Some(latest);
        });
    }

    async fn write_copy(&self, copy: Option<Copy>) {
        let (Some(copy), Some(file)) = (copy, self.follower.disk_copy.clone()) else { return };
        let path = self.follower.store.path().clone();
        let shown = file.display().to_string();
        if let Err(error) = blocking(move || copy.write(&path, &file)).await {
            let path = self.follower.store.path();
            warn!(%path, file = shown, %error, "the disk copy could not be written");
        }
    }

    /// Says what this instance runs, if it has a name and that is news.
    async fn report(&mut self, client: &Client) -> Result<(), ClientError> {
        let Some(instance) = &self.follower.viewpoint.instance else { return Ok(()) };
        let running = self.shared.current.load().version;
        let offered = self.offered.map_or(running, |offered| offered.version);
        let standing = Standing { running, offered, fault: self.fault.clone() };
        if self.reported.as_ref().is_none_or(|reported| !reported.is_of(client)) {
            let places = &self.follower.store.inner.places;
            self.reported = Reported::new(client, places, instance)?;
        }
        match &mut self.reported {
            Some(reported) => reported.say(standing).await,
            None => Ok(()),
        }
    }
}
