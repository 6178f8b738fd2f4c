//! Clients that do not take what they asked for. Each test here looks at the memory of the whole
//! process, or keeps it busy: they take turns.

use std::time::Duration;

use crate::common::{Raw, children, config, create, exists, get, new_session, set, start, watch};
use bytes::{BufMut, BytesMut};
use synod_core::model::{AddWatchMode, CreateMode, Read, ReadOp, Rearm, Request, WatchRequest};
use synod_core::wire::ConnectRequest;
use synod_server::limits::{EVENT_BYTES_MAX, TOTAL_OUTPUT_BYTES_MAX};
use synod_server::{Config, Limits, Server};
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// As long as this nobody waits who is not held up, on whatever machine.
const HELD_UP: Duration = Duration::from_secs(2);

static TURN: Mutex<()> = Mutex::const_new(());

/// Makes a znode whose list of children is a reply of about `reply_bytes`.
async fn fill(raw: &mut Raw, reply_bytes: usize) {
    raw.call(&create("/big", b"", CreateMode::Persistent)).await.expect("is created");
    let name_bytes = 180;
    let count = reply_bytes / (name_bytes + 4);
    for batch in 0..count.div_ceil(500) {
        let mut out = BytesMut::new();
        for n in batch * 500..(batch + 1) * 500 {
            let path = format!("/big/{n:0name_bytes$}");
            raw.encode(&mut out, &create(&path, b"", CreateMode::Persistent));
        }
        raw.bytes(&out).await;
        for _ in 0..500 {
            raw.reply().await.2.expect("is created");
        }
    }
}

/// Resident memory of this process, in bytes.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("there is procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("says it");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("is a number");
    kib << 10
}

/// Sends `asked` again and again and reads nothing, until the connection breaks.
async fn never_read(server: &Server, asked: &Request, count: usize) -> Raw {
    let mut raw = Raw::open(server).await;
    let mut out = BytesMut::new();
    for _ in 0..count {
        raw.encode(&mut out, asked);
    }
    // What is beyond the buffers of the sockets is not taken: the server has stopped to read.
    let mut sent = 0;
    while sent < out.len() {
        let writable = raw.stream.writable();
        if tokio::time::timeout(Duration::from_millis(200), writable).await.is_err() {
            break;
        }
        match raw.stream.try_write(&out[sent..]) {
            Ok(bytes) => sent += bytes,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("the connection broke: {error}"),
        }
    }
    raw
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_are_never_read_cost_little_and_hold_nobody_up() {
    // One that is beyond the bound by itself, and one of which many are needed.
    for reply_bytes in [1_800_000, 20_000] {
        never_read_replies_of(reply_bytes).await;
    }
}

async fn never_read_replies_of(reply_bytes: usize) {
    let _turn = TURN.lock().await;
    let server = start(config()).await;
    let mut other = Raw::open(&server).await;
    fill(&mut other, reply_bytes).await;
    other.call(&children("/big", false)).await.expect("is there");
    let before = resident_bytes();
    let _hog = never_read(&server, &children("/big", false), 20_000).await;
    let mut took = Vec::new();
    for _ in 0..2_000 {
        let asked = Instant::now();
        other.call(&get("/big", false)).await.expect("is there");
        took.push(asked.elapsed());
    }
    let growth = resident_bytes().saturating_sub(before);
    took.sort_unstable();
    let p99 = took[took.len() * 99 / 100];
    println!("growth {} KiB, p99 {p99:?}", growth >> 10);
    assert!(growth <= 64 << 20, "resident memory grew by {growth} bytes");
    assert!(p99 <= HELD_UP, "others waited {p99:?}");
    server.stop().await;
}

/// Each request tells of as much as it may ask for: of every path that is not there any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missed_events_that_are_never_read_cost_little_and_hold_nobody_up() {
    let _turn = TURN.lock().await;
    let server = start(config()).await;
    let mut other = Raw::open(&server).await;
    let data = (0..120).map(|number| format!("/{number:08000}").into()).collect();
    let missed = Request::Watch(WatchRequest::Rearm(Rearm { data, ..Rearm::default() }));
    let before = resident_bytes();
    let _hogs = [never_read(&server, &missed, 60).await, never_read(&server, &missed, 60).await];
    for _ in 0..100 {
        other.call(&get("/", false)).await.expect("is there");
    }
    let growth = resident_bytes().saturating_sub(before);
    assert!(growth <= 64 << 20, "resident memory grew by {growth} bytes");
    server.stop().await;
}

