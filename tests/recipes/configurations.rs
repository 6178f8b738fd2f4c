//! Cases of configurations for every ground, and with connections that break and servers that are
//! restarted.

use std::future::IntoFuture;

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use synod::config::{ConfigStore, Layer, Open, Origin};
use synod::{Client, Config, Error, If};

use super::cases::{cancel_at, until_children};
use super::ground::{Ground, soon};

const PATH: &str = "/config/limits";

/// More than one znode can hold.
const LARGE_BYTES: usize = 1_500_000;

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
struct Limits {
    rps: u32,
    burst: u32,
    note: String,
}

fn limits(rps: u32) -> Limits {
    Limits { rps, burst: 2 * rps, note: String::new() }
}

fn open(client: &Client) -> Open<Limits> {
    Config::open(client, PATH).validate(|limits: &Limits| limits.burst >= limits.rps)
}

fn store(client: &Client) -> ConfigStore<Limits> {
    open(client).store().expect("valid")
}

/// A publisher, and a reader of its first version that may be connected to another member.
async fn followed(writer: &Client, reader: &Client) -> (ConfigStore<Limits>, Config<Limits>) {
    let store = store(writer);
    assert_eq!(store.publish(&limits(1), If::Absent).await.expect("the first"), 1);
    reader.sync().await.expect("connected");
    let config = open(reader).instance("node-7").await.expect("valid");
    (store, config)
}

pub async fn versions_are_followed_through_good_and_bad(ground: &Ground) {
    let (writer, reader) = (ground.client().await, ground.client().await);
    let (store, config) = followed(&writer, &reader).await;
    let mut changes = config.changes();
    assert_eq!(store.publish(&limits(2), If::Version(1)).await.expect("valid"), 2);
    let change = soon(changes.next()).await.expect("a change").expect("valid");
    assert_eq!((change.value.rps, change.version, change.origin), (2, 2, Origin::Published));
    let other = Config::<serde_json::Value>::open(&writer, PATH).store().expect("valid");
    other.publish(&json!({"rps": "many"}), If::Any).await.expect("it takes anything");
    let error = soon(changes.next()).await.expect("a report").expect_err("not a number");
    assert!(matches!(error, Error::BadValue { version: 3, .. }), "{error}");
    assert!(error.to_string().contains("key \"rps\", line 2 column 10"), "{error}");
    assert_eq!((config.current().value.rps, config.stale_since()), (2, None));
    let large = Limits { note: "x".repeat(LARGE_BYTES), ..limits(4) };
    assert_eq!(store.publish(&large, If::Version(3)).await.expect("not too large"), 4);
    assert_eq!(soon(config.wait_for(4)).await.expect("whole").value, large);
    drop(config);
    until_children(&writer, "/config/limits/reports", 0).await;
}

pub async fn of_two_publishers_one_is_refused_and_the_history_brings_back(ground: &Ground) {
    let (writer, reader) = (ground.client().await, ground.client().await);
    let (store, config) = followed(&writer, &reader).await;
    let other = self::store(&reader);
    let (two, three) = (limits(2), limits(3));
    let (one, another) = tokio::join!(
        store.publish(&two, If::Version(1)).author("ann").into_future(),
        other.publish(&three, If::Version(1)).author("bob").into_future()
    );
    assert!(one.is_ok() != another.is_ok(), "{one:?} {another:?}");
    let error = one.and(another).expect_err("one of them");
    assert!(matches!(&error, Error::Conflict { .. }), "{error}");
    assert_eq!(store.rollback(1).author("eve").reason("too much").await.expect("kept"), 3);
    assert_eq!(soon(config.wait_for(3)).await.expect("valid").value, limits(1));
    let history = store.history().await.expect("connected");
    let told: Vec<_> = history.iter().map(|it| (it.version, it.restores)).collect();
    assert_eq!(told, [(3, Some(1)), (2, None), (1, None)]);
    assert_eq!((&*history[0].author, &*history[0].reason), ("eve", "too much"));
    assert!(store.diff(1, 3).await.expect("kept").is_empty());
    assert_eq!(store.diff(1, 2).await.expect("kept").len(), 2);
}

