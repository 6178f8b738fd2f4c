//! The ground of servers: the ZooKeeper protocol over TCP, with TLS or without.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::ground::{
    Call, ConnectError, Failure, Ground, Hello, Link, ReplyTo, ServerKind, Welcome, proved_until,
};
use super::inbox::{Arm, Inbox, SessionStatus};
use super::sasl::Sasl;
#[cfg(feature = "tls")]
use super::tls::Tls;
use crate::model::limits::{CONNECT_ATTEMPT_MS_MAX, REPLY_BYTES_MAX};
use crate::model::{Code, Password, Refusal, Request, Zxid};
use crate::seams::Entropy;
use crate::wire::{
    self, ConnectReply, ConnectRequest, Incoming, Shape, decode_incoming, encode_request,
};

/// The least that a reply has: xid, zxid, error.
pub(super) const REPLY_BYTES_MIN: usize = 16;

/// How much is read from a server in one go.
const READ_BYTES: usize = 8 * 1024;

/// Longest answer to a four-letter word that is read, in bytes.
const WORD_BYTES_MAX: u64 = 64 * 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing below panics half way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection, whatever it runs over.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

pub(super) type Stream = Box<dyn Duplex>;

/// How a server is reached.
#[derive(Clone, Debug)]
pub(super) enum Transport {
    Plain,
    #[cfg(feature = "tls")]
    Tls(Tls),
}

impl Transport {
    async fn dial(&self, server: &str) -> std::io::Result<Stream> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        match self {
            Transport::Plain => Ok(Box::new(stream)),
            #[cfg(feature = "tls")]
            Transport::Tls(tls) => Ok(Box::new(tls.connect(server, stream).await?)),
        }
    }
}

/// Servers that hold one tree.
pub(super) struct Tcp {
    servers: Vec<String>,
    transport: Transport,
    /// How the client proves itself, if it does.
    sasl: Option<Sasl>,
    /// Which server is tried next.
    next: Mutex<usize>,
    /// What the servers are; `Unknown` until one has said it.
    kind: Mutex<ServerKind>,
    /// Whether they are to be asked what they are.
    asks_kind: bool,
}

impl Tcp {
    /// `kind`: what the servers are; `None` finds out.
    pub(super) fn new(
        mut servers: Vec<String>,
        transport: Transport,
        sasl: Option<Sasl>,
        kind: Option<ServerKind>,
        entropy: &dyn Entropy,
    ) -> Tcp {
        // Shuffled (Fisher and Yates), so that clients spread over the servers.
        for place in (1..servers.len()).rev() {
            let mut random = [0; 8];
            entropy.fill(&mut random);
            let other = u64::from_le_bytes(random) % (place as u64 + 1);
            servers.swap(place, other as usize);
        }
        let (asks_kind, kind) = (kind.is_none(), Mutex::new(kind.unwrap_or_default()));
        Tcp { servers, transport, sasl, next: Mutex::new(0), kind, asks_kind }
    }

    fn next_server(&self) -> &str {
        let mut next = lock(&self.next);
        let server = &self.servers[*next % self.servers.len()];
        *next = (*next + 1) % self.servers.len();
        server
    }

    /// A connection that has a session, and on which the client is who it is.
    async fn establish(
        &self,
        server: &str,
        hello: &Hello,
    ) -> Result<(Stream, ConnectReply), ConnectError> {
        let (mut stream, reply) = shake_hands(&self.transport, server, hello).await?;
        if let Some(sasl) = &self.sasl {
            sasl.prove(&mut stream, server).await?;
        }
        Ok((stream, reply))
    }
}

#[async_trait]
impl Ground for Tcp {
    async fn connect(&self, hello: Hello, inbox: Arc<Inbox>) -> Result<Welcome, ConnectError> {
        let server = self.next_server();
        let limit = (hello.timeout / 3).min(Duration::from_millis(CONNECT_ATTEMPT_MS_MAX));
        match timeout(limit, self.establish(server, &hello)).await {
            Ok(Ok((stream, reply))) => {
                // Also after one that gave no answer: the next one may.
                if self.asks_kind && self.kind() == ServerKind::Unknown {
                    let asking = timeout(limit, kind_of(&self.transport, server));
                    let kind = asking.await.unwrap_or_default();
                    debug!(server, ?kind, "found out what the server is");
                    *lock(&self.kind) = kind;
                }
                welcome(stream, reply, inbox)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let reason = format!("{server} did not answer within {limit:?}");
                Err(ConnectError::Unreachable(reason))
            }
        }
    }

