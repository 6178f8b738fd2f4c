//! A session as its client sees it.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::future::{BoxFuture, FutureExt};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;
use tracing::{Instrument, debug, error};

use super::Shared;
use super::ground::{Call, Failure, Link, Reply, ServerKind};
use super::inbox::{Arm, Inbox, SessionStatus};
use crate::model::limits::{
    CONTENDERS_PER_SESSION_MAX, OUTSTANDING_UNIT_BYTES, OUTSTANDING_UNITS_MAX,
};
use crate::model::{
    Code, Error, Op, Password, Refusal, Request, Response, SessionEnd, SessionId, WatchKind,
    WatchRequest, Write, Zxid,
};

/// The part of a session that does not depend on who holds it.
pub(crate) struct SessionCore {
    pub(crate) id: SessionId,
    pub(crate) password: Password,
    pub(crate) timeout: Duration,
    pub(crate) inbox: Arc<Inbox>,
    link: ArcSwapOption<Box<dyn Link>>,
    /// Requests that wait for a connection, in the order in which they came. Its lock also holds
    /// together a change of the table of watches and what is sent because of it: a removal must
    /// not overtake the next watch on the same path, nor the list that a new connection gets.
    waiting: Mutex<VecDeque<Call>>,
    inline: bool,
    /// It is one server's alone, which only reads: nothing proves it, and it ends with its
    /// connection.
    pub(crate) read_only: bool,
    /// What the servers are, as far as is known: a place in [`ServerKind::ALL`].
    kind: AtomicUsize,
    /// Bounds what is under way, by size.
    outstanding: Semaphore,
    slots_taken: AtomicUsize,
    cleanups: Mutex<Vec<BoxFuture<'static, ()>>>,
    /// Wakes the driver when there are cleanups.
    pub(crate) cleanup_added: Notify,
}

/// A session: what ephemeral znodes, and so locks and leaderships, hang on.
///
/// Cheap to clone; a clone is the same session. While one exists, the client that it came from
/// stays alive, even if every `Client` handle is dropped.
#[derive(Clone)]
pub struct Session {
    /// Keeps the client alive.
    pub(crate) _shared: Arc<Shared>,
    pub(crate) core: Arc<SessionCore>,
}

/// What a request is about, for its errors and its span.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) verb: &'static str,
    pub(crate) path: Arc<str>,
    pub(crate) version: Option<i32>,
}

impl Subject {
    pub(crate) fn new(verb: &'static str, path: &Arc<str>) -> Subject {
        Subject { verb, path: Arc::clone(path), version: None }
    }

    /// `version`: what was asked for; −1, any, is not worth naming.
    pub(crate) fn at(verb: &'static str, path: &Arc<str>, version: i32) -> Subject {
        let version = (version != -1).then_some(version);
        Subject { version, ..Subject::new(verb, path) }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.verb, self.path)?;
        self.version.map_or(Ok(()), |version| write!(f, " at version {version}"))
    }
}

impl SessionCore {
    pub(crate) fn new(
        id: SessionId,
        password: Password,
        timeout: Duration,
        inbox: Arc<Inbox>,
        (inline, kind): (bool, ServerKind),
    ) -> SessionCore {
        SessionCore {
            id,
            password,
            timeout,
            inbox,
            link: ArcSwapOption::empty(),
            waiting: Mutex::default(),
            inline,
            read_only: false,
            kind: AtomicUsize::new(kind.place()),
            outstanding: Semaphore::new(OUTSTANDING_UNITS_MAX as usize),
            slots_taken: AtomicUsize::new(0),
            cleanups: Mutex::default(),
            cleanup_added: Notify::new(),
        }
    }

    pub(crate) fn kind(&self) -> ServerKind {
        ServerKind::ALL.get(self.kind.load(Ordering::Relaxed)).copied().unwrap_or_default()
    }

    pub(crate) fn set_kind(&self, kind: ServerKind) {
        self.kind.store(kind.place(), Ordering::Relaxed);
    }

    pub(crate) fn set_link(&self, link: Option<Box<dyn Link>>) {
        self.link.store(link.map(Arc::new));
    }

    /// Sends a request and gives back where its reply will come; `None` while disconnected.
    /// Inline grounds have answered when this returns.
    pub(crate) fn send(
        &self,
        request: Request,
        arm: Option<Arm>,
    ) -> Option<oneshot::Receiver<Reply>> {
        let link = self.link.load();
        let link = link.as_ref()?;
        let (reply_to, reply) = oneshot::channel();
        link.send(Call { request, reply_to, arm });
        Some(reply)
    }

