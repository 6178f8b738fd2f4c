//! What holds for the payload of every request.

use bytes::{Bytes, BytesMut};
use synod_core::model::Zxid;
use synod_core::wire::{
    SubmittedRequest, decode_request, encode_refusal, encode_request, take_frame,
};

/// Whatever can be read can be written, and is then read the same.
pub fn check(payload: Bytes) {
    let mut out = BytesMut::new();
    match decode_request(payload) {
        Ok(SubmittedRequest { xid, request, .. }) => {
            let (xid, shape) = encode_request(&mut out, xid, &request).expect("a client's request");
            let frame = take_frame(&mut out, 8, usize::MAX).expect("a good length");
            let again = decode_request(frame.expect("complete"));
            assert_eq!(again, Ok(SubmittedRequest { xid, request, shape }));
        }
        Err(refused) => encode_refusal(&mut out, Zxid::ZERO, &refused),
    }
}

/// The payload of a request with this number and body.
#[allow(dead_code, reason = "not every target makes one")]
pub fn of(number: i32, body: &[u8]) -> Bytes {
    [&9_i32.to_be_bytes(), &number.to_be_bytes(), body].concat().into()
}
