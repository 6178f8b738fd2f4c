//! Cases of barriers and counters for every ground, and with connections that break.

use std::collections::BTreeSet;
use std::time::Duration;

use synod::barrier::Cohort;
use synod::{Barrier, Cell, Client, Counter, DoubleBarrier, Error, IdBlocks, Latch};
use tokio::task::{JoinHandle, JoinSet};

use super::cases::{cancel_at, until_children};
use super::ground::{Ground, soon};

const LINE: &str = "/barriers/step/line";

fn double(client: &Client, parties: u32) -> DoubleBarrier {
    DoubleBarrier::new(client, "/barriers/step", parties).expect("valid")
}

pub async fn barriers_and_latches_hold_until_they_open(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    let barrier = |client| Barrier::new(client, "/barriers/deploy").expect("valid");
    barrier(&a).close().await.expect("connected");
    let limit = Duration::from_millis(200);
    let error = barrier(&b).wait_within(limit).await.expect_err("closed");
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    let waiting = tokio::spawn({
        let barrier = barrier(&b);
        async move { barrier.wait().await }
    });
    barrier(&a).open().await.expect("connected");
    soon(waiting).await.expect("no panic").expect("open");

    let latch = |client| Latch::new(client, "/latches/loaded", 2).expect("valid");
    assert_eq!(latch(&a).count_down("a").await.expect("connected"), 1);
    assert_eq!(latch(&b).count_down("a").await.expect("once"), 1);
    let waiting = tokio::spawn({
        let latch = latch(&b);
        async move { latch.wait().await }
    });
    assert_eq!(latch(&a).count_down("b").await.expect("connected"), 0);
    soon(waiting).await.expect("no panic").expect("open");
}

pub async fn cohorts_enter_and_leave_together(ground: &Ground) {
    let clients = [ground.client().await, ground.client().await, ground.client().await];
    let limit = Duration::from_millis(200);
    let error = double(&clients[0], 3).enter_within(limit).await.expect_err("alone");
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    until_children(&clients[0], LINE, 0).await;
    let mut parties = JoinSet::new();
    for client in &clients {
        let barrier = double(client, 3);
        parties.spawn(async move {
            let mut seen = Vec::new();
            for _ in 0..3 {
                let cohort = barrier.enter().await.expect("all come");
                cohort
                    .txn()
                    .create(format!("/in-{}-{}", cohort.number(), cohort.place()), b"")
                    .commit()
                    .await
                    .expect("inside");
                seen.push((cohort.number(), cohort.place()));
                cohort.leave().await.expect("all leave");
            }
            seen
        });
    }
    let seen: BTreeSet<_> = soon(parties.join_all()).await.into_iter().flatten().collect();
    let all = (1..=3).flat_map(|number| (0..3).map(move |place| (number, place)));
    assert!(all.eq(seen));
    until_children(&clients[0], LINE, 0).await;
}

pub async fn a_cancelled_enter_leaves_no_member(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    for n in 1.. {
        // It enters alone.
        let done = soon(cancel_at(n, double(&b, 1).enter())).await;
        let finished = done.is_some();
        drop(done);
        until_children(&a, LINE, 0).await;
        if finished {
            break;
        }
    }
}

pub async fn a_cancelled_enter_of_two_leaves_the_other_to_the_next(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    for n in 1.. {
        let other = entering(&a);
        let done = soon(cancel_at(n, double(&b, 2).enter())).await;
        let finished = done.is_some();
        drop(done);
        until_children(&b, LINE, 1).await;
        // Whether it had entered or not, the other one enters: with whoever comes next, at the latest.
        let again = entering(&b);
        drop(soon(other).await.expect("no panic").expect("all have come"));
        again.abort();
        drop(again.await);
        until_children(&a, LINE, 0).await;
        if finished {
            break;
        }
    }
}

fn entering(client: &Client) -> JoinHandle<Result<Cohort, Error>> {
    let barrier = double(client, 2);
    tokio::spawn(async move { barrier.enter().await })
}

