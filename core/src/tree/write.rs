//! The operations. Each judges in the order in which the protocol's errors win, and changes
//! nothing before the last judgement.

use std::sync::Arc;

use super::lifetimes::ephemeral_bytes;
use super::multi::Undo;
use super::node::{Content, Life, Node, NodeId};
use super::quota::Usage;
use super::store::Tally;
use super::{AclId, Change, Effect, EffectKind, SPECIAL_PATHS, Tree, acl, digest};
use crate::model::limits::{DATA_BYTES_MAX, EPHEMERAL_BYTES_MAX, SEQUENCE_MAX};
use crate::model::{
    Acl, CONFIG_PATH, Code, Create, Op, OpResult, Perms, Refusal, Stat, validate_path,
};
use crate::plant::Plant;

/// Where an operation of a transaction writes how it is undone; `None` outside of one.
pub(super) type Journal<'a> = Option<&'a mut Vec<Undo>>;

impl Tree {
    /// Does one operation.
    ///
    /// [`Op::Check`] is accepted here; that it needs a transaction is a rule of the engine.
    ///
    /// # Errors
    /// The refusal that wins by the protocol's order; nothing has changed then.
    pub fn op(
        &mut self,
        change: &Change<'_>,
        op: &Op,
        effects: &mut Vec<Effect>,
    ) -> Result<OpResult, Refusal> {
        self.acls.sweep();
        self.one(change, op, effects, None)
    }

    pub(super) fn one(
        &mut self,
        change: &Change<'_>,
        op: &Op,
        effects: &mut Vec<Effect>,
        journal: Journal<'_>,
    ) -> Result<OpResult, Refusal> {
        self.may_touch_quotas(op, journal.is_some())?;
        match op {
            Op::Create(create) => self.create(change, create, effects, journal),
            Op::Delete { path, version } => self.delete(change, path, *version, effects, journal),
            Op::SetData { path, data, version } => {
                let data = data.as_deref();
                self.set_data(change, path, data, *version, effects, journal)
            }
            Op::Check { path, version } => {
                valid(path)?;
                let id = self.lookup(path).ok_or(NO_NODE)?;
                self.require(id, change.identities, Perms::READ, "a check needs READ")?;
                expect_version(self.node(id).version, *version)?;
                Ok(OpResult::Checked)
            }
        }
    }

    fn create(
        &mut self,
        change: &Change<'_>,
        create: &Create,
        effects: &mut Vec<Effect>,
        journal: Journal<'_>,
    ) -> Result<OpResult, Refusal> {
        if !create.mode.has_valid_ttl() {
            return Err(bad("a time to live is 1 to 2^40 - 1 ms"));
        }
        let slash = last_slash(&create.path)?;
        let acl = acl::resolve(&create.acl, change.identities)?;
        let parent = self.parent(&create.path[..slash]).ok_or(NO_PARENT)?;
        self.require(parent, change.identities, Perms::CREATE, "a create needs CREATE above")?;
        let creates = if self.planted.is(Plant::ReusedSequence) {
            self.node(parent).children as i32
        } else {
            self.node(parent).creates
        };
        let path = if !create.mode.is_sequential() {
            Arc::clone(&create.path)
        } else if creates <= SEQUENCE_MAX {
            format!("{}{creates:010}", create.path).into()
        } else {
            return Err(Refusal::new(
                Code::SequenceExhausted,
                "a parent gives out sequence suffixes up to 2147483646",
            ));
        };
        valid(&path)?;
        let data = create.data.as_deref();
        fits(data)?;
        // The suffix has no slash. Of `/`, the only valid path without a name, there is one.
        let name = &path[slash + 1..];
        if name.is_empty() || self.lookup(&path).is_some() {
            return Err(Refusal::new(Code::NodeExists, "the znode must not exist"));
        }
        if self.node(parent).is_ephemeral() {
            return Err(Refusal::new(
                Code::NoChildrenForEphemerals,
                "an ephemeral znode has no children",
            ));
        }
        let bytes = data.map_or(0, |data| data.len() as i64);
        self.within_quotas(&path, Usage { znodes: 1, bytes })?;
        self.may_begin_quota(&path)?;
        let life = Life::of(create.mode, change.session);
        if matches!(life, Life::Ephemeral(_)) {
            let before = self.lifetimes.bytes_of_session(change.session);
            if before + ephemeral_bytes(path.len()) > EPHEMERAL_BYTES_MAX {
                let rule = "the ephemeral znodes of a session have at most 16777216 bytes of paths, \
                            and 64 for each";
                return Err(Refusal::new(Code::Throttled, rule));
            }
        }

        let acl = self.acls.intern(&acl);
        let content = Content::new(name.as_bytes(), data, digest::content(&path, data));
        let node = Node::new(parent, name, content, acl.0, life, change.zxid, change.time_ms);
        let before = Tally::of(self.node(parent));
        let tally = Tally { creates: creates.saturating_add(1), pzxid: change.zxid.as_i64() };
        let id = self.attach(&path, node, tally);
        let stat = self.node(id).stat();
        if let Some(undo) = journal {
            undo.push(Undo::Created { path: Arc::clone(&path), id, parent: before });
        }
        effects.push(Effect {
            kind: EffectKind::Created,
            path: Arc::clone(&path),
            acl,
            parent_acl: AclId(self.node(parent).acl),
        });
        Ok(OpResult::Created { path, stat })
    }

