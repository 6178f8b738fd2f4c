//! Snapshots on disk: what a member starts from, and what it gives to a peer that is far behind.
//!
//! A file is a header with the caller's meta, chunks, and an end mark with their number and size.
//! Each has a crc32c; that of a chunk is seeded from its ordinal, so that none is lost, doubled or
//! out of place unnoticed. A file is `draft-…` until all of it is on disk; then it becomes
//! `snapshot-…`, and the oldest ones beyond the number to keep are removed. Who reads one that is
//! removed goes on reading.

mod draft;
mod file;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::disk::{Disk, away};
use super::{LogError, Position};
use crate::limits::{SNAPSHOT_CHUNKS_AHEAD, SNAPSHOTS_KEPT};

use draft::Draft;
pub use draft::Receiving;
use file::Reading;

const SNAPSHOT: &str = "snapshot-";
const DRAFT: &str = "draft-";

/// What a snapshot says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry in it; `None` if it holds none.
    pub upto: Option<Position>,
    /// What else the caller wants to know; not looked into. At most
    /// [`SNAPSHOT_META_BYTES_MAX`](crate::limits::SNAPSHOT_META_BYTES_MAX).
    pub meta: Bytes,
}

impl SnapshotMeta {
    /// The index of the first entry that is not in it.
    pub fn next(&self) -> u64 {
        self.upto.map_or(0, |upto| upto.index + 1)
    }
}

/// How much there is in a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Chunks.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes in {} chunks", self.bytes, self.chunks)
    }
}

/// A whole snapshot on disk. As long as it is there it can be read, even if the file's name is
/// gone meanwhile.
pub struct Snapshot<D: Disk>(Arc<Whole<D>>);

struct Whole<D: Disk> {
    disk: D,
    name: String,
    file: D::File,
    meta: SnapshotMeta,
    totals: Totals,
}

impl<D: Disk> Clone for Snapshot<D> {
    fn clone(&self) -> Snapshot<D> {
        Snapshot(Arc::clone(&self.0))
    }
}

impl<D: Disk> fmt::Debug for Snapshot<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.disk.describe(&self.0.name), self.0.totals)
    }
}

impl<D: Disk> Snapshot<D> {
    /// What it says about itself.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.0.meta
    }

    /// How much is in it.
    pub fn totals(&self) -> Totals {
        self.0.totals
    }

    /// Its chunks, from the first one on.
    ///
    /// # Errors
    /// There is no thread to read them on.
    pub fn chunks(&self) -> Result<Chunks, LogError> {
        let (give, chunks) = mpsc::channel(SNAPSHOT_CHUNKS_AHEAD);
        let Whole { disk, name, .. } = &*self.0;
        let whole = Arc::clone(&self.0);
        let reading = async move {
            let mut reading = Reading::behind_header(&whole.disk, &whole.name, &whole.meta);
            while let Some(chunk) = reading.next(&whole.file).await.transpose() {
                let last = chunk.is_err();
                // Nobody reads on if the other end is gone.
                if give.send(chunk).await.is_err() || last {
                    break;
                }
            }
        };
        disk.offload("synod-snapshot-read", reading)
            .map_err(LogError::io("no thread to read", disk.describe(name)))?;
        Ok(Chunks(chunks))
    }
}

/// The chunks of a snapshot, read ahead of who asks for them. Dropping it ends the reading.
pub struct Chunks(mpsc::Receiver<Result<Bytes, LogError>>);

impl Chunks {
    /// The next chunk; `None` behind the last one.
    ///
    /// # Cancellation
    /// None is lost.
    ///
    /// # Errors
    /// The disk has failed, or the file is damaged; nothing comes after that.
    pub async fn next(&mut self) -> Option<Result<Bytes, LogError>> {
        self.0.recv().await
    }
}

/// The snapshots of a disk, which may hold a [`Log`](super::Log) too. A clone is the same.
pub struct Snapshots<D: Disk>(Arc<Store<D>>);

impl<D: Disk> Clone for Snapshots<D> {
    fn clone(&self) -> Snapshots<D> {
        Snapshots(Arc::clone(&self.0))
    }
}

struct Store<D: Disk> {
    disk: D,
    /// The oldest first.
    kept: Mutex<Vec<Snapshot<D>>>,
    /// Names that are removed as soon as there is a new snapshot.
    damaged: Mutex<Vec<String>>,
    next_id: AtomicU64,
    /// A mistake to make: see [`Snapshots::ignore_full_disk`].
    #[cfg(feature = "testing")]
    ignores_full: std::sync::atomic::AtomicBool,
}

/// The name of a snapshot, by which the newest is found. Two of the same entries may meet.
fn snapshot_name(meta: &SnapshotMeta, id: u64) -> String {
    format!("{SNAPSHOT}{:020}-{id:010}", meta.next())
}

/// Where the entries of the snapshot with this name end, and its id.
fn order(name: &str) -> Option<(u64, u64)> {
    let (next, id) = name.strip_prefix(SNAPSHOT)?.split_once('-')?;
    Some((next.parse().ok()?, id.parse().ok()?))
}

impl<D: Disk> Snapshots<D> {
    /// Finds the snapshots of a disk, reads the newest one through, and removes what an earlier
    /// process left unfinished. `log_first` is the first entry that the log still has: what is
    /// before has to be in the snapshot.
    ///
    /// If the newest is damaged and the log goes back to the one before, that one is taken, with a
    /// warning.
    ///
    /// # Errors
    /// No snapshot that the log follows is whole, and there was one; or the disk fails.
    pub async fn open(disk: D, log_first: u64) -> Result<Snapshots<D>, LogError> {
        let failed = LogError::io("cannot read the snapshots in", disk.describe(""));
        let there = disk.clone();
        away(&disk, "synod-snapshots", async move { find(there, log_first).await })
            .await
            .map_err(failed)?
    }

