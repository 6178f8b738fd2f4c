//! The first frame of a connection, and the bounds on connections.

use std::time::Duration;

use crate::common::{Raw, close, config, create, exists, new_session, start};
use bytes::{BufMut, Bytes, BytesMut};
use synod_core::model::{Code, CreateMode, Request, SessionId, Zxid};
use synod_core::wire::ConnectRequest;
use synod_server::{Config, Limits};

#[tokio::test]
async fn the_reply_is_as_long_as_the_client_expects() {
    let server = start(config()).await;
    for (read_only, reply_bytes) in [(Some(false), 37), (Some(true), 37), (None, 36)] {
        let mut raw = Raw::dial(&server).await;
        let mut out = BytesMut::new();
        ConnectRequest { read_only, ..new_session() }.encode(&mut out);
        raw.bytes(&out).await;
        assert_eq!(raw.frame().await.expect("is answered").len(), reply_bytes);
    }
    server.stop().await;
}

#[tokio::test]
async fn the_timeout_is_clamped() {
    let server = start(config()).await;
    let cases = [(-1, 4_000), (0, 4_000), (1, 4_000), (9_999, 9_999), (i32::MAX, 40_000)];
    for (timeout_ms, granted_ms) in cases {
        let mut raw = Raw::dial(&server).await;
        let hello = ConnectRequest { timeout_ms, ..new_session() };
        assert_eq!(raw.hello(&hello).await.expect("is answered").timeout_ms, granted_ms);
    }
    server.stop().await;
}

