//! What was done and seen, in the one order in which it happened: the checkers' evidence, and the
//! trace.
//!
//! Everything of a run happens on one thread, so that the place of a record is its time: of two
//! records the first one happened before the second, even within a millisecond.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use synod_core::model::{Entry, Event, Refusal, Request, Response, SessionId, Write, Zxid};
use synod_server::Tap;
use tokio::time::Instant;

use super::net::Heard;

/// The place of a record in the history.
pub(crate) type Place = u64;

/// A session, as its client knows it.
#[derive(Debug)]
pub(crate) struct SessionRecord {
    pub(crate) client: u8,
    pub(crate) id: SessionId,
    pub(crate) timeout_ms: u64,
    /// In order of their attachments.
    pub(crate) connections: Vec<usize>,
    /// The server said that it is over, and when.
    pub(crate) told_over_ms: Option<u64>,
}

/// What a connection received, in order.
#[derive(Debug)]
pub(crate) enum Received {
    /// The reply to this operation.
    Reply(usize),
    Event(Event),
}

/// An attempt to open or re-attach a session, and what went over the connection.
#[derive(Debug)]
pub(crate) struct ConnectionRecord {
    pub(crate) session: Option<usize>,
    pub(crate) hello_ms: u64,
    pub(crate) attached: bool,
    pub(crate) ops: Vec<usize>,
    pub(crate) received: Vec<Received>,
    pub(crate) heard: Heard,
}

/// One operation.
#[derive(Debug)]
pub(crate) struct OpRecord {
    pub(crate) request: Request,
    pub(crate) sent: Place,
    pub(crate) sent_ms: u64,
    /// A sync that was sent just before, on the same connection: this read is not a stale one.
    pub(crate) synced_by: Option<usize>,
    /// `None` while its outcome is not known.
    pub(crate) reply: Option<Reply>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) at: Place,
    pub(crate) zxid: Option<Zxid>,
    pub(crate) result: Result<Response, Refusal>,
}

impl OpRecord {
    pub(crate) fn write(&self) -> Option<&Write> {
        match &self.request {
            Request::Write(write) => Some(write),
            _ => None,
        }
    }
}

/// An entry that a member has applied.
#[derive(Clone, Debug)]
pub(crate) struct Committed {
    pub(crate) member: u8,
    /// How many times the member had been started.
    pub(crate) life: u32,
    pub(crate) at_ms: u64,
    pub(crate) zxid: Zxid,
    pub(crate) entry: Entry,
}

/// A time in which something was wrong that delays the work of members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
}

/// How much was done: a run with too little of it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations of clients.
    pub ops: usize,
    /// Of them, those that were answered.
    pub answered: usize,
    /// Faults that were brought about.
    pub faults: usize,
}

impl Tally {
    const OPS_MIN: usize = 1_000;
    const ANSWERED_MIN: usize = 500;
    const FAULTS_MIN: usize = 10;

    /// Whether it is enough for a verdict.
    pub fn is_enough(&self) -> bool {
        self.ops >= Tally::OPS_MIN
            && self.answered >= Tally::ANSWERED_MIN
            && self.faults >= Tally::FAULTS_MIN
    }
}

#[derive(Default)]
pub(crate) struct History {
    pub(crate) sessions: Vec<SessionRecord>,
    pub(crate) connections: Vec<ConnectionRecord>,
    pub(crate) ops: Vec<OpRecord>,
    /// In the order in which the members applied.
    pub(crate) committed: Vec<Committed>,
    pub(crate) troubles: Vec<Trouble>,
    pub(crate) tally: Tally,
    /// What of it was while things went wrong.
    pub(crate) under_faults: Tally,
    /// When the run ended.
    pub(crate) ended_ms: u64,
    start: Option<Instant>,
    /// What a client could see to be wrong at once.
    pub(crate) complaints: Vec<String>,
    pub(crate) trace: Vec<String>,
    place: Place,
}

impl History {
    pub(crate) fn next_place(&mut self) -> Place {
        self.place += 1;
        self.place
    }

    /// A moment, in milliseconds since the start.
    pub(crate) fn at_ms(&self, at: Instant) -> u64 {
        let start = self.start.unwrap_or(at);
        at.saturating_duration_since(start).as_millis() as u64
    }
}

