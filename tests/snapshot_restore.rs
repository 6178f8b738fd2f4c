//! A member that was restored from a snapshot, beside one that applied the whole log.
//!
//! Random programs (see `generator`) go to two engines. The second gets every entry through the
//! codec of the log, and at random points it is replaced by what a snapshot of it is restored to,
//! fed in pieces of random size. From then on the two must say the same: answers, the order of
//! children in them too, events in their order, sessions, what may be reaped, digests; and at the
//! end show the same tree. Watches are not in a snapshot: at such a point the first engine's
//! connections break too.
//!
//! The environment variable `SYNOD_CASES` says how many programs there are, as in
//! `engine_vs_model`.

use std::sync::Arc;

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use proptest_state_machine::ReferenceStateMachine;
use synod_core::engine::{Applied, Engine, Fired, Reader, Restore};
use synod_core::model::{Entry, Identity, Refusal, Response, SessionId};
use synod_core::wire::{decode_entry, encode_entry};
use synod_tests::program::{Command, Programs, World};

/// Steps in one program.
const STEPS: usize = 100;

/// Programs, if the environment does not say how many.
const CASES: u32 = 256;

/// Most snapshots in one program.
const SNAPSHOTS_MAX: usize = 4;

/// Most bytes that are fed at a time.
const PIECE_BYTES_MAX: usize = 600;

/// Two engines that must not be told apart.
struct Pair {
    first: Engine,
    restored: Engine,
}

/// What an engine says to a command.
#[derive(Debug, PartialEq)]
enum Said {
    Applied(Applied),
    Answered(Result<Response, Refusal>),
    Nothing,
}

impl Pair {
    fn take(&mut self, command: &Command, clock_ms: i64) {
        let (mut fired, mut fired_again) = (Vec::new(), Vec::new());
        let said = say(&mut self.first, command, &mut fired);
        let again = match command {
            Command::Apply { term, entry } => {
                let command = Command::Apply { term: *term, entry: logged(entry) };
                say(&mut self.restored, &command, &mut fired_again)
            }
            command => say(&mut self.restored, command, &mut fired_again),
        };
        assert_eq!(again, said, "{command:?}");
        assert_eq!(fired_again, fired, "events of {command:?}");
        self.assert_same_state(clock_ms);
    }

    /// Restores the second engine from a snapshot of itself.
    fn restore(&mut self, piece_bytes: usize) {
        let view = self.restored.snapshot();
        let recorded = (view.last_zxid(), view.digest(), view.tree().len());
        let mut restore = Restore::new();
        for chunk in view.chunks() {
            for piece in chunk.chunks(piece_bytes) {
                restore.feed(piece).expect("a part of a snapshot");
            }
        }
        self.restored = restore.finish().expect("the whole snapshot");
        let engine = &self.restored;
        assert_eq!((engine.last_zxid(), engine.digest(), engine.znode_count()), recorded);
        for session in World::sessions().iter().chain([&World::observer()]) {
            self.first.disconnect(*session);
        }
        assert_eq!(self.first.watch_count(), 0, "every session was disconnected");
    }

    fn assert_same_state(&self, clock_ms: i64) {
        let [first, restored] = [&self.first, &self.restored].map(|engine| {
            let sessions: Vec<_> = engine.sessions().collect();
            // Of znodes that are due at the same time, any may come first.
            let mut reapable = engine.reapable(clock_ms, usize::MAX);
            reapable.sort();
            (engine.digest(), engine.last_zxid(), sessions, reapable)
        });
        assert_eq!(restored, first, "state");
    }

    fn assert_same_tree(&self) {
        let [first, restored] = [&self.first, &self.restored].map(|engine| {
            let mut lines = Vec::new();
            engine.view().visit(|path, znode| lines.push(format!("{path} {znode:?}")));
            lines.push(format!("{} {}", engine.ephemeral_count(), engine.approximate_data_bytes()));
            lines
        });
        assert_eq!(restored, first, "tree");
    }
}

fn say(engine: &mut Engine, command: &Command, fired: &mut Vec<Fired>) -> Said {
    let reader = |session: &SessionId, identities: &Arc<[Identity]>| Reader {
        session: *session,
        identities: identities.clone(),
    };
    match command {
        Command::Apply { term, entry } => Said::Applied(engine.apply(*term, entry, fired)),
        Command::Read { session, identities, read } => {
            Said::Answered(engine.read(&reader(session, identities), read))
        }
        Command::Watch { session, identities, request } => {
            Said::Answered(engine.watch(&reader(session, identities), request, fired))
        }
        Command::Disconnect(session) => {
            engine.disconnect(*session);
            Said::Nothing
        }
        Command::Prove(session, identities) => {
            engine.set_identities(*session, identities);
            Said::Nothing
        }
        Command::Nothing => Said::Nothing,
    }
}

/// The entry as it comes back from the log.
fn logged(entry: &Entry) -> Entry {
    let mut bytes = BytesMut::new();
    encode_entry(&mut bytes, entry);
    let again = decode_entry(bytes.freeze()).expect("an entry that was written");
    assert_eq!(again, *entry);
    again
}

fn cases() -> u32 {
    match std::env::var("SYNOD_CASES") {
        Ok(cases) => cases.parse().expect("SYNOD_CASES is a number"),
        Err(_) => CASES,
    }
}

#[test]
fn a_restored_engine_cannot_be_told_from_one_that_applied_the_log() {
    let config = Config {
        cases: cases(),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..Config::default()
    };
    let programs = Programs::sequential_strategy(STEPS);
    let snapshots = vec((any::<Index>(), 1..PIECE_BYTES_MAX), 1..=SNAPSHOTS_MAX);
    let run = TestRunner::new(config).run(
        &(programs, snapshots),
        |((mut world, steps, _), snapshots)| {
            let mut pair = Pair { first: Engine::new(), restored: Engine::new() };
            for (at, step) in steps.iter().enumerate() {
                world = world.take(step);
                pair.take(&world.command, world.clock_ms);
                for (place, piece_bytes) in &snapshots {
                    if place.index(steps.len()) == at {
                        pair.restore(*piece_bytes);
                        pair.assert_same_state(world.clock_ms);
                        pair.assert_same_tree();
                    }
                }
            }
            pair.assert_same_tree();
            Ok(())
        },
    );
    if let Err(failure) = run {
        panic!("{failure}");
    }
}
