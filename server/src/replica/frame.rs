//! How members cut a stream of bytes into frames: the length of what follows (4 bytes, at most
//! [`PEER_FRAME_BYTES_MAX`]), the kind (1 byte), the body.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::types::malformed;
use crate::limits::{PEER_FRAME_BYTES_MAX, PEER_READ_BYTES, PEER_READ_BYTES_MIN};
use crate::net::Stream;

/// Of the length.
const HEAD_BYTES: usize = 4;

/// What comes with one length.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) body: Bytes,
}

impl fmt::Debug for Frame {
    /// Without what it says: there may be passwords among it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({}, {} bytes)", self.kind, self.body.len())
    }
}

/// Appends a frame whose body `encode` writes. One that would be too long is taken back.
///
/// # Errors
/// The frame is longer than a frame may be.
pub(crate) fn put(
    out: &mut BytesMut,
    kind: u8,
    encode: impl FnOnce(&mut BytesMut),
) -> io::Result<()> {
    let start = out.len();
    out.put_u32(0);
    out.put_u8(kind);
    encode(out);
    let length = out.len() - start - HEAD_BYTES;
    match u32::try_from(length) {
        Ok(head) if length <= PEER_FRAME_BYTES_MAX => {
            out[start..start + HEAD_BYTES].copy_from_slice(&head.to_be_bytes());
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(too_long(length, PEER_FRAME_BYTES_MAX))
        }
    }
}

/// Takes the first whole frame off what was received; `None` if there is none yet.
///
/// # Errors
/// Its length breaks the rule.
pub(crate) fn take(input: &mut BytesMut) -> io::Result<Option<Frame>> {
    let Some(head) = input.first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let length = checked_length(*head, PEER_FRAME_BYTES_MAX)?;
    if input.len() < HEAD_BYTES + length {
        return Ok(None);
    }
    input.advance(HEAD_BYTES);
    let mut body = input.split_to(length).freeze();
    let kind = body.get_u8();
    Ok(Some(Frame { kind, body }))
}

/// Reads one frame and not a byte more: what comes after a handshake may not be frames.
///
/// Dropping the future loses what was read.
///
/// # Errors
/// What the stream says, or the length breaks the rule.
pub(crate) async fn read_one(stream: &mut dyn Stream, bytes_max: usize) -> io::Result<Frame> {
    let mut head = [0; HEAD_BYTES];
    stream.read_exact(&mut head).await?;
    let mut body = vec![0; checked_length(head, bytes_max)?];
    stream.read_exact(&mut body).await?;
    let mut body = Bytes::from(body);
    let kind = body.get_u8();
    Ok(Frame { kind, body })
}

fn checked_length(head: [u8; HEAD_BYTES], bytes_max: usize) -> io::Result<usize> {
    match u32::from_be_bytes(head) as usize {
        0 => Err(malformed("a frame has at least its kind")),
        length if length > bytes_max => Err(too_long(length, bytes_max)),
        length => Ok(length),
    }
}

fn too_long(length: usize, bytes_max: usize) -> io::Error {
    let text = format!("a frame of {length} bytes: at most {bytes_max} are allowed here");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// A connection that carries frames. What is put into its output goes out, many frames a write,
/// whenever the connection is waited on.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    input: BytesMut,
    output: BytesMut,
    /// Bytes that went either way: as long as it grows, the other side is there.
    moved: u64,
}

impl Wire {
    pub(crate) fn new(stream: Box<dyn Stream>) -> Wire {
        Wire { stream, input: BytesMut::new(), output: BytesMut::new(), moved: 0 }
    }

    /// Where frames are put.
    pub(crate) fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// What waits to be sent, in bytes.
    pub(crate) fn output_bytes(&self) -> usize {
        self.output.len()
    }

    /// Bytes that went either way so far.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    /// Whether a frame is there in part.
    pub(crate) fn half_received(&self) -> bool {
        !self.input.is_empty()
    }

    /// The next frame; meanwhile output goes out. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What the stream says; that it ended; a frame's length breaks the rule.
    pub(crate) async fn next(&mut self) -> io::Result<Frame> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Waits until all output is gone. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What the stream says.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Like [`next`](Wire::next), but without `read` only output goes out, and only an error
    /// ends it.
    ///
    /// # Errors
    /// As for `next`.
    pub(crate) async fn drive(&mut self, read: bool) -> io::Result<Frame> {
        poll_fn(|cx| {
            if read {
                return self.poll_next(cx);
            }
            match self.poll_flush(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Pending,
            }
        })
        .await
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Frame>> {
        // One that cannot be written to may still have something to say.
        if let Poll::Ready(Err(error)) = self.poll_flush(cx)
            && !self.half_received()
        {
            return Poll::Ready(Err(error));
        }
        loop {
            if let Some(frame) = take(&mut self.input)? {
                return Poll::Ready(Ok(frame));
            }
            // Grows as bytes come, not as a length promises; and not before what is there is used
            // up, since an entry keeps all of it.
            if self.input.capacity() - self.input.len() < PEER_READ_BYTES_MIN {
                self.input.reserve(PEER_READ_BYTES);
            }
            let mut limited = (&mut self.input).limit(PEER_READ_BYTES);
            let read = ready!(poll_read_buf(&mut *self.stream, cx, &mut limited))?;
            if read == 0 {
                let text = "the other side closed the connection";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
            }
            self.moved += read as u64;
        }
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut *self.stream).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
            self.moved += written as u64;
        }
        // A layer in between (TLS) may hold some back.
        Pin::new(&mut *self.stream).poll_flush(cx)
    }
}

