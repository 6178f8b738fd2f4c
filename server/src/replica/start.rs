//! A durable member from its start to its end.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use openraft::async_runtime::WatchReceiver;
use openraft::{Raft, RaftMetrics, ServerState, SnapshotPolicy, StepDownPolicy};
use synod_core::engine::Engine;
use synod_core::seams::Entropy;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::RaftOf;
use super::caller::Caller;
use super::config::{Keeping, MemberConfig};
use super::courier::{Courier, LeaderLine};
use super::files::{Files, SnapshotData};
use super::founding::{self, Begin, Plan};
use super::handshake::{ClusterId, Identity};
use super::identity::{self, Written};
use super::machine::{self, Machine, Pace};
use super::network::Network;
use super::peers::{PeerHooks, Peers, TreeState};
use super::reconfig;
use super::storage::LogStore;
use super::types::{Address, Runtime, Types};
use crate::StartError;
use crate::admin::Admin;
use crate::config::Config;
use crate::counters::Counters;
use crate::limits::{LEADER_TRANSFER_MS_MAX, RECONFIGS_MAX};
use crate::log::{Disk, Log, LogConfig, LogError, Position, Snapshots};
use crate::member::{Member, Reconfigs};
use crate::net::{Exposed, Stream, check_listen};

/// A member that takes part in consensus.
pub(crate) struct Replica<D: Disk> {
    raft: RaftOf<D>,
    log: Log<D>,
    seed: u64,
    tasks: Tasks,
    /// Ends the peers' listener when it is dropped.
    _listening: Option<oneshot::Sender<()>>,
}

/// A replica whatever its disk is.
pub(crate) trait Durable: Send + Sync {
    /// Hands the leadership on if it leads, and ends. What was acknowledged is on disk anyway.
    fn stop(self: Box<Self>) -> BoxFuture<'static, ()>;

    /// Gives the leadership to another member if this one leads, within a deadline of its own.
    fn hand_on(&self) -> BoxFuture<'_, ()>;
}

/// Starts a member on `disk`. It may still be behind when this returns: nobody is served before
/// the entry is applied here by which the session was opened or attached, and all before it.
///
/// # Errors
/// What the disk says; that the folder is another member's, or damaged; the address of the peers'
/// listener.
pub(crate) async fn start<D: Disk>(
    config: &Config,
    member_config: &MemberConfig,
    disk: D,
    counters: Arc<Counters>,
    client_address: String,
) -> Result<(Arc<Member>, Replica<D>), StartError> {
    let seed = seed(&*config.entropy);
    let starting = start_in_scope(config, member_config, disk, counters, client_address, seed);
    // Consensus draws from the generator of the task that calls it.
    Runtime::scope(seed, starting).await
}

fn seed(entropy: &dyn Entropy) -> u64 {
    let mut seed = [0; 8];
    entropy.fill(&mut seed);
    u64::from_be_bytes(seed)
}

