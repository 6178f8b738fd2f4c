//! The courier takes what a member has for the leader there: entries in order, which sessions were
//! heard of, and questions. On the leader itself it proposes directly; on another member it sends
//! them over one connection, and the leader's side of that connection proposes them.
//!
//! Nothing is ever sent twice. When the leader is lost, what was on its way has an unknown fate,
//! and the connections that wait for it are cut; what was not taken yet waits for the next leader.
//!
//! | file | what it holds |
//! |---|---|
//! | `frames` | what a courier and a leader say to each other, as frames |
//! | `leader_line` | who leads, told to the log |
//! | `proposed` | entries that were proposed and whose fate is not known |

pub(super) mod frames;
mod leader_line;
mod proposed;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt};
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use openraft::type_config::alias::WatchReceiverOf;
use synod_core::model::SessionId;
use synod_core::seams::Clock;
use tokio::time::{Instant, interval, sleep_until, timeout};

use self::frames::{
    ASK_INDEX, DIGEST, INDEX, PROPOSE, TOUCH, TOUCHED, decode_sessions, encode_sessions, next_if,
    pack, sessions_of,
};
pub(super) use self::leader_line::LeaderLine;
use self::proposed::Proposed;
use super::batch;
use super::caller::Caller;
use super::frame::{self, Frame, Wire};
use super::handshake::Purpose;
use super::types::{Address, Command, Types, malformed};
use super::{RaftOf, Standing, standing};
use crate::bug::Bug;
use crate::limits::{
    COURIER_CONNECT_MS_MAX, COURIER_QUESTIONS_MAX, COURIER_SILENCE_MS_MAX, LEASE_CONFIRM_MS,
    LEASE_PROBE_MS, PEER_OUTPUT_BYTES_SOFT, QUORUM_MS_MAX, TOUCH_MS,
};
use crate::log::Disk;
use crate::member::{Awaited, Checkpoint, Heard, Member, Outgoing, Proposal, Role, Waiter};
use crate::net::Stream;

type Metrics = WatchReceiverOf<Types, openraft::metrics::RaftServerMetrics<Types>>;

/// Why the courier leaves a leader.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("another leads, or nobody")]
    Changed,
    #[error("the leader has refused an entry: {0}")]
    Refused(String),
    #[error("no quorum answers")]
    NoQuorum,
    #[error("the connection to the leader: {0}")]
    Connection(#[from] io::Error),
    #[error("replication has ended")]
    Ended,
}

/// What waits for the leader's answers, oldest first.
#[derive(Default)]
struct Asked {
    pings: VecDeque<Vec<Waiter>>,
    barriers: VecDeque<Vec<Waiter>>,
}

impl Asked {
    fn is_full(&self) -> bool {
        self.pings.len() + self.barriers.len() >= COURIER_QUESTIONS_MAX
    }
}

pub(super) struct Courier<D: Disk> {
    pub(super) raft: RaftOf<D>,
    pub(super) member: Arc<Member>,
    pub(super) caller: Arc<Caller>,
    pub(super) clock: Arc<dyn Clock>,
    /// How long a leader may lead after a quorum has answered.
    pub(super) lease: Duration,
    /// See [`COURIER_FRAME_BYTES_SOFT`](crate::limits::COURIER_FRAME_BYTES_SOFT).
    pub(super) frame_bytes_soft: usize,
    pub(super) leader_line: LeaderLine,
}

impl<D: Disk> Courier<D> {
    /// Serves whoever leads, until replication ends.
    pub(super) async fn run(&self) {
        let mut metrics = self.raft.server_metrics();
        loop {
            let now = standing(&metrics.borrow_and_update());
            let lost = match &now {
                Standing::Leads { .. } => self.lead(&mut metrics, &now).await,
                Standing::Follows { leader, address, votes, .. } => {
                    let role = Role::of_follower(*votes);
                    self.follow(&mut metrics, &now, *leader, address, role).await
                }
                Standing::Looking => {
                    self.leader_line.tell(leader_line::Standing::Leaderless);
                    self.member.assume(Role::Looking);
                    self.changed(&mut metrics, &now).await
                }
            };
            tracing::debug!(?now, %lost, "the courier leaves");
            self.member.lose_leader();
            if matches!(lost, Lost::NoQuorum) {
                self.leader_line.tell(leader_line::Standing::LeadsAlone);
            }
            match lost {
                Lost::Ended => return,
                // The same leader may be there again in a moment.
                Lost::Connection(_) | Lost::Refused(_) | Lost::NoQuorum => {
                    let pause = Duration::from_millis(LEASE_PROBE_MS);
                    let _ = timeout(pause, self.changed(&mut metrics, &now)).await;
                }
                Lost::Changed => {}
            }
        }
    }

