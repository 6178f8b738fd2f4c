use super::*;
use crate::model::limits::{MULTI_BYTES_MAX, MULTI_OPS_MAX};
use CreateMode::{Container, Ephemeral, EphemeralSequential, Persistent, PersistentSequential};
use EffectKind::{Created, DataChanged, Deleted};

#[test]
fn every_operation_sees_what_those_before_it_did() {
    let mut hand = Hand::with(&["/q"]);
    let ops = [
        create("/q/a", Persistent),
        create("/q/a/n-", PersistentSequential),
        set("/q/a", "xy"),
        check("/q/a", 1),
        delete("/q/a/n-0000000000"),
        delete("/q/a"),
        create("/q/n-", EphemeralSequential),
    ];
    let results = hand.multi(&ops).expect("all hold");
    let paths: Vec<_> = results
        .iter()
        .filter_map(|result| match result {
            OpResult::Created { path, stat } => Some((&**path, stat.czxid)),
            _ => None,
        })
        .collect();
    let zxid = hand.last();
    let expected = [("/q/a", zxid), ("/q/a/n-0000000000", zxid), ("/q/n-0000000001", zxid)];
    assert_eq!(paths, expected);
    assert_eq!((&results[3], &results[4], &results[5]), {
        (&OpResult::Checked, &OpResult::Deleted, &OpResult::Deleted)
    });
    let told = [
        (Created, "/q/a"),
        (Created, "/q/a/n-0000000000"),
        (DataChanged, "/q/a"),
        (Deleted, "/q/a/n-0000000000"),
        (Deleted, "/q/a"),
        (Created, "/q/n-0000000001"),
    ];
    assert_eq!(hand.told(), told.map(|(kind, path)| (kind, path.to_owned())));
    assert_sound(&hand.tree);
}

#[test]
fn an_empty_transaction_does_nothing_well() {
    let mut hand = Hand::new();
    let digest = hand.tree.digest();
    assert_eq!(hand.multi(&[]), Ok(vec![]));
    assert_eq!(hand.tree.digest(), digest);
}

#[test]
fn a_failed_transaction_leaves_everything_as_it_was() {
    let mut hand = Hand::with(&["/a", "/a/1", "/a/2", "/a/3", "/b"]);
    hand.create_as("/e", Ephemeral);
    hand.create_as("/c", Container);
    hand.create("/c/x");
    hand.delete("/c/x");
    hand.create_as("/t", CreateMode::Ttl { ttl_ms: 5 });
    hand.create_with_acl("/own", vec![Acl::new(Perms::ALL, "ip", "10.0.0.0/8")]).expect("created");
    hand.told();
    let own = vec![Acl::new(Perms::ALL, "sasl", "someone")];
    let data = Some(Bytes::from_static(b"new"));
    let (path, mode) = ("/new".into(), Persistent);
    let new_acl = Op::Create(Create { path, data, acl: own, mode });
    let steps = [
        set("/a", "longer than before"),
        set("/a", "d"),
        Op::SetData { path: "/b".into(), data: None, version: 0 },
        delete("/a/2"),
        create("/a/2", Ephemeral),
        create("/a/4", Persistent),
        delete("/a/4"),
        new_acl,
        delete("/own"),
        delete("/e"),
        create("/e", Persistent),
        create("/e/below", EphemeralSequential),
        create("/c/n-", PersistentSequential),
        set("/t", "x"),
        delete("/t"),
        delete("/c/n-0000000001"),
        delete("/c"),
        delete("/a/1"),
        delete("/a/2"),
        delete("/a/3"),
        delete("/a"),
    ];
    let (before, digest) = (dump(&hand.tree), hand.tree.digest());
    let ephemerals = hand.tree.ephemerals(hand.session, None);
    for done in 0..=steps.len() {
        let mut ops = steps[..done].to_vec();
        ops.push(check("/b", 77));
        let refusal = hand.multi(&ops).expect_err("the check fails");
        assert_eq!((refusal.code, refusal.index), (Code::BadVersion, Some(done as u32)));
        assert_eq!(hand.tree.digest(), digest, "after {done}");
        assert_eq!(dump(&hand.tree), before, "after {done}");
        assert_eq!(hand.tree.ephemerals(hand.session, None), ephemerals, "after {done}");
        assert_eq!(hand.told(), [], "after {done}");
        assert_sound(&hand.tree);
    }
    assert!(hand.multi(&steps).is_ok(), "it was the check alone that failed");
    assert_sound(&hand.tree);
}

