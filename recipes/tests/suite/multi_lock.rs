//! Several locks together under virtual time, with faults.

use std::time::Duration;

use crate::common::{cancel_at, children, soon, until_children};
use synod::guard::Released;
use synod::multi_lock::MultiGuard;
use synod::testing::Coordinator;
use synod::{Client, Error, Fence, Lock, LossReason, MultiLock, SessionEnd};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const ANN: &str = "/accounts/ann";
const BOB: &str = "/accounts/bob";
const CAY: &str = "/accounts/cay";

fn all(client: &Client) -> MultiLock {
    MultiLock::new(client, [CAY, ANN, BOB]).expect("valid paths")
}

fn lock(client: &Client, path: &str) -> Lock {
    Lock::new(client, path).expect("a valid path")
}

/// Asks for all and waits until it stands in line at `path` behind `before` others.
async fn waits_at(
    zk: &Coordinator,
    client: &Client,
    path: &str,
    before: usize,
) -> JoinHandle<Result<MultiGuard, Error>> {
    let all = all(client);
    let waiting = tokio::spawn(async move { all.acquire().await });
    until_children(&zk.client().await, path, before + 1).await;
    waiting
}

async fn granted(waiting: JoinHandle<Result<MultiGuard, Error>>) -> MultiGuard {
    soon(waiting).await.expect("no panic").expect("its turn")
}

