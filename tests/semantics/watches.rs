//! What a watch tells, to whom, how often and in which order.

use synod_core::engine::Fired;
use synod_core::model::limits::WATCHES_PER_SESSION_MAX;
use synod_core::model::{
    Acl, AddWatchMode, Code, Event, EventKind, Perms, WatchKind, WatchRequest, Write,
};

use EventKind::{ChildrenChanged, Created, DataChanged, Deleted};

use crate::bench::{
    ALICE, ANN, BEN, Bench, CAT, EPHEMERAL, PERSISTENT, children, code, create_op, delete_op,
    exists, get, set_acl, set_op, told,
};

const STAYS: AddWatchMode = AddWatchMode::Persistent;
const RECURSIVE: AddWatchMode = AddWatchMode::PersistentRecursive;

fn but_read() -> Vec<Acl> {
    vec![Acl::new(Perms(Perms::ALL.0 & !Perms::READ.0), "world", "anyone")]
}

#[test]
fn an_event_names_the_zxid_of_its_change() {
    let mut bench = Bench::with(&["/a"]);
    bench.watch_exists(BEN, "/a");
    bench.set(ANN, "/a", "x");
    let event =
        Event { kind: DataChanged, path: "/a".into(), zxid: Some(bench.engine.last_zxid()) };
    assert_eq!(bench.fired(), [Fired { session: BEN, event }]);
}

#[test]
fn a_watch_of_exists_waits_for_a_missing_znode() {
    let mut bench = Bench::new();
    assert_eq!(code(bench.read(BEN, exists("/a", true))), Code::NoNode);
    bench.create(ANN, "/a", PERSISTENT);
    bench.delete(ANN, "/a");
    assert_eq!(bench.events(), told(&[(BEN, Created, "/a")]), "and it is one-shot");
}

#[test]
fn get_and_children_leave_no_watch_on_a_missing_znode() {
    let mut bench = Bench::new();
    assert_eq!(code(bench.read(BEN, get("/a", true))), Code::NoNode);
    assert_eq!(code(bench.read(BEN, children("/a", true))), Code::NoNode);
    assert!(!bench.has_watch(BEN, "/a", WatchKind::Any));
    bench.create(ANN, "/a", PERSISTENT);
    bench.create(ANN, "/a/b", PERSISTENT);
    assert_eq!(bench.events(), []);
}

#[test]
fn a_read_without_the_flag_leaves_no_watch() {
    let mut bench = Bench::with(&["/a"]);
    bench.read(BEN, exists("/a", false)).expect("it is there");
    bench.read(BEN, get("/a", false)).expect("it is there");
    bench.read(BEN, children("/a", false)).expect("it is there");
    assert!(!bench.has_watch(BEN, "/a", WatchKind::Any));
}

#[test]
fn a_read_that_is_not_permitted_leaves_no_watch() {
    let mut bench = Bench::new();
    bench.create_for(ANN, "/a", PERSISTENT, but_read());
    for read in [exists("/a", true), get("/a", true), children("/a", true)] {
        assert_eq!(code(bench.read(BEN, read)), Code::NoAuth);
    }
    assert!(!bench.has_watch(BEN, "/a", WatchKind::Any));
}

#[test]
fn exists_and_get_leave_one_data_watch_which_fires_once() {
    let mut bench = Bench::with(&["/a"]);
    bench.read(BEN, exists("/a", true)).expect("it is there");
    bench.read(BEN, get("/a", true)).expect("it is there");
    bench.set(ANN, "/a", "x");
    bench.set(ANN, "/a", "y");
    assert_eq!(bench.events(), told(&[(BEN, DataChanged, "/a")]));
}

#[test]
fn data_exists_and_child_watch_on_a_deleted_node_give_one_event() {
    let mut bench = Bench::with(&["/a"]);
    bench.read(BEN, get("/a", true)).expect("it is there");
    bench.watch_exists(BEN, "/a");
    bench.watch_children(BEN, "/a");
    bench.delete(ANN, "/a");
    assert_eq!(bench.events(), told(&[(BEN, Deleted, "/a")]));
    assert!(!bench.has_watch(BEN, "/a", WatchKind::Any), "all of them are used up");
    bench.create(ANN, "/a", PERSISTENT);
    assert_eq!(bench.events(), []);
}

