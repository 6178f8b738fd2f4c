//! Barriers under virtual time, with faults.

use std::time::Duration;

use crate::common::{cancel_at, children, soon, until_children};
use synod::barrier::{COHORT_MAX, Cohort, LATCH_MAX};
use synod::testing::Coordinator;
use synod::{Barrier, Client, DoubleBarrier, Error, Latch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const STEP: &str = "/barriers/step";
const LINE: &str = "/barriers/step/line";

/// Longer than entering takes, in round trips of some milliseconds.
const STEPS_MS: u64 = 48;

fn double(client: &Client, parties: u32) -> DoubleBarrier {
    DoubleBarrier::new(client, STEP, parties).expect("valid")
}

fn entering(client: &Client, parties: u32) -> JoinHandle<Result<Cohort, Error>> {
    let barrier = double(client, parties);
    tokio::spawn(async move { barrier.enter().await })
}

async fn entered(entering: JoinHandle<Result<Cohort, Error>>) -> Cohort {
    soon(entering).await.expect("no panic").expect("all have come")
}

async fn until_clean(client: &Client) {
    soon(async {
        while client.session().cleanups_reserved() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_barrier_holds_who_waits_until_it_is_opened() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let barrier = |client| Barrier::new(client, "/barriers/deploy").expect("valid");
    barrier(&a).wait().await.expect("nobody has closed it");
    barrier(&a).close().await.expect("connected");
    barrier(&b).close().await.expect("twice does nothing");
    assert!(barrier(&b).is_closed().await.expect("connected"));
    let limit = Duration::from_secs(3);
    let error = barrier(&b).wait_within(limit).await.expect_err("closed");
    assert!(matches!(error, Error::TimedOut { waited, .. } if waited == limit), "{error}");
    let waiting = tokio::spawn({
        let barrier = barrier(&b);
        async move { barrier.wait().await }
    });
    // Neither a broken connection nor the end of its session lets it by, or ends its waiting.
    for _ in 0..3 {
        sleep(Duration::from_secs(1)).await;
        zk.disconnect(&b, Duration::from_secs(1));
        sleep(Duration::from_secs(2)).await;
        zk.expire(&b).await;
    }
    sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    barrier(&a).open().await.expect("connected");
    barrier(&a).open().await.expect("twice does nothing");
    soon(waiting).await.expect("no panic").expect("open");
    assert!(!barrier(&b).is_closed().await.expect("connected"));
    b.close().await.expect("connected");
    let error = barrier(&b).wait().await.expect_err("the client is closed");
    assert!(error.session_over(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_latch_opens_when_every_name_has_counted_once() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let latch = |client, count| Latch::new(client, "/latches/loaded", count).expect("valid");
    let waiting = tokio::spawn({
        let latch = latch(&b, 3);
        async move { latch.wait().await }
    });
    sleep(Duration::from_secs(1)).await;
    // What was said first counts.
    assert_eq!(latch(&a, 9).count_down("shard-0").await.expect("connected"), 2);
    for _ in 0..3 {
        zk.lose_next_reply(&a);
        assert_eq!(soon(latch(&a, 3).count_down("shard-1")).await.expect("counted"), 1);
    }
    zk.expire(&a).await;
    zk.expire(&b).await;
    sleep(Duration::from_secs(60)).await;
    assert!(!waiting.is_finished());
    assert_eq!(latch(&a, 3).remaining().await.expect("connected"), 1, "it outlives sessions");
    let limit = Duration::from_secs(1);
    let error = latch(&a, 3).wait_within(limit).await.expect_err("closed");
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    // What others have put there is no name that counts.
    for foreign in ["_d_", "d_shard-2", "shard-2"] {
        b.create(format!("/latches/loaded/{foreign}"), b"").await.expect("new");
    }
    assert_eq!(latch(&a, 3).remaining().await.expect("connected"), 1);
    assert_eq!(latch(&a, 3).count_down("shard-2").await.expect("connected"), 0);
    soon(waiting).await.expect("no panic").expect("open");
    latch(&b, 3).wait().await.expect("open for ever");
    assert_eq!(latch(&a, 3).count_down("shard-3").await.expect("one more than needed"), 0);
    for name in ["", "a/b"] {
        let error = latch(&a, 3).count_down(name).await.expect_err("not a name").to_string();
        assert!(error.contains("one part of a path"), "{error}");
    }
    assert!(Latch::new(&a, "/x", LATCH_MAX + 1).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_latch_that_reads_something_else_says_so() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    client.create("/latch", "soon").await.expect("connected");
    let latch = Latch::new(&client, "/latch", 3).expect("valid");
    let error = latch.wait().await.expect_err("no number").to_string();
    assert!(error.contains("/latch") && error.contains("number of names"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn all_enter_together_and_leave_together_again_and_again() {
    let zk = Coordinator::start();
    let clients = [zk.client().await, zk.client().await, zk.client().await];
    for number in 1..4 {
        let mut waiting = Vec::new();
        for (come, client) in clients.iter().enumerate() {
            assert!(waiting.iter().all(|entering: &JoinHandle<_>| !entering.is_finished()));
            waiting.push(entering(client, 3));
            until_children(&clients[0], LINE, come + 1).await;
            sleep(Duration::from_secs(1)).await;
        }
        let mut cohorts = Vec::new();
        for entering in waiting {
            cohorts.push(entered(entering).await);
        }
        let seen: Vec<_> = cohorts.iter().map(|one| (one.number(), one.place())).collect();
        assert_eq!(seen, [(number, 0), (number, 1), (number, 2)]);
        assert!(cohorts.iter().all(|cohort| cohort.parties() == 3));
        // The lowest leaves first in one round and last in another.
        if number == 2 {
            cohorts.reverse();
        }
        let mut leaving: Vec<JoinHandle<_>> = Vec::new();
        for cohort in cohorts {
            sleep(Duration::from_secs(1)).await;
            assert!(leaving.iter().all(|leaving| !leaving.is_finished()), "nobody leaves alone");
            leaving.push(tokio::spawn(cohort.leave()));
        }
        for leaving in leaving {
            soon(leaving).await.expect("no panic").expect("all leave");
        }
        until_children(&clients[0], LINE, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn ready_is_no_member_and_one_too_many_waits_for_the_next_cohort() {
    let zk = Coordinator::start();
    let clients = [zk.client().await, zk.client().await, zk.client().await, zk.client().await];
    let (a, b) = (entering(&clients[0], 2), entering(&clients[1], 2));
    let (a, b) = (entered(a).await, entered(b).await);
    let late = entering(&clients[2], 2);
    sleep(Duration::from_secs(60)).await;
    assert!(!late.is_finished(), "it belongs to the next cohort, which is not complete");
    let later = entering(&clients[3], 2);
    sleep(Duration::from_secs(60)).await;
    assert!(!late.is_finished() && !later.is_finished(), "the last cohort is still inside");
    drop(a);
    sleep(Duration::from_secs(60)).await;
    assert!(!late.is_finished(), "one of it is");
    b.leave().await.expect("the other has left");
    let (late, later) = (entered(late).await, entered(later).await);
    assert_eq!((late.number(), later.number()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_timed_enter_is_not_let_by_through_disconnects_and_is_counted_by_nobody_after_it() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let begun = Instant::now();
    let limit = Duration::from_secs(30);
    let barrier = double(&a, 2);
    let (entered_alone, ()) = tokio::join!(barrier.enter_within(limit), async {
        for _ in 0..4 {
            sleep(Duration::from_secs(3)).await;
            zk.disconnect(&a, Duration::from_secs(2));
        }
    });
    let error = entered_alone.expect_err("one of two has come");
    assert!(matches!(error, Error::TimedOut { waited, .. } if waited == limit), "{error}");
    assert!(begun.elapsed() < limit + Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(children(&b, LINE).await.is_empty(), "its znode is gone when it fails");
    // And one that comes later waits for another.
    let late = double(&b, 2).enter_within(limit).await;
    assert!(matches!(late, Err(Error::TimedOut { .. })), "{late:?}");
    until_clean(&a).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_times_out_has_entered_or_is_counted_by_nobody_at_every_moment() {
    let (mut alone, mut together) = (0, 0);
    for after_ms in 0..STEPS_MS {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let limit = Duration::from_secs(1);
        // The other comes around the moment at which this one gives up.
        let late = limit - Duration::from_millis(STEPS_MS) + Duration::from_millis(2 * after_ms);
        let (first, second) = (double(&a, 2), double(&b, 2));
        let (first, second) = tokio::join!(first.enter_within(limit), async {
            sleep(late).await;
            second.enter_within(limit).await
        });
        assert_eq!(first.is_ok(), second.is_ok(), "{after_ms}: {first:?} {second:?}");
        match first.is_ok() {
            true => together += 1,
            false => alone += 1,
        }
    }
    assert!(together > 3 && alone > 3, "{together} together, {alone} alone");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_enter_leaves_nothing_whatever_await_it_was_at() {
    for n in 1.. {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let barrier = double(&b, 2);
        let other = entering(&a, 2);
        let done = cancel_at(n, barrier.enter()).await;
        let finished = done.is_some();
        drop(done);
        until_clean(&b).await;
        until_children(&b, LINE, 1).await;
        // Whether it had entered or not, the barrier goes on: with one more it is complete.
        let again = entering(&b, 2);
        match other.is_finished() {
            true => entered(other).await.leave().await.expect("the other has left"),
            false => drop(entered(other).await),
        }
        again.abort();
        drop(again.await);
        until_children(&a, LINE, 0).await;
        if finished {
            assert!(n > 6, "cancelled at {n} awaits only");
            break;
        }
    }
}

/// Cancels a wait at each of its awaits; `open` lets it by when it has come to wait. How many
/// awaits there are.
async fn cancelled_everywhere(
    wait: impl AsyncFn(Client) -> Result<(), Error>,
    close: impl AsyncFn(&Client),
    open: impl AsyncFn(&Client),
) -> usize {
    for n in 1.. {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        close(&a).await;
        let opening = async {
            sleep(Duration::from_secs(1)).await;
            open(&a).await;
        };
        let (passed, ()) = tokio::join!(cancel_at(n, wait(b.clone())), opening);
        let finished = passed.is_some();
        passed.unwrap_or(Ok(())).expect("open");
        soon(async {
            while zk.watch_count() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        assert_eq!(b.session().cleanups_reserved(), 0);
        soon(wait(b)).await.expect("open");
        if finished {
            return n - 1;
        }
    }
    unreachable!("it passes at last")
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_cancelled_anywhere_leaves_no_watch() {
    let barrier = |client: &Client| Barrier::new(client, "/barriers/deploy").expect("valid");
    let awaits = cancelled_everywhere(
        async |client| barrier(&client).wait().await,
        async |client| barrier(client).close().await.expect("connected"),
        async |client| barrier(client).open().await.expect("connected"),
    );
    assert!(awaits.await > 3, "the sync, two looks, and the watch");
    let latch = |client: &Client| Latch::new(client, "/latches/loaded", 1).expect("valid");
    let awaits = cancelled_everywhere(
        async |client| latch(&client).wait().await,
        async |_| {},
        async |client| assert_eq!(latch(client).count_down("a").await.expect("connected"), 0),
    );
    assert!(awaits.await > 6, "it is made; the number, the names and the watch, twice");
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_or_a_cut_in_any_step_lets_all_in_and_nobody_twice() {
    for after_ms in 0..STEPS_MS {
        for cut in [false, true] {
            let zk = Coordinator::start();
            let (a, b) = (zk.client().await, zk.client().await);
            let (first, second) = (entering(&a, 2), entering(&b, 2));
            sleep(Duration::from_millis(after_ms)).await;
            match cut {
                true => zk.disconnect(&b, Duration::from_secs(1)),
                false => zk.lose_next_reply(&b),
            }
            let (first, second) = (entered(first).await, entered(second).await);
            assert_eq!((first.number(), second.number()), (1, 1), "{after_ms} ms");
            let (first, second) = tokio::join!(soon(first.leave()), soon(second.leave()));
            assert!(first.is_ok() && second.is_ok(), "{after_ms} ms: {first:?} {second:?}");
            until_children(&a, LINE, 0).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_dies_while_it_waits_is_not_counted_and_one_inside_has_left() {
    let zk = Coordinator::start();
    let (a, b, c) = (zk.client().await, zk.client().await, zk.client().await);
    let dying = entering(&a, 2);
    until_children(&b, LINE, 1).await;
    zk.expire(&a).await;
    let error = soon(dying).await.expect("no panic").expect_err("its session is over");
    assert!(error.session_over(), "{error}");
    let first = entering(&b, 2);
    until_children(&b, LINE, 1).await;
    sleep(Duration::from_secs(60)).await;
    assert!(!first.is_finished(), "the dead one does not count");
    let second = entering(&c, 2);
    let (first, second) = (entered(first).await, entered(second).await);
    let leaving = tokio::spawn(first.leave());
    sleep(Duration::from_secs(60)).await;
    assert!(!leaving.is_finished());
    zk.expire(&c).await;
    soon(leaving).await.expect("no panic").expect("the other has died");
    let error = second.leave().await.expect_err("its session is over");
    assert!(error.is_lost(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_put_out_of_the_line_by_force_hears_of_it_and_what_is_not_valid_is_refused() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let waiting = entering(&a, 2);
    until_children(&b, LINE, 1).await;
    sleep(Duration::from_secs(1)).await;
    let place = children(&b, LINE).await.remove(0);
    b.delete(format!("{LINE}/{place}")).await.expect("it is there");
    assert!(soon(waiting).await.expect("no panic").expect_err("put out").is_lost());
    for parties in [0, COHORT_MAX + 1] {
        assert!(DoubleBarrier::new(&a, STEP, parties).is_err());
    }
    b.set("/barriers/step/ready", "no").await.expect("it is there");
    let error = double(&a, 2).enter().await.expect_err("not a cohort").to_string();
    assert!(error.contains("/barriers/step/ready"), "{error}");
    until_children(&a, LINE, 0).await;
}
