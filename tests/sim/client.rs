//! A client: sessions that it opens, takes elsewhere, closes, or lets die, and what it asks
//! meanwhile, with several requests under way.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use synod_core::model::{
    AddWatchMode, Code, Event, EventKind, Read, Rearm, Request, WatchRequest, Write, Zxid,
};
use synod_core::testing::SeededEntropy;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::cluster::{Directory, TICK_MS};
use super::history::Recorder;
use super::net::{Node, SimNet};
use super::wire::{Held, Item, NotAttached, Wire};
use super::workload::Workload;

/// Requests of a client that are under way at most.
const FLYING_MAX: usize = 12;

/// How long a client still works that is about to die, in milliseconds.
const DYING_MS_MAX: u64 = 300;

/// Session timeouts that clients ask for, in milliseconds.
pub(crate) const TIMEOUTS_MS: [u32; 3] = [1_500, 2_500, 4_000];

/// Tells clients to end: some close their session, others let it die.
///
/// Not tokio's `watch`, which wakes those who wait in an order that no seed gives.
#[derive(Debug, Default)]
pub(crate) struct Finish {
    told: AtomicBool,
    changed: Notify,
    /// Since when nothing goes wrong any more.
    calm_since: OnceLock<Instant>,
}

impl Finish {
    pub(crate) fn tell(&self) {
        self.told.store(true, Relaxed);
        self.changed.notify_waiters();
    }

    /// From now on every request is answered in time.
    pub(crate) fn calm(&self) {
        self.calm_since.get_or_init(Instant::now);
    }

    fn is_calm_since(&self, when: Instant) -> bool {
        self.calm_since.get().is_some_and(|since| *since <= when)
    }

    fn is_told(&self) -> bool {
        self.told.load(Relaxed)
    }
}

/// One-shot watches that have not fired, and watches that stay.
#[derive(Debug, Default)]
struct Watching {
    persistent: BTreeSet<Arc<str>>,
    recursive: BTreeSet<Arc<str>>,
    data: BTreeSet<Arc<str>>,
    exist: BTreeSet<Arc<str>>,
    child: BTreeSet<Arc<str>>,
}

impl Watching {
    fn leave(&mut self, read: &Read, found: Result<(), Code>) {
        match (read, found) {
            (Read::Exists { path, watch: true }, Ok(()))
            | (Read::GetData { path, watch: true }, Ok(())) => {
                self.data.insert(Arc::clone(path));
            }
            (Read::Exists { path, watch: true }, Err(Code::NoNode)) => {
                self.exist.insert(Arc::clone(path));
            }
            (Read::Children { path, watch: true }, Ok(())) => {
                self.child.insert(Arc::clone(path));
            }
            _ => {}
        }
    }

    fn fired(&mut self, event: &Event) {
        if event.kind != EventKind::ChildrenChanged {
            self.data.remove(&event.path);
            self.exist.remove(&event.path);
        }
        if matches!(event.kind, EventKind::ChildrenChanged | EventKind::Deleted) {
            self.child.remove(&event.path);
        }
    }

    fn rearm(&self, since: Zxid) -> Option<Rearm> {
        let list = |set: &BTreeSet<Arc<str>>| set.iter().cloned().collect::<Vec<_>>();
        let (data, exist, child) = (list(&self.data), list(&self.exist), list(&self.child));
        let (persistent, recursive) = (list(&self.persistent), list(&self.recursive));
        let rearm = Rearm { since, data, exist, child, persistent, recursive };
        (rearm != Rearm { since, ..Rearm::default() }).then_some(rearm)
    }
}

/// How a conversation over one connection ends.
enum End {
    /// It broke, or the client gave it up.
    Over,
    /// The client goes on over another one and leaves this one open.
    Moved(Box<Wire>),
    /// The session is closed.
    Closed,
    /// The client goes, and says nothing.
    Abandoned,
    /// The client is gone, and another begins in its place, with a session of its own.
    Died,
}

pub(crate) struct Client {
    pub(crate) id: u8,
    pub(crate) net: SimNet,
    pub(crate) recorder: Recorder,
    pub(crate) directory: Directory,
    pub(crate) finish: Arc<Finish>,
    /// The longest ordinary pause between two bursts, in milliseconds.
    pub(crate) pause_ms_max: u64,
    pub(crate) random: SeededEntropy,
}

