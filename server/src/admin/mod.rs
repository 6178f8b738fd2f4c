//! Looks into a cluster and changes its members, over the port on which they reach each other.
//!
//! ```no_run
//! # async fn example() -> Result<(), synod_server::admin::AdminError> {
//! use synod_server::admin::Admin;
//!
//! let mut admin = Admin::new("10.0.0.1:2888,10.0.0.2:2888")?;
//! println!("member {:?} leads", admin.status().await?.leader);
//! admin.add(4, "10.0.0.4:2888", "10.0.0.4:2181", |_| {}).await?;
//! admin.promote(4).await?;
//! # Ok(())
//! # }
//! ```

mod client;
pub(crate) mod wire;

use std::fmt;

use synod_core::model::Code;

pub use client::{Admin, TIMEOUT};

/// What a member does in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// It decides the order of writes.
    Leader,
    /// It votes, and replicates what the leader decides.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It replicates and has no vote.
    Learner,
    /// It has stopped, as after a failure of its disk.
    Stopped,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Learner => "learner",
            Role::Stopped => "stopped",
        })
    }
}

/// A cluster as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Who was asked.
    pub id: u64,
    /// Its cluster, in hexadecimal; none if it has not joined one yet.
    pub cluster: Option<String>,
    /// What it does.
    pub role: Role,
    /// Whom it takes for the leader.
    pub leader: Option<u64>,
    /// The term it is in.
    pub term: u64,
    /// Whether the voters are being changed.
    pub changing: bool,
    /// Everybody, by id.
    pub members: Vec<MemberStatus>,
    /// The index of its last log entry.
    pub last_log: Option<u64>,
    /// Of the last one it knows to be committed.
    pub committed: Option<u64>,
    /// Of the last one it has applied.
    pub applied: Option<u64>,
    /// Of the last one in its snapshot.
    pub snapshot: Option<u64>,
    /// Of the last one that is no longer in its log.
    pub purged: Option<u64>,
    /// The zxid of its state.
    pub zxid: Option<i64>,
    /// The digest of its state: equal on members of equal zxid.
    pub digest: Option<u64>,
}

/// A member as the one that was asked sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberStatus {
    /// Who it is.
    pub id: u64,
    /// Whether it votes.
    pub voter: bool,
    /// Where the others reach it, `host:port`.
    pub peer: String,
    /// Where clients reach it, `host:port`; empty if nobody said.
    pub client: String,
    /// How many entries it is behind; only the leader knows.
    pub lag: Option<u64>,
    /// How long ago it last acknowledged something, in milliseconds; only the leader knows.
    pub heard_ms: Option<u64>,
}

/// How far a member is that catches up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The index of the last log entry that it is known to have.
    pub matched: Option<u64>,
    /// That of the leader's last one.
    pub last: u64,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// An argument breaks a rule; nobody was asked.
    #[error("{0}")]
    Invalid(String),
    /// No member could be reached.
    #[error("{0}")]
    Connect(String),
    /// The members have no leader, and got none in time.
    #[error("the cluster has no leader at present: a majority of its voters must be reachable")]
    NoLeader,
    /// The cluster says why not. Nothing was changed, unless the text says otherwise.
    #[error("{text}")]
    Refused {
        /// What a client of the ZooKeeper protocol would be told.
        code: Code,
        /// The value and the rule.
        text: String,
    },
    /// The connection broke after the order was given: it may have been carried out.
    #[error("{0}; the order may have been carried out: look at the status")]
    Lost(String),
}
