//! Cases for every ground.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt;
use synod::election::Observed;
use synod::guard::Released;
use synod::model::{OpResult, ReadOpResult, WatchKind};
use synod::{
    Acl, Client, Code, CreateMode, Election, Error, EventKind, Fence, Guard, Lock, LossReason,
    Notice,
};

use super::ground::{Ground, soon};

const LOCK: &str = "/locks/report";

pub fn lock(client: &Client) -> Lock {
    Lock::new(client, LOCK).expect("a valid path")
}

/// Waits until `path` has that many children.
pub async fn until_children(client: &Client, path: &str, count: usize) {
    soon(async {
        loop {
            match client.children(path).watched().await {
                Ok(((names, _), _)) if names.len() == count => return,
                Ok((_, changed)) => drop(changed.await),
                Err(error) if error.is(Code::NoNode) && count == 0 => return,
                Err(error) if error.is(Code::NoNode) => {
                    let (stat, made) = client.exists(path).watched().await.expect("can be asked");
                    if stat.is_none() {
                        drop(made.await);
                    }
                }
                Err(error) => assert!(error.retryable(), "{error}"),
            }
        }
    })
    .await;
}

/// Starts an acquire and waits until it is in line behind `before` others.
pub async fn in_line(
    client: &Client,
    observer: &Client,
    before: usize,
) -> tokio::task::JoinHandle<Result<Guard, Error>> {
    let lock = lock(client);
    let waiting = tokio::spawn(async move { lock.acquire().await });
    until_children(observer, LOCK, before + 1).await;
    waiting
}

pub async fn holders_follow_each_other_with_growing_tokens(ground: &Ground) {
    let (a, b, c) = (ground.client().await, ground.client().await, ground.client().await);
    let first = soon(lock(&a).acquire()).await.expect("free");
    let second = in_line(&b, &a, 1).await;
    let third = in_line(&c, &a, 2).await;
    assert!(!second.is_finished() && !third.is_finished());
    assert_eq!(first.release().await.expect("connected"), Released::Confirmed);
    assert_eq!(first.release().await.expect("twice does nothing"), Released::Confirmed);
    let second = soon(second).await.expect("no panic").expect("its turn");
    assert!(!third.is_finished() && second.token() > first.token());
    second.release().await.expect("connected");
    let third = soon(third).await.expect("no panic").expect("its turn");
    assert!(third.token() > second.token());
}

pub async fn a_held_lock_is_not_had_by_trying_or_in_time(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    let held = lock(&a).acquire().await.expect("free");
    assert!(lock(&b).try_acquire().await.expect("can be tried").is_none());
    let limit = Duration::from_millis(200);
    let error = lock(&b).acquire_within(limit).await.expect_err("held by another");
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    until_children(&a, LOCK, 1).await;
    held.release().await.expect("connected");
    assert!(lock(&b).try_acquire().await.expect("can be tried").is_some());
}

pub async fn a_cancelled_acquire_leaves_no_contender(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    for n in 1.. {
        let held = lock(&a).acquire().await.expect("free");
        let observer = a.clone();
        let releasing = tokio::spawn(async move {
            until_children(&observer, LOCK, 2).await;
            held.release().await.expect("connected");
        });
        let done = soon(cancel_at(n, lock(&b).acquire())).await;
        let finished = done.is_some();
        drop(done);
        releasing.abort();
        until_children(&a, LOCK, 0).await;
        if finished {
            break;
        }
    }
}

/// Polls `future` until it is pending for the `n`-th time (from 1), and drops it there: `None`.
pub async fn cancel_at<T>(n: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut pending = 0;
    std::future::poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => {
            pending += 1;
            if pending == n { Poll::Ready(None) } else { Poll::Pending }
        }
    })
    .await
}

pub async fn two_guards_of_one_session_exclude_each_other(ground: &Ground) {
    let client = ground.client().await;
    let first = lock(&client).acquire().await.expect("free");
    let second = in_line(&client, &client, 1).await;
    assert!(!second.is_finished());
    first.release().await.expect("connected");
    let second = soon(second).await.expect("no panic").expect("its turn");
    assert!(second.token() > first.token());
}

