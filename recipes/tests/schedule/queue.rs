//! The queue: what was put for certain is done at least once, and twice only where an outcome was
//! unknown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use synod::queue::Added;
use synod::{Client, Fence, Queue, Zxid};
use tokio::time::{Instant, sleep, timeout};

use crate::common::soon;
use crate::harness::{Faults, Plan, Subject, TURN, in_virtual_time, run, seeds, tolerate};

/// Items that are done in the calm: one in a second of each of two consumers, and then some.
const DONE_MIN: usize = 60;

/// So many that nothing is given up: consumers die often here.
const ATTEMPTS_MAX: u32 = 1_000;

#[derive(Default)]
struct Work {
    /// Items that were put for certain.
    put: Vec<u64>,
    /// Items of which nobody knows whether they were put, by how often it was tried.
    perhaps: Vec<u64>,
    /// How often each item was finished for certain.
    done: BTreeMap<u64, usize>,
    /// Items whose end was not answered.
    perhaps_done: Vec<u64>,
    /// The gate of each item.
    gates: BTreeMap<u64, Fence>,
    /// Which deliveries of an item there were.
    tokens: BTreeMap<u64, Vec<Zxid>>,
}

#[derive(Default)]
struct Ledger(Mutex<Work>);

impl Ledger {
    fn lock(&self) -> std::sync::MutexGuard<'_, Work> {
        self.0.lock().expect("no panic")
    }
}

impl Subject for Ledger {
    fn progress(&self) -> usize {
        self.lock().done.len()
    }
}

async fn queue_of(client: &Client) -> Queue<u64> {
    loop {
        let opened = Queue::open(client, "/jobs").max_attempts(ATTEMPTS_MAX).await;
        if let Some(queue) = tolerate(opened) {
            return queue;
        }
    }
}

async fn produce(number: usize, client: Client, ledger: Arc<Ledger>, until: Instant) -> usize {
    let queue = queue_of(&client).await;
    let mut put = 0;
    while Instant::now() + Duration::from_secs(60) < until {
        sleep(Duration::from_millis(1_500)).await;
        let item = (number as u64) << 32 | put as u64;
        put += 1;
        let builder = queue.put(&item).priority((item % 3) as u8);
        let builder = match item % 5 {
            0 => builder.delay(Duration::from_millis(1_500)),
            1 => builder.dedup(item.to_string()),
            _ => builder,
        };
        let mut added = tolerate(builder.await);
        if item % 5 == 1 {
            // Safe to repeat, and so repeated until the answer is there.
            while added.is_none() {
                let again = queue.put(&item).priority((item % 3) as u8).dedup(item.to_string());
                added = tolerate(again.await);
            }
            assert!(matches!(added, Some(Added::New { .. } | Added::Duplicate)));
        }
        let mut work = ledger.lock();
        match added {
            Some(_) => work.put.push(item),
            None => work.perhaps.push(item),
        }
    }
    put
}

async fn consume(client: Client, ledger: Arc<Ledger>, until: Instant) -> usize {
    let queue = queue_of(&client).await;
    let mut done = 0;
    loop {
        let Ok(taken) = timeout(TURN, queue.take()).await else {
            // Behind the end all that is left is done.
            match Instant::now() < until {
                true => continue,
                false => return done,
            }
        };
        let Some(delivery) = tolerate(taken).flatten() else { continue };
        let (item, token) = (*delivery, delivery.token());
        {
            let mut work = ledger.lock();
            let tokens = work.tokens.entry(item).or_default();
            assert!(!tokens.contains(&token), "{item} was delivered twice as {token}");
            tokens.push(token);
            let _ = work.gates.entry(item).or_default().admit(token);
        }
        // Work is dropped when the claim is lost.
        let lost = timeout(Duration::from_millis(300 + item % 7 * 100), delivery.lost()).await;
        if lost.is_ok() {
            continue;
        }
        match (item + done as u64) % 9 {
            0 => drop(delivery),
            1 => drop(tolerate(delivery.nack_in(Duration::from_millis(400), "later").await)),
            2 => drop(tolerate(delivery.nack_in(Duration::ZERO, "again").await)),
            _ => {
                let ended = delivery.ack().await;
                let unknown = ended.as_ref().is_err_and(|error| error.maybe_applied());
                let mut work = ledger.lock();
                match tolerate(ended) {
                    Some(()) => *work.done.entry(item).or_default() += 1,
                    None if unknown => work.perhaps_done.push(item),
                    // Lost: it comes again.
                    None => {}
                }
            }
        }
        done += 1;
    }
}

async fn once(seed: u64) {
    let ledger = Arc::new(Ledger::default());
    let plan =
        Plan { seed, faults: Faults::All, empty: &["/jobs/delayed"], progress_min: DONE_MIN };
    run(plan, &ledger, |number, client, ledger, until| async move {
        match number {
            0 | 1 => produce(number, client, ledger, until).await,
            _ => consume(client, ledger, until).await,
        }
    })
    .await;
    let work = ledger.lock();
    for item in &work.put {
        let ended = work.done.contains_key(item) || work.perhaps_done.contains(item);
        assert!(ended, "seed {seed}: {item} was put, and never done");
    }
    for (item, count) in &work.done {
        assert!(*count == 1 || work.perhaps.contains(item), "seed {seed}: {item} {count} times");
    }
    assert!(work.put.len() > 100, "seed {seed}: only {} items", work.put.len());
}

#[test]
fn no_item_is_lost_and_none_done_twice_that_was_acknowledged() {
    for seed in seeds() {
        in_virtual_time(soon(once(seed)));
    }
}
