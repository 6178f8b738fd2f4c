//! Which paths there can be, and who looks at them.

use synod_core::model::limits::PATH_BYTES_MAX;
use synod_core::model::{Acl, Code, Read, ReadOp, Response, WatchKind, Write};

use crate::bench::{
    ANN, BEN, Bench, PERSISTENT, SEQUENTIAL, check_op, children, code, create, delete, exists, get,
    get_acl, set, set_acl,
};

/// Paths that no znode can have, with parents that are there.
const MALFORMED: [&str; 20] = [
    "",
    "a",
    "/a/",
    "//",
    "/.",
    "/..",
    "/a/.",
    "/a/..",
    "/\0",
    "/\u{1}",
    "/a/\u{1F}",
    "/\u{7F}",
    "/\u{9F}",
    "/\u{E000}",
    "/\u{F8FF}",
    "/\u{FFF0}",
    "/\u{FFFF}",
    "/\u{10000}",
    "/\u{1F980}",
    "/\u{10FFFF}",
];

#[test]
fn a_malformed_path_is_refused_by_create_set_data_set_acl_and_check() {
    let mut bench = Bench::with(&["/a"]);
    for path in MALFORMED {
        for write in [
            create(path, PERSISTENT),
            set(path, "x"),
            set_acl(path, Acl::open()),
            Write::Multi(vec![check_op(path, -1)]),
        ] {
            assert_eq!(code(bench.write(ANN, write)), Code::BadArguments, "{path:?}");
        }
    }
    assert_eq!(bench.stat("/").children, 2);
}

#[test]
fn under_a_malformed_parent_there_is_no_such_parent() {
    let mut bench = Bench::with(&["/a"]);
    for path in ["/a//b", "/a/./b", "/a/../b", "a/b", "/\u{1}/b"] {
        assert_eq!(code(bench.write(ANN, create(path, PERSISTENT))), Code::NoNode, "{path:?}");
        assert_eq!(code(bench.write(ANN, set(path, "x"))), Code::BadArguments, "{path:?}");
    }
}

#[test]
fn for_reads_and_delete_a_malformed_path_is_no_znode() {
    let mut bench = Bench::with(&["/a"]);
    for path in MALFORMED {
        for read in [
            exists(path, false),
            get(path, true),
            children(path, true),
            get_acl(path),
            Read::DescendantCount { path: path.into() },
        ] {
            assert_eq!(code(bench.read(BEN, read)), Code::NoNode, "{path:?}");
        }
        let reads =
            vec![ReadOp::GetData { path: path.into() }, ReadOp::Children { path: path.into() }];
        let answers = vec![Err(Code::NoNode), Err(Code::NoNode)];
        assert_eq!(bench.read(BEN, Read::Multi(reads)), Ok(Response::MultiRead(answers)));
        if path.starts_with('/') && !path.contains('\0') {
            assert_eq!(code(bench.write(ANN, delete(path))), Code::NoNode, "{path:?}");
        }
    }
}

#[test]
fn characters_up_to_the_borders_are_valid() {
    let mut bench = Bench::new();
    for path in ["/ ", "/~", "/\u{A0}", "/\u{D7FF}", "/\u{F900}", "/\u{FFEF}", "/...", "/.a", "/a."]
    {
        assert_eq!(bench.create(ANN, path, PERSISTENT).0, path);
        assert!(bench.is_there(path), "{path:?}");
    }
}

#[test]
fn a_sequential_path_is_judged_with_its_suffix() {
    let mut bench = Bench::with(&["/a"]);
    assert_eq!(bench.create(ANN, "/a/", SEQUENTIAL).0, "/a/0000000000");
    assert_eq!(bench.create(ANN, "/a/.", SEQUENTIAL).0, "/a/.0000000001");
    assert_eq!(bench.create(ANN, "/a/..", SEQUENTIAL).0, "/a/..0000000002");
    assert_eq!(code(bench.write(ANN, create("/a/\u{1}", SEQUENTIAL))), Code::BadArguments);
    assert_eq!(code(bench.write(ANN, create("", SEQUENTIAL))), Code::BadArguments);
}

#[test]
fn a_path_has_at_most_65535_bytes() {
    let mut bench = Bench::new();
    let longest = format!("/{}", "a".repeat(PATH_BYTES_MAX - 1));
    bench.create(ANN, &longest, PERSISTENT);
    assert_eq!(
        code(bench.write(ANN, create(&format!("{longest}a"), PERSISTENT))),
        Code::BadArguments
    );
    let almost = format!("/b{}", "a".repeat(PATH_BYTES_MAX - 10));
    assert_eq!(code(bench.write(ANN, create(&almost, SEQUENTIAL))), Code::BadArguments);
}

#[test]
fn the_root_exists_and_can_be_read_and_set() {
    let mut bench = Bench::new();
    assert_eq!(code(bench.write(ANN, create("/", PERSISTENT))), Code::NodeExists);
    assert_eq!(bench.set(ANN, "/", "x").version, 1);
    let Ok(Response::Children { names, .. }) = bench.read(ANN, children("/", false)) else {
        panic!("the root has children");
    };
    assert_eq!(names, ["zookeeper"]);
}

#[test]
fn the_coordinators_own_znodes_exist() {
    let mut bench = Bench::new();
    for path in ["/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
        assert!(bench.is_there(path), "{path}");
        assert_eq!(code(bench.write(ANN, create(path, PERSISTENT))), Code::NodeExists, "{path}");
    }
}

#[test]
fn a_watch_may_be_left_at_a_path_that_no_znode_can_have() {
    let mut bench = Bench::with(&["/a"]);
    bench.watch_exists(BEN, "/a/");
    assert!(bench.has_watch(BEN, "/a/", WatchKind::Data));
    bench.create(ANN, "/a/b", PERSISTENT);
    bench.delete(ANN, "/a/b");
    assert_eq!(bench.events(), []);
}
