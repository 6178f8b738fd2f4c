//! One connection's turn at the state: its requests go into its queue, writes to the log at once,
//! and what can be answered is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use synod_core::model::{
    Code, Identity, Op, Read, Refusal, Request, Response, SaslToken, SessionId, WatchRequest,
    Write, Zxid,
};
use synod_core::wire::{Refused, Shape, SubmittedRequest, encode_refusal};
use synod_core::{SaslAnswer, digest_identity};
use tokio::time::Instant;

use super::open::Ticket;
use super::outgoing::{Waiter, bytes_of};
use super::seat::{Seat, Slot};
use super::state::{Log, State};
use super::{Decoded, Member, prefetch, read_only};
use crate::bug::Bug;
use crate::limits::{
    BATCH_MICROS_MAX, IDENTITIES_MAX, IDENTITY_BYTES_MAX, MEMORY_PART_FOR_SESSIONS,
    UNAPPLIED_BYTES_MAX, UNAPPLIED_PART_OF_CONNECTION,
};
use crate::outbox::Fate;
use crate::roster::Peer;

/// How a turn ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is more that can be done, once others had their turn.
    More,
    /// Nothing can be done before something happens: a request comes, or the outbox
    /// [changes](crate::outbox::Outbox::changed).
    Done,
}

impl Member {
    /// Takes the requests of `batch` in and does what can be done, in order: until nothing is
    /// left, the output that waits is past its bound, or others must have their turn.
    pub(crate) fn submit(
        &self,
        ticket: &Ticket,
        peer: &Arc<Peer>,
        batch: &mut VecDeque<Decoded>,
        arrived: Instant,
    ) -> Turn {
        let requests = batch.len() as u64;
        let mut guard = self.lock();
        guard.serving = Some(peer.number);
        let turn = self.serve(&mut guard, ticket, peer, batch, arrived);
        guard.serving = None;
        self.unlock(guard);
        let requests = requests - batch.len() as u64;
        self.counters.packets_received.fetch_add(requests, Relaxed);
        peer.packets_received.fetch_add(requests, Relaxed);
        turn
    }

    fn serve(
        &self,
        state: &mut State,
        ticket: &Ticket,
        peer: &Arc<Peer>,
        batch: &mut VecDeque<Decoded>,
        arrived: Instant,
    ) -> Turn {
        // The runtime's clock: in a simulation a turn must not end by how busy the machine is.
        let started = Instant::now();
        let is_over = || started.elapsed() >= Duration::from_micros(BATCH_MICROS_MAX);
        peer.runnable.store(false, Relaxed);
        if state.hear(ticket.session, ticket.attachment, started).is_none() {
            // Who took the session has said how its connection ends.
            batch.clear();
            return Turn::Done;
        }
        prefetch::for_requests(&state.engine, batch);
        loop {
            let Some(seat) = state.seats.get_mut(&ticket.session) else {
                // The last request closed the session, or ended its connection.
                batch.clear();
                return Turn::Done;
            };
            let full = seat.is_full(self.limits.outstanding_requests_max);
            let only_reads = seat.read_only;
            let stalled = state.unapplied_bytes >= UNAPPLIED_BYTES_MAX
                || seat.unapplied_bytes >= UNAPPLIED_BYTES_MAX / UNAPPLIED_PART_OF_CONNECTION;
            let waiting_bytes = peer.outbox.waiting();
            // When it has written, the connection's task comes back.
            if peer.outbox.is_sated(waiting_bytes, self.limits.output_bytes_soft) {
                return Turn::More;
            }
            match seat.queue.front() {
                Some(Slot::Other { .. }) => {
                    if let Some((arrived, decoded)) = seat.dequeue() {
                        self.act(state, ticket, arrived, decoded);
                    }
                    if let Some(seat) = state.seats.get(&ticket.session) {
                        seat.count_queue();
                    }
                    if is_over() {
                        return Turn::More;
                    }
                    continue;
                }
                Some(slot) if slot.is_done() => {
                    state.flush(ticket.session);
                    if is_over() {
                        return Turn::More;
                    }
                    continue;
                }
                _ => {}
            }
            // A write goes to the log together with those before it, but behind a read it waits:
            // the read must not see it, and what the connection proves before it must count.
            let is_write = |decoded: &Decoded| {
                let request = decoded.request.as_ref().ok().map(|it| &it.request);
                matches!(request, Some(Request::Write(_)))
            };
            let behind_read = !matches!(seat.queue.back(), None | Some(Slot::Write { .. }));
            let held = behind_read && batch.front().is_some_and(is_write);
            if batch.is_empty() || full || held {
                seat.hungry = full || held;
                return Turn::Done;
            }
            if stalled {
                state.stalled.push(Arc::clone(peer));
                return Turn::Done;
            }
            let large = batch.front().is_some_and(|it| data_bytes(it) > self.limits.data_bytes_max);
            let sated = batch.front().is_some_and(adds) && self.is_sated(state);
            let Some(seat) = state.seats.get_mut(&ticket.session) else { continue };
            let admitted = self.admits(seat);
            match batch.pop_front() {
                // It is refused when it is at the front.
                Some(decoded) if !admitted => seat.enqueue(arrived, decoded),
                Some(decoded) if large => {
                    seat.enqueue(arrived, refused(decoded, Code::BadArguments));
                }
                Some(decoded) if sated => {
                    seat.enqueue(arrived, refused(decoded, Code::Throttled));
                }
                Some(decoded) if only_reads => seat.enqueue(arrived, read_only::admit(decoded)),
                Some(Decoded {
                    request: Ok(SubmittedRequest { xid, request: Request::Write(write), shape }),
                    ..
                }) => {
                    state.enqueue_write(ticket.session, arrived, (xid, shape), write, &*self.clock);
                }
                Some(decoded) => seat.enqueue(arrived, decoded),
                None => {}
            }
            if let Some(seat) = state.seats.get(&ticket.session) {
                seat.count_queue();
            }
            // It is done already.
            if state.log == Log::Volatile && is_over() {
                return Turn::More;
            }
        }
    }

