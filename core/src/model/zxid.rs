use std::fmt;

use super::limits::{TERM_MAX, ZXID_STEP_MAX};

/// The number of a change: one order over everything that ever happens to a tree.
///
/// A signed 64-bit number, the epoch in its upper half and a counter in the lower. It only ever
/// grows, a failed write takes one too, and none is given twice. That makes the zxid at which a
/// znode was created the fencing token of every recipe.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Zxid(i64);

impl Zxid {
    /// Before the first change.
    pub const ZERO: Zxid = Zxid(0);

    /// The zxid of that epoch and counter.
    ///
    /// # Panics
    /// If `epoch` is 2^31 or above: the number is signed.
    pub const fn new(epoch: u32, counter: u32) -> Zxid {
        assert!(epoch as u64 <= TERM_MAX, "the epoch of a zxid is below 2^31");
        Zxid(((epoch as i64) << 32) | counter as i64)
    }

    /// The zxid of a number of the protocol.
    pub const fn from_i64(number: i64) -> Zxid {
        Zxid(number)
    }

    /// The number in the protocol.
    pub const fn as_i64(self) -> i64 {
        self.0
    }

    /// The upper half: it grows when another leader takes over or the counter is used up.
    pub const fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The lower half: the number of the change in its epoch.
    pub const fn counter(self) -> u32 {
        self.0 as u32
    }

    /// The zxid of the next change, under a leader of this term.
    ///
    /// A term above the epoch starts a new one at counter 1; else the counter grows by one, and
    /// past its end goes to the next epoch. So the number always grows, is never given twice, and
    /// a counter that is used up forces no election; when the term catches up with an epoch that
    /// ran ahead, the epoch stays.
    ///
    /// # Errors
    /// `None` when the term is 2^31 or above, or all numbers are used.
    pub fn next(self, term: u64) -> Option<Zxid> {
        if term > TERM_MAX {
            return None;
        }
        if term > u64::from(self.epoch()) {
            return Some(Zxid::new(term as u32, 1));
        }
        match self.counter().checked_add(1) {
            Some(counter) => Some(Zxid::new(self.epoch(), counter)),
            None if u64::from(self.epoch()) < TERM_MAX => Some(Zxid::new(self.epoch() + 1, 1)),
            None => None,
        }
    }

    /// Whether a change may be done at exactly `self` when `last` was the last one and a leader
    /// of `term` decides: above the last, in the current epoch, and at most [`ZXID_STEP_MAX`]
    /// ahead.
    pub fn may_follow(self, last: Zxid, term: u64) -> bool {
        let Some(next) = last.next(term) else { return false };
        self >= next
            && self.epoch() == next.epoch()
            && self.counter() - next.counter() < ZXID_STEP_MAX
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zxid({}:{})", self.epoch(), self.counter())
    }
}

/// A zxid was refused: it is not above the highest that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("zxid {offered} is refused: it must be above the highest seen, {highest}")]
pub struct StaleZxid {
    /// What was offered.
    pub offered: Zxid,
    /// The highest that the gate has accepted.
    pub highest: Zxid,
}

/// Accepts a zxid only above every one it accepted before, and remembers it: the rule by which
/// a leader of the ZooKeeper protocol takes or refuses a change.
///
/// It is the strictest of the three predicates on zxids. A resource that is written many times
/// under one fencing token takes `Fence` (equal or greater); a connecting client's last-seen zxid
/// must be *at most* what the member has applied.
#[derive(Clone, Copy, Debug, Default)]
pub struct ZxidGate {
    highest: Zxid,
}

impl ZxidGate {
    /// A gate that has seen everything up to `highest`.
    pub fn new(highest: Zxid) -> ZxidGate {
        ZxidGate { highest }
    }

    /// The highest zxid that was accepted.
    pub fn highest(&self) -> Zxid {
        self.highest
    }

    /// Accepts `offered` if it is strictly greater than the highest seen, and remembers it.
    ///
    /// # Errors
    /// [`StaleZxid`] otherwise; the gate is as it was.
    pub fn admit(&mut self, offered: Zxid) -> Result<(), StaleZxid> {
        if offered > self.highest {
            self.highest = offered;
            Ok(())
        } else {
            Err(StaleZxid { offered, highest: self.highest })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_up_within_an_epoch() {
        assert_eq!(Zxid::new(3, 7).next(3), Some(Zxid::new(3, 8)));
    }

    #[test]
    fn a_higher_term_starts_an_epoch_at_one() {
        assert_eq!(Zxid::new(3, 7).next(5), Some(Zxid::new(5, 1)));
        assert_eq!(Zxid::ZERO.next(1), Some(Zxid::new(1, 1)));
    }

    #[test]
    fn a_full_counter_goes_to_the_next_epoch_without_an_election() {
        assert_eq!(Zxid::new(3, u32::MAX).next(3), Some(Zxid::new(4, 1)));
    }

    #[test]
    fn the_epoch_never_falls_when_a_term_catches_up() {
        let ran_ahead = Zxid::new(4, 9);
        assert_eq!(ran_ahead.next(3), Some(Zxid::new(4, 10)));
        assert_eq!(ran_ahead.next(4), Some(Zxid::new(4, 10)));
        assert_eq!(ran_ahead.next(5), Some(Zxid::new(5, 1)));
    }

    #[test]
    fn a_term_that_does_not_fit_is_refused() {
        assert_eq!(Zxid::ZERO.next(1 << 31), None);
        let last = Zxid::new(TERM_MAX as u32, u32::MAX);
        assert!(last.as_i64() > 0, "the highest zxid is positive");
        assert_eq!(last.next(1), None);
    }

    #[test]
    fn a_gate_accepts_strictly_greater_and_remembers() {
        let mut gate = ZxidGate::new(Zxid::new(1, 5));
        assert_eq!(gate.admit(Zxid::new(1, 6)), Ok(()));
        let stale = StaleZxid { offered: Zxid::new(1, 6), highest: Zxid::new(1, 6) };
        assert_eq!(gate.admit(Zxid::new(1, 6)), Err(stale));
        assert_eq!(gate.highest(), Zxid::new(1, 6));
    }

    #[test]
    fn a_proposed_zxid_is_above_the_last_in_its_epoch_and_near() {
        let last = Zxid::new(2, 10);
        assert!(Zxid::new(2, 11).may_follow(last, 2));
        assert!(Zxid::new(2, 10 + ZXID_STEP_MAX).may_follow(last, 2));
        assert!(!Zxid::new(2, 11 + ZXID_STEP_MAX).may_follow(last, 2), "too far ahead");
        assert!(!Zxid::new(2, 10).may_follow(last, 2), "equal");
        assert!(!Zxid::new(2, 9).may_follow(last, 2), "below");
        assert!(!Zxid::new(3, 1).may_follow(last, 2), "an epoch that has not begun");
        assert!(!Zxid::new(2, 11).may_follow(last, 3), "an epoch that is over");
        assert!(Zxid::new(3, 1).may_follow(last, 3));
    }
}
