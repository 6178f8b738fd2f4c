//! Every operation on the embedded ground, private and shared.

use std::time::Duration;

use synod_core::client::Client;
use synod_core::model::{Code, SessionEnd, WatchKind};

use crate::common::embedded;

/// Two clients that share a coordinator: one by two handles, and two by name.
async fn pairs(name: &str) -> Vec<(Client, Client)> {
    let private = embedded().await;
    let name = format!("embedded:{name}");
    let named = (Client::connect(&name).await, Client::connect(&name).await);
    let named = (named.0.expect("connects"), named.1.expect("connects"));
    assert_ne!(named.0.session().id(), named.1.session().id());
    vec![(private.clone(), private), named]
}

#[tokio::test]
async fn what_one_writes_all_read_with_its_stat() {
    for (a, b) in pairs("operations-write").await {
        let (path, made) = a.create("/x", b"1").with_stat().await.expect("creates");
        assert_eq!(path.as_str(), "/x");
        assert_eq!((made.version, made.cversion, made.aversion, made.children), (0, 0, 0, 0));
        assert_eq!((made.czxid, made.czxid), (made.mzxid, made.pzxid));
        assert_eq!((made.data_bytes, made.ephemeral_owner), (1, None));
        assert!(made.ctime_ms > 0 && made.ctime_ms == made.mtime_ms);
        assert_eq!(b.get("/x").await.expect("is there"), (b"1".to_vec().into(), made));
        assert_eq!(b.exists("/x").await.expect("answers"), Some(made));

        let set = b.set("/x", b"23").version(0).await.expect("sets");
        assert_eq!((set.version, set.data_bytes, set.czxid), (1, 2, made.czxid));
        assert!(set.mzxid > made.mzxid);
        let stale = a.set("/x", b"").version(0).await.expect_err("is at 1");
        assert!(stale.is(Code::BadVersion), "{stale}");
        assert!(stale.to_string().contains("\"/x\" at version 0"), "{stale}");

        a.create("/x/y", b"").await.expect("creates");
        let (names, parent) = b.children("/x").with_stat().await.expect("answers");
        assert_eq!((names, parent.children, parent.cversion), (vec!["y".to_owned()], 1, 1));
        assert!(a.delete("/x").await.expect_err("has a child").is(Code::NotEmpty));
        assert!(a.delete("/x/y").version(3).await.expect_err("is at 0").is(Code::BadVersion));
        assert_eq!(b.descendant_count("/x").await.expect("answers"), 1);
        a.delete("/x/y").version(0).await.expect("deletes");
        b.delete("/x").await.expect("deletes");
        for gone in [
            a.get("/x").await.err(),
            a.set("/x", b"").await.err(),
            a.delete("/x").await.err(),
            a.children("/x").await.err(),
            a.get_acl("/x").await.err(),
            a.descendant_count("/x").await.err(),
            a.get("/x").watched().await.err(),
            a.create("/x/y", b"").await.err(),
        ] {
            let error = gone.expect("is refused");
            assert!(error.is(Code::NoNode) && error.to_string().contains("/x"), "{error}");
            assert!(!error.maybe_applied() && !error.retryable() && !error.session_over());
        }
        assert_eq!(a.exists("/x").await.expect("answers"), None);
    }
}

#[tokio::test]
async fn each_mode_of_creation_does_what_it_says() {
    for (a, b) in pairs("operations-modes").await {
        a.create("/q", b"").await.expect("creates");
        let first = a.create("/q/n-", b"").sequential().await.expect("creates");
        let second = b.create("/q/n-", b"").ephemeral().sequential().await.expect("creates");
        let third = a.create("/q/n-", b"").ttl(Duration::from_secs(1)).sequential().await;
        assert_eq!(first.as_str(), "/q/n-0000000000");
        assert_eq!(second.as_str(), "/q/n-0000000001");
        assert_eq!(third.expect("creates").as_str(), "/q/n-0000000002");
        let owner = a.exists(&second).await.expect("answers").expect("is there").ephemeral_owner;
        assert_eq!(owner, Some(b.session().id()));
        let child = a.create(second.join("x").expect("valid"), b"").await;
        assert!(child.expect_err("is ephemeral").is(Code::NoChildrenForEphemerals));
        a.create("/c", b"").container().await.expect("creates");
        a.create("/t", b"").ttl(Duration::from_millis(1)).await.expect("creates");
        let again = a.create("/c", b"").await.expect_err("is there");
        assert!(again.is(Code::NodeExists), "{again}");
        assert_eq!(b.ephemerals("/q").await.expect("answers"), std::slice::from_ref(&second));
        assert_eq!(b.ephemerals("/other").await.expect("answers"), []);
    }
}

#[tokio::test]
async fn the_coordinators_own_znodes_are_there_and_stay() {
    let client = embedded().await;
    for path in ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
        assert!(client.exists(path).await.expect("answers").is_some(), "{path}");
        let error = client.delete(path).await.expect_err("stays");
        assert!(error.is(Code::BadArguments), "{error}");
    }
    assert!(client.create("/", b"").await.expect_err("is there").is(Code::NodeExists));
}

#[tokio::test]
async fn a_sync_yields_the_last_zxid_and_so_does_the_session() {
    for (a, b) in pairs("operations-sync").await {
        let made = a.create("/x", b"").with_stat().await.expect("creates").1;
        assert_eq!(a.last_zxid(), made.czxid);
        assert_eq!(b.sync().await.expect("answers"), made.czxid);
        assert_eq!(b.last_zxid(), made.czxid);
        assert_eq!(b.get("/x").latest().await.expect("is there").1, made);
    }
}

#[tokio::test]
async fn the_coordinator_says_which_watches_it_holds() {
    let client = embedded().await;
    let kinds = [
        WatchKind::Data,
        WatchKind::Children,
        WatchKind::Persistent,
        WatchKind::PersistentRecursive,
    ];
    let has = async |kind| client.has_watch("/x", kind).await.expect("answers");
    client.create("/x", b"").await.expect("creates");
    for kind in kinds {
        assert!(!has(kind).await && !has(WatchKind::Any).await);
        let handle: Box<dyn Send> = match kind {
            WatchKind::Data => Box::new(client.get("/x").watched().await.expect("answers").1),
            WatchKind::Children => {
                Box::new(client.children("/x").watched().await.expect("answers").1)
            }
            WatchKind::Persistent => Box::new(client.watch("/x").await.expect("watches")),
            _ => Box::new(client.watch("/x").recursive().await.expect("watches")),
        };
        for other in kinds {
            assert_eq!(has(other).await, other == kind, "{other:?} of {kind:?}");
        }
        assert!(has(WatchKind::Any).await);
        drop(handle);
    }
    assert!(!has(WatchKind::Any).await);
}

#[tokio::test(start_paused = true)]
async fn an_embedded_session_cannot_expire_and_says_so() {
    let client = embedded().await;
    let session = client.session();
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert!(session.deadline_is_proof());
    assert_eq!(session.valid_until(), tokio::time::Instant::now() + session.timeout());
    assert_eq!(session.end(), None);
    client.close().await.expect("closes");
    assert_eq!(session.end(), Some(SessionEnd::Closed));
    assert!(session.valid_until() <= tokio::time::Instant::now());
}

#[tokio::test]
async fn ids_are_random() {
    let client = embedded().await;
    let ids: std::collections::BTreeSet<_> = (0..1_000).map(|_| client.random_id()).collect();
    assert_eq!(ids.len(), 1_000);
}
