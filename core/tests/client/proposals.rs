//! The seed's rule: a client names the zxid, and it is done at exactly that one or not at all.

use synod_core::client::Client;
use synod_core::model::limits::ZXID_STEP_MAX;
use synod_core::model::{Code, Error, Zxid};
use synod_core::testing::Coordinator;

use crate::common::{embedded, two_clients};

fn stale(error: &Error) -> (Zxid, Zxid) {
    assert!(error.is(Code::StaleZxid), "{error}");
    assert!(!error.maybe_applied() && !error.retryable());
    let Error::StaleZxid { proposed, last } = error else { panic!("{error}") };
    (*proposed, *last)
}

fn after(zxid: Zxid, steps: u32) -> Zxid {
    Zxid::new(zxid.epoch(), zxid.counter() + steps)
}

#[tokio::test(start_paused = true)]
async fn of_two_that_name_the_same_zxid_one_is_done_and_one_is_refused_with_the_last() {
    let (zk, a, b) = two_clients().await;
    a.create("/x", b"").await.expect("creates");
    for round in 0..20 {
        let zxid = after(zk.last_zxid(), 1 + round);
        let (from_a, from_b) = tokio::join!(
            a.propose_at(zxid).set("/x", b"a").into_future(),
            b.propose_at(zxid).set("/x", b"b").into_future(),
        );
        let (done, refused, data) = match (from_a, from_b) {
            (Ok(done), Err(refused)) => (done, refused, b"a"),
            (Err(refused), Ok(done)) => (done, refused, b"b"),
            both => panic!("one and one, not {both:?}"),
        };
        assert_eq!(done.expect("a Stat").mzxid, zxid);
        assert_eq!(stale(&refused), (zxid, zxid));
        assert_eq!(zk.last_zxid(), zxid);
        assert_eq!(a.get("/x").await.expect("is there").0, data.as_slice());
    }
}

#[tokio::test]
async fn every_operation_is_done_at_exactly_the_zxid() {
    let client = embedded().await;
    let last = client.sync().await.expect("answers");
    let made = client.propose_at(after(last, 10)).create("/x", b"1").await.expect("is done");
    assert_eq!(made.expect("a Stat").czxid, after(last, 10));
    let set = client.propose_at(after(last, 11)).set("/x", b"2").await.expect("is done");
    assert_eq!(set.expect("a Stat").mzxid, after(last, 11));
    assert_eq!(client.propose_at(after(last, 20)).delete("/x").await.expect("is done"), None);
    assert_eq!(client.sync().await.expect("answers"), after(last, 20));
    let stat = client.create("/y", b"").with_stat().await.expect("creates").1;
    assert_eq!(stat.czxid, after(last, 21), "ordinary writes go on from there");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_above_the_last_in_its_epoch_and_near_is_refused_and_takes_no_zxid() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    client.create("/x", b"").await.expect("creates");
    let last = zk.last_zxid();
    for wrong in [
        Zxid::ZERO,
        Zxid::from_i64(-1),
        Zxid::from_i64(i64::MIN),
        Zxid::from_i64(i64::MAX),
        Zxid::new(last.epoch(), last.counter() - 1),
        last,
        after(last, ZXID_STEP_MAX + 1),
        Zxid::new(last.epoch() + 1, 1),
        Zxid::new(last.epoch() - 1, u32::MAX),
    ] {
        let before = zk.last_zxid();
        let error = client.propose_at(wrong).set("/x", b"1").await.expect_err("is refused");
        assert_eq!(stale(&error), (wrong, last));
        assert!(error.to_string().contains(&wrong.to_string()), "{error}");
        assert!(error.to_string().contains(&last.to_string()), "{error}");
        assert_eq!(zk.last_zxid(), before);
    }
    assert_eq!(client.get("/x").await.expect("is there").1.version, 0);
    let far = after(last, ZXID_STEP_MAX);
    client.propose_at(far).set("/x", b"1").await.expect("is just near enough");
    assert_eq!(zk.last_zxid(), far);
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_fails_takes_the_zxid_that_was_named() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let zxid = after(zk.last_zxid(), 5);
    let error = client.propose_at(zxid).set("/none", b"").await.expect_err("is not there");
    assert!(error.is(Code::NoNode) && error.to_string().contains("/none"), "{error}");
    assert_eq!(zk.last_zxid(), zxid);
}

#[tokio::test]
async fn proposals_respect_the_namespace_and_the_rules_of_arguments() {
    let client: Client = embedded().await;
    client.create("/app", b"").await.expect("creates");
    let app = client.namespace("/app").expect("valid");
    let last = client.sync().await.expect("answers");
    app.propose_at(after(last, 1)).create("/x", b"").await.expect("is done");
    assert!(client.exists("/app/x").await.expect("answers").is_some());
    let invalid = app.propose_at(after(last, 2)).set("x", b"").await.expect_err("no slash");
    assert!(matches!(invalid, Error::Invalid { .. }), "{invalid}");
    assert_eq!(client.sync().await.expect("answers"), after(last, 1));
}
