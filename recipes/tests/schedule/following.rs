//! Caches and feeds: each is what the tree was at the zxid that it names, never goes back, and is up
//! to date soon after the faults.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use synod::cache::CacheEvent;
use synod::testing::{Coordinator, SeededEntropy};
use synod::{Cache, Client, Feed, Zxid};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::common::history::{History, Tree, tree_of};
use crate::common::soon;
use crate::common::store::Store;
use crate::harness::{FAULTS_FOR, Faults, Outcome, Plan, Subject, in_virtual_time, run_on, seeds};

const ROOT: &str = "/app";

/// Somebody writes about ten times a second, and it is seen.
const SEEN_MIN: usize = 1_000;

/// The connections are healed up to a pause between two faults after these, which is three seconds.
/// The last fault may be a delay of five, which begins with the first request: of a client that is
/// not connected by then, up to a second later.
const LAST_FAULT: Duration = Duration::from_secs(9);

/// How soon after the last fault they have to be up to date.
const CONVERGED_WITHIN: Duration = Duration::from_secs(2);

fn plan(seed: u64) -> Plan<'static> {
    Plan { seed, faults: Faults::All, empty: &[], progress_min: SEEN_MIN }
}

/// What was seen, each time with the zxid at which it was to have been so.
#[derive(Default)]
struct Seen(Mutex<Vec<(Zxid, Tree)>>);

impl Subject for Seen {
    fn progress(&self) -> usize {
        self.0.lock().expect("no panic").len()
    }
}

impl Seen {
    fn add(&self, zxid: Zxid, tree: Tree) {
        self.0.lock().expect("no panic").push((zxid, tree));
    }
}

/// The only one who writes, and is spared of faults; what it has written.
async fn write(client: Client, seed: u64, end: Instant) -> History {
    let (mut history, random) = (History::new(client, ROOT), SeededEntropy::new(seed));
    while Instant::now() < end {
        history.write(&random).await;
        // At times in a burst.
        let pause_ms = if random.below(8) == 0 { 500 } else { 20 };
        sleep(Duration::from_millis(random.below(pause_ms))).await;
    }
    history
}

async fn cache_worker(client: Client, seen: Arc<Seen>, healed: Instant, end: Instant) -> usize {
    let cache = Cache::open(&client, ROOT).start().expect("valid");
    let mut events = cache.events();
    let (mut last, mut count) = (Zxid::ZERO, 0);
    let following = async {
        while let Some(event) = events.next().await {
            let CacheEvent::Current(zxid) = event else { continue };
            let snapshot = cache.current();
            assert!(zxid >= last && snapshot.zxid() >= zxid, "it goes back");
            last = zxid;
            count += 1;
            seen.add(snapshot.zxid(), tree_of(&snapshot));
        }
    };
    let converging = async {
        sleep_until(healed).await;
        let synced = timeout(CONVERGED_WITHIN, cache.sync()).await;
        let synced = synced.unwrap_or_else(|_| panic!("not in time: {:?}", cache.state()));
        assert!(synced.is_ok() && cache.stale_since().is_none(), "{:?}", cache.state());
        sleep_until(end).await;
    };
    tokio::select! {
        () = following => panic!("the client lives"),
        () = converging => {}
    }
    let snapshot = soon(cache.sync()).await.expect("the client lives");
    seen.add(snapshot.zxid(), tree_of(&snapshot));
    count
}

async fn feed_worker(client: Client, seen: Arc<Seen>, healed: Instant, end: Instant) -> usize {
    let random = SeededEntropy::new(client.session().id().0.unsigned_abs());
    let (mut store, mut count, mut converged) = (Store::default(), 0, false);
    while Instant::now() < end {
        let known = store.known();
        let feed = Feed::open(&client, ROOT).resume(store.checkpoint, known);
        let mut feed = feed.start().expect("valid");
        // The consumer crashes now and then, until there is peace.
        let crash = Instant::now() + Duration::from_secs(1 + random.below(20));
        let crash = if Instant::now() + LAST_FAULT < healed { crash } else { end };
        while let Ok(change) = timeout_at(crash, feed.next()).await {
            if !store.take(change.expect("the client lives").expect("it can be read")) {
                continue;
            }
            count += 1;
            seen.add(store.checkpoint, store.rows.clone());
            converged |= (healed..healed + CONVERGED_WITHIN).contains(&Instant::now());
        }
        store.crash();
    }
    assert!(converged, "no checkpoint within {CONVERGED_WITHIN:?}");
    count
}

fn following(seed: u64) -> Outcome {
    in_virtual_time(async {
        let zk = Coordinator::with_seed(seed);
        let healed = Instant::now() + FAULTS_FOR + LAST_FAULT;
        let seen = Arc::new(Seen::default());
        let writer = zk.client().await;
        let writing = tokio::spawn(write(writer, seed, healed + Duration::from_secs(60)));
        let worker = |number, client, seen, end| async move {
            match number % 2 {
                0 => cache_worker(client, seen, healed, end).await,
                _ => feed_worker(client, seen, healed, end).await,
            }
        };
        let outcome = run_on(&zk, plan(seed), &seen, worker).await;
        let history = writing.await.expect("no panic");
        let seen = std::mem::take(&mut *seen.0.lock().expect("no panic"));
        for (zxid, tree) in &seen {
            history.assert_was(*zxid, tree);
        }
        let up_to_date = seen.iter().filter(|(_, tree)| tree == history.last().1).count();
        assert!(up_to_date >= 4, "seed {seed}: {up_to_date} of four in the end");
        assert!(history.writes() > SEEN_MIN, "seed {seed}: {} writes", history.writes());
        outcome
    })
}

#[test]
fn caches_and_feeds_are_the_tree_at_a_zxid_and_up_to_date_soon_after_whatever_failed() {
    for seed in seeds() {
        following(seed);
    }
}

#[test]
fn a_seed_repeats_itself() {
    assert_eq!(following(42), following(42));
}