async fn start_in_scope<D: Disk>(
    config: &Config,
    member_config: &MemberConfig,
    disk: D,
    counters: Arc<Counters>,
    client_address: String,
    seed: u64,
) -> Result<(Arc<Member>, Replica<D>), StartError> {
    let id = member_config.id;
    let (net, beside) = member_config.peer_net(&config.net)?;
    let listener = match &member_config.peer_listen {
        Some(address) => {
            let listening = net.listen(address).await;
            let listener = listening
                .map_err(|source| StartError::Listen { address: address.clone(), source })?;
            let local = listener.local_addr()?;
            let (secure, allowed) = (member_config.is_secure(), member_config.insecure_peers);
            check_listen(local, secure, allowed, Exposed::Peers)?;
            Some((listener, local.to_string()))
        }
        None => None,
    };
    let peer_address = member_config.peer_advertise.clone();
    let peer_address = peer_address
        .or_else(|| listener.as_ref().map(|(_, address)| address.clone()))
        .unwrap_or_default();

    let written = identity::read(&disk).await?;
    if let Some(written) = written.filter(|written| written.id != id) {
        return Err(StartError::AnotherMember { written: written.id, told: id });
    }
    let log_config = LogConfig {
        segment_bytes: member_config.keeping.segment_bytes,
        cache_bytes_max: member_config.keeping.cache_bytes_max,
        #[cfg(feature = "testing")]
        bug: match config.bug {
            Some(crate::Bug::Log(bug)) => Some(bug),
            _ => None,
        },
        ..LogConfig::default()
    };
    let (log, recovery) = Log::open(disk.clone(), log_config).await?;
    let log_first = log.state()?.purged.map_or(0, |purged| purged.index + 1);
    let snapshots = Snapshots::open(disk.clone(), log_first).await?;
    #[cfg(feature = "testing")]
    if config.bug == Some(crate::Bug::IgnoreFullDisk) {
        snapshots.ignore_full_disk();
    }
    let log_state = log.state()?;
    let has_begun =
        log_state.vote.is_some() || log_state.last.is_some() || snapshots.latest().is_some();
    let (written, plan) =
        founding::settle(&*config.entropy, member_config, &disk, written, has_begun).await?;
    let identity = Arc::new(Identity::new(id, written.folder, written.cluster));
    let (engine, meta) = match snapshots.latest() {
        Some(file) => {
            tracing::info!("the latest snapshot: {file:?}");
            if let Some(upto) = file.meta().upto {
                give_way(&log, upto).await?;
            }
            let snapshot = SnapshotData::new(file);
            let meta = snapshot.meta()?;
            (machine::restore(&disk, snapshot).await?, Some(meta))
        }
        None => (Engine::new(), None),
    };
    tracing::info!("the log: {recovery}");

    let member = Arc::new(Member::replicated(config, counters, engine));
    let pace = Arc::new(Pace {
        entries: member_config.keeping.snapshot_entries,
        bytes: member_config.keeping.snapshot_bytes,
        due: Notify::new(),
    });
    let machine =
        Machine::new(Arc::clone(&member), disk.clone(), snapshots.clone(), Arc::clone(&pace), meta);
    let files = Files::new(snapshots);
    let caller = Arc::new(Caller::new(Arc::clone(&net), Arc::clone(&identity)));
    let network = Network::new(Arc::clone(&caller), files.clone());
    let storage = LogStore::new(log.clone());
    let raft_config = Arc::new(raft_config(member_config)?);
    let raft: RaftOf<D> = Raft::new(id, raft_config, network, storage, machine)
        .await
        .map_err(|fatal| StartError::Consensus(fatal.to_string()))?;
    let mut tasks = Tasks { seed, owned: Vec::new() };
    let courier = Arc::new(Courier {
        raft: raft.clone(),
        member: Arc::clone(&member),
        caller: Arc::clone(&caller),
        clock: Arc::clone(&config.clock),
        lease: member_config.timing.election_max,
        frame_bytes_soft: config.limits.courier_frame_bytes_soft,
        leader_line: LeaderLine::default(),
    });
    // Once it answers, it has told what it found in the log.
    let consensus = |error: &dyn std::fmt::Display| StartError::Consensus(error.to_string());
    raft.is_initialized().await.map_err(|fatal| consensus(&fatal))?;
    identity.follow(raft.metrics());
    warn_if_moved(&raft, &peer_address);
    let waiting = Arc::new(Mutex::new(String::new()));
    let own_peer = peer_address.clone();
    let own = Address {
        folder: written.folder,
        peer: peer_address,
        client: client_address,
        ..Address::default()
    };
    let begin = Begin {
        plan,
        raft: raft.clone(),
        member: Arc::clone(&member),
        caller: Arc::clone(&caller),
        own,
        election_max: member_config.timing.election_max,
        waiting: Arc::clone(&waiting),
    };
    match begin.plan {
        // Who has the only vote need not wait for others to speak up first.
        Plan::Begun if is_alone(&raft) => {
            raft.trigger().elect(false).await.map_err(|fatal| consensus(&fatal))?;
        }
        Plan::Begun => {}
        // Nobody can know it.
        Plan::Alone if listener.is_none() => {
            begin.found_alone().await.map_err(StartError::Consensus)?;
        }
        _ => tasks.spawn(begin.run()),
    }
    let listening = listener.map(|(listener, _)| {
        let (stop, stopped) = oneshot::channel();
        let hooks = Hooks { courier: Arc::clone(&courier), disk, written };
        let peers = Peers::new(Arc::clone(&caller), raft.clone(), files, hooks, seed);
        tasks.spawn(Arc::new(peers).listen(listener, stopped));
        stop
    });
    if !config.reconfig_enabled {
        member.serve_reconfigs(Reconfigs::Disabled);
    } else if listening.is_some() {
        let (ask, asked) = mpsc::channel(RECONFIGS_MAX);
        let admin = Admin::new(&own_peer).map_err(|error| consensus(&error))?.net(net);
        let is_sound = reconfig::is_sound(&raft);
        member.serve_reconfigs(Reconfigs::Asked(ask, is_sound));
        tasks.spawn(reconfig::run(asked, Arc::clone(&member), admin));
    } else {
        member.serve_reconfigs(Reconfigs::Alone);
    }
    if let Some(beside) = beside {
        tasks.spawn(beside);
    }
    tasks.spawn(tell(raft.clone(), caller, waiting));
    tasks.spawn(async move { courier.run().await });
    tasks.spawn(make_snapshots(raft.clone(), log.clone(), pace, member_config.keeping));
    tasks.spawn(watch_health(raft.clone(), Arc::clone(&member)));
    let replica = Replica { raft, log, seed, tasks, _listening: listening };
    Ok((member, replica))
}

