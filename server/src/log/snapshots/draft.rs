//! Snapshots that are being written.

use std::sync::Arc;
#[cfg(feature = "testing")]
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::file::{chunk_header, encode_header, end_mark};
use super::{DRAFT, Snapshot, SnapshotMeta, Snapshots, Totals, Whole, snapshot_name};
use crate::limits::{SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_CHUNKS_AHEAD, SNAPSHOT_META_BYTES_MAX};
use crate::log::LogError;
use crate::log::disk::{Disk, DiskFile};

/// A file that is not a snapshot yet. It is called from offloaded work.
pub(super) struct Draft<D: Disk> {
    snapshots: Snapshots<D>,
    id: u64,
    name: String,
    file: D::File,
    meta: SnapshotMeta,
    end: u64,
    totals: Totals,
}

impl<D: Disk> Draft<D> {
    pub(super) async fn begin(
        snapshots: &Snapshots<D>,
        meta: SnapshotMeta,
    ) -> Result<Draft<D>, LogError> {
        if meta.meta.len() > SNAPSHOT_META_BYTES_MAX {
            let bytes = meta.meta.len();
            return Err(LogError::Rule(format!(
                "a snapshot's meta has {bytes} bytes, and {SNAPSHOT_META_BYTES_MAX} are the most"
            )));
        }
        let (disk, id) = (&snapshots.0.disk, snapshots.id());
        let name = format!("{DRAFT}{id:010}");
        let file =
            disk.create(&name).await.map_err(LogError::io("cannot make", disk.describe(&name)))?;
        let (end, totals) = (0, Totals::default());
        let snapshots = snapshots.clone();
        let mut draft = Draft { snapshots, id, name, file, meta, end, totals };
        let header = encode_header(&draft.meta);
        match draft.put(&header).await {
            Ok(()) => Ok(draft),
            Err(error) => {
                draft.abandon().await;
                Err(error)
            }
        }
    }

    async fn put(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        let failed = LogError::io("cannot write", self.snapshots.0.disk.describe(&self.name));
        let written = self.file.write_at(self.end, bytes).await;
        #[cfg(feature = "testing")]
        let written = if self.snapshots.0.ignores_full.load(Relaxed) { Ok(()) } else { written };
        written.map_err(failed)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    pub(super) async fn add(&mut self, chunk: &[u8]) -> Result<(), LogError> {
        if chunk.len() > SNAPSHOT_CHUNK_BYTES_MAX {
            let bytes = chunk.len();
            return Err(LogError::Rule(format!(
                "a snapshot's chunk has {bytes} bytes, and {SNAPSHOT_CHUNK_BYTES_MAX} are the most"
            )));
        }
        self.put(&chunk_header(self.totals.chunks, chunk)).await?;
        self.put(chunk).await?;
        self.totals.chunks += 1;
        self.totals.bytes += chunk.len() as u64;
        Ok(())
    }

    /// Makes it a snapshot, if it came to what was expected.
    pub(super) async fn finish(
        mut self,
        expected: Option<Totals>,
    ) -> Result<Snapshot<D>, LogError> {
        match self.complete(expected).await {
            Ok(name) => {
                let Draft { snapshots, file, meta, totals, .. } = self;
                let disk = snapshots.0.disk.clone();
                let snapshot = Snapshot(Arc::new(Whole { disk, name, file, meta, totals }));
                snapshots.add(snapshot.clone()).await?;
                Ok(snapshot)
            }
            Err(error) => {
                self.abandon().await;
                Err(error)
            }
        }
    }

    async fn complete(&mut self, expected: Option<Totals>) -> Result<String, LogError> {
        if let Some(expected) = expected.filter(|expected| *expected != self.totals) {
            let came = self.totals;
            return Err(LogError::Rule(format!(
                "a snapshot of {expected} was announced, and {came} came"
            )));
        }
        self.put(&end_mark(self.totals)).await?;
        let disk = &self.snapshots.0.disk;
        let failed = |doing| LogError::io(doing, disk.describe(&self.name));
        self.file.sync().await.map_err(failed("cannot sync"))?;
        let name = snapshot_name(&self.meta, self.id);
        disk.rename(&self.name, &name).await.map_err(failed("cannot rename"))?;
        disk.sync_folder().await.map_err(failed("cannot sync the folder of"))?;
        Ok(name)
    }

    pub(super) async fn abandon(self) {
        // It may be renamed already, or the disk may be broken; what is left is removed at the
        // next start.
        if let Err(error) = self.snapshots.0.disk.remove(&self.name).await {
            tracing::debug!(%error, name = self.name, "a draft was not removed");
        }
    }
}

enum Arrival {
    Chunk(Bytes),
    End(Totals),
}

/// A snapshot that comes from a peer. If it is dropped, what has come is thrown away.
pub struct Receiving<D: Disk> {
    arrivals: mpsc::Sender<Arrival>,
    outcome: oneshot::Receiver<Result<Snapshot<D>, LogError>>,
}

impl<D: Disk> Receiving<D> {
    pub(super) fn begin(
        snapshots: &Snapshots<D>,
        meta: SnapshotMeta,
    ) -> Result<Receiving<D>, LogError> {
        let (arrivals, arrived) = mpsc::channel(SNAPSHOT_CHUNKS_AHEAD);
        let (tell, outcome) = oneshot::channel();
        let disk = &snapshots.0.disk;
        let taking = take_in(snapshots.clone(), meta, arrived);
        disk.offload("synod-snapshot-receive", async move {
            if let Some(result) = taking.await {
                // Who gave up need not be told.
                let _ = tell.send(result);
            }
        })
        .map_err(LogError::io("no thread to write a snapshot in", disk.describe("")))?;
        Ok(Receiving { arrivals, outcome })
    }

