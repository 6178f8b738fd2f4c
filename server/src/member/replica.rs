//! What replication does with the state of a member.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
#[cfg(feature = "testing")]
use std::time::Duration;

use bytes::Bytes;
use synod_core::engine::{Engine, EngineView};
use synod_core::model::{Entry, SessionId};
use synod_core::wire::decode_entry;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::outgoing::{Awaited, Outgoing, Waiter};
use super::state::{Log, Role, State};
use super::watchman::{Pulse, Watchman};
use super::{Member, plant, prefetch};
use crate::bug::Bug;
use crate::config::Config;
use crate::counters::Counters;
use crate::limits::DIGESTS_MAX;
use crate::outbox::Fate;
use crate::replica::peers::TreeState;
use crate::watched;

/// The state's digest at a place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) index: u64,
    pub(crate) digest: u64,
}

/// What an entry of the replicated log is to the state.
pub(crate) enum Committed {
    /// Nothing.
    Blank,
    /// Something to be done: the leader's time, and entries.
    Entries(i64, Vec<Bytes>),
    /// From now on these are the members, as [`CONFIG_PATH`](synod_core::model::CONFIG_PATH) has
    /// them.
    Members(String),
}

/// What a leader cannot confirm of the sessions that were heard of.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// They were judged dead.
    pub(crate) dead: Vec<SessionId>,
    /// They are over, or were opened by entries that were not applied here yet: what is true is
    /// known once everything is applied that is committed by now.
    pub(crate) unknown: Vec<SessionId>,
}

/// Digests to be compared: those of this member, and those of the leader that are ahead of it.
#[derive(Default)]
pub(super) struct Digests {
    own: VecDeque<Checkpoint>,
    leader: BTreeMap<u64, u64>,
}

impl Digests {
    /// This member has come to a checkpoint.
    fn reach(&mut self, checkpoint: Checkpoint) -> Result<(), String> {
        if self.own.len() == DIGESTS_MAX {
            self.own.pop_front();
        }
        self.own.push_back(checkpoint);
        let leader = self.leader.remove(&checkpoint.index);
        self.leader = self.leader.split_off(&checkpoint.index);
        leader.map_or(Ok(()), |digest| compare(checkpoint, digest))
    }

    /// The leader says what it has there.
    fn hear(&mut self, leader: Checkpoint, applied_index: u64) -> Result<(), String> {
        let own = self.own.iter().find(|own| own.index == leader.index);
        if let Some(own) = own {
            return compare(*own, leader.digest);
        }
        if leader.index > applied_index && self.leader.len() < DIGESTS_MAX {
            self.leader.insert(leader.index, leader.digest);
        }
        Ok(())
    }
}

fn compare(own: Checkpoint, leader: u64) -> Result<(), String> {
    let Checkpoint { index, digest } = own;
    if digest == leader {
        return Ok(());
    }
    Err(format!(
        "this member's state differs from the leader's at entry {index} of the log: its digest is \
         {digest:#018x}, the leader's {leader:#018x}. It must not go on: remove it from the \
         cluster, empty its data folder and add it anew, and report this with both logs"
    ))
}

impl Member {
    /// A member whose log is replicated, with the state that a snapshot has brought.
    pub(crate) fn replicated(config: &Config, counters: Arc<Counters>, engine: Engine) -> Member {
        Member::new(config, counters, engine, Log::Replicated, None)
    }

    /// Waits until there is what the courier waits for, and stays there until it is taken. Dropping
    /// the future loses nothing.
    pub(crate) async fn something_to_take(&self, awaited: Awaited) {
        loop {
            {
                let outgoing = &mut self.lock().outgoing;
                if outgoing.has(awaited) {
                    return;
                }
                outgoing.awaited = Some(awaited);
            }
            // It may have been called before it was dropped, and be called for nothing now.
            self.outgoing.notified().await;
        }
    }

