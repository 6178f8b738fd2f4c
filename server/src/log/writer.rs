//! The one that writes: it drains the queue into one write and one fdatasync, then tells who
//! waits. It runs offloaded, so it may block.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::disk::{Disk, DiskFile, Job};
use super::format::{Batch, Kind, encode, record_size};
use super::segments::{Segment, Spare, begin, bytes_for, covers, spare_name};
use super::shared::{Op, Shared};
use super::span::Ledger;
use super::{Bug, LogConfig, LogError, Position};

const NOWHERE: Position = Position { term: 0, index: 0 };

/// What a batch changes in the index, once it is on disk.
enum Edit {
    Entry { index: u64, offset: u64, size: usize },
    Truncate(u64),
    Purge,
}

/// A spare file that is being made.
struct Coming<D: Disk> {
    job: Job,
    made: oneshot::Receiver<Result<Spare<D>, LogError>>,
}

pub(super) struct Writer<D: Disk> {
    pub(super) disk: D,
    pub(super) config: LogConfig,
    pub(super) shared: Arc<Shared<D>>,
    pub(super) segment: Segment<D>,
    /// Where the next batch begins.
    pub(super) end: u64,
    /// The number of the next batch in this segment.
    pub(super) batch: u64,
    /// What is on disk and in `buffer` comes to this.
    pub(super) ledger: Ledger,
    pub(super) spares: VecDeque<Spare<D>>,
    /// The number of the next spare file: never one that a file has had.
    pub(super) next_spare: u64,
    pub(super) work: Work<D>,
}

/// What the writer has in hand.
pub(super) struct Work<D: Disk> {
    coming: Option<Coming<D>>,
    buffer: Vec<u8>,
    edits: Vec<Edit>,
}

impl<D: Disk> Default for Work<D> {
    fn default() -> Work<D> {
        Work { coming: None, buffer: Vec::new(), edits: Vec::new() }
    }
}

/// Without a writer nothing is ever on disk: nobody may wait for it.
struct Guard<D: Disk>(Arc<Shared<D>>);

impl<D: Disk> Drop for Guard<D> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(&LogError::Rule("the log's writer has panicked".to_owned()));
        }
    }
}

