//! What a reader sees.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use serde_json::json;
use synod::config::{Layer, Origin};
use synod::testing::Coordinator;
use synod::{Acl, Code, Config, Error, If, SessionEnd};
use tokio::time::{Instant, sleep};

use super::{Limits, PATH, careless, followed, limits, open, store, version_path};
use crate::common::{cancel_at, soon};

#[tokio::test(start_paused = true)]
async fn a_change_is_followed_with_its_version_and_zxid() {
    let zk = Coordinator::start();
    let (writer, reader, config) = followed(&zk).await;
    assert_eq!((config.current().value.rps, config.current().version), (1, 1));
    let mut changes = config.changes();
    let version = writer.publish(&limits(2), If::Version(1)).await.expect("the second");
    let change = soon(changes.next()).await.expect("a change").expect("valid");
    assert_eq!((change.value.clone(), change.version), (limits(2), version));
    let stat = reader.exists(version_path(2)).await.expect("can be asked").expect("it is there");
    assert_eq!((change.zxid, change.origin), (stat.czxid, Origin::Published));
    assert_eq!(config.current(), change);
    assert_eq!(config.stale_since(), None);
}

#[tokio::test(start_paused = true)]
async fn bad_data_keeps_the_last_good_value_and_says_where_it_is_bad() {
    let zk = Coordinator::start();
    let (_, reader, config) = followed(&zk).await;
    let other = careless(&reader);
    let mut changes = config.changes();
    for (bad, told) in [
        (json!({"rps": "many", "burst": 2}), "layer shared, key \"rps\", line 3 column 10"),
        (json!({"rps": 1}), "layer shared, key \"burst\", line 1 column 1: it is missing"),
        (json!([1, 2, 3]), "layer shared, line 1 column 1: the list is 1 too long"),
        (json!(null), "expected struct Limits"),
        (json!({"rps": 5, "burst": 4}), "the rule that it is held to does not hold"),
    ] {
        let version = other.publish(&bad, If::Any).await.expect("it takes anything");
        let error = soon(changes.next()).await.expect("a report").expect_err("not valid");
        assert!(matches!(&error, Error::BadValue { version: bad, .. } if *bad == version));
        let text = error.to_string();
        assert!(text.contains(PATH) && text.contains(told), "{text}");
        let waited = soon(config.wait_for(version)).await.expect_err("not valid").to_string();
        assert_eq!(waited, text);
        assert_eq!(config.current().value.rps, 1, "the last good value stays");
    }
    other.publish(&json!({"rps": 7, "burst": 7}), If::Any).await.expect("connected");
    let change = soon(changes.next()).await.expect("a change").expect("valid again");
    assert_eq!((change.value.rps, change.version), (7, 7));
    assert_eq!(soon(config.wait_for(6)).await.expect("later is enough"), change);
}

