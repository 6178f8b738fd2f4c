//! The ground inside this process: a coordinator that a client calls directly.
//!
//! Its log is volatile: an entry is committed by being applied, in the caller, under one mutex.
//! There is no task and no hop, so a request is done before `send` returns and a guard's drop
//! needs no runtime. A session ends when its client does; it cannot expire by time, since whoever
//! holds it lives in the same process as the one who would judge it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use async_trait::async_trait;
use hashbrown::HashMap;

use super::ground::{Call, ConnectError, Failure, Ground, Hello, Link, ServerKind, Welcome};
use super::inbox::{Inbox, SessionStatus};
use crate::auth::digest_identity;
use crate::engine::{Applied, Engine, Fired, Reader};
use crate::model::limits::{
    REAP_BATCH_MAX, REAP_INTERVAL_MS, SESSION_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MIN,
};
use crate::model::{
    Code, Entry, Identity, Password, Refusal, Request, Response, SessionEnd, SessionId, Write, Zxid,
};
use crate::seams::{Clock, Entropy, OsEntropy, SystemClock};

/// There is one leader, and never another.
const TERM: u64 = 1;

struct Connection {
    inbox: Arc<Inbox>,
    attachment: Zxid,
    /// The number of the last write that came through it.
    sequence: u64,
    identities: Arc<[Identity]>,
}

struct State {
    engine: Engine,
    /// Looked up only, never iterated: its order cannot show.
    connections: HashMap<SessionId, Connection, foldhash::fast::RandomState>,
    last_session: i64,
    reap_at_ms: i64,
    /// Kept between calls for its capacity; empty outside of them.
    fired: Vec<Fired>,
}

/// A coordinator in this process.
pub(crate) struct Coordinator {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Coordinator {
    pub(crate) fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Coordinator {
        let now_ms = clock.wall_ms();
        let state = State {
            engine: Engine::new(),
            connections: HashMap::default(),
            // As ZooKeeper numbers sessions: the time of the start in the upper part, then one
            // after the other, so that a later coordinator does not repeat an earlier one's.
            last_session: (now_ms & 0xFF_FFFF_FFFF) << 16,
            reap_at_ms: now_ms.saturating_add(REAP_INTERVAL_MS),
            fired: Vec::new(),
        };
        Coordinator { state: Mutex::new(state), clock, entropy }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in the state machine leaves it half changed: nobody may go on with it.
        self.state.lock().expect("the coordinator has not panicked")
    }

    /// Opens or re-attaches a session; what held it before is cut off.
    pub(crate) fn attach(
        self: &Arc<Coordinator>,
        hello: &Hello,
        inbox: Arc<Inbox>,
    ) -> Result<(SessionId, Password, Duration, EmbeddedLink), ConnectError> {
        let timeout_ms = u32::try_from(hello.timeout.as_millis())
            .unwrap_or(u32::MAX)
            .clamp(SESSION_TIMEOUT_MS_MIN, SESSION_TIMEOUT_MS_MAX);
        let mut wakers = Vec::new();
        let mut state = self.lock();
        if let Some((id, password)) = hello.resume
            && !state.engine.admits(id, &password.0)
        {
            return Err(ConnectError::SessionOver);
        }
        if hello.last_zxid > state.engine.last_zxid() {
            let reason = format!("the client has seen {}, this coordinator not", hello.last_zxid);
            return Err(ConnectError::Unreachable(reason));
        }
        let (session, password, request) = match hello.resume {
            Some((id, password)) => (id, password, Write::Attach { timeout_ms }),
            None => {
                state.last_session += 1;
                let id = SessionId(state.last_session);
                let mut password = Password([0; 16]);
                self.entropy.fill(&mut password.0);
                (SessionId::SYSTEM, password, Write::CreateSession { id, password, timeout_ms })
            }
        };
        let applied = self.apply(&mut state, session, Zxid::ZERO, 0, &[], request, &mut wakers);
        let Ok(Response::Attached { session, attachment }) = applied.result else {
            return Err(ConnectError::SessionOver);
        };
        state.engine.disconnect(session);
        let identities = Arc::from([]);
        let connection = Connection { inbox: inbox.clone(), attachment, sequence: 0, identities };
        let before = state.connections.insert(session, connection);
        drop(state);
        if let Some(before) = before.filter(|before| !Arc::ptr_eq(&before.inbox, &inbox)) {
            before.inbox.set_status(SessionStatus::Disconnected);
        }
        wakers.into_iter().for_each(Waker::wake);
        let link = EmbeddedLink { coordinator: Arc::clone(self), session, attachment, inbox };
        Ok((session, password, Duration::from_millis(timeout_ms.into()), link))
    }

