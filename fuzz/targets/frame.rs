//! A connection from its first byte on, in pieces: frames, a handshake in the first, requests in
//! those behind it. The first byte says how large the pieces are, which changes nothing.
#![no_main]

#[path = "../shared/request.rs"]
mod request;

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use synod_core::wire::{BadFrame, ConnectRequest, take_frame};

const FRAME_BYTES_MAX: usize = 1 << 20;

/// The frames of a stream that comes in such pieces, and how it ends.
fn frames(stream: &[u8], piece_bytes: usize) -> (Vec<Bytes>, Result<usize, BadFrame>) {
    let (mut frames, mut received) = (Vec::new(), BytesMut::new());
    for piece in stream.chunks(piece_bytes) {
        received.extend_from_slice(piece);
        loop {
            match take_frame(&mut received, 8, FRAME_BYTES_MAX) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(bad) => return (frames, Err(bad)),
            }
        }
    }
    (frames, Ok(received.len()))
}

fuzz_target!(|input: &[u8]| {
    let Some((piece_bytes, stream)) = input.split_first() else { return };
    let whole = frames(stream, stream.len().max(1));
    assert_eq!(frames(stream, usize::from(*piece_bytes).max(1)), whole);
    let mut frames = whole.0.into_iter();
    if frames.next().is_some_and(|first| ConnectRequest::decode(first).is_ok()) {
        frames.for_each(request::check);
    }
});