#[tokio::test]
async fn who_takes_nothing_for_too_long_is_closed_and_the_session_lives_on() {
    let _turn = TURN.lock().await;
    let limits = Limits { write_stall: Duration::from_millis(100), ..Limits::default() };
    let server = start(Config { limits, ..config() }).await;
    let mut other = Raw::open(&server).await;
    fill(&mut other, 500_000).await;
    let hog = never_read(&server, &children("/big", false), 20_000).await;
    let dropped = async {
        while !crate::common::word(&server, "mntr").await.contains("zk_connection_drop_count\t1\n")
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::common::PATIENCE, dropped).await.expect("is closed");
    let mut again = Raw::dial(&server).await;
    let resume = hog.resume();
    assert_eq!(again.hello(&resume).await.expect("is answered").session, resume.session);
    server.stop().await;
}

/// Its reply would hold its room for as long as it likes.
#[tokio::test]
async fn who_takes_little_for_too_long_is_closed() {
    let _turn = TURN.lock().await;
    let limits = Limits { write_stall: Duration::from_millis(500), ..Limits::default() };
    let server = start(Config { limits, ..config() }).await;
    let mut raw = Raw::open(&server).await;
    let data = vec![7; 1 << 19];
    raw.call(&create("/large", &data, CreateMode::Persistent)).await.expect("is created");
    // Far more than sockets take in.
    let reads = vec![ReadOp::GetData { path: "/large".into() }; 120];
    raw.send(&Request::Read(Read::Multi(reads))).await;
    let mut taken = 0;
    let mut some = vec![0; 128 << 10];
    while let Ok(bytes @ 1..) = raw.stream.read(&mut some).await {
        taken += bytes;
        // Each time a part of what is due by the end of the stall.
        tokio::time::sleep(limits.write_stall / 25).await;
    }
    assert!(taken < 120 << 19, "it got everything");
    server.stop().await;
}

#[tokio::test]
async fn who_reads_again_gets_everything_in_order() {
    let _turn = TURN.lock().await;
    let limits = Limits { output_bytes_soft: 1 << 10, ..Limits::default() };
    let server = start(Config { limits, ..config() }).await;
    let mut raw = Raw::open(&server).await;
    raw.call(&create("/n", &[7; 10_000], CreateMode::Persistent)).await.expect("is created");
    let mut out = BytesMut::new();
    let sent: Vec<i32> = (0..3_000).map(|_| raw.encode(&mut out, &get("/n", false))).collect();
    // All at once, before anything is read.
    raw.bytes(&out).await;
    for xid in sent {
        assert_eq!(raw.reply().await.0, xid);
    }
    server.stop().await;
}

#[tokio::test]
async fn too_many_events_cut_the_connection_and_the_session_lives_on() {
    let _turn = TURN.lock().await;
    let limits = Limits { event_bytes_max: 64 << 10, ..Limits::default() };
    let server = start(Config { limits, ..config() }).await;
    let path = format!("/{}", "x".repeat(8_000));
    let mut writer = Raw::open(&server).await;
    writer.call(&create(&path, b"", CreateMode::Persistent)).await.expect("is created");
    let mut deaf = Raw::open(&server).await;
    deaf.call(&create("/mine", b"", CreateMode::Ephemeral)).await.expect("is created");
    deaf.call(&watch(&path, AddWatchMode::Persistent)).await.expect("is left");
    // Until its watch is gone, and so its connection.
    let mut events = 0;
    while !crate::common::word(&server, "mntr").await.contains("zk_watch_count\t0\n") {
        for _ in 0..500 {
            writer.call(&set(&path, b"")).await.expect("is set");
        }
        events += 500;
        assert!(events < 20_000, "the server keeps what nobody reads");
    }
    let mut again = Raw::dial(&server).await;
    let resume = deaf.resume();
    assert_eq!(again.hello(&resume).await.expect("is answered").session, resume.session);
    again.call(&exists("/mine", false)).await.expect("lives");
    server.stop().await;
}

