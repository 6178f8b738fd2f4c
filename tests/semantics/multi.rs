//! Transactions.

use synod_core::model::limits::{MULTI_BYTES_MAX, MULTI_OPS_MAX};
use synod_core::model::{
    Acl, Code, Create, CreateMode, Op, OpResult, Perms, Refusal, Response, Write,
};

use crate::bench::{
    ANN, BEN, Bench, EPHEMERAL, PERSISTENT, SEQUENTIAL, check_op, code, create_op, delete_op,
    set_op,
};

fn new(path: &str) -> Op {
    create_op(path, PERSISTENT, Acl::open())
}

/// The code and the place of the operation that failed.
fn failure(bench: &mut Bench, ops: Vec<Op>) -> (Code, Option<u32>) {
    match bench.write(BEN, Write::Multi(ops)) {
        Err(Refusal { code, index, rule }) => {
            assert!(!rule.is_empty());
            (code, index)
        }
        done => panic!("{done:?}"),
    }
}

#[test]
fn every_operation_answers_in_its_own_way() {
    let mut bench = Bench::with(&["/a", "/b"]);
    let ops = vec![
        check_op("/a", 0),
        create_op("/a/e", EPHEMERAL, Acl::open()),
        create_op("/a/s-", SEQUENTIAL, Acl::open()),
        set_op("/a", "x", 0),
        delete_op("/b", 0),
    ];
    let Ok(Response::Multi(results)) = bench.write(BEN, Write::Multi(ops)) else {
        panic!("the transaction should have been done");
    };
    let [
        OpResult::Checked,
        OpResult::Created { path: e, stat },
        OpResult::Created { path: s, .. },
        OpResult::Set(set),
        OpResult::Deleted,
    ] = results.as_slice()
    else {
        panic!("{results:?}");
    };
    assert_eq!((&**e, stat.ephemeral_owner), ("/a/e", Some(BEN)));
    assert_eq!((&**s, set.version), ("/a/s-0000000001", 1));
    assert!(!bench.is_there("/b"));
}

#[test]
fn an_empty_transaction_is_done() {
    let mut bench = Bench::new();
    assert_eq!(bench.write(BEN, Write::Multi(vec![])), Ok(Response::Multi(vec![])));
}

#[test]
fn all_is_done_or_nothing_and_the_first_failure_is_named() {
    let mut bench = Bench::with(&["/a", "/b"]);
    let before = [bench.stat("/"), bench.stat("/a"), bench.stat("/b")];
    let ops = vec![
        new("/a/x"),
        set_op("/a", "x", 0),
        delete_op("/b", -1),
        set_op("/a", "y", 0),
        delete_op("/none", -1),
    ];
    assert_eq!(failure(&mut bench, ops), (Code::BadVersion, Some(3)));
    assert_eq!([bench.stat("/"), bench.stat("/a"), bench.stat("/b")], before);
    assert!(!bench.is_there("/a/x"));
}

#[test]
fn later_operations_see_what_earlier_ones_did() {
    let mut bench = Bench::new();
    let ops = vec![
        new("/a"),
        new("/a/b"),
        set_op("/a/b", "x", 0),
        check_op("/a/b", 1),
        delete_op("/a/b", 1),
        delete_op("/a", 0),
        new("/a"),
    ];
    bench.write(BEN, Write::Multi(ops)).expect("done");
    assert_eq!((bench.stat("/a").version, bench.stat("/a").children), (0, 0));
    assert_eq!(
        failure(&mut bench, vec![delete_op("/a", -1), check_op("/a", -1)]),
        (Code::NoNode, Some(1))
    );
    assert_eq!(failure(&mut bench, vec![new("/b"), new("/b")]), (Code::NodeExists, Some(1)));
}

#[test]
fn sequence_suffixes_go_on_within_a_transaction_and_back_with_it() {
    let mut bench = Bench::new();
    let sequential = || create_op("/s-", SEQUENTIAL, Acl::open());
    let ops = vec![sequential(), sequential(), check_op("/none", -1)];
    assert_eq!(failure(&mut bench, ops), (Code::NoNode, Some(2)));
    bench.write(BEN, Write::Multi(vec![sequential(), sequential()])).expect("done");
    assert!(bench.is_there("/s-0000000000") && bench.is_there("/s-0000000001"));
    assert!(!bench.is_there("/s-0000000002"));
}

