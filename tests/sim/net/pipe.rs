//! One connection: two pipes, each bounded, in order, and late.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

use super::{Node, SPLIT_ONE_IN, SimNet};

/// What travels.
enum Segment {
    Bytes(Bytes),
    /// The writer writes no more.
    Fin,
    /// The writer's end is gone: who writes to it gets an error.
    Gone,
    /// The connection broke.
    Reset,
}

/// How a pipe ends at the reader.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Eof,
    Reset,
}

struct Pipe {
    /// Written, with the moment at which it arrives.
    under_way: VecDeque<(Instant, Segment)>,
    under_way_bytes: usize,
    received: BytesMut,
    end: Option<End>,
    bytes_max: usize,
    /// The writer gets an error: the reader's end is gone, or the connection broke.
    broken: bool,
    /// Nobody reads any more: what arrives is dropped.
    unread: bool,
    finished: bool,
    cut_next_write: bool,
    last_arrival: Option<Instant>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    carrier: Option<Waker>,
}

impl Pipe {
    fn wake(&mut self) {
        let wakers = [self.reader.take(), self.writer.take(), self.carrier.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.under_way_bytes + self.received.len())
    }
}

/// A connection between two nodes: the first has dialled the second.
pub(super) struct Connection {
    pub(super) ends: [Node; 2],
    pipes: [Mutex<Pipe>; 2],
    /// Since the start of the runtime's clock, when bytes of the dialler last arrived.
    heard: Arc<AtomicU64>,
    born: Instant,
    /// Nothing passes on this one in that direction, whatever the link lets pass.
    pub(super) held: [AtomicBool; 2],
    /// On top of every delay of the link, in milliseconds.
    pub(super) extra_ms: AtomicU64,
}

impl Connection {
    pub(super) fn new(ends: [Node; 2], bytes_max: usize) -> Connection {
        let pipe = || {
            Mutex::new(Pipe {
                under_way: VecDeque::new(),
                under_way_bytes: 0,
                received: BytesMut::new(),
                end: None,
                bytes_max,
                broken: false,
                unread: false,
                finished: false,
                cut_next_write: false,
                last_arrival: None,
                reader: None,
                writer: None,
                carrier: None,
            })
        };
        let born = Instant::now();
        Connection {
            ends,
            pipes: [pipe(), pipe()],
            heard: Arc::default(),
            born,
            held: Default::default(),
            extra_ms: AtomicU64::new(0),
        }
    }

    fn pipe(&self, way: usize) -> MutexGuard<'_, Pipe> {
        self.pipes[way].lock().expect("a pipe does not panic")
    }

    /// Both ends get an error; what is under way is lost.
    pub(super) fn reset(&self) {
        for way in 0..2 {
            let mut pipe = self.pipe(way);
            pipe.under_way.clear();
            pipe.under_way_bytes = 0;
            pipe.broken = true;
            pipe.end.get_or_insert(End::Reset);
            pipe.finished = true;
            pipe.wake();
        }
    }

    pub(super) fn cut_next_write(&self) {
        (0..2).for_each(|way| self.pipe(way).cut_next_write = true);
    }

    pub(super) fn is_over(&self) -> bool {
        (0..2).all(|way| self.pipe(way).finished)
    }

    /// What was under way arrives; whether more can follow.
    fn deliver(&self, way: usize) -> bool {
        let mut pipe = self.pipe(way);
        let Some((_, segment)) = pipe.under_way.pop_front() else { return !pipe.finished };
        let mut back_breaks = false;
        match segment {
            Segment::Bytes(bytes) => {
                pipe.under_way_bytes -= bytes.len();
                if !pipe.unread {
                    pipe.received.extend_from_slice(&bytes);
                    if way == 0 {
                        self.heard.store(self.born.elapsed().as_millis() as u64, Relaxed);
                    }
                }
            }
            Segment::Fin => pipe.end = Some(End::Eof),
            Segment::Gone => {
                pipe.end.get_or_insert(End::Eof);
                pipe.finished = true;
                back_breaks = true;
            }
            Segment::Reset => {
                pipe.end = Some(End::Reset);
                pipe.finished = true;
                back_breaks = true;
            }
        }
        let more = !pipe.finished;
        pipe.wake();
        drop(pipe);
        if back_breaks {
            let mut back = self.pipe(1 - way);
            back.broken = true;
            back.under_way.clear();
            back.under_way_bytes = 0;
            back.finished = true;
            back.wake();
        }
        more
    }
}

