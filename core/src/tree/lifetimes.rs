use std::collections::BTreeSet;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::node::{Life, Node, NodeId};
use crate::model::SessionId;

/// Which znodes end otherwise than by a client's delete, so that nobody has to search the tree
/// for them.
#[derive(Default)]
pub(super) struct Lifetimes {
    ephemerals: HashMap<SessionId, Ephemerals, RandomState>,
    ephemeral_count: usize,
    /// Containers and TTL znodes that may be deleted, by the time after which they may. Those
    /// with children are not here until the last is gone.
    due: BTreeSet<(i64, NodeId)>,
}

/// Those of one session.
#[derive(Default)]
struct Ephemerals {
    ids: BTreeSet<NodeId>,
    bytes: usize,
}

/// What an ephemeral znode counts for among those of its session, in bytes: its path, and what else it
/// takes to delete it at the end of the session.
pub(super) fn ephemeral_bytes(path_bytes: usize) -> usize {
    path_bytes + 64
}

impl Lifetimes {
    /// A znode has come, with a path of so many bytes.
    pub(super) fn add(&mut self, id: NodeId, node: &Node, path_bytes: usize) {
        if let Life::Ephemeral(session) = node.life() {
            let ephemerals = self.ephemerals.entry(session).or_default();
            ephemerals.ids.insert(id);
            ephemerals.bytes += ephemeral_bytes(path_bytes);
            self.ephemeral_count += 1;
        }
        self.reschedule(id, None, node.reap_after_ms());
    }

    /// A znode has gone, with a path of so many bytes.
    pub(super) fn remove(&mut self, id: NodeId, node: &Node, path_bytes: usize) {
        if let Life::Ephemeral(session) = node.life()
            && let Some(ephemerals) = self.ephemerals.get_mut(&session)
            && ephemerals.ids.remove(&id)
        {
            ephemerals.bytes -= ephemeral_bytes(path_bytes);
            self.ephemeral_count -= 1;
            if ephemerals.ids.is_empty() {
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
        self.ephemerals.get(&session).into_iter().flat_map(|of| &of.ids).copied()
    }

    /// What those of a session count for, in bytes.
    pub(super) fn bytes_of_session(&self, session: SessionId) -> usize {
        self.ephemerals.get(&session).map_or(0, |of| of.bytes)
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
