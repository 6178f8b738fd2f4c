//! Starts on what a loss of power may leave.

use std::collections::BTreeMap;

use openraft::entry::RaftEntry as _;
use openraft::impls::leader_id_std::LeaderId;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{EntryPayload, StoredMembership};

use super::*;
use crate::Server;
use crate::log::sim::SimDisk;
use crate::replica::files::file_meta;
use crate::replica::messages::SnapshotMeta;
use crate::replica::types::{FolderId, LogId, Members, RaftEntry, Vote};

/// A folder with a snapshot from another member, of entries up to the tenth of term 2, and the
/// entries 1 to 20 of term 1 which that contradicts: power was lost before they were removed.
async fn contradicted() -> SimDisk {
    let disk = SimDisk::new(5);
    let (log, _) = Log::open(disk.clone(), LogConfig::default()).await.expect("a log");
    let mut store = LogStore::new(log);
    let entry = |index| RaftEntry::new(LogId::new_term_index(1, index), EntryPayload::Blank);
    let entries: Vec<RaftEntry> = (1..=20).map(entry).collect();
    store.append(entries, IOFlushed::noop()).await.expect("they are appended");
    let vote = Vote { leader_id: LeaderId { term: 2, voted_for: 1 }, committed: false };
    store.save_vote(&vote).await.expect("it is on disk");

    let own = BTreeMap::from([(1, Address::default())]);
    let members = Members::new(vec![[1].into()], own).expect("one member");
    let meta = SnapshotMeta {
        last_log_id: Some(LogId::new_term_index(2, 10)),
        last_membership: StoredMembership::new(Some(LogId::new_term_index(1, 1)), members),
    };
    let snapshots = Snapshots::open(disk.clone(), 0).await.expect("none yet");
    let view = Engine::new().snapshot();
    snapshots.write(file_meta(&meta), view.chunks()).await.expect("it is written");
    let written = Written {
        id: 1,
        folder: FolderId([1; 16]),
        cluster: Some(ClusterId([2; 16])),
        founds: true,
    };
    identity::write(&disk, written).await.expect("it is written");
    disk.power_loss();
    disk.restarted()
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_takes_the_place_of_entries_that_it_contradicts() {
    let disk = contradicted().await;
    let member = Some(MemberConfig::new("simulated"));
    let config = Config { listen: ([127, 0, 0, 1], 0).into(), member, ..Config::default() };
    let server = Server::start_on(config, disk.clone()).await.expect("starts");
    server.stop().await;

    let (log, _) = Log::open(disk.restarted(), LogConfig::default()).await.expect("a log");
    let state = log.state().expect("it runs");
    let purged = state.purged.map(|purged| (purged.term, purged.index));
    assert_eq!((purged, state.first), (Some((2, 10)), 11));
    // What follows is of its own time in office.
    let behind = log.read(11..u64::MAX, usize::MAX).await.expect("entries");
    assert!(behind.iter().all(|record| record.position.term > 2), "{behind:?}");
}
