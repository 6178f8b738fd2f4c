//! Standing members: each is there again, with what it says of itself, once the faults stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use synod::{Client, Group};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{Faults, Outcome, Plan, Subject, in_virtual_time, run, seeds, tolerate};

/// Four workers change what they say of themselves every five seconds.
const UPDATES_MIN: usize = 60;

/// A session may have to expire, and its connection to come back.
const PATIENCE: Duration = Duration::from_secs(120);

fn plan(seed: u64) -> Plan<'static> {
    Plan { seed, faults: Faults::All, empty: &["/group"], progress_min: UPDATES_MIN }
}

#[derive(Default)]
struct Updates(AtomicUsize);

impl Subject for Updates {
    fn progress(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

async fn worker(number: usize, client: Client, updates: Arc<Updates>, end: Instant) -> usize {
    let group = Group::new(&client, "/group").expect("valid");
    let name = format!("{number}");
    let member = group.join_standing(&name, "").expect("valid");
    let mut updated = 0;
    while Instant::now() < end {
        let said = format!("{updated}");
        timeout(PATIENCE, member.update(&said)).await.expect("in time").expect("it lives");
        if let Some(members) = tolerate(group.members().await) {
            let seen = members.iter().find(|member| member.name == name);
            // It may have gone again, but its last word is never replaced by an older one.
            assert!(seen.is_none_or(|seen| seen.metadata == said), "{seen:?}");
            updates.0.fetch_add(usize::from(seen.is_some()), Ordering::Relaxed);
        }
        updated += 1;
        sleep(Duration::from_secs(5)).await;
    }
    match number % 2 {
        0 => drop(member),
        _ => drop(tolerate(member.remove().await)),
    }
    updated
}

fn standing(seed: u64) -> Outcome {
    in_virtual_time(async {
        run(plan(seed), &Arc::new(Updates::default()), |number, client, updates, end| {
            worker(number, client, updates, end)
        })
        .await
    })
}

#[test]
fn standing_members_come_back_whatever_fails_and_leave_nothing_behind() {
    for seed in seeds() {
        standing(seed);
    }
}

#[test]
fn a_seed_repeats_itself() {
    assert_eq!(standing(42), standing(42));
}