#[tokio::test]
async fn sessions_are_numbered_one_after_the_other() {
    let server = start(config()).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let raw = Raw::open(&server).await;
        ids.push(raw.welcome.expect("has a session").session.0);
    }
    assert_eq!(ids[0] >> 56, 1, "the member's number");
    assert_eq!(ids[1..], [ids[0] + 1, ids[0] + 2]);
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_session_is_told_that_it_is_over() {
    let server = start(config()).await;
    let mut raw = Raw::dial(&server).await;
    let hello = ConnectRequest { session: SessionId(0x1234), ..new_session() };
    let reply = raw.hello(&hello).await.expect("is answered");
    assert_eq!((reply.timeout_ms, reply.session.0), (0, 0));
    assert_eq!(reply.password, Bytes::from_static(&[0; 16]));
    assert_eq!(reply.read_only, Some(false));
    raw.closed().await;
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_password_does_not_disturb_the_living_connection() {
    let server = start(config()).await;
    let mut living = Raw::open(&server).await;
    for password in [&[1; 16][..], &[0; 16], &[0; 17]] {
        let mut thief = Raw::dial(&server).await;
        let password = Bytes::copy_from_slice(password);
        let hello = ConnectRequest { password, ..living.resume() };
        assert_eq!(thief.hello(&hello).await.expect("is answered").timeout_ms, 0);
        thief.closed().await;
    }
    living.call(&create("/still", b"", CreateMode::Ephemeral)).await.expect("goes on");
    server.stop().await;
}

#[tokio::test]
async fn a_session_moves_to_the_connection_that_comes_last() {
    let server = start(config()).await;
    let mut first = Raw::open(&server).await;
    first.call(&create("/mine", b"", CreateMode::Ephemeral)).await.expect("is created");
    first.call(&exists("/other", true)).await.expect_err("is not there, but watched");
    let mut second = Raw::dial(&server).await;
    let welcome = second.hello(&first.resume()).await.expect("is answered");
    assert_eq!(Some(welcome.session), first.welcome.as_ref().map(|w| w.session));
    assert_eq!(Some(&welcome.password), first.welcome.as_ref().map(|w| &w.password));
    first.closed().await;
    // The ephemeral lives on, the watch went with its connection, and the count begins anew.
    second.call(&exists("/mine", false)).await.expect("is there");
    second.call(&create("/other", b"", CreateMode::Ephemeral)).await.expect("is created");
    second.call(&close()).await.expect("closes");
    second.closed().await;
    // And now it is over.
    let mut third = Raw::dial(&server).await;
    assert_eq!(third.hello(&first.resume()).await.expect("is answered").timeout_ms, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_has_seen_more_is_closed_without_a_word() {
    let server = start(config()).await;
    let mut living = Raw::open(&server).await;
    for hello in [new_session(), living.resume()] {
        let mut raw = Raw::dial(&server).await;
        let last_zxid = Zxid::from_i64(i64::MAX);
        assert_eq!(raw.hello(&ConnectRequest { last_zxid, ..hello }).await, None);
    }
    living.call(&Request::Ping).await.expect("goes on");
    server.stop().await;
}

#[tokio::test]
async fn a_client_of_an_earlier_life_is_told_that_its_session_is_over() {
    let server = start(config()).await;
    let mut raw = Raw::dial(&server).await;
    let (last_zxid, session) = (Zxid::from_i64(i64::MAX), SessionId(7));
    let hello = ConnectRequest { last_zxid, session, ..new_session() };
    assert_eq!(raw.hello(&hello).await.expect("is answered").timeout_ms, 0);
    server.stop().await;
}

#[tokio::test]
async fn what_stands_behind_the_connect_request_is_passed_over() {
    let server = start(config()).await;
    let mut out = BytesMut::new();
    new_session().encode(&mut out);
    out.put_slice(b"trailing");
    out[..4].copy_from_slice(&53_i32.to_be_bytes());
    let mut raw = Raw::dial(&server).await;
    raw.bytes(&out).await;
    assert_eq!(raw.frame().await.expect("is answered").len(), 37);
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_connect_request_is_closed_and_the_server_goes_on() {
    let server = start(config()).await;
    let frame = |length: i32, payload: &[u8]| [&length.to_be_bytes()[..], payload].concat();
    let mut password_beyond = BytesMut::new();
    new_session().encode(&mut password_beyond);
    password_beyond[28..32].copy_from_slice(&i32::MAX.to_be_bytes());
    let hostile = [
        frame(0, b""),
        frame(-1, b""),
        frame(i32::MIN, b""),
        frame(i32::MAX, b""),
        frame(7, &[0; 7]),
        frame(43, &[0; 43]),
        password_beyond.to_vec(),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(),
        b"xyzw".to_vec(),
        vec![0xFF; 100_000],
        vec![0; 100_000],
    ];
    for bytes in hostile {
        let mut raw = Raw::dial(&server).await;
        raw.bytes(&bytes).await;
        assert_eq!(raw.frame().await, None, "{:?}", &bytes[..bytes.len().min(16)]);
    }
    Raw::open(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn who_does_not_shake_hands_in_time_is_closed() {
    let limits = Limits { handshake: Duration::from_millis(50), ..Limits::default() };
    let server = start(Config { limits, ..config() }).await;
    for begun in [&b""[..], b"ru", &[0, 0, 0, 45, 0, 0]] {
        let mut raw = Raw::dial(&server).await;
        raw.bytes(begun).await;
        raw.closed().await;
    }
    let mut in_time = Raw::open(&server).await;
    in_time.call(&Request::Ping).await.expect("the deadline was the handshake's");
    server.stop().await;
}

#[tokio::test]
async fn connections_of_one_address_are_bounded_and_others_take_the_place_of_those_that_end() {
    let loopback_is_bounded = true;
    // Nobody is closed for being silent.
    let handshake = 100 * crate::common::PATIENCE;
    let connections_per_address_max = 2;
    let limits =
        Limits { connections_per_address_max, loopback_is_bounded, handshake, ..Limits::default() };
    let server = start(Config { limits, ..config() }).await;
    let mut first = Raw::open(&server).await;
    let _second = Raw::open(&server).await;
    Raw::dial(&server).await.closed().await;
    first.call(&close()).await.expect("closes");
    first.closed().await;
    drop(first);
    // The place is free once the server has seen the end.
    let free = async { while Raw::dial(&server).await.hello(&new_session()).await.is_none() {} };
    tokio::time::timeout(crate::common::PATIENCE, free).await.expect("the place is free");
    server.stop().await;
}

#[tokio::test]
async fn connections_in_all_are_bounded() {
    let handshake = 100 * crate::common::PATIENCE;
    let limits = Limits { connections_max: 2, handshake, ..Limits::default() };
    let server = start(Config { limits, ..config() }).await;
    let _living = [Raw::open(&server).await, Raw::open(&server).await];
    Raw::dial(&server).await.closed().await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_closes_its_connections() {
    let server = start(config()).await;
    let address = server.local_addr();
    let mut raw = Raw::open(&server).await;
    let stop = tokio::spawn(server.stop());
    raw.closed().await;
    // Whether the client closes too or not.
    stop.await.expect("stops");
    tokio::net::TcpStream::connect(address).await.expect_err("nobody listens");
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_to_be() {
    let server = start(config()).await;
    let taken = Config { listen: server.local_addr(), ..config() };
    let error = synod_server::Server::start(taken).await.err().expect("is taken").to_string();
    assert!(error.ends_with("another program listens there already"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn a_session_that_moved_is_over_only_for_its_old_connection() {
    let server = start(config()).await;
    let mut old = Raw::open(&server).await;
    let resume = old.resume();
    // The write races with the move: it is done before, or not at all.
    old.send(&create("/late", b"", CreateMode::Persistent)).await;
    let mut new = Raw::dial(&server).await;
    new.hello(&resume).await.expect("is answered");
    let answered = match old.frame().await {
        Some(payload) => payload[12..16] == [0; 4],
        None => false,
    };
    let there = new.call(&exists("/late", false)).await;
    match there {
        Ok(_) => {}
        Err(refusal) => {
            assert_eq!(refusal.code, Code::NoNode);
            assert!(!answered, "it was said to be done");
        }
    }
    server.stop().await;
}
