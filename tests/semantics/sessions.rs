//! Sessions: how they begin, move, write in order, and end.

use synod_core::model::{
    Acl, AddWatchMode, Code, CreateMode, Entry, Op, Password, Read, Rearm, Response, SessionId,
    WatchKind, WatchRequest, Write, Zxid,
};

use crate::bench::{
    ANN, BEN, Bench, EPHEMERAL, PERSISTENT, check_op, code, create, delete, exists, set, set_acl,
};

const NEW: SessionId = SessionId(42);

fn state(bench: &Bench, id: SessionId) -> (u32, Zxid, u64) {
    let session = bench.engine.session(id).expect("the session lives");
    (session.timeout_ms, session.attachment, session.sequence)
}

#[test]
fn a_new_session_is_attached_at_the_zxid_of_its_creation() {
    let mut bench = Bench::new();
    let answer = bench.open(NEW);
    let attachment = bench.engine.last_zxid();
    assert_eq!(answer, Ok(Response::Attached { session: NEW, attachment }));
    assert_eq!(state(&bench, NEW), (4_000, attachment, 0));
}

#[test]
fn a_session_number_is_given_once_at_a_time() {
    let mut bench = Bench::new();
    bench.open(NEW).expect("a new session");
    bench.write(NEW, create("/a", PERSISTENT)).expect("created");
    let before = state(&bench, NEW);
    let other = Write::CreateSession { id: NEW, password: Password([1; 16]), timeout_ms: 40_000 };
    assert_eq!(code(bench.system(other)), Code::SystemError);
    assert_eq!(state(&bench, NEW), before);
}

#[test]
fn the_coordinators_own_number_is_no_clients() {
    let mut bench = Bench::new();
    assert_eq!(code(bench.open(SessionId::SYSTEM)), Code::SystemError);
    assert!(bench.engine.session(SessionId::SYSTEM).is_none());
}

#[test]
fn nobody_reads_or_watches_without_a_session() {
    let mut bench = Bench::with(&["/a"]);
    for read in [exists("/a", true), Read::WhoAmI, Read::Ephemerals { prefix: None }] {
        assert_eq!(code(bench.read(NEW, read)), Code::SessionExpired);
    }
    let (path, kind, mode) = ("/a".into(), WatchKind::Any, AddWatchMode::Persistent);
    let add = WatchRequest::Add { path, mode };
    let check = WatchRequest::Check { path: "/a".into(), kind };
    for request in [add, check, WatchRequest::Rearm(Rearm::default())] {
        assert_eq!(code(bench.watch(NEW, request)), Code::SessionExpired);
    }
    bench.open(NEW).expect("a new session");
    assert!(!bench.has_watch(NEW, "/a", WatchKind::Any));
}

#[test]
fn nobody_writes_without_a_session() {
    let mut bench = Bench::new();
    assert_eq!(code(bench.write(NEW, create("/a", PERSISTENT))), Code::SessionExpired);
    assert_eq!(code(bench.write(NEW, Write::CloseSession)), Code::SessionExpired);
    assert_eq!(code(bench.write(NEW, Write::Attach { timeout_ms: 1 })), Code::SessionExpired);
    assert!(bench.engine.session(NEW).is_none() && !bench.is_there("/a"));
}

#[test]
fn every_write_of_a_client_advances_its_sequence_whether_it_succeeds_or_fails() {
    let mut bench = Bench::new();
    let writes = [
        create("/a", PERSISTENT),
        create("/a", PERSISTENT),
        delete("/none"),
        set("/a", "x"),
        set_acl("/a", vec![]),
        Write::Multi(vec![]),
        Write::Multi(vec![check_op("/none", -1)]),
        Write::Op(check_op("/a", -1)),
        Write::Reap { path: "/a".into() },
    ];
    for (sequence, write) in (1..).zip(writes) {
        let _ = bench.write(ANN, write);
        assert_eq!(state(&bench, ANN).2, sequence);
    }
    assert_eq!(state(&bench, BEN).2, 0, "each session counts for itself");
}

#[test]
fn a_stale_attachments_write_is_refused_as_moved() {
    let mut bench = Bench::new();
    let old = bench.entry(ANN, create("/a", PERSISTENT));
    bench.write(ANN, Write::Attach { timeout_ms: 4_000 }).expect("attached");
    let before = state(&bench, ANN);
    assert_eq!(code(bench.apply(&old).result), Code::SessionMoved);
    assert!(!bench.is_there("/a"));
    assert_eq!(state(&bench, ANN), before, "the sequence stays");
    let ahead = Entry { attachment: Zxid::new(9, 9), ..bench.entry(ANN, Write::CloseSession) };
    assert_eq!(code(bench.apply(&ahead).result), Code::SessionMoved, "nor one that never was");
    bench.create(ANN, "/a", PERSISTENT);
}

