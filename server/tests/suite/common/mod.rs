//! A client that says exactly what it is told to, for the tests.
#![allow(dead_code, reason = "each test file uses its part of it")]

pub(crate) mod carrier;
pub(crate) mod certificates;
pub(crate) mod cluster;

use std::collections::HashMap;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use synod_core::model::limits::REPLY_BYTES_MAX;
use synod_core::model::{
    Acl, AddWatchMode, Create, CreateMode, Event, Op, Read, Refusal, Request, Response, SessionId,
    WatchRequest, Write, Zxid,
};
use synod_core::wire::{
    ConnectReply, ConnectRequest, Incoming, Shape, decode_incoming, encode_request, take_frame,
};
use synod_server::{Config, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Far beyond what anything here takes: a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration for a port of the system's choice.
pub(crate) fn config() -> Config {
    Config { listen: ([127, 0, 0, 1], 0).into(), ..Config::default() }
}

/// A server with that configuration.
pub(crate) async fn start(config: Config) -> Server {
    Server::start(config).await.expect("starts")
}

/// What asks for a new session.
pub(crate) fn new_session() -> ConnectRequest {
    ConnectRequest {
        last_zxid: Zxid::ZERO,
        timeout_ms: 10_000,
        session: SessionId(0),
        password: Bytes::from_static(&[0; 16]),
        read_only: Some(false),
    }
}

/// One connection.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    received: BytesMut,
    shapes: HashMap<i32, Shape>,
    xid: i32,
    pub(crate) welcome: Option<ConnectReply>,
}

impl Raw {
    /// Connects and says nothing.
    pub(crate) async fn dial(server: &Server) -> Raw {
        let stream = TcpStream::connect(server.local_addr()).await.expect("connects");
        stream.set_nodelay(true).expect("is a socket");
        let (received, shapes) = (BytesMut::new(), HashMap::new());
        Raw { stream, received, shapes, xid: 0, welcome: None }
    }

    /// Connects and opens a session.
    pub(crate) async fn open(server: &Server) -> Raw {
        let mut raw = Raw::dial(server).await;
        let welcome = raw.hello(&new_session()).await.expect("is answered");
        assert_ne!(welcome.timeout_ms, 0);
        raw.welcome = Some(welcome);
        raw
    }

    /// Connects and opens a session, again and again: a member that finds no leader in time closes.
    pub(crate) async fn when_led(server: &Server) -> Raw {
        Raw::open_at_last(server, &new_session()).await
    }

    /// The same, with that hello: leaders come and go, and a loaded machine takes its time.
    pub(crate) async fn open_at_last(server: &Server, hello: &ConnectRequest) -> Raw {
        let opening = async {
            loop {
                let mut raw = Raw::dial(server).await;
                if let Some(welcome) = raw.hello(hello).await {
                    assert_ne!(welcome.timeout_ms, 0);
                    raw.welcome = Some(welcome);
                    return raw;
                }
            }
        };
        tokio::time::timeout(3 * PATIENCE, opening).await.expect("there is a leader soon")
    }

    /// What re-attaches to this one's session.
    pub(crate) fn resume(&self) -> ConnectRequest {
        let welcome = self.welcome.as_ref().expect("has a session");
        let (session, password) = (welcome.session, welcome.password.clone());
        ConnectRequest { session, password, ..new_session() }
    }

    /// Shakes hands; `None` if the server closes instead.
    pub(crate) async fn hello(&mut self, hello: &ConnectRequest) -> Option<ConnectReply> {
        let mut out = BytesMut::new();
        hello.encode(&mut out);
        self.bytes(&out).await;
        let payload = self.frame().await?;
        Some(ConnectReply::decode(payload).expect("is a connect reply"))
    }

