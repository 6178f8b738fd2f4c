//! What happens to the subtree, and to the connection.

use std::time::Duration;

use synod::cache::CacheState;
use synod::testing::Coordinator;
use tokio::time::{Instant, sleep};

use super::{ROOT, assert_equal, batch, clients, make, next, open, paths};
use crate::common::history::tree_of;
use crate::common::soon;

#[tokio::test(start_paused = true)]
async fn it_holds_the_subtree_and_what_becomes_of_it() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a", "/app/a/x", "/app/b", "/apple"]).await;
    let cache = open(&b).await;
    assert_eq!(paths(&cache), ["/app", "/app/a", "/app/a/x", "/app/b"]);
    assert_eq!(cache.get("/app/a/x").expect("there").data, "/app/a/x");
    assert!(cache.get("/app/c").is_none() && cache.get("/apple").is_none());

    let (old, stat) = (cache.current(), a.set("/app/a", "new").await.expect("there"));
    a.create("/app/b/y", "y").ephemeral().await.expect("new");
    a.delete("/app/a/x").await.expect("there");
    assert_equal(&cache, &a, ROOT).await;
    let node = cache.get("/app/a").expect("there");
    assert_eq!((&node.data[..], node.stat.mzxid, node.stat.version), (&b"new"[..], stat.mzxid, 1));
    let owner = cache.get("/app/b/y").expect("there").stat.ephemeral_owner;
    assert_eq!(owner, Some(a.session().id()));
    assert_eq!(old.get("/app/a").expect("there").data, "/app/a", "a snapshot does not change");
    assert!(old.zxid() < cache.current().zxid());
}

#[tokio::test(start_paused = true)]
async fn events_begin_with_what_is_there_and_tell_old_and_new() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a"]).await;
    let cache = open(&b).await;
    let mut events = cache.events();
    assert_eq!(batch(&mut events).await, ["+/app /app", "+/app/a /app/a"]);
    a.set("/app/a", "1").await.expect("there");
    assert_eq!(batch(&mut events).await, ["~/app/a /app/a 1"]);
    make(&a, &["/app/a/x"]).await;
    assert_eq!(batch(&mut events).await, ["+/app/a/x /app/a/x"]);
    // Of one step: children go before their parents, and come after them.
    let txn = a.txn().delete("/app/a/x").delete("/app/a").create("/app/b", "b");
    txn.create("/app/b/y", "y").commit().await.expect("valid");
    let told = ["-/app/a/x /app/a/x", "-/app/a 1", "+/app/b b", "+/app/b/y y"];
    assert_eq!(batch(&mut events).await, told);
    // Another one begins at the beginning.
    assert_eq!(batch(&mut cache.events()).await, ["+/app /app", "+/app/b b", "+/app/b/y y"]);
}

/// By its version it would not be one: it begins anew at 0.
#[tokio::test(start_paused = true)]
async fn a_znode_that_is_deleted_and_created_again_has_changed() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a"]).await;
    let cache = open(&b).await;
    let mut events = cache.events();
    batch(&mut events).await;
    let again = || a.txn().delete("/app/a").create("/app/a", "/app/a");
    again().commit().await.expect("there");
    assert_eq!(batch(&mut events).await, ["~/app/a /app/a /app/a"]);
    assert_eq!(cache.get("/app/a").expect("there").stat.version, 0);
    // While nobody looked.
    zk.disconnect(&b, Duration::from_secs(2));
    again().commit().await.expect("there");
    assert_eq!(batch(&mut events).await, ["Uncertain", "~/app/a /app/a /app/a"]);
    assert_equal(&cache, &a, ROOT).await;
}