#[test]
fn a_gap_in_the_sequence_is_refused_and_so_is_a_repetition() {
    let mut bench = Bench::new();
    bench.create(ANN, "/a", PERSISTENT);
    let next = bench.entry(ANN, create("/b", PERSISTENT));
    for sequence in [0, 1, 3, 4, u64::MAX] {
        let wrong = Entry { sequence, ..next.clone() };
        assert_eq!(code(bench.apply(&wrong).result), Code::SequenceGap, "{sequence} after 1");
        assert_eq!(state(&bench, ANN).2, 1, "the sequence stays");
    }
    assert!(!bench.is_there("/b"));
    bench.apply(&next).result.expect("2 after 1");
}

#[test]
fn a_session_that_moved_is_told_so_before_a_gap_is() {
    let mut bench = Bench::new();
    let entry = bench.entry(ANN, create("/a", PERSISTENT));
    let wrong = Entry { sequence: 9, attachment: Zxid::ZERO, ..entry };
    assert_eq!(code(bench.apply(&wrong).result), Code::SessionMoved);
}

#[test]
fn an_attachment_begins_a_new_sequence_and_keeps_the_ephemerals() {
    let mut bench = Bench::new();
    bench.create(ANN, "/e", EPHEMERAL);
    // It need not know the attachment before, nor the sequence.
    let entry = Entry {
        attachment: Zxid::ZERO,
        sequence: 77,
        ..bench.entry(ANN, Write::Attach { timeout_ms: 20_000 })
    };
    let applied = bench.apply(&entry);
    let attachment = bench.engine.last_zxid();
    assert_eq!(applied.zxid, attachment, "it takes a zxid");
    assert_eq!(applied.result, Ok(Response::Attached { session: ANN, attachment }));
    assert_eq!(state(&bench, ANN), (20_000, attachment, 0));
    assert_eq!(bench.stat("/e").ephemeral_owner, Some(ANN));
    bench.create(ANN, "/first", PERSISTENT);
}

#[test]
fn closing_removes_the_sessions_own_ephemerals_and_nothing_else() {
    let mut bench = Bench::with(&["/a"]);
    bench.create(ANN, "/a/ann", EPHEMERAL);
    bench.create(BEN, "/a/ben", EPHEMERAL);
    bench.create(ANN, "/a/s-", CreateMode::EphemeralSequential);
    bench.create(ANN, "/stays", PERSISTENT);
    assert_eq!(bench.write(ANN, Write::CloseSession), Ok(Response::Done));
    assert!(bench.engine.session(ANN).is_none());
    let left = ["/a", "/a/ann", "/a/ben", "/a/s-0000000002", "/stays"].map(|it| bench.is_there(it));
    assert_eq!(left, [true, false, true, false, true]);
    assert_eq!(code(bench.write(ANN, create("/b", PERSISTENT))), Code::SessionExpired);
}

#[test]
fn ephemerals_go_whatever_their_acl_and_their_parents_say() {
    let mut bench = Bench::with(&["/a"]);
    bench.create_for(ANN, "/a/e", EPHEMERAL, vec![Acl::new(Acl::open()[0].perms, "ip", "9.9.9.9")]);
    bench.set_acl(ANN, "/a", Acl::read_only());
    bench.expire(ANN).expect("expired");
    assert!(!bench.is_there("/a/e"));
}

#[test]
fn an_ephemeral_that_was_deleted_before_can_be_somebody_elses_by_the_end() {
    let mut bench = Bench::new();
    bench.create(ANN, "/e", EPHEMERAL);
    bench.delete(BEN, "/e");
    bench.create(BEN, "/e", EPHEMERAL);
    bench.expire(ANN).expect("expired");
    assert_eq!(bench.stat("/e").ephemeral_owner, Some(BEN));
}

