//! What comes over a connection before there is a session: frames, and the handshake in them.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use synod_core::wire::{ConnectReply, ConnectRequest, take_frame};

/// The payload of what `encode` writes.
fn written(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    encode(&mut out);
    let frame = take_frame(&mut out, 0, usize::MAX).expect("a good length");
    assert!(out.is_empty(), "one frame and no more");
    frame.expect("complete")
}

fuzz_target!(|input: &[u8]| {
    let mut received = BytesMut::from(input);
    while let Ok(Some(frame)) = take_frame(&mut received, 8, 1 << 20) {
        if let Ok(request) = ConnectRequest::decode(frame.clone()) {
            let again = written(|out| request.encode(out));
            // One with a short password was long enough by what stood behind it.
            if again.len() >= ConnectRequest::BYTES_MIN {
                assert_eq!(ConnectRequest::decode(again), Ok(request));
            }
        }
        if let Ok(reply) = ConnectReply::decode(frame) {
            let again = written(|out| reply.encode(out));
            assert_eq!(ConnectReply::decode(again), Ok(reply));
        }
    }
});
