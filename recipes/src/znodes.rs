//! What recipes do with znodes again and again.

use synod_core::client::Client;
use synod_core::model::{Code, CreateMode, Error as ClientError, Path};

/// Repeats a request that does no harm when done twice, until it is answered. Each attempt waits
/// for the connection, so this ends with the session at the latest. (A macro, since the future of
/// an async closure that borrows cannot be promised to be `Send`.)
macro_rules! persist {
    ($request:expr) => {
        loop {
            match $request.await {
                Err(synod_core::model::Error::ConnectionLost { .. }) => {}
                answer => break answer,
            }
        }
    };
}
pub(crate) use persist;

/// How often a parent may be found missing while it is made. It can go again, since an empty
/// container is reaped, but not many times in a row.
pub(crate) const PARENT_ATTEMPTS_MAX: usize = 16;

/// How a znode is made that is there for its children alone: as a container, where the server
/// has them.
pub(crate) fn parent_mode(client: &Client) -> CreateMode {
    match client.server_kind().has_containers() {
        true => CreateMode::Container,
        false => CreateMode::Persistent,
    }
}

/// Makes what is missing above `path`, and leaves `path` itself alone.
pub(crate) async fn make_parents(client: &Client, path: &Path) -> Result<(), ClientError> {
    for _ in 1..PARENT_ATTEMPTS_MAX {
        match make_missing(client, path).await {
            // One that was there was reaped meanwhile.
            Err(error) if error.is(Code::NoNode) => {}
            made => return made,
        }
    }
    make_missing(client, path).await
}

async fn make_missing(client: &Client, path: &Path) -> Result<(), ClientError> {
    let mut missing = Vec::new();
    let mut above = path.parent();
    while let Some(path) = above {
        if persist!(client.exists(&path))?.is_some() {
            break;
        }
        above = path.parent();
        missing.push(path);
    }
    for path in missing.iter().rev() {
        let create = || match client.server_kind().has_containers() {
            true => client.create(path, b"").container(),
            false => client.create(path, b""),
        };
        match persist!(create()) {
            Err(error) if !error.is(Code::NodeExists) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