    /// Sends a request, or keeps it until the session is attached to a connection again.
    fn submit(
        &self,
        request: Request,
        arm: Option<Arm>,
    ) -> Result<oneshot::Receiver<Reply>, SessionEnd> {
        let (reply_to, reply) = oneshot::channel();
        let call = Call { request, reply_to, arm };
        // On an inline ground nothing ever waits, so that its threads need not wait here either.
        let mut waiting = (!self.inline).then(|| self.in_order());
        if self.inbox.is_connected() {
            self.send_or_fail(call);
            return Ok(reply);
        }
        match (self.inbox.status(), &mut waiting) {
            (SessionStatus::Over(end), _) => return Err(end),
            (SessionStatus::Disconnected, Some(waiting)) => {
                if waiting.len() == waiting.capacity() {
                    waiting.retain(|call| !call.reply_to.is_closed());
                }
                waiting.push_back(call);
            }
            _ => self.send_or_fail(call),
        }
        Ok(reply)
    }

    fn send_or_fail(&self, call: Call) {
        match self.link.load().as_ref() {
            Some(link) => link.send(call),
            None => self.fail_unsent(call),
        }
    }

    fn fail_unsent(&self, call: Call) {
        let failure = Failure::Disconnected { maybe_applied: false };
        self.inbox.reply(call.reply_to, call.arm, Err(failure));
    }

    /// While this is held, nothing that has to come in order overtakes.
    pub(crate) fn in_order(&self) -> MutexGuard<'_, VecDeque<Call>> {
        // Nothing below panics half way through a change.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the session stands while it is attached to a connection.
    pub(crate) fn attached_status(&self) -> SessionStatus {
        match self.read_only {
            true => SessionStatus::ConnectedReadOnly,
            false => SessionStatus::Connected,
        }
    }

    /// The session is attached to the connection of its link: what has waited goes first. Whether
    /// that is news.
    pub(crate) fn attached(&self) -> bool {
        let mut waiting = self.in_order();
        // Before anything is sent: a link that has broken by now says so when it is used, and
        // nobody would hear of it later.
        let news = self.inbox.set_status(self.attached_status());
        for call in waiting.drain(..) {
            if !call.reply_to.is_closed() {
                self.send_or_fail(call);
            }
        }
        if !self.inline {
            drop(self.send(Request::Ping, None));
        }
        news
    }

    /// The server takes no requests of this client: those that wait are told why.
    pub(crate) fn turn_away(&self, refusal: Refusal) {
        let waiting = std::mem::take(&mut *self.in_order());
        for call in waiting {
            let failure = Failure::Refused(refusal, Zxid::ZERO);
            self.inbox.reply(call.reply_to, call.arm, Err(failure));
        }
    }

    /// The session is over: what is under way or still waits fails, and nothing is reaped any
    /// more.
    pub(crate) fn bury(&self) {
        self.set_link(None);
        let waiting = std::mem::take(&mut *self.in_order());
        waiting.into_iter().for_each(|call| self.fail_unsent(call));
        drop(self.take_cleanups());
    }

    pub(crate) fn end(&self) -> Option<SessionEnd> {
        match self.inbox.is_connected() {
            true => None,
            false => match self.inbox.status() {
                SessionStatus::Over(end) => Some(end),
                _ => None,
            },
        }
    }

