//! The cell that counters and ids stand on.

use std::fmt;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use synod_core::client::{Client, IntoPath};
use synod_core::model::{Code, Error as ClientError, Path, Stat, Zxid};
use tracing::debug;

use crate::error::Error;
use crate::telemetry;
use crate::znodes::{PARENT_ATTEMPTS_MAX, make_parents, persist};

/// How many writes a cell remembers the ids of. A writer that has lost a reply learns what became
/// of its write, unless more than these have been done since.
pub const OPS_KEPT: usize = 16;

/// A value of a type of yours at a path, as JSON, which several change: each change is made from
/// the value that it replaces. Cheap to clone; every `Cell` of the same path is the same cell. It
/// belongs to no session.
///
/// It takes as many changes as a znode has versions, which is 2^31 − 1.
pub struct Cell<T> {
    client: Client,
    path: Path,
    /// The data of a new znode.
    initial: Vec<u8>,
    kind: PhantomData<fn() -> T>,
}

/// A value that was read, and which one it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading<T> {
    /// The value.
    pub value: T,
    /// The version of the znode: what [`compare_and_set`](Cell::compare_and_set) asks for.
    pub version: i32,
    /// The zxid of the change that wrote it.
    pub zxid: Zxid,
}

/// The data of the znode.
#[derive(Serialize, Deserialize)]
struct Record<T> {
    value: T,
    /// Ids of the last writes, the latest last: one for each version after 0.
    #[serde(default)]
    ops: Vec<String>,
}

/// A record, and what was read with it.
struct Seen<T> {
    record: Record<T>,
    version: i32,
    /// Of the znode, and of its last change.
    created: Zxid,
    changed: Zxid,
}

/// What became of a write at a version.
enum Written {
    At(i32),
    /// Others were faster: nothing was done, nor will be.
    Not,
}

impl<T: Serialize + DeserializeOwned> Cell<T> {
    /// The cell at `path`. Nothing is sent yet. If it is not there, it is made with the value
    /// `initial`.
    ///
    /// # Errors
    /// [`Error::Client`] if the path is not valid, or the value cannot be written as JSON.
    pub fn new(client: &Client, path: impl IntoPath, initial: T) -> Result<Cell<T>, Error> {
        let initial = encode(&Record { value: initial, ops: Vec::new() })?;
        Ok(Cell { client: client.clone(), path: path.into_path()?, initial, kind: PhantomData })
    }

    /// The path of the cell.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value now.
    ///
    /// # Errors
    /// [`Error::Client`]; [`Error::BadData`] if others have written something else there.
    pub async fn get(&self) -> Result<Reading<T>, Error> {
        let Seen { record, version, changed, .. } = self.look().await?;
        Ok(Reading { value: record.value, version, zxid: changed })
    }

    /// Writes `value` if the cell is still at `version`, exactly once, and yields the version that it
    /// is at then; `None` if it is not.
    ///
    /// It goes on over broken connections, and in the client's next session if the present one ends.
    /// **Cancelling** it may leave it done or not.
    ///
    /// # Errors
    /// As [`update`](Cell::update).
    pub async fn compare_and_set(&self, version: i32, value: &T) -> Result<Option<i32>, Error> {
        let seen = self.look().await?;
        if seen.version != version {
            return Ok(None);
        }
        Ok(match self.replace(&seen, value).await? {
            Written::At(version) => Some(version),
            Written::Not => None,
        })
    }

    /// Replaces the value by what `change` makes of it, exactly once, and yields what was written.
    /// If others were faster, `change` is asked again, for the value that is there then.
    ///
    /// It goes on over broken connections, and in the client's next session if the present one ends.
    /// **Cancelling** it may leave it done or not.
    ///
    /// # Errors
    /// [`Error::Indeterminate`] when nobody can tell whether it was done: read, and decide. After
    /// every other error it was not done: [`Error::Client`], [`Error::BadData`].
    pub async fn update(&self, mut change: impl FnMut(&T) -> T) -> Result<T, Error> {
        self.try_update(|value| Ok(change(value))).await
    }

