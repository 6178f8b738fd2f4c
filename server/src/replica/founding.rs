//! How a member begins that has nothing in its log. One member founds a cluster: the one that is
//! alone, or of several the one with the lowest number. It learns the data folder of each of the
//! others first, and names them in the first entry; so all of them have to be up once, and none of
//! them can be mistaken for a member of an earlier cluster, or for one whose folder was emptied.
//! The others wait to be reached, as one does that joins.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use synod_core::seams::Entropy;

use super::RaftOf;
use super::caller::Caller;
use super::config::{Founding, MemberConfig};
use super::handshake::{ClusterId, ConnectError, Welcome, anew};
use super::identity::{self, Written};
use super::types::{Address, FolderId};
use crate::StartError;
use crate::limits::{FOUNDING_PAUSE_MS, FOUNDING_QUIET_ELECTIONS, MEET_MS_MAX};
use crate::log::Disk;
use crate::member::Member;

/// What a member does that has nothing in its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing: there is something in its log.
    Begun,
    /// It founds a cluster of itself.
    Alone,
    /// It founds a cluster of these, itself among them.
    With(BTreeMap<u64, String>),
    /// It waits for the one that founds.
    Await(u64),
    /// It waits to be added.
    Join,
}

impl Plan {
    fn of(config: &MemberConfig) -> Plan {
        match &config.founding {
            Founding::Alone => Plan::Alone,
            Founding::Join => Plan::Join,
            Founding::Together(members) => match members.keys().next() {
                Some(lowest) if *lowest != config.id => Plan::Await(*lowest),
                _ => Plan::With(members.clone()),
            },
        }
    }

    /// Whether the cluster is this member's to found.
    fn founds(&self) -> bool {
        matches!(self, Plan::Alone | Plan::With(_))
    }
}

/// Who this member is, written down; and what it is to do. `has_begun` says whether there is
/// anything in its log.
///
/// # Errors
/// What the disk says; that the folder is not whole.
pub(super) async fn settle<D: Disk>(
    entropy: &dyn Entropy,
    config: &MemberConfig,
    disk: &D,
    written: Option<Written>,
    has_begun: bool,
) -> Result<(Written, Plan), StartError> {
    let plan = match (written, has_begun) {
        (Some(written), true) => return Ok((written, Plan::Begun)),
        (None, true) => return Err(identity::missing(disk).into()),
        (_, false) => Plan::of(config),
    };
    let drawn = || {
        let mut drawn = [0; 16];
        entropy.fill(&mut drawn);
        drawn
    };
    // What was drawn by one that founds, or told to one that waits, stays so: others have been told.
    // The other way round it is of no more use, and nothing has come of it.
    let before = written.filter(|written| written.founds == plan.founds());
    let now = Written {
        id: config.id,
        folder: written.map_or_else(|| FolderId(drawn()), |written| written.folder),
        cluster: match before.and_then(|before| before.cluster) {
            None if plan.founds() => Some(ClusterId(drawn())),
            cluster => cluster,
        },
        founds: plan.founds(),
    };
    if written != Some(now) {
        identity::write(disk, now).await?;
    }
    Ok((now, plan))
}

/// What a member is at that has nothing in its log.
pub(super) struct Begin<D: Disk> {
    pub(super) plan: Plan,
    pub(super) raft: RaftOf<D>,
    pub(super) member: Arc<Member>,
    pub(super) caller: Arc<Caller>,
    /// Where it is reached.
    pub(super) own: Address,
    /// How long it may take until others that know this member have called.
    pub(super) election_max: Duration,
    /// What it waits for.
    pub(super) waiting: Arc<Mutex<String>>,
}

impl<D: Disk> Begin<D> {
    fn id(&self) -> u64 {
        self.caller.identity().id()
    }

    fn waits(&self, text: String) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// Until there is something in the log. A member that was told to found a cluster must not go
    /// on when it turns out that there is one, in which it had another folder.
    pub(super) async fn run(self) {
        let (id, peer) = (self.id(), self.own.peer.clone());
        let begun = async {
            match &self.plan {
                Plan::Begun => Ok(()),
                Plan::Alone => {
                    self.listen().await;
                    self.found_alone().await
                }
                Plan::With(members) => {
                    // There is nobody to ask.
                    if members.len() == 1 {
                        self.listen().await;
                    }
                    self.found(self.meet(members).await?).await
                }
                Plan::Await(founder) => {
                    self.waits(format!(
                        "member {id} waits at {peer} for member {founder}, which founds the \
                         cluster when all of its members are up; if there is one already, {}",
                        anew(id)
                    ));
                    self.begun().await;
                    Ok(())
                }
                Plan::Join => {
                    self.waits(format!(
                        "member {id} waits at {peer} to be taken into a cluster: `synod cluster \
                         --peer HOST:PORT add {id}={peer}`, with the address of a member"
                    ));
                    self.begun().await;
                    Ok(())
                }
            }
        };
        let notices = &self.caller.identity().notices;
        let outcome = tokio::select! {
            biased;
            // One that joins may have come before its number was free.
            claim = notices.claim(), if self.plan != Plan::Join => Err(claim),
            outcome = begun => outcome,
        };
        if let Err(reason) = outcome {
            self.member.fail(reason);
        }
    }