    /// Whether the state has reached its bound in memory.
    fn is_sated(&self, state: &mut State) -> bool {
        let max = self.limits.memory_bytes_max;
        if max == 0 {
            return false;
        }
        let bytes = state.memory_bytes();
        let sated = bytes >= max;
        if sated && !state.is_sated {
            tracing::warn!(
                bytes,
                max,
                "the state has reached its bound: what adds to it is refused"
            );
        }
        state.is_sated = sated;
        sated
    }

    /// Whether there is none left for another session either.
    pub(super) fn has_no_room(&self, state: &State) -> bool {
        let max = self.limits.memory_bytes_max;
        let most = max.saturating_add(max / MEMORY_PART_FOR_SESSIONS);
        max > 0 && state.memory_bytes() >= most
    }

    /// Does a request that is at the front.
    fn act(&self, state: &mut State, ticket: &Ticket, arrived: Instant, decoded: Decoded) {
        let session = ticket.session;
        let Some(seat) = state.seats.get(&session) else { return };
        if !self.admits(seat) && !proves(&decoded) {
            let xid = decoded.request.as_ref().map_or_else(|refused| refused.xid, |it| it.xid);
            let refusal = Refusal::new(Code::ClosedRequireSasl, Code::ClosedRequireSasl.rule());
            seat.reply(xid, Zxid::ZERO, &Shape::Empty, &Err(refusal));
            state.latency.add(arrived.elapsed());
            return state.dismiss(session);
        }
        let SubmittedRequest { xid, request, shape } = match decoded.request {
            Ok(submitted) => submitted,
            Err(refused) => {
                let zxid = state.engine.last_zxid();
                let Some(seat) = state.seats.get_mut(&session) else { return };
                seat.peer.packets_sent.fetch_add(1, Relaxed);
                seat.peer.outbox.reply(|out| encode_refusal(out, zxid, &refused));
                state.latency.add(arrived.elapsed());
                if refused.closes {
                    state.dismiss(session);
                }
                return;
            }
        };
        let Some(seat) = state.seats.get(&session) else { return };
        // Nobody leads who could be asked.
        let asks = state.log == Log::Replicated && !seat.read_only;
        let mut ends = false;
        let (zxid, result) = match request {
            Request::Sasl(token) => {
                let result = self.take_token(state, session, &token);
                ends = result.is_err();
                self.counters.auths_failed.fetch_add(u64::from(ends), Relaxed);
                (Zxid::ZERO, result)
            }
            Request::Auth { scheme, credentials } => {
                let result = self.authenticate(state, session, &scheme, &credentials);
                ends = result.is_err();
                self.counters.auths_failed.fetch_add(u64::from(ends), Relaxed);
                (Zxid::ZERO, result)
            }
            Request::Read(read) => {
                let result = state.engine.read(&seat.reader, &read);
                (state.engine.last_zxid(), result)
            }
            Request::Watch(watch) => {
                let reader = seat.reader.clone();
                let (engine, mut telling) = state.telling();
                let result = engine.watch(&reader, &watch, &mut telling);
                (state.engine.last_zxid(), result)
            }
            Request::Ping if asks && !state.planted.is(Bug::PingAtOnce) => {
                return state.ask(session, arrived, xid, shape, true);
            }
            Request::Sync { .. } if asks && !state.planted.is(Bug::SyncAtOnce) => {
                return state.ask(session, arrived, xid, shape, false);
            }
            Request::Write(Write::CloseSession) => {
                ends = true;
                (state.engine.last_zxid(), Ok(Response::Done))
            }
            Request::Reconfig(reconfig) => match self.begin_reconfig(state, session, reconfig) {
                Ok(()) => return state.wait_reconfig(session, arrived, xid, shape),
                Err(refusal) => (state.engine.last_zxid(), Err(refusal)),
            },
            // A write comes here only to close a read-only session: others are proposed when they
            // are taken in.
            Request::Sync { .. } | Request::Ping | Request::Write(_) => {
                (state.engine.last_zxid(), Ok(Response::Done))
            }
        };
        let Some(seat) = state.seats.get(&session) else { return };
        seat.reply(xid, zxid, &shape, &result);
        state.latency.add(arrived.elapsed());
        if ends {
            state.dismiss(session);
        }
    }

