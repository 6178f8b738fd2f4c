//! Sessions: their ends, their deadlines, and how they are followed.

use std::time::Duration;

use synod_core::client::{Client, SessionStatus};
use synod_core::model::{Error, SessionEnd};
use synod_core::testing::{Coordinator, LATENCY_MS};
use tokio::time::Instant;

use crate::common::{LONG, SHORT, next_state, pass, timed, two_clients};

#[tokio::test(start_paused = true)]
async fn after_an_expiry_a_new_session_is_opened_and_said_to_be() {
    let (zk, a, _b) = two_clients().await;
    let (old, mut states) = (a.session(), a.session_states());
    let first = next_state(&mut states).await;
    assert_eq!((first.session, first.status), (old.id(), SessionStatus::Connected));
    let pinned = a.pin().await.expect("pins");
    zk.expire(&a).await;
    assert_eq!(old.end(), Some(SessionEnd::Expired), "the client knows when it returns");
    a.create("/x", b"").ephemeral().await.expect("goes on");
    let new = a.session();
    assert_ne!(new.id(), old.id());
    loop {
        let state = next_state(&mut states).await;
        if state.session == new.id() {
            assert_eq!(state.status, SessionStatus::Connected);
            break;
        }
    }
    let error = pinned.get("/").await.expect_err("its session is over");
    let Error::SessionOver { session, end, maybe_applied } = error else { panic!("{error}") };
    assert_eq!((session, end, maybe_applied), (old.id(), SessionEnd::Expired, false));
    assert_eq!(pinned.session().id(), old.id());
    assert!(pinned.pin().await.is_err());
    assert_eq!(old.lost().await, SessionEnd::Expired);
    assert_eq!(a.pin().await.expect("pins").session().id(), new.id());
}

