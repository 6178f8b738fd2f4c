//! A cluster in simulation, held to the specification: see `synod_tests::sim`.
//!
//! `SYNOD_SEEDS` says how many seeds are run (6 if it is not set), `SYNOD_SEED` the one seed to
//! run, with its trace:
//!
//! ```text
//! SYNOD_SEEDS=2000 cargo test --profile sim -p synod-tests --test sim
//! SYNOD_SEED=17 cargo test --profile sim -p synod-tests --test sim -- --nocapture
//! ```
//!
//! In the profile for development a run takes several times as long, and is the same.

use synod_tests::sim::{Checked, Plan, Report, run, with_each};

const SEEDS: u64 = 6;

/// Failures that are told in full.
const TOLD_MAX: usize = 3;

/// Lines of the trace that a failure shows, and what of each.
const TAIL: usize = 20;
const WIDTH: usize = 160;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

fn seeds() -> std::ops::Range<u64> {
    match number("SYNOD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SYNOD_SEEDS").unwrap_or(SEEDS),
    }
}

fn tell(report: &Report) -> String {
    let mut text = format!("seed {} ({} members):\n", report.seed, report.members);
    for violation in &report.violations {
        text += &format!("  {violation}\n");
    }
    for line in &report.trace[report.trace.len().saturating_sub(TAIL)..] {
        text += &format!("  | {line:.WIDTH$}\n");
    }
    let seed = report.seed;
    text + &format!(
        "again: SYNOD_SEED={seed} cargo test --profile sim -p synod-tests --test sim -- --nocapture"
    )
}

#[test]
fn every_seed_holds_the_specification() {
    let (mut failed, mut ops, mut faults) = (Vec::new(), 0, 0);
    let mut total = Checked::default();
    let begun = std::time::Instant::now();
    let seeds: Vec<u64> = seeds().collect();
    let seen = with_each(&seeds, |seed| {
        let report = run(Plan::new(*seed));
        if number("SYNOD_SEED").is_some() {
            report.trace.iter().for_each(|line| println!("{line}"));
            println!("{:?}, trace {:#018x}", report.checked, report.hash);
        }
        let told = (!report.violations.is_empty()).then(|| tell(&report));
        (report.tally, report.checked, report.void(), told)
    });
    for (tally, checked, void, told) in seen {
        ops += tally.ops;
        faults += tally.faults;
        total += checked;
        failed.extend(void.into_iter().chain(told));
    }
    println!(
        "{} seeds, {ops} operations, {faults} faults in {:?}; {total:?}",
        seeds.len(),
        begun.elapsed()
    );
    for text in failed.iter().skip(TOLD_MAX) {
        println!("{}", text.lines().take(2).collect::<Vec<_>>().join(" "));
    }
    let told = failed[..failed.len().min(TOLD_MAX)].join("\n");
    assert!(failed.is_empty(), "{} seeds failed\n{told}", failed.len());
}

#[test]
fn two_runs_of_one_seed_give_equal_traces() {
    for seed in 0..3 {
        let (first, second) = (run(Plan::new(seed)), run(Plan::new(seed)));
        for (line, (first, second)) in first.trace.iter().zip(&second.trace).enumerate() {
            assert_eq!(first, second, "seed {seed}, line {line}");
        }
        assert_eq!(first.hash, second.hash, "seed {seed}");
    }
}
