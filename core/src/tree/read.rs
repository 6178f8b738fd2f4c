use std::iter::successors;
use std::sync::Arc;

use bytes::Bytes;

use super::node::{NIL, Node, NodeId};
use super::store::successor;
use super::write::NO_NODE;
use super::{AclId, Tree};
use crate::model::limits::{EPHEMERAL_BYTES_MAX, REPLY_BYTES_MAX};
use crate::model::{
    Acl, CONFIG_PATH, Code, Identity, Perms, ReadOp, ReadOpResult, Refusal, SessionId, Stat,
};

/// What a reply may still hold.
struct Room {
    names: usize,
    bytes: usize,
}

impl Room {
    /// Takes what a text needs, before it is copied.
    fn take(&mut self, bytes: usize) -> Result<(), Refusal> {
        let rule = "the answers of one request have at most 64 MiB";
        let left = self.bytes.checked_sub(bytes + 4).ok_or(Refusal::new(Code::Throttled, rule))?;
        self.bytes = left;
        Ok(())
    }
}

// All ephemeral znodes of a session are told in one reply.
const _: () = assert!(EPHEMERAL_BYTES_MAX < REPLY_BYTES_MAX);

/// Znodes below which a lookup waits so seldom for memory that looking twice costs more.
const PREFETCH_ZNODES_MIN: usize = 50_000;

impl Tree {
    /// The Stat of a znode. It needs READ.
    ///
    /// # Errors
    /// `NoNode`, `NoAuth`.
    pub fn exists(&self, identities: &[Identity], path: &str) -> Result<Stat, Refusal> {
        Ok(self.readable(identities, path)?.1.stat())
    }

    /// Data and Stat of a znode. It needs READ.
    ///
    /// # Errors
    /// `NoNode`, `NoAuth`.
    pub fn get_data(
        &self,
        identities: &[Identity],
        path: &str,
    ) -> Result<(Option<Bytes>, Stat), Refusal> {
        let (_, node) = self.readable(identities, path)?;
        Ok((node.data_for_reply(), node.stat()))
    }

    /// The data of the configuration's znode.
    pub(crate) fn config(&self) -> &[u8] {
        self.lookup(CONFIG_PATH).and_then(|id| self.node(id).data()).unwrap_or_default()
    }

    /// ACL and Stat of a znode. It needs READ or ADMIN; without ADMIN the hashes of digest ids
    /// read `x`.
    ///
    /// # Errors
    /// `NoNode`, `NoAuth`.
    pub fn get_acl(
        &self,
        identities: &[Identity],
        path: &str,
    ) -> Result<(Vec<Acl>, Stat), Refusal> {
        let id = self.lookup(path).ok_or(NO_NODE)?;
        let rule = "reading the ACL needs READ or ADMIN";
        self.require(id, identities, Perms::READ | Perms::ADMIN, rule)?;
        let node = self.node(id);
        let mut acl = self.acls.list(node.acl).to_vec();
        if !self.acls.permits(node.acl, identities, Perms::ADMIN) {
            for line in acl.iter_mut().filter(|line| line.who.scheme == "digest") {
                let user_bytes = line.who.id.find(':').unwrap_or(line.who.id.len());
                line.who.id.truncate(user_bytes);
                line.who.id.push_str(":x");
            }
        }
        Ok((acl, node.stat()))
    }

    /// Names of a znode's children, in no particular order, and its Stat. It needs READ.
    ///
    /// # Errors
    /// `NoNode`, `NoAuth`; `Throttled` when there are more than are listed, or their names have more
    /// bytes than a reply.
    pub fn children(
        &self,
        identities: &[Identity],
        path: &str,
    ) -> Result<(Vec<String>, Stat), Refusal> {
        self.children_within(identities, path, &mut self.room())
    }

    /// The same, as far as there is room for names, of which it takes what it needs.
    fn children_within(
        &self,
        identities: &[Identity],
        path: &str,
        room: &mut Room,
    ) -> Result<(Vec<String>, Stat), Refusal> {
        let (_, node) = self.readable(identities, path)?;
        let Some(names_left) = room.names.checked_sub(node.children as usize) else {
            let rule = "children are listed if they are at most as many as the bound of a reply";
            return Err(Refusal::new(Code::Throttled, rule));
        };
        room.names = names_left;
        let mut names = Vec::with_capacity(node.children as usize);
        let mut child = node.first_child;
        while child != NIL {
            let node = self.node(child);
            room.take(node.name().len())?;
            names.push(String::from_utf8_lossy(node.name()).into_owned());
            child = node.next;
        }
        Ok((names, node.stat()))
    }

