use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;

use foldhash::fast::RandomState;

use super::node::{NIL, Node, NodeId};
use crate::arena::Slots;

/// Finds a znode by its path, and keeps no path.
///
/// A znode is put where the hash of its full path says; whether a candidate is the one is judged
/// by walking up from it, name by name. So a lookup waits for one slot, not for one a part, and
/// what it reads of the parents it reads side by side. Half of each hash is kept beside the
/// number: growing the table reads no znode, and a lookup hardly ever reads a wrong one. The seed
/// is drawn per process: the order of the table never shows, and nobody can aim paths at one
/// place.
///
/// It is open addressing with linear probing, not hashbrown: at a million znodes a lookup waits
/// for memory once here, and twice (tags, then slot) there. That is a tenth of a read.
pub(super) struct Index {
    /// A power of two of them, or none.
    slots: Vec<Slot>,
    znodes: usize,
    hasher: RandomState,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    hash: u32,
    /// [`EMPTY`] in a slot that is free.
    node: NodeId,
}

/// The number of the root, the first znode of every tree: it has no name and is never here.
pub(super) const EMPTY: NodeId = 0;

const SLOTS_MIN: usize = 16;

/// Paths whose znodes come from memory side by side: about as many reads as a processor has on their
/// way at a time.
const TOGETHER: usize = 16;

/// Slots for each znode past which half of them are given back.
const SLOTS_EACH_MAX: usize = 8;

impl Index {
    pub(super) fn new() -> Index {
        Index { slots: vec![Slot::default(); SLOTS_MIN], znodes: 0, hasher: RandomState::default() }
    }

    /// Where the znode of that path is put.
    pub(super) fn hash(&self, path: &str) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(path.as_bytes());
        (hasher.finish() >> 32) as u32
    }

    /// The first place from that of `hash` on whose slot is free or is the one.
    fn place(&self, hash: u32, is_it: impl Fn(Slot) -> bool) -> usize {
        let mask = self.slots.len() - 1;
        let mut place = hash as usize & mask;
        loop {
            let slot = self.slots[place];
            if slot.node == EMPTY || (slot.hash == hash && is_it(slot)) {
                return place;
            }
            place = (place + 1) & mask;
        }
    }

    pub(super) fn find(&self, nodes: &Slots<Node>, path: &str) -> Option<NodeId> {
        let place = self.place(self.hash(path), |slot| is_at(nodes, slot.node, path));
        let node = self.slots[place].node;
        (node != EMPTY).then_some(node)
    }

    /// Has the slots of some paths, and the znodes that they lead to, come from memory side by side
    /// instead of one after the other.
    ///
    /// No step depends on what the one before waits for, nor decides by it: so the processor goes on
    /// to the next path while it waits. (Chen and others, *Improving hash join performance through
    /// prefetching*, 2004, call it group prefetching.) How many paths those were.
    pub(super) fn prefetch<'a>(
        &self,
        nodes: &Slots<Node>,
        paths: impl Iterator<Item = &'a str>,
    ) -> usize {
        let mut hashes = [0; TOGETHER];
        let mut count = 0;
        for (hash, path) in hashes.iter_mut().zip(paths) {
            *hash = self.hash(path);
            count += 1;
        }
        let hashes = &hashes[..count];
        let mask = self.slots.len() - 1;
        let touched = |sum: u32, hash: &u32| sum ^ self.slots[*hash as usize & mask].hash;
        black_box(hashes.iter().fold(0, touched));
        let node = |hash: &u32| nodes.find(self.slots[self.place(*hash, |_| true)].node);
        black_box(hashes.iter().filter_map(node).fold(0, |sum, node| sum ^ node.touch()));
        black_box(hashes.iter().filter_map(node).fold(0, |sum, node| sum ^ node.touch_payload()));
        count
    }

    /// Adds a znode that is not there.
    pub(super) fn insert(&mut self, path: &str, node: NodeId) {
        // At most three quarters are full, or runs of full slots grow long.
        if (self.znodes + 1) * 4 > self.slots.len() * 3 {
            self.resize(self.slots.len() * 2);
        }
        let hash = self.hash(path);
        let place = self.place(hash, |_| false);
        self.slots[place] = Slot { hash, node };
        self.znodes += 1;
    }

    fn resize(&mut self, slots: usize) {
        let other = vec![Slot::default(); slots];
        for slot in std::mem::replace(&mut self.slots, other) {
            if slot.node != EMPTY {
                let place = self.place(slot.hash, |_| false);
                self.slots[place] = slot;
            }
        }
    }

    /// Puts all znodes of a tree into an index that was empty; `hashes` are those of their paths, by
    /// their numbers.
    ///
    /// # Errors
    /// A znode whose path another one has too.
    pub(super) fn fill(&mut self, nodes: &Slots<Node>, hashes: &[u32]) -> Result<(), NodeId> {
        let slots = (hashes.len() * 4 / 3 + 1).next_power_of_two().max(SLOTS_MIN);
        self.slots = vec![Slot::default(); slots];
        for (node, hash) in (0..).zip(hashes).skip(EMPTY as usize + 1) {
            let place = self.place(*hash, |slot| are_twins(nodes, slot.node, node));
            if self.slots[place].node != EMPTY {
                return Err(node);
            }
            self.slots[place] = Slot { hash: *hash, node };
            self.znodes += 1;
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &str, node: NodeId) {
        let mask = self.slots.len() - 1;
        let mut hole = self.place(self.hash(path), |slot| slot.node == node);
        if self.slots[hole].node == EMPTY {
            return;
        }
        // Those behind that would no longer be found move up, to keep every run whole.
        let mut place = hole;
        loop {
            place = (place + 1) & mask;
            let slot = self.slots[place];
            if slot.node == EMPTY {
                break;
            }
            let own = slot.hash as usize;
            if place.wrapping_sub(own) & mask >= place.wrapping_sub(hole) & mask {
                self.slots[hole] = slot;
                hole = place;
            }
        }
        self.slots[hole] = Slot::default();
        self.znodes -= 1;
        // Far from where it grows, so that what is created and deleted in turns resizes nothing.
        if self.slots.len() > SLOTS_MIN && self.znodes * SLOTS_EACH_MAX < self.slots.len() {
            self.resize(self.slots.len() / 2);
        }
    }
}

