//! The one place where requests meet the state: engine, sessions and their connections, behind
//! one mutex.
//!
//! A connection's task hands over a batch of requests. Reads are answered from this member's
//! state; writes go to the log, and are answered when this member applies them. Replies stand in
//! the order of the requests, and events in the outboxes of those who watch before any reply that
//! shows the change.
//!
//! | file | what it holds |
//! |---|---|
//! | `state` | the state; what applying an entry does; the seam to the log |
//! | `open` | how a connection gets its session, and loses it |
//! | `read_only` | connections of clients that read while nobody leads |
//! | `reconfig` | changes of the members that connections ask for |
//! | `seat` | a connection that has a session, with its requests that are not answered |
//! | `turn` | one connection's turn at the state |
//! | `prefetch` | what requests and entries are about comes from memory side by side |
//! | `watchman` | who finds dead sessions |
//! | `outgoing` | what is to be taken to the leader |
//! | `replica` | what replication does with the state: apply, snapshot, roles |

mod open;
mod outgoing;
mod prefetch;
mod read_only;
mod reconfig;
mod replica;
mod seat;
mod state;
mod turn;
mod watchman;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use hashbrown::HashMap;
use synod_core::engine::Engine;
use synod_core::model::limits::REAP_BATCH_MAX;
use synod_core::model::{
    Identity, Op, Read, ReadOp, Rearm, Request, SessionId, WatchRequest, Write, Zxid,
};
use synod_core::seams::{Clock, Entropy};
use synod_core::wire::{Refused, SubmittedRequest};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

pub(crate) use self::open::{Ticket, Unwelcome};
pub(crate) use self::outgoing::{Awaited, Outgoing, Proposal, Waiter};
pub(crate) use self::reconfig::{IsSound, Reconfigs, Reconfiguring};
pub(crate) use self::replica::{Checkpoint, Committed, Heard};
pub(crate) use self::state::Role;
pub(crate) use self::turn::Turn;

use self::state::{Log, State};
use self::watchman::Watchman;
use crate::bug::{Bug, Planted};
use crate::config::Config;
use crate::counters::{Counters, Latency};
use crate::limits::{DECODED_PATH_BYTES, EXPIRY_BATCH_MAX, Limits};
use crate::sasl::Sasl;
use crate::seldom::Seldom;
use crate::watched;

/// A request as the codec gives it.
pub(crate) struct Decoded {
    pub(crate) request: Result<SubmittedRequest, Refused>,
    /// About what it takes in memory, in bytes.
    pub(crate) bytes: usize,
}

impl Decoded {
    /// One whose frame has so many bytes.
    pub(crate) fn new(request: Result<SubmittedRequest, Refused>, frame_bytes: usize) -> Decoded {
        let parts = request.as_ref().map_or(0, |submitted| parts_bytes(&submitted.request));
        Decoded { request, bytes: frame_bytes + parts }
    }
}

/// What the parts of a request take that are small and many, beside the bytes that came: these are
/// shared with the frame, or as long as there.
fn parts_bytes(request: &Request) -> usize {
    match request {
        Request::Watch(WatchRequest::Rearm(rearm)) => {
            let Rearm { data, exist, child, persistent, recursive, .. } = rearm;
            let paths = [data, exist, child, persistent, recursive].map(Vec::len);
            paths.iter().sum::<usize>() * (size_of::<Arc<str>>() + DECODED_PATH_BYTES)
        }
        Request::Read(Read::Multi(reads)) => {
            reads.len() * (size_of::<ReadOp>() + DECODED_PATH_BYTES)
        }
        Request::Write(Write::Multi(ops)) => ops.len() * (size_of::<Op>() + DECODED_PATH_BYTES),
        _ => 0,
    }
}

/// What the words tell about the state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Census {
    pub(crate) role: Role,
    /// How many members there are, itself among them.
    pub(crate) members: usize,
    /// Nobody leads, and clients that ask for it are answered all the same.
    pub(crate) is_read_only: bool,
    pub(crate) zxid: Zxid,
    pub(crate) znodes: usize,
    pub(crate) ephemerals: usize,
    pub(crate) data_bytes: usize,
    pub(crate) sessions: usize,
    pub(crate) watches: usize,
    pub(crate) watching_sessions: usize,
    pub(crate) watched_paths: usize,
}

impl Census {
    /// What ZooKeeper calls the member.
    pub(crate) fn mode(&self) -> &'static str {
        match self.role {
            Role::Standalone => "standalone",
            Role::Leader if self.members == 1 => "standalone",
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Observer => "observer",
            Role::Looking if self.is_read_only => "read-only",
            Role::Looking => "looking",
        }
    }
}

