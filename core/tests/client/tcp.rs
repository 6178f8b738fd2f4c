//! The client against a server that does what the test says, byte by byte.

use std::time::Duration;

use synod_core::client::{Client, ClientBuilder, ServerKind, Session, SessionStatus};
use synod_core::model::{Error, SessionEnd, Zxid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

const SESSION: i64 = 0x17;
const PASSWORD: [u8; 16] = *b"sixteen bytes...";
const XID_PING: i32 = -2;

/// What a client says first.
#[derive(Debug, PartialEq)]
struct Hello {
    last_zxid: i64,
    session: i64,
    password: Vec<u8>,
    read_only: bool,
}

struct Server {
    listener: TcpListener,
}

impl Server {
    async fn start() -> Server {
        Server { listener: TcpListener::bind("127.0.0.1:0").await.expect("a free port") }
    }

    fn address(&self) -> String {
        self.listener.local_addr().expect("it listens").to_string()
    }

    /// A client that does not ask what the server is.
    fn builder(&self) -> ClientBuilder {
        Client::builder().servers(self.address()).server_kind(ServerKind::Synod)
    }

    /// Takes a connection on which it is asked what it is, and answers that.
    async fn asked(&self, answer: &[u8]) {
        let (mut stream, _) = self.listener.accept().await.expect("it listens");
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.expect("a word");
        assert_eq!(&word, b"srvr");
        stream.write_all(answer).await.expect("is taken");
    }

    /// Takes a connection and reads what the client says first.
    async fn accept(&self) -> (Connection, Hello) {
        let (stream, _) = self.listener.accept().await.expect("it listens");
        let mut connection = Connection { stream };
        let said = connection.frame().await.expect("the client says who it is");
        let hello = Hello {
            last_zxid: number(&said[4..12]),
            session: number(&said[16..24]),
            password: said[28..44].to_vec(),
            read_only: said[44] != 0,
        };
        (connection, hello)
    }
}

fn number(bytes: &[u8]) -> i64 {
    i64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}

struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// The next frame; `None` when the client has closed.
    async fn frame(&mut self) -> Option<Vec<u8>> {
        let length = self.stream.read_u32().await.ok()?;
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await.ok()?;
        Some(frame)
    }

    /// The xid of the next request that is not a ping; pings are answered with `zxid`.
    async fn request(&mut self, zxid: Zxid) -> i32 {
        loop {
            let frame = self.frame().await.expect("a request");
            let xid = i32::from_be_bytes(frame[..4].try_into().expect("four bytes"));
            if xid != XID_PING {
                return xid;
            }
            self.answer(xid, zxid).await;
        }
    }

    /// Gives the session, for that timeout; 0 says that it is over.
    async fn welcome(&mut self, timeout: Duration) {
        self.welcome_to(SESSION, timeout).await;
    }

    async fn welcome_to(&mut self, session: i64, timeout: Duration) {
        self.welcome_as(session, timeout, false).await;
    }

    async fn welcome_as(&mut self, session: i64, timeout: Duration, read_only: bool) {
        let timeout_ms = i32::try_from(timeout.as_millis()).expect("a short one");
        let mut reply = vec![0; 4];
        reply.extend(timeout_ms.to_be_bytes());
        reply.extend(session.to_be_bytes());
        reply.extend(16_i32.to_be_bytes());
        reply.extend(PASSWORD);
        reply.push(read_only.into());
        self.send(&reply).await;
    }

    /// Answers well and with nothing.
    async fn answer(&mut self, xid: i32, zxid: Zxid) {
        let mut reply = xid.to_be_bytes().to_vec();
        reply.extend(zxid.as_i64().to_be_bytes());
        reply.extend(0_i32.to_be_bytes());
        self.send(&reply).await;
    }

    async fn send(&mut self, reply: &[u8]) {
        let length = u32::try_from(reply.len()).expect("a short one");
        self.stream.write_u32(length).await.expect("connected");
        self.stream.write_all(reply).await.expect("connected");
    }
}

/// A client, and the server's side of its connection.
async fn connected(server: &Server, timeout: Duration) -> (Client, Connection) {
    let (client, connection) = tokio::join!(server.builder().connect(), async {
        let (mut connection, hello) = server.accept().await;
        assert_eq!((hello.last_zxid, hello.session, hello.password), (0, 0, vec![0; 16]));
        connection.welcome(timeout).await;
        connection
    });
    (client.expect("there is a server"), connection)
}

async fn over(session: &Session) -> SessionEnd {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, session.lost()).await.expect("it ends within a minute")
}

