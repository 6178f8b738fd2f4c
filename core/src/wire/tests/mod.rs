//! Tests of the codec. The golden bytes are put together by hand from the protocol's records, one
//! field a line, so that a mistake which encoder and decoder share cannot hide.

mod connects;
mod entries;
mod frames;
mod golden_replies;
mod golden_requests;
mod golden_writes;
mod hostile;
mod refusals;
mod replies;
mod requests;
mod round_trips;
mod seeds;

use std::sync::Arc;

use super::*;
use crate::model::{SessionId, Stat, Zxid};

/// Bytes from hexadecimal digits; `#` begins a comment, and `S` stands for [`STAT`].
fn hex(text: &str) -> Vec<u8> {
    let fields = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let digits: String = fields.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
    let digits = digits.replace('S', &STAT.split_whitespace().collect::<String>());
    assert!(digits.len().is_multiple_of(2), "half a byte in {text}");
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("two hexadecimal digits"))
        .collect()
}

fn payload(text: &str) -> Bytes {
    hex(text).into()
}

/// A payload behind its length.
fn framed(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    [&length.to_be_bytes()[..], payload].concat()
}

fn path(path: &str) -> Arc<str> {
    path.into()
}

/// [`stat`] in its 68 bytes: czxid, mzxid, ctime, mtime, version, cversion, aversion,
/// ephemeralOwner, dataLength, numChildren, pzxid.
const STAT: &str = "
    0000000100000002
    0000000100000003
    000001890000000a
    000001890000000b
    00000004
    00000005
    00000006
    0700000000000007
    00000008
    00000009
    000000010000000c
";

fn stat() -> Stat {
    Stat {
        czxid: Zxid::new(1, 2),
        mzxid: Zxid::new(1, 3),
        ctime_ms: 0x189_0000_000A,
        mtime_ms: 0x189_0000_000B,
        version: 4,
        cversion: 5,
        aversion: 6,
        ephemeral_owner: Some(SessionId(0x0700_0000_0000_0007)),
        data_bytes: 8,
        children: 9,
        pzxid: Zxid::new(1, 12),
    }
}
