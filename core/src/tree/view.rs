use super::acl::Entry;
use super::node::{Node, NodeId};
use super::store::successor;
use crate::arena::Slots;
use crate::model::{Acl, CreateMode, Stat};

/// A tree at one point in time, unaffected by what is done to the tree later. It can be sent to
/// another thread and written out there.
#[derive(Clone)]
pub struct TreeView {
    pub(super) nodes: Slots<Node>,
    pub(super) acls: Slots<Entry>,
    pub(super) root: NodeId,
    znodes: usize,
    digest: u64,
}

/// One znode of a [`TreeView`]: all that it takes to make it again.
#[derive(Clone, Copy, Debug)]
pub struct ZnodeView<'a> {
    /// The data; `None` if it was written as null.
    pub data: Option<&'a [u8]>,
    /// The ACL, as it is stored.
    pub acl: &'a [Acl],
    /// The Stat; it names the session of an ephemeral znode.
    pub stat: Stat,
    /// How long it lives; never a sequential mode.
    pub mode: CreateMode,
    /// How many children were ever created: the next sequence suffix.
    pub creates: i32,
}

impl TreeView {
    pub(super) fn new(
        nodes: Slots<Node>,
        acls: Slots<Entry>,
        root: NodeId,
        znodes: usize,
        digest: u64,
    ) -> TreeView {
        TreeView { nodes, acls, root, znodes, digest }
    }

    /// How many znodes there are.
    #[expect(clippy::len_without_is_empty, reason = "a tree always has its own znodes")]
    pub fn len(&self) -> usize {
        self.znodes
    }

    /// The digest of the tree at that point.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Shows every znode with its full path, parents before their children. The order of
    /// siblings is not specified.
    pub fn visit(&self, mut show: impl FnMut(&str, ZnodeView<'_>)) {
        let mut path = String::new();
        let mut next = Some((self.root, 0));
        while let Some((id, level)) = next {
            // Up to the parent of `id`, which is `1 - level` levels above the last one shown.
            for _ in level..1 {
                path.truncate(path.rfind('/').unwrap_or(0));
            }
            let node = self.nodes.get(id);
            if id != self.root {
                path.push('/');
                path.push_str(&String::from_utf8_lossy(node.name()));
            }
            let shown = ZnodeView {
                data: node.data(),
                acl: &self.acls.get(node.acl).list,
                stat: node.stat(),
                mode: node.life().mode(),
                creates: node.creates,
            };
            show(if path.is_empty() { "/" } else { &path }, shown);
            next = successor(&self.nodes, self.root, id);
        }
    }
}
