//! Who may do what.

use synod_core::model::limits::{ACL_BYTES_MAX, ACL_ENTRIES_MAX};
use synod_core::model::{Acl, Code, Perms, Read, Response, Write};

use crate::bench::{
    ALICE, ANN, BEN, Bench, CAT, PERSISTENT, check_op, children, code, create, create_op, delete,
    exists, get, get_acl, set, set_acl,
};

fn world(perms: Perms) -> Vec<Acl> {
    vec![Acl::new(perms, "world", "anyone")]
}

fn all(scheme: &str, id: &str) -> Vec<Acl> {
    vec![Acl::new(Perms::ALL, scheme, id)]
}

/// The list as somebody sees it.
fn seen(bench: &mut Bench, path: &str, by: synod_core::model::SessionId) -> Result<Vec<Acl>, Code> {
    match bench.read(by, get_acl(path)) {
        Ok(Response::Acl { acl, .. }) => Ok(acl),
        refused => Err(code(refused)),
    }
}

#[test]
fn each_permission_permits_its_own_requests_only() {
    use Perms as P;
    let table: [(Perms, [bool; 8]); 5] = [
        // read, list and check; get the ACL; set; create below; delete below; set the ACL; count
        (P::READ, [true, true, false, false, false, false, true, true]),
        (P::WRITE, [false, false, true, false, false, false, false, false]),
        (P::CREATE, [false, false, false, true, false, false, false, false]),
        (P::DELETE, [false, false, false, false, true, false, false, false]),
        (P::ADMIN, [false, true, false, false, false, true, false, false]),
    ];
    for (perms, expected) in table {
        let mut bench = Bench::with(&["/a", "/a/old"]);
        bench.set_acl(ANN, "/a", world(perms));
        let count = Read::DescendantCount { path: "/a".into() };
        let permitted = [
            bench.read(BEN, get("/a", false)).map_err(|refusal| refusal.code),
            bench.read(BEN, get_acl("/a")).map_err(|refusal| refusal.code),
            bench.write(BEN, set("/a", "x")).map_err(|refusal| refusal.code),
            bench.write(BEN, create("/a/new", PERSISTENT)).map_err(|refusal| refusal.code),
            bench.write(BEN, delete("/a/old")).map_err(|refusal| refusal.code),
            bench.write(BEN, set_acl("/a", world(perms))).map_err(|refusal| refusal.code),
            bench.read(BEN, count).map_err(|refusal| refusal.code),
            bench
                .write(BEN, Write::Multi(vec![check_op("/a", -1)]))
                .map_err(|refusal| refusal.code),
        ];
        for (place, (result, expected)) in permitted.iter().zip(expected).enumerate() {
            assert_eq!(result.is_ok(), expected, "{perms:?}, request {place}");
            assert!(expected || *result == Err(Code::NoAuth), "{perms:?}, request {place}");
        }
        for read in [exists("/a", false), children("/a", false)] {
            assert_eq!(bench.read(BEN, read).is_ok(), perms == P::READ, "{perms:?}");
        }
    }
}

#[test]
fn permissions_do_not_reach_down() {
    let mut bench = Bench::with(&["/a", "/a/b", "/a/b/c"]);
    bench.set_acl(ANN, "/a", world(Perms(0)));
    bench.set(BEN, "/a/b", "x");
    bench.delete(BEN, "/a/b/c");
    assert_eq!(code(bench.write(BEN, delete("/a/b"))), Code::NoAuth);
}

#[test]
fn a_digest_is_matched_by_its_user_and_hash() {
    let mut bench = Bench::new();
    bench.create_for(ANN, "/a", PERSISTENT, all("digest", ALICE));
    assert_eq!(code(bench.read(BEN, get("/a", false))), Code::NoAuth);
    bench.prove(BEN, "digest", "alice:another-hash");
    bench.prove(BEN, "sasl", ALICE);
    assert_eq!(code(bench.read(BEN, get("/a", false))), Code::NoAuth);
    bench.prove(BEN, "digest", ALICE);
    bench.read(BEN, get("/a", false)).expect("alice may");
    bench.set(BEN, "/a", "x");
}

