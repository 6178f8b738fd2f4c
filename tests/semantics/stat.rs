//! The eleven fields of a znode.

use bytes::Bytes;
use synod_core::model::{Acl, Create, CreateMode, Op, OpResult, Response, Stat, Write};

use crate::bench::{
    ANN, BEN, Bench, EPHEMERAL, PERSISTENT, SEQUENTIAL, code, create, create_op, delete, get, set,
    set_op,
};

#[test]
fn a_new_znode_has_the_zxid_and_the_time_of_its_creation_everywhere() {
    let mut bench = Bench::new();
    bench.clock_ms = 5_000;
    let (_, stat) = bench.create(ANN, "/a", PERSISTENT);
    let zxid = bench.engine.last_zxid();
    let expected = Stat {
        czxid: zxid,
        mzxid: zxid,
        pzxid: zxid,
        ctime_ms: 5_000,
        mtime_ms: 5_000,
        version: 0,
        cversion: 0,
        aversion: 0,
        ephemeral_owner: None,
        data_bytes: 4,
        children: 0,
    };
    assert_eq!(stat, expected);
    assert_eq!(bench.stat("/a"), expected, "a read shows the same");
}

#[test]
fn creating_a_child_changes_the_parents_children_cversion_and_pzxid_only() {
    let mut bench = Bench::with(&["/a"]);
    let before = bench.stat("/a");
    bench.clock_ms += 100;
    bench.create(ANN, "/a/b", PERSISTENT);
    let pzxid = bench.engine.last_zxid();
    assert_eq!(bench.stat("/a"), Stat { children: 1, cversion: 1, pzxid, ..before });
}

#[test]
fn deleting_a_child_changes_the_parents_children_cversion_and_pzxid_only() {
    let mut bench = Bench::with(&["/a", "/a/b"]);
    let before = bench.stat("/a");
    bench.clock_ms += 100;
    bench.delete(ANN, "/a/b");
    let pzxid = bench.engine.last_zxid();
    assert_eq!(bench.stat("/a"), Stat { children: 0, cversion: 2, pzxid, ..before });
}

#[test]
fn a_grandchild_does_not_change_the_stat() {
    let mut bench = Bench::with(&["/a", "/a/b"]);
    let before = bench.stat("/a");
    bench.create(ANN, "/a/b/c", PERSISTENT);
    assert_eq!(bench.stat("/a"), before);
}

#[test]
fn setting_data_changes_mzxid_mtime_version_and_size_only() {
    let mut bench = Bench::with(&["/a", "/a/b"]);
    let before = bench.stat("/a");
    bench.clock_ms = 9_000;
    let after = bench.set(BEN, "/a", "longer than before");
    let mzxid = bench.engine.last_zxid();
    let expected = Stat { mzxid, mtime_ms: 9_000, version: 1, data_bytes: 18, ..before };
    assert_eq!(after, expected);
    assert_eq!(bench.stat("/a"), expected, "a read shows the same");
}

#[test]
fn setting_equal_data_is_a_change() {
    let mut bench = Bench::with(&["/a"]);
    assert_eq!(bench.set(ANN, "/a", "data").version, 1);
    assert_eq!(bench.set(ANN, "/a", "data").version, 2);
}

#[test]
fn setting_the_acl_changes_aversion_only() {
    let mut bench = Bench::with(&["/a", "/a/b"]);
    let before = bench.stat("/a");
    bench.clock_ms += 100;
    let after = bench.set_acl(BEN, "/a", Acl::open());
    assert_eq!(after, Stat { aversion: 1, ..before });
    assert_eq!(bench.stat("/a"), after, "a read shows the same");
}

#[test]
fn the_aversion_of_the_configuration_begins_at_minus_one() {
    let mut bench = Bench::new();
    assert_eq!(bench.stat("/zookeeper/config").aversion, -1);
    for path in ["/", "/zookeeper", "/zookeeper/quota"] {
        assert_eq!(bench.stat(path).aversion, 0, "{path}");
    }
}

