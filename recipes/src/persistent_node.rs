//! A persistent node: an ephemeral znode that is restored, whatever takes it away.
//!
//! ```text
//! /services/web/10.0.0.7:80   "weight=3"   ephemeral; czxid = its token, another one after a restore
//! ```
//!
//! What is wanted is a znode at the path, of the present session, with certain data. A task compares
//! that with what is there, again and again:
//!
//! 1. None: create it, and what is missing above it.
//! 2. There, and this one's own: write the data if it is another, and watch.
//! 3. There, and another's: watch, until it is gone.
//! 4. When the watch fires, another data is wanted, or the connection was broken: compare again.
//! 5. When the session is over, begin anew in the next one. What the coordinator refuses is tried
//!    again, with pauses that grow up to a bound; nothing makes the task give up but the end of the
//!    client, or of the handle.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use synod_core::client::{Client, IntoPath, WatchOnce};
use synod_core::model::limits::DATA_BYTES_MAX;
use synod_core::model::{Code, Error as ClientError, Path, SessionEnd, SessionId, Stat, Zxid};
use tokio::sync::watch as latest;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::error::{Error, LossReason};
use crate::guard::Released;
use crate::holding::Holding;
use crate::telemetry::PERSISTENT_NODE;
use crate::znodes::make_parents;

/// Shortest and longest pause after a refusal.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// How a [`PersistentNode`] stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NodeState {
    /// It is not there: it is being created, for the first time or again.
    Absent,
    /// It is there.
    Present {
        /// Where.
        path: Path,
        /// The zxid at which it was created: greater after each restore.
        token: Zxid,
    },
    /// Somebody else's znode is at the path. It is waited for to go.
    Taken {
        /// The session that it belongs to; `None` if it is not ephemeral.
        owner: Option<SessionId>,
    },
    /// The connection is broken. The znode is there as long as the session lives.
    Uncertain,
    /// The coordinator has refused a request, or a bound is reached. It is tried again.
    Refused(Error),
    /// The client is closed: it is not restored any more.
    Ended,
}

impl NodeState {
    fn is_news_after(&self, other: &NodeState) -> bool {
        use NodeState::{Absent, Ended, Present, Taken, Uncertain};
        !match (self, other) {
            (Absent, Absent) | (Uncertain, Uncertain) | (Ended, Ended) => true,
            (Present { token, .. }, Present { token: other, .. }) => token == other,
            (Taken { owner }, Taken { owner: other }) => owner == other,
            _ => false,
        }
    }
}

/// An ephemeral znode that is restored after the end of its session, and after others have deleted or
/// overwritten it, by a task that ends with this handle.
///
/// **Dropping** it deletes the znode in the background, and needs no runtime;
/// [`remove`](PersistentNode::remove) waits for it. **On session loss** the znode goes with the
/// session, and is created anew in the next. It never gives up by itself: what keeps it from being
/// there is told by [`states`](PersistentNode::states).
///
/// It keeps its client alive. It is no lock: that the znode is there says that somebody lives, not
/// that nobody else does.
#[must_use = "a node that is dropped is deleted"]
pub struct PersistentNode {
    client: Client,
    wanted: latest::Sender<Wanted>,
    standing: latest::Receiver<Standing>,
    cell: Arc<Cell>,
    keeper: JoinHandle<()>,
}

/// The data that is wanted, and how often that has changed.
#[derive(Clone)]
struct Wanted {
    data: Bytes,
    number: u64,
}

struct Standing {
    state: NodeState,
    /// Up to which [`Wanted`] it has been written.
    written: Option<u64>,
}

/// What has to be cleaned up: shared, so that the handle's drop need not wait for the task's.
#[derive(Default)]
struct Cell(Mutex<Option<Holding>>);

