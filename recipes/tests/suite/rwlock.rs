//! The read/write lock under virtual time, with faults.

use std::time::Duration;

use crate::common::{cancel_at, children, soon, until_children};
use synod::guard::Released;
use synod::rwlock::{NotUpgraded, ReadGuard, WriteGuard};
use synod::testing::Coordinator;
use synod::{Client, Error, Fence, LossReason, RwLock, SessionEnd};
use tokio::task::JoinHandle;
use tokio::time::sleep;

const PATH: &str = "/locks/index";

fn lock(client: &Client) -> RwLock {
    RwLock::new(client, PATH).expect("a valid path")
}

/// Asks for the lock and waits until the contender is in line behind `before` others.
async fn reader(zk: &Coordinator, client: &Client, before: usize) -> JoinHandle<Read> {
    let lock = lock(client);
    let waiting = tokio::spawn(async move { lock.read().await });
    until_children(&zk.client().await, PATH, before + 1).await;
    waiting
}

async fn writer(zk: &Coordinator, client: &Client, before: usize) -> JoinHandle<Write> {
    let lock = lock(client);
    let waiting = tokio::spawn(async move { lock.write().await });
    until_children(&zk.client().await, PATH, before + 1).await;
    waiting
}

type Read = Result<ReadGuard, Error>;
type Write = Result<WriteGuard, Error>;

async fn granted<G>(waiting: JoinHandle<Result<G, Error>>) -> G {
    soon(waiting).await.expect("no panic").expect("its turn")
}

/// Long enough for whoever may hold to hold.
async fn settle() {
    sleep(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn readers_share_and_writers_exclude_in_the_order_in_which_they_came() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let r0 = soon(lock(&client).read()).await.expect("free");
    let r1 = soon(lock(&client).read()).await.expect("readers share");
    let w2 = writer(&zk, &client, 2).await;
    let r3 = reader(&zk, &client, 3).await;
    let r4 = reader(&zk, &client, 4).await;
    let w5 = writer(&zk, &client, 5).await;
    settle().await;
    assert!(!w2.is_finished() && !r3.is_finished(), "nobody overtakes the writer");

    r1.release().await.expect("connected");
    settle().await;
    assert!(!w2.is_finished(), "the first reader reads still");
    r0.release().await.expect("connected");
    let w2 = granted(w2).await;
    settle().await;
    assert!(!r3.is_finished() && !r4.is_finished() && !w5.is_finished(), "it writes alone");
    assert_eq!(w2.release().await.expect("connected"), Released::Confirmed);
    let (r3, r4) = (granted(r3).await, granted(r4).await);
    assert_eq!((r3.writer_token(), r4.writer_token()), (Some(w2.token()), Some(w2.token())));
    assert_eq!((r0.writer_token(), r1.writer_token()), (None, None));
    drop(r4);
    settle().await;
    assert!(!w5.is_finished());
    drop(r3);
    drop(granted(w5).await);
    until_children(&client, PATH, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_fence_admits_readers_together_and_nobody_from_before_a_writer() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let resource = Fence::new();
    let (early, late) = (lock(&client).read().await, lock(&client).read().await);
    let (early, late) = (early.expect("free"), late.expect("readers share"));
    assert!(late.token() > early.token());
    resource.admit_shared(late.token()).expect("no writer since");
    resource.admit_shared(early.token()).expect("a co-holder");
    let waiting = writer(&zk, &client, 2).await;
    client.delete(early.path()).await.expect("forced");
    client.delete(late.path()).await.expect("forced");
    let writer = granted(waiting).await;
    resource.admit(writer.token()).expect("the newest");
    assert!(resource.admit_shared(early.token()).is_err());
    assert!(resource.admit_shared(late.token()).is_err());
    let reader = writer.downgrade().await.expect("held");
    resource.admit_shared(reader.token()).expect("under the token that it wrote with");
}

// A reader that waits for writers behind it, and a writer that waits for that reader, wait for ever.
#[tokio::test(start_paused = true)]
async fn a_reader_does_not_wait_for_a_writer_that_came_later() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let w0 = lock(&client).write().await.expect("free");
    let r1 = reader(&zk, &client, 1).await;
    let w2 = writer(&zk, &client, 2).await;
    w0.release().await.expect("connected");
    let r1 = granted(r1).await;
    assert!(!w2.is_finished());
    r1.release().await.expect("connected");
    drop(granted(w2).await);
}

#[tokio::test(start_paused = true)]
async fn a_reader_whose_last_writer_gives_up_waits_for_the_one_before() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let w0 = lock(&client).write().await.expect("free");
    let w1 = writer(&zk, &client, 1).await;
    let r2 = reader(&zk, &client, 2).await;
    settle().await;
    w1.abort();
    until_children(&client, PATH, 2).await;
    settle().await;
    assert!(!r2.is_finished(), "the first one writes still");
    w0.release().await.expect("connected");
    assert!(granted(r2).await.writer_token() >= Some(w0.token()));
}

