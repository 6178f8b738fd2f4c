//! Containers and TTL znodes: when their time has come.

use std::sync::Arc;

use synod_core::model::limits::TTL_MS_MAX;
use synod_core::model::{AddWatchMode, Code, CreateMode, EventKind, Response, Write};

use crate::bench::{ANN, BEN, Bench, EPHEMERAL, PERSISTENT, code, create, told};

const TTL: CreateMode = CreateMode::Ttl { ttl_ms: 1_000 };

fn reap(bench: &mut Bench, path: &str) -> Result<(), Code> {
    match bench.system(Write::Reap { path: path.into() }) {
        Ok(response) => {
            assert_eq!(response, Response::Done);
            Ok(())
        }
        refused => Err(code(refused)),
    }
}

fn reapable(bench: &Bench) -> Vec<Arc<str>> {
    let mut paths = bench.engine.reapable(bench.clock_ms, usize::MAX);
    paths.sort();
    paths
}

#[test]
fn a_container_goes_when_its_last_child_has_gone_but_not_before_it_had_one() {
    let mut bench = Bench::new();
    bench.create(ANN, "/c", CreateMode::Container);
    assert_eq!((reap(&mut bench, "/c"), reapable(&bench)), (Err(Code::BadArguments), vec![]));
    bench.create(ANN, "/c/x", PERSISTENT);
    assert_eq!((reap(&mut bench, "/c"), reapable(&bench)), (Err(Code::BadArguments), vec![]));
    bench.delete(ANN, "/c/x");
    assert_eq!(reapable(&bench), ["/c".into()]);
    assert_eq!(reap(&mut bench, "/c"), Ok(()));
    assert!(!bench.is_there("/c") && reapable(&bench).is_empty());
    assert_eq!(reap(&mut bench, "/c"), Err(Code::NoNode));
}

#[test]
fn a_container_whose_only_child_was_ephemeral_goes_with_the_session() {
    let mut bench = Bench::new();
    bench.create(ANN, "/c", CreateMode::Container);
    bench.create(BEN, "/c/e", EPHEMERAL);
    bench.expire(BEN).expect("expired");
    assert_eq!(reapable(&bench), ["/c".into()]);
    bench.create(ANN, "/c/again", PERSISTENT);
    assert_eq!(reapable(&bench), [], "it is in use again");
    assert_eq!(reap(&mut bench, "/c"), Err(Code::BadArguments));
}

#[test]
fn a_ttl_znode_goes_when_its_data_is_older_than_that() {
    let mut bench = Bench::new();
    bench.create(ANN, "/t", TTL);
    bench.clock_ms += 1_000;
    assert_eq!((reap(&mut bench, "/t"), reapable(&bench)), (Err(Code::BadArguments), vec![]));
    bench.set(ANN, "/t", "new");
    bench.clock_ms += 1_000;
    assert_eq!((reap(&mut bench, "/t"), reapable(&bench)), (Err(Code::BadArguments), vec![]));
    bench.clock_ms += 1;
    assert_eq!(reapable(&bench), ["/t".into()]);
    assert_eq!(reap(&mut bench, "/t"), Ok(()));
    assert!(!bench.is_there("/t") && reapable(&bench).is_empty());
}

#[test]
fn a_ttl_znode_with_children_stays() {
    let mut bench = Bench::new();
    bench.create(ANN, "/t", TTL);
    bench.create(ANN, "/t/x", PERSISTENT);
    bench.clock_ms += 5_000;
    assert_eq!((reap(&mut bench, "/t"), reapable(&bench)), (Err(Code::BadArguments), vec![]));
    bench.delete(ANN, "/t/x");
    assert_eq!(reapable(&bench), ["/t".into()], "its children do not keep it young");
    assert_eq!(reap(&mut bench, "/t"), Ok(()));
}

#[test]
fn no_other_znode_is_ever_reaped() {
    let mut bench = Bench::with(&["/p", "/p/x"]);
    bench.delete(ANN, "/p/x");
    bench.create(ANN, "/e", EPHEMERAL);
    bench.clock_ms += 1_000_000;
    assert_eq!(reapable(&bench), []);
    for path in ["/p", "/e", "/", "/zookeeper", "/zookeeper/quota"] {
        assert_eq!(reap(&mut bench, path), Err(Code::BadArguments), "{path}");
    }
    assert_eq!(reap(&mut bench, "/none"), Err(Code::NoNode));
}

#[test]
fn reaping_tells_as_a_deletion_does() {
    let mut bench = Bench::with(&["/a"]);
    bench.create(ANN, "/a/t", CreateMode::Ttl { ttl_ms: 1 });
    bench.watch_exists(BEN, "/a/t");
    bench.add_watch(BEN, "/a", AddWatchMode::Persistent);
    bench.clock_ms += 2;
    assert_eq!(reap(&mut bench, "/a/t"), Ok(()));
    let expected = [(BEN, EventKind::Deleted, "/a/t"), (BEN, EventKind::ChildrenChanged, "/a")];
    assert_eq!(bench.events(), told(&expected));
    assert_eq!(bench.stat("/a").pzxid, bench.engine.last_zxid());
}

#[test]
fn no_more_are_named_at_a_time_than_were_asked_for() {
    let mut bench = Bench::new();
    for number in 0..5 {
        bench.create(ANN, &format!("/t{number}"), TTL);
    }
    bench.clock_ms += 5_000;
    assert_eq!(reapable(&bench).len(), 5);
    assert_eq!(bench.engine.reapable(bench.clock_ms, 3).len(), 3);
    assert_eq!(bench.engine.reapable(bench.clock_ms, 0).len(), 0);
    assert_eq!(bench.engine.reapable(bench.clock_ms - 5_000, 3).len(), 0);
}

#[test]
fn a_time_to_live_lies_between_1_and_2_to_the_40_less_1() {
    let mut bench = Bench::new();
    for ttl_ms in [0, -1, TTL_MS_MAX + 1, i64::MAX, i64::MIN] {
        for mode in [CreateMode::Ttl { ttl_ms }, CreateMode::TtlSequential { ttl_ms }] {
            assert_eq!(code(bench.write(ANN, create("/t", mode))), Code::BadArguments, "{ttl_ms}");
        }
    }
    bench.create(ANN, "/shortest", CreateMode::Ttl { ttl_ms: 1 });
    bench.create(ANN, "/longest", CreateMode::Ttl { ttl_ms: TTL_MS_MAX });
    bench.clock_ms += 2;
    assert_eq!(reapable(&bench), ["/shortest".into()]);
}