    fn delete(
        &mut self,
        change: &Change<'_>,
        path: &Arc<str>,
        version: i32,
        effects: &mut Vec<Effect>,
        journal: Journal<'_>,
    ) -> Result<OpResult, Refusal> {
        let slash = last_slash(path)?;
        if SPECIAL_PATHS.contains(&&**path) {
            return Err(bad("the coordinator's own znodes cannot be deleted"));
        }
        let parent = self.parent(&path[..slash]).ok_or(NO_PARENT)?;
        self.require(parent, change.identities, Perms::DELETE, "a delete needs DELETE above")?;
        let id = self.lookup(path).ok_or(NO_NODE)?;
        let node = self.node(id);
        expect_version(node.version, version)?;
        if node.children != 0 {
            return Err(NOT_EMPTY);
        }
        self.end(change, id, Arc::clone(path), effects, journal);
        Ok(OpResult::Deleted)
    }

    /// Deletes a childless znode, whoever asks.
    fn end(
        &mut self,
        change: &Change<'_>,
        id: NodeId,
        path: Arc<str>,
        effects: &mut Vec<Effect>,
        journal: Journal<'_>,
    ) {
        let parent = self.node(self.node(id).parent);
        let (before, parent_acl) = (Tally::of(parent), AclId(parent.acl));
        let tally = Tally { pzxid: change.zxid.as_i64(), ..before };
        let Some(node) = self.detach(&path, id, tally) else { return };
        let (kind, acl) = (EffectKind::Deleted, AclId(node.acl));
        effects.push(Effect { kind, path: Arc::clone(&path), acl, parent_acl });
        if let Some(undo) = journal {
            undo.push(Undo::Deleted { path, id, node, parent: before });
        }
    }

    fn set_data(
        &mut self,
        change: &Change<'_>,
        path: &Arc<str>,
        data: Option<&[u8]>,
        version: i32,
        effects: &mut Vec<Effect>,
        journal: Journal<'_>,
    ) -> Result<OpResult, Refusal> {
        valid(path)?;
        fits(data)?;
        let id = self.lookup(path).ok_or(NO_NODE)?;
        self.require(id, change.identities, Perms::WRITE, "a set needs WRITE")?;
        let bytes = data.map_or(0, |data| data.len() as i64) - self.node(id).data_bytes();
        self.within_quotas(path, Usage { znodes: 0, bytes })?;
        expect_version(self.node(id).version, version)?;
        self.put_data(change, id, path, data, effects, journal);
        Ok(OpResult::Set(self.node(id).stat()))
    }

    /// Replaces the data of the configuration's znode, whoever may write to it.
    ///
    /// # Errors
    /// It is too large; nothing has changed then.
    pub fn configure(
        &mut self,
        change: &Change<'_>,
        data: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        fits(Some(data))?;
        let id = self.lookup(CONFIG_PATH).ok_or(NO_NODE)?;
        self.put_data(change, id, &CONFIG_PATH.into(), Some(data), effects, None);
        Ok(())
    }

    fn put_data(
        &mut self,
        change: &Change<'_>,
        id: NodeId,
        path: &Arc<str>,
        data: Option<&[u8]>,
        effects: &mut Vec<Effect>,
        journal: Journal<'_>,
    ) {
        let node = self.node(id);
        if let Some(undo) = journal {
            undo.push(Undo::Set {
                path: Arc::clone(path),
                id,
                content: node.content(),
                mzxid: node.mzxid,
                mtime_ms: node.mtime_ms,
                version: node.version,
            });
        }
        effects.push(Effect {
            kind: EffectKind::DataChanged,
            path: Arc::clone(path),
            acl: AclId(node.acl),
            parent_acl: self.parent_acl(node),
        });
        let digest = digest::content(path, data);
        self.change_data(path, id, |node| {
            node.set_data(data, digest);
            (node.mzxid, node.mtime_ms) = (change.zxid.as_i64(), change.time_ms);
            node.version = node.version.wrapping_add(1);
        });
    }

