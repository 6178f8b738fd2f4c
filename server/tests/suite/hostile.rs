//! Whoever reaches the port may say anything: the right error or the end of the connection, no
//! memory for it, and nobody else waits. Tests that look at the memory of the whole process take
//! turns.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::common::certificates::Authority;
use crate::common::cluster::{admin, secure};
use crate::common::{PATIENCE, Raw, children, config, create, get, new_session, start, word};
use bytes::BytesMut;
use synod_core::client::Client;
use synod_core::model::{Code, CreateMode, Request};
use synod_server::{Config, Limits, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};

static TURN: Mutex<()> = Mutex::const_new(());

/// More than any of these tests may cost.
const GROWTH_BYTES_MAX: usize = 64 << 20;

/// Half handshakes at each of three ports, a thousand in all. Both of their ends are in this process:
/// with more at once it would not do with the 1,024 descriptors that it has by default.
const HALVES: usize = 334;

/// Resident memory of this process, in bytes.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("there is procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("says it");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("is a number");
    kib << 10
}

fn int(number: i32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn string(text: &str) -> Vec<u8> {
    [int(text.len() as i32), text.as_bytes().to_vec()].concat()
}

/// What is first sent to a port, by name.
fn first_bytes() -> Vec<(&'static str, Vec<u8>)> {
    let mut hello = BytesMut::new();
    new_session().encode(&mut hello);
    let client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    vec![
        ("a connect request", hello.to_vec()),
        ("a word", b"ruok".to_vec()),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
        ("a negative length", int(-1)),
        ("the largest length", int(i32::MAX)),
        ("nothing but ones", vec![0xFF; 100_000]),
        ("nothing but zeros", vec![0; 100_000]),
        ("half a ClientHello", client_hello),
        ("a record that is too long", b"\x16\x03\x01\xff\xff".to_vec()),
        ("an alert", b"\x15\x03\x03\x00\x02\x02\x28".to_vec()),
        ("data before the handshake", b"\x17\x03\x03\x00\x05hello".to_vec()),
    ]
}

/// Reads until the server closes.
async fn until_closed(stream: &mut TcpStream) {
    let mut bytes = [0; 1024];
    while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
}

#[tokio::test]
async fn what_is_no_tls_is_closed_and_others_are_served() {
    let authority = Authority::new();
    let limits = Limits { handshake: Duration::from_secs(1), ..Limits::default() };
    let server = start(Config { tls: Some(authority.server()), limits, ..config() }).await;
    for (name, bytes) in first_bytes() {
        let mut stream = TcpStream::connect(server.local_addr()).await.expect("connects");
        // It may be closed before all is said.
        let _ = stream.write_all(&bytes).await;
        timeout(PATIENCE, until_closed(&mut stream)).await.expect(name);
    }
    let mut client = dial_tls(&server, &authority).await;
    assert_eq!(ask(&mut client, b"ruok").await, "imok");
    server.stop().await;
}

/// Begins so many handshakes, in these ways in turn, and goes on with none.
async fn begin_halves(address: SocketAddr, ways: &[Vec<u8>]) -> Vec<TcpStream> {
    let mut halves = Vec::new();
    for (number, way) in (0..HALVES).zip(ways.iter().cycle()) {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Members bound those of one address.
        let host = Ipv4Addr::new(127, 0, 0, 2 + (number / 50) as u8);
        socket.bind((host, 0).into()).expect("is loopback");
        let mut stream = socket.connect(address).await.expect("connects");
        stream.write_all(way).await.expect("is taken");
        halves.push(stream);
    }
    halves
}

async fn until_all_closed(halves: Vec<TcpStream>) {
    for mut stream in halves {
        timeout(PATIENCE, until_closed(&mut stream)).await.expect("ends in time");
    }
}

fn assert_all_failed(mntr: &str) {
    for counted in ["unsuccessful_handshake", "connection_drop_count"] {
        assert!(mntr.contains(&format!("zk_{counted}\t{HALVES}\n")), "{mntr}");
    }
}

/// None at all, a part and the whole of what begins a handshake of TLS.
fn ways_of_tls(authority: &Authority) -> [Vec<u8>; 3] {
    let name = "127.0.0.1".try_into().expect("is a name");
    let mut client = ClientConnection::new(believing(authority), name).expect("is a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("there is room");
    [Vec::new(), hello[..6].to_vec(), hello]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_handshakes_end_in_time_and_hold_nobody_up() {
    let _turn = TURN.lock().await;
    let limits = Limits { handshake: Duration::from_secs(3), ..Limits::default() };
    let server = start(Config { limits, ..config() }).await;
    let before = resident_bytes();
    let ways = [Vec::new(), vec![0], vec![0; 3], [int(44), vec![0; 43]].concat()];
    let halves = begin_halves(server.local_addr(), &ways).await;
    others_are_served(&server).await;
    let growth = resident_bytes().saturating_sub(before);
    assert!(growth <= GROWTH_BYTES_MAX, "{growth} bytes for {HALVES} half handshakes");
    until_all_closed(halves).await;
    assert_all_failed(&word(&server, "mntr").await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_handshakes_of_tls_end_in_time_and_hold_nobody_up() {
    let _turn = TURN.lock().await;
    let authority = Authority::new();
    let limits = Limits { handshake: Duration::from_secs(3), ..Limits::default() };
    let server = start(Config { tls: Some(authority.server()), limits, ..config() }).await;
    let before = resident_bytes();
    let halves = begin_halves(server.local_addr(), &ways_of_tls(&authority)).await;
    let servers = format!("zks://{}", server.local_addr());
    let other = Client::builder().servers(servers).tls(authority.client());
    let other = other.connect_timeout(PATIENCE).connect().await.expect("connects, in time");
    other.get("/").await.expect("is there, in time");
    let growth = resident_bytes().saturating_sub(before);
    assert!(growth <= GROWTH_BYTES_MAX, "{growth} bytes for {HALVES} half handshakes");
    until_all_closed(halves).await;
    let mut asking = dial_tls(&server, &authority).await;
    assert_all_failed(&ask(&mut asking, b"mntr").await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_handshakes_at_the_port_of_members_end_in_time_and_hold_nobody_up() {
    let _turn = TURN.lock().await;
    let authority = Authority::new();
    let files = authority.member(&authority);
    let folder = tempfile::tempdir().expect("can be made");
    let (config, address) = secure(&folder, &files);
    let server = start(config).await;
    Raw::when_led(&server).await;
    let before = resident_bytes();
    let peer = address.parse().expect("is an address");
    let halves = begin_halves(peer, &ways_of_tls(&authority)).await;
    let mut other = admin(&address, &files).timeout(PATIENCE);
    other.status().await.expect("is told, in time");
    others_are_served(&server).await;
    let growth = resident_bytes().saturating_sub(before);
    assert!(growth <= GROWTH_BYTES_MAX, "{growth} bytes for {HALVES} half handshakes");
    until_all_closed(halves).await;
    server.stop().await;
}

/// Bodies that promise more than they bring, or less than nothing, by their operation.
fn lying_bodies() -> Vec<(i32, Vec<u8>)> {
    let numbers = [i32::MAX, 1 << 30, 65_537, -2, i32::MIN];
    let mut bodies = Vec::new();
    for number in numbers {
        // A path of that length; a list of that many after a good path.
        for operation in [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 19, 21, 22, 103, 104, 105, 106] {
            bodies.push((operation, int(number)));
        }
        let data = [string("/a"), int(number)].concat();
        bodies.push((1, data.clone()));
        bodies.push((5, data));
        let acl = [string("/a"), int(0), int(number)].concat();
        bodies.push((1, acl.clone()));
        bodies.push((15, acl));
        bodies.push((7, [string("/a"), int(number)].concat()));
        bodies.push((101, [vec![0; 8], int(number)].concat()));
        bodies.push((101, [vec![0; 8], int(1), int(number)].concat()));
        bodies.push((105, [vec![0; 8], int(0), int(0), int(0), int(0), int(number)].concat()));
    }
    // Transactions: without an end, of what nobody knows, with a cut-off operation.
    let header = |operation: i32, done: u8| [int(operation), vec![done], int(-1)].concat();
    bodies.push((14, Vec::new()));
    bodies.push((14, [header(2, 0), string("/a"), int(0)].concat()));
    bodies.push((14, [header(999, 0), string("/a"), int(0), header(-1, 1)].concat()));
    bodies.push((14, [header(-11, 0), header(-1, 1)].concat()));
    bodies.push((14, [header(2, 0), int(100), header(-1, 1)].concat()));
    bodies.push((22, header(4, 0)));
    bodies
}

#[tokio::test]
async fn a_request_that_promises_more_than_it_brings_costs_nothing() {
    let _turn = TURN.lock().await;
    let server = start(config()).await;
    let mut raw = Raw::open(&server).await;
    let before = resident_bytes();
    for round in 0..5 {
        let lies = lying_bodies();
        for (operation, body) in &lies {
            raw.raw(round, *operation, body).await;
        }
        for (operation, body) in lies {
            let (xid, _, error) = raw.header().await.expect("the connection stays");
            let expected = (round, Code::Marshalling.number());
            assert_eq!((xid, error), expected, "operation {operation}: {body:02x?}");
        }
    }
    let growth = resident_bytes().saturating_sub(before);
    assert!(growth <= GROWTH_BYTES_MAX, "{growth} bytes for requests that were refused");
    raw.call(&Request::Ping).await.expect("goes on");
    server.stop().await;
}

/// A client of TLS that believes that authority.
fn believing(authority: &Authority) -> Arc<ClientConfig> {
    let ca = CertificateDer::from_pem_file(authority.file()).expect("is PEM");
    let mut roots = RootCertStore::empty();
    roots.add(ca).expect("is an authority");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("are known")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// One that says what it is told to.
async fn dial_tls(server: &Server, authority: &Authority) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(server.local_addr()).await.expect("connects");
    let name = "127.0.0.1".try_into().expect("is a name");
    let connecting = TlsConnector::from(believing(authority)).connect(name, stream);
    timeout(PATIENCE, connecting).await.expect("in time").expect("shakes hands")
}

async fn ask(stream: &mut TlsStream<TcpStream>, word: &[u8]) -> String {
    stream.write_all(word).await.expect("is sent");
    stream.flush().await.expect("is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("is answered");
    answer
}

/// A few requests of somebody else.
async fn others_are_served(server: &Server) {
    let mut raw = Raw::open(server).await;
    for _ in 0..10 {
        raw.call(&get("/", false)).await.expect("is there, in time");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_over_tls_that_are_never_read_cost_little() {
    let _turn = TURN.lock().await;
    let authority = Authority::new();
    let limits = Limits { write_stall: Duration::from_secs(2), ..Limits::default() };
    let server = start(Config { tls: Some(authority.server()), limits, ..config() }).await;
    let servers = format!("zks://{}", server.local_addr());
    let builder = Client::builder().servers(servers).tls(authority.client());
    let other = builder.session_timeout(PATIENCE).connect().await.expect("connects");
    other.create("/big", vec![7; 1_000_000]).await.expect("is created");
    let before = resident_bytes();
    let mut hog = dial_tls(&server, &authority).await;
    let mut out = BytesMut::new();
    new_session().encode(&mut out);
    for xid in 1..=2_000 {
        synod_core::wire::encode_request(&mut out, xid, &get("/big", false))
            .expect("is a client's");
    }
    // What the server does not take is not sent: it has stopped to read.
    let _ = timeout(Duration::from_secs(1), hog.write_all(&out)).await;
    let growth = resident_bytes().saturating_sub(before);
    assert!(growth <= GROWTH_BYTES_MAX, "{growth} bytes for replies that nobody takes");
    // It is cut when it has taken nothing for too long, and others are served all the while.
    other.get("/big").await.expect("is read");
    let cut = async {
        loop {
            let mut asking = dial_tls(&server, &authority).await;
            if ask(&mut asking, b"mntr").await.contains("zk_connection_drop_count\t1\n") {
                return;
            }
        }
    };
    timeout(PATIENCE, cut).await.expect("is closed");
    server.stop().await;
}

#[tokio::test]
async fn a_list_that_is_asked_for_again_and_again_waits_for_who_asked() {
    let _turn = TURN.lock().await;
    let server = start(config()).await;
    let mut raw = Raw::open(&server).await;
    for number in 0..2_000 {
        let path = format!("/{number:0180}");
        raw.call(&create(&path, b"", CreateMode::Persistent)).await.expect("is created");
    }
    let before = resident_bytes();
    let mut hogs = Vec::new();
    for _ in 0..20 {
        let mut hog = Raw::open(&server).await;
        let mut out = BytesMut::new();
        (0..1_000).for_each(|_| _ = hog.encode(&mut out, &children("/", false)));
        let _ = timeout(Duration::from_millis(50), hog.bytes(&out)).await;
        hogs.push(hog);
    }
    others_are_served(&server).await;
    let growth = resident_bytes().saturating_sub(before);
    assert!(growth <= GROWTH_BYTES_MAX + 20 * (2 << 20), "{growth} bytes for 20 that take nothing");
    server.stop().await;
}
