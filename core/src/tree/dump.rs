use bytes::BytesMut;

use super::node::NodeId;
use super::record::{self, FIELDS_BYTES_MAX};
use super::store::successor;
use super::view::TreeView;

/// No number yet.
const NEW: u32 = u32::MAX;

/// Writes a tree out, a piece at a time: one record a znode, parents before their children.
pub(crate) struct TreeDump {
    view: TreeView,
    /// The next znode, and its level above (negative) or below the one before it.
    next: Option<(NodeId, i32)>,
    /// The number in the snapshot of each ACL, by its number in the tree.
    acls: Vec<u32>,
    acls_written: u32,
}

impl TreeDump {
    pub(crate) fn new(view: TreeView) -> TreeDump {
        // The root is written as if it were the child of one before it.
        let next = Some((view.root, 1));
        TreeDump { view, next, acls: Vec::new(), acls_written: 0 }
    }

    /// Appends records until `out` holds at least `bytes` or nothing is left; whether something
    /// is.
    pub(crate) fn fill(&mut self, out: &mut BytesMut, bytes: usize) -> bool {
        while let Some((id, level)) = self.next
            && out.len() < bytes
        {
            let node = self.view.nodes.get(id);
            let index = node.acl as usize;
            if index >= self.acls.len() {
                self.acls.resize(index + 1, NEW);
            }
            let list = (self.acls[index] == NEW).then(|| {
                self.acls[index] = self.acls_written;
                self.acls_written += 1;
                &*self.view.acls.get(node.acl).list
            });
            // A path has at most 4,096 levels.
            let up = (1 - level) as u16;
            out.reserve(FIELDS_BYTES_MAX);
            record::put(out, node, up, self.acls[index], list);
            self.next = successor(&self.view.nodes, self.view.root, id);
        }
        self.next.is_some()
    }
}
