//! Partitioners: one holder an item, every item held, and hand-overs that do not cross.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use synod::partition::{Partition, PartitionEvent, Partitioner};
use synod::{Client, Error};
use tokio::time::{Instant, sleep_until};

use crate::harness::{
    Faults, Outcome, Plan, Resource, Subject, in_virtual_time, run, seeds, tolerate,
};

const ITEMS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// How long a worker takes part before it leaves and joins anew.
const STAY: Duration = Duration::from_secs(15);

/// Of each item, once faults have stopped: a member leaves every four seconds.
const HOLDERS_MIN: usize = 4;

/// A resource an item.
struct Resources(BTreeMap<&'static str, Resource>);

impl Subject for Resources {
    fn progress(&self) -> usize {
        // None is forgotten.
        self.0.values().map(Resource::progress).min().unwrap_or(0)
    }
}

/// Works on an item as long as it may.
async fn work(partition: Partition, resources: &Resources) -> Result<(), Error> {
    let resource = &resources.0[partition.item()];
    loop {
        tokio::select! {
            biased;
            _ = partition.lost() => return Ok(()),
            () = partition.revoked() => break,
            () = resource.hold(&partition) => {}
        }
    }
    // Given up by word or by drop; both have to work.
    match partition.token().counter() % 2 {
        0 => partition.release().await.map(drop),
        _ => Ok(()),
    }
}

async fn worker(number: usize, client: Client, resources: Arc<Resources>, end: Instant) -> usize {
    let partitioner = Partitioner::new(&client, "/jobs", ITEMS).expect("valid");
    let mut held = 0;
    while Instant::now() < end {
        let mut partitions = partitioner.join(&number.to_string()).expect("valid");
        let leave_at = end.min(Instant::now() + STAY);
        let mut leaving = false;
        let mut working = FuturesUnordered::new();
        loop {
            let event = tokio::select! {
                biased;
                Some(done) = working.next(), if !working.is_empty() => {
                    tolerate(done);
                    continue;
                }
                () = sleep_until(leave_at), if !leaving => {
                    leaving = true;
                    partitions.leave();
                    continue;
                }
                event = partitions.next() => event,
            };
            match event {
                Some(PartitionEvent::Assigned(partition)) => {
                    held += 1;
                    working.push(work(partition, &resources));
                }
                Some(PartitionEvent::Failed { error, .. }) => drop(tolerate::<()>(Err(error))),
                Some(_) => {}
                None => break,
            }
        }
        // Everything has been given up, or is about to be.
        while let Some(done) = working.next().await {
            tolerate(done);
        }
    }
    held
}

fn partitions(seed: u64, faults: Faults) -> (Outcome, usize) {
    in_virtual_time(async {
        let resources = ITEMS.map(|item| (item, Resource::new(faults)));
        let resources = Arc::new(Resources(resources.into()));
        let empty = &["/jobs/members", "/jobs/items/a", "/jobs/items/b", "/jobs/items/f"];
        let plan = Plan { seed, faults, empty, progress_min: HOLDERS_MIN };
        let outcome = run(plan, &resources, |number, client, resources, end| {
            worker(number, client, resources, end)
        });
        (outcome.await, resources.0.values().map(Resource::refused).sum())
    })
}

#[test]
fn items_have_one_holder_each_and_none_is_forgotten_after_faults() {
    let refused: usize = seeds().map(|seed| partitions(seed, Faults::All).1).sum();
    // The faults bite: without the fence, old holders would have written.
    assert!(refused > 0 || seeds().count() < 10, "no stale write was even tried");
}

#[test]
fn before_the_deadline_of_a_partition_nobody_else_holds_it() {
    for seed in seeds() {
        partitions(seed, Faults::Cuts);
    }
}

#[test]
fn a_seed_repeats_itself() {
    assert_eq!(partitions(42, Faults::All), partitions(42, Faults::All));
}
