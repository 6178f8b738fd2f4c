//! A double barrier: a number of parties begin together, and end together.
//!
//! ```text
//! /barriers/step
//! ├── ready        {"cohort":3,"members":[…]}    who is inside; persistent, its version guards it
//! └── line                                       a container
//!     ├── _c_9f1c…-memb-0000000007               a member of cohort 3, still inside
//!     ├── _c_40ab…-memb-0000000009               has come for cohort 4
//!     └── _c_d33e…-memb-0000000010               has come for cohort 4
//! ```
//!
//! 1. Who enters creates an ephemeral sequential znode, and waits for `ready` to name it.
//! 2. Of those who wait, the N-th writes the next cohort into `ready` when nobody of the last one
//!    is left, in one transaction that checks that all N are there. It alone watches the line.
//! 3. Inside is whom `ready` names, and nobody else: no event, and no reconnect, lets anyone in.
//! 4. To leave, all but the lowest delete their znodes and wait for the lowest to go; the lowest
//!    waits for the highest, again and again, and goes last.
//! 5. Who gives up before deletes its znode in a transaction that checks `ready`: it has entered, or
//!    it has not and nobody counts it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use synod_core::client::{Client, IntoPath, WatchOnce};
use synod_core::model::{Code, Error as ClientError, Path};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::cohort::Cohort;
use crate::contender::{Contender, Marker};
use crate::error::Error;
use crate::guard::Guard;
use crate::holding::Holding;
use crate::telemetry;
use crate::znodes::{make_parents, persist};

/// The most parties of a double barrier: they are checked in one transaction.
pub const COHORT_MAX: u32 = 1_024;

pub(super) const LINE: Marker = Marker::new("-memb-", &telemetry::DOUBLE_BARRIER);

/// It looks again now and then, even if no watch has fired: see `contender`.
const RECHECK: Duration = Duration::from_secs(30);

/// A double barrier at a path, for as many parties as it is made for. Cheap to clone; every
/// `DoubleBarrier` of the same path is the same barrier, and all have to be made for the same number.
///
/// It can be used again and again: those who have entered together are a cohort, and the next cohort
/// enters when all of the one before have left or died.
#[derive(Clone, Debug)]
pub struct DoubleBarrier {
    client: Client,
    path: Path,
    line: Path,
    ready: Path,
    parties: u32,
}

/// The data of `ready`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Ready {
    cohort: u64,
    /// Names of znodes, in the order in which they came.
    members: Vec<String>,
}

impl DoubleBarrier {
    /// The barrier at `path`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Client`] if the path or the number of parties is not valid (1 to [`COHORT_MAX`]).
    pub fn new(client: &Client, path: impl IntoPath, parties: u32) -> Result<DoubleBarrier, Error> {
        if !(1..=COHORT_MAX).contains(&parties) {
            let rule = "a double barrier is for 1 to 1024 parties";
            return Err(ClientError::invalid("number of parties", parties, rule).into());
        }
        let path = path.into_path()?;
        let (line, ready) = (path.join("line")?, path.join("ready")?);
        Ok(DoubleBarrier { client: client.clone(), path, line, ready, parties })
    }

    /// The path of the barrier.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until as many have come as the barrier is for, and enters with them.
    ///
    /// **Cancelling** it, at any moment, gives the place up in the background. If the others have
    /// entered at that very moment, this one has died to them inside.
    /// **If the session ends** while it waits, it fails.
    ///
    /// # Errors
    /// [`Error::Client`] when a request failed or the session is over; [`Error::Lost`] when the
    /// session ended, or somebody deleted the znode, while it waited; [`Error::BadData`] when others
    /// have written to `ready`; [`Error::SequenceExhausted`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with time, if it has to wait.
    pub async fn enter(&self) -> Result<Cohort, Error> {
        let enter = async { Place::take(self).await?.entered().await };
        telemetry::DOUBLE_BARRIER.acquiring(&self.path, enter).await
    }

    /// Waits until as many have come as the barrier is for, at most `limit`.
    ///
    /// When the time is over it gives its place up before it fails, so that nobody counts it; or it
    /// turns out to have entered. While the connection is broken, neither is known: then it takes
    /// longer, at most until the session is over.
    ///
    /// Cancelling it is as for [`enter`](DoubleBarrier::enter).
    ///
    /// # Errors
    /// [`Error::TimedOut`]: then it has not entered. Otherwise as
    /// [`enter`](DoubleBarrier::enter).
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub async fn enter_within(&self, limit: Duration) -> Result<Cohort, Error> {
        let deadline = Instant::now() + limit;
        let place = Place::take(self).await?;
        let entered = tokio::select! {
            biased;
            entered = place.named() => Some(entered?),
            () = sleep_until(deadline) => place.withdraw().await?,
        };
        match entered {
            Some(ready) => Ok(place.into_cohort(ready)),
            None => Err(Error::TimedOut { path: self.path.clone(), waited: limit }),
        }
    }

    /// Makes `ready`, with a cohort of nobody, if it is not there.
    async fn write_down(&self, client: &Client) -> Result<(), Error> {
        make_parents(client, &self.ready).await?;
        let nobody = self.encode(&Ready::default())?;
        match persist!(client.create(&self.ready, &nobody)) {
            // A parent that was made may be reaped again before it has a child.
            Err(error) if error.is(Code::NodeExists) || error.is(Code::NoNode) => Ok(()),
            created => Ok(created.map(drop)?),
        }
    }

    fn encode(&self, ready: &Ready) -> Result<Vec<u8>, ClientError> {
        serde_json::to_vec(ready)
            .map_err(|error| ClientError::invalid("cohort", error, "a cohort can be written down"))
    }

