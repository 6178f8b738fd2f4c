//! The members: started, stopped, crashed and started again; those that are to join later, and
//! those that have left, with their folders emptied.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt;
use synod_core::seams::Clock;
use synod_core::testing::SeededEntropy;
use synod_server::log::sim::{Faults as DiskFaults, SimDisk};
use synod_server::{Bug, Config, Founding, Keeping, Limits, MemberConfig, Server, Words};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::history::Recorder;
use super::liar::{Liar, Lie};
use super::net::{Node, SimNet};
use super::run::Plant;

/// The unit of session timeouts, in milliseconds.
pub(crate) const TICK_MS: u32 = 500;

/// What every clock shows at the start: 2023-11-14T22:13:20Z.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// So small that segments are recycled, snapshots made, and members brought up by them, all the
/// time.
const KEEPING: Keeping = Keeping {
    segment_bytes: 16 << 10,
    cache_bytes_max: 256,
    snapshot_entries: 50,
    snapshot_bytes: 1 << 20,
    entries_kept: 20,
    bytes_kept: 16 << 10,
    digest_entries: 16,
};

/// So small that what a member has for its leader takes several frames as a rule.
const COURIER_FRAME_BYTES: usize = 128;

/// What every disk takes at most, and a slow one, in milliseconds.
const DISK_MS_MAX: u64 = 3;
const SLOW_DISK_MS_MAX: u64 = 400;

/// Members that are not there at first.
const SPARES: u8 = 2;

/// How long a member may take to stop: it hands its office on, and its connections end.
const STOPPING: Duration = Duration::from_secs(5);

const CLIENT_PORT: u16 = 2181;
const PEER_PORT: u16 = 2888;
/// Where the server listens when something that lies stands before it.
const HIDDEN_PORT: u16 = 2182;

/// The time of day at a member, which can jump.
pub(crate) struct SimClock {
    start: Instant,
    off_ms: AtomicI64,
}

impl Clock for SimClock {
    fn wall_ms(&self) -> i64 {
        let elapsed_ms = self.start.elapsed().as_millis() as i64;
        EPOCH_MS + elapsed_ms + self.off_ms.load(Relaxed)
    }
}

fn disk_faults(most_ms: u64) -> DiskFaults {
    let (write_ms, sync_ms) = (most_ms / 3, most_ms);
    DiskFaults {
        write_delay_max: Duration::from_millis(write_ms),
        sync_delay_max: Duration::from_millis(sync_ms),
        ..DiskFaults::default()
    }
}

struct Member {
    clock: Arc<SimClock>,
    entropy: Arc<SeededEntropy>,
    /// How many times it was started.
    lives: u32,
    disk: SimDisk,
    server: Option<Server>,
    /// Its disk was made to fail: it must stop.
    doomed: bool,
    /// It runs, or is to run again.
    deployed: bool,
    /// Its folder was new when the cluster was there already.
    joins: bool,
    /// It was ordered out of the cluster, and may be out.
    leaves: bool,
    /// It ends.
    stopping: Option<JoinHandle<()>>,
    /// How much later it applies, in milliseconds.
    behind_ms: Arc<AtomicU64>,
}

/// Where clients look for members: what whoever runs the cluster has told them.
#[derive(Clone, Default)]
pub(crate) struct Directory(Arc<Mutex<Vec<u8>>>);

impl Directory {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().expect("the directory does not panic")
    }

    pub(crate) fn members(&self) -> Vec<(u8, SocketAddr)> {
        let address = |id: &u8| (*id, SocketAddr::from((Node::Member(*id).ip(), CLIENT_PORT)));
        self.lock().iter().map(address).collect()
    }

    pub(crate) fn enter(&self, id: u8) {
        let mut members = self.lock();
        if !members.contains(&id) {
            members.push(id);
        }
    }

    /// Takes a member out, but for the last one.
    pub(crate) fn strike(&self, id: u8) {
        let mut members = self.lock();
        if members.len() > 1 {
            members.retain(|member| *member != id);
        }
    }
}

pub(crate) fn peer_address(id: u8) -> String {
    SocketAddr::from((Node::Member(id).ip(), PEER_PORT)).to_string()
}

pub(crate) fn client_address(id: u8) -> SocketAddr {
    SocketAddr::from((Node::Member(id).ip(), CLIENT_PORT))
}

pub(crate) struct Cluster {
    net: SimNet,
    recorder: Recorder,
    members: BTreeMap<u8, Member>,
    founders: u8,
    pub(crate) directory: Directory,
    liar: Option<Liar>,
    lie: Option<Lie>,
    bug: Option<Bug>,
}

