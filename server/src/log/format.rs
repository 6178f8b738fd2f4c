//! How the log is written down.
//!
//! A segment is a header, in a sector of its own, and records behind each other. Numbers are
//! little-endian; records begin at multiples of 8 bytes. A record is:
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | crc32c of the 36 bytes that follow |
//! | 4..8 | crc32c of the payload |
//! | 8..11, 11 | payload's length; kind |
//! | 12..16 | where in the segment the record's batch begins |
//! | 16..24 | batch |
//! | 24..32, 32..40 | term, index |
//! | 40.. | payload, and zeros up to a multiple of 8 |
//!
//! Both sums are seeded from the segment's id, so that what an earlier life of a recycled segment
//! has left behind is never taken for a record.
//!
//! A batch is what one fdatasync covers, and nothing of the next batch is written before it has
//! returned. So a record that begins its batch at offset `b` proves that everything before `b` was
//! on disk: a bad record in front of `b` is damage, and not what a power loss leaves.

use crc32c::{crc32c, crc32c_append};

use super::Position;
use crate::limits::{LOG_INDEX_MAX, LOG_SEGMENT_BYTES_MAX};

/// Bytes of a segment before its first record: one sector.
pub(super) const HEADER_BYTES: u64 = 512;

/// Bytes of a record before its payload.
pub(super) const RECORD_BYTES: usize = 40;

/// The least that a segment has: a header, and room for the record that says where the log goes on.
const SEGMENT_BYTES_MIN: u64 = HEADER_BYTES + record_size(0) as u64;

const MAGIC: [u8; 8] = *b"SYNODLOG";
const VERSION: u32 = 1;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// An entry: term, index and payload.
    Entry = 1,
    /// The vote is the payload.
    Vote = 2,
    /// Entries up to this term and index are committed.
    Committed = 3,
    /// Entries from this index on are gone.
    Truncation = 4,
    /// Entries up to this term and index are no longer needed.
    Purge = 5,
    /// The log goes on in the segment whose id is the index.
    Seal = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Entry, Kind::Vote, Kind::Committed, Kind::Truncation, Kind::Purge, Kind::Seal]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// With what the sums of a segment's records begin.
pub(super) fn seed(segment: u64) -> u32 {
    crc32c(&segment.to_le_bytes())
}

/// What a record with this payload takes.
pub(super) const fn record_size(payload_bytes: usize) -> usize {
    RECORD_BYTES + payload_bytes.next_multiple_of(8)
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) number: u64,
    /// Its first byte in the segment.
    pub(super) start: u32,
}

/// Appends a record.
pub(super) fn encode(
    out: &mut Vec<u8>,
    seed: u32,
    batch: Batch,
    kind: Kind,
    at: Position,
    payload: &[u8],
) {
    let mut head = [0; RECORD_BYTES];
    head[4..8].copy_from_slice(&crc32c_append(seed, payload).to_le_bytes());
    let length = payload.len() as u32 | (kind as u32) << 24;
    head[8..12].copy_from_slice(&length.to_le_bytes());
    head[12..16].copy_from_slice(&batch.start.to_le_bytes());
    head[16..24].copy_from_slice(&batch.number.to_le_bytes());
    head[24..32].copy_from_slice(&at.term.to_le_bytes());
    head[32..40].copy_from_slice(&at.index.to_le_bytes());
    let sum = crc32c_append(seed, &head[4..]);
    head[..4].copy_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(8), 0);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

/// The first bytes of a record, which have proved to be whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) batch: Batch,
    pub(super) at: Position,
    pub(super) payload_bytes: usize,
    payload_sum: u32,
}

impl Head {
    /// Reads what stands at the beginning of `bytes`; `None` if that is no record of this segment.
    pub(super) fn decode(bytes: &[u8], seed: u32) -> Option<Head> {
        let head = bytes.get(..RECORD_BYTES)?;
        // Most of a fresh segment is zeros: no need to sum them.
        if u64_at(head, 0) == 0 || u32_at(head, 0) != crc32c_append(seed, &head[4..]) {
            return None;
        }
        let length = u32_at(head, 8);
        Some(Head {
            kind: Kind::from_byte((length >> 24) as u8)?,
            batch: Batch { number: u64_at(head, 16), start: u32_at(head, 12) },
            at: Position { term: u64_at(head, 24), index: u64_at(head, 32) },
            payload_bytes: (length & 0xff_ffff) as usize,
            payload_sum: u32_at(head, 4),
        })
    }

    /// The record's payload, if all of it is in `bytes` (which begin with the record) and whole.
    pub(super) fn payload<'a>(&self, bytes: &'a [u8], seed: u32) -> Option<&'a [u8]> {
        let payload = bytes.get(RECORD_BYTES..RECORD_BYTES + self.payload_bytes)?;
        (crc32c_append(seed, payload) == self.payload_sum).then_some(payload)
    }

    /// What the record takes.
    pub(super) fn size(&self) -> usize {
        record_size(self.payload_bytes)
    }
}

/// # Errors
/// No entry is there, since others could not follow it; why, as the end of a sentence.
pub(super) fn checked(at: Position) -> Result<Position, String> {
    if at.index <= LOG_INDEX_MAX {
        return Ok(at);
    }
    Err(format!("an entry's index is at most {LOG_INDEX_MAX}, and there stands {}", at.index))
}

