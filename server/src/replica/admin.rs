//! Carries out the orders of whoever runs the cluster. Each is judged here, where the reason can be
//! named; the change itself is made only if the members are still those that were judged.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::BufMut;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::storage::RaftStateMachine;
use openraft::{ChangeMembers, Instant as _, Precondition, Raft, RaftMetrics, ServerState};
use synod_core::model::Code;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::caller::Caller;
use super::frame::{self, Wire};
use super::network::unexpected;
use super::peers::TreeState;
use super::types::{Address, Types};
use crate::admin::wire::{self, Order, kind};
use crate::admin::{MemberStatus, Progress, Role, Status};
use crate::limits::{
    ADDRESS_BYTES_MAX, CATCH_UP_REPORT_MS, CATCH_UP_STALL_MS_MAX, CAUGHT_UP_ENTRIES_MAX,
    MEET_MS_MAX, MEMBERS_CHANGE_MS_MAX, MEMBERS_MAX, PEER_IDLE_MS_MAX, TRANSFER_MS_MAX,
};
use crate::seldom::{Seldom, cut};

pub(super) type Metrics = RaftMetrics<Types>;
pub(super) type Change = ChangeMembers<u64, Address>;

/// Why an order was not carried out.
pub(super) enum Problem {
    /// The value and the rule, and what a client is told.
    Refused { code: Code, text: String },
    /// Only the leader can.
    NotLeader,
    /// Whoever gave it is gone.
    Gone(io::Error),
}

pub(super) fn refused<T>(text: impl Into<String>) -> Result<T, Problem> {
    refused_as(Code::BadArguments, text)
}

pub(super) fn refused_as<T>(code: Code, text: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Refused { code, text: text.into() })
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Problem {
        Problem::Gone(error)
    }
}

/// What is logged of orders: whoever gives them can do so as often as it likes.
#[derive(Default)]
pub(super) struct Lines {
    orders: Seldom,
    refusals: Seldom,
}

/// A member under orders.
pub(super) struct Orders<'r, SM: RaftStateMachine<Types>> {
    pub(super) caller: &'r Caller,
    pub(super) raft: &'r Raft<Types, SM>,
    pub(super) tree: &'r (dyn Fn() -> Option<TreeState> + Send + Sync),
    /// One permit, of a reconfiguration from its look at the version to its last step.
    pub(super) reconfiguring: &'r Semaphore,
    pub(super) lines: &'r Lines,
}

