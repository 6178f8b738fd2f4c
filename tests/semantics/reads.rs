//! Reads.

use bytes::Bytes;
use synod_core::model::{Acl, Code, Identity, Perms, Read, ReadOp, ReadOpResult, Response};

use crate::bench::{ANN, BEN, Bench, EPHEMERAL, PERSISTENT, children, code, exists, get, get_acl};

fn names(bench: &mut Bench, path: &str) -> Vec<String> {
    match bench.read(BEN, children(path, false)) {
        Ok(Response::Children { mut names, .. }) => {
            names.sort();
            names
        }
        other => panic!("{other:?}"),
    }
}

fn count(bench: &mut Bench, path: &str) -> u32 {
    match bench.read(BEN, Read::DescendantCount { path: path.into() }) {
        Ok(Response::DescendantCount(count)) => count,
        other => panic!("{other:?}"),
    }
}

fn ephemerals(bench: &mut Bench, prefix: Option<&str>) -> Vec<String> {
    match bench.read(BEN, Read::Ephemerals { prefix: prefix.map(Into::into) }) {
        Ok(Response::Ephemerals(paths)) => paths.iter().map(|path| path.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_read_shows_the_stat_of_the_same_moment() {
    let mut bench = Bench::with(&["/a", "/a/b"]);
    bench.set(ANN, "/a", "text");
    let stat = bench.stat("/a");
    assert_eq!(bench.read(BEN, exists("/a", false)), Ok(Response::Stat(stat)));
    let data = Some(Bytes::from_static(b"text"));
    assert_eq!(bench.read(BEN, get("/a", false)), Ok(Response::Data { data, stat }));
    let names = vec!["b".to_owned()];
    assert_eq!(bench.read(BEN, children("/a", false)), Ok(Response::Children { names, stat }));
    let acl = Acl::open();
    assert_eq!(bench.read(BEN, get_acl("/a")), Ok(Response::Acl { acl, stat }));
}

#[test]
fn children_are_names_of_the_next_level_only() {
    let mut bench = Bench::with(&["/a", "/a/b", "/a/c", "/a/b/d", "/ab"]);
    assert_eq!(names(&mut bench, "/a"), ["b", "c"]);
    assert_eq!(names(&mut bench, "/a/b"), ["d"]);
    assert_eq!(names(&mut bench, "/a/c"), Vec::<String>::new());
    assert_eq!(names(&mut bench, "/"), ["a", "ab", "zookeeper"]);
    bench.delete(ANN, "/a/c");
    assert_eq!(names(&mut bench, "/a"), ["b"]);
}

#[test]
fn descendants_are_counted_at_every_depth() {
    let mut bench = Bench::with(&["/a", "/a/b", "/a/c", "/a/b/d", "/ab"]);
    assert_eq!(count(&mut bench, "/a"), 3);
    assert_eq!(count(&mut bench, "/a/b"), 1);
    assert_eq!(count(&mut bench, "/ab"), 0);
    assert_eq!(count(&mut bench, "/"), 5 + 3, "the coordinator's own three too");
    assert_eq!(code(bench.read(BEN, Read::DescendantCount { path: "/x".into() })), Code::NoNode);
}

#[test]
fn a_multi_read_answers_each_read_for_itself() {
    let mut bench = Bench::with(&["/a", "/a/b"]);
    bench.create_for(ANN, "/closed", PERSISTENT, vec![Acl::new(Perms::WRITE, "world", "anyone")]);
    let reads = vec![
        ReadOp::GetData { path: "/none".into() },
        ReadOp::Children { path: "/a".into() },
        ReadOp::GetData { path: "/closed".into() },
        ReadOp::Children { path: "/closed".into() },
        ReadOp::GetData { path: "/a".into() },
    ];
    let data = Some(Bytes::from_static(b"data"));
    let answers = vec![
        Err(Code::NoNode),
        Ok(ReadOpResult::Children(vec!["b".to_owned()])),
        Err(Code::NoAuth),
        Err(Code::NoAuth),
        Ok(ReadOpResult::Data { data, stat: bench.stat("/a") }),
    ];
    assert_eq!(bench.read(BEN, Read::Multi(reads)), Ok(Response::MultiRead(answers)));
    assert_eq!(bench.read(BEN, Read::Multi(vec![])), Ok(Response::MultiRead(vec![])));
}

#[test]
fn ephemerals_are_the_readers_own_sorted_and_begin_with_the_prefix() {
    let mut bench = Bench::with(&["/a", "/b"]);
    for path in ["/b/x", "/a/y", "/a/x", "/ab"] {
        bench.create(BEN, path, EPHEMERAL);
    }
    bench.create(ANN, "/a/ann", EPHEMERAL);
    let all = ["/a/x", "/a/y", "/ab", "/b/x"];
    for prefix in [None, Some(""), Some("/")] {
        assert_eq!(ephemerals(&mut bench, prefix), all, "{prefix:?}");
    }
    assert_eq!(ephemerals(&mut bench, Some("/a")), ["/a/x", "/a/y", "/ab"], "a plain prefix");
    assert_eq!(ephemerals(&mut bench, Some("/a/")), ["/a/x", "/a/y"]);
    assert_eq!(ephemerals(&mut bench, Some("a")), Vec::<String>::new());
    bench.delete(ANN, "/a/x");
    assert_eq!(ephemerals(&mut bench, Some("/a/")), ["/a/y"]);
}

#[test]
fn who_am_i_tells_what_the_connection_has_proved() {
    let mut bench = Bench::new();
    let address = Identity::new("ip", "10.1.2.3");
    assert_eq!(bench.read(BEN, Read::WhoAmI), Ok(Response::WhoAmI(vec![address.clone()])));
    bench.prove(BEN, "sasl", "ben");
    let both = vec![address, Identity::new("sasl", "ben")];
    assert_eq!(bench.read(BEN, Read::WhoAmI), Ok(Response::WhoAmI(both)));
}
