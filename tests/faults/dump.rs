//! A whole tree, as one member has it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_core::model::{Read, Request, Response, Stat, Write, Zxid};
use tokio::time::timeout;

use super::PATIENCE;
use super::connection::{Connection, NoConnection};

/// Znodes that are asked for at a time.
const AT_A_TIME: usize = 200;

/// A znode, all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Znode {
    /// Its data.
    pub data: Option<Bytes>,
    /// Its Stat.
    pub stat: Stat,
}

/// A tree, by path.
pub type Tree = BTreeMap<Arc<str>, Znode>;

/// The tree of the member with this address, once that has applied everything that was committed
/// before.
///
/// # Panics
/// If it cannot be had, or changes meanwhile.
pub async fn dump(address: SocketAddr) -> Tree {
    let mut last = None;
    let dumped = async {
        loop {
            match try_dump(address).await {
                Ok(tree) => return tree,
                // A member that has just come back may have no leader yet.
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(super::POLL).await;
        }
    };
    match timeout(PATIENCE, dumped).await {
        Ok(tree) => tree,
        Err(_) => panic!("no tree of {address} within {PATIENCE:?}: {last:?}"),
    }
}

async fn try_dump(address: SocketAddr) -> io::Result<Tree> {
    let session_timeout = Duration::from_secs(10);
    let opening =
        Connection::open(address, None, Zxid::ZERO, session_timeout, Duration::from_secs(5));
    let mut connection = opening.await.map_err(|error| match error {
        NoConnection::Broken(error) => error,
        NoConnection::SessionOver => io::Error::other("a new session is over"),
    })?;
    connection.ask(&Request::Sync { path: "/".into() }).await?;
    let mut tree = Tree::new();
    let mut paths: VecDeque<Arc<str>> = VecDeque::from(["/".into()]);
    while !paths.is_empty() {
        let some: Vec<Arc<str>> = paths.drain(..paths.len().min(AT_A_TIME)).collect();
        for path in &some {
            let (path, watch) = (Arc::clone(path), false);
            connection.put(&Request::Read(Read::GetData { path: Arc::clone(&path), watch }));
            connection.put(&Request::Read(Read::Children { path, watch }));
        }
        connection.flush().await?;
        for path in some {
            let Ok(Response::Data { data, stat }) = connection.reply().await?.result else {
                panic!("{path} is gone while the tree is at rest");
            };
            let Ok(Response::Children { names, stat: again }) = connection.reply().await?.result
            else {
                panic!("{path} is gone while the tree is at rest");
            };
            assert_eq!(stat, again, "{path} changes while the tree is at rest");
            assert_eq!(stat.children as usize, names.len(), "children of {path}");
            let parent = path.trim_end_matches('/');
            paths.extend(names.iter().map(|name| format!("{parent}/{name}").into()));
            tree.insert(path, Znode { data, stat });
        }
    }
    connection.ask(&Request::Write(Write::CloseSession)).await?;
    Ok(tree)
}

/// Where two trees differ: the first few paths, and how each has them.
pub fn differences(one: &Tree, other: &Tree) -> Vec<String> {
    let paths = one.keys().chain(other.keys().filter(|path| !one.contains_key(*path)));
    let differ = paths.filter(|path| one.get(*path) != other.get(*path));
    differ
        .take(5)
        .map(|path| format!("{path}: {:?} and {:?}", one.get(path), other.get(path)))
        .collect()
}
