use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::arena::Slots;
use super::node::{Node, NodeId};

/// Finds a child by its parent and name.
///
/// The names themselves stay in the znodes. Half of each hash is kept beside the number, so that
/// growing the table reads no znode (a pause of milliseconds instead of hundreds at a million),
/// and a lookup hardly ever reads a wrong one. The seed is drawn per process: the order of the
/// table never shows, and nobody can aim names at one bucket.
pub(super) struct Index {
    table: HashTable<Slot>,
    hasher: RandomState,
}

struct Slot {
    hash: u32,
    node: NodeId,
}

impl Slot {
    /// The table takes the place from the lower bits and a tag from the highest seven.
    fn spread(hash: u32) -> u64 {
        u64::from(hash) << 32 | u64::from(hash)
    }
}

impl Index {
    pub(super) fn new() -> Index {
        Index { table: HashTable::new(), hasher: RandomState::default() }
    }

    fn hash(&self, parent: NodeId, name: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(parent);
        hasher.write(name);
        (hasher.finish() >> 32) as u32
    }

    pub(super) fn find(&self, nodes: &Slots<Node>, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let hash = self.hash(parent, name);
        let is_it = |slot: &Slot| {
            slot.hash == hash && {
                let node = nodes.get(slot.node);
                node.parent == parent && node.name() == name
            }
        };
        self.table.find(Slot::spread(hash), is_it).map(|slot| slot.node)
    }

    pub(super) fn insert(&mut self, parent: NodeId, name: &[u8], node: NodeId) {
        let hash = self.hash(parent, name);
        let rehash = |slot: &Slot| Slot::spread(slot.hash);
        self.table.insert_unique(Slot::spread(hash), Slot { hash, node }, rehash);
    }

    pub(super) fn remove(&mut self, parent: NodeId, name: &[u8], node: NodeId) {
        let hash = self.hash(parent, name);
        if let Ok(entry) = self.table.find_entry(Slot::spread(hash), |slot| slot.node == node) {
            entry.remove();
        }
    }
}