impl Cell {
    fn lock(&self) -> MutexGuard<'_, Option<Holding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is nothing to clean up; what was there may have been lost.
    fn forget(&self, loss: Option<LossReason>) {
        let Some(holding) = self.lock().take() else { return };
        loss.inspect(|reason| holding.count_loss(*reason));
        holding.gone();
    }
}

/// Where the znode is to be.
pub(crate) enum Place {
    /// There, and nowhere else.
    Fixed(Path),
    /// Below that parent, at a path with an id that is new in each session.
    New(Path, NewPath),
}

pub(crate) type NewPath = Box<dyn Fn(&Client) -> Result<Path, ClientError> + Send + Sync>;

impl PersistentNode {
    /// Creates the znode at `path` and keeps it there.
    ///
    /// Only one node is to be wanted at a path: another waits until it is gone. What is missing
    /// above it is made, as containers.
    ///
    /// # Errors
    /// [`Error::Client`] when the path or the data is not valid. All else is told by the state.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub fn create(
        client: &Client,
        path: impl IntoPath,
        data: impl AsRef<[u8]>,
    ) -> Result<PersistentNode, Error> {
        PersistentNode::keep(client, Place::Fixed(path.into_path()?), data.as_ref())
    }

    pub(crate) fn keep(
        client: &Client,
        place: Place,
        data: &[u8],
    ) -> Result<PersistentNode, Error> {
        let (wanted, wanted_rx) = latest::channel(Wanted { data: checked(data)?, number: 0 });
        let (standing_tx, standing) =
            latest::channel(Standing { state: NodeState::Absent, written: None });
        let cell = Arc::new(Cell::default());
        let keeper = Keeper {
            client: client.clone(),
            place,
            wanted: wanted_rx,
            standing: standing_tx,
            cell: Arc::clone(&cell),
        };
        let at = match &keeper.place {
            Place::Fixed(path) | Place::New(path, _) => path.clone(),
        };
        let keeper = async move { PERSISTENT_NODE.waiting("keep", &at, keeper.keep()).await };
        let keeper = tokio::spawn(keeper);
        Ok(PersistentNode { client: client.clone(), wanted, standing, cell, keeper })
    }

    /// How it stands now. It neither waits nor asks.
    pub fn state(&self) -> NodeState {
        self.standing.borrow().state.clone()
    }

    /// How it stands: a stream that begins with the present state and yields every later one. A
    /// reader that is slow sees the newest and may miss ones between. It ends with this handle, or
    /// after [`NodeState::Ended`].
    pub fn states(&self) -> impl Stream<Item = NodeState> + Send + Unpin + 'static {
        let mut standing = self.standing.clone();
        standing.mark_changed();
        let seen: Option<NodeState> = None;
        Box::pin(futures::stream::unfold((standing, seen), async |(mut standing, seen)| {
            loop {
                standing.changed().await.ok()?;
                let state = standing.borrow_and_update().state.clone();
                if seen.as_ref().is_none_or(|seen| state.is_news_after(seen)) {
                    return Some((state.clone(), (standing, Some(state))));
                }
            }
        }))
    }

    /// Waits until it is there with the data that is wanted last, and yields its token.
    ///
    /// It waits as long as something keeps the znode away: use a timeout, or look at
    /// [`states`](PersistentNode::states). Cancelling it changes nothing.
    ///
    /// # Errors
    /// [`Error::Client`] when the client is closed.
    pub async fn present(&self) -> Result<Zxid, Error> {
        let number = self.wanted.borrow().number;
        let mut standing = self.standing.clone();
        loop {
            if let Standing { state: NodeState::Present { token, .. }, written } =
                &*standing.borrow_and_update()
                && *written >= Some(number)
            {
                return Ok(*token);
            }
            if standing.changed().await.is_err() {
                let (session, end) = (self.client.session().id(), SessionEnd::Closed);
                return Err(ClientError::SessionOver { session, end, maybe_applied: false }.into());
            }
        }
    }

    /// Wants other data from now on, and waits until it is written.
    ///
    /// Cancelling it leaves the writing to the background.
    ///
    /// # Errors
    /// [`Error::Client`] when the data is not valid, or the client is closed.
    pub async fn update(&self, data: impl AsRef<[u8]>) -> Result<(), Error> {
        let data = checked(data.as_ref())?;
        self.wanted.send_modify(|wanted| {
            wanted.data = data;
            wanted.number += 1;
        });
        self.present().await.map(drop)
    }

    /// Deletes the znode, and waits until that is confirmed. It is not restored any more.
    ///
    /// Cancelling it leaves the deletion to the background.
    ///
    /// # Errors
    /// What the deletion was refused with.
    pub async fn remove(mut self) -> Result<Released, Error> {
        // From then on nobody creates it again.
        self.keeper.abort();
        let _ = (&mut self.keeper).await;
        let holding = self.cell.lock().take();
        match holding {
            Some(holding) => holding.leave().await,
            None => Ok(Released::Confirmed),
        }
    }
}

