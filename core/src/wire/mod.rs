//! The ZooKeeper protocol: records and frames (jute), for listener and client alike; and log entries
//! in bytes.
//!
//! A frame is a length and a payload. Every length and count is checked against what is there
//! before anything is allocated for it; no input makes this module panic.
//!
//! | file | what it holds |
//! |---|---|
//! | `jute` | the primitives: integers, buffers, strings, vectors |
//! | `records` | Stat, ACL and other records that several messages share |
//! | `connect` | the handshake |
//! | `request` | requests, both directions, and the shape of their replies |
//! | `reply` | replies and events, both directions |
//! | `multi` | transactions and multi-reads, both directions |
//! | `entry` | log entries, in a format of our own |

mod connect;
mod entry;
mod jute;
mod multi;
mod records;
mod reply;
mod request;
#[cfg(test)]
mod tests;

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub use connect::{ConnectReply, ConnectRequest};
pub use entry::{decode_entry, encode_entry};
pub use jute::DecodeError;
pub use reply::{Incoming, decode_incoming, encode_event, encode_refusal, encode_reply};
pub use request::{Refused, Shape, SubmittedRequest, decode_request, encode_request};

/// `xid` of events.
pub const XID_EVENT: i32 = -1;
/// `xid` of pings.
pub const XID_PING: i32 = -2;
/// `xid` of authentication.
pub const XID_AUTH: i32 = -4;
/// `xid` of re-armed watches.
pub const XID_SET_WATCHES: i32 = -8;

/// Bytes of the length in front of a frame.
const LENGTH_BYTES: usize = 4;

/// A frame whose length breaks a rule; the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes: a frame has {min} to {max}")]
pub struct BadFrame {
    /// The length that was announced.
    pub length: i32,
    /// The least there is.
    pub min: usize,
    /// The most there may be.
    pub max: usize,
}

/// Takes the payload of the first frame out of `received`; `None` until it is complete.
///
/// # Errors
/// [`BadFrame`] as soon as the length is there, before anything is reserved for it.
pub fn take_frame(
    received: &mut BytesMut,
    min: usize,
    max: usize,
) -> Result<Option<Bytes>, BadFrame> {
    let Some(mut length) = received.get(..LENGTH_BYTES) else { return Ok(None) };
    let length = length.get_i32();
    match usize::try_from(length) {
        Ok(bytes) if (min..=max).contains(&bytes) => {
            if received.len() - LENGTH_BYTES < bytes {
                return Ok(None);
            }
            received.advance(LENGTH_BYTES);
            Ok(Some(received.split_to(bytes).freeze()))
        }
        _ => Err(BadFrame { length, min, max }),
    }
}

/// Appends a frame whose payload `payload` writes.
fn frame(out: &mut BytesMut, payload: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_i32(0);
    payload(out);
    let length = (out.len() - start - LENGTH_BYTES) as i32;
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}
