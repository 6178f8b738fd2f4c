//! Mistakes that a log can be told to make, to show that the tests would find them.

/// A mistake of a log. Without the feature `testing` nothing asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Says that a batch is on disk before it is written.
    AckBeforeSync,
    /// Never calls fdatasync on what it appends.
    SkipSync,
    /// Takes an fdatasync that failed for one that did not.
    IgnoreSyncError,
    /// Does not look at the checksums of payloads when it starts.
    TornTailTakenForValid,
    /// Does not log truncations, and lets a later entry overwrite an earlier one instead.
    ResurrectedTruncation,
    /// Does not write the vote into a new segment.
    VoteLostAtRecycling,
    /// Takes what it read at its start for durable, although an earlier process may have written
    /// it without an fdatasync.
    NoSyncAtStart,
    /// Begins a segment without making its name durable.
    NoFolderSync,
    /// Forgets entries that are not on disk yet when the cache is full.
    EvictsUnsynced,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 9] = [
        Bug::AckBeforeSync,
        Bug::SkipSync,
        Bug::IgnoreSyncError,
        Bug::TornTailTakenForValid,
        Bug::ResurrectedTruncation,
        Bug::VoteLostAtRecycling,
        Bug::NoSyncAtStart,
        Bug::NoFolderSync,
        Bug::EvictsUnsynced,
    ];
}
