//! Cases of read/write locks and of several locks at once, for every ground, and with connections that
//! break.

use std::time::Duration;

use synod::guard::Released;
use synod::rwlock::{NotUpgraded, ReadGuard, WriteGuard};
use synod::{Client, Error, Fence, Lock, MultiLock, RwLock, Zxid};
use tokio::task::JoinHandle;

use super::cases::{cancel_at, until_children};
use super::ground::{Ground, SESSION_TIMEOUT, soon};

const INDEX: &str = "/locks/index";
const ANN: &str = "/accounts/ann";
const BOB: &str = "/accounts/bob";

fn index(client: &Client) -> RwLock {
    RwLock::new(client, INDEX).expect("a valid path")
}

fn both(client: &Client) -> MultiLock {
    MultiLock::new(client, [BOB, ANN]).expect("valid paths")
}

/// Asks to read and waits until it is in line behind `before` others.
async fn reads(
    client: &Client,
    observer: &Client,
    before: usize,
) -> JoinHandle<Result<ReadGuard, Error>> {
    let lock = index(client);
    let waiting = tokio::spawn(async move { lock.read().await });
    until_children(observer, INDEX, before + 1).await;
    waiting
}

async fn writes(
    client: &Client,
    observer: &Client,
    before: usize,
) -> JoinHandle<Result<WriteGuard, Error>> {
    let lock = index(client);
    let waiting = tokio::spawn(async move { lock.write().await });
    until_children(observer, INDEX, before + 1).await;
    waiting
}

async fn granted<G>(waiting: JoinHandle<Result<G, Error>>) -> G {
    soon(waiting).await.expect("no panic").expect("its turn")
}

pub async fn readers_share_and_writers_exclude_in_the_order_in_which_they_came(ground: &Ground) {
    let (a, b, c) = (ground.client().await, ground.client().await, ground.client().await);
    let resource = Fence::new();
    let first = soon(index(&a).read()).await.expect("free");
    let second = soon(index(&b).read()).await.expect("readers share");
    resource.admit_shared(second.token()).expect("no writer");
    resource.admit_shared(first.token()).expect("a co-holder");
    let writer = writes(&c, &a, 2).await;
    let third = reads(&a, &a, 3).await;
    assert!(index(&b).try_read().await.expect("can be tried").is_none(), "a writer waits");
    first.release().await.expect("connected");
    assert!(!writer.is_finished() && !third.is_finished());
    second.release().await.expect("connected");
    let writer = granted(writer).await;
    resource.admit(writer.token()).expect("above every reader before");
    assert!(!third.is_finished() && resource.admit_shared(second.token()).is_err());
    assert_eq!(writer.release().await.expect("connected"), Released::Confirmed);
    let third = granted(third).await;
    assert_eq!(third.writer_token(), Some(writer.token()));
    resource.admit_shared(third.token()).expect("no writer since");
    drop(third);
    until_children(&a, INDEX, 0).await;
}

pub async fn a_writer_becomes_a_reader_and_again_a_writer_and_lets_no_writer_in(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    let resource = Fence::new();
    let writing = index(&a).write().await.expect("free");
    let token = writing.token();
    resource.admit(token).expect("the first");
    let reader = reads(&b, &a, 1).await;
    let writer = writes(&b, &a, 2).await;
    let reading = writing.downgrade().await.expect("held");
    assert_eq!(reading.token(), token);
    reading.txn().create("/read", b"").commit().await.expect("held");
    granted(reader).await.release().await.expect("connected");
    assert!(!writer.is_finished(), "the writer of before reads still");
    let reading = match reading.upgrade().await {
        Err(NotUpgraded::Conflict(reading)) => reading,
        other => panic!("a writer waits: {other:?}"),
    };
    writer.abort();
    until_children(&a, INDEX, 1).await;
    let writing = reading.upgrade().await.expect("alone");
    assert!(writing.token() > token && children_of(&b).await == [writing.path().name()]);
    resource.admit(writing.token()).expect("the newest");
    let next = writes(&b, &a, 1).await;
    writing.release().await.expect("connected");
    resource.admit(granted(next).await.token()).expect("the newest");
}

async fn children_of(client: &Client) -> Vec<String> {
    client.sync().await.expect("connected");
    client.children(INDEX).await.expect("it is there")
}

pub async fn a_cancelled_read_or_write_leaves_nobody_in_line(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    for reading in [true, false] {
        for n in 1.. {
            let held = index(&a).write().await.expect("free");
            let observer = a.clone();
            let releasing = tokio::spawn(async move {
                until_children(&observer, INDEX, 2).await;
                held.release().await.expect("connected");
            });
            let lock = index(&b);
            // Granted, a reader becomes a writer, and a writer a reader.
            let work = async {
                match reading {
                    true => drop(lock.read().await.expect("its turn").upgrade().await),
                    false => drop(lock.write().await.expect("its turn").downgrade().await),
                }
            };
            let finished = soon(cancel_at(n, work)).await.is_some();
            releasing.abort();
            until_children(&a, INDEX, 0).await;
            if finished {
                break;
            }
        }
    }
}