/// Events that come while the connection is broken are lost (ZOOKEEPER-4655).
#[tokio::test(start_paused = true)]
async fn what_happened_while_it_was_away_is_found_and_until_then_it_says_that_it_may_be_behind() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a", "/app/b", "/app/b/x"]).await;
    let cache = open(&b).await;
    let mut events = cache.events();
    batch(&mut events).await;
    let before = cache.current();

    zk.disconnect(&b, Duration::from_secs(5));
    b.session().disconnected().await;
    let cut_at = Instant::now();
    a.delete("/app/b/x").await.expect("there");
    a.delete("/app/b").await.expect("there");
    a.set("/app/a", "1").await.expect("there");
    make(&a, &["/app/c"]).await;
    assert_eq!(next(&mut events).await, "Uncertain");
    assert_eq!(cache.stale_since(), Some(cut_at));
    assert!(matches!(cache.state(), CacheState::Uncertain { reason: None, .. }));
    assert_eq!(tree_of(&cache.current()), tree_of(&before), "what it knew stays");

    let told = ["-/app/b/x /app/b/x", "-/app/b /app/b", "~/app/a /app/a 1", "+/app/c /app/c"];
    assert_eq!(batch(&mut events).await, told);
    assert!(cut_at.elapsed() < Duration::from_secs(7), "within 2 s of healing");
    assert!(matches!(cache.state(), CacheState::Current));
    // What has not changed is the same still, down to its place in memory.
    let same = |snapshot: &synod::cache::Snapshot| snapshot.get("/app").expect("there").clone();
    assert!(std::sync::Arc::ptr_eq(&same(&before), &same(&cache.current())));
    assert_equal(&cache, &a, ROOT).await;
    assert_eq!(zk.watch_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_in_the_next_session() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app"]).await;
    let cache = open(&b).await;
    for round in 0..3 {
        let (old, name) = (b.session().id(), format!("/app/{round}"));
        match round {
            0 => zk.expire(&b).await,
            1 => zk.disconnect(&b, Duration::from_secs(120)),
            _ => {
                // Expired without its knowing.
                zk.disconnect(&b, Duration::from_secs(3));
                zk.expire(&b).await;
            }
        }
        a.create(&name, "").await.expect("new");
        soon(async {
            while cache.get(&name).is_none() {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        assert_ne!(b.session().id(), old);
        assert_equal(&cache, &a, ROOT).await;
        assert_eq!(zk.watch_count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_are_lost_for_their_number_are_made_up_for() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/old"]).await;
    let cache = open(&b).await;
    let mut events = cache.events();
    batch(&mut events).await;
    // More at once than wait in a watch.
    let many = (0..3_000).fold(a.txn(), |txn, n| txn.create(format!("/app/{n:04}"), ""));
    many.delete("/app/old").commit().await.expect("valid");
    assert_eq!(next(&mut events).await, "Uncertain");
    let told = batch(&mut events).await;
    assert_eq!((told.len(), &*told[0], &*told[1]), (3_001, "-/app/old /app/old", "+/app/0000 "));
    assert_equal(&cache, &a, ROOT).await;
}

#[tokio::test(start_paused = true)]
async fn a_root_that_is_not_there_is_waited_for_and_may_go_and_come_again() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    let cache = open(&b).await;
    let mut events = cache.events();
    assert_eq!(batch(&mut events).await, [""; 0], "initialized, and empty");
    assert!(cache.current().is_empty() && cache.stale_since().is_none());
    for _ in 0..3 {
        make(&a, &["/app"]).await;
        assert_eq!(batch(&mut events).await, ["+/app /app"]);
        make(&a, &["/app/a"]).await;
        assert_eq!(batch(&mut events).await, ["+/app/a /app/a"]);
        a.txn().delete("/app/a").delete("/app").commit().await.expect("there");
        assert_eq!(batch(&mut events).await, ["-/app/a /app/a", "-/app /app"]);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(zk.watch_count(), 1, "waiting costs nothing");
    }
    zk.disconnect(&b, Duration::from_secs(2));
    b.session().disconnected().await;
    make(&a, &["/app"]).await;
    assert_eq!(batch(&mut events).await, ["Uncertain", "+/app /app"]);
}
