//! A namespace: everything is relative to it, and nothing outside of it can be named.

use synod_core::client::Notice;
use synod_core::model::{Acl, CreateMode, EventKind, OpResult};

use crate::common::{embedded, event, told};

#[tokio::test]
async fn paths_in_answers_are_relative() {
    let client = embedded().await;
    client.create("/app", b"").await.expect("creates");
    let app = client.namespace("/app").expect("valid");
    assert_eq!(app.create("/a", b"1").await.expect("creates").as_str(), "/a");
    assert_eq!(client.get("/app/a").await.expect("is there").0, b"1".as_slice());
    let seq = app.create("/s-", b"").sequential().await.expect("creates");
    assert_eq!(seq.as_str(), "/s-0000000001");
    let results = app.txn().create("/t", b"").set("/a", b"2").commit().await.expect("commits");
    assert!(matches!(&results[0], OpResult::Created { path, .. } if &**path == "/t"));
    app.create("/e", b"").ephemeral().await.expect("creates");
    let mine = app.ephemerals("/").await.expect("answers");
    assert_eq!(mine.iter().map(|path| path.as_str()).collect::<Vec<_>>(), ["/e"]);
    let mut names = app.children("/").await.expect("answers");
    names.sort_unstable();
    assert_eq!(names, ["a", "e", "s-0000000001", "t"]);
    assert_eq!(app.descendant_count("/").await.expect("answers"), 4);
    let reads = app.multi_read().get("/a").children("/").await.expect("answers");
    assert!(reads.iter().all(Result::is_ok), "{reads:?}");
}

#[tokio::test]
async fn paths_in_events_are_relative() {
    let client = embedded().await;
    client.create("/app", b"").await.expect("creates");
    let app = client.namespace("/app").expect("valid");
    let mut all = app.watch("/").recursive().await.expect("watches");
    let mut root = app.watch("/").await.expect("watches");
    let (_, made) = app.exists("/a").watched().await.expect("answers");
    client.create("/app/a", b"").await.expect("creates");
    assert_eq!(told(&event(&mut all).await), (EventKind::Created, "/a"));
    assert_eq!(told(&event(&mut root).await), (EventKind::ChildrenChanged, "/"));
    assert_eq!(told(&made.await.expect("fires")), (EventKind::Created, "/a"));
    client.set("/app", b"1").await.expect("sets");
    assert_eq!(told(&event(&mut all).await), (EventKind::DataChanged, "/"));
}

#[tokio::test]
async fn a_namespace_in_a_namespace_is_below_it() {
    let client = embedded().await;
    for path in ["/a", "/a/b"] {
        client.create(path, b"").await.expect("creates");
    }
    let inner = client.namespace("/a").expect("valid").namespace("/b").expect("valid");
    inner.create("/c", b"").await.expect("creates");
    assert!(client.exists("/a/b/c").await.expect("answers").is_some());
    let same = client.namespace("/").expect("valid");
    assert!(same.exists("/a/b/c").await.expect("answers").is_some());
    assert!(client.namespace("a").is_err() && client.namespace("/a/").is_err());
}

#[tokio::test]
async fn a_namespace_does_not_see_ephemerals_of_a_neighbour_whose_name_begins_alike() {
    let client = embedded().await;
    client.create("/app", b"").await.expect("creates");
    client.create("/apple", b"").ephemeral().await.expect("creates");
    client.create("/app/e", b"").ephemeral().await.expect("creates");
    let app = client.namespace("/app").expect("valid");
    let mine = app.ephemerals("/").await.expect("answers");
    assert_eq!(mine.iter().map(|path| path.as_str()).collect::<Vec<_>>(), ["/e"]);
}

#[tokio::test]
async fn a_sequential_znode_at_the_root_of_a_namespace_lies_in_it() {
    let client = embedded().await;
    client.create("/app", b"").await.expect("creates");
    let app = client.namespace("/app").expect("valid");
    let plain = client.create("/", b"").sequential().await.expect("creates");
    assert_eq!(plain.as_str(), "/0000000001");
    assert_eq!(app.create("/", b"").sequential().await.expect("creates").as_str(), "/0000000000");
    let mode = CreateMode::PersistentSequential;
    let results = app.txn().create_as("/", b"", mode, Acl::open()).commit().await.expect("commits");
    assert!(matches!(&results[0], OpResult::Created { path, .. } if &**path == "/0000000001"));
    let mut inside = client.children("/app").await.expect("answers");
    inside.sort_unstable();
    assert_eq!(inside, ["0000000000", "0000000001"]);
    assert_eq!(client.descendant_count("/app").await.expect("answers"), 2);
}

#[tokio::test]
async fn a_watch_of_a_namespace_hears_nothing_of_its_neighbours() {
    let client = embedded().await;
    let app = client.namespace("/app").expect("valid");
    let mut all = app.watch("/").recursive().await.expect("watches");
    client.create("/apple", b"").await.expect("creates");
    client.create("/app", b"").await.expect("creates");
    assert_eq!(told(&event(&mut all).await), (EventKind::Created, "/"));
    client.close().await.expect("closes");
    assert_eq!(all.next().await, None::<Notice>);
}
