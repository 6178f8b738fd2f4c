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
//! 4. A leader that resigns deletes its znode; one that dies loses it with its session.
//! 5. Observers watch the leader's znode alone, so that a change of leader wakes each once.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use futures::Stream;
use synod_core::client::{Client, IntoPath, WatchOnce};
use synod_core::model::{Code, Error as ClientError, Path, SessionEnd, Zxid};

use crate::contender::{Contender, Marker, Released};
use crate::error::Error;
use crate::guard::Guard;

const LEAD: Marker = Marker("-lead-");

/// Names of the znodes by which one [`Election`] value leads or stands.
type Candidacies = Arc<Mutex<BTreeSet<String>>>;

/// An election at a path. Cheap to clone; clones stand under the same name, and observe their
/// own leaderships as their own.
#[derive(Clone, Debug)]
pub struct Election {
    client: Client,
    path: Path,
    name: Arc<str>,
    candidacies: Candidacies,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The name it campaigned under.
    pub name: String,
    /// Its term: greater than every earlier leader's. It is the leader's fencing token.
    pub term: Zxid,
}

/// What an observer sees.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Observed {
    /// A leadership of this very [`Election`] (or a clone).
    Elected(Leader),
    /// Somebody else leads.
    Following(Leader),
    /// Nobody leads.
    NoLeader,
    /// The connection is broken, or the session over: who leads by now is not known here.
    Uncertain,
}

impl Election {
    /// The election at `path`. Nothing is sent yet; the znode is made (as a container) by the
    /// first candidate.
    ///
    /// # Errors
    /// [`Error::Client`] if the path is not valid.
    pub fn new(client: &Client, path: impl IntoPath) -> Result<Election, Error> {
        let (client, path) = (client.clone(), path.into_path()?);
        Ok(Election { client, path, name: Arc::from(""), candidacies: Candidacies::default() })
    }

    /// The name to campaign under, which observers see.
    pub fn with_name(self, name: &str) -> Election {
        Election { name: Arc::from(name), ..self }
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
    /// [`Error::Client`] when a request failed or the session is over; [`Error::Lost`] when the
    /// session ended, or somebody deleted the znode, while it waited;
    /// [`Error::SequenceExhausted`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with time, if it has to wait.
    pub async fn campaign(&self) -> Result<Leadership, Error> {
        let contender =
            Contender::enter(&self.client, &self.path, LEAD, self.name.as_bytes()).await?;
        let candidacy = Candidacy::new(&self.candidacies, contender.path().name());
        contender.first_in_line().await?;
        Ok(Leadership { guard: Guard::new(contender), _candidacy: candidacy })
    }

    /// Who leads now; `None` if nobody does.
    ///
    /// # Errors
    /// [`Error::Client`], [`Error::SequenceExhausted`].
    pub async fn leader(&self) -> Result<Option<Leader>, Error> {
        loop {
            let names = match self.client.children(&self.path).await {
                Err(error) if error.is(Code::NoNode) => return Ok(None),
                names => names?,
            };
            let line = LEAD.line_up(&self.path, &names)?;
            let Some(first) = line.first() else { return Ok(None) };
            match self.client.get(self.path.join(&first.name)?).await {
                Err(error) if error.is(Code::NoNode) => {}
                read => {
                    let (name, stat) = read?;
                    let name = String::from_utf8_lossy(&name).into_owned();
                    return Ok(Some(Leader { name, term: stat.czxid }));
                }
            }
        }
    }

    /// Who leads: a stream that begins with the present state and yields every change. An
    /// observer that is slow sees the newest state and may miss ones between. It goes on over
    /// expired sessions and ends when the client is closed.
    pub fn observe(&self) -> impl Stream<Item = Observed> + Send + Unpin + 'static {
        let observer = Observer { election: self.clone(), seen: None, change: None };
        Box::pin(futures::stream::unfold(observer, async |mut observer| {
            let observed = observer.next().await?;
            Some((observed, observer))
        }))
    }
}

/// Proof of a leadership: a [`Guard`], whose token is the term.
///
/// Dropping it resigns in the background; [`resign`](Leadership::resign) waits for it.
#[must_use = "a leadership that is dropped is resigned"]
#[derive(Debug)]
pub struct Leadership {
    guard: Guard,
    _candidacy: Candidacy,
}

