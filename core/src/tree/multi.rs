use std::sync::Arc;

use super::node::{Content, Node, NodeId};
use super::store::Tally;
use super::{Change, Effect, Tree, acl};
use crate::model::limits::{MULTI_BYTES_MAX, MULTI_OPS_MAX};
use crate::model::{Code, Op, OpResult, Refusal};
use crate::plant::Plant;

/// How one operation of a transaction is undone. Done strictly backwards, so that each finds
/// the tree as its operation had left it, numbers of slots included.
pub(super) enum Undo {
    Created { path: Arc<str>, id: NodeId, parent: Tally },
    Deleted { path: Arc<str>, id: NodeId, node: Node, parent: Tally },
    Set { path: Arc<str>, id: NodeId, content: Content, mzxid: i64, mtime_ms: i64, version: i32 },
}

impl Tree {
    /// Does all operations at one zxid, each upon what those before it left, or none.
    ///
    /// # Errors
    /// The refusal of the first operation that fails, with its index; without one if the
    /// transaction as a whole is too large. The tree and `effects` are as before then.
    pub fn multi(
        &mut self,
        change: &Change<'_>,
        ops: &[Op],
        effects: &mut Vec<Effect>,
    ) -> Result<Vec<OpResult>, Refusal> {
        self.acls.sweep();
        if ops.len() > MULTI_OPS_MAX {
            let rule = "a transaction has at most 65536 operations";
            return Err(Refusal::new(Code::BadArguments, rule));
        }
        if ops.iter().map(|op| op_bytes(op, change)).fold(0, usize::saturating_add)
            > MULTI_BYTES_MAX
        {
            let rule = "a transaction has at most 1048575 bytes of paths, data and ACLs";
            return Err(Refusal::new(Code::BadArguments, rule));
        }
        let effects_before = effects.len();
        let mut journal = Vec::with_capacity(ops.len());
        let mut results = Vec::with_capacity(ops.len());
        for (index, op) in ops.iter().enumerate() {
            match self.one(change, op, effects, Some(&mut journal)) {
                Ok(result) => results.push(result),
                Err(refusal) => {
                    effects.truncate(effects_before);
                    if !self.planted.is(Plant::HalfMulti) {
                        self.undo(journal);
                    }
                    return Err(Refusal { index: Some(index as u32), ..refusal });
                }
            }
        }
        Ok(results)
    }

    fn undo(&mut self, journal: Vec<Undo>) {
        for undo in journal.into_iter().rev() {
            match undo {
                Undo::Created { path, id, parent } => {
                    self.detach(&path, id, parent);
                }
                Undo::Deleted { path, id, node, parent } => {
                    let again = self.attach(&path, node, parent);
                    debug_assert_eq!(again, id, "the last emptied slot is filled first");
                }
                Undo::Set { path, id, content, mzxid, mtime_ms, version } => {
                    self.change_data(&path, id, |node| {
                        node.set_content(content);
                        (node.mzxid, node.mtime_ms, node.version) = (mzxid, mtime_ms, version);
                    });
                }
            }
        }
    }
}

/// Bytes of path, data and ACL, with all that `auth` stands for.
fn op_bytes(op: &Op, change: &Change<'_>) -> usize {
    match op {
        Op::Create(create) => {
            let acl = acl::resolved_bytes(&create.acl, change.identities);
            create.path.len() + create.data.as_ref().map_or(0, |data| data.len()) + acl
        }
        Op::SetData { path, data, .. } => path.len() + data.as_ref().map_or(0, |data| data.len()),
        Op::Delete { path, .. } | Op::Check { path, .. } => path.len(),
    }
}
