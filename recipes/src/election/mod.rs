//! An election: one leader at a time, and a stream of who it is.
//!
//! ```text
//! /scheduler                               a container, made when needed
//! ├── _c_9f1c…-lead-0000000003   "node-7"  the leader; czxid = its term
//! └── _c_40ab…-lead-0000000005   "node-2"  the next, if …03 goes
//! ```
//!
//! 1. A candidate creates an ephemeral sequential znode that holds its name.
//! 2. The lowest suffix leads; every other watches the one just before.
//! 3. The term is the znode's `czxid`: it grows from leader to leader, and fences.
//! 4. A leader that resigns deletes its znode; one that dies loses it with its session; one that
//!    hands over is replaced by a new znode of its successor, in one transaction.
//! 5. Observers watch the leader's znode alone, so that a change of leader wakes each once.

mod campaign;
mod hand_over;
mod leadership;
mod observer;
mod record;
mod run;

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use synod_core::client::{Client, IntoPath};
use synod_core::model::{Code, Path, SessionId, Stat, Zxid};

use campaign::Campaign;
use leadership::Candidacies;
pub use leadership::{Leadership, StepDown};
pub use observer::Observed;
use observer::Observer;
use record::Record;

use crate::contender::{Entrant, Marker};
use crate::error::Error;
use crate::guard::Guard;
use crate::layout::Layout;
use crate::telemetry;

const LEAD: Marker = Marker::new("-lead-", &telemetry::ELECTION);
const LATCH: Marker = Marker::new("-latch-", &telemetry::ELECTION).in_layout(Layout::Curator);
const KAZOO: Marker = Marker::new("__lock__", &telemetry::ELECTION).in_layout(Layout::Kazoo);

/// How many candidates are read at the same time.
const READS_MAX: usize = 64;

/// An election at a path. Cheap to clone; clones stand under the same name, and observe their
/// own leaderships as their own.
#[derive(Clone, Debug)]
pub struct Election {
    client: Client,
    path: Path,
    name: Arc<str>,
    layout: Layout,
    step_down: StepDown,
    candidacies: Candidacies,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The name it campaigned under.
    pub name: String,
    /// Its term: greater than every earlier leader's. It is the leader's fencing token.
    pub term: Zxid,
    /// What it has proclaimed last; `None` until it does.
    pub value: Option<Bytes>,
}

/// One who leads, or stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The name it campaigns under.
    pub name: String,
    /// The zxid at which it came.
    pub since: Zxid,
    /// Its session.
    pub session: Option<SessionId>,
}

impl Leader {
    fn of(data: &Bytes, stat: &Stat) -> Leader {
        let Record { name, value, .. } = Record::decode(data);
        Leader { name, term: stat.czxid, value }
    }
}

impl Election {
    /// The election at `path`. Nothing is sent yet; the znode is made (as a container) by the
    /// first candidate.
    ///
    /// # Errors
    /// [`Error::Client`] if the path is not valid.
    pub fn new(client: &Client, path: impl IntoPath) -> Result<Election, Error> {
        let (client, path) = (client.clone(), path.into_path()?);
        let (name, layout, step_down) = (Arc::from(""), Layout::Synod, StepDown::default());
        let candidacies = Candidacies::default();
        Ok(Election { client, path, name, layout, step_down, candidacies })
    }

    /// When a leader steps down that cannot reach the coordinator; at its session's deadline, unless
    /// this says otherwise.
    pub fn with_step_down(self, step_down: StepDown) -> Election {
        Election { step_down, ..self }
    }

    /// The name to campaign under, which observers see. It is one line.
    pub fn with_name(self, name: &str) -> Election {
        Election { name: Arc::from(name), ..self }
    }

    /// Names its znodes as that library does, so that its elections at the path and this are one
    /// election. The candidates of other libraries take no [hand-over](Leadership::hand_over), so that
    /// there is none.
    pub fn with_layout(self, layout: Layout) -> Election {
        Election { layout, ..self }
    }

    fn marker(&self) -> Marker {
        match self.layout {
            Layout::Synod => LEAD,
            Layout::Curator => LATCH,
            Layout::Kazoo => KAZOO,
        }
    }

    /// The path of the election.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stands as a candidate and waits until it leads.
    ///
    /// **Cancelling** it, at any moment, withdraws the candidacy and leaves nothing behind. **If
    /// the session ends** while it waits, it fails.
    ///
    /// # Errors
    /// [`Error::Client`] when a request failed, the name is not valid, or the session is over;
    /// [`Error::Lost`] when the session ended, or somebody deleted the znode, while it waited;
    /// [`Error::SequenceExhausted`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with time, if it has to wait.
    pub async fn campaign(&self) -> Result<Leadership, Error> {
        let campaign = async { Campaign::enter(self).await?.lead().await };
        let (holding, candidacy) = telemetry::ELECTION.acquiring(&self.path, campaign).await?;
        Ok(Leadership::new(Guard::new(holding), candidacy, self))
    }

    /// Who leads now; `None` if nobody does.
    ///
    /// # Errors
    /// [`Error::Client`], [`Error::SequenceExhausted`].
    pub async fn leader(&self) -> Result<Option<Leader>, Error> {
        loop {
            let line = self.line().await?;
            let Some(first) = line.first() else { return Ok(None) };
            match self.client.get(self.path.join(&first.name)?).await {
                Err(error) if error.is(Code::NoNode) => {}
                read => {
                    let (data, stat) = read?;
                    return Ok(Some(Leader::of(&data, &stat)));
                }
            }
        }
    }

    /// Who leads and who stands for it, in the order in which they came: the first one leads.
    ///
    /// They are read one by one: one who comes or goes meanwhile may be among them or not.
    ///
    /// # Errors
    /// [`Error::Client`], [`Error::SequenceExhausted`].
    pub async fn candidates(&self) -> Result<Vec<Candidate>, Error> {
        let line = self.line().await?;
        let mut candidates = Vec::with_capacity(line.len());
        let reads = line.into_iter().map(|entrant| self.candidate(entrant.name));
        let mut reads = futures::stream::iter(reads).buffered(READS_MAX);
        while let Some(read) = reads.next().await {
            candidates.extend(read?);
        }
        Ok(candidates)
    }

    async fn line(&self) -> Result<Vec<Entrant>, Error> {
        match self.client.children(&self.path).await {
            Err(error) if error.is(Code::NoNode) => Ok(Vec::new()),
            names => self.marker().line_up(&self.path, &names?),
        }
    }

    async fn candidate(&self, znode: String) -> Result<Option<Candidate>, Error> {
        match self.client.get(self.path.join(&znode)?).await {
            Err(error) if error.is(Code::NoNode) => Ok(None),
            read => {
                let (data, stat) = read?;
                let (since, session) = (stat.czxid, stat.ephemeral_owner);
                Ok(Some(Candidate { name: Record::decode(&data).name, since, session }))
            }
        }
    }

    /// Who leads: a stream that begins with the present state and yields every change. An
    /// observer that is slow sees the newest state and may miss ones between. It goes on over
    /// expired sessions and ends when the client is closed.
    pub fn observe(&self) -> impl Stream<Item = Observed> + Send + Unpin + 'static {
        let observer = Observer::new(self.clone());
        Box::pin(futures::stream::unfold(observer, async |mut observer| {
            let path = observer.election.path.clone();
            let observed = telemetry::ELECTION.waiting("observe", &path, observer.next()).await?;
            Some((observed, observer))
        }))
    }
}