#[test]
fn a_failed_transaction_leaves_no_ephemeral_behind() {
    let mut bench = Bench::with(&["/a"]);
    bench.create(BEN, "/e", EPHEMERAL);
    let ops = vec![
        create_op("/a/e", EPHEMERAL, Acl::open()),
        delete_op("/e", -1),
        create_op("/e", PERSISTENT, Acl::open()),
        check_op("/none", -1),
    ];
    assert_eq!(failure(&mut bench, ops), (Code::NoNode, Some(3)));
    assert_eq!(bench.stat("/e").ephemeral_owner, Some(BEN));
    bench.write(BEN, Write::CloseSession).expect("closed");
    assert!(!bench.is_there("/e") && !bench.is_there("/a/e"));
}

#[test]
fn an_ephemeral_that_was_replaced_in_a_transaction_goes_with_its_new_owner() {
    let mut bench = Bench::new();
    bench.create(ANN, "/e", EPHEMERAL);
    let ops = vec![delete_op("/e", -1), create_op("/e", EPHEMERAL, Acl::open())];
    bench.write(BEN, Write::Multi(ops)).expect("done");
    bench.write(ANN, Write::CloseSession).expect("closed");
    assert!(bench.is_there("/e"));
    bench.write(BEN, Write::CloseSession).expect("closed");
    assert!(!bench.is_there("/e"));
}

#[test]
fn every_code_of_an_operation_can_fail_a_transaction() {
    let mut bench = Bench::with(&["/a", "/a/b", "/closed"]);
    bench.create(ANN, "/e", EPHEMERAL);
    bench.set_acl(ANN, "/closed", vec![Acl::new(Perms::ADMIN, "world", "anyone")]);
    let ttl = CreateMode::Ttl { ttl_ms: 0 };
    for (op, code) in [
        (create_op("/x", ttl, Acl::open()), Code::BadArguments),
        (create_op("/x", PERSISTENT, vec![]), Code::InvalidAcl),
        (new("/none/x"), Code::NoNode),
        (new("/closed/x"), Code::NoAuth),
        (new("/x/"), Code::NoNode),
        (new("/a"), Code::NodeExists),
        (new("/e/x"), Code::NoChildrenForEphemerals),
        (delete_op("/", -1), Code::BadArguments),
        (delete_op("/a", -1), Code::NotEmpty),
        (set_op("/closed", "x", -1), Code::NoAuth),
        (check_op("/closed", -1), Code::NoAuth),
        (check_op("/a", 5), Code::BadVersion),
    ] {
        let ops = vec![set_op("/a", "x", -1), op.clone()];
        assert_eq!(failure(&mut bench, ops), (code, Some(1)), "{op:?}");
    }
}

#[test]
fn a_transaction_has_at_most_65536_operations() {
    let mut bench = Bench::with(&["/a"]);
    let ops = |count| vec![check_op("/a", -1); count];
    assert_eq!(failure(&mut bench, ops(MULTI_OPS_MAX + 1)), (Code::BadArguments, None));
    bench.write(BEN, Write::Multi(ops(MULTI_OPS_MAX))).expect("as many as may be");
}

#[test]
fn a_transaction_has_a_bounded_size_whatever_its_operations_are() {
    let mut bench = Bench::with(&["/a"]);
    let half = || Some(vec![0; MULTI_BYTES_MAX / 2 + 1].into());
    let set = || Op::SetData { path: "/a".into(), data: half(), version: -1 };
    assert_eq!(failure(&mut bench, vec![set(), set()]), (Code::BadArguments, None));
    bench.write(BEN, Write::Multi(vec![set()])).expect("half of it fits");
    let create =
        Op::Create(Create { path: "/b".into(), data: half(), acl: Acl::open(), mode: PERSISTENT });
    assert_eq!(failure(&mut bench, vec![create, set()]), (Code::BadArguments, None));
    assert!(!bench.is_there("/b"));
}

#[test]
fn a_transaction_that_is_too_large_is_refused_before_its_first_operation_is_judged() {
    let mut bench = Bench::new();
    let ops = vec![check_op("/none", -1); MULTI_OPS_MAX + 1];
    assert_eq!(failure(&mut bench, ops), (Code::BadArguments, None));
    let session = bench.engine.session(BEN).expect("it lives");
    assert_eq!(session.sequence, 1, "it was a write like any other");
    assert_eq!(code(bench.write(BEN, Write::Op(delete_op("/none", -1)))), Code::NoNode);
}