#[tokio::test(start_paused = true)]
async fn who_only_tries_or_waits_too_long_leaves_nobody_in_line() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let limit = Duration::from_secs(3);
    let reading = lock(&client).try_read().await.expect("can be tried").expect("free");
    let both = lock(&client).try_read().await.expect("can be tried").expect("readers share");
    assert!(lock(&client).try_write().await.expect("can be tried").is_none());
    let error = lock(&client).write_within(limit).await.expect_err("others read");
    assert!(matches!(&error, Error::TimedOut { waited, .. } if *waited == limit), "{error}");
    until_children(&client, PATH, 2).await;
    drop((reading, both));
    until_children(&client, PATH, 0).await;
    let _writing = lock(&client).try_write().await.expect("can be tried").expect("free");
    assert!(lock(&client).try_read().await.expect("can be tried").is_none());
    let error = lock(&client).read_within(limit).await.expect_err("another writes");
    assert!(matches!(&error, Error::TimedOut { waited, .. } if *waited == limit), "{error}");
    until_children(&client, PATH, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_downgrade_keeps_the_token_and_lets_readers_in_but_no_writer() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let w0 = lock(&client).write().await.expect("free");
    let r1 = reader(&zk, &client, 1).await;
    let w2 = writer(&zk, &client, 2).await;
    let r3 = reader(&zk, &client, 3).await;
    settle().await;
    let token = w0.token();
    let r0 = w0.downgrade().await.expect("held");
    assert_eq!((r0.token(), r0.writer_token()), (token, Some(token)));
    r0.txn().create("/read", b"").commit().await.expect("held");
    let r1 = granted(r1).await;
    settle().await;
    assert!(!w2.is_finished() && !r3.is_finished(), "two read");
    r1.release().await.expect("connected");
    settle().await;
    assert!(!w2.is_finished(), "the writer of before reads still");
    r0.release().await.expect("connected");
    let w2 = granted(w2).await;
    assert!(w2.token() > token);
    w2.release().await.expect("connected");
    drop(granted(r3).await);
    until_children(&client, PATH, 0).await;
}

#[tokio::test(start_paused = true)]
async fn the_only_reader_upgrades_under_a_token_above_all_before() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let resource = Fence::new();
    let reading = lock(&client).read().await.expect("free");
    let other = lock(&client).read().await.expect("readers share");
    resource.admit_shared(other.token()).expect("no writer");
    let (before, newest) = (reading.token(), other.token());
    other.release().await.expect("connected");
    let writing = reading.upgrade().await.expect("alone");
    assert!(writing.token() > newest && newest > before);
    resource.admit(writing.token()).expect("above every reader");
    let reader = reader(&zk, &client, 1).await;
    let writer = writer(&zk, &client, 2).await;
    settle().await;
    assert!(!reader.is_finished() && !writer.is_finished());
    let token = writing.token();
    // It may change back and forth.
    let reading = writing.downgrade().await.expect("held");
    let reader = granted(reader).await;
    assert_eq!(reader.writer_token(), Some(token));
    resource.admit_shared(reader.token()).expect("no writer since");
    drop((reading, reader));
    resource.admit(granted(writer).await.token()).expect("the newest");
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_beside_another_reader_or_a_waiting_writer_is_a_conflict_and_reads_on() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let first = lock(&client).read().await.expect("free");
    let second = lock(&client).read().await.expect("readers share");
    let token = second.token();
    // Both at once: neither waits for the other.
    let (first, second) = tokio::join!(soon(first.upgrade()), soon(second.upgrade()));
    let Err(NotUpgraded::Conflict(first)) = first else { panic!("{first:?}") };
    let Err(NotUpgraded::Conflict(second)) = second else { panic!("{second:?}") };
    assert_eq!(second.token(), token);
    first.txn().create("/first", b"").commit().await.expect("held");
    second.txn().create("/second", b"").commit().await.expect("held");
    first.release().await.expect("connected");
    let writer = writer(&zk, &client, 1).await;
    let conflict = second.upgrade().await.expect_err("a writer waits");
    assert!(conflict.to_string().contains(PATH), "{conflict}");
    let NotUpgraded::Conflict(second) = conflict else { panic!("{conflict}") };
    settle().await;
    assert!(!writer.is_finished(), "it reads still");
    second.release().await.expect("connected");
    drop(granted(writer).await);
    until_children(&client, PATH, 0).await;
}

