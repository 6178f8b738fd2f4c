//! Every bound of the recipe.

/// Largest value, in bytes, all layers together.
pub const VALUE_BYTES_MAX: usize = 16 << 20;

/// Largest value that lies in the znode of its version, in bytes. A larger one is cut in chunks.
/// It leaves room for what else the publishing transaction carries.
pub const INLINE_BYTES_MAX: usize = 384 << 10;

/// Size of a chunk, in bytes. Two of them are below what any server accepts as one request.
pub const CHUNK_BYTES: usize = 512 << 10;

/// Most layers of one version: shared, groups and instances.
pub const LAYERS_MAX: usize = 1_000;

/// Longest name of a group or an instance, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Longest name of an author, in bytes.
pub const AUTHOR_BYTES_MAX: usize = 256;

/// Longest reason, in bytes.
pub const REASON_BYTES_MAX: usize = 4_096;

/// Most versions that can be kept. All of them are listed by each publication.
pub const HISTORY_MAX: usize = 100;

/// Versions that are kept unless the store says otherwise.
pub const HISTORY: usize = 20;

/// Most old versions that one publication deletes: a history that is made shorter shrinks by and
/// by.
pub const PRUNED_MAX: usize = 8;

/// Most instances that a roll-out names.
pub const ROLLOUT_INSTANCES_MAX: usize = 1_000;

/// How often a publication begins anew because another came first.
pub const PUBLISH_ATTEMPTS_MAX: usize = 32;

/// Most leftovers of dead publishers that one publication sweeps.
pub const SWEPT_MAX: usize = 64;
