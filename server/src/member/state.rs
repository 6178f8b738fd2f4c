//! The state of a member, and what becomes of one request. Everything here is done with the
//! member's lock held.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hashbrown::HashMap;
use synod_core::digest_identity;
use synod_core::engine::{Applied, Engine, Fired};
use synod_core::model::limits::REPLY_BYTES_MAX;
use synod_core::model::{
    Code, Entry, Identity, Refusal, Request, Response, SessionId, Write, Zxid,
};
use synod_core::wire::{Shape, SubmittedRequest, encode_refusal, encode_reply};

use super::{Decoded, Member, Seat};
use crate::counters::{Counters, count};
use crate::expiry::{Deadline, Expiry};
use crate::limits::IDENTITIES_MAX;
use crate::outbox::Fate;
use crate::roster::Peer;

/// There is one leader, and never another.
const TERM: u64 = 1;

/// An open session.
pub(super) struct Live {
    pub(super) timeout_ms: u32,
    pub(super) deadline: Deadline,
    pub(super) attachment: Zxid,
    /// Where its events go; `None` while it has no connection.
    pub(super) peer: Option<Arc<Peer>>,
}

pub(super) struct State {
    pub(super) engine: Engine,
    /// Looked up only, never iterated: its order cannot show.
    pub(super) sessions: HashMap<SessionId, Live, foldhash::fast::RandomState>,
    pub(super) expiry: Expiry,
    pub(super) last_session: i64,
    /// Kept between calls for its capacity; empty outside of them.
    pub(super) fired: Vec<Fired>,
    /// Whose tasks are to be woken when the lock is given back.
    pub(super) woken: Vec<Arc<Peer>>,
    pub(super) counters: Arc<Counters>,
}

/// What came of one request.
pub(super) struct Answer {
    /// Bytes that wait in the outbox by now.
    pub(super) waiting_bytes: usize,
    /// The connection ends with this reply.
    pub(super) closes: bool,
    pub(super) auth_failed: bool,
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
    pub(super) fn propose_system(
        &mut self,
        session: SessionId,
        time_ms: i64,
        request: Write,
    ) -> Applied {
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
    pub(super) fn seat(
        &mut self,
        id: SessionId,
        attachment: Zxid,
        timeout_ms: u32,
        peer: &Arc<Peer>,
    ) {
        let now_ms = self.expiry.now_ms(tokio::time::Instant::now());
        let deadline = self.expiry.enter(id, now_ms, timeout_ms);
        let live = Live { timeout_ms, deadline, attachment, peer: Some(Arc::clone(peer)) };
        if let Some(before) = self.sessions.insert(id, live).and_then(|before| before.peer) {
            before.session.store(0, Relaxed);
            before.outbox.end(Fate::Cut);
        }
    }

    /// Something came from the session, over that attachment.
    pub(super) fn hear(&mut self, seat: &Seat) -> Result<(), Refusal> {
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
    pub(super) fn turn_away(&self, peer: &Peer, decoded: Decoded, refusal: Refusal) -> Answer {
        let xid = decoded.map_or_else(|refused| refused.xid, |submitted| submitted.xid);
        let zxid = self.engine.last_zxid();
        let encode = |out: &mut _| encode_reply(out, xid, zxid, &Shape::Empty, &Err(refusal));
        Answer { waiting_bytes: peer.outbox.reply(encode), closes: true, auth_failed: false }
    }

    pub(super) fn answer(
        &mut self,
        member: &Member,
        seat: &mut Seat,
        peer: &Peer,
        decoded: Decoded,
        time_ms: i64,
    ) -> Answer {
        let SubmittedRequest { xid, request, shape } = match decoded {
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
            Some(Request::Sync { .. } | Request::Ping) => {
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
