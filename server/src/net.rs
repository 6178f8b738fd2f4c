//! The seam to the network: byte streams, to and from addresses. The members of a simulated
//! cluster get another one than those that run.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A connection, whatever it runs over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// A future of this seam.
pub type NetFuture<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// How a server reaches others and is reached.
pub trait Net: fmt::Debug + Send + Sync + 'static {
    /// Connects to `host:port`. Dropping the future gives up.
    fn connect<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Stream>>;

    /// Listens on `host:port`.
    fn listen<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Listener>>;
}

/// Where connections come in.
pub trait Listener: Send + Sync {
    /// The next connection and who it is from. Dropping the future loses no connection.
    fn accept(&mut self) -> NetFuture<'_, (Box<dyn Stream>, SocketAddr)>;

    /// Where it listens.
    ///
    /// # Errors
    /// What the operating system says.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Net for Tcp {
    fn connect<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            // What is written is whole: waiting for more would only add latency.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Listener>> {
        Box::pin(
            async move { Ok(Box::new(TcpListener::bind(address).await?) as Box<dyn Listener>) },
        )
    }
}

impl Listener for TcpListener {
    fn accept(&mut self) -> NetFuture<'_, (Box<dyn Stream>, SocketAddr)> {
        Box::pin(async move {
            let (stream, address) = TcpListener::accept(self).await?;
            // As above; a connection that is gone already shows at its first read.
            let _ = stream.set_nodelay(true);
            Ok((Box::new(stream) as Box<dyn Stream>, address))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}

/// Who would be listened for beyond loopback in plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Exposed {
    /// Whoever reaches that port speaks for a member.
    #[error(
        "members would listen on {0} without TLS: beyond loopback they prove themselves by \
         certificates, unless insecure peers are allowed in so many words"
    )]
    Peers(SocketAddr),
    /// Whoever listens on the way reads passwords and data.
    #[error(
        "clients would be taken in on {0} without TLS: beyond loopback the server has a \
         certificate, unless an insecure port is allowed in so many words"
    )]
    Clients(SocketAddr),
}

/// Judges where connections are taken in: beyond loopback with TLS, or when somebody allowed it
/// to be without. `exposed` is what is wrong otherwise.
///
/// # Errors
/// It is reached from other machines, without TLS, and nobody allowed that.
pub(crate) fn check_listen(
    listen: SocketAddr,
    tls: bool,
    allowed: bool,
    exposed: fn(SocketAddr) -> Exposed,
) -> Result<(), Exposed> {
    if listen.ip().to_canonical().is_loopback() || tls || allowed {
        Ok(())
    } else {
        Err(exposed(listen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_beyond_loopback_has_tls_or_is_allowed_to_be_without() {
        for exposed in [Exposed::Peers, Exposed::Clients] {
            let judged = |listen: &str, tls, allowed| {
                check_listen(listen.parse().expect("an address"), tls, allowed, exposed)
            };
            for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
                assert!(judged(loopback, false, false).is_ok(), "{loopback}");
            }
            for open in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
                let text = judged(open, false, false).expect_err("exposed").to_string();
                assert!(text.contains("without TLS"), "{text}");
                assert!(judged(open, true, false).is_ok() && judged(open, false, true).is_ok());
            }
        }
    }
}
