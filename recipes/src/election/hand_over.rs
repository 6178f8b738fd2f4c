//! How a leader makes another one lead.
//!
//! It writes an offer into the candidate's znode, and the candidate takes the leader's place in one
//! transaction (see `campaign`), which is done only as long as the leader's znode is there and has not
//! been written to since. Until then the leader leads.

use std::time::Duration;

use bytes::Bytes;
use synod_core::client::{CleanupSlot, Client, WatchOnce};
use synod_core::model::{Code, Error as ClientError, Path, Zxid};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::record::{Offer, Record};
use super::{LEAD, Leadership};
use crate::error::{Error, LossReason};
use crate::layout::Layout;
use crate::znodes::persist;

impl Leadership {
    /// Makes the first candidate of that name lead, and waits until it does, for `within` at most.
    /// Then this leads no longer; its term is lower than the new leader's, and than that of all later
    /// ones. Nobody else leads in between, and the other candidates keep their places.
    ///
    /// Stop the work of this leadership before, or do it within [`run`](Leadership::run): the new
    /// leader may begin before this returns. Work that itself hands over is not dropped by `run` for
    /// that.
    ///
    /// If the candidate goes meanwhile, the next one of that name is asked; the election goes on in any
    /// case. The candidate writes to the election's own znode (the same data): it needs permission to.
    ///
    /// **Cancelling** it takes the offer back in the background. The candidate may be faster: that is a
    /// loss then.
    ///
    /// # Errors
    /// This leads on after [`Error::NoCandidate`] when nobody of that name stands,
    /// [`Error::TimedOut`] when the candidate did not answer, and [`Error::Client`] when a request
    /// was refused, or the election is of another [`Layout`], whose candidates would take no notice.
    /// [`Error::Lost`] when this leads no longer, for another reason.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub async fn hand_over(&self, name: &str, within: Duration) -> Result<(), Error> {
        if self.layout() != Layout::Synod {
            let rule = "those of other libraries take no hand-over";
            return Err(ClientError::invalid("candidate", format!("{name:?}"), rule).into());
        }
        let _handing_over = HandingOver::begin(self);
        match (self.offer(name, within).await, self.session().end()) {
            (Err(error), Some(end)) if error.session_over() => {
                Err(self.guard().loss(LossReason::SessionOver(end)).into())
            }
            (handed_over, _) => handed_over,
        }
    }

    async fn offer(&self, name: &str, within: Duration) -> Result<(), Error> {
        let mut offering = Offering::new(self, name)?;
        let deadline = Instant::now() + within;
        let failure = loop {
            let step = tokio::select! {
                biased;
                step = offering.step() => step,
                () = sleep_until(deadline) => {
                    break Error::TimedOut { path: offering.election.clone(), waited: within };
                }
            };
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Gone) => return self.handed_over(offering).await,
                Err(failure) => break failure,
            }
        };
        match offering.take_back().await? {
            Step::Again => Err(failure),
            // The candidate was faster.
            Step::Gone => self.handed_over(offering).await,
        }
    }

    /// The leader's znode is gone: by the hand-over, or otherwise.
    async fn handed_over(&self, mut offering: Offering<'_>) -> Result<(), Error> {
        offering.slot = None;
        self.guard().gone();
        let election = &offering.election;
        let stat = persist!(offering.client.exists(election))?;
        match stat.zip(offering.last_hand_over) {
            Some((stat, last)) if stat.mzxid > last => {
                info!(%election, to = offering.name, "handed the leadership over");
                self.giving().send_replace(Giving::Done);
                Ok(())
            }
            _ => Err(self.guard().loss(LossReason::Removed).into()),
        }
    }
}

/// Whether a leader is about to give its leadership up by a hand-over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Giving {
    #[default]
    No,
    Underway,
    Done,
}

/// Marks a hand-over while it is under way.
struct HandingOver<'a>(&'a Leadership);

impl HandingOver<'_> {
    fn begin(leadership: &Leadership) -> HandingOver<'_> {
        leadership.giving().send_replace(Giving::Underway);
        HandingOver(leadership)
    }
}

impl Drop for HandingOver<'_> {
    fn drop(&mut self) {
        self.0.giving().send_if_modified(|giving| {
            let failed = *giving == Giving::Underway;
            if failed {
                *giving = Giving::No;
            }
            failed
        });
    }
}

enum Step {
    /// Look again.
    Again,
    /// The leader's znode is gone.
    Gone,
}

/// An offer while it stands. Dropping it takes it back in the background.
struct Offering<'a> {
    /// Pinned to the leader's session.
    client: Client,
    election: Path,
    leader: &'a Path,
    name: &'a str,
    /// The candidate's znode, once it is found.
    candidate: Option<Path>,
    /// The `mzxid` of the election's znode before.
    last_hand_over: Option<Zxid>,
    /// Data and version of the leader's znode, once an offer may stand.
    own: Option<(Bytes, i32)>,
    /// Taken when there is nothing to take back.
    slot: Option<CleanupSlot>,
}

