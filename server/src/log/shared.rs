//! What callers and the writer share.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::disk::Disk;
use super::format::record_size;
use super::segments::Segment;
use super::span::{Runs, Span};
use super::{Bug, LogConfig, LogError, Position, Record};

/// Called when what was queued is on disk, or never will be.
pub(super) type OnDurable = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// What is to be written.
pub(super) enum Op {
    Append {
        records: Vec<Record>,
        /// See [`State::epoch`].
        epoch: u64,
        on_durable: OnDurable,
    },
    Vote(Bytes, oneshot::Sender<Result<(), LogError>>),
    /// From this index on.
    Truncate(u64),
    Purge(Position),
    /// Nothing, but tell when all before is on disk.
    Flush(oneshot::Sender<Result<(), LogError>>),
}

impl Op {
    pub(super) fn bytes(&self) -> usize {
        match self {
            // Even nothing takes its place in the queue.
            Op::Append { records, .. } => bytes_of(records).max(record_size(0)),
            _ => 0,
        }
    }
}

/// What entries take in the queue and in memory.
pub(super) fn bytes_of(records: &[Record]) -> usize {
    records.iter().map(|record| record_size(record.payload.len())).sum()
}

/// The log as its callers see it: everything that was called for is done here at once, and on
/// disk later.
pub(super) struct State<D: Disk> {
    pub(super) span: Span,
    /// The one that is on disk.
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Position>,
    /// The last entries, without a gap up to the end of `span`.
    pub(super) cache: VecDeque<Record>,
    cache_bytes: usize,
    /// Entries from this index on are not on disk, and so not dropped from `cache`.
    unsynced_from: u64,
    /// Counts how often entries were taken back: that an entry has come to disk says nothing of
    /// one that has its index since.
    pub(super) epoch: u64,
    pub(super) queue: VecDeque<Op>,
    pub(super) segments: VecDeque<Segment<D>>,
    /// Where the entries that are on disk stand. It lags behind `span`, but not for entries that
    /// are no longer in `cache`.
    pub(super) runs: Runs,
    /// Why nothing more is done.
    pub(super) ended: Option<LogError>,
}

pub(super) struct Shared<D: Disk> {
    state: Mutex<State<D>>,
    /// Something is in the queue, or the end has come.
    pub(super) wake: Notify,
    /// Bytes that may still be queued.
    pub(super) room: Semaphore,
    cache_bytes_max: usize,
    /// See [`Bug::EvictsUnsynced`].
    evicts_unsynced: bool,
}

impl<D: Disk> Shared<D> {
    pub(super) fn new(
        config: &LogConfig,
        span: Span,
        (vote, committed): (Option<Bytes>, Option<Position>),
        segments: VecDeque<Segment<D>>,
        runs: Runs,
    ) -> Shared<D> {
        let state = State {
            unsynced_from: span.next(),
            span,
            vote,
            committed,
            cache: VecDeque::new(),
            cache_bytes: 0,
            epoch: 0,
            queue: VecDeque::new(),
            segments,
            runs,
            ended: None,
        };
        Shared {
            state: Mutex::new(state),
            wake: Notify::new(),
            room: Semaphore::new(config.queue_bytes_max.min(u32::MAX as usize)),
            cache_bytes_max: config.cache_bytes_max,
            evicts_unsynced: config.planted(Bug::EvictsUnsynced),
        }
    }

