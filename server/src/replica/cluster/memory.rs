//! A log, a state machine and its snapshots in memory.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::{
    EntryPayload, LogState, RaftLogReader, RaftSnapshotBuilder, RaftTypeConfig, StoredMembership,
};

use crate::replica::messages::{SnapshotMeta, decode_meta, encode_meta};
use crate::replica::snapshots::{Receiver, SnapshotFiles, SnapshotOf};
use crate::replica::types::{Address, CommittedLeaderId, LogId, RaftEntry, Types, Vote};

type Membership = StoredMembership<CommittedLeaderId, u64, Address>;

fn locked<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct LogInner {
    entries: BTreeMap<u64, RaftEntry>,
    vote: Option<Vote>,
    purged: Option<LogId>,
    /// How long it takes until what is appended is durable.
    delay: Duration,
}

#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<LogInner>>);

impl Log {
    /// From now on it takes so long until what is appended is durable.
    pub(super) fn delay(&self, delay: Duration) {
        locked(&self.0).delay = delay;
    }

    pub(super) fn len(&self) -> usize {
        locked(&self.0).entries.len()
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<RaftEntry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        Ok(locked(&self.0).entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(locked(&self.0).vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Log;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let log = locked(&self.0);
        let last = log.entries.values().next_back().map(|entry| entry.log_id).or(log.purged);
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Log {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        locked(&self.0).vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + Send,
        I::IntoIter: Send,
    {
        let entries = entries.into_iter().map(|entry| (entry.log_id.index, entry));
        let delay = {
            let mut log = locked(&self.0);
            log.entries.extend(entries);
            log.delay
        };
        if delay.is_zero() {
            callback.io_completed(Ok(()));
        } else {
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                callback.io_completed(Ok(()));
            });
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let keep = last.map_or(0, |last| last.index + 1);
        locked(&self.0).entries.split_off(&keep);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let mut log = locked(&self.0);
        let rest = log.entries.split_off(&(upto.index + 1));
        log.entries = rest;
        log.purged = Some(upto);
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Applied {
    last: Option<LogId>,
    membership: Membership,
    commands: Vec<Bytes>,
}

#[derive(Default)]
struct MachineInner {
    applied: Applied,
    snapshot: Option<(SnapshotMeta, Bytes)>,
    installed: usize,
}

#[derive(Clone, Default)]
pub(super) struct Machine(Arc<Mutex<MachineInner>>);

impl Machine {
    /// What was applied.
    pub(super) fn commands(&self) -> Vec<Bytes> {
        locked(&self.0).applied.commands.clone()
    }

    /// How many snapshots came from others.
    pub(super) fn installed(&self) -> usize {
        locked(&self.0).installed
    }
}

/// A snapshot, and how far it was read.
#[derive(Clone, Debug)]
pub(super) struct Open {
    bytes: Bytes,
}

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = Open;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Open>> {
        let mut machine = locked(&self.0);
        let applied = &machine.applied;
        let meta =
            SnapshotMeta { last_log_id: applied.last, last_membership: applied.membership.clone() };
        let mut out = BytesMut::new();
        encode_meta(&mut out, &meta);
        for command in &applied.commands {
            out.put_u32(command.len() as u32);
            out.put_slice(command);
        }
        let bytes = out.freeze();
        machine.snapshot = Some((meta.clone(), bytes.clone()));
        Ok(SnapshotOf { meta, snapshot: Open { bytes } })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Open;
    type SnapshotBuilder = Machine;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, Membership)> {
        let machine = locked(&self.0);
        Ok((machine.applied.last, machine.applied.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + Send,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let mut machine = locked(&self.0);
            machine.applied.last = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(command) => machine.applied.commands.push(command.entries),
                EntryPayload::Membership(members) => {
                    machine.applied.membership = Membership::new(Some(entry.log_id), members);
                }
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Machine {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, open: Open) -> io::Result<()> {
        let mut bytes = open.bytes.clone();
        assert_eq!(decode_meta(&mut bytes)?, *meta);
        let mut commands = Vec::new();
        while bytes.has_remaining() {
            let length = bytes.get_u32() as usize;
            commands.push(bytes.split_to(length));
        }
        let mut machine = locked(&self.0);
        machine.applied =
            Applied { last: meta.last_log_id, membership: meta.last_membership.clone(), commands };
        machine.snapshot = Some((meta.clone(), open.bytes));
        machine.installed += 1;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Open>>> {
        let machine = locked(&self.0);
        Ok(machine
            .snapshot
            .clone()
            .map(|(meta, bytes)| SnapshotOf { meta, snapshot: Open { bytes } }))
    }
}

const _: () = {
    const fn entries_are_ours<T: RaftTypeConfig<Entry = RaftEntry>>() {}
    entries_are_ours::<Types>();
};

/// Snapshots on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Files;

pub(super) struct Incoming(BytesMut);

impl SnapshotFiles for Files {
    type Data = Open;
    type Receiver = Incoming;

    async fn next_chunk(&self, data: &mut Open, bytes_max: usize) -> io::Result<Option<Bytes>> {
        let length = data.bytes.len().min(bytes_max);
        Ok((length > 0).then(|| data.bytes.split_to(length)))
    }

    async fn receive(&self, _: &SnapshotMeta) -> io::Result<Incoming> {
        Ok(Incoming(BytesMut::new()))
    }
}

impl Receiver for Incoming {
    type Data = Open;

    async fn push(&mut self, chunk: Bytes) -> io::Result<()> {
        self.0.put_slice(&chunk);
        Ok(())
    }

    async fn finish(self) -> io::Result<Open> {
        Ok(Open { bytes: self.0.freeze() })
    }
}
