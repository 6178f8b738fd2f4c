use std::sync::Arc;

use bytes::Bytes;

use super::{Acl, Code, Identity, SaslToken, SessionId, Stat, Zxid};

/// The answer to a request that was not refused.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// Done, and there is nothing to tell: delete, close, expire, reap, sync, ping, auth and
    /// the requests about watches.
    Done,
    /// A znode was created.
    Created {
        /// Its path, with the suffix if it is sequential.
        path: Arc<str>,
        /// Its Stat.
        stat: Stat,
    },
    /// The Stat after a set of data or ACL, or of `exists`.
    Stat(Stat),
    /// Data and Stat.
    Data {
        /// The data; `None` if it was written as null.
        data: Option<Bytes>,
        /// The Stat of the same moment.
        stat: Stat,
    },
    /// ACL and Stat.
    Acl {
        /// The list; hashes are masked for who may not administer the znode.
        acl: Vec<Acl>,
        /// The Stat of the same moment.
        stat: Stat,
    },
    /// Names of children.
    Children {
        /// In no particular order.
        names: Vec<String>,
        /// The parent's Stat of the same moment.
        stat: Stat,
    },
    /// A transaction was done: a result an operation.
    Multi(Vec<OpResult>),
    /// The answers of a multi-read.
    MultiRead(Vec<Result<ReadOpResult, Code>>),
    /// Paths of the session's ephemeral znodes, sorted.
    Ephemerals(Vec<Arc<str>>),
    /// How many znodes lie below.
    DescendantCount(u32),
    /// The identities of the connection.
    WhoAmI(Vec<Identity>),
    /// The next step of SASL; `None` where it is not configured.
    Sasl(Option<SaslToken>),
    /// A session was opened or attached.
    Attached {
        /// The session.
        session: SessionId,
        /// The number of the attachment: the zxid of the entry.
        attachment: Zxid,
    },
}

/// The result of one operation of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum OpResult {
    /// A znode was created.
    Created {
        /// Its path, with the suffix if it is sequential.
        path: Arc<str>,
        /// Its Stat. All zero where the server leaves it out, as Apache ZooKeeper 3.8 does for
        /// an ephemeral znode: ask for it then.
        stat: Stat,
    },
    /// A znode was deleted.
    Deleted,
    /// Data was set.
    Set(Stat),
    /// A check held.
    Checked,
}

/// The answer to one read of a multi-read.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadOpResult {
    /// Data and Stat.
    Data {
        /// The data; `None` if it was written as null.
        data: Option<Bytes>,
        /// The Stat of the same moment.
        stat: Stat,
    },
    /// Names of children, in no particular order.
    Children(Vec<String>),
}