    /// Adds what the credentials prove to the connection's identities.
    fn authenticate(
        &self,
        state: &mut State,
        session: SessionId,
        scheme: &str,
        credentials: &[u8],
    ) -> Result<Response, Refusal> {
        match scheme {
            // Every connection has proved its address already.
            "ip" => Ok(Response::Done),
            "digest" => {
                // It never fails: what is no user and password proves nothing.
                let proved = digest_identity(credentials);
                let is_super = proved.is_some() && proved == self.super_digest;
                let super_one = is_super.then(|| Identity::new("super", ""));
                state.identify(session, super_one.into_iter().chain(proved))?;
                Ok(Response::Done)
            }
            _ => {
                let rule = "the scheme of an authentication is digest or ip";
                Err(Refusal::new(Code::AuthFailed, rule))
            }
        }
    }

    /// Takes a client one step further with SASL.
    fn take_token(
        &self,
        state: &mut State,
        session: SessionId,
        token: &SaslToken,
    ) -> Result<Response, Refusal> {
        let seat = state.seats.get_mut(&session);
        let (Some(sasl), Some(seat)) = (&self.sasl, seat) else { return Ok(Response::Sasl(None)) };
        match seat.sasl.step(&sasl.users, &*self.entropy, token) {
            Ok(SaslAnswer { token, user }) => {
                let is_super = user.is_some() && user == sasl.super_user;
                let proved = user.map(|user| Identity::new("sasl", user));
                let powers = is_super.then(|| Identity::new("super", ""));
                state.identify(session, proved.into_iter().chain(powers))?;
                Ok(Response::Sasl(Some(token)))
            }
            Err(refusal) => {
                tracing::debug!(%session, rule = refusal.rule, "SASL has failed");
                let code = if sasl.required { Code::ClosedRequireSasl } else { refusal.code };
                Err(Refusal::new(code, refusal.rule))
            }
        }
    }

    /// Whether anything is done for the connection.
    fn admits(&self, seat: &Seat) -> bool {
        let required = self.sasl.as_ref().is_some_and(|sasl| sasl.required);
        !required || seat.reader.identities.iter().any(|identity| identity.scheme == "sasl")
    }
}

