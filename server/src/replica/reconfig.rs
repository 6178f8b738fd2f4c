//! Changes of the members that clients ask for, as ZooKeeper's `reconfig`. The member that a client
//! is connected to gives the order to the leader as `synod cluster` does, and answers when the change
//! has come back to it.
//!
//! | file | what it holds |
//! |---|---|
//! | `servers` | members in ZooKeeper's words |

mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::storage::RaftStateMachine;
use synod_core::model::{Code, Reconfig};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::servers::Server;
use super::RaftOf;
use super::admin::{Change, Metrics, Orders, Problem, refused, refused_as};
use super::config::MEMBER_ID_MAX;
use super::frame::Wire;
use super::handshake::ConnectError;
use super::types::{Address, FolderId, LogId, Types};
use crate::admin::{Admin, AdminError};
use crate::limits::{MEET_MS_MAX, MEMBERS_CHANGE_MS_MAX};
use crate::log::Disk;
use crate::member::{IsSound, Member, Reconfiguring};
use crate::seldom::{Seldom, cut};

/// The folder of a member that nobody has met. No folder has it, so that none is taken for it.
const NOT_MET: FolderId = FolderId([0; 16]);

/// Tells whether a change is sound for the members that this one knows.
pub(super) fn is_sound<D: Disk>(raft: &RaftOf<D>) -> IsSound {
    let metrics = raft.metrics();
    Box::new(move |reconfig| {
        // Consensus cannot go on while its metrics are borrowed.
        let members = metrics.borrow_watched().membership_config.clone();
        servers::wanted(members.membership(), reconfig).is_ok()
    })
}

/// Gives the leader what clients of this member ask for, one after the other, until the member ends.
pub(super) async fn run(
    mut asked: mpsc::Receiver<Reconfiguring>,
    member: Arc<Member>,
    admin: Admin,
) {
    let lines = Seldom::default();
    while let Some(asked) = asked.recv().await {
        let outcome = match admin.reconfig(&asked.reconfig).await {
            // So that it is seen here.
            Ok(()) if member.barrier().await => Some(Ok(())),
            Ok(()) | Err(AdminError::Lost(_)) => None,
            Err(AdminError::Refused { code, text }) => {
                if let Some(kept_back) = lines.may_say(Instant::now()) {
                    let text = cut(&text);
                    tracing::info!(%code, text, kept_back, "a client's reconfiguration is refused");
                }
                Some(Err(code))
            }
            Err(error) => {
                tracing::info!(%error, "a client's reconfiguration reaches no leader");
                Some(Err(Code::NewConfigNoQuorum))
            }
        };
        member.answer_reconfig(&asked, outcome);
    }
}

