//! The state of a member, and what becomes of one request. Everything here is done with the
//! member's lock held.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hashbrown::HashMap;
use synod_core::engine::{Applied, Engine, Fired, QuotaWarning};
use synod_core::model::{Code, Entry, Refusal, Response, SessionId, Write, Zxid};
use synod_core::seams::Clock;
use synod_core::wire::{ConnectReply, encode_entry};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::open::Opening;
use super::outgoing::{Outgoing, Waiter, bytes_of, weight};
use super::replica::Digests;
use super::seat::{Seat, Slot};
use super::watchman::Watchman;
use crate::bug::{Bug, Planted};
use crate::counters::{Counters, Latency, count};
use crate::outbox::Fate;
use crate::roster::Peer;
use crate::seldom::Seldom;

/// Where entries are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    /// Here and now: nothing outlives the process, and there is no other member. There is one
    /// leader, and never another.
    Volatile,
    /// In the replicated log: an entry is applied when the log says so.
    Replicated,
}

/// The term of a volatile log.
const TERM: u64 = 1;

/// What a member is to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// There are no others.
    Standalone,
    /// It leads.
    Leader,
    /// Another leads.
    Follower,
    /// Another leads, and this one has no vote.
    Observer,
    /// Nobody is known to lead.
    #[default]
    Looking,
}

impl Role {
    /// What a member is called that follows.
    pub(crate) fn of_follower(votes: bool) -> Role {
        if votes { Role::Follower } else { Role::Observer }
    }
}

pub(super) struct State {
    /// Mistakes for tests.
    pub(super) planted: Planted,
    pub(super) engine: Engine,
    pub(super) log: Log,
    pub(super) role: Role,
    /// Since when nobody is known to lead.
    pub(super) looking_since: Option<Instant>,
    /// How many members there are, itself among them.
    pub(super) members: usize,
    /// Sessions that have their connection here. Iterated only where order cannot show.
    pub(super) seats: HashMap<SessionId, Seat, foldhash::fast::RandomState>,
    /// Connections that wait for their session.
    pub(super) openings: BTreeMap<u64, Opening>,
    /// What is to be taken to the leader.
    pub(super) outgoing: Outgoing,
    /// Looks for dead sessions, where that is this member's office.
    pub(super) watchman: Option<Watchman>,
    pub(super) last_session: i64,
    /// The place of the last entry in the replicated log that was applied.
    pub(super) applied_index: u64,
    /// Those who wait for an entry to be applied.
    pub(super) barriers: BTreeMap<u64, Vec<Waiter>>,
    /// What the members compare.
    pub(super) digests: Digests,
    /// Bytes of the writes that are on their way through the log.
    pub(super) unapplied_bytes: usize,
    /// The state has reached its bound in memory.
    pub(super) is_sated: bool,
    /// Connections that wait for them to become fewer.
    pub(super) stalled: Vec<Arc<Peer>>,
    /// The connection whose turn it is: it needs no notice of what is done for it.
    pub(super) serving: Option<u64>,
    /// Whose tasks are to be woken when the lock is given back.
    pub(super) woken: Vec<Arc<Peer>>,
    /// Log lines that clients can cause.
    pub(super) quota_lines: Seldom,
    pub(super) expiry_lines: Seldom,
    /// How long the requests took that were answered since the lock was taken.
    pub(super) latency: Latency,
    pub(super) counters: Arc<Counters>,
    /// Who is told of each entry that is applied.
    #[cfg(feature = "testing")]
    pub(super) tap: Option<Arc<dyn crate::Tap>>,
}

impl State {
    /// Hands an entry to the log: **the seam**. A volatile log has applied it when this returns.
    pub(super) fn propose(&mut self, mut entry: Entry, clock: &dyn Clock) {
        match self.log {
            Log::Volatile => {
                entry.time_ms = clock.wall_ms();
                self.commit(TERM, &entry);
            }
            Log::Replicated => {
                let mut encoded = bytes::BytesMut::with_capacity(weight(&entry.request, &[]));
                encode_entry(&mut encoded, &entry);
                let pinned = matches!(entry.request, Write::ExpireSession { .. });
                let entry = encoded.freeze();
                self.outgoing.propose(entry, pinned);
            }
        }
    }

