//! The log read from whatever bytes: what the fuzz target `log` does.

use bytes::Buf;
use crc32c::crc32c_append;

use super::disk::{Disk, DiskFile};
use super::format::{HEADER_BYTES, RECORD_BYTES, Scan, SegmentHeader, encode, record_size, seed};
use super::segments::segment_name;
use super::sim::SimDisk;
use super::{Log, LogConfig, LogState, Position};

/// Of the input, in front of the records.
const TOLD_BYTES: usize = 40;

// The first byte of the input. Without `MADE`, all that follows it is the file.
const MADE: u8 = 1;
const BASE: u8 = 2;
const PURGED: u8 = 4;
const GOES_ON: u8 = 8;

/// The file of a segment, and where the next segment says that it ends if there is one.
fn segment(input: &[u8]) -> (Vec<u8>, Option<u64>) {
    let Some((flags, rest)) = input.split_first() else { return (Vec::new(), None) };
    let Some((mut told, records)) =
        rest.split_at_checked(TOLD_BYTES).filter(|_| *flags & MADE != 0)
    else {
        return (rest.to_vec(), None);
    };
    let mut position = || Position { term: told.get_u64_le(), index: told.get_u64_le() };
    let (base, purged) = (position(), position());
    // Some more than an input has.
    let bytes = u64::from(told.get_u32_le() & 0x3fff);
    let end = u64::from(told.get_u32_le());
    let mut file = Vec::new();
    SegmentHeader {
        id: 1,
        bytes,
        previous_end: 0,
        base: (flags & BASE != 0).then_some(base),
        purged: (flags & PURGED != 0).then_some(purged),
    }
    .encode(&mut file);
    file.extend_from_slice(records);
    mend(&mut file[HEADER_BYTES as usize..]);
    (file, (flags & GOES_ON != 0).then_some(end))
}

/// Makes the sums of records right, as far as there are records.
fn mend(mut records: &mut [u8]) {
    let seed = seed(1);
    while records.len() >= RECORD_BYTES {
        let mut length = [0; 4];
        length[..3].copy_from_slice(&records[8..11]);
        let payload_bytes = u32::from_le_bytes(length) as usize;
        let Some(payload) = records.get(RECORD_BYTES..RECORD_BYTES + payload_bytes) else {
            return;
        };
        let sum = crc32c_append(seed, payload);
        records[4..8].copy_from_slice(&sum.to_le_bytes());
        let sum = crc32c_append(seed, &records[4..RECORD_BYTES]);
        records[..4].copy_from_slice(&sum.to_le_bytes());
        let Some(rest) = records.get_mut(record_size(payload_bytes)..) else { return };
        records = rest;
    }
}

/// Each record that is read is written in the same bytes.
fn write_again(file: &[u8]) {
    let mut scan = Scan::new(file, 1, false);
    let mut start = scan.offset() as usize;
    while let Some((head, payload)) = scan.next() {
        let mut again = Vec::new();
        encode(&mut again, seed(1), head.batch, head.kind, head.at, payload);
        // But for what fills up the last 8 bytes: nobody looks at that.
        let whole = RECORD_BYTES + payload.len();
        assert_eq!(again[..whole], file[start..start + whole]);
        start = scan.offset() as usize;
    }
    scan.rest();
}

/// Opens the log and reads all of it.
async fn read(disk: &SimDisk, config: &LogConfig) -> Option<(LogState, Vec<super::Record>)> {
    let (log, _) = Log::open(disk.clone(), config.clone()).await.ok()?;
    let state = log.state().expect("it is open");
    let entries = log.read(state.first..state.next, usize::MAX).await.expect("its own entries");
    let wanted = state.next - state.first;
    assert_eq!(entries.len() as u64, wanted, "{state:?}");
    for (entry, index) in entries.iter().zip(state.first..) {
        assert_eq!(entry.position.index, index);
    }
    Some((state, entries))
}

