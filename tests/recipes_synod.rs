//! The recipe suite on one durable `synod serve`, in a process of its own.

use std::future::IntoFuture;

use futures::StreamExt;
use synod::client::ServerKind;
use synod::{Config, Error, If, Lock};
use synod_tests::recipes::ground::{Ground, soon};

synod_tests::all_cases!(Ground::synod());
synod_tests::all_faults!(Ground::synod());

/// A server that has lost its memory counts zxids anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_is_followed_on_a_server_that_has_lost_its_memory() {
    let ground = Ground::in_memory().await;
    let (reader, writer) = (ground.client().await, ground.unharmed_client().await);
    let store = Config::<u32>::open(&writer, "/limit").store().expect("valid");
    for value in 0..=20 {
        store.publish(&value, If::Any).await.expect("connected");
    }
    let config = Config::<u32>::open(&reader, "/limit").await.expect("valid");
    let (mut changes, before) = (config.changes(), config.current());
    ground.faults().kill().await;
    ground.faults().start_again().await;
    soon(async {
        // One whose reply is lost is there all the same.
        while !matches!(store.publish(&100, If::Absent).await, Ok(1) | Err(Error::Conflict { .. }))
        {
        }
    })
    .await;
    let change = soon(async {
        loop {
            // In between it may be said that the znode was gone.
            if let Ok(change) = changes.next().await.expect("the client is open") {
                return change;
            }
        }
    });
    let change = change.await;
    assert!(change.value == 100 && change.zxid < before.zxid, "{change:?}");
    assert_eq!(config.current(), change);
}

/// Nobody keeps a session whose client's runtime is gone: who holds it must not wait for ever.
#[test]
fn what_a_runtime_leaves_behind_is_lost_and_says_so() {
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    let (first, second) = (runtime(), runtime());
    let (ground, client, guard) = first.block_on(async {
        let ground = Ground::synod().await;
        let client = ground.client().await;
        let lock = Lock::new(&client, "/locks/report").expect("valid");
        let guard = lock.acquire().await.expect("free");
        (ground, client, guard)
    });
    first.shutdown_background();
    second.block_on(async {
        soon(guard.lost()).await;
        assert!(soon(guard.run(async {})).await.is_err_and(|error| error.is_lost()));
        assert!(soon(client.sync().into_future()).await.is_err_and(|error| error.session_over()));
        drop((guard, client));
    });
    drop(ground);
}

/// There is no Keeper here to ask: our server stands in for it.
#[tokio::test]
async fn what_is_taken_for_a_keeper_is_asked_for_nothing_that_keepers_lack() {
    let ground = Ground::synod().await;
    let keeper = ground.builder().server_kind(ServerKind::Keeper).connect().await;
    let client = keeper.expect("it is reachable");
    assert!(!client.session().deadline_is_proof());
    let lock = Lock::new(&client, "/locks/report").expect("valid");
    let guard = lock.acquire().await.expect("free");
    guard.release().await.expect("connected");
    let parent = client.exists("/locks/report").await.expect("can be asked");
    assert_eq!(parent, None, "no server reaps it: the recipe deletes it");
    let next = client.last_zxid().next(1).expect("zxids are left");
    for (error, what) in [
        (client.propose_at(next).delete("/locks").await.expect_err("lacks it"), "proposal"),
        (client.create("/c", b"").container().await.expect_err("lacks it"), "container"),
        (client.who_am_i().await.expect_err("lacks it"), "identities"),
        (client.watch("/").recursive().await.expect_err("lacks it"), "a watch that stays"),
    ] {
        let text = error.to_string();
        assert!(text.contains(what) && text.contains("ClickHouse Keeper"), "{text}");
    }
}
