//! A latch: it opens when a number of things are done, and stays open.
//!
//! ```text
//! /latches/loaded           3              how many names it waits for
//! ├── _d_shard-0                           persistent: shard-0 is done
//! └── _d_shard-2
//! ```
//!
//! 1. Counting down creates a child of a name; it is there already if the name has counted before,
//!    or its reply was lost. So each name counts once.
//! 2. Who waits watches the children, until there are as many as the number says.

use std::time::Duration;

use synod_core::client::{Client, IntoPath};
use synod_core::model::{Code, Error as ClientError, Path, Stat};

use super::within;
use crate::error::Error;
use crate::telemetry;
use crate::znodes::{PARENT_ATTEMPTS_MAX, make_parents, persist};

/// The most names that a latch can wait for.
pub const LATCH_MAX: u32 = 10_000;

/// What the name of a znode begins with that counts.
const DONE: &str = "_d_";

/// A latch at a path: closed until as many names as it waits for have counted it down, and open for
/// ever then. Cheap to clone; every `Latch` of the same path is the same latch. It belongs to no
/// session: what has counted stays counted when the one that said so dies.
#[derive(Clone, Debug)]
pub struct Latch {
    client: Client,
    path: Path,
    count: u32,
}

impl Latch {
    /// The latch at `path`. Nothing is sent yet. It waits for `count` names, unless somebody has
    /// made it before: then what was said first counts.
    ///
    /// # Errors
    /// [`Error::Client`] if the path or the number is not valid (0 to [`LATCH_MAX`]).
    pub fn new(client: &Client, path: impl IntoPath, count: u32) -> Result<Latch, Error> {
        if count > LATCH_MAX {
            let rule = "a latch waits for at most 10000 names";
            return Err(ClientError::invalid("count", count, rule).into());
        }
        Ok(Latch { client: client.clone(), path: path.into_path()?, count })
    }

    /// The path of the latch.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says that `name` is done, and how many are not yet. A name counts once, however often this
    /// is called and whatever replies are lost: after an error, call it again.
    ///
    /// Cancelling it may leave the name counted.
    ///
    /// # Errors
    /// [`Error::Client`], also for a name that is not one part of a path; [`Error::BadData`].
    pub async fn count_down(&self, name: &str) -> Result<u32, Error> {
        if name.is_empty() || name.contains('/') {
            let rule = "a name is one part of a path: not empty, and without /";
            return Err(ClientError::invalid("name that counts", name, rule).into());
        }
        let child = self.path.join(&format!("{DONE}{name}"))?;
        let mut attempts = 0;
        loop {
            match persist!(self.client.create(&child, b"")) {
                Err(error) if error.is(Code::NodeExists) => break,
                Err(error) if error.is(Code::NoNode) && attempts < PARENT_ATTEMPTS_MAX => {
                    attempts += 1;
                    self.write_down(&self.client).await?;
                }
                created => {
                    created?;
                    break;
                }
            }
        }
        self.remaining().await
    }

    /// How many names it still waits for.
    ///
    /// # Errors
    /// [`Error::Client`]; [`Error::BadData`] if others have written something else there.
    pub async fn remaining(&self) -> Result<u32, Error> {
        let (data, stat) = match persist!(self.client.get(&self.path).latest()) {
            Err(error) if error.is(Code::NoNode) => return Ok(self.count),
            read => read?,
        };
        let names = persist!(self.client.children(&self.path))?;
        Ok(self.parse(&data, &stat)?.saturating_sub(done(&names)))
    }

    /// Waits until it is open. Whoever waits holds nothing, so it goes on in the client's next
    /// session if the present one ends.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::Client`] when the client is closed, gets no further session, or may not look;
    /// [`Error::BadData`].
    pub async fn wait(&self) -> Result<(), Error> {
        let wait = async {
            loop {
                let client = self.client.pin().await?;
                match self.opened(&client).await {
                    Err(error) if error.session_over() => {}
                    opened => return opened,
                }
            }
        };
        telemetry::LATCH.waiting("wait", &self.path, wait).await
    }

    async fn opened(&self, client: &Client) -> Result<(), Error> {
        loop {
            let (data, stat) = match persist!(client.get(&self.path)) {
                Err(error) if error.is(Code::NoNode) => {
                    self.write_down(client).await?;
                    continue;
                }
                read => read?,
            };
            let count = self.parse(&data, &stat)?;
            let ((names, _), changed) = match persist!(client.children(&self.path).watched()) {
                Err(error) if error.is(Code::NoNode) => continue,
                listed => listed?,
            };
            if done(&names) >= count {
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
    /// [`Error::TimedOut`]; otherwise as [`wait`](Latch::wait).
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub async fn wait_within(&self, limit: Duration) -> Result<(), Error> {
        within(&self.path, limit, self.wait()).await
    }

    /// Makes the latch, if nobody has.
    async fn write_down(&self, client: &Client) -> Result<(), ClientError> {
        make_parents(client, &self.path).await?;
        match persist!(client.create(&self.path, self.count.to_string())) {
            // A parent that was made may be reaped again before it has a child.
            Err(error) if error.is(Code::NodeExists) || error.is(Code::NoNode) => Ok(()),
            created => created.map(drop),
        }
    }

    fn parse(&self, data: &[u8], stat: &Stat) -> Result<u32, Error> {
        let count = std::str::from_utf8(data).ok().and_then(|text| text.trim().parse().ok());
        count.ok_or_else(|| {
            let reason = "a latch's data is the number of names that it waits for".to_owned();
            let (path, zxid) = (self.path.clone(), stat.mzxid);
            Error::BadData { path, zxid, reason }
        })
    }
}

/// How many have counted.
fn done(names: &[String]) -> u32 {
    let counted = |name: &&String| name.strip_prefix(DONE).is_some_and(|name| !name.is_empty());
    let done = names.iter().filter(counted).count();
    u32::try_from(done).unwrap_or(u32::MAX)
}