/// A session, as the words tell of it.
pub(crate) struct Listed {
    pub(crate) id: SessionId,
    pub(crate) timeout_ms: u32,
    pub(crate) ephemerals: Vec<Arc<str>>,
}

/// The state of one member and all that it takes to serve from it.
pub(crate) struct Member {
    state: Mutex<State>,
    /// There is what the courier waits for.
    outgoing: Notify,
    /// Why this member must not go on, once that is so.
    fatal: watch::Sender<Option<String>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    timeouts_ms: std::ops::RangeInclusive<u32>,
    tick_ms: u32,
    super_digest: Option<Identity>,
    sasl: Option<Sasl>,
    limits: Limits,
    digest_entries: u64,
    /// Where changes of the members are asked for; nowhere until it is said.
    reconfigs: OnceLock<Reconfigs>,
    /// This member's latest digest.
    checkpoints: watched::Sender<Option<Checkpoint>>,
    counters: Arc<Counters>,
}

impl Member {
    /// A member of one whose log is volatile.
    pub(crate) fn volatile(config: &Config, counters: Arc<Counters>) -> Member {
        let watchman = Watchman::new(config.tick_ms, std::iter::empty());
        let member = Member::new(config, counters, Engine::new(), Log::Volatile, Some(watchman));
        if config.reconfig_enabled {
            member.serve_reconfigs(Reconfigs::Alone);
        }
        member
    }

    fn new(
        config: &Config,
        counters: Arc<Counters>,
        mut engine: Engine,
        log: Log,
        watchman: Option<Watchman>,
    ) -> Member {
        let role = if log == Log::Volatile { Role::Standalone } else { Role::Looking };
        let planted = config.planted();
        plant(planted, &mut engine);
        engine.set_bounds(config.limits.bounds());
        let state = State {
            planted,
            engine,
            log,
            role,
            looking_since: (role == Role::Looking).then(Instant::now),
            members: 1,
            seats: HashMap::default(),
            openings: Default::default(),
            outgoing: Outgoing::default(),
            watchman,
            last_session: first_session(config.member_id(), &*config.entropy),
            applied_index: 0,
            barriers: Default::default(),
            digests: Default::default(),
            unapplied_bytes: 0,
            is_sated: false,
            stalled: Vec::new(),
            serving: None,
            woken: Vec::new(),
            quota_lines: Seldom::default(),
            expiry_lines: Seldom::default(),
            latency: Latency::default(),
            counters: Arc::clone(&counters),
            #[cfg(feature = "testing")]
            tap: config.tap.clone(),
        };
        Member {
            state: Mutex::new(state),
            outgoing: Notify::new(),
            fatal: watch::Sender::new(None),
            clock: Arc::clone(&config.clock),
            entropy: Arc::clone(&config.entropy),
            timeouts_ms: config.session_timeouts_ms(),
            tick_ms: config.tick_ms,
            super_digest: config.super_digest.as_ref().map(|id| Identity::new("digest", id)),
            sasl: config.sasl.clone(),
            limits: config.limits,
            digest_entries: config
                .member
                .as_ref()
                .map_or(crate::limits::DIGEST_ENTRIES, |member| member.keeping.digest_entries),
            reconfigs: OnceLock::new(),
            checkpoints: watched::Sender::new(None),
            counters,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in the state machine leaves it half changed: nobody may go on with it.
        self.state.lock().expect("the member has not panicked")
    }

    /// Gives the lock back and wakes whom the changes concern.
    fn unlock(&self, mut state: MutexGuard<'_, State>) {
        let woken = std::mem::take(&mut state.woken);
        let latency = std::mem::take(&mut state.latency);
        let calls = state.outgoing.calls();
        drop(state);
        if calls {
            self.outgoing.notify_one();
        }
        woken.iter().for_each(|peer| peer.outbox.wake());
        self.counters.add_latency(&latency);
        self.counters.packets_sent.fetch_add(latency.count, std::sync::atomic::Ordering::Relaxed);
    }

    /// Begins to look for sessions that were not heard of, if that is this member's office;
    /// `expected` is when this was to be. [`Member::expire_some`] follows until there are no more.
    pub(crate) fn look_for_expired(&self, expected: Instant, slack: Duration) {
        // With the lock held: who waited for it could not be heard either.
        let mut state = self.lock();
        let slack = if state.planted.is(Bug::LateLookExpires) { Duration::MAX } else { slack };
        state.watch_over(|watchman| watchman.look(expected, slack));
    }

    /// Expires some of the sessions that are due; whether there may be more.
    pub(crate) fn expire_some(&self) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(watchman) = &mut state.watchman else { return false };
        let (dead, more) = watchman.dead(EXPIRY_BATCH_MAX);
        for id in dead {
            match state.engine.session(id) {
                Some(info) => {
                    let (attachment, sequence) = (info.attachment, info.sequence);
                    let request = Write::ExpireSession { id, attachment, sequence };
                    state.propose_system(SessionId::SYSTEM, 0, &*self.clock, request);
                }
                None => state.watch_over(|watchman| watchman.forget(id)),
            }
        }
        self.unlock(guard);
        more
    }

