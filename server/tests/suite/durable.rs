//! A durable member alone, from the outside: what is in memory only when it is written here must
//! not be noticed there.

use crate::common::cluster::{durable, mode};
use crate::common::{PATIENCE, Raw, create, exists, get, set, start, watch};
use bytes::{Bytes, BytesMut};
use synod_core::model::{
    Acl, AddWatchMode, Code, Create, CreateMode, EventKind, Op, Request, Response, Write, Zxid,
};
use synod_core::wire::{ConnectRequest, Incoming};
use tempfile::tempdir;

fn multi(path: &str, data: &[u8], made: &str) -> Request {
    let data = Some(Bytes::copy_from_slice(data));
    Request::Write(Write::Multi(vec![
        Op::SetData { path: path.into(), data, version: -1 },
        Op::Create(Create {
            path: made.into(),
            data: None,
            acl: Acl::open(),
            mode: CreateMode::Ephemeral,
        }),
    ]))
}

#[tokio::test]
async fn reads_between_writes_see_those_before_them_and_none_behind() {
    let folder = tempdir().expect("can be made");
    let server = start(durable(&folder)).await;
    let mut raw = Raw::open(&server).await;
    raw.call(&create("/n", b"0", CreateMode::Persistent)).await.expect("is created");
    let mut out = BytesMut::new();
    let mut sent = Vec::new();
    for count in 1..=300 {
        let data = count.to_string();
        // Every third change is a transaction.
        sent.push(match count % 3 {
            0 => raw.encode(&mut out, &multi("/n", data.as_bytes(), &format!("/m{count}"))),
            _ => raw.encode(&mut out, &set("/n", data.as_bytes())),
        });
        sent.push(raw.encode(&mut out, &get("/n", false)));
        sent.push(raw.encode(&mut out, &exists(&format!("/m{count}"), false)));
    }
    raw.bytes(&out).await;
    let mut last = Zxid::ZERO;
    for (place, sent) in sent.into_iter().enumerate() {
        let count = place / 3 + 1;
        let (xid, zxid, result) = raw.reply().await;
        let zxid = zxid.expect("every reply says the last zxid");
        assert_eq!(xid, sent);
        assert!(zxid >= last, "{zxid} after {last}");
        last = zxid;
        match (place % 3, result) {
            (0, result) => _ = result.expect("is done"),
            (1, result) => match result.expect("is there") {
                Response::Data { data, .. } => {
                    assert_eq!(data.as_deref(), Some(count.to_string().as_bytes()));
                }
                other => panic!("{other:?}"),
            },
            (_, result) => assert_eq!(result.is_ok(), count % 3 == 0, "/m{count}"),
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_write_is_judged_by_what_was_proved_in_front_of_it() {
    let folder = tempdir().expect("can be made");
    let server = start(durable(&folder)).await;
    let mut raw = Raw::open(&server).await;
    let mut out = BytesMut::new();
    raw.encode(&mut out, &create("/n", b"", CreateMode::Persistent));
    let (scheme, credentials) = ("digest".to_owned(), Bytes::from_static(b"ann:secret"));
    raw.encode(&mut out, &Request::Auth { scheme, credentials });
    // What only somebody can have done.
    let (path, data, acl) = ("/private".into(), None, Acl::creator());
    let make = Create { path, data, acl, mode: CreateMode::Persistent };
    raw.encode(&mut out, &Request::Write(Write::Op(Op::Create(make))));
    raw.bytes(&out).await;
    for what in ["created", "proved", "created by her"] {
        raw.reply().await.2.expect(what);
    }
    server.stop().await;
}

#[tokio::test]
async fn each_event_stands_before_the_reply_that_shows_its_change() {
    let folder = tempdir().expect("can be made");
    let server = start(durable(&folder)).await;
    let (mut own, mut other) = (Raw::open(&server).await, Raw::open(&server).await);
    own.call(&create("/n", b"", CreateMode::Persistent)).await.expect("is created");
    for raw in [&mut own, &mut other] {
        raw.call(&watch("/n", AddWatchMode::Persistent)).await.expect("is left");
    }
    let mut out = BytesMut::new();
    for count in 1..=100 {
        own.encode(&mut out, &set("/n", count.to_string().as_bytes()));
        own.encode(&mut out, &get("/n", false));
    }
    own.bytes(&out).await;
    for _ in 1..=100 {
        let event = own.event().await;
        assert_eq!((event.kind, &*event.path), (EventKind::DataChanged, "/n"));
        let (_, zxid, result) = own.reply().await;
        assert_eq!(event.zxid, zxid, "the event says the zxid of the change");
        result.expect("is set");
        own.reply().await.2.expect("is there");
    }
    // Who reads sees no version of which it was not told.
    let mut told = 0;
    while told < 100 {
        other.send(&get("/n", false)).await;
        loop {
            match other.incoming().await {
                Incoming::Event(_) => told += 1,
                Incoming::Reply { result: Ok(Response::Data { stat, .. }), .. } => {
                    assert_eq!(stat.version, told, "as many changes as events");
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_session_outlives_the_server_with_its_password_and_its_ephemerals() {
    let folder = tempdir().expect("can be made");
    let mut server = start(durable(&folder)).await;
    let mut raw = Raw::dial(&server).await;
    let hello = ConnectRequest { timeout_ms: 1_000, ..crate::common::new_session() };
    raw.welcome = raw.hello(&hello).await;
    raw.call(&create("/mine", b"1", CreateMode::Ephemeral)).await.expect("is created");
    let resume = ConnectRequest { timeout_ms: 1_000, ..raw.resume() };
    for round in 0..3 {
        server.stop().await;
        server = start(durable(&folder)).await;
        let wrong = ConnectRequest { password: Bytes::from_static(&[7; 16]), ..resume.clone() };
        let refused = Raw::dial(&server).await.hello(&wrong).await.expect("is answered");
        assert_eq!(refused.timeout_ms, 0, "round {round}: its password is another");
        let mut again = Raw::dial(&server).await;
        let welcome = again.hello(&resume).await.expect("is answered");
        assert_eq!((welcome.session, welcome.timeout_ms), (resume.session, 1_000), "{round}");
        assert_eq!(welcome.password, resume.password);
        match again.call(&exists("/mine", false)).await.expect("lives") {
            Response::Stat(stat) => assert_eq!(stat.ephemeral_owner, Some(resume.session)),
            other => panic!("{other:?}"),
        }
        again.call(&set("/mine", b"2")).await.expect("the sequence begins anew");
    }
    // Nobody has it from here on: it dies of its timeout, and not before.
    server.stop().await;
    let server = start(durable(&folder)).await;
    let mut watcher = Raw::open(&server).await;
    watcher.call(&exists("/mine", true)).await.expect("lives still");
    assert_eq!(watcher.event().await.kind, EventKind::Deleted);
    let over = Raw::dial(&server).await.hello(&resume).await.expect("is answered");
    assert_eq!(over.timeout_ms, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_folder_is_used_by_one_server_at_a_time_and_by_the_next_when_that_is_dropped() {
    let folder = tempdir().expect("can be made");
    let server = start(durable(&folder)).await;
    let mut raw = Raw::open(&server).await;
    raw.call(&create("/n", b"kept", CreateMode::Persistent)).await.expect("is created");
    let second = synod_server::Server::start(durable(&folder)).await;
    assert!(second.is_err(), "the first one has it");
    drop(server);
    let next = async {
        loop {
            // What was dropped ends as soon as its tasks notice.
            match synod_server::Server::start(durable(&folder)).await {
                Ok(server) => return server,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let server = tokio::time::timeout(crate::common::PATIENCE, next).await.expect("lets go of it");
    let mut raw = Raw::open(&server).await;
    match raw.call(&get("/n", false)).await.expect("is there") {
        Response::Data { data, .. } => assert_eq!(data.as_deref(), Some(&b"kept"[..])),
        other => panic!("{other:?}"),
    }
    server.stop().await;
}

#[tokio::test]
async fn a_member_alone_says_that_it_is_standalone() {
    let folder = tempdir().expect("can be made");
    let server = start(durable(&folder)).await;
    let mut raw = Raw::open(&server).await;
    raw.call(&Request::Ping).await.expect("is answered");
    assert_eq!(mode(&server).await, "standalone");
    let mntr = crate::common::word(&server, "mntr").await;
    assert!(mntr.contains("zk_server_state\tstandalone\n"), "{mntr}");
    server.stop().await;
}

#[tokio::test]
async fn large_writes_that_are_refused_fill_no_disk() {
    let folder = tempdir().expect("can be made");
    let mut config = durable(&folder);
    let keeping = &mut config.member.as_mut().expect("is durable").keeping;
    (keeping.segment_bytes, keeping.snapshot_bytes, keeping.bytes_kept) =
        (128 << 10, 1 << 20, 1 << 20);
    let server = start(config).await;
    let mut raw = Raw::open(&server).await;
    // 16 MiB, and far from as many entries as are kept.
    for _ in 0..256 {
        let refusal = raw.call(&set("/missing", &[7; 64 << 10])).await.expect_err("is not there");
        assert_eq!(refusal.code, Code::NoNode);
    }
    let bytes = || -> u64 {
        let entries = std::fs::read_dir(folder.path()).expect("is there");
        // One that is removed meanwhile takes nothing.
        entries.map(|entry| entry.expect("is").metadata().map_or(0, |file| file.len())).sum()
    };
    // What is kept, what came since the last snapshot and while it was made, and what is made ahead.
    let small = async {
        while bytes() > 5 << 20 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, small).await.expect("what is not needed goes");
    server.stop().await;
}

#[cfg(unix)]
#[tokio::test]
async fn what_a_member_writes_is_for_its_own_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let outside = tempfile::tempdir().expect("can be made");
    let mut config = durable(&outside);
    let member = config.member.as_mut().expect("is durable");
    member.data = outside.path().join("data");
    member.keeping.snapshot_entries = 10;
    let data = member.data.clone();
    let server = start(config).await;
    let mut raw = Raw::open(&server).await;
    for number in 0..40 {
        let path = format!("/n-{number}");
        raw.call(&create(&path, b"", CreateMode::Persistent)).await.expect("is created");
    }
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(&data).expect("is there").map(|entry| entry.expect("is"));
        entries.map(|entry| entry.file_name().into_string().expect("is text")).collect()
    };
    let snapshot = async {
        while !names().iter().any(|name| name.starts_with("snapshot-")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, snapshot).await.expect("is written");
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).map(|file| file.permissions().mode() & 0o777).ok()
    };
    assert_eq!(mode(&data), Some(0o700), "the folder");
    for kind in ["identity", "log-", "snapshot-"] {
        assert!(names().iter().any(|name| name.starts_with(kind)), "{kind} among {:?}", names());
    }
    for name in names() {
        // One that is replaced meanwhile is gone.
        if let Some(mode) = mode(&data.join(&name)) {
            assert_eq!(mode, 0o600, "{name}");
        }
    }
    server.stop().await;
}
