//! Apache ZooKeeper against `synod serve`: the same random programs, the same bytes, and every
//! reply, Stat and event compared.
//!
//! A program has 50 steps of up to four clients, one request at a time (see `step` and `raw`);
//! after each change every client is asked for a ping, so that it has heard all events by then; at
//! the end a superuser reads both trees whole. Zxids are compared by their order, sessions by whose
//! they are, times not at all. The naive model walks beside the two: it knows which znodes there
//! are, so that programs bite, and which events go to nobody.
//!
//! What may differ stands in `interop/differences.toml`, with the reason. Any other difference
//! fails the test, and so does an entry that no longer occurs in a full run.
//!
//! | variable | |
//! |---|---|
//! | `SYNOD_PROGRAMS` | how many programs: 200 if it is not set, 2,000 for a full run |
//! | `SYNOD_SEED` | the number of the first; alone, it runs that one, and makes it small if it fails |

mod allowed;
mod ask;
mod bytes;
mod compare;
mod connection;
mod pair;
mod raw;
mod run;
mod step;

use std::collections::BTreeMap;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use allowed::Allowed;
use compare::Difference;
use pair::Pair;
use run::Run;
use step::{Step, settle};

/// Steps in one program.
const STEPS: usize = 50;

/// Programs, if the environment does not say how many.
const PROGRAMS: u64 = 200;

/// From so many programs on, every difference that is listed must occur.
const FULL_RUN: u64 = 2_000;

/// How many kinds of difference are collected before the test gives up.
const KINDS_MAX: usize = 12;

struct Servers {
    pair: Option<Pair>,
    allowed: Allowed,
}

impl Servers {
    /// Runs a program whose next step `next` gives; the difference that is not listed, if any.
    fn run(&mut self, mut next: impl FnMut(&Run<'_>) -> Option<Step>) -> Option<Difference> {
        let pair = self.pair.get_or_insert_with(Pair::start);
        let mut run = Run::new(pair, &mut self.allowed);
        while !run.over
            && let Some(step) = next(&run)
        {
            run.take(&step);
        }
        let goes_on = run.finish();
        let found = run.found.take();
        if !goes_on {
            self.pair = None;
        }
        found
    }

    fn run_seed(&mut self, seed: u64) -> (Vec<Step>, Option<Difference>) {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let mut steps = Vec::new();
        let found = self.run(|run| {
            if steps.len() == STEPS {
                return None;
            }
            let drawn = step::step(&run.world).new_tree(&mut runner).expect("a step can be drawn");
            let step = settle(&run.world, drawn.current());
            steps.push(step.clone());
            Some(step)
        });
        (steps, found)
    }

    fn run_steps(&mut self, steps: &[Step]) -> Option<Difference> {
        let mut steps = steps.iter();
        self.run(|_| steps.next().cloned())
    }

    /// Leaves out what the difference does not need.
    fn shrink(&mut self, mut steps: Vec<Step>, wanted: &Difference) -> Vec<Step> {
        let mut chunk = steps.len() / 2;
        while chunk > 0 {
            let mut at = 0;
            while at < steps.len() {
                let end = (at + chunk).min(steps.len());
                let fewer: Vec<Step> = [&steps[..at], &steps[end..]].concat();
                let found = self.run_steps(&fewer);
                let same = |found: &Difference| {
                    found.operation == wanted.operation && found.field == wanted.field
                };
                if found.is_some_and(|found| same(&found)) {
                    steps = fewer;
                } else {
                    at = end;
                }
            }
            chunk /= 2;
        }
        steps
    }
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {value}")))
}

#[test]
fn apache_and_synod_answer_alike() {
    let first = number("SYNOD_SEED");
    let programs = number("SYNOD_PROGRAMS").unwrap_or(if first.is_some() { 1 } else { PROGRAMS });
    let first = first.unwrap_or(0);
    let mut servers = Servers { pair: None, allowed: Allowed::load() };
    let mut failures: BTreeMap<Difference, (u64, u64, Vec<Step>)> = BTreeMap::new();
    let mut taken = 0;
    for seed in first..first + programs {
        let (steps, found) = servers.run_seed(seed);
        taken += steps.len();
        if let Some(found) = found {
            let (_, times, _) = failures.entry(found).or_insert((seed, 0, steps));
            *times += 1;
        }
        if failures.len() >= KINDS_MAX {
            break;
        }
    }
    println!("{programs} programs, {taken} steps\n{}", servers.allowed);
    for (difference, (seed, times, steps)) in &failures {
        println!("\n{times} × SYNOD_SEED={seed}: {difference}");
        if programs == 1 {
            for step in servers.shrink(steps.clone(), difference) {
                println!("    {step:?}");
            }
        }
    }
    assert!(failures.is_empty(), "{} kinds of difference are not listed", failures.len());
    if programs >= FULL_RUN {
        let unseen = servers.allowed.unseen();
        assert!(unseen.is_empty(), "listed, but they no longer occur: {unseen:#?}");
    }
}