    /// The same with a `change` that may refuse: then nothing is done.
    ///
    /// # Errors
    /// What `change` has refused with; otherwise as [`update`](Cell::update).
    pub async fn try_update(
        &self,
        mut change: impl FnMut(&T) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            let seen = self.look().await?;
            let value = change(&seen.record.value)?;
            // One of those who write at a version is done: somebody gets on.
            if let Written::At(_) = self.replace(&seen, &value).await? {
                return Ok(value);
            }
        }
    }

    async fn look(&self) -> Result<Seen<T>, Error> {
        let mut attempts = 0;
        loop {
            let client = self.client.pin().await?;
            match persist!(client.get(&self.path).latest()) {
                Err(error) if error.is(Code::NoNode) && attempts < PARENT_ATTEMPTS_MAX => {
                    attempts += 1;
                    match self.make(&client).await {
                        Err(error) if error.session_over() => {}
                        made => made?,
                    }
                }
                // The next session reads as well; there may be none.
                Err(error) if error.session_over() => {}
                read => {
                    let (data, stat) = read?;
                    return self.decode(&data, &stat);
                }
            }
        }
    }

    async fn make(&self, client: &Client) -> Result<(), ClientError> {
        make_parents(client, &self.path).await?;
        match persist!(client.create(&self.path, &self.initial)) {
            // A parent that was made may be reaped again before it has a child.
            Err(error) if error.is(Code::NodeExists) || error.is(Code::NoNode) => Ok(()),
            made => made.map(drop),
        }
    }

    fn decode(&self, data: &[u8], stat: &Stat) -> Result<Seen<T>, Error> {
        let Stat { version, czxid: created, mzxid: changed, .. } = *stat;
        match serde_json::from_slice(data) {
            Ok(record) => Ok(Seen { record, version, created, changed }),
            Err(error) => {
                let (path, reason) = (self.path.clone(), error.to_string());
                Err(Error::BadData { path, zxid: changed, reason })
            }
        }
    }

    async fn replace(&self, seen: &Seen<T>, value: &T) -> Result<Written, Error> {
        let id = self.client.random_id().simple().to_string();
        let old = &seen.record.ops;
        let kept = old.iter().skip((old.len() + 1).saturating_sub(OPS_KEPT));
        let ops = kept.cloned().chain([id.clone()]).collect();
        let data = encode(&Record { value, ops })?;
        telemetry::CELL.waiting("write", &self.path, self.write(seen, &data, &id)).await
    }

    async fn write(&self, seen: &Seen<T>, data: &[u8], id: &str) -> Result<Written, Error> {
        let mut unsure = false;
        loop {
            let client = match self.client.pin().await {
                Ok(client) => client,
                Err(error) => return Err(self.failed(unsure, error)),
            };
            match client.set(&self.path, data).version(seen.version).await {
                Ok(stat) => return Ok(Written::At(stat.version)),
                Err(error) if error.is(Code::BadVersion) && !unsure => return Ok(Written::Not),
                Err(error) if error.is(Code::BadVersion) => return self.resolve(seen, id).await,
                // It is made anew.
                Err(error) if error.is(Code::NoNode) && !unsure => return Ok(Written::Not),
                Err(
                    ClientError::ConnectionLost { maybe_applied, .. }
                    | ClientError::SessionOver { maybe_applied, .. },
                ) => unsure |= maybe_applied,
                Err(error) => return Err(self.failed(unsure, error)),
            }
        }
    }

    /// What became of a write whose reply was lost, now that the version is another.
    async fn resolve(&self, seen: &Seen<T>, id: &str) -> Result<Written, Error> {
        debug!(path = %self.path, id, "a reply was lost");
        let now = self.look().await.map_err(|_| self.indeterminate())?;
        if now.created != seen.created {
            return Err(self.indeterminate());
        }
        // The writes after that of the id, if it was done.
        let Ok(later) = usize::try_from(i64::from(now.version) - i64::from(seen.version) - 1)
        else {
            return Err(self.indeterminate());
        };
        let ops = &now.record.ops;
        if ops.iter().any(|op| op == id) {
            return Ok(Written::At(seen.version + 1));
        }
        match later < ops.len() {
            true => Ok(Written::Not),
            false => Err(self.indeterminate()),
        }
    }

    fn failed(&self, unsure: bool, error: ClientError) -> Error {
        match unsure {
            true => self.indeterminate(),
            false => error.into(),
        }
    }

    fn indeterminate(&self) -> Error {
        Error::Indeterminate { path: self.path.clone() }
    }
}

fn encode<T: Serialize>(record: &Record<T>) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(record)
        .map_err(|error| ClientError::invalid("value", error, "the value of a cell is JSON"))
}

impl<T> Clone for Cell<T> {
    fn clone(&self) -> Cell<T> {
        let (client, path, initial) =
            (self.client.clone(), self.path.clone(), self.initial.clone());
        Cell { client, path, initial, kind: PhantomData }
    }
}

impl<T> fmt::Debug for Cell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").field("path", &self.path).finish_non_exhaustive()
    }
}
