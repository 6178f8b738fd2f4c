use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::{SessionId, Zxid};

/// Why a coordinator refuses a request: the error codes of the protocol, and three of this
/// project's own (below −1000).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// −1: something went wrong inside the server.
    SystemError,
    /// −2: an operation of a transaction was not tried, since an earlier one failed.
    RuntimeInconsistency,
    /// −4: the server lost its own connection.
    ConnectionLoss,
    /// −5: the request could not be read.
    Marshalling,
    /// −6: the operation is unknown or switched off.
    Unimplemented,
    /// −7: it took too long.
    OperationTimeout,
    /// −8: an argument breaks a rule.
    BadArguments,
    /// −13: the new configuration has no quorum.
    NewConfigNoQuorum,
    /// −14: another reconfiguration is under way.
    ReconfigInProgress,
    /// −101: there is no such znode.
    NoNode,
    /// −102: the connection's identities do not permit it.
    NoAuth,
    /// −103: the version differs from the expected one.
    BadVersion,
    /// −108: an ephemeral znode can have no children.
    NoChildrenForEphemerals,
    /// −110: there is such a znode already.
    NodeExists,
    /// −111: the znode has children.
    NotEmpty,
    /// −112: the session is over.
    SessionExpired,
    /// −114: the ACL breaks a rule.
    InvalidAcl,
    /// −115: the credentials were not accepted.
    AuthFailed,
    /// −118: the session is attached to another connection by now.
    SessionMoved,
    /// −119: the server is read-only.
    NotReadOnly,
    /// −120: a local session can have no ephemeral znodes.
    EphemeralOnLocalSession,
    /// −121: there is no such watch.
    NoWatcher,
    /// −122: the request was given up by the server.
    RequestTimeout,
    /// −123: reconfiguration is switched off.
    ReconfigDisabled,
    /// −124: the server asks for SASL.
    ClosedRequireSasl,
    /// −125: a quota is used up.
    QuotaExceeded,
    /// −127: a bound of the server is reached.
    Throttled,
    /// −1001: the zxid of a proposal is not above the last one, in the current epoch, and near.
    StaleZxid,
    /// −1002: a write of this connection is missing before this one.
    SequenceGap,
    /// −1003: the parent has given out its last sequence suffix.
    SequenceExhausted,
    /// A code of the server's that this version does not know.
    Unknown(i32),
}

macro_rules! codes {
    ($($code:ident = $number:literal),* $(,)?) => {
        impl Code {
            /// Every code that has a name.
            pub const ALL: &'static [Code] = &[$(Code::$code),*];

            /// The number in the protocol.
            pub fn number(self) -> i32 {
                match self { $(Code::$code => $number,)* Code::Unknown(number) => number }
            }

            /// The code of a number of the protocol (0 is no error, and `Unknown` here).
            pub fn from_number(number: i32) -> Code {
                match number { $($number => Code::$code,)* number => Code::Unknown(number) }
            }
        }
    };
}

codes! {
    SystemError = -1, RuntimeInconsistency = -2, ConnectionLoss = -4, Marshalling = -5,
    Unimplemented = -6, OperationTimeout = -7, BadArguments = -8, NewConfigNoQuorum = -13,
    ReconfigInProgress = -14, NoNode = -101, NoAuth = -102, BadVersion = -103,
    NoChildrenForEphemerals = -108, NodeExists = -110, NotEmpty = -111, SessionExpired = -112,
    InvalidAcl = -114, AuthFailed = -115, SessionMoved = -118, NotReadOnly = -119,
    EphemeralOnLocalSession = -120, NoWatcher = -121, RequestTimeout = -122,
    ReconfigDisabled = -123, ClosedRequireSasl = -124, QuotaExceeded = -125, Throttled = -127,
    StaleZxid = -1001, SequenceGap = -1002, SequenceExhausted = -1003,
}

