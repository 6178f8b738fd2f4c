use super::acl::AclTable;
use super::index::{EMPTY, Index};
use super::lifetimes::Lifetimes;
use super::node::{Content, Life, NIL, Node, NodeId};
use super::quota::Quotas;
use super::record::Record;
use super::{AclId, SPECIAL_PATHS, Tree, digest};
use crate::arena::Arena;
use crate::cursor::{Cursor, Damage, Stop};
use crate::model::limits::{CHILDREN_PER_REPLY_MAX, PATH_BYTES_MAX};
use crate::model::{SessionId, Zxid, validate_path};
use crate::plant::Planted;

/// Makes a tree of the records that [`TreeDump`](super::TreeDump) wrote.
///
/// Links are set when all children of a znode are known, and the index is made at the end, at its
/// final size: a znode is touched while it is in the processor's cache, and not again.
pub(crate) struct TreeBuilder {
    nodes: Arena<Node>,
    acls: AclTable,
    /// Numbers in the tree of the ACLs of the snapshot.
    acl_ids: Vec<AclId>,
    lifetimes: Lifetimes,
    digest: u64,
    bytes: usize,
    index: Index,
    /// For the index: the hash of each path, by the number of its znode.
    hashes: Vec<u32>,
    /// The znode of the last record and those above it, the root first.
    open: Vec<Open>,
    /// The path of the last of `open`; empty for the root.
    path: String,
    /// No zxid of a znode is above it.
    last_zxid: i64,
}

/// A znode whose children are being read.
struct Open {
    id: NodeId,
    path_bytes: usize,
    is_ephemeral: bool,
    first_child: NodeId,
    last_child: NodeId,
    children: u32,
}

impl TreeBuilder {
    pub(crate) fn new(last_zxid: Zxid) -> TreeBuilder {
        TreeBuilder {
            nodes: Arena::new(),
            acls: AclTable::new(),
            acl_ids: Vec::new(),
            lifetimes: Lifetimes::default(),
            digest: 0,
            bytes: 0,
            index: Index::new(),
            hashes: Vec::new(),
            open: Vec::new(),
            path: String::new(),
            last_zxid: last_zxid.as_i64(),
        }
    }

    /// How many znodes were read.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Reads one znode. If its record is cut off, nothing has changed.
    pub(crate) fn read(&mut self, from: &mut Cursor<'_>) -> Result<(), Stop> {
        let record = Record::read(from)?;
        let newest = record.czxid.max(record.mzxid).max(record.pzxid);
        if newest > self.last_zxid || record.czxid.min(record.mzxid).min(record.pzxid) < 0 {
            let what = format!("zxids of {:?} in {:?}", record.name, self.path);
            return Err(Stop::damaged(what, "a zxid is 0 to that of the last change"));
        }
        let parent = self.enter(&record)?;
        let acl = self.acl(&record)?;

        let path = if self.path.is_empty() { "/" } else { &self.path };
        let content =
            Content::new(record.name.as_bytes(), record.data, digest::content(path, record.data));
        let czxid = Zxid::from_i64(record.czxid);
        let mut node =
            Node::new(parent, record.name, content, acl.0, record.life, czxid, record.ctime_ms);
        (node.mzxid, node.mtime_ms, node.version) = (record.mzxid, record.mtime_ms, record.version);
        (node.pzxid, node.creates, node.aversion) = (record.pzxid, record.creates, record.aversion);
        if let Some(above) = self.open.last() {
            node.prev = above.last_child;
        }
        self.acls.retain(acl.0);
        self.digest = self.digest.wrapping_add(node.term(self.acls.digest(acl.0)));
        self.bytes += node.payload_bytes();

        let id = self.nodes.insert(node);
        self.hashes.push(self.index.hash(path));
        if let Some(above) = self.open.last_mut() {
            if above.first_child == NIL {
                above.first_child = id;
            }
            above.last_child = id;
            above.children += 1;
        }
        self.open.push(Open {
            id,
            path_bytes: self.path.len(),
            is_ephemeral: matches!(record.life, Life::Ephemeral(_)),
            first_child: NIL,
            last_child: NIL,
            children: 0,
        });
        Ok(())
    }