pub async fn a_guarded_transaction_is_done_only_while_the_lock_is_held(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    a.create("/report", b"").await.expect("new");
    let guard = lock(&a).acquire().await.expect("free");
    let done = guard.txn().set("/report", b"1").create("/done", b"").commit().await;
    assert_eq!(done.expect("held").len(), 2);
    b.delete(guard.path()).await.expect("forced");
    let error = guard.txn().set("/report", b"2").commit().await.expect_err("not held");
    assert!(error.is_lost(), "{error}");
    assert_eq!(b.get("/report").await.expect("it is there").0, &b"1"[..]);
    assert_eq!(soon(guard.lost()).await.reason, LossReason::Removed);
    let stopped = guard.run(std::future::pending::<()>()).await;
    assert!(stopped.expect_err("lost").is_lost());
}

pub async fn a_dropped_guard_frees_the_lock(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    let held = lock(&a).acquire().await.expect("free");
    let waiting = in_line(&b, &a, 1).await;
    std::thread::spawn(move || drop(held)).join().expect("no runtime is needed");
    drop(soon(waiting).await.expect("no panic").expect("its turn"));
    until_children(&a, LOCK, 0).await;
}

pub async fn a_closed_client_frees_its_locks_at_once(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    let held = lock(&a).acquire().await.expect("free");
    a.close().await.expect("connected");
    assert!(lock(&b).try_acquire().await.expect("can be tried").is_some(), "free already");
    assert!(held.session().end().is_some());
    let error = held.txn().delete(LOCK).commit().await.expect_err("lost");
    assert!(error.is_lost(), "{error}");
}

pub async fn ten_workers_never_overlap(ground: &Ground) {
    let inside = Arc::new(AtomicU32::new(0));
    let resource = Arc::new(Fence::new());
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (client, inside) = (ground.client().await, Arc::clone(&inside));
        let resource = Arc::clone(&resource);
        workers.spawn(async move {
            for _ in 0..5 {
                let guard = lock(&client).acquire().await.expect("its turn");
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "alone");
                resource.admit(guard.token()).expect("the newest");
                tokio::task::yield_now().await;
                assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1, "alone");
                guard.release().await.expect("connected");
            }
        });
    }
    soon(workers.join_all()).await;
}

pub async fn an_emptied_parent_does_no_harm(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    for _ in 0..20 {
        let guard = lock(&a).acquire().await.expect("free");
        guard.release().await.expect("connected");
        // As a server does that reaps empty containers.
        b.delete(LOCK).await.expect("empty");
    }
    let mut last = synod::Zxid::ZERO;
    for client in [&a, &b] {
        let guard = lock(client).acquire().await.expect("free");
        assert!(guard.token() > last, "tokens grow though the suffix begins anew");
        last = guard.token();
    }
}

pub async fn leaders_follow_each_other_and_are_observed(ground: &Ground) {
    let (a, b, c) = (ground.client().await, ground.client().await, ground.client().await);
    let election = |client: &Client, name: &str| {
        Election::new(client, "/scheduler").expect("valid").with_name(name)
    };
    let mut seen = election(&c, "c").observe();
    assert_eq!(soon(seen.next()).await, Some(Observed::NoLeader));
    let first = soon(election(&a, "a").campaign()).await.expect("nobody leads");
    let Some(Observed::Following(leader)) = soon(seen.next()).await else { panic!("a leads") };
    assert_eq!((leader.name.as_str(), leader.term), ("a", first.term()));
    let next = election(&b, "b");
    let campaign = tokio::spawn(async move { next.campaign().await });
    until_children(&a, "/scheduler", 2).await;
    let term = first.term();
    first.resign().await.expect("connected");
    let second = soon(campaign).await.expect("no panic").expect("its turn");
    assert!(second.term() > term);
    loop {
        match soon(seen.next()).await {
            Some(Observed::Following(leader)) if leader.name == "b" => break,
            Some(Observed::NoLeader) => {}
            other => panic!("{other:?}"),
        }
    }
}