impl Drop for PersistentNode {
    fn drop(&mut self) {
        self.keeper.abort();
        drop(self.cell.lock().take());
    }
}

impl std::fmt::Debug for PersistentNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PersistentNode").field("state", &self.state()).finish_non_exhaustive()
    }
}

fn checked(data: &[u8]) -> Result<Bytes, ClientError> {
    if data.len() > DATA_BYTES_MAX {
        let rule = "the data of a znode has at most 1048575 bytes";
        return Err(ClientError::invalid("size of data", data.len(), rule));
    }
    Ok(Bytes::copy_from_slice(data))
}

struct Keeper {
    client: Client,
    place: Place,
    wanted: latest::Receiver<Wanted>,
    standing: latest::Sender<Standing>,
    cell: Arc<Cell>,
}

/// What is known of the znode in one session.
enum Known {
    /// None is there that is this one's own.
    Absent,
    /// A create was sent, and no reply came.
    Unsure,
    /// This one's own is there, with that token.
    Own(Zxid),
}

impl Keeper {
    /// Until the client is closed, or the task aborted.
    async fn keep(mut self) {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let Err(error) = self.keep_in_session(&mut backoff).await;
            let end = match &error {
                ClientError::SessionOver { end, .. } => Some(LossReason::SessionOver(*end)),
                _ => None,
            };
            self.cell.forget(end);
            match error {
                ClientError::SessionOver { end: SessionEnd::Closed, .. } => {
                    self.tell(NodeState::Ended, None);
                    return;
                }
                ClientError::SessionOver { .. } | ClientError::ConnectionLost { .. } => {
                    self.tell(NodeState::Absent, None);
                }
                // A path that is not valid, say.
                error => self.refused(error, &mut backoff).await,
            }
        }
    }

    fn tell(&self, state: NodeState, written: Option<u64>) {
        self.standing.send_modify(|standing| {
            if state.is_news_after(&standing.state) {
                info!(?state, "persistent node");
            }
            standing.state = state;
            standing.written = written.or(standing.written);
        });
    }

    async fn refused(&mut self, error: ClientError, backoff: &mut Backoff) {
        warn!(%error, "a persistent node cannot be kept");
        self.tell(NodeState::Refused(error.into()), None);
        tokio::select! {
            biased;
            // What is wanted now may be granted.
            _ = self.wanted.changed() => {}
            () = backoff.wait(&self.client) => {}
        }
    }

    async fn keep_in_session(
        &mut self,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, ClientError> {
        let client = self.client.pin().await?;
        let path = match &self.place {
            Place::Fixed(path) => path.clone(),
            Place::New(_, path) => path(&client)?,
        };
        let mut known = Known::Absent;
        loop {
            match self.compare(&client, &path, &mut known).await {
                Ok(()) => backoff.reset(),
                Err(ClientError::ConnectionLost { .. }) => self.tell(NodeState::Uncertain, None),
                Err(error) if error.session_over() => return Err(error),
                Err(error) => self.refused(error, backoff).await,
            }
        }
    }

    /// Compares what is there with what is wanted, does one thing about it or waits for a change.
    async fn compare(
        &mut self,
        client: &Client,
        path: &Path,
        known: &mut Known,
    ) -> Result<(), ClientError> {
        let wanted = self.wanted.borrow_and_update().clone();
        if !matches!(known, Known::Own(_)) {
            return self.create(client, path, known, wanted).await;
        }
        let ((data, stat), change) = match client.get(path).watched().await {
            Err(error) if error.is(Code::NoNode) => {
                self.lose(known);
                return Ok(());
            }
            found => found?,
        };
        if !is_own(client, &stat, known) {
            self.lose(known);
        } else if data != wanted.data {
            drop(change);
            match client.set(path, &wanted.data).version(stat.version).await {
                // Another one wrote, or deleted it, just now.
                Err(error) if error.is(Code::BadVersion) || error.is(Code::NoNode) => {}
                written => drop(written?),
            }
        } else {
            let state = NodeState::Present { path: path.clone(), token: stat.czxid };
            self.tell(state, Some(wanted.number));
            self.changed(client, change).await;
        }
        Ok(())
    }

    fn lose(&self, known: &mut Known) {
        *known = Known::Absent;
        self.cell.forget(Some(LossReason::Removed));
        self.tell(NodeState::Absent, None);
    }

    async fn create(
        &mut self,
        client: &Client,
        path: &Path,
        known: &mut Known,
        wanted: Wanted,
    ) -> Result<(), ClientError> {
        if matches!(known, Known::Absent) {
            self.cell.forget(None);
            let slot = client.session().reserve_cleanup()?;
            let holding =
                Holding::at_shared_path(&PERSISTENT_NODE, client.clone(), path.clone(), slot);
            *self.cell.lock() = Some(holding);
        }
        let create = client.create(path, &wanted.data).ephemeral();
        match create.with_stat().await {
            Ok((_, stat)) => {
                self.own(known, stat.czxid);
                let state = NodeState::Present { path: path.clone(), token: stat.czxid };
                self.tell(state, Some(wanted.number));
                Ok(())
            }
            Err(error) if error.is(Code::NoNode) => make_parents(client, path).await,
            Err(error) if error.is(Code::NodeExists) => {
                let (stat, change) = client.exists(path).watched().await?;
                match stat {
                    Some(stat) if is_own(client, &stat, known) => self.own(known, stat.czxid),
                    Some(stat) => {
                        self.lose(known);
                        self.tell(NodeState::Taken { owner: stat.ephemeral_owner }, None);
                        self.changed(client, change).await;
                    }
                    None => {}
                }
                Ok(())
            }
            Err(error) => {
                if error.maybe_applied() {
                    *known = Known::Unsure;
                }
                Err(error)
            }
        }
    }

    fn own(&self, known: &mut Known, token: Zxid) {
        *known = Known::Own(token);
        if let Some(holding) = &mut *self.cell.lock() {
            holding.granted(token);
            holding.begins();
        }
    }

    /// Waits until what was seen may be over, or other data is wanted.
    async fn changed(&mut self, client: &Client, change: WatchOnce) {
        let session = client.session();
        tokio::select! {
            biased;
            () = session.disconnected() => {
                self.tell(NodeState::Uncertain, None);
                session.connected().await;
            }
            _ = change => {}
            _ = self.wanted.changed() => {}
        }
    }
}

fn is_own(client: &Client, stat: &Stat, known: &Known) -> bool {
    let of_session = stat.ephemeral_owner == Some(client.session().id());
    of_session
        && match known {
            // The same session is not the same owner.
            Known::Absent => false,
            Known::Unsure => true,
            Known::Own(token) => *token == stat.czxid,
        }
}