    /// Takes the next chunk; waits while earlier ones are being written.
    ///
    /// # Cancellation
    /// The chunk is not taken.
    ///
    /// # Errors
    /// As [`Snapshots::write`]. It is over then: the snapshot has to be sent again.
    pub async fn push(&mut self, chunk: Bytes) -> Result<(), LogError> {
        match self.arrivals.send(Arrival::Chunk(chunk)).await {
            Ok(()) => Ok(()),
            Err(_) => self.failure().await,
        }
    }

    /// Ends with what the sender says that there is. The snapshot is on disk when this returns.
    ///
    /// # Cancellation
    /// It becomes a snapshot or not.
    ///
    /// # Errors
    /// Something else came than `expected`; and as [`push`](Receiving::push).
    pub async fn finish(mut self, expected: Totals) -> Result<Snapshot<D>, LogError> {
        if self.arrivals.send(Arrival::End(expected)).await.is_err() {
            self.failure().await?;
        }
        self.outcome.await.unwrap_or(Err(LogError::Closed))
    }

    async fn failure(&mut self) -> Result<(), LogError> {
        match (&mut self.outcome).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Err(LogError::Closed),
        }
    }
}

/// `None` if the sender gave up.
async fn take_in<D: Disk>(
    snapshots: Snapshots<D>,
    meta: SnapshotMeta,
    mut arrived: mpsc::Receiver<Arrival>,
) -> Option<Result<Snapshot<D>, LogError>> {
    let mut draft = match Draft::begin(&snapshots, meta).await {
        Ok(draft) => draft,
        Err(error) => return Some(Err(error)),
    };
    loop {
        match arrived.recv().await {
            Some(Arrival::Chunk(chunk)) => {
                if let Err(error) = draft.add(&chunk).await {
                    draft.abandon().await;
                    return Some(Err(error));
                }
            }
            Some(Arrival::End(expected)) => return Some(draft.finish(Some(expected)).await),
            None => {
                draft.abandon().await;
                return None;
            }
        }
    }
}
