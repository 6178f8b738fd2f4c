//! What belongs to it: depth, filter, bounds, permissions, namespaces, types.

use std::time::Duration;

use serde::Deserialize;
use synod::cache::CacheState;
use synod::testing::Coordinator;
use synod::{Acl, Cache, Code, Error};
use tokio::time::{Instant, sleep};

use super::{ROOT, assert_equal, batch, clients, make, next, open, paths};
use crate::common::history::{path, tree_of};
use crate::common::soon;

#[tokio::test(start_paused = true)]
async fn depth_and_filter_say_what_belongs_to_it() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    let all = ["/app", "/app/a", "/app/a/x", "/app/a/x/y", "/app/tmp", "/app/tmp/x"];
    make(&a, &all).await;
    let of_depth = |depth| Cache::open(&b, ROOT).depth(depth).into_future();
    let node = soon(of_depth(0)).await.expect("readable");
    let children = soon(of_depth(1)).await.expect("readable");
    let kept = Cache::open(&b, ROOT).filter(|path| path.name() != "tmp");
    let kept = soon(kept.into_future()).await.expect("readable");
    let check = |more: bool| {
        assert_eq!(paths(&node), all[..1]);
        assert_eq!(paths(&children), ["/app", "/app/a", "/app/tmp"]);
        let mut wanted = all[..4].to_vec();
        wanted.extend(more.then_some("/app/z"));
        assert_eq!(paths(&kept).iter().filter(|path| !path.ends_with("/0")).count(), wanted.len());
    };
    check(false);
    let before = node.current().zxid();
    for path in ["/app/a/x/y", "/app/tmp", "/app/tmp/x", "/app/a/x"] {
        a.set(path, "new").await.expect("there");
    }
    make(&a, &["/app/tmp/x/0", "/app/a/0"]).await;
    for cache in [&node, &children, &kept] {
        soon(cache.sync()).await.expect("open");
    }
    assert!(node.current().zxid() > before, "though nothing in it has changed");
    assert_eq!(node.current().get(ROOT).expect("there").data, ROOT);
    assert_eq!(children.get("/app/tmp").expect("there").data, "new");
    assert_eq!(kept.get("/app/a/x/y").expect("there").data, "new");
    assert!(kept.get("/app/tmp/x/0").is_none() && kept.get("/app/a/0").is_some());
    assert!(children.get("/app/a/0").is_none());
    a.set(ROOT, "root").await.expect("there");
    for cache in [&node, &children, &kept] {
        assert_eq!(soon(cache.sync()).await.expect("open").get(ROOT).expect("there").data, "root");
    }
    // The same after a reload.
    zk.disconnect(&b, Duration::from_secs(1));
    b.session().disconnected().await;
    for cache in [&node, &children, &kept] {
        soon(cache.sync()).await.expect("open");
    }
    assert_eq!(paths(&node), all[..1]);
    assert_eq!(paths(&children), ["/app", "/app/a", "/app/tmp"]);
    assert_eq!(paths(&kept), ["/app", "/app/a", "/app/a/0", "/app/a/x", "/app/a/x/y"]);
}

