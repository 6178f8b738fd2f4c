//! Barriers: waiting for a word, for each other, or for a number of things to be done.
//!
//! ```text
//! /barriers/deploy                         a Barrier: closed as long as this is there
//! ```
//!
//! 1. Closing creates the znode, opening deletes it.
//! 2. Who waits watches the znode, and looks again whenever it is woken.
//!
//! [`DoubleBarrier`] and [`Latch`] have files of their own.

mod cohort;
mod double;
mod latch;

use std::time::Duration;

use synod_core::client::{Client, IntoPath};
use synod_core::model::{Code, Error as ClientError, Path};

pub use cohort::Cohort;
pub use double::{COHORT_MAX, DoubleBarrier};
pub use latch::{LATCH_MAX, Latch};

use crate::error::Error;
use crate::telemetry;
use crate::znodes::{PARENT_ATTEMPTS_MAX, make_parents, persist};

/// A barrier that somebody closes and opens, and others wait at. Cheap to clone; every `Barrier`
/// of the same path is the same barrier. It is open as long as nobody has closed it, and belongs to
/// no session: it stays closed when the one that closed it dies.
#[derive(Clone, Debug)]
pub struct Barrier {
    client: Client,
    path: Path,
}

impl Barrier {
    /// The barrier at `path`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Client`] if the path is not valid.
    pub fn new(client: &Client, path: impl IntoPath) -> Result<Barrier, Error> {
        Ok(Barrier { client: client.clone(), path: path.into_path()? })
    }

    /// The path of the barrier.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes it: who waits from now on waits until it is opened. Closing twice does nothing. If
    /// the reply is lost it is closed once more; should others have opened it in between, it is
    /// closed again.
    ///
    /// Cancelling it may leave it closed.
    ///
    /// # Errors
    /// [`Error::Client`].
    pub async fn close(&self) -> Result<(), Error> {
        let mut attempts = 0;
        loop {
            match persist!(self.client.create(&self.path, b"")) {
                Err(error) if error.is(Code::NodeExists) => return Ok(()),
                // A parent that was made may be reaped again before it has a child.
                Err(error) if error.is(Code::NoNode) && attempts < PARENT_ATTEMPTS_MAX => {
                    attempts += 1;
                    make_parents(&self.client, &self.path).await?;
                }
                created => return Ok(created.map(drop)?),
            }
        }
    }

    /// Opens it, for all that wait. Opening twice does nothing.
    ///
    /// Cancelling it may leave it open.
    ///
    /// # Errors
    /// [`Error::Client`].
    pub async fn open(&self) -> Result<(), Error> {
        match persist!(self.client.delete(&self.path)) {
            Err(error) if !error.is(Code::NoNode) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Whether it is closed now.
    ///
    /// # Errors
    /// [`Error::Client`].
    pub async fn is_closed(&self) -> Result<bool, Error> {
        persist!(self.client.sync())?;
        Ok(persist!(self.client.exists(&self.path))?.is_some())
    }

    /// Waits until it is open. Whoever waits holds nothing, so it goes on in the client's next
    /// session if the present one ends.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::Client`] when the client is closed, gets no further session, or may not look.
    pub async fn wait(&self) -> Result<(), Error> {
        let wait = async {
            loop {
                let client = self.client.pin().await?;
                match self.opened(&client).await {
                    Err(error) if error.session_over() => {}
                    opened => return Ok(opened?),
                }
            }
        };
        telemetry::BARRIER.waiting("wait", &self.path, wait).await
    }

    async fn opened(&self, client: &Client) -> Result<(), ClientError> {
        // What others have closed before is seen.
        persist!(client.sync())?;
        loop {
            let (closed, changed) = persist!(client.exists(&self.path).watched())?;
            if closed.is_none() {
                return Ok(());
            }
            changed.await?;
        }
    }

    /// Waits until it is open, at most `limit`.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::TimedOut`]; otherwise as [`wait`](Barrier::wait).
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub async fn wait_within(&self, limit: Duration) -> Result<(), Error> {
        within(&self.path, limit, self.wait()).await
    }
}

async fn within<T>(
    path: &Path,
    limit: Duration,
    event: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let timed_out = |_| Error::TimedOut { path: path.clone(), waited: limit };
    tokio::time::timeout(limit, event).await.map_err(timed_out)?
}
