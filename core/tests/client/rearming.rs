//! Watches across a broken connection.

use std::time::Duration;

use futures::FutureExt;
use synod_core::client::Notice;
use synod_core::model::{EventKind, WatchKind};
use synod_core::testing::Coordinator;

use crate::common::{LONG, SHORT, event, pass, told, two_clients};

/// What `b` does while `a` is away, and what `a`'s one-shot watches then say.
async fn missed(zk: &Coordinator, a: &synod_core::client::Client, b: &synod_core::client::Client) {
    for path in ["/data", "/parent", "/doomed", "/quiet"] {
        b.create(path, b"").await.expect("creates");
    }
    let (_, changed) = a.get("/data").watched().await.expect("answers");
    let (_, made) = a.exists("/new").watched().await.expect("answers");
    let (_, children) = a.children("/parent").watched().await.expect("answers");
    let (_, deleted) = a.get("/doomed").watched().await.expect("answers");
    let (_, orphaned) = a.children("/doomed").watched().await.expect("answers");
    let (_, mut quiet) = a.get("/quiet").watched().await.expect("answers");
    zk.disconnect(a, SHORT);
    a.session().disconnected().await;
    b.set("/data", b"1").await.expect("sets");
    b.create("/new", b"").await.expect("creates");
    b.create("/parent/child", b"").await.expect("creates");
    b.delete("/doomed").await.expect("deletes");
    a.sync().await.expect("comes back");
    for (watch, expected) in [
        (changed, (EventKind::DataChanged, "/data")),
        (made, (EventKind::Created, "/new")),
        (children, (EventKind::ChildrenChanged, "/parent")),
        (deleted, (EventKind::Deleted, "/doomed")),
        (orphaned, (EventKind::Deleted, "/doomed")),
    ] {
        let event = watch.now_or_never().expect("told before the sync was").expect("fires");
        assert_eq!(told(&event), expected);
    }
    assert!((&mut quiet).now_or_never().is_none());
    assert_eq!(zk.watch_count(), 1, "what has fired is not left again");
    b.set("/quiet", b"1").await.expect("sets");
    assert_eq!(told(&quiet.await.expect("fires")), (EventKind::DataChanged, "/quiet"));
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_is_told_after_a_reconnect() {
    let (zk, a, b) = two_clients().await;
    missed(&zk, &a, &b).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_is_told_to_a_client_that_has_to_prove_who_it_is_first() {
    let zk = Coordinator::start();
    let a = zk.builder().auth_digest("ann", "secret").connect().await.expect("connects");
    let b = zk.client().await;
    missed(&zk, &a, &b).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_is_told_even_if_the_first_attempts_to_come_back_break() {
    for cut_after_ms in 0..12 {
        let zk = Coordinator::start();
        let a = zk.builder().auth_digest("ann", "secret").connect().await.expect("connects");
        let b = zk.client().await;
        b.create("/data", b"").await.expect("creates");
        let (_, changed) = a.get("/data").watched().await.expect("answers");
        zk.disconnect(&a, SHORT);
        a.session().disconnected().await;
        b.set("/data", b"1").await.expect("sets");
        zk.heal(&a);
        // Somewhere within attaching, proving who it is, and leaving the watch again.
        pass(Duration::from_millis(cut_after_ms)).await;
        zk.disconnect(&a, Duration::from_millis(1));
        let fired = tokio::time::timeout(SHORT, changed).await;
        let event = fired.unwrap_or_else(|_| panic!("told, after a cut at {cut_after_ms} ms"));
        assert_eq!(told(&event.expect("fires")), (EventKind::DataChanged, "/data"));
    }
}

#[tokio::test(start_paused = true)]
async fn watches_that_stay_yield_lagged_once_after_a_reconnect_and_then_go_on() {
    let (zk, a, b) = two_clients().await;
    let mut persistent = a.watch("/x").await.expect("watches");
    let mut recursive = a.watch("/").recursive().await.expect("watches");
    zk.disconnect(&a, SHORT);
    a.session().disconnected().await;
    b.create("/x", b"").await.expect("creates");
    a.sync().await.expect("comes back");
    assert_eq!(persistent.next().now_or_never(), Some(Some(Notice::Lagged)));
    assert_eq!(recursive.next().now_or_never(), Some(Some(Notice::Lagged)));
    b.set("/x", b"1").await.expect("sets");
    assert_eq!(told(&event(&mut persistent).await), (EventKind::DataChanged, "/x"));
    assert_eq!(told(&event(&mut recursive).await), (EventKind::DataChanged, "/x"));
    b.create("/x/y", b"").await.expect("creates");
    assert_eq!(told(&event(&mut persistent).await), (EventKind::ChildrenChanged, "/x"));
    assert_eq!(told(&event(&mut recursive).await), (EventKind::Created, "/x/y"));
}

#[tokio::test(start_paused = true)]
async fn watches_that_stay_are_left_again_after_any_number_of_cuts() {
    let (zk, a, b) = two_clients().await;
    let mut watch = a.watch("/x").await.expect("watches");
    for round in 0..20 {
        zk.disconnect(&a, Duration::from_millis(1 + round * 97 % 700));
        a.session().disconnected().await;
        a.sync().await.expect("comes back");
        assert!(a.has_watch("/x", WatchKind::Persistent).await.expect("answers"));
        assert_eq!(zk.watch_count(), 1);
    }
    assert_eq!(watch.next().await, Some(Notice::Lagged));
    b.create("/x", b"").await.expect("creates");
    assert_eq!(told(&event(&mut watch).await), (EventKind::Created, "/x"));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_dropped_while_the_connection_comes_back_is_not_left_again() {
    for dropped_after_ms in 0..40 {
        let (zk, a, _b) = two_clients().await;
        let watch = a.watch("/x").await.expect("watches");
        let (_, once) = a.exists("/y").watched().await.expect("answers");
        zk.disconnect(&a, Duration::from_millis(1));
        pass(Duration::from_millis(dropped_after_ms)).await;
        drop(watch);
        drop(once);
        pass(SHORT).await;
        a.sync().await.expect("is back");
        assert_eq!(zk.watch_count(), 0, "dropped after {dropped_after_ms} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn watches_end_with_their_session_and_not_before() {
    let (zk, a, b) = two_clients().await;
    let mut watch = a.watch("/x").await.expect("watches");
    let (_, once) = a.exists("/y").watched().await.expect("answers");
    b.create("/x", b"").await.expect("creates");
    a.sync().await.expect("syncs");
    zk.expire(&a).await;
    assert_eq!(told(&event(&mut watch).await), (EventKind::Created, "/x"), "what came is read");
    assert_eq!(watch.next().await, None);
    assert_eq!(watch.next().await, None);
    assert!(once.await.expect_err("the session is over").session_over());
    a.sync().await.expect("a new session");
    assert_eq!(zk.watch_count(), 0, "nothing is carried over");

    let mut watch = a.watch("/x").await.expect("watches");
    zk.disconnect(&a, LONG);
    assert_eq!(watch.next().await, None, "over at the deadline");
}
