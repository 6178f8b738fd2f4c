//! The simulated disk itself: tests are worth what it can do.

use std::collections::BTreeSet;

use crate::log::sim::{Dice, Faults, SECTOR_BYTES, SimDisk};
use crate::log::{Disk, DiskFile};

#[tokio::test(start_paused = true)]
async fn a_power_loss_keeps_any_subset_of_unsynced_sectors_and_all_synced_ones() {
    let mut kept = BTreeSet::new();
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let file = disk.create("a").await.expect("a file");
        disk.sync_folder().await.expect("it is on disk");
        file.write_at(0, &[1; 4 * SECTOR_BYTES]).await.expect("it is written");
        file.sync().await.expect("it is on disk");
        file.write_at(SECTOR_BYTES as u64, &[2; 3 * SECTOR_BYTES]).await.expect("it is written");
        disk.power_loss();
        let content = disk.content("a");
        assert_eq!(content[..SECTOR_BYTES], [1; SECTOR_BYTES]);
        let sectors: Vec<u8> = content.chunks(SECTOR_BYTES).map(|sector| sector[7]).collect();
        assert!(content.iter().enumerate().all(|(at, byte)| *byte == sectors[at / SECTOR_BYTES]));
        kept.insert(sectors);
    }
    assert_eq!(kept.len(), 8, "of three sectors, any subset: {kept:?}");
}

#[tokio::test(start_paused = true)]
async fn unsynced_names_happen_or_not() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        for name in ["old", "gone"] {
            disk.create(name).await.expect("a file");
        }
        disk.sync_folder().await.expect("it is on disk");
        disk.rename("old", "new").await.expect("it is renamed");
        disk.remove("gone").await.expect("it is removed");
        disk.create("made").await.expect("a file");
        disk.power_loss();
        seen.insert(disk.names());
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_old_handles_fail_for_ever_and_unsynced_bytes_can_be_read() {
    let disk = SimDisk::new(Dice::new(1).roll());
    let file = disk.create("a").await.expect("a file");
    file.write_at(0, b"hello").await.expect("it is written");
    disk.crash();
    let next = disk.restarted();
    let mut bytes = [0; 9];
    for _ in 0..2 {
        file.write_at(0, b"late").await.expect_err("it is over");
        file.sync().await.expect_err("it is over");
        file.read_at(0, &mut bytes).await.expect_err("it is over");
        disk.create("b").await.expect_err("it is over");
        disk.list().await.expect_err("it is over");
    }
    let file = next.open("a").await.expect("it is there");
    assert_eq!(file.read_at(0, &mut bytes).await.expect("bytes"), 5);
    assert_eq!(&bytes[..5], b"hello");
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_fdatasync_had_in_hand_is_lost_although_the_next_one_succeeds() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let file = disk.create("a").await.expect("a file");
        disk.sync_folder().await.expect("it is on disk");
        file.write_at(0, &[1; SECTOR_BYTES]).await.expect("it is written");
        disk.set_faults(Faults { syncs_until_failure: Some(0), ..Faults::default() });
        file.sync().await.expect_err("injected");
        file.sync().await.expect("nothing to do");
        disk.power_loss();
        assert!(disk.content("a").iter().all(|byte| *byte == 0));
    }
}
