use std::fmt;
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
    /// The data of a configuration could not be taken; the last good value stays.
    #[error("version {version} of {path} is not valid: {reason}")]
    BadValue {
        /// The znode.
        path: Path,
        /// Its version.
        version: i32,
        /// Its mzxid.
        zxid: Zxid,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// The znode of a configuration is gone; the last good value stays.
    #[error("{path} was deleted")]
    Deleted {
        /// The znode.
        path: Path,
    },
}

impl Error {
    /// Whether the same call may succeed if it is simply made again.
    pub fn retryable(&self) -> bool {
        match self {
            Error::Client(error) => error.retryable(),
            Error::TimedOut { .. } => true,
            _ => false,
        }
    }

    /// Whether the request may have been done although no reply said so.
    pub fn maybe_applied(&self) -> bool {
        matches!(self, Error::Client(error) if error.maybe_applied())
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
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LossReason::SessionOver(end) => write!(f, "the session {end}"),
            LossReason::Removed => f.write_str("its znode was deleted"),
        }
    }
}
