//! One connection, one task: the handshake, then requests in and replies and events out.
//!
//! Buffers are there only while something is in them, so that an idle session costs little; and
//! nothing is read from a client that does not take its replies.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use synod_core::model::limits::REQUEST_BYTES_MAX;
use synod_core::wire::{
    BadFrame, ConnectReply, ConnectRequest, DecodeError, decode_request, take_frame,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::Shared;
use crate::counters::count;
use crate::limits::{
    BATCH_REQUESTS_MAX, HANDSHAKE_BYTES_MAX, INPUT_BYTES_SOFT, LINGER_MS_MAX, READ_BYTES,
    REQUEST_BYTES_MIN, STOP_LINGER_MS_MAX,
};
use crate::member::{Decoded, Seat, Unwelcome};
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
    #[error("the connect request: {0}")]
    BadHello(#[from] DecodeError),
    #[error("the first frame did not come in time")]
    HandshakeTimeout,
    #[error("a frame stayed half received")]
    HalfFrame,
    #[error("the client did not take what waited for it")]
    Stalled,
    #[error("another connection took the session, it expired, or too many events waited")]
    Cut,
    #[error("the client has seen more than this server has")]
    Ahead,
    #[error("all is said")]
    Done,
}

impl End {
    /// Whether the client broke a rule, rather than left.
    fn is_drop(&self) -> bool {
        use End::{BadFrame, BadHello, HalfFrame, HandshakeTimeout, Stalled};
        matches!(self, BadFrame(_) | BadHello(_) | HalfFrame | HandshakeTimeout | Stalled)
    }
}

/// Serves a connection until it ends. The caller takes the peer off the roster.
pub(crate) async fn serve(stream: TcpStream, peer: Arc<Peer>, shared: Arc<Shared>) {
    // Replies are written whole: waiting for more would only add latency.
    let _ = stream.set_nodelay(true);
    let mut connection =
        Connection { stream, received: BytesMut::new(), writing: BytesMut::new(), peer, shared };
    let handshake = timeout(connection.shared.config.limits.handshake, connection.handshake());
    let end = match handshake.await {
        Ok(Ok(Some(mut seat))) => {
            let end = connection.session(&mut seat).await;
            connection.shared.member.leave(&seat);
            end
        }
        Ok(Ok(None)) => Ok(()),
        Ok(Err(end)) => {
            count(&connection.shared.counters.handshakes_failed);
            Err(end)
        }
        Err(_) => {
            count(&connection.shared.counters.handshakes_failed);
            Err(End::HandshakeTimeout)
        }
    };
    let end = end.err().unwrap_or(End::Done);
    tracing::debug!(address = %connection.peer.address, %end, "the connection ends");
    if end.is_drop() {
        count(&connection.shared.counters.connections_dropped);
    }
    if matches!(end, End::Done | End::BadFrame(_)) {
        connection.linger().await;
    }
}

struct Connection {
    stream: TcpStream,
    received: BytesMut,
    /// What was taken out of the outbox and is not yet written.
    writing: BytesMut,
    peer: Arc<Peer>,
    shared: Arc<Shared>,
}

impl Connection {
    /// The first frame, or a word; `None` when the connection needs no more than an answer.
    async fn handshake(&mut self) -> Result<Option<Seat>, End> {
        let payload = loop {
            if let Some(word) = words::recognize(&self.received) {
                let answer = words::answer(word, &self.shared);
                self.peer.outbox.reply(|out| out.extend_from_slice(answer.as_bytes()));
                self.peer.outbox.end(Fate::Drain);
                self.write_out().await?;
                return Ok(None);
            }
            let (min, max) = (ConnectRequest::BYTES_MIN, HANDSHAKE_BYTES_MAX);
            if let Some(payload) = take_frame(&mut self.received, min, max)? {
                break payload;
            }
            self.stream.readable().await?;
            self.read()?;
        };
        count(&self.shared.counters.connects);
        count(&self.shared.counters.packets_received);
        count(&self.peer.packets_received);
        let hello = ConnectRequest::decode(payload)?;
        match self.shared.member.open(&hello, &self.peer) {
            Ok(seat) => {
                count(&self.shared.counters.packets_sent);
                count(&self.peer.packets_sent);
                Ok(Some(seat))
            }
            Err(Unwelcome::Ahead) => Err(End::Ahead),
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
    async fn session(&mut self, seat: &mut Seat) -> Result<(), End> {
        let limits = self.shared.config.limits;
        let shared = Arc::clone(&self.shared);
        let mut batch: VecDeque<Decoded> = VecDeque::new();
        let mut arrived = std::time::Instant::now();
        // A frame that breaks the rules: what came before it is answered first.
        let mut bad: Option<BadFrame> = None;
        // Since when the client has taken nothing of what waits for it.
        let mut stalled_since: Option<Instant> = None;
        // Since when a frame is half received.
        let mut half_since: Option<Instant> = None;
        loop {
            let mut written = self.write()?;
            match self.peer.outbox.take(&mut self.writing) {
                Fate::Open => {}
                Fate::Cut => return Err(End::Cut),
                Fate::Drain => return self.write_out().await,
            }
            written += self.write()?;
            if self.writing.is_empty() {
                stalled_since = None;
            } else if written > 0 || stalled_since.is_none() {
                stalled_since = Some(Instant::now());
            }
            // Past the bound nothing is done for this client until it takes what it asked for.
            let may_work = self.peer.outbox.waiting_bytes(&self.writing) < limits.output_bytes_soft;
            if may_work && bad.is_none() {
                bad = self.decode(&mut batch).err();
            }
            self.peer.queued.store(batch.len(), Relaxed);
            if may_work && !batch.is_empty() {
                half_since = None;
                shared.member.submit(seat, &self.peer, &mut batch, arrived);
                self.peer.queued.store(batch.len(), Relaxed);
                // So that other tasks of this thread have their turn.
                tokio::task::coop::consume_budget().await;
                continue;
            }
            if let (Some(bad), true) = (bad, batch.is_empty()) {
                if bad.length >= 0 {
                    count(&self.shared.counters.large_requests_rejected);
                }
                self.write_out().await?;
                return Err(bad.into());
            }
            self.give_back(&mut batch);
            let may_read = may_work && bad.is_none();
            if !may_read || self.received.is_empty() {
                half_since = None;
            } else if half_since.is_none() {
                half_since = Some(Instant::now());
            }
            let stall = stalled_since.map(|since| since + limits.write_stall);
            let half = half_since.map(|since| since + limits.half_frame);
            let deadline = stall.into_iter().chain(half).min();
            let blocked = !self.writing.is_empty();
            tokio::select! {
                biased;
                () = self.peer.outbox.changed() => {}
                ready = self.stream.writable(), if blocked => ready?,
                ready = self.stream.readable(), if may_read => {
                    ready?;
                    arrived = std::time::Instant::now();
                    self.read()?;
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    return Err(if deadline == stall { End::Stalled } else { End::HalfFrame });
                }
            }
        }
    }

    /// Decodes whole frames into the batch, as many as it has room for.
    fn decode(&mut self, batch: &mut VecDeque<Decoded>) -> Result<(), BadFrame> {
        while batch.len() < BATCH_REQUESTS_MAX {
            match take_frame(&mut self.received, REQUEST_BYTES_MIN, REQUEST_BYTES_MAX)? {
                Some(payload) => batch.push_back(decode_request(payload)),
                None => break,
            }
        }
        Ok(())
    }

    /// Reads what there is, up to the bound.
    fn read(&mut self) -> Result<(), End> {
        let before = self.received.len();
        let ended = loop {
            self.received.reserve(READ_BYTES);
            match self.stream.try_read_buf(&mut self.received) {
                Ok(0) => break Some(End::Gone),
                Ok(_) if self.received.len() < self.received.capacity() => break None,
                Ok(_) if self.received.len() >= INPUT_BYTES_SOFT => break None,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error.into()),
            }
        };
        let read = self.received.len() - before;
        self.shared.counters.bytes_received.fetch_add(read as u64, Relaxed);
        // What came before the end is looked at first; the end will be there again.
        ended.filter(|_| read == 0).map_or(Ok(()), Err)
    }

    /// Writes what the client takes now; how many bytes.
    fn write(&mut self) -> Result<usize, End> {
        let mut written = 0;
        while !self.writing.is_empty() {
            match self.stream.try_write(&self.writing) {
                Ok(bytes) => {
                    self.writing.advance(bytes);
                    written += bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.writing.is_empty() {
            self.writing = BytesMut::new();
        }
        self.shared.counters.bytes_sent.fetch_add(written as u64, Relaxed);
        Ok(written)
    }

    /// Writes everything that waits, as long as the client takes some of it now and then.
    async fn write_out(&mut self) -> Result<(), End> {
        loop {
            self.write()?;
            if self.peer.outbox.take(&mut self.writing) == Fate::Cut {
                return Err(End::Cut);
            }
            if self.writing.is_empty() {
                return Ok(());
            }
            let patience = Duration::from_millis(LINGER_MS_MAX);
            timeout(patience, self.stream.writable()).await.map_err(|_| End::Stalled)??;
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
        if self.stream.shutdown().await.is_err() {
            return;
        }
        loop {
            self.received.clear();
            if !matches!(timeout_at(deadline, self.stream.readable()).await, Ok(Ok(()))) {
                return;
            }
            if self.read().is_err() {
                return;
            }
        }
    }
}