#[test]
fn a_child_watch_fires_once_when_a_child_comes_or_goes() {
    let mut bench = Bench::with(&["/a"]);
    bench.watch_children(BEN, "/a");
    bench.create(ANN, "/a/b", PERSISTENT);
    bench.create(ANN, "/a/c", PERSISTENT);
    assert_eq!(bench.events(), told(&[(BEN, ChildrenChanged, "/a")]));
    bench.watch_children(BEN, "/a");
    bench.delete(ANN, "/a/b");
    bench.delete(ANN, "/a/c");
    assert_eq!(bench.events(), told(&[(BEN, ChildrenChanged, "/a")]));
}

#[test]
fn a_child_watch_tells_nothing_of_data_nor_of_grandchildren() {
    let mut bench = Bench::with(&["/a", "/a/b"]);
    bench.watch_children(BEN, "/a");
    bench.set(ANN, "/a", "x");
    bench.set(ANN, "/a/b", "x");
    bench.create(ANN, "/a/b/c", PERSISTENT);
    assert_eq!(bench.events(), []);
    assert!(bench.has_watch(BEN, "/a", WatchKind::Children));
}

#[test]
fn a_data_watch_tells_nothing_of_children() {
    let mut bench = Bench::with(&["/a"]);
    bench.watch_exists(BEN, "/a");
    bench.create(ANN, "/a/b", PERSISTENT);
    bench.delete(ANN, "/a/b");
    assert_eq!(bench.events(), []);
    assert!(bench.has_watch(BEN, "/a", WatchKind::Data));
}

#[test]
fn setting_the_acl_tells_nobody() {
    let mut bench = Bench::with(&["/a"]);
    bench.watch_exists(BEN, "/a");
    bench.watch_children(BEN, "/a");
    bench.add_watch(BEN, "/a", STAYS);
    bench.add_watch(BEN, "/", RECURSIVE);
    bench.set_acl(ANN, "/a", Acl::open());
    assert_eq!(bench.events(), []);
}

#[test]
fn a_persistent_watch_tells_all_four_events_and_stays() {
    let mut bench = Bench::new();
    bench.add_watch(BEN, "/a", STAYS);
    for _ in 0..2 {
        bench.create(ANN, "/a", PERSISTENT);
        bench.set(ANN, "/a", "x");
        bench.create(ANN, "/a/b", PERSISTENT);
        bench.set(ANN, "/a/b", "x");
        bench.delete(ANN, "/a/b");
        bench.delete(ANN, "/a");
        let expected = [
            (BEN, Created, "/a"),
            (BEN, DataChanged, "/a"),
            (BEN, ChildrenChanged, "/a"),
            (BEN, ChildrenChanged, "/a"),
            (BEN, Deleted, "/a"),
        ];
        assert_eq!(bench.events(), told(&expected));
    }
}

#[test]
fn a_recursive_watch_sends_no_children_changed() {
    let mut bench = Bench::new();
    bench.add_watch(BEN, "/a", RECURSIVE);
    for _ in 0..2 {
        bench.create(ANN, "/a", PERSISTENT);
        bench.create(ANN, "/a/b", PERSISTENT);
        bench.create(ANN, "/a/b/c", PERSISTENT);
        bench.set(ANN, "/a/b/c", "x");
        bench.delete(ANN, "/a/b/c");
        bench.delete(ANN, "/a/b");
        bench.set(ANN, "/a", "x");
        bench.delete(ANN, "/a");
        let expected = [
            (BEN, Created, "/a"),
            (BEN, Created, "/a/b"),
            (BEN, Created, "/a/b/c"),
            (BEN, DataChanged, "/a/b/c"),
            (BEN, Deleted, "/a/b/c"),
            (BEN, Deleted, "/a/b"),
            (BEN, DataChanged, "/a"),
            (BEN, Deleted, "/a"),
        ];
        assert_eq!(bench.events(), told(&expected));
    }
}

#[test]
fn a_recursive_watch_is_about_what_lies_below_not_about_what_begins_alike() {
    let mut bench = Bench::new();
    bench.add_watch(BEN, "/a", RECURSIVE);
    bench.create(ANN, "/ab", PERSISTENT);
    bench.create(ANN, "/b", PERSISTENT);
    assert_eq!(bench.events(), []);
    bench.add_watch(BEN, "/", RECURSIVE);
    bench.create(ANN, "/ab/c", PERSISTENT);
    assert_eq!(bench.events(), told(&[(BEN, Created, "/ab/c")]));
}