#[test]
fn an_expiry_that_was_judged_too_early_is_refused() {
    let mut bench = Bench::new();
    let known = bench.engine.session(ANN).expect("it lives");
    let expire = |attachment, sequence| Write::ExpireSession { id: ANN, attachment, sequence };
    bench.create(ANN, "/e", EPHEMERAL);
    let judged = expire(known.attachment, 0);
    assert_eq!(code(bench.system(judged)), Code::SessionMoved, "it has written since");
    let judged = expire(known.attachment, 1);
    bench.write(ANN, Write::Attach { timeout_ms: 4_000 }).expect("attached");
    assert_eq!(code(bench.system(judged)), Code::SessionMoved, "it was attached since");
    let attachment = bench.engine.session(ANN).expect("it lives").attachment;
    let judged = expire(attachment, 1);
    assert_eq!(code(bench.system(judged)), Code::SessionMoved, "the sequence is another one");
    assert!(bench.is_there("/e"));
    assert_eq!(bench.system(expire(attachment, 0)), Ok(Response::Done));
    assert_eq!(code(bench.system(expire(attachment, 0))), Code::SessionExpired);
    assert!(!bench.is_there("/e"));
}

#[test]
fn a_client_cannot_ask_what_the_coordinator_asks_itself() {
    let mut bench = Bench::new();
    bench.create(BEN, "/e", EPHEMERAL);
    bench.create(BEN, "/t", CreateMode::Ttl { ttl_ms: 1 });
    bench.clock_ms += 1_000;
    let ben = bench.engine.session(BEN).expect("it lives");
    for write in [
        Write::CreateSession { id: NEW, password: Password([0; 16]), timeout_ms: 4_000 },
        Write::ExpireSession { id: BEN, attachment: ben.attachment, sequence: ben.sequence },
        Write::Reap { path: "/t".into() },
    ] {
        assert_eq!(code(bench.write(ANN, write)), Code::Unimplemented);
    }
    assert!(bench.engine.session(NEW).is_none() && bench.is_there("/e") && bench.is_there("/t"));
}

#[test]
fn the_coordinator_cannot_ask_what_a_client_asks() {
    let mut bench = Bench::with(&["/a"]);
    for write in [
        create("/b", PERSISTENT),
        delete("/a"),
        set("/a", "x"),
        set_acl("/a", Acl::open()),
        Write::Multi(vec![]),
        Write::Attach { timeout_ms: 4_000 },
        Write::CloseSession,
    ] {
        assert_eq!(code(bench.system(write.clone())), Code::Unimplemented, "{write:?}");
    }
    assert!(bench.is_there("/a") && !bench.is_there("/b"));
}

#[test]
fn a_check_stands_in_transactions_only() {
    let mut bench = Bench::with(&["/a"]);
    assert_eq!(code(bench.write(ANN, Write::Op(check_op("/a", -1)))), Code::Unimplemented);
    let Some(zxid) = bench.engine.last_zxid().next(1) else { panic!("a number is left") };
    let op: Op = check_op("/a", -1);
    assert_eq!(code(bench.write(ANN, Write::ProposeAt { zxid, op })), Code::Unimplemented);
}

#[test]
fn engines_that_were_given_one_log_have_one_digest_whatever_was_read_from_them() {
    let mut one = Bench::with(&["/a", "/a/b"]);
    let mut two = Bench::with(&["/a", "/a/b"]);
    assert_eq!(one.engine.digest(), two.engine.digest());
    one.watch_exists(ANN, "/a");
    one.engine.disconnect(ANN);
    assert_eq!(one.engine.digest(), two.engine.digest());
    for bench in [&mut one, &mut two] {
        bench.create(BEN, "/e", EPHEMERAL);
        bench.expire(BEN).expect("expired");
    }
    assert_eq!(one.engine.digest(), two.engine.digest());
}

#[test]
fn engines_with_different_trees_have_different_digests() {
    let changes: [fn(&mut Bench); 7] = [
        |_| {},
        |bench| assert_eq!(bench.create(ANN, "/b", PERSISTENT).0, "/b"),
        |bench| assert_eq!(bench.create(ANN, "/b", EPHEMERAL).0, "/b"),
        |bench| assert_eq!(bench.create(BEN, "/b", EPHEMERAL).0, "/b"),
        |bench| assert_eq!(bench.set(ANN, "/a", "x").version, 1),
        |bench| assert_eq!(bench.set(ANN, "/a", "y").version, 1),
        |bench| assert_eq!(bench.set_acl(ANN, "/a", Acl::read_only()).aversion, 1),
    ];
    let digest = |change: fn(&mut Bench)| {
        let mut bench = Bench::with(&["/a"]);
        change(&mut bench);
        bench.engine.digest()
    };
    let digests = changes.map(digest);
    for (at, one) in digests.iter().enumerate() {
        assert!(!digests[..at].contains(one), "change {at} has an earlier one's digest");
    }
}
