//! Tests of the tree, by theme; here is what they share.

mod acls;
mod errors;
mod lifetimes;
mod multis;
mod quotas;
mod random;
mod reads;
mod sequences;
mod stats;
mod views;

use bytes::Bytes;

use super::*;
use crate::model::{Code, Create, CreateMode, Identity, Op, OpResult, Perms, Refusal, Stat};

/// A tree, and the next change to it: each takes the next zxid, and a millisecond.
struct Hand {
    tree: Tree,
    zxid: u32,
    session: SessionId,
    identities: Vec<Identity>,
    effects: Vec<Effect>,
}

impl Hand {
    fn new() -> Hand {
        Hand {
            tree: Tree::new(),
            zxid: 0,
            session: SessionId(7),
            identities: vec![Identity::new("ip", "10.0.0.1")],
            effects: Vec::new(),
        }
    }

    /// A tree with these persistent znodes, whose data is `d`.
    fn with(paths: &[&str]) -> Hand {
        let mut hand = Hand::new();
        for path in paths {
            hand.create(path);
        }
        hand.effects.clear();
        hand
    }

    fn next<R>(&mut self, act: impl FnOnce(&mut Tree, &Change<'_>, &mut Vec<Effect>) -> R) -> R {
        self.zxid += 1;
        let change = Change {
            zxid: Zxid::new(1, self.zxid),
            time_ms: self.now_ms(),
            session: self.session,
            identities: &self.identities,
        };
        act(&mut self.tree, &change, &mut self.effects)
    }

    /// The zxid of the last change.
    fn last(&self) -> Zxid {
        Zxid::new(1, self.zxid)
    }

    /// The time of the last change.
    fn now_ms(&self) -> i64 {
        1_000_000 + i64::from(self.zxid)
    }

    fn op(&mut self, op: &Op) -> Result<OpResult, Refusal> {
        self.next(|tree, change, effects| tree.op(change, op, effects))
    }

    fn multi(&mut self, ops: &[Op]) -> Result<Vec<OpResult>, Refusal> {
        self.next(|tree, change, effects| tree.multi(change, ops, effects))
    }

    fn reap(&mut self, path: &str) -> Result<(), Refusal> {
        self.next(|tree, change, effects| tree.reap(change, path, effects))
    }

    fn set_acl(&mut self, path: &str, acl: &[Acl]) -> Result<Stat, Refusal> {
        self.next(|tree, change, _| tree.set_acl(change, path, acl, -1))
    }

    fn end_session(&mut self) {
        self.next(Tree::remove_ephemerals);
    }

    fn create(&mut self, path: &str) -> Stat {
        self.create_as(path, CreateMode::Persistent).1
    }

    fn create_as(&mut self, path: &str, mode: CreateMode) -> (Arc<str>, Stat) {
        match self.op(&create(path, mode)) {
            Ok(OpResult::Created { path, stat }) => (path, stat),
            other => panic!("create {path}: {other:?}"),
        }
    }

    fn create_with_acl(&mut self, path: &str, acl: Vec<Acl>) -> Result<OpResult, Refusal> {
        let (path, data, mode) = (path.into(), None, CreateMode::Persistent);
        self.op(&Op::Create(Create { path, data, acl, mode }))
    }

    fn delete(&mut self, path: &str) {
        assert_eq!(self.op(&delete(path)), Ok(OpResult::Deleted), "{path}");
    }

    fn set(&mut self, path: &str, data: &str) -> Stat {
        match self.op(&set(path, data)) {
            Ok(OpResult::Set(stat)) => stat,
            other => panic!("set {path}: {other:?}"),
        }
    }

    fn stat(&self, path: &str) -> Stat {
        self.tree.stat(path).unwrap_or_else(|| panic!("{path} exists"))
    }

    /// Effects since the last call: what happened, and where.
    fn told(&mut self) -> Vec<(EffectKind, String)> {
        self.effects.drain(..).map(|effect| (effect.kind, effect.path.to_string())).collect()
    }
}

fn create(path: &str, mode: CreateMode) -> Op {
    let (path, data, acl) = (path.into(), Some(Bytes::from("d")), Acl::open());
    Op::Create(Create { path, data, acl, mode })
}

fn delete(path: &str) -> Op {
    Op::Delete { path: path.into(), version: -1 }
}

fn set(path: &str, data: &str) -> Op {
    Op::SetData { path: path.into(), data: Some(data.to_owned().into()), version: -1 }
}

fn check(path: &str, version: i32) -> Op {
    Op::Check { path: path.into(), version }
}

fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Code {
    result.expect_err("a refusal").code
}

/// All that a tree shows, sorted by path.
fn dump(tree: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    tree.view().visit(|path, znode| lines.push(format!("{path} {znode:?}")));
    lines.sort_unstable();
    lines
}

/// Recounts from scratch everything that the tree keeps up to date, and compares.
fn assert_sound(tree: &Tree) {
    let (mut digest_sum, mut bytes, mut ephemerals, mut znodes) = (0u64, 0, 0, 0);
    let mut below = std::collections::BTreeMap::<String, u32>::new();
    let mut of_sessions = std::collections::BTreeMap::<SessionId, usize>::new();
    let mut children = Vec::new();
    let mut due = Vec::new();
    let mut lists = std::collections::HashSet::new();
    tree.view().visit(|path, znode| {
        let stat = znode.stat;
        let owner = stat.ephemeral_owner.unwrap_or(SessionId(0));
        let term = digest::Term {
            content: digest::content(path, znode.data),
            czxid: stat.czxid.as_i64(),
            mzxid: stat.mzxid.as_i64(),
            pzxid: stat.pzxid.as_i64(),
            ctime_ms: stat.ctime_ms,
            mtime_ms: stat.mtime_ms,
            version: stat.version,
            creates: znode.creates,
            aversion: stat.aversion,
            acl: digest::acl(znode.acl),
            life: Life::of(znode.mode, owner),
        };
        digest_sum = digest_sum.wrapping_add(term.digest());
        let (parent, name) = path.rsplit_once('/').expect("a slash");
        bytes += name.len() + znode.data.map_or(0, <[u8]>::len);
        assert_eq!(stat.data_bytes as usize, znode.data.map_or(0, <[u8]>::len), "{path}");
        znodes += 1;
        if let Some(session) = stat.ephemeral_owner {
            ephemerals += 1;
            *of_sessions.entry(session).or_default() +=
                super::lifetimes::ephemeral_bytes(path.len());
            assert!(tree.ephemerals(session, None).iter().any(|one| **one == *path), "{path}");
        }
        assert_eq!(tree.stat(path), Some(stat), "{path} is found");
        children.push((path.to_owned(), stat.children));
        if !name.is_empty() {
            *below.entry(if parent.is_empty() { "/" } else { parent }.to_owned()).or_default() += 1;
        }
        if stat.children == 0 {
            match znode.mode {
                CreateMode::Container if znode.creates > 0 => due.push((i64::MIN, path.to_owned())),
                CreateMode::Ttl { ttl_ms } => due.push((stat.mtime_ms + ttl_ms, path.to_owned())),
                _ => {}
            }
        }
        lists.insert(znode.acl.to_vec());
    });
    for (session, bytes) in of_sessions {
        assert_eq!(tree.lifetimes.bytes_of_session(session), bytes);
    }
    assert_eq!(tree.digest(), digest_sum, "the digest");
    assert_eq!(tree.approximate_data_bytes(), bytes, "bytes");
    assert_eq!(tree.len(), znodes, "znodes");
    assert_eq!(tree.ephemeral_count(), ephemerals, "ephemerals");
    for (path, count) in children {
        assert_eq!(below.get(&path).copied().unwrap_or(0), count, "children of {path}");
    }
    due.sort_unstable();
    let mut reapable: Vec<String> =
        tree.reapable(i64::MAX, usize::MAX).iter().map(|path| path.to_string()).collect();
    reapable.sort_unstable();
    let mut due: Vec<String> = due.into_iter().map(|(_, path)| path).collect();
    due.sort_unstable();
    assert_eq!(reapable, due, "what is due");
    assert!(tree.acls.len() >= lists.len(), "every ACL in use is kept");
    assert_eq!(tree.quotas, tree.recounted_quotas(), "quotas");
}
