//! The one task of a client whose connection can break: it keeps the session alive, re-attaches
//! it, runs its reaper, notes its deadline, and opens the next session after it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use tokio::sync::{oneshot, watch as latest};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::{debug, warn};

use super::builder::{Failure, Wishes};
use super::ground::{ConnectError, Ground, Hello, proved_until};
use super::inbox::SessionStatus;
use super::session::SessionCore;
use super::{Auths, SessionState, Shared, announce, builder};
use crate::model::limits::{
    CLOSE_WAIT_MS, RECONNECT_WAIT_MS_MAX, RECONNECT_WAIT_MS_MIN, SEEK_WAIT_MS_MAX, SEEK_WAIT_MS_MIN,
};
use crate::model::{Code, Request, SessionEnd, WatchRequest, Write, Zxid};
use crate::seams::Entropy;

/// Pings go out this many times in a session timeout.
const PINGS_PER_TIMEOUT: u32 = 3;

/// Pauses between attempts to connect: doubling, within bounds, and jittered so that clients
/// which lost the same server do not come back together.
pub(super) struct Backoff {
    wait_ms: u64,
    wait_ms_max: u64,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff { wait_ms: RECONNECT_WAIT_MS_MIN, wait_ms_max: RECONNECT_WAIT_MS_MAX }
    }

    pub(super) async fn wait(&mut self, entropy: &dyn Entropy) {
        let mut random = [0; 8];
        entropy.fill(&mut random);
        // Between half of the pause and all of it.
        let half = self.wait_ms / 2;
        let jittered = half + u64::from_le_bytes(random) % (self.wait_ms - half + 1);
        self.wait_ms = (self.wait_ms * 2).min(self.wait_ms_max);
        sleep(Duration::from_millis(jittered)).await;
    }
}

pub(super) struct Driver {
    /// Weak: the driver must not keep the client alive.
    pub(super) shared: Weak<Shared>,
    pub(super) ground: Arc<dyn Ground>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) states: Arc<latest::Sender<SessionState>>,
    pub(super) auths: Arc<Auths>,
    pub(super) wishes: Wishes,
    /// Resolves when the client is closed or its last handle is dropped.
    pub(super) stopped: oneshot::Receiver<()>,
}

/// The session that a driver keeps alive. If the driver goes without a word, with the runtime that
/// it ran in, nobody keeps the session any more: those who hold it must not wait for ever.
struct Kept {
    core: Arc<SessionCore>,
    shared: Weak<Shared>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.core.inbox.set_status(SessionStatus::Over(SessionEnd::Closed));
        self.core.bury();
        if let Some(shared) = self.shared.upgrade() {
            shared.stop();
        }
    }
}

impl Driver {
    /// Runs until the client is closed or its last handle is dropped.
    pub(super) async fn run(mut self, first: Arc<SessionCore>) {
        let mut kept = Kept { core: first, shared: Weak::clone(&self.shared) };
        loop {
            let core = Arc::clone(&kept.core);
            let end = self.live(&core).await;
            core.bury();
            match end {
                None | Some(SessionEnd::Closed) => return,
                Some(end) => announce(&self.states, core.id, SessionStatus::Over(end)),
            }
            if self.shared.upgrade().is_none_or(|shared| shared.closed.load(Ordering::Acquire)) {
                return;
            }
            let next = open_next(&*self.ground, &*self.entropy, self.wishes);
            let core = tokio::select! {
                biased;
                _ = &mut self.stopped => return,
                core = next => core,
            };
            kept.core = Arc::clone(&core);
            // One that stalls here is given up at its deadline, as one that stalls later is.
            let deadline =
                core.inbox.valid_until().unwrap_or_else(|| Instant::now() + core.timeout);
            tokio::select! {
                biased;
                _ = &mut self.stopped => {
                    self.close(&core).await;
                    return;
                }
                _ = timeout_at(deadline, authenticate(&core, &self.auths)) => {}
            }
            let Some(shared) = self.shared.upgrade() else {
                self.close(&core).await;
                return;
            };
            shared.current.store(Arc::clone(&core));
            announce(&self.states, core.id, core.attached_status());
            shared.session_changed.notify_waiters();
        }
    }

