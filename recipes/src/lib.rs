//! Distributed recipes in Rust: what programs on several machines use to agree on who holds a
//! lock, who leads, and what the configuration is.
//!
//! ```
//! use synod::{Client, Fence, Lock};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
//! # runtime.block_on(async {
//! let client = Client::connect("embedded:").await?;
//! let lock = Lock::new(&client, "/locks/report")?;
//!
//! let guard = lock.acquire().await?;
//! let resource = Fence::new(); // lives at the resource, and refuses who held the lock before
//! resource.admit(guard.token())?;
//! guard.txn().create("/report", b"done").commit().await?; // only while the lock is held
//! guard.release().await?;
//!
//! client.close().await?;
//! # Ok::<(), synod::Error>(())
//! # }).unwrap();
//! ```
//!
//! # Layout
//! One file a recipe; each begins with its znodes and its algorithm.
//!
//! | module | what it holds |
//! |---|---|
//! | [`lock`] | [`Lock`]: one holder at a time, first come, first served |
//! | [`election`] | [`Election`]: one leader at a time, and a stream of who it is |
//! | [`config`] | [`ConfigWatch`]: a typed value that follows a znode |
//! | [`guard`] | [`Guard`]: token, loss, guarded transaction; what a lock and a leadership are |
//! | [`fence`] | [`Fence`]: the gate at the resource |
//! | `contender` | the one state machine behind lock and election |
//! | `testing` | a coordinator under virtual time, for tests of *your* code (feature `testing`) |
//!
//! The client and the data model come from `synod-core` and are re-exported here.

pub mod config;
mod contender;
pub mod election;
mod error;
pub mod fence;
pub mod guard;
pub mod lock;

pub use config::ConfigWatch;
pub use election::Election;
pub use error::{Error, Loss, LossReason};
pub use fence::Fence;
pub use guard::Guard;
pub use lock::Lock;
pub use synod_core::client::{
    self, Client, ClientBuilder, Notice, Session, SessionState, SessionStatus, Watch, WatchOnce,
};
pub use synod_core::model::{
    self, Acl, Code, CreateMode, Event, EventKind, Path, SessionEnd, SessionId, Stat, Zxid,
    ZxidGate,
};
#[cfg(feature = "testing")]
pub use synod_core::testing;
