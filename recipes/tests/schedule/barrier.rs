//! A double barrier: who enters does so with all of its cohort, and no two cohorts are inside.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use synod::barrier::Cohort;
use synod::{Client, DoubleBarrier, SessionId};
use tokio::time::{Instant, sleep};

use crate::harness::{Faults, Outcome, Plan, Subject, TURN, in_virtual_time, run, seeds, tolerate};

/// Of four workers two enter together: there is always a third that comes too early.
const PARTIES: u32 = 2;

/// Two enter every two seconds; a session of 10 s may have to expire first.
const ENTRIES_MIN: usize = 30;

fn plan(seed: u64, faults: Faults) -> Plan<'static> {
    Plan { seed, faults, empty: &["/step/line"], progress_min: ENTRIES_MIN }
}

/// Cohort and place.
type Rank = (u64, usize);

struct Room {
    entered: Mutex<BTreeMap<Rank, SessionId>>,
    /// Who is inside, and until when that is proof.
    inside: Mutex<BTreeMap<Rank, Instant>>,
    proof: bool,
}

impl Subject for Room {
    fn progress(&self) -> usize {
        self.entered.lock().expect("no panic").len()
    }
}

impl Room {
    fn new(faults: Faults) -> Room {
        let (entered, inside) = Default::default();
        Room { entered, inside, proof: faults == Faults::Cuts }
    }

    fn enter(&self, cohort: &Cohort) {
        assert_eq!(cohort.parties(), PARTIES as usize);
        let rank = (cohort.number(), cohort.place());
        let session = cohort.session().id();
        let before = self.entered.lock().expect("no panic").insert(rank, session);
        assert_eq!(before, None, "two have the place {rank:?}");
        let mut inside = self.inside.lock().expect("no panic");
        let now = Instant::now();
        let other = |((number, _), until): (&Rank, &Instant)| *number < rank.0 && now < *until;
        assert!(
            !self.proof || !inside.iter().any(other),
            "{rank:?} enters while {inside:?} are in"
        );
        inside.insert(rank, cohort.valid_until());
    }

    async fn stay(&self, cohort: &Cohort) {
        let rank = (cohort.number(), cohort.place());
        let work = async {
            for _ in 0..2 {
                sleep(Duration::from_millis(500)).await;
                self.inside.lock().expect("no panic").insert(rank, cohort.valid_until());
            }
        };
        // A loss ends the work; that is what it is for.
        let _ = cohort.run(work).await;
        self.inside.lock().expect("no panic").remove(&rank);
    }
}

async fn worker(number: usize, client: Client, room: Arc<Room>, until: Instant) -> usize {
    let barrier = DoubleBarrier::new(&client, "/step", PARTIES).expect("valid");
    let mut entered = 0;
    while Instant::now() < until {
        let Some(cohort) = tolerate(barrier.enter_within(TURN).await) else { continue };
        room.enter(&cohort);
        room.stay(&cohort).await;
        entered += 1;
        // One in five leaves without waiting.
        match (entered + number) % 5 {
            0 => drop(cohort),
            _ => drop(tolerate(cohort.leave().await)),
        }
    }
    entered
}

fn cohorts(seed: u64, faults: Faults) -> Outcome {
    in_virtual_time(async {
        let room = Arc::new(Room::new(faults));
        let outcome = run(plan(seed, faults), &room, |number, client, room, until| {
            worker(number, client, room, until)
        });
        let outcome = outcome.await;
        // Whole cohorts enter, but for those who died at that moment.
        let entered = room.entered.lock().expect("no panic");
        let last = entered.keys().next_back().map_or(0, |rank| rank.0);
        let whole = (1..=last).filter(|cohort| {
            (0..PARTIES as usize).all(|place| entered.contains_key(&(*cohort, place)))
        });
        assert!(
            whole.count() as u64 * 10 > last * 8,
            "seed {seed}: of {last} cohorts few are whole"
        );
        outcome
    })
}

#[test]
fn whole_cohorts_enter_leave_no_orphans_and_go_on_after_faults() {
    for seed in seeds() {
        cohorts(seed, Faults::All);
    }
}

#[test]
fn before_the_deadline_of_one_inside_no_other_cohort_enters() {
    for seed in seeds() {
        cohorts(seed, Faults::Cuts);
    }
}

#[test]
fn a_seed_repeats_itself() {
    assert_eq!(cohorts(42, Faults::All), cohorts(42, Faults::All));
}