impl<SM: RaftStateMachine<Types>> Orders<'_, SM> {
    /// Makes the members those that are wanted, or leaves them as they were: who is new comes first,
    /// without a vote, and is caught up; then all the rest is one change.
    pub(super) async fn reconfigure(
        &self,
        reconfig: &Reconfig,
        wire: &mut Wire,
    ) -> Result<(), Problem> {
        let metrics = self.settled().await?;
        self.expect_version(&metrics, reconfig.from_version).await?;
        let now = metrics.membership_config.membership();
        let wanted = servers::wanted(now, reconfig).or_else(refused)?;
        // ZooKeeper's numbers may be larger.
        if let Some(id) = wanted.keys().find(|id| **id > MEMBER_ID_MAX) {
            return refused(format!("member {id}: the number of a member is 1 to {MEMBER_ID_MAX}"));
        }
        if !wanted.get(&metrics.id).is_some_and(|server| server.votes) {
            return refused(format!("member {} leads: hand the leadership on first", metrics.id));
        }
        let addresses = self.addresses(&metrics, &wanted).await?;
        let known = |id: &u64| metrics.membership_config.get_node(id);
        let is_new = |(id, _): &(&u64, &Address)| known(id).is_none();
        // Listed without having run: only now there is somebody to send the log to.
        let is_met = |(id, address): &(&u64, &Address)| {
            known(id).is_some_and(|known| known.folder == NOT_MET) && address.folder != NOT_MET
        };
        let owned = |(id, address): (&u64, &Address)| (*id, address.clone());
        let newcomers: BTreeMap<u64, Address> =
            addresses.iter().filter(is_new).map(owned).collect();
        let met: BTreeMap<u64, Address> = addresses.iter().filter(is_met).map(owned).collect();
        let caught_up = newcomers.keys().chain(met.keys()).copied().collect();
        let gone: BTreeSet<u64> = newcomers.keys().copied().collect();
        let mut judged = *metrics.membership_config.log_id();
        let mut metrics = metrics;
        if !met.is_empty() {
            // Consensus would go on to send to the folder that it has begun with.
            let ids = Change::RemoveNodes(met.keys().copied().collect());
            self.change(&metrics, ids, false).await?;
            metrics = self.metrics();
        }
        let coming: BTreeMap<u64, Address> = newcomers.into_iter().chain(met).collect();
        if !coming.is_empty() {
            self.change(&metrics, Change::AddNodes(coming), false).await?;
            judged = *self.metrics().membership_config.log_id();
        }
        match self.settle_on(&wanted, &caught_up, addresses, judged, wire).await {
            Ok(voters_leaving) if voters_leaving.is_empty() => Ok(()),
            Ok(voters_leaving) => {
                let metrics = self.settled().await?;
                self.change(&metrics, Change::RemoveNodes(voters_leaving), false).await
            }
            Err(problem) => {
                self.take_back(gone).await;
                Err(problem)
            }
        }
    }

    /// Takes out again who came for a change that was refused, unless it may still come about.
    async fn take_back(&self, newcomers: BTreeSet<u64>) {
        let metrics = self.metrics();
        let members = &metrics.membership_config;
        let votes = |id: &u64| members.get_joint_config().iter().any(|voters| voters.contains(id));
        if newcomers.is_empty() {
            return;
        }
        let undecided = members.get_joint_config().len() > 1 || newcomers.iter().any(votes);
        let gone = Change::RemoveNodes(newcomers);
        if undecided || self.change(&metrics, gone, false).await.is_err() {
            tracing::warn!("who joined for a reconfiguration that failed is still listed");
        }
    }

    /// Where the wanted members are. Who is to vote must run.
    async fn addresses(
        &self,
        metrics: &Metrics,
        wanted: &BTreeMap<u64, Server>,
    ) -> Result<BTreeMap<u64, Address>, Problem> {
        let mut addresses = BTreeMap::new();
        for (id, server) in wanted {
            let known = metrics.membership_config.get_node(id);
            let folder = match known.filter(|known| known.folder != NOT_MET) {
                Some(known) if known.peer != server.peer => {
                    return refused(format!(
                        "member {id} is at {known}: to move it to {}, it leaves first and joins anew",
                        server.peer
                    ));
                }
                Some(known) => known.folder,
                None => match self.meet(*id, &server.peer).await {
                    Ok(folder) => folder,
                    Err(_) if !server.votes => NOT_MET,
                    Err(error) => {
                        let text = format!(
                            "member {id} is to run, on an empty data folder with --join, before it \
                             votes: {error}"
                        );
                        return refused_as(Code::NewConfigNoQuorum, text);
                    }
                },
            };
            let Server { peer, election, client, .. } = server.clone();
            addresses.insert(*id, Address { folder, peer, election, client });
        }
        Ok(addresses)
    }

    /// The change itself, once the newcomers are learners. It gives back the voters that are to leave
    /// and are learners yet: who loses its vote stays or goes together with the others that do.
    async fn settle_on(
        &self,
        wanted: &BTreeMap<u64, Server>,
        newcomers: &BTreeSet<u64>,
        addresses: BTreeMap<u64, Address>,
        judged: Option<LogId>,
        wire: &mut Wire,
    ) -> Result<BTreeSet<u64>, Problem> {
        let voting = |id: &u64| wanted.get(id).is_some_and(|server| server.votes);
        for id in newcomers.iter().filter(|id| voting(id)) {
            self.catch_up(*id, wire).await.map_err(no_quorum)?;
        }
        let metrics = self.metrics();
        let members = &metrics.membership_config;
        if *members.log_id() != judged || members.get_joint_config().len() > 1 {
            // By an order of administration: what is wanted does not know of it.
            let text = "the members were changed meanwhile";
            return refused_as(Code::ReconfigInProgress, text);
        }
        let voters_now: BTreeSet<u64> = members.voter_ids().collect();
        let voters: BTreeSet<u64> = wanted.keys().copied().filter(voting).collect();
        for id in voters.difference(&voters_now) {
            self.may_vote(&metrics, *id).map_err(no_quorum)?;
        }
        if voters != voters_now {
            self.are_heard(&metrics, &voters)?;
        }
        let all = members.nodes().map(|(id, _)| *id);
        let (leaving, losing): (BTreeSet<u64>, BTreeSet<u64>) =
            all.filter(|id| !voting(id)).partition(|id| !wanted.contains_key(id));
        let (voters_leaving, learners_leaving): (BTreeSet<u64>, BTreeSet<u64>) =
            leaving.into_iter().partition(|id| voters_now.contains(id));
        let retain = losing.iter().any(|id| voters_now.contains(id));
        let moved = addresses
            .into_iter()
            .filter(|(id, address)| members.get_node(id).is_some_and(|known| known != address));
        let change = Change::Batch(vec![
            Change::SetNodes(moved.collect()),
            Change::RemoveNodes(learners_leaving),
            Change::ReplaceAllVoters(voters),
        ]);
        self.change(&metrics, change, retain).await?;
        Ok(if retain { voters_leaving } else { BTreeSet::new() })
    }

    /// Whether the members are those of that version, as far as anybody knows.
    async fn expect_version(&self, metrics: &Metrics, version: i64) -> Result<(), Problem> {
        let latest = metrics.membership_config.log_id().map(|log_id| log_id.index);
        let limit = Some(Duration::from_millis(MEMBERS_CHANGE_MS_MAX));
        let applied = self.raft.wait(limit);
        if applied.applied_index_at_least(latest, "who the members are").await.is_err() {
            return refused_as(Code::ReconfigInProgress, "another change is not through yet");
        }
        let now = (self.tree)().and_then(|tree| tree.config_version);
        if version != -1 && now != Some(version) {
            let now = now.unwrap_or_default();
            return refused_as(
                Code::BadVersion,
                format!("version {version:x}: the configuration has version {now:x}"),
            );
        }
        Ok(())
    }

    /// The folder of a member that runs.
    async fn meet(&self, id: u64, peer: &str) -> Result<FolderId, ConnectError> {
        let patience = Duration::from_millis(MEET_MS_MAX);
        Ok(self.caller.meet(id, peer, patience).await?.folder)
    }
}

/// A voter that does not run, or is behind.
fn no_quorum(problem: Problem) -> Problem {
    match problem {
        Problem::Refused { code: Code::BadArguments, text } => {
            Problem::Refused { code: Code::NewConfigNoQuorum, text }
        }
        problem => problem,
    }
}
