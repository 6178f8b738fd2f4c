use super::*;

const ALL: Perms = Perms::ALL;

fn stored(hand: &Hand, path: &str) -> Vec<Acl> {
    let everything = [Identity::new("super", "")];
    hand.tree.get_acl(&everything, path).expect("super reads").0
}

#[test]
fn lists_that_break_a_rule_are_refused() {
    let mut hand = Hand::new();
    let too_long: Vec<Acl> = (0..1025).map(|i| Acl::new(ALL, "sasl", i.to_string())).collect();
    let long = too_long[1..].to_vec();
    for (rule, acl) in [
        ("empty", vec![]),
        ("unknown scheme", vec![Acl::new(ALL, "host", "a")]),
        ("no scheme", vec![Acl::new(ALL, "", "")]),
        ("super is no scheme of an ACL", vec![Acl::new(ALL, "super", "")]),
        ("world has one id", vec![Acl::new(ALL, "world", "everyone")]),
        ("auth while only an address is proved", Acl::creator()),
        ("auth among others", [Acl::open(), Acl::creator()].concat()),
        ("digest without colon", vec![Acl::new(ALL, "digest", "user")]),
        ("digest with two colons", vec![Acl::new(ALL, "digest", "user:a:b")]),
        ("no address", vec![Acl::new(ALL, "ip", "localhost")]),
        ("no address", vec![Acl::new(ALL, "ip", "")]),
        ("too many bits", vec![Acl::new(ALL, "ip", "10.0.0.0/33")]),
        ("too many bits", vec![Acl::new(ALL, "ip", "fe80::/129")]),
        ("no bits", vec![Acl::new(ALL, "ip", "10.0.0.0/")]),
        ("signed bits", vec![Acl::new(ALL, "ip", "10.0.0.0/+8")]),
        ("a bad line after a good one", vec![Acl::open()[0].clone(), Acl::new(ALL, "ip", "x")]),
        ("too long", too_long),
    ] {
        assert_eq!(code(hand.create_with_acl("/a", acl.clone())), Code::InvalidAcl, "{rule}");
        assert_eq!(code(hand.set_acl("/", &acl)), Code::InvalidAcl, "{rule}");
    }
    assert!(hand.create_with_acl("/long", long).is_ok());
    for (scheme, id) in [
        ("world", "anyone"),
        ("digest", "u:h"),
        ("ip", "10.0.0.1"),
        ("ip", "10.0.0.0/0"),
        ("ip", "fe80::1"),
        ("ip", "fe80::/10"),
        ("x509", "CN=a"),
        ("sasl", "a@b"),
    ] {
        let path = format!("/{}", id.replace('/', "-"));
        let acl = vec![Acl::new(ALL, scheme, id)];
        assert!(hand.create_with_acl(&path, acl).is_ok(), "{scheme}:{id}");
    }
}

#[test]
fn auth_becomes_what_the_connection_has_proved_but_its_address() {
    let mut hand = Hand::new();
    hand.identities.push(Identity::new("digest", "ann:1"));
    hand.identities.push(Identity::new("sasl", "ann"));
    hand.create_with_acl("/a", vec![Acl::new(Perms::READ, "auth", "ignored")]).expect("created");
    let expected = [Acl::new(Perms::READ, "digest", "ann:1"), Acl::new(Perms::READ, "sasl", "ann")];
    assert_eq!(stored(&hand, "/a"), expected);
}

#[test]
fn duplicates_are_dropped_and_order_is_kept() {
    let mut hand = Hand::new();
    hand.identities.push(Identity::new("digest", "ann:1"));
    let ann = Acl::new(ALL, "digest", "ann:1");
    let read = Acl::read_only()[0].clone();
    let list = vec![read.clone(), ann.clone(), read.clone(), Acl::creator()[0].clone()];
    hand.create_with_acl("/a", list).expect("created");
    assert_eq!(stored(&hand, "/a"), [read, ann]);
}

