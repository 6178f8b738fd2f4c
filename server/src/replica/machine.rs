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

use super::files::{SnapshotData, file_meta};
use super::messages::SnapshotMeta;
use super::types::{Address, CommittedLeaderId, LogId, Types, members_text};
use crate::bug::Bug;
use crate::limits::APPLY_BATCH_MAX;
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
    /// The place of the last snapshot that was begun.
    snapshot_index: u64,
    /// Bytes of the entries since then.
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
        let snapshot_index = applied.map_or(0, |log_id| log_id.index);
        member.count_members(membership.nodes().count());
        member.begin_after(snapshot_index);
        Machine {
            member,
            disk,
            snapshots,
            pace,
            applied,
            membership,
            snapshot_index,
            bytes_since: 0,
        }
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() }
    }

    fn look_for_snapshot(&mut self) {
        let index = self.applied.map_or(0, |log_id| log_id.index);
        let since = index.saturating_sub(self.snapshot_index);
        if since < self.pace.entries && self.bytes_since < self.pace.bytes {
            return;
        }
        let census = self.member.census();
        let many = since >= (census.znodes as u64 / ZNODES_PER_ENTRY).max(self.pace.entries);
        let large = self.bytes_since >= (census.data_bytes as u64).max(self.pace.bytes);
        if many || large {
            (self.snapshot_index, self.bytes_since) = (index, 0);
            self.pace.due.notify_one();
        }
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
        let mut batches = entries.ready_chunks(APPLY_BATCH_MAX);
        while let Some(batch) = batches.next().await {
            let mut commands = Vec::with_capacity(batch.len());
            let mut responders = Vec::new();
            for item in batch {
                let (entry, responder) = item?;
                let log_id = entry.log_id();
                let committed = match entry.payload {
                    EntryPayload::Blank => Committed::Blank,
                    EntryPayload::Normal(command) => {
                        self.bytes_since += command.entry.len() as u64;
                        Committed::Command(command)
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
                commands.push((log_id.index, log_id.committed_leader_id().term, committed));
                self.applied = Some(log_id);
                responders.extend(responder);
            }
            #[cfg(feature = "testing")]
            self.member.dawdle().await;
            self.member.apply(&commands)?;
            responders.into_iter().for_each(|responder| responder.send(()));
            self.look_for_snapshot();
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder<D> {
        // Between two entries: the state and its place in the log belong together.
        let (view, meta) = (self.member.snapshot(), self.meta());
        self.snapshot_index = meta.last_log_id.map_or(0, |log_id| log_id.index);
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
        self.snapshot_index = index;
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