#[test]
fn effects_from_before_a_failed_transaction_stay() {
    let mut hand = Hand::new();
    hand.create("/a");
    hand.multi(&[set("/a", "x"), delete("/no")]).expect_err("no such znode");
    assert_eq!(hand.told(), [(Created, "/a".to_owned())]);
}

#[test]
fn effects_carry_the_acls_of_their_moment_until_the_next_change() {
    let mut hand = Hand::with(&["/p"]);
    let only = |id| vec![Acl::new(Perms::ALL, "sasl", id)];
    hand.create_with_acl("/p/a", only("one")).expect("created");
    hand.told();
    let (path, data, acl, mode) = ("/p/b".into(), None, only("two"), Persistent);
    let create = Op::Create(Create { path, data, acl, mode });
    hand.multi(&[delete("/p/a"), create]).expect("permitted");

    let may_read = |acl, id| hand.tree.permits(acl, &[Identity::new("sasl", id)], Perms::READ);
    let [deleted, created] = &hand.effects[..] else { panic!("{:?}", hand.effects) };
    assert!(may_read(deleted.acl, "one") && !may_read(deleted.acl, "two"));
    assert!(may_read(created.acl, "two") && !may_read(created.acl, "one"));
    assert!(may_read(deleted.parent_acl, "anyone else"));

    let gone = deleted.acl;
    hand.create("/p/c");
    let one = [Identity::new("sasl", "one")];
    assert!(!hand.tree.permits(gone, &one, Perms::READ), "it is forgotten with the next change");
}

#[test]
fn a_transaction_that_is_too_large_is_refused_as_a_whole() {
    let mut hand = Hand::with(&["/a"]);
    let refusal = hand.multi(&vec![check("/a", 0); MULTI_OPS_MAX + 1]).expect_err("too many");
    assert_eq!((refusal.code, refusal.index), (Code::BadArguments, None));
    assert!(hand.multi(&vec![check("/a", 0); MULTI_OPS_MAX]).is_ok());

    let sets = |data_bytes: usize| {
        let data = Some(Bytes::from(vec![0; data_bytes]));
        [check("/a", 0), Op::SetData { path: "/a".into(), data, version: -1 }]
    };
    let refusal = hand.multi(&sets(MULTI_BYTES_MAX - 3)).expect_err("one byte too much");
    assert_eq!((refusal.code, refusal.index), (Code::BadArguments, None));
    assert!(hand.multi(&sets(MULTI_BYTES_MAX - 4)).is_ok());
}

/// A line of a few bytes stands for all that the connection has proved.
#[test]
fn what_auth_stands_for_counts_in_a_transaction() {
    let mut hand = Hand::new();
    for number in 0..60 {
        hand.identities.push(Identity::new("digest", format!("{number:02}:{}", "h".repeat(250))));
    }
    let acl: Vec<Acl> = (1..8).map(|perms| Acl::new(Perms(perms), "auth", "")).collect();
    let (data, mode) = (None, PersistentSequential);
    let one = Op::Create(Create { path: "/n".into(), data, acl, mode });
    let bytes = 7 * 60 * (4 + 6 + 3 + 250) + 7 * (4 + 2 + 8);
    let most = MULTI_BYTES_MAX / (bytes + 2);
    let refusal = hand.multi(&vec![one.clone(); most + 1]).expect_err("too large");
    assert_eq!((refusal.code, refusal.index), (Code::BadArguments, None));
    hand.multi(&vec![one; most]).expect("as large as may be");
    assert_sound(&hand.tree);
}
