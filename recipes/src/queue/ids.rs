//! Ids that were put, remembered for a window of time.
//!
//! ```text
//! /jobs/ids/
//! ├── w0000283333/            a window of time, by the coordinator's clock
//! │   └── 3f/                 one of 256 shards
//! │       └── i-order-991     the id; holds the item's own id
//! └── w0000283334/
//! ```
//!
//! An id is entered in the present window by the transaction that puts the item. That it is not in
//! the window before (nor, for clocks that differ a little, in the one after) is judged by the same
//! transaction: it creates the id there and deletes it again, which fails where it is. So an id is
//! remembered for one window at least, and for two at most.

use std::time::Duration;

use synod_core::client::{Client, Txn};
use synod_core::model::{Acl, Code, CreateMode, Error as ClientError, Path};
use tracing::warn;

use super::clock::millis;
use crate::error::Error;
use crate::znodes::{make_parents, persist};

/// Longest id, in bytes.
const ID_BYTES_MAX: usize = 256;

/// Ids that are deleted in one transaction.
const SWEPT_AT_ONCE: usize = 500;

pub(crate) struct Ids {
    path: Path,
    /// The window in which this handle swept last.
    swept: std::sync::atomic::AtomicI64,
}

/// Where an id has to be, and where it must not be.
pub(crate) struct Ticket {
    own: Path,
    others: [Path; 2],
}

/// Ids as names of znodes: plain ones as they are, all others in hexadecimal.
fn name_of(id: &str) -> Result<String, Error> {
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        let rule = "an id for dedup has 1 to 256 bytes";
        return Err(ClientError::invalid("id", id, rule).into());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    match id.bytes().all(plain) {
        true => Ok(format!("i-{id}")),
        false => Ok(id.bytes().fold("x-".to_owned(), |name, byte| format!("{name}{byte:02x}"))),
    }
}

/// Which of 256 shards: FNV-1a (Fowler, Noll, Vo), the same in every process.
fn shard_of(id: &str) -> u8 {
    let fnv = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    let hash = id.bytes().fold(2_166_136_261, fnv);
    (hash ^ (hash >> 8) ^ (hash >> 16) ^ (hash >> 24)) as u8
}

fn window_name(window: i64) -> String {
    format!("w{window:011}")
}

fn window_of(name: &str) -> Option<i64> {
    name.strip_prefix('w')?.parse().ok()
}

impl Ids {
    pub(crate) fn new(path: Path) -> Ids {
        Ids { path, swept: std::sync::atomic::AtomicI64::new(i64::MIN) }
    }

    /// Where `id` belongs at that time. What is missing above it is made.
    pub(crate) async fn ticket(
        &self,
        client: &Client,
        id: &str,
        now_ms: i64,
        window: Duration,
    ) -> Result<Ticket, Error> {
        let (name, shard) = (name_of(id)?, format!("{:02x}", shard_of(id)));
        let window = now_ms / millis(window).max(1);
        let place = |window: i64| self.path.join(&window_name(window))?.join(&shard)?.join(&name);
        let ticket =
            Ticket { own: place(window)?, others: [place(window - 1)?, place(window + 1)?] };
        ticket.make(client).await?;
        let before = self.swept.swap(window, std::sync::atomic::Ordering::Relaxed);
        if before != window
            && let Err(error) = self.sweep(client, window - 2).await
        {
            // Whoever comes into the next window tries again.
            warn!(path = %self.path, %error, "old ids could not be swept");
        }
        Ok(ticket)
    }

    /// Deletes windows up to that one.
    async fn sweep(&self, client: &Client, last: i64) -> Result<(), Error> {
        for name in children(client, &self.path).await? {
            if window_of(&name).is_none_or(|window| window > last) {
                continue;
            }
            let window = self.path.join(&name)?;
            for shard in children(client, &window).await? {
                let shard = window.join(&shard)?;
                let ids = children(client, &shard).await?;
                for ids in ids.chunks(SWEPT_AT_ONCE) {
                    let mut txn = client.txn();
                    for id in ids {
                        txn = txn.delete(shard.join(id)?);
                    }
                    delete(txn).await?;
                }
                delete(client.txn().delete(&shard)).await?;
            }
            delete(client.txn().delete(&window)).await?;
        }
        Ok(())
    }
}

async fn children(client: &Client, path: &Path) -> Result<Vec<String>, Error> {
    match persist!(client.children(path)) {
        Err(error) if error.is(Code::NoNode) => Ok(Vec::new()),
        names => Ok(names?),
    }
}

/// Somebody else may sweep at the same moment.
async fn delete(txn: Txn) -> Result<(), Error> {
    match txn.commit().await {
        Err(error)
            if !error.is(Code::NoNode)
                && !error.is(Code::NotEmpty)
                && !matches!(error, ClientError::ConnectionLost { .. }) =>
        {
            Err(error.into())
        }
        _ => Ok(()),
    }
}

impl Ticket {
    /// Makes what is missing above the places of the id.
    pub(crate) async fn make(&self, client: &Client) -> Result<(), Error> {
        for place in self.others.iter().chain([&self.own]) {
            make_parents(client, place).await?;
        }
        Ok(())
    }

    /// What a transaction has to do so that it is done for a new id alone.
    pub(crate) fn add(&self, mut txn: Txn, item: &str) -> Txn {
        for other in &self.others {
            txn = txn.create(other, b"").delete(other);
        }
        txn.create_as(&self.own, item, CreateMode::Persistent, Acl::open())
    }

    /// Whether the id was entered by that item.
    pub(crate) async fn is_of(&self, client: &Client, item: &str) -> Result<bool, Error> {
        match persist!(client.get(&self.own)) {
            Ok((data, _)) => Ok(data == item.as_bytes()),
            Err(error) if error.is(Code::NoNode) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_valid_names_that_differ() {
        let ids = ["order-991", "a/b", "..", "ü", "x-616263", "abc", "\0"];
        let names: std::collections::BTreeSet<String> =
            ids.iter().map(|id| name_of(id).expect("short")).collect();
        assert_eq!(names.len(), ids.len());
        for name in &names {
            assert!(Path::root().join(name).is_ok(), "{name}");
        }
        for bad in ["".to_owned(), "x".repeat(ID_BYTES_MAX + 1)] {
            assert!(name_of(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shards_are_the_same_in_every_process() {
        // FNV-1a of the two is 0x811C9DC5 and 0xE40C292C.
        assert_eq!(
            (shard_of(""), shard_of("a")),
            (0xC5 ^ 0x9D ^ 0x1C ^ 0x81, 0x2C ^ 0x29 ^ 0x0C ^ 0xE4)
        );
        let used: std::collections::BTreeSet<u8> =
            (0..4_000).map(|n| shard_of(&format!("order-{n}"))).collect();
        assert!(used.len() > 250, "{}", used.len());
    }
}
