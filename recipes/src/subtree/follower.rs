//! Follows a subtree through sessions: leaves one watch, reads, and hands out cuts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{join_all, try_join_all};
use synod_core::client::{Client, Notice, Watch};
use synod_core::model::{
    Code, Error as ClientError, Event, Path, ReadOpResult, SessionEnd, Stat, Zxid,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::ledger::Ledger;
use super::{Change, Cut, Scope};
use crate::error::Error;

/// Znodes in one multi-read. With the largest data each, the answers are half of the largest
/// reply that a client takes.
const READS_MAX: usize = 32;

/// Znodes that are read before what was told meanwhile is taken in: well within what waits in a
/// watch without being lost, unless others write many times as fast as is read.
const WAVE_MAX: usize = 8 * READS_MAX;

/// How long to wait after something was refused, before all is read again.
const RETRY: Duration = Duration::from_secs(1);

/// How long to wait after a subtree was too large, before all is read again.
const TOO_LARGE_RETRY: Duration = Duration::from_secs(30);

/// So many sights may be lost before they came to a cut; after that there is a pause before each
/// attempt, since some servers drop the connection on what they do not know.
const EARLY_LOSSES_MAX: usize = 3;

/// A member that lags answers a sync where a sync is not of a majority: after so long, what it
/// says is believed.
const LAG_MAX: Duration = Duration::from_secs(60);

/// Who wants to have the newest.
#[derive(Default)]
pub(crate) struct Asks {
    count: AtomicU64,
    asked: Notify,
}

impl Asks {
    /// Asks; [`Cut::answered`] is this number, or above, when it is answered.
    pub(crate) fn ask(&self) -> u64 {
        let number = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        self.asked.notify_one();
        number
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }
}

/// What the follower of a subtree sees.
pub(crate) enum View {
    /// What it was at a zxid.
    Cut(Cut),
    /// What it has become meanwhile is not known: the connection is broken, or events were lost.
    /// A cut follows when it is.
    OutOfSight,
    /// It cannot be read. It is tried again after a while.
    Failed(Error),
}

/// Whether the holder of the last cut has a znode as this Stat says.
pub(crate) type Holds<'a> = dyn Fn(&Path, &Stat) -> bool + Sync + 'a;

/// Follows a subtree for as long as it is asked for the next view.
pub(crate) struct Follower {
    client: Client,
    scope: Scope,
    asks: Arc<Asks>,
    sight: Option<Sight>,
    /// The zxid of the last cut.
    cut: Zxid,
    /// Whether the coordinator numbers anew, so that the last cut's holder has what only looks the
    /// same.
    anew: bool,
    /// Since when the coordinator has been behind the last cut.
    behind_since: Option<Instant>,
    /// How often it was lost since the last cut.
    losses: usize,
    /// To be made before the next attempt.
    pause: Option<Duration>,
}

/// What is watched and known in one session, while its connection holds.
struct Sight {
    client: Client,
    watch: Watch,
    ledger: Ledger<Found>,
    /// Whether the znodes are still looked for, by listing children.
    loading: bool,
    /// Bytes of paths and data that were read for the next cut.
    bytes: usize,
    /// How many asked by the last sync, and the zxid that it came to.
    due: Option<(u64, Zxid)>,
    answered: u64,
}

/// What was read of a znode.
struct Found {
    change: Change,
    /// Of its path and data.
    bytes: usize,
}

/// Why there is no next cut in this sight.
enum End {
    Lost,
    Client(ClientError),
    TooLarge { what: &'static str, max: usize },
}

impl From<ClientError> for End {
    fn from(error: ClientError) -> End {
        End::Client(error)
    }
}

impl Follower {
    /// Follows from a cut at `cut` on (zero: from nothing).
    pub(crate) fn new(client: Client, scope: Scope, asks: Arc<Asks>, cut: Zxid) -> Follower {
        Follower {
            client,
            scope,
            asks,
            sight: None,
            cut,
            anew: false,
            behind_since: None,
            losses: 0,
            pause: None,
        }
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The next view; `None` when the client is closed. `holds` says what need not be handed out
    /// again.
    pub(crate) async fn next(&mut self, holds: &Holds<'_>) -> Option<View> {
        if let Some(pause) = self.pause.take() {
            tokio::select! {
                () = sleep(pause) => {}
                () = closed(&self.client) => {}
            }
        }
        let end = match self.advance(holds).await {
            Ok(cut) => return Some(View::Cut(cut)),
            Err(end) => end,
        };
        self.sight = None;
        match end {
            // By the error, not the session: that of a client which is closed between two
            // sessions ended in another way.
            End::Client(ClientError::SessionOver { end: SessionEnd::Closed, .. }) => None,
            End::Lost
            | End::Client(ClientError::ConnectionLost { .. } | ClientError::SessionOver { .. }) => {
                self.losses += 1;
                if self.losses > EARLY_LOSSES_MAX {
                    self.pause = Some(RETRY);
                }
                Some(View::OutOfSight)
            }
            End::Client(error) => Some(View::Failed(self.fail(error.into(), RETRY))),
            End::TooLarge { what, max } => Some(View::Failed(self.too_large(what, max))),
        }
    }

    /// There is more of it than its holder may have.
    pub(crate) fn too_large(&mut self, what: &'static str, max: usize) -> Error {
        let path = self.scope.root.clone();
        self.fail(Error::TooLarge { path, what, max }, TOO_LARGE_RETRY)
    }

    fn fail(&mut self, error: Error, pause: Duration) -> Error {
        warn!(root = %self.scope.root, %error, "the subtree cannot be followed");
        self.sight = None;
        self.pause = Some(pause);
        error
    }

    async fn advance(&mut self, holds: &Holds<'_>) -> Result<Cut, End> {
        if self.sight.is_none() {
            self.sight = Some(self.begin().await?);
        }
        let Some(sight) = &mut self.sight else { return Err(End::Lost) };
        let session = sight.client.session();
        let anew = self.anew;
        let holds = |path: &Path, stat: &Stat| !anew && holds(path, stat);
        let cut = tokio::select! {
            biased;
            () = session.disconnected() => return Err(End::Lost),
            cut = sight.next_cut(&self.scope, &self.asks, &holds) => cut?,
        };
        (self.cut, self.anew, self.losses) = (cut.zxid, false, 0);
        Ok(cut)
    }

    /// Leaves the watch, and begins to look for znodes.
    async fn begin(&mut self) -> Result<Sight, End> {
        let client = match self.client.pin().await {
            Ok(client) => client,
            // There may be no further session for a while, or ever.
            Err(error) => {
                self.pause = Some(RETRY);
                return Err(error.into());
            }
        };
        // A new session may be on a member that lags behind what the last one saw.
        let last = client.sync().await?;
        self.judge(&client, last)?;
        let root = &self.scope.root;
        let watch = client.watch(root).recursive().await?;
        debug!(%root, "reading the subtree");
        let mut ledger = Ledger::new(last);
        ledger.discover(root);
        let (due, answered) = (None, 0);
        Ok(Sight { client, watch, ledger, loading: true, bytes: 0, due, answered })
    }

    /// Whether a coordinator whose last zxid is `last` can be followed from the last cut on.
    fn judge(&mut self, client: &Client, last: Zxid) -> Result<(), End> {
        let (root, cut) = (&self.scope.root, self.cut);
        if last >= cut {
            self.behind_since = None;
            return Ok(());
        }
        let since = *self.behind_since.get_or_insert_with(Instant::now);
        // Behind a sync of a majority no member lags.
        if client.session().deadline_is_proof() || since.elapsed() >= LAG_MAX {
            warn!(%root, %last, %cut, "the coordinator has begun anew");
            (self.cut, self.anew, self.behind_since) = (Zxid::ZERO, true, None);
            return Ok(());
        }
        info!(%root, %last, %cut, "the member is behind what was seen");
        self.pause = Some(RETRY);
        Err(End::Lost)
    }
}

/// Waits until the client is closed.
async fn closed(client: &Client) {
    if client.session().lost().await != SessionEnd::Closed {
        std::future::pending().await
    }
}

impl Sight {
    async fn next_cut(
        &mut self,
        scope: &Scope,
        asks: &Asks,
        holds: &Holds<'_>,
    ) -> Result<Cut, End> {
        loop {
            self.take_in(scope)?;
            let asked = asks.count();
            let wanted = self.ledger.wanted(WAVE_MAX);
            let replied = if asked > self.due.map_or(self.answered, |(asked, _)| asked) {
                let last = self.client.sync().await?;
                self.due = Some((asked, last));
                last
            } else if !wanted.is_empty() {
                self.read(scope, wanted, holds).await?
            } else {
                tokio::select! {
                    biased;
                    notice = self.watch.next() => self.note(scope, notice)?,
                    () = asks.asked.notified() => {}
                }
                continue;
            };
            // The events of all changes up to that reply have come before it.
            self.take_in(scope)?;
            self.ledger.reached(replied);
            if let Some(cut) = self.settle() {
                return Ok(cut);
            }
        }
    }

    fn settle(&mut self) -> Option<Cut> {
        let (zxid, found) = self.ledger.settle(self.due.map(|(_, last)| last))?;
        let changes = found.into_iter().map(|(path, found)| (path, found.change)).collect();
        if let Some((asked, last)) = self.due
            && last <= zxid
        {
            (self.answered, self.due) = (asked, None);
        }
        self.bytes = 0;
        let whole = std::mem::take(&mut self.loading);
        Some(Cut { zxid, whole, changes, answered: self.answered })
    }

    /// Notes what was told and waits in the watch.
    fn take_in(&mut self, scope: &Scope) -> Result<(), End> {
        while let Some(notice) = self.watch.next().now_or_never() {
            self.note(scope, notice)?;
        }
        Ok(())
    }

    fn note(&mut self, scope: &Scope, notice: Option<Notice>) -> Result<(), End> {
        let Some(Notice::Event(Event { path, zxid, .. })) = notice else {
            return Err(End::Lost);
        };
        match Path::new(path) {
            Ok(path) if scope.admits(&path) => {
                self.ledger.event(&path, zxid);
                self.bound(scope)
            }
            Ok(_) => Ok(()),
            Err(error) => {
                warn!(%error, "passed over a znode whose path is not valid");
                Ok(())
            }
        }
    }

    fn bound(&self, scope: &Scope) -> Result<(), End> {
        if self.ledger.len() > scope.nodes_max {
            return Err(End::TooLarge { what: "znodes", max: scope.nodes_max });
        }
        if self.bytes > scope.bytes_max {
            return Err(End::TooLarge { what: "bytes", max: scope.bytes_max });
        }
        Ok(())
    }

    /// Reads some znodes, and lists their children if those have still to be found. It gives back
    /// the zxid of the last read.
    async fn read(
        &mut self,
        scope: &Scope,
        wanted: Vec<Path>,
        holds: &Holds<'_>,
    ) -> Result<Zxid, End> {
        // Behind each other over the connection, not one after the other.
        let reads = wanted.chunks(READS_MAX).map(|paths| {
            let reads = self.client.multi_read();
            paths.iter().fold(reads, |reads, path| reads.get(path)).with_zxid()
        });
        let replies = try_join_all(reads.collect::<Vec<_>>()).await?;
        let (mut last, mut parents) = (Zxid::ZERO, Vec::new());
        for (paths, (answers, zxid)) in wanted.chunks(READS_MAX).zip(replies) {
            last = zxid;
            for (path, answer) in paths.iter().zip(answers) {
                if let Some(stat) = self.take(scope, path, zxid, answer, holds)?
                    && self.loading
                    && stat.children > 0
                    && scope.descends(path)
                {
                    parents.push(path.clone());
                }
                self.bound(scope)?;
            }
        }
        self.list(scope, parents).await?;
        Ok(last)
    }

    /// Notes what was read of a znode; its Stat if it is there.
    fn take(
        &mut self,
        scope: &Scope,
        path: &Path,
        zxid: Zxid,
        answer: Result<ReadOpResult, ClientError>,
        holds: &Holds<'_>,
    ) -> Result<Option<Stat>, End> {
        let (since, change, stat, bytes) = match answer {
            Ok(ReadOpResult::Data { data, stat }) => {
                let data = data.unwrap_or_default();
                let bytes = path.len() + data.len();
                let change = match holds(path, &stat) {
                    true => Change::Same,
                    false => Change::Put(data, stat),
                };
                (Some(stat.mzxid), change, Some(stat), bytes)
            }
            Err(error) if error.is(Code::NoNode) => (None, Change::Gone, None, 0),
            // Below the root, what may not be read does not exist for this client.
            Err(error) if error.is(Code::NoAuth) && *path != scope.root => {
                warn!(%path, "passed over a znode that may not be read");
                (Some(Zxid::ZERO), Change::Gone, None, 0)
            }
            Err(error) => return Err(error.into()),
            Ok(ReadOpResult::Children(_)) => return Err(End::Lost),
        };
        let earlier = self.ledger.read(path, zxid, since, Found { change, bytes });
        self.bytes = self.bytes + bytes - earlier.map_or(0, |earlier| earlier.bytes);
        Ok(stat)
    }

    async fn list(&mut self, scope: &Scope, parents: Vec<Path>) -> Result<(), End> {
        let lists = parents.iter().map(|path| self.client.children(path).into_future());
        let lists = join_all(lists.collect::<Vec<_>>()).await;
        for (parent, names) in parents.iter().zip(lists) {
            let names = match names {
                // It is gone by now, as will be told, or may not be read any longer.
                Err(error) if error.is(Code::NoNode) || error.is(Code::NoAuth) => continue,
                names => names?,
            };
            for name in names {
                match parent.join(&name) {
                    Ok(child) if scope.admits_child(&child) => self.ledger.discover(&child),
                    Ok(_) => {}
                    Err(error) => {
                        warn!(%error, "passed over a znode whose path is not valid");
                    }
                }
            }
            self.bound(scope)?;
        }
        Ok(())
    }
}
