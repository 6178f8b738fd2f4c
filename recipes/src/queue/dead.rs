//! Items that were given up, with the reason.

use std::fmt;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use synod_core::model::{Acl, Code, CreateMode, Error as ClientError, Path};

use super::item::Item;
use super::{Queue, Shelf};
use crate::error::Error;
use crate::znodes::persist;

/// An item that was given up: it had its last attempt, could not be decoded, or was rejected.
#[derive(Clone)]
pub struct DeadLetter<T> {
    pub(crate) path: Path,
    pub(crate) item: Item,
    pub(crate) died_ms: i64,
    pub(crate) value: PhantomData<fn() -> T>,
}

impl<T> DeadLetter<T> {
    /// The item's id.
    pub fn id(&self) -> &str {
        &self.item.head.id
    }

    /// Why it was given up.
    pub fn reason(&self) -> &str {
        self.item.head.reason.as_deref().unwrap_or("unknown")
    }

    /// How many attempts it had.
    pub fn attempts(&self) -> u32 {
        self.item.head.attempts
    }

    /// When it was given up, in milliseconds since the Unix epoch, by the coordinator's clock.
    pub fn died_ms(&self) -> i64 {
        self.died_ms
    }

    /// What was put, byte for byte.
    pub fn payload(&self) -> &[u8] {
        &self.item.payload
    }
}

impl<T: DeserializeOwned> DeadLetter<T> {
    /// What was put.
    ///
    /// # Errors
    /// Why it cannot be decoded.
    pub fn value(&self) -> Result<T, String> {
        self.item.value()
    }
}

impl<T> fmt::Debug for DeadLetter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("path", &self.path)
            .field("attempts", &self.attempts())
            .field("reason", &self.reason())
            .finish()
    }
}

impl<T> Queue<T> {
    /// The oldest dead letters, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Client`].
    pub async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter<T>>, Error> {
        let client = self.core.client.pin().await?;
        let (dead, mut letters) = (&self.core.dead, Vec::new());
        for bucket in dead.buckets(&client).await? {
            for (_, name) in dead.items(&client, bucket).await? {
                if letters.len() == limit {
                    return Ok(letters);
                }
                let path = dead.bucket_path(bucket)?.join(&name)?;
                match persist!(client.get(&path)) {
                    Ok((data, stat)) => {
                        let (item, died_ms) = (Item::read(&data), stat.ctime_ms);
                        letters.push(DeadLetter { path, item, died_ms, value: PhantomData });
                    }
                    Err(error) if error.is(Code::NoNode) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(letters)
    }

    /// Puts a dead letter back in line, as if it had had no attempt; `false` if it is gone.
    ///
    /// # Errors
    /// [`Error::Client`]; if [`maybe_applied`](Error::maybe_applied) says so, ask again: it is
    /// never put back twice.
    pub async fn redrive(&self, letter: &DeadLetter<T>) -> Result<bool, Error> {
        let core = &self.core;
        let client = core.client.pin().await?;
        let mut item = letter.item.clone();
        (item.head.attempts, item.head.reason) = (0, None);
        let lane = core.lane(item.head.priority);
        loop {
            let place = lane.place(&client, &item.head.id).await?;
            let mode = CreateMode::PersistentSequential;
            let txn = client.txn().delete(&letter.path);
            match txn.create_as(place, item.clone().rewrite()?, mode, Acl::open()).commit().await {
                Ok(results) => {
                    core.created(&client, Shelf::Ready(item.head.priority), &results).await;
                    return Ok(true);
                }
                Err(ClientError::Refused { index: Some(0), code: Code::NoNode, .. }) => {
                    return Ok(false);
                }
                Err(error) if error.is(Code::NoNode) => lane.forget(),
                Err(ClientError::ConnectionLost { maybe_applied: false, .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Deletes a dead letter for good; `false` if it is gone.
    ///
    /// # Errors
    /// [`Error::Client`].
    pub async fn discard(&self, letter: &DeadLetter<T>) -> Result<bool, Error> {
        match self.core.client.delete(&letter.path).await {
            Err(error) if error.is(Code::NoNode) => Ok(false),
            done => Ok(done.map(|()| true)?),
        }
    }
}
