//! TLS where clients connect: versions 1.2 and 1.3, since not every client of the protocol speaks
//! the later one; the server proved by its certificate, and clients by theirs if authorities are
//! named for them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use synod_core::model::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::WebPkiClientVerifier;

use super::{CertificateName, Pem, REFUSED_BYTES_MAX, TlsError, never_resume, of_tls, provider};
use crate::limits::{LINGER_MS_MAX, TLS_OUTPUT_BYTES_MAX, TLS_RELOAD_MS};
use crate::net::Stream;

/// What a server's port speaks TLS by: PEM files, which are looked at again and again while it
/// runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// Where it is spoken, if not on [`Config::listen`](crate::Config::listen): clients speak plainly
    /// there then, so that they can be moved to TLS one after the other.
    pub listen: Option<SocketAddr>,
    /// The server's certificate, and those between it and its authority if there are any.
    pub certificate: PathBuf,
    /// Its private key; others than its owner and group may neither read nor write the file.
    pub key: PathBuf,
    /// The authorities that clients' certificates are signed by. With them, a client without such
    /// a certificate is refused; without, clients are asked for none.
    pub client_ca: Option<PathBuf>,
    /// What a client is known by in ACLs of the scheme `x509`.
    pub client_name: CertificateName,
    /// How often the files are looked at. What has changed counts for connections that come after
    /// that; files that are wrong change nothing.
    pub reload_interval: Duration,
}

impl ClientTls {
    /// A certificate and its key, and no certificates of clients.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> ClientTls {
        ClientTls {
            listen: None,
            certificate: certificate.into(),
            key: key.into(),
            client_ca: None,
            client_name: CertificateName::default(),
            reload_interval: Duration::from_millis(TLS_RELOAD_MS),
        }
    }
}

/// What the files hold.
#[derive(PartialEq, Eq)]
struct Read {
    certificate: Pem,
    key: Pem,
    client_ca: Option<Pem>,
}

impl Read {
    fn of(files: &ClientTls) -> Result<Read, TlsError> {
        Ok(Read {
            certificate: Pem::read(&files.certificate)?,
            key: Pem::read_key(&files.key)?,
            client_ca: files.client_ca.as_deref().map(Pem::read).transpose()?,
        })
    }

    fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let of_key = |error| self.key.wrong(error);
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(of_key)?;
        let config = match &self.client_ca {
            None => config.with_no_client_auth(),
            Some(ca) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(ca.authorities()?, provider());
                config.with_client_cert_verifier(verifier.build().map_err(|error| ca.wrong(error))?)
            }
        };
        let config = config.with_single_cert(self.certificate.certificates()?, self.key.key()?);
        let mut config = config.map_err(of_key)?;
        if self.client_ca.is_some() {
            never_resume(&mut config);
        }
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// A port that speaks TLS.
pub(crate) struct Port {
    files: ClientTls,
    current: Mutex<(Read, TlsAcceptor)>,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Port {
    /// # Errors
    /// A file cannot be read or is not what it should be, or the key is not that of the
    /// certificate.
    pub(crate) fn open(files: &ClientTls) -> Result<Port, TlsError> {
        let read = Read::of(files)?;
        let acceptor = read.acceptor()?;
        Ok(Port { files: files.clone(), current: Mutex::new((read, acceptor)) })
    }

    fn current(&self) -> MutexGuard<'_, (Read, TlsAcceptor)> {
        // Nothing panics half way through a change of it.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn reload_interval(&self) -> Duration {
        self.files.reload_interval
    }

    /// Looks at the files, and takes what has changed; whether something has.
    ///
    /// # Errors
    /// Those of [`Port::open`]; everything stays as it was then. While files are replaced one by
    /// one, they do not fit each other for a moment.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        let read = Read::of(&self.files)?;
        if self.current().0 == read {
            return Ok(false);
        }
        let acceptor = read.acceptor()?;
        *self.current() = (read, acceptor);
        Ok(true)
    }

    /// Shakes hands; the stream inside, and who the client has proved to be. The caller bounds how
    /// long it takes.
    ///
    /// # Errors
    /// The client speaks no TLS, or shows no certificate that counts; it has been told.
    pub(crate) async fn accept(
        &self,
        stream: Box<dyn Stream>,
    ) -> io::Result<(Box<dyn Stream>, Option<Identity>)> {
        let acceptor = self.current().1.clone();
        let mut stream = match acceptor.accept(stream).into_fallible().await {
            Ok(stream) => stream,
            Err((error, stream)) => {
                say_good_bye(stream).await;
                return Err(of_tls(error));
            }
        };
        let (_, connection) = stream.get_mut();
        connection.set_buffer_limit(Some(TLS_OUTPUT_BYTES_MAX));
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let proved = certificate.and_then(|it| self.files.client_name.identity(it));
        Ok((Box::new(stream), proved))
    }
}

/// Lets a client that was refused read why: closing with its bytes unread would take that from it.
async fn say_good_bye(mut stream: Box<dyn Stream>) {
    let reading = async {
        let _ = stream.shutdown().await;
        let mut left = stream.take(REFUSED_BYTES_MAX as u64);
        let mut bytes = [0; 1024];
        while left.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    };
    // It may neither read nor close.
    let _ = timeout(Duration::from_millis(LINGER_MS_MAX), reading).await;
}
