//! Many tasks and threads on one embedded coordinator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use synod_core::client::Client;
use synod_core::model::{Code, WatchKind};

const THREADS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn increments_by_versioned_sets_lose_none() {
    const EACH: usize = 500;
    let name = "embedded:concurrency-increments";
    let shared = Client::connect(name).await.expect("connects");
    shared.create("/n", b"0").await.expect("creates");
    let mut tasks = Vec::new();
    for task in 0..2 * THREADS {
        // Half have a session of their own.
        let client = match task % 2 {
            0 => shared.clone(),
            _ => Client::connect(name).await.expect("connects"),
        };
        tasks.push(tokio::spawn(async move {
            for _ in 0..EACH {
                loop {
                    let (data, stat) = client.get("/n").await.expect("is there");
                    let text = std::str::from_utf8(&data).expect("a number");
                    let next = text.parse::<usize>().expect("a number") + 1;
                    let next = next.to_string();
                    match client.set("/n", next.as_bytes()).version(stat.version).await {
                        Ok(_) => break,
                        Err(error) if error.is(Code::BadVersion) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    let (data, stat) = shared.get("/n").await.expect("is there");
    let expected = 2 * THREADS * EACH;
    assert_eq!(data, expected.to_string().as_bytes());
    assert_eq!(stat.version as usize, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_watch_may_be_dropped_by_the_task_that_its_event_wakes() {
    let name = "embedded:concurrency-drops";
    let writer = Client::connect(name).await.expect("connects");
    writer.create("/x", b"").await.expect("creates");
    let mut tasks = Vec::new();
    for _ in 0..2 * THREADS {
        let client = Client::connect(name).await.expect("connects");
        tasks.push(tokio::spawn(async move {
            for round in 0..300 {
                let mut watch = client.watch("/").recursive().await.expect("watches");
                let (_, changed) = client.get("/x").watched().await.expect("is there");
                client.set("/x", b"").await.expect("sets");
                watch.next().await.expect("comes");
                drop(watch);
                if round % 2 == 0 {
                    changed.await.expect("fires");
                }
            }
            client.close().await.expect("closes");
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    assert!(!writer.has_watch("/x", WatchKind::Any).await.expect("answers"));
}

#[test]
fn a_watch_that_is_dropped_does_not_take_away_one_that_is_just_being_left() {
    let name = "embedded:concurrency-order";
    let client = futures_now(Client::connect(name)).expect("connects");
    let (over, paths) = (Arc::new(AtomicBool::new(false)), ["/a", "/b"]);
    std::thread::scope(|scope| {
        // One keeps the coordinator busy, so that the others meet at its door.
        scope.spawn({
            let (client, over) = (client.clone(), Arc::clone(&over));
            move || {
                while !over.load(Ordering::Acquire) {
                    let reads = (0..200).fold(client.multi_read(), |reads, _| reads.get("/"));
                    futures_now(reads.into_future()).expect("answers");
                }
            }
        });
        // Two leave and drop watches, all the time.
        for path in paths {
            let (client, over) = (client.clone(), Arc::clone(&over));
            scope.spawn(move || {
                while !over.load(Ordering::Acquire) {
                    drop(futures_now(client.watch(path).into_future()).expect("watches"));
                }
            });
        }
        // What is held here meanwhile stays. (Without order, one in 100,000 did not.)
        for round in 0..60_000 {
            let path = paths[round % 2];
            let watch = futures_now(client.watch(path).into_future()).expect("watches");
            let has = futures_now(client.has_watch(path, WatchKind::Persistent).into_future());
            if !has.expect("answers") {
                over.store(true, Ordering::Release);
                panic!("the watch of {path} is gone in round {round}");
            }
            drop(watch);
        }
        over.store(true, Ordering::Release);
    });
    for path in paths {
        let has = futures_now(client.has_watch(path, WatchKind::Any).into_future());
        assert!(!has.expect("answers"));
    }
}

#[test]
fn requests_that_meet_the_close_of_their_session_are_told_that_it_is_over() {
    for _ in 0..500 {
        let client = futures_now(Client::connect("embedded:")).expect("connects");
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                loop {
                    if let Err(error) = futures_now(client.get("/").into_future()) {
                        return error;
                    }
                }
            });
            futures_now(client.close()).expect("closes");
            let error = reader.join().expect("no panic");
            assert!(error.session_over() && !error.maybe_applied(), "{error}");
        });
    }
}

/// On the embedded ground everything is answered at once.
fn futures_now<F: Future>(future: F) -> F::Output {
    futures::FutureExt::now_or_never(future).expect("is answered inline")
}