/// Removes entries that a snapshot contradicts. One from another member is on disk before those are
/// gone whose places it takes, and power may be lost in between; consensus would not start on both.
async fn give_way<D: Disk>(log: &Log<D>, snapshot: Position) -> Result<(), LogError> {
    let index = snapshot.index;
    let there = log.read(index..index + 1, 1).await?;
    if there.iter().any(|record| record.position != snapshot) {
        tracing::warn!("the log: entries from {index} on contradict the snapshot, and are removed");
        log.truncate_after(index.checked_sub(1))?;
    }
    Ok(())
}

/// The tasks of a replica: they end with this. Each draws from a generator of its own.
struct Tasks {
    seed: u64,
    owned: Vec<JoinHandle<()>>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.owned.iter().for_each(JoinHandle::abort);
    }
}

impl Tasks {
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.seed = self.seed.wrapping_add(1 << 32);
        self.owned.push(tokio::spawn(Runtime::scope(self.seed, task)));
    }
}

/// Says so if the others look for this member where it is not: nothing else would.
fn warn_if_moved<D: Disk>(raft: &RaftOf<D>, peer_address: &str) {
    let metrics = raft.metrics();
    let now = metrics.borrow_watched();
    if let Some(known) = now.membership_config.membership().get_node(&now.id)
        && known.peer != peer_address
    {
        tracing::warn!(
            known = known.peer,
            here = peer_address,
            "the others reach this member at another address than it has now: bring it back there, \
             or remove it from the cluster and add it anew"
        );
    }
}

/// Whether this member has the only vote.
fn is_alone<D: Disk>(raft: &RaftOf<D>) -> bool {
    let metrics = raft.metrics();
    let now = metrics.borrow_watched();
    now.membership_config.membership().voter_ids().eq([now.id])
}

fn raft_config(member: &MemberConfig) -> Result<openraft::Config, StartError> {
    let MemberConfig { timing, keeping, .. } = member;
    let ms = |duration: Duration| duration.as_millis() as u64;
    let config = openraft::Config {
        cluster_name: "synod".to_owned(),
        heartbeat_interval: ms(timing.heartbeat),
        election_timeout_min: ms(timing.election_min),
        election_timeout_max: ms(timing.election_max),
        enable_pre_vote: Some(true),
        // Between attempts to reach a member.
        backoff: format!("{}ms", crate::limits::PEER_PAUSE_MS),
        // Entries go out while they are written: what a leader lost with its power, others may
        // have. As the leader of the same term it would give their places to other entries.
        enable_leader_restore: Some(false),
        // Snapshots are begun by the machine's pace, and what is kept is bounded in bytes too.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // Whoever is further behind than the entries that are kept needs a snapshot anyway.
        replication_lag_threshold: keeping.snapshot_entries.saturating_mul(1_000),
        install_snapshot_timeout: crate::limits::SNAPSHOT_STALL_MS_MAX,
        max_payload_entries: crate::limits::APPEND_ENTRIES_MAX,
        removed_leader_step_down: StepDownPolicy::After(ms(timing.election_max)),
        ..openraft::Config::default()
    };
    config.validate().map_err(|error| StartError::Consensus(error.to_string()))
}

/// Says how the others take this member.
async fn tell<D: Disk>(raft: RaftOf<D>, caller: Arc<Caller>, waiting: Arc<Mutex<String>>) {
    let own = || founding::standing(&raft, &caller, &waiting);
    caller.identity().notices.tell(own).await;
}

