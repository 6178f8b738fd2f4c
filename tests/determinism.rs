//! The engine has no randomness, no clock and no order of its own: what it answers and tells is a
//! function of what it was given.

use std::fmt::Write as _;
use std::sync::Arc;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use proptest_state_machine::ReferenceStateMachine;
use synod_core::engine::{Engine, Reader};
use synod_core::model::{Identity, SessionId};
use synod_tests::program::{Command, Programs};

const PROGRAMS: u8 = 50;
const STEPS: usize = 200;

/// The commands of the program that this seed gives.
fn commands(seed: u8) -> Vec<Command> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let programs = Programs::sequential_strategy(STEPS);
    let tree = programs.new_tree(&mut runner).expect("no program is rejected");
    let (mut world, steps, _) = tree.current();
    let mut commands = Vec::new();
    for step in &steps {
        world = world.take(step);
        commands.push(world.command.clone());
    }
    commands
}

/// All that a fresh engine says to the commands, as text.
fn trace(commands: &[Command]) -> String {
    let mut engine = Engine::new();
    let mut trace = String::new();
    let reader = |session: SessionId, identities: &Arc<[Identity]>| Reader {
        session,
        identities: identities.clone(),
    };
    for command in commands {
        let mut fired = Vec::new();
        let said = match command {
            Command::Apply { term, entry } => {
                format!("{:?}", engine.apply(*term, entry, &mut fired))
            }
            Command::Read { session, identities, read } => {
                format!("{:?}", engine.read(&reader(*session, identities), read))
            }
            Command::Watch { session, identities, request } => {
                format!("{:?}", engine.watch(&reader(*session, identities), request, &mut fired))
            }
            Command::Disconnect(session) => {
                engine.disconnect(*session);
                String::new()
            }
            Command::Prove(session, identities) => {
                engine.set_identities(*session, identities);
                String::new()
            }
            Command::Nothing => continue,
        };
        writeln!(trace, "{said} {fired:?} {:#x}", engine.digest()).expect("memory takes it");
    }
    trace
}

#[test]
fn two_runs_of_one_seed_give_equal_traces() {
    for seed in 0..PROGRAMS {
        let (first, second) = (trace(&commands(seed)), trace(&commands(seed)));
        assert!(first.lines().count() > STEPS / 2, "seed {seed}: {first}");
        for (line, (first, second)) in first.lines().zip(second.lines()).enumerate() {
            assert_eq!(first, second, "seed {seed}, line {line}");
        }
        assert_eq!(first, second, "seed {seed}");
    }
}
