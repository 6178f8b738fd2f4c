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
//! | [`rwlock`] | [`RwLock`]: many readers or one writer, first come, first served |
//! | [`multi_lock`] | [`MultiLock`]: several locks, all or none |
//! | [`semaphore`] | [`Semaphore`]: a limited number of holders, each with a slot of its own |
//! | [`barrier`] | [`Barrier`], [`DoubleBarrier`], [`Latch`]: waiting for a word, or for each other |
//! | [`counter`] | [`Counter`], [`Cell`], [`IdBlocks`]: values that are changed exactly once |
//! | [`election`] | [`Election`]: one leader at a time, and a stream of who it is |
//! | [`membership`] | [`Group`]: who is there, by name, each with metadata |
//! | [`persistent_node`] | [`PersistentNode`]: an ephemeral znode that is restored |
//! | [`discovery`] | [`Discovery`]: the instances of a service, and which of them to ask |
//! | [`cache`] | [`Cache`]: a live copy of a subtree, equal to it at a zxid |
//! | [`feed`] | [`Feed`]: the changes of a subtree from a checkpoint on |
//! | [`queue`] | [`Queue`]: work at least once, with attempts, delays, priorities, dead letters |
//! | [`config`] | [`Config`]: a typed value, published in versions and followed |
//! | [`guard`] | [`Guard`]: token, loss, guarded transaction; what a lock and a leadership are |
//! | [`fence`] | [`Fence`]: the gate at the resource |
//! | [`partition`] | [`Partitioner`]: items divided among the members that live; [`HashRing`] |
//! | `backoff` | pauses between attempts that fail |
//! | `contender` | the one state machine behind locks and elections |
//! | `subtree` | what cache and feed stand on: a subtree, from one zxid to the next |
//! | `holding` | the ephemeral znode that every guard stands on |
//! | `layout` | [`Layout`]: names of Curator and Kazoo, for mixed fleets |
//! | `telemetry` | metrics and spans |
//! | `znodes` | what recipes do with znodes again and again |
//! | `testing` | a coordinator under virtual time, for tests of *your* code (feature `testing`) |
//!
//! The client and the data model come from `synod-core` and are re-exported here.

mod backoff;
pub mod barrier;
pub mod cache;
pub mod config;
mod contender;
pub mod counter;
pub mod discovery;
pub mod election;
mod error;
pub mod feed;
pub mod fence;
pub mod guard;
mod holding;
mod layout;
pub mod lock;
pub mod membership;
pub mod multi_lock;
pub mod partition;
pub mod persistent_node;
pub mod queue;
pub mod rwlock;
pub mod semaphore;
mod subtree;
mod telemetry;
mod znodes;

pub use barrier::{Barrier, DoubleBarrier, Latch};
pub use cache::Cache;
pub use config::{Config, If};
pub use counter::{Cell, Counter, IdBlocks};
pub use discovery::{Discovery, Instance};
pub use election::Election;
pub use error::{Error, Loss, LossReason};
pub use feed::Feed;
pub use fence::Fence;
pub use guard::Guard;
pub use layout::Layout;
pub use lock::Lock;
pub use membership::Group;
pub use multi_lock::MultiLock;
pub use partition::{HashRing, Partitioner};
pub use persistent_node::PersistentNode;
pub use queue::Queue;
pub use rwlock::RwLock;
pub use semaphore::Semaphore;
#[cfg(feature = "tls")]
pub use synod_core::client::Tls;
pub use synod_core::client::{
    self, Client, ClientBuilder, Notice, Session, SessionState, SessionStatus, Watch, WatchOnce,
};
pub use synod_core::model::{
    self, Acl, Code, CreateMode, Event, EventKind, Path, SessionEnd, SessionId, Stat, Zxid,
    ZxidGate,
};
#[cfg(feature = "testing")]
pub use synod_core::testing;
