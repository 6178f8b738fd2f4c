//! Publishers that die between any two steps.

use std::collections::BTreeSet;
use std::time::Duration;

use synod::config::{ConfigStore, Open};
use synod::testing::Coordinator;
use synod::{Client, Config, If};

use super::PATH;
use crate::common::{cancel_at, children, soon};

const CHUNKS: &str = "/config/limits/chunks";

/// Two chunks of one letter.
fn large(letter: char) -> String {
    letter.to_string().repeat(600_000)
}

fn open(client: &Client) -> Open<String> {
    Config::open(client, PATH).keep(3)
}

fn store(client: &Client) -> ConfigStore<String> {
    open(client).store().expect("valid")
}

/// Every chunk set is one that a kept version names, and every kept version is whole.
async fn assert_tidy(client: &Client) {
    let store = store(client);
    let history = store.history().await.expect("connected");
    let (pointer, _) = client.get(PATH).await.expect("it is there");
    let pointer = String::from_utf8(pointer.to_vec()).expect("text");
    let sets = children(client, CHUNKS).await;
    assert!(sets.iter().all(|set| pointer.contains(set)), "{sets:?} {pointer}");
    let large = history.iter().filter(|record| record.bytes > 500_000).count();
    assert_eq!(sets.len(), large, "{sets:?}");
    for set in sets {
        let chunks: BTreeSet<String> =
            children(client, &format!("{CHUNKS}/{set}")).await.into_iter().collect();
        assert_eq!(chunks, ["0000", "0001"].map(str::to_owned).into());
    }
    assert!(history.len() <= 3);
}

/// How a publisher ends in the middle of what it does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// Its future is dropped, its session lives on.
    Cancelled,
    /// So is its session.
    Died,
    /// Its connection breaks at that moment, for longer than its session lasts.
    CutOff,
}

/// Ends a publisher at its `n`-th wait; then another goes on. Whether there was such a wait.
async fn end_at(n: usize, end: End, rollback: bool) -> bool {
    let zk = Coordinator::start();
    let (dying, other) = (zk.client().await, zk.client().await);
    let (first, second) = (store(&dying), store(&other));
    for letter in ['a', 'b', 'c'] {
        second.publish(&large(letter), If::Any).await.expect("valid");
    }
    let config = open(&other).await.expect("whole");
    let publish = match rollback {
        false => first.publish(&large('d'), If::Version(3)),
        true => first.rollback(2),
    };
    let done = cancel_at(n, publish.into_future()).await;
    let finished = done.is_some();
    match end {
        End::Cancelled => {}
        End::Died => zk.expire(&dying).await,
        End::CutOff => zk.disconnect(&dying, Duration::from_secs(3_000)),
    }
    if let Some(done) = done {
        assert_eq!(done.expect("valid"), 4);
    }
    if end == End::Cancelled {
        // By the session's reaper, before anybody else comes.
        soon(async {
            while dying.session().cleanups_reserved() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let status = second.status().await.expect("published");
        assert!(status.current == 3 || status.current == 4);
        // One that was published, and not swept behind, leaves the oldest to the next one.
        let left = children(&other, CHUNKS).await.len();
        assert!(left == 3 || (left, status.current) == (4, 4), "{left} sets: {status:?}");
    } else {
        soon(async {
            while other.exists("/").await.is_err() {}
            // The coordinator notices at the session's timeout.
            tokio::time::sleep(Duration::from_secs(20)).await;
        })
        .await;
    }
    let before = second.status().await.expect("published").current;
    let expected = match (before, rollback) {
        (3, _) => large('c'),
        (4, false) => large('d'),
        (4, true) => large('b'),
        (other, _) => panic!("version {other} applies"),
    };
    assert!(!finished || before == 4, "what was confirmed is there");
    assert_eq!(soon(config.wait_for(before)).await.expect("whole").value, expected);
    // Another goes on.
    let next = second.publish(&large('e'), If::Version(before)).await.expect("valid");
    assert_eq!(next, before + 1);
    assert_eq!(soon(config.wait_for(next)).await.expect("whole").value, large('e'));
    assert_tidy(&other).await;
    let back = second.rollback(before).await.expect("kept");
    assert_eq!(soon(config.wait_for(back)).await.expect("whole").value, expected);
    assert_tidy(&other).await;
    !finished
}

async fn end_everywhere(end: End, rollback: bool) {
    let mut n = 1;
    while end_at(n, end, rollback).await {
        n += 1;
    }
    // Pin, pointer, version and its chunks, the set, two chunks, list, transaction, sweep.
    assert!(n > 10, "it was ended at {} places only", n - 1);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_is_cancelled_anywhere_leaves_nothing_half_done() {
    end_everywhere(End::Cancelled, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_dies_anywhere_is_gone_on_after_and_swept_behind() {
    end_everywhere(End::Died, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_is_cut_off_anywhere_is_gone_on_after_and_swept_behind() {
    end_everywhere(End::CutOff, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_dies_anywhere_is_done_or_not() {
    end_everywhere(End::Died, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_first_publication_that_dies_anywhere_is_done_or_not() {
    for n in 1.. {
        let zk = Coordinator::start();
        let (dying, other) = (zk.client().await, zk.client().await);
        let first = store(&dying);
        let done = cancel_at(n, first.publish(&large('a'), If::Absent).into_future()).await;
        zk.expire(&dying).await;
        let second = store(&other).publish(&large('b'), If::Any).await.expect("valid");
        assert!(second == 1 || second == 2, "{second}");
        assert_eq!(open(&other).await.expect("whole").current().value, large('b'));
        assert_tidy(&other).await;
        if done.is_some() {
            assert!(n > 8 && second == 2, "it was ended at {} places only", n - 1);
            break;
        }
    }
}

/// A set whose owner lives is nobody else's to sweep.
#[tokio::test(start_paused = true)]
async fn two_who_write_large_values_at_a_time_do_not_sweep_each_other() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let (one, two) = (store(&a), store(&b));
    one.publish(&large('a'), If::Absent).await.expect("valid");
    for _ in 0..5 {
        zk.delay_next(&a, Duration::from_millis(3));
        let (c, d) = (large('c'), large('d'));
        let (c, d) = tokio::join!(
            one.publish(&c, If::Any).into_future(),
            two.publish(&d, If::Any).into_future()
        );
        assert!(c.expect("its turn") != d.expect("its turn"));
        assert_tidy(&a).await;
    }
}