#[tokio::test(start_paused = true)]
async fn a_subtree_past_a_bound_is_an_error_and_what_was_known_stays() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a", "/app/b"]).await;
    let small = || Cache::open(&b, ROOT).nodes_max(2);
    let error = soon(small().into_future()).await.expect_err("three are there");
    assert!(matches!(&error, Error::TooLarge { what: "znodes", max: 2, .. }), "{error:?}");
    assert_eq!(error.to_string(), "the subtree of /app has more than 2 znodes");
    let narrow = || Cache::open(&b, ROOT).bytes_max(30);
    let error = soon(narrow().into_future()).await.expect_err("4 + 6 + 6 bytes, twice");
    assert!(matches!(&error, Error::TooLarge { what: "bytes", max: 30, .. }), "{error:?}");

    // One that grows past its bound: in number, and in size.
    let by_number = soon(Cache::open(&b, ROOT).nodes_max(3).into_future()).await.expect("three");
    let by_size = soon(Cache::open(&b, ROOT).bytes_max(40).into_future()).await.expect("32 bytes");
    let before = by_number.current();
    let mut events = by_number.events();
    batch(&mut events).await;
    a.create("/app/c", "123456").await.expect("new");
    assert_eq!(next(&mut events).await, "Uncertain");
    for cache in [&by_number, &by_size] {
        let error = soon(cache.sync()).await.expect_err("too large");
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        let CacheState::Uncertain { reason: Some(reason), since } = cache.state() else {
            panic!("{:?}", cache.state());
        };
        assert!(matches!(reason, Error::TooLarge { .. }) && since <= Instant::now());
        assert_eq!(tree_of(&cache.current()), tree_of(&before));
    }
    // It mends when there is less.
    a.delete("/app/c").await.expect("there");
    a.set("/app/a", "1").await.expect("there");
    assert_eq!(batch(&mut events).await, ["~/app/a /app/a 1"]);
    assert_equal(&by_number, &a, ROOT).await;
    assert_equal(&by_size, &a, ROOT).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_not_read_to_the_end() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    let mut deep = ROOT.to_owned();
    for _ in 0..200 {
        a.create(&*deep, [0; 1_000]).await.expect("new");
        deep.push_str("/x");
    }
    for small in [Cache::open(&b, ROOT).nodes_max(4), Cache::open(&b, ROOT).bytes_max(4_500)] {
        let begun = Instant::now();
        soon(small.into_future()).await.expect_err("it is deeper");
        // Each level takes two reads.
        assert!(begun.elapsed() < Duration::from_millis(50), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_read_is_not_in_it_and_a_root_that_may_not_be_is_an_error() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a", "/app/b"]).await;
    a.add_auth("digest", b"ann:secret").await.expect("any digest is accepted");
    a.create("/app/secret", "s").acl(Acl::creator()).await.expect("new");
    let cache = open(&b).await;
    assert_eq!(paths(&cache), ["/app", "/app/a", "/app/b"]);
    a.set("/app/a", "1").await.expect("there");
    assert_eq!(soon(cache.sync()).await.expect("open").get("/app/a").expect("there").data, "1");

    a.set_acl(ROOT, Acl::creator()).await.expect("open until now");
    let error = soon(Cache::open(&b, ROOT).into_future()).await.expect_err("ann's");
    assert!(matches!(&error, Error::Client(error) if error.is(Code::NoAuth)), "{error}");
    let late = Cache::open(&b, ROOT).start().expect("valid");
    soon(late.initialized()).await.expect_err("ann's");
    a.set_acl(ROOT, Acl::open()).await.expect("ann's");
    soon(async {
        while late.initialized().await.is_err() {
            sleep(Duration::from_millis(1)).await
        }
    })
    .await;
    assert_eq!(paths(&late), ["/app", "/app/a", "/app/b"]);
}

#[tokio::test(start_paused = true)]
async fn in_a_namespace_paths_are_those_of_its_client() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a", "/app/a/x", "/other"]).await;
    let inside = b.namespace("/app").expect("valid");
    let cache = soon(Cache::open(&inside, "/").into_future()).await.expect("readable");
    assert_eq!(paths(&cache), ["/", "/a", "/a/x"]);
    make(&a, &["/app/b", "/other/a"]).await;
    let snapshot = soon(cache.sync()).await.expect("open");
    let children: Vec<_> = snapshot.children("/").map(|node| node.path.clone()).collect();
    assert_eq!(children, [path("/a"), path("/b")]);
}

#[tokio::test(start_paused = true)]
async fn of_the_root_of_everything_it_holds_everything() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app", "/app/a", "/b"]).await;
    let cache = soon(Cache::open(&b, "/").into_future()).await.expect("readable");
    assert_equal(&cache, &a, "/").await;
    make(&a, &["/c"]).await;
    assert_equal(&cache, &a, "/").await;
}

#[derive(Debug, Deserialize, PartialEq)]
struct Instance {
    port: u16,
}

#[tokio::test(start_paused = true)]
async fn data_is_read_as_a_type() {
    let zk = Coordinator::start();
    let (a, b) = clients(&zk).await;
    make(&a, &["/app"]).await;
    a.create("/app/good", r#"{"port": 80}"#).await.expect("new");
    a.create("/app/bad", "{\n\"port\": \"eighty\"}").await.expect("new");
    let cache = open(&b).await;
    let good = cache.get("/app/good").expect("there");
    assert_eq!(*good.json::<Instance>().expect("valid"), Instance { port: 80 });
    let error = cache.get("/app/bad").expect("there").json::<Instance>().expect_err("not valid");
    let text = error.to_string();
    assert!(text.contains("/app/bad") && text.contains("line 2"), "{text}");
    a.set("/app/good", r#"{"port": 81}"#).await.expect("there");
    let now = soon(cache.sync()).await.expect("open").get("/app/good").expect("there").clone();
    assert_eq!(now.json::<Instance>().expect("valid").port, 81);
    assert_eq!(good.json::<Instance>().expect("valid").port, 80, "a node does not change");
}