    /// Proposes what this member has, as long as it leads.
    async fn lead(&self, metrics: &mut Metrics, now: &Standing) -> Lost {
        // One that has lost its followers is leader by name only. And what earlier leaders have left
        // comes first: an expiry among it ends a session that must not be told that it lives.
        let confirmed = async {
            let begins = loop {
                match self.lease_index().await {
                    Some(index) => break index,
                    None => tokio::time::sleep(Duration::from_millis(LEASE_CONFIRM_MS)).await,
                }
            };
            self.member.applied(begins).await
        };
        tokio::select! {
            biased;
            lost = self.changed(metrics, now) => return lost,
            applied = confirmed => if !applied {
                return Lost::Ended;
            }
        }
        let Ok(leader) = self.raft.as_leader() else { return Lost::Changed };
        self.leader_line.tell(leader_line::Standing::Leads);
        self.member.assume(Role::Leader);
        let mut proposed = Proposed::default();
        let mut asked = Asked::default();
        let mut answers: FuturesOrdered<BoxFuture<'_, Option<Answer>>> = FuturesOrdered::new();
        let mut probe = interval(Duration::from_millis(LEASE_PROBE_MS));
        let (mut seen, mut held) = (Instant::now(), Instant::now());
        let lost = loop {
            let room = !asked.is_full() && !proposed.is_full();
            // One is being written and one waits for the disk, or many are written together: what comes
            // after them is not much earlier there for being proposed now, and costs less together.
            let awaited = if proposed.is_enough() { Awaited::Pressing } else { Awaited::Anything };
            let something = async {
                self.member.something_to_take(awaited).await;
                // While its lease has lapsed, it would be refused what it proposes.
                self.confirmed().await;
            };
            tokio::select! {
                biased;
                lost = self.changed(metrics, now) => break lost,
                settled = proposed.next() => match settled {
                    Ok(()) => seen = Instant::now(),
                    Err(lost) => break lost,
                },
                Some(answer) = answers.next(), if !answers.is_empty() => match answer {
                    Some(Answer::Lease) => {
                        let pings = asked.pings.pop_front().unwrap_or_default();
                        // Those that are unknown have lost their connections here: nothing is
                        // between this state and its timers.
                        let heard = self.member.hear_all(&sessions_of(&pings)).unwrap_or_default();
                        self.member.answer_pings(pings, &heard.dead);
                    }
                    Some(Answer::Index(index)) => {
                        let waiters = asked.barriers.pop_front().unwrap_or_default();
                        self.member.wait_applied(index, waiters);
                    }
                    None => break Lost::NoQuorum,
                },
                () = something, if room => {
                    let Outgoing { proposals, pings, barriers, .. } = self.member.take_outgoing();
                    let time_ms = self.clock.wall_ms();
                    let (pinned, rest): (Vec<_>, Vec<_>) =
                        proposals.into_iter().partition(|proposal| proposal.pinned);
                    let commands = |proposals: Vec<Proposal>| {
                        let entries = proposals.into_iter().map(|proposal| proposal.entry);
                        let mut left = entries.peekable();
                        let mut commands = Vec::new();
                        while left.peek().is_some() {
                            let mut entries = BytesMut::new();
                            batch::fill(&mut entries, &mut left, self.frame_bytes_soft);
                            commands.push(Command { time_ms, entries: entries.freeze() });
                        }
                        commands
                    };
                    let term = leader.to_committed_leader_id();
                    let (first, then) = (pinned.len(), rest.len());
                    let pinned = commands(pinned);
                    let mut taken = proposed.propose_in(&self.raft, &term, pinned, first).await;
                    if taken.is_ok() {
                        taken = proposed.propose(&self.raft, commands(rest), then).await;
                    }
                    if let Err(lost) = taken {
                        self.member.ask_again(pings, barriers);
                        break lost;
                    }
                    if !pings.is_empty() {
                        asked.pings.push_back(pings);
                        answers.push_back(Box::pin(self.lease_answer()));
                    }
                    if !barriers.is_empty() {
                        asked.barriers.push_back(barriers);
                        answers.push_back(Box::pin(self.index_answer()));
                    }
                }
                _ = probe.tick() => {
                    // Entries that a leader has accepted may wait for ever once it is cut off; and one
                    // that has none is leader by name only.
                    let patience = Duration::from_millis(LEASE_PROBE_MS);
                    let led = if proposed.is_empty() {
                        self.was_acked(Duration::from_millis(QUORUM_MS_MAX))
                    } else {
                        seen.elapsed() <= patience
                    };
                    if led || self.holds_lease().await {
                        held = Instant::now();
                    } else if held.elapsed() > Duration::from_millis(QUORUM_MS_MAX) {
                        break Lost::NoQuorum;
                    }
                }
            }
        };
        drop(answers);
        self.member.assume(Role::Looking);
        self.ask_again(asked);
        lost
    }