    /// Takes what waits for the leader.
    pub(crate) fn take_outgoing(&self) -> Outgoing {
        let mut state = self.lock();
        let outgoing = state.outgoing.take();
        state.unapplied_bytes -= outgoing.left_bytes;
        state.release_stalled();
        for session in &outgoing.touched {
            if let Some(seat) = state.seats.get_mut(session) {
                seat.touched = false;
            }
        }
        self.unlock(state);
        outgoing
    }

    /// Puts questions back that were not answered: they may be asked again, of another leader.
    pub(crate) fn ask_again(&self, pings: Vec<Waiter>, barriers: Vec<Waiter>) {
        let mut state = self.lock();
        state.outgoing.pings.extend(pings);
        state.outgoing.barriers.extend(barriers);
        self.unlock(state);
    }

    /// The leader has heard of these sessions, within its lease.
    pub(crate) fn answer_pings(&self, pings: Vec<Waiter>, dead: &[SessionId]) {
        let mut guard = self.lock();
        for waiter in pings {
            let alive = match &waiter {
                Waiter::Seat { session, .. } => !dead.contains(session),
                Waiter::Caller(_) => true,
            };
            if alive {
                guard.answer(waiter);
            }
        }
        self.unlock(guard);
    }

    /// Whether this member leads, and watches over the sessions.
    pub(crate) fn is_in_office(&self) -> bool {
        self.lock().watchman.is_some()
    }

    /// As the leader: sessions were heard of, here or on another member. Returns those whose
    /// clients must not be told that they live. `None` if this member does not lead.
    pub(crate) fn hear_all(&self, sessions: &[SessionId]) -> Option<Heard> {
        let mut state = self.lock();
        let deaf = state.planted.is(Bug::DeadIsHeard);
        let State { planted, engine, watchman, .. } = &mut *state;
        let watchman = watchman.as_mut()?;
        let mut heard = Heard::default();
        let now = Instant::now();
        for id in sessions {
            match watchman.hear(*id, now) {
                Pulse::Dead if !deaf => heard.dead.push(*id),
                Pulse::Unknown => {
                    heard.unknown.push(*id);
                    let info = engine.session(*id);
                    if let Some(info) = info.filter(|_| planted.is(Bug::UnheardIsForgotten)) {
                        watchman.enter(*id, info.timeout_ms);
                    }
                }
                Pulse::Lives | Pulse::Dead => {}
            }
        }
        Some(heard)
    }

    /// Waits until the entry at `index` is applied; whether it is.
    pub(crate) async fn applied(&self, index: u64) -> bool {
        let (passed, passing) = oneshot::channel();
        self.wait_applied(index, vec![Waiter::Caller(passed)]);
        // An error says that the member ends.
        passing.await.is_ok()
    }

    /// Answers when the entry at `index` is applied.
    pub(crate) fn wait_applied(&self, index: u64, waiters: Vec<Waiter>) {
        let mut guard = self.lock();
        let index = if guard.planted.is(Bug::IndexBeforeApply) { 0 } else { index };
        guard.barriers.entry(index).or_default().extend(waiters);
        guard.pass_barriers();
        self.unlock(guard);
    }

