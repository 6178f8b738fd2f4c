//! The seam between a client and the ground it stands on: one ordered stream, requests down,
//! replies and events up.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::inbox::{Arm, Inbox};
use crate::model::{
    Create, CreateMode, Op, Password, Read, Refusal, Request, Response, SessionId, WatchRequest,
    Write, Zxid,
};

/// The part of a session's timeout that is kept back, for clocks that run unevenly and for what
/// lies between a deadline and whoever acts on it: one twentieth.
const MARGIN_DIVISOR: u32 = 20;

/// Until when a session lives at least, when the coordinator has answered what was sent at
/// `sent`.
pub(crate) fn proved_until(sent: Instant, timeout: Duration) -> Instant {
    sent + (timeout - timeout / MARGIN_DIVISOR)
}

/// What a client stands on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerKind {
    /// A coordinator in this process.
    Embedded,
    /// A server of this project.
    Synod,
    /// Apache ZooKeeper 3.5 or later.
    Apache,
    /// ClickHouse Keeper.
    Keeper,
    /// It does not say: taken for a ZooKeeper.
    #[default]
    Unknown,
}

impl ServerKind {
    pub(crate) const ALL: [ServerKind; 5] = [
        ServerKind::Unknown,
        ServerKind::Embedded,
        ServerKind::Synod,
        ServerKind::Apache,
        ServerKind::Keeper,
    ];

    /// Where it stands among them.
    pub(crate) fn place(self) -> usize {
        ServerKind::ALL.iter().position(|kind| *kind == self).unwrap_or_default()
    }

    /// Whether the coordinator keeps sessions such that their deadlines are proof: a ping is
    /// answered only by who could expire the session.
    pub(crate) fn deadline_is_proof(self) -> bool {
        matches!(self, ServerKind::Embedded | ServerKind::Synod)
    }

    /// Whether it deletes containers that have become empty, and TTL znodes.
    pub fn has_containers(self) -> bool {
        self != ServerKind::Keeper
    }

    /// What the request asks for that this coordinator does not have. It is not sent then: some
    /// coordinators drop the connection on what they do not know.
    pub(crate) fn lacks(self, request: &Request) -> Option<&'static str> {
        let ours = matches!(self, ServerKind::Embedded | ServerKind::Synod);
        let created = |op: &Op| match op {
            Op::Create(Create { mode, .. }) => {
                *mode == CreateMode::Container || mode.ttl_ms().is_some()
            }
            _ => false,
        };
        match request {
            Request::Write(Write::ProposeAt { .. }) if !ours => Some("a proposal at a zxid"),
            _ if self.has_containers() => None,
            Request::Write(Write::Op(op)) if created(op) => Some("a container or TTL znode"),
            Request::Write(Write::Multi(ops)) if ops.iter().any(created) => {
                Some("a container or TTL znode")
            }
            Request::Read(Read::WhoAmI) => Some("the list of the connection's identities"),
            Request::Read(Read::Ephemerals { .. }) => Some("the list of a session's ephemerals"),
            Request::Read(Read::DescendantCount { .. }) => Some("the count of descendants"),
            Request::Watch(WatchRequest::Add { .. }) => Some("a watch that stays"),
            _ => None,
        }
    }
}

impl std::fmt::Display for ServerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ServerKind::Embedded => "the embedded coordinator",
            ServerKind::Synod => "a synod server",
            ServerKind::Apache => "Apache ZooKeeper",
            ServerKind::Keeper => "ClickHouse Keeper",
            ServerKind::Unknown => "a server of unknown make",
        })
    }
}

/// What a client says when it connects.
pub(crate) struct Hello {
    /// The session to re-attach; `None` asks for a new one.
    pub(crate) resume: Option<(SessionId, Password)>,
    /// The highest zxid the client has seen: a member that is behind it must refuse.
    pub(crate) last_zxid: Zxid,
    /// The session timeout that the client wishes for.
    pub(crate) timeout: Duration,
    /// Whether the new session may be one that only reads.
    pub(crate) read_only: bool,
}

/// What a coordinator answers to [`Hello`].
pub(crate) struct Welcome {
    pub(crate) session: SessionId,
    pub(crate) password: Password,
    /// The session timeout that was granted.
    pub(crate) timeout: Duration,
    /// The session only reads, and ends with this connection.
    pub(crate) read_only: bool,
    pub(crate) link: Box<dyn Link>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// Nobody answered; trying again may help.
    Unreachable(String),
    /// The session to re-attach is over.
    SessionOver,
    /// The server does not accept who the client is.
    NotAccepted(Refusal),
}

/// Where a reply goes: to the future that waits for it.
pub(crate) type ReplyTo = oneshot::Sender<Reply>;

/// What became of a request, and the coordinator's last zxid when it answered.
pub(crate) type Reply = Result<(Response, Zxid), Failure>;

/// Why a request was not done, or may not have been.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The coordinator refused it; its last zxid then.
    Refused(Refusal, Zxid),
    /// The connection went away.
    Disconnected {
        /// Whether the request may have been done.
        maybe_applied: bool,
    },
}

/// A request on its way down.
pub(crate) struct Call {
    pub(crate) request: Request,
    pub(crate) reply_to: ReplyTo,
    /// The watch handle that begins to receive events with the reply.
    pub(crate) arm: Option<Arm>,
}

/// A kind of coordinator to connect to.
#[async_trait]
pub(crate) trait Ground: Send + Sync + 'static {
    /// Opens or re-attaches a session. Replies and events of the connection go to `inbox`.
    /// Cancelling it leaves at most a session that nobody uses, which expires.
    async fn connect(&self, hello: Hello, inbox: Arc<Inbox>) -> Result<Welcome, ConnectError>;

    /// Asks the next server whether it takes writes, to connect to it next if it does.
    async fn finds_writable(&self) -> bool {
        false
    }

    /// Whether a request is answered before [`Link::send`] returns, and a connection never
    /// breaks: then a client needs no task of its own.
    fn is_inline(&self) -> bool;

    /// What the coordinator is; known once connected.
    fn kind(&self) -> ServerKind;
}

/// A connection: the ordered way down.
pub(crate) trait Link: Send + Sync {
    /// Hands over a request. Never waits; what was sent earlier is answered earlier. Every call
    /// is answered through [`Inbox::reply`], at the latest when the connection breaks.
    fn send(&self, call: Call);
}
