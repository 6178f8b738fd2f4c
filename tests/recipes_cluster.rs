//! The recipe suite on a cluster of three members, each in a process of its own; and what can only
//! happen where there are several.

use std::time::Duration;

use futures::StreamExt;
use synod::config::ConfigStore;
use synod::guard::Released;
use synod::{Client, Config, Error, Fence, Guard, If};
use synod_tests::recipes::cases::{in_line, lock, until_children};
use synod_tests::recipes::ground::{Ground, soon};

synod_tests::all_cases!(Ground::cluster());
synod_tests::all_faults!(Ground::cluster());

const LOCK: &str = "/locks/report";
const LIMIT: &str = "/limit";

/// Longer than any outage here: no session ends of itself.
const LONG_SESSION: Duration = Duration::from_secs(10);

/// A client that is connected to the first of these members, and may move to the others.
async fn client_at(ground: &Ground, members: &[usize]) -> Client {
    let proxy = &ground.faults().proxy;
    let addresses = members.iter().map(|member| proxy.of(*member).address().to_string());
    let servers = addresses.collect::<Vec<_>>().join(",");
    members[1..].iter().for_each(|member| proxy.of(*member).close());
    let builder = ground.builder().servers(servers).session_timeout(LONG_SESSION);
    let client = soon(builder.connect()).await.expect("the member is reachable");
    members[1..].iter().for_each(|member| proxy.of(*member).open());
    client
}

/// The leader, and the two that follow it.
async fn roles(ground: &Ground) -> [usize; 3] {
    let leader = ground.faults().leader().await;
    [leader, (leader + 1) % 3, (leader + 2) % 3]
}

fn unknown_fate(error: &Error) -> bool {
    error.retryable() || error.maybe_applied()
}

fn limit(client: &Client) -> ConfigStore<u32> {
    Config::open(client, LIMIT).store().expect("valid")
}

/// Publishes until it is known to be published.
async fn publish(store: &ConfigStore<u32>, value: u32) {
    soon(async {
        while let Err(error) = store.publish(&value, If::Any).await {
            assert!(unknown_fate(&error), "{error}");
        }
    })
    .await;
}

