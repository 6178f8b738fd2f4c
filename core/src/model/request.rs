use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::{Acl, CreateMode, Password, SessionId, Zxid};

// Requests carry paths as they came: which error wins for a malformed path depends on the tree
// (a missing parent comes before a bad character), so it is judged where the tree is.

/// What a client asks over its connection.
#[derive(Clone, PartialEq)]
pub enum Request {
    /// Goes through the log and takes a zxid.
    Write(Write),
    /// Answered from the member's own state.
    Read(Read),
    /// About the session's watches on this member.
    Watch(WatchRequest),
    /// Answered when this member has applied everything that was committed before.
    Sync {
        /// Echoed in the reply.
        path: Arc<str>,
    },
    /// Keeps the session alive.
    Ping,
    /// Proves an identity to this connection.
    Auth {
        /// The scheme, for instance `digest`.
        scheme: String,
        /// What the scheme asks for: for `digest`, `user:password`.
        credentials: Bytes,
    },
    /// One step of SASL, which proves an identity of the scheme `sasl` in the end.
    Sasl(SaslToken),
    /// Changes who the members of the cluster are; answered with
    /// [`CONFIG_PATH`](super::CONFIG_PATH)'s data when that is done.
    Reconfig(Reconfig),
}

/// What the two sides of SASL say to each other. It is not shown: who sees an exchange can try
/// passwords on it.
#[derive(Clone, PartialEq, Eq)]
pub struct SaslToken(pub Bytes);

impl fmt::Debug for SaslToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SaslToken({} bytes)", self.0.len())
    }
}

/// A change of the members of a cluster, in ZooKeeper's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconfig {
    /// Who joins, or gets another role: `server.ID=HOST:PORT:PORT:ROLE;HOST:PORT` each, between
    /// commas.
    pub joining: Option<String>,
    /// The numbers of those that leave, between commas.
    pub leaving: Option<String>,
    /// Everybody who is a member from then on, in the form of `joining`, in place of these.
    pub members: Option<String>,
    /// The version that the configuration must have, or −1 for any.
    pub from_version: i64,
}

impl Default for Reconfig {
    /// No change, whatever the version.
    fn default() -> Reconfig {
        Reconfig { joining: None, leaving: None, members: None, from_version: -1 }
    }
}

impl fmt::Debug for Request {
    /// Shows everything but what proves an identity.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Write(write) => f.debug_tuple("Write").field(write).finish(),
            Request::Read(read) => f.debug_tuple("Read").field(read).finish(),
            Request::Watch(watch) => f.debug_tuple("Watch").field(watch).finish(),
            Request::Sync { path } => f.debug_struct("Sync").field("path", path).finish(),
            Request::Ping => f.write_str("Ping"),
            Request::Reconfig(reconfig) => f.debug_tuple("Reconfig").field(reconfig).finish(),
            Request::Auth { scheme, .. } => {
                f.debug_struct("Auth").field("scheme", scheme).finish_non_exhaustive()
            }
            Request::Sasl(token) => f.debug_tuple("Sasl").field(token).finish(),
        }
    }
}

/// What changes the replicated state: the request of a log [`Entry`](super::Entry).
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// One operation ([`Op::Check`] is refused outside a transaction).
    Op(Op),
    /// Replaces the ACL.
    SetAcl {
        /// The znode.
        path: Arc<str>,
        /// The new list.
        acl: Vec<Acl>,
        /// The `aversion` it must have, or −1 for any.
        version: i32,
    },
    /// All operations at one zxid, or none.
    Multi(Vec<Op>),
    /// The operation at exactly this zxid, or not at all (a private operation of this project).
    ProposeAt {
        /// The zxid to be done at: above the last one, in the current epoch, at most
        /// [`ZXID_STEP_MAX`](super::limits::ZXID_STEP_MAX) ahead.
        zxid: Zxid,
        /// What to do.
        op: Op,
    },
    /// Opens a session (system). The zxid at which it is applied is its first attachment.
    CreateSession {
        /// The number of the new session, chosen by the proposer.
        id: SessionId,
        /// Its secret, from a CSPRNG.
        password: Password,
        /// The negotiated timeout in milliseconds.
        timeout_ms: u32,
    },
    /// Attaches the entry's session to another connection. The zxid at which it is applied is
    /// the number of the attachment.
    Attach {
        /// The timeout negotiated anew, in milliseconds.
        timeout_ms: u32,
    },
    /// Ends the entry's session by its own wish.
    CloseSession,
    /// Ends a session that was not heard of for its timeout (system).
    ExpireSession {
        /// Which session.
        id: SessionId,
        /// The attachment it had when it was judged; refused if it has another by now.
        attachment: Zxid,
        /// The last sequence it had then; refused if it has written since.
        sequence: u64,
    },
    /// Deletes a container or TTL znode whose time has come (system); refused if it has not.
    Reap {
        /// The znode.
        path: Arc<str>,
    },
    /// Notes who the members of the cluster are, in `/zookeeper/config` (system).
    Configure {
        /// A line each, as [`CONFIG_PATH`](super::CONFIG_PATH) has them, without the version.
        members: Arc<str>,
    },
}

