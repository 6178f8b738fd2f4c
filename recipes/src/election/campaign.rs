//! How a candidate comes to lead: in its turn, or because the leader hands over to it.
//!
//! A term is the `czxid` of the leader's znode. In their turn candidates lead in the order of their
//! creation, so that terms grow by themselves. A hand-over breaks that order: candidates that came
//! before the new leader, and lead after it, would do so in lower terms. So
//!
//! * who is handed the leadership takes a new znode in the place of the leader's, in the transaction
//!   that deletes it, and so a new term;
//! * who is first in line but was passed over replaces its own znode by a new one in the same place
//!   before it leads;
//! * each such transaction sets the data of the election's znode (to what it is), and so leaves its
//!   zxid in the `mzxid` there: who was created before that was passed over.
//!
//! At every moment the znode with the lowest suffix is the leader's, or that of one who does not lead
//! yet: there are never two.

use std::time::Duration;

use synod_core::client::{Client, Txn, WatchOnce};
use synod_core::model::{
    Acl, Code, CreateMode, Error as ClientError, OpResult, Path, SessionEnd, Stat, Zxid,
};
use tracing::{debug, info};

use super::leadership::Candidacy;
use super::record::{Offer, Record};
use super::{Election, LEAD};
use crate::contender::Contender;
use crate::error::{Error, LossReason};
use crate::holding::Holding;
use crate::layout::Layout;
use crate::znodes::persist;

/// A candidate looks again now and then, even if no watch has fired: events of a znode that it may
/// not read are swallowed by the coordinator.
const RECHECK: Duration = Duration::from_secs(30);

/// Places in the transaction that replaces a znode.
const CREATE: usize = 1;
const SET: usize = 2;

/// One that stands. Dropping it, at any moment, leaves nothing behind.
pub(super) struct Campaign<'a> {
    election: &'a Election,
    /// Pinned to the session that it stands in.
    client: Client,
    holding: Holding,
    candidacy: Candidacy,
    /// Whether it has seen its place yet.
    looked: bool,
}

