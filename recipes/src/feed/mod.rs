//! The changes of a subtree from a checkpoint on: what keeps a store outside of the tree in step.
//!
//! ```text
//! the tree       /orders/1  /orders/2  /orders/4        at zxid 0x300000042
//!                    │ Put, Delete, …, Checkpoint(0x300000042)
//! the store      a row a path, its mzxid, and the checkpoint
//! ```
//!
//! 1. The store tells what it has: its checkpoint, and of each row the path and the `mzxid`.
//! 2. Leave a recursive watch, and read the subtree. What differs by `mzxid` is a `Put`; what the
//!    store has and the tree has not, a `Delete`.
//! 3. When that adds up to what the subtree was at one zxid, a `Checkpoint` says so.
//! 4. From then on events tell what to read; every so often it adds up again: the next `Checkpoint`.
//! 5. After a loss, of whatever kind, go on at 2 with what was told last.
//!
//! A coordinator of this kind keeps no history, so what happened while nobody looked is found by
//! comparison. That is why the store has to say which paths it knows.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::{BoxStream, Stream, StreamExt};
use synod_core::client::{Client, IntoPath};
use synod_core::model::{Error as ClientError, Path, Stat, Zxid};
use tracing::debug;

use crate::error::Error;
use crate::subtree::{self, Asks, Cut, Follower, Scope, View, scope_options};

/// A step of a feed.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The znode has this data now: it is new, or was set, or deleted and created again. A store
    /// writes the row, whether it has one or not.
    Put {
        /// The znode.
        path: Path,
        /// Its data.
        data: Bytes,
        /// Its Stat. The store keeps `mzxid` with the row. What it says of children and of the
        /// ACL may be older than its data.
        stat: Stat,
    },
    /// The znode is gone. A store deletes the row.
    Delete {
        /// The znode.
        path: Path,
    },
    /// With all changes so far the store is what the subtree was at this zxid. It keeps the zxid,
    /// in one transaction with those changes.
    Checkpoint {
        /// The zxid.
        zxid: Zxid,
    },
}

/// The changes of a subtree: a stream of [`Change`]s. Made by [`Feed::open`].
///
/// **What is promised.** Let the store have had what it said it had, and let it apply the changes in
/// their order. Then
/// * at each [`Checkpoint`](Change::Checkpoint) it is exactly what the subtree was at that zxid:
///   the same paths with the same data, of the same `mzxid`;
/// * checkpoints do not go back, and neither does a znode: each `Put` of a path has a greater
///   `mzxid` than the one before;
/// * what the subtree becomes is told in the end, however long the connection was broken; values
///   in between may be skipped;
/// * every change may be told again after a resume from the last checkpoint, and does no harm then.
///
/// Between two checkpoints the store is neither the one nor the other: a store with transactions
/// commits at checkpoints only. Within one step deletions come first, children before their
/// parents, then the others, parents before their children.
///
/// A coordinator that has lost its memory, or was restored from a backup, numbers anew. It is known
/// by a last zxid below the checkpoint: everything is told again then, and the checkpoints after
/// that are lower.
///
/// It reads while it is asked for the next change, and only then; a slow consumer is told the
/// difference. It goes on over broken connections and expired sessions, and ends when the client is
/// closed. An error says why it cannot go on for the moment; it is tried again at the next poll, after
/// a pause. Cancelling a wait for the next change loses nothing; dropping the feed removes its watch.
#[must_use = "a feed does nothing until it is polled"]
pub struct Feed {
    changes: BoxStream<'static, Result<Change, Error>>,
    root: Path,
}

/// A feed to open, and where it is to begin. Made by [`Feed::open`].
#[must_use = "a feed is made by start()"]
pub struct OpenFeed {
    client: Client,
    scope: Scope,
    invalid: Option<ClientError>,
    checkpoint: Zxid,
    known: BTreeMap<Path, Zxid>,
}

impl OpenFeed {
    scope_options! {}

