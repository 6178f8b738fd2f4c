//! A simulated connection between one client and the coordinator.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::LATENCY_MS;
use crate::client::embedded::{Coordinator as Core, EmbeddedLink};
use crate::client::ground::{
    Call, ConnectError, Failure, Ground, Hello, Link, ReplyTo, ServerKind, Welcome, proved_until,
};
use crate::client::inbox::{Arm, Inbox, SessionStatus};
use crate::model::{Request, SessionId, Write};

/// Most requests that wait on one simulated connection; past it the connection breaks.
const REQUESTS_WAITING_MAX: usize = 65_536;

/// Later than any test runs: thirty years.
fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(30 * 365 * 86_400)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When the coordinator must have heard of each session again. In the order of their numbers, so
/// that those which expire together do so in the same order in every run.
#[derive(Clone, Default)]
pub(super) struct Heard {
    deadlines: Arc<Mutex<BTreeMap<SessionId, (Instant, Duration)>>>,
}

impl Heard {
    fn of(&self, session: SessionId, timeout: Option<Duration>) {
        let mut deadlines = lock(&self.deadlines);
        let known = deadlines.get(&session).map(|(_, timeout)| *timeout);
        if let Some(timeout) = timeout.or(known) {
            deadlines.insert(session, (Instant::now() + timeout, timeout));
        }
    }

    fn closed(&self, session: SessionId) {
        lock(&self.deadlines).remove(&session);
    }

    /// Takes out the sessions that are overdue.
    pub(super) fn overdue(&self, now: Instant) -> Vec<SessionId> {
        let mut deadlines = lock(&self.deadlines);
        let is_overdue = |(_, (deadline, _)): &(&SessionId, &(Instant, Duration))| *deadline <= now;
        let overdue: Vec<_> = deadlines.iter().filter(is_overdue).map(|(id, _)| *id).collect();
        for session in &overdue {
            deadlines.remove(session);
        }
        overdue
    }
}

#[derive(Default)]
struct Faults {
    /// The connection cannot be made before; `None` in an option: never again.
    unreachable_until: Option<Option<Instant>>,
    lose_next_reply: bool,
    delay_next: Option<Duration>,
    /// Cuts the connection there is.
    cut: Weak<Notify>,
}

/// The network between one client and the coordinator.
pub(super) struct Net {
    core: Arc<Core>,
    heard: Heard,
    faults: Arc<Mutex<Faults>>,
}

impl Net {
    pub(super) fn new(core: Arc<Core>, heard: Heard) -> Net {
        Net { core, heard, faults: Arc::default() }
    }

    /// Closes the connection there is; it can be made again.
    pub(super) fn cut(&self) {
        if let Some(cut) = lock(&self.faults).cut.upgrade() {
            cut.notify_one();
        }
    }

    /// Cuts, for a while or (`None`) for good. Zero heals.
    pub(super) fn disconnect(&self, duration: Option<Duration>) {
        // What lies beyond the end of the clock is never.
        let until = duration.and_then(|duration| Instant::now().checked_add(duration));
        lock(&self.faults).unreachable_until = Some(until);
        if duration.is_none_or(|duration| !duration.is_zero()) {
            self.cut();
        }
    }

    pub(super) fn is_reachable(&self) -> bool {
        match lock(&self.faults).unreachable_until {
            None => true,
            Some(None) => false,
            Some(Some(until)) => until <= Instant::now(),
        }
    }

    pub(super) fn lose_next_reply(&self) {
        lock(&self.faults).lose_next_reply = true;
    }

    pub(super) fn delay_next(&self, delay: Duration) {
        lock(&self.faults).delay_next = Some(delay);
    }
}

#[async_trait]
impl Ground for Net {
    async fn connect(&self, hello: Hello, inbox: Arc<Inbox>) -> Result<Welcome, ConnectError> {
        sleep(Duration::from_millis(LATENCY_MS)).await;
        if !self.is_reachable() {
            return Err(ConnectError::Unreachable("the connection is cut".to_owned()));
        }
        let (session, password, timeout, link) = self.core.attach(&hello, Arc::clone(&inbox))?;
        self.heard.of(session, Some(timeout));
        let cut = Arc::new(Notify::new());
        lock(&self.faults).cut = Arc::downgrade(&cut);
        let (calls, waiting) = mpsc::channel(REQUESTS_WAITING_MAX);
        let (heard, faults) = (self.heard.clone(), Arc::clone(&self.faults));
        let hung_up = Arc::clone(&cut);
        let carrier = Carrier { link, inbox: inbox.clone(), timeout, heard, faults, cut };
        // It ends when the link is dropped, and with it the sender.
        tokio::spawn(carrier.carry(waiting));
        let link = Box::new(SimulatedLink { calls, inbox, hung_up });
        Ok(Welcome { session, password, timeout, read_only: false, link })
    }