/// What a client has beside itself.
struct Mind {
    session: Option<Held>,
    watching: Watching,
    workload: Workload,
    /// A connection that was left open.
    left: Option<Box<Wire>>,
}

impl Client {
    fn node(&self) -> Node {
        Node::Client(self.id)
    }

    fn finishes(&self) -> bool {
        self.finish.is_told()
    }

    /// Half of the clients say goodbye.
    fn is_polite(&self) -> bool {
        self.id.is_multiple_of(2)
    }

    /// Works until told to finish, and ends its session then.
    pub(crate) async fn run(mut self) {
        let workload = Workload::new(self.id, SeededEntropy::new(self.random.next_u64()));
        let (session, watching, left) = (None, Watching::default(), None);
        let mut mind = Mind { session, watching, workload, left };
        loop {
            if self.finishes() && (mind.session.is_none() || !self.is_polite()) {
                return;
            }
            let members = self.directory.members();
            let which = self.random.below(members.len() as u64) as usize;
            let timeout_ms = TIMEOUTS_MS[self.random.below(TIMEOUTS_MS.len() as u64) as usize];
            let timeout_ms = mind.session.as_ref().map_or(timeout_ms, |it| it.timeout_ms as u32);
            let (node, member) = (self.node(), members[which]);
            let held = mind.session.as_ref();
            let attaching = Wire::attach(&self.net, &self.recorder, node, member, held, timeout_ms);
            match attaching.await {
                Ok((wire, held)) => {
                    if mind.session.is_none() {
                        mind.watching = Watching::default();
                    }
                    mind.session = Some(held);
                    if let Some(left) = mind.left.take() {
                        self.left_behind(left);
                    }
                    match self.converse(wire, &mut mind).await {
                        End::Over => {}
                        End::Moved(wire) => mind.left = Some(wire),
                        End::Closed | End::Died => mind.session = None,
                        End::Abandoned => return,
                    }
                }
                Err(NotAttached::Over) => mind.session = None,
                Err(NotAttached::Unreachable) => {
                    sleep(Duration::from_millis(20 + self.random.below(200))).await;
                }
            }
        }
    }

    /// The session has another connection now.
    fn left_behind(&self, left: Box<Wire>) {
        let (recorder, node) = (self.recorder.clone(), self.node());
        tokio::spawn(async move {
            let number = left.connection;
            if left.still_serves().await {
                recorder.complain(format!("{node}, connection {number} is served after another"));
            }
        });
    }

    async fn converse(&mut self, mut wire: Wire, mind: &mut Mind) -> End {
        let held = mind.session.as_ref().expect("a session is attached");
        let timeout = Duration::from_millis(held.timeout_ms);
        if let Some(rearm) = mind.watching.rearm(held.last_zxid) {
            wire.send(Request::Watch(WatchRequest::Rearm(rearm)), None);
        }
        let mut next_act = Instant::now() + self.pause();
        let mut last_sent = Instant::now();
        let mut oldest: (Option<usize>, Instant) = (None, Instant::now());
        let mut closing = false;
        let mut dies_at: Option<Instant> = None;
        let finish = Arc::clone(&self.finish);
        loop {
            let (flying, first) = wire.flying();
            if oldest.0 != first {
                oldest = (first, Instant::now());
            }
            let impatient = oldest.1 + timeout * 2 / 3;
            let next = next_act.min(last_sent + timeout / 3);
            tokio::select! {
                biased;
                item = wire.next() => match item {
                    None => return End::Over,
                    Some(item) => {
                        if let Some(end) = self.take(&item, mind) {
                            return end;
                        }
                    }
                },
                () = sleep_until(dies_at.unwrap_or(next)), if dies_at.is_some() => {
                    self.recorder.note(self.node(), format_args!("dies"));
                    return End::Died;
                }
                () = finish.changed.notified() => next_act = Instant::now(),
                () = sleep_until(impatient), if flying > 0 => {
                    self.recorder.note(self.node(), format_args!("waits no longer"));
                    if finish.is_calm_since(oldest.1) {
                        let (who, waited) = (self.node(), oldest.1.elapsed());
                        self.recorder.complain(format!(
                            "{who} waited {waited:?} for an answer, and nothing was wrong"
                        ));
                    }
                    return End::Over;
                }
                () = sleep_until(next), if flying < FLYING_MAX && !closing => {
                    if next < next_act {
                        wire.send(Request::Ping, None);
                    } else if self.finishes() {
                        if !self.is_polite() {
                            return End::Abandoned;
                        }
                        wire.send(Request::Write(Write::CloseSession), None);
                        closing = true;
                    } else {
                        let act = self.act(&mut wire, mind, timeout, &mut closing).await;
                        match act {
                            Act::Go => {}
                            Act::Leave => return End::Over,
                            Act::Move => return End::Moved(Box::new(wire)),
                            Act::Die => {
                                let soon = Duration::from_millis(self.random.below(DYING_MS_MAX));
                                dies_at = Some(Instant::now() + soon);
                            }
                        }
                        next_act = Instant::now() + self.pause();
                    }
                    last_sent = Instant::now();
                }
            }
        }
    }

