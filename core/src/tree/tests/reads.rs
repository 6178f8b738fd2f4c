use super::*;
use crate::model::limits::REPLY_BYTES_MAX;
use crate::model::{ReadOp, ReadOpResult};

fn data(hand: &Hand, path: &str) -> Option<Bytes> {
    hand.tree.get_data(&[], path).expect("readable").0
}

#[test]
fn null_and_empty_data_are_told_apart() {
    let mut hand = Hand::new();
    hand.create_with_acl("/null", Acl::open()).expect("created");
    hand.create("/empty");
    hand.set("/empty", "");
    assert_eq!((data(&hand, "/null"), data(&hand, "/empty")), (None, Some(Bytes::new())));
    let digest = hand.tree.digest();
    let to_null = Op::SetData { path: "/empty".into(), data: None, version: -1 };
    hand.op(&to_null).expect("set");
    assert_eq!(data(&hand, "/empty"), None);
    assert_ne!(hand.tree.digest(), digest);
    hand.set("/null", "x");
    assert_eq!(data(&hand, "/null"), Some(Bytes::from("x")));
    assert_sound(&hand.tree);
}

#[test]
fn data_that_was_read_does_not_change_afterwards() {
    let mut hand = Hand::with(&["/a"]);
    for bytes in [10, 5_000] {
        let (old, new) = ("o".repeat(bytes), "n".repeat(bytes));
        hand.set("/a", &old);
        let read = data(&hand, "/a");
        hand.set("/a", &new);
        assert_eq!(read, Some(Bytes::from(old)));
        assert_eq!(data(&hand, "/a"), Some(Bytes::from(new)));
        assert_sound(&hand.tree);
    }
}

#[test]
fn any_paths_are_prefetched_to_the_last_one() {
    let mut hand = Hand::with(&["/a", "/a/b", "/gone"]);
    hand.set("/a", &"x".repeat(100));
    hand.delete("/gone");
    let paths = ["/", "", "a", "/a", "/a/b", "/none", "/gone"];
    let mut left = paths.into_iter().cycle().take(40);
    let tree = &hand.tree;
    let counts = [(); 4].map(|()| tree.index.prefetch(tree.nodes.slots(), left.by_ref()));
    assert_eq!(counts, [16, 16, 8, 0]);
    assert_sound(tree);
}

/// Two paths seldom share a hash, but then this alone tells them apart.
#[test]
fn a_znode_is_at_its_own_path_alone() {
    let hand = Hand::with(&["/a", "/a/bc"]);
    let nodes = hand.tree.nodes.slots();
    let is_at = |path| index::is_at(nodes, hand.tree.lookup("/a/bc").expect("exists"), path);
    assert!(is_at("/a/bc"));
    for path in [
        "/bc", "bc", "/c", "/a/c", "/a/b", "/x/bc", "/x/a/bc", "//a/bc", "a/bc", "/a//bc",
        "/a/bc/", "/xa/bc", "/a/xbc", "/", "",
    ] {
        assert!(!is_at(path), "{path:?}");
    }
}

#[test]
fn children_are_named_without_their_path() {
    let mut hand = Hand::with(&["/p", "/p/b", "/p/ä", "/p/a", "/p/a/below"]);
    hand.delete("/p/b");
    let (mut names, stat) = hand.tree.children(&[], "/p").expect("readable");
    names.sort_unstable();
    assert_eq!((names, stat), (vec!["a".to_owned(), "ä".to_owned()], hand.stat("/p")));
    assert_eq!(hand.tree.children(&[], "/p/ä").expect("readable").0, [""; 0]);
}

#[test]
fn siblings_can_go_in_any_order() {
    for order in ["abc", "acb", "bac", "bca", "cab", "cba"] {
        let mut hand = Hand::with(&["/p", "/p/a", "/p/b", "/p/c"]);
        let mut left = vec!["a", "b", "c"];
        for name in order.chars().map(String::from) {
            hand.delete(&format!("/p/{name}"));
            left.retain(|other| **other != name);
            let (mut names, _) = hand.tree.children(&[], "/p").expect("readable");
            names.sort_unstable();
            assert_eq!(names, left, "{order}");
            assert_sound(&hand.tree);
        }
    }
}

