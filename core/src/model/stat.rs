use super::{SessionId, Zxid};

/// What is known about a znode besides its data: the eleven fields of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stat {
    /// The zxid of the change that created the znode. It is unique in time: a znode that is
    /// deleted and created again has another, which makes it the fencing token of the recipes.
    pub czxid: Zxid,
    /// The zxid of the last change of the data (or of the creation).
    pub mzxid: Zxid,
    /// When the znode was created, in milliseconds since the Unix epoch, by the leader's clock.
    pub ctime_ms: i64,
    /// When the data last changed, in milliseconds since the Unix epoch, by the leader's clock.
    pub mtime_ms: i64,
    /// How often the data has changed since the creation.
    pub version: i32,
    /// How often the list of children has changed: twice the creations less the children there
    /// are.
    pub cversion: i32,
    /// How often the ACL has changed.
    pub aversion: i32,
    /// The session that an ephemeral znode belongs to; `None` (0 on the wire) for every other.
    pub ephemeral_owner: Option<SessionId>,
    /// The size of the data, in bytes.
    pub data_bytes: u32,
    /// How many children there are.
    pub children: u32,
    /// The zxid of the last change of the list of children (or of the creation).
    pub pzxid: Zxid,
}