fn poll_read_buf(
    stream: &mut dyn Stream,
    cx: &mut Context<'_>,
    buffer: &mut bytes::buf::Limit<&mut BytesMut>,
) -> Poll<io::Result<usize>> {
    let mut read = std::pin::pin!(AsyncReadExt::read_buf(stream, buffer));
    read.as_mut().poll(cx)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn frame(kind: u8, body: &'static [u8]) -> Frame {
        Frame { kind, body: Bytes::from_static(body) }
    }

    #[test]
    fn frames_come_out_as_they_went_in_and_only_whole() {
        let mut out = BytesMut::new();
        put(&mut out, 7, |out| out.put_slice(b"one")).expect("short");
        put(&mut out, 8, |_| {}).expect("short");
        for cut in 0..out.len() {
            let mut part = BytesMut::from(&out[..cut]);
            let first = take(&mut part).expect("no rule is broken");
            assert_eq!(first.is_some(), cut >= 8, "cut at {cut}");
        }
        assert_eq!(take(&mut out).expect("whole"), Some(frame(7, b"one")));
        assert_eq!(take(&mut out).expect("whole"), Some(frame(8, b"")));
        assert_eq!(take(&mut out).expect("empty"), None);
    }

    #[test]
    fn a_length_is_judged_before_anything_is_made_for_it() {
        for length in [0, PEER_FRAME_BYTES_MAX as u32 + 1, u32::MAX] {
            let mut input = BytesMut::from(&length.to_be_bytes()[..]);
            assert!(take(&mut input).is_err(), "{length}");
        }
        let mut out = BytesMut::from(&b"kept"[..]);
        let long = vec![0; PEER_FRAME_BYTES_MAX];
        assert!(put(&mut out, 1, |out| out.put_slice(&long)).is_err());
        assert_eq!(&out[..], b"kept");
    }

    #[tokio::test]
    async fn many_frames_pass_through_a_narrow_pipe_both_ways() {
        let (here, there) = tokio::io::duplex(16);
        let echo = async move {
            let mut wire = Wire::new(Box::new(there));
            for _ in 0..100 {
                let frame = wire.next().await.expect("a frame");
                put(wire.output(), frame.kind, |out| out.put_slice(&frame.body)).expect("short");
            }
            wire.flush().await.expect("the other side reads");
            assert!(wire.next().await.is_err(), "it closes");
        };
        let ask = async move {
            let mut wire = Wire::new(Box::new(here));
            for n in 0..100u8 {
                put(wire.output(), n, |out| out.put_bytes(n, n.into())).expect("short");
            }
            for n in 0..100u8 {
                let frame = wire.next().await.expect("an echo");
                assert_eq!((frame.kind, frame.body.len()), (n, usize::from(n)));
            }
        };
        tokio::join!(echo, ask);
    }

    #[tokio::test]
    async fn one_frame_is_read_and_not_a_byte_more() {
        let (mut here, mut there) = tokio::io::duplex(64);
        let mut out = BytesMut::new();
        put(&mut out, 3, |out| out.put_slice(b"hello")).expect("short");
        out.put_slice(b"rest");
        here.write_all(&out).await.expect("there is room");
        let first = read_one(&mut there, 64).await.expect("a frame");
        assert_eq!(first, frame(3, b"hello"));
        let mut rest = [0; 4];
        there.read_exact(&mut rest).await.expect("the rest");
        assert_eq!(&rest, b"rest");
    }

    #[tokio::test]
    async fn small_frames_share_what_was_made_for_input() {
        let (mut here, there) = tokio::io::duplex(64);
        let mut wire = Wire::new(Box::new(there));
        let mut kept = Vec::new();
        for _ in 0..100 {
            let mut out = BytesMut::new();
            put(&mut out, 3, |out| out.put_bytes(7, 27)).expect("short");
            here.write_all(&out).await.expect("there is room");
            kept.push(wire.next().await.expect("a frame").body);
        }
        let addresses: Vec<usize> = kept.iter().map(|body| body.as_ptr() as usize).collect();
        assert!(addresses.windows(2).all(|two| two[1] - two[0] == 32), "one block for all");
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = take(&mut input) {
                prop_assert!(frame.body.len() < bytes.len());
            }
        }
    }
}
