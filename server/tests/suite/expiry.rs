//! Sessions that are not heard of, and znodes whose time has come.

use std::time::Duration;

use crate::common::{Raw, config, create, exists, new_session, start, watch};
use synod_core::model::{AddWatchMode, CreateMode, EventKind, Request};
use synod_core::wire::ConnectRequest;
use synod_server::Config;
use tokio::time::Instant;

fn quick() -> Config {
    Config { tick_ms: 50, ..config() }
}

#[tokio::test]
async fn a_session_that_is_not_heard_of_expires_and_takes_its_ephemerals() {
    let server = start(quick()).await;
    let mut watcher = Raw::open(&server).await;
    watcher.call(&watch("/", AddWatchMode::PersistentRecursive)).await.expect("is left");
    let mut raw = Raw::dial(&server).await;
    let hello = ConnectRequest { timeout_ms: 100, ..new_session() };
    raw.welcome = raw.hello(&hello).await;
    raw.call(&create("/mine", b"", CreateMode::Ephemeral)).await.expect("is created");
    let heard = Instant::now();
    assert_eq!(watcher.event().await.kind, EventKind::Created);
    let event = watcher.event().await;
    assert_eq!((event.kind, &*event.path), (EventKind::Deleted, "/mine"));
    assert!(heard.elapsed() >= Duration::from_millis(100), "not before its time");
    raw.closed().await;
    let mut again = Raw::dial(&server).await;
    assert_eq!(again.hello(&raw.resume()).await.expect("is answered").timeout_ms, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_session_that_is_heard_of_lives() {
    let server = start(quick()).await;
    let mut quiet = Raw::dial(&server).await;
    let hello = ConnectRequest { timeout_ms: 300, ..new_session() };
    quiet.hello(&hello).await.expect("is answered");
    quiet.call(&create("/quiet", b"", CreateMode::Ephemeral)).await.expect("is created");
    let mut raw = Raw::dial(&server).await;
    raw.hello(&hello).await.expect("is answered");
    raw.call(&create("/loud", b"", CreateMode::Ephemeral)).await.expect("is created");
    // Any packet counts, a failing read too; in the time of which the quiet one dies.
    while raw.call(&exists("/quiet", false)).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    raw.call(&exists("/loud", false)).await.expect("lives");
    server.stop().await;
}

#[tokio::test]
async fn a_session_without_a_connection_expires_too_unless_it_comes_back() {
    let server = start(quick()).await;
    let hello = ConnectRequest { timeout_ms: 200, ..new_session() };
    let mut watcher = Raw::open(&server).await;
    watcher.call(&watch("/", AddWatchMode::PersistentRecursive)).await.expect("is left");
    let mut resumes = Vec::new();
    for path in ["/stays-away", "/comes-back"] {
        let mut raw = Raw::dial(&server).await;
        raw.welcome = raw.hello(&hello).await;
        raw.call(&create(path, b"", CreateMode::Ephemeral)).await.expect("is created");
        assert_eq!(watcher.event().await.kind, EventKind::Created);
        resumes.push(raw.resume());
    }
    // A longer timeout is granted anew.
    let mut back = Raw::dial(&server).await;
    let timeout_ms = i32::MAX;
    let welcome = back.hello(&ConnectRequest { timeout_ms, ..resumes[1].clone() }).await;
    assert_eq!(welcome.expect("is answered").timeout_ms, 1_000);
    assert_eq!(&*watcher.event().await.path, "/stays-away");
    back.call(&exists("/comes-back", false)).await.expect("is there");
    server.stop().await;
}

#[tokio::test]
async fn a_znode_whose_time_to_live_is_over_is_reaped() {
    let reap_interval = Duration::from_millis(20);
    let server = start(Config { reap_interval, ..config() }).await;
    let mut raw = Raw::open(&server).await;
    raw.call(&watch("/", AddWatchMode::PersistentRecursive)).await.expect("is left");
    raw.send(&create("/short", b"", CreateMode::Ttl { ttl_ms: 1 })).await;
    assert_eq!(raw.event().await.kind, EventKind::Created);
    raw.reply().await.2.expect("is created");
    let event = raw.event().await;
    assert_eq!((event.kind, &*event.path), (EventKind::Deleted, "/short"));
    raw.call(&Request::Ping).await.expect("goes on");
    server.stop().await;
}
