//! A list of items that may be long: in buckets, so that nobody ever lists all of it.
//!
//! ```text
//! {lane}                        persistent
//! ├── b0000000000/              a bucket, full: deleted when it is empty
//! │   └── i-3fa9c2d1-0000000998
//! └── b0000000001/              the last one: items are appended here
//!     └── i-90c0ffee-0000000000
//! ```
//!
//! Who appends the item that fills a bucket makes the next one; who finds a bucket overfull does
//! so too, in case that the first did not come to it. The last bucket is never deleted, so that
//! the numbers of buckets grow.

use std::sync::{Mutex, PoisonError};

use synod_core::client::Client;
use synod_core::model::{Code, Error as ClientError, Path};

use crate::error::Error;
use crate::znodes::{make_parents, persist};

/// Items of a bucket, more or less: those who append at the same moment may pass it.
pub(crate) const BUCKET_ITEMS: i64 = 1_000;

/// A place in a queue: lanes of a higher priority first, then by bucket and sequence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// 0 is taken first.
    pub(crate) rank: u8,
    pub(crate) bucket: u64,
    pub(crate) sequence: i64,
    pub(crate) name: String,
}

/// The name of an item before its sequence suffix; eight digits of its id tell it from others.
pub(crate) fn stem(id: &str) -> String {
    let short: String = id.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    format!("i-{short:0>8}-")
}

/// The sequence in an item's name; `None` for a foreign child.
pub(crate) fn sequence_of(name: &str) -> Option<i64> {
    let (id, suffix) = name.strip_prefix("i-")?.split_once('-')?;
    (id.len() == 8 && suffix.len() == 10).then_some(())?;
    suffix.parse().ok().filter(|_| suffix.bytes().all(|byte| byte.is_ascii_digit()))
}

pub(crate) fn bucket_name(bucket: u64) -> String {
    format!("b{bucket:010}")
}

pub(crate) fn bucket_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix('b').filter(|digits| digits.len() >= 10)?;
    digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

pub(crate) struct Lane {
    path: Path,
    /// The last bucket, as far as this handle knows.
    tail: Mutex<Option<u64>>,
}

