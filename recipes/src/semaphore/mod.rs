//! A semaphore: a limited number of holders at a time, first come, first served.
//!
//! ```text
//! /semaphores/jobs
//! ├── limit                 5              how many permits there are; its version guards grants
//! ├── line                                 a container
//! │   ├── _c_9f1c…-sema-0000000007         the first in line: it alone takes permits now
//! │   └── _c_40ab…-sema-0000000008         waits for …07 to go
//! └── slots                                a container
//!     ├── _c_d33e…-slot-0000000000         slot 0 is held; czxid = fencing token of the slot
//!     └── _c_77b0…-slot-0000000003         slot 3 is held
//! ```
//!
//! 1. Enter the line, as a contender for a lock does, and wait to be the first.
//! 2. Read the limit and list the slots; wait for a change of either until enough are free.
//! 3. In one transaction: delete the own place in line, check the limit's version, and create an
//!    ephemeral znode for each slot. So permits are had all or none, nobody takes any by a limit
//!    that is stale, and whoever was put out of the line by force takes none.
//! 4. If the reply is lost, look for the znodes: their names have a random id.
//! 5. Release deletes the znodes; a session that ends takes them along.
//!
//! Only the first in line creates slots, and whoever sees that it is the first has seen all that
//! those before it have created, since they left the line in the same transaction. The id in the
//! name of a slot makes a permit's znode its own for ever: what is deleted by force, and granted
//! to another, is never taken for the old permit.

mod permits;
mod turn;

use std::time::Duration;

use synod_core::client::{Client, IntoPath};
use synod_core::model::{Code, Error as ClientError, Path, Zxid};

pub use permits::{Permits, Slot};

use crate::contender::{Contender, Marker};
use crate::error::Error;
use crate::fence::SLOT_MAX;
use crate::telemetry;
use crate::znodes::{make_parents, persist};
use turn::Turn;

/// A place in line.
const LINE: Marker = Marker::new("-sema-", &telemetry::SEMAPHORE);

/// A permit: the suffix is its slot.
const SLOT: Marker = Marker::new("-slot-", &telemetry::SEMAPHORE);

/// The most permits that a semaphore can have.
pub const LIMIT_MAX: u32 = SLOT_MAX + 1;

/// The most permits that one acquire can ask for. They are created in one transaction, and each
/// takes a place in the session's reaper.
pub const PERMITS_MAX: u32 = 256;

/// A semaphore at a path. Cheap to clone; every clone, and every `Semaphore` of the same path
/// anywhere, is the same semaphore.
///
/// It is fair: who asks for many permits is not overtaken by those who ask for one, who wait behind
/// it.
#[derive(Clone, Debug)]
pub struct Semaphore {
    client: Client,
    path: Path,
    line: Path,
    slots: Path,
    limit_path: Path,
    initial: u32,
}

/// The limit as it was read.
struct Limit {
    permits: u32,
    version: i32,
}

impl Semaphore {
    /// The semaphore at `path`. Nothing is sent yet.
    ///
    /// `limit` is how many permits there are if nobody has said so before: the first who acquires
    /// writes it down, and from then on what is written down counts, and is changed by
    /// [`set_limit`](Semaphore::set_limit).
    ///
    /// # Errors
    /// [`Error::Client`] if the path or the limit is not valid (0 to [`LIMIT_MAX`]).
    pub fn new(client: &Client, path: impl IntoPath, limit: u32) -> Result<Semaphore, Error> {
        let path = path.into_path()?;
        Ok(Semaphore {
            client: client.clone(),
            line: path.join("line")?,
            slots: path.join("slots")?,
            limit_path: path.join("limit")?,
            path,
            initial: check_limit(limit)?,
        })
    }

    /// The path of the semaphore.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many permits there are, held or free.
    ///
    /// # Errors
    /// [`Error::Client`]; [`Error::BadData`] if others have written something else there.
    pub async fn limit(&self) -> Result<u32, Error> {
        match persist!(self.client.get(&self.limit_path).latest()) {
            Err(error) if error.is(Code::NoNode) => Ok(self.initial),
            read => {
                let (data, stat) = read?;
                Ok(self.parse(&data, stat.version, stat.mzxid)?.permits)
            }
        }
    }

    /// Changes how many permits there are. More are granted from now on. If there are to be fewer,
    /// nobody loses a permit: none is granted until enough are released. With 0, everybody waits.
    ///
    /// Of two who change it at once, the one that was done last counts. **Cancelling** it may leave
    /// either.
    ///
    /// # Errors
    /// [`Error::Client`], also for a limit above [`LIMIT_MAX`].
    pub async fn set_limit(&self, limit: u32) -> Result<(), Error> {
        let text = check_limit(limit)?.to_string();
        loop {
            match persist!(self.client.set(&self.limit_path, &text)) {
                Err(error) if error.is(Code::NoNode) => {}
                set => return Ok(set.map(drop)?),
            }
            if self.write_down(&self.client, &text).await? {
                return Ok(());
            }
        }
    }