#[tokio::test]
async fn a_client_that_comes_back_says_who_it_is_and_what_it_has_seen() {
    let server = Server::start().await;
    let (client, mut connection) = connected(&server, Duration::from_secs(60)).await;
    let seen = Zxid::new(1, 77);
    let reading = client.clone();
    let delete = tokio::spawn(async move { reading.delete("/x").await });
    let xid = connection.request(seen).await;
    connection.answer(xid, seen).await;
    delete.await.expect("no panic").expect("answered well");
    assert_eq!(client.last_zxid(), seen);
    let broken_at = Instant::now();
    drop(connection);
    let (_again, hello) = server.accept().await;
    assert!(broken_at.elapsed() < Duration::from_secs(10), "at once, not at its next ping");
    let (last_zxid, password) = (seen.as_i64(), PASSWORD.to_vec());
    let expected = Hello { last_zxid, session: SESSION, password, read_only: false };
    assert_eq!(hello, expected);
}

#[tokio::test]
async fn a_request_that_was_sent_on_a_connection_that_broke_may_have_been_done() {
    let server = Server::start().await;
    let (client, mut connection) = connected(&server, Duration::from_secs(20)).await;
    let session = client.session();
    let delete = tokio::spawn(async move { client.delete("/x").await });
    connection.request(Zxid::ZERO).await;
    drop(connection);
    let error = delete.await.expect("no panic").expect_err("its reply never came");
    assert!(matches!(error, Error::ConnectionLost { maybe_applied: true, .. }), "{error:?}");
    session.disconnected().await;
}

#[tokio::test]
async fn a_session_that_the_server_calls_over_is_expired_at_once() {
    let server = Server::start().await;
    let (client, connection) = connected(&server, Duration::from_secs(20)).await;
    let session = client.session();
    drop(connection);
    let (mut again, _) = server.accept().await;
    again.welcome(Duration::ZERO).await;
    assert_eq!(over(&session).await, SessionEnd::Expired, "not tried again until its deadline");
}

