//! Values that are too large for one znode: cut in chunks, which are written before the version
//! that they belong to.
//!
//! ```text
//! chunks
//! └── 9f1c…            a set
//!     ├── owner        ephemeral: its publisher is at work; goes when the version is published
//!     ├── 0000
//!     └── 0001
//! ```
//!
//! A set is made together with its owner, and the transaction that publishes deletes the owner. So
//! a set without one is either published (the pointer names it) or never will be: whoever reads
//! first that there is no owner, and then a pointer which does not name it, may delete it.

use synod_core::client::{CleanupSlot, Client};
use synod_core::model::{Acl, Code, CreateMode, Error as ClientError, Path};
use tracing::{debug, warn};

use super::limits::{CHUNK_BYTES, SWEPT_MAX};
use super::pointer::{Places, Pointer};
use super::record::ChunkSet;
use crate::error::Error;
use crate::znodes::persist;

const OWNER: &str = "owner";

fn chunk(set: &Path, number: usize) -> Result<Path, ClientError> {
    set.join(&format!("{number:04}"))
}

/// A set that is not published yet. Dropping it hands its deletion to the session's reaper; if the
/// session is over, the next publisher sweeps it.
pub(crate) struct Draft {
    client: Client,
    places: Places,
    set: Path,
    count: usize,
    /// Taken when it is published.
    slot: Option<CleanupSlot>,
}

impl Draft {
    /// Writes the chunks. `client` is pinned.
    pub(crate) async fn upload(
        client: &Client,
        places: &Places,
        acl: &[Acl],
        body: &[u8],
    ) -> Result<Draft, Error> {
        let slot = Some(client.session().reserve_cleanup()?);
        let set = places.set(&client.random_id().simple().to_string())?;
        let count = body.len().div_ceil(CHUNK_BYTES);
        let draft = Draft { client: client.clone(), places: places.clone(), set, count, slot };
        let made = persist!({
            let txn = client.txn();
            let txn = txn.create_as(&draft.set, b"", CreateMode::Persistent, acl.to_vec());
            txn.create_as(draft.owner()?, b"", CreateMode::Ephemeral, acl.to_vec()).commit()
        });
        // Its name is random: who has made it can only have been this.
        made.map(drop).or_else(unless(Code::NodeExists))?;
        for (number, bytes) in body.chunks(CHUNK_BYTES).enumerate() {
            let path = chunk(&draft.set, number)?;
            let written = persist!(client.create(&path, bytes).acl(acl.to_vec()));
            written.map(drop).or_else(unless(Code::NodeExists))?;
        }
        debug!(set = %draft.set, count, "chunks written");
        Ok(draft)
    }

    /// What the transaction that publishes has to delete.
    pub(crate) fn owner(&self) -> Result<Path, ClientError> {
        self.set.join(OWNER)
    }

    pub(crate) fn chunk_set(&self) -> ChunkSet {
        ChunkSet { set: self.set.name().to_owned(), count: self.count }
    }

    /// The version is there: nothing is to be cleaned up.
    pub(crate) fn published(mut self) {
        self.slot = None;
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        let (client, places, owner) = (self.client.clone(), self.places.clone(), self.owner());
        slot.run(async move {
            let cleaned = async {
                // If it is gone already, the version may be there all the same: the sweep finds
                // out.
                let gone = persist!(client.delete(owner.as_ref().map_err(Clone::clone)?));
                gone.or_else(unless(Code::NoNode))?;
                sweep(&client, &places).await
            };
            if let Err(error) = cleaned.await
                && !error.session_over()
            {
                warn!(path = %places.root, %error, "chunks could not be cleaned up");
            }
        });
    }
}

/// Passes over one refusal.
fn unless(code: Code) -> impl FnOnce(ClientError) -> Result<(), ClientError> {
    move |error| if error.is(code) { Ok(()) } else { Err(error) }
}

/// Reads a set; `None` if it is not there, or goes while it is read.
pub(crate) async fn read(
    client: &Client,
    places: &Places,
    set: &ChunkSet,
    bytes: usize,
) -> Result<Option<Vec<u8>>, ClientError> {
    // What is read is bounded by what was promised, which the caller has held to its limit.
    let count = set.count.min(bytes.div_ceil(CHUNK_BYTES));
    let (path, mut body) = (places.set(&set.set)?, Vec::new());
    for number in 0..count {
        match client.get(chunk(&path, number)?).await {
            Err(error) if error.is(Code::NoNode) => return Ok(None),
            read => body.extend_from_slice(&read?.0),
        }
    }
    Ok(Some(body))
}

/// Deletes the sets of publishers that died before they had published, and those of versions that
/// are no longer kept. `client` is pinned: the order of its reads is what this rests on.
pub(crate) async fn sweep(client: &Client, places: &Places) -> Result<(), ClientError> {
    let names = match persist!(client.children(&places.chunks)) {
        Err(error) if error.is(Code::NoNode) => return Ok(()),
        names => names?,
    };
    let mut ownerless = Vec::new();
    for name in names {
        if persist!(client.exists(places.set(&name)?.join(OWNER)?))?.is_none() {
            ownerless.push(name);
        }
    }
    if ownerless.is_empty() {
        return Ok(());
    }
    // After the owners: a set that was published before its owner was missed is named here.
    let data = match persist!(client.get(&places.root)) {
        Err(error) if error.is(Code::NoNode) => return Ok(()),
        read => read?.0,
    };
    let Ok(pointer) = Pointer::decode(&data) else { return Ok(()) };
    let named = |name: &String| pointer.chunked.values().any(|set| set == name);
    for name in ownerless.iter().filter(|name| !named(name)).take(SWEPT_MAX) {
        let set = places.set(name)?;
        debug!(%set, "chunks of nobody are deleted");
        let chunks = match persist!(client.children(&set)) {
            Err(error) if error.is(Code::NoNode) => continue,
            names => names?,
        };
        for chunk in chunks {
            let gone = persist!(client.delete(set.join(&chunk)?));
            gone.or_else(unless(Code::NoNode))?;
        }
        // Of two who sweep, one finds it gone.
        persist!(client.delete(&set)).or_else(unless(Code::NoNode))?;
    }
    Ok(())
}
