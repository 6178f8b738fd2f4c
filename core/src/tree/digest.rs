//! The digest of a tree: the sum of a term for each znode, so that it is kept up to date by
//! subtracting what a znode was and adding what it is. Byte order is fixed and no number of a
//! slot goes in: members compare their digests.

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::node::Life;
use crate::model::Acl;

/// Longest content that is put together on the stack; above it the streaming hash, which gives
/// the same number, is cheaper than a copy.
const ON_STACK_BYTES_MAX: usize = 512;

/// The digest of path and data.
pub(super) fn content(path: &str, data: Option<&[u8]>) -> u64 {
    let (null, data) = (u8::from(data.is_none()), data.unwrap_or_default());
    let head_bytes = path.len() + 2;
    let total = head_bytes + data.len();
    if total <= ON_STACK_BYTES_MAX {
        let mut buffer = [0; ON_STACK_BYTES_MAX];
        buffer[..path.len()].copy_from_slice(path.as_bytes());
        buffer[path.len() + 1] = null;
        buffer[head_bytes..total].copy_from_slice(data);
        return xxh3_64(&buffer[..total]);
    }
    let mut hasher = Xxh3Default::new();
    hasher.update(path.as_bytes());
    hasher.update(&[0, null]);
    hasher.update(data);
    hasher.digest()
}

/// What a znode adds to the digest of its tree.
pub(super) struct Term {
    pub(super) content: u64,
    pub(super) czxid: i64,
    pub(super) mzxid: i64,
    pub(super) pzxid: i64,
    pub(super) ctime_ms: i64,
    pub(super) mtime_ms: i64,
    pub(super) version: i32,
    pub(super) creates: i32,
    pub(super) aversion: i32,
    pub(super) acl: u64,
    pub(super) life: Life,
}

impl Term {
    pub(super) fn digest(&self) -> u64 {
        let (kind, owner) = self.life.pack();
        let mut bytes = [0; 80];
        let (wide, narrow) = bytes.split_at_mut(64);
        let words = [
            self.content,
            self.czxid as u64,
            self.mzxid as u64,
            self.pzxid as u64,
            self.ctime_ms as u64,
            self.mtime_ms as u64,
            self.acl,
            owner as u64,
        ];
        for (place, word) in wide.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let halves = [self.version as u32, self.creates as u32, self.aversion as u32, kind];
        for (place, half) in narrow.chunks_exact_mut(4).zip(halves) {
            place.copy_from_slice(&half.to_le_bytes());
        }
        xxh3_64(&bytes)
    }
}

/// The digest of an ACL; lengths go in, so that no two lists read the same.
pub(super) fn acl(list: &[Acl]) -> u64 {
    let mut hasher = Xxh3Default::new();
    for line in list {
        hasher.update(&line.perms.0.to_le_bytes());
        for text in [&line.who.scheme, &line.who.id] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
    }
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_path_zero_null_flag_and_data_at_any_size() {
        for data_bytes in [0, 1, 505, 506, 507, 508, 509, 510, 5_000] {
            let data = vec![7; data_bytes];
            let whole = [b"/path\0\0".as_slice(), &data].concat();
            assert_eq!(content("/path", Some(&data)), xxh3_64(&whole), "{data_bytes}");
        }
        assert_eq!(content("/path", None), xxh3_64(b"/path\0\x01"));
        let long = "/long".repeat(200);
        let whole = [long.as_bytes(), b"\0\x01"].concat();
        assert_eq!(content(&long, None), xxh3_64(&whole));
    }
}