    /// Waits until this member stands otherwise than `now`. That it gets or loses its vote changes
    /// what it is called, and nothing for those whose requests are on their way.
    async fn changed(&self, metrics: &mut Metrics, now: &Standing) -> Lost {
        loop {
            if metrics.changed().await.is_err() {
                return Lost::Ended;
            }
            let other = standing(&metrics.borrow_watched());
            if !other.is_same(now) {
                return Lost::Changed;
            }
            if let Standing::Follows { votes, .. } = other {
                self.member.assume(Role::of_follower(votes));
            }
        }
    }

    async fn holds_lease(&self) -> bool {
        self.lease_index().await.is_some()
    }

    /// As a leader within its lease: up to where entries were committed by anybody, at least; its
    /// own first entry is the least.
    async fn lease_index(&self) -> Option<u64> {
        let read = self.raft.get_read_log_id(ReadPolicy::LeaseRead).await;
        read.ok().map(|(read, _)| read.index())
    }

    /// Waits until this leader holds its lease.
    async fn confirmed(&self) {
        // Mostly a quorum has just answered, and consensus need not be asked.
        if self.was_acked(self.lease / 2) {
            return;
        }
        while !self.holds_lease().await {
            tokio::time::sleep(Duration::from_millis(LEASE_CONFIRM_MS)).await;
        }
    }

    /// Whether a quorum has answered this leader that lately.
    fn was_acked(&self, lately: Duration) -> bool {
        if self.raft.voter_ids().count() == 1 {
            return true;
        }
        let leader = self.raft.as_leader().ok();
        let acked = leader.and_then(|leader| leader.last_quorum_acked());
        acked.is_some_and(|acked| openraft::Instant::elapsed(&acked) < lately)
    }

