//! Watches that are asked for, removed and brought back.

use synod_core::engine::Fired;
use synod_core::model::{
    Acl, AddWatchMode, Code, Event, EventKind, Perms, Rearm, Response, SessionId, WatchKind,
    WatchRequest, Zxid,
};

use EventKind::{ChildrenChanged, Created, DataChanged, Deleted};

use crate::bench::{ANN, BEN, Bench, PERSISTENT, code, told};

const ONE_SHOT: [WatchKind; 2] = [WatchKind::Children, WatchKind::Data];
const STAYING: [WatchKind; 2] = [WatchKind::Persistent, WatchKind::PersistentRecursive];

fn remove(bench: &mut Bench, session: SessionId, path: &str, kind: WatchKind) -> Result<(), Code> {
    match bench.watch(session, WatchRequest::Remove { path: path.into(), kind }) {
        Ok(response) => {
            assert_eq!(response, Response::Done);
            Ok(())
        }
        refused => Err(code(refused)),
    }
}

/// A session with all four kinds of watch on `/a`.
fn with_all_four() -> Bench {
    let mut bench = Bench::with(&["/a"]);
    bench.watch_exists(BEN, "/a");
    bench.watch_children(BEN, "/a");
    bench.add_watch(BEN, "/a", AddWatchMode::Persistent);
    bench.add_watch(BEN, "/a", AddWatchMode::PersistentRecursive);
    bench
}

#[test]
fn every_kind_of_watch_is_found_and_removed_by_itself() {
    for kind in ONE_SHOT.into_iter().chain(STAYING) {
        let mut bench = with_all_four();
        assert!(bench.has_watch(BEN, "/a", kind), "{kind:?}");
        assert_eq!(remove(&mut bench, BEN, "/a", kind), Ok(()), "{kind:?}");
        assert_eq!(remove(&mut bench, BEN, "/a", kind), Err(Code::NoWatcher), "{kind:?}");
        for other in ONE_SHOT.into_iter().chain(STAYING) {
            assert_eq!(bench.has_watch(BEN, "/a", other), other != kind, "{kind:?}, {other:?}");
        }
        assert!(bench.has_watch(BEN, "/a", WatchKind::Any), "{kind:?}");
    }
}

#[test]
fn removing_any_removes_all_of_that_path_and_session() {
    let mut bench = with_all_four();
    bench.watch_exists(ANN, "/a");
    bench.watch_exists(BEN, "/b");
    assert_eq!(remove(&mut bench, BEN, "/a", WatchKind::Any), Ok(()));
    for kind in ONE_SHOT.into_iter().chain(STAYING).chain([WatchKind::Any]) {
        assert!(!bench.has_watch(BEN, "/a", kind), "{kind:?}");
    }
    assert!(bench.has_watch(ANN, "/a", WatchKind::Data), "another's remains");
    assert!(bench.has_watch(BEN, "/b", WatchKind::Data), "another path's remains");
}

#[test]
fn staying_watches_are_no_children_or_data_watches() {
    let mut bench = Bench::with(&["/a"]);
    bench.add_watch(BEN, "/a", AddWatchMode::Persistent);
    bench.add_watch(BEN, "/a", AddWatchMode::PersistentRecursive);
    for kind in ONE_SHOT {
        assert!(!bench.has_watch(BEN, "/a", kind), "{kind:?}");
        assert_eq!(remove(&mut bench, BEN, "/a", kind), Err(Code::NoWatcher), "{kind:?}");
    }
}

#[test]
fn a_recursive_watch_is_found_where_it_was_left_only() {
    let mut bench = Bench::with(&["/a", "/a/b"]);
    bench.add_watch(BEN, "/a", AddWatchMode::PersistentRecursive);
    assert!(!bench.has_watch(BEN, "/a/b", WatchKind::Any));
    assert!(!bench.has_watch(ANN, "/a", WatchKind::Any), "and with who left it");
}

#[test]
fn removing_a_watch_tells_nobody_and_then_it_is_silent() {
    let mut bench = with_all_four();
    assert_eq!(remove(&mut bench, BEN, "/a", WatchKind::Any), Ok(()));
    bench.set(ANN, "/a", "x");
    bench.create(ANN, "/a/b", PERSISTENT);
    bench.delete(ANN, "/a/b");
    bench.delete(ANN, "/a");
    assert_eq!(bench.events(), []);
}

#[test]
fn removing_one_kind_leaves_the_events_of_the_others() {
    let mut bench = Bench::with(&["/a"]);
    bench.add_watch(BEN, "/a", AddWatchMode::Persistent);
    bench.add_watch(BEN, "/a", AddWatchMode::PersistentRecursive);
    assert_eq!(remove(&mut bench, BEN, "/a", WatchKind::Persistent), Ok(()));
    bench.create(ANN, "/a/b", PERSISTENT);
    assert_eq!(bench.events(), told(&[(BEN, Created, "/a/b")]), "no children changed any more");
}

fn rearm(bench: &mut Bench, rearm: Rearm) -> Vec<(SessionId, EventKind, String)> {
    assert_eq!(bench.watch(BEN, WatchRequest::Rearm(rearm)), Ok(Response::Done));
    bench.events()
}

