//! Entries that go through the log together: each behind its length, nothing around them.

use std::io;
use std::iter::Peekable;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use synod_core::wire::decode_entry;

use super::types::malformed;
use crate::limits::BATCH_ENTRIES_MAX;

/// Moves entries into a batch: one at least, and then so many as there is room for.
pub(crate) fn fill(
    out: &mut BytesMut,
    entries: &mut Peekable<impl Iterator<Item = Bytes>>,
    bytes_soft: usize,
) {
    let (start, mut count) = (out.len(), 0);
    while (count == 0 || out.len() - start < bytes_soft)
        && count < BATCH_ENTRIES_MAX
        && let Some(entry) = entries.next()
    {
        out.reserve(4 + entry.len());
        out.put_u32(entry.len() as u32);
        out.put_slice(&entry);
        count += 1;
    }
}

/// The entries of a batch, which share its bytes.
///
/// # Errors
/// It is no batch, or has more entries than [`BATCH_ENTRIES_MAX`].
pub(crate) fn split(mut batch: Bytes) -> io::Result<Vec<Bytes>> {
    const SHORT: &str = "a batch of entries is longer than what is there";
    let mut entries = Vec::new();
    while batch.has_remaining() {
        let length = batch.try_get_u32().map_err(|_| malformed(SHORT))? as usize;
        if length > batch.len() {
            return Err(malformed(SHORT));
        }
        if entries.len() == BATCH_ENTRIES_MAX {
            return Err(malformed("a batch has at most 256 entries"));
        }
        entries.push(batch.split_to(length));
    }
    Ok(entries)
}

/// Whether every member can apply a batch that another member brought, and how many entries it has: what
/// cannot be read must not come into the log, at which all of them would end.
///
/// # Errors
/// It is no batch, or one of its entries is none.
pub(crate) fn check(batch: &Bytes) -> io::Result<usize> {
    let entries = split(batch.clone())?;
    let count = entries.len();
    for entry in entries {
        decode_entry(entry).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use synod_core::model::{Entry, SessionId, Write, Zxid};
    use synod_core::wire::encode_entry;

    use super::*;

    fn batches(entries: &[Bytes], bytes_soft: usize) -> Vec<Bytes> {
        let mut left = entries.iter().cloned().peekable();
        let mut batches = Vec::new();
        while left.peek().is_some() {
            let mut batch = BytesMut::new();
            fill(&mut batch, &mut left, bytes_soft);
            batches.push(batch.freeze());
        }
        batches
    }

    fn entries(count: usize, bytes: usize) -> Vec<Bytes> {
        (0..count).map(|number| vec![number as u8; bytes].into()).collect()
    }

    #[test]
    fn what_is_put_together_comes_apart_in_order() {
        for (count, bytes) in [(1, 0), (3, 7), (BATCH_ENTRIES_MAX, 1), (BATCH_ENTRIES_MAX + 1, 1)] {
            let entries = entries(count, bytes);
            let batches = batches(&entries, usize::MAX);
            assert_eq!(batches.len(), count.div_ceil(BATCH_ENTRIES_MAX));
            let apart: Vec<Bytes> =
                batches.into_iter().flat_map(|batch| split(batch).expect("a batch")).collect();
            assert_eq!(apart, entries);
        }
    }

    #[test]
    fn a_batch_ends_with_the_entry_that_reaches_its_bound() {
        let batches = batches(&entries(5, 10), 20);
        let counts: Vec<usize> =
            batches.into_iter().map(|batch| split(batch).expect("a batch").len()).collect();
        assert_eq!(counts, [2, 2, 1]);
    }

    #[test]
    fn a_batch_of_what_are_no_entries_stays_out_of_the_log() {
        let entry = Entry {
            session: SessionId::SYSTEM,
            attachment: Zxid::ZERO,
            sequence: 0,
            identities: [].into(),
            time_ms: 0,
            request: Write::Reap { path: "/a".into() },
        };
        let mut encoded = BytesMut::new();
        encode_entry(&mut encoded, &entry);
        let entry = encoded.freeze();
        let batch = |entries: &[&Bytes]| {
            let entries: Vec<Bytes> = entries.iter().copied().cloned().collect();
            batches(&entries, usize::MAX).remove(0)
        };
        assert_eq!(check(&batch(&[&entry, &entry])).expect("both can be applied"), 2);
        let short = entry.slice(..entry.len() - 1);
        check(&batch(&[&entry, &short])).expect_err("the second is cut off");
        check(&batch(&[&Bytes::new()])).expect_err("nothing is no entry");
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        let whole = batches(&entries(2, 5), usize::MAX).remove(0);
        for length in (1..whole.len()).filter(|length| *length != 9) {
            assert!(split(whole.slice(..length)).is_err(), "{length}");
        }
        assert!(split(vec![0; 4 * (BATCH_ENTRIES_MAX + 1)].into()).is_err());
        assert!(split(u32::MAX.to_be_bytes().to_vec().into()).is_err());
    }
}
