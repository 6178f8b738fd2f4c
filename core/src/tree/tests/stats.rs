//! Each line of "Stat" in the protocol's facts.

use super::*;

#[test]
fn a_fresh_tree_has_the_servers_own_znodes_uncounted() {
    let tree = Tree::new();
    let cversion = |path| tree.stat(path).map(|stat| (stat.cversion, stat.children));
    assert_eq!(cversion("/"), Some((-1, 1)));
    assert_eq!(cversion("/zookeeper"), Some((-2, 2)));
    assert_eq!(cversion("/zookeeper/quota"), Some((0, 0)));
    assert_eq!(cversion("/zookeeper/config"), Some((0, 0)));
    assert_eq!(tree.stat("/").map(|stat| (stat.czxid, stat.ctime_ms)), Some((Zxid::ZERO, 0)));
    assert_eq!((tree.len(), tree.ephemeral_count()), (4, 0));
    assert_sound(&tree);
}

#[test]
fn a_created_znode_has_all_three_zxids_of_its_creation() {
    let mut hand = Hand::new();
    let stat = hand.create("/a");
    let expected = Stat {
        czxid: hand.last(),
        mzxid: hand.last(),
        pzxid: hand.last(),
        ctime_ms: hand.now_ms(),
        mtime_ms: hand.now_ms(),
        data_bytes: 1,
        ..Stat::default()
    };
    assert_eq!((stat, hand.stat("/a")), (expected, expected));
}

#[test]
fn a_create_counts_one_child_and_moves_the_parents_pzxid() {
    let mut hand = Hand::with(&["/p"]);
    let before = hand.stat("/p");
    hand.create("/p/a");
    let expected = Stat { children: 1, cversion: 1, pzxid: hand.last(), ..before };
    assert_eq!(hand.stat("/p"), expected);
}

#[test]
fn a_set_moves_mzxid_and_mtime_and_adds_one_version() {
    let mut hand = Hand::with(&["/a"]);
    let before = hand.stat("/a");
    let stat = hand.set("/a", "more");
    let (mzxid, mtime_ms) = (hand.last(), hand.now_ms());
    let expected = Stat { mzxid, mtime_ms, version: 1, data_bytes: 4, ..before };
    assert_eq!((stat, hand.stat("/a")), (expected, expected));
}

#[test]
fn a_set_leaves_the_parent_alone() {
    let mut hand = Hand::with(&["/p", "/p/a"]);
    let before = hand.stat("/p");
    hand.set("/p/a", "more");
    assert_eq!(hand.stat("/p"), before);
}

#[test]
fn a_set_of_the_same_bytes_is_a_change_all_the_same() {
    let mut hand = Hand::with(&["/a"]);
    let digest = hand.tree.digest();
    assert_eq!(hand.set("/a", "d").version, 1);
    assert_ne!(hand.tree.digest(), digest);
}

#[test]
fn a_set_of_the_acl_adds_one_aversion_and_nothing_else() {
    let mut hand = Hand::with(&["/a"]);
    let before = hand.stat("/a");
    let stat = hand.set_acl("/a", &Acl::read_only()).expect("permitted");
    let expected = Stat { aversion: 1, ..before };
    assert_eq!((stat, hand.stat("/a")), (expected, expected));
}

#[test]
fn a_delete_moves_the_parents_pzxid() {
    let mut hand = Hand::with(&["/p", "/p/a"]);
    let before = hand.stat("/p");
    hand.delete("/p/a");
    let expected = Stat { children: 0, cversion: 2, pzxid: hand.last(), ..before };
    assert_eq!(hand.stat("/p"), expected);
    assert_eq!(hand.tree.stat("/p/a"), None);
}

#[test]
fn cversion_is_twice_the_creates_less_the_children() {
    let mut hand = Hand::with(&["/p", "/p/a", "/p/b", "/p/c"]);
    assert_eq!(hand.stat("/p").cversion, 3);
    hand.delete("/p/b");
    assert_eq!(hand.stat("/p").cversion, 4);
    hand.create("/p/b");
    assert_eq!(hand.stat("/p").cversion, 5);
    assert_eq!(hand.stat("/").cversion, 2 - 2);
}

#[test]
fn only_an_ephemeral_znode_shows_an_owner() {
    let mut hand = Hand::new();
    let modes = [CreateMode::Persistent, CreateMode::Container, CreateMode::Ttl { ttl_ms: 5 }];
    for (path, mode) in ["/p", "/c", "/t"].into_iter().zip(modes) {
        assert_eq!(hand.create_as(path, mode).1.ephemeral_owner, None, "{mode:?}");
    }
    let (_, stat) = hand.create_as("/e", CreateMode::Ephemeral);
    assert_eq!(stat.ephemeral_owner, Some(SessionId(7)));
}

#[test]
fn a_znode_that_is_created_again_is_another_one() {
    let mut hand = Hand::with(&["/a"]);
    let first = hand.set("/a", "x");
    hand.delete("/a");
    let second = hand.create("/a");
    assert!(second.czxid > first.czxid && second.version == 0);
    assert_sound(&hand.tree);
}