#[test]
fn names_of_x509_and_sasl_are_matched_as_they_are() {
    let mut bench = Bench::new();
    bench.create_for(ANN, "/x", PERSISTENT, all("x509", "CN=carol"));
    bench.create_for(ANN, "/s", PERSISTENT, all("sasl", "dave"));
    bench.prove(BEN, "x509", "CN=carol");
    bench.prove(CAT, "sasl", "dave");
    assert!(bench.read(BEN, get("/x", false)).is_ok() && bench.read(CAT, get("/s", false)).is_ok());
    assert_eq!(code(bench.read(CAT, get("/x", false))), Code::NoAuth);
    assert_eq!(code(bench.read(BEN, get("/s", false))), Code::NoAuth);
}

#[test]
fn an_address_is_matched_by_its_network() {
    // The clients have the address 10.1.2.3.
    for (network, expected) in [
        ("10.1.2.3", true),
        ("10.1.2.3/32", true),
        ("10.1.2.2/31", true),
        ("10.1.2.4/31", false),
        ("10.0.0.0/8", true),
        ("11.0.0.0/8", false),
        ("0.0.0.0/0", true),
        ("128.0.0.0/1", false),
        ("10.1.2.4", false),
        ("::/0", false),
        ("::1", false),
    ] {
        let mut bench = Bench::new();
        bench.create_for(ANN, "/a", PERSISTENT, all("ip", network));
        assert_eq!(bench.read(BEN, get("/a", false)).is_ok(), expected, "{network}");
    }
}

#[test]
fn an_address_of_version_6_is_matched_too() {
    for (network, expected) in
        [("2001:db8::/32", true), ("2001:db8::7", true), ("2001:db9::/32", false), ("::/0", true)]
    {
        let mut bench = Bench::new();
        bench.create_for(ANN, "/a", PERSISTENT, all("ip", network));
        bench.prove(BEN, "ip", "2001:db8::7");
        assert_eq!(bench.read(BEN, get("/a", false)).is_ok(), expected, "{network}");
    }
}

#[test]
fn the_superuser_may_do_everything_but_break_the_tree() {
    let mut bench = Bench::with(&["/a", "/a/b"]);
    bench.set_acl(ANN, "/a/b", all("digest", ALICE));
    bench.set_acl(ANN, "/a", world(Perms(0)));
    bench.prove(BEN, "super", "");
    bench.read(BEN, get("/a", false)).expect("super");
    assert_eq!(seen(&mut bench, "/a/b", BEN), Ok(all("digest", ALICE)), "unmasked");
    bench.set(BEN, "/a", "x");
    bench.create(BEN, "/a/new", PERSISTENT);
    bench.delete(BEN, "/a/b");
    assert_eq!(code(bench.write(BEN, delete("/a"))), Code::NotEmpty);
    bench.set_acl(BEN, "/a", Acl::open());
}

#[test]
fn auth_stands_for_users_and_not_for_the_superuser_or_an_address() {
    let mut bench = Bench::new();
    bench.prove(BEN, "super", "");
    let create = |path| Write::Op(create_op(path, PERSISTENT, Acl::creator()));
    assert_eq!(code(bench.write(BEN, create("/a"))), Code::InvalidAcl);
    bench.prove(BEN, "digest", ALICE);
    bench.write(BEN, create("/a")).expect("a user is proved");
    assert_eq!(seen(&mut bench, "/a", BEN), Ok(all("digest", ALICE)));
}

#[test]
fn a_list_must_be_of_known_schemes_and_well_formed_ids() {
    let mut bench = Bench::with(&["/a"]);
    let mut lists = vec![vec![]];
    for (scheme, id) in [
        ("world", "someone"),
        ("world", ""),
        ("", ""),
        ("nonsense", "x"),
        ("super", ""),
        ("digest", "alice"),
        ("digest", ""),
        ("digest", "a:b:c"),
        ("ip", ""),
        ("ip", "localhost"),
        ("ip", "10.0.0"),
        ("ip", "10.0.0.256"),
        ("ip", "10.0.0.0/33"),
        ("ip", "10.0.0.0/-1"),
        ("ip", "10.0.0.0/"),
        ("ip", "10.0.0.0/x"),
        ("ip", "::/129"),
        ("auth", ""),
    ] {
        lists.push(all(scheme, id));
        lists.push([Acl::open(), all(scheme, id)].concat());
    }
    for acl in lists {
        let new = Write::Op(create_op("/b", PERSISTENT, acl.clone()));
        assert_eq!(code(bench.write(ANN, new)), Code::InvalidAcl, "{acl:?}");
        assert_eq!(code(bench.write(ANN, set_acl("/a", acl.clone()))), Code::InvalidAcl, "{acl:?}");
    }
    assert_eq!(bench.stat("/a").aversion, 0);
}

