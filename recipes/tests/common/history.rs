//! A tree that is written at random, and what it was at every zxid: to compare with it what those
//! who follow it say it was.

use std::collections::BTreeMap;

use synod::cache::Snapshot;
use synod::testing::SeededEntropy;
use synod::{Client, Path, Stat, Zxid};

/// What is compared of a znode: all that events tell of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub data: Vec<u8>,
    pub czxid: Zxid,
    pub mzxid: Zxid,
    pub version: i32,
}

impl Seen {
    pub fn of(data: &[u8], stat: &Stat) -> Seen {
        let Stat { czxid, mzxid, version, .. } = *stat;
        Seen { data: data.to_vec(), czxid, mzxid, version }
    }
}

pub type Tree = BTreeMap<Path, Seen>;

pub fn path(text: &str) -> Path {
    Path::new(text).expect("valid")
}

/// What a snapshot of a cache says.
pub fn tree_of(snapshot: &Snapshot) -> Tree {
    snapshot.iter().map(|node| (node.path.clone(), Seen::of(&node.data, &node.stat))).collect()
}

/// What is there, asked for znode by znode while nobody writes.
pub async fn tree_at(client: &Client, root: &str) -> Tree {
    let (mut tree, mut waiting) = (Tree::new(), vec![path(root)]);
    while let Some(path) = waiting.pop() {
        let Ok((data, stat)) = client.get(&path).await else { continue };
        tree.insert(path.clone(), Seen::of(&data, &stat));
        for name in client.children(&path).await.expect("there") {
            waiting.push(path.join(&name).expect("valid"));
        }
    }
    tree
}

/// The only one who writes below its root, over a connection without faults.
pub struct History {
    client: Client,
    root: Path,
    /// After each write, by its zxid.
    trees: BTreeMap<Zxid, Tree>,
    written: u64,
}

/// Names at each level: few, so that they keep meeting.
const NAMES: [&str; 4] = ["a", "b", "b-c", "c"];

impl History {
    pub fn new(client: Client, root: &str) -> History {
        let trees = BTreeMap::from([(Zxid::ZERO, Tree::new())]);
        History { client, root: path(root), trees, written: 0 }
    }

    pub fn last(&self) -> (&Zxid, &Tree) {
        self.trees.last_key_value().expect("there is a first")
    }

    /// What it was at that zxid.
    pub fn at(&self, zxid: Zxid) -> &Tree {
        self.trees.range(..=zxid).next_back().expect("there is a first").1
    }

    pub fn assert_was(&self, zxid: Zxid, tree: &Tree) {
        assert_eq!(tree, self.at(zxid), "at {zxid}");
    }

    pub fn writes(&self) -> usize {
        self.trees.len() - 1
    }

    fn some_path(&self, random: &SeededEntropy) -> Path {
        let mut path = self.root.clone();
        for _ in 0..random.below(4) {
            let name = NAMES[random.below(NAMES.len() as u64) as usize];
            path = path.join(name).expect("valid");
        }
        path
    }

    /// Writes once, by chance: creates, sets, deletes a subtree, deletes and creates again, or does
    /// two of these in one transaction.
    pub async fn write(&mut self, random: &SeededEntropy) {
        let path = self.some_path(random);
        match random.below(8) {
            0 => self.delete(&path).await,
            1 => self.recreate(&path).await,
            2 | 3 => {
                let other = self.some_path(random);
                self.put_both(&path, &other).await;
            }
            _ => self.put(&path).await,
        }
    }

    fn data(&mut self) -> Vec<u8> {
        self.written += 1;
        format!("{}", self.written).into_bytes()
    }

    /// Notes what the last write has made of the tree.
    fn note(&mut self, change: impl FnOnce(&mut Tree)) {
        let mut tree = self.last().1.clone();
        change(&mut tree);
        // Of a reply to a write; nothing else comes over this connection meanwhile.
        self.trees.insert(self.client.last_zxid(), tree);
    }

    /// Creates the znode, and what is missing above it, or sets it.
    pub async fn put(&mut self, path: &Path) {
        for above in self.missing_above(path) {
            self.put_one(&above).await;
        }
        self.put_one(path).await;
    }

    fn missing_above(&self, path: &Path) -> Vec<Path> {
        let (mut missing, mut above) = (Vec::new(), path.parent());
        while let Some(parent) = above
            && !parent.is_root()
            && !self.last().1.contains_key(&parent)
        {
            above = parent.parent();
            missing.push(parent);
        }
        missing.reverse();
        missing
    }

    async fn put_one(&mut self, path: &Path) {
        let data = self.data();
        let stat = match self.last().1.contains_key(path) {
            true => self.client.set(path, &data).await.expect("there"),
            false => self.client.create(path, &data).with_stat().await.expect("new").1,
        };
        self.note(|tree| drop(tree.insert(path.clone(), Seen::of(&data, &stat))));
    }

    /// Sets two in one transaction, if both are there.
    async fn put_both(&mut self, one: &Path, other: &Path) {
        let tree = self.last().1;
        if one == other || !tree.contains_key(one) || !tree.contains_key(other) {
            return self.put(one).await;
        }
        let data = self.data();
        let txn = self.client.txn().set(one, &data).set(other, &data);
        txn.commit().await.expect("both are there");
        let zxid = self.client.last_zxid();
        self.note(|tree| {
            for path in [one, other] {
                let seen = tree.get_mut(path).expect("it was set");
                (seen.data, seen.mzxid, seen.version) = (data.clone(), zxid, seen.version + 1);
            }
        });
    }

    /// Deletes the znode, and what is below it before it.
    pub async fn delete(&mut self, path: &Path) {
        let below = format!("{path}/");
        let tree = self.last().1;
        let doomed = tree.keys().filter(|other| *other == path || other.starts_with(&below));
        for path in doomed.cloned().collect::<Vec<_>>().into_iter().rev() {
            self.client.delete(&path).await.expect("there, and without children");
            self.note(|tree| drop(tree.remove(&path)));
        }
    }

    /// Deletes and creates it in one transaction, if it has no children: at version 0 again.
    async fn recreate(&mut self, path: &Path) {
        let below = format!("{path}/");
        let tree = self.last().1;
        if !tree.contains_key(path) || tree.keys().any(|other| other.starts_with(&below)) {
            return self.put(path).await;
        }
        let data = self.data();
        self.client.txn().delete(path).create(path, &data).commit().await.expect("there");
        let zxid = self.client.last_zxid();
        let seen = Seen { data, czxid: zxid, mzxid: zxid, version: 0 };
        self.note(|tree| drop(tree.insert(path.clone(), seen)));
    }
}