    /// Replaces the ACL of a znode that has this `aversion` (−1: any). No watch is told.
    ///
    /// # Errors
    /// The refusal that wins by the protocol's order; nothing has changed then.
    pub fn set_acl(
        &mut self,
        change: &Change<'_>,
        path: &str,
        acl: &[Acl],
        version: i32,
    ) -> Result<Stat, Refusal> {
        self.acls.sweep();
        valid(path)?;
        let acl = acl::resolve(acl, change.identities)?;
        let id = self.lookup(path).ok_or(NO_NODE)?;
        self.require(id, change.identities, Perms::ADMIN, "setting the ACL needs ADMIN")?;
        let aversion = self.node(id).aversion;
        expect_version(aversion, version)?;
        let acl = self.acls.intern(&acl);
        self.change_acl(id, acl, aversion.wrapping_add(1));
        Ok(self.node(id).stat())
    }

    /// Deletes a container or TTL znode whose time has come by `change.time_ms`: a container
    /// that had children and has none, or a TTL znode without children whose data has not
    /// changed for longer than its time to live.
    ///
    /// # Errors
    /// `NoNode`, or `BadArguments` if its time has not come.
    pub fn reap(
        &mut self,
        change: &Change<'_>,
        path: &str,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        self.acls.sweep();
        let id = self.lookup(path).ok_or(NO_NODE)?;
        if self.node(id).reap_after_ms().is_none_or(|time_ms| time_ms >= change.time_ms) {
            return Err(bad("only a container or TTL znode whose time has come is reaped"));
        }
        self.end(change, id, path.into(), effects, None);
        Ok(())
    }

    /// Deletes the ephemeral znodes of `change.session`, in ascending byte order of their paths.
    pub fn remove_ephemerals(&mut self, change: &Change<'_>, effects: &mut Vec<Effect>) {
        self.acls.sweep();
        let ids = self.lifetimes.of_session(change.session);
        let mut ephemerals: Vec<(String, NodeId)> = ids.map(|id| (self.path(id), id)).collect();
        ephemerals.sort_unstable();
        if self.planted.is(Plant::EphemeralLeft) {
            ephemerals.pop();
        }
        for (path, id) in ephemerals {
            self.end(change, id, path.into(), effects, None);
        }
    }

    /// Makes a parent believe that it has created so many children, to test what happens near
    /// the last sequence suffix.
    ///
    /// # Errors
    /// `NoNode`, or `BadArguments` for a negative number.
    #[cfg(any(test, feature = "testing"))]
    pub fn set_sequence(&mut self, parent: &str, creates: i32) -> Result<(), Refusal> {
        if creates < 0 {
            return Err(bad("a count is not negative"));
        }
        let id = self.lookup(parent).ok_or(NO_NODE)?;
        self.change(id, |node| node.creates = creates);
        Ok(())
    }

    /// The znode of what stands before the last slash: nothing, for a child of the root.
    fn parent(&self, path: &str) -> Option<NodeId> {
        if path.is_empty() { Some(self.root) } else { self.lookup(path) }
    }
}

pub(super) const NO_NODE: Refusal = Refusal::new(Code::NoNode, "the znode must exist");
const NO_PARENT: Refusal = Refusal::new(Code::NoNode, "the parent must exist");
const NOT_EMPTY: Refusal = Refusal::new(Code::NotEmpty, "a znode that is deleted has no children");

fn bad(rule: &'static str) -> Refusal {
    Refusal::new(Code::BadArguments, rule)
}

fn valid(path: &str) -> Result<(), Refusal> {
    validate_path(path).map_err(bad)
}

fn last_slash(path: &str) -> Result<usize, Refusal> {
    if path.contains('\0') {
        return Err(bad("a path has no U+0000"));
    }
    path.rfind('/').ok_or(bad("a path begins with /"))
}

fn fits(data: Option<&[u8]>) -> Result<(), Refusal> {
    if data.is_some_and(|data| data.len() > DATA_BYTES_MAX) {
        return Err(bad("data has at most 1048575 bytes"));
    }
    Ok(())
}

fn expect_version(version: i32, expected: i32) -> Result<(), Refusal> {
    if expected == -1 || expected == version {
        Ok(())
    } else {
        Err(Refusal::new(Code::BadVersion, "the version must be the expected one"))
    }
}