#[test]
fn descendants_are_counted_at_any_depth() {
    let mut hand = Hand::with(&["/a", "/a/b", "/a/b/c", "/a/b/d", "/a/e", "/f"]);
    let count = |path| hand.tree.descendant_count(&[], path).expect("readable");
    assert_eq!([count("/a"), count("/a/b"), count("/a/b/c"), count("/f")], [4, 2, 0, 0]);
    assert_eq!(count("/"), 6 + 3);
    assert_eq!(count("/zookeeper"), 2);
    hand.tree.children_listed_max = 3;
    assert_eq!(code(hand.tree.descendant_count(&[], "/a")), Code::Throttled);
    assert_eq!(hand.tree.descendant_count(&[], "/a/b"), Ok(2));
    assert_eq!(hand.tree.descendant_count(&[], "/"), Ok(6 + 3), "which is known");
    hand.tree.children_listed_max = 4;
    assert_eq!(hand.tree.descendant_count(&[], "/a"), Ok(4));
}

#[test]
fn one_failed_read_does_not_stop_the_others() {
    let mut hand = Hand::with(&["/a", "/a/b", "/closed"]);
    hand.set_acl("/closed", &[Acl::new(Perms::WRITE, "world", "anyone")]).expect("permitted");
    let get = |path: &str| ReadOp::GetData { path: path.into() };
    let list = |path: &str| ReadOp::Children { path: path.into() };
    let answers = hand.tree.multi_read(&[], &[get("/no"), get("/closed"), list("/a"), get("/a")]);
    let answers = answers.expect("they fit");
    let stat = hand.stat("/a");
    assert_eq!(
        answers,
        [
            Err(Code::NoNode),
            Err(Code::NoAuth),
            Ok(ReadOpResult::Children(vec!["b".to_owned()])),
            Ok(ReadOpResult::Data { data: Some(Bytes::from("d")), stat }),
        ]
    );
}

#[test]
fn names_beyond_what_a_reply_may_have_are_refused() {
    let mut hand = Hand::with(&["/p", "/q", "/q/a", "/q/b"]);
    let name = "n".repeat(8_000);
    for number in 0..REPLY_BYTES_MAX / 8_000 {
        hand.create(&format!("/p/{name}{number:06}"));
    }
    let refusal = hand.tree.children(&[], "/p").expect_err("they do not fit");
    let rule = "the answers of one request have at most 64 MiB";
    assert_eq!((refusal.code, refusal.rule), (Code::Throttled, rule));
    let list = |path: &str| ReadOp::Children { path: path.into() };
    let listed = |tree: &Tree, ops: &[ReadOp]| -> Vec<Result<usize, Code>> {
        let answers = tree.multi_read(&[], ops).expect("they fit");
        let names = |answer| match answer {
            Ok(ReadOpResult::Children(names)) => Ok(names.len()),
            Ok(other) => panic!("{other:?}"),
            Err(code) => Err(code),
        };
        answers.into_iter().map(names).collect()
    };
    // What one takes, the next has not.
    assert_eq!(
        listed(&hand.tree, &[list("/q"), list("/p"), list("/q")])[..2],
        [Ok(2), Err(Code::Throttled)]
    );
    hand.tree.children_listed_max = 5;
    let twice = [list("/q"), list("/q"), list("/q")];
    assert_eq!(listed(&hand.tree, &twice), [Ok(2), Ok(2), Err(Code::Throttled)]);
}

/// A recursion would run out of its stack; a test has 2 MiB.
#[test]
fn the_deepest_tree_is_read_viewed_and_undone() {
    let mut hand = Hand::new();
    let depth = (crate::model::limits::PATH_BYTES_MAX - 1) / 2;
    let path = "/a".repeat(depth);
    let mut parent = hand.tree.root;
    for level in 1..=depth {
        // Straight to the znode above: through paths this would take the depth squared.
        let content = Content::new(b"a", None, 0);
        let acl = hand.tree.node(parent).acl;
        let node = Node::new(parent, "a", content, acl, Life::Persistent, Zxid::ZERO, 0);
        parent = hand.tree.attach(&path[..2 * level], node, store::Tally { creates: 1, pzxid: 0 });
    }
    assert_eq!(hand.tree.descendant_count(&[], "/a"), Ok(depth as u32 - 1));
    let (mut deepest, mut seen) = (0, 0);
    hand.tree.view().visit(|path, _| {
        deepest = deepest.max(path.len());
        seen += 1;
    });
    assert_eq!((deepest, seen), (path.len(), depth + 4));
    assert_eq!(code(hand.multi(&[delete(&path), check("/no", 0)])), Code::NoNode);
    assert!(hand.tree.stat(&path).is_some());
}
