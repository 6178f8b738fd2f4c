/// How the znodes of a lock or an election are named: in this library's own way, or as another one
/// names them, so that programs of both exclude each other at one path. All who stand at a path have
/// to use one layout: those of another are passed over, as every foreign child is.
///
/// What holds for guards (token, loss, fence) holds in every layout; but a holder of another library
/// knows of no fence, and may go on after its session has expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// This library's own: `_c_{id}-lock-{suffix}` and `_c_{id}-lead-{suffix}`.
    #[default]
    Synod,
    /// Curator's: for a lock its `InterProcessMutex`, `_c_{id}-lock-{suffix}`; for an election its
    /// `LeaderLatch`, `_c_{id}-latch-{suffix}`, whose participant id is the name.
    ///
    /// As Curator does, it orders by what stands behind the last `lock-` or `latch-`, whatever stands
    /// before.
    Curator,
    /// Kazoo's `Lock`, `{id}__lock__{suffix}`, for a lock as for an election: Kazoo's `Election` is
    /// such a lock, whose identifier is the name.
    ///
    /// The parent is made as a persistent znode and never deleted, since a Kazoo `Lock` makes it once
    /// and fails if it is gone later. So nothing starts its sequence again, which ends after 2³¹
    /// contenders. What a leader proclaims should be UTF-8: Kazoo's `contenders()` fails otherwise.
    Kazoo,
}
