//! Watches while the connection holds.

use futures::FutureExt;
use synod_core::client::{Client, Notice};
use synod_core::model::limits::WATCH_BACKLOG_EVENTS_MAX;
use synod_core::model::{Code, EventKind, WatchKind};
use synod_core::testing::Coordinator;

use crate::common::{embedded, event, once, told, two_clients};

#[tokio::test(start_paused = true)]
async fn an_event_is_there_before_the_reply_of_a_later_request() {
    let (_zk, a, b) = two_clients().await;
    let mut watch = a.watch("/x").await.expect("watches");
    let (_, mut made) = a.exists("/x").watched().await.expect("answers");
    // Its own write.
    a.create("/x", b"").await.expect("creates");
    let own = watch.next().now_or_never().expect("is there").expect("lives");
    assert!(matches!(&own, Notice::Event(event) if told(event) == (EventKind::Created, "/x")));
    (&mut made).now_or_never().expect("is there").expect("fires");
    // Another's, that a read shows.
    for round in 1..20 {
        let set = b.set("/x", b"").into_future();
        let get = a.get("/x").into_future();
        let (_, got) = tokio::join!(set, get);
        let seen = got.expect("is there").1.version;
        let told = watch.next().now_or_never().is_some();
        assert!(told || seen < round, "version {seen} without its event");
        if !told {
            watch.next().await.expect("comes");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_one_shot_watch_fires_once_and_tells_the_first_change() {
    let zk = Coordinator::start();
    for client in [embedded().await, zk.client().await] {
        client.create("/x", b"").await.expect("creates");
        let (_, data) = client.get("/x").watched().await.expect("answers");
        let (_, stat) = client.exists("/x").watched().await.expect("answers");
        let (_, mut children) = client.children("/x").watched().await.expect("answers");
        let set = client.set("/x", b"1").await.expect("sets");
        client.set("/x", b"2").await.expect("sets");
        for watch in [data, stat] {
            let event = watch.await.expect("fires");
            assert_eq!(
                (told(&event), event.zxid),
                ((EventKind::DataChanged, "/x"), Some(set.mzxid))
            );
        }
        assert!((&mut children).now_or_never().is_none());
        client.create("/x/y", b"").await.expect("creates");
        assert_eq!(told(&children.await.expect("fires")), (EventKind::ChildrenChanged, "/x"));
        assert!(!client.has_watch("/x", WatchKind::Any).await.expect("answers"));
    }
}

#[tokio::test]
async fn persistent_and_recursive_watches_hear_what_is_theirs() {
    let client = embedded().await;
    let mut here = client.watch("/a").await.expect("watches");
    let mut below = client.watch("/a").recursive().await.expect("watches");
    client.create("/a", b"").await.expect("creates");
    client.create("/a/b", b"").await.expect("creates");
    client.create("/a/b/c", b"").await.expect("creates");
    client.set("/a/b/c", b"").await.expect("sets");
    client.txn().delete("/a/b/c").delete("/a/b").set("/a", b"1").commit().await.expect("commits");
    client.delete("/a").await.expect("deletes");
    client.create("/ab", b"").await.expect("creates");
    use EventKind::{ChildrenChanged, Created, DataChanged, Deleted};
    for expected in [
        (Created, "/a"),
        (ChildrenChanged, "/a"),
        (ChildrenChanged, "/a"),
        (DataChanged, "/a"),
        (Deleted, "/a"),
    ] {
        assert_eq!(told(&event(&mut here).await), expected);
    }
    for expected in [
        (Created, "/a"),
        (Created, "/a/b"),
        (Created, "/a/b/c"),
        (DataChanged, "/a/b/c"),
        (Deleted, "/a/b/c"),
        (Deleted, "/a/b"),
        (DataChanged, "/a"),
        (Deleted, "/a"),
    ] {
        assert_eq!(told(&event(&mut below).await), expected);
    }
    assert_eq!((here.next().now_or_never(), below.next().now_or_never()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_removed_when_its_last_handle_is_dropped() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    client.create("/x", b"").await.expect("creates");
    let (first, second) = (client.watch("/x").await, client.watch("/x").await);
    let (_, data) = client.get("/x").watched().await.expect("answers");
    let (_, stat) = client.exists("/x").watched().await.expect("answers");
    let deep = client.watch("/x").recursive().await.expect("watches");
    let has = async |kind| client.has_watch("/x", kind).await.expect("answers");
    drop(first);
    drop(data);
    assert!(has(WatchKind::Persistent).await && has(WatchKind::Data).await);
    let mut second = second.expect("watches");
    client.set("/x", b"").await.expect("sets");
    assert_eq!(told(&event(&mut second).await), (EventKind::DataChanged, "/x"));
    stat.await.expect("fires");
    drop(second);
    assert!(!has(WatchKind::Persistent).await && has(WatchKind::PersistentRecursive).await);
    assert_eq!(zk.watch_count(), 1);
    drop(deep);
    client.sync().await.expect("syncs");
    assert_eq!(zk.watch_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drop_does_not_take_the_watch_of_a_read_that_is_under_way() {
    let (zk, a, b) = two_clients().await;
    b.create("/x", b"").await.expect("creates");
    let (_, first) = a.get("/x").watched().await.expect("answers");
    let mut second = Box::pin(a.get("/x").watched());
    assert!(once(&mut second).await.is_none());
    drop(first);
    let (_, second) = second.await.expect("answers");
    assert!(a.has_watch("/x", WatchKind::Data).await.expect("answers"));
    b.set("/x", b"").await.expect("sets");
    second.await.expect("fires");

    // One that is refused leaves the other's alone, and one that was the last takes it away.
    let (_, left) = a.exists("/y").watched().await.expect("answers");
    assert!(a.get("/y").watched().await.is_err());
    assert!(a.has_watch("/y", WatchKind::Data).await.expect("answers"));
    drop(left);
    a.sync().await.expect("syncs");
    assert_eq!(zk.watch_count(), 0);
}

#[tokio::test]
async fn a_refused_watched_read_leaves_nothing() {
    let client = embedded().await;
    assert!(client.get("/x").watched().await.expect_err("is not there").is(Code::NoNode));
    assert!(client.children("/x").watched().await.expect_err("is not there").is(Code::NoNode));
    assert!(!client.has_watch("/x", WatchKind::Any).await.expect("answers"));
}

async fn overflow(client: Client, events: usize, lags: bool) {
    client.create("/x", b"").await.expect("creates");
    let mut watch = client.watch("/x").await.expect("watches");
    for _ in 0..events {
        client.set("/x", b"").await.expect("sets");
    }
    if lags {
        assert_eq!(watch.next().await, Some(Notice::Lagged));
    }
    let mut told = Vec::new();
    while let Some(notice) = watch.next().now_or_never() {
        match notice.expect("lives") {
            Notice::Event(event) => told.push(event.zxid.expect("has one")),
            Notice::Lagged => panic!("once at most"),
        }
    }
    assert!(told.is_sorted());
    assert_eq!(told.last().copied(), Some(client.last_zxid()), "the newest is there");
    assert_eq!(told.len() == events, !lags, "{} of {events}", told.len());
    client.set("/x", b"").await.expect("sets");
    assert!(matches!(watch.next().await, Some(Notice::Event(_))));
}

#[tokio::test]
async fn a_stream_that_is_not_read_lags_once_past_its_bound_and_then_tells_the_newer() {
    overflow(embedded().await, WATCH_BACKLOG_EVENTS_MAX, false).await;
    overflow(embedded().await, WATCH_BACKLOG_EVENTS_MAX + 1, true).await;
    overflow(embedded().await, 3 * WATCH_BACKLOG_EVENTS_MAX + 7, true).await;
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_notice_may_be_given_up_and_loses_nothing() {
    let (_zk, a, b) = two_clients().await;
    let mut watch = a.watch("/x").await.expect("watches");
    let (_, mut made) = a.exists("/x").watched().await.expect("answers");
    for _ in 0..10 {
        assert!(watch.next().now_or_never().is_none());
        assert!((&mut made).now_or_never().is_none());
    }
    b.create("/x", b"").await.expect("creates");
    assert_eq!(told(&event(&mut watch).await), (EventKind::Created, "/x"));
    made.await.expect("fires");
}

#[tokio::test(start_paused = true)]
async fn an_event_says_what_has_been_seen() {
    let (zk, a, b) = two_clients().await;
    a.create("/x", b"").await.expect("creates");
    let mut watch = a.watch("/x").await.expect("watches");
    b.set("/x", b"1").await.expect("sets");
    let set = event(&mut watch).await.zxid;
    assert_eq!((Some(a.last_zxid()), Some(zk.last_zxid())), (set, set));
}
