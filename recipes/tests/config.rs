//! The followed configuration under virtual time, with faults.

mod common;

use std::time::Duration;

use common::{cancel_at, soon};
use futures::{FutureExt, StreamExt};
use serde::Deserialize;
use synod::testing::Coordinator;
use synod::{Acl, Client, Code, ConfigWatch, Error};
use tokio::time::{Instant, sleep};

const PATH: &str = "/limits";

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Limits {
    rps: u32,
    burst: u32,
}

fn json(rps: u32) -> String {
    format!(r#"{{"rps": {rps}, "burst": {}}}"#, 2 * rps)
}

async fn followed(zk: &Coordinator) -> (Client, Client, ConfigWatch<Limits>) {
    let (writer, reader) = (zk.client().await, zk.client().await);
    writer.create(PATH, json(1)).await.expect("new");
    let config = ConfigWatch::open(&reader, PATH).await.expect("valid");
    (writer, reader, config)
}

#[tokio::test(start_paused = true)]
async fn a_change_is_followed_with_its_version_and_zxid() {
    let zk = Coordinator::start();
    let (writer, _, config) = followed(&zk).await;
    assert_eq!((config.current().value.rps, config.current().version), (1, 0));
    let mut changes = config.changes();
    let stat = writer.set(PATH, json(2)).await.expect("connected");
    let change = soon(changes.next()).await.expect("a change").expect("valid");
    assert_eq!(change.value, Limits { rps: 2, burst: 4 });
    assert_eq!((change.version, change.zxid), (stat.version, stat.mzxid));
    assert_eq!(config.current(), change);
}

#[tokio::test(start_paused = true)]
async fn bad_data_keeps_the_last_good_value_and_says_where_it_is_bad() {
    let zk = Coordinator::start();
    let (writer, _, config) = followed(&zk).await;
    let mut changes = config.changes();
    for bad in ["", "{", "{\n  \"rps\": \"many\"}", r#"{"rps": 1}"#, "[1, 2, 3]", "\u{0}"] {
        writer.set(PATH, bad).await.expect("connected");
        let error = soon(changes.next()).await.expect("a report").expect_err("not valid");
        assert!(matches!(&error, Error::BadValue { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(PATH) && text.contains("line "), "{text}");
        assert_eq!(config.current().value.rps, 1, "the last good value stays");
    }
    writer.set(PATH, json(7)).await.expect("connected");
    let change = soon(changes.next()).await.expect("a change").expect("valid again");
    assert_eq!((change.value.rps, change.version), (7, 7));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_znode_keeps_the_last_good_value_until_there_is_one_again() {
    let zk = Coordinator::start();
    let (writer, _, config) = followed(&zk).await;
    let mut changes = config.changes();
    writer.delete(PATH).await.expect("connected");
    let error = soon(changes.next()).await.expect("a report").expect_err("gone");
    assert!(matches!(&error, Error::Deleted { path } if &**path == PATH), "{error:?}");
    assert_eq!(config.current().value.rps, 1);
    // The version begins anew; the zxid does not.
    let before = config.current().zxid;
    writer.create(PATH, json(3)).await.expect("connected");
    let change = soon(changes.next()).await.expect("a change").expect("valid");
    assert_eq!((change.value.rps, change.version), (3, 0));
    assert!(change.zxid > before);
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_over_broken_connections_and_expired_sessions() {
    let zk = Coordinator::start();
    let (writer, reader, config) = followed(&zk).await;
    let mut changes = config.changes();
    zk.disconnect(&reader, Duration::from_secs(3));
    writer.set(PATH, json(2)).await.expect("connected");
    assert_eq!(soon(changes.next()).await.expect("a change").expect("valid").value.rps, 2);

    zk.disconnect(&reader, Duration::from_secs(120));
    reader.session().disconnected().await;
    writer.set(PATH, json(3)).await.expect("connected");
    assert_eq!(config.current().value.rps, 2, "out of reach, the last value stays");
    assert_eq!(soon(changes.next()).await.expect("a change").expect("valid").value.rps, 3);

    zk.expire(&reader).await;
    writer.set(PATH, json(4)).await.expect("connected");
    assert_eq!(soon(changes.next()).await.expect("a change").expect("valid").value.rps, 4);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_the_newest_and_versions_never_go_back() {
    let zk = Coordinator::start();
    let (writer, reader, config) = followed(&zk).await;
    let mut changes = config.changes();
    for round in 2..40 {
        writer.set(PATH, json(round)).await.expect("connected");
        if round % 10 == 0 {
            zk.disconnect(&reader, Duration::from_millis(500));
        }
        sleep(Duration::from_millis(u64::from(round) * 7)).await;
    }
    let mut last = config.current().zxid;
    let deadline = Instant::now() + Duration::from_secs(60);
    let newest = soon(async {
        loop {
            let change = changes.next().await.expect("a change").expect("valid");
            assert!(change.zxid >= last && Instant::now() < deadline);
            last = change.zxid;
            if change.value.rps == 39 {
                return change;
            }
        }
    })
    .await;
    assert_eq!(config.current(), newest);
}

#[tokio::test(start_paused = true)]
async fn a_service_does_not_start_on_what_is_missing_or_bad() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let error = ConfigWatch::<Limits>::open(&client, PATH).await.err().expect("missing");
    assert!(matches!(&error, Error::Client(error) if error.is(Code::NoNode)), "{error}");
    client.create(PATH, "{").await.expect("new");
    let error = ConfigWatch::<Limits>::open(&client, PATH).await.err().expect("bad");
    assert!(matches!(error, Error::BadValue { version: 0, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn dropping_it_or_cancelling_its_opening_leaves_no_watch_and_no_task() {
    for n in 1.. {
        let zk = Coordinator::start();
        let client = zk.client().await;
        client.create(PATH, json(1)).await.expect("new");
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let opened = cancel_at(n, ConfigWatch::<Limits>::open(&client, PATH)).await;
        let finished = opened.is_some();
        if let Some(opened) = opened {
            let config = opened.expect("valid");
            let mut changes = config.changes();
            sleep(Duration::from_secs(1)).await;
            assert_eq!(zk.watch_count(), 1);
            drop(config);
            assert!(soon(changes.next()).await.is_none(), "the stream ends with it");
        }
        soon(async {
            while zk.watch_count() > 0
                || tokio::runtime::Handle::current().metrics().num_alive_tasks() > tasks
            {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        if finished {
            assert!(n > 1, "it was cancelled at least once");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_client_ends_the_stream_of_changes() {
    let zk = Coordinator::start();
    let (_, reader, config) = followed(&zk).await;
    let mut changes = config.changes();
    reader.close().await.expect("connected");
    assert!(soon(changes.next()).await.is_none(), "nothing can come any more");
    assert_eq!(config.current().value.rps, 1, "the last good value stays");
    assert!(soon(config.changes().next()).await.is_none(), "nor can it later");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_refused_is_reported_and_tried_again() {
    let zk = Coordinator::start();
    let (writer, reader, config) = followed(&zk).await;
    let mut changes = config.changes();
    writer.add_auth("digest", b"ann:secret").await.expect("any digest is accepted");
    writer.set_acl(PATH, Acl::creator()).await.expect("open until now");
    // In its next session it has to read again.
    zk.expire(&reader).await;
    let error = soon(changes.next()).await.expect("a report").expect_err("ann's");
    assert!(matches!(&error, Error::Client(error) if error.is(Code::NoAuth)), "{error}");
    assert_eq!(config.current().value.rps, 1, "the last good value stays");
    writer.set(PATH, json(2)).await.expect("ann's");
    writer.set_acl(PATH, Acl::open()).await.expect("ann's");
    let change = soon(async {
        loop {
            if let Ok(change) = changes.next().await.expect("a change") {
                return change;
            }
        }
    });
    assert_eq!(change.await.value.rps, 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_changes_begins_with_the_next_one() {
    let zk = Coordinator::start();
    let (writer, _, config) = followed(&zk).await;
    let mut early = config.changes();
    writer.set(PATH, json(2)).await.expect("connected");
    assert_eq!(soon(early.next()).await.expect("a change").expect("valid").value.rps, 2);
    let mut late = config.changes();
    assert!(late.next().now_or_never().is_none(), "that was before");
    writer.set(PATH, json(3)).await.expect("connected");
    for changes in [&mut early, &mut late] {
        assert_eq!(soon(changes.next()).await.expect("a change").expect("valid").value.rps, 3);
    }
}
