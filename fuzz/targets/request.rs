//! The payload of a request. Whatever can be read can be written, and is then read the same.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use synod_core::model::Zxid;
use synod_core::wire::{
    SubmittedRequest, decode_request, encode_refusal, encode_request, take_frame,
};

fuzz_target!(|input: &[u8]| {
    let mut out = BytesMut::new();
    match decode_request(Bytes::copy_from_slice(input)) {
        Ok(SubmittedRequest { xid, request, .. }) => {
            let (xid, shape) = encode_request(&mut out, xid, &request).expect("a client's request");
            let frame = take_frame(&mut out, 8, usize::MAX).expect("a good length");
            let again = decode_request(frame.expect("complete"));
            assert_eq!(again, Ok(SubmittedRequest { xid, request, shape }));
        }
        Err(refused) => encode_refusal(&mut out, Zxid::ZERO, &refused),
    }
});