pub async fn a_leadership_is_fenced_by_its_term(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    let resource = Fence::new();
    let election = Election::new(&a, "/scheduler").expect("valid");
    let deposed = election.campaign().await.expect("nobody leads");
    resource.admit(deposed.term()).expect("the first");
    b.delete(deposed.path()).await.expect("forced");
    let leader = Election::new(&b, "/scheduler").expect("valid").campaign().await;
    resource.admit(leader.expect("nobody leads").term()).expect("the next");
    assert!(resource.admit(deposed.term()).is_err());
}

pub async fn every_operation_answers_alike(ground: &Ground) {
    let client = ground.client().await;
    let (path, created) = client.create("/a", b"1").with_stat().await.expect("new");
    assert_eq!((&*path, created.version, created.ephemeral_owner), ("/a", 0, None));
    let error = client.create("/a", b"").await.expect_err("there already");
    assert!(error.is(Code::NodeExists) && error.to_string().contains("\"/a\""), "{error}");
    let suffixed = client.create("/a/s-", b"").ephemeral().sequential().await.expect("new");
    assert_eq!(&*suffixed, "/a/s-0000000000");
    let owner =
        client.exists(&suffixed).await.expect("can be asked").and_then(|stat| stat.ephemeral_owner);
    assert_eq!(owner, Some(client.session().id()));
    let error = client.create("/a/s-0000000000/x", b"").await.expect_err("below an ephemeral");
    assert!(error.is(Code::NoChildrenForEphemerals), "{error}");

    let (data, stat) = client.get("/a").await.expect("it is there");
    assert_eq!((&data[..], stat.children, stat.cversion, stat.data_bytes), (&b"1"[..], 1, 1, 1));
    let set = client.set("/a", b"22").version(0).await.expect("version 0");
    assert!(set.version == 1 && set.mzxid > created.czxid && set.data_bytes == 2);
    let error = client.set("/a", b"").version(0).await.expect_err("version 1 by now");
    assert!(error.is(Code::BadVersion) && error.to_string().contains("version 0"), "{error}");
    assert_eq!(client.get("/a").latest().await.expect("it is there").0, &b"22"[..]);
    assert_eq!(client.children("/a").await.expect("it is there"), ["s-0000000000"]);
    assert_eq!(client.descendant_count("/a").await.expect("it is there"), 1);
    let mine = client.ephemerals("/a").await.expect("can be asked");
    assert_eq!(mine.iter().map(|path| &**path).collect::<Vec<_>>(), ["/a/s-0000000000"]);
    assert!(client.sync().await.expect("connected") >= set.mzxid);
    let error = client.delete("/a").await.expect_err("has a child");
    assert!(error.is(Code::NotEmpty), "{error}");
    client.delete(&suffixed).version(0).await.expect("version 0");
    client.delete("/a").await.expect("empty now");
    assert_eq!(client.exists("/a").await.expect("can be asked"), None);
    for error in [
        client.get("/a").await.expect_err("gone"),
        client.children("/a").await.expect_err("gone"),
        client.set("/a", b"").await.expect_err("gone"),
        client.delete("/a").await.expect_err("gone"),
    ] {
        assert!(error.is(Code::NoNode), "{error}");
    }
    let big = vec![7; 900_000];
    client.create("/big", &big).await.expect("below the limit");
    assert_eq!(client.get("/big").await.expect("it is there").0, big);
}

