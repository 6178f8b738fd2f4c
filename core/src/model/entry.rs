use std::fmt;
use std::sync::Arc;

use super::{Identity, Write, Zxid};

/// The number of a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub i64);

impl SessionId {
    /// The owner of entries that no client asked for: new sessions, expiries, reaping.
    pub const SYSTEM: SessionId = SessionId(0);
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// The secret that lets a client re-attach to its session. Never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password(pub [u8; 16]);

impl Password {
    /// Compares in a time that does not depend on where the first difference lies.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        candidate.len() == self.0.len()
            && self
                .0
                .iter()
                .zip(candidate)
                .fold(0, |differing, (a, b)| std::hint::black_box(differing | (a ^ b)))
                == 0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

/// One entry of the log: a request, and all that its outcome depends on besides the replicated
/// state. Whatever needs randomness or the outside world was put in before it was proposed, so
/// that every replica that applies the entry comes to the same result.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Who asks; [`SessionId::SYSTEM`] for what the coordinator asks of itself.
    pub session: SessionId,
    /// The attachment (the zxid at which the session was attached to a connection) that the
    /// request came through. An older one is answered *session moved*.
    pub attachment: Zxid,
    /// The place of this write among the attachment's writes, from 1. A gap is refused.
    pub sequence: u64,
    /// What the connection has proved to be.
    pub identities: Arc<[Identity]>,
    /// The leader's clock, in milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// What to do.
    pub request: Write,
}