#[test]
fn a_connection_gets_one_event_a_change_however_many_watches_match() {
    let mut bench = Bench::with(&["/a", "/a/b"]);
    bench.watch_exists(BEN, "/a/b");
    bench.watch_children(BEN, "/a/b");
    for path in ["/", "/a", "/a/b"] {
        bench.add_watch(BEN, path, RECURSIVE);
    }
    bench.add_watch(BEN, "/a/b", STAYS);
    bench.set(ANN, "/a/b", "x");
    assert_eq!(bench.events(), told(&[(BEN, DataChanged, "/a/b")]));
    assert!(!bench.has_watch(BEN, "/a/b", WatchKind::Data), "the one-shot watch is used up");
    bench.delete(ANN, "/a/b");
    assert_eq!(bench.events(), told(&[(BEN, Deleted, "/a/b")]));
}

#[test]
fn children_changed_is_an_event_of_its_own() {
    let mut bench = Bench::with(&["/a"]);
    bench.watch_children(BEN, "/a");
    bench.add_watch(BEN, "/a", STAYS);
    bench.add_watch(BEN, "/", RECURSIVE);
    bench.create(ANN, "/a/b", PERSISTENT);
    let expected = [(BEN, Created, "/a/b"), (BEN, ChildrenChanged, "/a")];
    assert_eq!(bench.events(), told(&expected));
}

#[test]
fn the_znode_comes_before_its_parent_and_sessions_come_in_ascending_order() {
    let mut bench = Bench::with(&["/a"]);
    for session in [BEN, CAT, ANN] {
        bench.watch_exists(session, "/a/b");
        bench.add_watch(session, "/a", STAYS);
    }
    bench.create(ANN, "/a/b", PERSISTENT);
    let expected = [
        (CAT, Created, "/a/b"),
        (ANN, Created, "/a/b"),
        (BEN, Created, "/a/b"),
        (CAT, ChildrenChanged, "/a"),
        (ANN, ChildrenChanged, "/a"),
        (BEN, ChildrenChanged, "/a"),
    ];
    assert_eq!(bench.events(), told(&expected), "-3 comes before 1 and 2");
}

#[test]
fn sessions_are_in_order_whichever_kind_of_watch_they_have() {
    let mut bench = Bench::with(&["/a"]);
    bench.add_watch(ANN, "/", RECURSIVE);
    bench.add_watch(BEN, "/a", STAYS);
    bench.watch_exists(CAT, "/a");
    bench.set(ANN, "/a", "x");
    let expected = [(CAT, DataChanged, "/a"), (ANN, DataChanged, "/a"), (BEN, DataChanged, "/a")];
    assert_eq!(bench.events(), told(&expected));
}

#[test]
fn who_makes_a_change_is_told_of_it_too() {
    let mut bench = Bench::with(&["/a"]);
    bench.watch_exists(ANN, "/a");
    bench.set(ANN, "/a", "x");
    assert_eq!(bench.events(), told(&[(ANN, DataChanged, "/a")]));
}

#[test]
fn a_failed_write_tells_nobody_and_uses_up_nothing() {
    let mut bench = Bench::with(&["/a", "/a/b"]);
    bench.watch_exists(BEN, "/a");
    bench.watch_children(BEN, "/a");
    code(bench.write(ANN, Write::Op(delete_op("/a", -1))));
    code(bench.write(ANN, Write::Op(set_op("/a", "x", 9))));
    code(bench.write(ANN, Write::Multi(vec![set_op("/a", "x", -1), delete_op("/a/b", 9)])));
    assert_eq!(bench.events(), []);
    assert!(bench.has_watch(BEN, "/a", WatchKind::Data));
    assert!(bench.has_watch(BEN, "/a", WatchKind::Children));
}

#[test]
fn a_transaction_tells_in_the_order_of_its_operations() {
    let mut bench = Bench::with(&["/a", "/b"]);
    bench.add_watch(BEN, "/", RECURSIVE);
    bench.watch_children(BEN, "/a");
    let ops = vec![
        set_op("/b", "x", -1),
        create_op("/a/1", PERSISTENT, Acl::open()),
        create_op("/a/2", PERSISTENT, Acl::open()),
        delete_op("/a/1", -1),
    ];
    bench.write(ANN, Write::Multi(ops)).expect("done");
    let zxid = Some(bench.engine.last_zxid());
    let fired = bench.fired();
    assert!(fired.iter().all(|fired| fired.event.zxid == zxid), "{fired:?}");
    let order: Vec<_> = fired.iter().map(|it| (it.event.kind, &*it.event.path)).collect();
    let expected = [
        (DataChanged, "/b"),
        (Created, "/a/1"),
        (ChildrenChanged, "/a"),
        (Created, "/a/2"),
        (Deleted, "/a/1"),
    ];
    assert_eq!(order, expected);
}

