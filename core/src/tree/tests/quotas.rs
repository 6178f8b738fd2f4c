use super::*;
use crate::model::limits::{QUOTA_COUNTED_ZNODES_MAX, QUOTA_LEVELS_MAX};
use CreateMode::{Container, Ephemeral, Persistent};

const LIMITS: &str = "/zookeeper/quota/q/zookeeper_limits";
const STATS: &str = "/zookeeper/quota/q/zookeeper_stats";

impl Hand {
    /// A tree with these znodes, and a quota of `/q`, made as ZooKeeper's command line does.
    fn with_quota(paths: &[&str], limits: &str) -> Hand {
        let mut hand = Hand::with(paths);
        hand.create("/zookeeper/quota/q");
        hand.create_data(LIMITS, limits).expect("well-formed limits");
        hand.create_data(STATS, "count=0,bytes=0").expect("created");
        hand
    }

    fn create_data(&mut self, path: &str, data: &str) -> Result<OpResult, Refusal> {
        let data = Some(data.to_owned().into());
        let (path, acl) = (path.into(), Acl::open());
        self.op(&Op::Create(Create { path, data, acl, mode: Persistent }))
    }

    fn stats(&self) -> String {
        let (data, stat) = self.tree.get_data(&self.identities, STATS).expect("there are stats");
        let data = data.expect("not null");
        assert_eq!(stat.data_bytes as usize, data.len());
        assert_sound(&self.tree);
        String::from_utf8(data.to_vec()).expect("text")
    }
}

#[test]
fn a_quota_counts_what_is_there_already_and_what_comes_and_goes() {
    let mut hand = Hand::with_quota(&["/q", "/q/a", "/q/a/b", "/qq", "/q-"], "count=99,bytes=99");
    assert_eq!(hand.stats(), "count=3,bytes=3");
    hand.create("/q/c");
    hand.set("/q/c", "long");
    assert_eq!(hand.stats(), "count=4,bytes=7");
    hand.set("/q/c", "");
    hand.delete("/q/a/b");
    assert_eq!(hand.stats(), "count=3,bytes=2");
    hand.create("/qq/a");
    hand.create("/q-/a");
    assert_eq!(hand.stats(), "count=3,bytes=2", "its neighbours are not its own");
    for path in ["/q/a", "/q/c", "/q"] {
        hand.delete(path);
    }
    assert_eq!(hand.stats(), "count=0,bytes=0");
}

#[test]
fn the_stats_change_without_their_stat_and_nobody_writes_them() {
    let mut hand = Hand::with_quota(&["/q"], "");
    let before = hand.stat(STATS);
    hand.told();
    hand.create("/q/a");
    assert_eq!(hand.told().len(), 1, "no watch is told of it");
    let after = hand.stat(STATS);
    assert_eq!((after.mzxid, after.version), (before.mzxid, before.version));
    let stat = hand.set(STATS, "count=77,bytes=77777");
    assert_eq!((stat.version, stat.data_bytes), (1, "count=2,bytes=2".len() as u32));
    assert_eq!(hand.stats(), "count=2,bytes=2");
    hand.delete(STATS);
    hand.create("/q/b");
    hand.create_data(STATS, "").expect("created");
    assert_eq!(hand.stats(), "count=3,bytes=3", "it goes on without them");
}

#[test]
fn a_hard_limit_refuses_what_adds_and_nothing_else() {
    let limits = "count=-1,bytes=-1=;byteHardLimit=5;countHardLimit=3";
    let mut hand = Hand::with_quota(&["/q", "/q/a"], limits);
    let before = (dump(&hand.tree), hand.tree.digest());
    let op = hand.op(&set("/q", "54321"));
    assert_eq!(code(op), Code::QuotaExceeded, "6 bytes");
    assert_eq!((dump(&hand.tree), hand.tree.digest()), before);
    hand.create("/q/b");
    assert_eq!(code(hand.op(&create("/q/c", Persistent))), Code::QuotaExceeded);
    assert_eq!(hand.stats(), "count=3,bytes=3");
    // Lower than what is there: it may shrink, and stay as it is.
    hand.set(LIMITS, "byteHardLimit=0,countHardLimit=0");
    hand.set("/q", "x");
    hand.set("/q", "");
    hand.delete("/q/b");
    assert_eq!(code(hand.op(&set("/q", "y"))), Code::QuotaExceeded);
    // The version is judged after it, as in ZooKeeper.
    let stale = Op::SetData { path: "/q".into(), data: Some("y".into()), version: 99 };
    assert_eq!(code(hand.op(&stale)), Code::QuotaExceeded);
    hand.set(LIMITS, "");
    hand.set("/q", "y");
}