pub async fn a_publication_that_is_cancelled_is_done_or_not(ground: &Ground) {
    let (writer, reader) = (ground.client().await, ground.client().await);
    let (_, config) = followed(&writer, &reader).await;
    let large = Limits { note: "x".repeat(LARGE_BYTES), ..limits(2) };
    for n in 1.. {
        let store = open(&writer).keep(1).store().expect("valid");
        let done = soon(cancel_at(n, store.publish(&large, If::Any).into_future())).await;
        // Another goes on, over whatever is left.
        let version = soon(self::store(&reader).publish(&limits(3), If::Any).into_future()).await;
        let version = version.expect("valid");
        assert_eq!(soon(config.wait_for(version)).await.expect("valid").value, limits(3));
        if let Some(done) = done {
            assert_eq!(done.expect("valid") + 1, version);
            break;
        }
    }
    // Nobody refers to any chunk, once one has swept behind the last.
    let small = open(&reader).keep(1).store().expect("valid");
    soon(async {
        loop {
            small.publish(&limits(4), If::Any).await.expect("valid");
            if reader.children("/config/limits/chunks").await.expect("there").is_empty() {
                return;
            }
        }
    })
    .await;
}

pub async fn a_roll_out_goes_to_those_it_names_first(ground: &Ground) {
    let (writer, reader) = (ground.client().await, ground.client().await);
    let (store, early) = followed(&writer, &reader).await;
    let late = open(&reader).instance("node-8").await.expect("valid");
    let staged = store.edit(If::Version(1)).patch(Layer::Shared, &json!({"burst": 9}));
    assert_eq!(staged.to_instances(["node-7"]).await.expect("valid"), 2);
    assert_eq!(soon(early.wait_for(2)).await.expect("valid").value.burst, 9);
    soon(async {
        loop {
            let reports = store.reports().await.expect("connected");
            let running: Vec<_> =
                reports.iter().map(|it| (&*it.instance, it.running, it.is_valid())).collect();
            if running == [("node-7", 2, true), ("node-8", 1, true)] {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    let mut changes = early.changes();
    store.abort(2).await.expect("under way");
    assert_eq!(soon(changes.next()).await.expect("a change").expect("valid").version, 1);
    assert_eq!(store.publish(&limits(3), If::Version(1)).to_percent(100).await.expect("valid"), 3);
    store.promote(3).await.expect("under way");
    for config in [early, late] {
        assert_eq!(soon(config.wait_for(3)).await.expect("valid").value, limits(3));
    }
}

pub async fn a_configuration_is_followed_over_cuts_kills_and_restarts(ground: &Ground) {
    let (reader, faults) = (ground.client().await, ground.faults());
    let writer = ground.unharmed_client().await;
    let (store, config) = followed(&writer, &reader).await;
    let mut changes = config.changes();
    for round in 2..=5 {
        match round {
            2 | 5 => faults.proxy.cut(),
            // What is in memory only is gone with the process.
            3 if faults.durable => faults.restart().await,
            4 if faults.durable => {
                faults.kill().await;
                faults.start_again().await;
            }
            _ => {}
        }
        soon(async {
            while store.publish(&limits(round), If::Any).await.is_err() {}
            while config.current().value != limits(round) {
                let _ = changes.next().await.expect("the client is open");
            }
        })
        .await;
    }
    faults.kill_all();
    reader.session().disconnected().await;
    soon(async {
        while config.stale_since().is_none() {
            tokio::task::yield_now().await
        }
    })
    .await;
    assert_eq!(config.current().value, limits(5), "the last good value stays");
}

pub async fn a_publication_whose_replies_are_lost_is_done_once(ground: &Ground) {
    let (writer, other) = (ground.client().await, ground.unharmed_client().await);
    let (store, config) = followed(&writer, &other).await;
    let mut version = 1;
    for round in 0..6_u32 {
        ground.faults().proxy.lose_next_reply();
        let large = Limits { note: "x".repeat(LARGE_BYTES), ..limits(round) };
        let value = if round % 2 == 0 { limits(round) } else { large };
        let published = soon(store.publish(&value, If::Version(version)).into_future()).await;
        version = published.expect("its session lives");
        assert_eq!(u64::from(round) + 2, version);
        assert_eq!(soon(config.wait_for(version)).await.expect("valid").value, value);
    }
}