    pub(crate) fn take_cleanups(&self) -> Vec<BoxFuture<'static, ()>> {
        std::mem::take(&mut *self.cleanups.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the session is attached to a connection (`true`) or over (`false`).
    pub(crate) async fn connected(&self) -> bool {
        let settled = |status| status != SessionStatus::Disconnected;
        self.inbox.status_when(settled).await.is_connected()
    }

    pub(crate) fn over(&self, end: SessionEnd, maybe_applied: bool) -> Error {
        Error::SessionOver { session: self.id, end, maybe_applied }
    }

    /// Sends a request and waits for its reply. While the session is disconnected it waits for
    /// the connection first.
    pub(crate) async fn call(
        &self,
        request: Request,
        arm: Option<Arm>,
        subject: Subject,
    ) -> Result<(Response, Zxid), Error> {
        let span = tracing::trace_span!(
            "request",
            verb = subject.verb,
            path = &*subject.path,
            session = %self.id
        );
        self.call_in_span(request, arm, subject).instrument(span).await
    }

    async fn call_in_span(
        &self,
        request: Request,
        arm: Option<Arm>,
        subject: Subject,
    ) -> Result<(Response, Zxid), Error> {
        let kind = self.kind();
        if let Some(what) = kind.lacks(&request) {
            return Err(Error::Unsupported { what, ground: kind.to_string() });
        }
        // An inline ground has answered before there could be a second request.
        let _permit = match self.inline {
            true => None,
            false => self.outstanding.acquire_many(weight_of(&request)).await.ok(),
        };
        let proposed = match &request {
            Request::Write(Write::ProposeAt { zxid, .. }) => Some(*zxid),
            _ => None,
        };
        let reply = self.submit(request, arm).map_err(|end| self.over(end, false))?;
        match reply.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Failure::Refused(refusal, zxid))) => {
                debug!(%subject, code = %refusal.code, "refused");
                if let (Code::StaleZxid, Some(proposed)) = (refusal.code, proposed) {
                    return Err(Error::StaleZxid { proposed, last: zxid });
                }
                // Over a wire comes the code alone; of a create it means the parent.
                let rule = match (subject.verb, refusal.code) {
                    ("create", Code::NoNode) => "the parent must exist",
                    _ => refusal.rule,
                };
                Err(Error::Refused {
                    request: subject.to_string(),
                    path: subject.path,
                    code: refusal.code,
                    rule: rule.into(),
                    index: refusal.index.map(|index| index as usize),
                })
            }
            Ok(Err(Failure::Disconnected { maybe_applied })) => {
                Err(self.connection_lost(subject, maybe_applied))
            }
            // A ground that drops a call unanswered; whether it was done is not known.
            Err(_) => Err(self.connection_lost(subject, true)),
        }
    }

    fn connection_lost(&self, subject: Subject, maybe_applied: bool) -> Error {
        match self.end() {
            Some(end) => self.over(end, maybe_applied),
            // There it breaks only when the session is closed, by another thread, just now.
            None if self.inline => self.over(SessionEnd::Closed, maybe_applied),
            None => Error::ConnectionLost { request: subject.to_string(), maybe_applied },
        }
    }
}

impl Session {
    /// The session's number.
    pub fn id(&self) -> SessionId {
        self.core.id
    }

    /// The timeout that was negotiated.
    pub fn timeout(&self) -> Duration {
        self.core.timeout
    }

    /// How the session stands now, as far as the client knows.
    pub fn status(&self) -> SessionStatus {
        self.core.inbox.status()
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<SessionEnd> {
        self.core.end()
    }

    /// Waits until the session is over: closed, expired, or out of reach until its deadline. It
    /// says how. Cancelling it changes nothing.
    pub async fn lost(&self) -> SessionEnd {
        self.core.inbox.status_when(|status| matches!(status, SessionStatus::Over(_))).await;
        // Nothing follows the end, so that it is still there.
        self.end().unwrap_or(SessionEnd::Closed)
    }

    /// Waits until the session is attached to a connection (`true`) or over (`false`).
    /// Cancelling it changes nothing.
    pub async fn connected(&self) -> bool {
        self.core.connected().await
    }

    /// Waits until the session is not attached to a connection, or over. Cancelling it changes
    /// nothing.
    pub async fn disconnected(&self) {
        self.core.inbox.status_when(|status| !status.is_connected()).await;
    }

    /// The number of the present attachment to a connection, or of the last one: it grows each time
    /// that a connection is made anew.
    pub fn attachment(&self) -> u64 {
        self.core.inbox.attachment()
    }

    /// Waits until that attachment is over: the connection has been broken since, even if there is
    /// another by now. Cancelling it changes nothing.
    pub async fn detached(&self, attachment: u64) {
        let inbox = &self.core.inbox;
        let over =
            |status: SessionStatus| !status.is_connected() || inbox.attachment() != attachment;
        inbox.status_when(over).await;
    }

    /// Until when the session lives at least, on this process's monotonic clock.
    ///
    /// It rests on the last request that the coordinator answered in a way that proves the
    /// session (writes, syncs and pings; local reads move nothing): when that request was sent,
    /// plus the timeout, less a margin of one twentieth for clocks that run unevenly. When it
    /// passes without news, [`lost`](Session::lost) resolves, whether or not anyone can be
    /// reached. On the embedded ground a session cannot expire while its client lives, so that
    /// there it is always a full timeout away. A [read-only](SessionStatus::ConnectedReadOnly)
    /// session is proved by nothing: there it is always now.
    pub fn valid_until(&self) -> Instant {
        match (self.end(), self.core.inbox.valid_until()) {
            (None, None) if self.core.read_only => Instant::now(),
            (None, None) => Instant::now() + self.core.timeout,
            (None, Some(deadline)) => deadline,
            (Some(_), None) => Instant::now(),
            (Some(_), Some(deadline)) => deadline.min(Instant::now()),
        }
    }

    /// Whether nobody else can hold what this session holds before
    /// [`valid_until`](Session::valid_until).
    ///
    /// True on the embedded ground and on this project's servers. False on a foreign ensemble,
    /// whose followers answer pings themselves: there the deadline is advice, and only a fence
    /// (or a guarded transaction) is safe.
    pub fn deadline_is_proof(&self) -> bool {
        self.core.kind().deadline_is_proof() && !self.core.read_only
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.core.inbox
    }

    pub(crate) fn over(&self, end: SessionEnd, maybe_applied: bool) -> Error {
        self.core.over(end, maybe_applied)
    }

    /// Reserves a place in the session's reaper for something that will have to be cleaned up,
    /// even if its owner is dropped while the connection is broken.
    ///
    /// # Errors
    /// [`Error::TooMany`] past
    /// [`CONTENDERS_PER_SESSION_MAX`](crate::model::limits::CONTENDERS_PER_SESSION_MAX).
    pub fn reserve_cleanup(&self) -> Result<CleanupSlot, Error> {
        let taken = &self.core.slots_taken;
        let max = CONTENDERS_PER_SESSION_MAX;
        let one_more = |count| (count < max).then_some(count + 1);
        match taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more) {
            Ok(_) => Ok(CleanupSlot { session: self.clone() }),
            Err(_) => Err(Error::TooMany { what: "contenders of one session", max }),
        }
    }

