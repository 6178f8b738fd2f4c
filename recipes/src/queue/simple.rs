//! The plain queue of ZooKeeper's documentation, as kazoo's `Queue` lays it out: at most once.
//!
//! ```text
//! /jobs
//! ├── entry-050-0000000003    a higher priority: the lower number
//! └── entry-100-0000000001    an item: its data is the payload
//! ```
//!
//! 1. A put creates a sequential znode.
//! 2. Who takes lists once, then walks along the list: read, delete. Who deletes has it.
//! 3. The list is read anew when it is used up.
//!
//! An item is gone when it is taken: if its consumer dies, so does the item. Every list is of the
//! whole queue. It is for a handful of items, and for sharing them with programs that use kazoo;
//! for everything else there is [`Queue`](super::Queue).

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use synod_core::client::{Client, IntoPath};
use synod_core::model::{Code, Error as ClientError, Path};

use crate::error::Error;
use crate::znodes::{make_parents, persist};

/// The priority of a put that names none; lower numbers are taken first.
const PRIORITY: u16 = 100;

const PRIORITY_LOWEST: u16 = 999;

/// A plain queue of bytes.
pub struct SimpleQueue {
    client: Client,
    path: Path,
    listed: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for SimpleQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimpleQueue").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Whether a child is an item: `entry-` , three digits, a suffix of ten.
fn is_item(name: &str) -> bool {
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    let parts = name.strip_prefix("entry-").and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(priority, suffix)| digits(priority, 3) && digits(suffix, 10))
}

impl SimpleQueue {
    /// The queue at `path`. Nothing is sent yet; the znode is made by the first put.
    ///
    /// # Errors
    /// [`Error::Client`] if the path is not valid.
    pub fn new(client: &Client, path: impl IntoPath) -> Result<SimpleQueue, Error> {
        let (client, path) = (client.clone(), path.into_path()?);
        Ok(SimpleQueue { client, path, listed: Mutex::default() })
    }

    /// Adds an item of priority 100.
    ///
    /// # Errors
    /// As [`put_at`](SimpleQueue::put_at).
    pub async fn put(&self, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        self.put_at(PRIORITY, payload).await
    }

    /// Adds an item. Those of a lower number are taken first: 0 to 999.
    ///
    /// # Errors
    /// [`Error::Client`]; if [`maybe_applied`](Error::maybe_applied) says so the item may have been
    /// added, and putting it again may add it twice.
    pub async fn put_at(&self, priority: u16, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        if priority > PRIORITY_LOWEST {
            let rule = "a priority is 0 to 999";
            return Err(ClientError::invalid("priority", priority, rule).into());
        }
        let stem = self.path.join(&format!("entry-{priority:03}-"))?;
        loop {
            match self.client.create(&stem, payload.as_ref()).sequential().await {
                Err(error) if error.is(Code::NoNode) => {
                    make_parents(&self.client, &self.path).await?;
                    match persist!(self.client.create(&self.path, b"")) {
                        Err(error) if !error.is(Code::NodeExists) => return Err(error.into()),
                        _ => {}
                    }
                }
                Err(ClientError::ConnectionLost { maybe_applied: false, .. }) => {}
                created => return Ok(created.map(drop)?),
            }
        }
    }

    fn pop_listed(&self) -> Option<String> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }

    async fn list(&self) -> Result<bool, Error> {
        let names = match persist!(self.client.children(&self.path)) {
            Err(error) if error.is(Code::NoNode) => Vec::new(),
            names => names?,
        };
        let items: BTreeSet<String> = names.into_iter().filter(|name| is_item(name)).collect();
        let any = !items.is_empty();
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = items;
        Ok(any)
    }

    /// Takes the first item; `None` if there is none. Items that were put after the list was read
    /// wait for the next list, whatever their priority.
    ///
    /// Cancelling it may lose the item.
    ///
    /// # Errors
    /// [`Error::Client`]; if [`maybe_applied`](Error::maybe_applied) says so an item may have been
    /// taken that nobody gets.
    pub async fn take(&self) -> Result<Option<Bytes>, Error> {
        loop {
            let Some(name) = self.pop_listed() else {
                match self.list().await? {
                    true => continue,
                    false => return Ok(None),
                }
            };
            let path = self.path.join(&name)?;
            let (payload, stat) = match persist!(self.client.get(&path)) {
                Err(error) if error.is(Code::NoNode) => continue,
                read => read?,
            };
            match self.client.delete(&path).version(stat.version).await {
                Ok(()) => return Ok(Some(payload)),
                // Somebody else has it.
                Err(error) if error.is(Code::NoNode) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_items_are_taken_for_items() {
        assert!(is_item("entry-100-0000000001"));
        for foreign in ["", "entry-", "entry-1-0000000001", "entry-100-1", "lock-100-0000000001"] {
            assert!(!is_item(foreign), "{foreign}");
        }
    }
}