#[test]
fn missed_events_come_in_the_order_data_exist_child() {
    let mut bench = Bench::with(&["/data", "/child", "/same"]);
    let since = bench.engine.last_zxid();
    bench.create(ANN, "/child/x", PERSISTENT);
    bench.set(ANN, "/data", "x");
    bench.create(ANN, "/exist", PERSISTENT);
    let lists = Rearm {
        since,
        data: vec!["/gone-data".into(), "/data".into(), "/same".into()],
        exist: vec!["/exist".into(), "/still-missing".into()],
        child: vec!["/gone-child".into(), "/child".into(), "/same".into()],
        ..Rearm::default()
    };
    let expected = [
        (BEN, Deleted, "/gone-data"),
        (BEN, DataChanged, "/data"),
        (BEN, Created, "/exist"),
        (BEN, Deleted, "/gone-child"),
        (BEN, ChildrenChanged, "/child"),
    ];
    assert_eq!(rearm(&mut bench, lists), told(&expected));
}

#[test]
fn a_missed_event_has_no_zxid() {
    let mut bench = Bench::with(&["/a"]);
    let exist = vec!["/a".into()];
    let lists = Rearm { since: Zxid::ZERO, exist, ..Rearm::default() };
    bench.watch(BEN, WatchRequest::Rearm(lists)).expect("rearmed");
    let event = Event { kind: Created, path: "/a".into(), zxid: None };
    assert_eq!(bench.fired(), [Fired { session: BEN, event }]);
}

#[test]
fn a_watch_that_missed_nothing_is_left_and_fires_later() {
    let mut bench = Bench::with(&["/data", "/child"]);
    let lists = Rearm {
        since: bench.engine.last_zxid(),
        data: vec!["/data".into()],
        exist: vec!["/exist".into()],
        child: vec!["/child".into()],
        ..Rearm::default()
    };
    assert_eq!(rearm(&mut bench, lists), []);
    bench.set(ANN, "/data", "x");
    bench.create(ANN, "/exist", PERSISTENT);
    bench.create(ANN, "/child/x", PERSISTENT);
    let expected =
        [(BEN, DataChanged, "/data"), (BEN, Created, "/exist"), (BEN, ChildrenChanged, "/child")];
    assert_eq!(bench.events(), told(&expected));
}

#[test]
fn a_watch_that_missed_something_is_used_up_by_that() {
    let mut bench = Bench::with(&["/data", "/child", "/child/x", "/exist"]);
    let lists = Rearm {
        since: Zxid::ZERO,
        data: vec!["/data".into(), "/gone".into()],
        exist: vec!["/exist".into()],
        child: vec!["/child".into(), "/gone".into()],
        ..Rearm::default()
    };
    assert_eq!(rearm(&mut bench, lists).len(), 5);
    for path in ["/data", "/exist", "/child", "/gone"] {
        assert!(!bench.has_watch(BEN, path, WatchKind::Any), "{path}");
    }
}

#[test]
fn a_znode_on_the_exist_list_that_is_there_is_told_however_old_it_is() {
    let mut bench = Bench::with(&["/a"]);
    let since = bench.engine.last_zxid();
    let lists = Rearm { since, exist: vec!["/a".into()], ..Rearm::default() };
    assert_eq!(rearm(&mut bench, lists), told(&[(BEN, Created, "/a")]));
}

#[test]
fn what_changed_at_the_last_zxid_that_was_seen_is_not_told_again() {
    let mut bench = Bench::with(&["/a"]);
    bench.set(ANN, "/a", "x");
    let seen = bench.engine.last_zxid();
    let data = vec!["/a".into()];
    let lists = Rearm { since: seen, data: data.clone(), ..Rearm::default() };
    assert_eq!(rearm(&mut bench, lists), []);
    let before = Zxid::from_i64(seen.as_i64() - 1);
    let lists = Rearm { since: before, data, ..Rearm::default() };
    assert_eq!(rearm(&mut bench, lists), told(&[(BEN, DataChanged, "/a")]));
}

#[test]
fn the_data_list_is_about_data_and_the_child_list_about_children() {
    let mut bench = Bench::with(&["/data", "/child"]);
    let since = bench.engine.last_zxid();
    bench.create(ANN, "/data/x", PERSISTENT);
    bench.set(ANN, "/child", "x");
    bench.set_acl(ANN, "/data", Acl::open());
    let (data, child) = (vec!["/data".into()], vec!["/child".into()]);
    assert_eq!(rearm(&mut bench, Rearm { since, data, child, ..Rearm::default() }), []);
}

#[test]
fn staying_watches_come_back_without_what_they_missed() {
    let mut bench = Bench::with(&["/a"]);
    bench.set(ANN, "/a", "x");
    let lists = Rearm {
        since: Zxid::ZERO,
        persistent: vec!["/a".into(), "/none".into()],
        recursive: vec!["/".into()],
        ..Rearm::default()
    };
    assert_eq!(rearm(&mut bench, lists), []);
    assert!(bench.has_watch(BEN, "/a", WatchKind::Persistent));
    assert!(bench.has_watch(BEN, "/none", WatchKind::Persistent));
    assert!(bench.has_watch(BEN, "/", WatchKind::PersistentRecursive));
    bench.create(ANN, "/a/b", PERSISTENT);
    let expected = [(BEN, Created, "/a/b"), (BEN, ChildrenChanged, "/a")];
    assert_eq!(bench.events(), told(&expected));
}

#[test]
fn missed_events_are_told_to_who_may_read_and_used_up_all_the_same() {
    let mut bench = Bench::with(&["/a", "/a/b"]);
    bench.set_acl(ANN, "/a", vec![Acl::new(Perms::ADMIN, "world", "anyone")]);
    let list = || vec!["/a".into()];
    let lists = Rearm { data: list(), exist: list(), child: list(), ..Rearm::default() };
    assert_eq!(rearm(&mut bench, lists), []);
    assert!(!bench.has_watch(BEN, "/a", WatchKind::Any));
}
