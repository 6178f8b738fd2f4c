//! A lock that its owner enters again, under virtual time.

use std::time::Duration;

use crate::common::{cancel_at, children, soon, until_children};
use synod::guard::Released;
use synod::lock::Reentrant;
use synod::testing::Coordinator;
use synod::{Client, Error, Lock, LossReason};
use tokio::time::sleep;

const PATH: &str = "/locks/report";

fn lock(client: &Client) -> Lock {
    Lock::new(client, PATH).expect("a valid path")
}

async fn until_unused(client: &Client) {
    soon(async {
        while client.session().cleanups_reserved() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_enters_again_and_its_last_exit_releases() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let owner = lock(&a).reentrant();
    let outer = owner.enter().await.expect("free");
    let inner = soon(owner.clone().enter()).await.expect("a clone is the same owner");
    let third = owner.try_enter().await.expect("can be tried").expect("it is in");
    assert_eq!((outer.token(), inner.path()), (inner.token(), outer.path()));
    assert_eq!((owner.entries(), children(&b, PATH).await.len()), (3, 1), "one znode for all");
    assert!(lock(&b).try_acquire().await.expect("can be tried").is_none());

    // In any order; whether by an exit or a drop.
    assert_eq!(outer.exit().await.expect("no request"), None, "others are in");
    drop(third);
    inner.txn().create("/report", b"").commit().await.expect("it is held");
    assert_eq!(inner.exit().await.expect("connected"), Some(Released::Confirmed));
    assert_eq!(owner.entries(), 0);
    let next = lock(&b).try_acquire().await.expect("can be tried").expect("it was released");

    let again = tokio::spawn(async move { owner.enter().await });
    until_children(&b, PATH, 2).await;
    next.release().await.expect("connected");
    let again = soon(again).await.expect("no panic").expect("its turn");
    assert!(again.token() > next.token(), "a new holding");
    drop(again);
    until_children(&b, PATH, 0).await;
}

#[tokio::test(start_paused = true)]
async fn two_owners_of_one_lock_exclude_each_other() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let lock = lock(&client);
    let (one, other) = (lock.reentrant(), lock.reentrant());
    let entry = one.enter().await.expect("free");
    assert!(other.try_enter().await.expect("can be tried").is_none());
    assert!(lock.try_acquire().await.expect("can be tried").is_none());
    entry.exit().await.expect("connected");
    drop(other.enter().await.expect("free"));
}

#[tokio::test(start_paused = true)]
async fn those_who_enter_together_share_one_place_in_line() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let held = lock(&b).acquire().await.expect("free");
    let owner = lock(&a).reentrant();
    let enter = |owner: Reentrant| tokio::spawn(async move { owner.enter().await });
    let (first, second) = (enter(owner.clone()), enter(owner.clone()));
    until_children(&b, PATH, 2).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(children(&b, PATH).await.len(), 2, "the second does not wait in line itself");
    assert!(owner.try_enter().await.expect("nothing is asked").is_none());
    held.release().await.expect("connected");
    let first = soon(first).await.expect("no panic").expect("its turn");
    let second = soon(second).await.expect("no panic").expect("it is in");
    assert_eq!(first.token(), second.token());

    // If the one that waits in line gives up, the other asks for itself.
    assert_eq!(first.exit().await.expect("no request"), None);
    second.exit().await.expect("connected");
    let held = lock(&b).acquire().await.expect("free");
    let first = enter(owner.clone());
    until_children(&b, PATH, 2).await;
    let second = enter(owner.clone());
    sleep(Duration::from_secs(1)).await;
    first.abort();
    sleep(Duration::from_secs(1)).await;
    until_children(&b, PATH, 2).await;
    held.release().await.expect("connected");
    drop(soon(second).await.expect("no panic").expect("its turn"));
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_seen_by_all_entries_and_nobody_enters_what_is_lost() {
    for expires in [false, true] {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let owner = lock(&a).reentrant();
        let (outer, inner) = (owner.enter().await.expect("free"), owner.enter().await.expect("in"));
        match expires {
            true => zk.expire(&a).await,
            false => {
                let holder = lock(&b).holder().await.expect("can be asked").expect("held");
                assert!(lock(&b).force_release(&holder).await.expect("allowed"));
            }
        }
        for entry in [&outer, &inner] {
            let loss = soon(entry.lost()).await;
            let removed = loss.reason == LossReason::Removed;
            assert!(removed != expires && loss.token == outer.token(), "{loss}");
            let error = entry.txn().create("/report", b"").commit().await.expect_err("lost");
            assert!(error.is_lost(), "{error}");
        }
        drop(outer);
        let error = owner.enter().await.expect_err("not as long as one is in");
        assert!(matches!(&error, Error::Lost(loss) if loss.token == inner.token()), "{error}");
        assert!(owner.try_enter().await.expect_err("nor by a try").is_lost());
        let lost = inner.token();
        inner.exit().await.expect("nothing is left to release");
        let entry = owner.enter().await.expect("all are out");
        assert!(entry.token() > lost);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_to_let_go_is_seen_by_all_entries() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let owner = lock(&a).reentrant();
    let (outer, inner) = (owner.enter().await.expect("free"), owner.enter().await.expect("in"));
    let holder = lock(&b).holder().await.expect("can be asked").expect("held");
    lock(&b).revoke_request(&holder).await.expect("allowed").expect("it holds");
    for entry in [&outer, &inner] {
        assert_eq!(soon(entry.revocation_requested()).await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_enter_leaves_nothing_behind_whatever_await_it_was_at() {
    for tried in [false, true] {
        for n in 1.. {
            let zk = Coordinator::start();
            let (a, b) = (zk.client().await, zk.client().await);
            let owner = lock(&a).reentrant();
            let held = match tried {
                true => None,
                false => Some(lock(&b).acquire().await.expect("free")),
            };
            let entering = async {
                if tried {
                    return owner.try_enter().await.map(|_| ());
                }
                let release = async {
                    sleep(Duration::from_secs(1)).await;
                    held.as_ref().expect("not tried").release().await.expect("connected");
                };
                tokio::join!(owner.enter(), release).0.map(|_| ())
            };
            let done = cancel_at(n, entering).await;
            drop(held);
            until_children(&b, PATH, 0).await;
            until_unused(&a).await;
            assert_eq!(owner.entries(), 0);
            drop(soon(owner.enter()).await.expect("the owner can enter"));
            if done.is_some() {
                assert!(n > 4, "cancelled at {n} awaits only");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_enter_of_one_that_is_in_leaves_it_in() {
    for n in 1.. {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let owner = lock(&a).reentrant();
        let outer = owner.enter().await.expect("free");
        let done = cancel_at(n, owner.enter()).await;
        let finished = done.is_some();
        drop(done);
        assert_eq!(owner.entries(), 1);
        outer.txn().create("/report", b"").commit().await.expect("it is held");
        let exited = cancel_at(n, outer.exit()).await;
        drop(exited);
        until_children(&b, PATH, 0).await;
        until_unused(&a).await;
        if finished {
            assert!(n > 1, "cancelled at least once");
            break;
        }
    }
}
