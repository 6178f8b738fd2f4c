//! Caches and feeds: copies of a subtree.

use std::collections::BTreeMap;

use futures::StreamExt;
use synod::cache::{CacheEvent, Snapshot};
use synod::feed::Change;
use synod::{Cache, Client, Code, Feed, Path, Zxid};

use super::ground::{Ground, run_example, soon};

const ROOT: &str = "/app";

/// Paths with what lies there and since when.
type Rows = BTreeMap<Path, (Zxid, Vec<u8>)>;

/// Creates the znode or sets it, however often that takes.
async fn put(client: &Client, path: &str, data: impl AsRef<[u8]>) {
    loop {
        match client.set(path, &data).await {
            Ok(_) => return,
            Err(error) if error.is(Code::NoNode) => drop(client.create(path, &data).await),
            Err(error) => assert!(error.retryable() || error.session_over(), "{error}"),
        }
    }
}

/// Deletes the znode, however often that takes.
async fn remove(client: &Client, path: &str) {
    loop {
        match client.delete(path).await {
            Ok(()) => return,
            Err(error) if error.is(Code::NoNode) => return,
            Err(error) => assert!(error.retryable() || error.session_over(), "{error}"),
        }
    }
}

/// What is there, while nobody writes.
async fn tree(client: &Client) -> Rows {
    let (mut tree, mut waiting) = (Rows::new(), vec![Path::new(ROOT).expect("valid")]);
    while let Some(path) = waiting.pop() {
        let Ok((data, stat)) = client.get(&path).await else { continue };
        for name in client.children(&path).await.expect("there") {
            waiting.push(path.join(&name).expect("valid"));
        }
        tree.insert(path, (stat.mzxid, data.to_vec()));
    }
    tree
}

fn rows(snapshot: &Snapshot) -> Rows {
    let row = |node: &synod::cache::Node| (node.stat.mzxid, node.data.to_vec());
    snapshot.iter().map(|node| (node.path.clone(), row(node))).collect()
}

#[derive(Default)]
struct Store {
    rows: Rows,
    checkpoint: Zxid,
}

impl Store {
    fn known(&self) -> Vec<(Path, Zxid)> {
        self.rows.iter().map(|(path, (mzxid, _))| (path.clone(), *mzxid)).collect()
    }

    /// Follows the feed until a checkpoint at which the rows are as wanted.
    async fn until(&mut self, feed: &mut Feed, wanted: &Rows) {
        while self.rows != *wanted {
            loop {
                match soon(feed.next()).await.expect("the client is open").expect("readable") {
                    Change::Put { path, data, stat } => {
                        let new = (stat.mzxid, data.to_vec());
                        let old = self.rows.insert(path, new);
                        assert!(old.is_none_or(|old| old.0 < stat.mzxid), "it goes back");
                    }
                    Change::Delete { path } => assert!(self.rows.remove(&path).is_some()),
                    Change::Checkpoint { zxid } => {
                        assert!(zxid >= self.checkpoint, "it goes back");
                        self.checkpoint = zxid;
                        break;
                    }
                }
            }
        }
    }
}

