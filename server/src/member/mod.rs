//! The one place where requests meet the state: engine, sessions and their connections, behind
//! one mutex.
//!
//! A connection's task hands over a batch of requests and has the replies in its outbox when
//! [`Member::submit`] returns; the events that they cause are in the outboxes of those who watch.
//! `State::propose` is the seam to the log: here an entry is committed by being applied.

mod state;

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use synod_core::engine::{Engine, Reader};
use synod_core::model::limits::REAP_BATCH_MAX;
use synod_core::model::{Identity, Password, Response, SessionId, Write, Zxid};
use synod_core::seams::{Clock, Entropy};
use synod_core::wire::{ConnectReply, ConnectRequest, Refused, SubmittedRequest};

use self::state::State;
use crate::config::Config;
use crate::counters::{Counters, Latency, count};
use crate::expiry::Expiry;
use crate::limits::{BATCH_MICROS_MAX, EXPIRY_BATCH_MAX};
use crate::outbox::Fate;
use crate::roster::Peer;

/// A request as the codec gives it.
pub(crate) type Decoded = Result<SubmittedRequest, Refused>;

/// What a connection's task knows of its session.
pub(crate) struct Seat {
    reader: Reader,
    attachment: Zxid,
    /// The number of the last write that came through the attachment.
    sequence: u64,
}

/// Why a connection gets no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwelcome {
    /// The client has seen more than this member has applied.
    Ahead,
    /// There is no such session, or it has another password.
    SessionOver,
}

/// What the words tell about the state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Census {
    pub(crate) zxid: Zxid,
    pub(crate) znodes: usize,
    pub(crate) ephemerals: usize,
    pub(crate) data_bytes: usize,
    pub(crate) sessions: usize,
    pub(crate) watches: usize,
    pub(crate) watching_sessions: usize,
    pub(crate) watched_paths: usize,
}

/// A member of one: its log is volatile.
pub(crate) struct Member {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    timeouts_ms: std::ops::RangeInclusive<u32>,
    super_digest: Option<Identity>,
    output_bytes_soft: usize,
    counters: Arc<Counters>,
}

