//! The gate at the resource: the only thing that protects it from a holder who does not know
//! that it has lost its lock.
//!
//! A process can be paused at any moment, for any time: by the scheduler, a garbage collector, a
//! debugger, a hypervisor. When it goes on it may still believe to hold a lock that others have
//! held since. Nothing inside the process can prevent that. The resource can: it remembers the
//! highest fencing token it has seen, and refuses lower ones (Kleppmann, "How to do distributed
//! locking", 2016).

use std::sync::atomic::{AtomicI64, Ordering};

use synod_core::model::Zxid;

/// A fencing token was refused: the resource has seen a later holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fencing token {token} is stale: the resource has seen {highest}")]
pub struct Stale {
    /// What was offered.
    pub token: Zxid,
    /// The highest token that the resource has seen.
    pub highest: Zxid,
}

/// Accepts a token that is equal to or greater than the highest it has seen, and remembers it.
///
/// Equal, because a holder writes many times under one token. It lives where the resource is,
/// one a resource. Check and write belong together: admit the token while you hold whatever
/// orders the resource's own writes, or an old holder's write can slip in after a new holder's
/// check. A store with conditional writes does both at once (`UPDATE … WHERE fence <= ?`).
///
/// Tokens of shared holders (readers) must not pass through a fence: it would refuse valid
/// co-holders.
#[derive(Debug, Default)]
pub struct Fence {
    highest: AtomicI64,
}

impl Fence {
    /// A fence that has seen no token.
    pub fn new() -> Fence {
        Fence::default()
    }

    /// A fence that has seen tokens up to `highest`, for a resource that stores it.
    pub fn resume(highest: Zxid) -> Fence {
        Fence { highest: AtomicI64::new(highest.as_i64()) }
    }

    /// The highest token that was admitted.
    pub fn highest(&self) -> Zxid {
        Zxid::from_i64(self.highest.load(Ordering::Acquire))
    }

    /// Admits a token.
    ///
    /// # Errors
    /// [`Stale`] when a greater one was admitted before.
    pub fn admit(&self, token: Zxid) -> Result<(), Stale> {
        let highest = Zxid::from_i64(self.highest.fetch_max(token.as_i64(), Ordering::AcqRel));
        if token >= highest { Ok(()) } else { Err(Stale { token, highest }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_or_greater_token_is_admitted_and_a_lower_one_refused() {
        let fence = Fence::new();
        let (old, new) = (Zxid::new(1, 5), Zxid::new(1, 9));
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
    }
}
