//! The primitives of the encoding: big-endian integers, and buffers, strings and vectors that
//! begin with a count (−1: null).

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A record that does not follow the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The payload ends within a record.
    #[error("the record is cut off")]
    CutOff,
    /// A count or a length that is negative (other than null) or beyond what is there.
    #[error("a count or length that does not fit the record")]
    BadCount,
    /// A number that means nothing in its place.
    #[error("{what} {value} means nothing")]
    BadValue {
        /// Which field.
        what: &'static str,
        /// What it holds.
        value: i32,
    },
    /// Written by a version that this one does not know (our own formats only).
    #[error("format {found} of a {what}: this version reads format {known} only")]
    UnknownFormat {
        /// What was to be read.
        what: &'static str,
        /// Its format.
        found: u8,
        /// The format that is known.
        known: u8,
    },
    /// A text that is not UTF-8 (our own formats only: the protocol's are mended).
    #[error("a text that is not UTF-8")]
    NotText,
    /// Bytes behind the end of the record (our own formats only).
    #[error("bytes behind the end of the record")]
    Trailing,
}

/// Reads a payload from front to back.
#[derive(Clone)]
pub(super) struct Decoder {
    payload: Bytes,
}

impl Decoder {
    pub(super) fn new(payload: Bytes) -> Decoder {
        Decoder { payload }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    fn need(&self, bytes: usize) -> Result<(), DecodeError> {
        if self.payload.len() < bytes { Err(DecodeError::CutOff) } else { Ok(()) }
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.need(1)?;
        Ok(self.payload.get_u8())
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.need(4)?;
        Ok(self.payload.get_u32())
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.need(8)?;
        Ok(self.payload.get_u64())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.need(N)?;
        let mut array = [0; N];
        self.payload.copy_to_slice(&mut array);
        Ok(array)
    }

    pub(super) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.need(4)?;
        Ok(self.payload.get_i32())
    }

    pub(super) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.need(8)?;
        Ok(self.payload.get_i64())
    }

    pub(super) fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.u8()? != 0)
    }

    /// A buffer; `None` if it is null. It shares the frame's memory.
    pub(super) fn buffer(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let length = self.i32()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| DecodeError::BadCount)?;
        if self.payload.len() < length {
            return Err(DecodeError::BadCount);
        }
        Ok(Some(self.payload.split_to(length)))
    }

    /// A string; null is empty. What is not UTF-8 is [mended](mend).
    pub(super) fn string(&mut self) -> Result<String, DecodeError> {
        let bytes = self.buffer()?.unwrap_or_default();
        Ok(mend(&bytes).into_owned())
    }

    /// A string of which null is not the same as empty.
    pub(super) fn nullable(&mut self) -> Result<Option<String>, DecodeError> {
        let bytes = self.buffer()?;
        Ok(bytes.map(|bytes| mend(&bytes).into_owned()))
    }

    pub(super) fn path(&mut self) -> Result<Arc<str>, DecodeError> {
        let bytes = self.buffer()?.unwrap_or_default();
        Ok(Arc::from(mend(&bytes)))
    }

    /// A text of our own formats: neither null nor mended, so that what is read again is what was
    /// written.
    pub(super) fn text<T>(&mut self, text: impl FnOnce(&str) -> T) -> Result<T, DecodeError> {
        let bytes = self.buffer()?.ok_or(DecodeError::BadCount)?;
        std::str::from_utf8(&bytes).map(text).map_err(|_| DecodeError::NotText)
    }

    /// A vector of our own formats: never null.
    pub(super) fn list<T>(
        &mut self,
        item_bytes_min: usize,
        item: impl FnMut(&mut Decoder) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.vector(item_bytes_min, item)?.ok_or(DecodeError::BadCount)
    }

    /// A vector; `None` if it is null. `item_bytes_min`: the least that one item takes, so that
    /// a count is believed only as far as the payload goes.
    pub(super) fn vector<T>(
        &mut self,
        item_bytes_min: usize,
        mut item: impl FnMut(&mut Decoder) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let count = self.i32()?;
        if count == -1 {
            return Ok(None);
        }
        let count = usize::try_from(count).map_err(|_| DecodeError::BadCount)?;
        if count > self.payload.len() / item_bytes_min {
            return Err(DecodeError::BadCount);
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(Some(items))
    }

    pub(super) fn paths(&mut self) -> Result<Option<Vec<Arc<str>>>, DecodeError> {
        self.vector(4, Decoder::path)
    }
}

/// Writes records. Everything written here is within an i32's reach: the limits of the model are
/// far below it.
pub(super) trait Encoder {
    fn buffer(&mut self, buffer: Option<&[u8]>);
    fn string(&mut self, string: &str);
    fn bool(&mut self, value: bool);
    fn vector<T>(&mut self, items: &[T], item: impl FnMut(&mut Self, &T));
}

impl Encoder for BytesMut {
    fn buffer(&mut self, buffer: Option<&[u8]>) {
        match buffer {
            None => self.put_i32(-1),
            Some(buffer) => {
                self.put_i32(buffer.len() as i32);
                self.put_slice(buffer);
            }
        }
    }

    fn string(&mut self, string: &str) {
        self.buffer(Some(string.as_bytes()));
    }

    fn bool(&mut self, value: bool) {
        self.put_u8(u8::from(value));
    }

    fn vector<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        self.put_i32(items.len() as i32);
        for it in items {
            item(self, it);
        }
    }
}

/// Bytes as text: what is not UTF-8 becomes U+FFFD, which no path may hold, so that the rules of paths
/// refuse it, in their place. As many such bytes as stand together become one: a text is at most twice
/// as long as its bytes, and what a request comes to in the log has a bound.
fn mend(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() && (text.is_empty() || !chunk.valid().is_empty()) {
            text.push('\u{FFFD}');
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_utf_8_is_mended_to_twice_its_length_at_most() {
        assert_eq!(mend(b"/a/\xC3\xA4"), "/a/\u{E4}");
        assert_eq!(mend(b"/\xFFa"), "/\u{FFFD}a");
        assert_eq!(mend(b"\xFF\xFE\xFD"), "\u{FFFD}");
        assert_eq!(mend(b"a\xFF\xFFb\xFF"), "a\u{FFFD}b\u{FFFD}");
        for bytes in [vec![0xFF; 999], [b'a', 0xFF].repeat(500), [0xFF, b'a'].repeat(500)] {
            assert!(mend(&bytes).len() <= 2 * bytes.len() + 2);
        }
    }
}