impl Member {
    pub(crate) fn new(config: &Config, counters: Arc<Counters>) -> Member {
        let state = State {
            engine: Engine::new(),
            sessions: HashMap::default(),
            expiry: Expiry::new(config.tick_ms, tokio::time::Instant::now()),
            last_session: first_session(config.server_id, config.clock.wall_ms()),
            fired: Vec::new(),
            woken: Vec::new(),
            counters: Arc::clone(&counters),
        };
        Member {
            state: Mutex::new(state),
            clock: Arc::clone(&config.clock),
            entropy: Arc::clone(&config.entropy),
            timeouts_ms: config.session_timeouts_ms(),
            super_digest: config.super_digest.as_ref().map(|id| Identity::new("digest", id)),
            output_bytes_soft: config.limits.output_bytes_soft,
            counters,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in the state machine leaves it half changed: nobody may go on with it.
        self.state.lock().expect("the member has not panicked")
    }

    /// Gives the lock back and wakes whom the changes concern.
    fn unlock(mut state: MutexGuard<'_, State>) {
        let woken = std::mem::take(&mut state.woken);
        drop(state);
        woken.iter().for_each(|peer| peer.outbox.wake());
    }

    /// Opens or re-attaches a session; the connection that had it is cut. The reply is in the
    /// outbox, before any event of the session.
    pub(crate) fn open(&self, hello: &ConnectRequest, peer: &Arc<Peer>) -> Result<Seat, Unwelcome> {
        let (least, most) = (*self.timeouts_ms.start(), *self.timeouts_ms.end());
        let timeout_ms = u32::try_from(hello.timeout_ms).unwrap_or(0).clamp(least, most);
        let mut guard = self.lock();
        let state = &mut *guard;
        // This member is the only one: what it does not know is over, and whoever comes back after
        // a restart had better hear that at once than be sent away until its deadline.
        let resumes = hello.session != SessionId::SYSTEM;
        if resumes && !state.engine.admits(hello.session, &hello.password) {
            return Err(Unwelcome::SessionOver);
        }
        if hello.last_zxid > state.engine.last_zxid() {
            return Err(Unwelcome::Ahead);
        }
        let time_ms = self.clock.wall_ms();
        let (proposer, password, request) = if !resumes {
            state.last_session += 1;
            let id = SessionId(state.last_session);
            let mut password = Password([0; 16]);
            self.entropy.fill(&mut password.0);
            (SessionId::SYSTEM, password, Write::CreateSession { id, password, timeout_ms })
        } else {
            let password = <[u8; 16]>::try_from(&hello.password[..]);
            let password = password.map_err(|_| Unwelcome::SessionOver)?;
            (hello.session, Password(password), Write::Attach { timeout_ms })
        };
        let applied = state.propose_system(proposer, time_ms, request);
        let Ok(Response::Attached { session, attachment }) = applied.result else {
            return Err(Unwelcome::SessionOver);
        };
        // The watches of the connection before went with it.
        state.engine.disconnect(session);
        let reply = ConnectReply {
            timeout_ms: timeout_ms as i32,
            session,
            password: password.0.to_vec().into(),
            read_only: hello.read_only.map(|_| false),
        };
        peer.outbox.reply(|out| reply.encode(out));
        peer.session.store(session.0, Relaxed);
        peer.timeout_ms.store(timeout_ms, Relaxed);
        state.seat(session, attachment, timeout_ms, peer);
        Member::unlock(guard);
        let ip = Identity::new("ip", peer.address.ip().to_canonical().to_string());
        let reader = Reader { session, identities: Arc::from([ip]) };
        Ok(Seat { reader, attachment, sequence: 0 })
    }

    /// Does the requests at the front of `batch`, in order: until it is empty, the output that
    /// waits is past its bound, the connection is to end, or others must have their turn.
    pub(crate) fn submit(
        &self,
        seat: &mut Seat,
        peer: &Peer,
        batch: &mut VecDeque<Decoded>,
        arrived: Instant,
    ) {
        let (mut latency, mut requests, mut auths_failed) = (Latency::default(), 0, 0);
        let time_ms = self.clock.wall_ms();
        let mut guard = self.lock();
        let started = Instant::now();
        let turn = Duration::from_micros(BATCH_MICROS_MAX);
        let here = guard.hear(seat);
        while let Some(decoded) = batch.pop_front() {
            let answer = match here {
                Ok(()) => guard.answer(self, seat, peer, decoded, time_ms),
                Err(refusal) => guard.turn_away(peer, decoded, refusal),
            };
            let now = Instant::now();
            latency.add(now - arrived);
            requests += 1;
            auths_failed += u64::from(answer.auth_failed);
            if answer.closes {
                peer.outbox.end(Fate::Drain);
                batch.clear();
            }
            if answer.waiting_bytes >= self.output_bytes_soft || now - started >= turn {
                break;
            }
        }
        Member::unlock(guard);
        self.counters.add_latency(&latency);
        self.counters.packets_received.fetch_add(requests, Relaxed);
        self.counters.packets_sent.fetch_add(requests, Relaxed);
        self.counters.auths_failed.fetch_add(auths_failed, Relaxed);
        peer.packets_received.fetch_add(requests, Relaxed);
        peer.packets_sent.fetch_add(requests, Relaxed);
    }

    /// The connection is gone: so are its watches. The session stays.
    pub(crate) fn leave(&self, seat: &Seat) {
        let mut state = self.lock();
        let session = seat.reader.session;
        let live = state.sessions.get_mut(&session);
        if let Some(live) = live.filter(|live| live.attachment == seat.attachment) {
            live.peer = None;
            state.engine.disconnect(session);
        }
    }

    /// Begins to look for sessions that were not heard of; `expected` is when this was to be.
    /// [`Member::expire_some`] follows until there are no more.
    pub(crate) fn look_for_expired(&self, expected: tokio::time::Instant, slack: Duration) {
        let mut state = self.lock();
        // With the lock held: who waited for it could not be heard either.
        let now = tokio::time::Instant::now();
        let late = now.saturating_duration_since(expected);
        if late > slack {
            tracing::warn!(?late, "the look for expired sessions is late; all deadlines move");
            state.expiry.late(late);
        }
        let now_ms = state.expiry.now_ms(now);
        state.expiry.look(now_ms);
    }

    /// Expires some of the sessions that are due; whether there may be more.
    pub(crate) fn expire_some(&self) -> bool {
        let time_ms = self.clock.wall_ms();
        let mut guard = self.lock();
        let state = &mut *guard;
        let now_ms = state.expiry.now_ms(tokio::time::Instant::now());
        let mut more = true;
        for _ in 0..EXPIRY_BATCH_MAX {
            let Some((bucket, id)) = state.expiry.next_due() else {
                more = false;
                break;
            };
            let Some(live) = state.sessions.get_mut(&id) else { continue };
            if !state.expiry.judge(id, bucket, &mut live.deadline, now_ms) {
                continue;
            }
            let Some(info) = state.engine.session(id) else { continue };
            let (attachment, sequence) = (info.attachment, info.sequence);
            let request = Write::ExpireSession { id, attachment, sequence };
            if state.propose_system(SessionId::SYSTEM, time_ms, request).result.is_ok() {
                tracing::info!(session = %id, "the session has expired");
                count(&self.counters.sessions_expired);
                if let Some(peer) = state.sessions.remove(&id).and_then(|live| live.peer) {
                    peer.outbox.end(Fate::Cut);
                }
            }
        }
        Member::unlock(guard);
        more
    }

    /// Deletes containers and TTL znodes whose time has come; whether there may be more.
    pub(crate) fn reap_some(&self) -> bool {
        let time_ms = self.clock.wall_ms();
        let mut state = self.lock();
        let paths = state.engine.reapable(time_ms, REAP_BATCH_MAX);
        let more = paths.len() == REAP_BATCH_MAX;
        for path in paths {
            state.propose_system(SessionId::SYSTEM, time_ms, Write::Reap { path });
        }
        Member::unlock(state);
        more
    }

    pub(crate) fn census(&self) -> Census {
        let state = self.lock();
        Census {
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

/// The number before the first session's: the member, then the time of the start, so that a later
/// start does not repeat an earlier one's.
fn first_session(server_id: u8, start_ms: i64) -> i64 {
    (i64::from(server_id) << 56) | ((start_ms << 24) as u64 >> 8) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_numbered_as_zookeeper_does() {
        // serverId << 56 | (ms << 24 >>> 8)
        let start_ms = 0x0190_0000_0001;
        assert_eq!(first_session(1, start_ms), 0x0190_0000_0001_0000);
        assert_eq!(first_session(0xFF, 1), 0xFF00_0000_0001_0000_u64 as i64);
    }
}
