//! Mistakes that the state machine can be told to make, to show that the tests would find them.

/// A mistake. Without the feature `testing` nothing can ask for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A transaction that fails keeps what it did before it failed.
    HalfMulti,
    /// The next sequence suffix is taken from the children that are there.
    ReusedSequence,
    /// The last ephemeral znode of a session outlives it.
    EphemeralLeft,
    /// Watches of a client that comes back are taken and forgotten.
    LostRearm,
    /// A snapshot holds no sessions.
    SnapshotWithoutSessions,
}

impl Plant {
    /// All of them.
    pub const ALL: [Plant; 5] = [
        Plant::HalfMulti,
        Plant::ReusedSequence,
        Plant::EphemeralLeft,
        Plant::LostRearm,
        Plant::SnapshotWithoutSessions,
    ];
}

/// What was planted. Without the feature nothing is, and the compiler knows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Planted {
    #[cfg(feature = "testing")]
    plant: Option<Plant>,
}

impl Planted {
    #[cfg(feature = "testing")]
    pub(crate) fn set(&mut self, plant: Plant) {
        self.plant = Some(plant);
    }

    pub(crate) fn is(self, plant: Plant) -> bool {
        #[cfg(feature = "testing")]
        return self.plant == Some(plant);
        #[cfg(not(feature = "testing"))]
        {
            let _ = plant;
            false
        }
    }
}
