//! The client: one API over every ground.
//!
//! # Layout
//! | file | what it holds |
//! |---|---|
//! | `builder` | connect strings and options |
//! | `requests` | the operations, each a builder that is awaited |
//! | `txn` | transactions, multi-reads and proposals |
//! | `session` | [`Session`]: loss, deadline, reaper |
//! | `watch`, `queue`, `inbox` | watch handles, and what comes up to them |
//! | `ground` | the seam: one ordered stream down and up |
//! | `embedded` | the ground inside this process |
//! | `tcp`, `hosts` | the ground of servers, and their connect strings |
//! | `sasl` | how a client proves itself on a connection, before anything else goes over it |
//! | `tls` | how servers are reached by TLS (feature `tls`) |
//! | `driver` | the one task of a client whose connection can break |

mod builder;
mod driver;
pub(crate) mod embedded;
pub(crate) mod ground;
mod hosts;
pub(crate) mod inbox;
mod queue;
mod requests;
mod sasl;
mod session;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
mod txn;
mod watch;

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::Stream;
use tokio::sync::{Notify, oneshot, watch as latest};
use tracing::info;

pub use builder::ClientBuilder;
#[cfg(feature = "testing")]
use ground::Ground;
pub use ground::ServerKind;
pub use inbox::SessionStatus;
pub use requests::{
    CheckWatch, Children, CreateZnode, Delete, DescendantCount, EnsembleConfig, Ephemerals, Exists,
    Get, GetAcl, IntoPath, Set, SetAcl, Sync, WatchPath,
};
pub use session::{CleanupSlot, Session};
use session::{SessionCore, Subject};
#[cfg(feature = "tls")]
pub use tls::Tls;
pub use txn::{MultiRead, Proposal, ProposeAt, Txn};
pub use watch::{Notice, Watch, WatchOnce};

use crate::model::{
    CreateMode, Error, Path, Request, Response, SessionEnd, SessionId, Write, Zxid,
};
use crate::seams::Entropy;

/// A session and how it stands, as [`Client::session_states`] yields it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// Which session.
    pub session: SessionId,
    /// How it stands.
    pub status: SessionStatus,
}

/// Schemes and credentials.
pub(crate) type Auths = Mutex<Vec<(String, Bytes)>>;

/// What all handles of one client share.
pub(crate) struct Shared {
    /// By it, a coordinator for tests knows its clients.
    #[cfg(feature = "testing")]
    pub(crate) ground: Arc<dyn Ground>,
    entropy: Arc<dyn Entropy>,
    /// The session that requests go over now; replaced when it is over and a new one is open.
    current: ArcSwap<SessionCore>,
    /// Told of every change of every session of this client.
    states: Arc<latest::Sender<SessionState>>,
    /// Wakes the requests that wait for the next session, in their order: it is open, or there
    /// will be none.
    session_changed: Notify,
    /// There will be no further session.
    closed: AtomicBool,
    /// How long a request waits for a new session after the old one ended.
    connect_timeout: Duration,
    /// What was proved to the coordinator, to be proved again on every new connection.
    auths: Arc<Auths>,
    /// Ends the driver when the last handle goes; `None` on inline grounds, which need none.
    driver: Mutex<Option<oneshot::Sender<()>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let driver = self.driver.get_mut().unwrap_or_else(PoisonError::into_inner);
        if driver.take().is_none() {
            let session = self.current.load();
            // Inline, so that the session's ephemerals are gone when this returns.
            drop(session.send(Request::Write(Write::CloseSession), None));
            self.end(&session);
        }
    }
}

/// A handle to a coordinator.
///
/// Cheap to clone: clones share one session. A client outlives its sessions: when one expires it
/// opens the next and says so ([`session_states`](Client::session_states)), but a request never
/// crosses from one session to another in silence. Dropping the last handle (guards and watches
/// count) ends the session in the background; [`close`](Client::close) ends it and waits.
///
/// # Requests
/// Each operation is a builder that does its work when awaited. Unless its documentation says
/// otherwise:
///
/// * **Cancelling** a request before its first poll does nothing. After that it may be done
///   all the same; the reply is discarded.
/// * **While the connection is broken** a new request waits until it is back or the session is
///   over; one whose reply was awaited fails with [`Error::ConnectionLost`], which says whether
///   it may have been done.
/// * **When the session is over** before the reply, it fails with [`Error::SessionOver`]. A
///   request that begins after that waits for the next session, at most the connect timeout.
/// * Requests of one session are done in the order of their first polls, reads and writes mixed.
/// * A path, version, mode, ACL or value that breaks a rule fails with [`Error::Invalid`] and is
///   not sent; what only the coordinator can judge fails with [`Error::Refused`].
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    namespace: Option<Path>,
    /// Requests of a pinned client go over this session or fail.
    pinned: Option<Arc<SessionCore>>,
}

