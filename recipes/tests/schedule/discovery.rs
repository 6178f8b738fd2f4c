//! Discovery: every provider comes to know what every instance says last.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use synod::discovery::Provider;
use synod::{Client, Discovery, Instance};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{Faults, Outcome, Plan, Subject, in_virtual_time, run, seeds, tolerate};

/// Four workers change their weight every five seconds.
const UPDATES_MIN: usize = 60;

/// A session may have to expire, and its connection to come back.
const PATIENCE: Duration = Duration::from_secs(120);

fn plan(seed: u64) -> Plan<'static> {
    Plan { seed, faults: Faults::All, empty: &["/services/web"], progress_min: UPDATES_MIN }
}

#[derive(Default)]
struct Updates(AtomicUsize);

impl Subject for Updates {
    fn progress(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Waits until the provider knows the instance by that weight.
async fn knows(provider: &Provider, id: &str, weight: u32) {
    let mut changes = provider.changes();
    let is_it = |one: &Arc<Instance>| one.id == id && one.weight == weight;
    while !changes.next().await.expect("the client lives").iter().any(is_it) {}
}

async fn worker(number: usize, client: Client, updates: Arc<Updates>, end: Instant) -> usize {
    let discovery = Discovery::new(&client, "/services").expect("valid");
    let instance = Instance::new(number.to_string(), "x");
    let registration = discovery.register("web", &instance).expect("valid");
    let provider = loop {
        if let Some(provider) = tolerate(discovery.provider("web").open().await) {
            break provider;
        }
    };
    let mut weight = 1;
    while Instant::now() < end {
        weight += 1;
        let changed = instance.clone().with_weight(weight);
        let told = async {
            registration.update(&changed).await.expect("the client lives");
            knows(&provider, registration.id(), weight).await;
        };
        timeout(PATIENCE, told).await.expect("in time");
        provider.pick().expect("this one at least");
        updates.0.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_secs(5)).await;
    }
    match number % 2 {
        0 => drop(registration),
        _ => drop(tolerate(registration.withdraw().await)),
    }
    weight as usize
}

fn services(seed: u64) -> Outcome {
    in_virtual_time(async {
        run(plan(seed), &Arc::new(Updates::default()), |number, client, updates, end| {
            worker(number, client, updates, end)
        })
        .await
    })
}

#[test]
fn instances_are_found_as_they_are_last_whatever_fails() {
    for seed in seeds() {
        services(seed);
    }
}

#[test]
fn a_seed_repeats_itself() {
    assert_eq!(services(42), services(42));
}
