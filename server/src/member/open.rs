//! How a connection gets its session: a new one, or its own again. Both go through the log.

use std::sync::Arc;
use std::time::Duration;

use synod_core::engine::Reader;
use synod_core::model::{Identity, Password, SessionId, Write, Zxid};
use synod_core::wire::ConnectRequest;
use tokio::sync::oneshot;

use super::state::State;
use super::{Member, read_only};
use crate::bug::Bug;
use crate::roster::Peer;

/// Why a connection gets no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwelcome {
    /// The client has seen more than this member has applied.
    Ahead,
    /// There is no such session, or it has another password.
    SessionOver,
    /// The leader was lost while it was opened: whether it was is not known.
    Adrift,
    /// The state is at its bound in memory, and what is kept for sessions is used up too.
    Full,
}

/// A connection's hold on its session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(crate) session: SessionId,
    pub(crate) attachment: Zxid,
    /// How long its connection may be silent, where nobody expires the session.
    pub(crate) silence_max: Option<Duration>,
}

/// A connection that waits for its session.
pub(super) struct Opening {
    pub(super) peer: Arc<Peer>,
    /// Who it will be; the session is not known yet.
    pub(super) reader: Reader,
    pub(super) password: Password,
    pub(super) read_only: Option<bool>,
    /// The place of its entry among everything that this member has proposed.
    pub(super) number: u64,
    pub(super) opened: oneshot::Sender<(SessionId, Zxid)>,
}

/// Takes an opening back that is waited for no longer.
struct Waiting<'a> {
    member: &'a Member,
    ticket: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.member.lock();
        // Without a leader its entry may still be here. It would open a session for nobody.
        if let Some(opening) = state.openings.remove(&self.ticket) {
            state.outgoing.withdraw(opening.number);
        }
    }
}

impl Member {
    /// Opens or re-attaches a session; the connection that had it is cut. The reply is in the
    /// outbox when this returns, before any event of the session. Dropping the future takes
    /// nothing back: a session that was opened expires when nobody comes for it.
    /// `proved` is who the client is besides its address. A client that asks for it may get a
    /// [read-only](read_only) session, if nobody leads.
    pub(crate) async fn open(
        &self,
        hello: &ConnectRequest,
        proved: Option<Identity>,
        peer: &Arc<Peer>,
    ) -> Result<Ticket, Unwelcome> {
        let (least, most) = (*self.timeouts_ms.start(), *self.timeouts_ms.end());
        let timeout_ms = u32::try_from(hello.timeout_ms).unwrap_or(0).clamp(least, most);
        if read_only::is_local(hello.session) {
            // It has ended with its connection.
            return Err(Unwelcome::SessionOver);
        }
        if hello.read_only != Some(true) || hello.session != SessionId::SYSTEM {
            return self.open_in_full(hello, (proved, timeout_ms), peer).await;
        }
        tokio::select! {
            biased;
            opened = self.open_in_full(hello, (proved.clone(), timeout_ms), peer) => opened,
            () = self.until_read_only() => self.open_read_only(hello, (proved, timeout_ms), peer),
        }
    }