impl Client {
    /// Connects with default options.
    ///
    /// `"embedded:"` is a private coordinator inside this process; `"embedded:NAME"` is shared by
    /// all clients of the process that name it, and lives as long as one of them.
    /// `"zk1:2181,zk2:2181/app"` (or `"zk://…"`) names servers of the ZooKeeper protocol, this
    /// project's or others', and the znode below which all paths of this client lie.
    /// `"zks://…"` names servers that are reached by TLS, which needs the feature `tls` and
    /// `ClientBuilder::tls`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a connect string that names no ground; [`Error::Connect`] when no
    /// server could be reached within the connect timeout (30 s by default).
    pub async fn connect(servers: &str) -> Result<Client, Error> {
        Client::builder().servers(servers).connect().await
    }

    /// Connects with options.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// This client, with every path taken to lie below `prefix`: a service that gets such a
    /// client cannot name a znode outside of it. Paths in answers and events are relative to it
    /// too. The prefix itself is `/`, and is not created by this.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `prefix` is not a valid path.
    pub fn namespace(&self, prefix: impl IntoPath) -> Result<Client, Error> {
        let prefix = self.absolute(prefix.into_path()?)?;
        let namespace = (!prefix.is_root()).then_some(prefix);
        Ok(Client { namespace, ..self.clone() })
    }

    /// This client, bound to its present session (waiting for one if the last is over): requests
    /// through it fail with [`Error::SessionOver`] once that session ends. Recipes use it, since
    /// what a session holds must never be mixed with what the next one holds.
    ///
    /// # Errors
    /// [`Error::SessionOver`] when no further session could be opened within the connect timeout,
    /// when the client is closed, or when it is pinned to a session that is over.
    pub async fn pin(&self) -> Result<Client, Error> {
        let session = self.open_session().await?;
        Ok(Client { pinned: Some(session.core), ..self.clone() })
    }

    /// The session that requests go over now. It may be disconnected or over.
    pub fn session(&self) -> Session {
        let core = match &self.pinned {
            Some(core) => Arc::clone(core),
            None => self.shared.current.load_full(),
        };
        Session { _shared: Arc::clone(&self.shared), core }
    }

