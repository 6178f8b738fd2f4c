//! Caches under virtual time, with faults.

mod following;
mod handles;
mod scope;
mod whole;

use crate::common::history::{tree_at, tree_of};
use crate::common::soon;
use futures::StreamExt;
use synod::cache::{CacheEvent, CacheEvents};
use synod::testing::Coordinator;
use synod::{Cache, Client};

const ROOT: &str = "/app";

async fn clients(zk: &Coordinator) -> (Client, Client) {
    (zk.client().await, zk.client().await)
}

async fn make(client: &Client, paths: &[&str]) {
    for path in paths {
        client.create(*path, *path).await.expect("new");
    }
}

async fn open(client: &Client) -> Cache {
    soon(Cache::open(client, ROOT).into_future()).await.expect("it can be read")
}

fn paths(cache: &Cache) -> Vec<String> {
    cache.current().iter().map(|node| node.path.to_string()).collect()
}

/// The next event, short.
async fn next(events: &mut CacheEvents) -> String {
    let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
    match soon(events.next()).await.expect("the client is open") {
        CacheEvent::Created(new) => format!("+{} {}", new.path, text(&new.data)),
        CacheEvent::Changed { old, new } => {
            assert!(new.stat.mzxid > old.stat.mzxid && new.path == old.path);
            format!("~{} {} {}", new.path, text(&old.data), text(&new.data))
        }
        CacheEvent::Deleted(old) => format!("-{} {}", old.path, text(&old.data)),
        CacheEvent::Current(_) => "current".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The events up to the next that is `Current`.
async fn batch(events: &mut CacheEvents) -> Vec<String> {
    let mut batch = Vec::new();
    loop {
        match next(events).await.as_str() {
            "current" => return batch,
            event => batch.push(event.to_owned()),
        }
    }
}

/// What the cache holds is what the tree is now.
async fn assert_equal(cache: &Cache, client: &Client, root: &str) {
    let snapshot = soon(cache.sync()).await.expect("the client is open");
    assert_eq!(tree_of(&snapshot), tree_at(client, root).await);
    assert_eq!(
        snapshot.bytes(),
        snapshot.iter().map(|n| n.path.len() + n.data.len()).sum::<usize>()
    );
    assert!(snapshot.zxid() <= client.sync().await.expect("connected"));
    assert!(cache.stale_since().is_none());
}
