//! The engine against the naive model: random programs, every answer and every event compared.
//!
//! A program has 100 steps (see `generator`); each is taken by the model and by two engines.
//! Compared are, after each step: the answer (of a refusal the code and the place in the
//! transaction; its words need only be there), the events in their order, the last zxid, what is
//! known of each session, and what may be reaped; at the end the whole tree, as the superuser
//! reads it. The second engine is given the log alone, no reads and no watches, and must have
//! the first one's digest; and no digest may stand for two different trees.
//!
//! The environment variable `SYNOD_CASES` says how many programs there are: 256 if it is not set,
//! as in continuous integration; the campaign before a release is
//!
//! ```text
//! SYNOD_CASES=10000 cargo test --release -p synod-tests --test engine_vs_model -- --nocapture
//! ```
//!
//! From 256 programs on, every operation must have ended in every way that `EXPECTED` lists, and
//! from 10,000 on in those of `EXPECTED_OF_CAMPAIGN` too: a generator that no longer bites fails
//! the test. The counts are printed. `PROPTEST_RNG_SEED` (a number) makes a run repeatable.

use std::sync::Mutex;

use proptest::test_runner::{Config, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use synod_tests::coverage::Coverage;
use synod_tests::engines::Engines;
use synod_tests::program::{Programs, Step, World};

/// Steps in one program.
const STEPS: usize = 100;

/// Programs, if the environment does not say how many.
const CASES: u32 = 256;

/// Programs of the campaign before a release.
const CAMPAIGN: u32 = 10_000;

static COVERAGE: Mutex<Option<Coverage>> = Mutex::new(None);

struct EngineVsModel;

impl StateMachineTest for EngineVsModel {
    type SystemUnderTest = (Engines, Coverage);
    type Reference = Programs;

    fn init_test(_: &World) -> (Engines, Coverage) {
        (Engines::new(), Coverage::default())
    }

    fn apply(
        (mut engines, mut coverage): (Engines, Coverage),
        world: &World,
        _: Step,
    ) -> (Engines, Coverage) {
        engines.follow(world);
        engines.assert_digest(world);
        coverage.note(&world.command, &world.outcome);
        (engines, coverage)
    }

    fn check_invariants((engines, _): &(Engines, Coverage), world: &World) {
        engines.assert_same_state(world);
    }

    fn teardown((mut engines, mut coverage): (Engines, Coverage), world: World) {
        coverage.count_withheld(world.model.watches().withheld());
        engines.assert_same_tree(world);
        COVERAGE.lock().expect("no other test holds it").get_or_insert_default().merge(&coverage);
    }
}

/// What must have been seen at least once after 256 programs: what comes so often that its absence
/// is no chance.
const EXPECTED: &[(&str, &[&str])] = &[
    ("create persistent", &["Ok", "InvalidAcl", "NoNode", "NoAuth", "NodeExists"]),
    ("create persistent", &["NoChildrenForEphemerals", "SessionMoved", "SequenceGap"]),
    ("create persistent sequential", &["Ok", "NoNode", "NoAuth"]),
    ("create ephemeral", &["Ok", "NoNode", "NoAuth", "NodeExists", "NoChildrenForEphemerals"]),
    ("create ephemeral sequential", &["Ok", "NoNode", "NoAuth", "NoChildrenForEphemerals"]),
    ("create container", &["Ok", "NoNode", "NoAuth", "NodeExists", "NoChildrenForEphemerals"]),
    ("create ttl", &["Ok", "BadArguments", "NodeExists"]),
    ("create ttl sequential", &["Ok", "BadArguments"]),
    ("delete", &["Ok", "BadArguments", "NoNode", "NoAuth", "BadVersion", "NotEmpty"]),
    ("set data", &["Ok", "BadArguments", "NoNode", "NoAuth", "BadVersion", "SessionExpired"]),
    ("set acl", &["Ok", "BadArguments", "InvalidAcl", "NoNode", "NoAuth", "BadVersion"]),
    ("check", &["Unimplemented"]),
    ("multi", &["Ok", "BadArguments", "InvalidAcl", "NoNode", "NoAuth", "BadVersion"]),
    ("multi", &["NodeExists", "NotEmpty", "NoChildrenForEphemerals", "Unimplemented"]),
    ("multi", &["SessionExpired", "SessionMoved", "SequenceGap"]),
    ("multi create persistent", &["Ok", "NodeExists"]),
    ("multi create ephemeral", &["Ok", "NodeExists"]),
    ("multi delete", &["Ok", "NoNode", "NotEmpty", "BadVersion"]),
    ("multi set data", &["Ok", "NoNode", "BadVersion", "NoAuth"]),
    ("multi check", &["Ok", "NoNode", "BadVersion", "NoAuth", "BadArguments"]),
    ("propose", &["Ok", "StaleZxid", "NoNode", "NodeExists", "Unimplemented"]),
    ("create session", &["Ok", "SystemError", "Unimplemented"]),
    ("attach", &["Ok"]),
    ("close session", &["Ok"]),
    ("expire session", &["Ok", "SessionExpired", "SessionMoved", "Unimplemented"]),
    ("reap", &["Ok", "NoNode", "BadArguments", "Unimplemented"]),
    ("exists", &["Ok", "NoNode", "NoAuth"]),
    ("get data", &["Ok", "NoNode", "NoAuth"]),
    ("get acl", &["Ok", "NoNode", "NoAuth"]),
    ("children", &["Ok", "NoNode", "NoAuth"]),
    ("multi read", &["Ok"]),
    ("ephemerals", &["Ok"]),
    ("descendant count", &["Ok", "NoNode", "NoAuth"]),
    ("who am i", &["Ok"]),
    ("add watch", &["Ok", "SessionExpired"]),
    ("check watch", &["Ok", "NoWatcher"]),
    ("remove watch", &["Ok", "NoWatcher"]),
    ("rearm", &["Ok"]),
    ("event Created", &["told", "told late"]),
    ("event Deleted", &["told", "told late"]),
    ("event DataChanged", &["told", "told late"]),
    ("event ChildrenChanged", &["told", "told late"]),
    ("event", &["withheld"]),
];

/// What must have been seen too after 10,000 programs.
const EXPECTED_OF_CAMPAIGN: &[(&str, &[&str])] = &[
    ("create persistent", &["BadArguments", "SessionExpired", "QuotaExceeded"]),
    ("create persistent sequential", &["BadArguments", "NoChildrenForEphemerals"]),
    ("create ephemeral", &["BadArguments", "InvalidAcl", "SessionExpired"]),
    ("create ephemeral sequential", &["BadArguments", "InvalidAcl"]),
    ("create container", &["BadArguments", "InvalidAcl", "SessionMoved", "SequenceGap"]),
    ("create ttl", &["InvalidAcl", "NoNode", "NoAuth", "NoChildrenForEphemerals"]),
    ("create ttl sequential", &["InvalidAcl", "NoNode", "NoAuth", "NoChildrenForEphemerals"]),
    ("delete", &["SessionExpired", "SessionMoved", "SequenceGap", "Unimplemented"]),
    ("set data", &["SessionMoved", "SequenceGap", "Unimplemented", "QuotaExceeded"]),
    ("set acl", &["SessionExpired", "SessionMoved", "SequenceGap", "Unimplemented"]),
    ("check", &["SessionExpired", "SessionMoved", "SequenceGap"]),
    ("multi create persistent", &["NoNode", "NoAuth", "InvalidAcl", "NoChildrenForEphemerals"]),
    ("multi create persistent", &["QuotaExceeded"]),
    ("multi create ephemeral sequential", &["Ok", "NoNode", "NoAuth"]),
    ("multi create container", &["Ok", "NoNode", "NoAuth", "NodeExists"]),
    ("multi create ttl", &["Ok", "NoNode", "NoAuth", "NodeExists", "BadArguments"]),
    ("multi delete", &["BadArguments", "NoAuth"]),
    ("multi set data", &["BadArguments"]),
    ("propose", &["BadVersion", "InvalidAcl", "NoAuth", "NotEmpty", "SessionExpired"]),
    ("create session", &["SessionExpired", "SessionMoved", "SequenceGap"]),
    ("attach", &["SessionExpired"]),
    ("close session", &["SessionExpired", "SessionMoved", "SequenceGap", "Unimplemented"]),
    ("exists", &["SessionExpired"]),
    ("children", &["SessionExpired"]),
    ("who am i", &["SessionExpired"]),
    ("remove watch", &["SessionExpired"]),
    ("rearm", &["SessionExpired"]),
];

fn cases() -> u32 {
    match std::env::var("SYNOD_CASES") {
        Ok(cases) => cases.parse().expect("SYNOD_CASES is a number"),
        Err(_) => CASES,
    }
}

#[test]
fn the_engine_agrees_with_the_model() {
    let config = Config {
        cases: cases(),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..Config::default()
    };
    let programs = Programs::sequential_strategy(STEPS);
    let run = TestRunner::new(config.clone()).run(&programs, |(world, steps, seen)| {
        EngineVsModel::test_sequential(config.clone(), world, steps, seen);
        Ok(())
    });
    if let Err(failure) = run {
        panic!("{failure}");
    }

    let coverage = COVERAGE.lock().expect("the test is over").take().unwrap_or_default();
    println!("{coverage}");
    for (from, expected) in [(CASES, EXPECTED), (CAMPAIGN, EXPECTED_OF_CAMPAIGN)] {
        if cases() >= from {
            let missing = coverage.missing(expected);
            assert!(missing.is_empty(), "the generator never came to {missing:?}");
        }
    }
}