    /// How this client's session stands: a stream that begins with the present state and yields
    /// every later one. A reader that is slow sees the newest state and may miss ones between;
    /// another `session` than before says that the one before is over. It ends with the client.
    pub fn session_states(&self) -> impl Stream<Item = SessionState> + Send + Unpin + 'static {
        let mut states = self.shared.states.subscribe();
        states.mark_changed();
        Box::pin(futures::stream::unfold(states, async |mut states| {
            states.changed().await.ok()?;
            let state = *states.borrow_and_update();
            Some((state, states))
        }))
    }

    /// Ends the session: its ephemeral znodes, and so its locks and leaderships, are free when
    /// this returns. Every clone of this client is closed too. Closing twice does nothing.
    ///
    /// Cancelling it leaves the session closing or closed.
    ///
    /// # Errors
    /// [`Error::ConnectionLost`] when the coordinator could not be told: the client is closed all
    /// the same, and the session expires by itself.
    pub async fn close(&self) -> Result<(), Error> {
        let core = self.shared.current.load_full();
        if core.end().is_some() {
            self.shared.stop();
            return Ok(());
        }
        // First, so that no further session is opened even if this is cancelled.
        self.shared.closed.store(true, Ordering::Release);
        let session = Session { _shared: Arc::clone(&self.shared), core };
        info!(session = %session.id(), "closing the session");
        let told = if session.status().is_connected() {
            let subject = Subject::new("close session at", &Path::root().into());
            session.core.call(Request::Write(Write::CloseSession), None, subject).await
        } else {
            let request = "close session".to_owned();
            Err(Error::ConnectionLost { request, maybe_applied: false })
        };
        self.shared.end(&session.core);
        self.shared.stop();
        match told {
            Err(Error::SessionOver { end: SessionEnd::DeadlinePassed, maybe_applied, .. }) => {
                let request = "close session".to_owned();
                Err(Error::ConnectionLost { request, maybe_applied })
            }
            Err(error) if !error.session_over() => Err(error),
            _ => Ok(()),
        }
    }

    /// What this client stands on.
    pub fn server_kind(&self) -> ServerKind {
        self.session().core.kind()
    }

    /// The highest zxid that the present session has seen.
    pub fn last_zxid(&self) -> Zxid {
        self.session().inbox().last_zxid()
    }

    /// A random id from the client's generator, for names that must be found again.
    pub fn random_id(&self) -> uuid::Uuid {
        let mut bytes = [0; 16];
        self.shared.entropy.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A session that is not over: the present one, or the next.
    async fn open_session(&self) -> Result<Session, Error> {
        let session = self.session();
        let Some(end) = session.end() else { return Ok(session) };
        let closed = end == SessionEnd::Closed;
        if self.pinned.is_some() || closed {
            return Err(session.over(end, false));
        }
        let next = self.next_session(session.id());
        match tokio::time::timeout(self.shared.connect_timeout, next).await {
            Ok(Some(next)) => Ok(next),
            Ok(None) => Err(session.over(SessionEnd::Closed, false)),
            Err(_) => Err(session.over(end, false)),
        }
    }

    /// Waits for another session than that one; `None` when there will be none.
    async fn next_session(&self, over: SessionId) -> Option<Session> {
        loop {
            let mut changed = pin!(self.shared.session_changed.notified());
            // Before the look, so that no change after it is missed.
            changed.as_mut().enable();
            if self.shared.closed.load(Ordering::Acquire) {
                return None;
            }
            let session = self.session();
            if session.id() != over {
                return Some(session);
            }
            changed.await;
        }
    }

    /// Sends a request over the present session.
    pub(crate) async fn call(
        &self,
        request: Request,
        subject: Subject,
    ) -> Result<(Response, Zxid), Error> {
        {
            // Looked at in its place: tasks that count the session's handles up and down for
            // every request would wait for each other.
            let current = self.shared.current.load();
            let core = self.pinned.as_ref().unwrap_or(&current);
            if core.end().is_none() {
                return core.call(request, None, subject).await;
            }
        }
        self.open_session().await?.core.call(request, None, subject).await
    }

    /// What the name of a new znode begins with. A suffix behind the root of a namespace would
    /// make a neighbour of it; it is to make a child, as behind the root itself.
    fn stem(&self, path: Arc<str>, mode: CreateMode) -> Arc<str> {
        match &self.namespace {
            Some(prefix) if mode.is_sequential() && **prefix == *path => {
                format!("{prefix}/").into()
            }
            _ => path,
        }
    }

    /// Whether the path lies in this client's namespace.
    fn is_inside(&self, path: &str) -> bool {
        let Some(prefix) = &self.namespace else { return true };
        let below = path.strip_prefix(prefix.as_str());
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    }

    /// The path as the coordinator knows it.
    fn absolute(&self, path: Path) -> Result<Path, Error> {
        match &self.namespace {
            None => Ok(path),
            Some(prefix) if path.is_root() => Ok(prefix.clone()),
            Some(prefix) => Path::new(format!("{prefix}{path}")),
        }
    }

    /// The path as this client's user knows it.
    fn relative(&self, path: &str) -> Result<Path, Error> {
        match &self.namespace {
            None => Path::new(path),
            Some(prefix) => Path::new(watch::strip(path, prefix)),
        }
    }
}

impl Shared {
    /// Ties the driver to this client: it stops when the sender is dropped.
    fn keep_driver(&self, stop: oneshot::Sender<()>) {
        *self.driver.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop);
    }

    fn remember_auth(&self, scheme: &str, credentials: Bytes) {
        let auth = (scheme.to_owned(), credentials);
        let mut auths = self.auths.lock().unwrap_or_else(PoisonError::into_inner);
        if !auths.contains(&auth) {
            auths.push(auth);
        }
    }

    /// The session was closed: tells who listens, also if the ground knew first.
    fn end(&self, core: &SessionCore) {
        core.inbox.set_status(SessionStatus::Over(SessionEnd::Closed));
        if let Some(end) = core.end() {
            announce(&self.states, core.id, SessionStatus::Over(end));
        }
    }

    /// Sees to it that no further session is opened.
    fn stop(&self) {
        self.closed.store(true, Ordering::Release);
        drop(self.driver.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.session_changed.notify_waiters();
    }
}

/// Tells who follows the session, if it is news.
fn announce(states: &latest::Sender<SessionState>, session: SessionId, status: SessionStatus) {
    let state = SessionState { session, status };
    let news = states.send_if_modified(|present| {
        let news = *present != state;
        *present = state;
        news
    });
    if news {
        info!(%session, ?status, "session state");
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("session", &self.session())
            .field("namespace", &self.namespace)
            .finish()
    }
}