impl Code {
    /// The rule behind the code, where nothing more precise is known.
    pub fn rule(self) -> &'static str {
        match self {
            Code::SystemError => "the server must be sound",
            Code::RuntimeInconsistency => "the operations before it must succeed",
            Code::ConnectionLoss => "the server must be connected",
            Code::Marshalling => "the request must be well formed",
            Code::Unimplemented => "the server must know the operation",
            Code::OperationTimeout | Code::RequestTimeout => "the server must answer in time",
            Code::BadArguments => "the arguments must be valid",
            Code::NewConfigNoQuorum => "the new configuration must have a quorum",
            Code::ReconfigInProgress => "one reconfiguration at a time",
            Code::NoNode => "the znode must exist",
            Code::NoAuth => "the ACL must permit it",
            Code::BadVersion => "the version must be the znode's",
            Code::NoChildrenForEphemerals => "an ephemeral znode has no children",
            Code::NodeExists => "the znode must not exist",
            Code::NotEmpty => "the znode must have no children",
            Code::SessionExpired => "the session must be open",
            Code::InvalidAcl => "the ACL must be valid",
            Code::AuthFailed => "the credentials must be accepted",
            Code::SessionMoved => "the session must be attached to this connection",
            Code::NotReadOnly => "the server must not be read-only",
            Code::EphemeralOnLocalSession => "a local session has no ephemeral znodes",
            Code::NoWatcher => "there must be such a watch",
            Code::ReconfigDisabled => "reconfiguration must be enabled",
            Code::ClosedRequireSasl => "the client must authenticate by SASL",
            Code::QuotaExceeded => "the quota must not be used up",
            Code::Throttled => "the server's bounds must not be reached",
            Code::StaleZxid => "the zxid must be above the last one, in its epoch, and near",
            Code::SequenceGap => "no write of the connection may be missing",
            Code::SequenceExhausted => "the parent must have sequence suffixes left",
            Code::Unknown(_) => "a rule of the server's that this version does not know",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} {}", self.number())
    }
}

/// A coordinator's no: the code, and the rule that did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the protocol says.
    pub code: Code,
    /// The rule, in words.
    pub rule: &'static str,
    /// In a transaction, the place of the operation that failed, from 0.
    pub index: Option<u32>,
}

impl Refusal {
    /// A refusal of one operation.
    pub const fn new(code: Code, rule: &'static str) -> Refusal {
        Refusal { code, rule, index: None }
    }
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionEnd {
    /// The client closed it, or was dropped, or the runtime that it lived in was shut down.
    Closed,
    /// The coordinator ended it: it had not been heard of for its timeout.
    Expired,
    /// The coordinator could not be reached until the session's deadline; it may still count
    /// the session as living, but the client no longer does.
    DeadlinePassed,
    /// It was [read-only](crate::client::SessionStatus::ConnectedReadOnly), and its connection
    /// broke, or a server was found that takes writes.
    ReadOnlyEnded,
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SessionEnd::Closed => "was closed",
            SessionEnd::Expired => "has expired",
            SessionEnd::DeadlinePassed => "was out of reach until its deadline",
            SessionEnd::ReadOnlyEnded => "was read-only, and ended with its connection",
        })
    }
}

/// What a client's request can fail with.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The coordinator refused it. Nothing was changed.
    #[error("{request} refused: {rule} ({code})")]
    Refused {
        /// What was asked, with its path and version.
        request: String,
        /// The path that it concerns.
        path: Arc<str>,
        /// The error code of the protocol.
        code: Code,
        /// The rule that did not hold.
        rule: Cow<'static, str>,
        /// In a transaction, the place of the operation that failed, from 0.
        index: Option<usize>,
    },
    /// An argument breaks a rule; nothing was sent.
    #[error("invalid {what} {value:?}: {rule}")]
    Invalid {
        /// Which argument.
        what: &'static str,
        /// Its value (cut after 200 characters).
        value: String,
        /// The rule that it breaks.
        rule: Cow<'static, str>,
    },
    /// A proposal's zxid was refused. Nothing was changed, and no zxid was taken.
    #[error(
        "zxid {proposed} refused: it must be above the last one, {last}, in its epoch, and at \
         most 65536 ahead"
    )]
    StaleZxid {
        /// What was proposed.
        proposed: Zxid,
        /// The last zxid of the coordinator.
        last: Zxid,
    },
    /// The connection broke before the reply came.
    #[error("{request}: the connection was lost{}", if *maybe_applied { "; it may have been done" } else { " before it was sent" })]
    ConnectionLost {
        /// What was asked.
        request: String,
        /// Whether the coordinator may have done it all the same.
        maybe_applied: bool,
    },
    /// The session is over; its ephemeral znodes are gone or going.
    #[error("session {session} {end}{}", if *maybe_applied { "; the request may have been done" } else { "" })]
    SessionOver {
        /// Which session.
        session: SessionId,
        /// How it ended.
        end: SessionEnd,
        /// Whether the coordinator may have done the request all the same.
        maybe_applied: bool,
    },
    /// This ground cannot do it.
    #[error("{what} is not supported by {ground}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// The kind of coordinator.
        ground: String,
    },
    /// A named bound is reached.
    #[error("{what}: at most {max} at a time")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// No coordinator could be reached.
    #[error("cannot connect to {server}: {reason}")]
    Connect {
        /// The connect string.
        server: String,
        /// What went wrong.
        reason: String,
    },
}

