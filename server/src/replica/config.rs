//! What a durable member is told, besides what every server is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::StartError;
use crate::limits::{
    DIGEST_ENTRIES, ELECTION_MS_MAX, ELECTION_MS_MIN, HEARTBEAT_MS, LOG_BYTES_KEPT,
    LOG_CACHE_BYTES_MAX, LOG_ENTRIES_KEPT, LOG_SEGMENT_BYTES, SNAPSHOT_ENTRIES, SNAPSHOT_LOG_BYTES,
};
use crate::net::Net;

/// The highest number of a member: it is the upper byte of its sessions' numbers.
pub const MEMBER_ID_MAX: u64 = 255;

/// A member whose state outlives its process, alone or with others.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// The folder that holds its log and its snapshots. It is made if it is not there.
    pub data: PathBuf,
    /// Its number, from 1 to [`MEMBER_ID_MAX`], unlike every other member's. It stays with the
    /// data folder.
    pub id: u64,
    /// Where other members reach it, `host:port`; `None` for a member that stays alone.
    pub peer_listen: Option<String>,
    /// What others are told to reach it at, if that is not where it listens.
    pub peer_advertise: Option<String>,
    /// By what members prove themselves to each other.
    #[cfg(feature = "tls")]
    pub tls: Option<crate::tls::TlsFiles>,
    /// Members may reach each other beyond loopback without TLS: whoever reaches `peer_listen`
    /// speaks for a member then.
    pub insecure_peers: bool,
    /// How the cluster begins.
    pub founding: Founding,
    /// How often a leader is heard of, and how long it may stay silent.
    pub timing: Timing,
    /// How the log is kept.
    pub keeping: Keeping,
}

/// What a member with an empty data folder does. One that has data knows its cluster already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Founding {
    /// It founds a cluster of one.
    #[default]
    Alone,
    /// It founds a cluster together with these: all of them are told the same. Its own number is
    /// among them.
    Together(BTreeMap<u64, String>),
    /// It waits for a cluster to add it.
    Join,
}

/// The pace of elections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader is heard of.
    pub heartbeat: Duration,
    /// A follower that has not heard of its leader for `election_max`, and then for a random time
    /// between `election_min` and `election_max`, wants to lead. A leader that was not heard by a
    /// quorum for `election_max` no longer holds its lease.
    pub election_min: Duration,
    /// See `election_min`.
    pub election_max: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat: Duration::from_millis(HEARTBEAT_MS),
            election_min: Duration::from_millis(ELECTION_MS_MIN),
            election_max: Duration::from_millis(ELECTION_MS_MAX),
        }
    }
}

/// How the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Size of a segment of the log, in bytes.
    pub segment_bytes: u64,
    /// Entries of the log that are held in memory too, in bytes: those that the others and this
    /// member's own state are served from.
    pub cache_bytes_max: usize,
    /// Entries since the last snapshot after which another is made; with many znodes it takes
    /// more, so that writing them out stays a small part of the work.
    pub snapshot_entries: u64,
    /// Bytes of entries since the last snapshot after which another is made, however few they are;
    /// with more data than that it takes as many bytes as there are.
    pub snapshot_bytes: u64,
    /// Entries that are kept though a snapshot holds them: a member that is a little behind is
    /// sent these instead of a snapshot.
    pub entries_kept: u64,
    /// What the log's segments may come to once a snapshot is made, in bytes: of the entries that it
    /// holds only so many are kept. The newest segment and what no snapshot holds stay.
    pub bytes_kept: u64,
    /// How many entries apart the members' digests are compared.
    pub digest_entries: u64,
}

impl Default for Keeping {
    fn default() -> Keeping {
        Keeping {
            segment_bytes: LOG_SEGMENT_BYTES,
            cache_bytes_max: LOG_CACHE_BYTES_MAX,
            snapshot_entries: SNAPSHOT_ENTRIES,
            snapshot_bytes: SNAPSHOT_LOG_BYTES,
            entries_kept: LOG_ENTRIES_KEPT,
            bytes_kept: LOG_BYTES_KEPT,
            digest_entries: DIGEST_ENTRIES,
        }
    }
}

/// What runs beside a network as long as it is used.
type Beside = BoxFuture<'static, ()>;

impl MemberConfig {
    /// A cluster of one, that others can join if it is given a place to be reached.
    pub fn new(data: impl Into<PathBuf>) -> MemberConfig {
        MemberConfig {
            data: data.into(),
            id: 1,
            peer_listen: None,
            peer_advertise: None,
            #[cfg(feature = "tls")]
            tls: None,
            insecure_peers: false,
            founding: Founding::Alone,
            timing: Timing::default(),
            keeping: Keeping::default(),
        }
    }

    /// The network to the other members, over that of the server; and what is to run as long as it
    /// is used, if there is something.
    ///
    /// # Errors
    /// The files of certificates cannot be used.
    pub(super) fn peer_net(
        &self,
        net: &Arc<dyn Net>,
    ) -> Result<(Arc<dyn Net>, Option<Beside>), StartError> {
        #[cfg(feature = "tls")]
        if let Some(files) = &self.tls {
            let tls = crate::tls::Tls::over(Arc::clone(net), files)?;
            let interval = std::time::Duration::from_millis(crate::limits::TLS_RELOAD_MS);
            let looking = tls.clone();
            let reload = move || looking.reload();
            let fresh = crate::tls::keep_fresh("the members' port", interval, reload);
            return Ok((Arc::new(tls), Some(Box::pin(fresh))));
        }
        Ok((Arc::clone(net), None))
    }

    /// Whether members prove themselves by certificates.
    pub(super) fn is_secure(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// # Errors
    /// The rule that does not hold.
    pub(crate) fn validate(&self) -> Result<(), &'static str> {
        let Timing { heartbeat, election_min, election_max } = self.timing;
        if self.id == 0 || self.id > MEMBER_ID_MAX {
            Err("the number of a member is from 1 to 255")
        } else if heartbeat.is_zero() || heartbeat >= election_min || election_min >= election_max {
            Err(
                "a heartbeat is shorter than the least election timeout, and that is shorter than the longest",
            )
        } else if self.keeping.snapshot_entries == 0
            || self.keeping.snapshot_bytes == 0
            || self.keeping.digest_entries == 0
        {
            Err("snapshots and comparisons are at least 1 entry apart")
        } else if self.founding != Founding::Alone && self.peer_listen.is_none() {
            Err("a member of several has an address to listen to its peers")
        } else if let Founding::Together(members) = &self.founding
            && !members.contains_key(&self.id)
        {
            Err("the members that found a cluster name each of themselves")
        } else if let Founding::Together(members) = &self.founding
            && members.keys().any(|id| *id == 0 || *id > MEMBER_ID_MAX)
        {
            Err("the number of a member is from 1 to 255")
        } else {
            Ok(())
        }
    }
}
