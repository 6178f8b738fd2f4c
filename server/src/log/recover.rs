//! Reads a log at start, cuts off what a power loss left half written, and refuses what no power
//! loss explains.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::format::{Batch, HEADER_BYTES, Head, Kind, Scan, SegmentHeader, seed};
use super::segments::{
    Segment, Spare, begin, bytes_for, covers, segment_id, segment_name, spare_name, spare_number,
};
use super::span::{Ledger, Runs, Span};
use super::{Bug, LogConfig, LogError, Position};

/// What was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Path of the file.
    pub file: String,
    /// Where the log ends now, in bytes from the file's beginning.
    pub offset: u64,
    /// How far what had been begun went, in bytes.
    pub bytes: u64,
}

/// What was found at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// There was no log, and one was made.
    pub made: bool,
    /// Segments in use.
    pub segments: usize,
    /// How much was read, in bytes.
    pub bytes: u64,
    /// The first and the last entry.
    pub entries: Option<(Position, Position)>,
    /// The purge point.
    pub purged: Option<Position>,
    /// How far entries are known to be committed.
    pub committed: Option<Position>,
    /// There is a vote.
    pub voted: bool,
    /// What was cut off at the end. It was never acknowledged.
    pub cut: Option<Cut>,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.made {
            return f.write_str("made a new log");
        }
        match self.entries {
            None => f.write_str("no entries")?,
            Some((first, last)) => write!(
                f,
                "entries {} to {} (terms {} to {})",
                first.index, last.index, first.term, last.term
            )?,
        }
        if let Some(purged) = self.purged {
            write!(f, ", purged up to {}", purged.index)?;
        }
        if let Some(committed) = self.committed {
            write!(f, ", committed up to {}", committed.index)?;
        }
        f.write_str(if self.voted { ", a vote" } else { ", no vote" })?;
        write!(f, ", in {} segments", self.segments)?;
        if let Some(Cut { file, offset, bytes }) = &self.cut {
            write!(f, "; cut off {bytes} bytes of an unfinished write at byte {offset} of {file}")?;
        }
        Ok(())
    }
}

/// What the writer goes on from.
pub(super) struct Found<D: Disk> {
    pub(super) segments: VecDeque<Segment<D>>,
    pub(super) segment: Segment<D>,
    pub(super) end: u64,
    /// The number of the next batch.
    pub(super) batch: u64,
    pub(super) ledger: Ledger,
    pub(super) runs: Runs,
    pub(super) spares: VecDeque<Spare<D>>,
    pub(super) next_spare: u64,
    pub(super) recovery: Recovery,
}

pub(super) async fn recover<D: Disk>(disk: &D, config: &LogConfig) -> Result<Found<D>, LogError> {
    let names = disk.list().await.map_err(LogError::io("cannot list", disk.describe("")))?;
    let mut ids: Vec<u64> = names.iter().filter_map(|name| segment_id(name)).collect();
    ids.sort_unstable();
    let spare_numbers: Vec<u64> = names.iter().filter_map(|name| spare_number(name)).collect();

    let Some(newest) = ids.last() else {
        // The first segment is made of `spare-1`, and a power loss may leave that.
        if let Some(id) = spare_numbers.iter().max().filter(|id| **id > 1) {
            let what = format!("{} shows that there was a log", disk.describe(&spare_name(*id)));
            return Err(LogError::Missing { file: disk.describe(&segment_name(*id + 1)), what });
        }
        return make(disk, config).await;
    };

    // From the newest one down to the first gap.
    let begin = ids.iter().rev().zip((0..=*newest).rev()).take_while(|(id, want)| *id == want);
    let mut whole = Vec::new();
    for id in &ids[ids.len() - begin.count()..] {
        whole.push(open(disk, *id).await?);
    }
    let purged = whole.last().and_then(|(header, _)| header.purged);
    let first = whole.iter().rposition(|(header, _)| covers(purged, header.base)).unwrap_or(0);
    let whole = whole.split_off(first);

    let mut reading = Reading::new(disk, config, whole[0].0.base);
    let ends = whole.iter().skip(1).map(|(header, _)| Some(header.previous_end)).chain([None]);
    for ((header, segment), end) in whole.iter().zip(ends) {
        match end {
            Some(end) => reading.sealed(segment, end).await?,
            None => reading.newest(segment, header).await?,
        }
    }
    let Reading { ledger, runs, end, batch, mut recovery, .. } = reading;

    // What is not needed is gone or may go; what is needed and gone is an error.
    let (oldest, _) = &whole[0];
    if !covers(ledger.span.purged(), oldest.base) {
        let behind = disk.describe(&segment_name(oldest.id));
        let what = format!("{behind} goes on where it ended, and its entries are still needed");
        let file = disk.describe(&segment_name(oldest.id.saturating_sub(1)));
        return Err(LogError::Missing { file, what });
    }
    for id in ids.iter().filter(|id| **id < oldest.id) {
        remove(disk, &segment_name(*id)).await?;
    }
    let spares = spares(disk, config, &spare_numbers).await?;
    disk.sync_folder().await.map_err(LogError::io(
        "cannot sync the folder of",
        disk.describe(&segment_name(*newest)),
    ))?;

    let segments: VecDeque<Segment<D>> = whole.into_iter().map(|(_, segment)| segment).collect();
    let span = &ledger.span;
    recovery.segments = segments.len();
    recovery.entries = span.position(span.first()).zip(span.last());
    (recovery.purged, recovery.committed) = (span.purged(), ledger.committed);
    recovery.voted = ledger.vote.is_some();
    let segment = segments[segments.len() - 1].clone();
    // That of the first segment is 1: one with a higher number says that there was a log.
    let next_spare = spare_numbers.iter().max().map_or(1, |number| *number).max(1) + 1;
    Ok(Found { segments, segment, end, batch, ledger, runs, spares, next_spare, recovery })
}

