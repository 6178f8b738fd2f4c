//! What connections hold of what clients have sent: half a frame, and requests that wait.
//!
//! Each has a share that is always there, so that small requests come in whatever others do. What
//! is beyond it counts among what all connections hold together. A long frame is let in as a
//! whole: those that are let in come to their end, and make room.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use crate::limits::INPUT_BYTES_SOFT;

/// What all connections hold beyond their own shares.
pub(crate) struct Input {
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl Input {
    pub(crate) fn new(bytes_max: usize) -> Arc<Input> {
        Arc::new(Input { bytes: AtomicUsize::new(0), bytes_max })
    }
}

/// What one connection holds.
pub(crate) struct Holding {
    input: Arc<Input>,
    /// What of it counts in [`Input`].
    counted: usize,
}

impl Holding {
    pub(crate) fn new(input: Arc<Input>) -> Holding {
        Holding { input, counted: 0 }
    }

    /// It holds so many bytes now.
    pub(crate) fn set(&mut self, bytes: usize) {
        let counted = bytes.saturating_sub(INPUT_BYTES_SOFT);
        let before = std::mem::replace(&mut self.counted, counted);
        if counted > before {
            self.input.bytes.fetch_add(counted - before, Relaxed);
        } else if counted < before {
            self.input.bytes.fetch_sub(before - counted, Relaxed);
        }
    }

    /// Holds so many bytes from now on, if there is room for them.
    pub(crate) fn try_set(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(INPUT_BYTES_SOFT).saturating_sub(self.counted);
        let fits = |all: usize| all.checked_add(more).filter(|all| *all <= self.input.bytes_max);
        let fits = more == 0 || self.input.bytes.fetch_update(Relaxed, Relaxed, fits).is_ok();
        if fits {
            self.counted += more;
        }
        fits
    }

    /// Whether it is beyond its own share while there is no room.
    pub(crate) fn is_sated(&self) -> bool {
        self.counted > 0 && self.input.bytes.load(Relaxed) >= self.input.bytes_max
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.input.bytes.fetch_sub(self.counted, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_shares_of_all_connections_together_is_bounded() {
        let input = Input::new(100);
        let holding = || Holding::new(Arc::clone(&input));
        let (mut first, mut second) = (holding(), holding());
        assert!(!first.try_set(INPUT_BYTES_SOFT + 101), "there is no room for that");
        assert!(first.try_set(INPUT_BYTES_SOFT + 60));
        assert!(!second.try_set(INPUT_BYTES_SOFT + 41));
        assert!(second.try_set(INPUT_BYTES_SOFT), "its own share is always there");
        assert!(second.try_set(INPUT_BYTES_SOFT + 40));
        assert!(first.is_sated() && second.is_sated());
        assert!(first.try_set(INPUT_BYTES_SOFT + 60), "it has that already");
        second.set(INPUT_BYTES_SOFT);
        assert!(!first.is_sated(), "there is room");
        // What a request takes is known when it is decoded.
        first.set(INPUT_BYTES_SOFT + 200);
        assert!(first.is_sated() && !second.is_sated(), "it is within its own share");
        drop(first);
        assert_eq!(input.bytes.load(Relaxed), 0, "it took its own along");
    }
}