pub async fn several_locks_are_held_together_or_not_at_all(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    let bob = Lock::new(&a, BOB).expect("valid").acquire().await.expect("free");
    assert!(both(&b).try_acquire().await.expect("can be tried").is_none());
    let limit = Duration::from_millis(200);
    let error = both(&b).acquire_within(limit).await.expect_err("bob is held");
    assert!(matches!(&error, Error::TimedOut { path, .. } if &**path == BOB), "{error}");
    until_children(&a, ANN, 0).await;
    until_children(&a, BOB, 1).await;
    let all = both(&b);
    let waiting = tokio::spawn(async move { all.acquire().await });
    until_children(&a, BOB, 2).await;
    bob.release().await.expect("connected");
    let guard = granted(waiting).await;
    assert!(guard.token(BOB) > Some(bob.token()) && guard.token(ANN).is_some());
    guard.txn().create("/transfer", b"1").commit().await.expect("both are held");
    // One is taken away: all is lost.
    let name = a.children(ANN).await.expect("held").pop().expect("held");
    a.delete(format!("{ANN}/{name}")).await.expect("forced");
    let loss = soon(guard.lost()).await;
    assert_eq!(Some(loss.token), guard.token(ANN));
    let error = guard.txn().set("/transfer", b"2").commit().await.expect_err("not both");
    assert!(error.is_lost(), "{error}");
    guard.release().await.expect("connected");
    until_children(&a, BOB, 0).await;
}

pub async fn a_cancelled_multi_lock_leaves_nobody_in_any_line(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    for n in 1.. {
        let held = Lock::new(&a, BOB).expect("valid").acquire().await.expect("free");
        let observer = a.clone();
        let releasing = tokio::spawn(async move {
            until_children(&observer, BOB, 2).await;
            held.release().await.expect("connected");
        });
        let done = soon(cancel_at(n, both(&b).acquire())).await;
        let finished = done.is_some();
        drop(done);
        releasing.abort();
        until_children(&a, ANN, 0).await;
        until_children(&a, BOB, 0).await;
        if finished {
            break;
        }
    }
}

pub async fn a_reader_that_is_cut_off_knows_before_a_writer_holds(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.unharmed_client().await);
    let reading = index(&a).read().await.expect("free");
    let writer = writes(&b, &b, 1).await;
    ground.faults().proxy.close();
    let lost = async {
        let loss = reading.lost().await;
        (loss, tokio::time::Instant::now())
    };
    let ((loss, known_at), (writer, held_at)) = soon(async {
        tokio::join!(lost, async { (granted(writer).await, tokio::time::Instant::now()) })
    })
    .await;
    // On a foreign server the deadline is no proof; and two tasks of a busy machine wake as they may.
    let late = known_at.saturating_duration_since(held_at);
    assert!(late < SESSION_TIMEOUT / 4, "{late:?} after the writer");
    assert!(writer.token() > loss.token);
    let resource = Fence::new();
    resource.admit(writer.token()).expect("the newest");
    assert!(resource.admit_shared(loss.token).is_err());
}

pub async fn changes_through_cuts_and_lost_replies_keep_the_place(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.unharmed_client().await);
    let mut last = Zxid::ZERO;
    for round in 0..12 {
        let reading = soon(index(&a).read()).await.expect("free");
        let (changed, ()) = tokio::join!(
            async {
                let writing = soon(reading.upgrade()).await.expect("alone");
                let token = writing.token();
                (token, soon(writing.downgrade()).await.expect("held"))
            },
            async {
                tokio::time::sleep(Duration::from_millis(round / 2)).await;
                match round % 2 {
                    0 => ground.faults().proxy.cut(),
                    _ => ground.faults().proxy.lose_next_reply(),
                }
            }
        );
        let (token, reading) = changed;
        assert!(token > last && reading.token() == token, "round {round}");
        last = token;
        assert_eq!(children_of(&b).await, [reading.path().name()], "round {round}");
        // The reply that is to be lost may be that to this.
        while let Err(error) = reading.release().await {
            assert!(error.retryable(), "{error}");
        }
        until_children(&b, INDEX, 0).await;
    }
}

pub async fn several_locks_through_cuts_and_lost_replies_are_held_once(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.unharmed_client().await);
    for round in 0..12 {
        let all = both(&a);
        let (guard, ()) = tokio::join!(soon(all.acquire()), async {
            tokio::time::sleep(Duration::from_millis(round / 2)).await;
            match round % 2 {
                0 => ground.faults().proxy.cut(),
                _ => ground.faults().proxy.lose_next_reply(),
            }
        });
        let guard = guard.unwrap_or_else(|error| panic!("round {round}: {error}"));
        for path in [ANN, BOB] {
            b.sync().await.expect("connected");
            assert_eq!(b.children(path).await.expect("held").len(), 1, "round {round}");
        }
        assert_eq!(soon(guard.release()).await.expect("asked again"), Released::Confirmed);
        until_children(&b, ANN, 0).await;
        until_children(&b, BOB, 0).await;
    }
}