    async fn finds_writable(&self) -> bool {
        let place = *lock(&self.next);
        let server = self.next_server();
        let asking = ask_word(&self.transport, server, b"isro");
        let limit = Duration::from_millis(CONNECT_ATTEMPT_MS_MAX);
        let writes = timeout(limit, asking).await.is_ok_and(|answer| answer == "rw");
        if writes {
            *lock(&self.next) = place;
        }
        writes
    }

    fn is_inline(&self) -> bool {
        false
    }

    fn kind(&self) -> ServerKind {
        *lock(&self.kind)
    }
}

async fn shake_hands(
    transport: &Transport,
    server: &str,
    hello: &Hello,
) -> Result<(Stream, ConnectReply), ConnectError> {
    let failed = |what: String| ConnectError::Unreachable(format!("{server}: {what}"));
    let dialled = transport.dial(server).await;
    let mut stream = dialled.map_err(|error| failed(error.to_string()))?;
    let (session, password) = match hello.resume {
        Some((session, password)) => (session, password),
        None => (crate::model::SessionId(0), Password([0; 16])),
    };
    let mut out = BytesMut::new();
    let request = ConnectRequest {
        last_zxid: hello.last_zxid,
        timeout_ms: i32::try_from(hello.timeout.as_millis()).unwrap_or(i32::MAX),
        session,
        password: Bytes::copy_from_slice(&password.0),
        read_only: Some(hello.read_only),
    };
    request.encode(&mut out);
    let said = send(&mut stream, &out).await;
    said.map_err(|error| failed(error.to_string()))?;
    let mut received = BytesMut::new();
    let frame = next_frame(&mut stream, &mut received, ConnectReply::BYTES_MIN).await;
    let frame = match frame.map_err(failed)? {
        Some(frame) => frame,
        None if hello.last_zxid > Zxid::ZERO => {
            let seen = hello.last_zxid;
            return Err(failed(format!("it closed; it may be behind {seen}, which was seen")));
        }
        None => return Err(failed("it closed the connection".to_owned())),
    };
    let reply = ConnectReply::decode(frame).map_err(|error| failed(error.to_string()))?;
    if reply.read_only == Some(true) && !hello.read_only {
        return Err(failed("it is read-only, which this client does not want".to_owned()));
    }
    match (reply.timeout_ms > 0, hello.resume) {
        (true, _) => Ok((stream, reply)),
        (false, Some(_)) => Err(ConnectError::SessionOver),
        (false, None) => Err(failed("it gave no session".to_owned())),
    }
}

/// The payload of the next frame; `None` if the server closes instead.
pub(super) async fn next_frame(
    stream: &mut Stream,
    received: &mut BytesMut,
    bytes_min: usize,
) -> Result<Option<Bytes>, String> {
    loop {
        let taken = wire::take_frame(received, bytes_min, REPLY_BYTES_MAX);
        if let Some(frame) = taken.map_err(|error| error.to_string())? {
            return Ok(Some(frame));
        }
        if stream.read_buf(received).await.map_err(|error| error.to_string())? == 0 {
            return Ok(None);
        }
    }
}

