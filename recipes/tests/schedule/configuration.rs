//! Configurations: nothing that was confirmed is lost, no reader goes back or sees two versions at
//! a time, and all of them are up to date soon after a fault.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use synod::config::{ConfigStore, Layer, Open, Versioned};
use synod::testing::{Coordinator, SeededEntropy};
use synod::{Client, Config, Error, If};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::common::soon;
use crate::harness::{
    Faults, Outcome, Plan, Subject, expected, in_virtual_time, run, seeds, tolerate,
};

const PATH: &str = "/config";

/// How soon after a healing every reader has what was published before it.
const CONVERGED_WITHIN: Duration = Duration::from_secs(2);

/// Four publish every two seconds.
const PUBLISHED_MIN: usize = 60;

/// The end of a run, in which what the faults have left behind is over too.
const CALM: Duration = Duration::from_secs(60);

/// Larger than what lies in the znode of a version.
const LARGE_BYTES: usize = 400_000;

/// Each layer gives one key of it, and all of them say the same in every version.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
struct Values {
    shared: u64,
    group: u64,
    own: u64,
    padding: String,
}

fn open(client: &Client) -> Open<Values> {
    Config::open(client, PATH).keep(100)
}

/// What the workers have seen and done.
#[derive(Default)]
struct Published {
    /// What each version says, by whoever knows first.
    said: Mutex<BTreeMap<u64, u64>>,
    /// Versions whose publication was confirmed.
    confirmed: Mutex<BTreeMap<u64, usize>>,
    readers: Mutex<BTreeMap<usize, Config<Values>>>,
}

impl Subject for Published {
    fn progress(&self) -> usize {
        self.confirmed.lock().expect("no panic").len()
    }
}

impl Published {
    fn confirm(&self, version: u64, number: usize) {
        let before = self.confirmed.lock().expect("no panic").insert(version, number);
        assert_eq!(before, None, "version {version} was confirmed twice");
    }

    fn says(&self, version: u64, what: u64) {
        let said = *self.said.lock().expect("no panic").entry(version).or_insert(what);
        assert_eq!(said, what, "version {version} is two");
    }

    fn see(&self, now: &Versioned<Values>) {
        let Values { shared, group, own, .. } = now.value;
        assert!(shared == group && group == own, "mixed: {:?}", (shared, group, own));
        self.says(now.version, shared);
    }

    /// Waits until every reader has a version or a later one.
    async fn converge(&self, version: u64) {
        let readers: Vec<_> = self.readers.lock().expect("no panic").values().cloned().collect();
        let have = readers.iter().map(|reader| reader.wait_for(version));
        let have = timeout(CONVERGED_WITHIN, join_all(have)).await;
        for now in have.unwrap_or_else(|_| panic!("version {version} is not everywhere")) {
            assert!(now.expect("the client lives").version >= version);
        }
    }
}

/// Reads what comes, until the end.
async fn follow(config: &Config<Values>, published: &Published, end: Instant) {
    let mut changes = config.changes();
    let mut last = config.current();
    published.see(&last);
    while let Ok(change) = timeout_at(end, changes.next()).await {
        match change.expect("the client lives") {
            Ok(now) => {
                let is_later = now.version > last.version && now.zxid > last.zxid;
                assert!(is_later, "from {} back to {}", last.version, now.version);
                published.see(&now);
                last = now;
            }
            Err(error) => assert!(expected(&error), "{error:?}"),
        }
    }
}

/// One version, published in one of several ways.
async fn publish(
    store: &ConfigStore<Values>,
    config: &Config<Values>,
    published: &Published,
    worker: usize,
    round: u64,
) -> Result<u64, Error> {
    let number = 1_000 * round + worker as u64;
    let now = config.current().version;
    if round % 8 == 7 {
        return store.rollback(now.saturating_sub(2).max(1)).await;
    }
    let condition = if round.is_multiple_of(2) { If::Any } else { If::Version(now) };
    let padding = if round % 16 == 4 { "x".repeat(LARGE_BYTES) } else { String::new() };
    let shared = json!({"shared": number, "padding": padding});
    let mut publish = store.edit(condition).put(Layer::Shared, &shared);
    publish = publish.put(Layer::Group("all".into()), &json!({"group": number}));
    for instance in 0..4 {
        publish = publish.put(Layer::Instance(instance.to_string()), &json!({"own": number}));
    }
    if round % 8 == 5 {
        publish = publish.to_percent(50);
    }
    let version = publish.await?;
    published.says(version, number);
    Ok(version)
}