pub async fn a_transaction_is_done_whole_or_not_at_all(ground: &Ground) {
    let client = ground.client().await;
    let done = client.txn().create("/t", b"").create("/t/x", b"1").set("/t", b"2").commit().await;
    let done = done.expect("valid");
    assert!(matches!(&done[1], OpResult::Created { path, .. } if &**path == "/t/x"), "{done:?}");
    assert!(matches!(&done[2], OpResult::Set(stat) if stat.version == 1), "{done:?}");
    let failed = client.txn().delete("/t/x").check("/t", 7).create("/u", b"").commit().await;
    let error = failed.expect_err("the version is 1");
    assert!(error.is(Code::BadVersion), "{error}");
    assert!(
        matches!(&error, synod::model::Error::Refused { index: Some(1), path, .. } if &**path == "/t"),
        "{error:?}"
    );
    assert!(client.exists("/t/x").await.expect("can be asked").is_some(), "nothing half done");
    let mode = CreateMode::PersistentSequential;
    let done = client.txn().create_as("/t/s", b"", mode, Acl::open()).delete("/t/x").commit().await;
    assert!(
        matches!(&done.expect("valid")[..], [OpResult::Created { path, .. }, OpResult::Deleted]
            if &**path == "/t/s0000000001"),
    );
    let read =
        client.multi_read().get("/t").get("/none").children("/t").await.expect("can be asked");
    assert!(matches!(&read[0], Ok(ReadOpResult::Data { data: Some(data), .. }) if data == "2"));
    assert!(read[1].as_ref().is_err_and(|error| error.is(Code::NoNode)));
    assert!(matches!(&read[2], Ok(ReadOpResult::Children(names)) if names == &["s0000000001"]));
}

pub async fn watches_tell_of_changes_and_are_removed_when_dropped(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    let (_, made) = a.exists("/w").watched().await.expect("can be asked");
    b.create("/w", b"").await.expect("new");
    let event = soon(made).await.expect("the session lives");
    assert_eq!((event.kind, &*event.path), (EventKind::Created, "/w"));
    let (_, set) = a.get("/w").watched().await.expect("it is there");
    let (_, child) = a.children("/w").watched().await.expect("it is there");
    // From a client of its own: before 3.9, ZooKeeper keeps one kind of watch a session and path.
    let c = ground.client().await;
    let mut all = c.watch("/w").recursive().await.expect("can be asked");
    b.set("/w", b"1").await.expect("connected");
    b.create("/w/x", b"").await.expect("new");
    assert_eq!(soon(set).await.expect("the session lives").kind, EventKind::DataChanged);
    assert_eq!(soon(child).await.expect("the session lives").kind, EventKind::ChildrenChanged);
    for (kind, path) in [(EventKind::DataChanged, "/w"), (EventKind::Created, "/w/x")] {
        let Some(Notice::Event(event)) = soon(all.next()).await else { panic!("an event") };
        assert_eq!((event.kind, &*event.path), (kind, path));
    }
    assert!(c.has_watch("/w", WatchKind::Any).await.expect("can be asked"));
    drop(all);
    assert!(!c.has_watch("/w", WatchKind::Any).await.expect("can be asked"), "removed");
}

pub async fn a_namespace_is_all_that_its_client_sees(ground: &Ground) {
    let client = ground.client().await;
    client.create("/app", b"").await.expect("new");
    let app = client.namespace("/app").expect("valid");
    let path = app.create("/x-", b"").sequential().await.expect("new");
    assert_eq!(&*path, "/x-0000000000");
    assert_eq!(client.children("/app").await.expect("it is there"), ["x-0000000000"]);
    let guard = lock(&app).acquire().await.expect("free");
    assert!(client.exists("/app/locks/report").await.expect("can be asked").is_some());
    guard.release().await.expect("connected");
}

pub async fn acls_are_kept(ground: &Ground) {
    let owner = ground.builder().auth_digest("ann", "secret").connect().await.expect("reachable");
    let other = ground.client().await;
    owner.create("/private", b"1").acl(Acl::creator()).await.expect("new");
    other.sync().await.expect("connected");
    assert_eq!(owner.get("/private").await.expect("permitted").0, &b"1"[..]);
    let error = other.get("/private").await.expect_err("not permitted");
    assert!(error.is(Code::NoAuth), "{error}");
    other.add_auth("digest", "ann:secret").await.expect("never fails");
    assert_eq!(other.get("/private").await.expect("permitted by now").0, &b"1"[..]);
    let (acl, _) = owner.get_acl("/private").await.expect("permitted");
    assert!(acl.len() == 1 && acl[0].who.id.starts_with("ann:"), "{acl:?}");
}
