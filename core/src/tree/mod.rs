//! The znodes: what every replica holds, and the pure function from a change to the next state.
//!
//! [`Tree`] knows no clock, no sessions' timeouts and no I/O: what a change depends on besides
//! the tree comes with it, as a [`Change`]. A change that is refused leaves the tree as it was.
//! Full paths are stored nowhere: a znode knows its parent and its name, and the table in which
//! a lookup finds it keeps half a hash.
//!
//! | file | what it holds |
//! |---|---|
//! | `node` | one znode: 160 bytes that hold its name and data too if they are small |
//! | `index` | the table from path to znode |
//! | `acl` | what ACLs are accepted and permit; each list is kept once |
//! | `lifetimes` | ephemerals by session, containers and TTL znodes by the time they are due |
//! | `digest` | the incremental digest by which replicas are compared |
//! | `store` | lookup, and the few primitives through which everything changes |
//! | `write` | the operations: create, delete, set, check, set ACL, and the ends of znodes |
//! | `multi` | transactions: all operations or none |
//! | `quota` | how many znodes and bytes there may be at a path and below |
//! | `read` | what is asked |
//! | `view` | [`TreeView`]: a point in time, for snapshots |
//! | `record`, `dump`, `build` | a znode in a snapshot, a view written out, a tree made of that |

mod acl;
mod build;
mod digest;
mod dump;
mod index;
mod lifetimes;
mod multi;
mod node;
mod quota;
mod read;
mod record;
mod store;
#[cfg(test)]
mod tests;
mod view;
mod write;

use std::sync::Arc;

use self::acl::AclTable;
use self::index::Index;
use self::lifetimes::Lifetimes;
use self::node::{Content, Life, NIL, Node, NodeId};
use self::quota::Quotas;
use crate::arena::Arena;
use crate::model::limits::CHILDREN_PER_REPLY_MAX;
use crate::model::{Acl, CONFIG_PATH, Identity, SessionId, Zxid};
use crate::plant::Planted;

pub use self::acl::AclId;
pub(crate) use self::build::TreeBuilder;
pub(crate) use self::dump::TreeDump;
pub use self::quota::QuotaWarning;
pub use self::view::{TreeView, ZnodeView};

/// The znodes that every tree has and nobody can delete.
const SPECIAL_PATHS: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", CONFIG_PATH];

/// Everything that a change depends on besides the tree.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The number of the change.
    pub zxid: Zxid,
    /// The leader's clock, in milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// Who asks: the owner of ephemeral znodes that the change creates.
    pub session: SessionId,
    /// What the connection has proved to be.
    pub identities: &'a [Identity],
}

/// What a znode takes besides its name and data, in bytes, its place in the index included.
const ZNODE_BYTES: usize = 160;

/// What a change did to one znode, for the watches. That the parent's list of children changed
/// follows from a creation or a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// What happened.
    pub kind: EffectKind,
    /// The znode that it happened to.
    pub path: Arc<str>,
    /// The ACL of the znode at that moment: who may not read it is not told.
    pub acl: AclId,
    /// The ACL of its parent at that moment (of the root: its own).
    pub parent_acl: AclId,
}

/// What can happen to a znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EffectKind {
    /// It was created.
    Created,
    /// It was deleted.
    Deleted,
    /// Its data was set.
    DataChanged,
}

/// The znodes of one coordinator, of one moment.
pub struct Tree {
    /// Mistakes for tests.
    pub(crate) planted: Planted,
    nodes: Arena<Node>,
    index: Index,
    acls: AclTable,
    lifetimes: Lifetimes,
    quotas: Quotas,
    quota_warning: Option<QuotaWarning>,
    digest: u64,
    /// Bytes of names and data.
    bytes: usize,
    root: NodeId,
    /// Most names in one list of children.
    pub(crate) children_listed_max: usize,
}

impl Tree {
    /// A tree with the znodes that every tree has: `/`, `/zookeeper`, `/zookeeper/quota` and
    /// `/zookeeper/config`, at zxid 0, with empty data; permitted to everybody, but for the last,
    /// which everybody may only read. Its `aversion` begins at −1, as in ZooKeeper.
    pub fn new() -> Tree {
        let mut nodes = Arena::new();
        let mut acls = AclTable::new();
        let open = acls.intern(&Acl::open()).0;
        let read_only = acls.intern(&Acl::read_only()).0;
        acls.retain(open);
        let special = |parent, path: &str| {
            let name = &path[path.rfind('/').map_or(0, |slash| slash + 1)..];
            let content =
                Content::new(name.as_bytes(), Some(&[]), digest::content(path, Some(&[])));
            let (acl, aversion) = if path == CONFIG_PATH { (read_only, -1) } else { (open, 0) };
            let mut node = Node::new(parent, name, content, acl, Life::Persistent, Zxid::ZERO, 0);
            node.aversion = aversion;
            node
        };
        let root = special(NIL, "/");
        let digest = root.term(acls.digest(open));
        let root = nodes.insert(root);
        assert_eq!(root, index::EMPTY, "the index takes the root's number for no znode");
        let (index, lifetimes) = (Index::new(), Lifetimes::default());
        let mut tree = Tree {
            planted: Planted::default(),
            nodes,
            index,
            acls,
            lifetimes,
            quotas: Quotas::default(),
            quota_warning: None,
            digest,
            bytes: 0,
            root,
            children_listed_max: CHILDREN_PER_REPLY_MAX,
        };
        // The server's own znodes are not counted as created children of their parents.
        let uncounted = store::Tally { creates: 0, pzxid: 0 };
        let zookeeper = tree.attach("/zookeeper", special(root, "/zookeeper"), uncounted);
        for path in ["/zookeeper/quota", CONFIG_PATH] {
            tree.attach(path, special(zookeeper, path), uncounted);
        }
        tree
    }

    /// How many znodes there are, the server's own four included.
    #[expect(clippy::len_without_is_empty, reason = "a tree always has its own znodes")]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// How many of them are ephemeral.
    pub fn ephemeral_count(&self) -> usize {
        self.lifetimes.ephemeral_count()
    }

    /// Bytes of all names and data.
    pub fn approximate_data_bytes(&self) -> usize {
        self.bytes
    }

    /// What the tree takes in memory, in bytes: names, data, ACLs, and the tables around them.
    pub fn memory_bytes(&self) -> usize {
        self.bytes + self.acls.bytes() + self.quotas.bytes() + self.len() * ZNODE_BYTES
    }

    /// A number that two trees share if, and in practice only if, they hold the same znodes:
    /// paths, data, Stats, ACLs, lifetimes and sequence counters. It costs nothing to ask.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The tree as it is now. It costs one count a chunk of znodes, and later a copy of each
    /// chunk that is written to while the view lives.
    pub fn view(&self) -> TreeView {
        TreeView::new(self.nodes.view(), self.acls.view(), self.root, self.len(), self.digest)
    }
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}