#[tokio::test]
async fn a_server_that_did_not_say_what_it_is_is_asked_again() {
    let server = Server::start().await;
    let timeout = Duration::from_secs(60);
    let builder = Client::builder().servers(server.address());
    let (client, connection) = tokio::join!(builder.connect(), async {
        let (mut connection, _) = server.accept().await;
        connection.welcome(timeout).await;
        server.asked(b"").await;
        connection
    });
    let client = client.expect("there is a server");
    assert_eq!(client.server_kind(), ServerKind::Unknown);
    drop(connection);
    let (mut connection, _) = server.accept().await;
    connection.welcome(timeout).await;
    server.asked(b"Zookeeper version: 3.9.3, built on some day\n").await;
    let known = async {
        while client.server_kind() != ServerKind::Apache {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(timeout, known).await.expect("it is told");
}

/// So some servers answer who asks for a session that is gone.
#[tokio::test]
async fn another_session_than_the_one_asked_for_is_no_session_that_goes_on() {
    let server = Server::start().await;
    let (client, connection) = connected(&server, Duration::from_secs(20)).await;
    let session = client.session();
    drop(connection);
    let (mut again, hello) = server.accept().await;
    assert_eq!(hello.session, SESSION);
    again.welcome_to(SESSION + 1, Duration::from_secs(20)).await;
    assert_eq!(over(&session).await, SessionEnd::Expired);
    assert_eq!(session.id().0, SESSION, "its handle is of the session that it was");
}

#[tokio::test]
async fn a_reply_to_another_request_than_the_next_ends_the_connection_and_answers_nobody() {
    let server = Server::start().await;
    let (client, mut connection) = connected(&server, Duration::from_secs(20)).await;
    let delete = tokio::spawn(async move { client.delete("/x").await });
    let xid = connection.request(Zxid::ZERO).await;
    connection.answer(xid + 1, Zxid::new(1, 1)).await;
    let error = delete.await.expect("no panic").expect_err("it was not answered");
    assert!(matches!(error, Error::ConnectionLost { maybe_applied: true, .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left_while_the_session_still_lives() {
    let server = Server::start().await;
    let (client, silent) = connected(&server, Duration::from_secs(3)).await;
    let session = client.session();
    let (_again, hello) = server.accept().await;
    assert_eq!((hello.session, session.end()), (SESSION, None));
    drop(silent);
}

#[tokio::test]
async fn every_server_of_the_list_is_tried() {
    for _ in 0..4 {
        let server = Server::start().await;
        let mut servers = vec![server.address()];
        for _ in 0..3 {
            // Nobody listens there any more.
            servers.push(Server::start().await.address());
        }
        let builder = server.builder().servers(servers.join(","));
        let (client, ()) = tokio::join!(builder.connect(), async {
            server.accept().await.0.welcome(Duration::from_secs(20)).await;
        });
        drop(client.expect("one of them answers"));
    }
}

#[tokio::test]
async fn a_client_that_reads_alone_proves_nothing_and_goes_where_writes_are_taken() {
    const TIMEOUT: Duration = Duration::from_secs(60);
    let servers = [Server::start().await, Server::start().await];
    let names = format!("{},{}", servers[0].address(), servers[1].address());
    let builder = servers[0].builder().servers(names).read_only(true);
    let connecting = tokio::spawn(builder.connect());
    // Whichever comes first in the client's order.
    let (first, (mut connection, hello)) = tokio::select! {
        accepted = servers[0].accept() => (0, accepted),
        accepted = servers[1].accept() => (1, accepted),
    };
    assert!(hello.read_only);
    connection.welcome_as(SESSION, TIMEOUT, true).await;
    let client = connecting.await.expect("no panic").expect("is connected");
    let session = client.session();
    assert_eq!(session.status(), SessionStatus::ConnectedReadOnly);
    assert!(session.connected().await);
    // An answer, to its first ping, proves nothing either.
    let reading = client.clone();
    let read = tokio::spawn(async move { reading.delete("/x").await });
    let xid = connection.request(Zxid::new(1, 77)).await;
    connection.answer(xid, Zxid::new(1, 77)).await;
    read.await.expect("no panic").expect("is answered");
    assert!(session.valid_until() <= Instant::now() && !session.deadline_is_proof());

    let other = &servers[1 - first];
    for answer in ["ro", "", "rw"] {
        let (mut asking, _) = other.listener.accept().await.expect("it listens");
        let mut word = [0; 4];
        asking.read_exact(&mut word).await.expect("a word");
        assert_eq!(&word, b"isro");
        asking.write_all(answer.as_bytes()).await.expect("is heard");
        drop(asking);
        if answer == "rw" {
            break;
        }
        // The other one of the list is the one that it reads from.
        let (asking, _) = servers[first].listener.accept().await.expect("it listens");
        drop(asking);
    }
    let closing = connection.request(Zxid::ZERO).await;
    connection.answer(closing, Zxid::ZERO).await;
    let (mut next, hello) = other.accept().await;
    assert_eq!((hello.session, hello.last_zxid, hello.read_only), (0, 0, true));
    assert_eq!(over(&session).await, SessionEnd::ReadOnlyEnded);
    next.welcome_to(SESSION + 1, TIMEOUT).await;
    let next = client.pin().await.expect("there is a session").session();
    assert_eq!((next.id().0, next.status()), (SESSION + 1, SessionStatus::Connected));
    assert!(next.valid_until() > Instant::now());
}

#[tokio::test]
async fn a_read_only_session_ends_with_its_connection() {
    let server = Server::start().await;
    let builder = server.builder().read_only(true);
    let (client, connection) = tokio::join!(builder.connect(), async {
        let (mut connection, _) = server.accept().await;
        connection.welcome_as(SESSION, Duration::from_secs(60), true).await;
        connection
    });
    let session = client.expect("is connected").session();
    drop(connection);
    assert_eq!(over(&session).await, SessionEnd::ReadOnlyEnded);
    // It asks for a new one, after looks for a server that takes writes, if any.
    loop {
        let (stream, _) = server.listener.accept().await.expect("it listens");
        let mut first = [0; 4];
        let mut stream = stream;
        stream.read_exact(&mut first).await.expect("says something");
        if &first != b"isro" {
            let mut hello = [0; 45];
            stream.read_exact(&mut hello).await.expect("says who it is");
            assert_eq!(number(&hello[16..24]), 0);
            return;
        }
    }
}

#[tokio::test]
async fn a_read_only_server_is_left_by_a_client_that_did_not_ask_for_one() {
    let server = Server::start().await;
    let connecting = tokio::spawn(server.builder().connect());
    let (mut connection, hello) = server.accept().await;
    assert!(!hello.read_only);
    connection.welcome_as(SESSION, Duration::from_secs(60), true).await;
    let (mut again, _) = server.accept().await;
    again.welcome(Duration::from_secs(60)).await;
    let client = connecting.await.expect("no panic").expect("is connected");
    assert_eq!(client.session().status(), SessionStatus::Connected);
}
