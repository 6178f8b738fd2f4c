//! The log as openraft wants it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::stream::{self, Stream, TryStreamExt};
use openraft::impls::leader_id_std;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};

use super::types::{LogId, RaftEntry, Types, Vote, decode_payload, encode_payload, malformed};
use crate::limits::LOG_READ_BYTES_MAX;
use crate::log::{Disk, Log, Position, Record};

/// The log of a member. A clone is the same log, and so each is a reader of it.
pub(crate) struct LogStore<D: Disk>(Log<D>);

impl<D: Disk> LogStore<D> {
    /// Whoever opened the log shuts it down, once openraft has ended.
    pub(crate) fn new(log: Log<D>) -> LogStore<D> {
        LogStore(log)
    }

    async fn read(&self, from: u64, behind: u64, bytes_max: usize) -> io::Result<Vec<RaftEntry>> {
        let records = self.0.read(from..behind, bytes_max).await?;
        records.into_iter().map(entry).collect()
    }
}

impl<D: Disk> Clone for LogStore<D> {
    fn clone(&self) -> LogStore<D> {
        LogStore(self.0.clone())
    }
}

fn position(id: &LogId) -> Position {
    Position { term: id.committed_leader_id().term, index: id.index() }
}

fn log_id(position: Position) -> LogId {
    LogId::new_term_index(position.term, position.index)
}

fn record(entry: RaftEntry) -> Record {
    let mut payload = BytesMut::new();
    encode_payload(&mut payload, &entry.payload);
    Record { position: position(&entry.log_id), payload: payload.freeze() }
}

fn entry(record: Record) -> io::Result<RaftEntry> {
    Ok(RaftEntry { log_id: log_id(record.position), payload: decode_payload(record.payload)? })
}

fn encode_vote(vote: &Vote) -> Bytes {
    let mut out = BytesMut::with_capacity(17);
    out.put_u64(vote.leader_id.term);
    out.put_u64(vote.leader_id.voted_for);
    out.put_u8(vote.committed.into());
    out.freeze()
}

fn decode_vote(mut bytes: Bytes) -> io::Result<Vote> {
    let short = |_| malformed("a vote has 17 bytes");
    let term = bytes.try_get_u64().map_err(short)?;
    let voted_for = bytes.try_get_u64().map_err(short)?;
    let committed = bytes.try_get_u8().map_err(short)? != 0;
    Ok(Vote { leader_id: leader_id_std::LeaderId { term, voted_for }, committed })
}

/// The first index of a range, and the one behind its last.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let behind = match range.end_bound() {
        Bound::Included(index) => index.saturating_add(1),
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    (from, behind)
}

impl<D: Disk> RaftLogReader<Types> for LogStore<D> {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<RaftEntry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, behind) = bounds(&range);
        self.read(from, behind, usize::MAX).await
    }

    /// What is applied after a start may be all that is in the log: a bounded part of it is in
    /// memory at a time.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<RaftEntry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, behind) = bounds(&range);
        let store = self.clone();
        let parts = stream::try_unfold(from, move |from| {
            let store = store.clone();
            async move {
                let entries = store.read(from, behind, LOG_READ_BYTES_MAX).await?;
                let next = entries.last().map(|entry| entry.log_id.index() + 1);
                Ok::<_, io::Error>(
                    next.map(|next| (stream::iter(entries.into_iter().map(Ok)), next)),
                )
            }
        });
        Box::pin(parts.try_flatten())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.0.state()?.vote.map(decode_vote).transpose()
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> io::Result<Vec<RaftEntry>> {
        self.read(start, end, LOG_READ_BYTES_MAX).await
    }
}

impl<D: Disk> RaftLogStorage<Types> for LogStore<D> {
    type LogReader = LogStore<D>;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.0.state()?;
        Ok(LogState {
            last_purged_log_id: state.purged.map(log_id),
            last_log_id: state.last.map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore<D> {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        Ok(self.0.save_vote(encode_vote(vote)).await?)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        match committed {
            Some(committed) => Ok(self.0.save_committed(position(&committed))?),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.0.state()?.committed.map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries.into_iter().map(record).collect();
        let on_durable = |result: Result<(), crate::log::LogError>| {
            callback.io_completed(result.map_err(io::Error::from));
        };
        Ok(self.0.append(records, on_durable).await?)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        Ok(self.0.truncate_after(last.map(|last| last.index()))?)
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        Ok(self.0.purge(position(&upto))?)
    }
}

#[cfg(test)]
mod tests;