// Whoever comes while a reader tries to become a writer sees one or the other, and never both hold.
#[tokio::test(start_paused = true)]
async fn a_reader_that_comes_during_an_upgrade_never_reads_beside_the_writer() {
    let (mut upgraded, mut conflicts) = (0, 0);
    for after in 0..40 {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let reading = lock(&a).read().await.expect("free");
        let before = reading.token();
        let coming = tokio::spawn(async move {
            sleep(Duration::from_micros(after * 250)).await;
            lock(&b).read().await
        });
        let outcome = soon(reading.upgrade()).await;
        settle().await;
        match outcome {
            Ok(writing) => {
                upgraded += 1;
                assert!(!coming.is_finished(), "one writes");
                drop(writing);
                drop(granted(coming).await);
            }
            Err(NotUpgraded::Conflict(reading)) => {
                conflicts += 1;
                assert!(granted(coming).await.token() > before && reading.token() == before);
                reading.txn().create("/held", b"").commit().await.expect("held");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(upgraded > 0 && conflicts > 0, "{upgraded} upgraded, {conflicts} conflicts");
}

#[tokio::test(start_paused = true)]
async fn a_wait_whose_session_dies_fails_and_leaves_nobody_in_line() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let writing = lock(&a).write().await.expect("free");
    let r1 = reader(&zk, &b, 1).await;
    let w2 = writer(&zk, &b, 2).await;
    zk.expire(&b).await;
    for error in [
        soon(r1).await.expect("no panic").expect_err("its session is over"),
        soon(w2).await.expect("no panic").expect_err("its session is over"),
    ] {
        assert!(error.session_over(), "{error}");
    }
    until_children(&a, PATH, 1).await;
    let again = reader(&zk, &b, 1).await;
    writing.release().await.expect("connected");
    drop(granted(again).await);
}

#[tokio::test(start_paused = true)]
async fn readers_and_writers_that_are_cut_off_know_before_the_next_one_holds() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let reading = lock(&a).read().await.expect("free");
    zk.disconnect(&a, Duration::from_secs(600));
    let w1 = writer(&zk, &b, 1).await;
    let loss = soon(reading.lost()).await;
    assert_eq!(loss.reason, LossReason::SessionOver(SessionEnd::DeadlinePassed));
    assert!(!w1.is_finished(), "the reader knows first");
    let w1 = granted(w1).await;
    let upgraded = soon(reading.upgrade()).await.expect_err("lost");
    assert!(matches!(&upgraded, NotUpgraded::Failed(error) if error.is_lost()), "{upgraded}");

    zk.expire(&b).await;
    let error = soon(w1.downgrade()).await.expect_err("lost");
    assert!(error.is_lost() && error.session_over(), "{error}");
    until_children(&zk.client().await, PATH, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_was_removed_becomes_nothing_else() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let writing = lock(&a).write().await.expect("free");
    b.delete(writing.path()).await.expect("forced");
    let error = writing.downgrade().await.expect_err("removed");
    assert!(error.is_lost() && !error.session_over(), "{error}");
    let reading = lock(&a).read().await.expect("free");
    b.delete(reading.path()).await.expect("forced");
    let error = reading.upgrade().await.expect_err("removed");
    assert!(matches!(&error, NotUpgraded::Failed(error) if error.is_lost()), "{error}");
    until_children(&b, PATH, 0).await;
    assert_eq!(a.session().cleanups_reserved(), 0);
}

/// Cancels what `step` does at each of its awaits in turn; then nothing is left of it.
async fn cancelled_everywhere<T>(
    least: usize,
    step: impl AsyncFn(&Coordinator, &Client, usize) -> Option<T>,
) {
    for n in 1.. {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let done = step(&zk, &b, n).await;
        let finished = done.is_some();
        drop(done);
        until_children(&a, PATH, 0).await;
        soon(async {
            while b.session().cleanups_reserved() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        if finished {
            assert!(n > least, "cancelled at {n} awaits only");
            return;
        }
    }
}

/// Holds what is held for a second.
async fn after_a_second<T, G>(held: G, work: impl Future<Output = T>) -> T {
    let release = async {
        sleep(Duration::from_secs(1)).await;
        drop(held);
    };
    tokio::join!(work, release).0
}

#[tokio::test(start_paused = true)]
async fn whatever_is_cancelled_leaves_nobody_in_line_whatever_await_it_was_at() {
    cancelled_everywhere(4, async |_, client, n| cancel_at(n, lock(client).read()).await).await;
    cancelled_everywhere(6, async |_, client, n| {
        let held = lock(client).write().await.expect("free");
        let reads = async { drop(lock(client).read().await.expect("its turn")) };
        cancel_at(n, after_a_second(held, reads)).await
    })
    .await;
    cancelled_everywhere(6, async |_, client, n| {
        let held = lock(client).read().await.expect("free");
        let writes = async { drop(lock(client).write().await.expect("its turn")) };
        cancel_at(n, after_a_second(held, writes)).await
    })
    .await;
    cancelled_everywhere(1, async |_, client, n| {
        let held = lock(client).write().await.expect("free");
        cancel_at(n, held.downgrade()).await
    })
    .await;
    cancelled_everywhere(3, async |_, client, n| {
        let held = lock(client).read().await.expect("free");
        cancel_at(n, held.upgrade()).await
    })
    .await;
    // Another reader comes during the upgrade, so that it is taken back.
    for after_ms in [1, 2, 3, 4, 5] {
        cancelled_everywhere(3, async |zk, client, n| {
            let held = lock(client).read().await.expect("free");
            let other = zk.client().await;
            let coming = tokio::spawn(async move {
                sleep(Duration::from_millis(after_ms)).await;
                drop(lock(&other).read().await.expect("its turn"));
            });
            let done = cancel_at(n, held.upgrade()).await;
            let finished = done.is_some();
            drop(done);
            soon(coming).await.expect("no panic");
            finished.then_some(())
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn lost_replies_make_no_second_contender_and_lose_no_place() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    // The parent is there, so that the reply to the contender's own creation is lost.
    drop(lock(&client).read().await.expect("free"));
    until_children(&client, PATH, 0).await;
    zk.lose_next_reply(&client);
    let reading = soon(lock(&client).read()).await.expect("found again by its id");
    assert_eq!(children(&client, PATH).await, [reading.path().name()]);
    zk.lose_next_reply(&client);
    let writing = soon(reading.upgrade()).await.expect("alone");
    assert_eq!(children(&client, PATH).await, [writing.path().name()]);
    let (_, stat) = client.get(writing.path()).await.expect("it is there");
    assert_eq!(stat.czxid, writing.token());
    let waiting = writer(&zk, &client, 1).await;
    zk.lose_next_reply(&client);
    let reading = soon(writing.downgrade()).await.expect("held");
    settle().await;
    assert!(!waiting.is_finished(), "one reads still");
    zk.lose_next_reply(&client);
    assert_eq!(soon(reading.release()).await.expect("asked again"), Released::Confirmed);
    drop(granted(waiting).await);
}

#[tokio::test(start_paused = true)]
async fn a_cut_at_any_moment_ends_no_change() {
    for cut_after_ms in 0..12 {
        let zk = Coordinator::start();
        let client = zk.client().await;
        let reading = lock(&client).read().await.expect("free");
        let (changed, ()) = tokio::join!(
            async {
                let writing = soon(reading.upgrade()).await.expect("alone");
                soon(writing.downgrade()).await.expect("held")
            },
            async {
                sleep(Duration::from_millis(cut_after_ms)).await;
                zk.disconnect(&client, Duration::from_secs(1));
            }
        );
        settle().await;
        assert_eq!(children(&client, PATH).await, [changed.path().name()]);
        changed.txn().create("/held", b"").commit().await.expect("held all along");
    }
}
