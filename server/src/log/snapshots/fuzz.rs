//! A snapshot read from whatever bytes: what the fuzz target `snapshot` does.

use bytes::{Buf, Bytes};
use crc32c::crc32c;
use synod_core::engine::{Engine, Restore, RestoreError};

use super::file::{self, CHUNK_HEADER_BYTES, END, END_BYTES, HEADER_BYTES, Reading};
use super::{SnapshotMeta, Totals};
use crate::limits::{SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_META_BYTES_MAX};
use crate::log::fuzz::put;
use crate::log::sim::SimDisk;

const NAME: &str = "snapshot-00000000000000000001-0000000001";

/// Where the digest stands in what is written of an engine: behind magic, format and last zxid.
const DIGEST_AT: usize = 17;

// The first byte of the input. Without either, what follows is the file as it is.
const MENDED: u8 = 1;
const ENGINE: u8 = 2;

/// Makes the sums right, as far as there is a header and there are chunks.
fn mend(file: &mut [u8]) {
    let length = |from: &[u8]| (&from[..4]).get_u32_le() as usize;
    let Some(meta_bytes) = file.get(16..HEADER_BYTES).map(length) else { return };
    let mut at = HEADER_BYTES.saturating_add(meta_bytes.min(SNAPSHOT_META_BYTES_MAX));
    let Some(header) = file.get(16..at) else { return };
    let sum = crc32c(header);
    file[12..16].copy_from_slice(&sum.to_le_bytes());
    for ordinal in 0.. {
        let Some(length) = file.get(at..at + CHUNK_HEADER_BYTES).map(length) else { return };
        let bytes = if length == END as usize { END_BYTES } else { length };
        let start = at + CHUNK_HEADER_BYTES;
        if bytes > SNAPSHOT_CHUNK_BYTES_MAX {
            return;
        }
        let Some(content) = file.get(start..start + bytes) else { return };
        let header = file::header(ordinal, length as u32, content);
        file[at..start].copy_from_slice(&header);
        at = start + bytes;
    }
}

/// Its meta and its chunks, if it is a whole snapshot. It is the same whether all of it is read or
/// its ends only.
async fn open(content: &[u8]) -> Option<(SnapshotMeta, Vec<Bytes>)> {
    let disk = SimDisk::new(1);
    put(&disk, NAME, content).await;
    let snapshot = file::open(&disk, NAME, true).await.ok()?;
    let mut reading = Reading::behind_header(&disk, NAME, snapshot.meta());
    let mut chunks = Vec::new();
    while let Some(chunk) = reading.next(&snapshot.0.file).await.expect("it was read before") {
        chunks.push(chunk);
    }
    let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
    assert_eq!(snapshot.totals(), Totals { chunks: chunks.len() as u64, bytes });
    Some((snapshot.meta().clone(), chunks))
}

fn write(meta: &SnapshotMeta, chunks: &[Bytes]) -> Vec<u8> {
    let mut out = file::encode_header(meta);
    let mut totals = Totals::default();
    for chunk in chunks {
        out.extend_from_slice(&file::chunk_header(totals.chunks, chunk));
        out.extend_from_slice(chunk);
        totals.chunks += 1;
        totals.bytes += chunk.len() as u64;
    }
    out.extend_from_slice(&file::end_mark(totals));
    out
}

fn restored<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Result<Engine, RestoreError> {
    let mut restore = Restore::new();
    for chunk in chunks {
        restore.feed(chunk)?;
    }
    restore.finish()
}

/// An engine out of chunks is refused, or what it writes is what it is read from again.
fn engine(chunks: &[Bytes]) {
    let mut pieces: Vec<Vec<u8>> = chunks.iter().map(|chunk| chunk.to_vec()).collect();
    let read = |pieces: &[Vec<u8>]| restored(pieces.iter().map(Vec::as_slice));
    let mut outcome = read(&pieces);
    if let Err(RestoreError::DigestDiffers { restored, .. }) = outcome {
        // It takes more than a search to come upon the right one.
        let bytes = pieces.iter_mut().flatten().skip(DIGEST_AT);
        bytes.zip(restored.to_be_bytes()).for_each(|(byte, right)| *byte = right);
        outcome = read(&pieces);
        assert!(outcome.is_ok(), "but for its digest it was right");
    }
    let Ok(engine) = outcome else { return };
    let written: Vec<u8> = engine.snapshot().chunks().flatten().collect();
    let again = restored([&written[..]].into_iter()).expect("it was written here");
    assert_eq!(again.digest(), engine.digest());
    let twice: Vec<u8> = again.snapshot().chunks().flatten().collect();
    assert!(twice == written, "what is read is written the same");
}

