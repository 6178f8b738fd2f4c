//! The state machine as openraft calls it: entries are applied to the member's state, which is
//! written out as a snapshot now and then, and replaced by one when this member is too far behind.

use std::io;
use std::sync::Arc;

use futures::stream::{Stream, StreamExt};
use openraft::entry::RaftEntry as _;
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, RaftSnapshotBuilder, StoredMembership};
use synod_core::engine::{Engine, EngineView, Restore, RestoreError};
use tokio::sync::Notify;

use super::batch;
use super::files::{SnapshotData, file_meta};
use super::messages::SnapshotMeta;
use super::types::{Address, Command, CommittedLeaderId, LogId, Types, members_text};
use crate::bug::Bug;
use crate::limits::BATCH_ENTRIES_MAX;
use crate::log::{Disk, Snapshots, away};
use crate::member::{Committed, Member};

pub(super) type Membership = StoredMembership<CommittedLeaderId, u64, Address>;

/// How far apart snapshots are.
pub(super) struct Pace {
    /// Entries since the last snapshot after which another is made.
    pub(super) entries: u64,
    /// Bytes of entries since then after which one is made, however few they are.
    pub(super) bytes: u64,
    /// Rings when one is due.
    pub(super) due: Notify,
}

/// Of so many znodes, one counts as an entry that must have come before the next snapshot: writing
/// all of them out stays a small part of the work.
const ZNODES_PER_ENTRY: u64 = 4;

pub(crate) struct Machine<D: Disk> {
    member: Arc<Member>,
    disk: D,
    snapshots: Snapshots<D>,
    pace: Arc<Pace>,
    applied: Option<LogId>,
    membership: Membership,
    /// Entries since the last snapshot that was begun.
    entries_since: u64,
    /// Their bytes.
    bytes_since: u64,
}

impl<D: Disk> Machine<D> {
    /// The machine whose state the latest snapshot has brought, if there is one.
    pub(super) fn new(
        member: Arc<Member>,
        disk: D,
        snapshots: Snapshots<D>,
        pace: Arc<Pace>,
        meta: Option<SnapshotMeta>,
    ) -> Machine<D> {
        let (applied, membership) =
            meta.map_or_else(Default::default, |meta| (meta.last_log_id, meta.last_membership));
        member.count_members(membership.nodes().count());
        member.begin_after(applied.map_or(0, |log_id| log_id.index));
        Machine {
            member,
            disk,
            snapshots,
            pace,
            applied,
            membership,
            entries_since: 0,
            bytes_since: 0,
        }
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() }
    }

    fn look_for_snapshot(&mut self) {
        if self.entries_since < self.pace.entries && self.bytes_since < self.pace.bytes {
            return;
        }
        let census = self.member.census();
        let many =
            self.entries_since >= (census.znodes as u64 / ZNODES_PER_ENTRY).max(self.pace.entries);
        let large = self.bytes_since >= (census.data_bytes as u64).max(self.pace.bytes);
        if many || large {
            (self.entries_since, self.bytes_since) = (0, 0);
            self.pace.due.notify_one();
        }
    }

    /// Applies the next of what is ready, up to about [`BATCH_ENTRIES_MAX`] entries.
    async fn apply_some(
        &mut self,
        ready: &mut impl Iterator<Item = io::Result<EntryResponder<Types>>>,
    ) -> io::Result<()> {
        let (mut committed, mut responders) = (Vec::new(), Vec::new());
        let mut count = 0;
        while count < BATCH_ENTRIES_MAX
            && let Some(item) = ready.next()
        {
            let (entry, responder) = item?;
            let log_id = entry.log_id();
            let what = match entry.payload {
                EntryPayload::Blank => Committed::Blank,
                EntryPayload::Normal(Command { time_ms, entries }) => {
                    self.bytes_since += entries.len() as u64;
                    let entries = batch::split(entries)?;
                    count += entries.len();
                    Committed::Entries(time_ms, entries)
                }
                EntryPayload::Membership(members) => {
                    self.member.count_members(members.nodes().count());
                    // While they change, nothing is settled.
                    let settled = members.get_joint_config().len() == 1;
                    let text = settled.then(|| members_text(&members));
                    if !self.member.makes(Bug::SnapshotOfOldMembers) {
                        self.membership = StoredMembership::new(Some(log_id), members);
                    }
                    text.map_or(Committed::Blank, Committed::Members)
                }
            };
            count += 1;
            committed.push((log_id.index, log_id.committed_leader_id().term, what));
            self.applied = Some(log_id);
            responders.extend(responder);
        }
        self.entries_since += count as u64;
        #[cfg(feature = "testing")]
        self.member.dawdle().await;
        self.member.apply(&committed)?;
        responders.into_iter().for_each(|responder| responder.send(()));
        self.look_for_snapshot();
        Ok(())
    }
}

impl<D: Disk> RaftStateMachine<Types> for Machine<D> {
    type SnapshotData = SnapshotData<D>;
    type SnapshotBuilder = Builder<D>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, Membership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + Send,
    {
        let mut entries = entries.ready_chunks(BATCH_ENTRIES_MAX);
        while let Some(ready) = entries.next().await {
            let mut ready = ready.into_iter().peekable();
            while ready.peek().is_some() {
                self.apply_some(&mut ready).await?;
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder<D> {
        // Between two entries: the state and its place in the log belong together.
        let (view, meta) = (self.member.snapshot(), self.meta());
        self.entries_since = 0;
        Builder { view: Some(view), meta, snapshots: self.snapshots.clone() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData<D>,
    ) -> io::Result<()> {
        let engine = restore(&self.disk, snapshot).await?;
        let index = meta.last_log_id.map_or(0, |log_id| log_id.index);
        self.member.restore(engine, index);
        self.member.count_members(meta.last_membership.nodes().count());
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.entries_since = 0;
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<Snapshot<CommittedLeaderId, u64, Address, SnapshotData<D>>>> {
        let Some(file) = self.snapshots.latest() else { return Ok(None) };
        let snapshot = SnapshotData::new(file);
        Ok(Some(Snapshot { meta: snapshot.meta()?, snapshot }))
    }
}

/// Writes one snapshot out, while entries go on being applied.
pub(crate) struct Builder<D: Disk> {
    /// Given away when it is written.
    view: Option<EngineView>,
    meta: SnapshotMeta,
    snapshots: Snapshots<D>,
}

impl<D: Disk> RaftSnapshotBuilder<Types> for Builder<D> {
    type SnapshotData = SnapshotData<D>;

    async fn build_snapshot(
        &mut self,
    ) -> io::Result<Snapshot<CommittedLeaderId, u64, Address, SnapshotData<D>>> {
        let view = self.view.take();
        let view = view.ok_or_else(|| io::Error::other("a builder builds one snapshot"))?;
        let file = self.snapshots.write(file_meta(&self.meta), view.chunks()).await?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot: SnapshotData::new(file) })
    }
}

/// The state that a snapshot holds.
///
/// # Errors
/// What the disk says; that it is no state that was written out.
pub(super) async fn restore<D: Disk>(
    disk: &D,
    mut snapshot: SnapshotData<D>,
) -> io::Result<Engine> {
    let name = snapshot.describe();
    // It may take seconds, and elections do not wait.
    let restoring = async move {
        let wrong = |error: RestoreError| {
            let text = format!("{name}: this snapshot cannot be restored: {error}");
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        let mut restore = Restore::new();
        while let Some(chunk) = snapshot.next().await? {
            restore.feed(&chunk).map_err(wrong)?;
        }
        restore.finish().map_err(wrong)
    };
    away(disk, "synod-restore", restoring).await?
}