/// Writes under the lock, until it is known to be written.
async fn write_under(guard: &Guard, path: &str) {
    soon(async {
        while let Err(error) = guard.txn().set(path, b"held").commit().await {
            assert!(unknown_fate(&error), "{error}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_outlives_the_leader_under_which_it_was_acquired() {
    let (ground, resource) = (Ground::cluster().await, Fence::new());
    ground.unharmed_client().await.create("/report", b"").await.expect("new");
    for at_the_leader in [true, false] {
        let [leader, second, third] = roles(&ground).await;
        let members = if at_the_leader { [leader, second, third] } else { [second, third, leader] };
        let client = client_at(&ground, &members).await;
        let guard = lock(&client).acquire().await.expect("free");
        resource.admit(guard.token()).expect("the newest");
        ground.faults().kill_one(leader);
        write_under(&guard, "/report").await;
        resource.admit(guard.token()).expect("the newest still");
        assert_eq!(guard.session().end(), None);
        assert_eq!(soon(guard.release()).await.expect("it lives"), Released::Confirmed);
        ground.faults().start_again().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contender_keeps_its_place_when_the_leader_dies() {
    let ground = Ground::cluster().await;
    let observer = ground.unharmed_client().await;
    for at_the_leader in [true, false] {
        let [leader, second, third] = roles(&ground).await;
        let members = if at_the_leader { [leader, second, third] } else { [second, third, leader] };
        let holder = client_at(&ground, &[third, second]).await;
        let client = client_at(&ground, &members).await;
        let held = soon(lock(&holder).acquire()).await.expect("free");
        let waiting = in_line(&client, &observer, 1).await;
        ground.faults().kill_one(leader);
        assert_ne!(ground.faults().leader().await, leader);
        assert!(!waiting.is_finished());
        assert_eq!(soon(held.release()).await.expect("it lives"), Released::Confirmed);
        let next = soon(waiting).await.expect("no panic").expect("its turn");
        assert!(next.token() > held.token());
        assert_eq!(soon(next.release()).await.expect("it lives"), Released::Confirmed);
        ground.faults().start_again().await;
    }
}

/// A leader that stops in its tracks still thinks that it leads when it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_paused_gives_nobody_what_another_holds() {
    let ground = Ground::cluster().await;
    let [leader, second, third] = roles(&ground).await;
    let at_the_leader = client_at(&ground, &[leader]).await;
    let elsewhere = client_at(&ground, &[second, third]).await;
    lock(&elsewhere).acquire().await.expect("free").release().await.expect("connected");
    ground.faults().pause(leader);
    // It is on its way while nobody listens, and is done or not; but not before the one below.
    let trying = tokio::spawn(async move {
        let tried = lock(&at_the_leader).try_acquire().await;
        (at_the_leader, tried)
    });
    assert_ne!(ground.faults().leader().await, leader);
    let held = soon(async {
        loop {
            match lock(&elsewhere).acquire().await {
                Ok(held) => return held,
                Err(error) => assert!(unknown_fate(&error), "{error}"),
            }
        }
    })
    .await;
    ground.faults().go_on(leader);
    let (_client, tried) = soon(trying).await.expect("no panic");
    assert!(!matches!(tried, Ok(Some(_))), "it is held by another");
    held.txn().check(held.path(), 0).commit().await.expect("held all along");
}

/// Reads that are no longer those of a quorum must not keep a guard alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_is_lost_in_time_where_nobody_has_a_quorum() {
    let ground = Ground::cluster().await;
    let [leader, second, third] = roles(&ground).await;
    for survivor in [leader, second] {
        let servers = ground.faults().address(survivor).to_string();
        let client = ground.builder().servers(servers).connect().await.expect("reachable");
        let guard = soon(lock(&client).acquire()).await.expect("free");
        let others = [leader, second, third].into_iter().filter(|other| *other != survivor);
        others.for_each(|other| ground.faults().kill_one(other));
        soon(guard.lost()).await;
        ground.faults().start_again().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_never_goes_back_over_leader_changes() {
    let ground = Ground::cluster().await;
    let (reader, writer) = (ground.client().await, ground.unharmed_client().await);
    let store = limit(&writer);
    publish(&store, 0).await;
    reader.sync().await.expect("connected");
    let config = Config::<u32>::open(&reader, LIMIT).await.expect("valid");
    let mut changes = config.changes();
    let mut last = config.current();
    for round in 1..=3 {
        let writing = async {
            for value in 10 * round..10 * round + 10 {
                publish(&store, value).await;
            }
        };
        let failing = async {
            ground.faults().kill().await;
            ground.faults().start_again().await;
        };
        let following = async {
            while last.value != 10 * round + 9 {
                let change = changes.next().await.expect("the client is open");
                // A report that there is no value changes none.
                let Ok(change) = change else { continue };
                assert!(change.zxid >= last.zxid && change.value >= last.value, "{change:?}");
                last = change;
            }
        };
        soon(async { tokio::join!(writing, failing, following) }).await;
    }
    assert_eq!(config.current(), last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_moves_to_a_member_that_lags_never_goes_back() {
    let ground = Ground::cluster().await;
    let [leader, second, lagging] = roles(&ground).await;
    let writer = client_at(&ground, &[leader]).await;
    let reader = client_at(&ground, &[second, lagging]).await;
    let store = limit(&writer);
    publish(&store, 0).await;
    reader.sync().await.expect("connected");
    let config = Config::<u32>::open(&reader, LIMIT).await.expect("valid");
    let mut changes = config.changes();
    for round in 1..=3 {
        let newest = 100 * round + 20;
        ground.faults().pause(lagging);
        for value in 100 * round..=newest {
            publish(&store, value).await;
        }
        soon(async {
            while config.current().value != newest {
                let _ = changes.next().await.expect("the client is open");
            }
        })
        .await;
        let session = reader.session();
        ground.faults().proxy.of(second).close();
        soon(session.disconnected()).await;
        ground.faults().go_on(lagging);
        assert!(soon(session.connected()).await, "the session lives");
        let (_, stat) = reader.get(LIMIT).await.expect("connected");
        let (status, now) = (limit(&reader).status().await.expect("published"), config.current());
        assert_eq!((status.current, now.value), (now.version, newest), "it has seen {newest}");
        assert!(now.zxid >= stat.mzxid, "moved together with it");
        // What is told there is told to the watch.
        publish(&store, newest + 1).await;
        soon(async {
            while config.current().value != newest + 1 {
                let change = changes.next().await.expect("the client is open");
                assert!(change.expect("it is there").value >= newest);
            }
        })
        .await;
        ground.faults().proxy.of(second).open();
        ground.faults().proxy.of(lagging).cut();
        soon(session.connected()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contender_whose_reply_was_lost_is_found_on_a_member_that_lags() {
    let ground = Ground::cluster().await;
    let [_, second, lagging] = roles(&ground).await;
    let observer = ground.unharmed_client().await;
    for round in 0..6 {
        let client = client_at(&ground, &[second, lagging]).await;
        let session = client.session();
        lock(&client).acquire().await.expect("free").release().await.expect("connected");
        ground.faults().pause(lagging);
        ground.faults().proxy.lose_next_reply();
        let acquiring = tokio::spawn({
            let lock = lock(&client);
            async move { lock.acquire().await }
        });
        soon(session.disconnected()).await;
        ground.faults().proxy.of(second).close();
        ground.faults().go_on(lagging);
        let guard = soon(acquiring).await.expect("no panic").expect("found again by its id");
        until_children(&observer, LOCK, 1).await;
        // The same of what a guard leaves behind, which the client deletes from where it is by then.
        if round % 2 == 0 {
            ground.faults().proxy.lose_next_reply();
        }
        drop(guard);
        until_children(&observer, LOCK, 0).await;
        assert_eq!(session.end(), None, "released, not expired");
        ground.faults().proxy.of(second).open();
        // The reply that was to be lost is, before the next round loses its own.
        soon(async { while client.sync().await.is_err() {} }).await;
        soon(client.close()).await.expect("connected");
    }
}
