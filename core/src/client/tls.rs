//! How servers are reached by TLS.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::model::Error;

/// How the servers of a connect string that begins with `zks://` prove themselves to a client, and
/// the client to them: by PEM files. Each connection reads them anew, so that a certificate may be
/// replaced while the client runs.
///
/// A server's certificate must name the host that the connect string names, as a DNS name or an
/// IP address. No other name is looked up for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    authorities: PathBuf,
    /// Certificate and key.
    identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Believes servers whose certificate one of these authorities has signed.
    pub fn trusting(authorities: impl Into<PathBuf>) -> Tls {
        Tls { authorities: authorities.into(), identity: None }
    }

    /// Shows a certificate (with those between it and its authority, if there are any) to a server
    /// that asks for one: on ours, it is the client's identity of the scheme `x509` in ACLs.
    pub fn proving(self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Tls {
        Tls { identity: Some((certificate.into(), key.into())), ..self }
    }

    /// # Errors
    /// A file cannot be read or is not what it should be, by its name.
    pub(super) fn check(&self) -> Result<(), Error> {
        let checked = self.config().map(|_| ());
        checked.map_err(|(file, problem)| Error::invalid("file of TLS", file.display(), problem))
    }

    /// What the files say; or which of them does not say it, and why.
    fn config(&self) -> Result<ClientConfig, (&Path, String)> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(&self.authorities)? {
            roots.add(authority).map_err(|error| (&*self.authorities, error.to_string()))?;
        }
        // Named here, so that no other part of a program decides it.
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| (&*self.authorities, error.to_string()))?
            .with_root_certificates(roots);
        let Some((certificate, key)) = &self.identity else {
            return Ok(config.with_no_client_auth());
        };
        let of_key = |error: String| (&**key, error);
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| of_key(error.to_string()))?;
        config.with_client_auth_cert(chain, key).map_err(|error| of_key(error.to_string()))
    }

    /// Shakes hands with a server over a connection to it.
    pub(super) async fn connect(
        &self,
        server: &str,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let tls = self.clone();
        // Files are read on a thread that may wait for them.
        let config = tokio::task::spawn_blocking(move || {
            tls.config().map_err(|(file, problem)| {
                io::Error::other(format!("{}: {problem}", file.display()))
            })
        });
        let config = config.await.map_err(io::Error::other)??;
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        connected.map_err(|error| io::Error::new(error.kind(), format!("TLS: {error}")))
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, (&Path, String)> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(read) if read.is_empty() => Err((file, "no certificate is in it".to_owned())),
        Ok(read) => Ok(read),
        Err(error) => Err((file, error.to_string())),
    }
}
