use std::collections::BTreeSet;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::node::{Life, Node, NodeId};
use crate::model::SessionId;

/// Which znodes end otherwise than by a client's delete, so that nobody has to search the tree
/// for them.
#[derive(Default)]
pub(super) struct Lifetimes {
    ephemerals: HashMap<SessionId, BTreeSet<NodeId>, RandomState>,
    ephemeral_count: usize,
    /// Containers and TTL znodes that may be deleted, by the time after which they may. Those
    /// with children are not here until the last is gone.
    due: BTreeSet<(i64, NodeId)>,
}

impl Lifetimes {
    /// A znode has come.
    pub(super) fn add(&mut self, id: NodeId, node: &Node) {
        if let Life::Ephemeral(session) = node.life() {
            self.ephemerals.entry(session).or_default().insert(id);
            self.ephemeral_count += 1;
        }
        self.reschedule(id, None, node.reap_after_ms());
    }

    /// A znode has gone.
    pub(super) fn remove(&mut self, id: NodeId, node: &Node) {
        if let Life::Ephemeral(session) = node.life()
            && let Some(ids) = self.ephemerals.get_mut(&session)
        {
            self.ephemeral_count -= usize::from(ids.remove(&id));
            if ids.is_empty() {
                self.ephemerals.remove(&session);
            }
        }
        self.reschedule(id, node.reap_after_ms(), None);
    }

    /// A znode's [`Node::reap_after_ms`] has changed, or not.
    pub(super) fn reschedule(&mut self, id: NodeId, before: Option<i64>, after: Option<i64>) {
        if before == after {
            return;
        }
        if let Some(time_ms) = before {
            self.due.remove(&(time_ms, id));
        }
        if let Some(time_ms) = after {
            self.due.insert((time_ms, id));
        }
    }

    pub(super) fn of_session(&self, session: SessionId) -> impl Iterator<Item = NodeId> {
        self.ephemerals.get(&session).into_iter().flatten().copied()
    }

    /// The sessions that have ephemeral znodes, in no order.
    pub(super) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.ephemerals.keys().copied()
    }

    pub(super) fn ephemeral_count(&self) -> usize {
        self.ephemeral_count
    }

    /// Those that may be deleted at `now_ms`, the longest due first.
    pub(super) fn due(&self, now_ms: i64) -> impl Iterator<Item = NodeId> {
        self.due.iter().take_while(move |(time_ms, _)| *time_ms < now_ms).map(|(_, id)| *id)
    }
}
