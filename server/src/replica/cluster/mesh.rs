//! Networks for tests: one in memory, and one that can be cut.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};

use crate::net::{Listener, Net, NetFuture, Stream};

/// A network in memory: `host:port` is any text that ends with a port.
#[derive(Clone, Debug, Default)]
pub(super) struct Mesh(Arc<Mutex<Listeners>>);

type Listeners = BTreeMap<String, mpsc::Sender<Box<dyn Stream>>>;

const PIPE_BYTES: usize = 64 << 10;

impl Net for Mesh {
    fn connect<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Stream>> {
        Box::pin(async move {
            let listener =
                self.0.lock().unwrap_or_else(PoisonError::into_inner).get(address).cloned();
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let (here, there) = tokio::io::duplex(PIPE_BYTES);
            let listener = listener.ok_or_else(refused)?;
            listener.send(Box::new(there)).await.map_err(|_| refused())?;
            Ok(Box::new(here) as Box<dyn Stream>)
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Listener>> {
        Box::pin(async move {
            let (sender, receiver) = mpsc::channel(64);
            let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            listeners.insert(address.to_owned(), sender);
            Ok(Box::new(MeshListener(receiver)) as Box<dyn Listener>)
        })
    }
}

struct MeshListener(mpsc::Receiver<Box<dyn Stream>>);

impl Listener for MeshListener {
    fn accept(&mut self) -> NetFuture<'_, (Box<dyn Stream>, SocketAddr)> {
        Box::pin(async move {
            match self.0.recv().await {
                Some(stream) => Ok((stream, self.local_addr()?)),
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([127, 0, 0, 1], 1).into())
    }
}

/// One member's network, which can be cut.
#[derive(Clone, Debug)]
pub(super) struct Cuttable {
    inner: Arc<dyn Net>,
    cuts: Arc<watch::Sender<u64>>,
    isolated: Arc<AtomicBool>,
    connected: Arc<AtomicUsize>,
    /// After how many bytes read it is cut, the first one first.
    cuts_at: Arc<Mutex<Vec<usize>>>,
}

impl Cuttable {
    pub(super) fn new(inner: Arc<dyn Net>) -> Cuttable {
        Cuttable {
            inner,
            cuts: Arc::new(watch::Sender::new(0)),
            isolated: Arc::default(),
            connected: Arc::default(),
            cuts_at: Arc::default(),
        }
    }

    /// Breaks the connections that there are.
    pub(super) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Breaks them, and lets none be made until [`heal`](Cuttable::heal).
    pub(super) fn isolate(&self) {
        self.isolated.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Breaks them each time when so many bytes more have come in.
    pub(super) fn cut_after(&self, bytes: &[usize]) {
        *self.cuts_at.lock().unwrap_or_else(PoisonError::into_inner) = bytes.to_vec();
    }

    /// How many of those are still to come.
    pub(super) fn cuts_left(&self) -> usize {
        self.cuts_at.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn count(&self, read: usize) {
        let mut cuts_at = self.cuts_at.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = cuts_at.first_mut() else {
            return;
        };
        *left = left.saturating_sub(read);
        if *left == 0 {
            cuts_at.remove(0);
            self.cut();
        }
    }

    pub(super) fn heal(&self) {
        self.isolated.store(false, Ordering::SeqCst);
    }

    /// How many connections this member has made.
    pub(super) fn connected(&self) -> usize {
        self.connected.load(Ordering::SeqCst)
    }

    fn link(&self, stream: Box<dyn Stream>) -> io::Result<Box<dyn Stream>> {
        if self.isolated.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        let mut cuts = self.cuts.subscribe();
        let cut = Box::pin(async move {
            let _ = cuts.changed().await;
        });
        Ok(Box::new(Link { stream, cut: Some(cut), net: self.clone() }))
    }
}

impl Net for Cuttable {
    fn connect<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Stream>> {
        Box::pin(async move {
            let stream = self.link(self.inner.connect(address).await?)?;
            self.connected.fetch_add(1, Ordering::SeqCst);
            Ok(stream)
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Listener>> {
        Box::pin(async move {
            let inner = self.inner.listen(address).await?;
            Ok(Box::new(CuttableListener { inner, net: self.clone() }) as Box<dyn Listener>)
        })
    }
}

struct CuttableListener {
    inner: Box<dyn Listener>,
    net: Cuttable,
}

impl Listener for CuttableListener {
    fn accept(&mut self) -> NetFuture<'_, (Box<dyn Stream>, SocketAddr)> {
        Box::pin(async move {
            loop {
                let (stream, address) = self.inner.accept().await?;
                if let Ok(stream) = self.net.link(stream) {
                    return Ok((stream, address));
                }
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

struct Link {
    stream: Box<dyn Stream>,
    /// `None` once it is cut.
    cut: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
    net: Cuttable,
}

impl Link {
    fn whole(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut dyn Stream>> {
        if self.cut.as_mut().is_none_or(|cut| cut.as_mut().poll(cx).is_ready()) {
            self.cut = None;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(Pin::new(&mut *self.stream))
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.whole(cx)?.poll_read(cx, buffer);
        self.net.count(buffer.filled().len() - before);
        read
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.whole(cx)?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.whole(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.whole(cx)?.poll_shutdown(cx)
    }
}