    /// Proposes what no connection's count holds.
    pub(super) fn propose_system(
        &mut self,
        session: SessionId,
        ticket: u64,
        clock: &dyn Clock,
        request: Write,
    ) {
        let (attachment, identities) = (Zxid::ZERO, Arc::from([]));
        let entry =
            Entry { session, attachment, sequence: ticket, identities, time_ms: 0, request };
        self.outgoing.next_number();
        self.propose(entry, clock);
    }

    /// Applies an entry that is committed, tells those who watch, and answers who asked if that
    /// is a connection of this member.
    pub(super) fn commit(&mut self, term: u64, entry: &Entry) {
        // Events first: nobody sees a change before being told of it.
        let mut late = self.planted.is(Bug::EventsLate).then(Vec::new);
        let (engine, mut telling) = self.telling();
        let applied = match &mut late {
            None => engine.apply(term, entry, &mut telling),
            Some(late) => engine.apply(term, entry, late),
        };
        self.warn_of_quota();
        #[cfg(feature = "testing")]
        if let Some(tap) = &self.tap {
            tap.applied(applied.zxid, entry);
        }
        match &entry.request {
            Write::CreateSession { timeout_ms, .. } | Write::Attach { timeout_ms } => {
                self.attached(entry.sequence, *timeout_ms, applied.result);
            }
            Write::ExpireSession { id, .. } => {
                match applied.result {
                    Ok(_) => {
                        if let Some(kept_back) = self.expiry_lines.may_say(Instant::now()) {
                            tracing::info!(session = %id, kept_back, "a session has expired");
                        }
                        count(&self.counters.sessions_expired);
                        self.unseat(*id, Fate::Cut);
                        self.watch_over(|watchman| watchman.forget(*id));
                    }
                    // It was heard of after it was judged.
                    Err(_) => {
                        let info = self.engine.session(*id);
                        self.watch_over(|watchman| watchman.spare(*id, info));
                    }
                }
            }
            Write::Reap { .. } | Write::Configure { .. } => {}
            request => {
                let closes = matches!(request, Write::CloseSession) && applied.result.is_ok();
                self.complete(entry, applied);
                if closes {
                    self.unseat(entry.session, Fate::Drain);
                    self.watch_over(|watchman| watchman.forget(entry.session));
                }
            }
        }
        if let Some(late) = late {
            self.telling().1.extend(late);
        }
    }

    /// Notes who the members are, where that is news.
    pub(super) fn configure(&mut self, term: u64, members: &str) {
        if self.engine.config_is(members) {
            return;
        }
        let request = Write::Configure { members: members.into() };
        let (session, attachment, identities) = (SessionId::SYSTEM, Zxid::ZERO, Arc::from([]));
        self.commit(
            term,
            &Entry { session, attachment, sequence: 0, identities, time_ms: 0, request },
        );
    }

    /// Every member says it: whichever log is read, it is there.
    fn warn_of_quota(&mut self) {
        let Some(warning) = self.engine.take_quota_warning() else { return };
        if let Some(kept_back) = self.quota_lines.may_say(Instant::now()) {
            let QuotaWarning { path, what, used, limit } = warning;
            tracing::warn!(path, what, used, limit, kept_back, "beyond the soft limit of a quota");
        }
    }

    pub(super) fn watch_over(&mut self, act: impl FnOnce(&mut Watchman)) {
        if let Some(watchman) = &mut self.watchman {
            act(watchman);
        }
    }

