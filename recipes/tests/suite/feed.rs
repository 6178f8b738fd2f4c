//! Feeds under virtual time, with faults, and a store that is kept in step by one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::history::{History, Tree, path, tree_at};
use crate::common::store::Store;
use crate::common::{cancel_at, soon};
use futures::{FutureExt, StreamExt};
use synod::feed::Change;
use synod::testing::{Coordinator, SeededEntropy};
use synod::{Acl, Client, Code, Error, Feed, Zxid};
use tokio::time::{Instant, sleep};

const ROOT: &str = "/app";

/// Follows the feed to the next checkpoint.
async fn follow(store: &mut Store, feed: &mut Feed) {
    loop {
        let change = soon(feed.next()).await.expect("the client is open");
        if store.take(change.expect("it can be read")) {
            return;
        }
    }
}

async fn clients(zk: &Coordinator) -> (Client, Client) {
    (zk.client().await, zk.client().await)
}

async fn make(client: &Client, paths: &[&str]) {
    for path in paths {
        client.create(*path, *path).await.expect("new");
    }
}

fn fresh(client: &Client) -> Feed {
    Feed::open(client, ROOT).start().expect("valid")
}

fn resumed(client: &Client, store: &Store) -> Feed {
    Feed::open(client, ROOT).resume(store.checkpoint, store.known()).start().expect("valid")
}

/// The changes up to the next checkpoint, short.
async fn step(feed: &mut Feed) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        match soon(feed.next()).await.expect("the client is open").expect("readable") {
            Change::Put { path, data, .. } => {
                told.push(format!("+{path} {}", String::from_utf8_lossy(&data)));
            }
            Change::Delete { path } => told.push(format!("-{path}")),
            Change::Checkpoint { .. } => return told,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_begins_with_all_there_is_and_goes_on_with_what_changes() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a", "/app/a/x", "/app/b", "/apple"]).await;
    let mut feed = fresh(&b);
    assert_eq!(zk.watch_count(), 0, "nothing is sent yet");
    let told = ["+/app /app", "+/app/a /app/a", "+/app/a/x /app/a/x", "+/app/b /app/b"];
    assert_eq!(step(&mut feed).await, told);
    a.set("/app/b", "1").await.expect("there");
    assert_eq!(step(&mut feed).await, ["+/app/b 1"]);
    let txn = a.txn().delete("/app/a/x").delete("/app/a").create("/app/c", "c").set("/app", "0");
    txn.create("/app/c/y", "y").commit().await.expect("valid");
    assert_eq!(
        step(&mut feed).await,
        ["-/app/a/x", "-/app/a", "+/app 0", "+/app/c c", "+/app/c/y y"]
    );
    // Deleted and created again is a change of the data, and no deletion.
    a.txn().delete("/app/b").create("/app/b", "1").commit().await.expect("there");
    assert_eq!(step(&mut feed).await, ["+/app/b 1"]);
    assert_eq!(zk.watch_count(), 1);
    drop(feed);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(zk.watch_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_names_the_zxid_at_which_the_tree_was_that_and_a_put_its_own() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app"]).await;
    let (mut feed, mut store) = (fresh(&b), Store::default());
    follow(&mut store, &mut feed).await;
    for n in 0..20u32 {
        let stat = a.set(ROOT, n.to_string()).await.expect("there");
        follow(&mut store, &mut feed).await;
        assert_eq!(store.rows[&path(ROOT)].mzxid, stat.mzxid);
        assert!(store.checkpoint >= stat.mzxid && store.checkpoint <= zk.last_zxid());
    }
}

#[tokio::test(start_paused = true)]
async fn a_resume_tells_what_differs_and_nothing_else() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a", "/app/b", "/app/b/x", "/app/c", "/app/d"]).await;
    let (mut feed, mut store) = (fresh(&b), Store::default());
    follow(&mut store, &mut feed).await;
    drop(feed);
    assert_eq!(step(&mut resumed(&b, &store)).await, [""; 0], "nothing has happened");

    // While nobody follows.
    a.set("/app/a", "1").await.expect("there");
    a.txn().delete("/app/b/x").delete("/app/b").commit().await.expect("there");
    a.txn().delete("/app/c").create("/app/c", "/app/c").commit().await.expect("there");
    make(&a, &["/app/e", "/app/gone"]).await;
    a.delete("/app/gone").await.expect("there");
    let told = ["-/app/b/x", "-/app/b", "+/app/a 1", "+/app/c /app/c", "+/app/e /app/e"];
    assert_eq!(step(&mut resumed(&b, &store)).await, told);
    // Not taken by the store: told again.
    let mut feed = resumed(&b, &store);
    assert_eq!(step(&mut feed).await, told);
}