#[tokio::test(start_paused = true)]
async fn what_others_have_broken_is_reported_and_the_last_good_value_stays() {
    let zk = Coordinator::start();
    let (writer, reader, config) = followed(&zk).await;
    let mut changes = config.changes();
    let mut told = async || {
        let error = soon(changes.next()).await.expect("a report").expect_err("broken");
        assert_eq!(config.current().value.rps, 1, "the last good value stays");
        error.to_string()
    };
    let (pointer, _) = reader.get(PATH).await.expect("it is there");
    // A znode that is no configuration's, such as a foreign tool may write.
    reader.set(PATH, br#"{"rps": 3}"#).await.expect("open to everybody");
    assert!(told().await.contains("it is not a configuration's"));
    // One that names a version which is not there.
    let text = String::from_utf8(pointer.to_vec()).expect("text");
    reader.set(PATH, text.replace("1", "9")).await.expect("open to everybody");
    assert!(told().await.contains("format 9"));
    reader.set(PATH, text.replace("\"current\":1", "\"current\":9")).await.expect("open");
    assert!(told().await.contains("version is missing"));
    // One whose version is damaged.
    let (data, _) = reader.get(version_path(1)).await.expect("it is there");
    let damaged = [&data[..], b"x"].concat();
    reader.create(version_path(2), damaged).await.expect("open to everybody");
    reader.set(PATH, text.replace("\"current\":1", "\"current\":2")).await.expect("open");
    assert!(told().await.contains("bytes, expected"));
    let error = writer.publish(&limits(2), If::Any).await.expect_err("it is damaged");
    assert!(matches!(error, Error::BadValue { version: 2, .. }), "{error}");
    // The way out is an older version, under a number that nobody has.
    let last = text.replace("\"current\":1", "\"current\":2").replace("\"last\":1", "\"last\":2");
    reader.set(PATH, last).await.expect("open to everybody");
    assert_eq!(writer.rollback(1).await.expect("it is whole"), 3);
    let change = soon(config.wait_for(3)).await.expect("valid");
    assert_eq!((change.value.rps, change.version), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_configuration_keeps_the_last_good_value_until_there_is_one_again() {
    let zk = Coordinator::start();
    let (writer, client, config) = followed(&zk).await;
    let mut changes = config.changes();
    for path in [&version_path(1), "/config/limits/versions", "/config/limits/chunks"] {
        client.delete(path).await.expect("no children");
    }
    client.delete("/config/limits/reports").await.expect("no children");
    client.delete(PATH).await.expect("no children");
    let error = soon(changes.next()).await.expect("a report").expect_err("gone");
    assert!(matches!(&error, Error::Unpublished { path } if &**path == PATH), "{error:?}");
    assert_eq!(config.current().value.rps, 1);
    // The version begins anew; the zxid does not.
    let before = config.current();
    writer.publish(&limits(3), If::Absent).await.expect("nothing is there");
    let change = soon(changes.next()).await.expect("a change").expect("valid");
    assert_eq!((change.value.rps, change.version), (3, 1));
    assert!(change.zxid > before.zxid);
    // So does one that is made again between two looks.
    zk.disconnect(&client, Duration::from_secs(2));
    let other = zk.client().await;
    for path in [&version_path(1), "/config/limits/versions", "/config/limits/chunks"] {
        other.delete(path).await.expect("no children");
    }
    other.delete("/config/limits/reports").await.expect("no children");
    other.delete(PATH).await.expect("no children");
    writer.publish(&limits(4), If::Absent).await.expect("nothing is there");
    let change = soon(changes.next()).await.expect("a change").expect("valid");
    assert_eq!((change.value.rps, change.version), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_over_broken_connections_and_expired_sessions() {
    let zk = Coordinator::start();
    let (writer, reader, config) = followed(&zk).await;
    zk.disconnect(&reader, Duration::from_secs(3));
    let version = writer.publish(&limits(2), If::Any).await.expect("connected");
    assert_eq!(soon(config.wait_for(version)).await.expect("valid").value.rps, 2);

    zk.disconnect(&reader, Duration::from_secs(120));
    reader.session().disconnected().await;
    let cut = Instant::now();
    let version = writer.publish(&limits(3), If::Any).await.expect("connected");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(config.current().value.rps, 2, "out of reach, the last value stays");
    let stale = config.stale_since().expect("nobody vouches for it");
    assert!(stale.duration_since(cut) < Duration::from_secs(1), "it counts from the cut");
    assert_eq!(soon(config.wait_for(version)).await.expect("valid").value.rps, 3);
    soon(async {
        while config.stale_since().is_some() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;

    zk.expire(&reader).await;
    let version = writer.publish(&limits(4), If::Any).await.expect("connected");
    assert_eq!(soon(config.wait_for(version)).await.expect("valid").value.rps, 4);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_the_newest_and_versions_never_go_back() {
    let zk = Coordinator::start();
    let (writer, reader, config) = followed(&zk).await;
    let mut changes = config.changes();
    for round in 2..60 {
        writer.publish(&limits(round), If::Any).await.expect("connected");
        if round % 10 == 0 {
            zk.disconnect(&reader, Duration::from_millis(500));
        }
        sleep(Duration::from_millis(u64::from(round) * 3)).await;
    }
    let mut last = config.current().version;
    let newest = soon(async {
        loop {
            let change = changes.next().await.expect("a change").expect("valid");
            assert!(change.version >= last && u64::from(change.value.rps) == change.version);
            last = change.version;
            if change.value.rps == 59 {
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
    let error = open(&client).await.expect_err("nothing is published");
    assert!(matches!(&error, Error::Unpublished { path } if &**path == PATH), "{error}");
    let error = open(&client).defaults(&json!({"rps": 1})).await.expect_err("not enough");
    assert!(error.to_string().contains("key \"burst\": it is missing"), "{error}");
    careless(&client).publish(&json!({"rps": "many"}), If::Absent).await.expect("the first");
    let error = open(&client).await.expect_err("bad");
    assert!(matches!(error, Error::BadValue { version: 1, .. }), "{error}");
    let error = Config::<Limits>::open(&client, "no/path").await.expect_err("no path");
    assert!(matches!(error, Error::Client(_)), "{error}");
    for error in [
        open(&client).instance("a/b").await.expect_err("no part of a path"),
        open(&client).group("").await.expect_err("no part of a path"),
        open(&client).keep(0).await.expect_err("at least one"),
        open(&client).keep(101).await.expect_err("at most 100"),
    ] {
        assert!(error.to_string().starts_with("invalid"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_it_or_cancelling_its_opening_leaves_no_watch_no_report_and_no_task() {
    for n in 1.. {
        let zk = Coordinator::start();
        let client = zk.client().await;
        store(&client).publish(&limits(1), If::Absent).await.expect("the first");
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let opened = cancel_at(n, open(&client).instance("node-7").into_future()).await;
        let finished = opened.is_some();
        if let Some(opened) = opened {
            let config = opened.expect("valid");
            let (mut changes, clone) = (config.changes(), config.clone());
            sleep(Duration::from_secs(1)).await;
            assert_eq!(zk.watch_count(), 1);
            assert_eq!(client.children("/config/limits/reports").await.expect("there").len(), 1);
            drop(config);
            assert!(changes.next().now_or_never().is_none(), "a clone is left");
            drop(clone);
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
        crate::common::until_children(&client, "/config/limits/reports", 0).await;
        assert_eq!(client.session().cleanups_reserved(), 0);
        if finished {
            assert!(n > 1, "it was cancelled at least once");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_is_dropped_at_any_moment_leaves_no_report() {
    for after_ms in 0..20 {
        let zk = Coordinator::start();
        let client = zk.client().await;
        store(&client).publish(&limits(1), If::Absent).await.expect("the first");
        let config = open(&client).instance("node-7").await.expect("valid");
        sleep(Duration::from_millis(after_ms)).await;
        drop(config);
        sleep(Duration::from_secs(1)).await;
        assert_eq!((zk.watch_count(), client.session().cleanups_reserved()), (0, 0));
        crate::common::until_children(&client, "/config/limits/reports", 0).await;
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
    assert!(config.stale_since().is_some(), "nobody vouches for it");
    assert!(soon(config.changes().next()).await.is_none(), "nor can it later");
    let error = soon(config.wait_for(2)).await.expect_err("it never comes");
    let Error::Client(synod::model::Error::SessionOver { end, .. }) = error else {
        panic!("{error}")
    };
    assert_eq!(end, SessionEnd::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_refused_is_reported_and_tried_again() {
    let zk = Coordinator::start();
    let (_, reader, config) = followed(&zk).await;
    let mut changes = config.changes();
    let owner = zk.client().await;
    owner.add_auth("digest", b"ann:secret").await.expect("any digest is accepted");
    owner.set_acl(PATH, Acl::creator()).await.expect("open until now");
    // In its next session it has to read again.
    zk.expire(&reader).await;
    let error = soon(changes.next()).await.expect("a report").expect_err("ann's");
    assert!(matches!(&error, Error::Client(error) if error.is(Code::NoAuth)), "{error}");
    assert_eq!(config.current().value.rps, 1, "the last good value stays");
    assert!(config.stale_since().is_some());
    let version = store(&owner).publish(&limits(2), If::Any).await.expect("ann's");
    owner.set_acl(PATH, Acl::open()).await.expect("ann's");
    assert_eq!(soon(config.wait_for(version)).await.expect("valid").value.rps, 2);
}

/// Events of a znode that may not be read are swallowed: no watch tells of what comes after.
#[tokio::test(start_paused = true)]
async fn a_change_is_noticed_although_its_event_was_swallowed() {
    let zk = Coordinator::start();
    let (_, _reader, config) = followed(&zk).await;
    let owner = zk.client().await;
    owner.add_auth("digest", b"ann:secret").await.expect("any digest is accepted");
    owner.set_acl(PATH, Acl::creator()).await.expect("open until now");
    let version = store(&owner).publish(&limits(2), If::Any).await.expect("ann's");
    owner.set_acl(PATH, Acl::open()).await.expect("ann's");
    assert_eq!(soon(config.wait_for(version)).await.expect("valid").value.rps, 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_changes_begins_with_the_next_one() {
    let zk = Coordinator::start();
    let (writer, _reader, config) = followed(&zk).await;
    let mut early = config.changes();
    writer.publish(&limits(2), If::Any).await.expect("connected");
    assert_eq!(soon(early.next()).await.expect("a change").expect("valid").value.rps, 2);
    let mut late = config.changes();
    assert!(late.next().now_or_never().is_none(), "that was before");
    writer.publish(&limits(3), If::Any).await.expect("connected");
    for changes in [&mut early, &mut late] {
        assert_eq!(soon(changes.next()).await.expect("a change").expect("valid").value.rps, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_defaults_is_told_when_something_is_published() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let config = open(&client).defaults(&limits(1)).instance("node-7").await.expect("enough");
    let (mut changes, now) = (config.changes(), config.current());
    assert_eq!((now.version, now.origin), (0, Origin::Local));
    sleep(Duration::from_secs(300)).await;
    assert!(changes.next().now_or_never().is_none(), "nothing has happened");
    let first = config.edit(If::Absent).put(Layer::Shared, &json!({"rps": 2}));
    assert_eq!(first.await.expect("with the defaults it is valid"), 1);
    let change = soon(changes.next()).await.expect("a change").expect("valid");
    assert_eq!((change.value.clone(), change.version), (Limits { rps: 2, burst: 2 }, 1));
    crate::common::until_children(&client, "/config/limits/reports", 1).await;
}
