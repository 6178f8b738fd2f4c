//! What others call.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::disk::{Disk, Job, away};
use super::reader::{Ask, Plan, add_cached, serve};
use super::recover::{Found, Recovery, recover};
use super::shared::{Op, Shared};
use super::writer::{Work, Writer};
use super::{LogConfig, LogError, Position, Record};
use crate::limits::{LOG_PAYLOAD_BYTES_MAX, LOG_READS_MAX, LOG_VOTE_BYTES_MAX};

/// What there is in a log, the last calls included, whether they are on disk yet or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// The purge point: it and what is before it are gone.
    pub purged: Option<Position>,
    /// The first entry's index; [`next`](LogState::next) if there is none.
    pub first: u64,
    /// The index behind the last entry's.
    pub next: u64,
    /// The last entry; the purge point if there is none.
    pub last: Option<Position>,
    /// How far entries are known to be committed.
    pub committed: Option<Position>,
    /// The vote. Unlike the rest, it is on disk.
    pub vote: Option<Bytes>,
}

/// A log on a disk. A clone is the same log.
///
/// After an error of the disk every call returns that error: see [`LogError::Io`]. When the last
/// clone is dropped, what is queued is still written; [`shutdown`](Log::shutdown) waits for that.
pub struct Log<D: Disk>(Arc<Owner<D>>);

impl<D: Disk> Clone for Log<D> {
    fn clone(&self) -> Log<D> {
        Log(Arc::clone(&self.0))
    }
}

struct Owner<D: Disk> {
    shared: Arc<Shared<D>>,
    queue_bytes_max: usize,
    running: Mutex<Running<D>>,
}

struct Running<D: Disk> {
    /// `None` after the shutdown: the reader ends with it.
    asks: Option<mpsc::Sender<Ask<D>>>,
    jobs: Vec<Job>,
}

impl<D: Disk> Drop for Owner<D> {
    fn drop(&mut self) {
        self.shared.end(LogError::Closed);
    }
}

fn does_not_follow((index, next): (u64, u64)) -> LogError {
    LogError::Rule(format!("the entry {index} was appended where {next} is next"))
}

impl<D: Disk> Log<D> {
    /// Opens the log on a disk, and makes one if there is none. The end of what a power loss left
    /// half written is cut off; all that is found is on disk when this returns.
    ///
    /// # Errors
    /// The disk fails, or what is there is [damaged](LogError::Damaged).
    pub async fn open(disk: D, config: LogConfig) -> Result<(Log<D>, Recovery), LogError> {
        let config = config.rounded();
        let found = {
            let (disk_there, config) = (disk.clone(), config.clone());
            let failed = LogError::io("cannot read the log in", disk.describe(""));
            away(&disk, "synod-log-open", async move { recover(&disk_there, &config).await })
                .await
                .map_err(failed)??
        };
        let Found { segments, segment, end, batch, ledger, runs, spares, next_spare, recovery } =
            found;
        let shared = Arc::new(Shared::new(
            &config,
            ledger.span.clone(),
            (ledger.vote.clone(), ledger.committed),
            segments,
            runs,
        ));
        let (asks, asked) = mpsc::channel(LOG_READS_MAX);
        let queue_bytes_max = config.queue_bytes_max.min(u32::MAX as usize);
        let writer = Writer {
            disk: disk.clone(),
            config,
            shared: Arc::clone(&shared),
            segment,
            end,
            batch,
            ledger,
            spares,
            next_spare,
            work: Work::default(),
        };
        let failed = |error| LogError::io("no thread for", disk.describe(""))(error);
        let jobs = vec![
            disk.offload("synod-log-writer", writer.run()).map_err(failed)?,
            disk.offload("synod-log-reader", serve(disk.clone(), asked)).map_err(failed)?,
        ];
        let running = Mutex::new(Running { asks: Some(asks), jobs });
        Ok((Log(Arc::new(Owner { shared, queue_bytes_max, running })), recovery))
    }

