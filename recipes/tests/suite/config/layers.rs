//! Layers, formats and secrets.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use synod::config::{Format, Layer, Secret};
use synod::testing::Coordinator;
use synod::{Client, Config, If};

use super::{Limits, PATH, careless, limits, open, store};
use crate::common::soon;

#[tokio::test(start_paused = true)]
async fn each_layer_wins_over_those_below_it_key_by_key() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("limits.toml");
    std::fs::write(&file, "# here\nb = 2\nc = 2\nd = 2\ne = 2\n").expect("written");
    let store = careless(&client);
    let publish = store.edit(If::Absent).put(Layer::Shared, &json!({"c": 3, "d": 3, "e": 3}));
    let publish = publish.text(Layer::Group("eu".into()), Format::Yaml, "d: 4\ne: 4\n");
    let publish = publish.put(Layer::Group("us".into()), &json!({"a": 0, "e": 0}));
    let publish = publish.put(Layer::Instance("node-7".into()), &json!({"e": 5}));
    publish.await.expect("good");
    let open = || {
        let defaults = json!({"a": 1, "b": 1, "c": 1, "d": 1, "e": 1});
        Config::<BTreeMap<String, u8>>::open(&client, PATH).defaults(&defaults).file(&file)
    };
    let config = open().group("eu").instance("node-7").await.expect("good");
    let now = config.current();
    assert_eq!(now.value.values().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let told: Vec<String> =
        ["a", "b", "c", "d", "e"].map(|key| now.explain(key).expect("there").to_string()).into();
    assert_eq!(
        told,
        [
            "1 by defaults",
            "2 by file, over 1 by defaults",
            "3 by shared, over 2 by file, over 1 by defaults",
            "4 by group eu, over 3 by shared, over 2 by file, over 1 by defaults",
            "5 by instance node-7, over 4 by group eu, over 3 by shared, over 2 by file, \
             over 1 by defaults",
        ]
    );
    assert_eq!(now.explain("f"), None);
    let config = open().await.expect("good");
    assert_eq!(config.current().value.values().copied().collect::<Vec<_>>(), [1, 2, 3, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_does_not_concern_a_reader_does_not_trouble_it() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let other = careless(&client);
    let publish = other.edit(If::Absent).put(Layer::Shared, &limits(1));
    publish.put(Layer::Instance("node-8".into()), &json!({"rps": "many"})).await.expect("good");
    let config = open(&client).instance("node-7").await.expect("the other's is bad");
    assert_eq!(config.current().value, limits(1));
    let error = open(&client).instance("node-8").await.expect_err("its own is bad").to_string();
    assert!(error.contains("layer instance node-8, key \"rps\", line 2 column 10"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_layer_is_not_taken_from_under_those_that_need_it() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let store = store(&client);
    let (eu, node) = (|| Layer::Group("eu".into()), || Layer::Instance("node-7".into()));
    let first = store.publish(&limits(1), If::Absent).put(eu(), &json!({"rps": 2}));
    first.put(node(), &limits(3)).await.expect("valid");
    let without = || store.edit(If::Any).remove(Layer::Shared);
    let error = without().await.expect_err("the group lacks a key").to_string();
    assert!(error.contains("layer group eu") && error.contains("burst"), "{error}");
    // Nor changed so that it breaks them.
    let publish = store.publish(&Limits { rps: 1, burst: 1 }, If::Any);
    let error = publish.await.expect_err("the group is beyond it").to_string();
    assert!(error.contains("layer group eu: the rule"), "{error}");
    assert_eq!(store.status().await.expect("published").last, 1);
    // All at once it can be.
    assert_eq!(without().put(eu(), &limits(4)).await.expect("each is whole"), 2);
    for (reader, rps) in [(open(&client).group("eu"), 4), (open(&client).instance("node-7"), 3)] {
        assert_eq!(reader.await.expect("valid").current().value, limits(rps));
    }
    let error = open(&client).await.expect_err("nothing is left for it").to_string();
    assert!(error.contains("it is null"), "{error}");
    assert_eq!(store.edit(If::Any).remove(eu()).await.expect("nothing lies over it"), 3);
    let error = store.edit(If::Any).remove(node()).await.expect_err("it is the last").to_string();
    assert!(error.contains("a version has at least one layer"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_was_bad_before_keeps_nobody_from_publishing_others() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let other = careless(&client);
    let first = other.edit(If::Absent).put(Layer::Shared, &limits(1));
    first.put(Layer::Group("eu".into()), &json!({"rps": "many"})).await.expect("good");
    assert_eq!(store(&client).publish(&limits(2), If::Any).await.expect("valid"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_bad_file_keeps_the_service_from_starting_and_says_where_it_is_bad() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    store(&client).edit(If::Absent).put(Layer::Shared, &limits(1)).await.expect("valid");
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text, told) in [
        ("a.toml", Some("x = 1\ny = \n"), "line 2 column"),
        ("b.yaml", Some("x: 1\ny: [\n"), "line 2 column"),
        ("c.yml", Some("x: 1\n\ty: {\n"), "layer file"),
        ("d.json", Some("{\n\"x\": }\n"), "line 2 column 6"),
        ("e.ini", Some("x = 1"), "the extension of a configuration's file"),
        ("f.json", None, "f.json: No such file"),
    ] {
        let file = folder.path().join(name);
        if let Some(text) = text {
            std::fs::write(&file, text).expect("written");
        }
        let error = open(&client).file(&file).await.expect_err("bad").to_string();
        assert!(error.contains("layer file") && error.contains(told), "{error}");
    }
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
struct Database {
    user: String,
    password: Secret<String>,
}

type Databases = BTreeMap<String, Database>;

fn databases(password: &str) -> Databases {
    let database = Database { user: "app".into(), password: Secret::new(password.into()) };
    BTreeMap::from([("main".into(), database)])
}

/// All that is logged.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Everything that can be seen of a configuration whose secrets are `hunter2` and `hunter3`.
async fn all_that_is_shown(client: &Client) -> String {
    let open = || Config::<Databases>::open(client, PATH).instance("node-7");
    let store = open().defaults(&databases("hunter3")).store().expect("valid");
    store.publish(&databases("hunter2"), If::Absent).author("ann").await.expect("valid");
    let config = open().defaults(&databases("hunter3")).await.expect("valid");
    let now = config.current();
    assert_eq!(*now.value["main"].password, "hunter2");
    let mut shown = format!("{config:?} {now:?} {store:?}");
    for key in ["", "main", "main.password", "/main/password/$secret", "main.password.$secret"] {
        write!(shown, "{:?}", now.explain(key)).expect("text");
    }
    store.publish(&databases("hunter3"), If::Any).await.expect("valid");
    soon(config.wait_for(2)).await.expect("valid");
    let differences = store.diff(1, 2).await.expect("kept");
    assert_eq!(differences.len(), 1, "that it differs is no secret");
    write!(shown, "{differences:?}").expect("text");
    // Without its mark, of another form, and at the wrong place.
    let other = careless(client);
    let bad = [
        json!({"main": {"user": "app", "password": "hunter2"}}),
        json!({"main": {"user": "app", "password": {"$secret": {"hunter2": "hunter2"}}}}),
        json!({"main": {"user": {"$secret": "hunter2"}, "password": {"$secret": "x"}}}),
        json!({"main": "hunter2"}),
        json!({"main": {"user": "app", "password": {"$secret": 42, "more": "hunter2"}}}),
    ];
    for (bad, version) in bad.iter().zip(3..) {
        let error = store.edit(If::Any).put(Layer::Shared, bad).await.expect_err("not valid");
        write!(shown, "{error} {error:?}").expect("text");
        other.publish(bad, If::Any).await.expect("it takes anything");
        let error = soon(config.wait_for(version)).await.expect_err("not valid");
        write!(shown, "{error} {error:?}").expect("text");
        write!(shown, "{:?}", store.diff(1, version).await.expect("kept")).expect("text");
        write!(shown, "{:?}", store.history().await.expect("kept")).expect("text");
    }
    crate::common::until_children(client, "/config/limits/reports", 1).await;
    write!(shown, "{:?}", store.reports().await.expect("connected")).expect("text");
    shown
}

#[test]
fn a_secret_is_shown_in_no_log_error_report_diff_or_explanation() {
    let logged = Logged::default();
    let writer = logged.clone();
    let logging = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
    let logging = logging.with_writer(move || writer.clone()).finish();
    // For all threads: with one for this thread alone, whoever of the others comes to an event first
    // decides that nobody listens to it. What the other tests log must hold no secret either.
    tracing::subscriber::set_global_default(logging).expect("the only one");
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    let shown = runtime.block_on(async {
        let zk = Coordinator::start();
        all_that_is_shown(&zk.client().await).await
    });
    let logged = String::from_utf8(logged.0.lock().expect("no panic").clone()).expect("text");
    assert!(logged.contains("published") && logged.contains("the last good value stays"));
    assert!(shown.contains("[secret]") && shown.contains("[withheld]"), "{shown}");
    for text in [&shown, &logged] {
        assert!(!text.contains("hunter"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_of_a_foreign_type_is_still_known_by_its_mark() {
    let zk = Coordinator::start();
    let store = careless(&zk.client().await);
    store.publish(&json!({"key": {"$secret": "a"}, "x": 1}), If::Absent).await.expect("good");
    store.publish(&json!({"key": {"$secret": "b"}, "x": 1}), If::Any).await.expect("good");
    let differences = store.diff(1, 2).await.expect("kept");
    let told: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["shared key: [secret] -> [secret]"]);
}

#[tokio::test(start_paused = true)]
async fn a_value_of_any_kind_is_a_configuration() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let number = Config::<u32>::open(&client, "/number").store().expect("valid");
    number.publish(&7, If::Absent).await.expect("valid");
    let config = Config::<u32>::open(&client, "/number").defaults(&1).await.expect("valid");
    assert_eq!(config.current().value, 7);
    assert_eq!(
        config.current().explain("").expect("the whole").to_string(),
        "7 by shared, over 1 by defaults"
    );
    let list = Config::<Vec<Limits>>::open(&client, "/list").store().expect("valid");
    list.publish(&vec![limits(1), limits(2)], If::Absent).await.expect("valid");
    let config = Config::<Value>::open(&client, "/list").await.expect("anything");
    assert_eq!(config.current().explain("1.rps").expect("it is there").value, "2");
}