    /// Lives through one session; says how it ended, or `None` when the client is gone.
    async fn live(&mut self, core: &Arc<SessionCore>) -> Option<SessionEnd> {
        let mut cleanups = FuturesUnordered::new();
        let mut reattaching: Option<BoxFuture<'static, bool>> = None;
        let ping_every = core.timeout / PINGS_PER_TIMEOUT;
        let mut next_ping = Instant::now() + ping_every;
        let mut seeking = core.read_only.then(|| self.seek().boxed());
        loop {
            let status = core.inbox.status();
            match status {
                SessionStatus::Over(end) => return Some(end),
                SessionStatus::Disconnected if core.read_only => {
                    core.inbox.set_status(SessionStatus::Over(SessionEnd::ReadOnlyEnded));
                    continue;
                }
                SessionStatus::Disconnected if reattaching.is_none() => {
                    announce(&self.states, core.id, SessionStatus::Disconnected);
                    reattaching = Some(self.reattach(Arc::clone(core)).boxed());
                }
                _ => {}
            }
            cleanups.extend(core.take_cleanups());
            let deadline = core.inbox.valid_until().unwrap_or_else(|| next_ping + core.timeout);
            tokio::select! {
                biased;
                _ = &mut self.stopped => {
                    self.close(core).await;
                    return None;
                }
                _ = core.inbox.status_when(|now| now != status) => {}
                () = core.cleanup_added.notified() => {}
                Some(()) = cleanups.next(), if !cleanups.is_empty() => {}
                alive = poll_some(&mut reattaching) => {
                    reattaching = None;
                    if !alive {
                        core.inbox.set_status(SessionStatus::Over(SessionEnd::Expired));
                    } else if core.attached() {
                        announce(&self.states, core.id, SessionStatus::Connected);
                    }
                    next_ping = Instant::now() + ping_every;
                }
                () = poll_some(&mut seeking) => {
                    self.end(core, SessionEnd::ReadOnlyEnded).await;
                    return Some(SessionEnd::ReadOnlyEnded);
                }
                () = sleep_until(deadline) => {
                    // A reply may have moved it since it was looked at.
                    if core.inbox.valid_until().is_some_and(|until| until <= Instant::now()) {
                        warn!(session = %core.id, "out of reach until its deadline");
                        core.inbox.set_status(SessionStatus::Over(SessionEnd::DeadlinePassed));
                    }
                }
                () = sleep_until(next_ping) => {
                    next_ping = Instant::now() + ping_every;
                    // The link notes when the answer comes; nobody waits for it.
                    drop(core.send(Request::Ping, None));
                }
            }
        }
    }

