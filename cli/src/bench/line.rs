//! One connection of the load generator, which trusts no reply.
//!
//! Much less than a client: no reconnecting, no pings by itself, one plain TCP connection. What it
//! costs is taken from the server it measures, since both run on one machine.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use synod_core::model::limits::REQUEST_BYTES_MAX;
use synod_core::model::{Code, Event, Refusal, Request, Response, SessionId, Write, Zxid};
use synod_core::wire::{
    ConnectReply, ConnectRequest, Incoming, Shape, XID_PING, decode_incoming, encode_request,
    take_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::Failed;

/// The session timeout that is asked for. Connections that rest longer ping.
pub(super) const SESSION_TIMEOUT_MS: i32 = 30_000;
/// How long a reply may take before the run is given up.
const REPLY_MAX: Duration = Duration::from_secs(60);
/// A connection that has nothing to ask pings so often.
const PING_EVERY: Duration = Duration::from_millis(SESSION_TIMEOUT_MS as u64 / 3);
/// Read buffer of a connection: as large as the largest burst of replies usual here.
const READ_BYTES: usize = 16 << 10;
/// A reply's header, or an event's.
const REPLY_BYTES_MIN: usize = 16;

/// What was asked and not yet answered.
struct Asked {
    xid: i32,
    shape: Shape,
    at: Instant,
}

/// An answer, when it was asked for, and when it came.
pub(super) struct Answer {
    pub(super) result: Result<Response, Refusal>,
    pub(super) zxid: Zxid,
    pub(super) asked: Instant,
    pub(super) came: Instant,
}

/// A connection with its session.
pub(super) struct Line {
    stream: TcpStream,
    received: BytesMut,
    sending: BytesMut,
    asked: VecDeque<Asked>,
    /// How many of these are pings that nobody asked for.
    pings: usize,
    events: VecDeque<(Event, Instant)>,
    answers: VecDeque<Answer>,
    xid: i32,
    /// The highest zxid that a reply has told: none may be lower.
    seen: Zxid,
    session: SessionId,
    /// When bytes came last.
    heard: Instant,
    /// Goes off now and then, to see whether bytes have come: whoever waits for a reply has waited too
    /// long then, or whoever waits for an event pings. It is not set anew each time: that would cost
    /// more than all else that is done for a reply.
    patience: Pin<Box<Sleep>>,
}

impl Line {
    /// Connects, and opens a session.
    pub(super) async fn open(address: &str) -> Result<Line, Failed> {
        let cannot = |error| Failed::CannotConnect(format!("{address}: {error}"));
        let stream = TcpStream::connect(address).await.map_err(cannot)?;
        stream.set_nodelay(true).map_err(cannot)?;
        let mut line = Line {
            stream,
            received: BytesMut::new(),
            sending: BytesMut::new(),
            asked: VecDeque::new(),
            pings: 0,
            events: VecDeque::new(),
            answers: VecDeque::new(),
            xid: 0,
            seen: Zxid::ZERO,
            session: SessionId(0),
            heard: Instant::now(),
            patience: Box::pin(sleep(PING_EVERY)),
        };
        let hello = ConnectRequest {
            last_zxid: Zxid::ZERO,
            timeout_ms: SESSION_TIMEOUT_MS,
            session: SessionId(0),
            password: bytes::Bytes::from_static(&[0; 16]),
            read_only: Some(false),
        };
        hello.encode(&mut line.sending);
        line.flush().await?;
        let payload = loop {
            let (min, max) = (ConnectReply::BYTES_MIN, REQUEST_BYTES_MAX);
            match take_frame(&mut line.received, min, max).map_err(Failed::wrong)? {
                Some(payload) => break payload,
                None => line.receive().await?,
            }
        };
        let reply = ConnectReply::decode(payload).map_err(Failed::wrong)?;
        if reply.session == SessionId(0) || reply.timeout_ms <= 0 {
            return Err(Failed::Wrong(format!("no session was opened: {reply:?}")));
        }
        line.session = reply.session;
        Ok(line)
    }

    /// The number of the session.
    pub(super) fn session(&self) -> SessionId {
        self.session
    }

    /// How many requests were put whose answers were not taken.
    pub(super) fn outstanding(&self) -> usize {
        self.asked.len() - self.pings + self.answers.len()
    }

    /// The highest zxid that was told.
    pub(super) fn seen(&self) -> Zxid {
        self.seen
    }

    /// Puts a request behind those that wait to be sent; what it takes counts from `at`.
    pub(super) fn put(&mut self, request: &Request, at: Instant) -> Result<(), Failed> {
        self.xid = if self.xid == i32::MAX { 1 } else { self.xid + 1 };
        let (xid, shape) = encode_request(&mut self.sending, self.xid, request)
            .map_err(|code| Failed::Wrong(format!("{request:?} cannot be sent: {code:?}")))?;
        self.asked.push_back(Asked { xid, shape, at });
        Ok(())
    }

    /// Sends what waits. When this is cancelled, a part may have been sent.
    pub(super) async fn flush(&mut self) -> Result<(), Failed> {
        while !self.sending.is_empty() {
            // Not `write_buf`, whose `writev` costs more than `send`.
            let sent = self.stream.write(&self.sending).await.map_err(Failed::broken)?;
            self.sending.advance(sent);
        }
        Ok(())
    }

    /// The next answer. Bytes that have come hold often more than one: only the first of them waits.
    pub(super) async fn answer(&mut self) -> Result<Answer, Failed> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Ok(answer);
            }
            self.receive().await?;
            self.take()?;
        }
    }

    /// An answer that is already there.
    pub(super) fn answer_at_hand(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    /// The next event, and when it came.
    pub(super) async fn event(&mut self) -> Result<(Event, Instant), Failed> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            self.receive().await?;
            self.take()?;
        }
    }

    /// Asks and waits.
    pub(super) async fn ask(&mut self, request: &Request) -> Result<Answer, Failed> {
        self.put(request, Instant::now())?;
        self.flush().await?;
        self.answer().await
    }

    /// Asks for what must be done.
    pub(super) async fn done(&mut self, request: &Request) -> Result<Response, Failed> {
        self.ask(request).await?.result.map_err(|refusal| Failed::refused(request, &refusal))
    }

    /// Waits until this server has applied all that was done before.
    pub(super) async fn catch_up(&mut self) -> Result<(), Failed> {
        self.done(&Request::Sync { path: "/".into() }).await.map(|_| ())
    }

    /// Creates a znode unless it is there.
    pub(super) async fn ensure(&mut self, path: &str) -> Result<(), Failed> {
        let request = super::work::create(path, None, synod::CreateMode::Persistent);
        match self.ask(&request).await?.result {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.code == Code::NodeExists => Ok(()),
            Err(refusal) => Err(Failed::refused(&request, &refusal)),
        }
    }

    /// Ends the session, and waits for the word that it is ended.
    pub(super) async fn close(mut self) -> Result<(), Failed> {
        self.done(&Request::Write(Write::CloseSession)).await.map(|_| ())
    }

    async fn receive(&mut self) -> Result<(), Failed> {
        self.received.reserve(READ_BYTES);
        loop {
            tokio::select! {
                biased;
                read = self.stream.read_buf(&mut self.received) => {
                    self.heard = Instant::now();
                    return match read.map_err(Failed::broken)? {
                        0 => Err(Failed::Broken("the server closed the connection".to_owned())),
                        _ => Ok(()),
                    };
                }
                () = &mut self.patience => {
                    let now = Instant::now();
                    self.patience.as_mut().reset((now + PING_EVERY).into());
                    if let Some(last) = self.asked.back() {
                        if self.heard.max(last.at) + REPLY_MAX <= now {
                            let text = format!("no reply came within {REPLY_MAX:?}");
                            return Err(Failed::Broken(text));
                        }
                        continue;
                    }
                    self.put(&Request::Ping, now)?;
                    self.pings += 1;
                    self.flush().await?;
                }
            }
        }
    }

    /// Takes the frames that are complete, and holds each to the rules that all replies obey: they
    /// come in the order of the requests, and zxids never fall.
    fn take(&mut self) -> Result<(), Failed> {
        let came = self.heard;
        while let Some(payload) =
            take_frame(&mut self.received, REPLY_BYTES_MIN, usize::MAX).map_err(Failed::wrong)?
        {
            let mut asked_at = came;
            let asked = &mut self.asked;
            let incoming = decode_incoming(payload, |xid| {
                let Asked { shape, at, .. } = asked.pop_front().filter(|asked| asked.xid == xid)?;
                asked_at = at;
                Some(shape)
            });
            match incoming.map_err(Failed::wrong)? {
                Incoming::Event(Some(event)) => self.events.push_back((event, came)),
                Incoming::Event(None) => {}
                Incoming::Reply { xid: XID_PING, .. } if self.pings > 0 => self.pings -= 1,
                Incoming::Reply { xid, zxid, result } => {
                    let zxid = zxid.unwrap_or(self.seen);
                    if zxid < self.seen {
                        let seen = self.seen;
                        let text = format!("reply {xid} has zxid {zxid}, behind {seen}");
                        return Err(Failed::Wrong(text));
                    }
                    self.seen = zxid;
                    self.answers.push_back(Answer { result, zxid, asked: asked_at, came });
                }
            }
        }
        Ok(())
    }
}
