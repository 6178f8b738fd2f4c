//! Cases with connections that are cut, and a server that is restarted and killed: of several
//! servers the leader.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use synod::election::Observed;
use synod::guard::Released;
use synod::{Client, Election, Error, EventKind, Fence, LossReason};
use tokio::time::Instant;

use super::cases::{in_line, lock, until_children};
use super::ground::{Ground, SESSION_TIMEOUT, program, soon};

const LOCK: &str = "/locks/report";

pub async fn a_short_cut_loses_no_lock_and_no_session(ground: &Ground) {
    let client = ground.client().await;
    let (session, guard) = (client.session(), lock(&client).acquire().await.expect("free"));
    for _ in 0..5 {
        ground.faults().proxy.cut();
        session.disconnected().await;
        assert!(soon(session.connected()).await, "attached again");
    }
    guard.txn().create("/done", b"").commit().await.expect("held all along");
    assert_eq!(client.session().id(), session.id());
}

pub async fn a_long_cut_loses_the_lock_before_another_has_it(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.unharmed_client().await);
    let held = lock(&a).acquire().await.expect("free");
    let waiting = in_line(&b, &b, 1).await;
    ground.faults().proxy.close();
    let loss = soon(held.lost()).await;
    let lost_at = Instant::now();
    assert!(matches!(loss.reason, LossReason::SessionOver(_)), "{loss}");
    let next = soon(waiting).await.expect("no panic").expect("the session expires");
    // On a ground where the deadline is advice, it holds here all the same: nothing is paused.
    assert!(lost_at <= Instant::now() && next.token() > loss.token);
    ground.faults().proxy.open();
    let error = held.txn().create("/late", b"").commit().await.expect_err("lost");
    assert!(error.is_lost(), "{error}");
    // The client goes on, in a session of its own.
    soon(async { while a.exists(LOCK).await.is_err() {} }).await;
    assert_ne!(a.session().id(), held.session().id());
}

pub async fn a_lost_reply_makes_no_second_contender(ground: &Ground) {
    let (client, observer) = (ground.client().await, ground.unharmed_client().await);
    lock(&client).acquire().await.expect("free").release().await.expect("connected");
    for _ in 0..5 {
        ground.faults().proxy.lose_next_reply();
        let guard = soon(lock(&client).acquire()).await.expect("found again by its id");
        until_children(&observer, LOCK, 1).await;
        guard.release().await.expect("connected");
    }
}

pub async fn a_release_while_cut_off_is_confirmed_when_the_connection_is_back(ground: &Ground) {
    let (client, observer) = (ground.client().await, ground.unharmed_client().await);
    let guard = lock(&client).acquire().await.expect("free");
    ground.faults().proxy.close();
    guard.session().disconnected().await;
    let (released, ()) = tokio::join!(soon(guard.release()), async {
        tokio::time::sleep(SESSION_TIMEOUT / 8).await;
        ground.faults().proxy.open();
    });
    assert_eq!(released.expect("back in time"), Released::Confirmed);
    until_children(&observer, LOCK, 0).await;
}

pub async fn a_guard_dropped_while_cut_off_is_released(ground: &Ground) {
    let (client, observer) = (ground.client().await, ground.unharmed_client().await);
    let guard = lock(&client).acquire().await.expect("free");
    let session = guard.session();
    ground.faults().proxy.close();
    session.disconnected().await;
    drop(guard);
    ground.faults().proxy.open();
    until_children(&observer, LOCK, 0).await;
    assert_eq!(session.end(), None, "released, not expired");
}

pub async fn a_change_during_a_cut_is_told_after_it(ground: &Ground) {
    let (client, other) = (ground.client().await, ground.unharmed_client().await);
    client.create("/w", b"").await.expect("new");
    let (_, set) = client.get("/w").watched().await.expect("it is there");
    let (_, made) = client.exists("/x").watched().await.expect("can be asked");
    let (_, child) = client.children("/w").watched().await.expect("it is there");
    ground.faults().proxy.close();
    client.session().disconnected().await;
    other.set("/w", b"1").await.expect("connected");
    other.create("/x", b"").await.expect("new");
    other.create("/w/c", b"").await.expect("new");
    ground.faults().proxy.open();
    assert_eq!(soon(set).await.expect("the session lives").kind, EventKind::DataChanged);
    assert_eq!(soon(made).await.expect("the session lives").kind, EventKind::Created);
    assert_eq!(soon(child).await.expect("the session lives").kind, EventKind::ChildrenChanged);
}

