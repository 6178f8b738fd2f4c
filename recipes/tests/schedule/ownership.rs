//! Recipes of which one at a time holds.

use std::sync::Arc;

use synod::{Client, Election, Lock};
use tokio::time::{Instant, timeout};

use crate::harness::{
    Faults, Outcome, Plan, Resource, TURN, in_virtual_time, run, seeds, tolerate,
};

/// A session of 10 s may have to expire first; then there is a holder every 2 s.
const HOLDERS_MIN: usize = 20;

fn plan(seed: u64, faults: Faults) -> Plan<'static> {
    Plan { seed, faults, empty: &["/lock", "/lead"], progress_min: HOLDERS_MIN }
}

async fn lock_worker(client: Client, resource: Arc<Resource>, until: Instant) -> usize {
    let lock = Lock::new(&client, "/lock").expect("valid");
    let mut held = 0;
    while Instant::now() < until {
        if let Some(guard) = tolerate(lock.acquire_within(TURN).await) {
            resource.hold(&guard).await;
            held += 1;
        }
    }
    held
}

async fn election_worker(client: Client, resource: Arc<Resource>, until: Instant) -> usize {
    let election = Election::new(&client, "/lead").expect("valid");
    let mut led = 0;
    while Instant::now() < until {
        let Ok(campaign) = timeout(TURN, election.campaign()).await else { continue };
        let Some(leadership) = tolerate(campaign) else { continue };
        resource.hold(&leadership).await;
        led += 1;
        // Resigned by drop or by word; both have to work.
        if led % 2 == 0 {
            tolerate(leadership.resign().await);
        }
    }
    led
}

fn locks(seed: u64, faults: Faults) -> (Outcome, usize) {
    in_virtual_time(async {
        let resource = Arc::new(Resource::new(faults));
        let outcome = run(plan(seed, faults), &resource, |_, client, resource, until| {
            lock_worker(client, resource, until)
        });
        (outcome.await, resource.refused())
    })
}

#[test]
fn locks_exclude_leave_no_orphans_and_go_on_after_faults() {
    let refused: usize = seeds().map(|seed| locks(seed, Faults::All).1).sum();
    // The faults bite: without the fence, old holders would have written.
    assert!(refused > 0 || seeds().count() < 10, "no stale write was even tried");
}

#[test]
fn before_the_deadline_of_a_guard_nobody_else_holds() {
    for seed in seeds() {
        locks(seed, Faults::Cuts);
    }
}

#[test]
fn elections_exclude_leave_no_orphans_and_go_on_after_faults() {
    for seed in seeds() {
        in_virtual_time(async {
            let resource = Arc::new(Resource::new(Faults::All));
            run(plan(seed, Faults::All), &resource, |_, client, resource, until| {
                election_worker(client, resource, until)
            })
            .await;
        });
    }
}

#[test]
fn a_seed_repeats_itself() {
    assert_eq!(locks(42, Faults::All), locks(42, Faults::All));
}