    /// A session was opened or attached to another connection, of this member or another; or it
    /// could not be.
    fn attached(&mut self, ticket: u64, timeout_ms: u32, result: Result<Response, Refusal>) {
        let opening = self.openings.remove(&ticket);
        let Ok(Response::Attached { session, attachment }) = result else {
            // Who opens is told by the end of its channel.
            return;
        };
        // The connection before, wherever it was, has lost the session, and its watches.
        if opening.is_some() || !self.planted.is(Bug::KeepsBefore) {
            self.unseat(session, Fate::Cut);
            self.engine.disconnect(session);
        }
        self.watch_over(|watchman| watchman.enter(session, timeout_ms));
        let Some(opening) = opening else { return };
        let Opening { peer, reader, password, read_only, opened, .. } = opening;
        let reply = ConnectReply {
            timeout_ms: timeout_ms as i32,
            session,
            password: password.0.to_vec().into(),
            read_only: read_only.map(|_| false),
        };
        peer.outbox.reply(|out| reply.encode(out));
        peer.session.store(session.0, Relaxed);
        peer.timeout_ms.store(timeout_ms, Relaxed);
        let reader = synod_core::engine::Reader { session, ..reader };
        self.seats.insert(session, Seat::new(peer, reader, attachment));
        if opened.send((session, attachment)).is_err() {
            // It went away while it waited; the session lives on without a connection.
            self.unseat(session, Fate::Cut);
        }
    }

    /// Takes the session's connection from it.
    pub(super) fn unseat(&mut self, session: SessionId, fate: Fate) {
        let Some(seat) = self.seats.remove(&session) else { return };
        // Without a leader nobody takes its writes, and one connection after the other may leave some.
        let left = match self.log {
            Log::Volatile => 0,
            Log::Replicated => seat.untaken_bytes(self.outgoing.taken),
        };
        self.outgoing.left_bytes += left;
        self.unapplied_bytes -= seat.unapplied_bytes - left;
        seat.peer.session.store(0, Relaxed);
        seat.peer.queued.store(0, Relaxed);
        seat.peer.outbox.end(fate);
    }

    /// The engine, and what takes its events.
    pub(super) fn telling(&mut self) -> (&mut Engine, Telling<'_>) {
        let State { engine, seats, woken, counters, .. } = self;
        (engine, Telling { seats, woken, counters })
    }

    /// A connection's write was applied.
    fn complete(&mut self, entry: &Entry, applied: Applied) {
        let seat = self.seats.get_mut(&entry.session);
        let Some(seat) = seat.filter(|seat| seat.attachment == entry.attachment) else { return };
        let before = seat.unapplied_bytes;
        if seat.applied(entry.sequence, applied) {
            self.unapplied_bytes -= before - seat.unapplied_bytes;
            self.flush(entry.session);
        }
    }

    /// Answers what is done at the front of a connection's queue. What stands there then, if it
    /// can be done, is the connection's own task's to do.
    pub(super) fn flush(&mut self, session: SessionId) {
        let last_zxid = self.engine.last_zxid();
        let Some(seat) = self.seats.get_mut(&session) else { return };
        let mut answered = false;
        while seat.queue.front().is_some_and(Slot::is_done) {
            answered = true;
            match seat.queue.pop_front() {
                Some(Slot::Write { arrived, xid, shape, done: Some(applied), .. }) => {
                    seat.reply(xid, applied.zxid, &shape, &applied.result);
                    self.latency.add(arrived.elapsed());
                    if applied.result.as_ref().err().is_some_and(ends_the_attachment) {
                        seat.peer.outbox.end(Fate::Drain);
                        seat.queue.clear();
                        seat.queued_bytes = 0;
                    }
                }
                Some(Slot::Asked { arrived, xid, shape, .. }) => {
                    seat.reply(xid, last_zxid, &shape, &Ok(Response::Done));
                    self.latency.add(arrived.elapsed());
                }
                Some(Slot::Reconfig { arrived, xid, shape, done: Some(result) }) => {
                    seat.reply(xid, last_zxid, &shape, &result);
                    self.latency.add(arrived.elapsed());
                }
                _ => {}
            }
        }
        seat.count_queue();
        if self.serving == Some(seat.peer.number) {
            return;
        }
        let fed = answered && std::mem::take(&mut seat.hungry);
        let runnable = fed || matches!(seat.queue.front(), Some(Slot::Other { .. }));
        if runnable {
            seat.peer.runnable.store(true, Relaxed);
        }
        if (answered || runnable) && seat.peer.outbox.notice() {
            self.woken.push(Arc::clone(&seat.peer));
        }
    }