/// Writes all of it, and lets nothing be held back.
pub(super) async fn send(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

fn welcome(
    stream: Stream,
    reply: ConnectReply,
    inbox: Arc<Inbox>,
) -> Result<Welcome, ConnectError> {
    let session_timeout = Duration::from_millis(reply.timeout_ms.unsigned_abs().into());
    let password = <[u8; 16]>::try_from(&*reply.password).map_err(|_| {
        let bytes = reply.password.len();
        ConnectError::Unreachable(format!("a session password of {bytes} bytes, not 16"))
    })?;
    let read_only = reply.read_only == Some(true);
    let shared = Arc::new(Shared {
        sending: Mutex::default(),
        filled: Notify::new(),
        inbox,
        session_timeout,
        read_only,
    });
    let task = tokio::spawn(carry(stream, Arc::clone(&shared)));
    Ok(Welcome {
        session: reply.session,
        password: Password(password),
        timeout: session_timeout,
        read_only,
        link: Box::new(TcpLink { shared, task }),
    })
}

/// Asks a server what it is, on a connection of its own: whoever does not know a request may
/// drop the connection, and with it what hangs on its session.
async fn kind_of(transport: &Transport, server: &str) -> ServerKind {
    let answer = ask_word(transport, server, b"srvr").await;
    let version = answer.lines().next().unwrap_or_default();
    if version.contains("synod") {
        ServerKind::Synod
    } else if version.starts_with("ClickHouse Keeper") {
        ServerKind::Keeper
    } else if version.starts_with("Zookeeper version:") {
        ServerKind::Apache
    } else {
        ServerKind::Unknown
    }
}

/// What a server answers to a four-letter word: nothing, if it does not.
async fn ask_word(transport: &Transport, server: &str, word: &[u8; 4]) -> String {
    let mut answer = Vec::new();
    if let Ok(mut stream) = transport.dial(server).await
        && send(&mut stream, word).await.is_ok()
    {
        // What came until an error says enough.
        let _ = (&mut stream).take(WORD_BYTES_MAX).read_to_end(&mut answer).await;
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request whose reply is awaited.
struct Pending {
    xid: i32,
    shape: Shape,
    reply_to: ReplyTo,
    arm: Option<Arm>,
    sent: Instant,
    /// Whether its reply proves that the session lives.
    proves: bool,
    /// The number of the request on this connection.
    number: u64,
}

#[derive(Default)]
struct Sending {
    /// Encoded requests that are not written yet.
    out: BytesMut,
    /// Requests under xids of their own: answered in this order.
    pending: VecDeque<Pending>,
    /// Requests under an xid that the protocol reserves: answered in order an xid.
    reserved: VecDeque<Pending>,
    last_xid: i32,
    /// How many requests were encoded.
    encoded: u64,
    /// How many of them the writer has taken: those may have reached the server.
    taken: u64,
    closed: bool,
}

struct Shared {
    sending: Mutex<Sending>,
    /// There is something to write.
    filled: Notify,
    inbox: Arc<Inbox>,
    session_timeout: Duration,
    /// No answer proves anything.
    read_only: bool,
}

/// A connection to a server.
struct TcpLink {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for TcpLink {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.break_off();
    }
}

impl Link for TcpLink {
    fn send(&self, call: Call) {
        let Call { request, reply_to, arm } = call;
        let mut sending = lock(&self.shared.sending);
        if sending.closed {
            drop(sending);
            // It may have broken before anyone took the session to be attached to it.
            self.shared.inbox.set_status(SessionStatus::Disconnected);
            let failure = Failure::Disconnected { maybe_applied: false };
            return self.shared.inbox.reply(reply_to, arm, Err(failure));
        }
        // Positive, and around again after the last.
        let xid = sending.last_xid.checked_add(1).unwrap_or(1);
        let (xid, shape) = match encode_request(&mut sending.out, xid, &request) {
            Ok(encoded) => encoded,
            Err(code) => {
                drop(sending);
                let failure = Failure::Refused(Refusal::new(code, code.rule()), Zxid::ZERO);
                return self.shared.inbox.reply(reply_to, arm, Err(failure));
            }
        };
        sending.encoded += 1;
        let proves = !self.shared.read_only
            && matches!(request, Request::Write(_) | Request::Sync { .. } | Request::Ping);
        let (sent, number) = (Instant::now(), sending.encoded);
        let pending = Pending { xid, shape, reply_to, arm, sent, proves, number };
        if xid > 0 {
            sending.last_xid = xid;
            sending.pending.push_back(pending);
        } else {
            sending.reserved.push_back(pending);
        }
        drop(sending);
        self.shared.filled.notify_one();
    }
}

impl Shared {
    /// Ends the connection at this end: whoever waits for a reply is told that none comes.
    fn break_off(&self) {
        let mut sending = lock(&self.sending);
        if std::mem::replace(&mut sending.closed, true) {
            return;
        }
        let taken = sending.taken;
        let pending = std::mem::take(&mut sending.pending);
        let reserved = std::mem::take(&mut sending.reserved);
        sending.out = BytesMut::new();
        drop(sending);
        self.inbox.set_status(SessionStatus::Disconnected);
        for pending in pending.into_iter().chain(reserved) {
            let failure = Failure::Disconnected { maybe_applied: pending.number <= taken };
            self.inbox.reply(pending.reply_to, pending.arm, Err(failure));
        }
    }

    /// The server does nothing of what was sent: whoever waits for a reply is told why.
    fn turn_away(&self, refusal: Refusal) {
        let mut sending = lock(&self.sending);
        let pending = std::mem::take(&mut sending.pending);
        let reserved = std::mem::take(&mut sending.reserved);
        drop(sending);
        for pending in pending.into_iter().chain(reserved) {
            let failure = Failure::Refused(refusal, Zxid::ZERO);
            self.inbox.reply(pending.reply_to, pending.arm, Err(failure));
        }
    }

    /// Takes out the request that a reply of this xid answers.
    fn answered(&self, xid: i32) -> Option<Pending> {
        let mut sending = lock(&self.sending);
        if xid > 0 {
            return match sending.pending.front() {
                Some(first) if first.xid == xid => sending.pending.pop_front(),
                _ => None,
            };
        }
        let place = sending.reserved.iter().position(|pending| pending.xid == xid)?;
        sending.reserved.remove(place)
    }

    /// Delivers one frame.
    fn deliver(&self, frame: Bytes) -> Result<(), wire::DecodeError> {
        let mut pending = None;
        let shape_of = |xid| {
            pending = self.answered(xid);
            pending.as_ref().map(|pending: &Pending| pending.shape.clone())
        };
        match decode_incoming(frame, shape_of) {
            Ok(Incoming::Event(None)) => {}
            Ok(Incoming::Event(Some(event))) => {
                let mut wakers = Vec::new();
                self.inbox.event(&event, &mut wakers);
                wakers.into_iter().for_each(Waker::wake);
            }
            Ok(Incoming::Reply { zxid, result, .. }) => {
                let Some(pending) = pending else { return Ok(()) };
                let over = matches!(&result, Err(refusal) if refusal.code == Code::SessionExpired);
                if pending.proves && !over {
                    self.inbox.prove_until(proved_until(pending.sent, self.session_timeout));
                }
                let zxid = zxid.unwrap_or_default();
                let turned_away = result.as_ref().err().copied();
                let turned_away = turned_away.filter(|it| it.code == Code::ClosedRequireSasl);
                let reply = result
                    .map(|response| (response, zxid))
                    .map_err(|refusal| Failure::Refused(refusal, zxid));
                self.inbox.reply(pending.reply_to, pending.arm, reply);
                turned_away.into_iter().for_each(|refusal| self.turn_away(refusal));
            }
            Err(error) => {
                // The request that it answered, if any, was done or not: nobody knows.
                if let Some(Pending { reply_to, arm, .. }) = pending {
                    let failure = Failure::Disconnected { maybe_applied: true };
                    self.inbox.reply(reply_to, arm, Err(failure));
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Carries both directions until one of them ends.
async fn carry(stream: Stream, shared: Arc<Shared>) {
    let (from, to) = split(stream);
    let why = tokio::select! {
        why = receive(from, &shared) => why,
        why = write(to, &shared) => why,
    };
    debug!(why, "the connection ended");
    shared.break_off();
}

async fn write(mut to: WriteHalf<Stream>, shared: &Shared) -> String {
    loop {
        let out = {
            let mut sending = lock(&shared.sending);
            sending.taken = sending.encoded;
            sending.out.split()
        };
        if out.is_empty() {
            shared.filled.notified().await;
        } else if let Err(error) = send(&mut to, &out).await {
            return error.to_string();
        }
    }
}

async fn receive(mut from: ReadHalf<Stream>, shared: &Shared) -> String {
    // Pings go out thrice in a timeout: two without an answer, and another server may do better
    // while the session still lives.
    let patience = shared.session_timeout * 2 / 3;
    let mut received = BytesMut::new();
    let mut read = vec![0; READ_BYTES].into_boxed_slice();
    loop {
        match timeout(patience, from.read(&mut read)).await {
            Err(_) => return format!("nothing was heard for {patience:?}"),
            Ok(Ok(0)) => return "the server closed it".to_owned(),
            Ok(Err(error)) => return error.to_string(),
            // Copied, so that a value which is kept keeps what came with it, and not all of `read`.
            Ok(Ok(bytes)) => received.extend_from_slice(&read[..bytes]),
        }
        loop {
            match wire::take_frame(&mut received, REPLY_BYTES_MIN, REPLY_BYTES_MAX) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    if let Err(error) = shared.deliver(frame) {
                        warn!(%error, "a reply cannot be read");
                        return error.to_string();
                    }
                }
                Err(error) => return error.to_string(),
            }
        }
        if received.is_empty() {
            // A large reply's buffer is not kept.
            received = BytesMut::new();
        }
    }
}
