//! A counter: what was said to be added was, once; what is not known, once or not at all.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use synod::{Client, Counter, Error};
use tokio::time::{Instant, sleep};

use crate::harness::{Faults, Outcome, Plan, Subject, in_virtual_time, run, seeds, tolerate};

/// Four workers add five times a second, unless they are cut off.
const ADDITIONS_MIN: usize = 400;

#[derive(Default)]
struct Books {
    acknowledged: AtomicUsize,
    indeterminate: AtomicUsize,
    /// The sums that were told; no two are equal.
    sums: Mutex<Vec<i64>>,
    /// What the counter has come to, as the last worker read it.
    read: Mutex<i64>,
}

impl Subject for Books {
    fn progress(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }
}

async fn worker(client: Client, books: Arc<Books>, until: Instant) -> usize {
    let counter = Counter::new(&client, "/count").expect("valid");
    let mut added = 0;
    while Instant::now() < until {
        match counter.add(1).await {
            Ok(sum) => {
                books.acknowledged.fetch_add(1, Ordering::Relaxed);
                books.sums.lock().expect("no panic").push(sum);
                added += 1;
            }
            Err(Error::Indeterminate { .. }) => {
                books.indeterminate.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                assert!(!error.maybe_applied(), "{error:?}");
                tolerate::<()>(Err(error));
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
    // The faults have stopped.
    let read = counter.get().await.expect("connected");
    let mut last = books.read.lock().expect("no panic");
    *last = read.max(*last);
    added
}

fn counters(seed: u64) -> (Outcome, usize) {
    in_virtual_time(async {
        let books = Arc::new(Books::default());
        let plan = Plan { seed, faults: Faults::All, empty: &[], progress_min: ADDITIONS_MIN };
        let outcome = run(plan, &books, |_, client, books, until| worker(client, books, until));
        let outcome = outcome.await;
        let sure = books.acknowledged.load(Ordering::Relaxed) as i64;
        let unsure = books.indeterminate.load(Ordering::Relaxed);
        let sum = *books.read.lock().expect("no panic");
        let range = sure..=sure + unsure as i64;
        assert!(range.contains(&sum), "seed {seed}: {sum} is not within {range:?}");
        let mut sums = books.sums.lock().expect("no panic");
        sums.sort_unstable();
        assert!(sums.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}: a sum twice");
        (outcome, unsure)
    })
}

#[test]
fn a_counter_is_the_sum_of_what_was_acknowledged_whatever_fails() {
    for seed in seeds() {
        counters(seed);
    }
}

#[test]
fn a_seed_repeats_itself() {
    assert_eq!(counters(42), counters(42));
}
