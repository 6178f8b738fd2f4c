use std::time::Duration;

use super::*;
use crate::limits::SNAPSHOT_CHUNK_BYTES_MAX;
use crate::log::RealDisk;
use crate::log::sim::{Dice, Faults, SimDisk};

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta { upto: Some(Position { term: 2, index }), meta: Bytes::from_static(b"members") }
}

fn chunks(count: usize) -> Vec<Bytes> {
    (0..count).map(|chunk| Bytes::from(vec![chunk as u8; 1_000 + chunk])).collect()
}

async fn open<D: Disk>(disk: &D, log_first: u64) -> Snapshots<D> {
    Snapshots::open(disk.clone(), log_first).await.expect("snapshots")
}

async fn read<D: Disk>(snapshot: &Snapshot<D>) -> Result<Vec<Bytes>, LogError> {
    let (mut all, mut chunks) = (Vec::new(), snapshot.chunks()?);
    while let Some(chunk) = chunks.next().await {
        all.push(chunk?);
    }
    Ok(all)
}

/// Up to where the newest snapshot of a disk goes.
fn latest<D: Disk>(snapshots: &Snapshots<D>) -> Option<u64> {
    snapshots.latest()?.meta().upto.map(|upto| upto.index)
}

async fn refusal(disk: &SimDisk, log_first: u64) -> String {
    match Snapshots::open(disk.restarted(), log_first).await {
        Ok(snapshots) => panic!("it starts: {:?}", snapshots.latest()),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_snapshot_on_the_real_disk_is_found_again_and_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = RealDisk::open(folder.path()).expect("a disk");
    let snapshots = open(&disk, 0).await;
    assert!(snapshots.latest().is_none());
    snapshots.write(meta(10), chunks(9)).await.expect("a snapshot");

    let again = open(&disk, 11).await;
    let found = again.latest().expect("the snapshot");
    assert_eq!(found.meta(), &meta(10));
    assert_eq!(read(&found).await.expect("chunks"), chunks(9));

    let folder = tempfile::tempdir().expect("a folder");
    let disk = RealDisk::open(folder.path()).expect("a disk");
    let peer = open(&disk, 0).await;
    let mut receiving = peer.receive(found.meta().clone()).expect("a draft");
    for chunk in chunks(9) {
        receiving.push(chunk).await.expect("it is written");
    }
    let received = receiving.finish(found.totals()).await.expect("a snapshot");
    assert_eq!(received.meta(), found.meta());
    assert_eq!(read(&received).await.expect("chunks"), chunks(9));
}

#[tokio::test(start_paused = true)]
async fn a_power_loss_leaves_the_new_snapshot_whole_or_the_one_before() {
    let (mut old, mut new) = (0, 0);
    for seed in 0..300 {
        let (disk, mut dice) = (SimDisk::new(seed), Dice::new(seed));
        let snapshots = open(&disk, 0).await;
        snapshots.write(meta(10), chunks(3)).await.expect("a snapshot");
        disk.set_faults(Faults {
            write_delay_max: Duration::from_millis(1),
            sync_delay_max: Duration::from_millis(20),
            ..Faults::default()
        });
        let patience = Duration::from_millis(dice.below(150));
        let writing = snapshots.write(meta(20), chunks(20));
        let written = tokio::time::timeout(patience, writing).await;
        disk.power_loss();

        let disk = disk.restarted();
        let snapshots = open(&disk, 0).await;
        let latest = snapshots.latest().expect("one of them");
        let count = if *latest.meta() == meta(20) { 20 } else { 3 };
        assert_eq!(read(&latest).await.expect("chunks"), chunks(count), "seed {seed}");
        assert!(written.is_err() || count == 20, "seed {seed}");
        assert!(disk.names().iter().all(|name| name.starts_with(SNAPSHOT)), "seed {seed}");
        *if count == 20 { &mut new } else { &mut old } += 1;
    }
    assert!(old > 30 && new > 30, "{old} old, {new} new");
}

#[tokio::test(start_paused = true)]
async fn damage_to_the_newest_is_survived_only_with_an_older_one_that_the_log_follows() {
    let disk = SimDisk::new(1);
    let snapshots = open(&disk, 0).await;
    for index in [10, 20] {
        snapshots.write(meta(index), chunks(3)).await.expect("a snapshot");
    }
    let newest = format!("{SNAPSHOT}{:020}-{:010}", 21, 2);
    let whole = disk.content(&newest);
    for at in (0..whole.len()).step_by(7) {
        disk.damage(&newest, |bytes| bytes[at] ^= 0x10);
        let snapshots = open(&disk, 11).await;
        assert_eq!(latest(&snapshots), Some(10), "with byte {at} flipped");
        let why = refusal(&disk, 12).await;
        let wanted = format!("simulated/{newest} is damaged at byte ");
        assert!(why.starts_with(&wanted), "{why}");
        disk.damage(&newest, |bytes| *bytes = whole.clone());
    }
    for size in (0..whole.len()).step_by(101) {
        disk.damage(&newest, |bytes| bytes.truncate(size));
        assert_eq!(latest(&open(&disk, 11).await), Some(10), "with {size} bytes left");
        disk.damage(&newest, |bytes| *bytes = whole.clone());
    }
    assert_eq!(latest(&open(&disk, 21).await), Some(20));

    // What is damaged goes when there is a new one, and counts for nothing until then.
    disk.damage(&newest, |bytes| bytes[500] ^= 1);
    let snapshots = open(&disk, 11).await;
    snapshots.write(meta(30), chunks(1)).await.expect("a snapshot");
    let kept =
        [format!("{SNAPSHOT}{:020}-{:010}", 11, 1), format!("{SNAPSHOT}{:020}-{:010}", 31, 3)];
    assert_eq!(disk.names(), kept);
}

#[tokio::test(start_paused = true)]
async fn chunks_that_change_places_are_damage() {
    let disk = SimDisk::new(1);
    let same_size = [1, 2, 3].map(|byte| Bytes::from(vec![byte; 500]));
    open(&disk, 0).await.write(meta(10), same_size).await.expect("a snapshot");
    let name = disk.names().remove(0);
    disk.damage(&name, |bytes| {
        // Each with the length and the sum before it.
        let (first, second) = bytes[47..47 + 2 * 508].split_at_mut(508);
        first.swap_with_slice(second);
    });
    let why = refusal(&disk, 0).await;
    assert!(why.ends_with("is damaged at byte 47: the checksum of a chunk is wrong"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_begins_behind_the_newest_snapshot_is_refused() {
    let disk = SimDisk::new(1);
    let why = refusal(&disk, 5).await;
    assert!(why.ends_with("is missing: the log begins with the entry 5"), "{why}");
    open(&disk, 0).await.write(meta(10), chunks(1)).await.expect("a snapshot");
    let why = refusal(&disk, 12).await;
    let wanted = "the log begins with the entry 12, and the newest snapshot ends before 11";
    assert!(why.ends_with(wanted), "{why}");
}

#[tokio::test(start_paused = true)]
async fn who_reads_a_snapshot_that_is_removed_reads_it_to_its_end() {
    let disk = SimDisk::new(1);
    let snapshots = open(&disk, 0).await;
    let first = snapshots.write(meta(10), chunks(50)).await.expect("a snapshot");
    let mut reading = first.chunks().expect("a reader");
    let mut read = vec![reading.next().await.expect("a chunk").expect("whole")];
    drop(first);
    for index in [20, 30, 40] {
        snapshots.write(meta(index), chunks(1)).await.expect("a snapshot");
    }
    assert_eq!(disk.names().len(), 2);
    while let Some(chunk) = reading.next().await {
        read.push(chunk.expect("whole"));
    }
    assert_eq!(read, chunks(50));
    // One of earlier entries, that took longer, does not become the latest.
    snapshots.write(meta(35), chunks(1)).await.expect("a snapshot");
    assert_eq!(latest(&snapshots), Some(40));
}

#[tokio::test(start_paused = true)]
async fn what_did_not_come_whole_is_thrown_away() {
    let disk = SimDisk::new(1);
    let snapshots = open(&disk, 0).await;
    let mut receiving = snapshots.receive(meta(10)).expect("a draft");
    receiving.push(chunks(1).remove(0)).await.expect("it is written");
    let expected = Totals { chunks: 2, bytes: 2_001 };
    let error = receiving.finish(expected).await.expect_err("a chunk is missing");
    assert_eq!(
        error.to_string(),
        "a snapshot of 2001 bytes in 2 chunks was announced, and 1000 bytes in 1 chunks came"
    );

    let mut receiving = snapshots.receive(meta(10)).expect("a draft");
    receiving.push(chunks(1).remove(0)).await.expect("it is written");
    drop(receiving);
    tokio::time::sleep(Duration::from_secs(1)).await;

    let large = vec![Bytes::from(vec![0; SNAPSHOT_CHUNK_BYTES_MAX + 1])];
    snapshots.write(meta(10), large).await.expect_err("too large a chunk");

    disk.set_faults(Faults { bytes_free: Some(10_000), ..Faults::default() });
    let error = snapshots.write(meta(10), chunks(50)).await.expect_err("a full disk");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(disk.names(), [""; 0]);
    assert!(snapshots.latest().is_none());
}
