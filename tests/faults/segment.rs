//! Where the batches of a log file stand, read by the book and not by the server's own code.

use std::path::{Path, PathBuf};

/// Of the header of a segment.
const HEADER_BYTES: usize = 512;

/// Of a record before its payload.
const RECORD_BYTES: usize = 40;

/// The newest segment in a data folder.
///
/// # Panics
/// If there is none.
pub fn newest(data: &Path) -> PathBuf {
    let files = std::fs::read_dir(data).expect("the data folder can be read");
    let names = files.map(|file| file.expect("a file of the folder").file_name());
    let segments = names.filter(|name| name.to_string_lossy().starts_with("log-"));
    data.join(segments.max().expect("there is a segment"))
}

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where its batch begins: what one fdatasync covers.
    pub batch: usize,
    /// Its first byte.
    pub start: usize,
    /// Behind its last byte.
    pub end: usize,
    /// Where its payload stands.
    pub payload: (usize, usize),
}

/// The records of a segment, in their order.
pub fn records(segment: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut start = HEADER_BYTES;
    while let Some(head) = segment.get(start..start + RECORD_BYTES) {
        let number =
            |from: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| head[from + byte])) as usize;
        if number(0) == 0 {
            break;
        }
        let (bytes, begun) = (number(8) & 0xff_ffff, start + RECORD_BYTES);
        let end = begun + bytes.next_multiple_of(8);
        let batch = number(12);
        if batch > start {
            break;
        }
        records.push(Record { batch, start, end, payload: (begun, begun + bytes) });
        start = end;
    }
    records
}

/// The records of the last batch.
///
/// # Panics
/// If there is none.
pub fn last_batch(segment: &[u8]) -> Vec<Record> {
    let records = records(segment);
    let batch = records.last().expect("there is a batch").batch;
    records.into_iter().filter(|record| record.batch == batch).collect()
}

/// Where these bytes stand first.
pub fn find(within: &[u8], bytes: &[u8]) -> Option<usize> {
    within.windows(bytes.len()).position(|window| window == bytes)
}