async fn make<D: Disk>(disk: &D, config: &LogConfig) -> Result<Found<D>, LogError> {
    let (id, ledger) = (1, Ledger::default());
    let bytes = bytes_for(&ledger, 0, config);
    let spare = Spare::make(disk, id, bytes).await?;
    let (segment, end) = begin(disk, config, spare, (id, bytes), 0, &ledger).await?;
    let recovery = Recovery { made: true, segments: 1, ..Recovery::default() };
    let (segments, runs, spares) = ([segment.clone()].into(), Runs::default(), VecDeque::new());
    let next_spare = 2;
    Ok(Found { segments, segment, end, batch: 1, ledger, runs, spares, next_spare, recovery })
}

async fn remove<D: Disk>(disk: &D, name: &str) -> Result<(), LogError> {
    disk.remove(name).await.map_err(LogError::io("cannot remove", disk.describe(name)))
}

/// Opens a segment and reads its header.
async fn open<D: Disk>(disk: &D, id: u64) -> Result<(SegmentHeader, Segment<D>), LogError> {
    let name = segment_name(id);
    let path = disk.describe(&name);
    let file = disk.open(&name).await.map_err(LogError::io("cannot open", path.clone()))?;
    let mut bytes = vec![0; HEADER_BYTES as usize];
    let read = file.read_at(0, &mut bytes).await;
    bytes.truncate(read.map_err(LogError::io("cannot read", path.clone()))?);
    let header = SegmentHeader::decode(&bytes).and_then(|header| match header.id == id {
        true => Ok(header),
        false => Err(format!("it is the segment {} by its header", header.id)),
    });
    let header = header.map_err(|what| LogError::Damaged { file: path, offset: 0, what })?;
    let SegmentHeader { bytes, base, .. } = header;
    Ok((header, Segment { id, seed: seed(id), name, bytes, base, file: Arc::new(file) }))
}

/// Files that can become segments; what is too much is removed.
async fn spares<D: Disk>(
    disk: &D,
    config: &LogConfig,
    ids: &[u64],
) -> Result<VecDeque<Spare<D>>, LogError> {
    let mut spares = VecDeque::new();
    for id in ids {
        let name = spare_name(*id);
        let failed = |doing| LogError::io(doing, disk.describe(&name));
        let file = disk.open(&name).await.map_err(failed("cannot open"))?;
        let size = file.size().await.map_err(failed("cannot read"))?;
        if size == config.segment_bytes && spares.len() < config.spare_segments_max {
            // An earlier process may not have come to it.
            file.sync().await.map_err(failed("cannot sync"))?;
            spares.push_back(Spare { name, file });
        } else {
            remove(disk, &name).await?;
        }
    }
    Ok(spares)
}

/// Segments that are read one after the other.
struct Reading<'a, D: Disk> {
    disk: &'a D,
    config: &'a LogConfig,
    ledger: Ledger,
    runs: Runs,
    /// Kept for its capacity.
    bytes: Vec<u8>,
    /// Of the newest segment: where its records end, and the number of its next batch.
    end: u64,
    batch: u64,
    recovery: Recovery,
}

