//! One connection, one task: the handshake, then requests in and replies and events out.
//!
//! Buffers are there only while something is in them, so that an idle session costs little; and
//! nothing is read from a client that does not take its replies.

mod requests;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use synod_core::model::Identity;
use synod_core::wire::{BadFrame, ConnectReply, ConnectRequest, DecodeError, take_frame};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::Shared;
use crate::counters::count;
use crate::input::Holding;
use crate::limits::{
    DRAIN_MS_MAX, HANDSHAKE_BYTES_MAX, INPUT_BYTES_SOFT, INPUT_PAUSE_MS, LINGER_MS_MAX,
    OUTPUT_PARTS, READ_BYTES, STOP_LINGER_MS_MAX,
};
use crate::member::{Decoded, Ticket, Turn, Unwelcome};
use crate::net::Stream;
use crate::outbox::Fate;
use crate::roster::Peer;
use crate::words;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client is gone")]
    Gone,
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error(transparent)]
    BadFrame(#[from] BadFrame),
    #[error("{0}")]
    NotSecured(io::Error),
    #[error("the connect request: {0}")]
    BadHello(#[from] DecodeError),
    #[error("the first frame did not come in time")]
    HandshakeTimeout,
    #[error("a frame stayed half received")]
    HalfFrame,
    #[error("nothing came from a read-only session for its timeout")]
    Silent,
    #[error("the client did not take enough of what waited for it")]
    Stalled,
    #[error("another connection took the session, it expired, or too many events waited")]
    Cut,
    #[error("the client has seen more than this server has")]
    Ahead,
    #[error("the leader was lost while the session was opened")]
    Adrift,
    #[error("the state has no room for another session")]
    Full,
    #[error("the server stops")]
    Stopping,
    #[error("all is said")]
    Done,
}

impl End {
    /// Whether the client broke a rule, rather than left.
    fn is_drop(&self) -> bool {
        use End::{BadFrame, BadHello, HalfFrame, HandshakeTimeout, NotSecured, Stalled};
        matches!(
            self,
            BadFrame(_) | BadHello(_) | HalfFrame | HandshakeTimeout | NotSecured(_) | Stalled
        )
    }
}

/// Serves a connection until it ends, by TLS if its door `is_secure`. The caller takes the peer off
/// the roster.
pub(crate) async fn serve(
    stream: Box<dyn Stream>,
    is_secure: bool,
    peer: Arc<Peer>,
    shared: Arc<Shared>,
) {
    // TLS's handshake and that of the session have one time together.
    let deadline = Instant::now() + shared.config.limits.handshake;
    let secured = timeout_at(deadline, secure(stream, is_secure, &peer, &shared)).await;
    let mut connection = match secured.unwrap_or(Err(End::HandshakeTimeout)) {
        Ok((stream, proved)) => Connection::new(stream, proved, peer, shared),
        Err(end) => return note_failed(&shared, &peer, &end),
    };
    let handshake = timeout_at(deadline, connection.handshake()).await;
    let end = match handshake.unwrap_or(Err(End::HandshakeTimeout)) {
        Ok(Some(ticket)) => {
            connection.shared.trace.session(&connection.peer, "attached");
            let end = connection.session(&ticket).await.err().unwrap_or(End::Done);
            connection.shared.trace.session(&connection.peer, "the connection ends");
            connection.shared.member.leave(&ticket);
            note(&connection.shared, &connection.peer, &end);
            end
        }
        Ok(None) => {
            note(&connection.shared, &connection.peer, &End::Done);
            End::Done
        }
        Err(end) => {
            note_failed(&connection.shared, &connection.peer, &end);
            end
        }
    };
    if matches!(end, End::Done | End::BadFrame(_)) {
        connection.linger().await;
    }
}

/// Takes a connection in when it is its address's turn.
async fn secure(
    stream: Box<dyn Stream>,
    is_secure: bool,
    peer: &Peer,
    shared: &Shared,
) -> Result<(Box<dyn Stream>, Option<Identity>), End> {
    unless_stopped(peer, async {
        // It counts as a request: who comes again and again waits like who asks again and again.
        while let Err(until) = peer.pace.take(Instant::now()) {
            sleep_until(until).await;
        }
        match is_secure {
            true => shared.secure(stream).await.map_err(End::NotSecured),
            false => Ok((stream, None)),
        }
    })
    .await
}

/// Before a connection has its session, only the end of the server ends its outbox.
async fn unless_stopped<T>(
    peer: &Peer,
    doing: impl Future<Output = Result<T, End>>,
) -> Result<T, End> {
    tokio::select! {
        biased;
        () = peer.outbox.ended() => Err(End::Stopping),
        done = doing => done,
    }
}

/// Waits until then, or for ever.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// A connection ends before it has a session.
fn note_failed(shared: &Shared, peer: &Peer, end: &End) {
    count(&shared.counters.handshakes_failed);
    note(shared, peer, end);
}

fn note(shared: &Shared, peer: &Peer, end: &End) {
    tracing::debug!(address = %peer.address, %end, "the connection ends");
    if end.is_drop() {
        count(&shared.counters.connections_dropped);
    }
}

/// What a client must take of what waits for it.
#[derive(Clone, Copy)]
struct Due {
    since: Instant,
    bytes: usize,
}

struct Connection {
    stream: Box<dyn Stream>,
    /// Who the client has proved to be by how it came.
    proved: Option<Identity>,
    received: BytesMut,
    /// The length of the frame at its front, if it is long and was let in.
    let_in: usize,
    /// What it holds of the input of all connections.
    holding: Holding,
    /// What was taken out of the outbox and is not yet written.
    writing: BytesMut,
    /// Bytes that were written while others were waited for.
    written: usize,
    /// The stream may hold back some of what was written to it.
    unflushed: bool,
    peer: Arc<Peer>,
    shared: Arc<Shared>,
}

impl Connection {
    fn new(
        stream: Box<dyn Stream>,
        proved: Option<Identity>,
        peer: Arc<Peer>,
        shared: Arc<Shared>,
    ) -> Connection {
        Connection {
            stream,
            proved,
            received: BytesMut::new(),
            let_in: 0,
            holding: shared.roster.holding(),
            writing: BytesMut::new(),
            written: 0,
            unflushed: false,
            peer,
            shared,
        }
    }

    /// Whether something is still to be taken by the client.
    fn is_blocked(&self) -> bool {
        !self.writing.is_empty() || self.unflushed
    }

    /// The first frame, or a word; `None` when the connection needs no more than an answer.
    async fn handshake(&mut self) -> Result<Option<Ticket>, End> {
        let peer = Arc::clone(&self.peer);
        let payload = loop {
            let asked = words::recognize(&self.received);
            if let Some(answer) = asked.and_then(|asked| words::answer(asked, &self.shared)) {
                self.peer.outbox.reply(|out| out.extend_from_slice(answer.as_bytes()));
                self.peer.outbox.end(Fate::Drain);
                self.write_out().await?;
                return Ok(None);
            }
            if asked.is_none() {
                let (min, max) = (ConnectRequest::BYTES_MIN, HANDSHAKE_BYTES_MAX);
                if let Some(payload) = take_frame(&mut self.received, min, max)? {
                    break payload;
                }
            }
            unless_stopped(&peer, poll_fn(|cx| self.poll_read(cx))).await?;
        };
        count(&self.shared.counters.connects);
        count(&self.shared.counters.packets_received);
        count(&self.peer.packets_received);
        let hello = ConnectRequest::decode(payload)?;
        let opening = self.shared.member.open(&hello, self.proved.take(), &peer);
        match unless_stopped(&peer, async { Ok(opening.await) }).await? {
            Ok(ticket) => {
                count(&self.shared.counters.packets_sent);
                count(&self.peer.packets_sent);
                Ok(Some(ticket))
            }
            Err(Unwelcome::Ahead) => Err(End::Ahead),
            Err(Unwelcome::Adrift) => Err(End::Adrift),
            Err(Unwelcome::Full) => {
                count(&self.shared.counters.connections_rejected);
                Err(End::Full)
            }
            Err(Unwelcome::SessionOver) => {
                let reply = ConnectReply::session_over(hello.read_only.map(|_| false));
                self.peer.outbox.reply(|out| reply.encode(out));
                self.peer.outbox.end(Fate::Drain);
                self.write_out().await?;
                Ok(None)
            }
        }
    }

    /// Requests in, replies and events out. `Ok` when everything was said.
    async fn session(&mut self, ticket: &Ticket) -> Result<(), End> {
        let limits = self.shared.config.limits;
        let (shared, peer) = (Arc::clone(&self.shared), Arc::clone(&self.peer));
        let mut batch: VecDeque<Decoded> = VecDeque::new();
        // Whether there may be something to do for it.
        let mut ready = false;
        // Past the bound nothing is done for this client until it takes what it asked for.
        let mut may_work = true;
        // A frame that breaks the rules: what came before it is answered first.
        let mut bad: Option<BadFrame> = None;
        // What the client must take of what waits for it, and since when.
        let mut stalled: Option<Due> = None;
        // The part of what was taken out last that is due each time.
        let mut part = 1;
        // When a request came last.
        let mut heard = Instant::now();
        // Since when a frame is half received.
        let mut half_since: Option<Instant> = None;
        loop {
            let now = Instant::now();
            // One that asks too fast waits until it is late enough.
            let allowed = peer.pace.allows(now);
            let before = batch.len();
            // A frame waits for room.
            let mut crowded = false;
            if may_work && bad.is_none() {
                match self.decode(&mut batch, allowed) {
                    Ok(waits) => crowded = waits,
                    Err(broken) => bad = Some(broken),
                }
                peer.pace.spend(batch.len() - before, now);
            }
            if batch.len() > before {
                heard = now;
                ready = true;
            }
            ready |= peer.runnable.load(Relaxed);
            let works = may_work && ready;
            if works {
                half_since = None;
                ready = shared.member.submit(ticket, &peer, &mut batch, heard) == Turn::More;
                self.hold(requests::bytes_of(&batch));
            }
            let mut written = std::mem::take(&mut self.written) + self.write().await?;
            let was_empty = self.writing.is_empty();
            match self.peer.outbox.take(&mut self.writing) {
                Fate::Open => {}
                Fate::Cut => return Err(End::Cut),
                Fate::Drain => return self.write_out().await,
            }
            let taken = if was_empty { self.writing.len() } else { 0 };
            written += self.write().await?;
            if taken > 0 {
                part = taken.div_ceil(OUTPUT_PARTS);
            }
            stalled = match stalled {
                _ if !self.is_blocked() => None,
                Some(due) if taken == 0 && written < due.bytes => {
                    Some(Due { bytes: due.bytes - written, ..due })
                }
                _ => Some(Due { since: now, bytes: part }),
            };
            let might = may_work;
            let waiting = self.peer.outbox.waiting_bytes(&self.writing);
            may_work = !self.peer.outbox.is_sated(waiting, limits.output_bytes_soft);
            // What has come and was not looked at, or not all of it.
            let unseen = (works || !might) && !self.received.is_empty();
            if may_work && (ready || unseen) {
                // So that other tasks of this thread have their turn.
                tokio::task::coop::consume_budget().await;
                continue;
            }
            let idle = batch.is_empty() && peer.queued.load(Relaxed) == 0;
            if let (Some(bad), true) = (bad, idle) {
                if bad.length >= 0 {
                    count(&self.shared.counters.large_requests_rejected);
                }
                self.write_out().await?;
                return Err(bad.into());
            }
            self.give_back(&mut batch);
            let rests_until = (allowed == 0).then(|| peer.pace.next_at());
            let may_read =
                may_work && bad.is_none() && batch.is_empty() && rests_until.is_none() && !crowded;
            if !may_read || self.received.is_empty() {
                half_since = None;
            } else if half_since.is_none() {
                half_since = Some(now);
            }
            // Half a frame that finds no room goes on being half received.
            crowded |= may_read && !self.lets_in();
            let may_read = may_read && !crowded;
            let looks_again = crowded.then(|| now + Duration::from_millis(INPUT_PAUSE_MS));
            let stall = stalled.map(|due| due.since + limits.write_stall);
            let half = half_since.map(|since| since + limits.half_frame);
            let silent = ticket.silence_max.map(|most| heard + most);
            let pauses = [rests_until, looks_again].into_iter().flatten().min();
            let deadline = [stall, half, silent, pauses].into_iter().flatten().min();
            let blocked = self.is_blocked();
            tokio::select! {
                biased;
                () = peer.outbox.changed() => {}
                moved = poll_fn(|cx| self.poll_move(cx, blocked, may_read)) => moved?,
                () = until(deadline) => {
                    if deadline == pauses {
                        continue;
                    }
                    return Err(match deadline {
                        deadline if deadline == stall => End::Stalled,
                        deadline if deadline == half => End::HalfFrame,
                        _ => End::Silent,
                    });
                }
            }
        }
    }

    /// Reads what there is, up to the bound.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let before = self.received.len();
        let ended = loop {
            // On the stack: a connection that waits holds no buffer.
            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending if self.received.len() == before => return Poll::Pending,
                Poll::Pending => break None,
                Poll::Ready(Err(error)) => break Some(error.into()),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => break Some(End::Gone),
                Poll::Ready(Ok(())) => self.received.extend_from_slice(buffer.filled()),
            }
            if buffer.remaining() > 0 || self.received.len() >= INPUT_BYTES_SOFT {
                break None;
            }
        };
        let read = self.received.len() - before;
        self.shared.counters.bytes_received.fetch_add(read as u64, Relaxed);
        // What came before the end is looked at first; the end will be there again.
        Poll::Ready(ended.filter(|_| read == 0).map_or(Ok(()), Err))
    }

    /// Writes what the client takes now; how many bytes.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, End>> {
        let mut written = 0;
        while !self.writing.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.writing)? {
                Poll::Pending if written == 0 => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(0) => return Poll::Ready(Err(End::Gone)),
                Poll::Ready(bytes) => {
                    self.writing.advance(bytes);
                    written += bytes;
                }
            }
        }
        self.unflushed |= written > 0;
        if self.writing.is_empty() {
            self.writing = BytesMut::new();
            if self.unflushed {
                match Pin::new(&mut self.stream).poll_flush(cx)? {
                    Poll::Ready(()) => self.unflushed = false,
                    Poll::Pending if written == 0 => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
        }
        self.shared.counters.bytes_sent.fetch_add(written as u64, Relaxed);
        Poll::Ready(Ok(written))
    }

    /// Waits until something could be written or read, as far as it is wanted.
    fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        write: bool,
        read: bool,
    ) -> Poll<Result<(), End>> {
        if write && let Poll::Ready(written) = self.poll_write(cx)? {
            self.written += written;
            return Poll::Ready(Ok(()));
        }
        if read { self.poll_read(cx) } else { Poll::Pending }
    }

    /// Writes what the client takes without waiting for it; how many bytes.
    async fn write(&mut self) -> Result<usize, End> {
        poll_fn(|cx| match self.poll_write(cx) {
            Poll::Pending => Poll::Ready(Ok(0)),
            ready => ready,
        })
        .await
    }

    /// Writes everything that waits, as long as the client takes some of it now and then, and not
    /// for ever.
    async fn write_out(&mut self) -> Result<(), End> {
        let deadline = Instant::now() + Duration::from_millis(DRAIN_MS_MAX);
        loop {
            if self.peer.outbox.take(&mut self.writing) == Fate::Cut {
                return Err(End::Cut);
            }
            if !self.is_blocked() {
                return Ok(());
            }
            let quiet = Instant::now() + Duration::from_millis(LINGER_MS_MAX);
            let written = timeout_at(quiet.min(deadline), poll_fn(|cx| self.poll_write(cx)));
            written.await.map_err(|_| End::Stalled)??;
        }
    }

    /// An idle connection keeps no memory.
    fn give_back(&mut self, batch: &mut VecDeque<Decoded>) {
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
        if batch.is_empty() {
            *batch = VecDeque::new();
        }
    }

    /// Says that nothing more comes, and lets the client close first: closing with its bytes
    /// unread would take the last replies from it.
    async fn linger(mut self) {
        self.writing = BytesMut::new();
        let stopping = self.shared.roster.is_closed();
        let patience_ms = if stopping { STOP_LINGER_MS_MAX } else { LINGER_MS_MAX };
        let deadline = Instant::now() + Duration::from_millis(patience_ms);
        if !matches!(timeout_at(deadline, self.stream.shutdown()).await, Ok(Ok(()))) {
            return;
        }
        loop {
            self.received.clear();
            let read = timeout_at(deadline, poll_fn(|cx| self.poll_read(cx)));
            if !matches!(read.await, Ok(Ok(()))) {
                return;
            }
        }
    }
}