#[test]
fn every_quota_above_a_znode_counts() {
    let mut hand = Hand::with_quota(&["/q", "/q/a", "/q/a/b"], "countHardLimit=4");
    hand.create("/zookeeper/quota/q/a");
    hand.create_data("/zookeeper/quota/q/a/zookeeper_limits", "countHardLimit=9").expect("set");
    hand.create("/zookeeper/quota/q/a/b");
    hand.create_data("/zookeeper/quota/q/a/b/zookeeper_limits", "countHardLimit=1").expect("set");
    assert_eq!(code(hand.op(&create("/q/a/b/c", Persistent))), Code::QuotaExceeded, "the third");
    hand.create("/q/a/c");
    assert_eq!(code(hand.op(&create("/q/a/d", Persistent))), Code::QuotaExceeded, "the first");
    hand.delete("/zookeeper/quota/q/a/b/zookeeper_limits");
    hand.delete("/q/a/c");
    hand.create("/q/a/b/c");
    assert_eq!(hand.stats(), "count=4,bytes=4");
}

#[test]
fn a_soft_limit_warns() {
    let mut hand = Hand::with_quota(&["/q"], "count=1,bytes=2");
    assert_eq!(hand.tree.take_quota_warning(), None);
    hand.create("/q/a");
    let warning = QuotaWarning { path: "/q".into(), what: "count", used: 2, limit: 1 };
    assert_eq!(hand.tree.take_quota_warning(), Some(warning));
    assert_eq!(hand.tree.take_quota_warning(), None, "it is told once");
    hand.set("/q/a", "xyz");
    let warning = QuotaWarning { path: "/q".into(), what: "bytes", used: 4, limit: 2 };
    assert_eq!(hand.tree.take_quota_warning(), Some(warning));
    hand.set("/q/a", "x");
    assert_eq!(hand.tree.take_quota_warning(), None);
}

#[test]
fn ephemerals_and_containers_are_given_back() {
    let mut hand = Hand::with_quota(&["/q"], "countHardLimit=4");
    hand.create_as("/q/e", Ephemeral);
    hand.create_as("/q/c", Container);
    hand.create("/q/c/x");
    assert_eq!(hand.stats(), "count=4,bytes=4");
    assert_eq!(code(hand.op(&create("/q/f", Ephemeral))), Code::QuotaExceeded);
    hand.end_session();
    hand.delete("/q/c/x");
    hand.reap("/q/c").expect("it is due");
    assert_eq!(hand.stats(), "count=1,bytes=1");
}

#[test]
fn a_transaction_that_fails_gives_back_what_it_took() {
    let mut hand = Hand::with_quota(&["/q", "/q/a"], "countHardLimit=3");
    let before = (dump(&hand.tree), hand.tree.digest());
    let ops = [
        delete("/q/a"),
        set("/q", "longer"),
        set(STATS, "count=1,bytes=1"),
        create("/q/b", Persistent),
        create("/q/c", Persistent),
        delete(STATS),
        create("/q/d", Persistent),
    ];
    let refusal = hand.multi(&ops).expect_err("the last is one too many");
    assert_eq!((refusal.code, refusal.index), (Code::QuotaExceeded, Some(6)));
    assert_eq!((dump(&hand.tree), hand.tree.digest()), before);
    assert_eq!(hand.stats(), "count=2,bytes=2");
    hand.multi(&ops[..5]).expect("three are right");
    assert_eq!(hand.stats(), "count=3,bytes=8");
    for op in [set(LIMITS, ""), delete(LIMITS), create(LIMITS, Persistent)] {
        assert_eq!(code(hand.multi(&[op])), Code::BadArguments, "limits change alone");
    }
}

#[test]
fn a_quota_that_is_removed_bounds_nothing() {
    let mut hand = Hand::with_quota(&["/q"], "countHardLimit=1");
    assert_eq!(code(hand.op(&create("/q/a", Persistent))), Code::QuotaExceeded);
    hand.delete(LIMITS);
    hand.create("/q/a");
    assert_eq!(hand.stats(), "count=1,bytes=1", "what is left behind says what was last");
    hand.set(STATS, "mine");
    assert_eq!(hand.stats(), "mine");
    // Limits that live as long as a session go with it.
    hand.op(&Op::Create(Create {
        path: LIMITS.into(),
        data: Some("countHardLimit=2".into()),
        acl: Acl::open(),
        mode: Ephemeral,
    }))
    .expect("created");
    assert_eq!(hand.stats(), "count=2,bytes=2");
    assert_eq!(code(hand.op(&create("/q/b", Persistent))), Code::QuotaExceeded);
    hand.end_session();
    hand.create("/q/b");
}

