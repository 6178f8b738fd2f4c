//! Gates in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use synod_core::model::{Error as ClientError, Zxid};

use crate::error::Error;

/// The last slot that [`SlotFences`] keep.
pub const SLOT_MAX: u32 = 65_535;

/// A fencing token was refused: the resource has seen a later holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fencing token {token} is stale: the resource has seen {highest}")]
pub struct Stale {
    /// What was offered.
    pub token: Zxid,
    /// The highest token, of those that exclude this one, that the resource has seen.
    pub highest: Zxid,
}

/// The tokens that a gate has admitted.
#[derive(Clone, Copy, Debug, Default)]
struct Admitted {
    /// The highest of an exclusive holder.
    exclusive: Zxid,
    /// The highest of a shared holder.
    shared: Zxid,
}

/// Accepts a token that is equal to or greater than the highest it has seen, and remembers it.
///
/// Equal, because a holder writes many times under one token. It lives where the resource is,
/// one a resource. Check and write belong together: admit the token while you hold whatever
/// orders the resource's own writes, or an old holder's write can slip in after a new holder's
/// check. A store with conditional writes does both at once (`UPDATE … WHERE fence <= ?`, or
/// [`FencedObject`](crate::fence::FencedObject)).
///
/// The holders of a mutex, the leaders of an election and the writers of a read/write lock take
/// [`admit`](Fence::admit); its readers [`admit_shared`](Fence::admit_shared). The permits of a
/// semaphore must not pass through one fence: they take [`SlotFences`].
#[derive(Debug, Default)]
pub struct Fence {
    admitted: Mutex<Admitted>,
}

impl Fence {
    /// A fence that has seen no token.
    pub fn new() -> Fence {
        Fence::default()
    }

    /// A fence that has seen tokens up to `highest`, for a resource that stores it.
    pub fn resume(highest: Zxid) -> Fence {
        Fence::resume_shared(highest, Zxid::ZERO)
    }

    /// A fence that has seen exclusive holders up to `highest`, and shared ones up to
    /// `highest_shared`.
    pub fn resume_shared(highest: Zxid, highest_shared: Zxid) -> Fence {
        let admitted = Admitted { exclusive: highest, shared: highest_shared };
        Fence { admitted: Mutex::new(admitted) }
    }

    fn admitted(&self) -> MutexGuard<'_, Admitted> {
        // Nothing below panics half way through a change.
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The highest token of an exclusive holder that was admitted.
    pub fn highest(&self) -> Zxid {
        self.admitted().exclusive
    }

    /// The highest token of a shared holder that was admitted.
    pub fn highest_shared(&self) -> Zxid {
        self.admitted().shared
    }

    /// Admits the token of an exclusive holder.
    ///
    /// # Errors
    /// [`Stale`] when a greater one was admitted before, be it of an exclusive or of a shared
    /// holder. A refusal changes nothing.
    pub fn admit(&self, token: Zxid) -> Result<(), Stale> {
        let mut admitted = self.admitted();
        let highest = admitted.exclusive.max(admitted.shared);
        if token < highest {
            return Err(Stale { token, highest });
        }
        admitted.exclusive = token;
        Ok(())
    }

    /// Admits the token of a shared holder: a reader of a read/write lock.
    ///
    /// # Errors
    /// [`Stale`] when a greater one of an exclusive holder was admitted before. A refusal changes
    /// nothing.
    pub fn admit_shared(&self, token: Zxid) -> Result<(), Stale> {
        let mut admitted = self.admitted();
        let highest = admitted.exclusive;
        if token < highest {
            return Err(Stale { token, highest });
        }
        admitted.shared = admitted.shared.max(token);
        Ok(())
    }
}

/// A fence a slot, for a resource that the permits of a semaphore guard.
///
/// Permits hold at the same time, and none is above another: what excludes a permit is a later one
/// of the same slot. So a token is compared within its slot alone.
#[derive(Debug, Default)]
pub struct SlotFences {
    highest: Mutex<BTreeMap<u32, Zxid>>,
}

impl SlotFences {
    /// Fences that have seen no token.
    pub fn new() -> SlotFences {
        SlotFences::default()
    }

    /// Fences that have seen tokens up to these, by slot, for a resource that stores them.
    pub fn resume(highest: BTreeMap<u32, Zxid>) -> SlotFences {
        SlotFences { highest: Mutex::new(highest) }
    }

