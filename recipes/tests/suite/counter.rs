//! Counters, cells and ids under virtual time, with faults.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::{cancel_at, soon};
use serde::{Deserialize, Serialize};
use synod::counter::OPS_KEPT;
use synod::testing::Coordinator;
use synod::{Cell, Client, Counter, Error, IdBlocks};
use tokio::task::JoinSet;
use tokio::time::sleep;

const PATH: &str = "/counters/orders";

/// Longer than an addition takes, in round trips of some milliseconds.
const STEPS_MS: u64 = 48;

fn counter(client: &Client) -> Counter {
    Counter::new(client, PATH).expect("valid")
}

#[tokio::test(start_paused = true)]
async fn additions_of_many_add_up_and_each_yields_a_sum_of_its_own() {
    let zk = Coordinator::start();
    let mut adding = JoinSet::new();
    for _ in 0..5 {
        let counter = counter(&zk.client().await);
        adding.spawn(async move {
            let mut sums = Vec::new();
            for _ in 0..10 {
                sums.push(counter.add(3).await.expect("connected"));
            }
            sums
        });
    }
    let sums: BTreeSet<i64> = soon(adding.join_all()).await.into_iter().flatten().collect();
    assert!(sums.into_iter().eq((1..=50).map(|n| 3 * n)));
    let counter = counter(&zk.client().await);
    assert_eq!(counter.get().await.expect("connected"), 150);
    assert_eq!(counter.add(-200).await.expect("connected"), -50);
    let error = counter.add(i64::MIN).await.expect_err("out of range").to_string();
    assert!(error.contains("64 bits"), "{error}");
    assert_eq!(counter.get().await.expect("connected"), -50, "nothing was done");
}

/// What goes wrong while one adds.
#[derive(Clone, Copy, Debug)]
enum Fault {
    ReplyLost,
    Cut,
    Expired,
}

