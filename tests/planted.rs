//! Bugs that are planted, so that the checkers are known to find them: see `synod_tests::sim`.
//!
//! Each runs until it is found, at most `SYNOD_SEEDS` seeds; the table says how many it took. If
//! the variable is not set, only those are tried that show in nearly every run.
//!
//! ```text
//! SYNOD_SEEDS=200 cargo test --profile sim -p synod-tests --test planted -- --nocapture
//! ```
//!
//! `SYNOD_PLANT` names one of them, or a part of the name of several.

use std::time::Instant;

use synod_core::engine::Plant as Mistake;
use synod_server::Bug;
use synod_server::log::Bug as LogBug;
use synod_tests::sim::{Lie, Plan, Plant, run, with_each};

use Shows::{Late, Soon};

/// Seeds for those that show soon, if the environment does not say how many.
const SEEDS: u64 = 6;

/// How long it takes until a run shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Soon,
    Late,
}

// Not here: `LateLookExpires` wants a process that is stopped, and in one process on virtual time no
// timer is late; `KeepsAdrift` breaks no promise by itself, since what is sent behind a write that
// was lost is refused for the gap, so that clients only wait longer; `ResurrectedTruncation` of the
// log harms only if who has the entries again then votes by them, which 60 seeds did not come to:
// the log's own tests find it; `DeadIsHeard` shows only to a ping that arrives in the milliseconds
// between a judgement and its entry, which 60 seeds did not come to either.

/// What is planted, and the checkers of which one must find it.
const PLANTED: &[(Shows, Plant, &[&str])] = &[
    (Soon, Plant::Lie(Lie::LoseEvent), &["watches"]),
    (Soon, Plant::Lie(Lie::RepeatEvent), &["watches"]),
    (Soon, Plant::Lie(Lie::LateEvent), &["watches", "sessions"]),
    (Soon, Plant::Lie(Lie::LoseMissedEvent), &["watches"]),
    (Soon, Plant::Lie(Lie::OlderZxid), &["sessions"]),
    (Soon, Plant::Lie(Lie::WrongData), &["replay"]),
    (Soon, Plant::Lie(Lie::LoseWrite), &["log", "sessions"]),
    (Soon, Plant::Lie(Lie::RepeatWrite), &["log"]),
    (Soon, Plant::Lie(Lie::SwapReplies), &["client"]),
    (Soon, Plant::Lie(Lie::StaleRead), &["linear", "replay"]),
    (Soon, Plant::Lie(Lie::WrongSequence), &["replay", "sequences"]),
    (Soon, Plant::Lie(Lie::Deaf), &["ephemerals"]),
    (Late, Plant::Bug(Bug::SyncAtOnce), &["linear"]),
    (Late, Plant::Bug(Bug::PingAtOnce), &["ephemerals"]),
    (Late, Plant::Bug(Bug::KeepsBefore), ANY),
    (Soon, Plant::Bug(Bug::EventsLate), &["watches", "sessions"]),
    (Soon, Plant::Bug(Bug::Engine(Mistake::HalfMulti)), &["replay"]),
    (Soon, Plant::Bug(Bug::Engine(Mistake::ReusedSequence)), &["sequences", "replay"]),
    (Soon, Plant::Bug(Bug::Engine(Mistake::EphemeralLeft)), &["replay"]),
    (Soon, Plant::Bug(Bug::Engine(Mistake::LostRearm)), &["watches"]),
    (Soon, Plant::Bug(Bug::Engine(Mistake::SnapshotWithoutSessions)), ANY),
    (Late, Plant::Bug(Bug::Log(LogBug::AckBeforeSync)), ANY),
    (Soon, Plant::Bug(Bug::Log(LogBug::SkipSync)), ANY),
    (Late, Plant::Bug(Bug::Log(LogBug::IgnoreSyncError)), ANY),
    (Late, Plant::Bug(Bug::Log(LogBug::TornTailTakenForValid)), ANY),
    (Late, Plant::Bug(Bug::Log(LogBug::VoteLostAtRecycling)), ANY),
    (Late, Plant::Bug(Bug::Log(LogBug::NoSyncAtStart)), ANY),
    (Late, Plant::Bug(Bug::Log(LogBug::NoFolderSync)), ANY),
    (Late, Plant::Bug(Bug::IgnoreFullDisk), ANY),
    (Late, Plant::Bug(Bug::Log(LogBug::EvictsUnsynced)), ANY),
    (Soon, Plant::Bug(Bug::UnheardIsForgotten), &["ephemerals", "client"]),
    (Late, Plant::Bug(Bug::IndexBeforeApply), ANY),
    (Late, Plant::Bug(Bug::StopsAtOnce), &["client"]),
    (Soon, Plant::Bug(Bug::SnapshotOfOldMembers), ANY),
    (Soon, Plant::Bug(Bug::OneFrameOnly), &["client"]),
];

/// What comes of it may be seen by any checker.
const ANY: &[&str] = &[];

#[test]
fn every_planted_bug_is_found() {
    let told = std::env::var("SYNOD_SEEDS").ok();
    let all = told.is_some();
    let only = std::env::var("SYNOD_PLANT").unwrap_or_default();
    let seeds = told.map_or(SEEDS, |seeds| seeds.parse().expect("SYNOD_SEEDS is a number"));
    println!("| planted | seeds | found by | in |");
    println!("|---|---|---|---|");
    let missed = with_each(PLANTED, |(shows, plant, checkers)| {
        let name = format!("{plant:?}");
        if *shows == Late && !all || !name.contains(&only) {
            return None;
        }
        let begun = Instant::now();
        let found = (0..seeds).find_map(|seed| {
            let report = run(Plan { plant: Some(*plant), ..Plan::new(seed) });
            let violation = report
                .violations
                .into_iter()
                .find(|it| checkers.is_empty() || checkers.contains(&it.checker));
            violation.map(|violation| (seed, violation))
        });
        match found {
            Some((seed, violation)) => {
                let took = begun.elapsed();
                println!("| {name} | {} | {} | {took:.1?} |", seed + 1, violation.checker);
            }
            None => {
                println!("| {name} | none of {seeds} | | {:.1?} |", begun.elapsed());
                return Some(*plant);
            }
        }
        None
    });
    let missed: Vec<_> = missed.into_iter().flatten().collect();
    assert!(missed.is_empty(), "not found in {seeds} seeds: {missed:?}");
}
