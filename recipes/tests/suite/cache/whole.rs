//! Snapshots are the tree at a zxid, and events add up to them.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use synod::cache::{CacheEvent, CacheEvents};
use synod::testing::{Coordinator, SeededEntropy};
use synod::{Cache, Zxid};
use tokio::time::sleep;

use super::{ROOT, assert_equal, batch, clients, make, open};
use crate::common::history::{History, Seen, Tree, tree_of};
use crate::common::soon;

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
fn add_up(events: &mut CacheEvents, tree: &mut Tree, history: &History) -> usize {
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
