//! Cases of semaphores for every ground, and with connections that break.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use synod::fence::SlotFences;
use synod::semaphore::Permits;
use synod::{Client, Error, LossReason, Semaphore};

use super::cases::{cancel_at, until_children};
use super::ground::{Ground, soon};

const LINE: &str = "/semaphores/jobs/line";
const SLOTS: &str = "/semaphores/jobs/slots";

fn semaphore(client: &Client) -> Semaphore {
    Semaphore::new(client, "/semaphores/jobs", 3).expect("valid")
}

pub async fn permits_are_granted_up_to_a_limit_that_changes(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    let first = soon(semaphore(&a).acquire_many(2)).await.expect("free");
    assert_eq!(first.slots().iter().map(|slot| slot.number).collect::<Vec<_>>(), [0, 1]);
    let within = Duration::from_millis(200);
    let error = semaphore(&b).acquire_many_within(2, within).await.expect_err("one is free");
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    until_children(&a, LINE, 0).await;
    let waiting = tokio::spawn({
        let semaphore = semaphore(&b);
        async move { semaphore.acquire_many(2).await }
    });
    until_children(&a, LINE, 1).await;
    semaphore(&a).set_limit(4).await.expect("connected");
    let second = soon(waiting).await.expect("no panic").expect("four may hold");
    let fences = SlotFences::new();
    for slot in first.slots().iter().chain(second.slots()) {
        fences.admit(slot.number, slot.token).expect("they hold at the same time");
    }
    assert_eq!(fences.highest().len(), 4, "each has a slot of its own");
    first.txn().create("/done", b"").commit().await.expect("held");
    first.release().await.expect("connected");
    assert!(first.txn().create("/late", b"").commit().await.expect_err("released").is_lost());
    // Taken away by force, and granted to another.
    for name in b.children(SLOTS).await.expect("connected") {
        a.delete(format!("{SLOTS}/{name}")).await.expect("it is there");
    }
    let third = soon(semaphore(&a).acquire_many(4)).await.expect("all are free");
    assert_eq!(soon(second.lost()).await.reason, LossReason::Removed);
    second.release().await.expect("connected");
    third.txn().create("/held", b"").commit().await.expect("held still");
}

pub async fn a_cancelled_acquire_leaves_no_permit_missing(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    for n in 1.. {
        let held = soon(semaphore(&a).acquire_many(2)).await.expect("free");
        let observer = a.clone();
        let releasing = tokio::spawn(async move {
            until_children(&observer, LINE, 1).await;
            held.release().await.expect("connected");
        });
        let done = soon(cancel_at(n, semaphore(&b).acquire_many(2))).await;
        let finished = done.is_some();
        drop(done);
        releasing.abort();
        until_children(&a, LINE, 0).await;
        until_children(&a, SLOTS, 0).await;
        drop(soon(semaphore(&a).acquire_many(3)).await.expect("no permit is missing"));
        until_children(&a, SLOTS, 0).await;
        if finished {
            break;
        }
    }
}

/// Acquires in whatever session there is by now.
async fn acquired(client: &Client, count: u32) -> Permits {
    loop {
        match semaphore(client).acquire_many(count).await {
            Ok(permits) => return permits,
            Err(error) => {
                assert!(error.session_over() || error.retryable() || error.is_lost(), "{error:?}");
            }
        }
    }
}

pub async fn permits_are_never_too_many_through_cuts_and_lost_replies(ground: &Ground) {
    const TURNS: usize = 10;
    let held = Arc::new(AtomicU32::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for count in [1, 1, 2, 2] {
        let (client, held) = (ground.client().await, Arc::clone(&held));
        workers.spawn(async move {
            let mut turns = 0;
            while turns < TURNS {
                let permits = acquired(&client, count).await;
                let work = async {
                    let all = held.fetch_add(count, Ordering::SeqCst) + count;
                    assert!(all <= 3, "{all} are held");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                };
                // Sessions outlive the cuts, so that whoever holds does so until it releases.
                let done = permits.run(work).await;
                done.expect("no session is lost");
                held.fetch_sub(count, Ordering::SeqCst);
                permits.release().await.expect("back in time");
                turns += 1;
            }
        });
    }
    let faults = async {
        for round in 0..6 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            match round % 2 {
                0 => ground.faults().proxy.cut(),
                _ => ground.faults().proxy.lose_next_reply(),
            }
        }
    };
    let (_, ()) = tokio::join!(soon(workers.join_all()), faults);
    let observer = ground.unharmed_client().await;
    until_children(&observer, SLOTS, 0).await;
    until_children(&observer, LINE, 0).await;
}
