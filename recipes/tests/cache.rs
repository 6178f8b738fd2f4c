//! Caches under virtual time, with faults.

mod common;

use std::time::Duration;

use common::history::{History, path, tree_at, tree_of};
use common::{cancel_at, soon};
use futures::{FutureExt, StreamExt};
use serde::Deserialize;
use synod::cache::{CacheEvent, CacheEvents, CacheState};
use synod::testing::{Coordinator, SeededEntropy};
use synod::{Acl, Cache, Client, Code, Error, Zxid};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

const ROOT: &str = "/app";

async fn clients(zk: &Coordinator) -> (Client, Client) {
    (zk.client().await, zk.client().await)
}

async fn make(client: &Client, paths: &[&str]) {
    for path in paths {
        client.create(*path, *path).await.expect("new");
    }
}

async fn open(client: &Client) -> Cache {
    soon(Cache::open(client, ROOT).into_future()).await.expect("it can be read")
}

fn paths(cache: &Cache) -> Vec<String> {
    cache.current().iter().map(|node| node.path.to_string()).collect()
}

/// The next event, short.
async fn next(events: &mut CacheEvents) -> String {
    let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
    match soon(events.next()).await.expect("the client is open") {
        CacheEvent::Created(new) => format!("+{} {}", new.path, text(&new.data)),
        CacheEvent::Changed { old, new } => {
            assert!(new.stat.mzxid > old.stat.mzxid && new.path == old.path);
            format!("~{} {} {}", new.path, text(&old.data), text(&new.data))
        }
        CacheEvent::Deleted(old) => format!("-{} {}", old.path, text(&old.data)),
        CacheEvent::Current(_) => "current".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The events up to the next that is `Current`.
async fn batch(events: &mut CacheEvents) -> Vec<String> {
    let mut batch = Vec::new();
    loop {
        match next(events).await.as_str() {
            "current" => return batch,
            event => batch.push(event.to_owned()),
        }
    }
}

/// What the cache holds is what the tree is now.
async fn assert_equal(cache: &Cache, client: &Client, root: &str) {
    let snapshot = soon(cache.sync()).await.expect("the client is open");
    assert_eq!(tree_of(&snapshot), tree_at(client, root).await);
    assert_eq!(
        snapshot.bytes(),
        snapshot.iter().map(|n| n.path.len() + n.data.len()).sum::<usize>()
    );
    assert!(snapshot.zxid() <= client.sync().await.expect("connected"));
    assert!(cache.stale_since().is_none());
}

#[tokio::test(start_paused = true)]
async fn it_holds_the_subtree_and_what_becomes_of_it() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a", "/app/a/x", "/app/b", "/apple"]).await;
    let cache = open(&b).await;
    assert_eq!(paths(&cache), ["/app", "/app/a", "/app/a/x", "/app/b"]);
    assert_eq!(cache.get("/app/a/x").expect("there").data, "/app/a/x");
    assert!(cache.get("/app/c").is_none() && cache.get("/apple").is_none());

    let (old, stat) = (cache.current(), a.set("/app/a", "new").await.expect("there"));
    a.create("/app/b/y", "y").ephemeral().await.expect("new");
    a.delete("/app/a/x").await.expect("there");
    assert_equal(&cache, &a, ROOT).await;
    let node = cache.get("/app/a").expect("there");
    assert_eq!((&node.data[..], node.stat.mzxid, node.stat.version), (&b"new"[..], stat.mzxid, 1));
    let owner = cache.get("/app/b/y").expect("there").stat.ephemeral_owner;
    assert_eq!(owner, Some(a.session().id()));
    assert_eq!(old.get("/app/a").expect("there").data, "/app/a", "a snapshot does not change");
    assert!(old.zxid() < cache.current().zxid());
}

#[tokio::test(start_paused = true)]
async fn events_begin_with_what_is_there_and_tell_old_and_new() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a"]).await;
    let cache = open(&b).await;
    let mut events = cache.events();
    assert_eq!(batch(&mut events).await, ["+/app /app", "+/app/a /app/a"]);
    a.set("/app/a", "1").await.expect("there");
    assert_eq!(batch(&mut events).await, ["~/app/a /app/a 1"]);
    make(&a, &["/app/a/x"]).await;
    assert_eq!(batch(&mut events).await, ["+/app/a/x /app/a/x"]);
    // Of one step: children go before their parents, and come after them.
    let txn = a.txn().delete("/app/a/x").delete("/app/a").create("/app/b", "b");
    txn.create("/app/b/y", "y").commit().await.expect("valid");
    let told = ["-/app/a/x /app/a/x", "-/app/a 1", "+/app/b b", "+/app/b/y y"];
    assert_eq!(batch(&mut events).await, told);
    // Another one begins at the beginning.
    assert_eq!(batch(&mut cache.events()).await, ["+/app /app", "+/app/b b", "+/app/b/y y"]);
}