impl<SM: RaftStateMachine<Types>> Orders<'_, SM> {
    /// Carries out what is ordered on a connection, one at a time, until it ends.
    ///
    /// # Errors
    /// What the stream says, or that something else than an order came.
    pub(super) async fn serve(&self, wire: &mut Wire) -> io::Result<()> {
        let idle = Duration::from_millis(PEER_IDLE_MS_MAX);
        loop {
            let Ok(order) = tokio::time::timeout(idle, wire.next()).await else {
                return Err(io::ErrorKind::TimedOut.into());
            };
            let order = order?;
            if order.kind != kind::ORDER {
                return Err(unexpected(order.kind));
            }
            match wire::decode_order(order.body)? {
                Order::Status => {
                    let status = self.status();
                    frame::put(wire.output(), kind::STATUS, |out| {
                        wire::encode_status(out, &status);
                    })?;
                }
                order => {
                    if let Some(kept_back) = self.lines.orders.may_say(Instant::now()) {
                        let text = format!("{order:?}");
                        tracing::info!(order = cut(&text), kept_back, "an order of administration");
                    }
                    let outcome = self.carry_out(order, wire).await;
                    self.answer(outcome, wire)?;
                }
            }
            wire.flush().await?;
        }
    }

    fn answer(&self, outcome: Result<(), Problem>, wire: &mut Wire) -> io::Result<()> {
        match outcome {
            Ok(()) => frame::put(wire.output(), kind::DONE, |_| {}),
            Err(Problem::Gone(error)) => Err(error),
            Err(Problem::Refused { code, text }) => {
                if let Some(kept_back) = self.lines.refusals.may_say(Instant::now()) {
                    let text = cut(&text);
                    tracing::info!(text, kept_back, "an order of administration is refused");
                }
                frame::put(wire.output(), kind::REFUSED, |out| {
                    out.put_i32(code.number());
                    out.put_slice(text.as_bytes());
                })
            }
            Err(Problem::NotLeader) => {
                let metrics = self.metrics();
                let leader = metrics.current_leader.filter(|leader| *leader != metrics.id);
                let leader = leader.and_then(|id| {
                    let address = metrics.membership_config.get_node(&id)?;
                    Some((id, address.peer.clone()))
                });
                match leader {
                    Some((id, peer)) => frame::put(wire.output(), kind::ELSEWHERE, |out| {
                        wire::encode_elsewhere(out, id, &peer);
                    }),
                    None => frame::put(wire.output(), kind::NO_LEADER, |_| {}),
                }
            }
        }
    }

    pub(super) fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow_watched().clone()
    }

    fn status(&self) -> Status {
        let metrics = self.metrics();
        let tree = (self.tree)();
        let members = &metrics.membership_config;
        let voters: BTreeSet<u64> = members.voter_ids().collect();
        let member = |(id, address): (&u64, &Address)| MemberStatus {
            id: *id,
            voter: voters.contains(id),
            peer: address.peer.clone(),
            client: address.client.clone(),
            lag: lag(&metrics, *id),
            heard_ms: heard(&metrics, *id).map(|ago| ago.as_millis() as u64),
        };
        let role = match metrics.state {
            ServerState::Leader => Role::Leader,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner => Role::Learner,
            ServerState::Shutdown => Role::Stopped,
        };
        let index = |id: Option<super::types::LogId>| id.map(|id| id.index);
        Status {
            id: metrics.id,
            cluster: self.caller.identity().cluster().map(|cluster| cluster.to_string()),
            role: if metrics.running_state.is_err() { Role::Stopped } else { role },
            leader: metrics.current_leader,
            term: metrics.current_term,
            changing: members.get_joint_config().len() > 1,
            members: members.nodes().map(member).collect(),
            last_log: metrics.last_log_index,
            committed: index(metrics.local_committed),
            applied: index(metrics.last_applied),
            snapshot: index(metrics.snapshot),
            purged: index(metrics.purged),
            zxid: tree.map(|tree| tree.zxid.as_i64()),
            digest: tree.map(|tree| tree.digest),
        }
    }

    async fn carry_out(&self, order: Order, wire: &mut Wire) -> Result<(), Problem> {
        if self.metrics().state != ServerState::Leader {
            return Err(Problem::NotLeader);
        }
        match order {
            Order::Status => Ok(()),
            Order::Add { id, peer, client } => {
                let address = Address { peer, client, ..Address::default() };
                self.add(id, address, wire).await
            }
            Order::Promote { id } => self.promote(id).await,
            Order::Remove { id } => self.remove(id).await,
            Order::Transfer { id } => self.transfer(id).await,
            Order::Reconfig(reconfig) => {
                let Ok(_alone) = self.reconfiguring.try_acquire() else {
                    return refused_as(Code::ReconfigInProgress, "another one is under way");
                };
                self.reconfigure(&reconfig, wire).await
            }
        }
    }

    /// `address` without its folder, which the member itself says.
    async fn add(&self, id: u64, address: Address, wire: &mut Wire) -> Result<(), Problem> {
        let peer = &address.peer;
        let metrics = self.settled().await?;
        let members = &metrics.membership_config;
        if id == super::handshake::NO_MEMBER {
            return refused("member 0: the id of a member is above 0");
        }
        if peer.is_empty() || peer.len() > ADDRESS_BYTES_MAX {
            return refused(format!("member {id}: its address has 1 to {ADDRESS_BYTES_MAX} bytes"));
        }
        if let Some(known) = members.get_node(&id) {
            return refused(format!(
                "member {id} is already there, at {known}: its id is taken until it is removed"
            ));
        }
        if let Some((other, _)) = members.nodes().find(|(_, known)| known.peer == *peer) {
            return refused(format!("{peer} is the address of member {other}"));
        }
        if members.nodes().count() >= MEMBERS_MAX {
            return refused(format!("a cluster has at most {MEMBERS_MAX} members"));
        }
        let patience = Duration::from_millis(MEET_MS_MAX);
        let folder = match self.caller.meet(id, peer, patience).await {
            Ok(welcome) => welcome.folder,
            Err(error) => {
                return refused(format!(
                    "member {id} is to run, on an empty data folder with --join, before it is \
                     added: {error}"
                ));
            }
        };
        let address = Address { folder, ..address };
        let change = Change::AddNodes(BTreeMap::from([(id, address)]));
        self.change(&metrics, change, false).await?;
        self.catch_up(id, wire).await
    }

    /// Waits until a learner is as far as the leader, and reports meanwhile.
    pub(super) async fn catch_up(&self, id: u64, wire: &mut Wire) -> Result<(), Problem> {
        let stall = Duration::from_millis(CATCH_UP_STALL_MS_MAX);
        let (mut farthest, mut moved_at) = (None, Instant::now());
        loop {
            let metrics = self.metrics();
            if metrics.state != ServerState::Leader {
                return refused(format!(
                    "member {id} was added; this one no longer leads, and cannot see how far it is"
                ));
            }
            if metrics.membership_config.get_node(&id).is_none() {
                return refused(format!("member {id} was removed again"));
            }
            let matched = matched(&metrics, id);
            let last = metrics.last_log_index.unwrap_or(0);
            if matched.is_some()
                && lag(&metrics, id).is_some_and(|lag| lag <= CAUGHT_UP_ENTRIES_MAX)
            {
                return Ok(());
            }
            if matched > farthest {
                (farthest, moved_at) = (matched, Instant::now());
            }
            if moved_at.elapsed() >= stall {
                return refused(format!(
                    "member {id} was added, but does not catch up: nothing reached it for \
                     {CATCH_UP_STALL_MS_MAX} ms; it stays a learner"
                ));
            }
            let progress = Progress { matched, last };
            frame::put(wire.output(), kind::PROGRESS, |out| {
                wire::encode_progress(out, &progress);
            })?;
            let pause = tokio::time::sleep(Duration::from_millis(CATCH_UP_REPORT_MS));
            tokio::select! {
                biased;
                // Nothing is to come but the end of the connection.
                came = wire.next() => return Err(Problem::Gone(match came {
                    Ok(frame) => unexpected(frame.kind),
                    Err(error) => error,
                })),
                () = pause => {}
            }
        }
    }

    async fn promote(&self, id: u64) -> Result<(), Problem> {
        let metrics = self.settled().await?;
        let members = &metrics.membership_config;
        known(&metrics, id)?;
        if members.voter_ids().any(|voter| voter == id) {
            return refused(format!("member {id} is already a voter"));
        }
        self.may_vote(&metrics, id)?;
        self.change(&metrics, Change::AddVoterIds(BTreeSet::from([id])), false).await
    }

    /// Whether a learner may become a voter.
    pub(super) fn may_vote(&self, metrics: &Metrics, id: u64) -> Result<(), Problem> {
        match lag(metrics, id) {
            Some(lag) if lag <= CAUGHT_UP_ENTRIES_MAX && self.is_heard(metrics, id) => Ok(()),
            Some(lag) if self.is_heard(metrics, id) => refused(format!(
                "member {id} is {lag} entries behind: a voter is at most {CAUGHT_UP_ENTRIES_MAX}, \
                 since writes may have to wait for it"
            )),
            _ => refused(format!("member {id} does not answer: a voter does")),
        }
    }

    async fn remove(&self, id: u64) -> Result<(), Problem> {
        let metrics = self.settled().await?;
        known(&metrics, id)?;
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        if !voters.contains(&id) {
            return self.change(&metrics, Change::RemoveNodes(BTreeSet::from([id])), false).await;
        }
        self.may_lose_vote(&metrics, id)?;
        self.change(&metrics, Change::RemoveVoters(BTreeSet::from([id])), false).await
    }

    /// Whether a voter may go: the others can do without it.
    fn may_lose_vote(&self, metrics: &Metrics, id: u64) -> Result<(), Problem> {
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        if voters.len() == 1 {
            return refused(format!("member {id} is the last voter: a cluster has at least one"));
        }
        if id == metrics.id {
            return refused(format!("member {id} leads: hand the leadership on first"));
        }
        self.are_heard(metrics, &voters.into_iter().filter(|voter| *voter != id).collect())
    }

    /// Whether those can be all the voters: a majority of them answers.
    pub(super) fn are_heard(
        &self,
        metrics: &Metrics,
        voters: &BTreeSet<u64>,
    ) -> Result<(), Problem> {
        let heard = voters.iter().filter(|voter| self.is_heard(metrics, **voter)).count();
        if heard <= voters.len() / 2 {
            let text = format!(
                "{heard} of the {} voters that there would be answer: writes need a majority",
                voters.len()
            );
            return refused_as(Code::NewConfigNoQuorum, text);
        }
        Ok(())
    }

    async fn transfer(&self, id: u64) -> Result<(), Problem> {
        let metrics = self.metrics();
        known(&metrics, id)?;
        if id == metrics.id {
            return refused(format!("member {id} leads already"));
        }
        if !metrics.membership_config.voter_ids().any(|voter| voter == id) {
            return refused(format!("member {id} is a learner: only a voter can lead"));
        }
        // From here on this leader takes no writes: not in vain.
        if !self.is_heard(&metrics, id) {
            return refused(format!("member {id} does not answer: whoever is to lead does"));
        }
        if let Some(lag) = lag(&metrics, id).filter(|lag| *lag > CAUGHT_UP_ENTRIES_MAX) {
            return refused(format!(
                "member {id} is {lag} entries behind: whoever is to lead is at most \
                 {CAUGHT_UP_ENTRIES_MAX}"
            ));
        }
        let transferred = self.raft.trigger().transfer_leader(id).await;
        transferred.or_else(|_| refused("consensus has stopped on this member"))?;
        let term = metrics.current_term;
        let over = |metrics: &Metrics| {
            metrics.current_term > term && metrics.current_leader.is_some()
                || metrics.current_leader == Some(id)
        };
        let limit = Duration::from_millis(TRANSFER_MS_MAX);
        match self.raft.wait(Some(limit)).metrics(over, "another leads").await {
            Ok(metrics) if metrics.current_leader == Some(id) => Ok(()),
            Ok(metrics) => refused(format!(
                "member {id} did not take the leadership over: member {} did",
                metrics.current_leader.unwrap_or_default()
            )),
            Err(_) => refused(format!(
                "member {id} did not take the leadership over within {TRANSFER_MS_MAX} ms"
            )),
        }
    }

    /// Whether a member has acknowledged something of late, as the leader sees it.
    fn is_heard(&self, metrics: &Metrics, id: u64) -> bool {
        let limit = Duration::from_millis(self.raft.config().election_timeout_max);
        id == metrics.id || heard(metrics, id).is_some_and(|ago| ago <= limit)
    }

    /// What there is once no change is half done: one of an earlier leader, or of an order that
    /// timed out, is brought to its end.
    pub(super) async fn settled(&self) -> Result<Metrics, Problem> {
        let metrics = self.metrics();
        if metrics.membership_config.get_joint_config().len() > 1 {
            self.change(&metrics, Change::AddVoterIds(BTreeSet::new()), false).await?;
            return Ok(self.metrics());
        }
        Ok(metrics)
    }

    /// Makes a change, if the members are still those that were judged. With `retain`, who loses its
    /// vote stays as a learner.
    pub(super) async fn change(
        &self,
        judged: &Metrics,
        change: Change,
        retain: bool,
    ) -> Result<(), Problem> {
        // A change that was left half done may have been one by which this leader leaves. Consensus
        // does not expect another of it then.
        if judged.membership_config.get_node(&judged.id).is_none() {
            return Err(Problem::NotLeader);
        }
        let unchanged = Precondition::LastMembershipLogId {
            last_membership_log_id: *judged.membership_config.log_id(),
        };
        let changing = self.raft.change_membership_if(change, retain, [unchanged]);
        match in_time(changing).await? {
            Ok(done) => {
                // The metrics come a little later, and whoever looks next is to see it there.
                let seen = |metrics: &Metrics| {
                    metrics.membership_config.log_id().map(|id| id.index) >= Some(done.log_id.index)
                };
                let limit = Some(Duration::from_millis(MEET_MS_MAX));
                let _ = self.raft.wait(limit).metrics(seen, "the change").await;
                Ok(())
            }
            Err(RaftError::Fatal(_)) => refused("consensus has stopped on this member"),
            Err(RaftError::APIError(error)) => match error {
                ClientWriteError::ForwardToLeader(_) => Err(Problem::NotLeader),
                ClientWriteError::LogEntryDiscarded(_) => refused(
                    "the leader changed meanwhile: whether the members did, the status says",
                ),
                ClientWriteError::PreconditionFailed(_)
                | ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)) => {
                    let text = "another change of the members is under way: one at a time";
                    refused_as(Code::ReconfigInProgress, text)
                }
                ClientWriteError::ChangeMembershipError(error) => refused(error.to_string()),
            },
        }
    }
}