    /// Commits an entry: applies it and delivers its events, in order, under the lock.
    #[expect(clippy::too_many_arguments, reason = "the fields of an entry, and where it goes")]
    fn apply(
        &self,
        state: &mut State,
        session: SessionId,
        attachment: Zxid,
        sequence: u64,
        identities: &[Identity],
        request: Write,
        wakers: &mut Vec<Waker>,
    ) -> Applied {
        let time_ms = self.clock.wall_ms();
        let identities = Arc::from(identities);
        let entry = Entry { session, attachment, sequence, identities, time_ms, request };
        state.commit(&entry, wakers)
    }

    /// Deletes containers and TTL znodes whose time has come.
    fn reap(&self, state: &mut State, now_ms: i64, wakers: &mut Vec<Waker>) {
        state.reap_at_ms = now_ms.saturating_add(REAP_INTERVAL_MS);
        for path in state.engine.reapable(now_ms, REAP_BATCH_MAX) {
            let request = Write::Reap { path };
            self.apply(state, SessionId::SYSTEM, Zxid::ZERO, 0, &[], request, wakers);
        }
    }
}

#[cfg(feature = "testing")]
impl Coordinator {
    /// Ends a session as if it had not been heard of for its timeout. Whether it was open.
    pub(crate) fn expire(&self, id: SessionId) -> bool {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let Some(info) = state.engine.session(id) else { return false };
        let (attachment, sequence) = (info.attachment, info.sequence);
        let request = Write::ExpireSession { id, attachment, sequence };
        self.apply(&mut state, SessionId::SYSTEM, Zxid::ZERO, 0, &[], request, &mut wakers);
        let connection = state.connections.remove(&id);
        drop(state);
        if let Some(connection) = connection {
            connection.inbox.set_status(SessionStatus::Disconnected);
        }
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// Reaps now, whatever the interval.
    pub(crate) fn reap_now(&self) {
        let mut wakers = Vec::new();
        let now_ms = self.clock.wall_ms();
        self.reap(&mut self.lock(), now_ms, &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Looks at the state machine, or changes it behind everybody's back.
    pub(crate) fn with_engine<T>(&self, look: impl FnOnce(&mut Engine) -> T) -> T {
        look(&mut self.lock().engine)
    }
}

impl State {
    fn commit(&mut self, entry: &Entry, wakers: &mut Vec<Waker>) -> Applied {
        let applied = self.engine.apply(TERM, entry, &mut self.fired);
        self.deliver(wakers);
        applied
    }

    fn deliver(&mut self, wakers: &mut Vec<Waker>) {
        for Fired { session, event } in self.fired.drain(..) {
            if let Some(connection) = self.connections.get(&session) {
                connection.inbox.event(&event, wakers);
            }
        }
    }
}

/// A connection to a [`Coordinator`].
pub(crate) struct EmbeddedLink {
    coordinator: Arc<Coordinator>,
    session: SessionId,
    attachment: Zxid,
    inbox: Arc<Inbox>,
}

impl EmbeddedLink {
    /// Breaks the connection: its watches are gone, the session stays.
    #[cfg(feature = "testing")]
    pub(crate) fn disconnect(&self) {
        let mut state = self.coordinator.lock();
        if state.connections.get(&self.session).is_some_and(|c| c.attachment == self.attachment) {
            state.connections.remove(&self.session);
            state.engine.disconnect(self.session);
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn session(&self) -> SessionId {
        self.session
    }
}

impl Link for EmbeddedLink {
    fn send(&self, call: Call) {
        let Call { request, reply_to, arm } = call;
        let mut wakers = Vec::new();
        let mut state = self.coordinator.lock();
        let state_ref = &mut *state;
        let connection = state_ref.connections.get_mut(&self.session);
        let Some(connection) = connection.filter(|c| c.attachment == self.attachment) else {
            drop(state);
            self.inbox.set_status(SessionStatus::Disconnected);
            let failure = Failure::Disconnected { maybe_applied: false };
            return self.inbox.reply(reply_to, arm, Err(failure));
        };
        let identities = Arc::clone(&connection.identities);
        let mut closed = false;
        let result = match request {
            Request::Write(request) => {
                connection.sequence += 1;
                closed = matches!(request, Write::CloseSession);
                let time_ms = self.coordinator.clock.wall_ms();
                let entry = Entry {
                    session: self.session,
                    attachment: self.attachment,
                    sequence: connection.sequence,
                    identities,
                    time_ms,
                    request,
                };
                let applied = state_ref.commit(&entry, &mut wakers);
                let until_reap_ms = state_ref.reap_at_ms.saturating_sub(time_ms);
                // Further away than it was ever set: the clock was set back.
                if !(1..=REAP_INTERVAL_MS).contains(&until_reap_ms) {
                    self.coordinator.reap(state_ref, time_ms, &mut wakers);
                }
                applied
                    .result
                    .map(|response| (response, applied.zxid))
                    .map_err(|refusal| (refusal, applied.zxid))
            }
            other => {
                let reader = Reader { session: self.session, identities };
                let result = self.answer(state_ref, &reader, other);
                state_ref.deliver(&mut wakers);
                let zxid = state_ref.engine.last_zxid();
                result.map(|response| (response, zxid)).map_err(|refusal| (refusal, zxid))
            }
        };
        let closed = closed && result.is_ok();
        if closed {
            state_ref.connections.remove(&self.session);
        }
        let reply = result.map_err(|(refusal, zxid)| Failure::Refused(refusal, zxid));
        if arm.is_some() {
            // Under the lock: a watch that this reply arms must miss no event after it.
            self.inbox.reply(reply_to, arm, reply);
            drop(state);
        } else {
            drop(state);
            self.inbox.reply(reply_to, None, reply);
        }
        if closed {
            self.inbox.set_status(SessionStatus::Over(SessionEnd::Closed));
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl EmbeddedLink {
    /// Answers what does not go through the log.
    fn answer(
        &self,
        state: &mut State,
        reader: &Reader,
        request: Request,
    ) -> Result<Response, Refusal> {
        match request {
            Request::Read(read) => state.engine.read(reader, &read),
            Request::Watch(watch) => state.engine.watch(reader, &watch, &mut state.fired),
            Request::Sync { .. } | Request::Ping => Ok(Response::Done),
            Request::Reconfig(_) => {
                let rule = "a coordinator alone has no members to change";
                Err(Refusal::new(Code::Unimplemented, rule))
            }
            Request::Auth { scheme, credentials } => {
                let proved = match scheme.as_str() {
                    "digest" => digest_identity(&credentials),
                    _ => None,
                };
                let rule = "credentials are of scheme digest, user:password";
                let proved = proved.ok_or(Refusal::new(Code::AuthFailed, rule))?;
                if !reader.identities.contains(&proved) {
                    let identities: Arc<[Identity]> =
                        reader.identities.iter().cloned().chain([proved]).collect();
                    state.engine.set_identities(self.session, &identities);
                    if let Some(connection) = state.connections.get_mut(&self.session) {
                        connection.identities = identities;
                    }
                }
                Ok(Response::Done)
            }
            // It knows no users.
            Request::Sasl(_) => Ok(Response::Sasl(None)),
            // Writes went through the log.
            Request::Write(_) => Err(Refusal::new(Code::SystemError, Code::SystemError.rule())),
        }
    }
}

/// The embedded ground.
pub(crate) struct Embedded {
    coordinator: Arc<Coordinator>,
}

/// The coordinators that have a name; each lives as long as one of its clients.
static NAMED: LazyLock<Mutex<BTreeMap<String, Weak<Coordinator>>>> = LazyLock::new(Mutex::default);

fn with_defaults() -> Arc<Coordinator> {
    Arc::new(Coordinator::new(Arc::new(SystemClock), Arc::new(OsEntropy)))
}

impl Embedded {
    /// A coordinator of its own.
    pub(crate) fn private() -> Embedded {
        Embedded { coordinator: with_defaults() }
    }

    /// The coordinator of that name in this process.
    pub(crate) fn shared(name: &str) -> Embedded {
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        named.retain(|_, coordinator| coordinator.strong_count() > 0);
        if let Some(coordinator) = named.get(name).and_then(Weak::upgrade) {
            return Embedded { coordinator };
        }
        let coordinator = with_defaults();
        named.insert(name.to_owned(), Arc::downgrade(&coordinator));
        Embedded { coordinator }
    }
}

#[async_trait]
impl Ground for Embedded {
    async fn connect(&self, hello: Hello, inbox: Arc<Inbox>) -> Result<Welcome, ConnectError> {
        let (session, password, timeout, link) = self.coordinator.attach(&hello, inbox)?;
        Ok(Welcome { session, password, timeout, read_only: false, link: Box::new(link) })
    }

    fn is_inline(&self) -> bool {
        true
    }

    fn kind(&self) -> ServerKind {
        ServerKind::Embedded
    }
}