    /// Opens or re-attaches a session in the log.
    async fn open_in_full(
        &self,
        hello: &ConnectRequest,
        (proved, timeout_ms): (Option<Identity>, u32),
        peer: &Arc<Peer>,
    ) -> Result<Ticket, Unwelcome> {
        let resumes = hello.session != SessionId::SYSTEM;
        let (mut current, unknown) = {
            let state = self.lock();
            let current = hello.last_zxid <= state.engine.last_zxid();
            (current, resumes && state.engine.session(hello.session).is_none())
        };
        if !current || unknown {
            // Perhaps this member is only behind the others.
            if !self.barrier().await {
                return Err(Unwelcome::Adrift);
            }
            current = hello.last_zxid <= self.lock().engine.last_zxid();
        }
        let reader =
            Reader { session: hello.session, identities: Member::identities(peer, proved) };
        let (opened, opening) = oneshot::channel();
        let ticket = {
            let mut guard = self.lock();
            let state = &mut *guard;
            if resumes && !state.engine.admits(hello.session, &hello.password) {
                return Err(Unwelcome::SessionOver);
            }
            if !current {
                return Err(Unwelcome::Ahead);
            }
            if !resumes && self.has_no_room(state) {
                return Err(Unwelcome::Full);
            }
            let mut ticket = [0; 8];
            self.entropy.fill(&mut ticket);
            let ticket = u64::from_be_bytes(ticket);
            let (proposer, password, request) = if resumes {
                let password = <[u8; 16]>::try_from(&hello.password[..]);
                let password = password.map_err(|_| Unwelcome::SessionOver)?;
                (hello.session, Password(password), Write::Attach { timeout_ms })
            } else {
                state.last_session += 1;
                let id = SessionId(state.last_session);
                let mut password = Password([0; 16]);
                self.entropy.fill(&mut password.0);
                (SessionId::SYSTEM, password, Write::CreateSession { id, password, timeout_ms })
            };
            let peer = Arc::clone(peer);
            let (read_only, number) = (hello.read_only, state.outgoing.upcoming());
            let opening = Opening { peer, reader, password, read_only, number, opened };
            state.openings.insert(ticket, opening);
            state.propose_system(proposer, ticket, &*self.clock, request);
            self.unlock(guard);
            ticket
        };
        let _waiting = Waiting { member: self, ticket };
        match opening.await {
            Ok((session, attachment)) => Ok(Ticket { session, attachment, silence_max: None }),
            Err(_) if self.is_over(hello) => Err(Unwelcome::SessionOver),
            Err(_) => Err(Unwelcome::Adrift),
        }
    }

    /// Who a connection is from its beginning.
    pub(super) fn identities(peer: &Peer, proved: Option<Identity>) -> Arc<[Identity]> {
        let ip = Identity::new("ip", peer.address.ip().to_canonical().to_string());
        [ip].into_iter().chain(proved).collect()
    }

    /// Whether the session that the client asked for has ended: known once its entry is applied.
    fn is_over(&self, hello: &ConnectRequest) -> bool {
        hello.session != SessionId::SYSTEM && self.lock().engine.session(hello.session).is_none()
    }

    /// Waits until everything that was committed before is applied here; whether it is.
    pub(crate) async fn barrier(&self) -> bool {
        let passed = {
            let mut state = self.lock();
            let passed = state.barrier();
            self.unlock(state);
            passed
        };
        // An error says that nobody will ever know: the member ends, for instance.
        passed.await.is_ok()
    }

    /// The connection is gone: so are its watches. The session stays.
    pub(crate) fn leave(&self, ticket: &Ticket) {
        let mut guard = self.lock();
        let state: &mut State = &mut guard;
        let seat = state.seats.get(&ticket.session);
        if seat.is_some_and(|seat| seat.attachment == ticket.attachment) {
            state.unseat(ticket.session, crate::outbox::Fate::Cut);
            state.engine.disconnect(ticket.session);
            state.release_stalled();
        }
        self.unlock(guard);
    }

    /// Cuts the connections whose writes went to a leader that is lost: nobody can say what became
    /// of them, and nobody may send them again.
    pub(crate) fn lose_leader(&self) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.planted.is(Bug::KeepsAdrift) {
            return;
        }
        let taken = state.outgoing.taken;
        let mut adrift: Vec<SessionId> =
            state.seats.iter().filter(|(_, seat)| seat.awaits(taken)).map(|(id, _)| *id).collect();
        adrift.sort_unstable();
        for session in adrift {
            state.engine.disconnect(session);
            state.unseat(session, crate::outbox::Fate::Cut);
        }
        state.openings.retain(|_, opening| opening.number > taken);
        state.release_stalled();
        self.unlock(guard);
    }
}