    /// Goes to where the znode belongs: says who its parent is, and leaves its path in `path`.
    fn enter(&mut self, record: &Record<'_>) -> Result<NodeId, Stop> {
        let Record { up, name, .. } = *record;
        if self.open.is_empty() {
            if up != 0 || !name.is_empty() || record.life != Life::Persistent {
                let what = format!("the first znode, {up} levels up, {name:?}");
                return Err(Stop::damaged(what, "the first znode is the persistent root"));
            }
            return Ok(NIL);
        }
        let up = usize::from(up);
        if up >= self.open.len() {
            let what = format!("{name:?}, {up} levels above {:?}", self.path);
            return Err(Stop::damaged(what, "every znode but the first lies below the root"));
        }
        // The last to be closed is the one that has the next sibling.
        for level in 1..=up {
            self.close(if level == up { self.nodes.next() } else { NIL });
        }
        let Some(parent) = self.open.last() else { return Ok(NIL) };
        let (id, is_ephemeral, path_bytes) = (parent.id, parent.is_ephemeral, parent.path_bytes);
        self.path.truncate(path_bytes);
        if is_ephemeral {
            let what = format!("{name:?} in {:?}", self.path);
            return Err(Stop::damaged(what, "an ephemeral znode has no children"));
        }
        self.path.push('/');
        self.path.push_str(name);
        let rule = match validate_path(&self.path[path_bytes..]) {
            Err(rule) => rule,
            Ok(()) if name.is_empty() || name.contains('/') => "a name is one part of a path",
            Ok(()) if self.path.len() > PATH_BYTES_MAX => "a path has at most 8192 bytes",
            Ok(()) => return Ok(id),
        };
        Err(Stop::damaged(format!("path {:?}", self.path), rule))
    }

    /// The last of `open` has no more children.
    fn close(&mut self, next: NodeId) {
        let Some(closed) = self.open.pop() else { return };
        let node = self.nodes.get_mut(closed.id);
        (node.first_child, node.children, node.next) = (closed.first_child, closed.children, next);
        self.lifetimes.add(closed.id, node, closed.path_bytes);
    }

    fn acl(&mut self, record: &Record<'_>) -> Result<AclId, Stop> {
        let (number, known) = (record.acl as usize, self.acl_ids.len());
        match (&record.new_acl, self.acl_ids.get(number)) {
            (None, Some(acl)) => Ok(*acl),
            (Some(list), None) if number == known => {
                let acl = self.acls.intern(list);
                self.acl_ids.push(acl);
                Ok(acl)
            }
            _ => {
                let what = format!("ACL {number} of {:?}, after {known} others", self.path);
                Err(Stop::damaged(what, "ACLs are numbered by first use, and stand there"))
            }
        }
    }

    /// The tree of all that was read; the sessions of ephemeral znodes must be among those that
    /// `is_session` knows.
    pub(crate) fn finish(mut self, is_session: impl Fn(SessionId) -> bool) -> Result<Tree, Damage> {
        while !self.open.is_empty() {
            self.close(NIL);
        }
        let TreeBuilder { nodes, acls, lifetimes, digest, bytes, index, hashes, .. } = self;
        // The first record was the root.
        let mut tree = Tree {
            planted: Planted::default(),
            nodes,
            index,
            acls,
            lifetimes,
            quotas: Quotas::default(),
            quota_warning: None,
            digest,
            bytes,
            root: EMPTY,
            children_listed_max: CHILDREN_PER_REPLY_MAX,
        };
        if let Err(twin) = tree.index.fill(tree.nodes.slots(), &hashes) {
            let what = format!("path {:?}", tree.path(twin));
            return Err(Damage { what, rule: "a path has one znode" });
        }
        if let Some(session) = tree.lifetimes.sessions().find(|session| !is_session(*session)) {
            let what = format!("the owner of ephemeral znodes, session {session}");
            return Err(Damage { what, rule: "the owner of a znode is an open session" });
        }
        let is_special = |id: NodeId| {
            tree.nodes.slots().find(id).is_some_and(|node| node.life() == Life::Persistent)
        };
        match SPECIAL_PATHS.iter().find(|path| !tree.lookup(path).is_some_and(is_special)) {
            None => Ok(tree),
            Some(path) => {
                let rule = "the coordinator's own znodes are always there, and persistent";
                Err(Damage { what: format!("path {path:?}"), rule })
            }
        }
    }
}
