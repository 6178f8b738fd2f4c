//! The lock under virtual time, with faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{cancel_at, children, soon, until_children};
use futures::FutureExt;
use synod::guard::Released;
use synod::model::WatchKind;
use synod::testing::Coordinator;

use synod::{Acl, Client, Code, Error, Fence, Lock, LossReason, SessionEnd, Zxid};
use tokio::time::{Instant, sleep};

const PATH: &str = "/locks/report";

fn lock(client: &Client) -> Lock {
    Lock::new(client, PATH).expect("a valid path")
}

/// Starts an acquire and waits until its contender is in line behind `before` others.
async fn in_line(
    zk: &Coordinator,
    client: &Client,
    before: usize,
) -> tokio::task::JoinHandle<Result<synod::Guard, Error>> {
    let lock = lock(client);
    let waiting = tokio::spawn(async move { lock.acquire().await });
    until_children(&zk.client().await, PATH, before + 1).await;
    waiting
}

#[tokio::test(start_paused = true)]
async fn holders_follow_each_other_in_the_order_in_which_they_came() {
    let zk = Coordinator::start();
    let clients = [zk.client().await, zk.client().await, zk.client().await];
    let first = soon(lock(&clients[0]).acquire()).await.expect("free");
    let second = in_line(&zk, &clients[1], 1).await;
    let third = in_line(&zk, &clients[2], 2).await;
    assert!(!second.is_finished() && !third.is_finished());

    assert_eq!(first.release().await.expect("connected"), Released::Confirmed);
    let second = soon(second).await.expect("no panic").expect("its turn");
    assert!(!third.is_finished(), "one at a time");
    assert!(second.token() > first.token());
    second.release().await.expect("connected");
    let third = soon(third).await.expect("no panic").expect("its turn");
    assert!(third.token() > second.token(), "tokens grow from holder to holder");
}

#[tokio::test(start_paused = true)]
async fn a_lock_frees_its_parent_to_be_reaped() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    lock(&client).acquire().await.expect("free").release().await.expect("connected");
    assert!(client.exists(PATH).await.expect("can be asked").is_some());
    zk.reap();
    assert_eq!(client.exists(PATH).await.expect("can be asked"), None, "a container");
    drop(lock(&client).acquire().await.expect("the parent is made again"));
}

#[tokio::test(start_paused = true)]
async fn an_acquire_whose_session_dies_while_it_waits_fails_and_leaves_no_contender() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let held = lock(&a).acquire().await.expect("free");
    let waiting = in_line(&zk, &b, 1).await;
    zk.expire(&b).await;
    let error = soon(waiting).await.expect("no panic").expect_err("its session is over");
    assert!(error.session_over(), "{error}");
    until_children(&a, PATH, 1).await;
    // The next session of the same client stands for itself.
    let again = in_line(&zk, &b, 1).await;
    held.release().await.expect("connected");
    drop(soon(again).await.expect("no panic").expect("its turn"));
}