    /// How many cleanup places are taken.
    pub fn cleanups_reserved(&self) -> usize {
        self.core.slots_taken.load(Ordering::Acquire)
    }

    /// Takes a watch away. It is told to a connection that is only coming up as well, which may
    /// have been given the watch by now; if there is none, the watch is gone already.
    pub(crate) fn remove_watch(&self, path: Arc<str>, kind: WatchKind) {
        if self.end().is_none() {
            // The reply says nothing that anyone needs.
            drop(self.core.send(Request::Watch(WatchRequest::Remove { path, kind }), None));
        }
    }
}

/// How many units a request takes of what may be under way.
fn weight_of(request: &Request) -> u32 {
    let bytes_of = |op: &Op| match op {
        Op::Create(create) => create.data.as_ref().map_or(0, |data| data.len()),
        Op::SetData { data, .. } => data.as_ref().map_or(0, |data| data.len()),
        Op::Delete { .. } | Op::Check { .. } => 0,
    };
    let bytes = match request {
        Request::Write(Write::Op(op) | Write::ProposeAt { op, .. }) => bytes_of(op),
        Request::Write(Write::Multi(ops)) => ops.iter().map(bytes_of).sum(),
        _ => 0,
    };
    let units = 1 + bytes / OUTSTANDING_UNIT_BYTES;
    u32::try_from(units).unwrap_or(u32::MAX).min(OUTSTANDING_UNITS_MAX)
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.id()).field("status", &self.status()).finish()
    }
}

/// A place in a session's reaper, reserved before what it will clean up exists, so that a drop
/// never finds the reaper full.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub struct CleanupSlot {
    session: Session,
}

impl CleanupSlot {
    /// Hands `cleanup` to the session's reaper and returns at once. The reaper runs it until it
    /// is done or the session is over, whatever becomes of the caller; `cleanup` itself retries
    /// what fails. It needs no runtime here: on the embedded ground it is done when this returns,
    /// elsewhere the client's own task runs it.
    pub fn run(self, cleanup: impl Future<Output = ()> + Send + 'static) {
        let core = Arc::clone(&self.session.core);
        let cleanup = async move {
            // Whoever runs it has others to run.
            if AssertUnwindSafe(cleanup).catch_unwind().await.is_err() {
                error!(session = %self.session.id(), "a cleanup has panicked");
            }
            drop(self);
        };
        if core.inline {
            // Everything is answered inline there, so that one poll goes through to the end,
            // even in a task that has used up its share.
            let cleanup = tokio::task::coop::unconstrained(cleanup);
            let done = pin!(cleanup).poll(&mut Context::from_waker(Waker::noop())).is_ready();
            debug_assert!(done, "a cleanup on an inline ground waits for the ground alone");
            return;
        }
        let mut cleanups = core.cleanups.lock().unwrap_or_else(PoisonError::into_inner);
        // Once the session is over nobody takes one out, and it would keep the client alive.
        if core.end().is_none() {
            cleanups.push(Box::pin(cleanup));
            core.cleanup_added.notify_one();
        } else {
            drop(cleanups);
        }
    }
}

impl Drop for CleanupSlot {
    fn drop(&mut self) {
        self.session.core.slots_taken.fetch_sub(1, Ordering::AcqRel);
    }
}