#[tokio::test(start_paused = true)]
async fn an_addition_is_done_exactly_once_whatever_fails_in_any_step() {
    for fault in [Fault::ReplyLost, Fault::Cut, Fault::Expired] {
        for others in [0, 3] {
            for after_ms in 0..STEPS_MS {
                let zk = Coordinator::start();
                let (a, b) = (zk.client().await, zk.client().await);
                let (ours, theirs) = (counter(&a), counter(&b));
                let (added, ()) = tokio::join!(soon(ours.add(1)), async {
                    sleep(Duration::from_millis(after_ms)).await;
                    match fault {
                        Fault::ReplyLost => zk.lose_next_reply(&a),
                        Fault::Cut => zk.disconnect(&a, Duration::from_secs(1)),
                        Fault::Expired => zk.expire(&a).await,
                    }
                    for _ in 0..others {
                        theirs.add(100).await.expect("connected");
                    }
                });
                let added = added.expect("it can be told");
                let sum = theirs.get().await.expect("connected");
                assert_eq!(sum, 1 + others * 100, "{fault:?} after {after_ms} ms");
                assert_eq!(added % 100, 1, "{fault:?} after {after_ms} ms");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_learns_too_late_what_became_of_it_says_so_and_never_adds_twice() {
    let (mut done, mut unknown) = (0, 0);
    for others in 1..OPS_KEPT as i64 + 4 {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        counter(&b).add(0).await.expect("connected");
        let (ours, theirs) = (counter(&a), counter(&b));
        zk.lose_next_reply(&a);
        // The reply to the read is lost first, then the one to the write.
        let adding = tokio::spawn(async move { ours.add(1).await });
        while theirs.get().await.expect("connected") == 0 {
            zk.lose_next_reply(&a);
            sleep(Duration::from_millis(1)).await;
        }
        zk.disconnect(&a, Duration::from_secs(3));
        for _ in 0..others {
            theirs.add(100).await.expect("connected");
        }
        match soon(adding).await.expect("no panic") {
            Ok(sum) => {
                assert_eq!(sum, 1);
                done += 1;
            }
            Err(error) => {
                assert!(matches!(error, Error::Indeterminate { .. }), "{error}");
                assert!(error.maybe_applied() && !error.retryable(), "{error}");
                assert!(others >= OPS_KEPT as i64, "after {others} more it is known");
                unknown += 1;
            }
        }
        assert_eq!(theirs.get().await.expect("connected"), 1 + others * 100);
    }
    assert!(done >= OPS_KEPT - 1 && unknown >= 2, "{done} done, {unknown} unknown");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_closed_meanwhile_does_not_claim_what_it_does_not_know() {
    let (mut sure, mut unsure) = (0, 0);
    for after_ms in 0..STEPS_MS {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        counter(&b).add(0).await.expect("connected");
        let ours = counter(&a);
        let (added, ()) = tokio::join!(soon(ours.add(1)), async {
            sleep(Duration::from_millis(after_ms)).await;
            a.close().await.expect("connected");
        });
        let sum = counter(&b).get().await.expect("connected");
        match added {
            Ok(added) => assert_eq!((added, sum), (1, 1)),
            Err(Error::Indeterminate { .. }) => unsure += 1,
            Err(error) => {
                assert!(error.session_over() && !error.maybe_applied(), "{error}");
                assert_eq!(sum, 0, "it was not done, after {after_ms} ms");
                sure += 1;
            }
        }
    }
    assert!(sure > 1 && unsure > 0, "{sure} sure, {unsure} unsure");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_addition_is_done_once_at_most() {
    let mut seen = BTreeSet::new();
    for n in 1.. {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let counter_a = counter(&a);
        let done = cancel_at(n, counter_a.add(1)).await;
        a.sync().await.expect("connected");
        let sum = counter(&b).get().await.expect("connected");
        seen.insert(sum);
        if done.is_some() {
            assert_eq!(sum, 1);
            break;
        }
    }
    assert!(seen.into_iter().eq([0, 1]));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Limits {
    rps: u32,
    burst: u32,
}

#[tokio::test(start_paused = true)]
async fn a_cell_is_set_if_it_is_at_the_version_and_only_then() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let first = Limits { rps: 100, burst: 10 };
    let cell = |client: &Client| Cell::new(client, "/limits", first.clone()).expect("valid");
    let read = cell(&a).get().await.expect("connected");
    assert_eq!((read.value, read.version), (first.clone(), 0));
    let second = Limits { rps: 200, burst: 20 };
    let set = |client: &Client, version, value| {
        let cell = cell(client);
        async move { cell.compare_and_set(version, &value).await.expect("connected") }
    };
    assert_eq!(set(&a, 0, second.clone()).await, Some(1));
    assert_eq!(set(&b, 0, first.clone()).await, None, "others were faster");
    assert_eq!(cell(&b).get().await.expect("connected").value, second);
    let doubled = cell(&b).update(|limits| Limits { rps: limits.rps * 2, ..*limits }).await;
    assert_eq!(doubled.expect("connected"), Limits { rps: 400, burst: 20 });
    // A lost reply to the write is no conflict with itself.
    for after_ms in 0..STEPS_MS {
        let before = cell(&a).get().await.expect("connected").version;
        let (set, ()) = tokio::join!(set(&a, before, second.clone()), async {
            sleep(Duration::from_millis(after_ms)).await;
            zk.lose_next_reply(&a);
        });
        assert_eq!(set, Some(before + 1), "{after_ms} ms");
    }
    b.set("/limits", "{}").await.expect("connected");
    let error = cell(&a).get().await.expect_err("not a cell").to_string();
    assert!(error.contains("/limits") && error.contains("value"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_was_deleted_begins_anew() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    counter(&client).add(7).await.expect("connected");
    client.delete(PATH).await.expect("it is there");
    assert_eq!(counter(&client).add(1).await.expect("made anew"), 1);
}

#[tokio::test(start_paused = true)]
async fn ids_are_given_out_once_whatever_fails() {
    let zk = Coordinator::start();
    let mut taking = JoinSet::new();
    let mut clients = Vec::new();
    for size in [1, 3, 10, 10] {
        let client = zk.client().await;
        let ids = IdBlocks::new(&client, "/ids", size).expect("valid");
        clients.push(client);
        for _ in 0..2 {
            // Clones share a block.
            let ids = ids.clone();
            taking.spawn(async move {
                let mut given = Vec::new();
                while given.len() < 50 {
                    given.extend(ids.next().await.ok());
                }
                given
            });
        }
    }
    let faults = async {
        for round in 0..40 {
            let client = &clients[round % clients.len()];
            match round % 3 {
                0 => zk.lose_next_reply(client),
                1 => zk.disconnect(client, Duration::from_millis(50)),
                _ => zk.expire(client).await,
            }
            sleep(Duration::from_millis(40)).await;
        }
    };
    let (given, ()) = tokio::join!(soon(taking.join_all()), faults);
    let given: Vec<u64> = given.into_iter().flatten().collect();
    let distinct: BTreeSet<u64> = given.iter().copied().collect();
    assert_eq!((distinct.len(), distinct.contains(&0)), (given.len(), false));
}

#[tokio::test(start_paused = true)]
async fn a_block_is_asked_for_once_and_the_rest_of_one_is_a_gap() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let ids = |size| IdBlocks::new(&client, "/ids", size);
    let first = ids(10).expect("valid");
    let before = {
        assert_eq!(first.next().await.expect("connected"), 1);
        zk.last_zxid()
    };
    for id in 2..=10 {
        assert_eq!(first.next().await.expect("from the block"), id);
    }
    assert_eq!(zk.last_zxid(), before, "nobody was asked");
    assert_eq!(ids(5).expect("valid").next().await.expect("connected"), 11);
    assert_eq!(first.next().await.expect("connected"), 16, "12 to 15 are nobody's");
    assert!(ids(0).is_err());
    let error = ids(u64::MAX).expect("valid").next().await.expect_err("used up").to_string();
    assert!(error.contains("2^64"), "{error}");
}