pub async fn a_cache_never_shows_half_a_transaction_and_is_the_tree_in_the_end(ground: &Ground) {
    let (a, b, reader) = (ground.client().await, ground.client().await, ground.client().await);
    for path in ["/app", "/app/one", "/app/two", "/app/some"] {
        put(&a, path, "").await;
    }
    reader.sync().await.expect("connected");
    let cache = soon(Cache::open(&reader, ROOT).into_future()).await.expect("readable");
    let mut events = cache.events();
    let pairs = tokio::spawn(async move {
        for n in (0..300).map(|n| n.to_string()) {
            let txn = a.txn().set("/app/one", &n).set("/app/two", &n);
            txn.commit().await.expect("connected");
        }
    });
    let others = tokio::spawn(async move {
        for n in 0..300 {
            let path = format!("/app/some/{}", n % 20);
            match n / 20 % 2 {
                0 => put(&b, &path, n.to_string()).await,
                _ => remove(&b, &path).await,
            }
        }
        b
    });
    let (mut last, mut told) = (Zxid::ZERO, Rows::new());
    let mut writing = std::pin::pin!(futures::future::join(pairs, others));
    let b = loop {
        let event = tokio::select! {
            written = &mut writing => break written.1.expect("no panic"),
            event = soon(events.next()) => event.expect("the client is open"),
        };
        match event {
            CacheEvent::Created(new) | CacheEvent::Changed { new, .. } => {
                told.insert(new.path.clone(), (new.stat.mzxid, new.data.to_vec()));
            }
            CacheEvent::Deleted(old) => drop(told.remove(&old.path)),
            CacheEvent::Current(zxid) => {
                assert!(zxid >= last, "it goes back");
                last = zxid;
                let data = |path: &str| &told[&Path::new(path).expect("valid")].1;
                assert_eq!(data("/app/one"), data("/app/two"), "at {zxid}");
            }
            _ => {}
        }
    };
    let snapshot = soon(cache.sync()).await.expect("the client is open");
    assert!(snapshot.zxid() >= last && cache.stale_since().is_none());
    assert_eq!(rows(&snapshot), tree(&b).await);
}

pub async fn a_feed_keeps_a_store_in_step_and_goes_on_from_its_checkpoint(ground: &Ground) {
    let (writer, reader) = (ground.client().await, ground.client().await);
    put(&writer, ROOT, "0").await;
    let mut store = Store::default();
    for round in 0..4 {
        for n in 0..10 {
            put(&writer, &format!("/app/{}", (n + 3 * round) % 17), round.to_string()).await;
            remove(&writer, &format!("/app/{}", (5 * n + round) % 17)).await;
        }
        reader.sync().await.expect("connected");
        let known = store.known();
        let feed = Feed::open(&reader, ROOT).resume(store.checkpoint, known);
        let mut feed = feed.start().expect("valid");
        store.until(&mut feed, &tree(&writer).await).await;
        put(&writer, "/app/late", round.to_string()).await;
        store.until(&mut feed, &tree(&writer).await).await;
    }
}

pub async fn copies_find_what_happened_through_cuts_kills_and_restarts(ground: &Ground) {
    let (reader, faults) = (ground.client().await, ground.faults());
    let writer = ground.unharmed_client().await;
    for path in ["/app", "/app/0", "/app/1", "/app/2"] {
        put(&writer, path, "").await;
    }
    reader.sync().await.expect("connected");
    let cache = soon(Cache::open(&reader, ROOT).into_future()).await.expect("readable");
    let (mut feed, mut store) =
        (Feed::open(&reader, ROOT).start().expect("valid"), Store::default());
    store.until(&mut feed, &tree(&writer).await).await;
    for round in 0..5 {
        match round {
            0 => faults.proxy.cut(),
            // What is in memory only is gone with the process.
            1 if faults.durable => faults.restart().await,
            2 if faults.durable => {
                faults.kill().await;
                faults.start_again().await;
            }
            // Longer than the session lives.
            3 => {
                let session = reader.session();
                faults.proxy.close();
                soon(session.lost()).await;
            }
            _ => faults.proxy.cut(),
        }
        put(&writer, &format!("/app/{round}"), "new").await;
        remove(&writer, &format!("/app/{}", (round + 1) % 3)).await;
        put(&writer, ROOT, round.to_string()).await;
        faults.proxy.open();
        let wanted = soon(async {
            while writer.sync().await.is_err() {}
            tree(&writer).await
        })
        .await;
        store.until(&mut feed, &wanted).await;
        let snapshot = soon(cache.sync()).await.expect("the client is open");
        assert_eq!(rows(&snapshot), wanted);
    }
}

pub async fn a_mirror_in_sqlite_is_equal_after_crashes_of_either_side(ground: &Ground) {
    let arguments = ["--crashes", "4", "--writes", "400"];
    let (crashes, all) = run_example(ground, "db_sync", &arguments, "the mirror is killed").await;
    assert!(crashes == 4 && all.last().is_some_and(|line| line.contains("are equal")), "{all:?}");
}
