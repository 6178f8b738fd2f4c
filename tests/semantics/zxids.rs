//! The number that every change takes.

use std::collections::BTreeSet;

use synod_core::engine::Applied;
use synod_core::model::limits::{TERM_MAX, ZXID_STEP_MAX};
use synod_core::model::{Acl, Code, Entry, Read, Response, SessionId, Write, Zxid};

use crate::bench::{
    ANN, BEN, Bench, EPHEMERAL, PERSISTENT, check_op, children, code, create, create_op, delete_op,
    exists, get, get_acl, set, set_op,
};

fn ahead(zxid: Zxid, counts: i64) -> Zxid {
    Zxid::from_i64(zxid.as_i64() + counts)
}

/// Proposes to create `/a/<name>`.
fn propose(bench: &mut Bench, session: SessionId, zxid: Zxid, name: &str) -> Applied {
    let op = create_op(&format!("/a/{name}"), PERSISTENT, Acl::open());
    let entry = bench.entry(session, Write::ProposeAt { zxid, op });
    bench.apply(&entry)
}

#[test]
fn every_entry_takes_the_next_zxid_the_failed_and_refused_too() {
    let mut bench = Bench::with(&["/a"]);
    let entries: [fn(&Bench) -> Entry; 10] = [
        |bench| bench.entry(ANN, create("/a/b", EPHEMERAL)),
        |bench| bench.entry(ANN, create("/a/b", EPHEMERAL)),
        |bench| bench.entry(ANN, Write::Multi(vec![])),
        |bench| bench.entry(ANN, Write::Multi(vec![check_op("/none", -1)])),
        |bench| bench.entry(ANN, Write::Op(check_op("/a", -1))),
        |bench| Entry { sequence: 99, ..bench.entry(ANN, set("/a", "x")) },
        |bench| Entry { attachment: Zxid::ZERO, ..bench.entry(ANN, set("/a", "x")) },
        |bench| bench.entry(SessionId(404), set("/a", "x")),
        |bench| bench.entry(ANN, Write::Attach { timeout_ms: 4_000 }),
        |bench| bench.entry(ANN, Write::CloseSession),
    ];
    for (place, entry) in entries.into_iter().enumerate() {
        let last = bench.engine.last_zxid();
        let entry = entry(&bench);
        let applied = bench.apply(&entry);
        assert_eq!(applied.zxid, ahead(last, 1), "entry {place}: {applied:?}");
        assert_eq!(bench.engine.last_zxid(), applied.zxid, "entry {place}");
    }
}

#[test]
fn a_transaction_and_the_end_of_a_session_take_one_zxid_each() {
    let mut bench = Bench::with(&["/a"]);
    let last = bench.engine.last_zxid();
    let ops = vec![set_op("/a", "x", -1), set_op("/a", "y", -1), set_op("/a", "z", -1)];
    bench.write(ANN, Write::Multi(ops)).expect("done");
    assert_eq!(bench.engine.last_zxid(), ahead(last, 1));
    for path in ["/a/1", "/a/2", "/a/3"] {
        bench.create(ANN, path, EPHEMERAL);
    }
    bench.expire(ANN).expect("expired");
    assert_eq!(bench.engine.last_zxid(), ahead(last, 5));
}

#[test]
fn reads_and_watches_take_none() {
    let mut bench = Bench::with(&["/a"]);
    let last = bench.engine.last_zxid();
    for read in [exists("/a", true), get("/a", true), children("/a", true), get_acl("/a")] {
        bench.read(ANN, read).expect("answered");
    }
    bench.read(ANN, Read::WhoAmI).expect("answered");
    bench.watch_exists(ANN, "/none");
    bench.engine.disconnect(ANN);
    assert_eq!(bench.engine.last_zxid(), last);
}

#[test]
fn an_accepted_proposal_takes_exactly_its_zxid() {
    let mut bench = Bench::with(&["/a"]);
    let wanted = ahead(bench.engine.last_zxid(), 10);
    let applied = propose(&mut bench, ANN, wanted, "x");
    assert_eq!((applied.zxid, bench.engine.last_zxid()), (wanted, wanted));
    assert_eq!(bench.stat("/a/x").czxid, wanted);
    assert_eq!(bench.stat("/a").pzxid, wanted);
    bench.set(ANN, "/a", "x");
    assert_eq!(bench.stat("/a").mzxid, ahead(wanted, 1), "and the count goes on from there");
}

