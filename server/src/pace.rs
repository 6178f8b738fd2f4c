//! How fast the requests and connections of one address may come.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What an address may ask at once after it was silent, in seconds of its rate.
const BURST: Duration = Duration::from_secs(1);

/// The requests of one address, over all of its connections.
#[derive(Debug)]
pub(crate) struct Pace {
    /// What one request takes; zero for no bound.
    each: Duration,
    /// When all that came would have been done at the rate.
    done: Mutex<Instant>,
}

impl Pace {
    /// At most `per_second`; 0 for no bound.
    pub(crate) fn new(per_second: u32, now: Instant) -> Pace {
        let each = Duration::from_secs(1).checked_div(per_second).unwrap_or_default();
        Pace { each, done: Mutex::new(now) }
    }

    fn done(&self) -> MutexGuard<'_, Instant> {
        // Nothing panics half way through a change of it.
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests may be looked at now.
    pub(crate) fn allows(&self, now: Instant) -> usize {
        if self.each.is_zero() {
            return usize::MAX;
        }
        let room = (now + BURST).saturating_duration_since(*self.done());
        let requests = room.min(BURST).as_nanos() / self.each.as_nanos();
        usize::try_from(requests).unwrap_or(usize::MAX)
    }

    /// One more may be looked at, and counts; or the time when it may be asked again.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Instant> {
        if self.allows(now) == 0 {
            return Err(self.next_at());
        }
        self.spend(1, now);
        Ok(())
    }

    /// Whether the address has been silent for so long that a new one would have the same.
    pub(crate) fn is_rested(&self, now: Instant) -> bool {
        *self.done() <= now
    }

    /// When the next one may be; it is in the past if it may be now.
    pub(crate) fn next_at(&self) -> Instant {
        let done = *self.done();
        (done + self.each).checked_sub(BURST).unwrap_or(done)
    }

    /// So many requests were looked at.
    pub(crate) fn spend(&self, requests: usize, now: Instant) {
        if self.each.is_zero() || requests == 0 {
            return;
        }
        let requests = u32::try_from(requests).unwrap_or(u32::MAX);
        let mut done = self.done();
        *done = (*done).max(now) + self.each.saturating_mul(requests);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_requests_may_come_at_once_and_then_they_wait() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let pace = Pace::new(100, start);
        assert_eq!(pace.allows(start), 100);
        pace.spend(60, start);
        assert_eq!(pace.allows(start), 40);
        pace.spend(40, start);
        assert_eq!((pace.allows(start), pace.next_at()), (0, at(10)));
        assert_eq!((pace.allows(at(9)), pace.allows(at(10)), pace.allows(at(500))), (0, 1, 50));
        // Silence earns a second, and no more.
        assert_eq!(pace.allows(at(60_000)), 100);
        pace.spend(99, at(60_000));
        assert_eq!(pace.take(at(60_000)), Ok(()));
        assert_eq!(pace.take(at(60_000)), Err(at(60_010)));
        assert!(!pace.is_rested(at(60_999)) && pace.is_rested(at(61_000)));
    }

    #[test]
    fn without_a_bound_nobody_waits() {
        let now = Instant::now();
        let pace = Pace::new(0, now);
        pace.spend(usize::MAX, now);
        assert_eq!(pace.allows(now), usize::MAX);
    }
}
