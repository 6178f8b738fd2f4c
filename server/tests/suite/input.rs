//! Clients that send much, and none of which is done: what they all hold together is bounded.

use crate::common::cluster::{Two, until_leaderless};
use crate::common::{
    PATIENCE, Raw, config, create, exists, get, new_session, set, start, until_outstanding, word,
};
use bytes::BytesMut;
use synod_core::model::limits::REQUEST_BYTES_MAX;
use synod_core::model::{CreateMode, Rearm, Request, WatchRequest};
use synod_core::wire::ConnectRequest;
use synod_server::limits::{INPUT_BYTES_SOFT, READ_BYTES};
use synod_server::{Config, Limits, Server};
use tokio::time::timeout;

/// They ask, rather than ping, while others are looked at: long enough for whoever is not held up.
const ROUNDS: usize = 300;

async fn bytes_received(server: &Server) -> usize {
    let mntr = word(server, "mntr").await;
    let line = mntr.lines().find_map(|line| line.strip_prefix("zk_bytes_received_count\t"));
    line.expect("says it").parse().expect("is a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_frames_are_read_as_far_as_there_is_room_for_all_of_each() {
    const CLIENTS: usize = 16;
    let total_input_bytes_max = 4 << 20;
    let limits = Limits { total_input_bytes_max, ..Limits::default() };
    let session_timeout_ms_max = Some(3_600_000);
    let server = start(Config { limits, session_timeout_ms_max, ..config() }).await;
    let mut other = Raw::open(&server).await;
    other.call(&create("/n", b"", CreateMode::Persistent)).await.expect("is created");
    let hello = ConnectRequest { timeout_ms: i32::MAX, ..new_session() };
    let mut halves = Vec::new();
    for _ in 0..CLIENTS {
        let mut raw = Raw::open_at_last(&server, &hello).await;
        let mut frame = BytesMut::new();
        raw.encode(&mut frame, &set("/n", &[7; 1_000_000]));
        halves.push(tokio::spawn(async move {
            raw.bytes(&frame[..frame.len() - 1]).await;
            (raw, frame)
        }));
    }
    // What three of them may hold, and the others' own shares.
    let reading = async { while bytes_received(&server).await < 3_000_000 {} };
    timeout(PATIENCE, reading).await.expect("some are let in");
    for _ in 0..ROUNDS {
        other.call(&set("/n", &[7; 1_000])).await.expect("small requests are done");
    }
    let received = bytes_received(&server).await;
    let most = total_input_bytes_max + CLIENTS * (INPUT_BYTES_SOFT + READ_BYTES) + ROUNDS * 2_000;
    assert!(received <= most, "{received} bytes were read, {most} may be");
    // Those that are let in make room for the others.
    for half in halves {
        let (mut raw, frame) = half.await.expect("is sent");
        raw.bytes(&frame[frame.len() - 1..]).await;
        tokio::spawn(async move { raw.reply().await.2.expect("is set") });
    }
    let all_set = async {
        loop {
            let stat = format!("{:?}", other.call(&exists("/n", false)).await);
            if stat.contains(&format!("version: {}", ROUNDS + CLIENTS)) {
                break;
            }
        }
    };
    timeout(PATIENCE, all_set).await.expect("all are let in in the end");
    server.stop().await;
}

/// Decoded they would take about ten times as much.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_would_wait_are_not_decoded_while_there_is_no_room() {
    const CLIENTS: usize = 8;
    let two = Two::new();
    let limits = Limits { total_input_bytes_max: 2 * REQUEST_BYTES_MAX, ..Limits::default() };
    let hello = ConnectRequest { timeout_ms: i32::MAX, ..new_session() };
    let session_timeout_ms_max = Some(3_600_000);
    let first = start(Config { limits, session_timeout_ms_max, ..two.config(1) }).await;
    let second = start(two.config(2)).await;
    let mut other = Raw::open_at_last(&first, &hello).await;
    let mut raws = Vec::new();
    for _ in 0..CLIENTS {
        raws.push(Raw::open_at_last(&first, &hello).await);
    }
    second.stop().await;
    until_leaderless(&first).await;
    let data = vec!["/".into(); 100_000];
    let rearm = Request::Watch(WatchRequest::Rearm(Rearm { data, ..Rearm::default() }));
    for raw in &mut raws {
        let mut out = BytesMut::new();
        raw.encode(&mut out, &Request::Sync { path: "/".into() });
        raw.encode(&mut out, &rearm);
        raw.bytes(&out).await;
    }
    until_outstanding(&first, CLIENTS + 1).await;
    for _ in 0..ROUNDS {
        other.call(&get("/", false)).await.expect("is read");
    }
    let outstanding = until_outstanding(&first, 0).await;
    // As many as there are cores may look at the same time.
    assert!(outstanding <= CLIENTS + 2, "{outstanding} wait");
    // They are answered when there is a leader.
    let second = start(two.config(2)).await;
    for raw in &mut raws {
        for _ in 0..2 {
            raw.header().await.expect("is answered");
        }
    }
    first.stop().await;
    second.stop().await;
}
