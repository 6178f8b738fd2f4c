//! The bounds that an operator sets.

use std::time::{Duration, Instant};

use crate::common::{
    PATIENCE, Raw, children, close, config, create, delete, exists, get, new_session, set, start,
    watch, word,
};
use bytes::BytesMut;
use synod_core::model::limits::{DATA_BYTES_MAX, REQUEST_BYTES_MAX};
use synod_core::model::{
    Acl, AddWatchMode, Code, CreateMode, Read, ReadOp, Rearm, Refusal, Request, Response,
    WatchRequest, Write, Zxid,
};
use synod_core::wire::ConnectRequest;
use synod_server::{Config, Limits, Server, StartError};

async fn bounded(limits: Limits) -> Server {
    start(Config { limits, ..config() }).await
}

fn code<T>(result: Result<T, Refusal>) -> Option<Code> {
    result.err().map(|refusal| refusal.code)
}

#[tokio::test]
async fn an_address_that_asks_too_fast_waits_and_gets_everything() {
    let (per_second, asked) = (100, 120);
    let limits = Limits {
        requests_per_second_max: per_second,
        loopback_is_bounded: true,
        ..Limits::default()
    };
    let server = bounded(limits).await;
    // Two connections of it share what it may.
    let mut raws = [Raw::open(&server).await, Raw::open(&server).await];
    let begun = Instant::now();
    for raw in &mut raws {
        let mut out = BytesMut::new();
        (0..asked / 2).for_each(|_| _ = raw.encode(&mut out, &get("/", false)));
        raw.bytes(&out).await;
    }
    for raw in &mut raws {
        for _ in 0..asked / 2 {
            raw.reply().await.2.expect("is answered in the end");
        }
    }
    let least = Duration::from_secs_f64(f64::from(asked - per_second) / f64::from(per_second));
    assert!(begun.elapsed() >= least * 9 / 10, "{asked} in {:?}", begun.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn loopback_may_ask_as_fast_as_it_likes_unless_it_is_bounded() {
    let server = bounded(Limits { requests_per_second_max: 1, ..Limits::default() }).await;
    let mut raw = Raw::open(&server).await;
    for _ in 0..200 {
        raw.call(&get("/", false)).await.expect("is answered");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_request_and_the_data_in_it_are_as_long_as_they_may_be() {
    let (request_bytes_max, data_bytes_max) = (256 << 10, 1_000);
    let server = bounded(Limits { request_bytes_max, data_bytes_max, ..Limits::default() }).await;
    let mut raw = Raw::open(&server).await;
    let (most, more) = (vec![7; data_bytes_max], vec![7; data_bytes_max + 1]);
    raw.call(&create("/a", &most, CreateMode::Persistent)).await.expect("is as much as it may be");
    let op = |data: &[u8]| match set("/a", data) {
        Request::Write(Write::Op(op)) => op,
        other => unreachable!("{other:?}"),
    };
    for refused in [
        create("/b", &more, CreateMode::Persistent),
        set("/a", &more),
        Request::Write(Write::Multi(vec![op(&most), op(&more)])),
    ] {
        assert_eq!(code(raw.call(&refused).await), Some(Code::BadArguments), "{refused:?}");
    }
    match raw.call(&exists("/a", false)).await {
        Ok(Response::Stat(stat)) => assert_eq!(stat.version, 0, "a transaction is refused whole"),
        other => panic!("{other:?}"),
    }
    // No operation has that number, which is told; what is longer is not even looked at.
    let (operation, longest) = (4_711, vec![7; request_bytes_max - 8]);
    raw.raw(1, operation, &longest).await;
    let told = raw.header().await.map(|(xid, _, error)| (xid, error));
    assert_eq!(told, Some((1, Code::Unimplemented.number())));
    let mut raw = Raw::open(&server).await;
    raw.raw(1, operation, &[&longest[..], &[7]].concat()).await;
    raw.closed().await;
    server.stop().await;
}

#[tokio::test]
async fn a_session_has_as_many_watches_as_it_may() {
    let server = bounded(Limits { watches_per_session_max: 3, ..Limits::default() }).await;
    let mut raw = Raw::open(&server).await;
    for path in ["/a", "/b", "/c"] {
        raw.call(&watch(path, AddWatchMode::Persistent)).await.expect("there is room");
    }
    raw.call(&watch("/a", AddWatchMode::PersistentRecursive)).await.expect("the path has one");
    assert_eq!(code(raw.call(&get("/", true)).await), Some(Code::Throttled));
    assert_eq!(code(raw.call(&exists("/d", true)).await), Some(Code::Throttled));
    let rearm = Rearm { since: Zxid::ZERO, exist: vec!["/d".into()], ..Rearm::default() };
    let rearm = Request::Watch(WatchRequest::Rearm(rearm));
    assert_eq!(code(raw.call(&rearm).await), Some(Code::Throttled));
    // The others have their own, and what is used up makes room.
    let mut other = Raw::open(&server).await;
    other.call(&exists("/d", true)).await.expect_err("is not there, but watched");
    raw.call(&close()).await.expect("closes");
    let mut raw = Raw::open(&server).await;
    for path in ["/x", "/y", "/z"] {
        assert_eq!(code(raw.call(&exists(path, true)).await), Some(Code::NoNode));
    }
    assert_eq!(code(raw.call(&exists("/w", true)).await), Some(Code::Throttled));
    other.call(&create("/x", b"", CreateMode::Persistent)).await.expect("is created");
    assert_eq!(&*raw.event().await.path, "/x");
    assert_eq!(code(raw.call(&exists("/w", true)).await), Some(Code::NoNode), "there is room");
    server.stop().await;
}

#[tokio::test]
async fn a_list_of_children_is_as_long_as_it_may_be() {
    let server = bounded(Limits { children_per_reply_max: 3, ..Limits::default() }).await;
    let mut raw = Raw::open(&server).await;
    for path in ["/p", "/p/a", "/p/b", "/p/c"] {
        raw.call(&create(path, b"", CreateMode::Persistent)).await.expect("is created");
    }
    raw.call(&children("/p", false)).await.expect("three are listed");
    raw.call(&create("/p/d", b"", CreateMode::Persistent)).await.expect("is created");
    assert_eq!(code(raw.call(&children("/p", false)).await), Some(Code::Throttled));
    raw.call(&get("/p", false)).await.expect("its Stat tells how many there are");
    raw.call(&delete("/p/d")).await.expect("is deleted");
    raw.call(&children("/p", false)).await.expect("three are listed");
    server.stop().await;
}

#[tokio::test]
async fn past_its_memory_it_refuses_what_adds_and_lives_on() {
    let memory_bytes_max = 1 << 20;
    let server = bounded(Limits { memory_bytes_max, ..Limits::default() }).await;
    let mut raw = Raw::open(&server).await;
    let data = [7; 64 << 10];
    let mut full = None;
    for n in 0..64 {
        let path = format!("/n-{n}");
        if let Err(refusal) = raw.call(&create(&path, &data, CreateMode::Persistent)).await {
            full = Some((n, refusal.code));
            break;
        }
    }
    let (count, refused) = full.expect("it is full at some time");
    assert_eq!(refused, Code::Throttled);
    assert!((15..=17).contains(&count), "{count} of 64 KiB in 1 MiB");
    let acl = Write::SetAcl { path: "/n-0".into(), acl: Acl::read_only(), version: -1 };
    for adds in [
        set("/n-0", b"1"),
        Request::Write(acl),
        watch("/n-0", AddWatchMode::Persistent),
        get("/n-0", true),
        create("/small", b"", CreateMode::Ephemeral),
    ] {
        assert_eq!(code(raw.call(&adds).await), Some(Code::Throttled), "{adds:?}");
    }
    raw.call(&get("/n-0", false)).await.expect("is read");
    raw.call(&children("/", false)).await.expect("are listed");
    assert_eq!(word(&server, "ruok").await, "imok");
    Raw::open(&server).await.call(&get("/n-0", false)).await.expect("takes others in");
    // What is deleted makes room.
    raw.call(&delete("/n-0")).await.expect("is deleted");
    raw.call(&create("/small", b"", CreateMode::Ephemeral)).await.expect("is created");
    server.stop().await;
}

/// Clients can come as long as what is kept for them lasts; who is there stays.
#[tokio::test]
async fn past_its_memory_new_sessions_are_refused_at_last() {
    let limits = Limits { memory_bytes_max: 128 << 10, ..Limits::default() };
    let session_timeout_ms_max = Some(3_600_000);
    let server = start(Config { limits, session_timeout_ms_max, ..config() }).await;
    // None of them is closed: each expires long after this.
    let hello = ConnectRequest { timeout_ms: i32::MAX, ..new_session() };
    let first = Raw::open_at_last(&server, &hello).await;
    let mut count = 0;
    while Raw::dial(&server).await.hello(&hello).await.is_some() {
        count += 1;
        assert!(count < 100_000, "they are never refused");
    }
    let mntr = word(&server, "mntr").await;
    assert!(mntr.contains("zk_connection_rejected\t1\n"), "{mntr}");
    let mut again = Raw::dial(&server).await;
    let resumed = again.hello(&first.resume()).await.expect("its session is there");
    assert_eq!(resumed.session, first.resume().session);
    again.call(&close()).await.expect("closes, which makes room");
    server.stop().await;
}

#[tokio::test]
async fn what_all_clients_have_not_taken_together_is_bounded() {
    let total_output_bytes_max = 40 << 20;
    let server = bounded(Limits { total_output_bytes_max, ..Limits::default() }).await;
    let mut raw = Raw::open(&server).await;
    let data = vec![7; 1 << 19];
    raw.call(&create("/large", &data, CreateMode::Persistent)).await.expect("is created");
    // Half a mebibyte each: beyond what sockets take in, and below the bound.
    let reads = vec![ReadOp::GetData { path: "/large".into() }; 64];
    let large = Request::Read(Read::Multi(reads));
    let mut deaf = Raw::open(&server).await;
    deaf.send(&large).await;
    let refused = async {
        // Until the other reply is there, there is room.
        while code(raw.call(&large).await) != Some(Code::Throttled) {}
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("is refused in time");
    raw.call(&exists("/large", false)).await.expect("what is small is answered");
    drop(deaf);
    let answered = async { while raw.call(&large).await.is_err() {} };
    tokio::time::timeout(PATIENCE, answered).await.expect("is answered in time");
    server.stop().await;
}

#[tokio::test]
async fn watches_count_for_memory_and_make_room_when_they_go() {
    let server = bounded(Limits { memory_bytes_max: 1 << 20, ..Limits::default() }).await;
    let mut hog = Raw::open(&server).await;
    let long = "x".repeat(8_000);
    let mut count = 0;
    while hog.call(&watch(&format!("/{count}{long}"), AddWatchMode::Persistent)).await.is_ok() {
        count += 1;
    }
    assert!((100..200).contains(&count), "{count} watches on paths of 8 kB in 1 MiB");
    let mut other = Raw::open(&server).await;
    let refused = other.call(&create("/a", b"", CreateMode::Persistent)).await;
    assert_eq!(code(refused), Some(Code::Throttled));
    hog.call(&close()).await.expect("closes");
    other.call(&create("/a", b"", CreateMode::Persistent)).await.expect("there is room again");
    server.stop().await;
}

#[tokio::test]
async fn a_bound_that_lets_nothing_through_is_refused() {
    for (limits, named) in [
        (Limits { outstanding_requests_max: 0, ..Limits::default() }, "outstanding"),
        (Limits { output_bytes_soft: 0, ..Limits::default() }, "output"),
        (Limits { handshake: Duration::ZERO, ..Limits::default() }, "handshake"),
        (Limits { total_input_bytes_max: REQUEST_BYTES_MAX - 1, ..Limits::default() }, "room"),
        (Limits { connections_max: 0, ..Limits::default() }, "connections"),
        (Limits { request_bytes_max: (256 << 10) - 1, ..Limits::default() }, "request"),
        (Limits { request_bytes_max: REQUEST_BYTES_MAX + 1, ..Limits::default() }, "request"),
        (Limits { data_bytes_max: DATA_BYTES_MAX + 1, ..Limits::default() }, "data"),
    ] {
        let refused = Server::start(Config { limits, ..config() }).await.err();
        let refused = refused.expect("is refused");
        assert!(matches!(refused, StartError::Config(_)), "{refused}");
        assert!(refused.to_string().contains(named), "{refused}");
    }
}

/// As ZooKeeper's command line sets it, and with the error that clients know.
#[tokio::test]
async fn a_quota_refuses_what_goes_beyond_it_and_says_what_is_used() {
    let server = start(config()).await;
    let mut raw = Raw::open(&server).await;
    let limits = b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=2";
    let quota = "/zookeeper/quota/app";
    let stats = format!("{quota}/zookeeper_stats");
    for (path, data) in [
        ("/app", &b"xy"[..]),
        (quota, b""),
        (&format!("{quota}/zookeeper_limits"), limits),
        (&stats, b"count=0,bytes=0"),
        ("/app/a", b"z"),
    ] {
        let created = raw.call(&create(path, data, CreateMode::Persistent)).await;
        created.unwrap_or_else(|refusal| panic!("{path}: {refusal:?}"));
    }
    let more = create("/app/b", b"", CreateMode::Persistent);
    assert_eq!(code(raw.call(&more).await), Some(Code::QuotaExceeded));
    let used = raw.call(&get(&stats, false)).await.expect("is there");
    assert!(format!("{used:?}").contains("count=2,bytes=3"), "{used:?}");
    server.stop().await;
}
