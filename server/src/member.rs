//! The one place where requests meet the state: engine, sessions and their connections, behind
//! one mutex.
//!
//! A connection's task hands over a batch of requests and has the replies in its outbox when
//! [`Member::submit`] returns; the events that they cause are in the outboxes of those who watch.
//! [`State::propose`] is the seam to the log: here an entry is committed by being applied.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use synod_core::digest_identity;
use synod_core::engine::{Applied, Engine, Fired, Reader};
use synod_core::model::limits::{REAP_BATCH_MAX, REPLY_BYTES_MAX};
use synod_core::model::{
    Code, Entry, Identity, Password, Refusal, Request, Response, SessionId, Write, Zxid,
};
use synod_core::seams::{Clock, Entropy};
use synod_core::wire::{
    ConnectReply, ConnectRequest, Refused, Shape, SubmittedRequest, XID_PING, encode_refusal,
    encode_reply,
};

use crate::config::Config;
use crate::counters::{Counters, Latency, count};
use crate::expiry::{Deadline, Expiry};
use crate::limits::{BATCH_MICROS_MAX, EXPIRY_BATCH_MAX, IDENTITIES_MAX};
use crate::outbox::Fate;
use crate::roster::Peer;

/// There is one leader, and never another.
const TERM: u64 = 1;

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

/// An open session.
struct Live {
    timeout_ms: u32,
    deadline: Deadline,
    attachment: Zxid,
    /// Where its events go; `None` while it has no connection.
    peer: Option<Arc<Peer>>,
}