#[test]
fn malformed_limits_are_refused_and_others_than_quotas_are_anybodys() {
    let mut hand = Hand::with_quota(&["/q"], "");
    for limits in ["count", "count=", "count=x", "bytes=1==", "=;byteHardLimit=1.5", "bytes= 1"] {
        assert_eq!(code(hand.op(&set(LIMITS, limits))), Code::BadArguments, "{limits}");
    }
    let path = LIMITS.into();
    let binary = Op::SetData { path, data: Some(vec![0xFF, b'='].into()), version: -1 };
    assert_eq!(code(hand.op(&binary)), Code::BadArguments);
    for limits in ["", ",;,", "else=x", "count=-5", "count=9223372036854775807", "bytes=1="] {
        hand.set(LIMITS, limits);
    }
    for path in ["/zookeeper_limits", "/zookeeper/quota/zookeeper_limits"] {
        hand.create_data(path, "what").expect("it is no quota's");
    }
    hand.create("/zookeeper/quota/zookeeper");
    let own = "/zookeeper/quota/zookeeper/zookeeper_limits";
    hand.create_data(own, "countHardLimit=0").expect("the coordinator's own have no quota");
    hand.create("/zookeeper/quota/other");
    hand.create("/zookeeper/quota/zookeepers");
    let other = "/zookeeper/quota/zookeepers/zookeeper_limits";
    assert_eq!(code(hand.create_data(other, "what")), Code::BadArguments);
}

#[test]
fn a_quota_applies_to_a_path_that_comes_later() {
    let mut hand = Hand::with_quota(&[], "countHardLimit=1");
    assert_eq!(hand.stats(), "count=0,bytes=0");
    hand.create("/q");
    assert_eq!(hand.stats(), "count=1,bytes=1");
    assert_eq!(code(hand.op(&create("/q/a", Persistent))), Code::QuotaExceeded);
}

/// All paths of two letters and three levels, against the plain definition.
#[test]
fn the_quotas_above_a_path_are_found() {
    let names = ["a", "b", "a-", "aa", "é"];
    let mut paths = vec![String::new()];
    for _ in 0..3 {
        let longer: Vec<String> =
            paths.iter().flat_map(|path| names.map(|name| format!("{path}/{name}"))).collect();
        paths.extend(longer);
        paths.sort_unstable();
        paths.dedup();
    }
    paths.retain(|path| !path.is_empty());
    for every in [1, 2, 3, 7, 31] {
        let mut quotas = quota::Quotas::default();
        let tops: Vec<&String> = paths.iter().step_by(every).collect();
        tops.iter().for_each(|top| quotas.insert_unlimited(top));
        for path in &paths {
            let mut expected: Vec<&str> = tops
                .iter()
                .filter(|top| path == **top || path.starts_with(&format!("{top}/")))
                .map(|top| top.as_str())
                .collect();
            expected.sort_unstable_by_key(|top| std::cmp::Reverse(top.len()));
            let found: Vec<&str> = quotas.tops_above(path).collect();
            assert_eq!(found, expected, "above {path}, of each {every}th");
        }
    }
}

#[test]
fn a_quota_has_at_most_so_many_levels() {
    let mut hand = Hand::with(&[]);
    let mut folder = "/zookeeper/quota".to_owned();
    for level in 1..=QUOTA_LEVELS_MAX + 1 {
        folder.push_str("/a");
        hand.create(&folder);
        let made = hand.create_data(&format!("{folder}/zookeeper_limits"), "count=9");
        if level <= QUOTA_LEVELS_MAX {
            made.expect("few levels");
        } else {
            let refusal = made.expect_err("too many levels");
            assert_eq!(refusal.rule, "the path that a quota is of has at most 16 levels");
            assert_eq!(refusal.code, Code::BadArguments);
        }
    }
    assert_sound(&hand.tree);
}

#[test]
fn a_quota_is_set_on_what_can_be_counted_at_once_and_may_grow() {
    let mut hand = Hand::with(&["/q", "/q/s"]);
    hand.create("/zookeeper/quota/q");
    for number in 2..QUOTA_COUNTED_ZNODES_MAX {
        hand.create(&format!("/q/s/{number}"));
    }
    hand.create("/q/more");
    let refusal = hand.create_data(LIMITS, "count=9").expect_err("too many znodes");
    let rule = "a quota is set on a path while there are at most 10000 znodes at it";
    assert_eq!((refusal.code, refusal.rule), (Code::BadArguments, rule));
    hand.delete("/q/more");
    hand.create_data(LIMITS, "count=9").expect("as many as may be");
    hand.create_data(STATS, "").expect("created");
    hand.create("/q/more");
    hand.set(LIMITS, "count=10");
    assert_eq!(hand.stats(), "count=10001,bytes=10001");
}

#[test]
fn what_quotas_take_counts_until_they_are_gone() {
    let mut hand = Hand::with(&["/zookeeper/quota/q"]);
    let before = hand.tree.quotas.bytes();
    hand.create_data(LIMITS, "count=9").expect("created");
    let with = hand.tree.memory_bytes();
    assert!(hand.tree.quotas.bytes() > before);
    hand.set(LIMITS, "count=8");
    assert_eq!(hand.tree.memory_bytes(), with);
    hand.delete(LIMITS);
    assert_eq!(hand.tree.quotas.bytes(), before);
}
