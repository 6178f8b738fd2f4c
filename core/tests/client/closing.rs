//! The end of a client: by `close`, and by the drop of its last handle.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use synod_core::client::{Client, SessionStatus};
use synod_core::model::{Error, SessionEnd};
use synod_core::testing::Coordinator;
use tokio::runtime::Handle;

use crate::common::{LONG, cancelled_at, embedded, next_state, pass, timed, two_clients};

const CLOSED: SessionStatus = SessionStatus::Over(SessionEnd::Closed);

#[tokio::test(start_paused = true)]
async fn ephemerals_are_gone_when_close_returns() {
    let (_zk, a, b) = two_clients().await;
    a.create("/e", b"").ephemeral().await.expect("creates");
    a.close().await.expect("closes");
    assert_eq!(b.exists("/e").await.expect("answers"), None);

    let (a, b) = {
        let name = "embedded:closing-ephemerals";
        let a = Client::connect(name).await.expect("connects");
        (a, Client::connect(name).await.expect("connects"))
    };
    a.create("/e", b"").ephemeral().await.expect("creates");
    a.close().await.expect("closes");
    assert_eq!(b.exists("/e").await.expect("answers"), None);
}

#[tokio::test(start_paused = true)]
async fn closing_closes_every_clone_and_twice_does_nothing() {
    let zk = Coordinator::start();
    for client in [embedded().await, zk.client().await] {
        let clone = client.clone();
        let (session, pinned) = (client.session(), client.pin().await.expect("pins"));
        client.close().await.expect("closes");
        clone.close().await.expect("closes again");
        assert_eq!(session.lost().await, SessionEnd::Closed);
        assert_eq!(session.end(), Some(SessionEnd::Closed));
        for handle in [&client, &clone, &pinned] {
            let error = handle.get("/").await.expect_err("closed");
            assert!(matches!(error, Error::SessionOver { end: SessionEnd::Closed, .. }), "{error}");
            assert!(error.session_over() && !error.maybe_applied() && !error.retryable());
            assert!(handle.pin().await.is_err());
            assert!(handle.watch("/").await.is_err());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_follow_the_session_hear_that_it_was_closed() {
    let zk = Coordinator::start();
    for client in [embedded().await, zk.client().await] {
        let mut states = client.session_states();
        assert_eq!(next_state(&mut states).await.status, SessionStatus::Connected);
        client.close().await.expect("closes");
        let last = next_state(&mut states).await;
        assert_eq!((last.status, last.session), (CLOSED, client.session().id()));
        drop(client);
        assert_eq!(tokio::time::timeout(LONG, states.next()).await, Ok(None));
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_follow_the_session_hear_that_its_last_handle_was_dropped() {
    let zk = Coordinator::start();
    for client in [embedded().await, zk.client().await] {
        let mut states = client.session_states();
        assert_eq!(next_state(&mut states).await.status, SessionStatus::Connected);
        drop(client);
        assert_eq!(next_state(&mut states).await.status, CLOSED);
        assert_eq!(tokio::time::timeout(LONG, states.next()).await, Ok(None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_closed_between_two_sessions_is_closed_at_once() {
    let (zk, a, _b) = two_clients().await;
    zk.disconnect(&a, LONG);
    assert_eq!(a.session().lost().await, SessionEnd::DeadlinePassed);
    let clone = a.clone();
    let waiting = tokio::spawn(async move { clone.get("/").await });
    pass(Duration::from_millis(1)).await;
    a.close().await.expect("closes");
    let (took, answer) = timed(a.get("/")).await;
    assert!(answer.expect_err("closed").session_over());
    assert!(took < Duration::from_secs(1), "{took:?}");
    let (took, answer) = timed(waiting).await;
    assert!(answer.expect("no panic").expect_err("closed").session_over());
    assert!(took < Duration::from_secs(1), "{took:?}");
    zk.heal(&a);
    pass(LONG).await;
    assert!(a.get("/").await.is_err(), "no further session is opened");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_close_opens_no_further_session() {
    for n in 1.. {
        let (_zk, a, b) = two_clients().await;
        let session = a.session().id();
        a.create("/e", b"").ephemeral().await.expect("creates");
        let done = cancelled_at(a.close(), n).await;
        pass(LONG).await;
        assert_eq!(a.session().id(), session, "no further session");
        assert!(a.get("/").await.is_err(), "closing or closed");
        assert_eq!(b.exists("/e").await.expect("is asked"), None);
        if done.is_some() {
            assert!(n > 1, "it was cancelled at least once");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn closing_without_a_connection_says_that_nobody_was_told() {
    let (zk, a, b) = two_clients().await;
    a.create("/e", b"").ephemeral().await.expect("creates");
    zk.disconnect(&a, LONG);
    a.session().disconnected().await;
    let error = a.close().await.expect_err("nobody can be told");
    assert!(matches!(error, Error::ConnectionLost { .. }), "{error}");
    assert_eq!(a.session().end(), Some(SessionEnd::Closed));
    let (_, gone) = b.exists("/e").watched().await.expect("answers");
    gone.await.expect("the session expires by itself");
}

#[tokio::test]
async fn on_the_embedded_ground_the_drop_of_the_last_handle_ends_the_session_at_once() {
    let name = "embedded:closing-last-handle";
    let b = Client::connect(name).await.expect("connects");
    let a = Client::connect(name).await.expect("connects");
    a.create("/e", b"").ephemeral().await.expect("creates");
    let (clone, watch) = (a.clone(), a.watch("/").await.expect("watches"));
    let session = a.session();
    drop(a);
    drop(clone);
    assert!(b.exists("/e").await.expect("answers").is_some(), "a watch holds the client");
    drop(watch);
    assert!(b.exists("/e").await.expect("answers").is_some(), "a session holds the client");
    drop(session);
    assert!(b.exists("/e").await.expect("answers").is_none());
}

#[tokio::test]
async fn a_named_coordinator_lives_as_long_as_one_of_its_clients() {
    let name = "embedded:closing-named";
    let a = Client::connect(name).await.expect("connects");
    a.create("/kept", b"").await.expect("creates");
    let b = Client::connect(name).await.expect("connects");
    drop(a);
    assert!(b.exists("/kept").await.expect("answers").is_some());
    drop(b);
    let c = Client::connect(name).await.expect("connects");
    assert!(c.exists("/kept").await.expect("answers").is_none());
}

#[tokio::test(start_paused = true)]
async fn the_drop_of_the_last_handle_ends_the_session_and_its_tasks() {
    let zk = Coordinator::start();
    let b = zk.client().await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    let a = zk.client().await;
    a.create("/e", b"").ephemeral().await.expect("creates");
    let (_, gone) = b.exists("/e").watched().await.expect("answers");
    let watch = a.watch("/").recursive().await.expect("watches");
    drop(a);
    pass(Duration::from_secs(1)).await;
    assert!(b.exists("/e").await.expect("answers").is_some(), "a watch holds the client");
    drop(watch);
    let (took, event) = timed(gone).await;
    event.expect("fires");
    assert!(took < Duration::from_millis(100), "closed, not expired: {took:?}");
    pass(Duration::from_secs(1)).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
    assert_eq!(zk.watch_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_task_is_left_after_close_whatever_went_before() {
    let zk = Coordinator::start();
    let tasks = Handle::current().metrics().num_alive_tasks();
    for fault in 0..6 {
        let a = zk.client().await;
        let old = a.session();
        match fault {
            0 => {}
            1 => zk.expire(&a).await,
            2 => zk.disconnect(&a, LONG),
            3 => zk.lose_next_reply(&a),
            4 => zk.delay_next(&a, LONG),
            _ => {
                zk.disconnect(&a, LONG);
                old.lost().await;
            }
        }
        let _ = a.create("/x", b"").into_future().now_or_never();
        let _ = a.close().await;
        drop(a);
        pass(LONG).await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks, "fault {fault}");
        drop(old);
    }
}

#[test]
fn the_embedded_ground_needs_no_runtime() {
    let all_done_at_once = async {
        let client = embedded().await;
        client.create("/a", b"").ephemeral().await.expect("creates");
        let mut watch = client.watch("/a").await.expect("watches");
        client.set("/a", b"1").await.expect("sets");
        assert!(watch.next().now_or_never().is_some());
        client.close().await.expect("closes");
    };
    all_done_at_once.now_or_never().expect("everything is answered inline");
}

#[test]
fn handles_may_be_dropped_outside_of_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let (zk, client, watch, once) = runtime.block_on(async {
        let zk = Coordinator::start();
        let client = zk.client().await;
        let watch = client.watch("/a").await.expect("watches");
        let (_, once) = client.exists("/b").watched().await.expect("answers");
        (zk, client, watch, once)
    });
    assert_eq!(zk.watch_count(), 2);
    drop(watch);
    drop(once);
    runtime.block_on(client.sync().into_future()).expect("syncs");
    assert_eq!(zk.watch_count(), 0);
    drop(client);
    drop(zk);
}
