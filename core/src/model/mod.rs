//! The vocabulary of the protocol: what is asked, answered, logged and told.
//!
//! | file | what it holds |
//! |---|---|
//! | `path` | [`Path`]: validated once, then trusted |
//! | `zxid` | [`Zxid`], the one global order, and [`ZxidGate`] |
//! | `stat` | [`Stat`], the eleven fields of a znode |
//! | `acl` | [`Acl`], [`Perms`], [`Identity`] |
//! | `create_mode` | [`CreateMode`]: how long a znode lives and how it is named |
//! | `request`, `response` | what a client asks and is answered |
//! | `event` | what a watch tells |
//! | `entry` | [`Entry`], the one thing that the log holds |
//! | `error` | [`Code`], [`Refusal`], [`Error`] |
//! | `limits` | every bound, a named constant with its unit |

mod acl;
mod create_mode;
mod entry;
mod error;
mod event;
pub mod limits;
mod path;
mod request;
mod response;
mod stat;
mod zxid;

pub use acl::{Acl, Identity, Perms};
pub use create_mode::CreateMode;
pub use entry::{Entry, Password, SessionId};
pub use error::{Code, Error, Refusal, SessionEnd};
pub use event::{Event, EventKind};
pub use path::{CONFIG_PATH, Path, validate_path};
pub use request::{
    AddWatchMode, Create, Op, Read, ReadOp, Rearm, Reconfig, Request, SaslToken, WatchKind,
    WatchRequest, Write,
};
pub use response::{OpResult, ReadOpResult, Response};
pub use stat::Stat;
pub use zxid::{StaleZxid, Zxid, ZxidGate};