impl<D: Disk> Writer<D> {
    /// Writes until the log has ended and the queue is empty, or the disk fails.
    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _guard = Guard(Arc::clone(&shared));
        while let Some(mut ops) = shared.take(self.config.batch_bytes_max).await {
            let written = self.write(&mut ops).await;
            if let Err(error) = &written {
                // First of all, so that whoever hears of it can do nothing more.
                shared.fail(error);
                tracing::error!(%error, "the log has failed, and takes nothing more");
            }
            shared.complete(ops, &written);
            if written.is_err() {
                break;
            }
        }
        if let Err(error) = self.finish().await {
            tracing::warn!(%error, "the log's last word was not written");
        }
    }

    /// Writes how far entries were committed, which waits for others' writes otherwise.
    async fn finish(mut self) -> Result<(), LogError> {
        if let Some(coming) = self.work.coming.take() {
            coming.job.join().await;
        }
        // `Closed` is the end that was asked for; after any other nothing is written.
        if matches!(self.shared.lock().ended, Some(LogError::Closed)) {
            self.put_committed().await?;
            self.flush().await?;
        }
        Ok(())
    }

    async fn write(&mut self, ops: &mut VecDeque<Op>) -> Result<(), LogError> {
        if self.config.planted(Bug::AckBeforeSync) {
            self.lie(ops);
        }
        // Not `iter`: what is to be called is `Send`, and need not be `Sync`.
        for op in ops.iter_mut() {
            match op {
                Op::Append { records, .. } => {
                    for record in records.iter() {
                        self.put(Kind::Entry, record.position, &record.payload).await?;
                    }
                }
                Op::Vote(vote, _) => self.put(Kind::Vote, NOWHERE, vote).await?,
                Op::Truncate(_) if self.config.planted(Bug::ResurrectedTruncation) => {}
                Op::Truncate(index) => {
                    self.put(Kind::Truncation, Position { term: 0, index: *index }, &[]).await?;
                }
                Op::Purge(upto) => self.put(Kind::Purge, *upto, &[]).await?,
                Op::Flush(_) => {}
            }
        }
        self.put_committed().await?;
        self.flush().await?;
        self.free().await?;
        self.prepare();
        Ok(())
    }

    /// A bug of a test: what is about to be written is said to be on disk.
    fn lie(&self, ops: &mut VecDeque<Op>) {
        for op in ops.iter_mut() {
            match op {
                Op::Append { on_durable, .. } => {
                    std::mem::replace(on_durable, Box::new(|_| {}))(Ok(()));
                }
                Op::Vote(_, waiting) | Op::Flush(waiting) => {
                    let (nobody, _) = oneshot::channel();
                    let _ = std::mem::replace(waiting, nobody).send(Ok(()));
                }
                Op::Truncate(_) | Op::Purge(_) => {}
            }
        }
    }

    /// Adds a record to the batch.
    async fn put(&mut self, kind: Kind, at: Position, payload: &[u8]) -> Result<(), LogError> {
        let size = record_size(payload.len());
        if self.work.buffer.len() >= self.config.batch_bytes_max {
            self.flush().await?;
        }
        if self.end + (self.work.buffer.len() + size) as u64 > self.segment.room() {
            self.flush().await?;
            self.roll(size).await?;
        }
        let batch = Batch { number: self.batch, start: self.end as u32 };
        let offset = self.end + self.work.buffer.len() as u64;
        encode(&mut self.work.buffer, self.segment.seed, batch, kind, at, payload);
        if kind == Kind::Entry && self.config.planted(Bug::ResurrectedTruncation) {
            self.ledger.span.truncate(at.index);
            self.work.edits.push(Edit::Truncate(at.index));
        }
        self.ledger.add(kind, at, payload).map_err(LogError::Rule)?;
        match kind {
            Kind::Entry => self.work.edits.push(Edit::Entry { index: at.index, offset, size }),
            Kind::Truncation => self.work.edits.push(Edit::Truncate(at.index)),
            Kind::Purge => self.work.edits.push(Edit::Purge),
            Kind::Vote | Kind::Committed | Kind::Seal => {}
        }
        Ok(())
    }

    async fn put_committed(&mut self) -> Result<(), LogError> {
        let committed = self.shared.lock().committed;
        let span = &self.ledger.span;
        match committed.filter(|committed| self.ledger.committed != Some(*committed)) {
            // Behind the very entry that it speaks of, so that a torn tail takes both away. Until
            // that is written, another may have its index.
            Some(committed)
                if span.position(committed.index) == Some(committed)
                    || span.purged() >= Some(committed) =>
            {
                self.put(Kind::Committed, committed, &[]).await
            }
            _ => Ok(()),
        }
    }

    /// Writes the batch, and returns when it is on disk.
    async fn flush(&mut self) -> Result<(), LogError> {
        if self.work.buffer.is_empty() {
            return Ok(());
        }
        let (disk, name) = (&self.disk, &self.segment.name);
        // The name is made only when it is needed: this is the way of every batch.
        let failed = |doing| move |error| LogError::io(doing, disk.describe(name))(error);
        let file = &self.segment.file;
        file.write_at(self.end, &self.work.buffer).await.map_err(failed("cannot write"))?;
        if !self.config.planted(Bug::SkipSync) {
            let synced = file.sync().await.map_err(failed("cannot sync"));
            if !self.config.planted(Bug::IgnoreSyncError) {
                synced?;
            }
        }
        {
            let mut state = self.shared.lock();
            for edit in self.work.edits.drain(..) {
                match edit {
                    Edit::Entry { index, offset, size } => {
                        state.runs.append(index, self.segment.id, offset, size);
                    }
                    Edit::Truncate(from) => state.runs.truncate(from),
                    Edit::Purge => state.runs.purge(self.ledger.span.first()),
                }
            }
            if self.ledger.span.is_empty() {
                state.runs.truncate(0);
            }
        }
        self.end += self.work.buffer.len() as u64;
        self.batch += 1;
        self.work.buffer.clear();
        // One large batch is no reason to keep that much memory.
        self.work.buffer.shrink_to(self.config.batch_bytes_max);
        Ok(())
    }

    /// Goes on in the next segment, which has room for a record of this size.
    async fn roll(&mut self, record_bytes: usize) -> Result<(), LogError> {
        let id = self.segment.id + 1;
        let bytes = bytes_for(&self.ledger, record_bytes, &self.config);
        let spare = if bytes == self.config.segment_bytes {
            self.spare().await?
        } else {
            let number = self.spare_number();
            Spare::make(&self.disk, number, bytes).await?
        };
        let next =
            begin(&self.disk, &self.config, spare, (id, bytes), self.end, &self.ledger).await?;

        // Nothing that the new segment is trusted with is acknowledged before this is on disk, so
        // that its absence would be noticed.
        let batch = Batch { number: self.batch, start: self.end as u32 };
        let mut seal = Vec::new();
        let at = Position { term: 0, index: id };
        encode(&mut seal, self.segment.seed, batch, Kind::Seal, at, &[]);
        let failed = |doing| LogError::io(doing, self.disk.describe(&self.segment.name));
        let file = &self.segment.file;
        file.write_at(self.end, &seal).await.map_err(failed("cannot write"))?;
        file.sync().await.map_err(failed("cannot sync"))?;

        (self.segment, self.end) = next;
        // The first one is what the segment begins with.
        self.batch = 2;
        self.shared.lock().segments.push_back(self.segment.clone());
        Ok(())
    }

    /// A file for the next segment: one that is there, or the one that is being made, or a new one.
    async fn spare(&mut self) -> Result<Spare<D>, LogError> {
        if let Some(coming) = self.work.coming.take() {
            let made = coming.made.await;
            coming.job.join().await;
            if let Ok(Ok(spare)) = made {
                self.spares.push_back(spare);
            }
        }
        match self.spares.pop_front() {
            Some(spare) => Ok(spare),
            None => {
                let number = self.spare_number();
                Spare::make(&self.disk, number, self.config.segment_bytes).await
            }
        }
    }

    fn spare_number(&mut self) -> u64 {
        self.next_spare += 1;
        self.next_spare - 1
    }

    /// Has the file of the next segment made while this one is being filled, so that nobody waits
    /// for it, and a full disk shows early.
    fn prepare(&mut self) {
        let half_full = self.end > self.segment.bytes / 2;
        if !half_full || self.work.coming.is_some() || !self.spares.is_empty() {
            return;
        }
        let number = self.spare_number();
        let (disk, bytes) = (self.disk.clone(), self.config.segment_bytes);
        let (give, made) = oneshot::channel();
        let job = self.disk.offload("synod-log-ahead", async move {
            let spare = Spare::make(&disk, number, bytes).await;
            if let Err(error) = &spare {
                tracing::warn!(%error, "no room for the log's next segment: it will soon stop");
            }
            // The writer may have ended meanwhile; the file is found again at the next start.
            let _ = give.send(spare);
        });
        match job {
            Ok(job) => self.work.coming = Some(Coming { job, made }),
            Err(error) => tracing::warn!(%error, "no thread to make the log's next segment"),
        }
    }

    /// Recycles or removes the segments that nothing needs any more. That they are not needed is
    /// on disk by now.
    async fn free(&mut self) -> Result<(), LogError> {
        let purged = self.ledger.span.purged();
        let mut freed = Vec::new();
        {
            let mut state = self.shared.lock();
            while state.segments.get(1).is_some_and(|next| covers(purged, next.base)) {
                freed.extend(state.segments.pop_front());
            }
        }
        if freed.is_empty() {
            return Ok(());
        }
        for Segment { name, bytes, file, .. } in freed {
            let spare = spare_name(self.spare_number());
            let failed = |doing| LogError::io(doing, self.disk.describe(&name));
            // Who still reads it goes on with the file as it is.
            match Arc::try_unwrap(file) {
                Ok(file)
                    if bytes == self.config.segment_bytes
                        && self.spares.len() < self.config.spare_segments_max =>
                {
                    self.disk.rename(&name, &spare).await.map_err(failed("cannot rename"))?;
                    self.spares.push_back(Spare { name: spare, file });
                }
                _ => self.disk.remove(&name).await.map_err(failed("cannot remove"))?,
            }
        }
        // Before anything is written into the files that have changed their names.
        let failed = LogError::io("cannot sync the folder of", self.disk.describe(&spare_name(0)));
        self.disk.sync_folder().await.map_err(failed)
    }
}
