use super::*;
use std::collections::BTreeMap;

#[test]
fn a_view_shows_parents_first_with_full_paths() {
    let mut hand = Hand::with(&["/a", "/a/b", "/a/b/c", "/d"]);
    hand.create_as("/a/b/e", CreateMode::Ephemeral);
    hand.create_as("/d/t", CreateMode::TtlSequential { ttl_ms: 9 });
    let mut seen = BTreeMap::new();
    hand.tree.view().visit(|path, znode| {
        if let Some((parent, _)) = path.rsplit_once('/')
            && path != "/"
        {
            let parent = if parent.is_empty() { "/" } else { parent };
            assert!(seen.contains_key(parent), "{parent} before {path}");
        }
        seen.insert(path.to_owned(), (znode.mode, znode.creates, znode.stat.ephemeral_owner));
    });
    assert_eq!(seen.len(), 10);
    assert_eq!(seen["/a/b"], (CreateMode::Persistent, 2, None));
    assert_eq!(seen["/a/b/e"], (CreateMode::Ephemeral, 0, Some(SessionId(7))));
    assert_eq!(seen["/d/t0000000000"], (CreateMode::Ttl { ttl_ms: 9 }, 0, None));
    assert_eq!(seen["/"], (CreateMode::Persistent, 2, None));
}

#[test]
fn a_view_is_unaffected_by_later_writes() {
    let mut hand = Hand::new();
    for i in 0..500 {
        hand.create(&format!("/n{i}"));
    }
    let show = |view: &TreeView| {
        let mut lines = Vec::new();
        view.visit(|path, znode| lines.push(format!("{path} {znode:?}")));
        lines
    };
    let view = hand.tree.view();
    let (before, digest) = (show(&view), view.digest());
    assert_eq!((view.len(), digest), (504, hand.tree.digest()));
    for i in 0..500 {
        match i % 4 {
            0 => assert_eq!(hand.set(&format!("/n{i}"), "e").version, 1),
            1 => hand.delete(&format!("/n{i}")),
            2 => assert!(hand.set_acl(&format!("/n{i}"), &Acl::read_only()).is_ok()),
            _ => assert_eq!(hand.create(&format!("/n{i}/below")).version, 0),
        }
    }
    for i in 0..500 {
        hand.create(&format!("/m{i}"));
    }
    assert_eq!((view.len(), view.digest()), (504, digest));
    assert!(show(&view) == before, "the view shows what it showed");
    assert_sound(&hand.tree);
}

#[test]
fn a_view_keeps_the_acls_that_the_tree_forgets() {
    let mut hand = Hand::new();
    let own = vec![Acl::new(Perms::ALL, "sasl", "one")];
    hand.create_with_acl("/a", own.clone()).expect("created");
    let view = hand.tree.view();
    hand.delete("/a");
    hand.create_with_acl("/b", vec![Acl::new(Perms::ALL, "sasl", "two")]).expect("created");
    let mut shown = Vec::new();
    view.visit(|path, znode| {
        if path == "/a" {
            shown = znode.acl.to_vec();
        }
    });
    assert_eq!(shown, own);
}

#[test]
fn a_view_can_be_written_out_on_another_thread() {
    let mut hand = Hand::with(&["/a"]);
    let view = hand.tree.view();
    let writer = std::thread::spawn(move || {
        let mut znodes = 0;
        view.visit(|_, _| znodes += 1);
        znodes
    });
    hand.delete("/a");
    assert_eq!(writer.join().expect("no panic"), 5);
}
