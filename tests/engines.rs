//! The real engine, twice, beside the model.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use synod_core::engine::{Engine, Fired, Reader};
use synod_core::model::{Identity, Read, ReadOpResult, Refusal, Response};

use crate::model::{Fault, Told, Verdict, Znode};
use crate::program::{Action, Command, Outcome, Step, World};

/// Two engines. One takes all commands; the other is given the log alone, no reads and no
/// watches, as a follower is, and must answer and end the same.
pub struct Engines {
    engine: Engine,
    follower: Engine,
    /// Which tree each digest stood for.
    trees: HashMap<u64, BTreeMap<String, Znode>>,
}

impl Default for Engines {
    fn default() -> Engines {
        Engines::new()
    }
}

impl Engines {
    /// Two engines that were given nothing yet.
    pub fn new() -> Engines {
        Engines { engine: Engine::new(), follower: Engine::new(), trees: HashMap::new() }
    }

    /// Gives the world's last command to the engines.
    ///
    /// # Panics
    /// If they say something else than the model did.
    pub fn follow(&mut self, world: &World) {
        let outcome = self.take(&world.command);
        assert_eq!(outcome, sorted(world.outcome.clone()), "engine, model: {:?}", world.command);
    }

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
            Command::Prove(session, identities) => {
                self.engine.set_identities(*session, identities);
                Outcome::Nothing
            }
            Command::Nothing => Outcome::Nothing,
        };
        sorted(outcome)
    }

    /// Compares what can be asked at any time: the last zxid, the sessions, what may be reaped.
    ///
    /// # Panics
    /// If something differs.
    pub fn assert_same_state(&self, world: &World) {
        let engine = &self.engine;
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

    /// Notes which tree the digest stands for now.
    ///
    /// # Panics
    /// If it stood for another tree before, or the two engines differ.
    pub fn assert_digest(&mut self, world: &World) {
        let digest = self.engine.digest();
        assert_eq!(digest, self.follower.digest(), "two engines that were given one log");
        let nodes = world.model.nodes();
        let before = self.trees.entry(digest).or_insert_with(|| nodes.clone());
        assert_eq!(before, nodes, "one digest, two trees");
    }

    /// Reads every znode of the model from the engine as the superuser (which takes a session), and the names of the
    /// children of each, so that one that the model does not have is found too.
    ///
    /// # Panics
    /// If something differs.
    pub fn assert_same_tree(&mut self, mut world: World) -> World {
        let session = World::observer();
        if world.model.session(session).is_none() {
            world = world.take(&Step { elapsed_ms: 0, action: Action::Observe });
            self.follow(&world);
        }
        let mut model = world.model.clone();
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
                assert_eq!(got, want, "engine, model: {read:?} of the whole tree");
            }
        }
        world
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