impl Cluster {
    pub(crate) fn new(
        net: &SimNet,
        recorder: &Recorder,
        random: &SeededEntropy,
        size: u8,
        plant: Option<Plant>,
    ) -> Cluster {
        let start = Instant::now();
        let member = |id| {
            // Clocks of members differ, as clocks do.
            let off_ms = AtomicI64::new(random.below(200) as i64 - 100);
            let clock = Arc::new(SimClock { start, off_ms });
            let entropy = Arc::new(SeededEntropy::new(random.next_u64()));
            let disk = SimDisk::new(random.next_u64());
            disk.set_faults(disk_faults(DISK_MS_MAX));
            let member = Member {
                clock,
                entropy,
                lives: 0,
                disk,
                server: None,
                doomed: false,
                deployed: id <= size,
                joins: id > size,
                leaves: false,
                stopping: None,
                behind_ms: Arc::default(),
            };
            (id, member)
        };
        let (lie, bug) = match plant {
            Some(Plant::Lie(lie)) => (Some(lie), None),
            Some(Plant::Bug(bug)) => (None, Some(bug)),
            None => (None, None),
        };
        let spares = if lie.is_some() { 0 } else { SPARES };
        let members = (1..=size + spares).map(member).collect();
        let directory = Directory::default();
        (1..=size).for_each(|id| directory.enter(id));
        let (net, recorder) = (net.clone(), recorder.clone());
        Cluster { net, recorder, members, founders: size, directory, liar: None, lie, bug }
    }

    /// Those that run, or are to run again.
    pub(crate) fn ids(&self) -> Vec<u8> {
        self.all().into_iter().filter(|id| self.is_deployed(*id)).collect()
    }

    /// Those too that have not joined yet, or have left.
    pub(crate) fn all(&self) -> Vec<u8> {
        self.members.keys().copied().collect()
    }

    pub(crate) fn is_deployed(&self, id: u8) -> bool {
        self.members[&id].deployed
    }

    fn member(&mut self, id: u8) -> &mut Member {
        self.members.get_mut(&id).expect("is a member")
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.lie.is_none()
    }

    pub(crate) fn is_up(&self, id: u8) -> bool {
        self.members.get(&id).is_some_and(|member| member.server.is_some())
    }

    pub(crate) async fn start_all(&mut self) {
        for id in self.ids() {
            self.start(id).await;
        }
    }

    /// Starts a member that is down.
    pub(crate) async fn start(&mut self, id: u8) {
        if self.is_up(id) {
            return;
        }
        if let Some(stopping) = self.member(id).stopping.take() {
            stopping.await.expect("a member that stops does not panic");
        }
        self.net.power_on(Node::Member(id));
        self.recorder.note(format_args!("m{id}"), format_args!("starts"));
        let started = loop {
            let config = self.config(id);
            let member = self.members.get_mut(&id).expect("is a member");
            let started = if config.member.is_some() {
                Server::start_on(config, member.disk.restarted()).await
            } else {
                Server::start(config).await
            };
            match started {
                Err(error) if member.doomed => {
                    self.recorder.note(format_args!("m{id}"), format_args!("fails: {error}"));
                    member.disk.power_loss();
                    self.mend_disk(id);
                }
                started => break started,
            }
        };
        let member = self.members.get_mut(&id).expect("is a member");
        match started {
            Ok(server) => member.server = Some(server),
            Err(error) => {
                let text = format!("m{id} does not start: {error}");
                self.recorder.complain(text);
                return;
            }
        }
        let (ip, member) = (Node::Member(id).ip(), &self.members[&id]);
        if let Some(lie) = self.lie {
            let front = SocketAddr::from((ip, CLIENT_PORT));
            let back = SocketAddr::from((ip, HIDDEN_PORT));
            let seed = member.entropy.next_u64();
            self.liar = Some(Liar::start(&self.net, Node::Member(id), front, back, lie, seed));
        }
    }

    fn config(&mut self, id: u8) -> Config {
        let founders = 1..=self.founders;
        let founding = match self.members[&id].joins {
            true => Founding::Join,
            false if self.founders == 1 => Founding::Alone,
            false => {
                Founding::Together(founders.map(|id| (u64::from(id), peer_address(id))).collect())
            }
        };
        let durable = MemberConfig {
            id: id.into(),
            peer_listen: Some(peer_address(id)),
            founding,
            keeping: KEEPING,
            insecure_peers: true,
            ..MemberConfig::new("simulated")
        };
        // What lies stands before a server that has nothing to lose.
        let lies = self.lie.is_some();
        let port = if lies { HIDDEN_PORT } else { CLIENT_PORT };
        let member = self.members.get_mut(&id).expect("is a member");
        member.lives += 1;
        Config {
            listen: SocketAddr::from((Node::Member(id).ip(), port)),
            insecure: true,
            member: (!lies).then_some(durable),
            tick_ms: TICK_MS,
            words: Words::all(),
            reap_interval: Duration::from_millis(2_000),
            clock: Arc::clone(&member.clock) as _,
            entropy: Arc::clone(&member.entropy) as _,
            net: self.net.of(Node::Member(id)),
            tap: Some(self.recorder.tap(id, member.lives, &member.behind_ms)),
            bug: self.bug,
            limits: Limits { courier_frame_bytes_soft: COURIER_FRAME_BYTES, ..Limits::default() },
            ..Config::default()
        }
    }