struct State {
    engine: Engine,
    /// Looked up only, never iterated: its order cannot show.
    sessions: HashMap<SessionId, Live, foldhash::fast::RandomState>,
    expiry: Expiry,
    last_session: i64,
    /// Kept between calls for its capacity; empty outside of them.
    fired: Vec<Fired>,
    /// Whose tasks are to be woken when the lock is given back.
    woken: Vec<Arc<Peer>>,
    counters: Arc<Counters>,
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
        if hello.last_zxid > state.engine.last_zxid() {
            return Err(Unwelcome::Ahead);
        }
        let time_ms = self.clock.wall_ms();
        let (proposer, password, request) = if hello.session == SessionId::SYSTEM {
            state.last_session += 1;
            let id = SessionId(state.last_session);
            let mut password = Password([0; 16]);
            self.entropy.fill(&mut password.0);
            (SessionId::SYSTEM, password, Write::CreateSession { id, password, timeout_ms })
        } else {
            let admitted = state.engine.admits(hello.session, &hello.password);
            let password = <[u8; 16]>::try_from(&hello.password[..]).map(Password);
            match (admitted, password) {
                (true, Ok(password)) => (hello.session, password, Write::Attach { timeout_ms }),
                _ => return Err(Unwelcome::SessionOver),
            }
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

/// What came of one request.
struct Answer {
    /// Bytes that wait in the outbox by now.
    waiting_bytes: usize,
    /// The connection ends with this reply.
    closes: bool,
    auth_failed: bool,
}

impl State {
    /// Commits an entry: **the seam to the log**. Its events are in the outboxes when this
    /// returns.
    fn propose(&mut self, entry: &Entry) -> Applied {
        let applied = self.engine.apply(TERM, entry, &mut self.fired);
        self.deliver();
        applied
    }

    /// Commits what no client's request stands behind, or what opens a connection's count.
    fn propose_system(&mut self, session: SessionId, time_ms: i64, request: Write) -> Applied {
        let (attachment, identities) = (Zxid::ZERO, Arc::from([]));
        let entry = Entry { session, attachment, sequence: 0, identities, time_ms, request };
        self.propose(&entry)
    }

    fn deliver(&mut self) {
        for Fired { session, event } in self.fired.drain(..) {
            let live = self.sessions.get(&session);
            if let Some(peer) = live.and_then(|live| live.peer.as_ref()) {
                count(&peer.packets_sent);
                count(&self.counters.packets_sent);
                if peer.outbox.event(&event) {
                    self.woken.push(Arc::clone(peer));
                }
            }
        }
    }

    /// Gives the session to a connection.
    fn seat(&mut self, id: SessionId, attachment: Zxid, timeout_ms: u32, peer: &Arc<Peer>) {
        let now_ms = self.expiry.now_ms(tokio::time::Instant::now());
        let deadline = self.expiry.enter(id, now_ms, timeout_ms);
        let live = Live { timeout_ms, deadline, attachment, peer: Some(Arc::clone(peer)) };
        if let Some(before) = self.sessions.insert(id, live).and_then(|before| before.peer) {
            before.session.store(0, Relaxed);
            before.outbox.end(Fate::Cut);
        }
    }

    /// Something came from the session, over that attachment.
    fn hear(&mut self, seat: &Seat) -> Result<(), Refusal> {
        let now_ms = self.expiry.now_ms(tokio::time::Instant::now());
        match self.sessions.get_mut(&seat.reader.session) {
            Some(live) if live.attachment == seat.attachment => {
                live.deadline.heard(now_ms, live.timeout_ms);
                Ok(())
            }
            Some(_) => Err(Refusal::new(Code::SessionMoved, Code::SessionMoved.rule())),
            None => Err(Refusal::new(Code::SessionExpired, Code::SessionExpired.rule())),
        }
    }

    /// Answers a request of a connection that no longer has its session.
    fn turn_away(&self, peer: &Peer, decoded: Decoded, refusal: Refusal) -> Answer {
        let xid = decoded.map_or_else(|refused| refused.xid, |submitted| submitted.xid);
        let zxid = self.engine.last_zxid();
        let encode = |out: &mut _| encode_reply(out, xid, zxid, &Shape::Empty, &Err(refusal));
        Answer { waiting_bytes: peer.outbox.reply(encode), closes: true, auth_failed: false }
    }

    fn answer(
        &mut self,
        member: &Member,
        seat: &mut Seat,
        peer: &Peer,
        decoded: Decoded,
        time_ms: i64,
    ) -> Answer {
        let SubmittedRequest { mut xid, request, shape } = match decoded {
            Ok(submitted) => submitted,
            Err(refused) => {
                let zxid = self.engine.last_zxid();
                let waiting_bytes = peer.outbox.reply(|out| encode_refusal(out, zxid, &refused));
                return Answer { waiting_bytes, closes: refused.closes, auth_failed: false };
            }
        };
        let (mut closes, mut auth_failed) = (false, false);
        let (zxid, result) = match request {
            None => (Zxid::ZERO, Ok(Response::Done)),
            Some(Request::Write(request)) => {
                seat.sequence += 1;
                let leaving = matches!(request, Write::CloseSession);
                let entry = Entry {
                    session: seat.reader.session,
                    attachment: seat.attachment,
                    sequence: seat.sequence,
                    identities: Arc::clone(&seat.reader.identities),
                    time_ms,
                    request,
                };
                let applied = self.propose(&entry);
                closes = match &applied.result {
                    Ok(_) => leaving,
                    Err(refusal) => matches!(
                        refusal.code,
                        Code::SessionMoved | Code::SessionExpired | Code::SequenceGap
                    ),
                };
                if leaving && closes {
                    self.sessions.remove(&seat.reader.session);
                    peer.session.store(0, Relaxed);
                }
                (applied.zxid, applied.result)
            }
            Some(Request::Auth { scheme, credentials }) => {
                let result = self.authenticate(member, seat, &scheme, &credentials);
                auth_failed = result.is_err();
                closes = auth_failed;
                (Zxid::ZERO, result)
            }
            Some(Request::Read(read)) => {
                let result = self.engine.read(&seat.reader, &read);
                (self.engine.last_zxid(), result)
            }
            Some(Request::Watch(watch)) => {
                let result = self.engine.watch(&seat.reader, &watch, &mut self.fired);
                self.deliver();
                (self.engine.last_zxid(), result)
            }
            Some(Request::Sync { .. }) => (self.engine.last_zxid(), Ok(Response::Done)),
            Some(Request::Ping) => {
                xid = XID_PING;
                (self.engine.last_zxid(), Ok(Response::Done))
            }
        };
        let waiting_bytes = peer.outbox.reply(|out| {
            let start = out.len();
            encode_reply(out, xid, zxid, &shape, &result);
            if out.len() - start > REPLY_BYTES_MAX {
                out.truncate(start);
                let refusal = Refusal::new(Code::Throttled, "a reply has at most 64 MiB");
                encode_reply(out, xid, zxid, &Shape::Empty, &Err(refusal));
            }
        });
        Answer { waiting_bytes, closes, auth_failed }
    }

    /// Adds what the credentials prove to the connection's identities.
    fn authenticate(
        &mut self,
        member: &Member,
        seat: &mut Seat,
        scheme: &str,
        credentials: &[u8],
    ) -> Result<Response, Refusal> {
        let mut identities = seat.reader.identities.to_vec();
        match scheme {
            // Every connection has proved its address already.
            "ip" => return Ok(Response::Done),
            "digest" => {
                // It never fails: what is no user and password proves nothing.
                let proved = digest_identity(credentials);
                if proved.is_some() && proved == member.super_digest {
                    identities.push(Identity::new("super", ""));
                }
                identities.extend(proved);
            }
            _ => {
                let rule = "the scheme of an authentication is digest or ip";
                return Err(Refusal::new(Code::AuthFailed, rule));
            }
        }
        let mut unique: Vec<Identity> = Vec::with_capacity(identities.len());
        for identity in identities {
            if !unique.contains(&identity) {
                unique.push(identity);
            }
        }
        if unique.len() > IDENTITIES_MAX {
            return Err(Refusal::new(Code::AuthFailed, "a connection has at most 64 identities"));
        }
        seat.reader.identities = unique.into();
        self.engine.set_identities(seat.reader.session, &seat.reader.identities);
        Ok(Response::Done)
    }
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
