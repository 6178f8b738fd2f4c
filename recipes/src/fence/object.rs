//! The gate over an object store: a write that is conditional on what was read.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use synod_core::model::Zxid;
use tracing::debug;

use super::Stale;
use crate::error::Error;

/// How often an update is tried before it is given up, when others write the object all the time.
pub const UPDATE_ATTEMPTS_MAX: usize = 16;

/// Why a store failed.
pub type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// An object, as a store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its data.
    pub body: Bytes,
    /// The highest fencing token that it was written under. It is stored along with the data, as
    /// metadata of the object (`x-amz-meta-fence`, say). An object that was written without one has
    /// [`Zxid::ZERO`].
    pub fence: Zxid,
    /// What this very content is known by to the store.
    pub etag: String,
}

/// When a conditional write is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// If the object is there and has this ETag still (`If-Match: …`).
    Matches(String),
    /// If there is no object (`If-None-Match: *`).
    Missing,
}

/// What a [`FencedObject`] needs of a store. Object stores have it under other names: `If-Match`
/// and `If-None-Match` on a `PutObject` of S3 and on blobs of Azure, generations in Google Cloud
/// Storage.
///
/// Whether the condition holds and the write itself have to be one atomic step of the store.
pub trait ConditionalStore: Send + Sync {
    /// The object of that key; `None` if there is none.
    ///
    /// # Errors
    /// What the store could not do.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Object>, StoreError>> + Send;

    /// Writes data and fence of an object if the condition holds; `false` if it does not (412
    /// Precondition Failed), and then nothing is written.
    ///
    /// # Errors
    /// What the store could not do, or what it did not answer. It may have been done.
    fn put(
        &self,
        key: &str,
        body: Bytes,
        fence: Zxid,
        when: When,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// The gate of an object in a store with conditional writes: a holder of a stale token does not
/// write it.
///
/// ```
/// use synod::fence::{FencedObject, MemoryStore};
/// use synod::{Client, Lock};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
/// # runtime.block_on(async {
/// # let client = Client::connect("embedded:").await?;
/// let report = FencedObject::new(MemoryStore::new(), "reports/last");
/// let guard = Lock::new(&client, "/locks/report")?.acquire().await?;
/// report.put(guard.token(), "42").await?;
/// # client.close().await?;
/// # Ok::<(), synod::Error>(())
/// # }).unwrap();
/// ```
///
/// 1. Read the object, its fence and its ETag.
/// 2. Refuse a token below the fence.
/// 3. Write data and token, on the condition that the ETag is still the same.
/// 4. If it is not, somebody has written since: begin again.
///
/// All writers of the object have to go through such a gate: a write without a condition passes by
/// every fence.
#[derive(Clone, Debug)]
pub struct FencedObject<S> {
    store: S,
    key: Arc<str>,
}

impl<S: ConditionalStore> FencedObject<S> {
    /// The gate of the object `key`. Nothing is sent yet.
    pub fn new(store: S, key: impl Into<Arc<str>>) -> FencedObject<S> {
        FencedObject { store, key: key.into() }
    }

    /// Writes the object under `token`, whatever it holds now.
    ///
    /// Cancelling it leaves the object as it was or written, never in between.
    ///
    /// # Errors
    /// As [`update`](FencedObject::update).
    pub async fn put(&self, token: Zxid, body: impl Into<Bytes>) -> Result<(), Error> {
        let body = body.into();
        self.update(token, |_| body.clone()).await
    }

    /// Replaces what the object holds (`None`: there is none) with what `change` makes of it, under
    /// `token`. Nobody writes between the read and the write; `change` is called again if somebody
    /// did.
    ///
    /// Cancelling it leaves the object as it was or written, never in between.
    ///
    /// # Errors
    /// [`Error::Stale`] when it was written under a greater token; [`Error::Store`] when the store
    /// failed, and then the write may have been done; [`Error::Contended`] when others wrote it
    /// between read and write, [`UPDATE_ATTEMPTS_MAX`] times in a row.
    pub async fn update(
        &self,
        token: Zxid,
        mut change: impl FnMut(Option<&Bytes>) -> Bytes,
    ) -> Result<(), Error> {
        for attempt in 1..=UPDATE_ATTEMPTS_MAX {
            let before =
                self.store.get(&self.key).await.map_err(|error| self.failed(error, false))?;
            let highest = before.as_ref().map_or(Zxid::ZERO, |object| object.fence);
            if token < highest {
                return Err(Stale { token, highest }.into());
            }
            let body = change(before.as_ref().map(|object| &object.body));
            let when = before.map_or(When::Missing, |object| When::Matches(object.etag));
            let put = self.store.put(&self.key, body, token, when).await;
            if put.map_err(|error| self.failed(error, true))? {
                return Ok(());
            }
            debug!(key = &*self.key, attempt, "somebody else has written it meanwhile");
        }
        Err(Error::Contended { key: self.key.to_string(), attempts: UPDATE_ATTEMPTS_MAX })
    }

    fn failed(&self, error: StoreError, maybe_applied: bool) -> Error {
        Error::Store { key: self.key.to_string(), maybe_applied, source: error.into() }
    }
}

/// A [`ConditionalStore`] in memory, for tests.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Object>>,
}

impl MemoryStore {
    /// A store without objects.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Object>> {
        // Nothing below panics half way through a change.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConditionalStore for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        Ok(self.objects().get(key).cloned())
    }

    async fn put(
        &self,
        key: &str,
        body: Bytes,
        fence: Zxid,
        when: When,
    ) -> Result<bool, StoreError> {
        let mut objects = self.objects();
        let now = objects.get(key);
        // Objects are never deleted, so that a count of the writes is an ETag.
        let etag = match (now, when) {
            (None, When::Missing) => 1,
            (Some(now), When::Matches(etag)) if now.etag == etag => {
                etag.parse::<u64>().unwrap_or_default() + 1
            }
            _ => return Ok(false),
        };
        objects.insert(key.to_owned(), Object { body, fence, etag: etag.to_string() });
        Ok(true)
    }
}

impl<S: ConditionalStore> ConditionalStore for Arc<S> {
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Object>, StoreError>> + Send {
        S::get(self, key)
    }

    fn put(
        &self,
        key: &str,
        body: Bytes,
        fence: Zxid,
        when: When,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        S::put(self, key, body, fence, when)
    }
}
