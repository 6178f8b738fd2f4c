//! What breaks a rule fails with an error that names the value and the rule, and changes nothing.

use std::time::Duration;

use synod_core::client::Client;
use synod_core::model::limits::{ACL_ENTRIES_MAX, DATA_BYTES_MAX, MULTI_OPS_MAX, PATH_BYTES_MAX};
use synod_core::model::{Acl, CreateMode, Error, OpResult, Perms, Stat};
use synod_core::testing::Coordinator;

type Answer = Result<(), Error>;

/// That it is `Invalid`, and what its text names.
fn refused(answer: Answer, value: &str, rule: &str) {
    let Err(error) = answer else { panic!("{value:?} is accepted, against: {rule}") };
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(value) && text.contains(rule), "{text} names neither {value} nor {rule}");
    assert!(text.len() < 600, "{} bytes of text", text.len());
    assert!(!error.retryable() && !error.maybe_applied() && !error.session_over());
}

const BAD_PATHS: [(&str, &str); 14] = [
    ("", "begins with /"),
    ("a", "begins with /"),
    ("a/b", "begins with /"),
    ("/a/", "no / at its end"),
    ("//", "empty part"),
    ("/a//b", "empty part"),
    ("/.", "part . or .."),
    ("/a/../b", "part . or .."),
    ("/a\0b", "control character"),
    ("/a\u{1f}", "control character"),
    ("/a\u{7f}", "control character"),
    ("/\u{e000}", "U+E000"),
    ("/\u{fff0}", "U+FFF0"),
    ("/\u{1f600}", "above U+FFFF"),
];

async fn every_use_of_a_path(client: &Client, path: &str, value: &str, rule: &str) {
    let last = client.sync().await.expect("answers");
    let acl = Acl::open;
    for answer in [
        client.create(path, b"").await.map(drop),
        client.create(path, b"").ephemeral().sequential().await.map(drop),
        client.create(path, b"").with_stat().await.map(drop),
        client.get(path).await.map(drop),
        client.get(path).watched().await.map(drop),
        client.get(path).latest().await.map(drop),
        client.exists(path).await.map(drop),
        client.exists(path).watched().await.map(drop),
        client.children(path).await.map(drop),
        client.children(path).watched().await.map(drop),
        client.set(path, b"").await.map(drop),
        client.delete(path).await,
        client.get_acl(path).await.map(drop),
        client.set_acl(path, acl()).await.map(drop),
        client.ephemerals(path).await.map(drop),
        client.descendant_count(path).await.map(drop),
        client.watch(path).await.map(drop),
        client.watch(path).recursive().await.map(drop),
        client.has_watch(path, synod_core::model::WatchKind::Any).await.map(drop),
        client.namespace(path).map(drop),
        client.txn().create("/new", b"").create(path, b"").commit().await.map(drop),
        client.txn().set("/x", b"").set(path, b"").commit().await.map(drop),
        client.txn().delete(path).set("/x", b"").commit().await.map(drop),
        client.txn().check(path, 0).check("also bad", 0).commit().await.map(drop),
        client.multi_read().get("/").get(path).await.map(drop),
        client.multi_read().children(path).get("/").await.map(drop),
        client.propose_at(last).create(path, b"").await.map(drop),
        client.propose_at(last).set(path, b"").await.map(drop),
        client.propose_at(last).delete(path).await.map(drop),
    ] {
        refused(answer, value, rule);
    }
}

#[tokio::test(start_paused = true)]
async fn no_operation_takes_a_path_that_breaks_a_rule() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    client.create("/x", b"").await.expect("creates");
    client.create("/ns", b"").await.expect("creates");
    let (digest, watches) = (zk.digest(), zk.watch_count());
    let namespaced = client.namespace("/ns").expect("valid");
    let long = format!("/{}", "a".repeat(PATH_BYTES_MAX));
    for client in [&client, &namespaced] {
        for (path, rule) in BAD_PATHS {
            let shown = format!("{path:?}");
            every_use_of_a_path(client, path, &shown, rule).await;
        }
        every_use_of_a_path(client, &long, "/aaaa", "at most 8192 bytes").await;
    }
    // In a namespace it is the whole path that must fit.
    let longest = &long[..PATH_BYTES_MAX];
    refused(namespaced.get(longest).await.map(drop), "/ns/aaa", "at most 8192 bytes");
    assert_eq!((zk.digest(), zk.watch_count()), (digest, watches));
    client.create("/goes-on", b"").await.expect("creates");
}

