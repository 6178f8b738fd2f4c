use std::sync::Arc;

use super::Engine;
use crate::model::SessionId;
use crate::tree::QuotaWarning;

/// What a session takes, in bytes.
const SESSION_BYTES: usize = 192;

/// How much there is of everything, and of what it consists, for who operates a member.
impl Engine {
    /// How many znodes there are, the coordinator's own included.
    pub fn znode_count(&self) -> usize {
        self.tree.len()
    }

    /// How many of them are ephemeral.
    pub fn ephemeral_count(&self) -> usize {
        self.tree.ephemeral_count()
    }

    /// Bytes of all names and data.
    pub fn approximate_data_bytes(&self) -> usize {
        self.tree.approximate_data_bytes()
    }

    /// What the state takes in memory, in bytes, by an estimate that errs by some tenths: znodes
    /// with names, data and ACLs, sessions, and the watches on this member.
    pub fn memory_bytes(&self) -> usize {
        self.tree.memory_bytes() + self.sessions.len() * SESSION_BYTES + self.watches.bytes()
    }

    /// How many sessions are open.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// How many pairs of session and path have a watch on this member.
    pub fn watch_count(&self) -> usize {
        self.watches.len()
    }

    /// How many sessions watch something on this member.
    pub fn watching_session_count(&self) -> usize {
        self.watches.session_count()
    }

    /// How many paths are watched on this member.
    pub fn watched_path_count(&self) -> usize {
        self.watches.path_count()
    }

    /// Paths of so many of a session's ephemeral znodes at most, sorted.
    pub fn ephemerals_of(&self, id: SessionId, max: usize) -> Vec<Arc<str>> {
        self.tree.some_ephemerals(id, max)
    }

    /// Which sessions watch which paths on this member, in no particular order.
    pub fn watches(&self) -> impl Iterator<Item = (SessionId, Arc<str>)> {
        self.watches.iter()
    }

    /// The last write beyond a soft limit of a quota since this was asked: to be logged.
    pub fn take_quota_warning(&mut self) -> Option<QuotaWarning> {
        self.tree.take_quota_warning()
    }
}