#[tokio::test(start_paused = true)]
async fn a_contender_waits_for_the_znode_of_a_dying_session_to_go() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let held = lock(&a).acquire().await.expect("free");
    zk.disconnect(&a, Duration::from_secs(600));
    let waiting = in_line(&zk, &b, 1).await;
    let loss = soon(held.lost()).await;
    let lost_at = Instant::now();
    assert!(!waiting.is_finished(), "the holder knows before the next one holds");
    let next = soon(waiting).await.expect("no panic").expect("the session expired");
    assert!(lost_at <= Instant::now() && next.token() > loss.token);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_acquire_leaves_no_contender_whatever_await_it_was_at() {
    for contended in [false, true] {
        let mut n = 0;
        loop {
            n += 1;
            let zk = Coordinator::start();
            let (a, b) = (zk.client().await, zk.client().await);
            let held = match contended {
                true => Some(lock(&a).acquire().await.expect("free")),
                false => None,
            };
            let lock = lock(&b);
            let acquire = async {
                // The holder goes when the other has been waiting for a while.
                let (acquired, ()) = tokio::join!(lock.acquire(), async {
                    sleep(Duration::from_secs(1)).await;
                    if let Some(held) = &held {
                        held.release().await.expect("connected");
                    }
                });
                acquired
            };
            let done = cancel_at(n, acquire).await;
            let finished = done.is_some();
            drop(done);
            drop(held);
            until_children(&a, PATH, 0).await;
            soon(async {
                while b.session().cleanups_reserved() > 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
            if finished {
                break;
            }
        }
        assert!(n > if contended { 6 } else { 4 }, "cancelled at {n} awaits only");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_release_releases_in_the_background() {
    for n in 1.. {
        let zk = Coordinator::start();
        let client = zk.client().await;
        let guard = lock(&client).acquire().await.expect("free");
        let done = cancel_at(n, guard.release()).await;
        drop(guard);
        until_children(&client, PATH, 0).await;
        if done.is_some() {
            assert!(n > 1, "it was cancelled at least once");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_guard_dropped_while_disconnected_is_released_when_the_connection_is_back() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let held = lock(&a).acquire().await.expect("free");
    let waiting = in_line(&zk, &b, 1).await;
    zk.disconnect(&a, Duration::from_secs(2));
    a.session().disconnected().await;
    let session = a.session().id();
    drop(held);
    drop(soon(waiting).await.expect("no panic").expect("released"));
    assert_eq!((a.session().id(), a.session().end()), (session, None), "in the same session");
}

#[tokio::test(start_paused = true)]
async fn a_release_while_disconnected_waits_and_is_confirmed() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let held = lock(&a).acquire().await.expect("free");
    zk.disconnect(&a, Duration::from_secs(2));
    a.session().disconnected().await;
    assert_eq!(soon(held.release()).await.expect("back in time"), Released::Confirmed);
    assert!(children(&b, PATH).await.is_empty());
    assert_eq!(held.release().await.expect("idempotent"), Released::Confirmed);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_cannot_reach_anyone_ends_with_the_session() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let held = lock(&client).acquire().await.expect("free");
    zk.disconnect(&client, Duration::from_secs(600));
    client.session().disconnected().await;
    let released = soon(held.release()).await.expect("no refusal");
    assert_eq!(released, Released::WithSession(SessionEnd::DeadlinePassed));
}

#[tokio::test(start_paused = true)]
async fn a_predecessor_that_vanishes_between_list_and_watch_is_noticed() {
    // The release falls on every millisecond of the acquire; among them is the one between its
    // list and its watch, whose request is on the way then.
    let mut watched_none = 0;
    for release_after_ms in 0..12 {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let held = lock(&a).acquire().await.expect("free");
        let path = held.path().clone();
        let lock = lock(&b);
        let (guard, listed) = tokio::join!(soon(lock.acquire()), async {
            sleep(Duration::from_millis(release_after_ms)).await;
            let listed = children(&b, PATH).await.len();
            drop(held);
            listed
        });
        let guard = guard.expect("its turn");
        assert!(guard.token() > Zxid::ZERO && *guard.path() != path);
        watched_none += usize::from(listed == 2);
    }
    assert!(watched_none > 3, "the release came while the other was in line");
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_sequence_is_refused_by_name() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    lock(&client).acquire().await.expect("free").release().await.expect("connected");
    zk.set_sequence(PATH, i32::MAX).expect("it exists");
    let error = lock(&client).acquire().await.expect_err("no suffix is left");
    assert!(matches!(&error, Error::SequenceExhausted { path, .. } if &**path == PATH), "{error}");
    assert!(children(&client, PATH).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_parent_whose_sequence_has_come_far_begins_anew_when_it_is_empty() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    lock(&client).acquire().await.expect("free").release().await.expect("connected");
    zk.set_sequence(PATH, i32::MAX - 1).expect("it exists");
    let last = lock(&client).acquire().await.expect("the last suffix");
    assert!(last.path().ends_with("2147483646"));
    last.release().await.expect("connected");
    let next = lock(&client).acquire().await.expect("the sequence begins anew");
    assert!(next.path().ends_with("0000000000") && next.token() > last.token());
}

#[tokio::test(start_paused = true)]
async fn two_guards_of_one_session_exclude_each_other() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let first = lock(&client).acquire().await.expect("free");
    let waiting = in_line(&zk, &client, 1).await;
    assert!(lock(&client).try_acquire().await.expect("can be tried").is_none());
    assert!(!waiting.is_finished(), "the same session is not the same owner");
    first.release().await.expect("connected");
    let second = soon(waiting).await.expect("no panic").expect("its turn");
    assert!(second.token() > first.token());
}

#[test]
fn a_guard_dropped_outside_a_runtime_releases() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let client = runtime.block_on(Client::connect("embedded:")).expect("embedded");
    let guard = runtime.block_on(lock(&client).acquire()).expect("free");
    drop(runtime);
    drop(guard);
    let left = futures::executor::block_on(children(&client, PATH));
    assert!(left.is_empty(), "released by the drop itself");
}

#[tokio::test(start_paused = true)]
async fn a_guard_dropped_on_a_foreign_thread_releases_through_its_client() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let guard = lock(&client).acquire().await.expect("free");
    std::thread::spawn(move || drop(guard)).join().expect("the drop does not panic");
    until_children(&client, PATH, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_the_create_makes_no_second_contender() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let first = lock(&client).acquire().await.expect("free");
    first.release().await.expect("connected");
    zk.lose_next_reply(&client);
    let guard = soon(lock(&client).acquire()).await.expect("found again by its id");
    assert_eq!(children(&client, PATH).await, [guard.path().name()]);
    let (_, stat) = client.get(guard.path()).await.expect("it is there");
    assert_eq!((stat.czxid, stat.ephemeral_owner), (guard.token(), Some(client.session().id())));
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_the_first_create_of_all_makes_no_second_contender() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    // The first create finds no parent; the replies to the writes after it are lost in turn.
    let lock = lock(&client);
    let (guard, ()) = tokio::join!(soon(lock.acquire()), async {
        for _ in 0..3 {
            zk.lose_next_reply(&client);
            client.session().disconnected().await;
            client.session().connected().await;
        }
    });
    let guard = guard.expect("found again by its id");
    assert_eq!(children(&client, PATH).await, [guard.path().name()]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_the_release_is_no_loss_and_no_hang() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let guard = lock(&client).acquire().await.expect("free");
    zk.lose_next_reply(&client);
    assert_eq!(soon(guard.release()).await.expect("asked again"), Released::Confirmed);
    assert!(children(&client, PATH).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn loss_is_signalled_at_the_deadline_though_nobody_can_be_reached() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let guard = lock(&client).acquire().await.expect("free");
    assert!(guard.session().deadline_is_proof());
    zk.disconnect(&client, Duration::from_secs(600));
    let deadline = guard.valid_until();
    let loss = soon(guard.lost()).await;
    assert_eq!(loss.reason, LossReason::SessionOver(SessionEnd::DeadlinePassed));
    let late = Instant::now().saturating_duration_since(deadline);
    assert!(late <= Duration::from_millis(1), "{late:?} after the deadline");
    let error = guard.txn().create("/x", b"").commit().await.expect_err("lost");
    assert!(error.is_lost(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_guarded_transaction_is_done_only_while_the_guard_is_held() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    a.create("/report", b"").await.expect("new");
    let guard = lock(&a).acquire().await.expect("free");
    let done = guard.txn().set("/report", b"1").create("/done", b"").commit().await;
    assert_eq!(done.expect("held").len(), 2, "the guard's own check is not shown");
    let error = guard.txn().set("/report", b"2").delete("/none").commit().await;
    let error = error.expect_err("no such znode");
    assert!(
        matches!(&error, Error::Client(synod::model::Error::Refused { index: Some(1), .. })),
        "{error:?}"
    );

    b.delete(guard.path()).await.expect("forced");
    let error = guard.txn().set("/report", b"3").commit().await.expect_err("not held");
    assert!(error.is_lost() && !error.session_over(), "{error}");
    assert_eq!(b.get("/report").await.expect("it is there").0, &b"1"[..], "nothing half done");
    assert_eq!(soon(guard.lost()).await.reason, LossReason::Removed);
}

#[tokio::test(start_paused = true)]
async fn work_is_dropped_at_its_next_await_when_the_lock_is_lost() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let guard = lock(&client).acquire().await.expect("free");
    let steps = Arc::new(AtomicUsize::new(0));
    let work = async {
        loop {
            steps.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_secs(1)).await;
        }
    };
    let (outcome, ()) = tokio::join!(guard.run::<()>(work), async {
        sleep(Duration::from_millis(2_500)).await;
        zk.expire(&client).await;
    });
    assert!(outcome.expect_err("lost").is_lost());
    assert_eq!(steps.load(Ordering::Relaxed), 3, "it stopped where it waited");
    assert_eq!(guard.run(async { 7 }).await.ok(), None, "loss is looked at first");
}

#[tokio::test(start_paused = true)]
async fn blocking_code_is_not_stopped_and_has_to_be_fenced() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let resource = Fence::new();
    let guard = lock(&client).acquire().await.expect("free");
    let ran = guard.run(async {
        // Without an await in between: the session ends, and the next holder writes.
        zk.disconnect(&client, Duration::from_secs(600));
        zk.expire(&client).now_or_never().expect("the client cannot be told");
        let next = zk.last_zxid();
        resource.admit(next).expect("the present holder");
        // The old holder's code goes on, and believes to hold.
        (next, resource.admit(guard.token()))
    });
    let (next, written) = ran.await.expect("it has not heard yet");
    let stale = written.expect_err("the resource knows better");
    assert_eq!((stale.token, stale.highest), (guard.token(), next));
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_times_out_holds_nothing_and_leaves_nobody_in_line() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let _held = lock(&a).acquire().await.expect("free");
    let limit = Duration::from_secs(3);
    let error = lock(&b).acquire_within(limit).await.expect_err("held by another");
    assert!(matches!(&error, Error::TimedOut { waited, .. } if *waited == limit), "{error}");
    until_children(&a, PATH, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_foreign_child_wedges_nobody() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    client.create("/locks", b"").await.expect("new");
    client.create(PATH, b"").await.expect("new");
    for name in ["readme", "_c_x-lock-0000000000", "lock-0000000000", "-lock-"] {
        client.create(format!("{PATH}/{name}"), b"").await.expect("new");
    }
    drop(soon(lock(&client).acquire()).await.expect("nobody holds"));
}

#[tokio::test(start_paused = true)]
async fn a_lock_in_a_namespace_stays_in_it() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let app = client.namespace("/app").expect("valid");
    let guard = lock(&app).acquire().await.expect("free");
    assert_eq!(children(&client, "/app/locks/report").await, [guard.path().name()]);
    guard.txn().create("/done", b"").commit().await.expect("held");
    assert!(client.exists("/app/done").await.expect("can be asked").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_guard_keeps_its_client_alive_and_the_last_one_ends_the_session() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let guard = lock(&a).acquire().await.expect("free");
    drop(a);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(children(&b, PATH).await.len(), 1, "held by pings of its session");
    drop(guard);
    until_children(&b, PATH, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_path_is_refused_by_name() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let error = Lock::new(&client, "locks/report").expect_err("no slash").to_string();
    assert!(error.contains("\"locks/report\"") && error.contains("begins with /"), "{error}");
    let error = client.get("/none").await.expect_err("not there");
    assert!(error.is(Code::NoNode) && error.to_string().contains("\"/none\""), "{error}");
}

/// The names of the contenders, first in line first.
async fn line(client: &Client) -> Vec<String> {
    let mut names = children(client, PATH).await;
    names.sort_by_key(|name| name[name.len() - 10..].to_owned());
    names
}

#[tokio::test(start_paused = true)]
async fn each_in_line_watches_the_one_just_before_alone() {
    let zk = Coordinator::start();
    let clients = [zk.client().await, zk.client().await, zk.client().await];
    let _held = lock(&clients[0]).acquire().await.expect("free");
    let _second = in_line(&zk, &clients[1], 1).await;
    let _third = in_line(&zk, &clients[2], 2).await;
    let line = line(&clients[0]).await;
    soon(async {
        while zk.watch_count() < 2 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    for (watcher, client) in clients.iter().enumerate() {
        for (place, name) in line.iter().enumerate() {
            let watched = client.has_watch(format!("{PATH}/{name}"), WatchKind::Any).await;
            assert_eq!(watched.expect("connected"), place + 1 == watcher, "{watcher}, {place}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_gives_up_in_the_middle_of_the_line_lets_nobody_hold() {
    let zk = Coordinator::start();
    let clients = [zk.client().await, zk.client().await, zk.client().await];
    let held = lock(&clients[0]).acquire().await.expect("free");
    let second = in_line(&zk, &clients[1], 1).await;
    let third = in_line(&zk, &clients[2], 2).await;
    sleep(Duration::from_secs(1)).await;
    second.abort();
    until_children(&clients[0], PATH, 2).await;
    sleep(Duration::from_secs(60)).await;
    assert!(!third.is_finished(), "the first one holds");
    held.release().await.expect("connected");
    drop(soon(third).await.expect("no panic").expect("its turn"));
}

#[tokio::test(start_paused = true)]
async fn one_whose_znode_is_deleted_while_it_waits_never_holds() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let held = lock(&a).acquire().await.expect("free");
    let waiting = in_line(&zk, &b, 1).await;
    let name = line(&a).await.pop().expect("two in line");
    a.delete(format!("{PATH}/{name}")).await.expect("forced");
    held.release().await.expect("connected");
    let error = soon(waiting).await.expect("no panic").expect_err("no longer in line");
    assert!(error.is_lost() && !error.session_over(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_ends_no_wait_whatever_request_it_falls_on() {
    for cut_after_ms in 0..15 {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let held = lock(&a).acquire().await.expect("free");
        let lock = lock(&b);
        let (guard, ()) = tokio::join!(soon(lock.acquire()), async {
            sleep(Duration::from_millis(cut_after_ms)).await;
            zk.disconnect(&b, Duration::from_secs(1));
            sleep(Duration::from_secs(5)).await;
            assert_eq!(children(&a, PATH).await.len(), 2, "one contender each");
            held.release().await.expect("connected");
        });
        drop(guard.unwrap_or_else(|error| panic!("cut after {cut_after_ms} ms: {error}")));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_may_not_read_its_predecessor_looks_again_by_itself() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    a.add_auth("digest", b"ann:secret").await.expect("any digest is accepted");
    // It can be read and watched at first, and no longer when it goes: of that nothing is told.
    let held = lock(&a).acquire().await.expect("free");
    let waiting = in_line(&zk, &b, 1).await;
    sleep(Duration::from_secs(1)).await;
    a.set_acl(held.path(), Acl::creator()).await.expect("its own");
    held.release().await.expect("connected");
    let guard = soon(waiting).await.expect("no panic").expect("its turn");
    guard.release().await.expect("connected");
    // It cannot be watched from the beginning.
    let held = lock(&a).acquire().await.expect("free");
    a.set_acl(held.path(), Acl::creator()).await.expect("its own");
    let waiting = in_line(&zk, &b, 1).await;
    sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished(), "it waits all the same");
    held.release().await.expect("connected");
    drop(soon(waiting).await.expect("no panic").expect("its turn"));
}

#[tokio::test(start_paused = true)]
async fn a_guard_whose_znode_is_written_to_is_still_held() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let guard = lock(&a).acquire().await.expect("free");
    let (done, ()) = tokio::join!(guard.run(sleep(Duration::from_secs(5))), async {
        sleep(Duration::from_secs(1)).await;
        b.set(guard.path(), b"a note").await.expect("it is there");
    });
    done.expect("held all along");
    guard.txn().create("/done", b"").commit().await.expect("held");
}

#[tokio::test(start_paused = true)]
async fn the_token_is_the_zxid_of_the_creation_though_the_znode_was_written_to_since() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    lock(&a).acquire().await.expect("free").release().await.expect("connected");
    // The reply with the Stat of the creation is lost, and the znode set before it is found.
    zk.lose_next_reply(&a);
    let lock = lock(&a);
    let (guard, ()) = tokio::join!(soon(lock.acquire()), async {
        until_children(&b, PATH, 1).await;
        let name = line(&b).await.pop().expect("in line");
        b.set(format!("{PATH}/{name}"), b"a note").await.expect("it is there");
    });
    let guard = guard.expect("found again by its id");
    let (_, stat) = b.get(guard.path()).await.expect("it is there");
    assert!(stat.mzxid > stat.czxid && guard.token() == stat.czxid, "{:?}", guard.token());
}

#[tokio::test(start_paused = true)]
async fn work_does_not_begin_under_a_guard_that_was_released_or_removed() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let began = AtomicUsize::new(0);
    let work = || async { began.fetch_add(1, Ordering::Relaxed) };
    let guard = lock(&a).acquire().await.expect("free");
    guard.release().await.expect("connected");
    assert!(guard.run(work()).await.expect_err("released").is_lost());
    assert_eq!(soon(guard.lost()).await.reason, LossReason::Removed);

    let guard = lock(&a).acquire().await.expect("free");
    b.delete(guard.path()).await.expect("forced");
    assert!(guard.run(work()).await.expect_err("removed").is_lost());
    assert_eq!(began.load(Ordering::Relaxed), 0);
}