    fn pause(&self) -> Duration {
        // A long one now and then, which the session lives through by its pings alone.
        let longest_ms = if self.random.below(30) == 0 { 6_000 } else { self.pause_ms_max };
        Duration::from_millis(self.random.below(longest_ms))
    }

    async fn act(
        &mut self,
        wire: &mut Wire,
        mind: &mut Mind,
        timeout: Duration,
        closing: &mut bool,
    ) -> Act {
        let requests = mind.workload.burst();
        let mut synced_by = None;
        for request in requests {
            let is_sync = matches!(request, Request::Sync { .. });
            let op = wire.send(request, synced_by.take());
            synced_by = is_sync.then_some(op);
        }
        match self.random.below(400) {
            0..2 => Act::Leave,
            2..4 => Act::Move,
            4 => {
                wire.send(Request::Write(Write::CloseSession), None);
                *closing = true;
                Act::Go
            }
            5..11 => {
                // Neither reads nor writes, with what it sent still on its way or not even sent.
                let silence = if self.random.below(2) == 0 {
                    // Back at about the moment at which it is found dead.
                    timeout + Duration::from_millis(self.random.below(u64::from(TICK_MS) + 100))
                } else {
                    timeout.mul_f64(0.3 + self.random.below(200) as f64 / 100.0)
                };
                self.recorder.note(self.node(), format_args!("is silent for {silence:?}"));
                sleep(silence).await;
                match self.random.below(8) {
                    0..5 => Act::Go,
                    5 => Act::Die,
                    _ => Act::Leave,
                }
            }
            11 => Act::Die,
            _ => Act::Go,
        }
    }

    /// Learns from what came; the end of the conversation if it is one.
    fn take(&mut self, item: &Item, mind: &mut Mind) -> Option<End> {
        let op = match item {
            Item::Event(event) => {
                mind.watching.fired(event);
                return None;
            }
            Item::Reply(op) => *op,
        };
        let history = self.recorder.lock();
        let record = &history.ops[op];
        let reply = record.reply.as_ref()?;
        let held = mind.session.as_mut()?;
        held.last_zxid = reply.zxid.map_or(held.last_zxid, |zxid| zxid.max(held.last_zxid));
        if let Request::Read(read) = &record.request {
            let found = reply.result.as_ref().map(|_| ()).map_err(|refusal| refusal.code);
            mind.watching.leave(read, found);
        }
        if let (Request::Watch(WatchRequest::Add { path, mode }), Ok(_)) =
            (&record.request, &reply.result)
        {
            let set = match mode {
                AddWatchMode::Persistent => &mut mind.watching.persistent,
                AddWatchMode::PersistentRecursive => &mut mind.watching.recursive,
            };
            set.insert(Arc::clone(path));
        }
        match (&record.request, &reply.result) {
            (Request::Write(Write::CloseSession), Ok(_)) => Some(End::Closed),
            (request, Ok(response)) => {
                mind.workload.learn(request, response);
                None
            }
            (_, Err(refusal)) => {
                let over = [Code::SessionMoved, Code::SessionExpired, Code::ConnectionLoss];
                over.contains(&refusal.code).then_some(End::Over)
            }
        }
    }
}

enum Act {
    Go,
    Leave,
    Move,
    /// It goes in a moment, without a word.
    Die,
}