/// Whether the path of a znode is this one.
pub(super) fn is_at(nodes: &Slots<Node>, id: NodeId, path: &str) -> bool {
    let (mut node, mut rest) = (nodes.get(id), path.as_bytes());
    while node.parent != NIL {
        let above = rest.strip_suffix(node.name()).and_then(|rest| rest.strip_suffix(b"/"));
        let Some(above) = above else { return false };
        (node, rest) = (nodes.get(node.parent), above);
    }
    rest.is_empty()
}

/// Whether two znodes have the same path, if no two others above them have.
fn are_twins(nodes: &Slots<Node>, one: NodeId, other: NodeId) -> bool {
    let (one, other) = (nodes.get(one), nodes.get(other));
    one.parent == other.parent && one.name() == other.name()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Whether `hash` finds that number.
    fn finds(index: &Index, hash: u32, node: NodeId) -> bool {
        index.slots[index.place(hash, |slot| slot.node == node)].node == node
    }

    #[test]
    fn what_is_left_is_found_after_any_removals_and_the_rest_is_not() {
        let (mut index, mut left) = (Index::new(), BTreeMap::new());
        let mut state = 1_u64;
        for round in 1..20_000_u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Few znodes and many rounds: runs of full slots form, wrap round and break.
            let name = ((state >> 33) % 97).to_string();
            match left.remove(&name) {
                Some(node) => index.remove(&name, node),
                None => {
                    index.insert(&name, round);
                    left.insert(name, round);
                }
            }
            assert_eq!(index.znodes, left.len());
            for (name, node) in &left {
                assert!(finds(&index, index.hash(name), *node), "round {round}");
            }
            let full = index.slots.iter().filter(|slot| slot.node != EMPTY).count();
            assert_eq!(full, left.len());
        }
    }

    #[test]
    fn the_table_shrinks_with_what_is_in_it() {
        let mut index = Index::new();
        (1..=10_000).for_each(|node| index.insert(&node.to_string(), node));
        assert_eq!(index.slots.len(), 16_384);
        for node in 101..=10_000 {
            index.remove(&node.to_string(), node);
        }
        assert_eq!((index.slots.len(), index.znodes), (512, 100));
        for node in 1..=100 {
            assert!(finds(&index, index.hash(&node.to_string()), node));
            index.remove(&node.to_string(), node);
        }
        assert_eq!((index.slots.len(), index.znodes), (SLOTS_MIN, 0));
    }
}
