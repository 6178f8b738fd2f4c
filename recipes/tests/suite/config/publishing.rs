//! What publishers do.

use std::time::Duration;

use serde_json::json;
use synod::config::{Difference, Format, Layer, limits as bounds};
use synod::testing::Coordinator;
use synod::{Acl, Client, Code, Config, Error, If};

use super::{Limits, PATH, careless, limits, open, store, version_path};
use crate::common::{children, soon};

fn conflict(error: &Error) -> &str {
    let Error::Conflict { path, rule } = error else { panic!("{error:?}") };
    assert_eq!(&**path, PATH);
    rule
}

#[tokio::test(start_paused = true)]
async fn of_two_who_publish_over_one_version_one_is_refused() {
    let zk = Coordinator::start();
    let (a, b) = (store(&zk.client().await), store(&zk.client().await));
    let error = a.publish(&limits(1), If::Version(3)).await.expect_err("there is none");
    assert_eq!(conflict(&error), "version 3 must apply, but version 0 does");
    let (one, two) = tokio::join!(
        a.publish(&limits(1), If::Absent).into_future(),
        b.publish(&limits(2), If::Absent).into_future()
    );
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    let error = one.and(two).expect_err("the second");
    assert_eq!(conflict(&error), "nothing must be published yet, but version 1 is");
    let (one, two) = tokio::join!(
        a.publish(&limits(3), If::Version(1)).into_future(),
        b.publish(&limits(4), If::Version(1)).into_future()
    );
    let error = one.and(two).expect_err("the second");
    assert_eq!(conflict(&error), "version 1 must apply, but version 2 does");
    // Whoever does not mind gets its turn.
    let mut publishing = tokio::task::JoinSet::new();
    for round in 0..10 {
        let store = if round % 2 == 0 { a.clone() } else { b.clone() };
        publishing.spawn(async move { store.publish(&limits(round), If::Any).await });
    }
    let mut versions: Vec<u64> =
        publishing.join_all().await.into_iter().map(|version| version.expect("its turn")).collect();
    versions.sort_unstable();
    assert_eq!(versions, Vec::from_iter(3..=12));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_valid_is_not_published() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let store = open(&client).defaults(&limits(1)).store().expect("valid");
    let refused = [
        store.publish(&Limits { rps: 2, burst: 1 }, If::Any),
        store.edit(If::Any).put(Layer::Shared, &json!({"rps": "many"})),
        store.edit(If::Any).put(Layer::Group("eu".into()), &json!({"rps": 9})),
        store.edit(If::Any).patch(Layer::Instance("a".into()), &json!({"burst": -1})),
        store.edit(If::Any).text(Layer::Shared, Format::Json, "{\n  \"rps\": "),
        store.edit(If::Any).text(Layer::Shared, Format::Yaml, "rps: [\n"),
    ];
    for (publish, told) in refused.into_iter().zip([
        "layer shared: the rule",
        "layer shared, key \"rps\", line 2 column 10: it is a text, expected u32",
        "layer group eu: the rule",
        "layer instance a, key \"burst\", line 2 column 12: it is an integer of another value",
        "layer shared, line 2 column 9: EOF",
        "layer shared, line 1 column 6",
    ]) {
        let error = publish.await.expect_err("not valid");
        assert!(matches!(error, Error::BadValue { version: 1, .. }), "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }
    let refused = [
        store.edit(If::Any),
        store.edit(If::Any).put(Layer::File, &limits(1)),
        store.edit(If::Any).put(Layer::Group("a/b".into()), &limits(1)),
        store.edit(If::Any).put(Layer::Instance("x".repeat(200)), &limits(1)),
        store.publish(&limits(1), If::Any).author(&"x".repeat(300)),
        store.publish(&limits(1), If::Any).reason(&"x".repeat(5_000)),
        store.publish(&limits(1), If::Any).to_percent(101),
        store.publish(&limits(1), If::Any).to_instances(["a/b"]),
    ];
    for publish in refused {
        let error = publish.await.expect_err("an argument breaks a rule");
        assert!(error.to_string().starts_with("invalid"), "{error}");
    }
    let error = store.status().await.expect_err("nothing is published");
    assert!(matches!(error, Error::Unpublished { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_history_tells_who_why_and_when_and_is_bounded() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let store = open(&client).keep(3).store().expect("valid");
    for round in 1..=6_u32 {
        let publish = store.publish(&limits(round), If::Any).author("ann");
        let version = publish.reason(&format!("round {round}")).await.expect("valid");
        assert_eq!(version, u64::from(round));
        let kept = children(&client, "/config/limits/versions").await.len();
        assert_eq!(kept, 3.min(round as usize), "by the publication itself");
    }
    let history = store.history().await.expect("connected");
    let told: Vec<_> = history.iter().map(|it| (it.version, &*it.author, &*it.reason)).collect();
    assert_eq!(told, [(6, "ann", "round 6"), (5, "ann", "round 5"), (4, "ann", "round 4")]);
    assert!(history.is_sorted_by(|a, b| a.zxid > b.zxid && a.published_ms >= b.published_ms));
    assert!(history[0].published_ms > 1_700_000_000_000 && history[0].layers == [Layer::Shared]);
    // One that is made shorter shrinks by and by.
    let store = open(&client).keep(1).store().expect("valid");
    store.publish(&limits(7), If::Any).await.expect("valid");
    assert_eq!(store.history().await.expect("connected").len(), 1);
    let error = store.rollback(4).await.expect_err("it is gone");
    assert_eq!(conflict(&error), "version 4 must be in the history");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_is_a_new_version_with_all_the_layers_of_the_old_one() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let store = store(&client);
    let group = Layer::Group("eu".into());
    let first = store.publish(&limits(1), If::Absent).put(group.clone(), &json!({"rps": 2}));
    first.await.expect("valid");
    store
        .edit(If::Any)
        .remove(group.clone())
        .patch(Layer::Shared, &json!({"rps": 0}))
        .await
        .expect("valid");
    let eu = open(&client).group("eu").await.expect("valid");
    assert_eq!(eu.current().value, Limits { rps: 0, burst: 2 });
    assert_eq!(store.rollback(1).author("bob").await.expect("it is kept"), 3);
    assert_eq!(soon(eu.wait_for(3)).await.expect("valid").value, Limits { rps: 2, burst: 2 });
    let history = store.history().await.expect("connected");
    assert_eq!((history[0].restores, &*history[0].reason), (Some(1), "back to version 1"));
    assert!(store.diff(1, 3).await.expect("kept").is_empty());
    // What was valid once need not be so by the rules of today.
    let strict = Config::<Limits>::open(&client, PATH).validate(|it: &Limits| match it.rps {
        0 => Ok(()),
        rps => Err(format!("{rps} requests a second are too many")),
    });
    let error = strict.store().expect("valid").rollback(1).await.expect_err("not valid any more");
    assert!(error.to_string().contains("1 requests a second are too many"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn changes_added_to_a_rollback_are_made_to_what_it_brings_back() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let store = store(&client);
    let group = || Layer::Group("eu".into());
    store.publish(&limits(1), If::Absent).put(group(), &json!({"rps": 2})).await.expect("valid");
    store.publish(&limits(5), If::Any).remove(group()).await.expect("valid");
    let back = || store.rollback(1);
    let changed = [
        (back().put(Layer::Shared, &limits(3)), (2, 6)),
        (back().text(group(), Format::Toml, "burst = 7"), (1, 7)),
        (back().patch(group(), &json!({"burst": 8})), (2, 8)),
        (back().remove(group()), (1, 2)),
        (back(), (2, 2)),
    ];
    for ((publish, (rps, burst)), version) in changed.into_iter().zip(3..) {
        assert_eq!(publish.await.expect("valid"), version);
        let eu = open(&client).group("eu").await.expect("valid");
        assert_eq!(eu.current().value, Limits { rps, burst }, "version {version}");
        assert_eq!(store.history().await.expect("connected")[0].restores, Some(1));
    }
    let error = back().patch(group(), &json!({"burst": 1})).await.expect_err("not valid");
    assert!(error.to_string().contains("layer group eu: the rule"), "{error}");
    let error = back().remove(Layer::File).await.expect_err("no such layer is published");
    assert!(error.to_string().contains("only shared, group and instance layers"), "{error}");
    assert_eq!(store.status().await.expect("published").last, 7);
}

#[tokio::test(start_paused = true)]
async fn a_patch_changes_its_keys_alone_and_texts_stay_as_they_are_written() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let store = careless(&client);
    let yaml = "# by hand\nrps: 1\nburst: 2\n";
    store.edit(If::Absent).text(Layer::Shared, Format::Yaml, yaml).await.expect("good");
    let (data, _) = client.get(version_path(1)).await.expect("it is there");
    assert!(data.ends_with(yaml.as_bytes()), "as it is written");
    let two = store.edit(If::Any).patch(Layer::Shared, &json!({"rps": 5, "new": {"a": [1]}}));
    two.await.expect("good");
    let three =
        store.edit(If::Version(2)).patch(Layer::Shared, &json!({"burst": null, "new": {"b": 1}}));
    three.await.expect("good");
    let config = Config::<serde_json::Value>::open(&client, PATH).await.expect("good");
    assert_eq!(config.current().value, json!({"rps": 5, "new": {"a": [1], "b": 1}}));
    let told: Vec<String> =
        store.diff(1, 3).await.expect("kept").iter().map(Difference::to_string).collect();
    assert_eq!(
        told,
        [
            "shared burst: 2 -> nothing",
            "shared new.a: nothing -> [1]",
            "shared new.b: nothing -> 1",
            "shared rps: 1 -> 5",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn several_layers_are_published_in_one_step() {
    let zk = Coordinator::start();
    let (writer, reader) = (store(&zk.client().await), zk.client().await);
    writer.publish(&limits(0), If::Absent).await.expect("valid");
    let group = || Layer::Group("eu".into());
    let instance = || Layer::Instance("node-7".into());
    let config = open(&reader).group("eu").instance("node-7").await.expect("valid");
    let mut changes = config.changes();
    for round in 1..=30_u32 {
        // The three say the same, in every version.
        let publish = writer.publish(&Limits { rps: round, burst: 3 * round }, If::Any);
        let publish = publish.put(group(), &json!({"burst": 2 * round}));
        publish.patch(instance(), &json!({"rps": 2 * round})).await.expect("valid");
        if round % 7 == 0 {
            zk.disconnect(&reader, Duration::from_millis(50));
        }
    }
    let last = soon(config.wait_for(31)).await.expect("valid");
    assert_eq!(last.value, Limits { rps: 60, burst: 60 });
    drop(writer);
    while let Some(Some(change)) =
        futures::FutureExt::now_or_never(futures::StreamExt::next(&mut changes))
    {
        let Limits { rps, burst } = change.expect("valid").value;
        assert_eq!(rps, burst, "never of two versions");
    }
}

/// A large value whose parts all say which round it is.
fn large(round: u32) -> Vec<String> {
    vec![format!("{round:01000}"); 2_500]
}

#[tokio::test(start_paused = true)]
async fn a_value_larger_than_a_znode_is_published_in_chunks_that_go_with_their_version() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let open = || Config::<Vec<String>>::open(&client, PATH).keep(2);
    let store = open().store().expect("valid");
    store.publish(&large(1), If::Absent).await.expect("not too large");
    let config = open().await.expect("whole");
    assert_eq!(config.current().value, large(1));
    for round in 2..=4 {
        let version = store.publish(&large(round), If::Any).await.expect("not too large");
        assert_eq!(soon(config.wait_for(version)).await.expect("whole").value, large(round));
        assert_eq!(children(&client, "/config/limits/chunks").await.len(), 2, "of two versions");
    }
    store.publish(&vec!["small".to_owned()], If::Any).await.expect("small");
    assert_eq!(store.rollback(4).await.expect("kept"), 6);
    assert_eq!(soon(config.wait_for(6)).await.expect("whole").value, large(4));
    assert_eq!(store.history().await.expect("connected")[0].bytes, 2_500 * 1_006 + 2);
    assert_eq!(children(&client, "/config/limits/chunks").await.len(), 1, "the other is gone");
    let huge = vec!["x".repeat(1 << 20); 17];
    let error = store.publish(&huge, If::Any).await.expect_err("too large").to_string();
    assert!(error.contains(&bounds::VALUE_BYTES_MAX.to_string()), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_chunk_is_noticed() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let store = Config::<Vec<String>>::open(&client, PATH).store().expect("valid");
    store.publish(&large(1), If::Absent).await.expect("not too large");
    let set =
        format!("/config/limits/chunks/{}", children(&client, "/config/limits/chunks").await[0]);
    let (mut data, _) = client
        .get(format!("{set}/0001"))
        .await
        .map(|(data, stat)| (data.to_vec(), stat))
        .expect("it is there");
    data[17] ^= 1;
    client.set(format!("{set}/0001"), data).await.expect("open to everybody");
    let error = Config::<Vec<String>>::open(&client, PATH).await.expect_err("damaged").to_string();
    assert!(error.contains("hash"), "{error}");
    client.delete(format!("{set}/0001")).await.expect("open to everybody");
    let error = Config::<Vec<String>>::open(&client, PATH).await.expect_err("missing").to_string();
    assert!(error.contains("missing"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_found_out_about() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let store = store(&client);
    store.publish(&limits(1), If::Absent).await.expect("valid");
    for version in 2..=6 {
        zk.lose_next_reply(&client);
        let published = store.publish(&limits(9), If::Version(version - 1)).await;
        assert_eq!(published.expect("done once"), version);
    }
    // Large: each of its writes.
    let large_store = Config::<Vec<String>>::open(&client, "/large").store().expect("valid");
    for version in 1..=4 {
        zk.lose_next_reply(&client);
        assert_eq!(large_store.publish(&large(1), If::Any).await.expect("done once"), version);
    }
    assert_eq!(children(&client, "/large/chunks").await.len(), 4);
    assert_eq!(store.status().await.expect("published").last, 6);
    assert_eq!(client.session().cleanups_reserved(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_publication_whose_session_ends_says_that_it_may_be_done() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let store = store(&client);
    store.publish(&limits(1), If::Absent).await.expect("valid");
    zk.delay_next(&client, Duration::from_secs(1));
    let publishing = tokio::spawn({
        let store = store.clone();
        async move { store.publish(&limits(2), If::Version(1)).await }
    });
    tokio::task::yield_now().await;
    zk.expire(&client).await;
    let error = publishing.await.expect("no panic").expect_err("its session is over");
    assert!(error.session_over(), "{error}");
    let status = store.status().await.expect("published");
    assert!(status.current == 1 || error.maybe_applied(), "{status:?} {error}");
}

#[tokio::test(start_paused = true)]
async fn a_publication_that_cannot_be_looked_for_any_more_says_that_it_may_be_done() {
    let zk = Coordinator::start();
    let (client, other) = (zk.client().await, zk.client().await);
    let store = store(&client);
    store.publish(&limits(1), If::Absent).await.expect("valid");
    zk.lose_next_reply(&client);
    let publishing = tokio::spawn({
        let store = store.clone();
        async move { store.publish(&limits(2), If::Version(1)).await }
    });
    // It is done, its reply is lost, and the connection does not come back before the session ends.
    while self::store(&other).status().await.expect("published").current == 1 {}
    zk.disconnect(&client, Duration::from_secs(3_600));
    let error = publishing.await.expect("no panic").expect_err("its session is over");
    assert!(error.session_over() && error.maybe_applied(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn who_may_publish_is_a_matter_of_acls_and_every_instance_may_report() {
    let zk = Coordinator::start();
    let ann = zk.builder().auth_digest("ann", "secret").connect().await.expect("reachable");
    let other = zk.client().await;
    let read_only = [Acl::creator(), Acl::read_only()].concat();
    let store = open(&ann).acl(read_only).store().expect("valid");
    store.publish(&limits(1), If::Absent).await.expect("ann's");
    let error = self::store(&other).publish(&limits(2), If::Any).await.expect_err("not ann");
    assert!(matches!(&error, Error::Client(error) if error.is(Code::NoAuth)), "{error}");
    let config = open(&other).instance("node-7").await.expect("it may be read");
    store.publish(&limits(3), If::Any).await.expect("ann's");
    assert_eq!(soon(config.wait_for(2)).await.expect("valid").value.rps, 3);
    crate::common::until_children(&other, "/config/limits/reports", 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_holds_the_whole_configuration() {
    let zk = Coordinator::start();
    let client: Client = zk.client().await;
    client.create("/app", b"").await.expect("new");
    let app = client.namespace("/app").expect("valid");
    let store = store(&app);
    store.publish(&limits(1), If::Absent).await.expect("valid");
    let config = open(&app).await.expect("valid");
    store.publish(&limits(2), If::Any).await.expect("valid");
    assert_eq!(soon(config.wait_for(2)).await.expect("valid").value.rps, 2);
    assert!(client.exists("/app/config/limits/versions").await.expect("can be asked").is_some());
}