/// The history while it is written.
#[derive(Clone)]
pub(crate) struct Recorder {
    start: Instant,
    history: Arc<Mutex<History>>,
}

impl Recorder {
    pub(crate) fn new() -> Recorder {
        let start = Instant::now();
        let history = History { start: Some(start), ..History::default() };
        Recorder { start, history: Arc::new(Mutex::new(history)) }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.at_ms(Instant::now())
    }

    pub(crate) fn at_ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_millis() as u64
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("recording does not panic")
    }

    /// One line of the trace.
    pub(crate) fn note(&self, who: impl std::fmt::Display, what: std::fmt::Arguments<'_>) {
        let mut line = String::with_capacity(80);
        let _ = write!(line, "{:>6} {who:<4} {what}", self.now_ms());
        self.lock().trace.push(line);
    }

    /// Something is wrong that needs no checker to be seen.
    pub(crate) fn complain(&self, what: String) {
        self.note("run", format_args!("{what}"));
        self.lock().complaints.push(what);
    }

    /// Takes the history out.
    pub(crate) fn finish(&self) -> History {
        let ended_ms = self.now_ms();
        let mut history = self.lock();
        history.ended_ms = ended_ms;
        std::mem::take(&mut *history)
    }

    /// What a member tells of the entries that it applies.
    pub(crate) fn tap(&self, member: u8, life: u32, behind_ms: &Arc<AtomicU64>) -> Arc<dyn Tap> {
        let behind_ms = Arc::clone(behind_ms);
        Arc::new(MemberTap { recorder: self.clone(), member, life, behind_ms })
    }
}

struct MemberTap {
    recorder: Recorder,
    member: u8,
    life: u32,
    behind_ms: Arc<AtomicU64>,
}

impl Tap for MemberTap {
    fn applied(&self, zxid: Zxid, entry: &Entry) {
        let at_ms = self.recorder.now_ms();
        let Entry { session, sequence, request, .. } = entry;
        let text = format!("applies {zxid:?} {session} {sequence} {}", brief_write(request));
        self.recorder.note(format_args!("m{}", self.member), format_args!("{text}"));
        let entry = entry.clone();
        let committed = Committed { member: self.member, life: self.life, at_ms, zxid, entry };
        self.recorder.lock().committed.push(committed);
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(self.behind_ms.load(Relaxed))
    }
}

/// A request in a few words.
pub(crate) fn brief(request: &Request) -> String {
    match request {
        Request::Write(write) => brief_write(write),
        Request::Read(read) => format!("{read:?}"),
        Request::Watch(watch) => format!("{watch:?}"),
        Request::Sync { .. } => "sync".to_owned(),
        Request::Ping => "ping".to_owned(),
        Request::Auth { .. } => "auth".to_owned(),
        Request::Sasl(_) => "sasl".to_owned(),
        Request::Reconfig(_) => "reconfig".to_owned(),
    }
}

fn brief_write(write: &Write) -> String {
    match write {
        Write::Op(op) => brief_op(op),
        Write::Multi(ops) => {
            format!("multi [{}]", ops.iter().map(brief_op).collect::<Vec<_>>().join(", "))
        }
        other => format!("{other:?}"),
    }
}

fn brief_op(op: &synod_core::model::Op) -> String {
    use synod_core::model::Op;
    let text = |data: &Option<bytes::Bytes>| {
        data.as_ref().map_or("null".into(), |data| String::from_utf8_lossy(data).into_owned())
    };
    match op {
        Op::Create(create) => {
            format!("create {} {:?} {}", create.path, create.mode, text(&create.data))
        }
        Op::Delete { path, version } => format!("delete {path} v{version}"),
        Op::SetData { path, data, version } => format!("set {path} {} v{version}", text(data)),
        Op::Check { path, version } => format!("check {path} v{version}"),
    }
}

/// FNV-1a over the lines: two runs that differ anywhere differ here, but for chance.
pub(crate) fn hash(trace: &[String]) -> u64 {
    let bytes = trace.iter().flat_map(|line| line.bytes().chain([b'\n']));
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    })
}