/// The input is a snapshot: it is refused, or read, and then it is written and read the same.
///
/// # Panics
/// There is a bug.
pub fn snapshot(input: &[u8]) {
    let Some((flags, rest)) = input.split_first() else { return };
    if flags & ENGINE != 0 {
        // In two pieces, somewhere.
        let cut = usize::from(flags >> 2).min(rest.len());
        let (first, second) = rest.split_at(cut);
        return engine(&[Bytes::copy_from_slice(first), Bytes::copy_from_slice(second)]);
    }
    let mut content = rest.to_vec();
    if flags & MENDED != 0 {
        mend(&mut content);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let Some((meta, chunks)) = runtime.block_on(open(&content)) else { return };
    let again = runtime.block_on(open(&write(&meta, &chunks)));
    assert_eq!(again, Some((meta.clone(), chunks.clone())));
    crate::replica::fuzz::meta(meta.meta);
    engine(&chunks);
}

#[cfg(test)]
mod tests {
    use synod_core::model::{
        Acl, Create, CreateMode, Entry, Identity, Op, Password, Perms, SessionId, Write, Zxid,
    };

    use super::*;
    use crate::log::Position;

    /// An engine with something of everything that a snapshot holds.
    fn written() -> Vec<u8> {
        let mut engine = Engine::new();
        let mut apply = |session, attachment, sequence, request| {
            let identities = [Identity::new("ip", "10.0.0.1")].into();
            let entry =
                Entry { session, attachment, sequence, identities, time_ms: 1_000, request };
            let applied = engine.apply(1, &entry, &mut Vec::new());
            assert!(applied.result.is_ok(), "{applied:?}");
            applied.zxid
        };
        let id = SessionId(7);
        let opening = Write::CreateSession { id, password: Password([7; 16]), timeout_ms: 9_000 };
        let attachment = apply(SessionId(0), Zxid::ZERO, 0, opening);
        let modes = [
            ("/a", CreateMode::Persistent),
            ("/a/b", CreateMode::Container),
            ("/a/b/c", CreateMode::Ephemeral),
            ("/a/s-", CreateMode::EphemeralSequential),
            ("/t", CreateMode::Ttl { ttl_ms: 1 }),
            ("/zookeeper/quota/a", CreateMode::Persistent),
        ];
        for (sequence, (path, mode)) in (1..).zip(modes) {
            let acl = vec![Acl::new(Perms::ALL, "world", "anyone")];
            let create = Create { path: path.into(), data: Some("some".into()), acl, mode };
            apply(id, attachment, sequence, Write::Op(Op::Create(create)));
        }
        let path = "/zookeeper/quota/a/zookeeper_limits".into();
        let data = Some("count=9,bytes=99".into());
        let create = Create { path, data, acl: Acl::open(), mode: CreateMode::Persistent };
        apply(id, attachment, 7, Write::Op(Op::Create(create)));
        engine.snapshot().chunks().flatten().collect()
    }

    /// What the search begins from.
    fn seeds() -> Vec<(&'static str, Vec<u8>)> {
        let whole = written();
        let meta = crate::replica::fuzz::tests::meta();
        let upto = Some(Position { term: 2, index: 9 });
        let chunks: Vec<Bytes> = whole.chunks(300).map(Bytes::copy_from_slice).collect();
        let file = write(&SnapshotMeta { upto, meta: meta.into() }, &chunks);
        let empty = write(&SnapshotMeta { upto: None, meta: Bytes::new() }, &[]);
        let new: Vec<u8> = Engine::new().snapshot().chunks().flatten().collect();
        let with = |flags: u8, rest: &[u8]| [&[flags], rest].concat();
        vec![
            ("file", with(0, &file)),
            ("file-mended", with(MENDED, &file)),
            ("file-empty", with(MENDED, &empty)),
            ("engine", with(ENGINE, &whole)),
            ("engine-in-two", with(ENGINE | 30 << 2, &whole)),
            ("engine-new", with(ENGINE, &new)),
        ]
    }

    #[test]
    fn the_seeds_of_the_target_snapshot_are_these() {
        let mut opened = 0;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for (name, seed) in seeds() {
            crate::fuzz::tests::keep("snapshot", name, &seed);
            snapshot(&seed);
            opened += usize::from(runtime.block_on(open(&seed[1..])).is_some());
            let mut mended = seed[1..].to_vec();
            mend(&mut mended);
            if seed[0] & ENGINE == 0 {
                assert_eq!(mended, seed[1..], "{name}: its sums were right");
            } else {
                assert!(restored([&seed[1..]].into_iter()).is_ok(), "{name}");
            }
        }
        assert_eq!(opened, 3);
    }
}