    /// What `ready` says, its version, and its next change.
    async fn ready(&self, client: &Client) -> Result<(Ready, i32, WatchOnce), Error> {
        loop {
            match persist!(client.get(&self.ready).watched()) {
                Err(error) if error.is(Code::NoNode) => self.write_down(client).await?,
                read => {
                    let ((data, stat), changed) = read?;
                    let bad = |error: serde_json::Error| Error::BadData {
                        path: self.ready.clone(),
                        zxid: stat.mzxid,
                        reason: error.to_string(),
                    };
                    let ready = serde_json::from_slice(&data).map_err(bad)?;
                    return Ok((ready, stat.version, changed));
                }
            }
        }
    }
}

/// One that has come. Dropping it, at any moment, leaves nothing behind.
struct Place<'a> {
    barrier: &'a DoubleBarrier,
    holding: Holding,
}

impl<'a> Place<'a> {
    async fn take(barrier: &'a DoubleBarrier) -> Result<Place<'a>, Error> {
        let contender = Contender::enter(&barrier.client, &barrier.line, LINE, b"").await?;
        Ok(Place { barrier, holding: contender.into_holding()? })
    }

    fn client(&self) -> &Client {
        self.holding.client()
    }

    fn name(&self) -> &str {
        self.holding.path().name()
    }

    async fn entered(self) -> Result<Cohort, Error> {
        let ready = self.named().await?;
        Ok(self.into_cohort(ready))
    }

    fn into_cohort(self, ready: Ready) -> Cohort {
        let barrier = &self.barrier.path;
        debug!(%barrier, cohort = ready.cohort, member = self.name(), "entered");
        let line = self.barrier.line.clone();
        Cohort::new(Guard::new(self.holding), line, ready.cohort, ready.members)
    }

    /// Waits until `ready` names this one.
    async fn named(&self) -> Result<Ready, Error> {
        loop {
            let (ready, version, changed) = self.barrier.ready(self.client()).await?;
            if self.is_in(&ready) {
                return match self.holding.session().end() {
                    Some(end) => {
                        let reason = crate::error::LossReason::SessionOver(end);
                        Err(self.holding.loss(reason).into())
                    }
                    None => Ok(ready),
                };
            }
            let line = persist!(self.client().children(&self.barrier.line).watched());
            let ((names, _), line_changed) = match line {
                Err(error) if error.is(Code::NoNode) => return Err(self.holding.removed().into()),
                listed => listed?,
            };
            let line = LINE.line_up(&self.barrier.line, &names)?;
            let (inside, mut come): (Vec<String>, Vec<String>) = line
                .into_iter()
                .map(|entrant| entrant.name)
                .partition(|name| ready.members.contains(name));
            let Some(place) = come.iter().position(|name| name == self.name()) else {
                return Err(self.holding.removed().into());
            };
            let parties = self.barrier.parties as usize;
            if place + 1 == parties && inside.is_empty() {
                come.truncate(parties);
                self.announce(&ready, version, come).await?;
                // That, or what has come before it, is seen by the next look.
                continue;
            }
            // Whoever is before the N-th never becomes it: places only move up.
            let line_changed = Some(line_changed).filter(|_| place + 1 >= parties);
            self.changed(changed, line_changed).await?;
        }
    }

    fn is_in(&self, ready: &Ready) -> bool {
        ready.members.iter().any(|name| name == self.name())
    }

    /// Names the next cohort, if all of it are there and nobody else has.
    async fn announce(
        &self,
        last: &Ready,
        version: i32,
        members: Vec<String>,
    ) -> Result<(), Error> {
        let mut txn = self.client().txn();
        for name in &members {
            txn = txn.check(self.barrier.line.join(name)?, -1);
        }
        let next = Ready { cohort: last.cohort + 1, members };
        let next = self.barrier.encode(&next)?;
        match txn.set_at(&self.barrier.ready, next, version).commit().await {
            Err(ClientError::ConnectionLost { .. }) => {
                // Behind a sync, on the same session, the next look is final.
                persist!(self.client().sync())?;
            }
            // One has gone, or somebody was faster.
            Err(error) if error.is(Code::NoNode) || error.is(Code::BadVersion) => {}
            announced => drop(announced?),
        }
        Ok(())
    }

    async fn changed(&self, ready: WatchOnce, line: Option<WatchOnce>) -> Result<(), Error> {
        let line = async {
            match line {
                Some(changed) => changed.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            loss = self.holding.lost() => return Err(loss.into()),
            event = ready => drop(event?),
            event = line => drop(event?),
            () = tokio::time::sleep(RECHECK) => {}
        }
        Ok(())
    }

    /// Gives the place up, unless it turns out to have entered.
    async fn withdraw(&self) -> Result<Option<Ready>, Error> {
        loop {
            let (ready, version, _) = self.barrier.ready(self.client()).await?;
            if self.is_in(&ready) {
                return Ok(Some(ready));
            }
            let txn = self.client().txn().check(&self.barrier.ready, version);
            match txn.delete(self.holding.path()).commit().await {
                Err(ClientError::ConnectionLost { .. }) => {
                    persist!(self.client().sync()).map(drop)?
                }
                Err(error) if error.is(Code::BadVersion) => {}
                // `ready` was deleted by others, or this one was: by the attempt without a reply.
                Err(error) if error.is(Code::NoNode) => {
                    if persist!(self.client().exists(self.holding.path()))?.is_none() {
                        self.holding.gone();
                        return Ok(None);
                    }
                }
                withdrawn => {
                    withdrawn?;
                    self.holding.gone();
                    return Ok(None);
                }
            }
        }
    }
}
