//! How a holder speaks to a resource: it asks in a line, and is answered in one.
//!
//! ```text
//! offer KEY exclusive|shared TOKEN HOLDER     admitted | stale | taken
//! complaint TEXT                              noted
//! ```

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::line::{Offer, Verdict};

/// How long a resource may take to answer, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A resource, as a holder sees it. Its calls block, as those of many drivers do.
pub struct Service {
    stream: BufReader<TcpStream>,
}

impl Service {
    /// Connects.
    ///
    /// # Errors
    /// If there is no such resource.
    pub fn connect(address: SocketAddr) -> io::Result<Service> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Service { stream: BufReader::new(stream) })
    }

    fn ask(&mut self, line: &str) -> io::Result<String> {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    }

    /// Asks for a write.
    ///
    /// # Errors
    /// If the resource does not answer, or not in these words.
    pub fn offer(&mut self, offer: &Offer) -> io::Result<Verdict> {
        self.ask(&format!("offer {offer}"))?.parse().map_err(io::Error::other)
    }

    /// Tells of something that must not be.
    ///
    /// # Errors
    /// If the resource does not answer.
    pub fn complain(&mut self, text: &str) -> io::Result<()> {
        let line = format!("complaint {}", text.replace('\n', " "));
        self.ask(&line).map(drop)
    }
}
