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
//! From 256 programs on, every operation must have ended in every way that is listed in
//! `EXPECTED`: a generator that no longer bites fails the test too. `PROPTEST_RNG_SEED` makes a
//! run repeatable.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use proptest::test_runner::{Config, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use synod_core::engine::{Engine, Fired, Reader};
use synod_core::model::{Identity, Read, ReadOpResult, Refusal, Response, SessionId};
use synod_tests::coverage::Coverage;
use synod_tests::model::{Fault, Told, Verdict, Znode};
use synod_tests::program::{Action, Command, Outcome, Programs, Step, World};

/// Steps in one program.
const STEPS: usize = 100;

/// Programs, if the environment does not say how many.
const CASES: u32 = 256;

static COVERAGE: Mutex<Option<Coverage>> = Mutex::new(None);

struct EngineVsModel;

/// Two engines, and what was noted about them in one program.
struct Engines {
    engine: Engine,
    /// Is given the log alone.
    follower: Engine,
    /// Which tree each digest stood for.
    trees: HashMap<u64, BTreeMap<String, Znode>>,
    coverage: Coverage,
}

impl StateMachineTest for EngineVsModel {
    type SystemUnderTest = Engines;
    type Reference = Programs;

    fn init_test(_: &World) -> Engines {
        Engines {
            engine: Engine::new(),
            follower: Engine::new(),
            trees: HashMap::new(),
            coverage: Coverage::default(),
        }
    }

    fn apply(mut engines: Engines, world: &World, _: Step) -> Engines {
        let outcome = engines.take(&world.command);
        assert_eq!(outcome, sorted(world.outcome.clone()), "engine, model: {:?}", world.command);
        engines.note_tree(world);
        engines.coverage.note(&world.command, &world.outcome);
        engines
    }

    fn check_invariants(engines: &Engines, world: &World) {
        let engine = &engines.engine;
        assert_eq!(engine.last_zxid(), world.model.last_zxid(), "last zxid");
        for id in World::sessions() {
            let got = engine.session(*id).map(|s| (s.timeout_ms, s.attachment, s.sequence));
            let want = world.model.session(*id);
            let want = want.map(|s| (s.timeout_ms, s.attachment, s.sequence));
            assert_eq!(got, want, "session {id}");
        }
        let ripe = world.model.reapable(world.clock_ms);
        let mut got = engine.reapable(world.clock_ms, usize::MAX);
        got.sort();
        assert_eq!(got, ripe, "reapable");
        let one = engine.reapable(world.clock_ms, 1);
        assert_eq!(one.len(), ripe.len().min(1), "at most one reapable");
        assert!(one.iter().all(|path| ripe.contains(path)), "one reapable");
    }

    fn teardown(mut engines: Engines, world: World) {
        engines.coverage.count_withheld(world.model.watches().withheld());
        engines.assert_same_tree(world);
        let digests = (engines.engine.digest(), engines.follower.digest());
        assert_eq!(digests.0, digests.1, "digests of two engines that were given one log");
        let mut coverage = COVERAGE.lock().expect("no other test holds it");
        coverage.get_or_insert_default().merge(&engines.coverage);
    }
}

impl Engines {
    fn take(&mut self, command: &Command) -> Outcome {
        let mut fired = Vec::new();
        let outcome = match command {
            Command::Apply { term, entry } => {
                let applied = self.engine.apply(*term, entry, &mut fired);
                let followed = self.follower.apply(*term, entry, &mut Vec::new());
                assert_eq!(followed, applied, "two engines that were given one log");
                let result = applied.result.map_err(fault);
                let verdict = Verdict { zxid: applied.zxid, result };
                Outcome::Applied(verdict, fired.into_iter().map(told).collect())
            }
            Command::Read { session, identities, read } => {
                let reader = Reader { session: *session, identities: identities.clone() };
                Outcome::Answered(self.engine.read(&reader, read).map_err(fault), Vec::new())
            }
            Command::Watch { session, identities, request } => {
                let reader = Reader { session: *session, identities: identities.clone() };
                let result = self.engine.watch(&reader, request, &mut fired).map_err(fault);
                Outcome::Answered(result, fired.into_iter().map(told).collect())
            }
            Command::Disconnect(session) => {
                self.engine.disconnect(*session);
                Outcome::Nothing
            }
            Command::Nothing => Outcome::Nothing,
        };
        sorted(outcome)
    }

    /// Reads every znode of the model from the engine, and the names of the children of each, so
    /// that one that the model does not have is found too.
    fn assert_same_tree(&mut self, mut world: World) {
        let session = World::observer();
        world = world.take(&Step { elapsed_ms: 0, action: Action::Observe });
        assert_eq!(self.take(&world.command), world.outcome, "a session for the superuser");
        let mut model = world.model;
        let identities: Arc<[Identity]> = Arc::from([Identity::new("super", "")]);
        let reader = Reader { session, identities: identities.clone() };
        for path in model.nodes().keys().cloned().collect::<Vec<_>>() {
            let path: Arc<str> = Arc::from(path);
            for read in [
                Read::Exists { path: path.clone(), watch: false },
                Read::GetData { path: path.clone(), watch: false },
                Read::GetAcl { path: path.clone() },
                Read::Children { path: path.clone(), watch: false },
                Read::DescendantCount { path },
            ] {
                let got = self.engine.read(&reader, &read).map_err(fault);
                let want = model.read(session, &identities, &read);
                let [got, want] = [got, want].map(|it| sorted(Outcome::Answered(it, Vec::new())));
                assert_eq!(got, want, "engine, model: {read:?} at the end");
            }
        }
    }

