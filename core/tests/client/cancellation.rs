//! A request may be dropped at any of its awaits: nothing leaks, nothing hangs, and the client
//! goes on.

use std::future::Future;
use std::time::Duration;

use synod_core::client::Client;
use synod_core::model::{Error, SessionEnd};
use synod_core::testing::Coordinator;
use tokio::runtime::Handle;

use crate::common::{LONG, SHORT, cancelled_at, pass};

/// What befalls the connection before the request begins.
#[derive(Clone, Copy, Debug)]
enum Weather {
    Fine,
    Disconnected,
    BetweenSessions,
}

/// Cancels at the first await, the second and so on, until what is done goes through.
async fn at_every_await<F>(work: impl Fn(Client) -> F)
where
    F: Future<Output = ()>,
{
    for weather in [Weather::Fine, Weather::Disconnected, Weather::BetweenSessions] {
        for pendings in 1.. {
            let zk = Coordinator::start();
            // What is left of the round before ends.
            pass(SHORT).await;
            let tasks = Handle::current().metrics().num_alive_tasks();
            let client = zk.builder().auth_digest("ann", "pw").connect().await.expect("connects");
            client.create("/x", b"").await.expect("creates");
            match weather {
                Weather::Fine => {}
                Weather::Disconnected => {
                    zk.disconnect(&client, SHORT);
                    client.session().disconnected().await;
                }
                Weather::BetweenSessions => {
                    zk.disconnect(&client, Duration::from_secs(15));
                    client.session().lost().await;
                }
            }
            let done = cancelled_at(work(client.clone()), pendings).await.is_some();
            pass(SHORT).await;
            let goes_on = tokio::time::timeout(LONG, client.sync().into_future()).await;
            let goes_on = goes_on.expect("does not hang");
            let closed = Err(SessionEnd::Closed);
            let end = goes_on.as_ref().map_err(|error| match error {
                Error::SessionOver { end, .. } => *end,
                _ => panic!("{weather:?}, cancelled at {pendings}: {error}"),
            });
            assert!(end.is_ok() || end == closed, "{weather:?}, cancelled at {pendings}: {end:?}");
            assert_eq!(zk.watch_count(), 0, "{weather:?}, cancelled at {pendings}");
            drop(client);
            pass(LONG).await;
            let left = Handle::current().metrics().num_alive_tasks();
            assert_eq!(left, tasks, "{weather:?}, cancelled at {pendings}");
            if done {
                break;
            }
            assert!(pendings < 50, "it goes through at some point");
        }
    }
}

/// A test an operation.
macro_rules! cancelled {
    ($($name:ident: |$client:ident| $work:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            at_every_await(|$client| async move { drop($work); }).await;
        }
    )*};
}

cancelled! {
    a_create_may_be_cancelled: |client| client.create("/e-", b"").ephemeral().sequential().await;
    a_get_may_be_cancelled: |client| client.get("/x").await;
    a_linearizable_get_may_be_cancelled: |client| client.get("/x").latest().await;
    a_watched_get_may_be_cancelled: |client| client.get("/x").watched().await;
    a_watched_get_of_nothing_may_be_cancelled: |client| client.get("/none").watched().await;
    a_watched_exists_may_be_cancelled: |client| client.exists("/none").watched().await;
    a_watched_children_may_be_cancelled: |client| client.children("/x").watched().await;
    a_watch_may_be_cancelled: |client| client.watch("/x").await;
    a_recursive_watch_may_be_cancelled: |client| client.watch("/").recursive().await;
    a_set_may_be_cancelled: |client| client.set("/x", b"1").await;
    a_delete_may_be_cancelled: |client| client.delete("/x").await;
    a_set_acl_may_be_cancelled: |client| client.set_acl("/x", synod_core::model::Acl::open()).await;
    a_commit_may_be_cancelled: |client| client.txn().set("/x", b"").delete("/x").commit().await;
    a_multi_read_may_be_cancelled: |client| client.multi_read().get("/x").children("/").await;
    a_sync_may_be_cancelled: |client| client.sync().await;
    an_add_auth_may_be_cancelled: |client| client.add_auth("digest", "bob:pw").await;
    a_who_am_i_may_be_cancelled: |client| client.who_am_i().await;
    a_pin_may_be_cancelled: |client| client.pin().await;
    a_close_may_be_cancelled: |client| client.close().await;
    a_wait_for_a_loss_may_be_cancelled: |client| {
        tokio::time::timeout(SHORT, client.session().lost()).await
    };
    a_proposal_may_be_cancelled: |client| {
        let last = client.last_zxid();
        let next = synod_core::model::Zxid::new(last.epoch(), last.counter() + 1);
        client.propose_at(next).set("/x", b"").await
    };
    a_wait_for_an_event_may_be_cancelled: |client| {
        let Ok((_, changed)) = client.get("/x").watched().await else { return };
        tokio::time::timeout(SHORT, changed).await
    };
}

#[tokio::test(start_paused = true)]
async fn connecting_may_be_cancelled_and_leaves_at_most_a_session_that_expires() {
    for pendings in 1.. {
        let zk = Coordinator::start();
        pass(SHORT).await;
        let tasks = Handle::current().metrics().num_alive_tasks();
        let connect = zk.builder().auth_digest("ann", "pw").connect();
        let done = cancelled_at(connect, pendings).await.is_some();
        pass(LONG).await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks, "at {pendings}");
        if done {
            assert!(pendings > 2, "it waits for the session, and for the proof");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_polled_does_nothing() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let digest = zk.digest();
    drop(client.create("/x", b"").into_future());
    drop(Box::pin(client.txn().create("/x", b"").commit()));
    drop(Box::pin(client.watch("/x").into_future()));
    drop(Box::pin(client.close()));
    pass(SHORT).await;
    assert_eq!((zk.digest(), zk.watch_count()), (digest, 0));
}