/// What creates a znode.
#[derive(Clone, Debug, PartialEq)]
pub struct Create {
    /// The path; a sequential mode appends ten digits.
    pub path: Arc<str>,
    /// The data; `None` is the protocol's null, which is not the same as empty.
    pub data: Option<Bytes>,
    /// Who may do what with it.
    pub acl: Vec<Acl>,
    /// How long it lives and how it is named.
    pub mode: CreateMode,
}

/// An operation that may stand alone or in a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Creates a znode.
    Create(Create),
    /// Deletes a znode without children.
    Delete {
        /// The znode.
        path: Arc<str>,
        /// The `version` it must have, or −1 for any.
        version: i32,
    },
    /// Replaces the data.
    SetData {
        /// The znode.
        path: Arc<str>,
        /// The new data.
        data: Option<Bytes>,
        /// The `version` it must have, or −1 for any.
        version: i32,
    },
    /// Holds the transaction to a version: it aborts unless the znode exists and has it.
    Check {
        /// The znode.
        path: Arc<str>,
        /// The `version` it must have, or −1 for any.
        version: i32,
    },
}

/// A question to the member's own state. `watch` leaves a one-shot watch in the same step.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// The Stat of a znode; a watch is left even when there is none.
    Exists {
        /// The znode.
        path: Arc<str>,
        /// Leave a data watch.
        watch: bool,
    },
    /// Data and Stat; no watch is left when there is no such znode.
    GetData {
        /// The znode.
        path: Arc<str>,
        /// Leave a data watch.
        watch: bool,
    },
    /// ACL and Stat.
    GetAcl {
        /// The znode.
        path: Arc<str>,
    },
    /// Names of the children, in no particular order, and the parent's Stat.
    Children {
        /// The parent.
        path: Arc<str>,
        /// Leave a child watch.
        watch: bool,
    },
    /// Several reads of one moment; an error of one does not stop the others.
    Multi(Vec<ReadOp>),
    /// Paths of the asking session's ephemeral znodes.
    Ephemerals {
        /// A plain string prefix of the paths; `None`, empty and `/` mean all.
        prefix: Option<Arc<str>>,
    },
    /// How many znodes lie below one, at any depth.
    DescendantCount {
        /// The znode.
        path: Arc<str>,
    },
    /// The identities that the connection has proved.
    WhoAmI,
}

/// A read that may stand in a multi-read.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadOp {
    /// Data and Stat.
    GetData {
        /// The znode.
        path: Arc<str>,
    },
    /// Names of the children.
    Children {
        /// The parent.
        path: Arc<str>,
    },
}

/// A request about watches: local to the member, never logged.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchRequest {
    /// Leaves a watch that stays; it needs neither an existing znode nor a permission.
    Add {
        /// The znode.
        path: Arc<str>,
        /// It alone, or all below too.
        mode: AddWatchMode,
    },
    /// Asks whether there is such a watch.
    Check {
        /// The znode.
        path: Arc<str>,
        /// Which.
        kind: WatchKind,
    },
    /// Removes it.
    Remove {
        /// The znode.
        path: Arc<str>,
        /// Which.
        kind: WatchKind,
    },
    /// Leaves the watches of a client that comes back, and tells what it has missed.
    Rearm(Rearm),
}

/// The two kinds of watch that stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum AddWatchMode {
    /// All four events of the znode itself.
    Persistent = 0,
    /// Created, deleted and data changed, of the znode and of all below it.
    PersistentRecursive = 1,
}

/// Which watches a removal or a check means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum WatchKind {
    /// One-shot child watches.
    Children = 1,
    /// One-shot data watches (left by `exists` or `get`).
    Data = 2,
    /// All of them.
    Any = 3,
    /// Persistent watches.
    Persistent = 4,
    /// Persistent recursive watches.
    PersistentRecursive = 5,
}

/// The watches that a client had before its connection broke.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rearm {
    /// The last zxid the client has seen: what changed after it is told now.
    pub since: Zxid,
    /// One-shot data watches on znodes that existed.
    pub data: Vec<Arc<str>>,
    /// One-shot watches left by `exists` on znodes that did not.
    pub exist: Vec<Arc<str>>,
    /// One-shot child watches.
    pub child: Vec<Arc<str>>,
    /// Persistent watches; what they missed is not told.
    pub persistent: Vec<Arc<str>>,
    /// Persistent recursive watches; what they missed is not told.
    pub recursive: Vec<Arc<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_shown() {
        let credentials = Bytes::from_static(b"ann:swordfish");
        let auth = Request::Auth { scheme: "digest".into(), credentials };
        assert_eq!(format!("{auth:?}"), r#"Auth { scheme: "digest", .. }"#);
        let sync = Request::Sync { path: "/a".into() };
        assert_eq!(format!("{sync:?}"), r#"Sync { path: "/a" }"#);
    }
}
