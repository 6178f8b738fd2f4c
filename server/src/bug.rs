//! Mistakes that a server can be told to make, to show that the tests would find them.

use synod_core::engine::Plant;

/// A mistake. Without the feature `testing` nothing can ask for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Of the log.
    Log(crate::log::Bug),
    /// Of the state machine.
    Engine(Plant),
    /// A sync is answered at once, from what this member has.
    SyncAtOnce,
    /// A ping is answered at once, whether the leader has heard of the session or not.
    PingAtOnce,
    /// A look for dead sessions that is late expires those that were not heard meanwhile.
    LateLookExpires,
    /// A session that was judged dead and is heard of again is told that it lives.
    DeadIsHeard,
    /// A member that lost its leader keeps the connections whose writes were on their way.
    KeepsAdrift,
    /// The connection that had a session goes on when another has it.
    KeepsBefore,
    /// A session's events come after the reply that shows the change.
    EventsLate,
    /// A new leader watches over the sessions that it hears of, and over no others.
    UnheardIsForgotten,
    /// Who waits for what is committed is answered before it is applied here.
    IndexBeforeApply,
    /// A leader that stops does not hand its office on.
    StopsAtOnce,
    /// What does not fit into one frame to the leader is forgotten.
    OneFrameOnly,
    /// A snapshot for which the disk had no room is taken for whole.
    IgnoreFullDisk,
    /// Snapshots say who the members were when the folder was new.
    SnapshotOfOldMembers,
}

/// What was planted. Without the feature nothing is, and the compiler knows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Planted {
    #[cfg(feature = "testing")]
    bug: Option<Bug>,
}

impl Planted {
    #[cfg(feature = "testing")]
    pub(crate) fn new(bug: Option<Bug>) -> Planted {
        Planted { bug }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn bug(self) -> Option<Bug> {
        self.bug
    }

    pub(crate) fn is(self, bug: Bug) -> bool {
        #[cfg(feature = "testing")]
        return self.bug == Some(bug);
        #[cfg(not(feature = "testing"))]
        {
            let _ = bug;
            false
        }
    }
}