impl<'a> Campaign<'a> {
    pub(super) async fn enter(election: &'a Election) -> Result<Campaign<'a>, Error> {
        Record::check_name(&election.name)?;
        let client = election.client.pin().await?;
        Campaign::stand(election, &client).await
    }

    async fn stand(election: &'a Election, client: &Client) -> Result<Campaign<'a>, Error> {
        let data = Record::encode(&election.name, None);
        let contender = Contender::enter(client, &election.path, election.marker(), &data).await?;
        let candidacy = election.candidacies.enter(contender.path().name());
        let holding = contender.into_holding()?;
        let client = client.clone();
        Ok(Campaign { election, client, holding, candidacy, looked: false })
    }

    /// Waits until it leads.
    pub(super) async fn lead(mut self) -> Result<(Holding, Candidacy), Error> {
        let mut leads = false;
        while !leads {
            leads = match self.place().await? {
                Place::First => true,
                Place::PassedOver => self.renew().await?,
                Place::Behind(before) => self.wait(&before).await?,
            };
        }
        match self.client.session().end() {
            Some(end) => Err(self.session_over(end)),
            None => Ok((self.holding, self.candidacy)),
        }
    }

    fn session_over(&self, end: SessionEnd) -> Error {
        self.holding.loss(LossReason::SessionOver(end)).into()
    }

    async fn place(&mut self) -> Result<Place, Error> {
        let path = &self.election.path;
        let (names, stat) = match persist!(self.client.children(path).with_stat()) {
            Err(error) if error.is(Code::NoNode) => return Err(self.holding.removed().into()),
            list => list?,
        };
        let line = self.election.marker().line_up(path, &names)?;
        // Without hand-overs nobody is passed over, whatever others write there.
        let hands_over = self.election.layout == Layout::Synod;
        let place = line.iter().position(|entrant| entrant.name == self.holding.path().name());
        if let Some(place) = place
            && !std::mem::replace(&mut self.looked, true)
        {
            self.holding.recipe().came_behind(place);
        }
        match place {
            None => Err(self.holding.removed().into()),
            Some(0) if hands_over && stat.mzxid > self.holding.token() => Ok(Place::PassedOver),
            Some(0) => Ok(Place::First),
            Some(place) => Ok(Place::Behind(path.join(&line[place - 1].name)?)),
        }
    }

    /// Waits until the line may be another (`false`), or the leader has handed over to this
    /// (`true`).
    async fn wait(&mut self, before: &Path) -> Result<bool, Error> {
        // By `get`, which leaves no watch where there is no znode: one that is gone never comes
        // back.
        let gone = match self.client.get(before).watched().await {
            Err(error) if error.is(Code::NoAuth) => None,
            Err(error) if error.is(Code::NoNode) || is_cut(&error) => return Ok(false),
            watched => Some(watched?.1),
        };
        // An offer is written into the candidate's own znode.
        let own = match self.client.get(self.holding.path()).watched().await {
            Err(error) if error.is(Code::NoAuth) => None,
            Err(error) if error.is(Code::NoNode) => return Err(self.holding.removed().into()),
            Err(error) if is_cut(&error) => return Ok(false),
            watched => {
                let ((data, _), changed) = watched?;
                if let Some(offer) = Record::decode(&data).offer
                    && self.take_over(&offer).await?
                {
                    return Ok(true);
                }
                Some(changed)
            }
        };
        let session = self.client.session();
        tokio::select! {
            biased;
            end = session.lost() => return Err(self.session_over(end)),
            () = fired(gone) => {}
            () = fired(own) => {}
            () = tokio::time::sleep(RECHECK) => {}
        }
        Ok(false)
    }

    /// Takes the place of the leader that has made the offer. Whether that was done: the leader may
    /// have gone, or thought better of it.
    async fn take_over(&mut self, offer: &Offer) -> Result<bool, Error> {
        let Some(suffix) = LEAD.suffix_of(&offer.leader) else { return Ok(false) };
        let leader = self.election.path.join(&offer.leader)?;
        let replaced = self.replace(suffix, |txn| txn.delete_at(&leader, offer.version)).await?;
        match &replaced {
            Ok(()) => info!(path = %self.holding.path(), "was handed the leadership"),
            Err(error) => debug!(path = %self.holding.path(), %error, "the offer is void"),
        }
        Ok(replaced.is_ok())
    }

    /// Takes a new znode, and so a new term, in the same place, and leads (`true`). If it may not,
    /// since it may not write to the election's znode, it stands again at the end of the line.
    async fn renew(&mut self) -> Result<bool, Error> {
        let suffix = LEAD.suffix_of(self.holding.path().name()).unwrap_or_default().to_owned();
        match self.replace(&suffix, |txn| txn).await? {
            Ok(()) => Ok(true),
            Err(error) if error.is(Code::NoAuth) => {
                *self = Campaign::stand(self.election, &self.client).await?;
                Ok(false)
            }
            // It was deleted just now.
            Err(error) if error.is(Code::NoNode) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces the znode by one with that suffix, in one transaction with what `also` adds. Or what
    /// it was refused with.
    async fn replace(
        &mut self,
        suffix: &str,
        also: impl Fn(Txn) -> Txn,
    ) -> Result<Result<(), ClientError>, Error> {
        let election = &self.election.path;
        let data = Record::encode(&self.election.name, None);
        let path = election.join(&LEAD.name(&self.client, suffix))?;
        // From before the transaction on, so that one which is cancelled is cleaned up.
        let slot = self.client.session().reserve_cleanup()?;
        let (recipe, client) = (self.holding.recipe(), self.client.clone());
        let mut next = Holding::new(recipe, client, path.clone(), Zxid::ZERO, slot);
        let candidacy = self.election.candidacies.enter(path.name());
        let created = loop {
            let (about, stat) = match persist!(self.client.get(election)) {
                Err(error) if error.is(Code::NoNode) => return Err(self.holding.removed().into()),
                read => read?,
            };
            let txn = self.client.txn().delete(self.holding.path());
            let txn = txn.create_as(&path, &data, CreateMode::Ephemeral, Acl::open());
            match also(txn.set_at(election, &about, stat.version)).commit().await {
                Ok(results) => break self.created(&path, &results).await?,
                Err(ClientError::ConnectionLost { .. }) => {
                    // Behind a sync, on the same session, the answer is final.
                    persist!(self.client.sync())?;
                    if let Some(stat) = persist!(self.client.exists(&path))? {
                        break Some(stat);
                    }
                }
                // The data of the election's znode changed meanwhile.
                Err(error) if is_of(&error, SET, Code::BadVersion) => {}
                Err(error @ ClientError::Refused { .. }) => {
                    next.gone();
                    return Ok(Err(error));
                }
                Err(error) => return Err(error.into()),
            }
        };
        let Some(stat) = created else { return Err(next.removed().into()) };
        next.granted(stat.czxid);
        std::mem::replace(&mut self.holding, next).gone();
        self.candidacy = candidacy;
        Ok(Ok(()))
    }

    /// The Stat of the znode that the transaction has created; `None` if it is gone already.
    async fn created(&self, path: &Path, results: &[OpResult]) -> Result<Option<Stat>, Error> {
        match results.get(CREATE) {
            Some(OpResult::Created { stat, .. }) if stat.czxid != Zxid::ZERO => Ok(Some(*stat)),
            // Apache ZooKeeper leaves the Stat out here.
            _ => Ok(persist!(self.client.exists(path))?),
        }
    }
}

enum Place {
    First,
    /// First, but created before somebody who has led since.
    PassedOver,
    /// Behind that one.
    Behind(Path),
}

fn is_cut(error: &ClientError) -> bool {
    matches!(error, ClientError::ConnectionLost { .. })
}

/// Whether that operation of the transaction was refused with that code.
fn is_of(error: &ClientError, operation: usize, code: Code) -> bool {
    error.is(code)
        && matches!(error, ClientError::Refused { index: Some(index), .. } if *index == operation)
}

/// Waits for a watch, if there is one. One that ends with its session has fired, too.
async fn fired(watch: Option<WatchOnce>) {
    match watch {
        Some(watch) => drop(watch.await),
        None => std::future::pending().await,
    }
}