#[test]
fn an_accepted_proposal_whose_operation_fails_takes_its_zxid_too() {
    let mut bench = Bench::with(&["/a", "/a/x"]);
    let wanted = ahead(bench.engine.last_zxid(), 10);
    let applied = propose(&mut bench, ANN, wanted, "x");
    assert_eq!(code(applied.result), Code::NodeExists);
    assert_eq!((applied.zxid, bench.engine.last_zxid()), (wanted, wanted));
}

#[test]
fn of_two_clients_that_name_the_same_zxid_one_is_done_and_one_refused() {
    let mut bench = Bench::with(&["/a"]);
    let wanted = ahead(bench.engine.last_zxid(), 1);
    assert!(matches!(propose(&mut bench, ANN, wanted, "ann").result, Ok(Response::Created { .. })));
    let (before, parent) = (bench.engine.session(BEN).expect("it lives"), bench.stat("/a"));
    let refused = propose(&mut bench, BEN, wanted, "ben");
    assert_eq!(code(refused.result), Code::StaleZxid);
    assert_eq!(refused.zxid, wanted, "the last zxid, which is not its own");
    assert_eq!(bench.engine.last_zxid(), wanted, "it took none");
    assert!(!bench.is_there("/a/ben"));
    assert_eq!(bench.stat("/a"), parent);
    let after = bench.engine.session(BEN).expect("it lives");
    assert_eq!((before.sequence, after.sequence), (0, 1), "but it was its first write");
    propose(&mut bench, BEN, ahead(wanted, 1), "ben").result.expect("the next one is free");
}

#[test]
fn a_proposal_is_above_the_last_zxid_and_at_most_65536_ahead() {
    let mut bench = Bench::with(&["/a"]);
    let step = i64::from(ZXID_STEP_MAX);
    let last = bench.engine.last_zxid();
    for counts in [0, -1, -last.as_i64(), step + 1, 1 << 32, i64::from(u32::MAX)] {
        let applied = propose(&mut bench, ANN, ahead(last, counts), "x");
        assert_eq!(code(applied.result), Code::StaleZxid, "{counts} ahead");
        assert_eq!((applied.zxid, bench.engine.last_zxid()), (last, last), "{counts} ahead");
    }
    let applied = propose(&mut bench, ANN, ahead(last, step), "x");
    assert_eq!(applied.zxid, ahead(last, step), "65536 ahead");
    applied.result.expect("created");
}

#[test]
fn a_proposal_of_a_session_that_may_not_write_is_refused_as_any_write() {
    let mut bench = Bench::with(&["/a"]);
    let last = bench.engine.last_zxid();
    let zxid = ahead(last, 10);
    let applied = propose(&mut bench, SessionId(404), zxid, "x");
    assert_eq!(code(applied.result), Code::SessionExpired);
    assert_eq!(applied.zxid, ahead(last, 1), "it was not accepted, so it took the next zxid");
}

#[test]
fn a_new_term_begins_its_epoch_at_one() {
    let mut bench = Bench::with(&["/a"]);
    bench.term = 5;
    bench.set(ANN, "/a", "x");
    assert_eq!(bench.engine.last_zxid(), Zxid::new(5, 1));
    bench.write(ANN, Write::Multi(vec![check_op("/none", -1)])).expect_err("no such znode");
    assert_eq!(bench.engine.last_zxid(), Zxid::new(5, 2));
}

#[test]
fn a_proposal_is_in_the_epoch_of_the_leader() {
    let mut bench = Bench::with(&["/a"]);
    let last = bench.engine.last_zxid();
    bench.term = 2;
    let old = propose(&mut bench, ANN, ahead(last, 1), "old");
    assert_eq!((code(old.result), old.zxid), (Code::StaleZxid, last), "an epoch that is over");
    let early = propose(&mut bench, ANN, Zxid::new(3, 1), "early");
    assert_eq!((code(early.result), early.zxid), (Code::StaleZxid, last), "one still to come");
    let step = i64::from(ZXID_STEP_MAX);
    let far = propose(&mut bench, ANN, ahead(Zxid::new(2, 1), step), "far");
    assert_eq!((code(far.result), far.zxid), (Code::StaleZxid, last), "too far into its own");
    let right = propose(&mut bench, ANN, Zxid::new(2, 7), "right");
    assert_eq!(right.zxid, Zxid::new(2, 7));
    right.result.expect("created");
}

