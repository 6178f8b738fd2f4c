//! Who leads, as a stream.

use std::time::Duration;

use synod_core::client::{Client, WatchOnce};
use synod_core::model::{Code, Error as ClientError, SessionEnd, SessionId, Zxid};

use super::{Election, Leader};
use crate::error::Error;

/// How long an observer waits after a request that was refused.
const RETRY: Duration = Duration::from_secs(1);

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

pub(super) struct Observer {
    pub(super) election: Election,
    /// What was yielded last.
    seen: Option<Observed>,
    /// Fires when the present state may be over, and the session that it was read in.
    change: Option<(WatchOnce, Client)>,
    /// The highest term seen.
    highest: Zxid,
    /// The session that was looked in last.
    session: Option<SessionId>,
}

impl Observer {
    pub(super) fn new(election: Election) -> Observer {
        Observer { election, seen: None, change: None, highest: Zxid::ZERO, session: None }
    }

    pub(super) async fn next(&mut self) -> Option<Observed> {
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
        let session = Some(client.session().id());
        if self.session != session {
            // A coordinator that has seen less than this, behind a sync, has lost its memory, and
            // numbers anew.
            if client.sync().await? < self.highest {
                self.highest = Zxid::ZERO;
            }
            self.session = session;
        }
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
            let line = self.election.marker().line_up(path, &names)?;
            let Some(first) = line.first() else {
                self.change = Some((any, client));
                return Ok(Observed::NoLeader);
            };
            // While there is a leader, only its own znode matters.
            drop(any);
            match client.get(path.join(&first.name)?).watched().await {
                Ok(((data, stat), change)) => {
                    let leader = Leader::of(&data, &stat);
                    self.change = Some((change, client));
                    // One that was passed over by a hand-over leads when it has a new term.
                    if leader.term < self.highest {
                        return Ok(Observed::NoLeader);
                    }
                    self.highest = leader.term;
                    return Ok(match self.election.candidacies.contains(&first.name) {
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