/// A store without transactions: it has taken part of a step and no checkpoint.
#[tokio::test(start_paused = true)]
async fn a_store_that_crashed_between_two_checkpoints_is_in_step_again() {
    let zk = Coordinator::start();
    let (writer, b) = clients(&zk).await;
    let mut history = History::new(writer, ROOT);
    let random = SeededEntropy::new(3);
    let mut store = Store::default();
    for round in 0..60 {
        for _ in 0..10 {
            history.write(&random).await;
        }
        let mut feed = resumed(&b, &store);
        // Some changes are applied at once, and the rest is lost.
        let crash_after = random.below(8);
        for _ in 0..crash_after {
            match soon(feed.next()).await.expect("open").expect("readable") {
                Change::Checkpoint { zxid } => store.checkpoint = zxid,
                change => store.apply(change),
            }
        }
        drop(feed);
        if round % 3 == 0 {
            let mut feed = resumed(&b, &store);
            follow(&mut store, &mut feed).await;
            history.assert_was(store.checkpoint, &store.rows);
            assert_eq!(history.last().1, &store.rows);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn at_each_checkpoint_the_store_is_the_tree_through_random_writes_faults_and_crashes() {
    for seed in 0..8 {
        let zk = Coordinator::with_seed(seed);
        let (writer, reader) = clients(&zk).await;
        let mut history = History::new(writer, ROOT);
        let random = SeededEntropy::new(seed);
        let (mut feed, mut store) = (fresh(&reader), Store::default());
        let mut seen: BTreeMap<Zxid, Tree> = BTreeMap::new();
        for _ in 0..600 {
            history.write(&random).await;
            sleep(Duration::from_millis(random.below(4))).await;
            match random.below(100) {
                0 => zk.disconnect(&reader, Duration::from_millis(random.below(200))),
                1 => zk.expire(&reader).await,
                2 => zk.delay_next(&reader, Duration::from_millis(random.below(50))),
                3..=5 => {
                    store.crash();
                    feed = resumed(&reader, &store);
                }
                // A consumer that is slow.
                6 => continue,
                _ => {}
            }
            while let Some(Some(change)) = feed.next().now_or_never() {
                if store.take(change.expect("readable")) {
                    seen.insert(store.checkpoint, store.rows.clone());
                }
            }
        }
        soon(async {
            while store.rows != *history.last().1 {
                follow(&mut store, &mut feed).await;
            }
        })
        .await;
        seen.iter().for_each(|(zxid, tree)| history.assert_was(*zxid, tree));
        assert!(seen.len() > 100, "seed {seed}: {} checkpoints", seen.len());
    }
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_over_broken_connections_and_expired_sessions() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a"]).await;
    let (mut feed, mut store) = (fresh(&b), Store::default());
    follow(&mut store, &mut feed).await;
    for (round, away) in [(0, 3), (1, 120), (2, 0)] {
        match away {
            0 => zk.expire(&b).await,
            away => zk.disconnect(&b, Duration::from_secs(away)),
        }
        b.session().disconnected().await;
        let cut_at = Instant::now();
        a.set("/app/a", format!("{round}")).await.expect("there");
        a.create(format!("/app/{round}"), "").await.expect("new");
        let wanted = tree_at(&a, ROOT).await;
        soon(async {
            while store.rows != wanted {
                follow(&mut store, &mut feed).await;
            }
        })
        .await;
        assert!(cut_at.elapsed() <= Duration::from_secs(away + 2), "{:?}", cut_at.elapsed());
        assert_eq!(zk.watch_count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_are_lost_for_their_number_are_made_up_for() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/old"]).await;
    let (mut feed, mut store) = (fresh(&b), Store::default());
    follow(&mut store, &mut feed).await;
    for round in 0..3 {
        let name = |n| format!("/app/{round}-{n:04}");
        let many = (0..2_000).fold(a.txn(), |txn, n| txn.create(name(n), ""));
        many.commit().await.expect("valid");
        if round == 1 {
            a.delete("/app/old").await.expect("there");
        }
        follow(&mut store, &mut feed).await;
        assert_eq!(store.rows, tree_at(&a, ROOT).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_root_may_be_missing_and_go_and_come_again() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    let mut feed = fresh(&b);
    assert_eq!(step(&mut feed).await, [""; 0], "in step with nothing");
    for _ in 0..2 {
        make(&a, &["/app", "/app/a"]).await;
        let mut told = step(&mut feed).await;
        if told.len() < 2 {
            told.extend(step(&mut feed).await);
        }
        assert_eq!(told, ["+/app /app", "+/app/a /app/a"]);
        a.txn().delete("/app/a").delete("/app").commit().await.expect("there");
        assert_eq!(step(&mut feed).await, ["-/app/a", "-/app"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_longer_belongs_to_it_is_deleted_from_the_store() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a", "/app/a/x", "/app/tmp", "/app/tmp/y"]).await;
    let (mut feed, mut store) = (fresh(&b), Store::default());
    follow(&mut store, &mut feed).await;
    let less = || Feed::open(&b, ROOT).resume(store.checkpoint, store.known());
    let mut feed = less().depth(1).start().expect("valid");
    assert_eq!(step(&mut feed).await, ["-/app/tmp/y", "-/app/a/x"]);
    let mut feed = less().filter(|path| path.name() != "tmp").start().expect("valid");
    assert_eq!(step(&mut feed).await, ["-/app/tmp/y", "-/app/tmp"]);
    a.set("/app/tmp/y", "1").await.expect("there");
    a.set("/app/a/x", "1").await.expect("there");
    assert_eq!(step(&mut feed).await, ["+/app/a/x 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_znode_that_is_written_all_the_time_does_not_put_checkpoints_off() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/hot", "/app/calm"]).await;
    let (mut feed, mut store) = (fresh(&b), Store::default());
    follow(&mut store, &mut feed).await;
    let mut writers = tokio::task::JoinSet::new();
    for name in ["hot", "calm", "hot"] {
        let client = zk.client().await;
        writers.spawn(async move {
            for n in 0..500u32 {
                let path = format!("/app/{name}");
                client.set(path, n.to_string()).await.expect("there");
            }
        });
    }
    let following = async {
        let mut checkpoints = 0;
        while store.rows[&path("/app/calm")].data != b"499" {
            follow(&mut store, &mut feed).await;
            checkpoints += 1;
        }
        checkpoints
    };
    let (_, checkpoints) = soon(futures::future::join(writers.join_all(), following)).await;
    assert!(checkpoints > 150, "{checkpoints} in 500 writes, each as long as a read");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_next_change_may_be_cancelled_at_every_await() {
    for n in 1.. {
        let zk = Coordinator::start();
        let (a, b) = clients(&zk).await;
        make(&a, &["/app", "/app/a", "/app/a/x"]).await;
        let (mut feed, mut store) = (fresh(&b), Store::default());
        let first = cancel_at(n, feed.next()).await;
        let finished = first.is_some();
        if let Some(Some(Ok(change))) = first {
            store.take(change);
        }
        follow(&mut store, &mut feed).await;
        for _ in 0..n {
            // It takes none that it does not give.
            assert!(feed.next().now_or_never().is_none());
        }
        a.set("/app/a", "1").await.expect("there");
        follow(&mut store, &mut feed).await;
        assert_eq!(store.rows, tree_at(&a, ROOT).await);
        if finished {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_it_at_any_await_leaves_no_watch() {
    for n in 1..40 {
        let zk = Coordinator::start();
        let client = zk.client().await;
        make(&client, &["/app", "/app/a", "/app/a/x"]).await;
        let mut feed = fresh(&client);
        for _ in 0..n {
            let _ = feed.next().now_or_never();
            sleep(Duration::from_micros(500)).await;
        }
        drop(feed);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(zk.watch_count(), 0, "dropped after {n} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_is_told_and_it_goes_on_when_it_can() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a", "/app/b"]).await;
    a.add_auth("digest", b"ann:secret").await.expect("any digest is accepted");
    let mut store = Store::default();
    let mut feed = Feed::open(&b, ROOT).nodes_max(3).start().expect("valid");
    follow(&mut store, &mut feed).await;

    a.create("/app/c", "").await.expect("new");
    let error = async |feed: &mut Feed, store: &mut Store| loop {
        match soon(feed.next()).await.expect("open") {
            Err(error) => return error,
            Ok(change) => drop(store.take(change)),
        }
    };
    let too_large = error(&mut feed, &mut store).await;
    assert!(matches!(too_large, Error::TooLarge { what: "znodes", max: 3, .. }), "{too_large}");
    a.delete("/app/a").await.expect("there");
    soon(async {
        while store.rows != tree_at(&a, ROOT).await {
            match soon(feed.next()).await.expect("open") {
                Err(error) => assert!(matches!(error, Error::TooLarge { .. }), "{error}"),
                Ok(change) => drop(store.take(change)),
            }
        }
    })
    .await;

    a.set_acl(ROOT, Acl::creator()).await.expect("open until now");
    zk.expire(&b).await;
    let refused = error(&mut feed, &mut store).await;
    assert!(matches!(&refused, Error::Client(error) if error.is(Code::NoAuth)), "{refused}");
    a.set_acl(ROOT, Acl::open()).await.expect("ann's");
    a.set("/app/b", "1").await.expect("there");
    soon(async {
        while store.rows[&path("/app/b")].data != b"1" {
            if let Ok(change) = soon(feed.next()).await.expect("open") {
                store.take(change);
            }
        }
    })
    .await;
    assert!(Feed::open(&b, "app").start().is_err(), "a path begins with /");
}

/// A coordinator that numbers anew: what the store has only looks the same.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_of_another_history_is_told_all_again() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a"]).await;
    let mut store = Store::default();
    follow(&mut store, &mut fresh(&b)).await;
    // The same rows by path and mzxid, from a longer past than this coordinator has.
    let past = Zxid::new(7, 1);
    let known = store.known().into_iter().chain([(path("/app/z"), Zxid::new(6, 1))]);
    let mut feed = Feed::open(&b, ROOT).resume(past, known).start().expect("valid");
    assert_eq!(step(&mut feed).await, ["-/app/z", "+/app /app", "+/app/a /app/a"]);
    a.set("/app/a", "1").await.expect("there");
    assert_eq!(step(&mut feed).await, ["+/app/a 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_closed_client_ends_it() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app"]).await;
    let mut feed = fresh(&b);
    step(&mut feed).await;
    b.close().await.expect("connected");
    assert!(soon(feed.next()).await.is_none());
    assert!(soon(fresh(&b).next()).await.is_none());
}
