//! A store outside of the tree that is kept in step by a feed.

use synod::feed::Change;
use synod::{Path, Zxid};

use super::history::{Seen, Tree};

/// A store with transactions, and what must hold of what it is told.
#[derive(Clone, Default)]
pub struct Store {
    pub rows: Tree,
    pub checkpoint: Zxid,
    /// Since the last checkpoint: uncommitted.
    pending: Vec<Change>,
}

impl Store {
    pub fn known(&self) -> Vec<(Path, Zxid)> {
        self.rows.iter().map(|(path, row)| (path.clone(), row.mzxid)).collect()
    }

    /// Takes a change; whether it was a checkpoint.
    pub fn take(&mut self, change: Change) -> bool {
        let Change::Checkpoint { zxid } = change else {
            self.pending.push(change);
            return false;
        };
        for change in std::mem::take(&mut self.pending) {
            self.apply(change);
        }
        assert!(zxid >= self.checkpoint, "{zxid} after {}", self.checkpoint);
        self.checkpoint = zxid;
        true
    }

    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Put { path, data, stat } => {
                let new = Seen::of(&data, &stat);
                let old = self.rows.insert(path.clone(), new.clone());
                assert!(old.is_none_or(|old| old.mzxid < new.mzxid), "{path} goes back");
                // Its parent comes before it, unless it is the root of the feed.
                let first = self.rows.first_key_value().is_some_and(|(first, _)| *first == path);
                let parent = path.parent().filter(|_| !first);
                assert!(parent.is_none_or(|parent| self.rows.contains_key(&parent)), "{path}");
            }
            Change::Delete { path } => {
                assert!(self.rows.remove(&path).is_some(), "{path} was not there");
                let below = format!("{path}/");
                assert!(!self.rows.keys().any(|row| row.starts_with(&below)), "below {path}");
            }
            Change::Checkpoint { .. } => unreachable!("taken before"),
        }
    }

    pub fn crash(&mut self) {
        self.pending.clear();
    }
}
