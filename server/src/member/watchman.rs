//! Who finds dead sessions: the leader of a cluster, or a member of one.
//!
//! Its timers begin anew with each term: a leader that has just come expires nobody for not having
//! been heard by the one before.

use std::time::Duration;

use hashbrown::HashMap;
use synod_core::engine::SessionInfo;
use synod_core::model::SessionId;
use tokio::time::Instant;

use crate::expiry::{Deadline, Expiry};
use crate::limits::LATE_LOOK_MS;

/// A session as it is watched over.
enum Watched {
    Until {
        deadline: Deadline,
        timeout_ms: u32,
    },
    /// It was judged dead, and the log has not confirmed it: it is no longer heard.
    Expiring,
}

/// What is known of a session that was heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    /// It lives on.
    Lives,
    /// It was judged dead: its client must not be told that it lives.
    Dead,
    /// It is over; or it was opened by an entry that was not applied here yet.
    Unknown,
}

pub(super) struct Watchman {
    expiry: Expiry,
    /// Looked up only, never iterated.
    sessions: HashMap<SessionId, Watched, foldhash::fast::RandomState>,
}

impl Watchman {
    /// Watches over these sessions from now on.
    pub(super) fn new(
        tick_ms: u32,
        sessions: impl Iterator<Item = (SessionId, SessionInfo)>,
    ) -> Watchman {
        let expiry = Expiry::new(tick_ms, Instant::now());
        let mut watchman = Watchman { expiry, sessions: HashMap::default() };
        for (id, info) in sessions {
            watchman.enter(id, info.timeout_ms);
        }
        watchman
    }

    /// A session was opened or attached.
    pub(super) fn enter(&mut self, id: SessionId, timeout_ms: u32) {
        let now_ms = self.expiry.now_ms(Instant::now());
        let deadline = self.expiry.enter(id, now_ms, timeout_ms);
        self.sessions.insert(id, Watched::Until { deadline, timeout_ms });
    }

    /// The session was heard of: what its client may be told.
    pub(super) fn hear(&mut self, id: SessionId, now: Instant) -> Pulse {
        let now_ms = self.expiry.now_ms(now);
        match self.sessions.get_mut(&id) {
            Some(Watched::Until { deadline, timeout_ms }) => {
                deadline.heard(now_ms, *timeout_ms);
                Pulse::Lives
            }
            Some(Watched::Expiring) => Pulse::Dead,
            None => Pulse::Unknown,
        }
    }

    /// The session is over.
    pub(super) fn forget(&mut self, id: SessionId) {
        self.sessions.remove(&id);
    }

    /// The log has refused to expire the session: it is as good as heard of.
    pub(super) fn spare(&mut self, id: SessionId, info: Option<SessionInfo>) {
        match info {
            Some(info) if matches!(self.sessions.get(&id), Some(Watched::Expiring)) => {
                self.enter(id, info.timeout_ms);
            }
            Some(_) => {}
            None => self.forget(id),
        }
    }

    /// Begins a look that was to be at `expected`. A look that is late moves all deadlines: who
    /// did not listen expires nobody for not having been heard.
    pub(super) fn look(&mut self, expected: Instant, slack: Duration) {
        let now = Instant::now();
        let late = now.saturating_duration_since(expected);
        if late > slack {
            // Of a busy processor nobody needs to hear each time.
            if late > Duration::from_millis(LATE_LOOK_MS) {
                tracing::warn!(?late, "the look for expired sessions is late; all deadlines move");
            }
            self.expiry.late(late);
        }
        let now_ms = self.expiry.now_ms(now);
        self.expiry.look(now_ms);
    }

    /// The next session that is dead, of those that a look has found; at most `most` are judged.
    /// The second says whether there may be more.
    pub(super) fn dead(&mut self, most: usize) -> (Vec<SessionId>, bool) {
        let now_ms = self.expiry.now_ms(Instant::now());
        let mut dead = Vec::new();
        for _ in 0..most {
            let Some((bucket, id)) = self.expiry.next_due() else { return (dead, false) };
            let Some(Watched::Until { deadline, .. }) = self.sessions.get_mut(&id) else {
                continue;
            };
            if self.expiry.judge(id, bucket, deadline, now_ms) {
                self.sessions.insert(id, Watched::Expiring);
                dead.push(id);
            }
        }
        (dead, true)
    }
}