    /// This member has another role from now on. A leader's timers begin anew.
    pub(crate) fn assume(&self, role: Role) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.note_role(role);
        let all = !state.planted.is(Bug::UnheardIsForgotten);
        let sessions = state.engine.sessions().filter(|_| all);
        state.watchman = (role == Role::Leader).then(|| Watchman::new(self.tick_ms, sessions));
        // What a watchman before has judged counts no longer.
        state.outgoing.end_term();
        self.unlock(guard);
    }

    /// The state that this member starts with is that after the entry at `index`.
    pub(crate) fn begin_after(&self, index: u64) {
        self.lock().applied_index = index;
    }

    /// There are this many members from now on.
    pub(crate) fn count_members(&self, members: usize) {
        self.lock().members = members;
    }

    /// Applies committed entries: where each stands in the log, the term of its leader, and what it is.
    ///
    /// # Errors
    /// An entry cannot be read, or the state is found to differ from the leader's: the member
    /// must not go on.
    pub(crate) fn apply(&self, entries: &[(u64, u64, Committed)]) -> io::Result<()> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut applied = Ok(());
        for (index, term, committed) in entries {
            match committed {
                Committed::Blank => {}
                Committed::Members(members) => state.configure(*term, members),
                Committed::Entries(time_ms, entries) => {
                    let decoded: Result<Vec<Entry>, _> =
                        entries.iter().cloned().map(decode_entry).collect();
                    let decoded = match decoded {
                        Ok(decoded) => decoded,
                        Err(error) => {
                            applied =
                                Err(format!("entry {index} of the log cannot be read: {error}"));
                            break;
                        }
                    };
                    prefetch::for_entries(&state.engine, &decoded);
                    for mut entry in decoded {
                        entry.time_ms = *time_ms;
                        state.commit(*term, &entry);
                    }
                }
            }
            state.applied_index = *index;
            if index % self.digest_entries == 0 {
                let checkpoint = Checkpoint { index: *index, digest: state.engine.digest() };
                applied = state.digests.reach(checkpoint);
                self.checkpoints.send_replace(Some(checkpoint));
                if applied.is_err() {
                    break;
                }
            }
        }
        state.pass_barriers();
        state.release_stalled();
        self.unlock(guard);
        applied.map_err(|text| {
            self.fail(text.clone());
            io::Error::other(text)
        })
    }

    /// Waits for as long as a test wants this member to be behind what is committed.
    #[cfg(feature = "testing")]
    pub(crate) async fn dawdle(&self) {
        let delay = self.lock().tap.as_ref().map_or(Duration::ZERO, |tap| tap.delay());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    /// Whether it was told to make this mistake.
    pub(crate) fn makes(&self, bug: Bug) -> bool {
        self.lock().planted.is(bug)
    }

    /// The leader tells its digest.
    pub(crate) fn compare(&self, leader: Checkpoint) {
        let mut state = self.lock();
        let applied_index = state.applied_index;
        let compared = state.digests.hear(leader, applied_index);
        drop(state);
        if let Err(text) = compared {
            self.fail(text);
        }
    }

    /// This member's latest digest.
    pub(crate) fn checkpoints(&self) -> watched::Receiver<Option<Checkpoint>> {
        self.checkpoints.subscribe()
    }

    /// What the state has come to.
    pub(crate) fn state_in_short(&self) -> TreeState {
        let engine = &self.lock().engine;
        let (zxid, digest) = (engine.last_zxid(), engine.digest());
        TreeState { zxid, digest, config_version: engine.config_version() }
    }

    /// The state as it is now, to be written out.
    pub(crate) fn snapshot(&self) -> EngineView {
        self.lock().engine.snapshot()
    }

    /// Replaces the state by one that a snapshot has brought, up to the entry at `index`. The
    /// connections are cut: their clients come back and find out what they have missed.
    pub(crate) fn restore(&self, engine: Engine, index: u64) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut sessions: Vec<SessionId> = state.seats.keys().copied().collect();
        sessions.sort_unstable();
        sessions.into_iter().for_each(|session| state.unseat(session, Fate::Cut));
        state.openings.clear();
        let replaced = std::mem::replace(&mut state.engine, engine);
        plant(state.planted, &mut state.engine);
        state.engine.set_bounds(self.limits.bounds());
        state.applied_index = index;
        state.pass_barriers();
        state.release_stalled();
        if state.watchman.is_some() {
            state.watchman = Some(Watchman::new(self.tick_ms, state.engine.sessions()));
        }
        self.unlock(guard);
        // It may be large: nobody waits for it to be given back.
        drop(replaced);
    }

    /// This member must not go on.
    pub(crate) fn fail(&self, reason: String) {
        self.fatal.send_if_modified(|fatal| {
            let first = fatal.is_none();
            if first {
                *fatal = Some(reason);
            }
            first
        });
    }

    /// Why this member must not go on, once that is so.
    pub(crate) fn failures(&self) -> watch::Receiver<Option<String>> {
        self.fatal.subscribe()
    }
}