    /// Tries to attach the session to a new connection: `true` when it is, with its watches
    /// left again; `false` when the coordinator says that it is over.
    fn reattach(&self, core: Arc<SessionCore>) -> impl Future<Output = bool> + Send + 'static {
        let ground = Arc::clone(&self.ground);
        let entropy = Arc::clone(&self.entropy);
        let auths = Arc::clone(&self.auths);
        async move {
            let mut backoff = Backoff::new();
            // Now, not when the watches are left again: the answers in between carry the zxids of
            // changes that were not told.
            let since = core.inbox.last_zxid();
            loop {
                let sent = Instant::now();
                let hello = Hello {
                    resume: Some((core.id, core.password)),
                    last_zxid: core.inbox.last_zxid(),
                    timeout: core.timeout,
                    read_only: false,
                };
                match ground.connect(hello, Arc::clone(&core.inbox)).await {
                    // Another session than the one asked for: that one is gone.
                    Ok(welcome) if welcome.session != core.id => return false,
                    Ok(welcome) => {
                        core.inbox.prove_until(proved_until(sent, welcome.timeout));
                        core.set_kind(ground.kind());
                        core.set_link(Some(welcome.link));
                        if renew(&core, &auths, since).await {
                            return true;
                        }
                    }
                    Err(ConnectError::SessionOver) => return false,
                    Err(ConnectError::Unreachable(reason)) => debug!(reason, "cannot connect"),
                    Err(ConnectError::NotAccepted(refusal)) => {
                        warn!(session = %core.id, rule = refusal.rule, "not accepted again");
                    }
                }
                backoff.wait(&*entropy).await;
            }
        }
    }

    /// Looks for a server that takes writes, until one does.
    fn seek(&self) -> impl Future<Output = ()> + Send + 'static {
        let (ground, entropy) = (Arc::clone(&self.ground), Arc::clone(&self.entropy));
        async move {
            let mut backoff = Backoff { wait_ms: SEEK_WAIT_MS_MIN, wait_ms_max: SEEK_WAIT_MS_MAX };
            loop {
                backoff.wait(&*entropy).await;
                if ground.finds_writable().await {
                    return;
                }
            }
        }
    }

    /// Ends the session on behalf of a client that nobody holds any more.
    async fn close(&self, core: &SessionCore) {
        self.end(core, SessionEnd::Closed).await;
        core.bury();
    }

    /// Tells the coordinator that the session ends, and those who follow it how.
    async fn end(&self, core: &SessionCore, end: SessionEnd) {
        if core.inbox.status().is_connected()
            && let Some(reply) = core.send(Request::Write(Write::CloseSession), None)
        {
            // If it does not come, the session expires by itself.
            let _ = timeout(Duration::from_millis(CLOSE_WAIT_MS), reply).await;
        }
        core.inbox.set_status(SessionStatus::Over(end));
        if let Some(end) = core.end() {
            announce(&self.states, core.id, SessionStatus::Over(end));
        }
    }
}

/// The next session, however long it takes.
async fn open_next(ground: &dyn Ground, entropy: &dyn Entropy, wishes: Wishes) -> Arc<SessionCore> {
    let mut backoff = Backoff::new();
    let failure = Failure::default();
    loop {
        match builder::open(ground, entropy, wishes, &failure).await {
            Ok(core) => return core,
            Err(refusal) => warn!(rule = refusal.rule, "not accepted"),
        }
        backoff.wait(entropy).await;
    }
}

/// What a new connection must know before anything else goes over it: who this is, and what it
/// watches (up to `since`, everything was told). Whether the connection held until then.
async fn renew(core: &SessionCore, auths: &Auths, since: Zxid) -> bool {
    authenticate(core, auths).await;
    let mut wakers = Vec::new();
    let answers: Vec<_> = {
        let _order = core.in_order();
        let pieces = core.inbox.rearm(since, &mut wakers).into_iter();
        pieces.map(|piece| core.send(Request::Watch(WatchRequest::Rearm(piece)), None)).collect()
    };
    wakers.into_iter().for_each(std::task::Waker::wake);
    for answer in answers {
        let Some(reply) = answer else { return false };
        match reply.await {
            Ok(Ok(_)) => {}
            Ok(Err(super::ground::Failure::Refused(refusal, _))) => {
                warn!(session = %core.id, code = %refusal.code, "watches were not left again");
                if refusal.code == Code::ClosedRequireSasl {
                    core.turn_away(refusal);
                    return false;
                }
            }
            Ok(Err(super::ground::Failure::Disconnected { .. })) | Err(_) => return false,
        }
    }
    true
}

pub(super) async fn authenticate(core: &SessionCore, auths: &Auths) {
    let auths = auths.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (scheme, credentials) in auths {
        let reply = core.send(Request::Auth { scheme, credentials }, None);
        if let Some(reply) = reply
            && let Ok(Err(super::ground::Failure::Refused(refusal, _))) = reply.await
        {
            warn!(session = %core.id, code = %refusal.code, "an identity was not accepted again");
        }
    }
}

async fn poll_some<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