#[test]
fn a_list_has_at_most_1024_entries() {
    let mut bench = Bench::new();
    let list = |count: usize| -> Vec<Acl> {
        (0..count).map(|user| Acl::new(Perms::ALL, "sasl", user.to_string())).collect()
    };
    let too_long = Write::Op(create_op("/a", PERSISTENT, list(ACL_ENTRIES_MAX + 1)));
    assert_eq!(code(bench.write(ANN, too_long)), Code::InvalidAcl);
    bench.create_for(ANN, "/a", PERSISTENT, list(ACL_ENTRIES_MAX));
}

#[test]
fn the_bytes_of_an_acl_are_bounded() {
    let mut bench = Bench::new();
    let list = |bytes: usize| vec![Acl::new(Perms::ALL, "sasl", "u".repeat(bytes - 4))];
    bench.create_for(ANN, "/a", PERSISTENT, list(ACL_BYTES_MAX));
    let too_long = Write::Op(create_op("/b", PERSISTENT, list(ACL_BYTES_MAX + 1)));
    assert_eq!(code(bench.write(ANN, too_long)), Code::InvalidAcl);
}

#[test]
fn auth_stands_for_all_that_the_connection_has_proved_but_its_address() {
    let mut bench = Bench::new();
    let creator = || Write::Op(create_op("/a", PERSISTENT, Acl::creator()));
    assert_eq!(code(bench.write(BEN, creator())), Code::InvalidAcl, "only an address");
    bench.prove(BEN, "digest", ALICE);
    bench.prove(BEN, "sasl", "ben");
    bench.write(BEN, creator()).expect("created");
    let expected = [all("digest", ALICE), all("sasl", "ben")].concat();
    assert_eq!(seen(&mut bench, "/a", BEN), Ok(expected));
    assert_eq!(code(bench.read(ANN, get("/a", false))), Code::NoAuth, "of the same address");
}

#[test]
fn auth_keeps_its_permissions_and_its_place() {
    let mut bench = Bench::with(&["/a"]);
    bench.prove(BEN, "digest", ALICE);
    let mixed = [
        world(Perms::READ),
        vec![Acl::new(Perms::WRITE | Perms::ADMIN, "auth", "ignored")],
        all("sasl", "dave"),
    ];
    bench.set_acl(BEN, "/a", mixed.concat());
    let expected = [
        world(Perms::READ),
        vec![Acl::new(Perms::WRITE | Perms::ADMIN, "digest", ALICE)],
        all("sasl", "dave"),
    ];
    assert_eq!(seen(&mut bench, "/a", BEN), Ok(expected.concat()));
}

#[test]
fn duplicates_are_dropped() {
    let mut bench = Bench::with(&["/a"]);
    let twice = [Acl::open(), world(Perms::READ), Acl::open()].concat();
    bench.set_acl(ANN, "/a", twice);
    assert_eq!(seen(&mut bench, "/a", ANN), Ok([Acl::open(), world(Perms::READ)].concat()));
}

#[test]
fn hashes_are_masked_for_who_may_not_administer() {
    let mut bench = Bench::new();
    let list = [all("digest", ALICE), world(Perms::READ), all("sasl", "a:b")].concat();
    bench.create_for(ANN, "/a", PERSISTENT, list.clone());
    let masked = [all("digest", "alice:x"), world(Perms::READ), all("sasl", "a:b")].concat();
    assert_eq!(seen(&mut bench, "/a", BEN), Ok(masked));
    bench.prove(BEN, "digest", ALICE);
    assert_eq!(seen(&mut bench, "/a", BEN), Ok(list));
}

#[test]
fn the_acl_is_shown_to_who_may_read_or_administer() {
    let mut bench = Bench::new();
    bench.create_for(ANN, "/read", PERSISTENT, world(Perms::READ));
    bench.create_for(ANN, "/admin", PERSISTENT, world(Perms::ADMIN));
    bench.create_for(ANN, "/none", PERSISTENT, world(Perms::WRITE));
    assert_eq!(seen(&mut bench, "/read", BEN), Ok(world(Perms::READ)));
    assert_eq!(seen(&mut bench, "/admin", BEN), Ok(world(Perms::ADMIN)));
    assert_eq!(seen(&mut bench, "/none", BEN), Err(Code::NoAuth));
    assert_eq!(seen(&mut bench, "/missing", BEN), Err(Code::NoNode));
}
