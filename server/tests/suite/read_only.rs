//! What a member without a quorum gives to clients that ask for read-only, and that it gives
//! nothing else.

use std::time::Duration;

use crate::common::cluster::{Cluster, mode, until_mode};
use crate::common::{
    PATIENCE, Raw, children, close, create, delete, exists, get, new_session, set, watch, word,
};
use synod_core::client::{Client, SessionStatus};
use synod_core::model::{
    AddWatchMode, Code, CreateMode, Op, Request, Response, SessionEnd, SessionId, Write, Zxid,
};
use synod_core::wire::ConnectRequest;

fn reading() -> ConnectRequest {
    ConnectRequest { read_only: Some(true), ..new_session() }
}

/// A read-only connection.
async fn read_only(cluster: &Cluster, place: usize) -> Raw {
    let raw = Raw::open_at_last(cluster.member(place), &reading()).await;
    let welcome = raw.welcome.as_ref().expect("is answered");
    assert_eq!(welcome.read_only, Some(true));
    assert_ne!(welcome.session, SessionId(0));
    raw
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_a_quorum_lets_those_read_who_ask_for_it_and_cuts_them_when_there_is_one()
{
    // Whether the one that is left has led or has followed.
    for survivor_led in [true, false] {
        let mut cluster = Cluster::start().await;
        let leader = cluster.leader().await;
        let survivor = if survivor_led { leader } else { (leader + 1) % 3 };
        let others = [(survivor + 1) % 3, (survivor + 2) % 3];
        assert_eq!(word(cluster.member(survivor), "isro").await, "rw");
        let hello = ConnectRequest { timeout_ms: 60_000, ..reading() };
        let mut full = Raw::open_at_last(cluster.member(survivor), &hello).await;
        let welcome = full.welcome.as_ref().expect("is answered");
        assert_eq!(welcome.read_only, Some(false), "there is a leader");
        full.call(&create("/n", b"1", CreateMode::Ephemeral)).await.expect("is created");
        others.into_iter().for_each(|other| cluster.lose(other));
        until_mode(cluster.member(survivor), "read-only").await;
        assert_eq!(word(cluster.member(survivor), "isro").await, "ro");
        let mntr = word(cluster.member(survivor), "mntr").await;
        assert!(mntr.contains("zk_server_state\tread-only\n"), "{mntr}");

        // Its own silence does not end it.
        let patient = ConnectRequest { timeout_ms: 600_000, ..reading() };
        let mut raw = Raw::open_at_last(cluster.member(survivor), &patient).await;
        let welcome = raw.welcome.as_ref().expect("is answered");
        assert_eq!((welcome.read_only, welcome.timeout_ms), (Some(true), 600_000));
        let Ok(Response::Data { data, .. }) = raw.call(&get("/n", true)).await else {
            panic!("is there")
        };
        assert_eq!(data.as_deref(), Some(&b"1"[..]));
        raw.call(&children("/", true)).await.expect("is there");
        raw.call(&watch("/", AddWatchMode::PersistentRecursive)).await.expect("is left");
        let missing = raw.call(&exists("/later", true)).await.expect_err("is not there");
        assert_eq!(missing.code, Code::NoNode);
        for refused in [
            create("/later", b"", CreateMode::Persistent),
            set("/n", b"2"),
            delete("/n"),
            Request::Write(Write::Multi(Vec::<Op>::new())),
            Request::Sync { path: "/".into() },
        ] {
            let refusal = raw.call(&refused).await.expect_err("reads alone are done");
            assert_eq!(refusal.code, Code::NotReadOnly, "{refused:?}");
        }
        raw.call(&Request::Ping).await.expect("it is there");

        // Its session is this connection's: it is over for everybody else, and closes as others do.
        let mut again = Raw::dial(cluster.member(survivor)).await;
        let over = again.hello(&raw.resume()).await.expect("is answered");
        assert_eq!((over.timeout_ms, over.session), (0, SessionId(0)));
        let mut closing = read_only(&cluster, survivor).await;
        closing.call(&close()).await.expect("is closed");
        closing.closed().await;

        // Who did not ask, who has a session in full and who has seen more get nothing.
        let resume = ConnectRequest { read_only: Some(true), ..full.resume() };
        let ahead = ConnectRequest { last_zxid: Zxid::new(99, 1), ..reading() };
        let refused = [new_session(), resume.clone(), ahead].map(async |hello| {
            let mut raw = Raw::dial(cluster.member(survivor)).await;
            assert!(raw.hello(&hello).await.is_none(), "{hello:?}");
        });
        futures::future::join_all(refused).await;

        cluster.start_one(others[0]).await;
        raw.closed().await;
        assert_eq!(word(cluster.member(survivor), "isro").await, "rw");
        let mut over = Raw::dial(cluster.member(survivor)).await;
        let welcome = over.hello(&raw.resume()).await.expect("is answered");
        assert_eq!(welcome.timeout_ms, 0, "it was no session of the cluster's");
        // What had a session in full has it still.
        let mut back = Raw::open_at_last(cluster.member(survivor), &resume).await;
        let welcome = back.welcome.as_ref().expect("is answered");
        assert_eq!((welcome.session, welcome.read_only), (resume.session, Some(false)));
        back.call(&set("/n", b"2")).await.expect("is done");
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_connection_that_is_silent_for_its_timeout_ends() {
    let mut cluster = Cluster::start().await;
    // Who follows may have applied nothing yet, and shows nothing then.
    Raw::when_led(cluster.member(0)).await;
    [1, 2].into_iter().for_each(|other| cluster.lose(other));
    until_mode(cluster.member(0), "read-only").await;
    let hello = ConnectRequest { timeout_ms: 200, ..reading() };
    let mut raw = Raw::open_at_last(cluster.member(0), &hello).await;
    raw.closed().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_has_nothing_yet_shows_nothing() {
    let mut cluster = Cluster::new();
    cluster.start_one(0).await;
    let mut raw = Raw::dial(cluster.member(0)).await;
    assert!(raw.hello(&reading()).await.is_none());
    assert_eq!(mode(cluster.member(0)).await, "looking");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_may_read_alone_does_so_until_there_is_a_leader_again() {
    let mut cluster = Cluster::start().await;
    let mut raw = Raw::when_led(cluster.member(0)).await;
    raw.call(&create("/n", b"1", CreateMode::Persistent)).await.expect("is created");
    [1, 2].into_iter().for_each(|other| cluster.lose(other));
    until_mode(cluster.member(0), "read-only").await;
    let servers = cluster.member(0).local_addr().to_string();
    let builder = Client::builder().servers(servers).read_only(true);
    let client = builder.connect().await.expect("it may read");
    let session = client.session();
    assert_eq!(session.status(), SessionStatus::ConnectedReadOnly);
    let (data, _) = client.get("/n").await.expect("is there");
    assert_eq!(&data[..], b"1");
    let refused = client.create("/m", b"").await.expect_err("it may not write");
    assert!(refused.is(Code::NotReadOnly) && !refused.retryable(), "{refused}");
    assert!(session.valid_until() <= tokio::time::Instant::now());
    cluster.start_one(1).await;
    assert_eq!(session.lost().await, SessionEnd::ReadOnlyEnded);
    // Should the leader be lost again, it reads alone for a while more.
    let writing = async {
        while client.create("/m", b"").await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, writing).await.expect("there is a leader");
    assert_eq!(client.session().status(), SessionStatus::Connected);
    client.close().await.expect("is told");
    cluster.stop().await;
}