async fn in_time<T>(changing: impl Future<Output = T>) -> Result<T, Problem> {
    let limit = Duration::from_millis(MEMBERS_CHANGE_MS_MAX);
    tokio::time::timeout(limit, changing).await.or_else(|_| {
        refused(format!(
            "the change was not replicated to a majority within {MEMBERS_CHANGE_MS_MAX} ms; it \
             may still come about"
        ))
    })
}

fn known(metrics: &Metrics, id: u64) -> Result<&Address, Problem> {
    let members = &metrics.membership_config;
    if let Some(known) = members.get_node(&id) {
        return Ok(known);
    }
    let ids: Vec<String> = members.nodes().map(|(id, _)| id.to_string()).collect();
    refused(format!("member {id} is not in the cluster: its members are {}", ids.join(", ")))
}

/// The last entry that a member is known to have; only the leader knows.
fn matched(metrics: &Metrics, id: u64) -> Option<u64> {
    (*metrics.replication.as_ref()?.get(&id)?).map(|matched| matched.index)
}

/// How many entries a member is behind; only the leader knows.
fn lag(metrics: &Metrics, id: u64) -> Option<u64> {
    let matched = *metrics.replication.as_ref()?.get(&id)?;
    let entries = |index: Option<u64>| index.map_or(0, |index| index + 1);
    let matched = entries(matched.map(|matched| matched.index));
    Some(entries(metrics.last_log_index).saturating_sub(matched))
}

/// How long ago a member last acknowledged something; only the leader knows.
fn heard(metrics: &Metrics, id: u64) -> Option<Duration> {
    if id == metrics.id && metrics.state == ServerState::Leader {
        return Some(Duration::ZERO);
    }
    (*metrics.heartbeat.as_ref()?.get(&id)?).map(|at| at.elapsed())
}