    /// One digest never stands for two trees.
    fn note_tree(&mut self, world: &World) {
        let nodes = world.model.nodes();
        let before = self.trees.entry(self.engine.digest()).or_insert_with(|| nodes.clone());
        assert_eq!(before, nodes, "one digest, two trees");
    }
}

fn fault(refusal: Refusal) -> Fault {
    assert!(!refusal.rule.is_empty(), "a refusal says which rule did not hold: {refusal:?}");
    Fault { code: refusal.code, index: refusal.index }
}

fn told(Fired { session, event }: Fired) -> Told {
    Told { session, event }
}

/// Names of children have no order; here they get one.
fn sorted(mut outcome: Outcome) -> Outcome {
    let (Outcome::Applied(Verdict { result, .. }, _) | Outcome::Answered(result, _)) = &mut outcome
    else {
        return outcome;
    };
    match result {
        Ok(Response::Children { names, .. }) => names.sort(),
        Ok(Response::MultiRead(answers)) => {
            for answer in answers {
                if let Ok(ReadOpResult::Children(names)) = answer {
                    names.sort();
                }
            }
        }
        _ => {}
    }
    outcome
}

/// What must have been seen at least once after 256 programs.
const EXPECTED: &[(&str, &[&str])] = &[
    (
        "create persistent",
        &[
            "Ok",
            "BadArguments",
            "InvalidAcl",
            "NoNode",
            "NoAuth",
            "NodeExists",
            "NoChildrenForEphemerals",
            "SessionExpired",
            "SessionMoved",
            "SequenceGap",
        ],
    ),
    ("create persistent sequential", &["Ok", "NoNode", "NoAuth", "NoChildrenForEphemerals"]),
    ("create ephemeral", &["Ok", "NoNode", "NoAuth", "NodeExists", "NoChildrenForEphemerals"]),
    ("create ephemeral sequential", &["Ok", "NoNode", "NoAuth", "NoChildrenForEphemerals"]),
    ("create container", &["Ok", "NoNode", "NoAuth", "NodeExists", "NoChildrenForEphemerals"]),
    ("create ttl", &["Ok", "BadArguments", "NoNode", "NodeExists"]),
    ("create ttl sequential", &["Ok", "BadArguments", "NoNode"]),
    ("delete", &["Ok", "BadArguments", "NoNode", "NoAuth", "BadVersion", "NotEmpty"]),
    ("set data", &["Ok", "BadArguments", "NoNode", "NoAuth", "BadVersion"]),
    ("set acl", &["Ok", "BadArguments", "InvalidAcl", "NoNode", "NoAuth", "BadVersion"]),
    ("check", &["Unimplemented"]),
    (
        "multi",
        &[
            "Ok",
            "BadArguments",
            "InvalidAcl",
            "NoNode",
            "NoAuth",
            "BadVersion",
            "NodeExists",
            "NotEmpty",
            "NoChildrenForEphemerals",
            "SessionExpired",
            "SessionMoved",
            "SequenceGap",
            "Unimplemented",
        ],
    ),
    ("multi create persistent", &["Ok", "NoNode", "NodeExists", "NoAuth"]),
    ("multi create ephemeral", &["Ok", "NoNode"]),
    ("multi delete", &["Ok", "NoNode", "NotEmpty", "BadVersion", "NoAuth"]),
    ("multi set data", &["Ok", "NoNode", "BadVersion", "NoAuth"]),
    ("multi check", &["Ok", "NoNode", "BadVersion", "NoAuth", "BadArguments"]),
    ("propose", &["Ok", "StaleZxid", "NoNode", "NodeExists", "SessionExpired", "Unimplemented"]),
    ("create session", &["Ok", "SystemError", "Unimplemented"]),
    ("attach", &["Ok", "SessionExpired"]),
    ("close session", &["Ok", "SessionExpired"]),
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
    ("add watch", &["Ok"]),
    ("check watch", &["Ok", "NoWatcher"]),
    ("remove watch", &["Ok", "NoWatcher"]),
    ("rearm", &["Ok"]),
    ("event Created", &["told", "told late"]),
    ("event Deleted", &["told", "told late"]),
    ("event DataChanged", &["told", "told late"]),
    ("event ChildrenChanged", &["told", "told late"]),
    ("event", &["withheld"]),
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
    if cases() >= CASES {
        let missing = coverage.missing(EXPECTED);
        assert!(missing.is_empty(), "the generator never came to {missing:?}");
    }
}