    fn is_inline(&self) -> bool {
        false
    }

    fn kind(&self) -> ServerKind {
        ServerKind::Embedded
    }
}

struct SimulatedLink {
    calls: mpsc::Sender<(Call, Instant)>,
    inbox: Arc<Inbox>,
    hung_up: Arc<Notify>,
}

impl Drop for SimulatedLink {
    /// The client hangs up: what is under way fails now, however long it was to travel.
    fn drop(&mut self) {
        self.hung_up.notify_one();
    }
}

impl Link for SimulatedLink {
    fn send(&self, call: Call) {
        let Err(refused) = self.calls.try_send((call, Instant::now())) else { return };
        let (mpsc::error::TrySendError::Full((call, _))
        | mpsc::error::TrySendError::Closed((call, _))) = refused;
        self.inbox.set_status(SessionStatus::Disconnected);
        let failure = Failure::Disconnected { maybe_applied: false };
        self.inbox.reply(call.reply_to, call.arm, Err(failure));
    }
}

/// Carries requests to the coordinator and replies back, one after the other.
struct Carrier {
    link: EmbeddedLink,
    inbox: Arc<Inbox>,
    timeout: Duration,
    heard: Heard,
    faults: Arc<Mutex<Faults>>,
    cut: Arc<Notify>,
}

impl Carrier {
    async fn carry(self, mut waiting: mpsc::Receiver<(Call, Instant)>) {
        loop {
            let next = tokio::select! {
                biased;
                () = self.cut.notified() => None,
                next = waiting.recv() => next,
            };
            let Some((Call { request, reply_to, arm }, sent)) = next else { break };
            if let Err((reply_to, arm)) = self.exchange(request, reply_to, arm, sent).await {
                self.fail(reply_to, arm);
                break;
            }
        }
        self.link.disconnect();
        self.inbox.set_status(SessionStatus::Disconnected);
        waiting.close();
        while let Ok((call, _)) = waiting.try_recv() {
            self.fail(call.reply_to, call.arm);
        }
    }

    /// It was sent: whether it arrived is not known at this end.
    fn fail(&self, reply_to: ReplyTo, arm: Option<Arm>) {
        self.inbox.set_status(SessionStatus::Disconnected);
        let failure = Failure::Disconnected { maybe_applied: true };
        self.inbox.reply(reply_to, arm, Err(failure));
    }

    /// One request and its reply. Gives back where the reply should have gone if the connection
    /// breaks before.
    async fn exchange(
        &self,
        request: Request,
        reply_to: ReplyTo,
        arm: Option<Arm>,
        sent: Instant,
    ) -> Result<(), (ReplyTo, Option<Arm>)> {
        let latency = Duration::from_millis(LATENCY_MS);
        let delay = lock(&self.faults).delay_next.take().unwrap_or_default();
        let arrival = sent.checked_add(latency.saturating_add(delay)).unwrap_or_else(far_future);
        if !self.travel(arrival).await {
            return Err((reply_to, arm));
        }
        let session = self.link.session();
        self.heard.of(session, None);
        let is_write = matches!(request, Request::Write(_));
        let is_close = request == Request::Write(Write::CloseSession);
        let proves = is_write || matches!(request, Request::Sync { .. } | Request::Ping);
        let (inner, answered) = oneshot::channel();
        // The watch is armed where the coordinator leaves it, so that no event is missed while
        // the reply travels.
        self.link.send(Call { request, reply_to: inner, arm });
        let Ok(reply) = answered.await else { return Err((reply_to, None)) };
        if is_close && reply.is_ok() {
            self.heard.closed(session);
        }
        let lost = is_write && std::mem::take(&mut lock(&self.faults).lose_next_reply);
        let connected = !matches!(reply, Err(Failure::Disconnected { .. }));
        if lost || !connected || !self.travel(Instant::now() + latency).await {
            return Err((reply_to, None));
        }
        if proves {
            self.inbox.prove_until(proved_until(sent, self.timeout));
        }
        self.inbox.reply(reply_to, None, reply);
        Ok(())
    }

    /// Whether the connection held until then.
    async fn travel(&self, arrival: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.cut.notified() => false,
            () = sleep_until(arrival) => true,
        }
    }
}
