//! Which error wins when several rules do not hold.
//!
//! Each test begins with a request that breaks every rule that it can break at once, and mends
//! them one by one in the order of the specification.

use synod_core::model::limits::DATA_BYTES_MAX;
use synod_core::model::{Acl, Code, Create, CreateMode, Op, Perms, Response, Write};

use crate::bench::{
    ANN, BEN, Bench, EPHEMERAL, PERSISTENT, SEQUENTIAL, check_op, code, create, delete_op, set_op,
};

fn nothing() -> Vec<Acl> {
    vec![Acl::new(Perms(0), "world", "anyone")]
}

fn bad_acl() -> Vec<Acl> {
    vec![Acl::new(Perms::ALL, "nonsense", "x")]
}

fn create_code(bench: &mut Bench, path: &str, mode: CreateMode, acl: Vec<Acl>) -> Code {
    let create = Create { path: path.into(), data: None, acl, mode };
    code(bench.write(BEN, Write::Op(Op::Create(create))))
}

#[test]
fn create_judges_ttl_slash_acl_parent_permission_path_existence_ephemeral_parent() {
    let mut bench = Bench::with(&["/closed"]);
    bench.create(ANN, "/e", EPHEMERAL);
    bench.set_acl(ANN, "/closed", nothing());
    let bad_ttl = CreateMode::Ttl { ttl_ms: 0 };

    assert_eq!(create_code(&mut bench, "/none/\u{1}", bad_ttl, bad_acl()), Code::BadArguments);
    assert_eq!(create_code(&mut bench, "slashless", PERSISTENT, bad_acl()), Code::BadArguments);
    assert_eq!(create_code(&mut bench, "/none/\0", PERSISTENT, bad_acl()), Code::BadArguments);
    assert_eq!(create_code(&mut bench, "/none/\u{1}", PERSISTENT, bad_acl()), Code::InvalidAcl);
    let open = Acl::open;
    assert_eq!(create_code(&mut bench, "/none/\u{1}", PERSISTENT, open()), Code::NoNode);
    assert_eq!(create_code(&mut bench, "/closed/\u{1}", PERSISTENT, open()), Code::NoAuth);
    assert_eq!(create_code(&mut bench, "/e/\u{1}", PERSISTENT, open()), Code::BadArguments);
    assert_eq!(create_code(&mut bench, "/e", PERSISTENT, open()), Code::NodeExists);
    assert_eq!(create_code(&mut bench, "/e/x", PERSISTENT, open()), Code::NoChildrenForEphemerals);
    assert_eq!(create_code(&mut bench, "/e/x", SEQUENTIAL, open()), Code::NoChildrenForEphemerals);
}

#[test]
fn delete_judges_special_path_parent_permission_node_version_children() {
    let mut bench = Bench::with(&["/closed", "/closed/x", "/a", "/a/b"]);
    bench.set_acl(ANN, "/closed", nothing());
    bench.set_acl(ANN, "/a", Acl::open());
    let mut delete =
        |path: &str, version| code(bench.write(BEN, Write::Op(delete_op(path, version))));
    for special in ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "slashless", ""] {
        assert_eq!(delete(special, 9), Code::BadArguments, "{special:?}");
    }
    assert_eq!(delete("/none/x", 9), Code::NoNode);
    assert_eq!(delete("/closed/none", 9), Code::NoAuth, "the parent decides, not the znode");
    assert_eq!(delete("/closed/x", 9), Code::NoAuth);
    assert_eq!(delete("/none", 9), Code::NoNode);
    assert_eq!(delete("/a", 9), Code::BadVersion);
    assert_eq!(delete("/a", 0), Code::NotEmpty);
}

#[test]
fn set_data_judges_path_node_permission_version() {
    let mut bench = Bench::with(&["/closed", "/a"]);
    bench.set_acl(ANN, "/closed", nothing());
    let mut set =
        |path: &str, version| code(bench.write(BEN, Write::Op(set_op(path, "", version))));
    assert_eq!(set("/none/", 9), Code::BadArguments);
    assert_eq!(set("/none", 9), Code::NoNode);
    assert_eq!(set("/closed", 9), Code::NoAuth);
    assert_eq!(set("/a", 9), Code::BadVersion);
}

