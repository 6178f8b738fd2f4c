//! Cleanups that outlive whoever asked for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use synod_core::client::Client;
use synod_core::model::limits::CONTENDERS_PER_SESSION_MAX;
use synod_core::model::{Error, SessionEnd};
use synod_core::testing::Coordinator;
use tokio::runtime::Handle;

use crate::common::{LONG, SHORT, embedded, pass, two_clients};

/// Deletes `path`, however often it takes.
async fn delete(client: Client, path: &'static str) {
    while let Err(Error::ConnectionLost { .. }) = client.delete(path).await {}
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_runs_when_the_connection_is_back() {
    let (zk, a, b) = two_clients().await;
    a.create("/x", b"").await.expect("creates");
    let slot = a.session().reserve_cleanup().expect("has room");
    assert_eq!(a.session().cleanups_reserved(), 1);
    zk.disconnect(&a, SHORT);
    a.session().disconnected().await;
    slot.run(delete(a.pin().await.expect("pins"), "/x"));
    let (_, gone) = b.get("/x").watched().await.expect("is there");
    gone.await.expect("fires");
    pass(SHORT).await;
    assert_eq!(a.session().cleanups_reserved(), 0);
    assert_eq!(a.session().end(), None);
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_runs_although_every_handle_was_dropped() {
    let (zk, a, b) = two_clients().await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    a.create("/x", b"").await.expect("creates");
    let slot = a.session().reserve_cleanup().expect("has room");
    zk.disconnect(&a, SHORT);
    a.session().disconnected().await;
    slot.run(delete(a.clone(), "/x"));
    drop(a);
    let (_, gone) = b.get("/x").watched().await.expect("is there");
    gone.await.expect("fires");
    pass(Duration::from_secs(2)).await;
    assert!(Handle::current().metrics().num_alive_tasks() < tasks, "the client is gone");
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_is_dropped_when_its_session_ends() {
    let (zk, a, _b) = two_clients().await;
    let slot = a.session().reserve_cleanup().expect("has room");
    let (held, old) = (Arc::new(()), a.session());
    let inside = Arc::clone(&held);
    slot.run(async move {
        let _inside = inside;
        std::future::pending::<()>().await;
    });
    pass(SHORT).await;
    assert_eq!((Arc::strong_count(&held), old.cleanups_reserved()), (2, 1));
    zk.expire(&a).await;
    a.sync().await.expect("a new session");
    assert_eq!((Arc::strong_count(&held), old.cleanups_reserved()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_that_is_handed_over_after_the_session_ended_leaks_nothing() {
    let zk = Coordinator::start();
    let tasks = Handle::current().metrics().num_alive_tasks();
    for close in [false, true] {
        let a = zk.client().await;
        let slot = a.session().reserve_cleanup().expect("has room");
        if close {
            a.close().await.expect("closes");
        } else {
            zk.expire(&a).await;
            a.sync().await.expect("a new session");
        }
        let held = Arc::new(());
        let inside = Arc::clone(&held);
        slot.run(async move {
            let _inside = inside;
            std::future::pending::<()>().await;
        });
        drop(a);
        pass(Duration::from_secs(2)).await;
        assert_eq!(Arc::strong_count(&held), 1, "the cleanup is dropped");
        assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks, "so is the client");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_that_panics_does_not_take_the_client_along() {
    let (zk, a, _b) = two_clients().await;
    let slot = a.session().reserve_cleanup().expect("has room");
    slot.run(async { panic!("a cleanup that panics, on purpose") });
    pass(Duration::from_secs(3600)).await;
    assert_eq!(a.session().end(), None, "somebody still pings");
    assert_eq!(a.session().cleanups_reserved(), 0);
    zk.disconnect(&a, LONG);
    assert_eq!(a.session().lost().await, SessionEnd::DeadlinePassed);
}

#[tokio::test(start_paused = true)]
async fn the_bound_is_told_and_places_come_back() {
    let zk = Coordinator::start();
    for client in [embedded().await, zk.client().await] {
        let session = client.session();
        let mut slots = Vec::new();
        for _ in 0..CONTENDERS_PER_SESSION_MAX {
            slots.push(session.reserve_cleanup().expect("has room"));
        }
        assert_eq!(session.cleanups_reserved(), CONTENDERS_PER_SESSION_MAX);
        let Err(error) = session.reserve_cleanup() else { panic!("there is a bound") };
        assert!(matches!(error, Error::TooMany { max: CONTENDERS_PER_SESSION_MAX, .. }), "{error}");
        assert!(error.retryable() && error.to_string().contains("65536"), "{error}");
        slots.pop();
        let again = session.reserve_cleanup().expect("one came back");
        drop(again);
        slots.pop().expect("there are more").run(async {});
        pass(SHORT).await;
        assert_eq!(session.cleanups_reserved(), CONTENDERS_PER_SESSION_MAX - 2);
        drop(slots);
        assert_eq!(session.cleanups_reserved(), 0);
    }
}

#[tokio::test]
async fn on_the_embedded_ground_a_cleanup_is_done_when_run_returns() {
    let client = embedded().await;
    client.create("/x", b"").await.expect("creates");
    let slot = client.session().reserve_cleanup().expect("has room");
    slot.run(delete(client.clone(), "/x"));
    assert_eq!(client.session().cleanups_reserved(), 0);
    assert_eq!(client.exists("/x").await.expect("answers"), None);
}

#[tokio::test]
async fn on_the_embedded_ground_a_cleanup_is_done_even_in_a_task_that_should_have_yielded() {
    // tokio lets a task do 128 things in one poll; then whatever it asks is pending once.
    let client = embedded().await;
    for _ in 0..300 {
        for _ in 0..2 {
            let done = Arc::new(AtomicBool::new(false));
            let slot = client.session().reserve_cleanup().expect("has room");
            let (cleaner, flag) = (client.clone(), Arc::clone(&done));
            slot.run(async move {
                cleaner.exists("/x").await.expect("answers");
                flag.store(true, Ordering::Release);
            });
            assert!(done.load(Ordering::Acquire), "done when run returns");
        }
        client.exists("/x").await.expect("answers");
    }
}