    /// Ends a member at once; without power, its peers are not even told that it is gone.
    pub(crate) fn crash(&mut self, id: u8, power: bool) {
        self.recorder.note(format_args!("m{id}"), format_args!("crashes, power {power}"));
        if !power {
            self.net.power_off(Node::Member(id));
        }
        let member = self.members.get_mut(&id).expect("is a member");
        if power {
            member.disk.crash();
        } else {
            member.disk.power_loss();
        }
        member.disk.set_faults(disk_faults(DISK_MS_MAX));
        member.doomed = false;
        drop(member.server.take());
    }

    /// Ends a member as on SIGTERM; by the time it starts again, it may have been without power.
    pub(crate) fn stop(&mut self, id: u8, power: bool) {
        self.recorder.note(format_args!("m{id}"), format_args!("stops, power {power}"));
        let recorder = self.recorder.clone();
        let member = self.member(id);
        let Some(server) = member.server.take() else { return };
        let disk = member.disk.clone();
        let stopping = tokio::spawn(async move {
            let begun = Instant::now();
            server.stop().await;
            // Its process ends, and with it a snapshot that is still being written.
            if power {
                disk.crash();
            } else {
                disk.power_loss();
            }
            recorder.note(format_args!("m{id}"), format_args!("has stopped"));
            if begun.elapsed() > STOPPING {
                recorder.complain(format!("m{id} took {:?} to stop", begun.elapsed()));
            }
        });
        member.stopping = Some(stopping);
    }

    /// Waits until a member that stops has ended.
    pub(crate) async fn has_stopped(&mut self, id: u8) {
        if let Some(stopping) = &mut self.member(id).stopping {
            // It says by itself what went wrong.
            let _ = stopping.await;
        }
        self.member(id).stopping = None;
    }

    /// Starts a member that is to join, with an empty folder.
    pub(crate) async fn deploy(&mut self, id: u8) {
        self.member(id).deployed = true;
        self.start(id).await;
    }

    /// Says that a member was ordered out.
    pub(crate) fn orders_out(&mut self, id: u8) {
        self.member(id).leaves = true;
    }

    pub(crate) fn leaves(&self, id: u8) -> bool {
        self.members[&id].leaves
    }

    /// Ends a member that has left, and empties its folder.
    pub(crate) async fn retire(&mut self, id: u8) {
        self.has_stopped(id).await;
        self.crash(id, true);
        // Its address is free when the others have had their turn.
        sleep(Duration::from_millis(1)).await;
        let member = self.member(id);
        (member.deployed, member.joins, member.leaves) = (false, true, false);
        member.disk = SimDisk::new(member.entropy.next_u64());
        member.disk.set_faults(disk_faults(DISK_MS_MAX));
        self.recorder.note(format_args!("m{id}"), format_args!("has an empty folder"));
    }

    /// Makes a member's disk slow, or as it was.
    pub(crate) fn slow_disk(&self, id: u8, slow: bool) {
        let most_ms = if slow { SLOW_DISK_MS_MAX } else { DISK_MS_MAX };
        self.members[&id].disk.set_faults(disk_faults(most_ms));
    }

    /// Makes a member apply what is committed so much later.
    pub(crate) fn apply_late(&self, id: u8, behind_ms: u64) {
        self.members[&id].behind_ms.store(behind_ms, Relaxed);
    }

    /// A disk that has room and neither fails nor is slow.
    pub(crate) fn mend_disk(&mut self, id: u8) {
        self.slow_disk(id, false);
        self.members.get_mut(&id).expect("is a member").doomed = false;
    }

    /// Makes one of a member's next fdatasyncs fail: it must stop then.
    pub(crate) fn doom(&mut self, id: u8, syncs: u64) {
        let member = self.members.get_mut(&id).expect("is a member");
        let faults = disk_faults(DISK_MS_MAX);
        member.disk.set_faults(DiskFaults { syncs_until_failure: Some(syncs), ..faults });
        member.doomed = true;
    }

    /// Leaves so little room on a member's disk: it must stop when that is used up.
    pub(crate) fn fill_disk(&mut self, id: u8, bytes: u64) {
        let member = self.member(id);
        let faults = disk_faults(DISK_MS_MAX);
        member.disk.set_faults(DiskFaults { bytes_free: Some(bytes), ..faults });
        member.doomed = true;
    }

    /// Members that say that they must not go on. One that has no reason to is a finding.
    pub(crate) fn failed(&mut self) -> Vec<u8> {
        let mut failed = Vec::new();
        for (id, member) in &self.members {
            let reason = member.server.as_ref().and_then(|server| server.failed().now_or_never());
            let Some(reason) = reason else { continue };
            self.recorder.note(format_args!("m{id}"), format_args!("fails: {reason}"));
            if !member.doomed && !member.leaves {
                self.recorder.complain(format!("m{id} must not go on: {reason}"));
            }
            failed.push(*id);
        }
        failed
    }

    /// Moves a member's clock.
    pub(crate) fn jump(&self, id: u8, by_ms: i64) {
        self.recorder.note(format_args!("m{id}"), format_args!("its clock jumps {by_ms} ms"));
        self.members[&id].clock.off_ms.fetch_add(by_ms, Relaxed);
    }
}
