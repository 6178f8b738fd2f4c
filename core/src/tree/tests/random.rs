//! Random histories, from a seed: whatever happens, what is kept up to date equals a recount.

use super::*;

/// xorshift64*: enough randomness for a history, the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }

    fn path(&mut self) -> String {
        (0..=self.roll(3)).map(|_| format!("/{}", self.roll(4))).collect()
    }

    fn acl(&mut self) -> Vec<Acl> {
        let acl = Acl::new(Perms::ALL, "ip", format!("10.0.0.0/{}", 8 + self.roll(4)));
        if self.roll(4) == 0 { vec![acl] } else { Acl::open() }
    }

    fn op(&mut self) -> Op {
        let path: Arc<str> = self.path().into();
        let version = self.roll(4) as i32 - 1;
        let data = (self.roll(5) > 0).then(|| vec![b'x'; self.roll(600) as usize].into());
        let ttl_ms = 1 + self.roll(2_000) as i64;
        let mode = match self.roll(9) {
            0..4 => CreateMode::Persistent,
            4 => CreateMode::PersistentSequential,
            5 => CreateMode::Ephemeral,
            6 => CreateMode::Container,
            7 => CreateMode::Ttl { ttl_ms },
            _ => CreateMode::EphemeralSequential,
        };
        match self.roll(8) {
            0..4 => Op::Create(Create { path, data, acl: self.acl(), mode }),
            4 | 5 => Op::Delete { path, version: -1 },
            6 => Op::SetData { path, data, version },
            _ => Op::Check { path, version },
        }
    }

    /// Does something; says whether a transaction failed.
    fn act(&mut self, hand: &mut Hand) -> bool {
        hand.session = SessionId(1 + self.roll(3) as i64);
        match self.roll(12) {
            0 => hand.end_session(),
            1 => {
                let (path, acl) = (self.path(), self.acl());
                let _ = hand.set_acl(&path, &acl);
            }
            2 => {
                for path in hand.tree.reapable(hand.now_ms() + 1, 2) {
                    hand.reap(&path).expect("it is due");
                }
            }
            3..6 => {
                let ops: Vec<Op> = (0..self.roll(6)).map(|_| self.op()).collect();
                let (before, digest) = (dump(&hand.tree), hand.tree.digest());
                if hand.multi(&ops).is_err() {
                    assert_eq!((dump(&hand.tree), hand.tree.digest()), (before, digest));
                    return true;
                }
            }
            _ => {
                let _ = hand.op(&self.op());
            }
        }
        false
    }
}

#[test]
fn whatever_happens_equals_a_recount() {
    for seed in 1..=20 {
        let (mut dice, mut hand) = (Dice(seed), Hand::new());
        for _ in 0..400 {
            dice.act(&mut hand);
            assert_sound(&hand.tree);
        }
        assert!(hand.tree.len() > 8, "seed {seed} did something");
    }
}

#[test]
fn trees_with_the_same_history_have_the_same_digest() {
    for seed in 1..=10 {
        let play = || {
            let (mut dice, mut hand) = (Dice(seed), Hand::new());
            for _ in 0..300 {
                dice.act(&mut hand);
            }
            hand
        };
        let (one, other) = (play(), play());
        assert_eq!(one.tree.digest(), other.tree.digest());
        assert_eq!(dump(&one.tree), dump(&other.tree));
        assert_eq!(one.effects, other.effects);
    }
}

/// The same znodes, made in two orders: their slots have other numbers, their siblings other links.
#[test]
fn numbers_of_slots_do_not_show_in_the_digest() {
    let play = |order: Vec<u32>| {
        let mut hand = Hand::new();
        for i in order {
            hand.zxid = i;
            hand.create(&format!("/n{i}"));
        }
        hand.tree
    };
    let (up, down) = (play((0..100).collect()), play((0..99).rev().chain([99]).collect()));
    assert_ne!(up.lookup("/n7"), down.lookup("/n7"), "the numbers differ");
    assert_eq!(up.digest(), down.digest());
    assert_eq!(dump(&up), dump(&down));
}

/// The digest is compared between machines and versions: it must not drift.
#[test]
fn the_digest_of_a_known_tree_stays_what_it_is() {
    let mut hand = Hand::with(&["/a", "/a/b"]);
    hand.set("/a/b", &"long ".repeat(200));
    hand.create_as("/e", CreateMode::Ephemeral);
    assert_eq!(hand.tree.digest(), 11_709_128_386_540_353_348);
}

#[test]
fn every_part_of_a_znode_shows_in_the_digest() {
    let base = || Hand::with(&["/a", "/b"]);
    let digest_after = |act: &dyn Fn(&mut Hand) -> bool| {
        let mut hand = base();
        assert!(act(&mut hand));
        hand.tree.digest()
    };
    let digests = [
        digest_after(&|_| true),
        digest_after(&|hand| hand.set("/a", "e").version == 1),
        digest_after(&|hand| hand.set("/b", "e").version == 1),
        digest_after(&|hand| hand.set_acl("/a", &Acl::open()).is_ok()),
        digest_after(&|hand| hand.set_acl("/a", &Acl::read_only()).is_ok()),
        digest_after(&|hand| hand.tree.set_sequence("/a", 9).is_ok()),
        digest_after(&|hand| hand.create("/c").version == 0),
        digest_after(&|hand| !hand.create_as("/c", CreateMode::Ephemeral).0.is_empty()),
        digest_after(&|hand| !hand.create_as("/c", CreateMode::Container).0.is_empty()),
        digest_after(&|hand| !hand.create_as("/c", CreateMode::Ttl { ttl_ms: 1 }).0.is_empty()),
        digest_after(&|hand| !hand.create_as("/c", CreateMode::Ttl { ttl_ms: 2 }).0.is_empty()),
        digest_after(&|hand| hand.op(&delete("/a")).is_ok()),
    ];
    let distinct: std::collections::HashSet<u64> = digests.into_iter().collect();
    assert_eq!(distinct.len(), digests.len());
}
