//! What recipes tell of themselves in numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::everything::{PATH, lock, use_every_recipe};
use crate::common::{cancel_at, soon, until_children};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use synod::testing::Coordinator;
use synod::{Election, Group, PersistentNode, RwLock, Semaphore};
use tokio::time::sleep;

/// Every value that was recorded, by name and labels.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<BTreeMap<String, Vec<f64>>>>);

struct Series(Told, String);

impl Told {
    /// From now on, on this thread.
    fn listen(&self) -> impl Drop + use<'_> {
        metrics::set_default_local_recorder(self)
    }

    fn of(&self, series: &str) -> Vec<f64> {
        self.0.lock().expect("no panic").get(series).cloned().unwrap_or_default()
    }

    /// The recipes that have recorded something under that name.
    fn recipes(&self, name: &str) -> BTreeSet<String> {
        let all = self.0.lock().expect("no panic");
        let recipe = |series: &String| Some(series.strip_prefix(name)?.trim().to_owned());
        all.keys().filter_map(recipe).collect()
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.0.0.lock().expect("no panic").entry(self.1.clone()).or_default().push(value);
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        self.record(value as f64);
    }

    fn absolute(&self, _: u64) {
        unreachable!("counters are incremented")
    }
}

fn series(told: &Told, key: &Key) -> Arc<Series> {
    let labels = key.labels().map(|label| format!(" {}", label.value()));
    Arc::new(Series(told.clone(), format!("{}{}", key.name(), labels.collect::<String>())))
}

impl Recorder for Told {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(series(self, key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(series(self, key))
    }
}

#[tokio::test(start_paused = true)]
async fn an_acquire_says_how_long_it_took_and_how_many_were_before_it() {
    let told = Told::default();
    let _listening = told.listen();
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let held = lock(&a).acquire().await.expect("free");
    let second = lock(&b);
    let (waited, ()) = tokio::join!(second.acquire(), async {
        sleep(Duration::from_secs(3)).await;
        held.release().await.map(drop).expect("connected");
    });
    drop(waited.expect("its turn"));
    assert_eq!(told.of("synod_wait_depth lock"), [0.0, 1.0]);
    let took = told.of("synod_acquire_seconds lock");
    assert!(matches!(took[..], [at_once, late] if at_once < 1.0 && (3.0..4.0).contains(&late)));
    // One that is not granted has taken no time, but its place.
    let _held = lock(&a).acquire().await.expect("free");
    assert!(lock(&b).acquire_within(Duration::from_secs(1)).await.is_err());
    assert_eq!(told.of("synod_acquire_seconds lock").len(), 3);
    assert_eq!(told.of("synod_wait_depth lock").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_release_says_how_long_the_session_was_sure_to_live_and_is_no_loss() {
    let told = Told::default();
    let _listening = told.listen();
    let zk = Coordinator::start();
    let client = zk.client().await;
    let guard = lock(&client).acquire().await.expect("free");
    guard.release().await.expect("connected");
    guard.release().await.expect("twice does nothing");
    drop(guard);
    let left = told.of("synod_time_to_expiry_seconds lock");
    let timeout = client.session().timeout().as_secs_f64();
    assert!(matches!(left[..], [left] if 0.0 < left && left <= timeout), "{left:?}");
    assert!(told.recipes("synod_losses_total").is_empty());
    assert!(told.recipes("synod_reaps_total").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_counted_once_with_its_reason_whoever_notices_it() {
    let told = Told::default();
    let _listening = told.listen();
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let guard = lock(&a).acquire().await.expect("free");
    b.delete(guard.path()).await.expect("forced");
    assert!(guard.txn().create("/late", b"").commit().await.is_err());
    guard.lost().await;
    assert!(guard.run(async {}).await.is_err());
    drop(guard);
    assert_eq!(told.of("synod_losses_total lock removed"), [1.0]);

    // Nobody looks at these but their drop and their release.
    for released in [false, true] {
        let guard = lock(&a).acquire().await.expect("free");
        zk.expire(&a).await;
        guard.session().lost().await;
        if released {
            guard.release().await.expect("its session is over");
        }
        drop(guard);
        soon(async { while a.pin().await.is_err() {} }).await;
    }
    assert_eq!(told.of("synod_losses_total lock session_over"), [1.0, 1.0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_to_the_sessions_reaper_is_counted() {
    let told = Told::default();
    let _listening = told.listen();
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    drop(lock(&a).acquire().await.expect("free"));
    until_children(&b, PATH, 0).await;
    assert_eq!(told.of("synod_reaps_total lock"), [1.0]);
    // Cancelled while its create is under way.
    assert!(cancel_at(2, lock(&a).acquire()).await.is_none());
    until_children(&b, PATH, 0).await;
    assert_eq!(told.of("synod_reaps_total lock"), [1.0, 1.0]);
    lock(&a).acquire().await.expect("free").release().await.expect("connected");
    assert_eq!(told.of("synod_reaps_total lock").len(), 2);
}

/// Those that have guards.
const RECIPES: [&str; 8] = [
    "double_barrier",
    "election",
    "lock",
    "membership",
    "multi_lock",
    "partition",
    "rwlock",
    "semaphore",
];

#[tokio::test(start_paused = true)]
async fn every_recipe_tells_of_its_acquires_its_releases_and_its_losses() {
    let told = Told::default();
    let _listening = told.listen();
    let zk = Coordinator::start();
    let client = zk.client().await;
    use_every_recipe(&client).await;
    assert!(told.recipes("synod_acquire_seconds").iter().eq(RECIPES), "{told:?}");
    // A multi-lock has the ends of its locks; a persistent node has no acquire, but an end.
    let ends = ["double_barrier", "election", "lock", "membership", "partition"];
    let ends = [&ends[..], &["persistent_node", "rwlock", "semaphore"]].concat();
    assert!(told.recipes("synod_time_to_expiry_seconds").iter().eq(ends.iter()), "{told:?}");

    let guards = (
        RwLock::new(&client, "/rwlock").expect("valid").read().await.expect("free"),
        Semaphore::new(&client, "/semaphore", 2).expect("valid").acquire().await.expect("free"),
        Election::new(&client, "/election").expect("valid").campaign().await.expect("free"),
        Group::new(&client, "/group").expect("valid").join("a", "").await.expect("joins"),
    );
    let node = PersistentNode::create(&client, "/node", "").expect("valid");
    soon(node.present()).await.expect("connected");
    zk.expire(&client).await;
    guards.0.session().lost().await;
    soon(node.present()).await.expect("in the next session");
    drop(guards);
    let lost = ["election", "membership", "persistent_node", "rwlock", "semaphore"];
    let lost = lost.map(|recipe| format!("{recipe} session_over"));
    assert!(told.recipes("synod_losses_total").iter().eq(&lost), "{told:?}");
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(&*self.0.lock().expect("no panic")).finish()
    }
}
