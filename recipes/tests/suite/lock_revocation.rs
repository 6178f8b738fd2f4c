//! Holders that are asked to let go, or made to, under virtual time.

use std::time::Duration;

use crate::common::{cancel_at, soon, until_children};
use synod::lock::Owner;
use synod::testing::Coordinator;
use synod::{Client, Code, Error, Guard, Lock, LossReason};
use tokio::time::sleep;

const PATH: &str = "/locks/report";

fn lock(client: &Client) -> Lock {
    Lock::new(client, PATH).expect("a valid path").with_label("report")
}

async fn holder(client: &Client) -> Owner {
    lock(client).holder().await.expect("can be asked").expect("it is held")
}

async fn in_line(client: &Client, before: usize) -> tokio::task::JoinHandle<Result<Guard, Error>> {
    let lock = lock(client);
    let waiting = tokio::spawn(async move { lock.acquire().await });
    until_children(client, PATH, before + 1).await;
    waiting
}

/// Whether the guard has been asked to let go, without waiting for long.
async fn asked(guard: &Guard) -> bool {
    let limit = Duration::from_secs(5);
    tokio::time::timeout(limit, guard.revocation_requested()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_asked_to_let_go_sees_it_and_makes_way() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let held = lock(&a).acquire().await.expect("free");
    let next = in_line(&b, 1).await;
    assert!(!asked(&held).await, "nobody has asked");
    let shown = holder(&b).await;
    assert!(!shown.revocation_requested);

    let asking = lock(&b);
    let (seen, owner) =
        tokio::join!(soon(held.revocation_requested()), asking.revoke_request(&shown));
    assert_eq!(seen, Ok(()));
    let owner = owner.expect("allowed").expect("it holds");
    assert_eq!(owner, holder(&b).await, "as it stands now");
    assert!(owner.revocation_requested && owner.version == shown.version + 1);
    assert_eq!((owner.label.as_str(), owner.pid), ("report", shown.pid), "it is still known");
    assert!(asked(&held).await, "a request stays");
    assert!(!next.is_finished(), "it is a wish: the lock is held");
    held.txn().create("/report", b"").commit().await.expect("held");

    held.release().await.expect("connected");
    let next = soon(next).await.expect("no panic").expect("its turn");
    assert!(!asked(&next).await, "it was the other who was asked");
}

#[tokio::test(start_paused = true)]
async fn a_request_to_one_that_waits_is_seen_when_it_holds() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let held = lock(&a).acquire().await.expect("free");
    let next = in_line(&b, 1).await;
    let waiter = lock(&a).waiters().await.expect("can be asked").pop().expect("one waits");
    lock(&a).revoke_request(&waiter).await.expect("allowed").expect("it is there");
    held.release().await.expect("connected");
    let next = soon(next).await.expect("no panic").expect("its turn");
    assert!(asked(&next).await);
}

#[tokio::test(start_paused = true)]
async fn asking_twice_or_without_a_reply_asks_once() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let held = lock(&a).acquire().await.expect("free");
    let shown = holder(&b).await;
    zk.lose_next_reply(&b);
    let first = soon(lock(&b).revoke_request(&shown)).await.expect("asked again");
    let again = lock(&b).revoke_request(&shown).await.expect("allowed");
    assert_eq!((first.as_ref().map(|owner| owner.version), &first), (Some(1), &again));
    held.release().await.expect("connected");
    assert_eq!(lock(&b).revoke_request(&shown).await.expect("no error"), None, "it is gone");
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_request_ends_with_the_guard() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let held = lock(&a).acquire().await.expect("free");
    let shown = holder(&b).await;
    let operator = lock(&b);
    let (seen, forced) =
        tokio::join!(soon(held.revocation_requested()), operator.force_release(&shown));
    assert!(forced.expect("allowed"));
    assert_eq!(seen.expect_err("nobody has asked").reason, LossReason::Removed);

    let held = lock(&a).acquire().await.expect("free");
    let (seen, ()) = tokio::join!(soon(held.revocation_requested()), async {
        sleep(Duration::from_secs(1)).await;
        zk.expire(&a).await;
    });
    assert!(matches!(seen.expect_err("lost").reason, LossReason::SessionOver(_)));
}