/// By its version it would not be one: it begins anew at 0.
#[tokio::test(start_paused = true)]
async fn a_znode_that_is_deleted_and_created_again_has_changed() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a"]).await;
    let cache = open(&b).await;
    let mut events = cache.events();
    batch(&mut events).await;
    let again = || a.txn().delete("/app/a").create("/app/a", "/app/a");
    again().commit().await.expect("there");
    assert_eq!(batch(&mut events).await, ["~/app/a /app/a /app/a"]);
    assert_eq!(cache.get("/app/a").expect("there").stat.version, 0);
    // While nobody looked.
    zk.disconnect(&b, Duration::from_secs(2));
    again().commit().await.expect("there");
    assert_eq!(batch(&mut events).await, ["Uncertain", "~/app/a /app/a /app/a"]);
    assert_equal(&cache, &a, ROOT).await;
}

/// Events that come while the connection is broken are lost (ZOOKEEPER-4655).
#[tokio::test(start_paused = true)]
async fn what_happened_while_it_was_away_is_found_and_until_then_it_says_that_it_may_be_behind() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a", "/app/b", "/app/b/x"]).await;
    let cache = open(&b).await;
    let mut events = cache.events();
    batch(&mut events).await;
    let before = cache.current();

    zk.disconnect(&b, Duration::from_secs(5));
    b.session().disconnected().await;
    let cut_at = Instant::now();
    a.delete("/app/b/x").await.expect("there");
    a.delete("/app/b").await.expect("there");
    a.set("/app/a", "1").await.expect("there");
    make(&a, &["/app/c"]).await;
    assert_eq!(next(&mut events).await, "Uncertain");
    assert_eq!(cache.stale_since(), Some(cut_at));
    assert!(matches!(cache.state(), CacheState::Uncertain { reason: None, .. }));
    assert_eq!(tree_of(&cache.current()), tree_of(&before), "what it knew stays");

    let told = ["-/app/b/x /app/b/x", "-/app/b /app/b", "~/app/a /app/a 1", "+/app/c /app/c"];
    assert_eq!(batch(&mut events).await, told);
    assert!(cut_at.elapsed() < Duration::from_secs(7), "within 2 s of healing");
    assert!(matches!(cache.state(), CacheState::Current));
    // What has not changed is the same still, down to its place in memory.
    let same = |snapshot: &synod::cache::Snapshot| snapshot.get("/app").expect("there").clone();
    assert!(std::sync::Arc::ptr_eq(&same(&before), &same(&cache.current())));
    assert_equal(&cache, &a, ROOT).await;
    assert_eq!(zk.watch_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_in_the_next_session() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app"]).await;
    let cache = open(&b).await;
    for round in 0..3 {
        let (old, name) = (b.session().id(), format!("/app/{round}"));
        match round {
            0 => zk.expire(&b).await,
            1 => zk.disconnect(&b, Duration::from_secs(120)),
            _ => {
                // Expired without its knowing.
                zk.disconnect(&b, Duration::from_secs(3));
                zk.expire(&b).await;
            }
        }
        a.create(&name, "").await.expect("new");
        soon(async {
            while cache.get(&name).is_none() {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        assert_ne!(b.session().id(), old);
        assert_equal(&cache, &a, ROOT).await;
        assert_eq!(zk.watch_count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_are_lost_for_their_number_are_made_up_for() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/old"]).await;
    let cache = open(&b).await;
    let mut events = cache.events();
    batch(&mut events).await;
    // More at once than wait in a watch.
    let many = (0..3_000).fold(a.txn(), |txn, n| txn.create(format!("/app/{n:04}"), ""));
    many.delete("/app/old").commit().await.expect("valid");
    assert_eq!(next(&mut events).await, "Uncertain");
    let told = batch(&mut events).await;
    assert_eq!((told.len(), &*told[0], &*told[1]), (3_001, "-/app/old /app/old", "+/app/0000 "));
    assert_equal(&cache, &a, ROOT).await;
}

#[tokio::test(start_paused = true)]
async fn a_root_that_is_not_there_is_waited_for_and_may_go_and_come_again() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    let cache = open(&b).await;
    let mut events = cache.events();
    assert_eq!(batch(&mut events).await, [""; 0], "initialized, and empty");
    assert!(cache.current().is_empty() && cache.stale_since().is_none());
    for _ in 0..3 {
        make(&a, &["/app"]).await;
        assert_eq!(batch(&mut events).await, ["+/app /app"]);
        make(&a, &["/app/a"]).await;
        assert_eq!(batch(&mut events).await, ["+/app/a /app/a"]);
        a.txn().delete("/app/a").delete("/app").commit().await.expect("there");
        assert_eq!(batch(&mut events).await, ["-/app/a /app/a", "-/app /app"]);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(zk.watch_count(), 1, "waiting costs nothing");
    }
    zk.disconnect(&b, Duration::from_secs(2));
    b.session().disconnected().await;
    make(&a, &["/app"]).await;
    assert_eq!(batch(&mut events).await, ["Uncertain", "+/app /app"]);
}

#[tokio::test(start_paused = true)]
async fn depth_and_filter_say_what_belongs_to_it() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    let all = ["/app", "/app/a", "/app/a/x", "/app/a/x/y", "/app/tmp", "/app/tmp/x"];
    make(&a, &all).await;
    let of_depth = |depth| Cache::open(&b, ROOT).depth(depth).into_future();
    let node = soon(of_depth(0)).await.expect("readable");
    let children = soon(of_depth(1)).await.expect("readable");
    let kept = Cache::open(&b, ROOT).filter(|path| path.name() != "tmp");
    let kept = soon(kept.into_future()).await.expect("readable");
    let check = |more: bool| {
        assert_eq!(paths(&node), all[..1]);
        assert_eq!(paths(&children), ["/app", "/app/a", "/app/tmp"]);
        let mut wanted = all[..4].to_vec();
        wanted.extend(more.then_some("/app/z"));
        assert_eq!(paths(&kept).iter().filter(|path| !path.ends_with("/0")).count(), wanted.len());
    };
    check(false);
    let before = node.current().zxid();
    for path in ["/app/a/x/y", "/app/tmp", "/app/tmp/x", "/app/a/x"] {
        a.set(path, "new").await.expect("there");
    }
    make(&a, &["/app/tmp/x/0", "/app/a/0"]).await;
    for cache in [&node, &children, &kept] {
        soon(cache.sync()).await.expect("open");
    }
    assert!(node.current().zxid() > before, "though nothing in it has changed");
    assert_eq!(node.current().get(ROOT).expect("there").data, ROOT);
    assert_eq!(children.get("/app/tmp").expect("there").data, "new");
    assert_eq!(kept.get("/app/a/x/y").expect("there").data, "new");
    assert!(kept.get("/app/tmp/x/0").is_none() && kept.get("/app/a/0").is_some());
    assert!(children.get("/app/a/0").is_none());
    a.set(ROOT, "root").await.expect("there");
    for cache in [&node, &children, &kept] {
        assert_eq!(soon(cache.sync()).await.expect("open").get(ROOT).expect("there").data, "root");
    }
    // The same after a reload.
    zk.disconnect(&b, Duration::from_secs(1));
    b.session().disconnected().await;
    for cache in [&node, &children, &kept] {
        soon(cache.sync()).await.expect("open");
    }
    assert_eq!(paths(&node), all[..1]);
    assert_eq!(paths(&children), ["/app", "/app/a", "/app/tmp"]);
    assert_eq!(paths(&kept), ["/app", "/app/a", "/app/a/0", "/app/a/x", "/app/a/x/y"]);
}

/// A pair of znodes is set together, and many others beside it, all the time and faster than they
/// can be read: a write of each writer takes as long as a read.
#[tokio::test(start_paused = true)]
async fn a_transaction_is_seen_whole_and_nobody_who_writes_all_the_time_keeps_it_behind() {
    const WRITES: u32 = 2_000;
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/one", "/app/two", "/app/others"]).await;
    let others = (0..100).fold(a.txn(), |txn, n| txn.create(format!("/app/others/{n}"), ""));
    others.commit().await.expect("valid");
    let cache = open(&b).await;
    let mut events = cache.events();
    batch(&mut events).await;

    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let client = zk.client().await;
        writers.spawn(async move {
            for n in (0..WRITES).map(|n| n.to_string()) {
                let txn = client.txn().set("/app/one", &n).set("/app/two", &n);
                txn.commit().await.expect("connected");
            }
        });
    }
    for seed in 0..6 {
        let (client, random) = (zk.client().await, SeededEntropy::new(seed));
        writers.spawn(async move {
            for _ in 0..WRITES {
                let path = format!("/app/others/{}", random.below(100));
                client.set(path, "").await.expect("there");
                sleep(Duration::from_millis(random.below(2))).await;
            }
        });
    }
    // Who asks for the newest gets no less, however busy it is.
    let asking = async {
        loop {
            let last = zk.last_zxid();
            assert!(cache.sync().await.expect("open").zxid() >= last);
        }
    };
    let following = async {
        let (mut snapshots, mut behind) = (0, 0);
        loop {
            batch(&mut events).await;
            let snapshot = cache.current();
            let data = |path| snapshot.get(path).expect("there").data.clone();
            assert_eq!(data("/app/one"), data("/app/two"), "at {}", snapshot.zxid());
            behind = (zk.last_zxid().as_i64() - snapshot.zxid().as_i64()).max(behind);
            snapshots += 1;
            if snapshots > 500 && data("/app/one") == (WRITES - 1).to_string() {
                return (snapshots, behind);
            }
        }
    };
    let following = async {
        tokio::select! {
            seen = following => seen,
            () = asking => unreachable!("it asks for ever"),
        }
    };
    let (_, (snapshots, behind)) = soon(futures::future::join(writers.join_all(), following)).await;
    // Two thirds of a write a millisecond and writer: this is a few reads behind.
    assert!(snapshots > 600 && behind < 60, "{snapshots} snapshots, {behind} writes behind");
    assert_equal(&cache, &a, ROOT).await;
}

#[tokio::test(start_paused = true)]
async fn every_snapshot_is_the_tree_at_its_zxid_through_random_writes_and_faults() {
    for seed in 0..8 {
        let zk = Coordinator::with_seed(seed);
        let (writer, reader) = clients(&zk).await;
        let mut history = History::new(writer, ROOT);
        let random = SeededEntropy::new(seed);
        let cache = Cache::open(&reader, ROOT).start().expect("valid");
        let mut events = cache.events();
        let mut seen = Vec::new();
        for round in 0..600 {
            history.write(&random).await;
            sleep(Duration::from_millis(random.below(4))).await;
            match random.below(100) {
                0 => zk.disconnect(&reader, Duration::from_millis(random.below(200))),
                1 if round % 5 == 0 => zk.expire(&reader).await,
                2 => zk.delay_next(&reader, Duration::from_millis(random.below(50))),
                _ => {}
            }
            while let Some(Some(_)) = events.next().now_or_never() {}
            seen.push(cache.current());
        }
        seen.push(soon(cache.sync()).await.expect("open"));
        let mut last = Zxid::ZERO;
        for snapshot in &seen {
            assert!(snapshot.zxid() >= last, "seed {seed}");
            last = snapshot.zxid();
            history.assert_was(last, &tree_of(snapshot));
        }
        seen.dedup_by_key(|snapshot| snapshot.zxid());
        assert!(seen.len() > 100, "seed {seed}: {} snapshots", seen.len());
        assert_eq!(history.last().1, &tree_of(&cache.current()), "seed {seed}");
    }
}

/// What the events add up to is the snapshot, however slowly they are read.
#[tokio::test(start_paused = true)]
async fn events_add_up_to_the_tree_at_the_zxid_that_current_names() {
    let zk = Coordinator::start();
    let (writer, reader) = clients(&zk).await;
    let mut history = History::new(writer, ROOT);
    let random = SeededEntropy::new(7);
    let cache = open(&reader).await;
    let (mut quick, mut slow) = (cache.events(), cache.events());
    let (mut of_quick, mut of_slow) = (Default::default(), Default::default());
    let mut told = 0;
    for round in 0..400 {
        history.write(&random).await;
        if round % 97 == 0 {
            zk.disconnect(&reader, Duration::from_millis(100));
        }
        sleep(Duration::from_millis(random.below(10))).await;
        told += add_up(&mut quick, &mut of_quick, &history);
        if round % 50 == 0 {
            add_up(&mut slow, &mut of_slow, &history);
        }
    }
    soon(cache.sync()).await.expect("open");
    add_up(&mut quick, &mut of_quick, &history);
    add_up(&mut slow, &mut of_slow, &history);
    assert!(told > 200, "{told}");
    assert!(of_quick == *history.last().1 && of_slow == of_quick);
}

/// Takes what is there; how many events that was.
fn add_up(events: &mut CacheEvents, tree: &mut common::history::Tree, history: &History) -> usize {
    use common::history::Seen;
    let mut told = 0;
    while let Some(Some(event)) = events.next().now_or_never() {
        told += 1;
        match event {
            CacheEvent::Created(new) => {
                let before = tree.insert(new.path.clone(), Seen::of(&new.data, &new.stat));
                assert_eq!(before, None);
            }
            CacheEvent::Changed { old, new } => {
                let before = tree.insert(new.path.clone(), Seen::of(&new.data, &new.stat));
                assert_eq!(before, Some(Seen::of(&old.data, &old.stat)));
            }
            CacheEvent::Deleted(old) => {
                assert_eq!(tree.remove(&old.path), Some(Seen::of(&old.data, &old.stat)));
            }
            CacheEvent::Current(zxid) => history.assert_was(zxid, tree),
            _ => {}
        }
    }
    told
}

#[tokio::test(start_paused = true)]
async fn a_subtree_past_a_bound_is_an_error_and_what_was_known_stays() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a", "/app/b"]).await;
    let small = || Cache::open(&b, ROOT).nodes_max(2);
    let error = soon(small().into_future()).await.expect_err("three are there");
    assert!(matches!(&error, Error::TooLarge { what: "znodes", max: 2, .. }), "{error:?}");
    assert_eq!(error.to_string(), "the subtree of /app has more than 2 znodes");
    let narrow = || Cache::open(&b, ROOT).bytes_max(30);
    let error = soon(narrow().into_future()).await.expect_err("4 + 6 + 6 bytes, twice");
    assert!(matches!(&error, Error::TooLarge { what: "bytes", max: 30, .. }), "{error:?}");

    // One that grows past its bound: in number, and in size.
    let by_number = soon(Cache::open(&b, ROOT).nodes_max(3).into_future()).await.expect("three");
    let by_size = soon(Cache::open(&b, ROOT).bytes_max(40).into_future()).await.expect("32 bytes");
    let before = by_number.current();
    let mut events = by_number.events();
    batch(&mut events).await;
    a.create("/app/c", "123456").await.expect("new");
    assert_eq!(next(&mut events).await, "Uncertain");
    for cache in [&by_number, &by_size] {
        let error = soon(cache.sync()).await.expect_err("too large");
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        let CacheState::Uncertain { reason: Some(reason), since } = cache.state() else {
            panic!("{:?}", cache.state());
        };
        assert!(matches!(reason, Error::TooLarge { .. }) && since <= Instant::now());
        assert_eq!(tree_of(&cache.current()), tree_of(&before));
    }
    // It mends when there is less.
    a.delete("/app/c").await.expect("there");
    a.set("/app/a", "1").await.expect("there");
    assert_eq!(batch(&mut events).await, ["~/app/a /app/a 1"]);
    assert_equal(&by_number, &a, ROOT).await;
    assert_equal(&by_size, &a, ROOT).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_not_read_to_the_end() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    let mut deep = ROOT.to_owned();
    for _ in 0..200 {
        a.create(&*deep, [0; 1_000]).await.expect("new");
        deep.push_str("/x");
    }
    for small in [Cache::open(&b, ROOT).nodes_max(4), Cache::open(&b, ROOT).bytes_max(4_500)] {
        let begun = Instant::now();
        soon(small.into_future()).await.expect_err("it is deeper");
        // Each level takes two reads.
        assert!(begun.elapsed() < Duration::from_millis(50), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_read_is_not_in_it_and_a_root_that_may_not_be_is_an_error() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a", "/app/b"]).await;
    a.add_auth("digest", b"ann:secret").await.expect("any digest is accepted");
    a.create("/app/secret", "s").acl(Acl::creator()).await.expect("new");
    let cache = open(&b).await;
    assert_eq!(paths(&cache), ["/app", "/app/a", "/app/b"]);
    a.set("/app/a", "1").await.expect("there");
    assert_eq!(soon(cache.sync()).await.expect("open").get("/app/a").expect("there").data, "1");

    a.set_acl(ROOT, Acl::creator()).await.expect("open until now");
    let error = soon(Cache::open(&b, ROOT).into_future()).await.expect_err("ann's");
    assert!(matches!(&error, Error::Client(error) if error.is(Code::NoAuth)), "{error}");
    let late = Cache::open(&b, ROOT).start().expect("valid");
    soon(late.initialized()).await.expect_err("ann's");
    a.set_acl(ROOT, Acl::open()).await.expect("ann's");
    soon(async {
        while late.initialized().await.is_err() {
            sleep(Duration::from_millis(1)).await
        }
    })
    .await;
    assert_eq!(paths(&late), ["/app", "/app/a", "/app/b"]);
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

#[derive(Debug, Deserialize, PartialEq)]
struct Instance {
    port: u16,
}

#[tokio::test(start_paused = true)]
async fn data_is_read_as_a_type() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app"]).await;
    a.create("/app/good", r#"{"port": 80}"#).await.expect("new");
    a.create("/app/bad", "{\n\"port\": \"eighty\"}").await.expect("new");
    let cache = open(&b).await;
    let good = cache.get("/app/good").expect("there");
    assert_eq!(*good.json::<Instance>().expect("valid"), Instance { port: 80 });
    let error = cache.get("/app/bad").expect("there").json::<Instance>().expect_err("not valid");
    let text = error.to_string();
    assert!(text.contains("/app/bad") && text.contains("line 2"), "{text}");
    a.set("/app/good", r#"{"port": 81}"#).await.expect("there");
    let now = soon(cache.sync()).await.expect("open").get("/app/good").expect("there").clone();
    assert_eq!(now.json::<Instance>().expect("valid").port, 81);
    assert_eq!(good.json::<Instance>().expect("valid").port, 80, "a node does not change");
}

#[tokio::test(start_paused = true)]
async fn in_a_namespace_paths_are_those_of_its_client() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a", "/app/a/x", "/other"]).await;
    let inside = b.namespace("/app").expect("valid");
    let cache = soon(Cache::open(&inside, "/").into_future()).await.expect("readable");
    assert_eq!(paths(&cache), ["/", "/a", "/a/x"]);
    make(&a, &["/app/b", "/other/a"]).await;
    let snapshot = soon(cache.sync()).await.expect("open");
    let children: Vec<_> = snapshot.children("/").map(|node| node.path.clone()).collect();
    assert_eq!(children, [path("/a"), path("/b")]);
}

#[tokio::test(start_paused = true)]
async fn of_the_root_of_everything_it_holds_everything() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a", "/b"]).await;
    let cache = soon(Cache::open(&b, "/").into_future()).await.expect("readable");
    assert_equal(&cache, &a, "/").await;
    make(&a, &["/c"]).await;
    assert_equal(&cache, &a, "/").await;
}
