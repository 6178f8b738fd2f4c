//! Groups: who is a member is seen by all, and nobody who is none for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use synod::membership::{GroupEvent, GroupWatch};
use synod::{Client, Group, Zxid};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{Faults, Outcome, Plan, Subject, TURN, in_virtual_time, run, seeds, tolerate};

/// Four workers come and go every four seconds.
const JOINS_MIN: usize = 80;

fn plan(seed: u64) -> Plan<'static> {
    Plan { seed, faults: Faults::All, empty: &["/group"], progress_min: JOINS_MIN }
}

#[derive(Default)]
struct Seen(AtomicUsize);

impl Subject for Seen {
    fn progress(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Follows the group until it has settled on whether the member of that token is there.
async fn until(watch: &mut GroupWatch, token: Zxid, there: bool) {
    while watch.members().any(|member| member.token == token) != there {
        while watch.next().await.expect("the client lives") != GroupEvent::Settled {}
    }
}

async fn worker(number: usize, client: Client, seen: Arc<Seen>, end: Instant) -> usize {
    let group = Group::new(&client, "/group").expect("valid");
    let mut watch = group.watch();
    let mut joined = 0;
    while Instant::now() < end {
        let Some(membership) = tolerate(group.join(&format!("{number}"), "1").await) else {
            continue;
        };
        let token = membership.token();
        // A name is not joined under twice here, so that nobody else's counts for this one.
        let present = timeout(TURN, membership.run(until(&mut watch, token, true))).await;
        let present = tolerate(present.expect("seen, or lost, in time"));
        if present.is_some() {
            seen.0.fetch_add(1, Ordering::Relaxed);
            joined += 1;
            tolerate(membership.update("2").await);
            sleep(Duration::from_secs(4)).await;
        }
        match joined % 2 {
            0 => drop(membership),
            _ => drop(tolerate(membership.leave().await)),
        }
        // At the latest when its session has expired, and the watch is connected again.
        let patience = Duration::from_secs(120);
        timeout(patience, until(&mut watch, token, false)).await.expect("seen to be gone");
    }
    joined
}

fn groups(seed: u64) -> Outcome {
    in_virtual_time(async {
        run(plan(seed), &Arc::new(Seen::default()), |number, client, seen, end| {
            worker(number, client, seen, end)
        })
        .await
    })
}

#[test]
fn members_are_seen_to_come_and_go_and_leave_nothing_behind_whatever_fails() {
    for seed in seeds() {
        groups(seed);
    }
}

#[test]
fn a_seed_repeats_itself() {
    assert_eq!(groups(42), groups(42));
}