#[tokio::test(start_paused = true)]
async fn a_request_is_seen_after_a_broken_connection() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let held = lock(&a).acquire().await.expect("free");
    let shown = holder(&b).await;
    let (seen, ()) = tokio::join!(soon(held.revocation_requested()), async {
        sleep(Duration::from_secs(1)).await;
        zk.disconnect(&a, Duration::from_secs(2));
        a.session().disconnected().await;
        lock(&b).revoke_request(&shown).await.expect("allowed").expect("it holds");
    });
    assert_eq!(seen, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_for_a_request_changes_nothing() {
    for n in 1.. {
        let zk = Coordinator::start();
        let client = zk.client().await;
        let held = lock(&client).acquire().await.expect("free");
        let shown = holder(&client).await;
        let wait = async {
            let asking = async {
                sleep(Duration::from_secs(1)).await;
                lock(&client).revoke_request(&shown).await.expect("allowed").expect("it holds");
            };
            tokio::join!(held.revocation_requested(), asking).0
        };
        let done = cancel_at(n, wait).await;
        held.txn().create("/report", b"").commit().await.expect("it is held");
        if let Some(seen) = done {
            assert_eq!(seen, Ok(()));
            assert!(n > 3, "cancelled at {n} awaits only");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_forced_release_reaches_the_holder_as_a_loss_and_lets_the_next_one_hold() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let held = lock(&a).acquire().await.expect("free");
    let next = in_line(&b, 1).await;
    let shown = holder(&b).await;
    zk.lose_next_reply(&b);
    let work = held.run(std::future::pending::<()>());
    let operator = lock(&b);
    let (work, forced) = tokio::join!(soon(work), soon(operator.force_release(&shown)));
    assert!(forced.expect("allowed"), "though the reply was lost");
    assert!(work.expect_err("the work is dropped").is_lost());
    assert_eq!(soon(held.lost()).await.reason, LossReason::Removed);
    let error = held.txn().create("/report", b"").commit().await.expect_err("not held");
    assert!(error.is_lost(), "{error}");
    let next = soon(next).await.expect("no panic").expect("its turn");
    assert!(next.token() > shown.token);
    assert!(!lock(&b).force_release(&shown).await.expect("no error"), "it is gone already");
}

#[tokio::test(start_paused = true)]
async fn a_forced_release_takes_its_place_from_one_that_waits() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let held = lock(&a).acquire().await.expect("free");
    let next = in_line(&b, 1).await;
    let waiter = lock(&a).waiters().await.expect("can be asked").pop().expect("one waits");
    assert!(lock(&a).force_release(&waiter).await.expect("allowed"));
    sleep(Duration::from_secs(60)).await;
    drop(held);
    let error = soon(next).await.expect("no panic").expect_err("it has no place");
    assert!(error.is_lost(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn nobody_but_the_one_shown_is_released_by_force() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let held = lock(&a).acquire().await.expect("free");
    let shown = holder(&b).await;
    let asked = lock(&b).revoke_request(&shown).await.expect("allowed").expect("it holds");
    let error = lock(&b).force_release(&shown).await.expect_err("it was written to since");
    assert!(matches!(&error, Error::Client(error) if error.is(Code::BadVersion)), "{error}");
    assert!(error.to_string().contains(&*shown.path), "{error}");
    held.txn().create("/report", b"").commit().await.expect("still held");

    // Another znode of that name, at that version: not the one that was shown.
    held.release().await.expect("connected");
    a.create(&shown.path, b"").await.expect("new");
    a.set(&shown.path, b"").await.expect("it is there");
    assert!(!lock(&b).force_release(&asked).await.expect("no error"));
    assert_eq!(lock(&b).revoke_request(&asked).await.expect("no error"), None);
    let stat = a.exists(&shown.path).await.expect("can be asked").expect("left alone");
    assert_eq!(stat.version, 1);

    let other = Lock::new(&b, "/locks").expect("a valid path");
    for refused in
        [other.force_release(&asked).await.map(drop), other.revoke_request(&asked).await.map(drop)]
    {
        let error = refused.expect_err("of another lock").to_string();
        assert!(error.contains(&*asked.path) && error.contains("/locks"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_understood_between_curator_and_this() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let held = lock(&a).acquire().await.expect("free");
    b.set(held.path(), b"__REVOKE__").await.expect("as Curator's Revoker does");
    assert!(asked(&held).await && holder(&b).await.revocation_requested);
    held.release().await.expect("connected");

    let stem = format!("{PATH}/_c_00000000-0000-4000-8000-000000000000-lock-");
    let foreign = a.create(&stem, b"10.0.0.7").ephemeral().sequential().await.expect("new");
    let asked = lock(&b).revoke_request(&holder(&b).await).await.expect("allowed");
    assert!(asked.expect("it holds").revocation_requested);
    assert_eq!(a.get(&foreign).await.expect("it is there").0, &b"__REVOKE__"[..]);
}