/// Makes snapshots when they are due, and removes from the log what each holds, but for the last of it.
async fn make_snapshots<D: Disk>(raft: RaftOf<D>, log: Log<D>, pace: Arc<Pace>, keeping: Keeping) {
    let mut metrics = raft.metrics();
    loop {
        pace.due.notified().await;
        let before = snapshot_index(&metrics.borrow_watched());
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
        // The metrics change with each entry: they are looked at only meanwhile.
        let making = async {
            while snapshot_index(&metrics.borrow_watched()) <= before {
                metrics.changed().await.ok()?;
            }
            snapshot_index(&metrics.borrow_watched())
        };
        tokio::select! {
            biased;
            made = making => match made {
                Some(index) if prune(&raft, &log, index, keeping).await => {}
                _ => return,
            },
            // Consensus may have found nothing to make one of.
            () = pace.due.notified() => pace.due.notify_one(),
        }
    }
}

/// The last entry that the latest snapshot holds.
fn snapshot_index(metrics: &RaftMetrics<Types>) -> Option<u64> {
    metrics.snapshot.as_ref().map(|log_id| log_id.index)
}

/// Removes entries that the snapshot of those up to `index` holds; whether consensus still runs.
/// Bytes count too: a few thousand of the largest entries would fill a disk.
async fn prune<D: Disk>(raft: &RaftOf<D>, log: &Log<D>, index: u64, keeping: Keeping) -> bool {
    let Ok(by_bytes) = log.surplus(keeping.bytes_kept) else { return false };
    match index.checked_sub(keeping.entries_kept).max(by_bytes) {
        // Nothing behind the snapshot goes, whatever is named.
        Some(upto) => raft.trigger().purge_log(upto).await.is_ok(),
        None => true,
    }
}

/// A member whose log has failed must not go on.
async fn watch_health<D: Disk>(raft: RaftOf<D>, member: Arc<Member>) {
    // It changes seldom, and ends with consensus; the other metrics change with each entry.
    let mut server = raft.server_metrics();
    while server.changed().await.is_ok() {}
    let running = raft.metrics().borrow_watched().running_state.clone();
    if let Err(fatal) = running {
        member.fail(fatal.to_string());
    }
}

/// What the listener of the peers needs of a member.
struct Hooks<D: Disk> {
    courier: Arc<Courier<D>>,
    disk: D,
    written: Written,
}

impl<D: Disk> PeerHooks for Hooks<D> {
    fn adopt(&self, cluster: ClusterId) -> BoxFuture<'static, io::Result<()>> {
        let (disk, written) = (self.disk.clone(), self.written);
        let written = Written { cluster: Some(cluster), ..written };
        Box::pin(async move { identity::write(&disk, written).await })
    }

    fn courier(&self, stream: Box<dyn Stream>, from: u64) -> BoxFuture<'static, ()> {
        let courier = Arc::clone(&self.courier);
        Box::pin(async move { courier.receive(stream, from).await })
    }

    fn tree(&self) -> Option<TreeState> {
        Some(self.courier.member.state_in_short())
    }
}

impl<D: Disk> Durable for Replica<D> {
    fn stop(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        let seed = self.seed;
        Box::pin(Runtime::scope(seed, async move {
            for task in std::mem::take(&mut self.tasks.owned) {
                task.abort();
                // It was aborted, which is an error of its own.
                let _ = task.await;
            }
            if let Err(error) = self.raft.shutdown().await {
                tracing::error!(%error, "consensus has failed at its end");
            }
            if let Err(error) = self.log.shutdown().await {
                tracing::error!(%error, "the log has failed at its end");
            }
        }))
    }

    fn hand_on(&self) -> BoxFuture<'_, ()> {
        Box::pin(Runtime::scope(self.seed, async move {
            let limit = Duration::from_millis(LEADER_TRANSFER_MS_MAX);
            if tokio::time::timeout(limit, hand_on(&self.raft)).await.is_err() {
                tracing::warn!("no other member has taken the leadership in time");
            }
        }))
    }
}

/// Gives the leadership to the member that has the most of the log.
async fn hand_on<D: Disk>(raft: &RaftOf<D>) {
    let mut metrics = raft.metrics();
    let heir = {
        let now = metrics.borrow_watched();
        if now.state != ServerState::Leader {
            return;
        }
        let voters: Vec<u64> = now.membership_config.membership().voter_ids().collect();
        let replication = now.replication.clone().unwrap_or_default();
        let others = replication.into_iter().filter(|(id, _)| *id != now.id && voters.contains(id));
        others.max_by_key(|(id, matched)| (*matched, *id)).map(|(id, _)| id)
    };
    let Some(heir) = heir else { return };
    if raft.trigger().transfer_leader(heir).await.is_err() {
        return;
    }
    while metrics.borrow_watched().state == ServerState::Leader {
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
