//! Who holds a lock and who waits for it, under virtual time.

use std::time::Duration;

use crate::common::{cancel_at, soon, until_children};
use synod::lock::Owner;
use synod::testing::Coordinator;
use synod::{Client, Error, Guard, Lock, LossReason, RwLock};
use tokio::time::sleep;

const PATH: &str = "/locks/report";

fn lock(client: &Client, label: &str) -> Lock {
    Lock::new(client, PATH).expect("a valid path").with_label(label)
}

async fn in_line(
    client: &Client,
    label: &str,
    before: usize,
) -> tokio::task::JoinHandle<Result<Guard, Error>> {
    let lock = lock(client, label);
    let waiting = tokio::spawn(async move { lock.acquire().await });
    until_children(client, PATH, before + 1).await;
    waiting
}

fn labels(owners: &[Owner]) -> Vec<&str> {
    owners.iter().map(|owner| owner.label.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn holder_and_waiters_are_told_with_what_they_say_of_themselves() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let anybody = lock(&b, "onlooker");
    assert_eq!(anybody.holder().await.expect("can be asked"), None, "there is no znode at all");
    assert_eq!(anybody.waiters().await.expect("can be asked"), []);

    let held = lock(&a, "nightly report").acquire().await.expect("free");
    let holder = anybody.holder().await.expect("can be asked").expect("it is held");
    assert_eq!((&holder.path, holder.token), (held.path(), held.token()));
    assert_eq!(holder.session, Some(a.session().id()));
    assert_eq!((holder.pid, holder.label.as_str()), (Some(std::process::id()), "nightly report"));
    assert!(!holder.host.is_empty());
    let stat = b.exists(held.path()).await.expect("can be asked").expect("held");
    assert_eq!((holder.since_ms, holder.version), (stat.ctime_ms, 0));
    assert_eq!(anybody.waiters().await.expect("can be asked"), [], "the holder does not wait");

    let second = in_line(&b, "second", 1).await;
    let third = in_line(&a, "", 2).await;
    let waiters = anybody.waiters().await.expect("can be asked");
    assert_eq!(labels(&waiters), ["second", ""], "in the order in which they came");
    assert!(waiters[0].token > holder.token && waiters[1].token > waiters[0].token);

    held.release().await.expect("connected");
    let second = soon(second).await.expect("no panic").expect("its turn");
    let holder = anybody.holder().await.expect("can be asked").expect("it is held");
    assert_eq!((holder.label.as_str(), holder.token), ("second", second.token()));
    drop(second);
    drop(soon(third).await.expect("no panic").expect("its turn"));
    until_children(&a, PATH, 0).await;
    assert_eq!(anybody.holder().await.expect("can be asked"), None, "nobody, under an empty znode");
}

#[tokio::test(start_paused = true)]
async fn what_others_say_in_another_form_is_unknown() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    a.create("/locks", b"").await.expect("new");
    a.create(PATH, b"").await.expect("new");
    let stem = format!("{PATH}/_c_00000000-0000-4000-8000-000000000000-lock-");
    for data in [&b"\xFF{\"host\":"[..], b"10.0.0.7"] {
        a.create(&stem, data).ephemeral().sequential().await.expect("new");
    }

    let looking = lock(&b, "");
    let mut owners = Vec::from_iter(looking.holder().await.expect("no error"));
    owners.extend(looking.waiters().await.expect("no error"));
    assert_eq!(owners.len(), 2);
    for owner in owners {
        let Owner { host, pid, label, session, .. } = owner;
        assert_eq!((host.as_str(), pid, label.as_str()), ("unknown", None, ""));
        assert_eq!(session, Some(a.session().id()), "the coordinator says that");
    }
}

#[tokio::test(start_paused = true)]
async fn a_labelled_acquire_that_is_cancelled_leaves_nobody_in_line() {
    for n in 1.. {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let done = cancel_at(n, lock(&a, "nightly report").try_acquire()).await;
        let finished = done.is_some();
        drop(done);
        until_children(&b, PATH, 0).await;
        assert_eq!(lock(&b, "").holder().await.expect("can be asked"), None);
        if finished {
            assert!(n > 4, "cancelled at {n} awaits only");
            break;
        }
    }
}

fn index(client: &Client, label: &str) -> RwLock {
    RwLock::new(client, PATH).expect("a valid path").with_label(label)
}

fn shown(owners: &[Owner]) -> Vec<(&str, bool)> {
    owners.iter().map(|owner| (owner.label.as_str(), owner.shares)).collect()
}

#[tokio::test(start_paused = true)]
async fn those_who_hold_a_read_write_lock_are_told_apart_from_those_who_wait() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let anybody = index(&b, "");
    assert_eq!(anybody.holders().await.expect("can be asked"), []);
    let first = index(&a, "r0").read().await.expect("free");
    let second = index(&b, "r1").read().await.expect("readers share");
    let writer = index(&a, "w2");
    let writer = tokio::spawn(async move { writer.write().await });
    until_children(&b, PATH, 3).await;
    let later = index(&b, "r3");
    let later = tokio::spawn(async move { later.read().await });
    until_children(&b, PATH, 4).await;
    b.create(format!("{PATH}/readme"), b"").await.expect("new");
    let holders = anybody.holders().await.expect("can be asked");
    assert_eq!(shown(&holders), [("r0", true), ("r1", true)]);
    let waiters = anybody.waiters().await.expect("can be asked");
    assert_eq!(shown(&waiters), [("w2", false), ("r3", true)], "it does not overtake");

    drop((first, second));
    let writer = soon(writer).await.expect("no panic").expect("its turn");
    let holders = anybody.holders().await.expect("can be asked");
    assert_eq!(shown(&holders), [("w2", false)]);
    assert_eq!(holders[0].token, writer.token());
    drop(writer);
    drop(soon(later).await.expect("no panic").expect("its turn"));
}

#[tokio::test(start_paused = true)]
async fn a_request_stays_with_a_reader_or_writer_that_changes_at_that_very_moment() {
    for asked_after_ms in 0..12 {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let writing = index(&a, "rebuild").write().await.expect("free");
        let owner = index(&b, "").holders().await.expect("can be asked").pop().expect("held");
        let operator = index(&b, "");
        let (changed, asked) = tokio::join!(writing.downgrade(), async {
            sleep(Duration::from_millis(asked_after_ms)).await;
            operator.revoke_request(&owner).await.expect("allowed")
        });
        let reading = changed.expect("held");
        let seen = tokio::time::timeout(Duration::from_secs(5), reading.revocation_requested());
        // It came before the change, and stays; or the one that was shown was gone by then.
        assert_eq!(seen.await.is_ok(), asked.is_some(), "after {asked_after_ms} ms");
        let now = index(&b, "").holders().await.expect("can be asked");
        assert_eq!(shown(&now), [("rebuild", true)], "it says who it is all the same");
        let writing = reading.upgrade().await.expect("alone");
        let now = index(&b, "").holders().await.expect("can be asked").pop().expect("held");
        assert_eq!((now.revocation_requested, now.shares), (asked.is_some(), false));
        assert!(index(&b, "").force_release(&now).await.expect("allowed"));
        assert_eq!(soon(writing.lost()).await.reason, LossReason::Removed);
    }
}
