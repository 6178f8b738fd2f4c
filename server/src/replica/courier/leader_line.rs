//! Who leads, as this member's log tells it: a line when that changes, and no other.

use std::sync::{Mutex, PoisonError};

/// How this member stands to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Leads,
    Follows(u64),
    /// It leads by name, and hears no quorum.
    LeadsAlone,
    Leaderless,
}

#[derive(Debug, Default)]
pub(in crate::replica) struct LeaderLine(Mutex<Option<Standing>>);

impl LeaderLine {
    pub(super) fn tell(&self, now: Standing) {
        if !self.changes(now) {
            return;
        }
        match now {
            Standing::Leads => tracing::info!("this member leads"),
            Standing::Follows(leader) => tracing::info!(leader, "this member follows the leader"),
            Standing::LeadsAlone => tracing::info!("the quorum is lost: no other members answer"),
            Standing::Leaderless => tracing::info!("nobody is known to lead: writes wait"),
        }
    }

    fn changes(&self, now: Standing) -> bool {
        // Nothing panics half way through a change of it.
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.replace(now) != Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_so_already_is_not_told_again() {
        let line = LeaderLine::default();
        assert!(line.changes(Standing::Leaderless));
        assert!(!line.changes(Standing::Leaderless));
        assert!(line.changes(Standing::Follows(2)));
        assert!(!line.changes(Standing::Follows(2)));
        assert!(line.changes(Standing::Follows(3)));
        assert!(line.changes(Standing::Leads));
        assert!(line.changes(Standing::LeadsAlone));
        assert!(line.changes(Standing::Leads));
    }
}
