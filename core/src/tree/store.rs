//! Lookup, and the primitives through which everything changes. They keep the index, the
//! digest, the lifetimes, the quotas and the ACLs' counts true, so that the operations need not
//! think of them; and each is undone by its opposite.

use super::node::{NIL, Node, NodeId};
use super::quota::Usage;
use super::{AclId, Tree};
use crate::arena::Slots;
use crate::model::{Code, Identity, Perms, Refusal};

/// What of a parent's Stat changes with its list of children.
#[derive(Clone, Copy)]
pub(super) struct Tally {
    pub(super) creates: i32,
    pub(super) pzxid: i64,
}

impl Tally {
    pub(super) fn of(node: &Node) -> Tally {
        Tally { creates: node.creates, pzxid: node.pzxid }
    }
}

impl Tree {
    pub(super) fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id)
    }

    /// The znode of a path. Malformed paths have none.
    pub(super) fn lookup(&self, path: &str) -> Option<NodeId> {
        if path == "/" { Some(self.root) } else { self.index.find(self.nodes.slots(), path) }
    }

    /// The ACL of a znode's parent; of the root, its own.
    pub(super) fn parent_acl(&self, node: &Node) -> AclId {
        AclId(if node.parent == NIL { node.acl } else { self.node(node.parent).acl })
    }

    pub(super) fn require(
        &self,
        id: NodeId,
        identities: &[Identity],
        perms: Perms,
        rule: &'static str,
    ) -> Result<(), Refusal> {
        if self.acls.permits(self.node(id).acl, identities, perms) {
            Ok(())
        } else {
            Err(Refusal::new(Code::NoAuth, rule))
        }
    }

    /// Changes a znode, not its place in the tree and not its ACL.
    pub(super) fn change(&mut self, id: NodeId, change: impl FnOnce(&mut Node)) {
        let node = self.nodes.get_mut(id);
        let acl = self.acls.digest(node.acl);
        let (term, due, bytes) = (node.term(acl), node.reap_after_ms(), node.payload_bytes());
        change(node);
        self.digest = self.digest.wrapping_sub(term).wrapping_add(node.term(acl));
        self.bytes = self.bytes - bytes + node.payload_bytes();
        self.lifetimes.reschedule(id, due, node.reap_after_ms());
    }

    /// Changes the data of a znode of that full path.
    pub(super) fn change_data(&mut self, path: &str, id: NodeId, change: impl FnOnce(&mut Node)) {
        let before = self.node(id).data_bytes();
        self.change(id, change);
        let bytes = self.node(id).data_bytes() - before;
        self.count_in_quotas(path, Usage { znodes: 0, bytes });
    }

    /// Gives a znode another ACL.
    pub(super) fn change_acl(&mut self, id: NodeId, acl: AclId, aversion: i32) {
        let node = self.nodes.get_mut(id);
        self.acls.retain(acl.0);
        self.acls.release(node.acl);
        let term = node.term(self.acls.digest(node.acl));
        (node.acl, node.aversion) = (acl.0, aversion);
        let changed = node.term(self.acls.digest(acl.0));
        self.digest = self.digest.wrapping_sub(term).wrapping_add(changed);
    }

    /// Puts a znode of that full path under its parent, whose tally becomes `tally`.
    pub(super) fn attach(&mut self, path: &str, mut node: Node, tally: Tally) -> NodeId {
        let parent = node.parent;
        let elder = self.node(parent).first_child;
        let bytes = node.data_bytes();
        (node.prev, node.next) = (NIL, elder);
        self.acls.retain(node.acl);
        self.digest = self.digest.wrapping_add(node.term(self.acls.digest(node.acl)));
        self.bytes += node.payload_bytes();

        let id = self.nodes.insert(node);
        self.index.insert(path, id);
        self.lifetimes.add(id, self.nodes.get(id), path.len());
        if elder != NIL {
            self.nodes.get_mut(elder).prev = id;
        }
        self.change(parent, |parent| {
            parent.first_child = id;
            parent.children += 1;
            (parent.creates, parent.pzxid) = (tally.creates, tally.pzxid);
        });
        self.count_in_quotas(path, Usage { znodes: 1, bytes });
        id
    }

    /// Takes a childless znode of that full path from its parent, whose tally becomes `tally`.
    pub(super) fn detach(&mut self, path: &str, id: NodeId, tally: Tally) -> Option<Node> {
        let node = self.nodes.remove(id)?;
        self.index.remove(path, id);
        self.lifetimes.remove(id, &node, path.len());
        if node.next != NIL {
            self.nodes.get_mut(node.next).prev = node.prev;
        }
        if node.prev != NIL {
            self.nodes.get_mut(node.prev).next = node.next;
        }
        self.change(node.parent, |parent| {
            if parent.first_child == id {
                parent.first_child = node.next;
            }
            parent.children -= 1;
            (parent.creates, parent.pzxid) = (tally.creates, tally.pzxid);
        });
        self.digest = self.digest.wrapping_sub(node.term(self.acls.digest(node.acl)));
        self.bytes -= node.payload_bytes();
        self.acls.release(node.acl);
        self.count_in_quotas(path, Usage { znodes: -1, bytes: -node.data_bytes() });
        Some(node)
    }

    /// The full path of a znode.
    pub(super) fn path(&self, id: NodeId) -> String {
        let mut ancestry = Vec::new();
        let mut node = self.node(id);
        while node.parent != NIL {
            ancestry.push(node.name());
            node = self.node(node.parent);
        }
        let mut path = String::with_capacity(ancestry.iter().map(|name| name.len() + 1).sum());
        for name in ancestry.into_iter().rev() {
            path.push('/');
            path.push_str(&String::from_utf8_lossy(name));
        }
        if path.is_empty() {
            path.push('/');
        }
        path
    }
}

/// The znode after `id` in a walk through all below `top`: parents before their children. The
/// second is how many levels it lies above (negative) or below `id`.
///
/// Links are followed instead of a stack kept: the depth of a tree is its users' choice.
pub(super) fn successor(nodes: &Slots<Node>, top: NodeId, id: NodeId) -> Option<(NodeId, i32)> {
    let mut node = nodes.get(id);
    if node.first_child != NIL {
        return Some((node.first_child, 1));
    }
    let (mut at, mut level) = (id, 0);
    while at != top {
        if node.next != NIL {
            return Some((node.next, level));
        }
        (at, level) = (node.parent, level - 1);
        node = nodes.get(at);
    }
    None
}
