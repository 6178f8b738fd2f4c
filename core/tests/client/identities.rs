//! Who a client is, and what it may do.

use synod_core::client::Client;
use synod_core::model::{Acl, Code, EventKind, Perms};
use synod_core::testing::Coordinator;

use crate::common::{SHORT, embedded, event, told};

async fn users(client: &Client) -> Vec<String> {
    let identities = client.who_am_i().await.expect("answers");
    identities.iter().filter(|one| one.scheme == "digest").map(|one| one.id.clone()).collect()
}

#[tokio::test]
async fn an_acl_admits_who_has_proved_to_be_named_in_it() {
    let name = "embedded:identities-acl";
    let ann = Client::builder().servers(name).auth_digest("ann", "pw").connect().await;
    let ann = ann.expect("connects");
    let bob = Client::connect(name).await.expect("connects");
    ann.create("/mine", b"1").acl(Acl::creator()).await.expect("creates");
    for refused in [
        bob.get("/mine").await.err(),
        bob.set("/mine", b"").await.err(),
        bob.create("/mine/x", b"").await.err(),
        bob.set_acl("/mine", Acl::open()).await.err(),
        bob.exists("/mine").await.err(),
        bob.get("/mine").watched().await.err(),
    ] {
        let error = refused.expect("is refused");
        assert!(error.is(Code::NoAuth) && !error.retryable(), "{error}");
    }
    let wrong = bob.add_auth("digest", "ann:wrong").await;
    wrong.expect("a digest is accepted whoever it is");
    assert!(bob.get("/mine").await.expect_err("wrong password").is(Code::NoAuth));
    bob.add_auth("digest", "ann:pw").await.expect("is accepted");
    assert_eq!(bob.get("/mine").await.expect("is let in").0, b"1".as_slice());
    assert_eq!(users(&bob).await.len(), 2);

    let list = vec![Acl::digest(Perms::READ, "bob", "b"), Acl::digest(Perms::ALL, "ann", "pw")];
    let stat = ann.set_acl("/mine", list.clone()).version(0).await.expect("sets");
    assert_eq!((stat.aversion, stat.version), (1, 0));
    assert_eq!(ann.get_acl("/mine").await.expect("answers").0, list);
    let stale = ann.set_acl("/mine", Acl::open()).version(0).await.expect_err("is at 1");
    assert!(stale.is(Code::BadVersion) && stale.to_string().contains("version 0"), "{stale}");
}

#[tokio::test]
async fn what_the_coordinator_does_not_accept_is_refused_and_changes_nothing() {
    let client = embedded().await;
    for (scheme, credentials) in [("kerberos", "x"), ("digest", "no colon"), ("", "a:b")] {
        let error = client.add_auth(scheme, credentials).await.expect_err("is refused");
        assert!(error.is(Code::AuthFailed), "{error}");
    }
    assert!(users(&client).await.is_empty());
    let creator = client.create("/x", b"").acl(Acl::creator()).await;
    assert!(creator.expect_err("has proved nothing").is(Code::InvalidAcl));
    let odd = vec![Acl::new(Perms::ALL, "martian", "x")];
    assert!(client.create("/x", b"").acl(odd).await.expect_err("unknown").is(Code::InvalidAcl));
    assert_eq!(client.exists("/x").await.expect("answers"), None);
}

#[tokio::test(start_paused = true)]
async fn identities_are_proved_again_after_a_reconnect_and_in_the_next_session() {
    let zk = Coordinator::start();
    let a = zk.builder().auth_digest("ann", "pw").connect().await.expect("connects");
    a.add_auth("digest", "amy:pw").await.expect("is accepted");
    a.create("/mine", b"").acl(Acl::creator()).await.expect("creates");
    let before = users(&a).await;
    assert_eq!(before.len(), 2);
    zk.disconnect(&a, SHORT);
    a.session().disconnected().await;
    a.get("/mine").await.expect("the first request after it is let in already");
    assert_eq!(users(&a).await, before);
    zk.expire(&a).await;
    a.get("/mine").await.expect("so it is in the next session");
    assert_eq!(users(&a).await, before);
}

#[tokio::test(start_paused = true)]
async fn events_are_told_to_those_who_may_read() {
    let zk = Coordinator::start();
    let ann = zk.builder().auth_digest("ann", "pw").connect().await.expect("connects");
    let bob = zk.client().await;
    let mut hers = ann.watch("/").recursive().await.expect("watches");
    let mut his = bob.watch("/").recursive().await.expect("watches");
    ann.create("/secret", b"").acl(Acl::creator()).await.expect("creates");
    ann.create("/public", b"").await.expect("creates");
    assert_eq!(told(&event(&mut hers).await), (EventKind::Created, "/secret"));
    assert_eq!(told(&event(&mut hers).await), (EventKind::Created, "/public"));
    assert_eq!(told(&event(&mut his).await), (EventKind::Created, "/public"));
    // It counts from then on for the watches that are there as well, and over reconnects.
    bob.add_auth("digest", "ann:pw").await.expect("is accepted");
    ann.set("/secret", b"1").await.expect("sets");
    assert_eq!(told(&event(&mut his).await), (EventKind::DataChanged, "/secret"));
    zk.disconnect(&bob, SHORT);
    bob.session().disconnected().await;
    bob.sync().await.expect("comes back");
    ann.set("/secret", b"2").await.expect("sets");
    his.next().await.expect("lagged");
    assert_eq!(told(&event(&mut his).await), (EventKind::DataChanged, "/secret"));
}