#[test]
fn set_acl_judges_path_acl_node_permission_version() {
    let mut bench = Bench::with(&["/closed", "/a"]);
    bench.set_acl(ANN, "/closed", nothing());
    let mut set = |path: &str, acl| {
        code(bench.write(BEN, Write::SetAcl { path: path.into(), acl, version: 9 }))
    };
    assert_eq!(set("/none/", bad_acl()), Code::BadArguments);
    assert_eq!(set("/none", bad_acl()), Code::InvalidAcl);
    assert_eq!(set("/none", Acl::open()), Code::NoNode);
    assert_eq!(set("/closed", Acl::open()), Code::NoAuth);
    assert_eq!(set("/a", Acl::open()), Code::BadVersion);
}

#[test]
fn check_judges_path_node_permission_version() {
    let mut bench = Bench::with(&["/closed", "/a"]);
    bench.set_acl(ANN, "/closed", nothing());
    let mut check = |path: &str| code(bench.write(BEN, Write::Multi(vec![check_op(path, 9)])));
    assert_eq!(check("/none/"), Code::BadArguments);
    assert_eq!(check("/none"), Code::NoNode);
    assert_eq!(check("/closed"), Code::NoAuth);
    assert_eq!(check("/a"), Code::BadVersion);
}

#[test]
fn data_that_is_too_long_is_judged_where_the_path_is() {
    let mut bench = Bench::with(&["/closed", "/a"]);
    bench.set_acl(ANN, "/closed", nothing());
    let long = || Some(vec![0; DATA_BYTES_MAX + 1].into());
    let create = |path: &str, data| {
        let (acl, mode) = (Acl::open(), PERSISTENT);
        Write::Op(Op::Create(Create { path: path.into(), data, acl, mode }))
    };
    assert_eq!(code(bench.write(BEN, create("/none/x", long()))), Code::NoNode);
    assert_eq!(code(bench.write(BEN, create("/closed/x", long()))), Code::NoAuth);
    assert_eq!(code(bench.write(BEN, create("/a", long()))), Code::BadArguments);
    let set = |path: &str, data| Write::Op(Op::SetData { path: path.into(), data, version: 9 });
    assert_eq!(code(bench.write(BEN, set("/none", long()))), Code::BadArguments);

    let longest = Some(vec![0; DATA_BYTES_MAX].into());
    bench.write(BEN, create("/longest", longest)).expect("as long as may be");
    assert_eq!(bench.stat("/longest").data_bytes as usize, DATA_BYTES_MAX);
}

#[test]
fn versions_are_those_of_the_data_and_minus_one_is_any() {
    let mut bench = Bench::with(&["/a"]);
    bench.set(ANN, "/a", "1");
    bench.set(ANN, "/a", "2");
    for wrong in [0, 1, 3, -2, i32::MIN, i32::MAX] {
        let set = bench.write(BEN, Write::Op(set_op("/a", "x", wrong)));
        assert_eq!(code(set), Code::BadVersion, "{wrong}");
        let delete = bench.write(BEN, Write::Op(delete_op("/a", wrong)));
        assert_eq!(code(delete), Code::BadVersion, "{wrong}");
    }
    bench.write(BEN, Write::Op(set_op("/a", "x", 2))).expect("it has version 2");
    bench.write(BEN, Write::Op(set_op("/a", "x", -1))).expect("any");
    assert_eq!(bench.write(BEN, Write::Op(delete_op("/a", 4))), Ok(Response::Done));
}

#[test]
fn the_version_of_the_acl_is_another_one() {
    let mut bench = Bench::with(&["/a"]);
    bench.set(ANN, "/a", "1");
    let mut set = |version| {
        let acl = Acl::open();
        bench.write(BEN, Write::SetAcl { path: "/a".into(), acl, version })
    };
    assert_eq!(code(set(1)), Code::BadVersion);
    set(0).expect("it has aversion 0");
    set(1).expect("it has aversion 1");
    set(-1).expect("any");
    bench.write(BEN, create("/a", PERSISTENT)).expect_err("it exists");
    assert_eq!(bench.stat("/a").aversion, 3);
}
