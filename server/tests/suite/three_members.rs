//! Three durable members, from the outside.

use std::time::Duration;

use crate::common::cluster::{Cluster, is_leaderless, mode, until_leaderless};
use crate::common::{
    PATIENCE, Raw, create, exists, get, new_session, set, until_outstanding, word,
};
use bytes::BytesMut;
use synod_core::model::{CreateMode, Request, Response};
use synod_core::wire::ConnectRequest;
use synod_server::limits::OUTSTANDING_REQUESTS_MAX;

fn sync() -> Request {
    Request::Sync { path: "/".into() }
}

fn data(response: Response) -> Vec<u8> {
    match response {
        Response::Data { data, .. } => data.expect("has some").to_vec(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_begins_when_the_last_of_its_members_has_come_whichever_it_is() {
    for last in [0, 1, 2] {
        let mut cluster = Cluster::new();
        let early = [(last + 1) % 3, (last + 2) % 3];
        for place in early {
            cluster.start_one(place).await;
        }
        for place in early {
            assert_eq!(mode(cluster.member(place)).await, "looking", "there is no cluster yet");
        }
        cluster.start_one(last).await;
        cluster.leader().await;
        let mut raw = Raw::open(cluster.member(last)).await;
        raw.call(&create("/n", b"", CreateMode::Persistent)).await.expect("is created");
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_words_say_who_leads_and_who_follows() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let followers = [(leader + 1) % 3, (leader + 2) % 3];
    for follower in followers {
        let mntr = word(cluster.member(follower), "mntr").await;
        assert!(mntr.contains("zk_server_state\tfollower\n"), "{mntr}");
        assert_eq!(word(cluster.member(follower), "isro").await, "rw");
    }
    let stat = word(cluster.member(leader), "stat").await;
    assert!(stat.contains("Mode: leader\n"), "{stat}");
    cluster.lose(leader);
    let next = cluster.leader().await;
    let last = *followers.iter().find(|follower| **follower != next).expect("there are two");
    // It knows its leader for as long as its timers say so.
    cluster.lose(next);
    until_leaderless(cluster.member(last)).await;
    cluster.start_one(leader).await;
    cluster.leader().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_a_followers_own_and_a_sync_brings_it_up_to_date() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let (other, behind) = ((leader + 1) % 3, (leader + 2) % 3);
    let mut writer = Raw::open(cluster.member(other)).await;
    writer.call(&create("/n", b"old", CreateMode::Persistent)).await.expect("is created");
    let mut reader = Raw::open(cluster.member(behind)).await;
    reader.call(&get("/n", false)).await.expect("was there when the session was opened");
    cluster.hold(behind);
    writer.call(&set("/n", b"new")).await.expect("two of three have it");
    let read = reader.call(&get("/n", false)).await.expect("is there");
    assert_eq!(data(read), b"old", "it has heard of nothing else");
    let mut out = BytesMut::new();
    let sent = [reader.encode(&mut out, &sync()), reader.encode(&mut out, &get("/n", false))];
    reader.bytes(&out).await;
    until_outstanding(cluster.member(behind), 2).await;
    cluster.let_go(behind);
    let (xid, _, result) = reader.reply().await;
    assert_eq!(xid, sent[0]);
    result.expect("is done");
    let (xid, _, result) = reader.reply().await;
    assert_eq!(xid, sent[1]);
    assert_eq!(data(result.expect("is there")), b"new");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attachment_at_another_member_ends_the_connection_that_was() {
    let cluster = Cluster::start().await;
    let mut connections = vec![Raw::open(cluster.member(0)).await];
    connections[0].call(&create("/mine", b"", CreateMode::Ephemeral)).await.expect("is created");
    let resume = connections[0].resume();
    for round in 1..=6 {
        let before = connections.last_mut().expect("there is one");
        let mut moved = Raw::dial(cluster.member(round % 3)).await;
        let welcome = moved.hello(&resume).await.expect("is answered");
        assert_eq!(welcome.session, resume.session);
        // Should its own member be the last to hear of it, a write tells it.
        before.send(&set("/mine", b"late")).await;
        while let Some((_, _, error)) = before.header().await {
            assert_ne!(error, 0, "it was done for a connection that has lost the session");
        }
        moved.call(&set("/mine", round.to_string().as_bytes())).await.expect("is its session");
        let read = moved.call(&get("/mine", false)).await.expect("lives");
        assert_eq!(data(read), round.to_string().as_bytes());
        connections.push(moved);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_at_a_follower_keep_a_session_and_only_that_one() {
    let cluster = Cluster::start().await;
    let follower = (cluster.leader().await + 1) % 3;
    let hello = ConnectRequest { timeout_ms: 500, ..new_session() };
    let mut loud = Raw::dial(cluster.member(follower)).await;
    loud.hello(&hello).await.expect("is answered");
    loud.call(&create("/loud", b"", CreateMode::Ephemeral)).await.expect("is created");
    for round in 0..3 {
        let mut quiet = Raw::dial(cluster.member(follower)).await;
        quiet.welcome = quiet.hello(&hello).await;
        let path = format!("/quiet-{round}");
        quiet.call(&create(&path, b"", CreateMode::Ephemeral)).await.expect("is created");
        // In the time of which the quiet one dies; reads are heard of by its member alone.
        while loud.call(&exists(&path, false)).await.is_ok() {
            loud.call(&Request::Ping).await.expect("is answered");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        quiet.closed().await;
    }
    loud.call(&exists("/loud", false)).await.expect("lives");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_writes_nobody_takes_is_read_no_further_than_its_bound() {
    // One more change of leaders in between cuts the connection, for its writes are in doubt then.
    for _ in 0..3 {
        if writes_that_nobody_takes_are_bounded_and_answered_later().await {
            return;
        }
    }
    panic!("it is cut each time");
}

/// Whether they are answered; `false` if the connection is cut instead.
async fn writes_that_nobody_takes_are_bounded_and_answered_later() -> bool {
    const WRITES: usize = 5_000;
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let (survivor, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let mut raw = Raw::dial(cluster.member(survivor)).await;
    // It says nothing while it waits.
    let hello = ConnectRequest { timeout_ms: 60_000, ..new_session() };
    raw.hello(&hello).await.expect("is answered");
    raw.call(&create("/n", b"", CreateMode::Persistent)).await.expect("is created");
    cluster.lose(other);
    cluster.lose(leader);
    until_leaderless(cluster.member(survivor)).await;
    let mut out = BytesMut::new();
    let sent: Vec<i32> = (0..WRITES).map(|_| raw.encode(&mut out, &set("/n", b""))).collect();
    raw.bytes(&out).await;
    let most = until_outstanding(cluster.member(survivor), OUTSTANDING_REQUESTS_MAX).await;
    assert_eq!(most, OUTSTANDING_REQUESTS_MAX);
    assert!(is_leaderless(&mode(cluster.member(survivor)).await));
    cluster.start_one(other).await;
    for sent in sent {
        let Some((xid, _, error)) = raw.header().await else { return false };
        assert_eq!((xid, error), (sent, 0), "was not taken by the leader that is lost");
    }
    cluster.stop().await;
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_is_not_answered_once_the_session_is_over_though_its_member_does_not_know() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let behind = (leader + 1) % 3;
    let mut watcher = Raw::open(cluster.member(leader)).await;
    let mut quiet = Raw::dial(cluster.member(behind)).await;
    let hello = ConnectRequest { timeout_ms: 200, ..new_session() };
    quiet.hello(&hello).await.expect("is answered");
    quiet.call(&create("/mine", b"", CreateMode::Ephemeral)).await.expect("is created");
    // The leader may apply later than a follower has: what is not there yet is not gone.
    watcher.call(&Request::Sync { path: "/".into() }).await.expect("is connected");
    watcher.call(&exists("/mine", false)).await.expect("is there");
    cluster.hold(behind);
    let over = async {
        while watcher.call(&exists("/mine", false)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, over).await.expect("it is silent");
    quiet.send(&Request::Ping).await;
    let answer = tokio::time::timeout(Duration::from_secs(1), quiet.frame()).await;
    assert!(!matches!(answer, Ok(Some(_))), "nobody may say that it lives");
    cluster.let_go(behind);
    quiet.closed().await;
    cluster.stop().await;
}