#[tokio::test(start_paused = true)]
async fn no_argument_that_breaks_a_rule_is_sent() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    client.create("/x", b"").await.expect("creates");
    let digest = zk.digest();
    let large = vec![0; DATA_BYTES_MAX + 1];
    let half = vec![0; DATA_BYTES_MAX / 2];
    let many = vec![Acl::new(Perms::READ, "world", "anyone"); ACL_ENTRIES_MAX + 1];
    let odd = vec![Acl::new(Perms(32), "world", "anyone")];
    let last = client.sync().await.expect("answers");
    let (size, at_most) = ("1048576", "at most 1048575 bytes");
    refused(client.create("/y", &large).await.map(drop), size, at_most);
    refused(client.set("/x", &large).await.map(drop), size, at_most);
    refused(client.txn().set("/x", &large).commit().await.map(drop), size, at_most);
    refused(client.propose_at(last).set("/x", &large).await.map(drop), size, at_most);
    refused(client.propose_at(last).create("/y", &large).await.map(drop), size, at_most);
    let txn = client.txn().create("/y", &half).create("/z", &half).set("/x", b"12");
    refused(txn.commit().await.map(drop), "10485", "a transaction has at most 1048575 bytes");
    let mut txn = client.txn();
    let mut reads = client.multi_read();
    for _ in 0..=MULTI_OPS_MAX {
        txn = txn.check("/", -1);
        reads = reads.get("/");
    }
    refused(txn.commit().await.map(drop), "65537", "at most 65536 operations");
    refused(reads.await.map(drop), "65537", "at most 65536 reads");

    for version in [-2, i32::MIN] {
        let (value, rule) = (version.to_string(), "0 or above, or -1 for any");
        for answer in [
            client.set("/x", b"").version(version).await.map(drop),
            client.delete("/x").version(version).await,
            client.set_acl("/x", Acl::open()).version(version).await.map(drop),
            client.txn().check("/x", version).commit().await.map(drop),
            client.txn().set_at("/x", b"", version).commit().await.map(drop),
            client.txn().delete_at("/x", version).commit().await.map(drop),
        ] {
            refused(answer, &value, rule);
        }
    }
    for (acl, value, rule) in [
        (vec![], "[]", "at least one line"),
        (many, "1025", "at most 1024 lines"),
        (odd, "32", "sum of 1, 2, 4, 8 and 16"),
    ] {
        let mode = CreateMode::Persistent;
        for answer in [
            client.create("/y", b"").acl(acl.clone()).await.map(drop),
            client.set_acl("/x", acl.clone()).await.map(drop),
            client.txn().create_as("/y", b"", mode, acl.clone()).commit().await.map(drop),
        ] {
            refused(answer, value, rule);
        }
    }
    let rule = "1 to 2^40 - 1 milliseconds";
    for ttl_ms in [i64::MIN, -1, 0, 1 << 40, i64::MAX] {
        for mode in [CreateMode::Ttl { ttl_ms }, CreateMode::TtlSequential { ttl_ms }] {
            let txn = client.txn().create_as("/y", b"", mode, Acl::open());
            refused(txn.commit().await.map(drop), &ttl_ms.to_string(), rule);
        }
    }
    for (ttl, value) in [
        (Duration::ZERO, "0"),
        (Duration::from_micros(999), "0"),
        (Duration::from_millis(1 << 40), "1099511627776"),
        (Duration::MAX, "9223372036854775807"),
    ] {
        refused(client.create("/y", b"").ttl(ttl).await.map(drop), value, rule);
        refused(client.create("/y", b"").ttl(ttl).sequential().await.map(drop), value, rule);
    }
    let odd = client.create("/y", b"").container().sequential().await;
    refused(odd.map(drop), "container, sequential", "a container has no sequence suffix");
    assert_eq!(zk.digest(), digest, "nothing was sent");
    client.create("/goes-on", b"").await.expect("creates");
}

#[tokio::test]
async fn what_is_just_within_the_rules_is_accepted() {
    let client = Client::connect("embedded:").await.expect("connects");
    let largest = vec![7; DATA_BYTES_MAX];
    client.create("/x", &largest).await.expect("creates");
    assert_eq!(client.get("/x").await.expect("is there").0.len(), DATA_BYTES_MAX);
    let last = client.sync().await.expect("answers");
    let rest = vec![7; DATA_BYTES_MAX - "/x".len()];
    let results = client.txn().set("/x", &rest).commit().await.expect("commits");
    let [OpResult::Set(Stat { data_bytes, .. })] = results[..] else { panic!("{results:?}") };
    assert_eq!(data_bytes as usize, rest.len());
    let longest = format!("/{}", "a".repeat(PATH_BYTES_MAX - 1));
    client.create(&longest, b"").await.expect("creates");
    let mut all = client.watch("/").recursive().await.expect("watches");
    client.create("/t", b"").ttl(Duration::from_millis((1 << 40) - 1)).await.expect("creates");
    assert!(all.next().await.is_some());
    assert!(client.last_zxid() > last);
}

#[tokio::test]
async fn a_sequential_name_that_grows_too_long_is_refused_and_nothing_is_made() {
    let client = Client::connect("embedded:").await.expect("connects");
    let stem = format!("/{}", "a".repeat(PATH_BYTES_MAX - 10));
    let error = client.create(&stem, b"").sequential().await.expect_err("is too long");
    assert!(error.to_string().contains("8192"), "{error}");
    assert_eq!(client.descendant_count("/").await.expect("answers"), 3, "only what was there");
    let stem = &stem[..PATH_BYTES_MAX - 10];
    let path = client.create(stem, b"").sequential().await.expect("just fits");
    assert_eq!(path.as_str().len(), PATH_BYTES_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_has_given_out_its_last_suffix_says_so() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    client.create("/q", b"").await.expect("creates");
    zk.set_sequence("/q", i32::MAX - 1).expect("is there");
    let last = client.create("/q/n-", b"").sequential().await.expect("creates");
    assert_eq!(last.as_str(), "/q/n-2147483646");
    let error = client.create("/q/n-", b"").sequential().await.expect_err("there are no more");
    assert!(error.to_string().contains("2147483646"), "{error}");
    client.create("/q/plain", b"").await.expect("creates");
    assert!(zk.set_sequence("/none", 0).is_err() && zk.set_sequence("/q", -1).is_err());
}

#[tokio::test]
async fn a_connect_string_that_names_no_ground_is_refused() {
    for servers in
        ["embedded:a/b", "embedded:.", "embedded:a\0", "zks://h", ",", "h:port", "h:0:1", "h/a/"]
    {
        let error = Client::connect(servers).await.expect_err("is refused");
        assert!(matches!(error, Error::Invalid { .. }), "{servers:?}: {error}");
    }
}