    /// Goes on where a store stands: at the checkpoint that it has kept, with these rows, each with
    /// the `mzxid` that its `Put` had. Without this the store is empty.
    pub fn resume(
        mut self,
        checkpoint: Zxid,
        known: impl IntoIterator<Item = (Path, Zxid)>,
    ) -> Self {
        (self.checkpoint, self.known) = (checkpoint, known.into_iter().collect());
        self
    }

    /// The feed. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Client`] if the path is not valid.
    pub fn start(self) -> Result<Feed, Error> {
        let OpenFeed { client, scope, invalid, checkpoint, known } = self;
        if let Some(error) = invalid {
            return Err(error.into());
        }
        let root = scope.root.clone();
        let follower = Follower::new(client, scope, Arc::new(Asks::default()), checkpoint);
        let teller = Teller { follower, told: known, telling: VecDeque::new() };
        let changes = futures::stream::unfold(teller, async |mut teller| {
            let change = teller.next().await?;
            Some((change, teller))
        });
        Ok(Feed { changes: changes.boxed(), root })
    }
}

impl Feed {
    /// A feed of the znode at `path` and of all below it, unless the options say less. The znode
    /// need not exist.
    ///
    /// It takes a watch that stays and is recursive, as a [`Cache`](crate::Cache) does.
    pub fn open(client: &Client, path: impl IntoPath) -> OpenFeed {
        let (root, invalid) = match path.into_path() {
            Ok(root) => (root, None),
            Err(error) => (Path::root(), Some(error)),
        };
        let (scope, known) = (Scope::new(root), BTreeMap::new());
        OpenFeed { client: client.clone(), scope, invalid, checkpoint: Zxid::ZERO, known }
    }

    /// The root of the subtree.
    pub fn path(&self) -> &Path {
        &self.root
    }
}

struct Teller {
    follower: Follower,
    /// The `mzxid` of every path that the store has when it has applied what was told.
    told: BTreeMap<Path, Zxid>,
    telling: VecDeque<Result<Change, Error>>,
}

impl Teller {
    async fn next(&mut self) -> Option<Result<Change, Error>> {
        loop {
            if let Some(change) = self.telling.pop_front() {
                return Some(change);
            }
            let told = &self.told;
            let holds = |path: &Path, stat: &Stat| told.get(path) == Some(&stat.mzxid);
            match self.follower.next(&holds).await? {
                View::Cut(cut) => {
                    self.tell(cut);
                    let max = self.follower.scope().nodes_max;
                    if self.told.len() > max {
                        // What was told holds; there is no more until there is less.
                        self.telling.push_back(Err(self.follower.too_large("znodes", max)));
                    }
                }
                View::OutOfSight => debug!(root = %self.follower.scope().root, "out of sight"),
                View::Failed(error) => return Some(Err(error)),
            }
        }
    }

    /// Tells what the store has to do to become what the subtree was at the cut.
    fn tell(&mut self, cut: Cut) {
        let told = &mut self.told;
        let mut unseen = if cut.whole { std::mem::take(told) } else { BTreeMap::new() };
        let (mut deletes, mut puts) = (Vec::new(), Vec::new());
        for (path, change) in cut.changes {
            match change {
                subtree::Change::Same => told.extend(unseen.remove_entry(&path)),
                subtree::Change::Put(data, stat) => {
                    unseen.remove(&path);
                    told.insert(path.clone(), stat.mzxid);
                    puts.push(Change::Put { path, data, stat });
                }
                subtree::Change::Gone => deletes.extend(told.remove_entry(&path)),
            }
        }
        // Told of before, and there no longer.
        deletes.extend(unseen);
        deletes.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        let deletes = deletes.into_iter().map(|(path, _)| Change::Delete { path });
        let checkpoint = Change::Checkpoint { zxid: cut.zxid };
        self.telling.extend(deletes.chain(puts).chain([checkpoint]).map(Ok));
    }
}

impl Stream for Feed {
    type Item = Result<Change, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.changes.poll_next_unpin(context)
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("path", &self.root).finish_non_exhaustive()
    }
}
