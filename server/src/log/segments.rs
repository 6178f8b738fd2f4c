//! The files of segments: zero-filled ahead, begun with all that earlier segments said and is
//! still to be known, and written again when what they hold is no longer needed.
//!
//! A file is `spare-…` until it begins with the header of a segment, and all of that is on disk;
//! then it becomes `log-…`. So a power loss leaves no segment without a header.

use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::format::{Batch, HEADER_BYTES, Kind, SegmentHeader, encode, record_size, seed};
use super::span::Ledger;
use super::{Bug, LogConfig, LogError, Position};

const SEGMENT: &str = "log-";
const SPARE: &str = "spare-";

/// Kept free at the end of a segment for the record that says where the log goes on.
const SEAL_BYTES: u64 = record_size(0) as u64;

pub(super) fn segment_name(id: u64) -> String {
    format!("{SEGMENT}{id:016}")
}

pub(super) fn spare_name(number: u64) -> String {
    format!("{SPARE}{number:016}")
}

fn id(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    (digits.len() == 16).then(|| digits.parse().ok())?
}

pub(super) fn segment_id(name: &str) -> Option<u64> {
    id(name, SEGMENT)
}

pub(super) fn spare_number(name: &str) -> Option<u64> {
    id(name, SPARE)
}

/// A segment that is in use.
pub(super) struct Segment<D: Disk> {
    pub(super) id: u64,
    /// With what its checksums begin.
    pub(super) seed: u32,
    pub(super) name: String,
    pub(super) bytes: u64,
    /// The log's last entry when it was begun.
    pub(super) base: Option<Position>,
    /// Shared with who reads from it.
    pub(super) file: Arc<D::File>,
}

impl<D: Disk> Clone for Segment<D> {
    fn clone(&self) -> Segment<D> {
        let (name, file) = (self.name.clone(), Arc::clone(&self.file));
        let Segment { id, seed, bytes, base, .. } = *self;
        Segment { id, seed, name, bytes, base, file }
    }
}

impl<D: Disk> Segment<D> {
    /// Where its records have to end.
    pub(super) fn room(&self) -> u64 {
        self.bytes - SEAL_BYTES
    }
}

/// A file of a segment's size that holds nothing needed.
pub(super) struct Spare<D: Disk> {
    pub(super) name: String,
    pub(super) file: D::File,
}

impl<D: Disk> Spare<D> {
    /// Makes one with a number that no other has.
    pub(super) async fn make(disk: &D, number: u64, bytes: u64) -> Result<Spare<D>, LogError> {
        let name = spare_name(number);
        let failed = |doing| LogError::io(doing, disk.describe(&name));
        let made = async {
            let file = disk.create(&name).await.map_err(failed("cannot make"))?;
            file.set_size(bytes).await.map_err(failed("cannot make room in"))?;
            file.sync().await.map_err(failed("cannot sync"))?;
            Ok(file)
        };
        match made.await {
            Ok(file) => Ok(Spare { name, file }),
            Err(error) => {
                // What it holds of a full disk is given back; the error that counts is the first.
                let _ = disk.remove(&name).await;
                Err(error)
            }
        }
    }
}

/// Appends what a segment says before anything new: what earlier segments said, since they may be
/// gone when this one is read.
fn begin_with(out: &mut Vec<u8>, id: u64, batch: u64, ledger: &Ledger, config: &LogConfig) {
    let (seed, batch) = (seed(id), Batch { number: batch, start: HEADER_BYTES as u32 });
    let nowhere = Position { term: 0, index: 0 };
    if let Some(vote) = &ledger.vote
        && !config.planted(Bug::VoteLostAtRecycling)
    {
        encode(out, seed, batch, Kind::Vote, nowhere, vote);
    }
    if let Some(committed) = ledger.committed {
        encode(out, seed, batch, Kind::Committed, committed, &[]);
    }
    if let Some(purged) = ledger.span.purged() {
        encode(out, seed, batch, Kind::Purge, purged, &[]);
    }
}

/// How large the segment `id` has to be so that a record fits in.
pub(super) fn bytes_for(ledger: &Ledger, record_bytes: usize, config: &LogConfig) -> u64 {
    let mut beginning = Vec::new();
    begin_with(&mut beginning, 0, 0, ledger, config);
    let least = HEADER_BYTES + (beginning.len() + record_bytes) as u64 + SEAL_BYTES;
    config.segment_bytes.max(least.next_multiple_of(HEADER_BYTES))
}

/// Makes a spare file the next segment. It is on disk under its name when this returns, with where
/// it ends.
pub(super) async fn begin<D: Disk>(
    disk: &D,
    config: &LogConfig,
    spare: Spare<D>,
    (id, bytes): (u64, u64),
    previous_end: u64,
    ledger: &Ledger,
) -> Result<(Segment<D>, u64), LogError> {
    let base = ledger.span.last();
    let mut first = Vec::new();
    SegmentHeader { id, bytes, previous_end, base, purged: ledger.span.purged() }
        .encode(&mut first);
    begin_with(&mut first, id, 1, ledger, config);

    let failed = |doing| LogError::io(doing, disk.describe(&spare.name));
    spare.file.write_at(0, &first).await.map_err(failed("cannot write"))?;
    spare.file.sync().await.map_err(failed("cannot sync"))?;
    let name = segment_name(id);
    disk.rename(&spare.name, &name).await.map_err(failed("cannot rename"))?;
    if !config.planted(Bug::NoFolderSync) {
        disk.sync_folder().await.map_err(failed("cannot sync the folder of"))?;
    }
    let file = Arc::new(spare.file);
    Ok((Segment { id, seed: seed(id), name, bytes, base, file }, first.len() as u64))
}

/// Whether nothing before a segment that begins behind `base` is needed any more.
pub(super) fn covers(purged: Option<Position>, base: Option<Position>) -> bool {
    match base {
        None => true,
        Some(base) => purged.is_some_and(|purged| purged.index >= base.index),
    }
}