#[tokio::test(start_paused = true)]
async fn a_session_is_lost_at_its_deadline_although_nobody_can_be_reached_and_not_before() {
    for pause_ms in [0, 1_234, 3_300, 7_777] {
        let (zk, a, _b) = two_clients().await;
        pass(Duration::from_millis(pause_ms)).await;
        let session = a.session();
        zk.disconnect(&a, LONG);
        session.disconnected().await;
        let deadline = session.valid_until();
        assert!(deadline > Instant::now());
        assert_eq!(session.lost().await, SessionEnd::DeadlinePassed);
        let late = Instant::now().checked_duration_since(deadline).expect("not before");
        assert!(late <= Duration::from_millis(2), "{late:?} late");
        assert!(session.valid_until() <= Instant::now());
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_moves_with_what_proves_the_session_and_not_with_local_reads() {
    let zk = Coordinator::start();
    let a =
        zk.builder().session_timeout(Duration::from_secs(40)).connect().await.expect("connects");
    let session = a.session();
    assert_eq!(session.timeout(), Duration::from_secs(40));
    let margin = session.timeout() / 20;
    a.create("/x", b"").await.expect("creates");
    pass(Duration::from_secs(1)).await;
    let before = session.valid_until();
    a.get("/x").await.expect("answers");
    a.exists("/x").watched().await.expect("answers").0.expect("is there");
    a.children("/").await.expect("answers");
    a.multi_read().get("/x").await.expect("answers");
    assert_eq!(session.valid_until(), before, "reads prove nothing");
    for round in 0..4 {
        pass(Duration::from_secs(1)).await;
        let sent = Instant::now();
        match round {
            0 => drop(a.sync().await.expect("syncs")),
            1 => drop(a.set("/x", b"").await.expect("sets")),
            2 => drop(a.txn().check("/x", -1).commit().await.expect("commits")),
            _ => drop(a.delete("/none").await.expect_err("is refused, by who knows the session")),
        }
        assert_eq!(session.valid_until(), sent + session.timeout() - margin, "round {round}");
    }
    let before = session.valid_until();
    pass(Duration::from_secs(14)).await;
    assert!(session.valid_until() > before, "a ping moves it");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_attached_again_is_proved_from_when_that_was_asked_for() {
    let (zk, a, _b) = two_clients().await;
    let session = a.session();
    zk.disconnect(&a, SHORT);
    session.disconnected().await;
    assert!(session.connected().await, "within its timeout");
    // Connecting takes one way, leaving the watches again both.
    let asked = Instant::now() - Duration::from_millis(3 * LATENCY_MS);
    assert_eq!(session.valid_until(), asked + session.timeout() - session.timeout() / 20);
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_stays_alive_for_hours() {
    let zk = Coordinator::start();
    let a = zk.builder().session_timeout(Duration::from_secs(4)).connect().await.expect("connects");
    let b = zk.client().await;
    a.create("/e", b"").ephemeral().await.expect("creates");
    let (session, start) = (a.session(), Instant::now());
    while start.elapsed() < Duration::from_secs(6 * 3600) {
        pass(Duration::from_secs(600)).await;
        assert_eq!((session.end(), session.status()), (None, SessionStatus::Connected));
        assert!(session.valid_until() > Instant::now());
    }
    assert!(b.exists("/e").await.expect("answers").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stalls_is_given_up_by_itself_before_the_coordinator_does() {
    let (zk, a, b) = two_clients().await;
    a.create("/e", b"").ephemeral().await.expect("creates");
    let (_, gone) = b.exists("/e").watched().await.expect("answers");
    zk.delay_next(&a, LONG);
    let session = a.session();
    let lost = tokio::spawn(async move {
        session.lost().await;
        Instant::now()
    });
    gone.await.expect("fires");
    assert!(lost.await.expect("no panic") <= Instant::now());
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_next_session_at_most_the_connect_timeout() {
    let zk = Coordinator::start();
    let patience = Duration::from_secs(3);
    let a = zk.builder().connect_timeout(patience).connect().await.expect("connects");
    zk.disconnect(&a, LONG);
    a.session().lost().await;
    let (took, answer) = timed(a.get("/")).await;
    assert!(answer.expect_err("nobody is there").session_over());
    assert_eq!(took, patience);
    let (took, answer) = timed(a.pin()).await;
    assert!(answer.is_err() && took == patience, "{took:?}");
    zk.heal(&a);
    let (took, answer) = timed(a.get("/")).await;
    answer.expect("somebody is there again");
    assert!(took < patience);
}

#[tokio::test(start_paused = true)]
async fn the_timeout_that_is_granted_lies_within_bounds() {
    let zk = Coordinator::start();
    for (asked, granted) in [
        (Duration::from_nanos(1), 4),
        (Duration::from_secs(4), 4),
        (Duration::from_secs(15), 15),
        (Duration::from_secs(41), 40),
        (Duration::MAX, 40),
    ] {
        let client = zk.builder().session_timeout(asked).connect().await.expect("connects");
        assert_eq!(client.session().timeout(), Duration::from_secs(granted), "{asked:?}");
    }
    let zero = zk.builder().session_timeout(Duration::ZERO).connect().await;
    let error = zero.expect_err("is refused").to_string();
    assert!(error.contains("session timeout") && error.contains('0'), "{error}");
}

#[tokio::test(start_paused = true)]
async fn connecting_to_nobody_fails_in_time() {
    let zk = Coordinator::start();
    let builder = zk.builder().connect_timeout(Duration::from_secs(2));
    drop(zk);
    let (took, answer) = timed(builder.connect()).await;
    let error = answer.expect_err("nobody is there");
    assert!(matches!(error, Error::Connect { .. }) && error.retryable(), "{error}");
    assert_eq!(took, Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_connects_in_the_background_waits_for_its_first_session() {
    let zk = Coordinator::start();
    let client = zk.builder().connect_in_background().expect("a valid connect string");
    zk.disconnect(&client, Duration::from_secs(20));
    assert!(client.session().end().is_some(), "there is none yet");
    let start = Instant::now();
    client.create("/a", b"").ephemeral().await.expect("it waits");
    assert!(start.elapsed() >= Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(client.session().status(), SessionStatus::Connected);
    client.close().await.expect("connected");

    let client = zk.builder().connect_in_background().expect("a valid connect string");
    zk.disconnect(&client, LONG);
    let start = Instant::now();
    let error = client.get("/").await.expect_err("nobody can be reached");
    assert!(error.session_over() && start.elapsed() >= Duration::from_secs(30), "{error}");
    client.close().await.expect("nothing is left to tell");
    let error = client.get("/").await.expect_err("closed");
    assert!(matches!(error, Error::SessionOver { end: SessionEnd::Closed, .. }), "{error}");
}

#[tokio::test]
async fn an_embedded_client_is_connected_at_once_in_the_background_too() {
    let client = Client::builder().auth_digest("ann", "secret").connect_in_background();
    let client = client.expect("a valid connect string");
    assert_eq!(client.session().status(), SessionStatus::Connected);
    let identities = client.who_am_i().await.expect("it is here");
    assert!(identities.iter().any(|identity| identity.id.starts_with("ann")), "{identities:?}");
}