    /// Appends entries, which follow each other and the last one; on an empty log that was never
    /// purged they begin anywhere. They can be read when this returns. `on_durable` is called, on
    /// the writer's thread, when they and all before are on disk or when that has failed. It waits
    /// while too much is queued.
    ///
    /// # Cancellation
    /// Nothing is appended if the call is dropped while it waits.
    ///
    /// # Errors
    /// The log has ended, or the entries do not follow. Then `on_durable` is dropped uncalled.
    pub async fn append(
        &self,
        records: Vec<Record>,
        on_durable: impl FnOnce(Result<(), LogError>) + Send + 'static,
    ) -> Result<(), LogError> {
        let shared = &self.0.shared;
        if let Some(large) = records.iter().find(|r| r.payload.len() > LOG_PAYLOAD_BYTES_MAX) {
            return Err(LogError::Rule(format!(
                "the entry {} has {} bytes, and {LOG_PAYLOAD_BYTES_MAX} are the most",
                large.position.index,
                large.payload.len()
            )));
        }
        let mut op = Op::Append { records, epoch: 0, on_durable: Box::new(on_durable) };
        let bytes = op.bytes().min(self.0.queue_bytes_max) as u32;
        let Ok(room) = shared.room.acquire_many(bytes).await else {
            return Err(shared.open().err().unwrap_or(LogError::Closed));
        };
        let mut state = shared.open()?;
        if let Op::Append { records, epoch, .. } = &mut op {
            // All of them first: one that does not follow must leave no trace of the others.
            let indexes = records.iter().map(|record| record.position.index);
            state.span.check(indexes).map_err(does_not_follow)?;
            for record in records.iter() {
                let index = record.position.index;
                state
                    .span
                    .append(record.position)
                    .map_err(|next| does_not_follow((index, next)))?;
            }
            state.remember(records);
            *epoch = state.epoch;
        }
        state.queue.push_back(op);
        drop(state);
        // It is given back when they are on disk.
        room.forget();
        shared.wake.notify_one();
        Ok(())
    }

    /// Removes the entries behind `index`, all of them if it is `None`, but none before the purge
    /// point. It is ordered before later calls, and on disk before anything later is.
    ///
    /// # Errors
    /// The log has ended.
    pub fn truncate_after(&self, index: Option<u64>) -> Result<(), LogError> {
        let from = index.map_or(0, |index| index.saturating_add(1));
        let mut state = self.0.shared.open()?;
        if from >= state.span.next() || state.span.is_empty() {
            return Ok(());
        }
        state.truncate(from);
        state.queue.push_back(Op::Truncate(from));
        drop(state);
        self.0.shared.wake.notify_one();
        Ok(())
    }

    /// Removes the entries up to `upto`, which may be behind the last one: then the next entry is
    /// the one behind `upto`. Segments that hold nothing else are recycled once this is on disk.
    ///
    /// # Errors
    /// The log has ended.
    pub fn purge(&self, upto: Position) -> Result<(), LogError> {
        let mut state = self.0.shared.open()?;
        if state.span.purged().is_some_and(|purged| purged.index >= upto.index) {
            return Ok(());
        }
        state.purge(upto);
        // One is enough.
        if matches!(state.queue.back(), Some(Op::Purge(_))) {
            state.queue.pop_back();
        }
        state.queue.push_back(Op::Purge(upto));
        drop(state);
        self.0.shared.wake.notify_one();
        Ok(())
    }

    /// Up to which entry the log has to go so that its segments come to at most `bytes_max`; `None` if
    /// they do already. The newest one counts as needed.
    ///
    /// # Errors
    /// The log has ended.
    pub(crate) fn surplus(&self, bytes_max: u64) -> Result<Option<u64>, LogError> {
        let state = self.0.shared.open()?;
        let mut bytes = 0;
        let fitting = state.segments.iter().rev().take_while(|segment| {
            bytes += segment.bytes;
            bytes <= bytes_max
        });
        let too_many = state.segments.len().saturating_sub(fitting.count().max(1));
        let first_kept = state.segments.get(too_many).filter(|_| too_many > 0);
        Ok(first_kept.and_then(|segment| segment.base).map(|base| base.index))
    }