impl<'a> Offering<'a> {
    fn new(leadership: &'a Leadership, name: &'a str) -> Result<Offering<'a>, Error> {
        let (client, leader) = (leadership.guard().client().clone(), leadership.path());
        let slot = Some(client.session().reserve_cleanup()?);
        let election = leader.parent().unwrap_or_else(Path::root);
        let (candidate, last_hand_over, own) = (None, None, None);
        Ok(Offering { client, election, leader, name, candidate, last_hand_over, own, slot })
    }

    /// Compares what is there with the offer, does one thing about it or waits for a change.
    async fn step(&mut self) -> Result<Step, Error> {
        let (own_data, version, own_changed) = match self.client.get(self.leader).watched().await {
            Err(error) if error.is(Code::NoNode) => return Ok(Step::Gone),
            Err(ClientError::ConnectionLost { .. }) => return Ok(Step::Again),
            read => {
                let ((data, stat), changed) = read?;
                (data, stat.version, changed)
            }
        };
        let candidate = match &self.candidate {
            Some(candidate) => candidate.clone(),
            None => self.find().await?,
        };
        let ((data, stat), changed) = match self.client.get(&candidate).watched().await {
            Err(error) if error.is(Code::NoNode) => {
                self.candidate = None;
                return Ok(Step::Again);
            }
            Err(ClientError::ConnectionLost { .. }) => return Ok(Step::Again),
            read => read?,
        };
        self.candidate = Some(candidate.clone());
        let offer = Offer { leader: self.leader.name().to_owned(), version };
        let record = Record::decode(&data);
        if record.offer.as_ref() == Some(&offer) {
            self.changed(own_changed, changed).await?;
            return Ok(Step::Again);
        }
        self.own = Some((own_data, version));
        let offered = Record::encode_offer(&record.name, &offer);
        let txn = self.client.txn().check(self.leader, version);
        match txn.set_at(&candidate, offered, stat.version).commit().await {
            // One of the two has changed, or is gone: that is seen by the next look.
            Err(ClientError::ConnectionLost { .. }) => {}
            Err(error) if error.is(Code::BadVersion) || error.is(Code::NoNode) => {}
            offered => drop(offered?),
        }
        Ok(Step::Again)
    }

    /// The znode of the first candidate of the name, this leader aside.
    async fn find(&mut self) -> Result<Path, Error> {
        // The server may be behind the one that the candidate is with.
        persist!(self.client.sync())?;
        let (names, stat) = persist!(self.client.children(&self.election).with_stat())?;
        self.last_hand_over.get_or_insert(stat.mzxid);
        for entrant in LEAD.line_up(&self.election, &names)? {
            let path = self.election.join(&entrant.name)?;
            if path == *self.leader {
                continue;
            }
            match persist!(self.client.get(&path)) {
                Ok((data, _)) if Record::decode(&data).name == self.name => return Ok(path),
                Err(error) if !error.is(Code::NoNode) => return Err(error.into()),
                _ => {}
            }
        }
        let (path, name) = (self.election.clone(), self.name.to_owned());
        Err(Error::NoCandidate { path, name })
    }

    async fn changed(&self, own: WatchOnce, candidate: WatchOnce) -> Result<(), ClientError> {
        tokio::select! {
            biased;
            event = own => event.map(drop),
            event = candidate => event.map(drop),
        }
    }

    /// Makes the offer void, and waits until that is confirmed; or the leader's znode is gone.
    async fn take_back(&mut self) -> Result<Step, Error> {
        let Some((data, version)) = &self.own else { return Ok(Step::Again) };
        let written = persist!(self.client.set(self.leader, data).version(*version));
        match written {
            Err(error) if error.is(Code::NoNode) => return Ok(Step::Gone),
            // It has been written to since, so that it is void already.
            Err(error) if error.is(Code::BadVersion) => {}
            written => drop(written?),
        }
        self.slot = None;
        Ok(Step::Again)
    }
}

impl Drop for Offering<'_> {
    fn drop(&mut self) {
        let (Some(slot), Some((data, version))) = (self.slot.take(), self.own.take()) else {
            return;
        };
        let (client, leader) = (self.client.clone(), self.leader.clone());
        slot.run(async move {
            let written = persist!(client.set(&leader, &data).version(version));
            if let Err(error) = written
                && !(error.is(Code::NoNode) || error.is(Code::BadVersion) || error.session_over())
            {
                warn!(%leader, %error, "an offer could not be taken back");
            }
        });
    }
}
