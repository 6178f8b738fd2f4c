//! Changes of the members that clients ask for, as ZooKeeper's `reconfig`. The member that a client
//! is connected to gives the order to the leader as `synod cluster` does, and answers when the change
//! has come back to it; the leader makes it of the same steps, one member after the other.
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
use super::admin::{Change, Metrics, Orders, Problem, known, refused, refused_as};
use super::config::MEMBER_ID_MAX;
use super::frame::Wire;
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
    /// Makes the members those that are wanted. If one step cannot be made, those before it stay.
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
        let ids: BTreeSet<u64> = now.nodes().map(|(id, _)| *id).collect();
        if !wanted.contains_key(&metrics.id) {
            return refused(format!("member {} leads: hand the leadership on first", metrics.id));
        }
        // First those that come: who leaves may be missed.
        for (id, server) in &wanted {
            if ids.contains(id) {
                self.alter(*id, server).await?;
            } else {
                self.join(*id, server, wire).await?;
            }
        }
        for id in ids.iter().filter(|id| !wanted.contains_key(id)) {
            self.remove(*id).await?;
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

    /// A new member. One that is to vote must run, and be caught up; one that only observes may
    /// come later.
    async fn join(&self, id: u64, server: &Server, wire: &mut Wire) -> Result<(), Problem> {
        let address = address(FolderId::default(), server);
        if server.votes {
            self.add(id, address, wire).await.map_err(no_quorum)?;
            return self.promote(id).await.map_err(no_quorum);
        }
        let folder = self.meet(id, &server.peer).await.unwrap_or(NOT_MET);
        let metrics = self.settled().await?;
        let nodes = BTreeMap::from([(id, Address { folder, ..address })]);
        self.change(&metrics, Change::AddNodes(nodes), false).await
    }

    /// A member that there is gets another role, or other addresses for clients.
    async fn alter(&self, id: u64, server: &Server) -> Result<(), Problem> {
        let metrics = self.settled().await?;
        let known = known(&metrics, id)?.clone();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let is_new = known.folder == NOT_MET;
        if known.peer != server.peer && !is_new {
            return refused(format!(
                "member {id} is at {known}: to move it to {}, it leaves first and joins anew",
                server.peer
            ));
        }
        let folder = match is_new {
            true => self.meet(id, &server.peer).await.unwrap_or(NOT_MET),
            false => known.folder,
        };
        let address = address(folder, server);
        if address != known {
            let nodes = BTreeMap::from([(id, address)]);
            self.change(&metrics, Change::SetNodes(nodes), false).await?;
        }
        match (voters.contains(&id), server.votes) {
            (false, true) => self.promote(id).await.map_err(no_quorum),
            (true, false) => self.demote(id).await,
            _ => Ok(()),
        }
    }

    /// Takes a member's vote.
    async fn demote(&self, id: u64) -> Result<(), Problem> {
        let metrics = self.settled().await?;
        self.may_lose_vote(&metrics, id)?;
        self.change(&metrics, Change::RemoveVoters(BTreeSet::from([id])), true).await
    }

    /// The folder of a member that runs.
    async fn meet(&self, id: u64, peer: &str) -> Option<FolderId> {
        let patience = Duration::from_millis(MEET_MS_MAX);
        self.caller.meet(id, peer, patience).await.ok().map(|welcome| welcome.folder)
    }
}

fn address(folder: FolderId, server: &Server) -> Address {
    let Server { peer, election, client, .. } = server.clone();
    Address { folder, peer, election, client }
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
