//! Which error wins. Each row breaks a rule and every later one that it can; the code shows
//! which was judged first.

use super::*;
use crate::model::limits::{DATA_BYTES_MAX, TTL_MS_MAX};

const NOBODY: &str = "x509";

/// `/open`, `/closed` (permits nothing), `/closed/a`, `/e` (ephemeral), `/full` with `/full/a`.
fn hand() -> Hand {
    let mut hand = Hand::with(&["/open", "/closed", "/closed/a", "/full", "/full/a"]);
    hand.create_as("/e", CreateMode::Ephemeral);
    hand.create_as("/closed/e", CreateMode::Ephemeral);
    for path in ["/closed", "/closed/a", "/closed/e"] {
        hand.set_acl(path, &[Acl::new(Perms::ALL, NOBODY, "me")]).expect("permitted");
    }
    hand.effects.clear();
    hand
}

fn assert_refused(rows: &[(&str, Op, Code)]) {
    let mut hand = hand();
    let (before, digest) = (dump(&hand.tree), hand.tree.digest());
    for (rule, op, expected) in rows {
        assert_eq!(code(hand.op(op)), *expected, "{rule}: {op:?}");
        assert_eq!(hand.tree.digest(), digest, "{rule}");
    }
    assert_eq!((dump(&hand.tree), hand.effects.len()), (before, 0));
    assert_sound(&hand.tree);
}

fn create_of(path: &str, mode: CreateMode, acl: Vec<Acl>, data_bytes: usize) -> Op {
    let data = Some(Bytes::from(vec![0; data_bytes]));
    Op::Create(Create { path: path.into(), data, acl, mode })
}

#[test]
fn of_a_create_the_first_broken_rule_wins() {
    use Code::*;
    use CreateMode::{Persistent, PersistentSequential, Ttl};
    let open = Acl::open;
    let over = DATA_BYTES_MAX + 1;
    assert_refused(&[
        ("TTL before all", create_of("no slash", Ttl { ttl_ms: 0 }, vec![], over), BadArguments),
        ("TTL of 0", create_of("/t", Ttl { ttl_ms: 0 }, open(), 0), BadArguments),
        ("TTL too long", create_of("/t", Ttl { ttl_ms: TTL_MS_MAX + 1 }, open(), 0), BadArguments),
        ("slash before ACL", create_of("none", Persistent, vec![], 0), BadArguments),
        ("the empty path", create_of("", Persistent, open(), 0), BadArguments),
        ("NUL before ACL", create_of("/no/\0", Persistent, vec![], 0), BadArguments),
        ("ACL before parent", create_of("/no/a", Persistent, vec![], 0), InvalidAcl),
        ("parent before path", create_of("/no/\u{1}", Persistent, open(), over), NoNode),
        ("parent of a double slash", create_of("/open//a", Persistent, open(), 0), NoNode),
        ("a relative path has no parent", create_of("open/a", Persistent, open(), 0), NoNode),
        ("permission before path", create_of("/closed/..", Persistent, open(), over), NoAuth),
        ("permission before exists", create_of("/closed/a", Persistent, open(), 0), NoAuth),
        ("path", create_of("/open/..", Persistent, open(), 0), BadArguments),
        ("path at the root", create_of("//a", Persistent, open(), 0), BadArguments),
        ("path, trailing slash", create_of("/open/", Persistent, open(), 0), BadArguments),
        ("path before exists", create_of("//open", Persistent, open(), 0), BadArguments),
        ("data size", create_of("/full/a", Persistent, open(), over), BadArguments),
        ("exists", create_of("/full/a", Persistent, open(), 0), NodeExists),
        ("the root exists", create_of("/", Persistent, open(), 0), NodeExists),
        ("ephemeral parent", create_of("/e/a", Persistent, open(), 0), NoChildrenForEphemerals),
        (
            "and sequential",
            create_of("/e/", PersistentSequential, open(), 0),
            NoChildrenForEphemerals,
        ),
    ]);
}