async fn until_free(client: &Client) {
    for path in [ANN, BOB, CAY] {
        until_children(client, path, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn all_are_held_in_the_order_of_their_paths_each_under_a_token_of_its_own() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let all = all(&client);
    assert_eq!(all.paths().map(|path| &**path).collect::<Vec<_>>(), [ANN, BOB, CAY]);
    let guard = soon(all.acquire()).await.expect("free");
    let resources = [Fence::new(), Fence::new(), Fence::new()];
    for (resource, (path, token)) in resources.iter().zip(guard.tokens()) {
        let name = children(&client, path).await.pop().expect("held");
        let stat = client.exists(format!("{path}/{name}")).await.expect("connected");
        assert_eq!(stat.map(|stat| stat.czxid), Some(token));
        assert_eq!(guard.token(path), Some(token));
        resource.admit(token).expect("the first");
    }
    assert_eq!(guard.token("/accounts/dan"), None);
    let next = waits_at(&zk, &zk.client().await, ANN, 1).await;
    assert_eq!(guard.release().await.expect("connected"), Released::Confirmed);
    assert_eq!(guard.release().await.expect("twice does nothing"), Released::Confirmed);
    let next = granted(next).await;
    for (resource, (path, token)) in resources.iter().zip(next.tokens()) {
        resource.admit(token).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    drop(next);
    until_free(&client).await;
}

#[tokio::test(start_paused = true)]
async fn a_path_that_is_named_twice_or_none_at_all_is_refused() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let error = MultiLock::new(&client, [ANN, BOB, ANN]).expect_err("twice").to_string();
    assert!(error.contains("\"/accounts/ann\"") && error.contains("named once"), "{error}");
    let error = MultiLock::new(&client, [ANN, "bob"]).expect_err("no slash").to_string();
    assert!(error.contains("\"bob\""), "{error}");
    let error = MultiLock::new::<&str>(&client, []).expect_err("none").to_string();
    assert!(error.contains("at least one"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn those_who_name_them_in_any_order_never_wait_in_a_circle() {
    let zk = Coordinator::start();
    let mut workers = tokio::task::JoinSet::new();
    let orders = [[ANN, BOB, CAY], [CAY, BOB, ANN], [BOB, CAY, ANN]];
    for order in orders {
        let client = zk.client().await;
        workers.spawn(async move {
            let all = MultiLock::new(&client, order).expect("valid paths");
            for _ in 0..5 {
                let guard = all.acquire().await.expect("its turn");
                guard.run(sleep(Duration::from_millis(20))).await.expect("held");
                guard.release().await.expect("connected");
            }
        });
    }
    assert_eq!(soon(workers.join_all()).await.len(), orders.len());
}

#[tokio::test(start_paused = true)]
async fn the_first_are_held_while_the_next_is_waited_for_and_released_when_it_fails() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let bob = lock(&a, BOB).acquire().await.expect("free");
    let waiting = waits_at(&zk, &b, BOB, 1).await;
    assert_eq!(children(&a, ANN).await.len(), 1, "held");
    assert!(children(&a, CAY).await.is_empty(), "not asked for yet");
    // Somebody takes its place in line away.
    let mut names = children(&a, BOB).await;
    names.retain(|name| name != bob.path().name());
    a.delete(format!("{BOB}/{}", names[0])).await.expect("forced");
    let error = {
        bob.release().await.expect("connected");
        soon(waiting).await.expect("no panic").expect_err("out of line")
    };
    assert!(error.is_lost(), "{error}");
    until_free(&a).await;
    assert_eq!(b.session().cleanups_reserved(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_lost_while_another_was_waited_for_is_told_of() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let bob = lock(&a, BOB).acquire().await.expect("free");
    let waiting = waits_at(&zk, &b, BOB, 1).await;
    let name = children(&a, ANN).await.pop().expect("held");
    a.delete(format!("{ANN}/{name}")).await.expect("forced");
    bob.release().await.expect("connected");
    let error = soon(waiting).await.expect("no panic").expect_err("not all are held");
    assert!(error.is_lost() && error.to_string().contains(ANN), "{error}");
    until_free(&a).await;
}

#[tokio::test(start_paused = true)]
async fn one_deadline_counts_for_all_together() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let ann = lock(&a, ANN).acquire().await.expect("free");
    let _bob = lock(&a, BOB).acquire().await.expect("free");
    let limit = Duration::from_secs(10);
    let all = all(&b);
    let begun = Instant::now();
    let (acquired, ()) = tokio::join!(soon(all.acquire_within(limit)), async {
        sleep(Duration::from_secs(7)).await;
        ann.release().await.expect("connected");
    });
    assert_eq!(begun.elapsed().as_secs(), limit.as_secs(), "not as long for each");
    let error = acquired.expect_err("bob is held");
    let Error::TimedOut { path, waited } = &error else { panic!("{error}") };
    assert_eq!((&**path, *waited), (BOB, limit));
    until_children(&a, ANN, 0).await;
    until_children(&a, BOB, 1).await;
    assert!(all.try_acquire().await.expect("can be tried").is_none());
    assert!(children(&a, ANN).await.is_empty(), "released again, and that is confirmed");
    drop(_bob);
    until_children(&a, BOB, 0).await;
    assert!(all.try_acquire().await.expect("can be tried").is_some());
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_one_is_the_loss_of_all() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    a.create("/report", b"").await.expect("new");
    let guard = all(&a).acquire().await.expect("free");
    let done = guard.txn().set("/report", b"1").create("/done", b"").commit().await;
    assert_eq!(done.expect("held").len(), 2, "the guards' own checks are not shown");
    let error = guard.txn().set("/report", b"2").delete("/none").commit().await;
    let error = error.expect_err("no such znode");
    assert!(
        matches!(&error, Error::Client(synod::model::Error::Refused { index: Some(1), .. })),
        "{error:?}"
    );
    let name = children(&b, BOB).await.pop().expect("held");
    let (work, ()) = tokio::join!(guard.run(std::future::pending::<()>()), async {
        sleep(Duration::from_secs(1)).await;
        b.delete(format!("{BOB}/{name}")).await.expect("forced");
    });
    assert!(work.expect_err("lost").is_lost());
    let loss = soon(guard.lost()).await;
    assert_eq!((loss.reason, Some(loss.token)), (LossReason::Removed, guard.token(BOB)));
    let error = guard.txn().set("/report", b"3").commit().await.expect_err("not all are held");
    assert!(matches!(&error, Error::Lost(lost) if *lost == loss), "{error}");
    assert!(guard.run(async {}).await.expect_err("lost").is_lost());
    assert_eq!(b.get("/report").await.expect("it is there").0, &b"1"[..], "nothing half done");
    assert_eq!(children(&b, ANN).await.len(), 1, "the others are held until they are released");
    guard.release().await.expect("connected");
    until_free(&b).await;
}

#[tokio::test(start_paused = true)]
async fn all_end_with_the_session_and_an_acquire_never_mixes_two_sessions() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let guard = all(&a).acquire().await.expect("free");
    zk.disconnect(&a, Duration::from_secs(600));
    let deadline = guard.valid_until();
    let loss = soon(guard.lost()).await;
    assert_eq!(loss.reason, LossReason::SessionOver(SessionEnd::DeadlinePassed));
    assert!(Instant::now() <= deadline + Duration::from_millis(1));
    let error = guard.run(async {}).await.expect_err("lost");
    assert!(error.is_lost() && error.session_over(), "{error}");
    let ended = Released::WithSession(SessionEnd::DeadlinePassed);
    assert_eq!(guard.release().await.expect("over"), ended);

    // Its session ends while it holds the first and waits for the second.
    let bob = lock(&b, BOB).acquire().await.expect("once the session has expired");
    let c = zk.client().await;
    let waiting = waits_at(&zk, &c, BOB, 1).await;
    zk.expire(&c).await;
    bob.release().await.expect("connected");
    let error = soon(waiting).await.expect("no panic").expect_err("its session is over");
    assert!(error.session_over(), "{error}");
    until_free(&b).await;
    drop(soon(all(&c).acquire()).await.expect("in the next session"));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_acquire_leaves_nobody_in_any_line_whatever_await_it_was_at() {
    for contended in [false, true] {
        for n in 1.. {
            let zk = Coordinator::start();
            let (a, b) = (zk.client().await, zk.client().await);
            let held = match contended {
                true => Some(lock(&a, BOB).acquire().await.expect("free")),
                false => None,
            };
            let all = all(&b);
            let acquire = async {
                let (acquired, ()) = tokio::join!(all.acquire(), async {
                    sleep(Duration::from_secs(1)).await;
                    drop(held);
                });
                acquired
            };
            let done = cancel_at(n, acquire).await;
            let finished = done.is_some();
            drop(done);
            until_free(&a).await;
            soon(async {
                while b.session().cleanups_reserved() > 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
            if finished {
                assert!(n > if contended { 12 } else { 9 }, "cancelled at {n} awaits only");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn lost_replies_and_cuts_at_any_moment_end_no_acquire() {
    for after_ms in 0..24 {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let all = all(&b);
        let (guard, ()) = tokio::join!(soon(all.acquire()), async {
            sleep(Duration::from_millis(after_ms / 2)).await;
            match after_ms % 2 {
                0 => zk.lose_next_reply(&b),
                _ => zk.disconnect(&b, Duration::from_secs(1)),
            }
        });
        let guard = guard.unwrap_or_else(|error| panic!("after {after_ms}: {error}"));
        sleep(Duration::from_secs(5)).await;
        for path in [ANN, BOB, CAY] {
            assert_eq!(children(&a, path).await.len(), 1, "one contender each");
        }
        // The reply to a write is still to be lost, if none has been.
        match guard.txn().create("/done", b"").commit().await {
            Ok(_) => {}
            Err(error) => assert!(error.maybe_applied(), "{error}"),
        }
        assert_eq!(soon(guard.release()).await.expect("asked again"), Released::Confirmed);
        until_free(&a).await;
    }
}