impl State {
    /// What it takes in memory, with the writes that are on their way.
    fn memory_bytes(&self) -> u64 {
        (self.engine.memory_bytes() + self.unapplied_bytes) as u64
    }

    /// Adds to who a connection is.
    fn identify(
        &mut self,
        session: SessionId,
        proved: impl IntoIterator<Item = Identity>,
    ) -> Result<(), Refusal> {
        let Some(seat) = self.seats.get_mut(&session) else { return Ok(()) };
        let identities = seat.reader.identities.iter().cloned().chain(proved);
        let mut unique: Vec<Identity> = Vec::new();
        for identity in identities {
            if !unique.contains(&identity) {
                unique.push(identity);
            }
        }
        if unique.len() > IDENTITIES_MAX {
            return Err(Refusal::new(Code::AuthFailed, "a connection has at most 64 identities"));
        }
        if unique.iter().map(bytes_of).sum::<usize>() > IDENTITY_BYTES_MAX {
            let rule = "a connection's identities have at most 16384 bytes together";
            return Err(Refusal::new(Code::AuthFailed, rule));
        }
        seat.reader.identities = unique.into();
        self.engine.set_identities(session, &seat.reader.identities);
        Ok(())
    }
}

/// Whether it may be done for a client that has not proved who it is.
fn proves(decoded: &Decoded) -> bool {
    let request = decoded.request.as_ref().map(|it| &it.request);
    matches!(request, Ok(Request::Auth { .. } | Request::Sasl(_)))
}

/// Whether a request would make the state larger.
fn adds(decoded: &Decoded) -> bool {
    let Ok(SubmittedRequest { request, .. }) = &decoded.request else { return false };
    let grows = |op: &Op| matches!(op, Op::Create(_) | Op::SetData { .. });
    match request {
        Request::Write(Write::Op(op) | Write::ProposeAt { op, .. }) => grows(op),
        Request::Write(Write::Multi(ops)) => ops.iter().any(grows),
        Request::Write(write) => matches!(write, Write::SetAcl { .. }),
        Request::Read(
            Read::Exists { watch, .. } | Read::GetData { watch, .. } | Read::Children { watch, .. },
        ) => *watch,
        Request::Watch(watch) => {
            matches!(watch, WatchRequest::Add { .. } | WatchRequest::Rearm(_))
        }
        _ => false,
    }
}

/// The largest data that a request would give to a znode, in bytes.
fn data_bytes(decoded: &Decoded) -> usize {
    let Ok(SubmittedRequest { request: Request::Write(write), .. }) = &decoded.request else {
        return 0;
    };
    let of = |op: &Op| match op {
        Op::Create(create) => create.data.as_ref().map_or(0, |data| data.len()),
        Op::SetData { data, .. } => data.as_ref().map_or(0, |data| data.len()),
        _ => 0,
    };
    match write {
        Write::Op(op) | Write::ProposeAt { op, .. } => of(op),
        Write::Multi(ops) => ops.iter().map(of).max().unwrap_or(0),
        _ => 0,
    }
}

/// What a request becomes that is not done.
pub(super) fn refused(decoded: Decoded, code: Code) -> Decoded {
    let Decoded { request, bytes } = decoded;
    let request = request.and_then(|submitted| {
        let xid = submitted.xid;
        Err(Refused { xid, code, closes: false, empty_results: false })
    });
    Decoded { request, bytes }
}

impl State {
    /// The connection ends with its last reply.
    fn dismiss(&mut self, session: SessionId) {
        self.engine.disconnect(session);
        self.unseat(session, Fate::Drain);
    }

    /// Puts a ping or a sync back at the front, to wait for the leader's word.
    fn ask(&mut self, session: SessionId, arrived: Instant, xid: i32, shape: Shape, ping: bool) {
        let Some(seat) = self.seats.get_mut(&session) else { return };
        let Seat { queue, attachment, .. } = seat;
        queue.push_front(Slot::Asked { arrived, xid, shape, done: false });
        let waiter = Waiter::Seat { session, attachment: *attachment };
        if ping {
            self.outgoing.pings.push(waiter);
        } else {
            self.outgoing.ask(waiter);
        }
    }
}
