use proptest::prelude::*;

use super::*;

const PATHS: usize = 8;

/// Reads of one chunk are of one moment.
const CHUNK: usize = 3;

fn path(number: usize) -> Path {
    Path::new(format!("/{number}")).expect("valid")
}

/// The last change of each znode that is there.
type Tree = BTreeMap<Path, Zxid>;

/// A member that is written to, and who follows it.
struct World {
    /// The tree at every zxid from 0 on.
    history: Vec<Tree>,
    /// Events that wait to be noted.
    events: Vec<(Path, Zxid)>,
    /// Whether events carry their zxids.
    told: bool,
    ledger: Ledger<Option<Zxid>>,
    mirror: Tree,
    cut: Zxid,
}

impl World {
    fn new(told: bool, there: usize) -> World {
        let mut world = World {
            history: vec![Tree::new()],
            events: Vec::new(),
            told,
            ledger: Ledger::new(Zxid::ZERO),
            mirror: Tree::new(),
            cut: Zxid::ZERO,
        };
        (0..there).for_each(|number| world.write(&[number]));
        world.events.clear();
        world.ledger = Ledger::new(world.now());
        world
    }

    /// Finds what is there.
    fn list(&mut self) {
        let names: Vec<Path> = self.tree().keys().cloned().collect();
        names.iter().for_each(|path| self.ledger.discover(path));
    }

    fn now(&self) -> Zxid {
        Zxid::from_i64(self.history.len() as i64 - 1)
    }

    fn tree(&self) -> &Tree {
        self.history.last().expect("there is a first")
    }

    /// One change of several znodes: of each, a set, or, for every third, a create or a delete.
    fn write(&mut self, numbers: &[usize]) {
        let mut tree = self.tree().clone();
        let zxid = Zxid::from_i64(self.history.len() as i64);
        for number in numbers {
            let path = path(*number);
            match tree.remove(&path) {
                Some(_) if zxid.as_i64() % 3 == 0 => {}
                _ => drop(tree.insert(path.clone(), zxid)),
            }
            self.events.push((path, zxid));
        }
        self.history.push(tree);
    }

    fn note_events(&mut self) {
        for (path, zxid) in std::mem::take(&mut self.events) {
            self.ledger.event(&path, self.told.then_some(zxid));
        }
    }

    /// Reads what is wanted, while `writes` come in between; one more comes after the reply.
    fn round(&mut self, max: usize, mut writes: impl FnMut(&mut World)) {
        self.note_events();
        let wanted = self.ledger.wanted(max);
        let mut replied = self.ledger.position;
        for chunk in wanted.chunks(CHUNK) {
            writes(self);
            replied = self.now();
            for path in chunk {
                let value = self.tree().get(path).copied();
                self.ledger.read(path, replied, value, value);
            }
        }
        writes(self);
        self.note_events();
        self.ledger.reached(replied);
    }

    /// Takes a cut if there is one, and checks it.
    fn settle(&mut self) -> bool {
        let Some((zxid, read)) = self.ledger.settle(None) else { return false };
        assert!(zxid >= self.cut, "{zxid} after {}", self.cut);
        self.cut = zxid;
        for (path, value) in read {
            match value {
                Some(value) => drop(self.mirror.insert(path, value)),
                None => drop(self.mirror.remove(&path)),
            }
        }
        assert_eq!(self.mirror, self.history[zxid.as_i64() as usize], "at {zxid}");
        true
    }
}

proptest! {
    #[test]
    fn every_cut_is_the_tree_at_its_zxid(
        told in any::<bool>(),
        there in 0..PATHS,
        max in 1..=PATHS,
        writes in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(0..PATHS, 1..3), 0..4),
            1..60,
        ),
    ) {
        let mut world = World::new(told, there);
        let mut writes = writes.into_iter();
        let mut cuts = 0;
        // The first ones while what is there is looked for.
        for numbers in writes.next().unwrap_or_default() {
            world.write(&numbers);
        }
        world.list();
        for _ in 0..40 {
            world.round(max, |world| {
                for numbers in writes.next().unwrap_or_default() {
                    world.write(&numbers);
                }
            });
            cuts += usize::from(world.settle());
        }
        // At the latest when nobody writes any more; of nothing there is none.
        prop_assert!(cuts > 0 || world.tree().is_empty());
        prop_assert_eq!(&world.mirror, world.tree());
    }
}

/// Two znodes are written at every moment, and others now and then, in many more places than are
/// read at a time.
#[test]
fn znodes_that_are_written_all_the_time_do_not_put_the_next_cut_off() {
    for told in [true, false] {
        let mut world = World::new(told, PATHS);
        world.list();
        let (mut rounds, mut longest, mut cuts, mut turn) = (0, 0, 0, 0);
        for _ in 0..1_000 {
            world.round(PATHS, |world| {
                turn += 1;
                world.write(&[0]);
                world.write(&[1]);
                if turn % 3 == 0 {
                    world.write(&[2 + turn % (PATHS - 2)]);
                }
            });
            rounds += 1;
            if world.settle() {
                (longest, rounds, cuts) = (rounds.max(longest), 0, cuts + 1);
            }
        }
        assert!(longest <= 12 && cuts > 150, "{told}: {cuts} cuts, after {longest} rounds at most");
    }
}

#[test]
fn without_anything_new_there_is_a_cut_where_it_is_wished_and_only_then() {
    let mut ledger = Ledger::<()>::new(Zxid::new(1, 1));
    assert!(ledger.settle(None).is_none());
    ledger.reached(Zxid::new(1, 7));
    assert!(ledger.settle(None).is_none());
    let (zxid, read) = ledger.settle(Some(Zxid::new(1, 5))).expect("all is known");
    assert_eq!((zxid, read.len()), (Zxid::new(1, 7), 0));
    ledger.event(&path(0), Some(Zxid::new(1, 9)));
    assert!(ledger.settle(Some(Zxid::new(1, 10))).is_none(), "it has to be read first");
}

/// It was there at first, and no list shows it.
#[test]
fn before_a_znode_that_went_while_they_were_looked_for_there_is_no_cut() {
    let zxid = |counter| Zxid::new(1, counter);
    let mut ledger = Ledger::new(zxid(5));
    ledger.discover(&path(0));
    ledger.read(&path(0), zxid(6), Some(zxid(1)), "kept");
    ledger.event(&path(1), Some(zxid(7)));
    ledger.reached(zxid(8));
    assert!(ledger.settle(None).is_none(), "at 6 it was there");
    assert_eq!(ledger.wanted(9), [path(1)]);
    ledger.read(&path(1), zxid(8), None, "gone");
    let (cut, read) = ledger.settle(None).expect("all is known");
    assert_eq!((cut, read.len()), (zxid(8), 2));
}
