//! One fault a test.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::limits::LOG_PAYLOAD_BYTES_MAX;
use crate::log::sim::{Faults, SECTOR_BYTES, SimDisk};
use crate::log::{Cut, Disk, Log, LogConfig, LogError, Position, RealDisk, Record};

fn small() -> LogConfig {
    LogConfig { segment_bytes: 4_096, cache_bytes_max: 0, ..LogConfig::default() }
}

fn at(index: u64) -> Position {
    Position { term: 1, index }
}

fn entry(index: u64, bytes: usize) -> Record {
    Record { position: at(index), payload: vec![index as u8; bytes].into() }
}

async fn open<D: Disk>(disk: &D) -> Log<D> {
    Log::open(disk.clone(), small()).await.expect("a log").0
}

/// Why the log on this disk does not start.
async fn refusal(disk: &SimDisk) -> String {
    match Log::open(disk.restarted(), small()).await {
        Ok((_, recovery)) => panic!("it starts: {recovery}"),
        Err(error) => error.to_string(),
    }
}

/// Appends entries one by one, each with an fdatasync.
async fn fill<D: Disk>(log: &Log<D>, entries: std::ops::Range<u64>, bytes: usize) {
    for index in entries {
        log.append(vec![entry(index, bytes)], |_| ()).await.expect("it is appended");
        log.flush().await.expect("it is on disk");
    }
}

async fn indexes<D: Disk>(log: &Log<D>) -> Vec<u64> {
    let records = log.read(0..u64::MAX, usize::MAX).await.expect("entries");
    records.iter().map(|record| record.position.index).collect()
}

fn segment(id: u64) -> String {
    format!("log-{id:016}")
}

/// A disk with a log of several segments, the first ones full.
async fn several_segments() -> SimDisk {
    let disk = SimDisk::new(1);
    let log = open(&disk).await;
    fill(&log, 1..41, 300).await;
    log.shutdown().await.expect("it ends");
    assert!(disk.names().iter().filter(|name| name.starts_with("log-")).count() > 3);
    disk
}

