//! What is written into an item's znode: one line about it, then the payload.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use synod_core::model::limits::DATA_BYTES_MAX;
use synod_core::model::{Error as ClientError, Stat};

use crate::error::Error;

/// The highest priority.
pub const PRIORITY_MAX: u8 = 9;

/// Longest reason that is kept with an item, in bytes.
const REASON_BYTES_MAX: usize = 1_024;

/// What may come to be kept about an item: its attempts, and a reason, each byte of which takes up
/// to six in JSON.
const KEPT_LATER_BYTES_MAX: usize = 8 * 1024;

/// Most that an item has when it is put, in bytes. So it can be given back and given up, whatever
/// the reason.
const ITEM_BYTES_MAX: usize = DATA_BYTES_MAX - KEPT_LATER_BYTES_MAX;

/// What is kept about an item besides its payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Given at random when it is put; it stays the same wherever the item moves to.
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) priority: u8,
    /// When it was put, in milliseconds since the Unix epoch, by the coordinator's clock; 0 if it
    /// was not asked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) put_ms: i64,
    /// Attempts under earlier znodes: a delayed item gets a new one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) attempts: u32,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A head and the payload behind it, as it was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) head: Head,
    pub(crate) payload: Vec<u8>,
}

impl Item {
    /// Reads what a znode holds. An item that others wrote without a head is one all the same:
    /// it must not wedge the queue, nor be lost.
    pub(crate) fn read(data: &[u8]) -> Item {
        let end = data.iter().position(|byte| *byte == b'\n');
        let head = end.and_then(|end| serde_json::from_slice::<Head>(&data[..end]).ok());
        match (head, end) {
            (Some(head), Some(end)) => Item { head, payload: data[end + 1..].to_vec() },
            _ => Item { head: Head::default(), payload: data.to_vec() },
        }
    }

    /// An item that is put.
    ///
    /// # Errors
    /// It is too large.
    pub(crate) fn write(&self) -> Result<Vec<u8>, Error> {
        let data = self.whole()?;
        if data.len() > ITEM_BYTES_MAX {
            let rule = "an item has at most 1040383 bytes, with what is kept about it";
            return Err(ClientError::invalid("size of an item in bytes", data.len(), rule).into());
        }
        Ok(data)
    }

    /// An item that is moved. One that others made may be too large for a reason, or for a head.
    pub(crate) fn rewrite(mut self) -> Result<Vec<u8>, Error> {
        let data = self.whole()?;
        if data.len() <= DATA_BYTES_MAX {
            return Ok(data);
        }
        self.head.reason = None;
        let data = self.whole()?;
        Ok(if data.len() <= DATA_BYTES_MAX { data } else { self.payload })
    }

    fn whole(&self) -> Result<Vec<u8>, Error> {
        let mut data = serde_json::to_vec(&self.head).map_err(unwritable)?;
        data.push(b'\n');
        data.extend_from_slice(&self.payload);
        Ok(data)
    }

    pub(crate) fn because(mut self, reason: &str) -> Item {
        let mut end = reason.len().min(REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        self.head.reason = Some(reason[..end].to_owned());
        self
    }

    pub(crate) fn value<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.payload).map_err(|error| format!("not decodable: {error}"))
    }
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> Error {
    ClientError::invalid("value", error, "a value can be written as JSON").into()
}

/// How often a znode was claimed, the present claim included: each claim is a child, and the
/// coordinator counts creations of children (`cversion` is twice that, less the children there).
pub(crate) fn claims_of(stat: &Stat) -> u32 {
    let creations = (i64::from(stat.cversion) + i64::from(stat.children)) / 2;
    u32::try_from(creations).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_read_as_it_was_written() {
        let head = Head { id: "a".into(), priority: 3, attempts: 2, ..Head::default() };
        let item = Item { head, payload: b"{\"x\":\n1}".to_vec() };
        assert_eq!(Item::read(&item.write().expect("small")), item);
    }

    #[test]
    fn what_others_wrote_is_kept_whole() {
        for data in [&b""[..], b"x", b"\n", b"{}\nrest", b"{\"id\":7}\nrest", b"\xff\n\xff"] {
            let item = Item::read(data);
            assert_eq!((&item.payload[..], item.head), (data, Head::default()), "{data:?}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let item = Item { head: Head::default(), payload: Vec::new() }.because(&"ü".repeat(1_000));
        let reason = item.head.reason.expect("given");
        assert_eq!(reason.len(), REASON_BYTES_MAX);
        let odd = format!("x{}", "ü".repeat(1_000));
        let item = Item { head: Head::default(), payload: Vec::new() }.because(&odd);
        assert_eq!(item.head.reason.expect("given").len(), REASON_BYTES_MAX - 1);
    }

    #[test]
    fn an_item_that_is_too_large_is_refused_by_its_size() {
        let item = Item { head: Head::default(), payload: vec![b'x'; ITEM_BYTES_MAX] };
        let error = item.write().expect_err("too large").to_string();
        assert!(error.contains(&ITEM_BYTES_MAX.to_string()), "{error}");
    }

    #[test]
    fn whatever_could_be_put_can_be_given_up_with_its_reason() {
        let head = Head { id: "a".repeat(32), priority: 9, put_ms: i64::MAX, ..Head::default() };
        let mut item = Item { head, payload: Vec::new() };
        item.payload = vec![b'x'; ITEM_BYTES_MAX - item.write().expect("small").len()];
        item.write().expect("it can be put");
        item.head.attempts = u32::MAX;
        let reason = "\u{1}".repeat(REASON_BYTES_MAX);
        let data = item.because(&reason).rewrite().expect("it is written");
        assert!(data.len() <= DATA_BYTES_MAX);
        assert_eq!(Item::read(&data).head.reason, Some(reason));
    }

    #[test]
    fn what_others_made_too_large_for_a_head_is_moved_without_one() {
        let item = Item { head: Head::default(), payload: vec![b'x'; DATA_BYTES_MAX] };
        let data = item.clone().because("bad").rewrite().expect("it is written");
        assert_eq!(Item::read(&data), item);
    }
}
