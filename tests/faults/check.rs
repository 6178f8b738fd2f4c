//! Ledgers against trees.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use synod_core::model::Zxid;

use super::cluster::Cluster;
use super::dump::{Tree, differences, dump};
use super::ledger::{Known, Ledger, State, value_of};
use super::load::Load;

/// Violations that are told.
const TOLD_MAX: usize = 20;

/// What earlier checks of the same run have seen.
#[derive(Debug, Default)]
pub struct Checker {
    zxids: HashSet<Zxid>,
    suffixes: HashSet<u64>,
}

impl Checker {
    /// Holds the trees of all members to each other and to what the workers know. The load is
    /// paused; every member answers.
    ///
    /// # Panics
    /// If a promise is broken.
    pub async fn check(&mut self, cluster: &Cluster, load: &Load) {
        let mut trees = Vec::new();
        for address in cluster.addresses() {
            trees.push(dump(address).await);
        }
        let mut violations = Vec::new();
        for (place, tree) in trees.iter().enumerate().skip(1) {
            for difference in differences(&trees[0], tree) {
                violations.push(format!("members 1 and {} differ: {difference}", place + 1));
            }
        }
        violations.extend(self.judge(&trees[0], &mut load.ledgers()));
        let count = violations.len();
        violations.truncate(TOLD_MAX);
        assert!(violations.is_empty(), "{count} promises are broken: {violations:#?}");
    }

    /// What is wrong with a tree.
    pub fn judge(
        &mut self,
        tree: &Tree,
        ledgers: &mut [impl std::ops::DerefMut<Target = Ledger>],
    ) -> Vec<String> {
        let mut violations = Vec::new();
        let mut expected = BTreeSet::new();
        let mut lost = BTreeMap::new();
        for ledger in ledgers.iter_mut() {
            violations.append(&mut ledger.violations);
            for zxid in ledger.zxids.drain(..) {
                if !self.zxids.insert(zxid) {
                    violations.push(format!("{zxid} was given twice"));
                }
            }
            for suffix in ledger.suffixes.drain(..) {
                if !self.suffixes.insert(suffix) {
                    violations.push(format!("suffix {suffix:010} was given twice"));
                }
            }
            for (path, known) in &ledger.paths {
                violations.extend(path_violation(tree, path, known));
                expected.insert(path.as_str());
            }
            lost.extend(ledger.lost.iter().map(|prefix| (prefix.clone(), 0)));
            if let Some(held) = &ledger.held {
                let stat = tree.get(held.path.as_str()).map(|znode| znode.stat);
                let there = stat.map(|stat| (stat.ephemeral_owner, stat.czxid));
                if there != Some((Some(held.session), held.czxid)) {
                    violations.push(format!("{held:?} is to be there, and there is {stat:?}"));
                }
                expected.insert(held.path.as_str());
            }
        }
        for path in tree.keys().filter(|path| path.matches('/').count() > 2) {
            let path: &str = path;
            if !path.starts_with("/load/") || expected.contains(path) {
                continue;
            }
            // A name that the server has completed, and could not say so any more.
            let prefix = path.get(..path.len() - 10);
            match prefix.and_then(|prefix| lost.get_mut(prefix)) {
                Some(times @ 0) => *times = 1,
                Some(_) => violations.push(format!("{path}: one request was done twice")),
                None => violations.push(format!("{path}: nobody has created it")),
            }
        }
        violations.extend(halves(tree));
        violations.extend(sequence(tree));
        violations
    }
}

fn path_violation(tree: &Tree, path: &str, known: &Known) -> Option<String> {
    let znode = tree.get(path);
    let value = znode.and_then(|znode| value_of(znode.data.as_deref()?));
    if znode.is_some() && value.is_none() {
        return Some(format!("{path} holds what nobody has written: {znode:?}"));
    }
    let stands = |state: &State| {
        let zxid = znode.map(|znode| znode.stat.mzxid);
        state.value == value && (state.zxid.is_none() || zxid.is_none() || state.zxid == zxid)
    };
    if !known.possible.iter().any(stands) {
        let possible = &known.possible;
        return Some(format!("{path}: one of {possible:?} is to be there, and there is {znode:?}"));
    }
    // The first of its changes has created it.
    let changes = znode?.stat.version as u32 + 1;
    let most = known.acknowledged + known.unknown;
    (changes < known.acknowledged || changes > most).then(|| {
        format!(
            "{path} was changed {changes} times; {} were acknowledged, and {} may have been done",
            known.acknowledged, known.unknown
        )
    })
}

