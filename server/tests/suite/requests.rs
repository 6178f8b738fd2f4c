//! What is asked over a connection that has a session.

use std::time::Duration;

use crate::common::{
    Raw, children, close, config, create, delete, exists, get, new_session, set, start, watch,
};
use bytes::BytesMut;
use synod_core::digest_identity;
use synod_core::model::limits::REQUEST_BYTES_MAX;
use synod_core::model::{
    Acl, AddWatchMode, Code, Create, CreateMode, EventKind, Op, Perms, Read, Rearm, Request,
    Response, WatchRequest, Write, Zxid,
};
use synod_core::wire::{XID_AUTH, XID_PING};
use synod_server::{Config, Limits};

/// The body of an auth packet.
fn auth(scheme: &str, credentials: &[u8]) -> Request {
    Request::Auth { scheme: scheme.to_owned(), credentials: credentials.to_vec().into() }
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as i32).to_be_bytes()[..], text.as_bytes()].concat()
}

#[tokio::test]
async fn requests_of_one_packet_are_answered_in_order() {
    let server = start(config()).await;
    let mut raw = Raw::open(&server).await;
    let mut out = BytesMut::new();
    let mut sent = vec![raw.encode(&mut out, &create("/n", b"0", CreateMode::Persistent))];
    for count in 1..=1_000 {
        sent.push(raw.encode(&mut out, &set("/n", count.to_string().as_bytes())));
        sent.push(raw.encode(&mut out, &get("/n", false)));
    }
    raw.bytes(&out).await;
    let mut last = Zxid::ZERO;
    for (place, sent) in sent.into_iter().enumerate() {
        let (xid, zxid, result) = raw.reply().await;
        assert_eq!(xid, sent);
        let zxid = zxid.expect("every reply says the last zxid");
        assert!(zxid >= last);
        last = zxid;
        match result.expect("is done") {
            Response::Data { data, stat } => {
                let count = place / 2;
                assert_eq!(data.as_deref(), Some(count.to_string().as_bytes()));
                assert_eq!(stat.version as usize, count);
            }
            _ => assert!(place == 0 || place % 2 == 1),
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte_and_together_with_the_handshake() {
    let server = start(config()).await;
    let mut raw = Raw::dial(&server).await;
    let mut out = BytesMut::new();
    new_session().encode(&mut out);
    raw.encode(&mut out, &Request::Ping);
    for byte in out {
        raw.bytes(&[byte]).await;
    }
    assert_eq!(raw.frame().await.expect("a connect reply").len(), 37);
    assert_eq!(raw.reply().await.0, XID_PING);
    server.stop().await;
}

#[tokio::test]
async fn an_event_comes_before_the_reply_that_shows_the_change() {
    let server = start(config()).await;
    let (mut own, mut other) = (Raw::open(&server).await, Raw::open(&server).await);
    own.call(&create("/n", b"0", CreateMode::Persistent)).await.expect("is created");
    for raw in [&mut own, &mut other] {
        raw.call(&get("/n", true)).await.expect("is there");
    }
    // Its own write's reply included.
    own.send(&set("/n", b"1")).await;
    let event = own.event().await;
    assert_eq!((event.kind, &*event.path), (EventKind::DataChanged, "/n"));
    let (_, zxid, result) = own.reply().await;
    assert_eq!(event.zxid, zxid, "the event says the zxid of the change");
    result.expect("is set");
    // Whoever reads after the write is told first.
    other.send(&get("/n", false)).await;
    assert_eq!(other.event().await.kind, EventKind::DataChanged);
    other.reply().await.2.expect("is there");
    server.stop().await;
}

#[tokio::test]
async fn missed_events_come_before_the_reply_to_set_watches() {
    let server = start(config()).await;
    let mut raw = Raw::open(&server).await;
    for path in ["/data", "/parent", "/back"] {
        raw.call(&create(path, b"", CreateMode::Persistent)).await.expect("is created");
    }
    let rearm = Rearm {
        since: Zxid::ZERO,
        data: vec!["/data".into(), "/gone".into()],
        exist: vec!["/back".into(), "/not-yet".into()],
        child: vec!["/parent".into()],
        persistent: vec!["/data".into()],
        recursive: Vec::new(),
    };
    raw.send(&Request::Watch(WatchRequest::Rearm(rearm))).await;
    let expected = [
        (EventKind::DataChanged, "/data"),
        (EventKind::Deleted, "/gone"),
        (EventKind::Created, "/back"),
        (EventKind::ChildrenChanged, "/parent"),
    ];
    for (kind, path) in expected {
        let event = raw.event().await;
        assert_eq!((event.kind, &*event.path, event.zxid), (kind, path, None));
    }
    let (xid, _, result) = raw.reply().await;
    assert_eq!(xid, -8);
    result.expect("is done");
    // What was not missed is watched.
    raw.send(&create("/not-yet", b"", CreateMode::Persistent)).await;
    assert_eq!(&*raw.event().await.path, "/not-yet");
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_operation_ends_the_connection_and_not_the_session() {
    let server = start(config()).await;
    let mut raw = Raw::open(&server).await;
    let body = [string("/"), vec![0; 16]].concat();
    for (operation, what) in [
        (0, "an event, which servers send"),
        (10, "none that any version has"),
        (23, "none that any version has"),
        (99, "none that any version has"),
        (108, "none that any version has"),
        (999, "none that any version has"),
        (i32::MAX, "the highest number"),
        (i32::MIN, "the lowest number"),
        (-1, "an error, which servers write down"),
        (-10, "createSession, which is no client's"),
        (20, "deleteContainer, which is no client's"),
        (13, "check outside of a multi"),
    ] {
        raw.raw(77, operation, &body).await;
        assert_eq!(raw.header().await, Some((77, -1, Code::Unimplemented.number())), "{what}");
        raw.closed().await;
        let resume = raw.resume();
        let mut next = Raw::dial(&server).await;
        let welcome = next.hello(&resume).await.expect("is answered");
        assert_eq!(welcome.session, resume.session, "{what}");
        next.welcome = Some(welcome);
        raw = next;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_malformed_body_is_refused_and_the_connection_stays() {
    let server = start(config()).await;
    let mut raw = Raw::open(&server).await;
    let over = [&i32::MAX.to_be_bytes()[..], b"/"].concat();
    for operation in [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 17, 18, 19, 21, 101, 104, 105, 106] {
        for body in [&[][..], &[0, 0], &over] {
            raw.raw(5, operation, body).await;
            let (xid, _, error) = raw.header().await.expect("stays open");
            assert_eq!((xid, error), (5, Code::Marshalling.number()), "operation {operation}");
        }
    }
    raw.call(&Request::Ping).await.expect("goes on");
    server.stop().await;
}

#[tokio::test]
async fn what_came_before_a_bad_frame_is_answered() {
    let server = start(config()).await;
    let bad = [-1, 0, 7, REQUEST_BYTES_MAX as i32 + 1, i32::MAX];
    for length in bad {
        let mut raw = Raw::open(&server).await;
        let mut out = BytesMut::new();
        raw.encode(&mut out, &Request::Ping);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&[0; 64]);
        raw.bytes(&out).await;
        assert_eq!(raw.reply().await.0, XID_PING, "length {length}");
        raw.closed().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_frame_that_stays_half_received_ends_the_connection() {
    let limits = Limits { half_frame: Duration::from_millis(50), ..Limits::default() };
    let server = start(Config { limits, ..config() }).await;
    let mut raw = Raw::open(&server).await;
    raw.call(&Request::Ping).await.expect("whole frames are well");
    raw.bytes(&[0, 0, 0, 8, 0]).await;
    raw.closed().await;
    // The session lives on.
    let resume = raw.resume();
    let mut next = Raw::dial(&server).await;
    assert_eq!(next.hello(&resume).await.expect("is answered").session, resume.session);
    server.stop().await;
}

#[tokio::test]
async fn a_ping_is_answered_under_the_number_of_pings() {
    let server = start(config()).await;
    let mut raw = Raw::open(&server).await;
    raw.raw(55, 11, &[]).await;
    assert_eq!(raw.header().await.map(|(xid, _, error)| (xid, error)), Some((XID_PING, 0)));
    server.stop().await;
}

#[tokio::test]
async fn the_largest_request_is_taken() {
    let server = start(config()).await;
    let mut raw = Raw::open(&server).await;
    let large = vec![7; synod_core::model::limits::DATA_BYTES_MAX];
    raw.call(&create("/large", &large, CreateMode::Persistent)).await.expect("is created");
    match raw.call(&get("/large", false)).await.expect("is there") {
        Response::Data { data, .. } => assert_eq!(data.as_deref(), Some(&large[..])),
        other => panic!("{other:?}"),
    }
    server.stop().await;
}

#[tokio::test]
async fn digest_proves_an_identity_and_replies_carry_no_zxid() {
    let server = start(config()).await;
    let mut raw = Raw::open(&server).await;
    let (path, data) = ("/secret".into(), None);
    let acl = vec![Acl::digest(Perms::ALL, "ann", "pw")];
    let mode = CreateMode::Persistent;
    let secret = Op::Create(Create { path, data, acl, mode });
    raw.call(&Request::Write(Write::Op(secret))).await.expect("is created");
    let refused = raw.call(&get("/secret", false)).await.expect_err("is nobody yet");
    assert_eq!(refused.code, Code::NoAuth);
    raw.send(&auth("digest", b"ann:pw")).await;
    assert_eq!(raw.header().await, Some((XID_AUTH, 0, 0)));
    raw.call(&get("/secret", false)).await.expect("is ann");
    match raw.call(&Request::Read(Read::WhoAmI)).await.expect("is answered") {
        Response::WhoAmI(identities) => {
            let pairs: Vec<_> = identities.iter().map(|i| (&*i.scheme, &*i.id)).collect();
            assert_eq!(pairs, [("ip", "127.0.0.1"), ("digest", "ann")]);
        }
        other => panic!("{other:?}"),
    }
    // What proves nothing does no harm; the address is proved already.
    for request in [auth("digest", b"nobody"), auth("ip", b"")] {
        raw.send(&request).await;
        assert_eq!(raw.header().await, Some((XID_AUTH, 0, 0)));
    }
    // SASL is not configured.
    raw.raw(9, 102, &[0, 0, 0, 0]).await;
    assert_eq!(raw.header().await, Some((9, 0, 0)));
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_scheme_ends_the_connection() {
    let server = start(config()).await;
    let mut raw = Raw::open(&server).await;
    let mut out = BytesMut::new();
    raw.encode(&mut out, &auth("kerberos", b"x"));
    raw.encode(&mut out, &create("/after", b"", CreateMode::Persistent));
    raw.bytes(&out).await;
    assert_eq!(raw.header().await, Some((XID_AUTH, 0, Code::AuthFailed.number())));
    raw.closed().await;
    let mut other = Raw::open(&server).await;
    let refused = other.call(&exists("/after", false)).await.expect_err("was not done");
    assert_eq!(refused.code, Code::NoNode);
    server.stop().await;
}

#[tokio::test]
async fn identities_are_bounded() {
    let server = start(config()).await;
    let mut raw = Raw::open(&server).await;
    for count in 1..synod_server::limits::IDENTITIES_MAX {
        for _ in 0..2 {
            let proof = auth("digest", format!("user{count}:pw").as_bytes());
            raw.call(&proof).await.expect("the same one counts once");
        }
    }
    raw.call(&auth("digest", b"one:more")).await.expect_err("is one too many");
    raw.closed().await;
    server.stop().await;
}

/// They go through the log with each write: a few of a megabyte would make it longer than the log takes,
/// and the server would end.
#[tokio::test]
async fn identities_are_bounded_in_bytes_too() {
    let server = start(config()).await;
    let mut raw = Raw::open(&server).await;
    let most = synod_server::limits::IDENTITY_BYTES_MAX;
    raw.call(&auth("digest", format!("{}:pw", "u".repeat(most / 2)).as_bytes()))
        .await
        .expect("is half of it");
    raw.call(&set("/", b"x")).await.expect("goes on");
    let refused =
        raw.call(&auth("digest", format!("{}:pw", "v".repeat(most / 2)).as_bytes())).await;
    assert_eq!(refused.expect_err("is too much").code, Code::AuthFailed);
    raw.closed().await;
    server.stop().await;
}

#[tokio::test]
async fn the_super_digest_may_do_everything() {
    let digest = digest_identity(b"super:test").expect("has a colon").id;
    let server = start(Config { super_digest: Some(digest), ..config() }).await;
    let mut raw = Raw::open(&server).await;
    let (path, data) = ("/locked".into(), None);
    let acl = vec![Acl::new(Perms::READ, "digest", "no:body")];
    let mode = CreateMode::Persistent;
    let locked = Op::Create(Create { path, data, acl, mode });
    raw.call(&Request::Write(Write::Op(locked))).await.expect("is created");
    raw.call(&auth("digest", b"super:guess")).await.expect("never fails");
    assert_eq!(raw.call(&set("/locked", b"x")).await.expect_err("no").code, Code::NoAuth);
    raw.call(&auth("digest", b"super:test")).await.expect("never fails");
    raw.call(&set("/locked", b"x")).await.expect("is the superuser");
    server.stop().await;
}

#[tokio::test]
async fn closing_answers_then_ends_and_nothing_after_it_is_done() {
    let server = start(config()).await;
    let (mut raw, mut other) = (Raw::open(&server).await, Raw::open(&server).await);
    raw.call(&create("/mine", b"", CreateMode::Ephemeral)).await.expect("is created");
    other.call(&exists("/mine", true)).await.expect("is there");
    let mut out = BytesMut::new();
    let closing = raw.encode(&mut out, &close());
    raw.encode(&mut out, &create("/after", b"", CreateMode::Persistent));
    raw.bytes(&out).await;
    let (xid, _, result) = raw.reply().await;
    assert_eq!((xid, result), (closing, Ok(Response::Done)));
    raw.closed().await;
    let event = other.event().await;
    assert_eq!((event.kind, &*event.path), (EventKind::Deleted, "/mine"));
    other.call(&exists("/after", false)).await.expect_err("was not done");
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_breaks_takes_its_watches_and_leaves_its_ephemerals() {
    let server = start(Config { words: "*".parse().expect("is all"), ..config() }).await;
    let mut raw = Raw::open(&server).await;
    raw.call(&create("/mine", b"", CreateMode::Ephemeral)).await.expect("is created");
    raw.call(&watch("/", AddWatchMode::PersistentRecursive)).await.expect("is left");
    assert!(
        crate::common::word(&server, "wchs").await.starts_with("1 connections watching 1 paths\n")
    );
    drop(raw);
    while !crate::common::word(&server, "wchs")
        .await
        .starts_with("0 connections watching 0 paths\n")
    {
        tokio::task::yield_now().await;
    }
    let mut other = Raw::open(&server).await;
    other.call(&exists("/mine", false)).await.expect("is there");
    server.stop().await;
}

#[tokio::test]
async fn a_transaction_and_a_multi_read_are_answered() {
    let server = start(config()).await;
    let mut raw = Raw::open(&server).await;
    let (path, data, acl) = ("/a".into(), None, Acl::open());
    let make = Op::Create(Create { path, data, acl, mode: CreateMode::Persistent });
    let check = Op::Check { path: "/a".into(), version: 0 };
    let done = raw.call(&Request::Write(Write::Multi(vec![make.clone(), check.clone()]))).await;
    assert!(matches!(done, Ok(Response::Multi(results)) if results.len() == 2));
    let refused = raw.call(&Request::Write(Write::Multi(vec![check, make]))).await;
    let refusal = refused.expect_err("exists");
    assert_eq!((refusal.code, refusal.index), (Code::NodeExists, Some(1)));
    raw.call(&delete("/a")).await.expect("is deleted");
    match raw.call(&children("/", false)).await.expect("is there") {
        Response::Children { names, .. } => assert_eq!(names, ["zookeeper"]),
        other => panic!("{other:?}"),
    }
    server.stop().await;
}
