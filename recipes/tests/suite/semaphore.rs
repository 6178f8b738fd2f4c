//! The semaphore under virtual time, with faults.

use std::time::Duration;

use crate::common::{cancel_at, children, soon, until_children};
use synod::fence::SlotFences;
use synod::guard::Released;
use synod::semaphore::{LIMIT_MAX, PERMITS_MAX, Permits};
use synod::testing::Coordinator;
use synod::{Client, Error, LossReason, Semaphore, SessionEnd, Zxid};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const PATH: &str = "/semaphores/jobs";
const LINE: &str = "/semaphores/jobs/line";
const SLOTS: &str = "/semaphores/jobs/slots";
const LIMIT: &str = "/semaphores/jobs/limit";

/// Longer than an acquire takes, in round trips of some milliseconds.
const STEPS_MS: u64 = 24;

fn semaphore(client: &Client, limit: u32) -> Semaphore {
    Semaphore::new(client, PATH, limit).expect("valid")
}

fn numbers(permits: &Permits) -> Vec<u32> {
    permits.slots().iter().map(|slot| slot.number).collect()
}

fn token(permits: &Permits) -> Zxid {
    permits.slots()[0].token
}

/// Starts an acquire and waits until it is in line behind `before` others.
async fn in_line(
    zk: &Coordinator,
    client: &Client,
    count: u32,
    before: usize,
) -> JoinHandle<Result<Permits, Error>> {
    let semaphore = semaphore(client, 2);
    let waiting = tokio::spawn(async move { semaphore.acquire_many(count).await });
    until_children(&zk.client().await, LINE, before + 1).await;
    // It has looked, and waits.
    sleep(Duration::from_millis(STEPS_MS)).await;
    assert!(!waiting.is_finished());
    waiting
}

async fn granted(waiting: JoinHandle<Result<Permits, Error>>) -> Permits {
    soon(waiting).await.expect("no panic").expect("its turn")
}