    /// Sends bytes as they are.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        // A server that has closed already is what some tests wait for.
        let _ = self.stream.write_all(bytes).await;
    }

    /// Sends a frame of xid, operation and body.
    pub(crate) async fn raw(&mut self, xid: i32, operation: i32, body: &[u8]) {
        let mut out = BytesMut::new();
        out.put_i32(8 + body.len() as i32);
        out.put_i32(xid);
        out.put_i32(operation);
        out.put_slice(body);
        self.bytes(&out).await;
    }

    /// Appends a request to `out`; its xid.
    pub(crate) fn encode(&mut self, out: &mut BytesMut, request: &Request) -> i32 {
        self.xid += 1;
        let (xid, shape) = encode_request(out, self.xid, request).expect("is a client's");
        self.shapes.insert(xid, shape);
        xid
    }

    /// Sends a request; its xid.
    pub(crate) async fn send(&mut self, request: &Request) -> i32 {
        let mut out = BytesMut::new();
        let xid = self.encode(&mut out, request);
        self.bytes(&out).await;
        xid
    }

    /// The payload of the next frame; `None` when the server has closed.
    pub(crate) async fn frame(&mut self) -> Option<Bytes> {
        loop {
            let taken = take_frame(&mut self.received, 0, REPLY_BYTES_MAX);
            if let Some(payload) = taken.expect("the server sends good frames") {
                return Some(payload);
            }
            let read = self.stream.read_buf(&mut self.received);
            match tokio::time::timeout(PATIENCE, read).await.expect("comes in time") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next reply or event.
    pub(crate) async fn incoming(&mut self) -> Incoming {
        let payload = self.frame().await.expect("the server has not closed");
        decode_incoming(payload, |xid| self.shapes.get(&xid).cloned()).expect("can be read")
    }

    /// The next event; fails on a reply.
    pub(crate) async fn event(&mut self) -> Event {
        match self.incoming().await {
            Incoming::Event(Some(event)) => event,
            other => panic!("not an event: {other:?}"),
        }
    }

    /// The next reply; fails on an event.
    pub(crate) async fn reply(&mut self) -> (i32, Option<Zxid>, Result<Response, Refusal>) {
        match self.incoming().await {
            Incoming::Reply { xid, zxid, result } => (xid, zxid, result),
            other => panic!("not a reply: {other:?}"),
        }
    }

    /// Xid, zxid and error of the next reply, whatever follows them.
    pub(crate) async fn header(&mut self) -> Option<(i32, i64, i32)> {
        use bytes::Buf;
        let mut payload = self.frame().await?;
        Some((payload.get_i32(), payload.get_i64(), payload.get_i32()))
    }

    /// Asks and takes the reply.
    pub(crate) async fn call(&mut self, request: &Request) -> Result<Response, Refusal> {
        let sent = self.send(request).await;
        let (xid, _, result) = self.reply().await;
        assert_eq!(xid, sent, "replies come in order");
        result
    }

    /// Waits until the server closes, and nothing comes before that.
    pub(crate) async fn closed(&mut self) {
        assert_eq!(self.frame().await, None);
    }
}

pub(crate) fn create(path: &str, data: &[u8], mode: CreateMode) -> Request {
    let (path, data) = (path.into(), Some(Bytes::copy_from_slice(data)));
    Request::Write(Write::Op(Op::Create(Create { path, data, acl: Acl::open(), mode })))
}

pub(crate) fn set(path: &str, data: &[u8]) -> Request {
    let data = Some(Bytes::copy_from_slice(data));
    Request::Write(Write::Op(Op::SetData { path: path.into(), data, version: -1 }))
}

pub(crate) fn delete(path: &str) -> Request {
    Request::Write(Write::Op(Op::Delete { path: path.into(), version: -1 }))
}

pub(crate) fn get(path: &str, watch: bool) -> Request {
    Request::Read(Read::GetData { path: path.into(), watch })
}

pub(crate) fn exists(path: &str, watch: bool) -> Request {
    Request::Read(Read::Exists { path: path.into(), watch })
}

pub(crate) fn children(path: &str, watch: bool) -> Request {
    Request::Read(Read::Children { path: path.into(), watch })
}

pub(crate) fn watch(path: &str, mode: AddWatchMode) -> Request {
    Request::Watch(WatchRequest::Add { path: path.into(), mode })
}

pub(crate) fn close() -> Request {
    Request::Write(Write::CloseSession)
}

/// What a four-letter word is answered.
pub(crate) async fn word(server: &Server, word: &str) -> String {
    let mut stream = TcpStream::connect(server.local_addr()).await.expect("connects");
    stream.write_all(word.as_bytes()).await.expect("sends");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(PATIENCE, read).await.expect("comes in time").expect("is text");
    answer
}

/// Waits until that many requests were read and not answered; how many there are then.
pub(crate) async fn until_outstanding(server: &Server, least: usize) -> usize {
    let filling = async {
        loop {
            let srvr = word(server, "srvr").await;
            let line = srvr.lines().find_map(|line| line.strip_prefix("Outstanding: "));
            let count = line.expect("says it").parse().expect("is a number");
            if count >= least {
                return count;
            }
        }
    };
    tokio::time::timeout(PATIENCE, filling).await.expect("comes in time")
}
