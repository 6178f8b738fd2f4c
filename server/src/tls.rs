//! TLS between members: the same seam, with every stream encrypted and both sides proved by a
//! certificate of the cluster's own authority. Only TLS 1.3 is spoken. (What clients speak it to is
//! [`ClientTls`].)
//!
//! A certificate names where its member is reached, as a DNS name or an IP address: whoever
//! connects to `host:port` expects `host` in it. Its holder is some member; *which* one, the
//! handshake between members says.

use std::fmt;
use std::future::Future;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{FallibleAccept, TlsAcceptor, TlsConnector};

use crate::net::{Listener, Net, NetFuture, Stream};
use crate::secret;

mod fresh;
mod names;
mod port;

pub(crate) use fresh::keep_fresh;
pub use names::CertificateName;
pub use port::ClientTls;
pub(crate) use port::Port;

/// What is read of one whose handshake failed, in bytes, so that it gets to know why: closing a
/// connection with input left unread resets it, and what was sent last is lost.
const REFUSED_BYTES_MAX: usize = 16 << 10;

/// The PEM files of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that members' certificates are signed by: one, or two while it changes.
    pub ca: PathBuf,
    /// This member's certificate, and those between it and the authority if there are any. It is
    /// for servers and clients: a member is both.
    pub certificate: PathBuf,
    /// Its private key; others than its owner and group may neither read nor write the file.
    pub key: PathBuf,
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", .file.display())]
pub struct TlsError {
    file: PathBuf,
    problem: String,
}

impl TlsError {
    fn new(file: &Path, problem: impl fmt::Display) -> TlsError {
        TlsError { file: file.to_owned(), problem: problem.to_string() }
    }

    /// The file that it is about.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// A file and what was in it when it was read.
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    file: PathBuf,
    text: Vec<u8>,
}

impl Pem {
    fn read(file: &Path) -> Result<Pem, TlsError> {
        let text = std::fs::read(file).map_err(|error| TlsError::new(file, error))?;
        Ok(Pem { file: file.to_owned(), text })
    }

    /// One with a private key in it.
    fn read_key(file: &Path) -> Result<Pem, TlsError> {
        let wrong = |error| TlsError::new(file, error);
        let mut text = Vec::new();
        let mut open = secret::open(file, "a private key").map_err(wrong)?;
        open.read_to_end(&mut text).map_err(wrong)?;
        Ok(Pem { file: file.to_owned(), text })
    }

    fn wrong(&self, problem: impl fmt::Display) -> TlsError {
        TlsError::new(&self.file, problem)
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.text).collect();
        let read = read.map_err(|error| self.wrong(error))?;
        if read.is_empty() {
            return Err(self.wrong("no certificate is in it: PEM is expected"));
        }
        Ok(read)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.text).map_err(|error| self.wrong(error))
    }

    fn authorities(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        for authority in self.certificates()? {
            roots.add(authority).map_err(|error| self.wrong(error))?;
        }
        Ok(Arc::new(roots))
    }
}

/// Named here, so that no other part of a program decides it.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A network over another one, with TLS.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<dyn Net>,
    files: TlsFiles,
    current: Arc<Mutex<Current>>,
}

/// What the files held when they were looked at last, and what became of it.
struct Current {
    read: [Pem; 3],
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files. A member looks at them again every
    /// [`TLS_RELOAD_MS`](crate::limits::TLS_RELOAD_MS): what has changed counts for connections that
    /// are made after that, and files that are wrong change nothing.
    ///
    /// # Errors
    /// A file cannot be read or is not what it should be, or the key is not that of the
    /// certificate.
    pub fn over(inner: Arc<dyn Net>, files: &TlsFiles) -> Result<Tls, TlsError> {
        let current = Current::of(read_all(files)?)?;
        Ok(Tls { inner, files: files.clone(), current: Arc::new(Mutex::new(current)) })
    }

    /// Looks at the files, and takes what has changed; whether something has.
    ///
    /// # Errors
    /// Those of [`Tls::over`]; everything stays as it was then.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        let read = read_all(&self.files)?;
        if lock(&self.current).read == read {
            return Ok(false);
        }
        let current = Current::of(read)?;
        *lock(&self.current) = current;
        Ok(true)
    }
}

