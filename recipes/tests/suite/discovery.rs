//! Discovery under virtual time, with faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::common::{cancel_at, soon, until_children};
use futures::StreamExt;
use synod::discovery::{DownPolicy, Pick, Provider, Registration};
use synod::guard::Released;
use synod::persistent_node::NodeState;
use synod::testing::Coordinator;
use synod::{Acl, Client, Discovery, Error, Group, Instance};
use tokio::time::sleep;

const BASE: &str = "/services";
const WEB: &str = "/services/web";

fn discovery(client: &Client) -> Discovery {
    Discovery::new(client, BASE).expect("a valid path")
}

async fn registered(client: &Client, instance: &Instance) -> Registration {
    let registration = discovery(client).register("web", instance).expect("valid");
    soon(registration.registered()).await.expect("the client lives");
    registration
}

async fn web(client: &Client) -> Vec<Instance> {
    soon(discovery(client).instances("web")).await.expect("can be asked")
}

async fn provider(client: &Client) -> Provider {
    soon(discovery(client).provider("web").open()).await.expect("can be read")
}

fn ids(instances: &[Arc<Instance>]) -> Vec<&str> {
    instances.iter().map(|instance| instance.id.as_str()).collect()
}

/// Waits until the provider knows just those.
async fn knows(provider: &Provider, expected: &[&str]) {
    let mut changes = provider.changes();
    soon(async { while ids(&changes.next().await.expect("the client lives")) != expected {} })
        .await;
}

fn picks(provider: &Provider, count: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..count {
        *counts.entry(provider.pick().expect("somebody is there").id.clone()).or_default() += 1;
    }
    counts
}