    /// Keeps a vote, in the place of the one before; it is on disk when this returns.
    ///
    /// # Cancellation
    /// It may be kept or not.
    ///
    /// # Errors
    /// The log has ended, or it is larger than [`LOG_VOTE_BYTES_MAX`].
    pub async fn save_vote(&self, vote: Bytes) -> Result<(), LogError> {
        if vote.len() > LOG_VOTE_BYTES_MAX {
            let bytes = vote.len();
            return Err(LogError::Rule(format!(
                "the vote has {bytes} bytes, and {LOG_VOTE_BYTES_MAX} are the most"
            )));
        }
        self.queue_and_wait(|done| Op::Vote(vote, done)).await
    }

    /// Waits until all that was called for before is on disk.
    ///
    /// # Errors
    /// The log has ended.
    pub async fn flush(&self) -> Result<(), LogError> {
        self.queue_and_wait(Op::Flush).await
    }

    async fn queue_and_wait(
        &self,
        op: impl FnOnce(oneshot::Sender<Result<(), LogError>>) -> Op,
    ) -> Result<(), LogError> {
        let (done, waiting) = oneshot::channel();
        self.0.shared.open()?.queue.push_back(op(done));
        self.0.shared.wake.notify_one();
        waiting.await.unwrap_or(Err(LogError::Closed))
    }

    /// Notes how far entries are committed. It is written together with what is written next, or
    /// at the shutdown: it has no fdatasync of its own.
    ///
    /// # Errors
    /// The log has ended.
    pub fn save_committed(&self, committed: Position) -> Result<(), LogError> {
        self.0.shared.open()?.committed = Some(committed);
        Ok(())
    }

    /// What there is.
    ///
    /// # Errors
    /// The log has ended.
    pub fn state(&self) -> Result<LogState, LogError> {
        let state = self.0.shared.open()?;
        Ok(LogState {
            purged: state.span.purged(),
            first: state.span.first(),
            next: state.span.next(),
            last: state.span.last(),
            committed: state.committed,
            vote: state.vote.clone(),
        })
    }

    /// Reads entries in order, as they are when this is called: those of `range` that there are,
    /// but only the first ones if they take more than `bytes_max` in the log; one is always read.
    ///
    /// # Errors
    /// The log has ended, or what was written is not there any more.
    pub async fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<Record>, LogError> {
        let (plan, cached) = {
            let state = self.0.shared.open()?;
            let (from, behind) =
                (range.start.max(state.span.first()), range.end.min(state.span.next()));
            if from >= behind {
                return Ok(Vec::new());
            }
            let cache_first = state.cache_first();
            let plan = Plan::new(&state, from, behind.min(cache_first), bytes_max);
            let cached = behind.saturating_sub(cache_first.max(from)) as usize;
            let mut records = Vec::new();
            if cached > 0 {
                let skipped = from.saturating_sub(cache_first) as usize;
                let cached = state.cache.range(skipped..skipped + cached).cloned();
                add_cached(&mut records, cached, bytes_max);
            }
            (plan, records)
        };
        if plan.is_empty() {
            return Ok(cached);
        }
        let asks = self.running(|running| running.asks.clone()).ok_or(LogError::Closed)?;
        let (answer, answered) = oneshot::channel();
        asks.send(Ask { plan, answer }).await.map_err(|_| LogError::Closed)?;
        let mut records = answered.await.unwrap_or(Err(LogError::Closed))?;
        let follows =
            |last: &Record, first: &Record| last.position.index + 1 == first.position.index;
        if let (Some(last), Some(first)) = (records.last(), cached.first())
            && follows(last, first)
        {
            add_cached(&mut records, cached, bytes_max);
        }
        Ok(records)
    }

    /// Writes what is queued and ends. Every later call returns [`LogError::Closed`].
    ///
    /// # Cancellation
    /// It ends all the same, and nobody waits for it.
    ///
    /// # Errors
    /// The disk has failed, now or earlier: what was not acknowledged may not be on disk.
    pub async fn shutdown(&self) -> Result<(), LogError> {
        self.0.shared.end(LogError::Closed);
        let jobs = self.running(|running| {
            running.asks = None;
            std::mem::take(&mut running.jobs)
        });
        let mut whole = true;
        for job in jobs {
            whole &= job.join().await;
        }
        match self.0.shared.open() {
            Err(LogError::Closed) | Ok(_) if whole => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(LogError::Closed),
        }
    }

    fn running<T>(&self, with: impl FnOnce(&mut Running<D>) -> T) -> T {
        with(&mut self.0.running.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
