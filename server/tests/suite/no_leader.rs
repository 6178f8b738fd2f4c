//! What clients can do to a member that has no leader: what waits is bounded, and what nobody
//! waits for any longer is not done later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::common::cluster::{Two, until_leaderless};
use crate::common::{PATIENCE, Raw, create, get, new_session, start, until_outstanding, word};
use bytes::BytesMut;
use synod_core::model::{CreateMode, Entry, Request, Write, Zxid};
use synod_core::wire::ConnectRequest;
use synod_server::admin::Admin;
use synod_server::limits::{UNAPPLIED_BYTES_MAX, UNAPPLIED_PART_OF_CONNECTION};
use synod_server::{Config, Limits, Server, Tap};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// Counts the sessions that were opened.
#[derive(Default)]
struct Opened(AtomicUsize);

impl Tap for Opened {
    fn applied(&self, _: Zxid, entry: &Entry) {
        let opens = matches!(entry.request, Write::CreateSession { .. });
        self.0.fetch_add(usize::from(opens), SeqCst);
    }
}

/// A member that leads alone would take writes, and cut who sent them.
async fn let_second_lead(two: &Two) {
    let mut admin = Admin::new(&two.peers[&1]).expect("an address");
    while admin.status().await.expect("is told").leader != Some(2) {
        // The one that was asked who leads may be the last to hear of it.
        if let Err(refused) = admin.transfer(2).await {
            assert!(refused.to_string().contains("member 2 leads already"), "{refused}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_nobody_waits_for_any_longer_are_not_opened_when_a_leader_comes() {
    let two = Two::new();
    let opened = Arc::new(Opened::default());
    let limits = Limits { handshake: Duration::from_millis(50), ..Limits::default() };
    let tap: Option<Arc<dyn Tap>> = Some(opened.clone());
    let first = start(Config { limits, tap, ..two.config(1) }).await;
    for last_zxid in [Zxid::ZERO, Zxid::new(9, 9)] {
        for _ in 0..20 {
            let mut raw = Raw::dial(&first).await;
            let hello = ConnectRequest { last_zxid, ..new_session() };
            assert!(raw.hello(&hello).await.is_none(), "nobody leads");
        }
    }
    let second = start(two.config(2)).await;
    Raw::when_led(&second).await;
    // A session through the first member comes behind all that this has proposed before.
    let mut attempts = 0;
    let last = async {
        loop {
            attempts += 1;
            if Raw::dial(&first).await.hello(&new_session()).await.is_some() {
                return;
            }
        }
    };
    timeout(PATIENCE, last).await.expect("it is applied");
    let opened = opened.0.load(SeqCst);
    assert!(opened <= 1 + attempts, "{opened} sessions, of {attempts} attempts and one elsewhere");
    Server::stop(first).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_behind_a_sync_that_nobody_answers_are_bounded_in_bytes() {
    let two = Two::new();
    let first = start(two.config(1)).await;
    let second = start(two.config(2)).await;
    let mut raw = Raw::when_led(&first).await;
    second.stop().await;
    let mut out = BytesMut::new();
    raw.encode(&mut out, &Request::Sync { path: "/".into() });
    raw.bytes(&out).await;
    // Each nearly as large as a frame may be.
    let credentials = vec![b'a'; 1_000_000].into();
    let mut large = BytesMut::new();
    raw.encode(&mut large, &Request::Auth { scheme: "digest".into(), credentials });
    let mut taken = 0;
    while taken < 64 << 20 {
        let sent = timeout(Duration::from_secs(2), raw.stream.write_all(&large));
        match sent.await {
            Ok(sent) => sent.expect("the connection is kept"),
            Err(_) => break,
        }
        taken += large.len();
    }
    // The sockets' own buffers are among them.
    assert!(taken < 24 << 20, "{taken} bytes were taken in");
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_not_answered_are_as_many_as_the_bound_says() {
    const BOUND: usize = 8;
    let two = Two::new();
    let limits = Limits { outstanding_requests_max: BOUND, ..Limits::default() };
    let first = start(Config { limits, ..two.config(1) }).await;
    let second = start(two.config(2)).await;
    let mut raw = Raw::when_led(&first).await;
    second.stop().await;
    let mut out = BytesMut::new();
    raw.encode(&mut out, &Request::Sync { path: "/".into() });
    (0..4 * BOUND).for_each(|_| _ = raw.encode(&mut out, &get("/", false)));
    raw.bytes(&out).await;
    assert_eq!(until_outstanding(&first, BOUND).await, BOUND);
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_whose_connections_have_left_count_until_a_leader_takes_them() {
    // As many as one connection may have on their way.
    const WRITES: usize = 4;
    const BYTES: usize = 1_000_000;
    let two = Two::new();
    let first = start(two.config(1)).await;
    let second = start(two.config(2)).await;
    // More than there is room for.
    let mut raws = Vec::new();
    while raws.len() * WRITES * BYTES < 2 * UNAPPLIED_BYTES_MAX {
        raws.push(Raw::when_led(&first).await);
    }
    let_second_lead(&two).await;
    drop(second);
    until_leaderless(&first).await;
    let mut taken = 0;
    for mut raw in raws {
        let mut out = BytesMut::new();
        for n in 0..WRITES {
            let path = format!("/n-{taken}-{n}");
            raw.encode(&mut out, &create(&path, &[0; BYTES], CreateMode::Persistent));
        }
        let served = async {
            raw.bytes(&out).await;
            until_outstanding(&first, WRITES).await;
        };
        // There is no room for more, or this machine is very slow.
        if timeout(Duration::from_secs(10), served).await.is_err() {
            break;
        }
        taken += WRITES * BYTES;
        drop(raw);
        let leaving = async { while !word(&first, "srvr").await.contains("Outstanding: 0\n") {} };
        timeout(PATIENCE, leaving).await.expect("it is seen to leave");
    }
    // The last one may go beyond it.
    assert!(taken < UNAPPLIED_BYTES_MAX + BYTES, "{taken} bytes wait");
    assert!(taken >= UNAPPLIED_BYTES_MAX - WRITES * (BYTES + 1_000), "{taken} bytes are few");
    // They are done, and there is room again.
    let second = start(two.config(2)).await;
    let mut raw = Raw::when_led(&second).await;
    raw.call(&create("/last", b"", CreateMode::Persistent)).await.expect("there is room");
    first.stop().await;
    second.stop().await;
}

/// Otherwise those of others wait behind all that one sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_has_a_part_of_the_writes_on_their_way() {
    const BYTES: usize = 1_000_000;
    let part = UNAPPLIED_BYTES_MAX / UNAPPLIED_PART_OF_CONNECTION;
    let two = Two::new();
    let first = start(two.config(1)).await;
    let second = start(two.config(2)).await;
    let (mut hog, mut other) = (Raw::when_led(&first).await, Raw::when_led(&first).await);
    let_second_lead(&two).await;
    drop(second);
    until_leaderless(&first).await;
    let mut out = BytesMut::new();
    while out.len() < UNAPPLIED_BYTES_MAX / 2 {
        hog.encode(&mut out, &create("/n", &[0; BYTES], CreateMode::Persistent));
    }
    let sending = tokio::spawn(async move {
        hog.bytes(&out).await;
        hog
    });
    // The last one goes beyond the part.
    let most = part.div_ceil(BYTES);
    until_outstanding(&first, most).await;
    other.send(&create("/o", b"", CreateMode::Persistent)).await;
    until_outstanding(&first, most + 1).await;
    // Long enough for those that are not held back.
    for _ in 0..300 {
        assert_eq!(until_outstanding(&first, 0).await, most + 1);
    }
    drop(sending);
    first.stop().await;
}