pub async fn a_cancelled_wait_leaves_nothing_and_the_next_one_passes(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    let barrier = |client| Barrier::new(client, "/barriers/deploy").expect("valid");
    for n in 1.. {
        let latch = |client| Latch::new(client, format!("/latches/{n}"), 1).expect("valid");
        barrier(&a).close().await.expect("connected");
        let opening = tokio::spawn({
            let (observer, barrier, latch) = (a.clone(), barrier(&a), latch(&a));
            async move {
                // Some round trips, in which the others come to wait.
                for _ in 0..4 {
                    observer.sync().await.expect("connected");
                }
                barrier.open().await.expect("connected");
                latch.count_down("a").await.expect("connected");
            }
        });
        let (at_barrier, at_latch) = (barrier(&b), latch(&b));
        let (at_barrier, at_latch) =
            tokio::join!(cancel_at(n, at_barrier.wait()), cancel_at(n, at_latch.wait()));
        let finished = at_barrier.is_some() && at_latch.is_some();
        at_barrier.into_iter().chain(at_latch).for_each(|passed| passed.expect("open"));
        soon(opening).await.expect("no panic");
        assert!(b.ephemerals("/").await.expect("connected").is_empty());
        assert_eq!(b.session().cleanups_reserved(), 0);
        soon(barrier(&b).wait()).await.expect("open");
        soon(latch(&b).wait()).await.expect("open");
        if finished {
            break;
        }
    }
}

pub async fn counters_cells_and_ids_are_changed_exactly_once(ground: &Ground) {
    let mut workers = JoinSet::new();
    for _ in 0..4 {
        let client = ground.client().await;
        workers.spawn(async move {
            let counter = Counter::new(&client, "/counters/orders").expect("valid");
            let ids = IdBlocks::new(&client, "/counters/ids", 3).expect("valid");
            let mut given = Vec::new();
            for _ in 0..10 {
                counter.add(1).await.expect("connected");
                given.push(ids.next().await.expect("connected"));
            }
            given
        });
    }
    let given: BTreeSet<u64> = soon(workers.join_all()).await.into_iter().flatten().collect();
    assert_eq!(given.len(), 40);
    let client = ground.client().await;
    let counter = Counter::new(&client, "/counters/orders").expect("valid");
    assert_eq!(counter.get().await.expect("connected"), 40);
    let cell = Cell::new(&client, "/cell", "a".to_owned()).expect("valid");
    let set = |version, value: &str| {
        let (cell, value) = (cell.clone(), value.to_owned());
        async move { cell.compare_and_set(version, &value).await.expect("connected") }
    };
    assert_eq!((set(0, "b").await, set(0, "c").await), (Some(1), None));
    assert_eq!(cell.get().await.expect("connected").value, "b");
}

pub async fn a_counter_adds_exactly_once_through_cuts_and_lost_replies(ground: &Ground) {
    let mut workers = JoinSet::new();
    for _ in 0..3 {
        let client = ground.client().await;
        workers.spawn(async move {
            let counter = Counter::new(&client, "/counters/orders").expect("valid");
            let (mut done, mut unknown) = (0, 0);
            for _ in 0..60 {
                match counter.add(1).await {
                    Ok(_) => done += 1,
                    Err(Error::Indeterminate { .. }) => unknown += 1,
                    Err(error) => assert!(!error.maybe_applied(), "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            (done, unknown)
        });
    }
    let faults = async {
        for round in 0..12 {
            tokio::time::sleep(Duration::from_millis(70)).await;
            match round % 3 {
                0 => ground.faults().proxy.cut(),
                _ => ground.faults().proxy.lose_next_reply(),
            }
        }
    };
    let (counted, ()) = tokio::join!(soon(workers.join_all()), faults);
    let (done, unknown) =
        counted.iter().fold((0, 0), |sum: (i64, i64), one| (sum.0 + one.0, sum.1 + one.1));
    let client = ground.unharmed_client().await;
    let sum = Counter::new(&client, "/counters/orders").expect("valid").get().await;
    let sum = sum.expect("connected");
    assert!((done..=done + unknown).contains(&sum), "{sum}: {done} done, {unknown} unknown");
    assert!(done > 100, "only {done} were done");
}

pub async fn cohorts_enter_whole_through_cuts_and_lost_replies(ground: &Ground) {
    const ROUNDS: u64 = 8;
    let mut parties = JoinSet::new();
    for _ in 0..3 {
        let barrier = double(&ground.client().await, 3);
        parties.spawn(async move {
            let mut seen = Vec::new();
            for _ in 0..ROUNDS {
                // Sessions outlive the cuts, so that nobody dies inside.
                let cohort = barrier.enter().await.expect("all come");
                seen.push((cohort.number(), cohort.place()));
                cohort.leave().await.expect("all leave");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            seen
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
    let (seen, ()) = tokio::join!(soon(parties.join_all()), faults);
    let seen: BTreeSet<_> = seen.into_iter().flatten().collect();
    assert!((1..=ROUNDS).flat_map(|number| (0..3).map(move |place| (number, place))).eq(seen));
    until_children(&ground.unharmed_client().await, LINE, 0).await;
}