/// Each has as many events as it may: the bound is that of one, or what there may be together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_that_never_read_cost_what_they_may_and_hold_nobody_up() {
    for (watchers, total_output_bytes_max) in [(2, TOTAL_OUTPUT_BYTES_MAX), (12, 24 << 20)] {
        never_read_events(watchers, total_output_bytes_max).await;
    }
}

async fn never_read_events(watchers: usize, total_output_bytes_max: usize) {
    let _turn = TURN.lock().await;
    // None is closed for the time in which it takes nothing.
    let write_stall = Duration::from_secs(3_600);
    let limits = Limits { total_output_bytes_max, write_stall, ..Limits::default() };
    // They say nothing all the while, and are to lose no session by that.
    let session_timeout_ms_max = Some(3_600_000);
    let server = start(Config { limits, session_timeout_ms_max, ..config() }).await;
    let path = format!("/{}", "x".repeat(8_000));
    let mut other = Raw::open(&server).await;
    other.call(&create(&path, b"", CreateMode::Persistent)).await.expect("is created");
    let hello = ConnectRequest { timeout_ms: i32::MAX, ..new_session() };
    let mut deaf = Vec::new();
    for number in 0..watchers {
        let mut raw = Raw::open_at_last(&server, &hello).await;
        let watch = match number % 2 {
            0 => watch("/", AddWatchMode::PersistentRecursive),
            _ => watch(&path, AddWatchMode::Persistent),
        };
        raw.call(&watch).await.expect("is left");
        deaf.push(raw);
    }
    let before = resident_bytes();
    // A buffer that grows has room for up to as much again.
    let most = 2 * total_output_bytes_max.min(watchers * EVENT_BYTES_MAX) + (64 << 20);
    let mut events = 0;
    while !crate::common::word(&server, "mntr").await.contains("zk_watch_count\t0\n") {
        for _ in 0..200 {
            other.call(&set(&path, b"")).await.expect("is set");
            other.call(&exists(&path, false)).await.expect("is there");
        }
        events += 200;
        let growth = resident_bytes().saturating_sub(before);
        assert!(growth <= most, "{growth} bytes for {watchers} that do not read");
        assert!(events < 20_000, "the server keeps what nobody reads");
    }
    for raw in deaf {
        let mut again = Raw::dial(&server).await;
        let resumed = again.hello(&raw.resume()).await.expect("is answered");
        assert_eq!(resumed.session, raw.resume().session, "it lives on");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_reply_beyond_the_bound_of_frames_is_refused() {
    let _turn = TURN.lock().await;
    let server = start(config()).await;
    let mut raw = Raw::open(&server).await;
    let large = vec![7; 1_000_000];
    raw.call(&create("/large", &large, CreateMode::Persistent)).await.expect("is created");
    let before = resident_bytes();
    // A thousand reads of a megabyte each.
    let mut body = BytesMut::new();
    for _ in 0..1_000 {
        body.put_i32(4);
        body.put_slice(&[0, 0xFF, 0xFF, 0xFF, 0xFF]);
        body.put_i32(6);
        body.put_slice(b"/large\0");
    }
    body.put_i32(-1);
    body.put_slice(&[1, 0xFF, 0xFF, 0xFF, 0xFF]);
    raw.raw(3, 22, &body).await;
    let (xid, _, error) = raw.header().await.expect("goes on");
    assert_eq!((xid, error), (3, synod_core::model::Code::Throttled.number()));
    raw.call(&Request::Ping).await.expect("goes on");
    assert!(resident_bytes().saturating_sub(before) < 64 << 20);
    server.stop().await;
}
