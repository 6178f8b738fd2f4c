//! How a snapshot is written down. Numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8, 8..12 | magic, version |
//! | 12..16 | crc32c of the rest of the header and of the meta |
//! | 16..20 | length of the meta |
//! | 20..24 | 1 if there is a last entry |
//! | 24..32, 32..40 | its term, index |
//! | 40.. | meta, then chunks |
//!
//! A chunk is its length, the crc32c of its length and content, seeded from its ordinal, and the
//! content. The end mark is a chunk of 16 bytes, the number of chunks and their bytes, whose
//! length reads `u32::MAX`.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use crc32c::{crc32c, crc32c_append};

use super::{Snapshot, SnapshotMeta, Totals, Whole};
use crate::limits::{SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_META_BYTES_MAX};
use crate::log::disk::{Disk, DiskFile};
use crate::log::{LogError, Position};

const MAGIC: [u8; 8] = *b"SYNODSNP";
const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 40;
pub(super) const CHUNK_HEADER_BYTES: usize = 8;
pub(super) const END: u32 = u32::MAX;
pub(super) const END_BYTES: usize = 16;

pub(super) fn encode_header(meta: &SnapshotMeta) -> Vec<u8> {
    let mut out = vec![0; HEADER_BYTES];
    out[..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[16..20].copy_from_slice(&(meta.meta.len() as u32).to_le_bytes());
    if let Some(Position { term, index }) = meta.upto {
        out[20] = 1;
        out[24..32].copy_from_slice(&term.to_le_bytes());
        out[32..40].copy_from_slice(&index.to_le_bytes());
    }
    out.extend_from_slice(&meta.meta);
    let sum = crc32c(&out[16..]);
    out[12..16].copy_from_slice(&sum.to_le_bytes());
    out
}

fn chunk_sum(ordinal: u64, length: u32, content: &[u8]) -> u32 {
    let seed = crc32c(&ordinal.to_le_bytes());
    crc32c_append(crc32c_append(seed, &length.to_le_bytes()), content)
}

/// What stands before a chunk's content.
pub(super) fn chunk_header(ordinal: u64, content: &[u8]) -> [u8; CHUNK_HEADER_BYTES] {
    header(ordinal, content.len() as u32, content)
}

pub(super) fn header(ordinal: u64, length: u32, content: &[u8]) -> [u8; CHUNK_HEADER_BYTES] {
    let mut out = [0; CHUNK_HEADER_BYTES];
    out[..4].copy_from_slice(&length.to_le_bytes());
    out[4..].copy_from_slice(&chunk_sum(ordinal, length, content).to_le_bytes());
    out
}

pub(super) fn end_mark(totals: Totals) -> Vec<u8> {
    let mut content = totals.chunks.to_le_bytes().to_vec();
    content.extend_from_slice(&totals.bytes.to_le_bytes());
    let mut out = header(totals.chunks, END, &content).to_vec();
    out.extend_from_slice(&content);
    out
}

/// Goes through a snapshot's file.
pub(super) struct Reading {
    path: String,
    at: u64,
    totals: Totals,
}

impl Reading {
    fn new<D: Disk>(disk: &D, name: &str) -> Reading {
        Reading { path: disk.describe(name), at: 0, totals: Totals::default() }
    }

    /// From the first chunk on, of a file with this meta.
    pub(super) fn behind_header<D: Disk>(disk: &D, name: &str, meta: &SnapshotMeta) -> Reading {
        let at = (HEADER_BYTES + meta.meta.len()) as u64;
        Reading { at, ..Reading::new(disk, name) }
    }

    fn damaged(&self, what: impl Into<String>) -> LogError {
        LogError::Damaged { file: self.path.clone(), offset: self.at, what: what.into() }
    }

    async fn read<F: DiskFile>(
        &self,
        file: &F,
        offset: u64,
        bytes: usize,
    ) -> Result<Bytes, LogError> {
        let mut into = vec![0; bytes];
        let read = file.read_at(offset, &mut into).await;
        let read = read.map_err(LogError::io("cannot read", self.path.clone()))?;
        if read < bytes {
            return Err(self.damaged(format!("the file ends after {} bytes", offset + read as u64)));
        }
        Ok(into.into())
    }

    async fn header<F: DiskFile>(&mut self, file: &F) -> Result<SnapshotMeta, LogError> {
        let whole = self.read(file, 0, HEADER_BYTES).await?;
        let mut header = &whole[..];
        if header.copy_to_bytes(8) != MAGIC[..] {
            return Err(self.damaged("it does not begin as a snapshot does"));
        }
        let version = header.get_u32_le();
        if version != VERSION {
            let what = format!("its format is version {version}, and this is {VERSION}");
            return Err(self.damaged(what));
        }
        let (sum, length) = (header.get_u32_le(), header.get_u32_le() as usize);
        if length > SNAPSHOT_META_BYTES_MAX {
            return Err(self.damaged("the length of its meta is wrong"));
        }
        let meta = self.read(file, HEADER_BYTES as u64, length).await?;
        if crc32c_append(crc32c(&whole[16..]), &meta) != sum {
            return Err(self.damaged("the checksum of its header is wrong"));
        }
        let some = header.get_u32_le() == 1;
        let (term, index) = (header.get_u64_le(), header.get_u64_le());
        self.at = (HEADER_BYTES + length) as u64;
        Ok(SnapshotMeta { upto: some.then_some(Position { term, index }), meta })
    }

    /// The next chunk; `None` at a good end mark.
    pub(super) async fn next<F: DiskFile>(&mut self, file: &F) -> Result<Option<Bytes>, LogError> {
        let mut header = self.read(file, self.at, CHUNK_HEADER_BYTES).await?;
        let (length, sum) = (header.get_u32_le(), header.get_u32_le());
        let bytes = if length == END { END_BYTES } else { length as usize };
        if bytes > SNAPSHOT_CHUNK_BYTES_MAX {
            return Err(self.damaged("the length of a chunk is wrong"));
        }
        let content = self.read(file, self.at + CHUNK_HEADER_BYTES as u64, bytes).await?;
        if chunk_sum(self.totals.chunks, length, &content) != sum {
            return Err(self.damaged("the checksum of a chunk is wrong"));
        }
        if length == END {
            let mut end = &content[..];
            let (chunks, bytes) = (end.get_u64_le(), end.get_u64_le());
            if (Totals { chunks, bytes }) != self.totals {
                return Err(self.damaged("its end says that something else came before"));
            }
            return Ok(None);
        }
        self.totals.chunks += 1;
        self.totals.bytes += bytes as u64;
        self.at += (CHUNK_HEADER_BYTES + bytes) as u64;
        Ok(Some(content))
    }

    /// What the file's end says, without what is before it.
    async fn end<F: DiskFile>(&mut self, file: &F) -> Result<(), LogError> {
        let size = file.size().await.map_err(LogError::io("cannot read", self.path.clone()))?;
        let mark = CHUNK_HEADER_BYTES + END_BYTES;
        let Some(at) = size.checked_sub(mark as u64).filter(|at| *at >= self.at) else {
            return Err(self.damaged(format!("the file ends after {size} bytes")));
        };
        self.at = at;
        let whole = self.read(file, at, mark).await?;
        let mut content = &whole[CHUNK_HEADER_BYTES..];
        self.totals = Totals { chunks: content.get_u64_le(), bytes: content.get_u64_le() };
        if whole != end_mark(self.totals) {
            return Err(self.damaged("no end mark stands at its end"));
        }
        Ok(())
    }
}

/// Opens a snapshot and reads its header and its end, and with `through` all that is between.
pub(super) async fn open<D: Disk>(
    disk: &D,
    name: &str,
    through: bool,
) -> Result<Snapshot<D>, LogError> {
    let failed = LogError::io("cannot open", disk.describe(name));
    let file = disk.open(name).await.map_err(failed)?;
    let mut reading = Reading::new(disk, name);
    let meta = reading.header(&file).await?;
    if through {
        while reading.next(&file).await?.is_some() {}
    } else {
        reading.end(&file).await?;
    }
    let (disk, name, totals) = (disk.clone(), name.to_owned(), reading.totals);
    Ok(Snapshot(Arc::new(Whole { disk, name, file, meta, totals })))
}