    /// Never held across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, unless the log has ended.
    pub(super) fn open(&self) -> Result<MutexGuard<'_, State<D>>, LogError> {
        let state = self.lock();
        match &state.ended {
            None => Ok(state),
            Some(error) => Err(error.clone()),
        }
    }

    /// From now on every call gets `error`. What is queued stays: the writer drains it, or
    /// [`fail`](Shared::fail)s it.
    pub(super) fn end(&self, error: LogError) {
        self.lock().ended.get_or_insert(error);
        // Who waits for room is woken.
        self.room.close();
        self.wake.notify_one();
    }

    /// The disk has failed: nothing is ever written again.
    pub(super) fn fail(&self, error: &LogError) {
        self.lock().ended = Some(error.clone());
        self.end(error.clone());
        let queued = std::mem::take(&mut self.lock().queue);
        self.complete(queued, &Err(error.clone()));
    }

    /// What to write next, at most about `bytes_max`; `None` when there is nothing and never will
    /// be.
    pub(super) async fn take(&self, bytes_max: usize) -> Option<VecDeque<Op>> {
        loop {
            {
                let mut state = self.lock();
                let mut bytes = 0;
                let count = state.queue.iter().take_while(|op| {
                    let fits = bytes < bytes_max;
                    bytes += op.bytes();
                    fits
                });
                let count = count.count();
                if count > 0 {
                    return Some(state.queue.drain(..count).collect());
                }
                if state.ended.is_some() {
                    return None;
                }
            }
            self.wake.notified().await;
        }
    }

    /// Tells who waits.
    pub(super) fn complete(&self, ops: VecDeque<Op>, result: &Result<(), LogError>) {
        let mut bytes = 0;
        {
            let mut state = self.lock();
            for op in &ops {
                bytes += op.bytes();
                match op {
                    Op::Append { records, epoch, .. } if result.is_ok() => {
                        if let Some(last) = records.last()
                            && *epoch == state.epoch
                        {
                            state.unsynced_from = last.position.index + 1;
                        }
                    }
                    Op::Vote(vote, _) if result.is_ok() => state.vote = Some(vote.clone()),
                    _ => {}
                }
            }
            let synced = state.unsynced_from;
            let upto = if self.evicts_unsynced { u64::MAX } else { synced };
            state.evict(self.cache_bytes_max, upto);
        }
        self.room.add_permits(bytes);
        for op in ops {
            match op {
                Op::Append { on_durable, .. } => on_durable(result.clone()),
                Op::Vote(_, waiting) | Op::Flush(waiting) => {
                    // The caller may have been cancelled.
                    let _ = waiting.send(result.clone());
                }
                Op::Truncate(_) | Op::Purge(_) => {}
            }
        }
    }
}

impl<D: Disk> State<D> {
    /// The index of the first entry in `cache`.
    pub(super) fn cache_first(&self) -> u64 {
        self.span.next() - self.cache.len() as u64
    }

    pub(super) fn remember(&mut self, records: &[Record]) {
        self.cache_bytes += bytes_of(records);
        self.cache.extend(records.iter().cloned());
    }

    pub(super) fn truncate(&mut self, from: u64) {
        let next = self.span.next();
        self.span.truncate(from);
        for _ in self.span.next()..next {
            self.cache_bytes -= self.cache.pop_back().map_or(0, |record| size(&record));
        }
        self.unsynced_from = self.unsynced_from.min(self.span.next());
        self.epoch += 1;
    }

    pub(super) fn purge(&mut self, upto: Position) {
        let next = self.span.next();
        self.span.purge(upto);
        while self.cache.front().is_some_and(|record| record.position.index < self.span.first()) {
            self.cache_bytes -= self.cache.pop_front().map_or(0, |record| size(&record));
        }
        if self.span.next() > next {
            // None of the entries that are queued is left.
            self.unsynced_from = self.span.next();
            self.epoch += 1;
        }
        self.unsynced_from = self.unsynced_from.max(self.span.first());
    }

    /// Forgets the oldest entries before `upto` until the others take so few bytes.
    fn evict(&mut self, bytes_max: usize, upto: u64) {
        while self.cache_bytes > bytes_max
            && let Some(record) = self.cache.front()
            && record.position.index < upto
        {
            self.cache_bytes -= size(record);
            self.cache.pop_front();
        }
    }
}

fn size(record: &Record) -> usize {
    record_size(record.payload.len())
}