impl Lane {
    pub(crate) fn new(path: Path) -> Lane {
        Lane { path, tail: Mutex::new(None) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn known(&self) -> Option<u64> {
        *self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, tail: Option<u64>) {
        *self.tail.lock().unwrap_or_else(PoisonError::into_inner) = tail;
    }

    pub(crate) fn bucket_path(&self, bucket: u64) -> Result<Path, Error> {
        Ok(self.path.join(&bucket_name(bucket))?)
    }

    /// The buckets there are, the first one first; none if the lane was never used.
    pub(crate) async fn buckets(&self, client: &Client) -> Result<Vec<u64>, Error> {
        let names = match persist!(client.children(&self.path)) {
            Err(error) if error.is(Code::NoNode) => return Ok(Vec::new()),
            names => names?,
        };
        let mut buckets: Vec<u64> = names.iter().filter_map(|name| bucket_of(name)).collect();
        buckets.sort_unstable();
        Ok(buckets)
    }

    /// Items of a bucket by their sequence.
    pub(crate) async fn items(
        &self,
        client: &Client,
        bucket: u64,
    ) -> Result<Vec<(i64, String)>, Error> {
        let names = match persist!(client.children(self.bucket_path(bucket)?)) {
            Err(error) if error.is(Code::NoNode) => return Ok(Vec::new()),
            names => names?,
        };
        let item = |name: String| sequence_of(&name).map(|sequence| (sequence, name));
        let mut items: Vec<_> = names.into_iter().filter_map(item).collect();
        items.sort_unstable();
        Ok(items)
    }

    /// Where an item is appended: the path before its sequence. What is missing is made.
    pub(crate) async fn place(&self, client: &Client, id: &str) -> Result<Path, Error> {
        let tail = match self.known() {
            Some(tail) => tail,
            None => {
                let tail = match self.buckets(client).await?.last() {
                    Some(tail) => *tail,
                    None => {
                        self.make(client, 0).await?;
                        0
                    }
                };
                self.learn(Some(tail));
                tail
            }
        };
        Ok(self.bucket_path(tail)?.join(&stem(id))?)
    }

    async fn make(&self, client: &Client, bucket: u64) -> Result<(), Error> {
        let path = self.bucket_path(bucket)?;
        loop {
            match persist!(client.create(&path, b"")) {
                Err(error) if error.is(Code::NoNode) => {
                    make_parents(client, &self.path).await?;
                    match persist!(client.create(&self.path, b"")) {
                        Err(error) if !error.is(Code::NodeExists) => return Err(error.into()),
                        _ => {}
                    }
                }
                Err(error) if !error.is(Code::NodeExists) => return Err(error.into()),
                _ => return Ok(()),
            }
        }
    }

    /// The place is gone: another bucket is the last by now.
    pub(crate) fn forget(&self) {
        self.learn(None);
    }

    /// An item was appended there: if it fills the bucket, the next one is made. A failure is
    /// made good by who appends next.
    pub(crate) async fn appended(&self, client: &Client, item: &Path) {
        let full = sequence_of(item.name()).is_some_and(|sequence| sequence + 1 >= BUCKET_ITEMS);
        let bucket = item.parent().and_then(|bucket| bucket_of(bucket.name()));
        if let (true, Some(bucket)) = (full, bucket) {
            let next = bucket.saturating_add(1);
            if self.make(client, next).await.is_ok() {
                self.learn(Some(next));
            }
        }
    }

    /// Deletes a bucket that is empty, unless it is the last.
    pub(crate) async fn sweep(&self, client: &Client, bucket: u64) -> Result<(), Error> {
        match persist!(client.delete(self.bucket_path(bucket)?)) {
            Err(error) if !error.is(Code::NotEmpty) && !error.is(Code::NoNode) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// How many items there are; those that come and go meanwhile may be counted or not.
    pub(crate) async fn count(&self, client: &Client) -> Result<u64, Error> {
        let mut count = 0;
        for bucket in self.buckets(client).await? {
            let stat = persist!(client.exists(self.bucket_path(bucket)?))?;
            count += stat.map_or(0, |stat| u64::from(stat.children));
        }
        Ok(count)
    }

    /// Looks for an item by its id in the last bucket that this handle knows, and the one
    /// before it.
    pub(crate) async fn find(
        &self,
        client: &Client,
        id: &str,
    ) -> Result<Option<Path>, ClientError> {
        let Some(tail) = self.known() else { return Ok(None) };
        for bucket in [tail, tail.saturating_sub(1)] {
            let path = self.path.join(&bucket_name(bucket))?;
            let names = match persist!(client.children(&path)) {
                Err(error) if error.is(Code::NoNode) => continue,
                names => names?,
            };
            if let Some(name) = names.iter().find(|name| name.starts_with(&stem(id))) {
                return path.join(name).map(Some);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_items_follow_their_grammar() {
        let name = format!("{}0000000042", stem("3fa9c2d1-8a00-4000-8000-000000000000"));
        assert_eq!((name.as_str(), sequence_of(&name)), ("i-3fa9c2d1-0000000042", Some(42)));
        for foreign in ["", "i-", "i-3fa9c2d1-42", "x-3fa9c2d1-0000000042", "i-3fa9-0000000042"] {
            assert_eq!(sequence_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn names_of_buckets_follow_their_grammar() {
        assert_eq!(bucket_of(&bucket_name(7)), Some(7));
        assert_eq!(bucket_of(&bucket_name(12_345_678_901)), Some(12_345_678_901));
        for foreign in ["", "b", "b7", "b-000000007", "c0000000007", "b000000000x"] {
            assert_eq!(bucket_of(foreign), None, "{foreign}");
        }
    }
}