    /// Up to where entries are committed, by this policy: asked again until consensus says so, or
    /// this member is out of office.
    async fn insist(&self, policy: ReadPolicy) -> Option<u64> {
        loop {
            if let Ok((read, _)) = self.raft.get_read_log_id(policy.clone()).await {
                return Some(read.index());
            }
            if !self.member.is_in_office() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(LEASE_CONFIRM_MS)).await;
        }
    }

    async fn lease_answer(&self) -> Option<Answer> {
        self.insist(ReadPolicy::LeaseRead).await.map(|_| Answer::Lease)
    }

    /// What a member is told that asks after its sessions.
    async fn touched_answer(&self, heard: Heard) -> Option<Told> {
        let index = self.insist(ReadPolicy::LeaseRead).await?;
        let Heard { mut dead, unknown } = heard;
        if !unknown.is_empty() {
            // Their entries were committed when the member asked: it has applied them.
            if !self.member.applied(index).await {
                return None;
            }
            let again = self.member.hear_all(&unknown)?;
            dead.extend(again.dead);
            dead.extend(again.unknown);
        }
        Some((Answer::Lease, dead))
    }

    async fn index_answer(&self) -> Option<Answer> {
        self.insist(ReadPolicy::ReadIndex).await.map(Answer::Index)
    }

    fn ask_again(&self, asked: Asked) {
        let pings = asked.pings.into_iter().flatten().collect();
        self.member.ask_again(pings, asked.barriers.into_iter().flatten().collect());
    }

    /// Sends what this member has to the leader, as long as that leads and can be reached.
    async fn follow(
        &self,
        metrics: &mut Metrics,
        now: &Standing,
        leader: u64,
        address: &Address,
        role: Role,
    ) -> Lost {
        // It follows whom it reaches: the one that it knows may be dead, and nobody chosen yet.
        self.member.assume(Role::Looking);
        let patience = Duration::from_millis(COURIER_CONNECT_MS_MAX);
        let stream = tokio::select! {
            biased;
            lost = self.changed(metrics, now) => return lost,
            connected = self.caller.connect(leader, address, Purpose::Courier, patience) => {
                match connected {
                    Ok(stream) => stream,
                    Err(error) => return error.into(),
                }
            }
        };
        self.leader_line.tell(leader_line::Standing::Follows(leader));
        self.member.assume(role);
        let mut wire = Wire::new(stream);
        let mut asked = Asked::default();
        let mut touch = interval(Duration::from_millis(TOUCH_MS));
        let mut heard = Instant::now();
        let lost = loop {
            let room = wire.output_bytes() < self.frame_bytes_soft && !asked.is_full();
            let take = tokio::select! {
                biased;
                lost = self.changed(metrics, now) => break lost,
                received = wire.next() => {
                    let answered = received.and_then(|frame| self.hear(frame, &mut asked));
                    if let Err(error) = answered {
                        break error.into();
                    }
                    heard = Instant::now();
                    None
                }
                () = self.member.something_to_take(Awaited::Anything), if room => Some(false),
                // A question each time: a connection on which nothing is answered leads nowhere.
                _ = touch.tick() => room.then_some(true),
            };
            if heard.elapsed() > Duration::from_millis(COURIER_SILENCE_MS_MAX) {
                break Lost::Connection(io::ErrorKind::TimedOut.into());
            }
            if let Some(ask) = take {
                let frames = (self.frame_bytes_soft, self.member.makes(Bug::OneFrameOnly));
                let outgoing = self.member.take_outgoing();
                let packed = pack(outgoing, ask, frames, wire.output(), &mut asked);
                if let Err(error) = packed {
                    break error.into();
                }
            }
        };
        self.member.assume(Role::Looking);
        self.ask_again(asked);
        lost
    }

    /// What the leader says to a follower.
    fn hear(&self, Frame { kind, mut body }: Frame, asked: &mut Asked) -> io::Result<()> {
        let short = |_| malformed("the leader's answer is longer than what is there");
        match kind {
            TOUCHED => {
                let dead = decode_sessions(&mut body)?;
                self.member.answer_pings(asked.pings.pop_front().unwrap_or_default(), &dead);
            }
            INDEX => {
                let index = body.try_get_u64().map_err(short)?;
                let waiters = asked.barriers.pop_front().unwrap_or_default();
                self.member.wait_applied(index, waiters);
            }
            DIGEST => {
                let index = body.try_get_u64().map_err(short)?;
                let digest = body.try_get_u64().map_err(short)?;
                self.member.compare(Checkpoint { index, digest });
            }
            _ => return Err(malformed("a leader sends answers and digests")),
        }
        Ok(())
    }

    /// The leader's side of a member's courier, until that goes away or this one does not lead.
    pub(super) async fn receive(&self, stream: Box<dyn Stream>, from: u64) {
        // Its followers may hear of a leader before that has come to its office. Until then it takes
        // no writes, and to refuse those that have waited for it would cut their connections.
        let patience = Duration::from_millis(COURIER_CONNECT_MS_MAX);
        let in_office = async {
            while !self.member.is_in_office() || !self.holds_lease().await {
                tokio::time::sleep(Duration::from_millis(LEASE_PROBE_MS)).await;
            }
        };
        if timeout(patience, in_office).await.is_err() {
            tracing::debug!(from, "a member's courier has come to one that does not lead");
            return;
        }
        let mut wire = Wire::new(stream);
        let mut proposed = Proposed::default();
        let mut answers: FuturesOrdered<BoxFuture<'_, Option<Told>>> = FuturesOrdered::new();
        let mut checkpoints = self.member.checkpoints();
        // The latest one may have passed before this connection was there.
        let latest = *checkpoints.borrow_and_update();
        if tell_digest(&mut wire, latest).is_err() {
            return;
        }
        let silence = Duration::from_millis(COURIER_SILENCE_MS_MAX);
        let mut heard = Instant::now();
        let lost: Lost = loop {
            // One that takes no answers is asked nothing more of, either.
            let room = !proposed.is_full()
                && answers.len() < COURIER_QUESTIONS_MAX
                && wire.output_bytes() < PEER_OUTPUT_BYTES_SOFT;
            tokio::select! {
                biased;
                settled = proposed.next() => if let Err(lost) = settled {
                    break lost;
                },
                Some(answer) = answers.next(), if !answers.is_empty() => {
                    let Some((answer, dead)) = answer else { break Lost::NoQuorum };
                    let put = match answer {
                        Answer::Lease => {
                            frame::put(wire.output(), TOUCHED, |out| encode_sessions(out, &dead))
                        }
                        Answer::Index(index) => {
                            frame::put(wire.output(), INDEX, |out| out.put_u64(index))
                        }
                    };
                    if let Err(error) = put {
                        break error.into();
                    }
                }
                Ok(()) = checkpoints.changed() => {
                    let checkpoint = *checkpoints.borrow_and_update();
                    if let Err(error) = tell_digest(&mut wire, checkpoint) {
                        break error.into();
                    }
                }
                // Answers go out even while nothing more is taken in.
                received = next_if(&mut wire, room) => {
                    heard = Instant::now();
                    let Frame { kind, mut body } = match received {
                        Ok(frame) => frame,
                        Err(error) => break error.into(),
                    };
                    match kind {
                        PROPOSE => {
                            let time_ms = self.clock.wall_ms();
                            let entries = match batch::check(&body) {
                                Ok(entries) => entries,
                                Err(error) => break error.into(),
                            };
                            let batch = vec![Command { time_ms, entries: body }];
                            let patience = Duration::from_millis(QUORUM_MS_MAX);
                            if timeout(patience, self.confirmed()).await.is_err() {
                                break Lost::NoQuorum;
                            }
                            if let Err(lost) = proposed.propose(&self.raft, batch, entries).await {
                                break lost;
                            }
                        }
                        TOUCH => {
                            let sessions = match decode_sessions(&mut body) {
                                Ok(sessions) => sessions,
                                Err(error) => break error.into(),
                            };
                            // Heard first, confirmed then: a lease that holds after it says that
                            // nobody else leads yet.
                            let Some(heard) = self.member.hear_all(&sessions) else {
                                break Lost::Changed;
                            };
                            if body.has_remaining() {
                                answers.push_back(Box::pin(self.touched_answer(heard)));
                            }
                        }
                        ASK_INDEX => answers.push_back(Box::pin(async move {
                            Some((self.index_answer().await?, Vec::new()))
                        })),
                        _ => break malformed("a courier brings entries, touches and questions").into(),
                    }
                }
                // It asks now and then, whether it has something to bring or not.
                () = sleep_until(heard + silence), if room => {
                    break Lost::Connection(io::ErrorKind::TimedOut.into());
                }
            }
        };
        tracing::debug!(from, %lost, "a member's courier is sent away");
    }
}

/// An answer, and which of the sessions that were asked about are judged dead.
type Told = (Answer, Vec<SessionId>);

/// What the leader answers.
enum Answer {
    Lease,
    Index(u64),
}

/// Tells a member what the leader's state came to.
fn tell_digest(wire: &mut Wire, checkpoint: Option<Checkpoint>) -> io::Result<()> {
    let Some(Checkpoint { index, digest }) = checkpoint else { return Ok(()) };
    frame::put(wire.output(), DIGEST, |out| {
        out.put_u64(index);
        out.put_u64(digest);
    })
}
