//! One connection, a synchronous one: a request, then its reply, and the events that came before.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use tokio::net::TcpSocket;

use crate::bytes::Out;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(4);

/// What a client asks for when it connects.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) proto: i32,
    pub(crate) last_zxid: i64,
    pub(crate) timeout_ms: i32,
    pub(crate) session: i64,
    pub(crate) password: Vec<u8>,
    /// Left out by old clients.
    pub(crate) read_only: Option<bool>,
    /// What stands behind the record.
    pub(crate) trailing: Vec<u8>,
}

impl Hello {
    pub(crate) fn new_session(timeout_ms: i32) -> Hello {
        Hello {
            proto: 0,
            last_zxid: 0,
            timeout_ms,
            session: 0,
            password: vec![0; 16],
            read_only: Some(false),
            trailing: Vec::new(),
        }
    }

    fn payload(&self) -> Vec<u8> {
        let out = Out::default().i32(self.proto).i64(self.last_zxid).i32(self.timeout_ms);
        let out = out.i64(self.session).buffer(Some(&self.password));
        let out = self.read_only.into_iter().fold(out, Out::bool);
        out.append(&self.trailing).0
    }
}

/// What a server says to a hello.
#[derive(Clone, Debug, Default)]
pub(crate) struct Welcome {
    pub(crate) timeout_ms: i32,
    pub(crate) session: i64,
    pub(crate) password: Vec<u8>,
    pub(crate) bytes: usize,
}

/// A watch event.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) zxid: i64,
    pub(crate) error: i32,
    pub(crate) kind: i32,
    pub(crate) state: i32,
    pub(crate) path: String,
    /// Whether the reply to the request of this step was there already.
    pub(crate) after_reply: bool,
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let late = if self.after_reply { " after the reply" } else { "" };
        write!(f, "{}:{:?}{late}", self.kind, self.path)?;
        if (self.error, self.state) != (0, 3) {
            write!(f, " (error {}, state {})", self.error, self.state)?;
        }
        Ok(())
    }
}

impl Event {
    /// Whether it tells the same, whatever zxid it bears.
    pub(crate) fn is_like(&self, other: &Event) -> bool {
        Event { zxid: other.zxid, ..self.clone() } == *other
    }
}

/// A reply.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) xid: i32,
    pub(crate) zxid: i64,
    pub(crate) error: i32,
    pub(crate) body: Vec<u8>,
}

/// A connection of a client.
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    pub(crate) events: Vec<Event>,
    /// Whether the reply of this step has come.
    pub(crate) replied: bool,
    /// Whether the server let a request go unanswered.
    pub(crate) silent: bool,
    /// The highest zxid of a reply.
    pub(crate) last_zxid: i64,
}

impl Connection {
    /// Connects from an address of its own, and says hello; `None` as the welcome if the server
    /// closes the connection instead.
    pub(crate) fn open(
        from: IpAddr,
        to: SocketAddr,
        hello: &Hello,
    ) -> (Connection, Option<Welcome>) {
        let mut connection = Connection::bare(from, to).expect("the server listens");
        connection.send(&hello.payload());
        let welcome = connection.frame().map(|frame| welcome(&frame));
        connection.last_zxid = hello.last_zxid;
        (connection, welcome)
    }

    fn bare(from: IpAddr, to: SocketAddr) -> std::io::Result<Connection> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let stream = runtime.block_on(async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(from, 0))?;
            socket.connect(to).await?.into_std()
        })?;
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (received, events) = (Vec::new(), Vec::new());
        Ok(Connection { stream, received, events, replied: false, silent: false, last_zxid: 0 })
    }

    /// Sends a frame. A connection that is gone shows when the answer is read.
    pub(crate) fn send(&mut self, payload: &[u8]) {
        let frame = [&(payload.len() as i32).to_be_bytes(), payload].concat();
        let _ = self.stream.write_all(&frame);
    }

    pub(crate) fn request(&mut self, xid: i32, op: i32, body: &[u8]) {
        self.send(&Out::default().i32(xid).i32(op).append(body).0);
    }

    /// The next frame; `None` when the server has closed the connection.
    fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = self.received.first_chunk::<4>() {
                let end = 4 + usize::try_from(i32::from_be_bytes(*length)).expect("a length");
                if self.received.len() >= end {
                    let frame = self.received[4..end].to_vec();
                    self.received.drain(..end);
                    return Some(frame);
                }
            }
            let mut chunk = [0; 16_384];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.received.extend(&chunk[..count]),
                Err(error) => {
                    self.silent |= error.kind() == ErrorKind::WouldBlock;
                    return None;
                }
            }
        }
    }

    /// The next reply; events that come first are kept.
    pub(crate) fn reply(&mut self) -> Option<Reply> {
        loop {
            let frame = self.frame()?;
            let (head, body) = frame.split_at_checked(16).expect("a reply has a header");
            let xid = i32::from_be_bytes(head[..4].try_into().expect("4 bytes"));
            let zxid = i64::from_be_bytes(head[4..12].try_into().expect("8 bytes"));
            let error = i32::from_be_bytes(head[12..].try_into().expect("4 bytes"));
            if xid != -1 {
                self.last_zxid = self.last_zxid.max(zxid);
                return Some(Reply { xid, zxid, error, body: body.to_vec() });
            }
            let number = |at: usize| {
                let bytes = body.get(at..).and_then(<[u8]>::first_chunk::<4>);
                bytes.map_or(0, |bytes| i32::from_be_bytes(*bytes))
            };
            let path = body.get(12..).unwrap_or_default();
            let path = match usize::try_from(number(8)) {
                Ok(length) if length == path.len() => String::from_utf8_lossy(path).into_owned(),
                _ => format!("no path, but {}", body.escape_ascii()),
            };
            let (kind, state, after_reply) = (number(0), number(4), self.replied);
            self.events.push(Event { zxid, error, kind, state, path, after_reply });
        }
    }

    /// Ends the connection, and waits until the server has noticed: one that notices later may take
    /// the session's next connection for this one.
    pub(crate) fn hang_up(mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        while self.reply().is_some() {}
    }

    /// What the server does next, which should be to end the connection.
    pub(crate) fn end(&mut self) -> String {
        match self.reply() {
            Some(reply) => format!("{reply:?}"),
            None if self.silent => "open".to_owned(),
            None => "closed".to_owned(),
        }
    }
}

fn welcome(frame: &[u8]) -> Welcome {
    let number = |at: usize| {
        frame.get(at..).and_then(<[u8]>::first_chunk::<4>).map_or(0, |it| i32::from_be_bytes(*it))
    };
    let session = (i64::from(number(8)) << 32) | i64::from(number(12) as u32);
    let password = frame.iter().skip(20).take(number(16).max(0) as usize).copied().collect();
    Welcome { timeout_ms: number(4), session, password, bytes: frame.len() }
}
