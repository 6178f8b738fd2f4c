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

use openraft::storage::RaftStateMachine;
use synod_core::model::{CONFIG_PATH, Code, Reconfig};
use tokio::sync::mpsc;

use self::servers::Server;
use super::admin::{Change, Metrics, Orders, Problem, refused, refused_as};
use super::config::MEMBER_ID_MAX;
use super::frame::Wire;
use super::handshake::ConnectError;
use super::types::{Address, FolderId, Types};
use crate::admin::{Admin, AdminError};
use crate::limits::{MEET_MS_MAX, MEMBERS_CHANGE_MS_MAX};
use crate::member::{Member, Reconfiguring};

/// The folder of a member that nobody has met. No folder has it, so that none is taken for it.
const NOT_MET: FolderId = FolderId([0; 16]);

/// Gives the leader what clients of this member ask for, one after the other, until the member ends.
pub(super) async fn run(
    mut asked: mpsc::Receiver<Reconfiguring>,
    member: Arc<Member>,
    admin: Admin,
) {
    while let Some(asked) = asked.recv().await {
        let Reconfiguring { reconfig, permitted, .. } = &asked;
        let outcome = match admin.reconfig(reconfig, *permitted).await {
            // So that it is seen here.
            Ok(()) if member.barrier().await => Some(Ok(())),
            Ok(()) | Err(AdminError::Lost(_)) => None,
            Err(AdminError::Refused { code, text }) => {
                tracing::info!(%code, text, "a client's reconfiguration is refused");
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
        permitted: bool,
        wire: &mut Wire,
    ) -> Result<(), Problem> {
        let metrics = self.settled().await?;
        self.expect_version(&metrics, reconfig.from_version).await?;
        let now = metrics.membership_config.membership();
        let wanted = servers::wanted(now, reconfig).or_else(refused)?;
        if !permitted {
            return refused_as(
                Code::NoAuth,
                format!("a reconfiguration needs WRITE on {CONFIG_PATH}"),
            );
        }
        // ZooKeeper's numbers may be larger, and who may not is told so first there.
        if let Some(id) = wanted.keys().find(|id| **id > MEMBER_ID_MAX) {
            return refused(format!("member {id}: the number of a member is 1 to {MEMBER_ID_MAX}"));
        }
        if !wanted.get(&metrics.id).is_some_and(|server| server.votes) {
            return refused(format!("member {} leads: hand the leadership on first", metrics.id));
        }
        let addresses = self.addresses(&metrics, &wanted).await?;
        let is_new = |id: &u64| metrics.membership_config.get_node(id).is_none();
        let newcomers: BTreeMap<u64, Address> =
            addresses.clone().into_iter().filter(|(id, _)| is_new(id)).collect();
        if !newcomers.is_empty() {
            self.change(&metrics, Change::AddNodes(newcomers.clone()), false).await?;
        }
        let outcome = self.settle_on(&wanted, &newcomers, addresses, wire).await;
        if outcome.is_err() && !newcomers.is_empty() {
            let gone = newcomers.into_keys().collect();
            let taken_back = match self.settled().await {
                Ok(metrics) => self.change(&metrics, Change::RemoveNodes(gone), false).await,
                Err(problem) => Err(problem),
            };
            if taken_back.is_err() {
                tracing::warn!("who joined for a reconfiguration that failed stays a learner");
            }
        }
        outcome
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

    /// The change itself, once the newcomers are learners.
    async fn settle_on(
        &self,
        wanted: &BTreeMap<u64, Server>,
        newcomers: &BTreeMap<u64, Address>,
        addresses: BTreeMap<u64, Address>,
        wire: &mut Wire,
    ) -> Result<(), Problem> {
        let voting = |id: &u64| wanted.get(id).is_some_and(|server| server.votes);
        for id in newcomers.keys().filter(|id| voting(id)) {
            self.catch_up(*id, wire).await.map_err(no_quorum)?;
        }
        let metrics = self.settled().await?;
        let members = &metrics.membership_config;
        let voters_now: BTreeSet<u64> = members.voter_ids().collect();
        let voters: BTreeSet<u64> = wanted.keys().copied().filter(voting).collect();
        for id in voters.difference(&voters_now) {
            self.may_vote(&metrics, *id).map_err(no_quorum)?;
        }
        self.are_heard(&metrics, &voters)?;
        let (leaving, losing): (BTreeSet<u64>, BTreeSet<u64>) = members
            .nodes()
            .map(|(id, _)| *id)
            .filter(|id| !voting(id))
            .partition(|id| !wanted.contains_key(id));
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
        // Who loses its vote stays or goes together with the others that do.
        if retain && !voters_leaving.is_empty() {
            let metrics = self.settled().await?;
            self.change(&metrics, Change::RemoveNodes(voters_leaving), false).await?;
        }
        Ok(())
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