#[test]
fn cversion_is_twice_the_creations_less_the_children() {
    let mut bench = Bench::with(&["/a", "/a/1", "/a/2", "/a/3"]);
    assert_eq!(bench.stat("/a").cversion, 3);
    bench.delete(ANN, "/a/1");
    bench.delete(ANN, "/a/2");
    assert_eq!((bench.stat("/a").cversion, bench.stat("/a").children), (2 * 3 - 1, 1));
    bench.create(ANN, "/a/1", PERSISTENT);
    assert_eq!((bench.stat("/a").cversion, bench.stat("/a").children), (2 * 4 - 2, 2));
}

#[test]
fn the_coordinators_own_znodes_are_not_counted_as_creations() {
    let mut bench = Bench::new();
    assert_eq!((bench.stat("/").cversion, bench.stat("/").children), (-1, 1));
    assert_eq!((bench.stat("/zookeeper").cversion, bench.stat("/zookeeper").children), (-2, 2));
    for path in ["/zookeeper/quota", "/zookeeper/config"] {
        assert_eq!(bench.stat(path).cversion, 0, "{path}");
    }
    bench.create(ANN, "/a", PERSISTENT);
    assert_eq!((bench.stat("/").cversion, bench.stat("/").children), (0, 2));
}

#[test]
fn a_sequence_suffix_has_ten_digits_and_counts_all_creations_in_the_parent() {
    let mut bench = Bench::with(&["/q"]);
    assert_eq!(bench.create(ANN, "/q/s-", SEQUENTIAL).0, "/q/s-0000000000");
    bench.create(ANN, "/q/plain", PERSISTENT);
    assert_eq!(bench.create(ANN, "/q/t-", SEQUENTIAL).0, "/q/t-0000000002");
    bench.delete(ANN, "/q/plain");
    let mode = CreateMode::EphemeralSequential;
    assert_eq!(bench.create(ANN, "/q/s-", mode).0, "/q/s-0000000003", "deletions do not count");
    let mode = CreateMode::TtlSequential { ttl_ms: 1 };
    assert_eq!(bench.create(ANN, "/q/", mode).0, "/q/0000000004");
}

#[test]
fn a_failed_creation_does_not_count_towards_the_suffix() {
    let mut bench = Bench::with(&["/q", "/q/a"]);
    bench.write(ANN, create("/q/a", PERSISTENT)).expect_err("it exists");
    bench.write(ANN, create("/q/a/", PERSISTENT)).expect_err("malformed");
    let ops = vec![create_op("/q/b", PERSISTENT, Acl::open()), set_op("/none", "", -1)];
    bench.write(ANN, Write::Multi(ops)).expect_err("no such znode");
    assert_eq!(bench.create(ANN, "/q/s-", SEQUENTIAL).0, "/q/s-0000000001");
}

#[test]
fn the_first_suffix_in_the_root_is_zero_though_it_has_a_child() {
    let mut bench = Bench::new();
    assert_eq!(bench.create(ANN, "/s-", SEQUENTIAL).0, "/s-0000000000");
    assert_eq!(bench.create(ANN, "/", SEQUENTIAL).0, "/0000000001", "the name may be empty");
}

#[test]
fn a_sequential_znode_may_have_only_a_suffix_for_a_name() {
    let mut bench = Bench::with(&["/q"]);
    assert_eq!(bench.create(ANN, "/q/", SEQUENTIAL).0, "/q/0000000000");
}

#[test]
fn an_ephemeral_shows_its_owner_and_no_other_znode_shows_one() {
    let mut bench = Bench::new();
    assert_eq!(bench.create(ANN, "/e", EPHEMERAL).1.ephemeral_owner, Some(ANN));
    let mode = CreateMode::EphemeralSequential;
    assert_eq!(bench.create(BEN, "/e-", mode).1.ephemeral_owner, Some(BEN));
    assert_eq!(bench.create(ANN, "/c", CreateMode::Container).1.ephemeral_owner, None);
    assert_eq!(bench.create(ANN, "/t", CreateMode::Ttl { ttl_ms: 9 }).1.ephemeral_owner, None);
    assert_eq!(bench.create(ANN, "/p", PERSISTENT).1.ephemeral_owner, None);
}