    /// Has what some lookups will need come from memory beforehand, side by side. It changes nothing
    /// but the time they take, and does nothing in a tree that fits into caches.
    pub fn prefetch<'a>(&self, mut paths: impl Iterator<Item = &'a str>) {
        if self.len() >= PREFETCH_ZNODES_MIN {
            while self.index.prefetch(self.nodes.slots(), paths.by_ref()) > 0 {}
        }
    }

    /// Several reads of one moment; an error of one does not stop the others. All of them together list
    /// as many children as one may.
    ///
    /// # Errors
    /// `Throttled` when the answers have more bytes than a reply: one short request can ask for the
    /// largest znode thousands of times.
    pub fn multi_read(
        &self,
        identities: &[Identity],
        ops: &[ReadOp],
    ) -> Result<Vec<Result<ReadOpResult, Code>>, Refusal> {
        let mut room = self.room();
        let mut answers = Vec::with_capacity(ops.len());
        for op in ops {
            let answer = match op {
                ReadOp::GetData { path } => self
                    .get_data(identities, path)
                    .map(|(data, stat)| ReadOpResult::Data { data, stat }),
                ReadOp::Children { path } => self
                    .children_within(identities, path, &mut room)
                    .map(|(names, _)| ReadOpResult::Children(names)),
            };
            if let Ok(ReadOpResult::Data { data: Some(data), .. }) = &answer {
                room.take(data.len())?;
            }
            answers.push(answer.map_err(|refusal| refusal.code));
        }
        Ok(answers)
    }

    fn room(&self) -> Room {
        Room { names: self.children_listed_max, bytes: REPLY_BYTES_MAX }
    }

    /// Paths of a session's ephemeral znodes, sorted. The prefix is of the text, not of parts;
    /// `None`, empty and `/` mean all. They are few enough for one reply.
    pub fn ephemerals(&self, session: SessionId, prefix: Option<&str>) -> Vec<Arc<str>> {
        let prefix = prefix.filter(|prefix| *prefix != "/").unwrap_or_default();
        let paths = self.lifetimes.of_session(session).map(|id| self.path(id));
        let mut paths: Vec<Arc<str>> =
            paths.filter(|path| path.starts_with(prefix)).map(Arc::from).collect();
        paths.sort_unstable();
        paths
    }

    /// Paths of so many of a session's ephemeral znodes at most, sorted. What is left out takes no
    /// time.
    pub fn some_ephemerals(&self, session: SessionId, max: usize) -> Vec<Arc<str>> {
        let some = self.lifetimes.of_session(session).take(max);
        let mut paths: Vec<Arc<str>> = some.map(|id| Arc::from(self.path(id))).collect();
        paths.sort_unstable();
        paths
    }

    /// How many znodes lie below one, at any depth. It needs READ there, and takes a time that
    /// grows with the answer (but for the root): so there may be as many as children in a list.
    ///
    /// # Errors
    /// `NoNode`, `NoAuth`, or `Throttled` if there are more.
    pub fn descendant_count(&self, identities: &[Identity], path: &str) -> Result<u32, Refusal> {
        let (top, _) = self.readable(identities, path)?;
        let count = if top == self.root {
            self.len()
        } else {
            let next = |id: &NodeId| successor(self.nodes.slots(), top, *id).map(|(id, _)| id);
            let max = self.children_listed_max;
            let count = successors(Some(top), next).take(max.saturating_add(2)).count();
            if count - 1 > max {
                let rule = "no more descendants are counted than children may be listed";
                return Err(Refusal::new(Code::Throttled, rule));
            }
            count
        };
        Ok((count - 1) as u32)
    }

    /// Containers and TTL znodes that [`Tree::reap`] accepts at `now_ms`, the longest due first,
    /// at most `max`. Only those are looked at.
    pub fn reapable(&self, now_ms: i64, max: usize) -> Vec<Arc<str>> {
        self.lifetimes.due(now_ms).take(max).map(|id| self.path(id).into()).collect()
    }

    /// The Stat of a znode, whoever asks: for watches that come back.
    pub fn stat(&self, path: &str) -> Option<Stat> {
        Some(self.node(self.lookup(path)?).stat())
    }

    /// The ACL of a znode, for [`Tree::permits`].
    pub fn acl_of(&self, path: &str) -> Option<AclId> {
        Some(AclId(self.node(self.lookup(path)?).acl))
    }

    /// Whether that ACL permits one of `perms` to somebody with these identities. False for the
    /// number of an ACL that is no longer in the tree.
    pub fn permits(&self, acl: AclId, identities: &[Identity], perms: Perms) -> bool {
        self.acls.permits(acl.0, identities, perms)
    }

    fn readable(&self, identities: &[Identity], path: &str) -> Result<(NodeId, &Node), Refusal> {
        let id = self.lookup(path).ok_or(NO_NODE)?;
        self.require(id, identities, Perms::READ, "a read needs READ")?;
        Ok((id, self.node(id)))
    }
}