fn lock(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
    // Nothing panics half way through a change of it.
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_all(files: &TlsFiles) -> Result<[Pem; 3], TlsError> {
    Ok([Pem::read(&files.ca)?, Pem::read(&files.certificate)?, Pem::read_key(&files.key)?])
}

impl Current {
    fn of(read: [Pem; 3]) -> Result<Current, TlsError> {
        let [ca, certificate, key] = &read;
        let roots = ca.authorities()?;
        let chain = certificate.certificates()?;
        let of_key = |error| key.wrong(error);
        let private = key.key()?;

        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(of_key)?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain.clone(), private.clone_key())
            .map_err(of_key)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| ca.wrong(error))?;
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(of_key)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, private)
            .map_err(of_key)?;
        never_resume(&mut server);
        let connector = TlsConnector::from(Arc::new(client));
        let acceptor = TlsAcceptor::from(Arc::new(server));
        Ok(Current { read, connector, acceptor })
    }
}

/// Looks at the other side's certificate each time: a TLS session that is resumed goes by what was
/// seen when it began, though the certificate may have expired since.
fn never_resume(config: &mut ServerConfig) {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
}

fn of_tls(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("TLS: {error}"))
}

/// The host of `host:port`; an IPv6 address stands in brackets there.
fn server_name(address: &str) -> io::Result<ServerName<'static>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned()).map_err(|_| {
        let text = format!("{address}: a host is a DNS name or an IP address");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

impl Net for Tls {
    fn connect<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Stream>> {
        Box::pin(async move {
            let name = server_name(address)?;
            let stream = self.inner.connect(address).await?;
            let connector = lock(&self.current).connector.clone();
            let connected = connector.connect(name, stream).await.map_err(of_tls)?;
            Ok(Box::new(Outgoing(connected)) as Box<dyn Stream>)
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Listener>> {
        Box::pin(async move {
            let inner = self.inner.listen(address).await?;
            let current = Arc::clone(&self.current);
            Ok(Box::new(TlsListener { inner, current }) as Box<dyn Listener>)
        })
    }
}

struct TlsListener {
    inner: Box<dyn Listener>,
    current: Arc<Mutex<Current>>,
}

impl Listener for TlsListener {
    fn accept(&mut self) -> NetFuture<'_, (Box<dyn Stream>, SocketAddr)> {
        Box::pin(async move {
            let (stream, address) = self.inner.accept().await?;
            // The handshake is the connection's own business: one that is slow at it keeps nobody
            // else waiting.
            let acceptor = lock(&self.current).acceptor.clone();
            let shaking = Box::new(acceptor.accept(stream).into_fallible());
            Ok((Box::new(Incoming::Shaking(shaking)) as Box<dyn Stream>, address))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A connection that was made. That the other side refuses this one's certificate shows at the
/// first read.
struct Outgoing(tokio_rustls::client::TlsStream<Box<dyn Stream>>);

impl AsyncRead for Outgoing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer).map_err(named)
    }
}

impl AsyncWrite for Outgoing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes).map_err(named)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx).map_err(named)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Says of an error of the protocol that it is one.
fn named(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::InvalidData { of_tls(error) } else { error }
}

type Accepted = TlsStream<Box<dyn Stream>>;

/// A connection that came in. The first read or write does the handshake.
enum Incoming {
    Shaking(Box<FallibleAccept<Box<dyn Stream>>>),
    Up(Box<Accepted>),
    /// It failed. The other side is told, and has to close first.
    Refused {
        stream: Box<dyn Stream>,
        error: io::Error,
        left: usize,
    },
}

impl Incoming {
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut Accepted>>> {
        if let Incoming::Shaking(shaking) = self {
            *self = match ready!(Pin::new(&mut **shaking).poll(cx)) {
                Ok(up) => Incoming::Up(Box::new(up)),
                Err((error, stream)) => {
                    Incoming::Refused { stream, error: of_tls(error), left: REFUSED_BYTES_MAX }
                }
            };
        }
        if let Incoming::Refused { stream, error, left } = self {
            let mut bytes = [0; 1024];
            while *left > 0 {
                let mut buffer = ReadBuf::new(&mut bytes);
                match ready!(Pin::new(&mut **stream).poll_read(cx, &mut buffer)) {
                    Ok(()) if !buffer.filled().is_empty() => {
                        *left = left.saturating_sub(buffer.filled().len());
                    }
                    _ => *left = 0,
                }
            }
            return Poll::Ready(Err(io::Error::new(error.kind(), error.to_string())));
        }
        match self {
            Incoming::Up(up) => Poll::Ready(Ok(Pin::new(&mut **up))),
            _ => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncRead for Incoming {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_up(cx))?.poll_read(cx, buffer).map_err(named)
    }
}

impl AsyncWrite for Incoming {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_up(cx))?.poll_write(cx, bytes).map_err(named)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            // Nothing was written yet, and whoever only waits for that must not have to shake.
            Incoming::Shaking(_) => Poll::Ready(Ok(())),
            _ => ready!(self.poll_up(cx))?.poll_flush(cx).map_err(named),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Incoming::Up(up) => Pin::new(&mut **up).poll_shutdown(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
