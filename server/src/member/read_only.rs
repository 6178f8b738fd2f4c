//! Read-only connections: what clients that ask for it get from a member while nobody leads.
//!
//! Their session is this member's alone, and ends with its connection: it stands in no log, holds
//! nothing, and no answer to it says anything about sessions that do. It sees the state as this
//! member has it, which may be old. Once there is a leader the connection is cut, so that the
//! client comes back to a session in full.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use synod_core::engine::Reader;
use synod_core::model::{Code, Identity, Request, SessionId, Write, Zxid};
use synod_core::wire::{ConnectReply, ConnectRequest, SubmittedRequest};
use tokio::time::{Instant, sleep_until};

use super::open::{Ticket, Unwelcome};
use super::seat::Seat;
use super::state::{Log, Role, State};
use super::turn::refused;
use super::{Decoded, Member};
use crate::limits::READ_ONLY_AFTER_MS;
use crate::outbox::Fate;
use crate::roster::Peer;

/// The bit of a session's number that says that it was one member's alone. The numbers of others
/// have a zero there: see [`first_session`](super::first_session).
const LOCAL: i64 = 1 << 55;

const AFTER: Duration = Duration::from_millis(READ_ONLY_AFTER_MS);

/// Whether the number is that of a read-only session, of this member or another.
pub(super) fn is_local(session: SessionId) -> bool {
    session.0 & LOCAL != 0
}

/// What becomes of a request on a read-only connection.
pub(super) fn admit(decoded: Decoded) -> Decoded {
    let submitted = decoded.request.as_ref().ok();
    match submitted.map(|SubmittedRequest { request, .. }| request) {
        Some(Request::Write(Write::CloseSession)) => decoded,
        // A sync brings a member up to the leader.
        Some(Request::Write(_) | Request::Sync { .. } | Request::Reconfig(_)) => {
            refused(decoded, Code::NotReadOnly)
        }
        _ => decoded,
    }
}

impl State {
    /// From when on this member answers read-only, if nobody leads until then. A member that has
    /// applied nothing yet has nothing to show.
    fn read_only_from(&self) -> Option<Instant> {
        let shows = self.log == Log::Replicated && self.applied_index > 0;
        self.looking_since.filter(|_| shows).map(|since| since + AFTER)
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only_from().is_some_and(|from| from <= Instant::now())
    }

    /// Notes a new role. With a leader, known or own, the read-only connections end.
    pub(super) fn note_role(&mut self, role: Role) {
        self.role = role;
        if role == Role::Looking {
            self.looking_since = self.looking_since.or_else(|| Some(Instant::now()));
            return;
        }
        self.looking_since = None;
        let seats = self.seats.iter().filter(|(_, seat)| seat.read_only);
        let mut sessions: Vec<SessionId> = seats.map(|(id, _)| *id).collect();
        sessions.sort_unstable();
        for session in sessions {
            self.engine.disconnect(session);
            self.unseat(session, Fate::Cut);
        }
    }
}

impl Member {
    /// Waits until this member answers read-only.
    pub(super) async fn until_read_only(&self) {
        loop {
            let (from, now) = (self.lock().read_only_from(), Instant::now());
            match from {
                Some(from) if from <= now => return,
                // Before that it cannot be: it has a leader now, or nothing to show.
                from => sleep_until(from.unwrap_or(now + AFTER)).await,
            }
        }
    }

    /// Gives a connection a session of this member alone.
    pub(super) fn open_read_only(
        &self,
        hello: &ConnectRequest,
        (proved, timeout_ms): (Option<Identity>, u32),
        peer: &Arc<Peer>,
    ) -> Result<Ticket, Unwelcome> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if !state.is_read_only() {
            return Err(Unwelcome::Adrift);
        }
        if hello.last_zxid > state.engine.last_zxid() {
            return Err(Unwelcome::Ahead);
        }
        state.last_session += 1;
        let session = SessionId(state.last_session | LOCAL);
        // Nobody will be let in by it.
        let mut password = [0; 16];
        self.entropy.fill(&mut password);
        let reply = ConnectReply {
            timeout_ms: timeout_ms as i32,
            session,
            password: password.to_vec().into(),
            read_only: Some(true),
        };
        peer.outbox.reply(|out| reply.encode(out));
        peer.session.store(session.0, Relaxed);
        peer.timeout_ms.store(timeout_ms, Relaxed);
        state.engine.open_local(session);
        let identities = Member::identities(peer, proved);
        let mut seat = Seat::new(Arc::clone(peer), Reader { session, identities }, Zxid::ZERO);
        seat.read_only = true;
        state.seats.insert(session, seat);
        self.unlock(guard);
        let silence_max = Some(Duration::from_millis(timeout_ms.into()));
        Ok(Ticket { session, attachment: Zxid::ZERO, silence_max })
    }
}