#[test]
fn created_and_deleted_are_told_to_who_may_read_the_znode() {
    let mut bench = Bench::new();
    for session in [ANN, BEN] {
        bench.add_watch(session, "/a", STAYS);
    }
    bench.prove(BEN, "digest", ALICE);
    bench.add_watch(BEN, "/other", STAYS);
    let acl = vec![Acl::new(Perms::READ, "digest", ALICE)];
    bench.create_for(CAT, "/a", PERSISTENT, acl);
    assert_eq!(bench.events(), told(&[(BEN, Created, "/a")]));
    bench.delete(CAT, "/a");
    assert_eq!(bench.events(), told(&[(BEN, Deleted, "/a")]));
}

#[test]
fn data_changed_is_told_to_who_may_read_the_znode() {
    let mut bench = Bench::with(&["/a"]);
    bench.watch_exists(BEN, "/a");
    bench.set_acl(ANN, "/a", but_read());
    bench.set(ANN, "/a", "x");
    assert_eq!(bench.events(), []);
    assert!(!bench.has_watch(BEN, "/a", WatchKind::Data), "used up in silence");
    bench.set_acl(ANN, "/a", Acl::open());
    bench.set(ANN, "/a", "y");
    assert_eq!(bench.events(), []);
}

#[test]
fn an_event_is_judged_by_what_the_connection_has_proved_by_then() {
    let mut bench = Bench::with(&["/a"]);
    bench.watch_exists(BEN, "/a");
    bench.set_acl(
        ANN,
        "/a",
        vec![Acl::new(Perms::WRITE, "world", "anyone"), Acl::new(Perms::READ, "digest", ALICE)],
    );
    bench.prove(BEN, "digest", ALICE);
    bench.read(BEN, exists("/a", false)).expect("alice may read");
    bench.set(ANN, "/a", "x");
    assert_eq!(bench.events(), told(&[(BEN, DataChanged, "/a")]));
}

#[test]
fn children_changed_is_told_to_who_may_read_the_parent() {
    let mut bench = Bench::with(&["/a", "/b"]);
    for path in ["/a", "/b"] {
        bench.watch_children(BEN, path);
    }
    bench.set_acl(ANN, "/a", but_read());
    bench.create(ANN, "/a/x", PERSISTENT);
    bench.create_for(ANN, "/b/x", PERSISTENT, but_read());
    assert_eq!(bench.events(), told(&[(BEN, ChildrenChanged, "/b")]));
    assert!(!bench.has_watch(BEN, "/a", WatchKind::Children), "used up in silence");
}

#[test]
fn a_filtered_one_shot_watch_is_used_up_by_the_deletion_too() {
    let mut bench = Bench::with(&["/a"]);
    bench.watch_exists(BEN, "/a");
    bench.watch_children(BEN, "/a");
    bench.set_acl(ANN, "/a", but_read());
    bench.delete(ANN, "/a");
    bench.create(ANN, "/a", PERSISTENT);
    assert_eq!(bench.events(), []);
    assert!(!bench.has_watch(BEN, "/a", WatchKind::Any));
}

#[test]
fn the_superuser_is_told_of_everything() {
    let mut bench = Bench::new();
    bench.prove(BEN, "super", "");
    bench.add_watch(BEN, "/a", STAYS);
    bench.create_for(ANN, "/a", PERSISTENT, but_read());
    assert_eq!(bench.events(), told(&[(BEN, Created, "/a")]));
}

#[test]
fn an_added_watch_needs_neither_a_znode_nor_a_permission() {
    let mut bench = Bench::new();
    bench.create_for(ANN, "/a", PERSISTENT, but_read());
    bench.add_watch(BEN, "/a", STAYS);
    bench.add_watch(BEN, "/none", RECURSIVE);
    bench.write(ANN, set_acl("/a", Acl::open())).expect("set");
    bench.set(ANN, "/a", "x");
    assert_eq!(bench.events(), told(&[(BEN, DataChanged, "/a")]), "judged when it happens");
}