    /// From now on what the disk has no room for is taken for written.
    #[cfg(feature = "testing")]
    pub(crate) fn ignore_full_disk(&self) {
        self.0.ignores_full.store(true, Relaxed);
    }

    /// The newest snapshot.
    pub fn latest(&self) -> Option<Snapshot<D>> {
        self.kept().last().cloned()
    }

    /// Writes a snapshot, on the disk's own ground: `chunks` may take its time. It is on disk and
    /// the latest when this returns, unless there is one of later entries.
    ///
    /// # Cancellation
    /// It is written all the same.
    ///
    /// # Errors
    /// The disk has failed or is full, or a chunk is larger than
    /// [`SNAPSHOT_CHUNK_BYTES_MAX`](crate::limits::SNAPSHOT_CHUNK_BYTES_MAX). Nothing is left of
    /// it, and the others are as they were.
    pub async fn write<I>(&self, meta: SnapshotMeta, chunks: I) -> Result<Snapshot<D>, LogError>
    where
        I: IntoIterator<Item = Bytes> + Send + 'static,
        I::IntoIter: Send,
    {
        let (snapshots, disk) = (self.clone(), self.0.disk.clone());
        let failed = LogError::io("cannot write a snapshot in", disk.describe(""));
        let writing = async move {
            let mut draft = Draft::begin(&snapshots, meta).await?;
            for chunk in chunks {
                if let Err(error) = draft.add(&chunk).await {
                    draft.abandon().await;
                    return Err(error);
                }
            }
            draft.finish(None).await
        };
        away(&disk, "synod-snapshot-write", writing).await.map_err(failed)?
    }

    /// Takes a snapshot from a peer in, chunk by chunk.
    ///
    /// # Errors
    /// There is no thread to write it on.
    pub fn receive(&self, meta: SnapshotMeta) -> Result<Receiving<D>, LogError> {
        Receiving::begin(self, meta)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Snapshot<D>>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self) -> u64 {
        self.0.next_id.fetch_add(1, Relaxed)
    }

    /// Adds a snapshot that is on disk, and removes what is too old.
    async fn add(&self, snapshot: Snapshot<D>) -> Result<(), LogError> {
        let gone: Vec<String> = {
            let mut kept = self.kept();
            kept.push(snapshot);
            kept.sort_by_key(|snapshot| order(&snapshot.0.name));
            let gone = kept.len().saturating_sub(SNAPSHOTS_KEPT);
            kept.drain(..gone).map(|snapshot| snapshot.0.name.clone()).collect()
        };
        let damaged =
            std::mem::take(&mut *self.0.damaged.lock().unwrap_or_else(PoisonError::into_inner));
        for name in gone.iter().chain(&damaged) {
            let failed = LogError::io("cannot remove", self.0.disk.describe(name));
            self.0.disk.remove(name).await.map_err(failed)?;
        }
        Ok(())
    }
}

async fn find<D: Disk>(disk: D, log_first: u64) -> Result<Snapshots<D>, LogError> {
    let names = disk.list().await.map_err(LogError::io("cannot list", disk.describe("")))?;
    for name in names.iter().filter(|name| name.starts_with(DRAFT)) {
        disk.remove(name).await.map_err(LogError::io("cannot remove", disk.describe(name)))?;
    }
    let mut names: Vec<_> =
        names.into_iter().filter_map(|name| Some((order(&name)?, name))).collect();
    names.sort();
    let (mut kept, mut damaged) = (Vec::new(), Vec::new());
    let mut first_error = None;
    let mut next_id = 1;
    for ((next, id), name) in names.into_iter().rev() {
        next_id = next_id.max(id + 1);
        match file::open(&disk, &name, kept.is_empty()).await {
            Ok(snapshot) if snapshot.0.meta.next() == next => kept.insert(0, snapshot),
            Ok(_) | Err(LogError::Damaged { .. }) if !kept.is_empty() => damaged.push(name),
            Ok(snapshot) => {
                let meta = snapshot.meta().next();
                let what = format!("its entries end before {meta}, and by its name before {next}");
                let file = disk.describe(&name);
                first_error.get_or_insert(LogError::Damaged { file, offset: 0, what });
                damaged.push(name);
            }
            Err(error @ LogError::Damaged { .. }) => {
                first_error.get_or_insert(error);
                damaged.push(name);
            }
            Err(error) => return Err(error),
        }
    }
    let next = kept.last().map(|snapshot| snapshot.meta().next());
    match (first_error, next) {
        (Some(error), Some(next)) if next >= log_first => tracing::error!(
            %error,
            "A SNAPSHOT IS DAMAGED: going back to an older one, whose entries end before {next}. \
             The disk may be failing"
        ),
        (Some(error), _) => return Err(error),
        (None, next) if next.unwrap_or(0) < log_first => {
            let file = disk.describe(&format!("{SNAPSHOT}{log_first:020}-…"));
            let what = match next {
                Some(next) => format!(
                    "the log begins with the entry {log_first}, and the newest snapshot ends \
                     before {next}"
                ),
                None => format!("the log begins with the entry {log_first}"),
            };
            // An unpurged log may begin with 1: openraft's entries do.
            if next.is_some() || log_first > 1 {
                return Err(LogError::Missing { file, what });
            }
        }
        (None, _) => {}
    }
    let store = Store {
        disk,
        kept: Mutex::new(kept),
        damaged: Mutex::new(damaged),
        next_id: AtomicU64::new(next_id),
        #[cfg(feature = "testing")]
        ignores_full: std::sync::atomic::AtomicBool::new(false),
    };
    Ok(Snapshots(Arc::new(store)))
}