/// Carries what one end writes to the other, as its moment comes and the link lets it pass.
pub(super) async fn carry(net: &SimNet, connection: &Connection, way: usize) {
    let (from, to) = (connection.ends[way], connection.ends[1 - way]);
    loop {
        let due = poll_fn(|cx| {
            let mut pipe = connection.pipe(way);
            if pipe.finished {
                return Poll::Ready(None);
            }
            match pipe.under_way.front() {
                Some((due, _)) => Poll::Ready(Some(*due)),
                None => {
                    pipe.carrier = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        });
        let Some(due) = due.await else { return };
        sleep_until(due).await;
        let open = || !connection.held[way].load(Relaxed) && net.passes(from, to);
        if !open() {
            net.until(open).await;
            continue;
        }
        if !connection.deliver(way) {
            return;
        }
    }
}

/// One end of a connection.
pub(crate) struct SimStream {
    net: SimNet,
    connection: Arc<Connection>,
    /// 0 for who dialled.
    end: usize,
}

impl SimStream {
    pub(super) fn new(net: SimNet, connection: Arc<Connection>, end: usize) -> SimStream {
        SimStream { net, connection, end }
    }

    /// When the bytes of who dialled last arrived, asked at any later time.
    pub(crate) fn heard(&self) -> Heard {
        Heard { at_ms: Arc::clone(&self.connection.heard), born: self.connection.born }
    }

    fn send(&self, segment: Segment) {
        let [from, to] = [self.end, 1 - self.end].map(|end| self.connection.ends[end]);
        let extra = Duration::from_millis(self.connection.extra_ms.load(Relaxed));
        let due = Instant::now() + self.net.delay(from, to) + extra;
        let mut pipe = self.connection.pipe(self.end);
        let due = pipe.last_arrival.map_or(due, |last| last.max(due));
        pipe.last_arrival = Some(due);
        if let Segment::Bytes(bytes) = &segment {
            pipe.under_way_bytes += bytes.len();
        }
        pipe.under_way.push_back((due, segment));
        if let Some(carrier) = pipe.carrier.take() {
            carrier.wake();
        }
    }
}

/// When a connection was last heard of at its far end.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    at_ms: Arc<AtomicU64>,
    born: Instant,
}

impl Heard {
    pub(crate) fn at(&self) -> Instant {
        self.born + Duration::from_millis(self.at_ms.load(Relaxed))
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut pipe = self.connection.pipe(1 - self.end);
        if pipe.end == Some(End::Reset) {
            pipe.received.clear();
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if !pipe.received.is_empty() {
            let bytes = buffer.remaining().min(pipe.received.len());
            buffer.put_slice(&pipe.received[..bytes]);
            pipe.received.advance(bytes);
            if let Some(writer) = pipe.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(()));
        }
        if pipe.end.is_some() {
            return Poll::Ready(Ok(()));
        }
        pipe.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = {
            let mut pipe = self.connection.pipe(self.end);
            if pipe.broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let room = pipe.room().min(bytes.len());
            if room == 0 && !bytes.is_empty() {
                pipe.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            room
        };
        let random = &self.net.random;
        let mut bytes = Bytes::copy_from_slice(&bytes[..taken]);
        let cut = std::mem::take(&mut self.connection.pipe(self.end).cut_next_write);
        if cut && taken > 1 {
            let half = 1 + random.below(taken as u64 - 1) as usize;
            self.send(Segment::Bytes(bytes.slice(..half)));
            self.send(Segment::Reset);
            let mut pipe = self.connection.pipe(self.end);
            pipe.broken = true;
            drop(pipe);
            let mut back = self.connection.pipe(1 - self.end);
            back.end = Some(End::Reset);
            back.wake();
            return Poll::Ready(Ok(half));
        }
        if taken > 1 && random.below(SPLIT_ONE_IN) == 0 {
            let first = bytes.split_to(1 + random.below(taken as u64 - 1) as usize);
            self.send(Segment::Bytes(first));
        }
        self.send(Segment::Bytes(bytes));
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send(Segment::Fin);
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.send(Segment::Gone);
        let mut pipe = self.connection.pipe(1 - self.end);
        pipe.unread = true;
        pipe.received.clear();
        pipe.wake();
    }
}
