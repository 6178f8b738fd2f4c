use super::*;
use crate::model::limits::EPHEMERAL_BYTES_MAX;
use EffectKind::{Created, Deleted};

#[test]
fn the_ephemerals_of_a_session_end_in_order_of_their_paths_at_one_zxid() {
    let mut hand = Hand::with(&["/b", "/a", "/a/x"]);
    for path in ["/b/2", "/a/x/1", "/a-", "/b/1", "/a/y"] {
        hand.create_as(path, CreateMode::Ephemeral);
    }
    hand.session = SessionId(8);
    hand.create_as("/b/3", CreateMode::Ephemeral);
    hand.session = SessionId(7);
    hand.effects.clear();
    assert_eq!(hand.tree.ephemeral_count(), 6);
    let some = hand.tree.some_ephemerals(SessionId(7), 3);
    assert!(some.len() == 3 && some.is_sorted(), "{some:?}");
    assert_eq!(hand.tree.some_ephemerals(SessionId(7), 9).len(), 5);

    hand.end_session();
    let deleted = ["/a-", "/a/x/1", "/a/y", "/b/1", "/b/2"].map(|path| (Deleted, path.to_owned()));
    assert_eq!(hand.told(), deleted);
    assert_eq!(hand.stat("/a/x").pzxid, hand.last());
    assert_eq!(hand.stat("/b").pzxid, hand.last());
    assert_eq!(hand.tree.ephemeral_count(), 1);
    assert!(hand.tree.stat("/b/3").is_some(), "another session's stays");
    assert_sound(&hand.tree);

    let digest = hand.tree.digest();
    hand.end_session();
    assert_eq!((hand.told(), hand.tree.digest()), (vec![], digest));
}

#[test]
fn a_deleted_ephemeral_is_its_sessions_no_more() {
    let mut hand = Hand::new();
    hand.create_as("/e", CreateMode::Ephemeral);
    hand.delete("/e");
    hand.create("/e");
    hand.end_session();
    assert!(hand.tree.stat("/e").is_some());
}

#[test]
fn ephemerals_are_listed_sorted_by_a_prefix_of_the_text() {
    let mut hand = Hand::with(&["/a"]);
    for path in ["/a/2", "/ab", "/a/1", "/b"] {
        hand.create_as(path, CreateMode::Ephemeral);
    }
    let list = |prefix| -> Vec<String> {
        let paths = hand.tree.ephemerals(SessionId(7), prefix);
        paths.iter().map(|path| path.to_string()).collect()
    };
    let all = ["/a/1", "/a/2", "/ab", "/b"];
    for prefix in [None, Some(""), Some("/")] {
        assert_eq!(list(prefix), all, "{prefix:?}");
    }
    assert_eq!(list(Some("/a")), all[..3]);
    assert_eq!(list(Some("/a/")), all[..2]);
    assert_eq!(hand.tree.ephemerals(SessionId(9), None).len(), 0);
}

#[test]
fn a_container_is_reaped_once_it_has_had_children_and_has_none() {
    let mut hand = Hand::new();
    hand.create_as("/c", CreateMode::Container);
    assert_eq!(hand.tree.reapable(i64::MAX, 9).len(), 0, "it never had a child");
    assert_eq!(code(hand.reap("/c")), Code::BadArguments);

    hand.create("/c/a");
    assert_eq!(hand.tree.reapable(i64::MAX, 9).len(), 0, "it has a child");
    assert_eq!(code(hand.reap("/c")), Code::BadArguments);

    hand.delete("/c/a");
    assert_eq!(hand.tree.reapable(0, 9), [Arc::from("/c")]);
    hand.effects.clear();
    assert_eq!(hand.reap("/c"), Ok(()));
    assert_eq!(hand.told(), [(Deleted, "/c".to_owned())]);
    assert_eq!((hand.tree.stat("/c"), hand.stat("/").pzxid), (None, hand.last()));
    assert_eq!(hand.tree.reapable(i64::MAX, 9).len(), 0);
    assert_sound(&hand.tree);
}

