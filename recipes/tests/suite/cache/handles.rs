//! How it begins and ends: started, shared, synced, cancelled, dropped, closed.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use synod::Cache;
use synod::testing::Coordinator;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::{ROOT, assert_equal, batch, clients, make, next, open, paths};
use crate::common::{cancel_at, soon};

#[tokio::test(start_paused = true)]
async fn a_start_does_not_wait_and_says_so_until_all_is_read() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app"]).await;
    zk.disconnect(&b, Duration::from_secs(4));
    let cache = Cache::open(&b, ROOT).start().expect("valid");
    let mut events = cache.events();
    assert!(cache.current().is_empty() && cache.stale_since() == Some(Instant::now()));
    sleep(Duration::from_secs(1)).await;
    assert!(events.next().now_or_never().is_none() && cache.initialized().now_or_never().is_none());
    soon(cache.initialized()).await.expect("readable");
    assert_eq!(batch(&mut events).await, ["+/app /app"]);
    assert!(Cache::open(&b, "app").start().is_err(), "a path begins with /");
}

#[tokio::test(start_paused = true)]
async fn two_caches_of_a_subtree_share_a_watch_and_part_without_harm() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app"]).await;
    let (one, other) = (open(&b).await, open(&b).await);
    assert_eq!(zk.watch_count(), 1);
    drop(one);
    make(&a, &["/app/a"]).await;
    assert_equal(&other, &a, ROOT).await;
    for _ in 0..50 {
        zk.disconnect(&b, Duration::from_millis(20));
        b.session().disconnected().await;
        drop(open(&b).await);
    }
    soon(other.sync()).await.expect("open");
    assert_eq!(zk.watch_count(), 1, "reconnects add none");
    drop(other);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(zk.watch_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sync_shows_what_was_written_before_it_and_may_be_cancelled() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app"]).await;
    let cache = open(&b).await;
    for n in 1..8u32 {
        let stat = a.set(ROOT, n.to_string()).await.expect("there");
        let synced = cancel_at(n as usize, cache.sync()).await;
        if let Some(snapshot) = synced {
            assert!(snapshot.expect("open").zxid() >= stat.mzxid);
        }
        let snapshot = soon(cache.sync()).await.expect("open");
        assert!(snapshot.zxid() >= stat.mzxid);
        assert_eq!(snapshot.get(ROOT).expect("there").data, n.to_string());
    }
    // Many at once; and while the connection is broken, it waits.
    let all = (0..100).map(|_| cache.sync());
    assert!(soon(futures::future::join_all(all)).await.into_iter().all(|synced| synced.is_ok()));
    zk.disconnect(&b, Duration::from_secs(5));
    b.session().disconnected().await;
    let stat = a.set(ROOT, "last").await.expect("there");
    assert!(soon(cache.sync()).await.expect("open").zxid() >= stat.mzxid);
}

#[tokio::test(start_paused = true)]
async fn dropping_it_or_cancelling_its_opening_leaves_no_watch_and_no_task() {
    for n in 1.. {
        let zk = Coordinator::start();
        let client = zk.client().await;
        make(&client, &["/app", "/app/a", "/app/a/x"]).await;
        let tasks = Handle::current().metrics().num_alive_tasks();
        let opened = cancel_at(n, Cache::open(&client, ROOT).into_future()).await;
        let finished = opened.is_some();
        if let Some(opened) = opened {
            let cache = opened.expect("readable");
            let (mut events, other) = (cache.events(), cache.clone());
            batch(&mut events).await;
            assert_eq!(zk.watch_count(), 1);
            drop(cache);
            sleep(Duration::from_secs(1)).await;
            assert_eq!(zk.watch_count(), 1, "another handle holds it");
            drop(other);
            assert!(soon(events.next()).await.is_none(), "the stream ends with it");
        }
        soon(async {
            while zk.watch_count() > 0 || Handle::current().metrics().num_alive_tasks() > tasks {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        if finished {
            break;
        }
    }
    // Dropped at every moment of its beginning.
    let zk = Coordinator::start();
    let client = zk.client().await;
    make(&client, &["/app", "/app/a", "/app/a/x"]).await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    for delay_ms in 0..20 {
        let cache = Cache::open(&client, ROOT).start().expect("valid");
        sleep(Duration::from_millis(delay_ms)).await;
        drop(cache);
    }
    soon(async {
        while zk.watch_count() > 0 || Handle::current().metrics().num_alive_tasks() > tasks {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_closed_client_ends_it_and_what_it_held_stays() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app"]).await;
    let cache = open(&b).await;
    let mut events = cache.events();
    batch(&mut events).await;
    let waiting = Cache::open(&b, "/other").start().expect("valid");
    b.close().await.expect("connected");
    assert_eq!(next(&mut events).await, "Uncertain");
    assert!(soon(events.next()).await.is_none(), "nothing can come any more");
    assert_eq!(paths(&cache), [ROOT]);
    assert!(cache.stale_since().is_some());
    assert!(soon(cache.sync()).await.expect_err("closed").session_over());
    assert!(soon(waiting.initialized()).await.expect_err("closed").session_over());
    let error = soon(Cache::open(&b, ROOT).into_future()).await.expect_err("closed");
    assert!(error.session_over(), "{error}");
}