    /// Waits for its turn, and for a permit.
    ///
    /// **Cancelling** it, at any moment, leaves nothing behind: place in line and permit are given
    /// up, in the background if need be. **If the session ends** while it waits, it fails; nothing
    /// is asked for in another session behind your back.
    ///
    /// # Errors
    /// [`Error::Client`] when a request failed or the session is over, and when the limit is
    /// above 0 but below the number of permits asked for; [`Error::Lost`] when the session ended, or
    /// somebody deleted the place in line, while it waited; [`Error::BadData`] when others have
    /// written a limit that is none; [`Error::SequenceExhausted`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with time, if it has to wait.
    pub async fn acquire(&self) -> Result<Permits, Error> {
        self.acquire_many(1).await
    }

    /// Waits for its turn, and for `count` permits at once: it has all of them or none.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire), and [`Error::Client`] for a `count` that is not 1 to
    /// [`PERMITS_MAX`].
    ///
    /// # Panics
    /// As [`acquire`](Semaphore::acquire).
    pub async fn acquire_many(&self, count: u32) -> Result<Permits, Error> {
        let acquire = async {
            let place = self.enter(count).await?.first_in_line().await?;
            Turn::new(self, place, count).granted().await
        };
        telemetry::SEMAPHORE.acquiring(&self.path, acquire).await
    }

    /// Takes a permit if one is free and nobody waits; `None` otherwise. Somebody else who is
    /// taking a permit at this very moment counts as waiting.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire).
    pub async fn try_acquire(&self) -> Result<Option<Permits>, Error> {
        self.try_acquire_many(1).await
    }

    /// Takes `count` permits if as many are free and nobody waits; `None` otherwise.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// As [`acquire_many`](Semaphore::acquire_many).
    pub async fn try_acquire_many(&self, count: u32) -> Result<Option<Permits>, Error> {
        let mut contender = self.enter(count).await?;
        if contender.predecessor().await?.is_some() {
            contender.leave().await?;
            return Ok(None);
        }
        Turn::new(self, contender.into_holding()?, count).granted_now().await
    }

    /// Waits at most `within` for a permit.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::TimedOut`]: then nothing is held and the place in line is given up, in the
    /// background if need be. Otherwise as [`acquire`](Semaphore::acquire).
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub async fn acquire_within(&self, within: Duration) -> Result<Permits, Error> {
        self.acquire_many_within(1, within).await
    }

    /// Waits at most `within` for `count` permits at once.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// As [`acquire_within`](Semaphore::acquire_within) and
    /// [`acquire_many`](Semaphore::acquire_many).
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub async fn acquire_many_within(
        &self,
        count: u32,
        within: Duration,
    ) -> Result<Permits, Error> {
        let timed_out = |_| Error::TimedOut { path: self.path.clone(), waited: within };
        tokio::time::timeout(within, self.acquire_many(count)).await.map_err(timed_out)?
    }

    async fn enter(&self, count: u32) -> Result<Contender, Error> {
        if !(1..=PERMITS_MAX).contains(&count) {
            let rule = "an acquire asks for 1 to 256 permits";
            return Err(ClientError::invalid("number of permits", count, rule).into());
        }
        Contender::enter(&self.client, &self.line, LINE, b"").await
    }

    /// Writes the limit down if nobody has; whether it was this that did, as far as is known.
    async fn write_down(&self, client: &Client, text: &str) -> Result<bool, ClientError> {
        make_parents(client, &self.limit_path).await?;
        match persist!(client.create(&self.limit_path, text)) {
            // A parent that was made may be reaped again before it has a child.
            Err(error) if error.is(Code::NodeExists) || error.is(Code::NoNode) => Ok(false),
            created => created.map(|_| true),
        }
    }

    fn parse(&self, data: &[u8], version: i32, zxid: Zxid) -> Result<Limit, Error> {
        let permits = std::str::from_utf8(data).ok().and_then(|text| text.trim().parse().ok());
        match permits.filter(|permits| *permits <= LIMIT_MAX) {
            Some(permits) => Ok(Limit { permits, version }),
            None => {
                let text = String::from_utf8_lossy(&data[..data.len().min(32)]);
                let reason = format!("a limit is a number of 0 to {LIMIT_MAX}, not {text:?}");
                Err(Error::BadData { path: self.limit_path.clone(), zxid, reason })
            }
        }
    }
}

fn check_limit(limit: u32) -> Result<u32, ClientError> {
    match limit <= LIMIT_MAX {
        true => Ok(limit),
        false => Err(ClientError::invalid("limit", limit, "a semaphore has at most 65536 permits")),
    }
}
