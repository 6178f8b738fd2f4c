//! The log on disk: segments of checksummed records, and what is kept of them in memory.
//!
//! It knows entries by term and index and does not look into them. What is to be kept goes into
//! one queue; one writer drains it, with one write and one fdatasync for all that waits.
//!
//! # Layout
//!
//! | file | what it holds |
//! |---|---|
//! | `disk` | the seam to the disk |
//! | `real` | the disk of the operating system |
//! | `sim` | a disk in memory for tests, which loses power on demand |
//! | `handle` | [`Log`]: what others call |
//! | `shared` | what callers and writer share: recent entries, the queue |
//! | `writer` | the one that writes |
//! | `reader` | reads older entries back |
//! | `segments` | files of segments: made ahead, begun, recycled |
//! | `recover` | reads a log at start, and tells a torn tail from damage |
//! | `span` | what records, in their order, come to |
//! | `snapshots` | what the log's beginning has come to |
//! | `format` | how records and segments are written down |
//! | `fuzz` | the log read from whatever bytes |
//! | `bug` | mistakes that tests make on purpose |

mod bug;
mod disk;
mod format;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod handle;
mod reader;
mod real;
mod recover;
mod segments;
mod shared;
#[cfg(feature = "testing")]
pub mod sim;
pub(crate) mod snapshots;
mod span;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

pub use bug::Bug;
pub(crate) use disk::away;
pub use disk::{Disk, DiskFile, Job};
pub use handle::{Log, LogState};
pub use real::RealDisk;
pub use recover::{Cut, Recovery};
pub use snapshots::{Chunks, Receiving, Snapshot, SnapshotMeta, Snapshots, Totals};

use format::HEADER_BYTES;

use crate::limits::{
    LOG_BATCH_BYTES_MAX, LOG_CACHE_BYTES_MAX, LOG_QUEUE_BYTES_MAX, LOG_SEGMENT_BYTES,
    LOG_SEGMENT_BYTES_MAX, LOG_SPARE_SEGMENTS_MAX,
};

/// An entry's place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The term in which it was proposed.
    pub term: u64,
    /// Its number, without gaps.
    pub index: u64,
}

/// An entry of the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub position: Position,
    /// What it says; at most [`LOG_PAYLOAD_BYTES_MAX`](crate::limits::LOG_PAYLOAD_BYTES_MAX).
    pub payload: Bytes,
}

impl fmt::Debug for Record {
    /// Without what it says: there may be passwords among it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { position: Position { term, index }, payload } = self;
        write!(f, "Record({term}-{index}, {} bytes)", payload.len())
    }
}

/// The sizes of a log. The defaults are those of [`limits`](crate::limits).
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// See [`LOG_SEGMENT_BYTES`]. Segments of another size are read all the same.
    pub segment_bytes: u64,
    /// See [`LOG_QUEUE_BYTES_MAX`].
    pub queue_bytes_max: usize,
    /// See [`LOG_BATCH_BYTES_MAX`].
    pub batch_bytes_max: usize,
    /// See [`LOG_CACHE_BYTES_MAX`].
    pub cache_bytes_max: usize,
    /// See [`LOG_SPARE_SEGMENTS_MAX`].
    pub spare_segments_max: usize,
    /// The mistake that this log makes.
    #[cfg(feature = "testing")]
    pub bug: Option<Bug>,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: LOG_SEGMENT_BYTES,
            queue_bytes_max: LOG_QUEUE_BYTES_MAX,
            batch_bytes_max: LOG_BATCH_BYTES_MAX,
            cache_bytes_max: LOG_CACHE_BYTES_MAX,
            spare_segments_max: LOG_SPARE_SEGMENTS_MAX,
            #[cfg(feature = "testing")]
            bug: None,
        }
    }
}

impl LogConfig {
    /// Whole sectors.
    fn rounded(mut self) -> LogConfig {
        let sectors = self.segment_bytes.clamp(4 * HEADER_BYTES, LOG_SEGMENT_BYTES_MAX);
        self.segment_bytes = sectors.next_multiple_of(HEADER_BYTES);
        self
    }

    /// Whether the log is to make this mistake. Without the feature, never, and the compiler knows.
    fn planted(&self, bug: Bug) -> bool {
        #[cfg(feature = "testing")]
        return self.bug == Some(bug);
        #[cfg(not(feature = "testing"))]
        {
            let _ = bug;
            false
        }
    }
}

/// Why the log, or a snapshot, cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The disk has failed. From a write or an fdatasync on, the log takes nothing more, and
    /// nobody knows what of the last batch is on disk: the process has to end, and start again
    /// when the disk is well.
    #[error("{doing} {file}: {source}")]
    Io {
        /// What was tried, "cannot write" for example.
        doing: &'static str,
        /// Path of the file.
        file: String,
        /// What the operating system says.
        source: Arc<io::Error>,
    },
    /// What was once on disk is not there any more, and no power loss explains it. The member has
    /// to be given its data again: from a copy of the folder, or, emptied, by its peers.
    #[error("{file} is damaged at byte {offset}: {what}")]
    Damaged {
        /// Path of the file.
        file: String,
        /// Where, in bytes from its beginning.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A file is gone. See [`Damaged`](LogError::Damaged) for what to do.
    #[error("{file} is missing: {what}")]
    Missing {
        /// Path that it would have.
        file: String,
        /// How that is known.
        what: String,
    },
    /// The caller has broken a rule; nothing was done.
    #[error("{0}")]
    Rule(String),
    /// The log was shut down.
    #[error("the log is closed")]
    Closed,
}

impl LogError {
    fn io(doing: &'static str, file: String) -> impl FnOnce(io::Error) -> LogError {
        move |source| LogError::Io { doing, file, source: Arc::new(source) }
    }
}

impl From<LogError> for io::Error {
    fn from(error: LogError) -> io::Error {
        let kind = match &error {
            LogError::Io { source, .. } => source.kind(),
            LogError::Damaged { .. } | LogError::Missing { .. } => io::ErrorKind::InvalidData,
            LogError::Rule(_) => io::ErrorKind::InvalidInput,
            LogError::Closed => io::ErrorKind::BrokenPipe,
        };
        io::Error::new(kind, error)
    }
}