/// What a segment begins with. It is on disk before the file gets the name of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) id: u64,
    /// Size of the file.
    pub(super) bytes: u64,
    /// Where the records of the segment before this one end, all of them on disk; 0 if there was
    /// none.
    pub(super) previous_end: u64,
    /// The log's last entry when the segment was begun.
    pub(super) base: Option<Position>,
    /// The purge point when the segment was begun.
    pub(super) purged: Option<Position>,
}

impl SegmentHeader {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut header = [0; HEADER_BYTES as usize];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[16..24].copy_from_slice(&self.id.to_le_bytes());
        header[24..32].copy_from_slice(&self.bytes.to_le_bytes());
        header[32..40].copy_from_slice(&self.previous_end.to_le_bytes());
        for (start, position) in [(40, self.base), (64, self.purged)] {
            if let Some(Position { term, index }) = position {
                header[start] = 1;
                header[start + 8..start + 16].copy_from_slice(&term.to_le_bytes());
                header[start + 16..start + 24].copy_from_slice(&index.to_le_bytes());
            }
        }
        let sum = crc32c(&header[16..]);
        header[12..16].copy_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&header);
    }

    /// # Errors
    /// What is wrong with the bytes, as the end of a sentence.
    pub(super) fn decode(bytes: &[u8]) -> Result<SegmentHeader, String> {
        let header = match bytes.get(..HEADER_BYTES as usize) {
            Some(header) => header,
            None if bytes.is_empty() => return Err("the file is empty".to_owned()),
            None => return Err(format!("the file has only {} bytes", bytes.len())),
        };
        if header[..8] != MAGIC {
            return Err("it does not begin as a segment of a log does".to_owned());
        }
        let version = u32_at(header, 8);
        if version != VERSION {
            return Err(format!("its format is version {version}, and this is {VERSION}"));
        }
        if u32_at(header, 12) != crc32c(&header[16..]) {
            return Err("the checksum of its header is wrong".to_owned());
        }
        let bytes = u64_at(header, 24);
        if !(SEGMENT_BYTES_MIN..=LOG_SEGMENT_BYTES_MAX).contains(&bytes) {
            return Err(format!(
                "a segment has {SEGMENT_BYTES_MIN} to {LOG_SEGMENT_BYTES_MAX} bytes, and by its \
                 header {bytes}"
            ));
        }
        let position = |start: usize| {
            let (term, index) = (u64_at(header, start + 8), u64_at(header, start + 16));
            let position = (header[start] == 1).then_some(Position { term, index });
            position.map(checked).transpose()
        };
        Ok(SegmentHeader {
            id: u64_at(header, 16),
            bytes,
            previous_end: u64_at(header, 32),
            base: position(40)?,
            purged: position(64)?,
        })
    }
}

/// Goes through the records of a segment, as long as each follows from the one before it.
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    seed: u32,
    at: usize,
    batch: Batch,
    /// A bug of a test: bad payloads pass.
    credulous: bool,
}

impl<'a> Scan<'a> {
    /// `bytes` is the whole segment.
    pub(super) fn new(bytes: &'a [u8], segment: u64, credulous: bool) -> Scan<'a> {
        let batch = Batch { number: 0, start: 0 };
        Scan { bytes, seed: seed(segment), at: HEADER_BYTES as usize, batch, credulous }
    }

    /// Where the next record would begin.
    pub(super) fn offset(&self) -> u64 {
        self.at as u64
    }

    /// The batch of the record before.
    pub(super) fn batch(&self) -> Batch {
        self.batch
    }

    /// The next record with its payload; `None` if what stands there is not it.
    pub(super) fn next(&mut self) -> Option<(Head, &'a [u8])> {
        let bytes = self.bytes.get(self.at..)?;
        let head = Head::decode(bytes, self.seed)?;
        let follows = if head.batch.start as usize == self.at {
            head.batch.number > self.batch.number
        } else {
            head.batch == self.batch
        };
        if !follows {
            return None;
        }
        let payload = match head.payload(bytes, self.seed) {
            None if self.credulous => bytes.get(RECORD_BYTES..RECORD_BYTES + head.payload_bytes)?,
            payload => payload?,
        };
        self.at += head.size();
        self.batch = head.batch;
        Some((head, payload))
    }

    /// What stands behind the last good record.
    pub(super) fn rest(&self) -> Rest {
        let mut rest = Rest { end: self.at as u64, later: None, batch_max: self.batch.number };
        let mut at = self.at;
        while at < self.bytes.len() {
            if let Some(head) = Head::decode(&self.bytes[at..], self.seed) {
                rest.batch_max = rest.batch_max.max(head.batch.number);
                let end = (at + head.size()).min(self.bytes.len());
                rest.end = rest.end.max(end as u64);
                if head.batch.start as usize > self.at && rest.later.is_none() {
                    rest.later = Some(at as u64);
                }
            }
            at += 8;
        }
        rest
    }
}

/// What stands behind the last good record of a segment.
pub(super) struct Rest {
    /// Where what can be told to be this segment's ends.
    pub(super) end: u64,
    /// Where a record stands that was written after all before it was on disk: the first bad
    /// record is no torn one.
    pub(super) later: Option<u64>,
    /// The highest batch of any record there and before.
    pub(super) batch_max: u64,
}
