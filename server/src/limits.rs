//! Every bound of the server in one place, with its unit in the name. Those of [`Limits`] can be
//! set; the core's own are in [`synod_core::model::limits`].

use std::time::Duration;

/// Connections in all.
pub const CONNECTIONS_MAX: usize = 65_536;

/// Connections of one address; loopback is exempt.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 60;

/// How long a client may take from its connection to its first whole frame, in milliseconds.
pub const HANDSHAKE_MS_MAX: u64 = 5_000;

/// How long a frame may stay half received, in milliseconds.
pub const HALF_FRAME_MS_MAX: u64 = 30_000;

/// How long a client may take none of the output that waits for it, in milliseconds.
pub const WRITE_STALL_MS_MAX: u64 = 30_000;

/// Output waiting for a connection past which none of its requests is looked at, in bytes. One
/// reply may go beyond it.
pub const OUTPUT_BYTES_SOFT: usize = 1 << 20;

/// Events waiting for a connection past which it is closed, in bytes: unlike replies, they cannot
/// be held back. The session lives on.
pub const EVENT_BYTES_MAX: usize = 16 << 20;

/// Largest first frame of a connection, in bytes.
pub const HANDSHAKE_BYTES_MAX: usize = 16 << 10;

/// Least frame of a request, in bytes: its xid and its operation.
pub const REQUEST_BYTES_MIN: usize = 8;

/// Room that is made for what is read at a time, in bytes.
pub const READ_BYTES: usize = 8 << 10;

/// Input past which a connection's requests are done before more is read, in bytes. (A single
/// frame may be larger.)
pub const INPUT_BYTES_SOFT: usize = 64 << 10;

/// Requests of one connection that are decoded at a time.
pub const BATCH_REQUESTS_MAX: usize = 256;

/// How long one connection's requests may keep the others from the state, in microseconds; the
/// request at which it ends is done.
pub const BATCH_MICROS_MAX: u64 = 2_000;

/// How long a connection that ends may take to receive its last replies, in milliseconds.
pub const LINGER_MS_MAX: u64 = 1_000;

/// The same when the server stops, in milliseconds.
pub const STOP_LINGER_MS_MAX: u64 = 100;

/// Identities that one connection can prove, its address among them.
pub const IDENTITIES_MAX: usize = 64;

/// Sessions that are expired before others get at the state again.
pub const EXPIRY_BATCH_MAX: usize = 64;

/// How long accepting pauses when the operating system has no more to give (file descriptors,
/// memory), in milliseconds.
pub const ACCEPT_PAUSE_MS: u64 = 50;

/// How long a server that stops waits for its connections to end, in milliseconds.
pub const STOP_MS_MAX: u64 = 3_000;

/// The bounds of a server that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// See [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// See [`CONNECTIONS_PER_ADDRESS_MAX`]; 0 for no bound.
    pub connections_per_address_max: usize,
    /// Whether loopback counts as an address like others.
    pub loopback_is_bounded: bool,
    /// See [`HANDSHAKE_MS_MAX`].
    pub handshake: Duration,
    /// See [`HALF_FRAME_MS_MAX`].
    pub half_frame: Duration,
    /// See [`WRITE_STALL_MS_MAX`].
    pub write_stall: Duration,
    /// See [`OUTPUT_BYTES_SOFT`].
    pub output_bytes_soft: usize,
    /// See [`EVENT_BYTES_MAX`].
    pub event_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: CONNECTIONS_MAX,
            connections_per_address_max: CONNECTIONS_PER_ADDRESS_MAX,
            loopback_is_bounded: false,
            handshake: Duration::from_millis(HANDSHAKE_MS_MAX),
            half_frame: Duration::from_millis(HALF_FRAME_MS_MAX),
            write_stall: Duration::from_millis(WRITE_STALL_MS_MAX),
            output_bytes_soft: OUTPUT_BYTES_SOFT,
            event_bytes_max: EVENT_BYTES_MAX,
        }
    }
}