impl<'a, D: Disk> Reading<'a, D> {
    fn new(disk: &'a D, config: &'a LogConfig, base: Option<Position>) -> Reading<'a, D> {
        let ledger = Ledger { span: Span::behind(base), ..Ledger::default() };
        let (runs, recovery) = (Runs::default(), Recovery::default());
        Reading { disk, config, ledger, runs, bytes: Vec::new(), end: 0, batch: 1, recovery }
    }

    fn damaged(&self, segment: &Segment<D>, offset: u64, what: impl Into<String>) -> LogError {
        let file = self.disk.describe(&segment.name);
        LogError::Damaged { file, offset, what: what.into() }
    }

    /// Reads the first `bytes` of a segment, or as many as there are.
    async fn load(&mut self, segment: &Segment<D>, bytes: u64) -> Result<Vec<u8>, LogError> {
        let mut buffer = std::mem::take(&mut self.bytes);
        let failed = || LogError::io("cannot read", self.disk.describe(&segment.name));
        // A header that says too much costs nothing.
        let there = segment.file.size().await.map_err(failed())?;
        buffer.resize(bytes.min(there) as usize, 0);
        let read = segment.file.read_at(0, &mut buffer).await.map_err(failed())?;
        buffer.truncate(read);
        self.recovery.bytes += read as u64;
        Ok(buffer)
    }

    /// Takes records as long as there are good ones.
    fn take(&mut self, segment: &Segment<D>, scan: &mut Scan<'_>) -> Result<(), LogError> {
        loop {
            let offset = scan.offset();
            let Some((head, payload)) = scan.next() else { return Ok(()) };
            self.add(segment, offset, head, payload)
                .map_err(|what| self.damaged(segment, offset, what))?;
        }
    }

    fn add(
        &mut self,
        segment: &Segment<D>,
        offset: u64,
        head: Head,
        payload: &[u8],
    ) -> Result<(), String> {
        let index = head.at.index;
        if head.kind == Kind::Entry && self.config.planted(Bug::ResurrectedTruncation) {
            self.ledger.span.truncate(index);
            self.runs.truncate(index);
        }
        self.ledger.add(head.kind, head.at, payload)?;
        match head.kind {
            Kind::Entry => self.runs.append(index, segment.id, offset, head.size()),
            Kind::Truncation => self.runs.truncate(index),
            Kind::Purge => self.runs.purge(self.ledger.span.first()),
            Kind::Vote | Kind::Committed | Kind::Seal => {}
        }
        Ok(())
    }

    /// A segment all of which was on disk before the next one was begun.
    async fn sealed(&mut self, segment: &Segment<D>, end: u64) -> Result<(), LogError> {
        let bytes = self.load(segment, end).await?;
        let mut scan = Scan::new(&bytes, segment.id, false);
        self.take(segment, &mut scan)?;
        if scan.offset() != end {
            let what = "its records go on in the next segment, and here is none that is whole";
            return Err(self.damaged(segment, scan.offset(), what));
        }
        self.bytes = bytes;
        Ok(())
    }

    /// The segment that is written to.
    async fn newest(
        &mut self,
        segment: &Segment<D>,
        header: &SegmentHeader,
    ) -> Result<(), LogError> {
        let bytes = self.load(segment, header.bytes).await?;
        let credulous = self.config.planted(Bug::TornTailTakenForValid);
        let mut scan = Scan::new(&bytes, segment.id, credulous);
        let mut sealed = None;
        loop {
            let offset = scan.offset();
            let Some((head, payload)) = scan.next() else { break };
            if head.kind == Kind::Seal {
                sealed = Some(head.at.index);
            }
            self.add(segment, offset, head, payload)
                .map_err(|what| self.damaged(segment, offset, what))?;
        }
        if let Some(id) = sealed {
            let what =
                format!("{} says that the log goes on there", self.disk.describe(&segment.name));
            return Err(LogError::Missing { file: self.disk.describe(&segment_name(id)), what });
        }
        let (end, last) = (scan.offset(), scan.batch());
        let rest = scan.rest();
        if let Some(later) = rest.later {
            let what = format!(
                "here is no whole record, and the one at byte {later} was written after all \
                 before it was on disk"
            );
            return Err(self.damaged(segment, end, what));
        }
        if rest.end > end {
            let (file, bytes) = (self.disk.describe(&segment.name), rest.end - end);
            self.recovery.cut = Some(Cut { file, offset: end, bytes });
        }
        let what = "a batch has the last number that there is";
        let batch =
            rest.batch_max.checked_add(1).ok_or_else(|| self.damaged(segment, end, what))?;
        (self.end, self.batch) = (end, batch);
        if !self.config.planted(Bug::NoSyncAtStart) {
            self.make_durable(segment, &bytes, last).await?;
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Has all that was read on disk. What an earlier process wrote and did not sync can be read
    /// as if it were; and after an fdatasync that failed, the operating system may think that
    /// there is nothing to write. So what may be in that state, the last batch, is written again.
    async fn make_durable(
        &self,
        segment: &Segment<D>,
        bytes: &[u8],
        last: Batch,
    ) -> Result<(), LogError> {
        let failed = |doing| LogError::io(doing, self.disk.describe(&segment.name));
        let start = (last.start as usize).max(HEADER_BYTES as usize);
        let file = &segment.file;
        if let Some(last) = bytes.get(start..self.end as usize).filter(|last| !last.is_empty()) {
            file.write_at(start as u64, last).await.map_err(failed("cannot write"))?;
        }
        // A file that was cut short gets its zeros back.
        if (bytes.len() as u64) < segment.bytes {
            file.set_size(segment.bytes).await.map_err(failed("cannot make room in"))?;
        }
        file.sync().await.map_err(failed("cannot sync"))
    }
}