#[test]
fn a_ttl_znode_is_reaped_when_it_is_childless_and_unchanged_for_longer_than_its_time() {
    let mut hand = Hand::new();
    hand.create_as("/t", CreateMode::Ttl { ttl_ms: 100 });
    let end_ms = hand.now_ms() + 100;
    assert_eq!(hand.tree.reapable(end_ms, 9).len(), 0, "not at its end");
    assert_eq!(hand.tree.reapable(end_ms + 1, 9).len(), 1, "but after it");

    hand.set("/t", "x");
    assert_eq!(hand.tree.reapable(end_ms + 1, 9).len(), 0, "a set begins its time anew");
    hand.create("/t/a");
    assert_eq!(hand.tree.reapable(i64::MAX, 9).len(), 0, "a child keeps it");
    assert_eq!(code(hand.reap("/t")), Code::BadArguments);
    hand.delete("/t/a");
    assert_eq!(code(hand.reap("/t")), Code::BadArguments, "its time has not come");
    hand.zxid += 200;
    assert_eq!(hand.reap("/t"), Ok(()));
    assert_eq!(hand.told().last(), Some(&(Deleted, "/t".to_owned())));
    assert_sound(&hand.tree);
}

#[test]
fn a_longest_ttl_does_not_overflow() {
    let mut hand = Hand::new();
    hand.zxid = 1;
    let mode = CreateMode::Ttl { ttl_ms: crate::model::limits::TTL_MS_MAX };
    let change =
        Change { zxid: hand.last(), time_ms: i64::MAX, session: hand.session, identities: &[] };
    hand.tree.op(&change, &create("/t", mode), &mut hand.effects).expect("created");
    assert_eq!(hand.tree.reapable(i64::MAX, 9).len(), 0);
}

#[test]
fn only_what_has_an_end_is_reaped() {
    let mut hand = Hand::with(&["/p", "/p/a"]);
    hand.delete("/p/a");
    hand.create_as("/e", CreateMode::Ephemeral);
    hand.told();
    for path in ["/p", "/e", "/", "/zookeeper/quota"] {
        assert_eq!(code(hand.reap(path)), Code::BadArguments, "{path}");
    }
    for path in ["/no", "", "//p", "p"] {
        assert_eq!(code(hand.reap(path)), Code::NoNode, "{path}");
    }
    assert_eq!(hand.told(), []);
}

#[test]
fn the_longest_due_come_first_and_no_more_than_asked_for() {
    let mut hand = Hand::new();
    for (path, ttl_ms) in [("/t3", 300), ("/t1", 100), ("/t2", 200)] {
        hand.create_as(path, CreateMode::Ttl { ttl_ms });
    }
    let list = |max| -> Vec<String> {
        let paths = hand.tree.reapable(hand.now_ms() + 250, max);
        paths.iter().map(|path| path.to_string()).collect()
    };
    assert_eq!(list(9), ["/t1", "/t2"]);
    assert_eq!(list(1), ["/t1"]);
    assert_eq!(list(0), [""; 0]);
}

#[test]
fn a_nested_container_comes_after_its_child() {
    let mut hand = Hand::new();
    hand.create_as("/c", CreateMode::Container);
    hand.create_as("/c/d", CreateMode::Container);
    hand.create("/c/d/a");
    hand.delete("/c/d/a");
    hand.told();
    assert_eq!(hand.tree.reapable(0, 9), [Arc::from("/c/d")]);
    hand.reap("/c/d").expect("due");
    hand.reap("/c").expect("due");
    hand.create("/c");
    let kinds: Vec<_> = hand.told().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Deleted, Deleted, Created]);
}

#[test]
fn the_ephemeral_znodes_of_a_session_are_bounded() {
    let mut hand = Hand::new();
    let name = "e".repeat(8_000 - 64 - "/0000".len());
    let path = |number: usize| format!("/{name}{number:04}");
    let most = EPHEMERAL_BYTES_MAX / 8_000;
    for number in 0..most {
        hand.create_as(&path(number), CreateMode::Ephemeral);
    }
    let refusal = hand.op(&create(&path(most), CreateMode::Ephemeral)).expect_err("one too many");
    assert_eq!(refusal.code, Code::Throttled);
    hand.create(&path(most));
    hand.session = SessionId(8);
    hand.create_as(&path(most + 1), CreateMode::Ephemeral);
    hand.session = SessionId(7);
    hand.delete(&path(0));
    hand.create_as(&path(0), CreateMode::Ephemeral);
    hand.end_session();
    assert_eq!(
        (hand.tree.ephemeral_count(), hand.tree.lifetimes.bytes_of_session(SessionId(7))),
        (1, 0)
    );
    hand.create_as(&path(0), CreateMode::Ephemeral);
}
