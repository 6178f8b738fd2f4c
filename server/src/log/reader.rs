//! Reads entries that are no longer in memory back from their segments.

use tokio::sync::{mpsc, oneshot};

use super::disk::{Disk, DiskFile};
use super::format::{Head, Kind};
use super::segments::Segment;
use super::shared::{State, bytes_of};
use super::{LogError, Record};
use crate::limits::LOG_RUN_BYTES;

/// A stretch of a segment, and which entries to take from it.
struct Piece<D: Disk> {
    /// Holding the file keeps it from being recycled under the read.
    segment: Segment<D>,
    offset: u32,
    bytes: u32,
    from: u64,
    behind: u64,
}

/// What is to be read. It was planned under the lock, so it is the log as it was then, whatever is
/// truncated or purged meanwhile.
pub(super) struct Plan<D: Disk> {
    pieces: Vec<Piece<D>>,
    bytes_max: usize,
}

impl<D: Disk> Plan<D> {
    /// How to read the entries from `from` to `behind`, none of which is in memory.
    pub(super) fn new(state: &State<D>, from: u64, behind: u64, bytes_max: usize) -> Plan<D> {
        let mut plan = Plan { pieces: Vec::new(), bytes_max };
        let (mut at, mut bytes) = (from, 0);
        for (run, end) in state.runs.from(from) {
            if at >= behind || bytes > bytes_max.saturating_add(LOG_RUN_BYTES as usize) {
                break;
            }
            let place = state.segments.binary_search_by_key(&run.segment, |segment| segment.id);
            let Some(segment) = place.ok().and_then(|place| state.segments.get(place)) else {
                break;
            };
            let end = end.min(behind);
            let (segment, offset) = (segment.clone(), run.offset);
            plan.pieces.push(Piece { segment, offset, bytes: run.bytes, from: at, behind: end });
            at = end;
            bytes += run.bytes as usize;
        }
        plan
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    async fn carry_out(self, disk: &D) -> Result<Vec<Record>, LogError> {
        let (mut records, mut room) = (Vec::new(), self.bytes_max);
        for piece in &self.pieces {
            let before = records.len();
            piece.read(disk, &mut room, &mut records).await?;
            if records.len() - before < (piece.behind - piece.from) as usize {
                break;
            }
        }
        Ok(records)
    }
}

impl<D: Disk> Piece<D> {
    /// Takes entries until `room` bytes are used up, but always one.
    async fn read(
        &self,
        disk: &D,
        room: &mut usize,
        records: &mut Vec<Record>,
    ) -> Result<(), LogError> {
        let file = || disk.describe(&self.segment.name);
        let mut bytes = vec![0; self.bytes as usize];
        let read = self.segment.file.read_at(self.offset.into(), &mut bytes).await;
        bytes.truncate(read.map_err(LogError::io("cannot read", file()))?);
        let (mut at, mut next) = (0, self.from);
        while next < self.behind {
            let damaged = |what: &str| LogError::Damaged {
                file: file(),
                offset: u64::from(self.offset) + at as u64,
                what: what.to_owned(),
            };
            let rest = bytes.get(at..).unwrap_or_default();
            let head = Head::decode(rest, self.segment.seed)
                .ok_or_else(|| damaged("no record stands where one was written"))?;
            if head.kind == Kind::Entry && head.at.index == next {
                let payload = head
                    .payload(rest, self.segment.seed)
                    .ok_or_else(|| damaged("the checksum of an entry is wrong"))?;
                if head.size() > *room && !records.is_empty() {
                    *room = 0;
                    return Ok(());
                }
                *room = room.saturating_sub(head.size());
                // A copy: the entry may live long, and would keep all that was read with it.
                let payload = bytes::Bytes::copy_from_slice(payload);
                records.push(Record { position: head.at, payload });
                next += 1;
            }
            at += head.size();
        }
        Ok(())
    }
}

/// A read that waits.
pub(super) struct Ask<D: Disk> {
    pub(super) plan: Plan<D>,
    pub(super) answer: oneshot::Sender<Result<Vec<Record>, LogError>>,
}

/// Reads until nobody can ask any more. It runs offloaded, so it may block.
pub(super) async fn serve<D: Disk>(disk: D, mut asks: mpsc::Receiver<Ask<D>>) {
    while let Some(Ask { plan, answer }) = asks.recv().await {
        if !answer.is_closed() {
            // The caller may have been cancelled by now.
            let _ = answer.send(plan.carry_out(&disk).await);
        }
    }
}

/// Adds entries that are in memory to what was read, within the same bound.
pub(super) fn add_cached(
    records: &mut Vec<Record>,
    cached: impl IntoIterator<Item = Record>,
    bytes_max: usize,
) {
    let mut room = bytes_max.saturating_sub(bytes_of(records));
    for record in cached {
        let size = bytes_of(std::slice::from_ref(&record));
        if size > room && !records.is_empty() {
            break;
        }
        room = room.saturating_sub(size);
        records.push(record);
    }
}