pub async fn a_killed_server_has_no_two_holders(ground: &Ground) {
    // A server may take its time to start.
    let client = || async {
        let patient = ground.builder().session_timeout(5 * SESSION_TIMEOUT);
        patient.connect().await.expect("the coordinator is reachable")
    };
    let (a, b, faults) = (client().await, client().await, ground.faults());
    let held = lock(&a).acquire().await.expect("free");
    let waiting = in_line(&b, &a, 1).await;
    faults.kill().await;
    faults.start_again().await;
    if faults.durable {
        assert!(soon(held.session().connected()).await, "the session outlives the server");
        held.txn().create("/done", b"").commit().await.expect("held all along");
        held.release().await.expect("connected");
        drop(soon(waiting).await.expect("no panic").expect("its turn"));
    } else {
        // Sessions are gone with the server's memory: everybody knows, nobody holds.
        soon(held.lost()).await;
        let error = soon(waiting).await.expect("no panic").expect_err("its session is over");
        assert!(error.session_over(), "{error}");
        drop(soon(acquired(&b)).await);
    }
}

/// Acquires in whatever session there is by now.
async fn acquired(client: &Client) -> synod::Guard {
    loop {
        match lock(client).acquire().await {
            Ok(guard) => return guard,
            Err(error) => assert!(expected(&error), "{error:?}"),
        }
    }
}

fn expected(error: &Error) -> bool {
    error.session_over() || error.retryable() || error.is_lost()
}

pub async fn a_leader_that_is_cut_off_is_replaced(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.unharmed_client().await);
    let leadership = Election::new(&a, "/lead").expect("valid").with_name("a").campaign().await;
    let leadership = leadership.expect("nobody leads");
    let election = Election::new(&b, "/lead").expect("valid").with_name("b");
    b.sync().await.expect("connected");
    let mut seen = election.observe();
    assert!(
        matches!(soon(seen.next()).await, Some(Observed::Following(leader)) if leader.name == "a")
    );
    ground.faults().proxy.close();
    let next = soon(election.campaign()).await.expect("the session expires");
    assert!(next.term() > leadership.term());
    soon(async {
        while !matches!(seen.next().await, Some(Observed::Elected(leader)) if leader.name == "b") {}
    })
    .await;
}

pub async fn workers_take_turns_through_cuts_and_a_restart(ground: &Ground) {
    const TURNS: usize = 8;
    let resource = Arc::new(Fence::new());
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (client, resource) = (ground.client().await, Arc::clone(&resource));
        let durable = ground.faults().durable;
        workers.spawn(async move {
            let mut turns = 0;
            while turns < TURNS {
                let guard = acquired(&client).await;
                // A coordinator that forgets begins its zxids anew: its tokens mean nothing to a
                // fence that remembers.
                let admitted = resource.admit(guard.token()).is_ok() || !durable;
                let held = guard.run(tokio::time::sleep(Duration::from_millis(20))).await;
                match guard.release().await {
                    Ok(_) if admitted && held.is_ok() => turns += 1,
                    Ok(_) => {}
                    Err(error) => assert!(expected(&error), "{error:?}"),
                }
            }
        });
    }
    let faults = async {
        for round in 0..6 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            match round {
                2 => ground.faults().restart().await,
                4 => {
                    ground.faults().kill().await;
                    ground.faults().start_again().await;
                }
                _ => ground.faults().proxy.cut(),
            }
        }
    };
    let (_, ()) = tokio::join!(soon(workers.join_all()), faults);
}

pub async fn a_pool_of_processes_replaces_its_killed_leader(ground: &Ground) {
    let server = ground.faults().addresses();
    let pool = tokio::task::spawn_blocking(move || {
        let mut pool = std::process::Command::new(program("examples/worker_pool"));
        pool.args(["--server", &server, "--workers", "5", "--items", "60", "--kill-leader"]);
        pool.output().expect("the example can be started")
    });
    let pool = soon(pool).await.expect("no panic");
    let text = String::from_utf8_lossy(&pool.stdout);
    assert!(pool.status.success(), "{text}\n{}", String::from_utf8_lossy(&pool.stderr));
    assert!(text.contains("60 items were done once each, none for a deposed leader"), "{text}");
    assert!(text.contains(", after "), "a leader was replaced: {text}");
}