#[test]
fn null_data_is_not_empty_data() {
    let mut bench = Bench::new();
    for (path, data) in [("/null", None), ("/empty", Some(Bytes::new()))] {
        let (acl, mode) = (Acl::open(), PERSISTENT);
        let create = Create { path: path.into(), data: data.clone(), acl, mode };
        bench.write(ANN, Write::Op(Op::Create(create))).expect("created");
        let stat = bench.stat(path);
        assert_eq!(stat.data_bytes, 0);
        assert_eq!(bench.read(BEN, get(path, false)), Ok(Response::Data { data, stat }));
    }
}

#[test]
fn a_failed_write_leaves_every_stat_as_it_was() {
    let mut bench = Bench::with(&["/a", "/a/b"]);
    let before = [bench.stat("/"), bench.stat("/a"), bench.stat("/a/b")];
    for write in [
        create("/a", PERSISTENT),
        delete("/a"),
        delete("/a/none"),
        Write::Op(set_op("/a", "x", 7)),
        Write::SetAcl { path: "/a".into(), acl: Acl::open(), version: 7 },
        Write::Multi(vec![set_op("/a", "x", -1), set_op("/a/b", "x", 7)]),
    ] {
        code(bench.write(ANN, write));
    }
    assert_eq!([bench.stat("/"), bench.stat("/a"), bench.stat("/a/b")], before);
}

#[test]
fn a_znode_that_is_created_again_has_another_czxid() {
    let mut bench = Bench::new();
    let (_, first) = bench.create(ANN, "/a", PERSISTENT);
    bench.set(ANN, "/a", "x");
    bench.delete(ANN, "/a");
    let (_, second) = bench.create(ANN, "/a", PERSISTENT);
    assert!(second.czxid > first.czxid);
    assert_eq!(second.version, 0);
}

#[test]
fn all_of_a_transaction_has_one_zxid_and_each_stat_is_of_its_moment() {
    let mut bench = Bench::new();
    let ops = vec![
        create_op("/a", PERSISTENT, Acl::open()),
        create_op("/a/b", PERSISTENT, Acl::open()),
        set_op("/a", "x", 0),
    ];
    let Ok(Response::Multi(results)) = bench.write(ANN, Write::Multi(ops)) else {
        panic!("the transaction should have been done");
    };
    let zxid = bench.engine.last_zxid();
    let [
        OpResult::Created { stat: a, .. },
        OpResult::Created { stat: b, .. },
        OpResult::Set(a_set),
    ] = results.as_slice()
    else {
        panic!("{results:?}");
    };
    assert_eq!((a.czxid, a.mzxid, a.pzxid, a.children), (zxid, zxid, zxid, 0));
    assert_eq!((b.czxid, b.mzxid, b.pzxid), (zxid, zxid, zxid));
    assert_eq!((a_set.mzxid, a_set.pzxid, a_set.version, a_set.children), (zxid, zxid, 1, 1));
}

#[test]
fn the_end_of_a_session_shows_in_the_parents_of_its_ephemerals() {
    let mut bench = Bench::with(&["/a"]);
    bench.create(BEN, "/a/1", EPHEMERAL);
    bench.create(BEN, "/a/2", EPHEMERAL);
    bench.write(BEN, Write::CloseSession).expect("closed");
    let stat = bench.stat("/a");
    assert_eq!((stat.pzxid, stat.cversion), (bench.engine.last_zxid(), 2 * 2));
    assert_eq!(stat.children, 0);
}

#[test]
fn setting_data_to_another_size_shows_in_the_stat() {
    let mut bench = Bench::with(&["/a"]);
    let null = Op::SetData { path: "/a".into(), data: None, version: -1 };
    let Ok(Response::Stat(stat)) = bench.write(ANN, Write::Op(null)) else { panic!("set") };
    assert_eq!(stat.data_bytes, 0);
    bench.write(ANN, set("/a", "ü")).expect("set");
    assert_eq!(bench.stat("/a").data_bytes, 2, "bytes, not characters");
}
