//! Starting while the coordinator is away.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use synod::config::Origin;
use synod::testing::Coordinator;
use synod::{Client, Error, If};
use tokio::time::{Instant, sleep};

use super::{careless, limits, open, store, version_path};
use crate::common::soon;

/// Waits until the copy holds that text.
async fn until_written(file: &Path, text: &str) {
    soon(async {
        while !std::fs::read_to_string(file).is_ok_and(|copy| copy.contains(text)) {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Runs until there is a copy of the first version.
async fn leave_a_copy(client: &Client, file: &Path) {
    let _running = open(client).disk_copy(file).await.expect("valid");
    until_written(file, "\"version\":1").await;
}

#[tokio::test(start_paused = true)]
async fn a_service_starts_from_its_copy_while_nobody_can_be_reached_and_says_so() {
    let zk = Coordinator::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("limits");
    let (writer, client) = (store(&zk.client().await), zk.client().await);
    writer.publish(&limits(1), If::Absent).await.expect("valid");
    let config = open(&client).disk_copy(&file).await.expect("valid");
    until_written(&file, "\"version\":1").await;
    let version = writer.publish(&limits(2), If::Any).await.expect("valid");
    let last = soon(config.wait_for(version)).await.expect("valid");
    until_written(&file, "\"version\":2").await;
    drop(config);

    let away = zk.builder().connect_in_background().expect("valid");
    zk.disconnect(&away, Duration::from_secs(600));
    let start = Instant::now();
    let open_away = || open(&away).disk_copy(&file).patience(Duration::from_secs(3));
    let config = open_away().await.expect("there is a copy");
    assert_eq!(start.elapsed(), Duration::from_secs(3), "no longer than it was told to wait");
    let now = config.current();
    assert_eq!((now.value.clone(), now.version, now.zxid), (limits(2), 2, last.zxid));
    assert_eq!(now.origin, Origin::Disk);
    assert_eq!(config.stale_since(), Some(Instant::now()));
    let mut changes = config.changes();
    writer.publish(&limits(3), If::Any).await.expect("valid");
    sleep(Duration::from_secs(100)).await;
    assert!(config.stale_since().expect("still") < Instant::now());
    zk.heal(&away);
    let change = soon(changes.next()).await.expect("a change").expect("valid");
    assert_eq!((change.version, change.origin), (3, Origin::Published));
    until_written(&file, "\"version\":3").await;
    assert_eq!(config.stale_since(), None);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_still_the_newest_is_confirmed() {
    let zk = Coordinator::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("limits");
    let client = zk.client().await;
    store(&client).publish(&limits(1), If::Absent).await.expect("valid");
    leave_a_copy(&client, &file).await;
    zk.disconnect(&client, Duration::from_secs(60));
    let config = open(&client).disk_copy(&file).await.expect("there is a copy");
    let mut changes = config.changes();
    assert_eq!(config.current().origin, Origin::Disk);
    let change = soon(changes.next()).await.expect("a change").expect("valid");
    assert_eq!((change.version, change.origin), (1, Origin::Published));
}

#[tokio::test(start_paused = true)]
async fn without_a_copy_that_can_be_taken_the_service_does_not_start() {
    let zk = Coordinator::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("limits");
    let client = zk.client().await;
    let error = open(&client).disk_copy(&file).await.expect_err("nothing is published");
    assert!(matches!(error, Error::Unpublished { .. }), "{error}");
    careless(&client).publish(&json!({"rps": 2, "burst": 2}), If::Absent).await.expect("good");
    leave_a_copy(&client, &file).await;
    zk.disconnect(&client, Duration::from_secs(9));
    // By stricter rules the copy is not valid.
    let strict = open(&client).validate(|limits| limits.burst > limits.rps).disk_copy(&file);
    let error = strict.patience(Duration::from_secs(1)).await.expect_err("too strict");
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    std::fs::write(&file, "not a copy").expect("written");
    let broken = open(&client).disk_copy(&file).patience(Duration::from_secs(1)).await;
    assert!(matches!(broken.expect_err("no copy"), Error::TimedOut { .. }));
    let patient = open(&client).disk_copy(&file).patience(Duration::from_secs(60)).await;
    assert_eq!(patient.expect("it waits").current().origin, Origin::Published);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_starts_on_bad_data_runs_on_the_last_good_value_and_reports() {
    let zk = Coordinator::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("limits");
    let client = zk.client().await;
    let store = store(&client);
    store.publish(&limits(1), If::Absent).await.expect("valid");
    leave_a_copy(&client, &file).await;
    careless(&client).publish(&json!({"rps": 2}), If::Any).await.expect("it takes anything");
    let config = open(&client).instance("node-7").disk_copy(&file).await.expect("a copy");
    let mut changes = config.changes();
    assert_eq!((config.current().version, config.current().origin), (1, Origin::Disk));
    let error = soon(changes.next()).await.expect("a report").expect_err("bad");
    assert!(matches!(error, Error::BadValue { version: 2, .. }), "{error}");
    crate::common::until_children(&client, "/config/limits/reports", 1).await;
    let reports = store.reports().await.expect("connected");
    assert_eq!((reports[0].running, reports[0].offered), (1, 2));
    assert!(std::fs::read_to_string(&file).expect("kept").contains("\"version\":1"));
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_cannot_be_written_stops_nobody() {
    let zk = Coordinator::start();
    let folder = tempfile::tempdir().expect("a folder");
    let client = zk.client().await;
    let store = store(&client);
    store.publish(&limits(1), If::Absent).await.expect("valid");
    let nowhere = folder.path().join("missing").join("limits");
    let config = open(&client).disk_copy(nowhere).await.expect("valid");
    let version = store.publish(&limits(2), If::Any).await.expect("valid");
    assert_eq!(soon(config.wait_for(version)).await.expect("valid").value, limits(2));
    assert!(client.exists(version_path(2)).await.expect("can be asked").is_some());
}
