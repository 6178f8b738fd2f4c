//! Snapshots as consensus and the network between members have them, over the folder's.

use std::io;

use bytes::{Bytes, BytesMut};

use super::messages::{self, SnapshotMeta};
use super::snapshots::{Receiver, SnapshotFiles};
use super::types::LogId;
use crate::log::{self, Chunks, Disk, LogError, Position, Receiving, Snapshots, Totals};

/// A whole snapshot, and how far it was read.
pub(crate) struct SnapshotData<D: Disk> {
    file: log::Snapshot<D>,
    chunks: Option<Chunks>,
}

impl<D: Disk> SnapshotData<D> {
    pub(super) fn new(file: log::Snapshot<D>) -> SnapshotData<D> {
        SnapshotData { file, chunks: None }
    }

    /// What openraft wants to know of it.
    ///
    /// # Errors
    /// It is not what was written.
    pub(super) fn meta(&self) -> io::Result<SnapshotMeta> {
        messages::decode_meta(&mut self.file.meta().meta.clone())
    }

    /// The next chunk; `None` at the end.
    ///
    /// # Errors
    /// The disk has failed, or the file is damaged.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let chunks = match &mut self.chunks {
            Some(chunks) => chunks,
            none => none.insert(self.file.chunks()?),
        };
        Ok(chunks.next().await.transpose()?)
    }

    /// What to call it in a message.
    pub(super) fn describe(&self) -> String {
        format!("{:?}", self.file)
    }
}

/// What the folder's snapshot says about itself.
pub(super) fn file_meta(meta: &SnapshotMeta) -> log::SnapshotMeta {
    let mut bytes = BytesMut::new();
    messages::encode_meta(&mut bytes, meta);
    let position = |id: LogId| Position { term: id.committed_leader_id().term, index: id.index() };
    log::SnapshotMeta { upto: meta.last_log_id.map(position), meta: bytes.freeze() }
}

/// Where snapshots to send are read, and those that come are written.
pub(super) struct Files<D: Disk>(Snapshots<D>);

impl<D: Disk> Files<D> {
    pub(super) fn new(snapshots: Snapshots<D>) -> Files<D> {
        Files(snapshots)
    }
}

impl<D: Disk> Clone for Files<D> {
    fn clone(&self) -> Files<D> {
        Files(self.0.clone())
    }
}

impl<D: Disk> SnapshotFiles for Files<D> {
    type Data = SnapshotData<D>;
    type Receiver = Incoming<D>;

    async fn next_chunk(
        &self,
        data: &mut SnapshotData<D>,
        _bytes_max: usize,
    ) -> io::Result<Option<Bytes>> {
        // A chunk of the file is at most what a message takes.
        data.next().await
    }

    async fn receive(&self, meta: &SnapshotMeta) -> io::Result<Incoming<D>> {
        let receiving = self.0.receive(file_meta(meta))?;
        Ok(Incoming { receiving, totals: Totals::default() })
    }
}

/// A snapshot that comes from another member.
pub(super) struct Incoming<D: Disk> {
    receiving: Receiving<D>,
    totals: Totals,
}

impl<D: Disk> Receiver for Incoming<D> {
    type Data = SnapshotData<D>;

    async fn push(&mut self, chunk: Bytes) -> io::Result<()> {
        self.totals.chunks += 1;
        self.totals.bytes += chunk.len() as u64;
        Ok(self.receiving.push(chunk).await?)
    }

    async fn finish(self) -> io::Result<SnapshotData<D>> {
        let file = self.receiving.finish(self.totals).await;
        Ok(SnapshotData::new(file.map_err(|error: LogError| io::Error::from(error))?))
    }
}