    /// Deletes containers and TTL znodes whose time has come, if that is this member's office;
    /// whether there may be more.
    pub(crate) fn reap_some(&self) -> bool {
        let time_ms = self.clock.wall_ms();
        let mut state = self.lock();
        if state.watchman.is_none() {
            return false;
        }
        let paths = state.engine.reapable(time_ms, REAP_BATCH_MAX);
        // What a replicated log has not applied yet would be found again.
        let more = state.log == Log::Volatile && paths.len() == REAP_BATCH_MAX;
        for path in paths {
            state.propose_system(SessionId::SYSTEM, 0, &*self.clock, Write::Reap { path });
        }
        self.unlock(state);
        more
    }

    /// Sessions and their ephemeral znodes, at most so many together.
    pub(crate) fn sessions(&self, max: usize) -> Vec<Listed> {
        let state = self.lock();
        let mut left = max;
        let listed = state.engine.sessions().map_while(|(id, info)| {
            left = left.checked_sub(1)?;
            let ephemerals = state.engine.ephemerals_of(id, left);
            left -= ephemerals.len();
            Some(Listed { id, timeout_ms: info.timeout_ms, ephemerals })
        });
        listed.collect()
    }

    /// Who watches what on this member, at most so many, by session and path.
    pub(crate) fn watches(&self, max: usize) -> Vec<(SessionId, Arc<str>)> {
        let mut watches: Vec<_> = self.lock().engine.watches().take(max).collect();
        watches.sort_unstable();
        watches
    }

    pub(crate) fn census(&self) -> Census {
        let state = self.lock();
        Census {
            role: state.role,
            members: state.members,
            is_read_only: state.is_read_only(),
            zxid: state.engine.last_zxid(),
            znodes: state.engine.znode_count(),
            ephemerals: state.engine.ephemeral_count(),
            data_bytes: state.engine.approximate_data_bytes(),
            sessions: state.engine.session_count(),
            watches: state.engine.watch_count(),
            watching_sessions: state.engine.watching_session_count(),
            watched_paths: state.engine.watched_path_count(),
        }
    }
}

/// Makes the state machine mistaken, if it is to be.
fn plant(planted: Planted, engine: &mut Engine) {
    #[cfg(feature = "testing")]
    if let Some(crate::Bug::Engine(plant)) = planted.bug() {
        engine.plant(plant);
    }
    #[cfg(not(feature = "testing"))]
    let _ = (planted, engine);
}

/// The number before the first session's: the member, then what chance gives. Apache ZooKeeper
/// puts the time there; a clock that was set back would repeat an earlier start's numbers.
fn first_session(member_id: u64, entropy: &dyn Entropy) -> i64 {
    let mut start = [0; 8];
    entropy.fill(&mut start);
    // Room below to count, and above, so that no count reaches the bit of read-only sessions, nor
    // the number of the member.
    let start = u64::from_be_bytes(start) >> 25 << 16;
    ((member_id << 56) | start) as i64
}

#[cfg(test)]
mod tests {
    use synod_core::wire::decode_request;

    use super::*;

    struct Constant(u8);

    impl Entropy for Constant {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    /// The shortest paths are the most for their bytes.
    #[test]
    fn a_request_counts_for_what_its_parts_take_in_memory() {
        let data: Vec<Arc<str>> = vec!["/".into(); 1_000];
        let request = Request::Watch(WatchRequest::Rearm(Rearm { data, ..Rearm::default() }));
        let mut out = bytes::BytesMut::new();
        synod_core::wire::encode_request(&mut out, 1, &request).expect("is a client's");
        let frame_bytes = out.len();
        let decoded = decode_request(out.freeze().slice(4..));
        let bytes = Decoded::new(decoded, frame_bytes).bytes;
        assert!(bytes > 8 * frame_bytes, "{bytes} of {frame_bytes}");
    }

    #[test]
    fn a_session_says_which_member_opened_it() {
        assert_eq!(first_session(1, &Constant(0)), 0x0100_0000_0000_0000);
        assert_eq!(first_session(1, &Constant(0xFF)), 0x017F_FFFF_FFFF_0000);
        assert_eq!(first_session(0xFF, &Constant(0)), 0xFF00_0000_0000_0000_u64 as i64);
    }
}
