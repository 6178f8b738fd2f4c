//! The engine against the naive model on a tree that grows to some thousands of znodes and
//! shrinks again: what goes wrong only where tables grow, slots are used again and names or data
//! get long.

use std::sync::Arc;

use synod_core::model::{Acl, AddWatchMode, Create, CreateMode, Op, WatchRequest, Write};
use synod_tests::engines::Engines;
use synod_tests::generator::{SIZES, bytes};
use synod_tests::program::{Action, CLIENTS, Stamp, Step, World};

/// How many steps there are, and up to which of them the tree grows.
const STEPS: usize = 12_000;
const GROWING: usize = 7_000;

/// Numbers that look random and are the same in every run (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// A znode that is there; every second time one of few, so that some have very many children.
fn a_path(dice: &mut Dice, world: &World) -> String {
    let nodes = world.model.nodes();
    let from = if dice.below(2) == 0 { nodes.len().min(8) } else { nodes.len() };
    nodes.keys().nth(dice.below(from)).expect("there is the root").clone()
}

/// The last znode below that, which is a leaf.
fn a_leaf(dice: &mut Dice, world: &World) -> String {
    let above = a_path(dice, world);
    let from_there = world.model.nodes().range(above.clone()..).map(|(path, _)| path);
    let below = from_there.take_while(|path| path.starts_with(&above));
    below.last().expect("it is there itself").clone()
}

fn create(dice: &mut Dice, world: &World) -> Op {
    let parent = a_path(dice, world);
    let parent = parent.trim_end_matches('/');
    let length = if dice.below(4) == 0 { *dice.one_of(SIZES) } else { 1 + dice.below(4) };
    let name: String = (0..length).map(|_| char::from(b'a' + dice.below(26) as u8)).collect();
    let mode = *dice.one_of(&[
        CreateMode::Persistent,
        CreateMode::Persistent,
        CreateMode::Persistent,
        CreateMode::PersistentSequential,
        CreateMode::Ephemeral,
        CreateMode::EphemeralSequential,
        CreateMode::Container,
        CreateMode::Ttl { ttl_ms: 50 },
    ]);
    let data = Some(bytes(*dice.one_of(SIZES)));
    Op::Create(Create { path: format!("{parent}/{name}").into(), data, acl: Acl::open(), mode })
}

fn op(dice: &mut Dice, world: &World, growing: bool) -> Op {
    let path: Arc<str> = a_path(dice, world).into();
    let (creates, deletes) = if growing { (13, 3) } else { (3, 13) };
    match dice.below(20) {
        roll if roll < creates => create(dice, world),
        roll if roll < creates + deletes => {
            Op::Delete { path: a_leaf(dice, world).into(), version: -1 }
        }
        _ => Op::SetData { path, data: Some(bytes(*dice.one_of(SIZES))), version: -1 },
    }
}

fn action(dice: &mut Dice, world: &World, growing: bool) -> Action {
    let client = dice.below(CLIENTS);
    if !world.is_open(client) {
        return Action::Open { client, timeout_ms: 4_000 };
    }
    let stamp = Stamp::True;
    let write = match dice.below(400) {
        0 => Write::CloseSession,
        1..20 => Write::Multi((0..1 + dice.below(4)).map(|_| op(dice, world, growing)).collect()),
        20..40 => {
            let path = a_path(dice, world).into();
            let mode = *dice.one_of(&[AddWatchMode::Persistent, AddWatchMode::PersistentRecursive]);
            return Action::Watch { client, request: WatchRequest::Add { path, mode } };
        }
        40..50 => return Action::Disconnect { client },
        50..80 => {
            let path = a_path(dice, world).into();
            return Action::System { write: Write::Reap { path } };
        }
        _ => Write::Op(op(dice, world, growing)),
    };
    Action::Write { client, stamp, write }
}

#[test]
fn a_tree_of_thousands_of_znodes_agrees_with_the_model() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut world = World::new();
    let mut engines = Engines::new();
    let mut largest = 0;
    for step in 0..STEPS {
        let action = action(&mut dice, &world, step < GROWING);
        world = world.take(&Step { elapsed_ms: 1, action });
        engines.follow(&world);
        largest = largest.max(world.model.nodes().len());
        if step % 500 == 499 {
            engines.assert_same_state(&world);
            engines.assert_digest(&world);
        }
        if step == GROWING {
            world = engines.assert_same_tree(world);
        }
    }
    println!("{largest} znodes at most, {} at the end", world.model.nodes().len());
    assert!(largest > 2_000, "it only grew to {largest}");
    engines.assert_same_tree(world);
}