    /// The highest token that was admitted, by slot.
    pub fn highest(&self) -> BTreeMap<u32, Zxid> {
        self.slots().clone()
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<u32, Zxid>> {
        self.highest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits the token of the permit that holds `slot`.
    ///
    /// # Errors
    /// [`Error::Stale`] when a greater one was admitted for that slot before; [`Error::Client`]
    /// for a slot above [`SLOT_MAX`]. A refusal changes nothing.
    pub fn admit(&self, slot: u32, token: Zxid) -> Result<(), Error> {
        if slot > SLOT_MAX {
            return Err(ClientError::invalid("slot", slot, "a slot is at most 65535").into());
        }
        let mut slots = self.slots();
        let highest = slots.get(&slot).copied().unwrap_or(Zxid::ZERO);
        if token < highest {
            return Err(Stale { token, highest }.into());
        }
        slots.insert(slot, token);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn token(counter: u32) -> Zxid {
        Zxid::new(1, counter)
    }

    #[test]
    fn an_equal_or_greater_token_is_admitted_and_a_lower_one_refused() {
        let fence = Fence::new();
        let (old, new) = (token(5), token(9));
        assert_eq!(fence.admit(old), Ok(()));
        assert_eq!(fence.admit(old), Ok(()), "a holder writes many times");
        assert_eq!(fence.admit(new), Ok(()));
        assert_eq!(fence.admit(old), Err(Stale { token: old, highest: new }));
        assert_eq!(fence.highest(), new, "a refusal changes nothing");
    }

    #[test]
    fn a_resumed_fence_remembers() {
        let stored = Zxid::new(2, 1);
        assert!(Fence::resume(stored).admit(Zxid::new(1, u32::MAX)).is_err());
        let shared = Fence::resume_shared(token(1), stored);
        assert!(shared.admit(token(1)).is_err() && shared.admit_shared(token(1)).is_ok());
        let slots = SlotFences::resume(BTreeMap::from([(3, stored)]));
        assert!(slots.admit(3, token(9)).is_err() && slots.admit(4, token(9)).is_ok());
    }

    #[test]
    fn readers_are_refused_because_of_a_later_writer_and_never_because_of_a_reader() {
        let fence = Fence::new();
        for reader in [token(3), token(5), token(4), token(3)] {
            assert_eq!(fence.admit_shared(reader), Ok(()), "they hold at the same time");
        }
        assert_eq!((fence.highest(), fence.highest_shared()), (Zxid::ZERO, token(5)));
        let writer = token(7);
        assert_eq!(fence.admit(writer), Ok(()));
        let refused = Stale { token: token(5), highest: writer };
        assert_eq!(fence.admit_shared(token(5)), Err(refused), "the writer waited for it to go");
        assert_eq!(fence.admit_shared(token(8)), Ok(()));
        // A writer that is a reader now keeps its token.
        assert_eq!(fence.admit_shared(writer), Ok(()));
    }

    #[test]
    fn a_late_writer_does_not_change_what_a_later_reader_reads() {
        let fence = Fence::new();
        let (writer, reader) = (token(7), token(9));
        assert_eq!(fence.admit(writer), Ok(()));
        assert_eq!(fence.admit_shared(reader), Ok(()), "the writer has gone, the lock says");
        assert_eq!(fence.admit(writer), Err(Stale { token: writer, highest: reader }));
        assert_eq!(fence.highest(), writer, "a refusal changes nothing");
        assert_eq!(fence.admit(token(11)), Ok(()));
    }

    #[test]
    fn a_permit_is_refused_because_of_a_later_one_of_its_slot_alone() {
        let fences = SlotFences::new();
        assert!(fences.admit(0, token(9)).is_ok());
        assert!(fences.admit(1, token(4)).is_ok(), "another permit, granted before");
        assert!(fences.admit(0, token(9)).is_ok());
        let error = fences.admit(0, token(4)).expect_err("slot 0 has another holder");
        assert!(matches!(error, Error::Stale(Stale { highest, .. }) if highest == token(9)));
        assert_eq!(fences.highest(), BTreeMap::from([(0, token(9)), (1, token(4))]));
        let error = fences.admit(SLOT_MAX + 1, token(9)).expect_err("no such slot").to_string();
        assert!(error.contains("65536") && error.contains("at most 65535"), "{error}");
    }
}
