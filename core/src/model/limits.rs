//! Every bound of the core in one place: a queue, a buffer or a value that could grow has its
//! constant here, with its unit in the name.

/// Largest payload of one znode, in bytes. One below 1 MiB, as ZooKeeper's `jute.maxbuffer`, so
/// that what one ground accepts the others accept.
pub const DATA_BYTES_MAX: usize = 0xF_FFFF;

/// Longest path, in bytes. It bounds the work that one path can ask for: a change looks at every
/// ancestor for recursive watches.
pub const PATH_BYTES_MAX: usize = 8_192;

/// Most operations in one transaction or multi-read.
pub const MULTI_OPS_MAX: usize = 65_536;

/// Most bytes of paths, data and ACLs in one transaction.
pub const MULTI_BYTES_MAX: usize = DATA_BYTES_MAX;

/// Most bytes of paths, and 64 for each, of the ephemeral znodes of one session: all of them are
/// deleted at once when it ends.
pub const EPHEMERAL_BYTES_MAX: usize = 16 << 20;

/// Most levels of a path on which a recursive watch is left: every change below looks for it.
pub const RECURSIVE_WATCH_LEVELS_MAX: usize = 128;

/// Most entries in one ACL.
pub const ACL_ENTRIES_MAX: usize = 1_024;

/// Most bytes of schemes and ids in one ACL. A snapshot has a znode's data and its ACL in one piece.
pub const ACL_BYTES_MAX: usize = 128 << 10;

/// Longest token of SASL, in bytes, either way.
pub const SASL_TOKEN_BYTES_MAX: usize = 4_096;

/// Longest name of a user of SASL, in bytes.
pub const SASL_USER_BYTES_MAX: usize = 255;

/// Most levels of a path that a quota is of: a write is counted by no more quotas than that.
pub const QUOTA_LEVELS_MAX: usize = 16;

/// Most znodes at a path and below when a quota is set on it: they are counted within that write,
/// and other writes wait for it.
pub const QUOTA_COUNTED_ZNODES_MAX: usize = 10_000;

/// Longest time to live of a TTL znode, in milliseconds (2^40 − 1, about 34.8 years).
pub const TTL_MS_MAX: i64 = (1 << 40) - 1;

/// The last sequence suffix that is given out; past it the parent refuses sequential children.
pub const SEQUENCE_MAX: i32 = i32::MAX - 1;

/// How far above the last zxid a proposed zxid may lie, in counts. It bounds how much of an
/// epoch's counter one client can skip.
pub const ZXID_STEP_MAX: u32 = 65_536;

/// Highest term that a zxid can carry: the epoch is the upper half of a *signed* number.
pub const TERM_MAX: u64 = (1 << 31) - 1;

/// The unit of session timeouts, in milliseconds.
pub const TICK_MS: u32 = 2_000;

/// Shortest session timeout granted by default, in milliseconds (2 ticks).
pub const SESSION_TIMEOUT_MS_MIN: u32 = 2 * TICK_MS;

/// Longest session timeout granted by default, in milliseconds (20 ticks).
pub const SESSION_TIMEOUT_MS_MAX: u32 = 20 * TICK_MS;

/// Most names in one reply to a request for children.
pub const CHILDREN_PER_REPLY_MAX: usize = 1_000_000;

/// Most watches that one session may hold on one member.
pub const WATCHES_PER_SESSION_MAX: usize = 1_048_576;

/// Most events that wait in one watch stream; past it the stream drops them and yields one
/// `Lagged`.
pub const WATCH_BACKLOG_EVENTS_MAX: usize = 1_024;

/// Most contenders (held, waiting or being cleaned up) that one session may have at a time: each
/// has a place in the session's reaper from before its znode is created.
pub const CONTENDERS_PER_SESSION_MAX: usize = 65_536;

/// Shortest pause between two attempts to connect, in milliseconds.
pub const RECONNECT_WAIT_MS_MIN: u64 = 10;

/// Longest pause between two attempts to connect, in milliseconds.
pub const RECONNECT_WAIT_MS_MAX: u64 = 1_000;

/// Shortest pause of a read-only client between two looks for a server that takes writes, in
/// milliseconds; as ZooKeeper's client.
pub const SEEK_WAIT_MS_MIN: u64 = 100;

/// Longest pause between two of these looks, in milliseconds.
pub const SEEK_WAIT_MS_MAX: u64 = 60_000;

/// How long a client that is dropped waits for the answer to its last word, in milliseconds.
pub const CLOSE_WAIT_MS: u64 = 1_000;

/// How often the embedded coordinator looks for containers and TTL znodes whose time has come,
/// in milliseconds.
pub const REAP_INTERVAL_MS: i64 = 60_000;

/// Most znodes that are reaped in one go.
pub const REAP_BATCH_MAX: usize = 1_000;

/// Largest frame that a client may send, in bytes: the largest data with room for path and ACL.
pub const REQUEST_BYTES_MAX: usize = 0x10_FFFF;

/// Paths that a client leaves watches on again in one request, in bytes with their lengths, as
/// ZooKeeper's own clients have it: beyond it, it takes another request. (One path may go beyond.)
pub const REARM_BYTES_SOFT: usize = 128 << 10;

/// Largest frame that a client accepts from a server, in bytes: a long list of children.
pub const REPLY_BYTES_MAX: usize = 64 << 20;

/// Longest that one attempt to connect to one server takes, in milliseconds (a third of the session
/// timeout if that is shorter).
pub const CONNECT_ATTEMPT_MS_MAX: u64 = 5_000;

/// Most that a session may have under way on a connection, in units of
/// [`OUTSTANDING_UNIT_BYTES`]: a request takes one, and one more for each unit of its size.
pub const OUTSTANDING_UNITS_MAX: u32 = 4_096;

/// The unit in which requests under way are counted, in bytes.
pub const OUTSTANDING_UNIT_BYTES: usize = 4_096;

/// Bytes after which a piece of a snapshot ends, with the record that is being written then.
pub const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;