#[test]
fn a_disconnected_session_is_told_nothing_and_the_others_go_on() {
    let mut bench = Bench::with(&["/a"]);
    for session in [ANN, BEN] {
        bench.watch_exists(session, "/a");
        bench.watch_children(session, "/a");
        bench.add_watch(session, "/a", STAYS);
        bench.add_watch(session, "/", RECURSIVE);
    }
    bench.engine.disconnect(BEN);
    assert!(!bench.has_watch(BEN, "/a", WatchKind::Any));
    assert!(!bench.has_watch(BEN, "/", WatchKind::Any));
    bench.set(ANN, "/a", "x");
    assert_eq!(bench.events(), told(&[(ANN, DataChanged, "/a")]));
}

#[test]
fn an_attachment_elsewhere_does_not_end_the_watches_here() {
    let mut bench = Bench::with(&["/a"]);
    bench.watch_exists(BEN, "/a");
    bench.write(BEN, Write::Attach { timeout_ms: 4_000 }).expect("attached");
    bench.set(ANN, "/a", "x");
    assert_eq!(bench.events(), told(&[(BEN, DataChanged, "/a")]));
}

#[test]
fn a_session_has_a_bounded_number_of_watches_on_one_member() {
    let mut bench = Bench::with(&["/a"]);
    for number in 0..WATCHES_PER_SESSION_MAX {
        bench.add_watch(BEN, &number.to_string(), STAYS);
    }
    let more = WatchRequest::Add { path: "/more".into(), mode: STAYS };
    assert_eq!(code(bench.watch(BEN, more)), Code::Throttled);
    for read in [exists("/a", true), exists("/none", true), get("/a", true), children("/a", true)] {
        assert_eq!(code(bench.read(BEN, read.clone())), Code::Throttled, "{read:?}");
    }
    assert!(!bench.has_watch(BEN, "/a", WatchKind::Any));
    bench.add_watch(BEN, "5", STAYS);
    bench.add_watch(ANN, "/more", STAYS);
    bench.watch(BEN, WatchRequest::Remove { path: "5".into(), kind: WatchKind::Any }).expect("had");
    bench.watch_exists(BEN, "/a");
    bench.set(ANN, "/a", "x");
    assert_eq!(bench.events(), told(&[(BEN, DataChanged, "/a")]));
    bench.watch_exists(BEN, "/a");
}

#[test]
fn an_expired_sessions_ephemerals_go_and_their_watches_fire_once() {
    let mut bench = Bench::with(&["/a"]);
    bench.create(BEN, "/a/e", EPHEMERAL);
    bench.watch_exists(ANN, "/a/e");
    bench.watch_children(ANN, "/a");
    bench.expire(BEN).expect("expired");
    assert!(!bench.is_there("/a/e"));
    let zxid = bench.engine.last_zxid();
    let fired = bench.fired();
    let expected = [(Deleted, "/a/e"), (ChildrenChanged, "/a")].map(|(kind, path)| Fired {
        session: ANN,
        event: Event { kind, path: path.into(), zxid: Some(zxid) },
    });
    assert_eq!(fired, expected);
    code(bench.system(Write::ExpireSession { id: BEN, attachment: zxid, sequence: 0 }));
    assert_eq!(bench.events(), [], "nothing fires a second time");
}

#[test]
fn a_session_hears_nothing_of_its_own_end() {
    let mut bench = Bench::with(&["/a"]);
    bench.create(BEN, "/a/e", EPHEMERAL);
    bench.watch_exists(BEN, "/a/e");
    bench.add_watch(BEN, "/", RECURSIVE);
    bench.add_watch(BEN, "/a", STAYS);
    bench.write(BEN, Write::CloseSession).expect("closed");
    assert_eq!(bench.events(), []);
    bench.open(BEN).expect("a session of the same number");
    assert!(!bench.has_watch(BEN, "/", WatchKind::Any), "the watches are gone");
}

#[test]
fn ephemerals_go_in_ascending_order_of_path_each_with_its_events() {
    let mut bench = Bench::with(&["/a", "/b"]);
    for path in ["/b/1", "/a/2", "/a/1", "/c"] {
        bench.create(BEN, path, EPHEMERAL);
    }
    bench.add_watch(ANN, "/", RECURSIVE);
    bench.add_watch(ANN, "/a", STAYS);
    bench.write(BEN, Write::CloseSession).expect("closed");
    let expected = [
        (ANN, Deleted, "/a/1"),
        (ANN, ChildrenChanged, "/a"),
        (ANN, Deleted, "/a/2"),
        (ANN, ChildrenChanged, "/a"),
        (ANN, Deleted, "/b/1"),
        (ANN, Deleted, "/c"),
    ];
    assert_eq!(bench.events(), told(&expected));
}
