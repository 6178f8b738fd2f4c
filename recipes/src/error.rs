use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use synod_core::model::{self, Path, SessionEnd, Zxid};

/// What a recipe can fail with.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A request of the client failed.
    #[error(transparent)]
    Client(#[from] model::Error),
    /// What a guard held is held no longer.
    #[error(transparent)]
    Lost(#[from] Loss),
    /// It was not granted in time. Nothing is held, and nobody waits any more.
    #[error("{path} was not granted within {waited:?}")]
    TimedOut {
        /// What was asked for.
        path: Path,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Nobody of that name stands in an election.
    #[error("nobody stands as {name:?} in the election {path}")]
    NoCandidate {
        /// The election.
        path: Path,
        /// Who was asked for.
        name: String,
    },
    /// The parent's sequence has come to its end, so that nobody can say who came first. Delete
    /// the parent when nobody uses it: its sequence begins anew with it.
    #[error("the sequence of {path} is exhausted: {rule}")]
    SequenceExhausted {
        /// The parent.
        path: Path,
        /// The rule that does not hold.
        rule: &'static str,
    },
    /// A resource refused a fencing token.
    #[error(transparent)]
    Stale(#[from] crate::fence::Stale),
    /// The store of a fenced object failed.
    #[error("the store failed on {key:?}: {source}")]
    Store {
        /// The object.
        key: String,
        /// Whether it was a write that failed, which may have been done all the same.
        maybe_applied: bool,
        /// Why.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A reply was lost, and it cannot be told whether the change was done.
    #[error("whether {path} was changed is not known: its reply was lost")]
    Indeterminate {
        /// The znode.
        path: Path,
    },
    /// A fenced object was written by others again and again; nothing was done.
    #[error("{key:?} was written by others in each of {attempts} attempts to update it")]
    Contended {
        /// The object.
        key: String,
        /// How often it was tried.
        attempts: usize,
    },
    /// A queue has as many items as it may have.
    #[error("{path} is full: {length} items wait, and it may have {max}")]
    Full {
        /// The queue.
        path: Path,
        /// How many items were counted.
        length: u64,
        /// How many there may be.
        max: u64,
    },
    /// A version of a configuration is not valid. It is not published; where it was published
    /// already, the last good value stays.
    #[error("version {version} of {path} is not valid: {fault}")]
    BadValue {
        /// The configuration.
        path: Path,
        /// The version; 0 if it is what lies on this machine, or the znode as a whole.
        version: u64,
        /// The zxid of the change that brought it; zero if nothing was changed.
        zxid: Zxid,
        /// What is wrong, and where.
        fault: Box<crate::config::Fault>,
    },
    /// No version of the configuration is published; a value that was read before stays.
    #[error("nothing is published at {path}")]
    Unpublished {
        /// The configuration.
        path: Path,
    },
    /// The data of a znode is not what the recipe, or the type that was asked for, expects there:
    /// others have written it.
    #[error("the data of {path}, written at {zxid}, is not valid: {reason}")]
    BadData {
        /// The znode.
        path: Path,
        /// Its mzxid.
        zxid: Zxid,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// A subtree is larger than its cache or feed may become. What is known of it stays, and it is
    /// looked at again after a while.
    #[error("the subtree of {path} has more than {max} {what}")]
    TooLarge {
        /// The root of the subtree.
        path: Path,
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// What was asked for does not fit what is there by now. Nothing was changed.
    #[error("{path} was not changed: {rule}")]
    Conflict {
        /// What was to be changed.
        path: Path,
        /// What must be so, and is not.
        rule: String,
    },
}

impl Error {
    /// Whether the same call may succeed if it is simply made again.
    pub fn retryable(&self) -> bool {
        match self {
            Error::Client(error) => error.retryable(),
            Error::TimedOut { .. } | Error::Contended { .. } | Error::Full { .. } => true,
            _ => false,
        }
    }

    /// Why it is not known whether something was done: the question could not be asked any more.
    pub(crate) fn in_doubt(self) -> Error {
        match self {
            Error::Client(model::Error::SessionOver { session, end, .. }) => {
                model::Error::SessionOver { session, end, maybe_applied: true }.into()
            }
            Error::Client(model::Error::ConnectionLost { request, .. }) => {
                model::Error::ConnectionLost { request, maybe_applied: true }.into()
            }
            other => other,
        }
    }

    /// Whether the request may have been done although no reply said so.
    pub fn maybe_applied(&self) -> bool {
        match self {
            Error::Client(error) => error.maybe_applied(),
            Error::Store { maybe_applied, .. } => *maybe_applied,
            Error::Indeterminate { .. } => true,
            _ => false,
        }
    }

    /// Whether the session is over: what it held is lost.
    pub fn session_over(&self) -> bool {
        match self {
            Error::Client(error) => error.session_over(),
            Error::Lost(loss) => matches!(loss.reason, LossReason::SessionOver(_)),
            _ => false,
        }
    }

    /// Whether a guard is no longer held.
    pub fn is_lost(&self) -> bool {
        matches!(self, Error::Lost(_))
    }
}

/// A guard is no longer held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} with token {token} is lost: {reason}")]
pub struct Loss {
    /// The guard's znode.
    pub path: Path,
    /// The guard's fencing token.
    pub token: Zxid,
    /// Why.
    pub reason: LossReason,
}

/// Why a guard is no longer held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossReason {
    /// The session that it hung on is over.
    SessionOver(SessionEnd),
    /// Somebody deleted its znode.
    Removed,
    /// The connection broke, and it was to be given up at once then. Its znode may still be there.
    Disconnected,
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LossReason::SessionOver(end) => write!(f, "the session {end}"),
            LossReason::Removed => f.write_str("its znode was deleted"),
            LossReason::Disconnected => f.write_str("the connection broke"),
        }
    }
}
