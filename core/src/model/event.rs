use std::sync::Arc;

use super::Zxid;

/// What happened to a watched znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i32)]
pub enum EventKind {
    /// The znode was created.
    Created = 1,
    /// The znode was deleted.
    Deleted = 2,
    /// The znode's data was set (to the same bytes, maybe).
    DataChanged = 3,
    /// A child of the znode was created or deleted.
    ChildrenChanged = 4,
}

/// A change, told to a session that watches. It says that something changed, not to what: read
/// again to learn the present state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The znode that it happened to.
    pub path: Arc<str>,
    /// The zxid of the change; `None` from a server that does not say (before ZooKeeper 3.9).
    pub zxid: Option<Zxid>,
}