/// The input is a log: it is refused, or read, and then it is read the same again.
///
/// # Panics
/// There is a bug.
pub fn log(input: &[u8]) {
    let (mut file, goes_on) = segment(input);
    if let Ok(header) = SegmentHeader::decode(&file) {
        write_again(&file);
        // Files of segments have their size from the beginning: the rest of one is zeros.
        file.resize(file.len().max(header.bytes as usize), 0);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(async {
        let disk = SimDisk::new(1);
        let config = LogConfig { segment_bytes: 2_048, ..LogConfig::default() };
        put(&disk, &segment_name(1), &file).await;
        if let Some(previous_end) = goes_on {
            let mut next = Vec::new();
            let header = SegmentHeader::decode(&file);
            let (base, purged) = header.map_or((None, None), |it| (it.base, it.purged));
            SegmentHeader { id: 2, bytes: 2_048, previous_end, base, purged }.encode(&mut next);
            put(&disk, &segment_name(2), &next).await;
        }
        if let Some(first) = read(&disk, &config).await {
            let second = read(&disk.restarted(), &config).await.expect("it was read before");
            assert_eq!(first, second);
        }
    });
}

/// Makes a file.
pub(super) async fn put(disk: &SimDisk, name: &str, content: &[u8]) {
    let file = disk.create(name).await.expect("a disk without faults");
    file.write_at(0, content).await.expect("a disk without faults");
}

#[cfg(test)]
mod tests {
    use super::super::format::{Batch, Kind};
    use super::*;

    type Row<'a> = (Kind, Position, &'a [u8]);

    /// Records behind each other, and where each ends.
    fn records(rows: &[Row<'_>]) -> (Vec<u8>, Vec<usize>) {
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        let mut batch = Batch { number: 0, start: 0 };
        for (at, (kind, position, payload)) in rows.iter().enumerate() {
            // A batch of one, and batches of two.
            if at == 0 || at % 2 == 1 {
                let start = HEADER_BYTES as u32 + out.len() as u32;
                batch = Batch { number: batch.number + 1, start };
            }
            encode(&mut out, seed(1), batch, *kind, *position, payload);
            ends.push(out.len());
        }
        (out, ends)
    }

    /// What the search begins from.
    fn seeds() -> Vec<(&'static str, Vec<u8>)> {
        let position = |index| Position { term: 1, index };
        let (records, ends) = self::records(&[
            (Kind::Vote, position(0), b"a vote"),
            (Kind::Entry, position(1), b"one"),
            (Kind::Entry, position(2), b"eight by"),
            (Kind::Committed, position(1), b""),
            (Kind::Truncation, position(2), b""),
            (Kind::Entry, Position { term: 2, index: 2 }, b"again"),
            (Kind::Purge, position(1), b""),
            (Kind::Seal, position(2), b""),
        ]);
        let (behind, _) =
            self::records(&[(Kind::Purge, position(0), b""), (Kind::Entry, position(1), b"one")]);
        let told = |flags: u8, end: u32| {
            let mut out = vec![flags];
            for number in [1, 0, 1, 0_u64] {
                out.extend(number.to_le_bytes());
            }
            out.extend(2_048_u32.to_le_bytes());
            out.extend(end.to_le_bytes());
            out
        };
        let unsealed = ends[6];
        let (mut raw, _) = segment(&[&told(MADE, 0)[..], &records[..unsealed]].concat());
        raw.insert(0, 0);
        let sealed = HEADER_BYTES as u32 + records.len() as u32;
        vec![
            ("file", raw),
            ("records", [&told(MADE, 0)[..], &records[..unsealed]].concat()),
            ("cut", [&told(MADE, 0)[..], &records[..unsealed - 4]].concat()),
            ("behind-others", [&told(MADE | BASE | PURGED, 0)[..], &behind].concat()),
            ("goes-on", [&told(MADE | GOES_ON, sealed)[..], &records].concat()),
            ("goes-on-nowhere", [&told(MADE, 0)[..], &records].concat()),
        ]
    }

    #[test]
    fn the_seeds_of_the_target_log_are_these() {
        for (name, seed) in seeds() {
            crate::fuzz::tests::keep("log", name, &seed);
            log(&seed);
        }
    }

    #[tokio::test]
    async fn the_seeds_are_read() {
        let config = LogConfig::default();
        for (name, seed) in seeds().into_iter().take(4) {
            let disk = SimDisk::new(1);
            put(&disk, &segment_name(1), &segment(&seed).0).await;
            let (_, entries) = read(&disk, &config).await.expect(name);
            assert!(!entries.is_empty(), "{name}");
        }
    }
}