fn counts(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected.iter().map(|(id, count)| ((*id).to_owned(), *count)).collect()
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_found_with_all_that_it_says_until_it_is_withdrawn() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    assert_eq!(web(&b).await, [], "nobody has ever registered");
    let one = Instance::new("one", "10.0.0.7:80").with_weight(3).with("zone", "a");
    let two = Instance::new("two", "10.0.0.8:80");
    let first = registered(&a, &one).await;
    let _second = registered(&b, &two).await;
    assert_eq!(first.id(), "one");
    assert_eq!(web(&b).await, [one.clone(), two.clone()]);
    // What is there by itself is not written.
    let znodes = Group::new(&a, WEB).expect("valid").members().await.expect("can be asked");
    assert_eq!(znodes[1].metadata, r#"{"address":"10.0.0.8:80"}"#);

    let drained = one.with_weight(0);
    soon(first.update(&drained)).await.expect("connected");
    assert_eq!(web(&b).await, [drained, two.clone()]);
    assert_eq!(soon(first.withdraw()).await.expect("connected"), Released::Confirmed);
    assert_eq!(web(&b).await, [two]);
    assert_eq!(discovery(&b).instances("other").await.expect("can be asked"), []);
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_do_not_leave_an_instance_unregistered() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    b.add_auth("digest", b"ann:secret").await.expect("any digest is accepted");
    let registration = registered(&a, &Instance::new("one", "x")).await;
    for failures in 1..4 {
        let mut states = registration.states();
        b.set_acl(WEB, Acl::creator()).await.expect("open");
        zk.expire(&a).await;
        // Each attempt is refused, and so is the next.
        let mut refused = 0;
        while refused < failures {
            let state = soon(states.next()).await.expect("it goes on");
            refused += usize::from(matches!(state, NodeState::Refused(_)));
        }
        b.set_acl(WEB, Acl::open()).await.expect("its own");
        // And the reply to the one that is granted is lost.
        zk.lose_next_reply(&a);
        soon(registration.registered()).await.expect("the client lives");
        assert_eq!(web(&b).await, [Instance::new("one", "x")]);
        let members = Group::new(&b, WEB).expect("valid").members().await.expect("can be asked");
        assert_eq!(members[0].session, Some(a.session().id()), "what is there is its own");
    }
    drop(registration);
    until_children(&b, WEB, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_comes_again_is_found_at_once_and_once() {
    let zk = Coordinator::start();
    let (before, after, c) = (zk.client().await, zk.client().await, zk.client().await);
    let provider = provider(&c).await;
    let _killed = registered(&before, &Instance::new("one", "old:80")).await;
    knows(&provider, &["one"]).await;
    zk.disconnect(&before, Duration::from_secs(600));
    let _again = registered(&after, &Instance::new("one", "new:80")).await;
    assert_eq!(web(&c).await, [Instance::new("one", "new:80")]);
    let mut changes = provider.changes();
    soon(async { while changes.next().await.expect("the client lives")[0].address != "new:80" {} })
        .await;
    // When its old session expires that is no news.
    until_children(&c, WEB, 1).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(ids(&provider.instances()), ["one"]);
    assert_eq!(provider.pick().expect("it is there").address, "new:80");
}

#[tokio::test(start_paused = true)]
async fn a_provider_follows_who_comes_goes_and_changes() {
    let zk = Coordinator::start();
    let (a, b, c) = (zk.client().await, zk.client().await, zk.client().await);
    let provider = provider(&c).await;
    assert!(provider.pick().is_none() && provider.is_certain());
    let first = registered(&a, &Instance::new("one", "x")).await;
    knows(&provider, &["one"]).await;
    let _second = registered(&b, &Instance::new("two", "y")).await;
    knows(&provider, &["one", "two"]).await;
    assert_eq!(picks(&provider, 10), counts(&[("one", 5), ("two", 5)]));
    soon(first.update(&Instance::new("one", "x").with_weight(4))).await.expect("connected");
    let mut changes = provider.changes();
    soon(async { while changes.next().await.expect("it lives")[0].weight != 4 {} }).await;
    assert_eq!(picks(&provider, 10), counts(&[("one", 8), ("two", 2)]));
    zk.disconnect(&a, Duration::from_secs(60));
    knows(&provider, &["two"]).await;
    assert_eq!(picks(&provider, 3), counts(&[("two", 3)]));
    knows(&provider, &["one", "two"]).await;

    c.close().await.expect("connected");
    soon(async { while changes.next().await.is_some() {} }).await;
    assert!(!provider.is_certain() && provider.pick().is_some(), "what it knew stays");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_cut_off_keeps_what_it_knew_and_says_so() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let first = registered(&a, &Instance::new("one", "x")).await;
    let provider = provider(&b).await;
    for away_s in [2, 60] {
        zk.disconnect(&b, Duration::from_secs(away_s));
        sleep(Duration::from_secs(1)).await;
        assert!(!provider.is_certain());
        assert_eq!(provider.pick().expect("known before").id, "one");
        let two = registered(&a, &Instance::new("two", "y")).await;
        assert_eq!(ids(&provider.instances()), ["one"]);
        knows(&provider, &["one", "two"]).await;
        assert!(provider.is_certain());
        soon(two.withdraw()).await.expect("connected");
        knows(&provider, &["one"]).await;
    }
    soon(first.withdraw()).await.expect("connected");
    knows(&provider, &[]).await;
    assert!(provider.pick().is_none());
}

#[tokio::test(start_paused = true)]
async fn each_provider_picks_in_its_way() {
    for pick in [Pick::RoundRobin, Pick::Random, Pick::Sticky] {
        let zk = Coordinator::with_seed(7);
        let (a, b) = (zk.client().await, zk.client().await);
        let one = registered(&a, &Instance::new("one", "x").with_weight(3)).await;
        let _two = registered(&a, &Instance::new("two", "y")).await;
        let _drained = registered(&a, &Instance::new("drained", "z").with_weight(0)).await;
        let opened = discovery(&b).provider("web").pick(pick).open();
        let provider = soon(opened).await.expect("can be read");
        assert_eq!(ids(&provider.instances()), ["drained", "one", "two"]);
        let picked = picks(&provider, 400);
        assert_eq!(picked.get("drained"), None);
        let ones = picked.get("one").copied().unwrap_or_default();
        match pick {
            Pick::RoundRobin => assert_eq!(ones, 300),
            Pick::Random => assert!((260..340).contains(&ones) && ones != 300, "{ones}"),
            _ => assert_eq!(picked.len(), 1),
        }
        if pick == Pick::Sticky {
            let (stuck_to, other) = if ones > 0 { ("one", "two") } else { ("two", "one") };
            let failing = provider.pick().expect("it is there");
            assert_eq!(failing.id, stuck_to);
            provider.failed(&failing);
            assert_eq!(picks(&provider, 5), counts(&[(stuck_to, 5)]), "once is not enough");
            provider.failed(&failing);
            assert_eq!(picks(&provider, 5), counts(&[(other, 5)]));
            sleep(Duration::from_secs(31)).await;
            assert_eq!(picks(&provider, 5), counts(&[(other, 5)]), "no reason to change");
        }
        drop(one);
        knows(&provider, &["drained", "two"]).await;
        assert_eq!(picks(&provider, 5), counts(&[("two", 5)]));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_is_passed_over_by_that_provider_for_as_long_as_it_was_told() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let one = registered(&client, &Instance::new("one", "x")).await;
    let _two = registered(&client, &Instance::new("two", "y")).await;
    let second = Duration::from_secs(1);
    let policy = DownPolicy { failures: 1, within: second, down_for: 5 * second };
    let strict = discovery(&client).provider("web").down(policy).open();
    let (strict, other) = (soon(strict).await.expect("can be read"), provider(&client).await);
    let failing = Arc::clone(&strict.instances()[0]);
    strict.failed(&failing);
    assert_eq!(picks(&strict, 4), counts(&[("two", 4)]));
    assert_eq!(picks(&other, 4), counts(&[("one", 2), ("two", 2)]));
    sleep(6 * second).await;
    assert!(picks(&strict, 4).contains_key("one"));
    // Who has gone is forgotten: when it comes again it begins anew.
    strict.failed(&failing);
    soon(one.withdraw()).await.expect("connected");
    knows(&strict, &["two"]).await;
    strict.failed(&failing);
    let _one = registered(&client, &failing).await;
    knows(&strict, &["one", "two"]).await;
    assert!(picks(&strict, 4).contains_key("one"));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_instance_hides_nobody() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let group = Group::new(&client, WEB).expect("valid");
    let mut others = Vec::new();
    for (name, data) in [("a", ""), ("b", "10.0.0.7:80"), ("c", r#"{"weight":1}"#), ("d", "\u{FF}")]
    {
        others.push(group.join(name, data).await.expect("joins"));
    }
    let more = r#"{"address":"x","port":1,"metadata":{}}"#;
    others.push(group.join("newer", more).await.expect("joins"));
    let _one = registered(&client, &Instance::new("one", "y")).await;
    assert_eq!(web(&client).await, [Instance::new("newer", "x"), Instance::new("one", "y")]);
    assert_eq!(ids(&provider(&client).await.instances()), ["newer", "one"]);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_dropped_or_never_opened_leaves_no_watch_whatever_await_it_was_at() {
    for n in 1.. {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let _one = registered(&a, &Instance::new("one", "x")).await;
        sleep(Duration::from_secs(1)).await;
        let own = zk.watch_count();
        let opened = cancel_at(n, discovery(&b).provider("web").open()).await;
        let finished = opened.is_some();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(zk.watch_count(), own + if finished { 2 } else { 0 });
        drop(opened);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(zk.watch_count(), own);
        if finished {
            assert!(n > 1, "cancelled at {n} awaits only");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_is_dropped_leaves_nothing_whenever_that_is() {
    for after_ms in 0..16 {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let registration =
            discovery(&a).register("web", &Instance::new("one", "x")).expect("valid");
        sleep(Duration::from_millis(after_ms)).await;
        drop(registration);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(web(&b).await, [], "{after_ms} ms");
        assert_eq!((a.session().cleanups_reserved(), zk.watch_count()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn names_that_are_no_part_of_a_path_and_another_id_are_refused() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let invalid =
        |error: Error| matches!(error, Error::Client(synod::model::Error::Invalid { .. }));
    let one = Instance::new("one", "x");
    for service in ["", "a/b"] {
        assert!(invalid(discovery(&client).register(service, &one).expect_err("no name")));
        assert!(invalid(discovery(&client).instances(service).await.expect_err("no name")));
        assert!(invalid(discovery(&client).provider(service).open().await.expect_err("no name")));
    }
    let unnamed = Instance::new("", "x");
    assert!(invalid(discovery(&client).register("web", &unnamed).expect_err("no id")));
    let registration = registered(&client, &one).await;
    assert!(invalid(registration.update(&Instance::new("two", "x")).await.expect_err("not it")));
    assert_eq!(web(&client).await, [one]);
}

#[tokio::test(start_paused = true)]
async fn instances_that_may_not_be_read_are_an_error_of_who_asks() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    a.add_auth("digest", b"ann:secret").await.expect("any digest is accepted");
    let _one = registered(&a, &Instance::new("one", "x")).await;
    let provider = provider(&b).await;
    a.set_acl(WEB, Acl::creator()).await.expect("open");
    let error = discovery(&b).provider("web").open().await.expect_err("no permission");
    assert!(matches!(&error, Error::Client(error) if error.code().is_some()), "{error}");
    // One that has been opened before keeps what it knew, and goes on when it may.
    assert_eq!(ids(&provider.instances()), ["one"]);
    let _two = registered(&a, &Instance::new("two", "y")).await;
    sleep(Duration::from_secs(10)).await;
    assert!(!provider.is_certain() && provider.pick().is_some());
    a.set_acl(WEB, Acl::open()).await.expect("its own");
    knows(&provider, &["one", "two"]).await;
}
