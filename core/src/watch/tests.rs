use super::*;

fn nobody() -> Arc<[Identity]> {
    Arc::from([])
}

fn add(watches: &mut Watches, session: i64, path: &str, kinds: Kinds) {
    watches.add(SessionId(session), &nobody(), &Arc::from(path), kinds).expect("below the bound");
}

fn told(watches: &mut Watches, path: &str, exact: Kinds, recursive: bool) -> Vec<i64> {
    let mut sessions = Vec::new();
    watches.fire(path, exact, recursive, |session, _| sessions.push(session.0));
    sessions
}

#[test]
fn a_one_shot_watch_fires_once_and_leaves_nothing_behind() {
    let mut watches = Watches::default();
    add(&mut watches, 1, "/a", Kinds::DATA);
    assert_eq!(told(&mut watches, "/a", Kinds::DATA, true), [1]);
    assert!(told(&mut watches, "/a", Kinds::DATA, true).is_empty());
    assert_eq!((watches.is_empty(), watches.len()), (true, 0));
}

#[test]
fn a_session_is_told_once_however_many_of_its_watches_match() {
    let mut watches = Watches::default();
    add(&mut watches, 2, "/a/b", Kinds::DATA | Kinds::PERSISTENT | Kinds::RECURSIVE);
    add(&mut watches, 2, "/a", Kinds::RECURSIVE);
    add(&mut watches, 1, "/", Kinds::RECURSIVE);
    let exact = Kinds::DATA | Kinds::PERSISTENT;
    assert_eq!(told(&mut watches, "/a/b", exact, true), [1, 2]);
    assert!(!watches.has(SessionId(2), "/a/b", WatchKind::Data), "used up");
    assert!(watches.has(SessionId(2), "/a/b", WatchKind::Persistent), "stays");
}

#[test]
fn removal_takes_the_named_kind_and_says_whether_there_was_one() {
    let mut watches = Watches::default();
    add(&mut watches, 1, "/a", Kinds::DATA | Kinds::CHILD | Kinds::RECURSIVE);
    assert!(!watches.remove(SessionId(1), "/a", WatchKind::Persistent));
    assert!(watches.remove(SessionId(1), "/a", WatchKind::PersistentRecursive));
    assert!(told(&mut watches, "/a/b", Kinds::DATA, true).is_empty());
    assert!(watches.remove(SessionId(1), "/a", WatchKind::Any));
    assert!(watches.is_empty());
}

#[test]
fn a_session_that_disconnects_leaves_nothing_behind() {
    let mut watches = Watches::default();
    add(&mut watches, 1, "/a", Kinds::RECURSIVE);
    add(&mut watches, 1, "/b", Kinds::DATA);
    add(&mut watches, 2, "/b", Kinds::DATA);
    watches.disconnect(SessionId(1));
    assert_eq!((watches.len(), watches.recursive), (1, 0));
    assert_eq!(told(&mut watches, "/b", Kinds::DATA, false), [2]);
}

#[test]
fn the_ancestors_of_a_path_end_at_the_root() {
    assert_eq!(ancestors("/a/b/c").collect::<Vec<_>>(), ["/", "/a", "/a/b"]);
    assert_eq!(ancestors("/a").collect::<Vec<_>>(), ["/"]);
    assert_eq!(ancestors("/").count(), 0);
}

#[test]
fn a_recursive_watch_is_left_where_every_change_below_looks_for_it_and_no_deeper() {
    let mut watches = Watches::default();
    let deepest = "/x".repeat(RECURSIVE_WATCH_LEVELS_MAX);
    add(&mut watches, 1, &deepest, Kinds::RECURSIVE);
    let below = deepest.clone() + &"/y".repeat(3_000);
    assert_eq!(told(&mut watches, &below, Kinds::DATA, true), [1]);
    assert_eq!(ancestors(&below).count(), RECURSIVE_WATCH_LEVELS_MAX + 1);
    let deeper: Arc<str> = (deepest + "/x").into();
    let refused = watches.add(SessionId(1), &nobody(), &deeper, Kinds::RECURSIVE);
    assert_eq!(refused.expect_err("too deep").code, Code::BadArguments);
    add(&mut watches, 1, &deeper, Kinds::PERSISTENT);
    assert_eq!(told(&mut watches, &deeper, Kinds::PERSISTENT, false), [1]);
}