    /// Waits for as long as it takes that others call which know this member, if there are any.
    async fn listen(&self) {
        self.waits(format!("member {} looks whether a cluster knows it", self.id()));
        tokio::time::sleep(self.election_max * FOUNDING_QUIET_ELECTIONS).await;
    }

    /// Waits until there is something in the log.
    async fn begun(&self) {
        let mut metrics = self.raft.metrics();
        while !self.caller.identity().has_begun() && metrics.changed().await.is_ok() {}
    }

    /// Learns the folder of each of the members.
    async fn meet(
        &self,
        members: &BTreeMap<u64, String>,
    ) -> Result<BTreeMap<u64, Address>, String> {
        let patience = Duration::from_millis(MEET_MS_MAX);
        // What one knows of itself only is not in it.
        let address =
            |folder, peer: &str| Address { folder, peer: peer.to_owned(), ..Address::default() };
        let own = members.iter().filter(|(id, _)| **id == self.id());
        let mut met: BTreeMap<u64, Address> =
            own.map(|(id, peer)| (*id, address(self.own.folder, peer))).collect();
        loop {
            let left = members.iter().filter(|(id, _)| !met.contains_key(*id));
            let meeting = left
                .map(async |(id, peer)| (*id, peer, self.caller.meet(*id, peer, patience).await));
            let mut missing = Vec::new();
            for (id, peer, outcome) in join_all(meeting).await {
                match outcome {
                    Ok(Welcome { has_begun: true, .. }) => {
                        let reason = format!("there is something in the log of member {id}");
                        return Err(self.has_begun(&reason));
                    }
                    Ok(welcome) => _ = met.insert(id, address(welcome.folder, peer)),
                    Err(ConnectError::Refused { refusal, .. }) if refusal.is_lasting => {
                        return Err(self.has_begun(&refusal));
                    }
                    Err(error) => missing.push(error.to_string()),
                }
            }
            if missing.is_empty() {
                return Ok(met);
            }
            self.waits(format!(
                "member {} founds a cluster as soon as all of its members are up: {}",
                self.id(),
                missing.join("; ")
            ));
            tokio::time::sleep(Duration::from_millis(FOUNDING_PAUSE_MS)).await;
        }
    }

    fn has_begun(&self, reason: &dyn Display) -> String {
        let id = self.id();
        format!(
            "member {id} was to found a cluster, and one has begun without this data folder: \
             {reason}. If the folder was emptied or replaced, it has forgotten what it had \
             acknowledged: {}. If no cluster has ever come of it, empty the folders of all members \
             and start them again",
            anew(id)
        )
    }

    /// Begins a cluster of one.
    pub(super) async fn found_alone(&self) -> Result<(), String> {
        self.found(BTreeMap::from([(self.id(), self.own.clone())])).await
    }

    /// Begins the cluster.
    async fn found(&self, members: BTreeMap<u64, Address>) -> Result<(), String> {
        match self.raft.initialize(members).await {
            // It has heard of the cluster meanwhile.
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            founded => founded.map_err(|error| format!("the cluster is not founded: {error}")),
        }
    }
}

/// How a member stands to its cluster, if that is worth a word.
pub(super) fn standing<D: Disk>(
    raft: &RaftOf<D>,
    caller: &Caller,
    waiting: &Mutex<String>,
) -> Option<String> {
    let id = caller.identity().id();
    let metrics = raft.metrics();
    let members = metrics.borrow_watched().membership_config.membership().clone();
    let ids: Vec<String> = members.nodes().map(|(id, _)| id.to_string()).collect();
    if ids.is_empty() {
        let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner).clone();
        return Some(waiting).filter(|waiting| !waiting.is_empty());
    }
    if members.get_node(&id).is_some() {
        return None;
    }
    Some(format!(
        "the members of the cluster are {}, without this one: member {id} was removed, or comes \
         after them. Stop it, or {}",
        ids.join(", "),
        anew(id)
    ))
}