impl Leadership {
    /// The term: greater than that of every earlier leader. It is the fencing token.
    pub fn term(&self) -> Zxid {
        self.guard.token()
    }

    /// Resigns, and waits until that is confirmed: the next candidate leads then.
    ///
    /// Cancelling it leaves the resignation to the background.
    ///
    /// # Errors
    /// As [`Guard::release`].
    pub async fn resign(self) -> Result<Released, Error> {
        self.guard.release().await
    }
}

impl Deref for Leadership {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.guard
    }
}

/// Enters a candidacy while it lasts.
#[derive(Debug)]
struct Candidacy {
    all: Candidacies,
    name: String,
}

impl Candidacy {
    fn new(all: &Candidacies, name: &str) -> Candidacy {
        all.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        Candidacy { all: Arc::clone(all), name: name.to_owned() }
    }
}

impl Drop for Candidacy {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

struct Observer {
    election: Election,
    /// What was yielded last.
    seen: Option<Observed>,
    /// Fires when the present state may be over, and the session that it was read in.
    change: Option<(WatchOnce, Client)>,
}

impl Observer {
    async fn next(&mut self) -> Option<Observed> {
        loop {
            if let Some((change, client)) = &mut self.change {
                let session = client.session();
                let fired = tokio::select! {
                    biased;
                    () = session.disconnected() => false,
                    _ = change => true,
                };
                // After a reconnect the watch is left again, but the state has to be read anew
                // all the same: it was uncertain for a while.
                self.change = None;
                if !fired && let Some(news) = self.news(Observed::Uncertain) {
                    return Some(news);
                }
            }
            match self.look().await {
                Ok(observed) => {
                    if let Some(news) = self.news(observed) {
                        return Some(news);
                    }
                }
                Err(error) => {
                    // By the error, not the session: that of a client which is closed between two
                    // sessions ended in another way.
                    if let Error::Client(ClientError::SessionOver {
                        end: SessionEnd::Closed, ..
                    }) = error
                    {
                        return None;
                    }
                    if let Some(news) = self.news(Observed::Uncertain) {
                        return Some(news);
                    }
                    // A request that fails while connected is not repeated in a tight loop.
                    if !matches!(
                        error,
                        Error::Client(
                            ClientError::ConnectionLost { .. } | ClientError::SessionOver { .. }
                        )
                    ) {
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        }
    }

    /// What is to be yielded, if it differs from what was.
    fn news(&mut self, observed: Observed) -> Option<Observed> {
        if self.seen.as_ref() == Some(&observed) {
            return None;
        }
        self.seen = Some(observed.clone());
        Some(observed)
    }

    /// Reads who leads, and leaves the watch that tells of the next change.
    async fn look(&mut self) -> Result<Observed, Error> {
        let client = self.election.client.pin().await?;
        let path = &self.election.path;
        loop {
            let (names, any) = match client.children(path).watched().await {
                Ok(((names, _), any)) => (names, any),
                Err(error) if error.is(Code::NoNode) => {
                    let (stat, made) = client.exists(path).watched().await?;
                    if stat.is_some() {
                        continue;
                    }
                    self.change = Some((made, client));
                    return Ok(Observed::NoLeader);
                }
                Err(error) => return Err(error.into()),
            };
            let line = LEAD.line_up(path, &names)?;
            let Some(first) = line.first() else {
                self.change = Some((any, client));
                return Ok(Observed::NoLeader);
            };
            // While there is a leader, only its own znode matters.
            drop(any);
            match client.get(path.join(&first.name)?).watched().await {
                Ok(((name, stat), change)) => {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    let leader = Leader { name, term: stat.czxid };
                    self.change = Some((change, client));
                    let candidacies = &self.election.candidacies;
                    let own = candidacies.lock().unwrap_or_else(PoisonError::into_inner);
                    return Ok(match own.contains(&first.name) {
                        true => Observed::Elected(leader),
                        false => Observed::Following(leader),
                    });
                }
                Err(error) if error.is(Code::NoNode) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// How long an observer waits after a request that was refused.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);