/// Pairs that were always written together.
fn halves(tree: &Tree) -> Vec<String> {
    let mut violations = Vec::new();
    for (path, one) in tree {
        if let Some(folder) = path.strip_prefix("/load/w").and_then(|path| path.strip_suffix("/a"))
        {
            let other = tree.get(format!("/load/w{folder}/b").as_str());
            let whole = other.is_some_and(|other| {
                let untouched = one.stat.version == 0 && other.stat.version == 0;
                let alike = one.data == other.data && one.stat.mzxid == other.stat.mzxid;
                one.stat.version == other.stat.version && (alike || untouched)
            });
            if !whole {
                violations.push(format!("half a transaction: {path} {one:?}, and b {other:?}"));
            }
        }
    }
    violations
}

/// Suffixes grow in the order of creation.
fn sequence(tree: &Tree) -> Vec<String> {
    let names = tree.iter().filter(|(path, _)| path.starts_with("/load/seq/"));
    let mut names: Vec<(Zxid, &str)> =
        names.map(|(path, znode)| (znode.stat.czxid, &path[path.len() - 10..])).collect();
    names.sort_unstable();
    let falls = names.windows(2).filter(|pair| pair[0].1 >= pair[1].1);
    falls.map(|pair| format!("suffixes do not grow: {pair:?}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use synod_core::model::Stat;

    use super::super::dump::Znode;
    use super::super::ledger::{Change, data_of};
    use super::*;

    fn znode(value: u64, zxid: u32, version: i32) -> Znode {
        let data = Some(Bytes::from(data_of(0, value, 0)));
        Znode { data, stat: Stat { mzxid: Zxid::new(1, zxid), version, ..Stat::default() } }
    }

    fn judged(ledger: Ledger, tree: &[(&str, Znode)]) -> Vec<String> {
        let tree = tree.iter().map(|(path, znode)| (Arc::from(*path), znode.clone())).collect();
        Checker::default().judge(&tree, &mut [Box::new(ledger)])
    }

    fn acknowledged(changes: &[(Change, u64, u32)]) -> Ledger {
        let mut ledger = Ledger::default();
        for (change, value, zxid) in changes {
            let path = match change {
                Change::Create(path) => path.as_str(),
                _ => "/load/seq/w0-9-0000000007",
            };
            ledger.acknowledged(change, *value, Zxid::new(1, *zxid), Zxid::ZERO, path);
        }
        ledger
    }

    fn set() -> Change {
        Change::Set("/load/w0/k0".to_owned())
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        let ledger = || acknowledged(&[(set(), 1, 1), (set(), 2, 2)]);
        assert!(judged(ledger(), &[("/load/w0/k0", znode(2, 2, 1))]).is_empty());
        assert_eq!(judged(ledger(), &[("/load/w0/k0", znode(1, 1, 0))]).len(), 1, "lost");
        assert_eq!(judged(ledger(), &[]).len(), 1, "all lost");
        assert_eq!(judged(ledger(), &[("/load/w0/k0", znode(2, 3, 1))]).len(), 1, "moved");
        assert_eq!(judged(ledger(), &[("/load/w0/k0", znode(2, 2, 2))]).len(), 1, "done twice");
    }

    #[test]
    fn what_is_unknown_may_be_there_and_nothing_else() {
        let ledger = || {
            let mut ledger = acknowledged(&[(set(), 1, 1)]);
            ledger.unknown(&set(), 2);
            ledger
        };
        assert!(judged(ledger(), &[("/load/w0/k0", znode(1, 1, 0))]).is_empty());
        assert!(judged(ledger(), &[("/load/w0/k0", znode(2, 9, 1))]).is_empty());
        assert_eq!(judged(ledger(), &[("/load/w0/k0", znode(3, 9, 1))]).len(), 1);
    }

    #[test]
    fn a_half_is_seen() {
        let pair = Change::Pair("/load/w0/a".to_owned(), "/load/w0/b".to_owned());
        let mut ledger = Ledger::default();
        ledger.unknown(&pair, 2);
        let tree = [("/load/w0/a", znode(2, 2, 1)), ("/load/w0/b", znode(1, 1, 0))];
        let half = |violation: &String| violation.starts_with("half");
        assert!(judged(ledger, &tree).iter().any(half));
    }

    #[test]
    fn a_name_that_was_given_twice_is_seen() {
        let sequential = Change::Sequential("/load/seq/w0-9-".to_owned());
        let mut ledger = Ledger::default();
        ledger.unknown(&sequential, 9);
        let once = ("/load/seq/w0-9-0000000007", znode(9, 1, 0));
        let twice = ("/load/seq/w0-9-0000000008", znode(9, 2, 0));
        assert_eq!(judged(ledger, &[once.clone(), twice]).len(), 1);
        let stranger = judged(Ledger::default(), &[once]);
        assert!(stranger[0].ends_with("nobody has created it"), "{stranger:?}");
    }
}