#[test]
fn of_a_delete_the_first_broken_rule_wins() {
    use Code::*;
    let delete = |path: &str, version| Op::Delete { path: path.into(), version };
    assert_refused(&[
        ("no slash", delete("open", 9), BadArguments),
        ("the empty path", delete("", 9), BadArguments),
        ("NUL", delete("/no/\0", 9), BadArguments),
        ("the root", delete("/", 9), BadArguments),
        ("special", delete("/zookeeper", 9), BadArguments),
        ("special", delete("/zookeeper/quota", 9), BadArguments),
        ("special", delete("/zookeeper/config", 9), BadArguments),
        ("parent", delete("/no/a", 9), NoNode),
        ("permission before node", delete("/closed/no", 9), NoAuth),
        ("permission before version", delete("/closed/a", 9), NoAuth),
        ("node", delete("/open/no", 9), NoNode),
        ("malformed", delete("//open", -1), NoNode),
        ("malformed", delete("/open/", -1), NoNode),
        ("malformed", delete("/full//a", -1), NoNode),
        ("malformed", delete("open/a", -1), NoNode),
        ("version before children", delete("/full", 9), BadVersion),
        ("children", delete("/full", 0), NotEmpty),
    ]);
}

#[test]
fn of_a_set_the_first_broken_rule_wins() {
    use Code::*;
    let set = |path: &str, data_bytes: usize, version| Op::SetData {
        path: path.into(),
        data: Some(Bytes::from(vec![0; data_bytes])),
        version,
    };
    assert_refused(&[
        ("path before node", set("/no/..", 0, 9), BadArguments),
        ("path", set("", 0, 9), BadArguments),
        ("path", set("open", 0, 9), BadArguments),
        ("size before node", set("/no", DATA_BYTES_MAX + 1, 9), BadArguments),
        ("node", set("/no", 0, 9), NoNode),
        ("permission before version", set("/closed", 0, 9), NoAuth),
        ("version", set("/open", 0, 9), BadVersion),
        ("version", set("/open", 0, -2), BadVersion),
    ]);
}

#[test]
fn of_a_check_the_first_broken_rule_wins() {
    use Code::*;
    assert_refused(&[
        ("path before node", check("/no/", 9), BadArguments),
        ("node", check("/no", 9), NoNode),
        ("permission before version", check("/closed", 9), NoAuth),
        ("version", check("/open", 1), BadVersion),
    ]);
    assert_eq!(hand().op(&check("/open", 0)), Ok(OpResult::Checked));
}

#[test]
fn of_a_set_of_the_acl_the_first_broken_rule_wins() {
    use Code::*;
    let mut hand = hand();
    let digest = hand.tree.digest();
    for (path, acl, version, expected) in [
        ("/no/.", vec![], 9, BadArguments),
        ("/no", vec![], 9, InvalidAcl),
        ("/no", Acl::open(), 9, NoNode),
        ("/closed", Acl::open(), 9, NoAuth),
        ("/open", Acl::open(), 9, BadVersion),
    ] {
        let result = hand.next(|tree, change, _| tree.set_acl(change, path, &acl, version));
        assert_eq!(code(result), expected, "{path} {acl:?}");
        assert_eq!(hand.tree.digest(), digest);
    }
}

#[test]
fn data_of_the_largest_size_is_accepted() {
    let mut hand = Hand::new();
    let op = create_of("/a", CreateMode::Persistent, Acl::open(), DATA_BYTES_MAX);
    assert!(hand.op(&op).is_ok());
    assert_eq!(hand.stat("/a").data_bytes as usize, DATA_BYTES_MAX);
    assert_sound(&hand.tree);
}

#[test]
fn reads_of_a_malformed_path_find_nothing() {
    let tree = hand().tree;
    for path in ["", "open", "/open/", "//open", "//", "/full//a", "/full/./a", "/\0", "/no"] {
        assert_eq!(code(tree.exists(&[], path)), Code::NoNode, "{path:?}");
        assert_eq!(code(tree.get_data(&[], path)), Code::NoNode, "{path:?}");
        assert_eq!(code(tree.get_acl(&[], path)), Code::NoNode, "{path:?}");
        assert_eq!(code(tree.children(&[], path)), Code::NoNode, "{path:?}");
        assert_eq!(code(tree.descendant_count(&[], path)), Code::NoNode, "{path:?}");
        assert_eq!((tree.stat(path), tree.acl_of(path)), (None, None), "{path:?}");
    }
}

#[test]
fn a_refusal_states_the_rule() {
    let mut hand = hand();
    let refusal = hand.op(&create("/no/a", CreateMode::Persistent)).expect_err("no parent");
    assert_eq!(refusal, Refusal::new(Code::NoNode, "the parent must exist"));
}
