//! openraft's own suite, on our log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::{EntryPayload, StorageError, StoredMembership};

use super::*;
use crate::log::sim::{Faults, SimDisk};
use crate::log::{LogConfig, RealDisk};
use crate::replica::types::Command;

/// A state machine that remembers only how far it is, which is all that the suite asks about.
#[derive(Clone, Default)]
struct Machine(Arc<Mutex<MachineState>>);

/// How far it is, and its last snapshot.
type MachineState = (SnapshotMetaOf<Types>, Option<SnapshotMetaOf<Types>>);

impl Machine {
    fn state(&self) -> std::sync::MutexGuard<'_, MachineState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, ()>> {
        let mut state = self.state();
        let meta = state.0.clone();
        state.1 = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: () })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Machine;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembershipOf<Types>)> {
        let meta = self.state().0.clone();
        Ok((meta.last_log_id, meta.last_membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            {
                let meta = &mut self.state().0;
                meta.last_log_id = Some(entry.log_id);
                if let EntryPayload::Membership(members) = entry.payload {
                    meta.last_membership = StoredMembership::new(Some(entry.log_id), members);
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

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<Types>, (): ()) -> io::Result<()> {
        *self.state() = (meta.clone(), Some(meta.clone()));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, ()>>> {
        Ok(self.state().1.clone().map(|meta| Snapshot { meta, snapshot: () }))
    }
}

/// Segments so small that the suite goes through many of them, and nothing kept in memory that is
/// on disk.
fn small() -> LogConfig {
    LogConfig { segment_bytes: 2_048, cache_bytes_max: 0, ..LogConfig::default() }
}

struct OnRealDisk;

impl StoreBuilder<Types, LogStore<RealDisk>, Machine, tempfile::TempDir> for OnRealDisk {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore<RealDisk>, Machine), StorageError<Types>> {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = RealDisk::open(folder.path().join("log")).expect("a disk");
        let (log, _) = Log::open(disk, small()).await.expect("a log");
        Ok((folder, LogStore::new(log), Machine::default()))
    }
}

struct OnSimulatedDisk;

impl StoreBuilder<Types, LogStore<SimDisk>, Machine, SimDisk> for OnSimulatedDisk {
    async fn build(&self) -> Result<(SimDisk, LogStore<SimDisk>, Machine), StorageError<Types>> {
        let disk = SimDisk::new(7);
        disk.set_faults(Faults {
            write_delay_max: Duration::from_micros(100),
            sync_delay_max: Duration::from_millis(1),
            ..Faults::default()
        });
        let (log, _) = Log::open(disk.clone(), small()).await.expect("a log");
        Ok((disk, LogStore::new(log), Machine::default()))
    }
}

#[test]
fn openrafts_suite_passes_on_the_simulated_disk() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let passed = runtime.expect("a runtime").block_on(Suite::test_all(OnSimulatedDisk));
    passed.expect("the suite passes");
}

#[tokio::test(start_paused = true)]
async fn what_openraft_saves_is_there_after_a_power_loss() {
    let disk = SimDisk::new(3);
    let (log, _) = Log::open(disk.clone(), small()).await.expect("a log");
    let mut store = LogStore::new(log);
    let vote =
        Vote { leader_id: leader_id_std::LeaderId { term: 7, voted_for: 3 }, committed: true };
    let command = Command { time_ms: -5, entries: Bytes::from(vec![1; 300]) };
    let entries: Vec<_> = (1..=100)
        .map(|index| {
            let payload = match index {
                1 => EntryPayload::Blank,
                _ => EntryPayload::Normal(command.clone()),
            };
            RaftEntry { log_id: LogId::new_term_index(7, index), payload }
        })
        .collect();
    store.append(entries.clone(), IOFlushed::noop()).await.expect("it is appended");
    store.save_committed(Some(LogId::new_term_index(7, 90))).await.expect("it is noted");
    store.save_vote(&vote).await.expect("it is on disk");
    disk.power_loss();

    let (log, _) = Log::open(disk.restarted(), small()).await.expect("a log");
    let mut store = LogStore::new(log);
    assert_eq!(store.read_vote().await.expect("a vote"), Some(vote));
    assert_eq!(store.read_committed().await.expect("it"), Some(LogId::new_term_index(7, 90)));
    let stream = store.entries_stream(1..).await;
    let read: Vec<_> = stream.map(|entry| entry.expect("an entry")).collect().await;
    let said = |entries: &[RaftEntry]| format!("{entries:?}");
    assert_eq!(said(&read), said(&entries));
    // Bounded, and never empty.
    let limited = store.0.read(1..101, 1_000).await.expect("entries");
    assert_eq!(limited.len(), 3);
    assert_eq!(store.0.read(50..101, 1).await.expect("entries").len(), 1);
}

#[test]
fn openrafts_suite_passes_on_the_real_disk() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let passed = runtime.expect("a runtime").block_on(Suite::test_all(OnRealDisk));
    passed.expect("the suite passes");
}