/// Proposes its way to the end of the counter.
fn use_up_the_counter(bench: &mut Bench, epoch: u32) {
    let end = Zxid::new(epoch, u32::MAX);
    while bench.engine.last_zxid() < end {
        let last = bench.engine.last_zxid();
        let left = end.as_i64() - last.as_i64();
        let zxid = ahead(last, left.min(i64::from(ZXID_STEP_MAX)));
        let op = set_op("/a", "", -1);
        bench.write(ANN, Write::ProposeAt { zxid, op }).expect("done");
    }
    assert_eq!(bench.engine.last_zxid(), end);
}

#[test]
fn a_counter_that_is_used_up_goes_to_the_next_epoch_and_the_term_may_catch_up() {
    let mut bench = Bench::with(&["/a"]);
    use_up_the_counter(&mut bench, 1);
    let over = propose(&mut bench, ANN, Zxid::new(1, u32::MAX), "x");
    assert_eq!(code(over.result), Code::StaleZxid);
    bench.set(ANN, "/a", "x");
    assert_eq!(bench.engine.last_zxid(), Zxid::new(2, 1), "under the same leader");
    bench.term = 2;
    bench.set(ANN, "/a", "x");
    assert_eq!(bench.engine.last_zxid(), Zxid::new(2, 2), "the epoch stays");
    bench.term = 3;
    bench.set(ANN, "/a", "x");
    assert_eq!(bench.engine.last_zxid(), Zxid::new(3, 1));
}

#[test]
fn a_proposal_may_begin_the_epoch_after_a_used_up_counter() {
    let mut bench = Bench::with(&["/a"]);
    use_up_the_counter(&mut bench, 1);
    propose(&mut bench, ANN, Zxid::new(2, 1), "x").result.expect("created");
    assert_eq!(bench.engine.last_zxid(), Zxid::new(2, 1));
}

/// What nobody can number is not done.
fn assert_refused_without_a_zxid(bench: &mut Bench) {
    let last = bench.engine.last_zxid();
    for write in [create("/b", PERSISTENT), set("/a", "x"), Write::Multi(vec![])] {
        let entry = bench.entry(ANN, write);
        let applied = bench.apply(&entry);
        code(applied.result);
        assert_eq!((applied.zxid, bench.engine.last_zxid()), (last, last));
    }
    bench.open(SessionId(42)).expect_err("no number is left for it");
    assert!(bench.engine.session(SessionId(42)).is_none());
    assert!(!bench.is_there("/b"));
    assert_eq!(bench.fired(), []);
}

#[test]
fn an_entry_of_a_term_that_does_not_fit_is_refused_and_takes_no_zxid() {
    let mut bench = Bench::with(&["/a"]);
    bench.watch_exists(BEN, "/a");
    bench.term = TERM_MAX + 1;
    assert_refused_without_a_zxid(&mut bench);
    bench.term = 1;
    bench.set(ANN, "/a", "x");
}

#[test]
fn past_the_last_number_of_all_everything_is_refused() {
    let mut bench = Bench::with(&["/a"]);
    bench.term = TERM_MAX;
    bench.set(ANN, "/a", "x");
    use_up_the_counter(&mut bench, TERM_MAX as u32);
    assert_eq!(bench.engine.last_zxid().as_i64(), i64::MAX);
    assert_refused_without_a_zxid(&mut bench);
}

#[test]
fn no_zxid_is_given_twice() {
    let mut bench = Bench::with(&["/a"]);
    let mut seen = BTreeSet::from([bench.engine.last_zxid()]);
    for round in 0..200 {
        bench.term += u64::from(round % 50 == 49);
        let zxid = ahead(bench.engine.last_zxid(), round % 7);
        let write = match round % 4 {
            0 => set("/a", "x"),
            1 => Write::Op(delete_op("/none", -1)),
            2 => Write::ProposeAt { zxid, op: set_op("/a", "y", -1) },
            _ => Write::Multi(vec![set_op("/a", "z", -1)]),
        };
        let entry = bench.entry(ANN, write);
        let applied = bench.apply(&entry);
        let is_stale = applied.result.is_err_and(|refusal| refusal.code == Code::StaleZxid);
        assert!(is_stale != seen.insert(applied.zxid), "round {round}");
        assert_eq!(seen.last(), Some(&bench.engine.last_zxid()), "it only grows");
    }
}
