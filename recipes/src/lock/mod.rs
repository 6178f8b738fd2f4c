//! A lock: one holder at a time, first come, first served.
//!
//! ```text
//! /locks/report                            a container, made when needed
//! ├── _c_9f1c…-lock-0000000007  {"host":…} the holder; czxid = fencing token
//! └── _c_40ab…-lock-0000000008  {"host":…} waits for …07 to go
//! ```
//!
//! 1. Create an ephemeral sequential znode with a random id in its name, which says who it is.
//! 2. List; the lowest suffix holds.
//! 3. Otherwise watch the one just before, and list again when it goes: each release wakes one.
//! 4. The token is the znode's `czxid`, which grows over the whole tree.
//! 5. Release deletes the znode; a session that ends takes it along, and so does somebody who takes
//!    the lock away.

pub(crate) mod line;
pub(crate) mod owner;
mod reentrant;
pub(crate) mod revocation;

use std::sync::Arc;
use std::time::Duration;

use synod_core::client::{Client, IntoPath};
use synod_core::model::Path;

pub use owner::Owner;
pub use reentrant::{Entry, Reentrant};

use crate::contender::{Contender, Marker};
use crate::error::Error;
use crate::guard::Guard;
use crate::layout::Layout;
use crate::telemetry::{self, Recipe};
use line::Line;

const LOCK: Marker = Marker::new("-lock-", &telemetry::LOCK);
const KAZOO: Marker = Marker::new("__lock__", &telemetry::LOCK).in_layout(Layout::Kazoo);

/// A lock at a path. Cheap to clone; every clone, and every `Lock` of the same path anywhere,
/// is the same lock. It is not reentrant: a holder that acquires again waits for itself. For code that
/// has to there is [`reentrant`](Lock::reentrant).
#[derive(Clone, Debug)]
pub struct Lock {
    client: Client,
    path: Path,
    layout: Layout,
    /// What its contenders say of themselves.
    metadata: Arc<[u8]>,
    /// As what it is counted.
    recipe: &'static Recipe,
}

impl Lock {
    /// The lock at `path`. Nothing is sent yet; the znode is made (as a container) when somebody
    /// acquires.
    ///
    /// # Errors
    /// [`Error::Client`] if the path is not valid.
    pub fn new(client: &Client, path: impl IntoPath) -> Result<Lock, Error> {
        let (client, path) = (client.clone(), path.into_path()?);
        let (layout, metadata, recipe) = (Layout::Synod, owner::metadata(""), &telemetry::LOCK);
        Ok(Lock { client, path, layout, metadata, recipe })
    }

    /// What is to be told of those who acquire by this lock, for people who look who holds it: the
    /// task that they do, say. Host and process are told in any case.
    pub fn with_label(self, label: &str) -> Lock {
        Lock { metadata: owner::metadata(label), ..self }
    }

    /// The same lock through another client, of the same namespace.
    pub(crate) fn on(&self, client: &Client) -> Lock {
        Lock { client: client.clone(), ..self.clone() }
    }

    /// Counted as a part of another recipe.
    pub(crate) fn counted_as(self, recipe: &'static Recipe) -> Lock {
        Lock { recipe, ..self }
    }

    /// Names its znodes as that library does, so that its locks at the path and this are one lock.
    pub fn with_layout(self, layout: Layout) -> Lock {
        Lock { layout, ..self }
    }

    fn marker(&self) -> Marker {
        let marker = match self.layout {
            Layout::Synod | Layout::Curator => LOCK.in_layout(self.layout),
            Layout::Kazoo => KAZOO,
        };
        marker.counted_as(self.recipe)
    }

    /// The path of the lock.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for its turn and takes the lock.
    ///
    /// **Cancelling** it, at any moment, leaves nothing behind: the place in line is given up,
    /// in the background if need be. **If the session ends** while it waits, it fails; the lock is
    /// not asked for again in another session behind your back.
    ///
    /// # Errors
    /// [`Error::Client`] when a request failed or the session is over; [`Error::Lost`] when the
    /// session ended, or somebody deleted the znode, while it waited;
    /// [`Error::SequenceExhausted`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with time, if it has to wait.
    pub async fn acquire(&self) -> Result<Guard, Error> {
        let acquire = async { Ok(Guard::new(self.enter().await?.first_in_line().await?)) };
        self.recipe.acquiring(&self.path, acquire).await
    }

    async fn enter(&self) -> Result<Contender, Error> {
        Contender::enter(&self.client, &self.path, self.marker(), &self.metadata).await
    }

    /// Takes the lock if nobody holds it or waits for it; `None` otherwise.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// As [`acquire`](Lock::acquire).
    pub async fn try_acquire(&self) -> Result<Option<Guard>, Error> {
        let mut contender = self.enter().await?;
        if contender.predecessor().await?.is_none() {
            return Ok(Some(Guard::new(contender.into_holding()?)));
        }
        contender.leave().await?;
        Ok(None)
    }

    /// Waits at most `limit` for its turn.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::TimedOut`]: then nothing is held and the place in line is given up, in the
    /// background if need be. Otherwise as [`acquire`](Lock::acquire).
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub async fn acquire_within(&self, limit: Duration) -> Result<Guard, Error> {
        let timed_out = |_| Error::TimedOut { path: self.path.clone(), waited: limit };
        tokio::time::timeout(limit, self.acquire()).await.map_err(timed_out)?
    }

    /// Who holds the lock now; `None` if nobody does.
    ///
    /// # Errors
    /// [`Error::Client`], also when it may not be read; [`Error::SequenceExhausted`].
    pub async fn holder(&self) -> Result<Option<Owner>, Error> {
        Ok(self.line().holders().await?.pop())
    }

    /// Who waits for the lock, in the order in which they came. Behind the holder, whom
    /// [`holder`](Lock::holder) tells.
    ///
    /// They are read one by one: one who comes or goes meanwhile may be among them or not.
    ///
    /// # Errors
    /// [`Error::Client`], also when one of them may not be read; [`Error::SequenceExhausted`].
    pub async fn waiters(&self) -> Result<Vec<Owner>, Error> {
        self.line().waiters().await
    }

    fn line(&self) -> Line<'_> {
        let (client, path) = (&self.client, &self.path);
        Line { client, path, marker: self.marker(), layout: self.layout }
    }
}