/// Who holds one permission may do what it permits and nothing else.
#[test]
fn every_operation_asks_for_its_permission() {
    let prepare = |node: Perms, parent: Perms| {
        let mut hand = Hand::with(&["/p", "/p/a"]);
        hand.set_acl("/p/a", &[Acl::new(node, "world", "anyone")]).expect("open so far");
        hand.set_acl("/p", &[Acl::new(parent, "world", "anyone")]).expect("open so far");
        hand
    };
    let none = Perms(0);
    for i in 0..5 {
        let perm = Perms(1 << i);
        let holds = |wanted: Perms| if perm == wanted { None } else { Some(Code::NoAuth) };
        let refusal = |result: Result<(), Refusal>| result.err().map(|refusal| refusal.code);

        let on_node = || prepare(perm, none);
        let tree = on_node().tree;
        let read = holds(Perms::READ);
        assert_eq!(refusal(tree.exists(&[], "/p/a").map(drop)), read, "exists {perm:?}");
        assert_eq!(refusal(tree.get_data(&[], "/p/a").map(drop)), read, "get {perm:?}");
        assert_eq!(refusal(tree.children(&[], "/p/a").map(drop)), read, "children {perm:?}");
        let count = tree.descendant_count(&[], "/p/a").map(drop);
        assert_eq!(refusal(count), read, "descendants {perm:?}");
        let acl = if perm == Perms::ADMIN { None } else { read };
        assert_eq!(refusal(tree.get_acl(&[], "/p/a").map(drop)), acl, "get ACL {perm:?}");
        let op = |hand: Hand, op: Op| {
            let mut hand = hand;
            refusal(hand.op(&op).map(drop))
        };
        assert_eq!(op(on_node(), check("/p/a", -1)), read, "check {perm:?}");
        assert_eq!(op(on_node(), set("/p/a", "x")), holds(Perms::WRITE), "set {perm:?}");
        let below = create("/p/a/b", CreateMode::Persistent);
        assert_eq!(op(on_node(), below), holds(Perms::CREATE), "create {perm:?}");
        let set_acl = on_node().set_acl("/p/a", &Acl::open()).map(drop);
        assert_eq!(refusal(set_acl), holds(Perms::ADMIN), "set ACL {perm:?}");
        assert_eq!(op(on_node(), delete("/p/a")), Some(Code::NoAuth), "delete asks above");

        let on_parent = || prepare(none, perm);
        assert_eq!(op(on_parent(), delete("/p/a")), holds(Perms::DELETE), "delete {perm:?}");
    }
}

#[test]
fn identities_match_by_scheme_and_id_addresses_by_their_first_bits() {
    let mut hand = Hand::new();
    let mut permits = |acl: (&str, &str), who: (&str, &str)| {
        let path = format!("/n{}", hand.zxid);
        hand.create_with_acl(&path, vec![Acl::new(ALL, acl.0, acl.1)]).expect("valid");
        let acl = hand.tree.acl_of(&path).expect("exists");
        hand.tree.permits(acl, &[Identity::new("x509", "else"), Identity::new(who.0, who.1)], ALL)
    };
    assert!(permits(("world", "anyone"), ("ip", "1.2.3.4")));
    assert!(permits(("digest", "a:1"), ("digest", "a:1")));
    assert!(!permits(("digest", "a:1"), ("digest", "a:2")));
    assert!(!permits(("digest", "a:1"), ("sasl", "a:1")));
    assert!(permits(("sasl", "a"), ("sasl", "a")));
    assert!(permits(("sasl", "a"), ("super", "")), "super passes all");
    for (network, address, inside) in [
        ("10.1.2.3", "10.1.2.3", true),
        ("10.1.2.3", "10.1.2.4", false),
        ("10.1.0.0/16", "10.1.255.7", true),
        ("10.1.0.0/16", "10.2.0.0", false),
        ("10.1.2.3/32", "10.1.2.3", true),
        ("10.1.2.3/31", "10.1.2.2", true),
        ("0.0.0.0/0", "9.9.9.9", true),
        ("0.0.0.0/0", "::1", false),
        ("::/0", "fe80::1", true),
        ("fe80::/10", "fe80::1", true),
        ("fe80::/10", "::1", false),
        ("::1", "::1", true),
        ("10.1.0.0/16", "::ffff:10.1.2.3", true),
        ("::ffff:10.1.2.3", "10.1.2.3", true),
        ("10.1.0.0/16", "nonsense", false),
    ] {
        assert_eq!(permits(("ip", network), ("ip", address)), inside, "{network} {address}");
    }
}

