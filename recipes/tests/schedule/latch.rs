//! A latch: it opens for all who wait when the last name has counted, and for nobody before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use synod::{Client, Latch};
use tokio::time::{Instant, sleep};

use crate::harness::{
    FAULTS_FOR, Faults, Outcome, Plan, Subject, in_virtual_time, run, seeds, tolerate,
};

/// Four workers each count a name of their own, and all of them one more: it counts once.
const NAMES: usize = 5;
const SHARED: &str = "shared";

/// Four workers pass about one latch a second; a session of 10 s may have to expire first.
const PASSES_MIN: usize = 240;

/// How long after the last fault a latch has to open in time.
const RECOVERY: Duration = Duration::from_secs(30);

/// How long it may take then from the last acknowledged count to the last who passes.
const OPENS_WITHIN: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Count {
    /// The names that were said to be done, whether or not that has arrived.
    begun: BTreeSet<String>,
    /// Those that have counted for certain.
    acknowledged: BTreeSet<String>,
    /// When all had.
    complete: Option<Instant>,
}

struct Latches {
    counts: Mutex<BTreeMap<usize, Count>>,
    passes: AtomicUsize,
    at_peace: Instant,
}

impl Subject for Latches {
    fn progress(&self) -> usize {
        self.passes.load(Ordering::Relaxed)
    }
}

impl Latches {
    fn of<T>(&self, round: usize, look: impl FnOnce(&mut Count) -> T) -> T {
        look(self.counts.lock().expect("no panic").entry(round).or_default())
    }

    /// Whether there is such a round: one that somebody takes part in, all do.
    fn begins(&self, round: usize, until: Instant) -> bool {
        let mut counts = self.counts.lock().expect("no panic");
        let begins = counts.contains_key(&round) || Instant::now() < until;
        if begins {
            counts.entry(round).or_default();
        }
        begins
    }

    /// Says that a name is done, until that is acknowledged.
    async fn count_down(&self, latch: &Latch, round: usize, name: &str) {
        let acknowledged = self.of(round, |count| {
            count.begun.insert(name.to_owned());
            count.acknowledged.len()
        });
        let remaining = loop {
            match tolerate(latch.count_down(name).await) {
                Some(remaining) => break remaining as usize,
                None => sleep(Duration::from_millis(100)).await,
            }
        };
        self.of(round, |count| {
            assert!(remaining <= NAMES - acknowledged, "{remaining} remain of {round}");
            assert!(remaining >= NAMES - count.begun.len(), "{remaining} remain of {round}");
            count.acknowledged.insert(name.to_owned());
            if count.acknowledged.len() == NAMES {
                count.complete.get_or_insert_with(Instant::now);
            }
        });
    }

    async fn pass(&self, latch: &Latch, round: usize) {
        // It fails only while no session can be had, and looks for one as long as a client does.
        while tolerate(latch.wait().await).is_none() {}
        self.of(round, |count| {
            assert_eq!(count.begun.len(), NAMES, "{round} is open after {:?}", count.begun);
            if let Some(complete) = count.complete
                && complete > self.at_peace
            {
                assert!(complete.elapsed() < OPENS_WITHIN, "{round}: {:?}", complete.elapsed());
            }
        });
        self.passes.fetch_add(1, Ordering::Relaxed);
    }
}

async fn worker(number: usize, client: Client, latches: Arc<Latches>, until: Instant) -> usize {
    let mut passed = 0;
    while latches.begins(passed, until) {
        let path = format!("/latches/{passed}");
        let latch = Latch::new(&client, path, NAMES as u32).expect("valid");
        let counts = async {
            for name in [SHARED, &number.to_string()] {
                sleep(Duration::from_millis(100 * (number + passed) as u64 % 700)).await;
                latches.count_down(&latch, passed, name).await;
            }
        };
        // Half of them wait from the beginning, the others when they have done their part.
        if number.is_multiple_of(2) {
            tokio::join!(counts, latches.pass(&latch, passed));
        } else {
            counts.await;
            latches.pass(&latch, passed).await;
        }
        let remaining = tolerate(latch.remaining().await);
        assert!(remaining.is_none_or(|remaining| remaining == 0), "it stays open");
        passed += 1;
    }
    passed
}

fn latches(seed: u64) -> Outcome {
    in_virtual_time(async {
        let at_peace = Instant::now() + FAULTS_FOR + RECOVERY;
        let (counts, passes) = Default::default();
        let latches = Arc::new(Latches { counts, passes, at_peace });
        let plan = Plan { seed, faults: Faults::All, empty: &[], progress_min: PASSES_MIN };
        let outcome = run(plan, &latches, worker).await;
        let rounds = latches.counts.lock().expect("no panic").len();
        assert!(outcome.counts.iter().all(|passed| *passed == rounds), "{:?}", outcome.counts);
        outcome
    })
}

#[test]
fn a_latch_opens_for_all_when_the_last_name_has_counted_and_for_nobody_before() {
    for seed in seeds() {
        latches(seed);
    }
}

#[test]
fn a_seed_repeats_itself() {
    assert_eq!(latches(42), latches(42));
}
