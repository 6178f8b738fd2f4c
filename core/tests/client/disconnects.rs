//! Requests while the connection is broken, and sessions that live through it or not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use synod_core::client::SessionStatus;
use synod_core::model::{Code, Error, SessionEnd};
use synod_core::testing::Coordinator;

use crate::common::{LONG, SHORT, next_state, once, pass, timed, two_clients};

#[tokio::test(start_paused = true)]
async fn a_disconnect_shorter_than_the_timeout_keeps_the_session_and_its_ephemerals() {
    let (zk, a, b) = two_clients().await;
    a.create("/e", b"").ephemeral().await.expect("creates");
    let (session, mut states) = (a.session(), a.session_states());
    assert_eq!(next_state(&mut states).await.status, SessionStatus::Connected);
    zk.disconnect(&a, Duration::from_secs(8));
    assert_eq!(next_state(&mut states).await.status, SessionStatus::Disconnected);
    let back = next_state(&mut states).await;
    assert_eq!((back.status, back.session), (SessionStatus::Connected, session.id()));
    let stat = b.exists("/e").await.expect("answers").expect("is there");
    assert_eq!(stat.ephemeral_owner, Some(session.id()));
    assert_eq!((a.session().id(), session.end()), (session.id(), None));
    assert_eq!(a.ephemerals("/").await.expect("answers").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_longer_than_the_timeout_ends_the_session() {
    let (zk, a, b) = two_clients().await;
    a.create("/e", b"").ephemeral().await.expect("creates");
    let session = a.session();
    let (_, gone) = b.exists("/e").watched().await.expect("answers");
    zk.disconnect(&a, LONG);
    gone.await.expect("fires");
    assert!(session.end().is_some(), "the client knew before the coordinator gave it to others");
    zk.heal(&a);
    a.sync().await.expect("a new session");
    assert_ne!(a.session().id(), session.id());
    assert_eq!(a.ephemerals("/").await.expect("answers").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn requests_that_begin_while_disconnected_wait_and_are_done() {
    let (zk, a, b) = two_clients().await;
    zk.disconnect(&a, Duration::from_secs(3));
    a.session().disconnected().await;
    let (took, created) = timed(a.create("/x", b"1")).await;
    created.expect("is done");
    assert!(took >= Duration::from_millis(2_900), "{took:?}");
    assert_eq!(b.get("/x").await.expect("is there").0, b"1".as_slice());
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_are_done_in_the_order_of_their_first_polls() {
    let (zk, a, b) = two_clients().await;
    b.create("/q", b"").await.expect("creates");
    zk.disconnect(&a, SHORT);
    a.session().disconnected().await;
    let mut creates: Vec<_> =
        (0..64).map(|_| a.create("/q/n-", b"").sequential().into_future()).collect();
    for create in &mut creates {
        assert!(once(create).await.is_none());
    }
    let suffixes = futures::future::join_all(creates).await;
    for (place, path) in suffixes.into_iter().enumerate() {
        assert_eq!(path.expect("creates").as_str(), format!("/q/n-{place:010}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_and_is_no_longer_polled_holds_up_nobody() {
    let (zk, a, _b) = two_clients().await;
    zk.disconnect(&a, SHORT);
    a.session().disconnected().await;
    let mut first = a.create("/first", b"").into_future();
    assert!(once(&mut first).await.is_none());
    let (took, second) = timed(a.create("/second", b"")).await;
    second.expect("is done");
    assert!(took < Duration::from_secs(2), "{took:?}");
    first.await.expect("is done as well");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_cancelled_while_it_waits_is_not_waited_for() {
    let (zk, a, b) = two_clients().await;
    zk.disconnect(&a, SHORT);
    a.session().disconnected().await;
    assert!(a.create("/x", b"").into_future().now_or_never().is_none());
    a.sync().await.expect("comes back");
    // It may be done all the same; what counts is that the client goes on.
    b.exists("/x").await.expect("answers");
    assert_eq!(a.session().end(), None);
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_at_a_disconnect_fail_and_may_have_been_done() {
    let (zk, a, b) = two_clients().await;
    for (delay_ms, done) in [(1_000, false), (0, true)] {
        zk.delay_next(&a, Duration::from_millis(delay_ms));
        let path = format!("/after-{delay_ms}");
        let mut create = a.create(&path, b"").into_future();
        assert!(once(&mut create).await.is_none());
        // Past the coordinator, and not yet back; or not there yet.
        tokio::time::sleep(Duration::from_micros(1_500)).await;
        zk.disconnect(&a, SHORT);
        let error = create.await.expect_err("is in flight");
        assert!(matches!(error, Error::ConnectionLost { .. }), "{error}");
        assert!(error.maybe_applied() && error.retryable() && !error.session_over());
        assert!(error.to_string().contains(&path), "{error}");
        assert_eq!(b.exists(&path).await.expect("answers").is_some(), done);
        a.sync().await.expect("comes back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_reply_is_lost_was_done_and_says_that_it_may_have_been() {
    let (zk, a, b) = two_clients().await;
    let session = a.session().id();
    zk.lose_next_reply(&a);
    let error = a.create("/x", b"").await.expect_err("the reply is lost");
    assert!(matches!(error, Error::ConnectionLost { maybe_applied: true, .. }), "{error}");
    assert!(b.exists("/x").await.expect("answers").is_some());
    let again = a.create("/x", b"").await.expect_err("was done");
    assert!(again.is(Code::NodeExists), "{again}");
    assert_eq!(a.session().id(), session);
}

#[tokio::test(start_paused = true)]
async fn a_request_never_crosses_from_one_session_to_the_next() {
    let (zk, a, b) = two_clients().await;
    let old = a.session().id();
    zk.disconnect(&a, LONG);
    a.session().disconnected().await;
    let error = a.create("/x", b"").ephemeral().await.expect_err("its session ends first");
    let Error::SessionOver { session, maybe_applied, .. } = error else { panic!("{error}") };
    assert_eq!((session, maybe_applied), (old, false));
    zk.heal(&a);
    a.sync().await.expect("a new session");
    assert_eq!(b.exists("/x").await.expect("answers"), None);
}

#[tokio::test(start_paused = true)]
async fn a_request_fails_with_its_session_even_if_its_reply_never_comes() {
    let (zk, a, _b) = two_clients().await;
    let session = a.session();
    zk.delay_next(&a, 10 * LONG);
    let (took, answer) = timed(a.set("/", b"1")).await;
    let error = answer.expect_err("its session is over");
    assert!(error.session_over() && error.maybe_applied(), "{error}");
    assert!(took <= Duration::from_secs(10), "{took:?}");
    assert_eq!(session.end(), Some(SessionEnd::DeadlinePassed));
}

#[tokio::test(start_paused = true)]
async fn a_new_session_that_stalls_before_it_is_of_use_is_given_up() {
    let zk = Coordinator::start();
    let a = zk.builder().auth_digest("ann", "secret").connect().await.expect("connects");
    zk.expire(&a).await;
    // The next that goes over the new connection is the proof of who this is.
    zk.delay_next(&a, 100 * LONG);
    pass(LONG).await;
    let (took, answer) = timed(a.set("/", b"1")).await;
    answer.expect("another session was opened");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cut_for_ever_is_one() {
    let (zk, a, _b) = two_clients().await;
    zk.disconnect(&a, Duration::MAX);
    assert_eq!(a.session().lost().await, SessionEnd::DeadlinePassed);
    zk.heal(&a);
    zk.delay_next(&a, Duration::MAX);
    assert!(a.set("/", b"1").await.is_err(), "the delay outlasts the session");
    a.sync().await.expect("the next session is well");
}

#[tokio::test(start_paused = true)]
async fn a_cut_at_any_moment_is_noticed_at_once() {
    for cut_after_ms in 0..12 {
        let (zk, a, _b) = two_clients().await;
        zk.disconnect(&a, Duration::from_millis(5));
        pass(Duration::from_millis(5 + cut_after_ms)).await;
        zk.disconnect(&a, Duration::from_millis(5));
        pass(Duration::from_millis(200)).await;
        assert_eq!(a.session().status(), SessionStatus::Connected);
        let (took, answer) = timed(a.set("/", b"1")).await;
        answer.unwrap_or_else(|error| panic!("a cut after {cut_after_ms} ms: {error}"));
        assert!(took <= Duration::from_millis(5), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_gone_is_out_of_reach_for_good() {
    let (zk, a, b) = two_clients().await;
    drop(zk);
    assert_eq!(a.session().lost().await, SessionEnd::DeadlinePassed);
    let seen = Arc::new(Mutex::new(Vec::new()));
    for client in [a, b] {
        let error = client.get("/").await.expect_err("nobody is there");
        seen.lock().expect("no panic").push(error.to_string());
    }
    assert_eq!(seen.lock().expect("no panic").len(), 2);
}