#[test]
fn hashes_are_masked_for_who_may_not_administer() {
    let mut hand = Hand::new();
    let (ann, bob) = (Identity::new("digest", "ann:1"), Identity::new("digest", "bob:2"));
    let acl = |ann: &str, bob: &str| {
        vec![Acl::new(ALL, "digest", ann), Acl::new(Perms::READ, "digest", bob)]
    };
    hand.create_with_acl("/a", acl("ann:1", "bob:2")).expect("created");
    let shown = |who: &Identity| hand.tree.get_acl(std::slice::from_ref(who), "/a");
    assert_eq!(shown(&ann).expect("ADMIN").0, acl("ann:1", "bob:2"));
    assert_eq!(shown(&bob).expect("READ").0, acl("ann:x", "bob:x"));
    assert_eq!(shown(&Identity::new("super", "")).expect("super").0, acl("ann:1", "bob:2"));
    assert_eq!(code(shown(&Identity::new("digest", "eve:3"))), Code::NoAuth);
}

#[test]
fn equal_lists_are_kept_once_and_forgotten_with_their_last_znode() {
    let mut hand = Hand::new();
    for i in 0..100 {
        let acl = vec![Acl::new(ALL, "sasl", format!("user{}", i % 5)), Acl::open()[0].clone()];
        hand.create_with_acl(&format!("/n{i}"), acl).expect("created");
    }
    // With the two of the coordinator's own znodes.
    assert_eq!(hand.tree.acls.len(), 7);
    for i in 0..100 {
        hand.set_acl(&format!("/n{i}"), &Acl::open()).expect("permitted");
    }
    hand.create("/x");
    assert_eq!(hand.tree.acls.len(), 2);
    hand.set_acl("/", &Acl::read_only()).expect("permitted");
    hand.tree
        .multi(
            &Change { zxid: hand.last(), time_ms: 0, session: hand.session, identities: &[] },
            &[],
            &mut Vec::new(),
        )
        .expect("empty");
    assert_eq!(hand.tree.acls.len(), 2);
}

#[test]
fn no_number_of_an_acl_outside_the_tree_permits_anything() {
    assert!(!Tree::new().permits(AclId(77), &[], Perms::READ));
}

/// Long lists are looked up in a table, short ones are read through.
#[test]
fn a_long_list_permits_what_its_lines_permit_one_by_one() {
    let who = |scheme: &str, id: &str| Identity::new(scheme, id);
    let askers = [
        who("digest", "a:1"),
        who("digest", "b:1"),
        who("sasl", "a:1"),
        who("sasl", "b"),
        who("ip", "10.1.2.3"),
        who("ip", "10.9.2.3"),
        who("ip", "fe80::1"),
        who("ip", "nonsense"),
        who("x509", "CN=a"),
        who("super", ""),
    ];
    let lines = [
        ("digest", "a:1"),
        ("digest", "b:2"),
        ("sasl", "b"),
        ("ip", "10.1.0.0/16"),
        ("ip", "10.1.2.3"),
        ("ip", "fe80::/10"),
        ("x509", "CN=a"),
        ("x509", "CN=b"),
    ];
    let mut hand = Hand::new();
    let mut state = 1_u64;
    for round in 0..200 {
        let mut acl = Vec::new();
        for (scheme, id) in lines {
            for _ in 0..2 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let perms = (state >> 40) as u32 & 31;
                if state >> 60 < 10 {
                    acl.push(Acl::new(Perms(perms), scheme, id));
                }
            }
        }
        if acl.is_empty() {
            continue;
        }
        let mut singly = |line: &Acl, path: &str| {
            hand.create_with_acl(path, vec![line.clone()]).expect("valid");
            hand.tree.acl_of(path).expect("exists")
        };
        let mut alone = Vec::new();
        for (number, line) in acl.iter().enumerate() {
            alone.push(singly(line, &format!("/{round}-{number}")));
        }
        let path = format!("/{round}");
        hand.create_with_acl(&path, acl.clone()).expect("valid");
        let all = hand.tree.acl_of(&path).expect("exists");
        for asker in &askers {
            for bit in 0..5 {
                let perms = Perms(1 << bit);
                let asker = std::slice::from_ref(asker);
                let expected = alone.iter().any(|one| hand.tree.permits(*one, asker, perms));
                assert_eq!(hand.tree.permits(all, asker, perms), expected, "{acl:?} {asker:?}");
            }
        }
    }
}
