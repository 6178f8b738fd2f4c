//! Members that replicate over this network, with their logs in memory.

mod emptied;
mod memory;
mod mesh;
mod orders;
mod rude;
mod silent;
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::base::BoxFuture;
use openraft::errors::{ClientWriteError, ForwardReason, RaftError};
use openraft::{Config, Raft, RaftMetrics, ReadPolicy, ServerState, SnapshotPolicy};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use memory::{Files, Log, Machine};
use mesh::{Cuttable, Mesh};

use super::caller::Caller;
use super::handshake::{ClusterId, Identity};
use super::network::Network;
use super::peers::{PeerHooks, Peers};
use super::types::{Address, Command, FolderId, Runtime, Types};
use crate::net::{Net, Stream, Tcp};

const CLUSTER: ClusterId = ClusterId([5; 16]);

/// The first folder of a member.
fn folder(id: u64) -> FolderId {
    FolderId([id as u8; 16])
}

struct Hooks;

impl PeerHooks for Hooks {
    fn adopt(&self, _: ClusterId) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    /// Says who came.
    fn courier(&self, mut stream: Box<dyn Stream>, from: u64) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let _ = stream.write_u64(from).await;
        })
    }
}

struct Node {
    id: u64,
    raft: Raft<Types, Machine>,
    machine: Machine,
    log: Log,
    net: Cuttable,
    address: Address,
    identity: Arc<Identity>,
    listening: JoinHandle<()>,
    /// Dropping it ends the listener.
    _stop: oneshot::Sender<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

fn config() -> Config {
    Config {
        election_timeout_min: 500,
        election_timeout_max: 1_000,
        heartbeat_interval: 100,
        max_payload_entries: 300,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        enable_pre_vote: Some(true),
        ..Config::default()
    }
}

impl Node {
    async fn start(id: u64, cluster: Option<ClusterId>, net: Arc<dyn Net>, listen: &str) -> Node {
        Node::start_on(id, folder(id), cluster, net, listen).await
    }

    /// A member whose folder, with nothing in it, is this one.
    async fn start_on(
        id: u64,
        folder: FolderId,
        cluster: Option<ClusterId>,
        net: Arc<dyn Net>,
        listen: &str,
    ) -> Node {
        let net = Cuttable::new(net);
        let identity = Arc::new(Identity::new(id, folder, cluster));
        let (log, machine) = (Log::default(), Machine::default());
        let dialing: Arc<dyn Net> = Arc::new(net.clone());
        let caller = Arc::new(Caller::new(dialing, Arc::clone(&identity)));
        let network = Network::new(Arc::clone(&caller), Files);
        let config = Arc::new(config().validate().expect("valid"));
        let raft = Raft::new(id, config, network, log.clone(), machine.clone()).await;
        let raft = raft.expect("starts");
        identity.follow(raft.metrics());
        let listener = net.listen(listen).await.expect("listens");
        let peer = match listen {
            "127.0.0.1:0" => listener.local_addr().expect("bound").to_string(),
            name => name.to_owned(),
        };
        let address = Address { folder, peer, ..Address::default() };
        let peers = Arc::new(Peers::new(caller, raft.clone(), Files, Hooks, id << 32));
        let (stop, stopped) = oneshot::channel();
        let listening = tokio::spawn(peers.listen(listener, stopped));
        Node { id, raft, machine, log, net, address, identity, listening, _stop: stop }
    }

    fn is_leader(&self) -> bool {
        use openraft::async_runtime::watch::WatchReceiver;
        self.raft.metrics().borrow_watched().state == ServerState::Leader
    }

    fn term(&self) -> u64 {
        use openraft::async_runtime::watch::WatchReceiver;
        self.raft.metrics().borrow_watched().current_term
    }

    /// The term of its vote, as consensus has it now.
    async fn vote_term(&self) -> u64 {
        use openraft::vote::RaftLeaderId;
        let term = self.raft.with_raft_state(|state| state.vote_ref().leader_id.term()).await;
        term.expect("running")
    }

    async fn write(&self, bytes: impl Into<Bytes>) {
        let command = Command { time_ms: 1, entries: bytes.into() };
        // A new leader that heard of nobody yet says that its lease has expired.
        loop {
            match self.raft.client_write(command.clone()).await {
                Ok(_) => return,
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))
                    if forward.reason == ForwardReason::LeaseExpired =>
                {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("not committed: {error}"),
            }
        }
    }

    /// Until so many commands are applied here.
    async fn applied(&self, count: usize) {
        let what = format!("member {} applies {count} commands", self.id);
        let all = |_: &_| self.machine.commands().len() >= count;
        self.raft.wait(Some(PATIENCE)).metrics(all, what).await.expect("in time");
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    nodes: Vec<Node>,
}

impl Cluster {
    /// Three members in memory.
    async fn in_memory() -> Cluster {
        Cluster::on(&Mesh::default()).await
    }

    /// Three members on this network.
    async fn on(mesh: &Mesh) -> Cluster {
        let mut nodes = Vec::new();
        for id in 1..=3 {
            let net = Arc::new(mesh.clone());
            nodes.push(Node::start(id, Some(CLUSTER), net, &format!("member{id}:1")).await);
        }
        Cluster::of(nodes).await
    }

    /// Three members on loopback.
    async fn on_loopback() -> Cluster {
        let mut nodes = Vec::new();
        for id in 1..=3 {
            nodes.push(Node::start(id, Some(CLUSTER), Arc::new(Tcp), "127.0.0.1:0").await);
        }
        Cluster::of(nodes).await
    }

    async fn of(nodes: Vec<Node>) -> Cluster {
        let members: BTreeMap<_, _> =
            nodes.iter().map(|node| (node.id, node.address.clone())).collect();
        nodes[0].raft.initialize(members).await.expect("first");
        Cluster { nodes }
    }

    fn node(&self, id: u64) -> &Node {
        &self.nodes[id as usize - 1]
    }

    /// Waits until all of these follow one of them, which may serve.
    async fn leader_among(&self, ids: &[u64]) -> &Node {
        let one_of_them = |metrics: &RaftMetrics<Types>| {
            metrics.current_leader.is_some_and(|id| ids.contains(&id))
        };
        loop {
            let any = self.node(ids[0]).raft.wait(Some(PATIENCE));
            let seen = any.metrics(one_of_them, "there is a leader").await.expect("in time");
            let leader = self.node(seen.current_leader.expect("as waited for"));
            if leader.raft.ensure_linearizable(ReadPolicy::ReadIndex).await.is_err() {
                // Not yet, or no longer: it takes a heartbeat to know.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            for id in ids {
                let wait = self.node(*id).raft.wait(Some(PATIENCE));
                wait.current_leader(leader.id, "all follow").await.expect("in time");
            }
            return leader;
        }
    }

    async fn leader(&self) -> &Node {
        self.leader_among(&[1, 2, 3]).await
    }

    /// Those that are not this one.
    fn others(&self, id: u64) -> Vec<&Node> {
        self.nodes.iter().filter(|node| node.id != id).collect()
    }
}

/// Runs within a seeded generator, and not for ever.
async fn within(seed: u64, test: impl Future<Output = ()>) {
    Runtime::scope(seed, async {
        tokio::time::timeout(2 * PATIENCE, test).await.expect("in time");
    })
    .await;
}