#[tokio::test(start_paused = true)]
async fn a_flipped_byte_in_an_earlier_segment_is_damage_and_says_where() {
    let disk = several_segments().await;
    disk.damage(&segment(2), |bytes| bytes[700] ^= 1);
    let why = refusal(&disk).await;
    assert!(why.starts_with("simulated/log-0000000000000002 is damaged at byte 5"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_flipped_byte_before_a_later_batch_is_damage_and_says_where() {
    let disk = SimDisk::new(1);
    let log = open(&disk).await;
    fill(&log, 1..6, 300).await;
    log.shutdown().await.expect("it ends");
    disk.damage(&segment(1), |bytes| bytes[SECTOR_BYTES + 60] ^= 1);
    let why = refusal(&disk).await;
    assert_eq!(
        why,
        "simulated/log-0000000000000001 is damaged at byte 512: here is no whole record, and the \
         one at byte 856 was written after all before it was on disk"
    );
}

#[tokio::test(start_paused = true)]
async fn a_tail_that_ends_early_is_cut_and_the_log_goes_on_behind_it() {
    let disk = SimDisk::new(1);
    let log = open(&disk).await;
    fill(&log, 1..6, 300).await;
    log.shutdown().await.expect("it ends");
    // In the middle of the last entry.
    let end = 512 + 4 * 344 + 100;
    disk.damage(&segment(1), |bytes| bytes.truncate(end));

    let (log, recovery) = Log::open(disk.restarted(), small()).await.expect("a log");
    let file = "simulated/log-0000000000000001".to_owned();
    assert_eq!(recovery.cut, Some(Cut { file, offset: 512 + 4 * 344, bytes: 100 }));
    assert_eq!(
        recovery.to_string(),
        "entries 1 to 4 (terms 1 to 1), no vote, in 1 segments; cut off 100 bytes of an \
         unfinished write at byte 1888 of simulated/log-0000000000000001"
    );
    fill(&log, 5..30, 300).await;
    assert!(indexes(&log).await.into_iter().eq(1..30));
    log.shutdown().await.expect("it ends");
    let (_, recovery) = Log::open(disk.restarted(), small()).await.expect("a log");
    assert_eq!((recovery.cut, recovery.entries), (None, Some((at(1), at(29)))));
}

#[tokio::test(start_paused = true)]
async fn what_stands_behind_a_cut_never_follows_what_is_written_there_later() {
    let disk = SimDisk::new(1);
    let log = open(&disk).await;
    fill(&log, 1..3, 300).await;
    log.append((3..6).map(|index| entry(index, 300)).collect(), |_| ()).await.expect("appended");
    log.flush().await.expect("it is on disk");
    log.shutdown().await.expect("it ends");
    // Of the last batch, the first record was lost and the others were not.
    let start = 512 + 2 * 344;
    disk.damage(&segment(1), |bytes| bytes[start..start + 344].fill(0));

    let (log, recovery) = Log::open(disk.restarted(), small()).await.expect("a log");
    let file = "simulated/log-0000000000000001".to_owned();
    assert_eq!(recovery.cut, Some(Cut { file, offset: start as u64, bytes: 3 * 344 }));
    // As long as the one that was lost, so that entry 4 stands right behind it.
    fill(&log, 3..4, 300).await;
    disk.power_loss();
    let log = open(&disk.restarted()).await;
    assert_eq!(indexes(&log).await, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_missing_segment_is_noticed_wherever_it_was() {
    for id in [1, 2] {
        let disk = several_segments().await;
        disk.delete(&segment(id));
        let why = refusal(&disk).await;
        let wanted = format!("simulated/{} is missing: simulated/", segment(id));
        assert!(why.starts_with(&wanted), "{why}");
    }
    let disk = several_segments().await;
    let names = disk.names();
    let newest = names.iter().rfind(|name| name.starts_with("log-")).expect("a segment");
    disk.delete(newest);
    let why = refusal(&disk).await;
    assert!(why.starts_with(&format!("simulated/{newest} is missing: simulated/log-")), "{why}");
    assert!(why.ends_with("says that the log goes on there"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_gone_but_for_its_spare_files_is_not_taken_for_a_new_one() {
    let disk = several_segments().await;
    let names = disk.names();
    names.iter().filter(|name| name.starts_with("log-")).for_each(|name| disk.delete(name));
    let why = refusal(&disk).await;
    assert!(why.contains("shows that there was a log"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_segment_without_a_good_header_is_refused() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(Damage, &str); 4] = [
        (|bytes| bytes.clear(), "at byte 0: the file is empty"),
        (|bytes| bytes.truncate(100), "at byte 0: the file has only 100 bytes"),
        (|bytes| bytes[40] ^= 1, "at byte 0: the checksum of its header is wrong"),
        (|bytes| bytes[..512].fill(0), "at byte 0: it does not begin as a segment of a log does"),
    ];
    for (damage, wanted) in damages {
        let disk = several_segments().await;
        disk.damage(&segment(3), damage);
        let why = refusal(&disk).await;
        assert_eq!(why, format!("simulated/{} is damaged {wanted}", segment(3)));
    }
}

/// Changes the header of a segment, and makes its checksum right.
fn forge(disk: &SimDisk, id: u64, change: impl FnOnce(&mut [u8])) {
    disk.damage(&segment(id), |bytes| {
        change(bytes);
        let sum = crc32c::crc32c(&bytes[16..512]);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    });
}

#[tokio::test(start_paused = true)]
async fn a_number_that_no_log_has_is_refused_before_anything_is_made_for_it() {
    // Where in the header, what stands there, and what is said of it.
    let numbers = [
        (24, 1 << 40, "a segment has 552 to 1073741824 bytes, and by its header 1099511627776"),
        (24, 551, "a segment has 552 to 1073741824 bytes, and by its header 551"),
        (56, u64::MAX, "an entry's index is at most 4611686018427387904, and there stands 184467"),
    ];
    for (at, number, wanted) in numbers {
        let disk = several_segments().await;
        forge(&disk, 3, |header| header[at..at + 8].copy_from_slice(&number.to_le_bytes()));
        let why = refusal(&disk).await;
        let place = format!("simulated/{} is damaged at byte 0: {wanted}", segment(3));
        assert!(why.starts_with(&place), "{why}");
    }
    // The end of the segment before: no more is read than there is.
    let disk = several_segments().await;
    forge(&disk, 3, |header| header[32..40].copy_from_slice(&(1_u64 << 60).to_le_bytes()));
    let why = refusal(&disk).await;
    assert!(why.contains("its records go on in the next segment, and here is none"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_fdatasync_is_the_end_for_every_waiter_and_every_later_call() {
    let disk = SimDisk::new(1);
    let log = open(&disk).await;
    fill(&log, 1..3, 10).await;
    disk.set_faults(Faults {
        syncs_until_failure: Some(0),
        sync_delay_max: Duration::from_millis(1),
        ..Faults::default()
    });
    let (tell, told) = oneshot::channel();
    log.append(vec![entry(3, 10)], |result| tell.send(result).expect("who listens"))
        .await
        .expect("it is queued");
    let why = "cannot sync simulated/log-0000000000000001: injected: fdatasync has failed";
    let error = log.save_vote(Bytes::new()).await.expect_err("no vote is on disk");
    assert_eq!(error.to_string(), why);
    assert_eq!(told.await.expect("an answer").expect_err("a failure").to_string(), why);

    // The disk is well again, but nobody asks it.
    let syncs = disk.syncs();
    assert_eq!(log.flush().await.expect_err("ended").to_string(), why);
    assert_eq!(log.append(vec![], |_| ()).await.expect_err("ended").to_string(), why);
    assert_eq!(log.truncate_after(None).expect_err("ended").to_string(), why);
    assert_eq!(log.purge(at(1)).expect_err("ended").to_string(), why);
    assert_eq!(log.save_committed(at(1)).expect_err("ended").to_string(), why);
    assert_eq!(log.read(1..2, 1).await.expect_err("ended").to_string(), why);
    assert_eq!(log.state().expect_err("ended").to_string(), why);
    assert_eq!(log.shutdown().await.expect_err("ended").to_string(), why);
    assert_eq!(disk.syncs(), syncs);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_ends_the_log_with_all_that_was_acknowledged_there() {
    let disk = SimDisk::new(1);
    let log = open(&disk).await;
    disk.set_faults(Faults { bytes_free: Some(9_000), ..Faults::default() });
    let mut last = 0;
    let error = loop {
        let appended = log.append(vec![entry(last + 1, 200)], |_| ()).await;
        let flushed = if appended.is_ok() { log.flush().await } else { appended };
        match flushed {
            Ok(()) => last += 1,
            Err(error) => break error,
        }
    };
    let text = error.to_string();
    assert!(text.starts_with("cannot make room in simulated/spare-000000000000"), "{text}");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::StorageFull);
    disk.set_faults(Faults::default());
    disk.power_loss();
    let log = open(&disk.restarted()).await;
    assert!(last > 10);
    assert!(indexes(&log).await.into_iter().eq(1..=last));
}

#[tokio::test(start_paused = true)]
async fn a_record_larger_than_a_segment_gets_a_segment_of_its_size() {
    let disk = SimDisk::new(1);
    let log = open(&disk).await;
    fill(&log, 1..3, 100).await;
    log.append(vec![entry(3, 100_000), entry(4, 10), entry(5, 2 << 20)], |_| ())
        .await
        .expect("it is appended");
    log.flush().await.expect("it is on disk");
    disk.power_loss();
    let log = open(&disk.restarted()).await;
    let records = log.read(1..9, usize::MAX).await.expect("entries");
    let sizes: Vec<_> = records.iter().map(|record| record.payload.len()).collect();
    assert_eq!(sizes, [100, 100, 100_000, 10, 2 << 20]);

    let large = Record { position: at(6), payload: vec![0; LOG_PAYLOAD_BYTES_MAX + 1].into() };
    let error = log.append(vec![large], |_| ()).await.expect_err("too large");
    assert_eq!(error.to_string(), "the entry 6 has 16777216 bytes, and 16777215 are the most");
    fill(&log, 6..7, 1).await;
}

#[tokio::test(start_paused = true)]
async fn segments_are_recycled_and_what_they_said_is_said_again() {
    let disk = SimDisk::new(1);
    let log = open(&disk).await;
    log.save_vote(Bytes::from_static(b"vote")).await.expect("it is on disk");
    log.save_committed(at(1)).expect("it is noted");
    for index in 1..200 {
        fill(&log, index..index + 1, 300).await;
        if index > 5 {
            log.purge(at(index - 5)).expect("it is queued");
        }
    }
    log.flush().await.expect("it is on disk");
    let names = disk.names();
    let spares = names.iter().filter(|name| name.starts_with("spare-")).count();
    // Five entries are in two segments at most, and one may be ahead.
    assert!(names.len() - spares <= 3 && (1..=3).contains(&spares), "{names:?}");
    disk.power_loss();
    let (log, recovery) = Log::open(disk.restarted(), small()).await.expect("a log");
    let state = log.state().expect("open");
    assert_eq!(state.vote.as_deref(), Some(&b"vote"[..]));
    assert_eq!((state.committed, state.purged, state.first), (Some(at(1)), Some(at(194)), 195));
    assert!(recovery.to_string().starts_with(
        "entries 195 to 199 (terms 1 to 1), purged up to 194, committed up to 1, a vote, in"
    ));
}

#[tokio::test(start_paused = true)]
async fn what_a_log_has_too_much_is_the_segments_before_those_that_fit() {
    let log = open(&several_segments().await.restarted()).await;
    let bytes = small().rounded().segment_bytes;
    let surplus = |segments| log.surplus(segments * bytes).expect("open");
    assert_eq!(surplus(1_000), None);
    let (newest, last_two) = (surplus(1).expect("too many"), surplus(2).expect("too many"));
    assert!(last_two < newest && newest < 40, "{last_two}, {newest}");
    assert_eq!(surplus(0), Some(newest), "what is being written stays");
    log.purge(at(last_two)).expect("it is queued");
    // What was purged counts no more.
    log.flush().await.expect("it is on disk");
    assert_eq!(surplus(2), None);
    assert_eq!(indexes(&log).await.first(), Some(&(last_two + 1)));
}

#[tokio::test(start_paused = true)]
async fn what_waits_goes_to_disk_together() {
    let disk = SimDisk::new(1);
    let log = Log::open(disk.clone(), LogConfig::default()).await.expect("a log").0;
    let syncs = disk.syncs();
    for index in 1..1_001 {
        log.append(vec![entry(index, 100)], |_| ()).await.expect("it is appended");
    }
    log.flush().await.expect("it is on disk");
    // Tokio lets others run now and then.
    assert!(disk.syncs() - syncs <= 20, "{} fdatasyncs", disk.syncs() - syncs);
}

#[tokio::test(start_paused = true)]
async fn appending_waits_while_too_much_is_queued() {
    let disk = SimDisk::new(1);
    let config = LogConfig { queue_bytes_max: 10_000, ..LogConfig::default() };
    let log = Log::open(disk.clone(), config).await.expect("a log").0;
    let delay = Duration::from_secs(10);
    disk.set_faults(Faults { sync_delay_max: delay, ..Faults::default() });
    let begun = tokio::time::Instant::now();
    let mut appended = 0;
    let append = async {
        for index in 1..100 {
            log.append(vec![entry(index, 1_000)], |_| ()).await.expect("it is appended");
            appended = index;
        }
    };
    tokio::time::timeout(Duration::from_millis(1), append).await.expect_err("it waits");
    assert_eq!(appended, 9);
    // A larger one than may ever wait goes alone.
    log.append(vec![entry(10, 20_000)], |_| ()).await.expect("it is appended");
    assert!(begun.elapsed() > Duration::from_millis(1));
    log.shutdown().await.expect("it ends");
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_does_not_follow_is_refused_and_leaves_no_trace() {
    let disk = SimDisk::new(1);
    let log = open(&disk).await;
    // The first one of all may be any.
    fill(&log, 5..7, 10).await;
    let error = log.append(vec![entry(7, 1), entry(9, 1)], |_| ()).await.expect_err("a gap");
    assert_eq!(error.to_string(), "the entry 9 was appended where 8 is next");
    log.append(vec![entry(6, 1)], |_| ()).await.expect_err("it is there");
    fill(&log, 7..8, 10).await;
    log.purge(at(20)).expect("it is queued");
    log.append(vec![entry(8, 1)], |_| ()).await.expect_err("it is purged");
    fill(&log, 21..22, 10).await;
    assert_eq!(indexes(&log).await, [21]);
    log.truncate_after(Some(3)).expect("it is queued");
    // The purge point stays.
    assert_eq!(log.state().expect("open").last, Some(at(20)));
}

#[tokio::test]
async fn a_folder_is_for_one_process_and_its_files_for_one_user() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep/er");
    let disk = RealDisk::open(&path).expect("a disk");
    let why = RealDisk::open(&path).expect_err("it is in use").to_string();
    assert_eq!(why, format!("the folder {} is in use by another server", path.display()));

    let log = open(&disk).await;
    fill(&log, 1..30, 300).await;
    #[cfg(unix)]
    for file in std::fs::read_dir(&path).expect("files") {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.and_then(|file| file.metadata()).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    drop(disk);
    RealDisk::open(&path).expect_err("the log still uses it");
    log.shutdown().await.expect("it ends");
    drop(log);
    let log = open(&RealDisk::open(&path).expect("a disk")).await;
    assert!(indexes(&log).await.into_iter().eq(1..30));
    log.shutdown().await.expect("it ends");
    assert!(matches!(log.flush().await, Err(LogError::Closed)));
}
