//! The least that a hand-over takes on a server: a deletion, the event of it on another connection,
//! and a list over that one. Blocking sockets, one thread, nothing in between.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use synod_core::model::{Op, Read, Request, SessionId, Write, Zxid};
use synod_core::wire::{ConnectRequest, XID_EVENT, encode_request};

use crate::common::SESSION_TIMEOUT;

/// Deletes `children` of `parent` one after the other; microseconds of each.
pub(crate) fn hand_overs(server: SocketAddr, parent: &str, children: &[String]) -> Vec<f64> {
    let (mut holder, mut waiter) = (Connection::open(server), Connection::open(server));
    let parent: Arc<str> = parent.into();
    let mut took = Vec::new();
    for child in children {
        let path: Arc<str> = format!("{parent}/{child}").into();
        waiter.ask(Request::Read(Read::GetData { path: Arc::clone(&path), watch: true }));
        waiter.answer();
        let begun = Instant::now();
        holder.ask(Request::Write(Write::Op(Op::Delete { path, version: -1 })));
        assert_eq!(waiter.frame().xid, XID_EVENT);
        waiter.ask(Request::Read(Read::Children { path: Arc::clone(&parent), watch: false }));
        waiter.answer();
        took.push(begun.elapsed().as_secs_f64() * 1e6);
        holder.answer();
    }
    took
}

struct Connection {
    stream: BufReader<TcpStream>,
    xid: i32,
}

/// The head of a reply or of an event.
struct Head {
    xid: i32,
    error: i32,
}

impl Connection {
    fn open(server: SocketAddr) -> Connection {
        let mut stream = TcpStream::connect(server).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        let mut out = BytesMut::new();
        let hello = ConnectRequest {
            last_zxid: Zxid::ZERO,
            timeout_ms: SESSION_TIMEOUT.as_millis() as i32,
            session: SessionId(0),
            password: Bytes::from_static(&[0; 16]),
            read_only: Some(false),
        };
        hello.encode(&mut out);
        stream.write_all(&out).expect("connected");
        let mut connection = Connection { stream: BufReader::new(stream), xid: 0 };
        connection.payload();
        connection
    }

    fn ask(&mut self, request: Request) {
        self.xid += 1;
        let mut out = BytesMut::new();
        encode_request(&mut out, self.xid, &request).expect("valid");
        self.stream.get_mut().write_all(&out).expect("connected");
    }

    fn payload(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("connected");
        let mut payload = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut payload).expect("connected");
        payload
    }

    fn frame(&mut self) -> Head {
        let payload = self.payload();
        let at = |place: usize| {
            i32::from_be_bytes(payload[place..place + 4].try_into().expect("four bytes"))
        };
        Head { xid: at(0), error: at(12) }
    }

    fn answer(&mut self) {
        let head = self.frame();
        assert_eq!((head.xid, head.error), (self.xid, 0));
    }
}
