//! The protocol without a client's conveniences: requests go out in one go, replies come in one by
//! one, and whoever calls says to whom and in which session.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use synod_core::model::{Refusal, Request, Response, SessionId, Zxid};
use synod_core::wire::{
    ConnectReply, ConnectRequest, Incoming, Shape, decode_incoming, encode_request, take_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Largest frame that a test receives, in bytes.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// A session, wherever it is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub id: SessionId,
    /// Its secret.
    pub password: Bytes,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum NoConnection {
    /// Nobody answers, or not now.
    Broken(io::Error),
    /// The server says that the session is over.
    SessionOver,
}

impl From<io::Error> for NoConnection {
    fn from(error: io::Error) -> NoConnection {
        NoConnection::Broken(error)
    }
}

/// A reply to a request.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The zxid that the reply bears.
    pub zxid: Zxid,
    /// The answer.
    pub result: Result<Response, Refusal>,
}

/// A connection that has its session.
pub struct Connection {
    stream: TcpStream,
    out: BytesMut,
    received: BytesMut,
    /// What was asked and not answered, oldest first.
    asked: VecDeque<(i32, Shape)>,
    next_xid: i32,
    /// The session that is attached to it.
    pub session: Session,
    /// The timeout that was granted.
    pub timeout: Duration,
}

fn malformed(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

impl Connection {
    /// Connects, and opens a session or attaches one, within `patience`.
    ///
    /// # Errors
    /// [`NoConnection`].
    pub async fn open(
        address: SocketAddr,
        session: Option<&Session>,
        last_zxid: Zxid,
        session_timeout: Duration,
        patience: Duration,
    ) -> Result<Connection, NoConnection> {
        let opening = Connection::open_slowly(address, session, last_zxid, session_timeout);
        timeout(patience, opening).await.unwrap_or_else(|late| Err(io::Error::from(late).into()))
    }

    async fn open_slowly(
        address: SocketAddr,
        session: Option<&Session>,
        last_zxid: Zxid,
        session_timeout: Duration,
    ) -> Result<Connection, NoConnection> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let password = session.map_or(Bytes::from_static(&[0; 16]), |it| it.password.clone());
        let hello = ConnectRequest {
            last_zxid,
            timeout_ms: session_timeout.as_millis() as i32,
            session: session.map_or(SessionId(0), |it| it.id),
            password,
            read_only: Some(false),
        };
        let (mut out, mut received) = (BytesMut::new(), BytesMut::new());
        hello.encode(&mut out);
        stream.write_all_buf(&mut out).await?;
        let payload = frame(&mut stream, &mut received, ConnectReply::BYTES_MIN).await?;
        let reply = ConnectReply::decode(payload).map_err(malformed)?;
        if reply.timeout_ms == 0 {
            return Err(NoConnection::SessionOver);
        }
        Ok(Connection {
            stream,
            out,
            received,
            asked: VecDeque::new(),
            next_xid: 1,
            session: Session { id: reply.session, password: reply.password },
            timeout: Duration::from_millis(reply.timeout_ms as u64),
        })
    }

    /// Adds a request to what is to be sent.
    ///
    /// # Panics
    /// For a request that no client may make.
    pub fn put(&mut self, request: &Request) {
        let asked = encode_request(&mut self.out, self.next_xid, request);
        // Some go under a number that the protocol reserves for them.
        self.asked.push_back(asked.expect("a client's request"));
        self.next_xid += 1;
    }

    /// Sends what was put.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all_buf(&mut self.out).await
    }

    /// The port of its client's end.
    ///
    /// # Panics
    /// If it is not connected.
    pub fn port(&self) -> u16 {
        self.stream.local_addr().expect("it is connected").port()
    }

    /// How many requests are not answered.
    pub fn outstanding(&self) -> usize {
        self.asked.len()
    }

    /// The reply to the oldest request. A future that is dropped has lost nothing.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub async fn reply(&mut self) -> io::Result<Reply> {
        loop {
            if let Some(reply) = self.ready()? {
                return Ok(reply);
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The reply to the oldest request, if it was received already.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub fn ready(&mut self) -> io::Result<Option<Reply>> {
        while let Some(payload) =
            take_frame(&mut self.received, 16, FRAME_BYTES_MAX).map_err(malformed)?
        {
            let oldest = self.asked.front().map(|(xid, _)| *xid);
            let asked = &mut self.asked;
            let shape_of = |xid| match oldest == Some(xid) {
                true => asked.pop_front().map(|(_, shape)| shape),
                false => None,
            };
            match decode_incoming(payload, shape_of) {
                Ok(Incoming::Event(_)) => {}
                Ok(Incoming::Reply { zxid, result, .. }) => {
                    return Ok(Some(Reply { zxid: zxid.unwrap_or(Zxid::ZERO), result }));
                }
                Err(error) => return Err(malformed(format!("{error}, and {oldest:?} was due"))),
            }
        }
        Ok(None)
    }

    /// Sends one request and waits for its reply.
    ///
    /// # Errors
    /// The connection is of no more use.
    ///
    /// # Panics
    /// If there are others on their way.
    pub async fn ask(&mut self, request: &Request) -> io::Result<Reply> {
        assert_eq!(self.outstanding(), 0, "others would be answered first");
        self.put(request);
        self.flush().await?;
        self.reply().await
    }
}

async fn frame(stream: &mut TcpStream, received: &mut BytesMut, min: usize) -> io::Result<Bytes> {
    loop {
        if let Some(payload) = take_frame(received, min, FRAME_BYTES_MAX).map_err(malformed)? {
            return Ok(payload);
        }
        if stream.read_buf(received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
