//! A client that is told its last replies, and takes them as slowly as it can.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::common::{exists, new_session};
use bytes::{Buf, BufMut, BytesMut};
use synod_core::wire::{ConnectRequest, encode_request};
use synod_server::limits::{DRAIN_MS_MAX, LINGER_MS_MAX, STOP_LINGER_MS_MAX};
use synod_server::net::{Listener, Net, NetFuture, Stream};
use synod_server::{Config, Server};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

/// Shorter than it may be silent.
const PAUSE: Duration = Duration::from_millis(LINGER_MS_MAX * 9 / 10);

/// Says what it has to say at once, and takes a byte at a time.
struct Slow {
    says: BytesMut,
    pause: Pin<Box<Sleep>>,
    taken: Arc<Mutex<usize>>,
    /// Dropped with it.
    _ended: oneshot::Sender<()>,
}

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.says.is_empty() {
            return Poll::Pending;
        }
        let bytes = self.says.len().min(into.remaining());
        into.put_slice(&self.says[..bytes]);
        self.says.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Slow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        _: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.pause.as_mut().poll(cx));
        self.pause.as_mut().reset(Instant::now() + PAUSE);
        *self.taken.lock().expect("no panic") += 1;
        Poll::Ready(Ok(1))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A network with one client on it.
struct One(Arc<Mutex<Option<Slow>>>);

impl std::fmt::Debug for One {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("One")
    }
}

impl Net for One {
    fn connect<'a>(&'a self, _: &'a str) -> NetFuture<'a, Box<dyn Stream>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn listen<'a>(&'a self, _: &'a str) -> NetFuture<'a, Box<dyn Listener>> {
        let client = One(Arc::clone(&self.0));
        Box::pin(async { Ok(Box::new(client) as Box<dyn Listener>) })
    }
}

impl Listener for One {
    fn accept(&mut self) -> NetFuture<'_, (Box<dyn Stream>, SocketAddr)> {
        Box::pin(async {
            let client = self.0.lock().expect("no panic").take();
            match client {
                Some(client) => {
                    Ok((Box::new(client) as Box<dyn Stream>, ([127, 0, 0, 1], 9).into()))
                }
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([127, 0, 0, 1], 1).into())
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_its_last_replies_by_the_byte_is_given_up() {
    let mut says = BytesMut::new();
    // Its session is not to end it.
    ConnectRequest { timeout_ms: 40_000, ..new_session() }.encode(&mut says);
    for xid in 1..=100 {
        encode_request(&mut says, xid, &exists("/", false)).expect("is a client's");
    }
    // A frame that breaks the rules: what came before it is answered, and no more.
    says.put_i32(-1);
    let taken = Arc::default();
    let (_ended, ended) = oneshot::channel();
    let pause = Box::pin(tokio::time::sleep(Duration::ZERO));
    let client = Slow { says, pause, taken: Arc::clone(&taken), _ended };
    let net: Arc<dyn Net> = Arc::new(One(Arc::new(Mutex::new(Some(client)))));
    let begun = Instant::now();
    let server = Server::start(Config { net, ..crate::common::config() }).await.expect("starts");
    ended.await.expect_err("the server drops it");
    let took = begun.elapsed();
    let limit = Duration::from_millis(DRAIN_MS_MAX);
    assert!((limit..limit + Duration::from_secs(1)).contains(&took), "{took:?}");
    let taken = *taken.lock().expect("no panic");
    assert!(taken > 30, "it was given its time: {taken} bytes");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_stops_at_once_though_a_client_is_silent_in_its_handshake() {
    let mut hello = BytesMut::new();
    new_session().encode(&mut hello);
    for said_bytes in [0, 3, hello.len() - 1] {
        let says = BytesMut::from(&hello[..said_bytes]);
        let (_ended, ended) = oneshot::channel();
        let pause = Box::pin(tokio::time::sleep(Duration::ZERO));
        let client = Slow { says, pause, taken: Arc::default(), _ended };
        let waiting = Arc::new(Mutex::new(Some(client)));
        let net: Arc<dyn Net> = Arc::new(One(Arc::clone(&waiting)));
        let server =
            Server::start(Config { net, ..crate::common::config() }).await.expect("starts");
        while waiting.lock().expect("no panic").is_some() {
            tokio::task::yield_now().await;
        }
        let begun = Instant::now();
        server.stop().await;
        ended.await.expect_err("the server drops it");
        assert!(begun.elapsed() <= Duration::from_millis(STOP_LINGER_MS_MAX), "{said_bytes} bytes");
    }
}