/// Nobody waits, nothing is held, and nothing is left to clean up.
async fn until_nothing_is_left(observer: &Client, client: &Client) {
    until_children(observer, LINE, 0).await;
    until_children(observer, SLOTS, 0).await;
    soon(async {
        while client.session().cleanups_reserved() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn as_many_hold_as_the_limit_says_each_a_slot_of_its_own() {
    let zk = Coordinator::start();
    let (a, b, c) = (zk.client().await, zk.client().await, zk.client().await);
    let first = semaphore(&a, 2).acquire().await.expect("free");
    let second = semaphore(&b, 2).acquire().await.expect("free");
    assert_eq!((numbers(&first), numbers(&second)), (vec![0], vec![1]));
    assert!(semaphore(&c, 2).try_acquire().await.expect("can be tried").is_none());
    let within = Duration::from_secs(5);
    let error = semaphore(&c, 2).acquire_within(within).await.expect_err("none is free");
    assert!(matches!(error, Error::TimedOut { waited, .. } if waited == within), "{error}");
    until_children(&a, LINE, 0).await;

    let third = in_line(&zk, &c, 1, 0).await;
    assert_eq!(first.release().await.expect("connected"), Released::Confirmed);
    let third = granted(third).await;
    assert_eq!(numbers(&third), [0]);
    assert!(token(&third) > token(&first), "the tokens of a slot grow");
    let fences = SlotFences::new();
    for permits in [&second, &third] {
        let [slot] = permits.slots() else { panic!("{permits:?}") };
        fences.admit(slot.number, slot.token).expect("they hold at the same time");
    }
    let [stale] = first.slots() else { panic!("{first:?}") };
    assert!(fences.admit(stale.number, stale.token).is_err(), "slot 0 has another holder");
}

#[tokio::test(start_paused = true)]
async fn several_permits_are_had_all_or_none_and_nobody_overtakes_who_waits_for_them() {
    let zk = Coordinator::start();
    let clients = [zk.client().await, zk.client().await, zk.client().await];
    let both = semaphore(&clients[0], 3).acquire_many(2).await.expect("free");
    assert_eq!(numbers(&both), [0, 1]);
    let many = in_line(&zk, &clients[1], 3, 0).await;
    let one = in_line(&zk, &clients[2], 1, 1).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(children(&clients[0], SLOTS).await.len(), 2, "one is free, and nobody takes it");
    drop(both);
    let many = granted(many).await;
    assert_eq!(numbers(&many), [0, 1, 2]);
    assert!(!one.is_finished());
    drop(many);
    assert_eq!(numbers(&granted(one).await), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_raised_lets_waiters_in_and_one_that_is_lowered_takes_nothing_away() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let first = semaphore(&a, 2).acquire_many(2).await.expect("free");
    assert_eq!(semaphore(&b, 9).limit().await.expect("connected"), 2, "it is written down");
    let waiting = in_line(&zk, &b, 2, 0).await;
    semaphore(&a, 2).set_limit(4).await.expect("connected");
    let second = granted(waiting).await;
    assert_eq!(numbers(&second), [2, 3]);

    semaphore(&a, 2).set_limit(1).await.expect("connected");
    let waiting = in_line(&zk, &a, 1, 0).await;
    drop(first);
    until_children(&a, SLOTS, 2).await;
    sleep(Duration::from_secs(60)).await;
    assert!(!waiting.is_finished(), "two hold, and one may");
    second.txn().create("/held", b"").commit().await.expect("nobody has lost a permit");
    drop(second);
    assert_eq!(numbers(&granted(waiting).await), [0]);
}

#[tokio::test(start_paused = true)]
async fn with_a_limit_of_zero_everybody_waits() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    semaphore(&client, 0).set_limit(0).await.expect("connected");
    let waiting = in_line(&zk, &client, 1, 0).await;
    semaphore(&client, 0).set_limit(1).await.expect("connected");
    drop(granted(waiting).await);
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_granted_is_refused_by_name_and_wedges_nobody() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let too_many = semaphore(&client, 2).acquire_many(3).await.expect_err("there are two");
    assert!(too_many.to_string().contains("no more permits than"), "{too_many}");
    for count in [0, PERMITS_MAX + 1] {
        let error = semaphore(&client, 2).acquire_many(count).await.expect_err("out of range");
        assert!(error.to_string().contains("1 to 256"), "{error}");
    }
    let error = Semaphore::new(&client, PATH, LIMIT_MAX + 1).expect_err("out of range");
    assert!(error.to_string().contains("65537"), "{error}");
    // A waiter of a limit that is lowered below what it asks for goes, and lets others by.
    let held = semaphore(&client, 2).acquire().await.expect("free");
    let waiting = in_line(&zk, &client, 2, 0).await;
    semaphore(&client, 2).set_limit(1).await.expect("connected");
    assert!(soon(waiting).await.expect("no panic").is_err());
    drop(held);
    client.set(LIMIT, "many").await.expect("connected");
    let error = semaphore(&client, 2).acquire().await.expect_err("not a limit").to_string();
    assert!(error.contains(LIMIT) && error.contains("many"), "{error}");
    until_nothing_is_left(&client, &client).await;
}

#[tokio::test(start_paused = true)]
async fn most_permits_at_once_are_granted_and_released() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let all = semaphore(&client, LIMIT_MAX).acquire_many(PERMITS_MAX).await.expect("free");
    assert_eq!(all.slots().len(), PERMITS_MAX as usize);
    all.release().await.expect("connected");
    assert_eq!(all.release().await.expect("idempotent"), Released::Confirmed);
    until_nothing_is_left(&client, &client).await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_lowered_in_any_moment_of_an_acquire_grants_nothing_any_more() {
    let mut refused = 0;
    for after_ms in 0..STEPS_MS {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let _held = semaphore(&a, 2).acquire().await.expect("free");
        let acquired = tokio::spawn({
            let semaphore = semaphore(&b, 2);
            async move { semaphore.acquire_within(Duration::from_secs(1)).await }
        });
        sleep(Duration::from_millis(after_ms)).await;
        semaphore(&a, 2).set_limit(1).await.expect("connected");
        let lowered = a.exists(LIMIT).await.expect("connected").expect("it is there").mzxid;
        match soon(acquired).await.expect("no panic") {
            Ok(permits) => assert!(token(&permits) < lowered, "{after_ms} ms: by a stale limit"),
            Err(error) => {
                assert!(matches!(error, Error::TimedOut { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!((3..STEPS_MS - 3).contains(&refused), "{refused} came too late");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_acquire_leaves_nothing_whatever_await_it_was_at() {
    for contended in [false, true] {
        for n in 1.. {
            let zk = Coordinator::start();
            let (a, b) = (zk.client().await, zk.client().await);
            let held = match contended {
                true => Some(semaphore(&a, 3).acquire_many(2).await.expect("free")),
                false => None,
            };
            let semaphore = semaphore(&b, 3);
            let acquire = async {
                let (acquired, ()) = tokio::join!(semaphore.acquire_many(2), async {
                    sleep(Duration::from_secs(1)).await;
                    if let Some(held) = &held {
                        held.release().await.expect("connected");
                    }
                });
                acquired
            };
            let done = cancel_at(n, acquire).await;
            let finished = done.is_some();
            drop((done, held));
            until_nothing_is_left(&a, &b).await;
            let all = soon(semaphore.acquire_many(3)).await;
            all.expect("no permit is missing").release().await.expect("connected");
            if finished {
                assert!(n > if contended { 8 } else { 6 }, "cancelled at {n} awaits only");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_lost_in_any_step_neither_loses_nor_doubles_a_permit() {
    // The first acquire of all makes the parents, which takes longer.
    for after_ms in 0..2 * STEPS_MS {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let semaphore = semaphore(&b, 4);
        let (permits, ()) = tokio::join!(soon(semaphore.acquire_many(2)), async {
            sleep(Duration::from_millis(after_ms)).await;
            zk.lose_next_reply(&b);
        });
        let permits = permits.expect("found again by its id");
        assert_eq!(numbers(&permits), [0, 1], "{after_ms} ms");
        until_children(&a, LINE, 0).await;
        assert_eq!(children(&a, SLOTS).await.len(), 2, "{after_ms} ms");
        permits.txn().create("/held", b"").commit().await.map(drop).unwrap_or_else(|error| {
            // The reply to this one was the one that was lost.
            assert!(error.maybe_applied(), "{error}");
        });
        soon(permits.release()).await.expect("connected again");
        until_nothing_is_left(&a, &b).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_dies_in_any_step_leaves_nothing_and_grants_nothing() {
    let mut granted = 0;
    for after_ms in 0..STEPS_MS {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        semaphore(&a, 2).acquire().await.expect("free").release().await.expect("connected");
        let acquire = semaphore(&b, 2);
        let (acquired, ()) = tokio::join!(soon(acquire.acquire_many(2)), async {
            sleep(Duration::from_millis(after_ms)).await;
            zk.expire(&b).await;
        });
        match acquired {
            Ok(permits) => {
                granted += 1;
                assert!(matches!(soon(permits.lost()).await.reason, LossReason::SessionOver(_)));
                let late = permits.txn().create("/late", b"").commit().await;
                assert!(late.expect_err("lost").is_lost());
            }
            Err(error) => assert!(error.session_over(), "{error}"),
        }
        until_children(&a, LINE, 0).await;
        until_children(&a, SLOTS, 0).await;
        let all = soon(semaphore(&a, 2).acquire_many(2)).await;
        drop(all.expect("no permit is missing"));
    }
    assert!((1..STEPS_MS - 4).contains(&granted), "{granted} were granted before");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_put_out_of_the_line_by_force_takes_no_permit() {
    let mut out = 0;
    for after_ms in 0..STEPS_MS {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        semaphore(&a, 2).acquire().await.expect("free").release().await.expect("connected");
        let acquire = semaphore(&b, 2);
        let (acquired, forced) = tokio::join!(soon(acquire.acquire_many(2)), async {
            sleep(Duration::from_millis(after_ms)).await;
            let [place] = &children(&a, LINE).await[..] else { return false };
            a.delete(format!("{LINE}/{place}")).await.is_ok()
        });
        assert_eq!(acquired.is_err(), forced, "{after_ms} ms");
        if let Err(error) = acquired {
            assert!(error.is_lost(), "{error}");
            out += 1;
            until_nothing_is_left(&a, &b).await;
        }
    }
    assert!(out > 3, "put out {out} times only");
    // And one that waits hears of it at once.
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let _held = semaphore(&a, 2).acquire_many(2).await.expect("free");
    let waiting = in_line(&zk, &b, 1, 0).await;
    let begun = Instant::now();
    let place = children(&a, LINE).await.remove(0);
    a.delete(format!("{LINE}/{place}")).await.expect("it is there");
    assert!(soon(waiting).await.expect("no panic").expect_err("put out").is_lost());
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_was_taken_by_force_and_granted_to_another_is_not_touched_any_more() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let permits = semaphore(&a, 2).acquire_many(2).await.expect("free");
    let slot = children(&b, SLOTS).await.into_iter().find(|name| name.ends_with('1'));
    b.delete(format!("{SLOTS}/{}", slot.expect("slot 1"))).await.expect("it is there");
    // The other is in the same session too: that is not the same owner.
    let other = semaphore(&a, 2).acquire().await.expect("free");
    assert_eq!(numbers(&other), [1]);
    assert!(token(&other) > token(&permits));
    assert_eq!(soon(permits.lost()).await.reason, LossReason::Removed);
    let late = permits.txn().create("/late", b"").commit().await;
    assert!(late.expect_err("one of two is lost").is_lost());
    assert!(permits.run(async {}).await.expect_err("lost").is_lost());
    permits.release().await.expect("connected");
    other.txn().create("/held", b"").commit().await.expect("held still");
    assert_eq!(children(&b, SLOTS).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn permits_are_lost_at_the_deadline_though_nobody_can_be_reached() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let permits = semaphore(&a, 1).acquire().await.expect("free");
    let waiting = in_line(&zk, &b, 1, 0).await;
    zk.disconnect(&a, Duration::from_secs(600));
    let deadline = permits.valid_until();
    let work = permits.run(std::future::pending::<()>());
    let error = soon(work).await.expect_err("lost");
    assert!(error.is_lost(), "{error}");
    let late = Instant::now().saturating_duration_since(deadline);
    assert!(late <= Duration::from_millis(1), "{late:?} after the deadline");
    assert!(!waiting.is_finished(), "the holder knows before the next one holds");
    let released = soon(permits.release()).await.expect("no refusal");
    assert_eq!(released, Released::WithSession(SessionEnd::DeadlinePassed));
    assert!(token(&granted(waiting).await) > token(&permits));
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_cancelled_or_cut_off_goes_on_in_the_background() {
    for n in 1.. {
        let zk = Coordinator::start();
        let client = zk.client().await;
        let permits = semaphore(&client, 3).acquire_many(3).await.expect("free");
        zk.disconnect(&client, Duration::from_secs(2));
        let done = cancel_at(n, permits.release()).await;
        drop(permits);
        until_nothing_is_left(&zk.client().await, &client).await;
        if done.is_some() {
            assert!(n > 1, "it was cancelled at least once");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn parents_that_are_reaped_are_made_again_and_the_limit_stays() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    semaphore(&client, 1).acquire().await.expect("free").release().await.expect("connected");
    zk.reap();
    assert_eq!(children(&client, PATH).await, ["limit"]);
    assert_eq!(semaphore(&client, 9).limit().await.expect("connected"), 1);
    drop(semaphore(&client, 9).acquire().await.expect("free"));
}

#[test]
fn permits_dropped_outside_a_runtime_are_released() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let client = runtime.block_on(Client::connect("embedded:")).expect("embedded");
    let permits = runtime.block_on(semaphore(&client, 2).acquire_many(2)).expect("free");
    drop(runtime);
    drop(permits);
    let left = futures::executor::block_on(children(&client, SLOTS));
    assert!(left.is_empty(), "released by the drop itself");
}
