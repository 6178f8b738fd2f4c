//! When sessions are looked at for expiry: deadlines, in buckets of one tick.
//!
//! Hearing of a session only moves its deadline; the session is found in its old bucket when that
//! is due, and goes to its new one then. So a packet costs nothing here, however many sessions
//! there are.
//!
//! The clock is this module's own: it stands still while nobody looks. If a look comes late by d,
//! because the process was stopped or starved, all deadlines are later by d: a server that did not
//! listen expires nobody for not having been heard.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use synod_core::model::SessionId;
use tokio::time::Instant;

/// Deadlines, by the millisecond of this module's clock.
pub(crate) struct Expiry {
    tick_ms: u64,
    /// The clock's zero; it moves when a look is late.
    start: Instant,
    buckets: BTreeMap<u64, Vec<SessionId>>,
    /// Sessions of a bucket that is due, to be looked at.
    due: VecDeque<(u64, SessionId)>,
}

/// The deadline of one session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at_ms: u64,
    /// Where it is found; an entry in another bucket is an old one.
    bucket: u64,
}

impl Expiry {
    pub(crate) fn new(tick_ms: u32, now: Instant) -> Expiry {
        let (buckets, due) = (BTreeMap::new(), VecDeque::new());
        Expiry { tick_ms: tick_ms.into(), start: now, buckets, due }
    }

    pub(crate) fn now_ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_millis() as u64
    }

    /// The bucket of a moment: the first look that is not before it.
    fn bucket(&self, at_ms: u64) -> u64 {
        at_ms.div_ceil(self.tick_ms)
    }

    /// Enters a session that was heard of now.
    pub(crate) fn enter(&mut self, id: SessionId, now_ms: u64, timeout_ms: u32) -> Deadline {
        let at_ms = now_ms + u64::from(timeout_ms);
        let bucket = self.bucket(at_ms);
        self.buckets.entry(bucket).or_default().push(id);
        Deadline { at_ms, bucket }
    }

    /// A look is late by this much.
    pub(crate) fn late(&mut self, by: Duration) {
        self.start += by;
    }

    /// Begins a look: what is due is handed out by [`Expiry::next_due`].
    pub(crate) fn look(&mut self, now_ms: u64) {
        let later = self.buckets.split_off(&(now_ms / self.tick_ms + 1));
        for (bucket, ids) in std::mem::replace(&mut self.buckets, later) {
            self.due.extend(ids.into_iter().map(|id| (bucket, id)));
        }
    }

    /// The next session to be judged, with the bucket that it was in.
    pub(crate) fn next_due(&mut self) -> Option<(u64, SessionId)> {
        self.due.pop_front()
    }

    /// Judges a session that was found in `bucket`: whether it is dead. If it is not, it is
    /// entered where its deadline is by now.
    pub(crate) fn judge(
        &mut self,
        id: SessionId,
        bucket: u64,
        deadline: &mut Deadline,
        now_ms: u64,
    ) -> bool {
        if deadline.bucket != bucket {
            return false;
        }
        if deadline.at_ms <= now_ms {
            return true;
        }
        deadline.bucket = self.bucket(deadline.at_ms);
        self.buckets.entry(deadline.bucket).or_default().push(id);
        false
    }
}

impl Deadline {
    /// The session was heard of.
    pub(crate) fn heard(&mut self, now_ms: u64, timeout_ms: u32) {
        self.at_ms = now_ms + u64::from(timeout_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SessionId = SessionId(7);

    /// Looks at 0, 10, 20 … and says at which the session is found dead.
    fn dies_at(expiry: &mut Expiry, deadline: &mut Deadline, from_ms: u64) -> u64 {
        for now_ms in (from_ms..from_ms + 1_000).step_by(10) {
            expiry.look(now_ms);
            while let Some((bucket, id)) = expiry.next_due() {
                if expiry.judge(id, bucket, deadline, now_ms) {
                    return now_ms;
                }
            }
        }
        panic!("it lives on");
    }

    #[test]
    fn a_session_dies_at_the_first_tick_after_its_timeout() {
        let mut expiry = Expiry::new(10, Instant::now());
        let mut deadline = expiry.enter(ID, 3, 40);
        assert_eq!(dies_at(&mut expiry, &mut deadline, 0), 50);
    }

    #[test]
    fn hearing_of_a_session_moves_its_deadline() {
        let mut expiry = Expiry::new(10, Instant::now());
        let mut deadline = expiry.enter(ID, 0, 40);
        deadline.heard(39, 40);
        assert_eq!(dies_at(&mut expiry, &mut deadline, 0), 80);
    }

    #[test]
    fn a_shorter_timeout_counts_and_the_entry_before_it_does_not() {
        let mut expiry = Expiry::new(10, Instant::now());
        expiry.enter(ID, 0, 400);
        let mut deadline = expiry.enter(ID, 0, 40);
        assert_eq!(dies_at(&mut expiry, &mut deadline, 0), 40);
        // Living on, past the time of the old entry: that one is dropped.
        let mut deadline = expiry.enter(ID, 50, 500);
        assert_eq!(dies_at(&mut expiry, &mut deadline, 50), 550);
    }

    #[test]
    fn a_late_look_moves_every_deadline() {
        let now = Instant::now();
        let mut expiry = Expiry::new(10, now);
        let late = Duration::from_millis(500);
        expiry.late(late);
        assert_eq!(expiry.now_ms(now + late + Duration::from_millis(30)), 30);
    }
}