/// Ends whatever roll-out is under way, in favour of its version.
async fn promote(store: &ConfigStore<Values>) -> Option<u64> {
    let version = tolerate(store.status().await)?.rollout?.version;
    match store.promote(version).await {
        // Somebody else has.
        Err(Error::Conflict { .. }) => None,
        promoted => tolerate(promoted).map(|()| version),
    }
}

async fn worker(number: usize, client: Client, published: Arc<Published>, end: Instant) -> usize {
    let store = open(&client).store().expect("valid");
    let open = || open(&client).group("all").instance(&number.to_string());
    let config = loop {
        match open().await {
            Err(Error::Unpublished { .. }) => {
                let first = store.publish(&Values::default(), If::Absent).await;
                assert!(matches!(&first, Ok(1) | Err(Error::Conflict { .. } | Error::Client(_))));
                if first.is_ok() {
                    published.confirm(1, number);
                }
            }
            opened => {
                if let Some(config) = tolerate(opened) {
                    break config;
                }
            }
        }
    };
    published.readers.lock().expect("no panic").insert(number, config.clone());
    let publishing = async {
        let mut done = 0;
        for round in 1.. {
            if Instant::now() + 2 * CONVERGED_WITHIN >= end {
                break;
            }
            let version = match publish(&store, &config, &published, number, round).await {
                Err(Error::Conflict { .. }) => promote(&store).await,
                version => {
                    let version = tolerate(version);
                    version.into_iter().for_each(|version| published.confirm(version, number));
                    done += version.iter().count();
                    // A roll-out goes to some before it goes to all.
                    if version.is_some() { promote(&store).await.and(version) } else { None }
                }
            };
            if let Some(version) = version
                && Instant::now() + CALM > end
            {
                published.converge(version).await;
            }
            sleep(Duration::from_secs(2)).await;
        }
        done
    };
    let (done, ()) = tokio::join!(publishing, follow(&config, &published, end));
    published.readers.lock().expect("no panic").remove(&number);
    done
}

fn configurations(seed: u64) -> Outcome {
    in_virtual_time(async {
        let published = Arc::new(Published::default());
        let empty = ["/config/reports"];
        let plan = Plan { seed, faults: Faults::All, empty: &empty, progress_min: PUBLISHED_MIN };
        run(plan, &published, worker).await
    })
}

#[test]
fn no_reader_goes_back_or_sees_a_mixture_and_nothing_confirmed_is_lost_whatever_fails() {
    for seed in seeds() {
        configurations(seed);
    }
}

#[test]
fn a_seed_repeats_itself() {
    assert_eq!(configurations(42), configurations(42));
}

/// Cuts the readers off, one or several at a time, and looks at them after each healing.
async fn heal_again_and_again(seed: u64) {
    let (zk, random) = (Coordinator::with_seed(seed), SeededEntropy::new(seed));
    let writer = zk.client().await;
    let store = open(&writer).store().expect("valid");
    store.publish(&Values::default(), If::Absent).await.expect("the first");
    let mut readers = Vec::new();
    for _ in 0..4 {
        let client = zk.client().await;
        readers.push((open(&client).await.expect("valid"), client));
    }
    let below = |bound| Duration::from_millis(1 + random.below(bound));
    for _ in 0..20 {
        let chosen: Vec<_> = readers.iter().filter(|_| random.below(2) == 0).collect();
        for (_, client) in &chosen {
            match random.below(4) {
                0 => zk.disconnect(client, Duration::from_secs(3_600)),
                // The session is over when it is back.
                1 => {
                    zk.disconnect(client, Duration::from_secs(3_600));
                    zk.expire(client).await;
                }
                2 => zk.expire(client).await,
                _ => zk.lose_next_reply(client),
            }
        }
        let healed = Instant::now() + below(30_000);
        while Instant::now() < healed {
            store.publish(&Values::default(), If::Any).await.expect("unharmed");
            sleep(below(3_000)).await;
        }
        let version = store.status().await.expect("unharmed").current;
        chosen.iter().for_each(|(_, client)| zk.heal(client));
        sleep(CONVERGED_WITHIN).await;
        for (config, _) in &readers {
            let now = config.current().version;
            assert!(now >= version, "seed {seed}: {now} of {version}");
            assert_eq!(config.stale_since(), None, "seed {seed}");
        }
    }
}

#[test]
fn readers_converge_within_two_seconds_of_every_healing() {
    for seed in seeds() {
        in_virtual_time(soon(heal_again_and_again(seed).into_future()));
    }
}