    /// Something came from the session over that attachment. `None` if it has lost the session.
    pub(super) fn hear(
        &mut self,
        session: SessionId,
        attachment: Zxid,
        now: Instant,
    ) -> Option<&mut Seat> {
        let seat = self.seats.get_mut(&session).filter(|seat| seat.attachment == attachment)?;
        match &mut self.watchman {
            _ if seat.read_only => {}
            Some(watchman) => _ = watchman.hear(session, now),
            None if !seat.touched => {
                seat.touched = true;
                self.outgoing.touched.push(session);
            }
            None => {}
        }
        Some(seat)
    }

    /// Whoever waits for an entry up to the last one applied need not any longer.
    pub(super) fn pass_barriers(&mut self) {
        while let Some(first) = self.barriers.first_entry() {
            if *first.key() > self.applied_index {
                break;
            }
            first.remove().into_iter().for_each(|waiter| self.answer(waiter));
        }
    }

    /// The leader has answered who asked.
    pub(super) fn answer(&mut self, waiter: Waiter) {
        match waiter {
            Waiter::Seat { session, attachment } => {
                let seat = self.seats.get_mut(&session);
                if let Some(seat) = seat.filter(|seat| seat.attachment == attachment) {
                    seat.answered();
                    self.flush(session);
                }
            }
            // It may have given up.
            Waiter::Caller(caller) => _ = caller.send(()),
        }
    }

    /// Lets those go on who waited for fewer bytes to be on their way.
    pub(super) fn release_stalled(&mut self) {
        if self.unapplied_bytes < crate::limits::UNAPPLIED_BYTES_MAX {
            for peer in self.stalled.drain(..) {
                peer.runnable.store(true, Relaxed);
                if peer.outbox.notice() {
                    self.woken.push(peer);
                }
            }
        }
    }

    /// Waits for everything that is committed by now to be applied here.
    pub(super) fn barrier(&mut self) -> oneshot::Receiver<()> {
        let (passed, passing) = oneshot::channel();
        match self.log {
            Log::Volatile => _ = passed.send(()),
            Log::Replicated => self.outgoing.ask(Waiter::Caller(passed)),
        }
        passing
    }

    /// A request of one connection has been read.
    pub(super) fn enqueue_write(
        &mut self,
        session: SessionId,
        arrived: Instant,
        (xid, shape): (i32, synod_core::wire::Shape),
        request: Write,
        clock: &dyn Clock,
    ) {
        let number = self.outgoing.next_number();
        let Some(seat) = self.seats.get_mut(&session) else { return };
        seat.sequence += 1;
        let identities = &seat.reader.identities;
        let bytes = weight(&request, identities) + identities.iter().map(bytes_of).sum::<usize>();
        let sequence = seat.sequence;
        let entry = Entry {
            session,
            attachment: seat.attachment,
            sequence,
            identities: Arc::clone(&seat.reader.identities),
            time_ms: 0,
            request,
        };
        seat.queue.push_back(Slot::Write {
            arrived,
            xid,
            shape,
            sequence,
            number,
            bytes,
            done: None,
        });
        seat.unapplied_bytes += bytes;
        self.unapplied_bytes += bytes;
        self.propose(entry, clock);
    }
}

/// Puts events into the outboxes of those whom they concern as they happen: one change can have more of
/// them than there is memory, and an outbox has a bound.
pub(super) struct Telling<'a> {
    seats: &'a HashMap<SessionId, Seat, foldhash::fast::RandomState>,
    woken: &'a mut Vec<Arc<Peer>>,
    counters: &'a Counters,
}

impl Extend<Fired> for Telling<'_> {
    fn extend<I: IntoIterator<Item = Fired>>(&mut self, fired: I) {
        for Fired { session, event } in fired {
            if let Some(Seat { peer, .. }) = self.seats.get(&session) {
                count(&peer.packets_sent);
                count(&self.counters.packets_sent);
                if peer.outbox.event(&event) {
                    self.woken.push(Arc::clone(peer));
                }
            }
        }
    }
}

/// Whether nothing more can come of the attachment.
fn ends_the_attachment(refusal: &Refusal) -> bool {
    matches!(refusal.code, Code::SessionMoved | Code::SessionExpired | Code::SequenceGap)
}