impl Error {
    /// An argument that breaks a rule.
    pub fn invalid(
        what: &'static str,
        value: impl fmt::Display,
        rule: impl Into<Cow<'static, str>>,
    ) -> Error {
        let mut value = value.to_string();
        if let Some((end, _)) = value.char_indices().nth(200) {
            value.truncate(end);
            value.push('…');
        }
        Error::Invalid { what, value, rule: rule.into() }
    }

    /// The code of the coordinator's refusal, if that is what this is.
    pub fn code(&self) -> Option<Code> {
        match self {
            Error::Refused { code, .. } => Some(*code),
            Error::StaleZxid { .. } => Some(Code::StaleZxid),
            _ => None,
        }
    }

    /// Whether this is the coordinator's refusal with that code.
    pub fn is(&self, code: Code) -> bool {
        self.code() == Some(code)
    }

    /// Whether the same request may succeed if it is simply sent again. If it is also
    /// [`maybe_applied`](Error::maybe_applied), sending it again may do it twice.
    pub fn retryable(&self) -> bool {
        match self {
            Error::ConnectionLost { .. } | Error::TooMany { .. } | Error::Connect { .. } => true,
            Error::Refused { code, .. } => matches!(
                code,
                Code::ConnectionLoss
                    | Code::OperationTimeout
                    | Code::RequestTimeout
                    | Code::ReconfigInProgress
                    | Code::SessionMoved
                    | Code::SequenceGap
                    | Code::Throttled
            ),
            _ => false,
        }
    }

    /// Whether the request may have been done although no reply said so. Where this is false,
    /// it was not.
    pub fn maybe_applied(&self) -> bool {
        match self {
            Error::ConnectionLost { maybe_applied, .. }
            | Error::SessionOver { maybe_applied, .. } => *maybe_applied,
            Error::Refused { code, .. } => matches!(
                code,
                Code::ConnectionLoss
                    | Code::OperationTimeout
                    | Code::RequestTimeout
                    | Code::SystemError
                    | Code::Unknown(_)
            ),
            _ => false,
        }
    }

    /// Whether the session is over: what it held is lost, and a new session must begin again.
    pub fn session_over(&self) -> bool {
        matches!(self, Error::SessionOver { .. }) || self.is(Code::SessionExpired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_numbers_go_both_ways() {
        for code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), *code);
        }
        assert_eq!(Code::from_number(-9999), Code::Unknown(-9999));
        assert_eq!(Code::NoNode.to_string(), "NoNode -101");
    }

    #[test]
    fn a_long_value_is_cut() {
        let text = Error::invalid("path", "ü".repeat(5_000), "is too long").to_string();
        assert!(text.len() < 500 && text.ends_with("is too long"), "{text}");
    }

    #[test]
    fn an_error_says_what_to_do() {
        let lost = Error::ConnectionLost { request: "delete /a".into(), maybe_applied: true };
        assert!(lost.retryable() && lost.maybe_applied() && !lost.session_over());
        let session = SessionId(1);
        let over = Error::SessionOver { session, end: SessionEnd::Expired, maybe_applied: false };
        assert!(!over.retryable() && !over.maybe_applied() && over.session_over());
    }
}
