//! Several operations at one zxid, all of them or none.

use synod_core::model::{Acl, Code, CreateMode, Error, OpResult, ReadOpResult};
use synod_core::testing::Coordinator;

use crate::common::embedded;

#[tokio::test]
async fn all_is_done_at_one_zxid_and_answered_in_order() {
    let client = embedded().await;
    client.create("/gone", b"").await.expect("creates");
    let results = client
        .txn()
        .create("/a", b"1")
        .create_as("/a/s-", b"", CreateMode::EphemeralSequential, Acl::open())
        .set("/a", b"2")
        .set_at("/a", b"3", 1)
        .check("/a", 2)
        .delete("/gone")
        .commit()
        .await
        .expect("commits");
    let [made, child, OpResult::Set(first), OpResult::Set(second), checked, deleted] = &results[..]
    else {
        panic!("{results:?}")
    };
    let OpResult::Created { path, stat } = made else { panic!("{made:?}") };
    let OpResult::Created { path: child_path, stat: child_stat } = child else {
        panic!("{child:?}")
    };
    assert_eq!((&**path, &**child_path), ("/a", "/a/s-0000000000"));
    assert_eq!(child_stat.ephemeral_owner, Some(client.session().id()));
    assert_eq!((first.version, second.version), (1, 2));
    assert_eq!((checked, deleted), (&OpResult::Checked, &OpResult::Deleted));
    let (data, now) = client.get("/a").await.expect("is there");
    assert_eq!(data, b"3".as_slice());
    assert!([stat.czxid, child_stat.czxid, second.mzxid].iter().all(|zxid| *zxid == now.mzxid));
    assert_eq!(client.exists("/gone").await.expect("answers"), None);
}

#[tokio::test(start_paused = true)]
async fn at_the_first_failure_nothing_is_done_and_its_place_is_told() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    client.create("/a", b"").await.expect("creates");
    client.create("/full", b"").await.expect("creates");
    client.create("/full/child", b"").await.expect("creates");
    let cases = [
        (client.txn().check("/none", -1), 0, Code::NoNode, "/none"),
        (client.txn().set("/a", b"1").check("/a", 0), 1, Code::BadVersion, "/a"),
        (client.txn().create("/b", b"").create("/b", b""), 1, Code::NodeExists, "/b"),
        (client.txn().delete("/a").set("/a", b""), 1, Code::NoNode, "/a"),
        (client.txn().create("/b", b"").delete("/full"), 1, Code::NotEmpty, "/full"),
        (client.txn().set("/a", b"").set_at("/a", b"", 7), 1, Code::BadVersion, "/a"),
        (client.txn().set("/a", b"").delete_at("/a", 7).set("/a", b""), 1, Code::BadVersion, "/a"),
    ];
    for (place, (txn, index, code, path)) in cases.into_iter().enumerate() {
        let before = client.multi_read().get("/a").get("/").get("/full").await;
        let before = format!("{:?}", before.expect("answers"));
        let error = txn.commit().await.expect_err("is refused");
        let Error::Refused { index: told, code: why, path: which, .. } = &error else {
            panic!("case {place}: {error}")
        };
        assert_eq!((*told, *why, &**which), (Some(index), code, path), "case {place}: {error}");
        assert!(error.to_string().contains(&format!("operation {index}")), "{error}");
        let after = client.multi_read().get("/a").get("/").get("/full").await;
        assert_eq!(format!("{:?}", after.expect("answers")), before, "case {place}");
    }
}

#[tokio::test]
async fn an_empty_transaction_is_done() {
    let client = embedded().await;
    assert_eq!(client.txn().commit().await.expect("commits"), []);
    assert!(client.multi_read().await.expect("answers").is_empty());
}

#[tokio::test]
async fn a_multi_read_answers_each_question_for_itself() {
    let client = embedded().await;
    client.create("/a", b"1").await.expect("creates");
    client.create("/a/b", b"").await.expect("creates");
    let answers = client.multi_read().get("/a").get("/none").children("/a").children("/none").await;
    let answers = answers.expect("answers");
    let [Ok(ReadOpResult::Data { data, stat }), Err(first), Ok(children), Err(second)] =
        &answers[..]
    else {
        panic!("{answers:?}")
    };
    assert_eq!((data.as_deref(), stat.children), (Some(b"1".as_slice()), 1));
    assert_eq!(*children, ReadOpResult::Children(vec!["b".to_owned()]));
    for error in [first, second] {
        assert!(error.is(Code::NoNode) && error.to_string().contains("/none"), "{error}");
    }
}
