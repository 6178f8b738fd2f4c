//! Disks that are full, and files that are not as they were left.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use synod_tests::faults::cluster::{Cluster, Settings};
use synod_tests::faults::ledger::{Ledger, data_of};
use synod_tests::faults::load;
use synod_tests::faults::repetitions;
use synod_tests::faults::segment::{find, last_batch, newest, records};

use crate::stage::Stage;

/// No file of the process grows beyond that (4 or 8 MiB, by the shell): to the log it is a disk
/// without room.
const FULL: [&str; 4] = ["sh", "-c", r#"trap "" XFSZ; ulimit -f 8192; exec "$@""#, "sh"];

/// Fills that soon.
fn heavy() -> load::Settings {
    load::Settings { value_bytes: 4_000, rate_min: 50.0, ..load::Settings::default() }
}

fn fill(cluster: &mut Cluster, place: usize) {
    cluster.members[place].wrapper = FULL.map(str::to_owned).to_vec();
}

/// That a member has ended as it should when its disk fails it.
async fn fails(cluster: &mut Cluster, place: usize, says: &str) {
    let member = &mut cluster.members[place];
    let status = member.ended().await;
    let words = member.last_words();
    assert_eq!(status.code(), Some(1), "{words}");
    let segment = newest(&member.data).display().to_string();
    assert!(words.contains(&segment), "{segment} is to be named:\n{words}");
    assert!(words.contains(says), "{says:?} is to be said:\n{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_room_on_its_disk_ends_and_has_lost_nothing() {
    let mut stage = Stage::new(Settings::of(1), heavy()).await;
    stage.cluster.members[0].kill().await;
    fill(&mut stage.cluster, 0);
    stage.cluster.members[0].start();
    fails(&mut stage.cluster, 0, "File too large").await;
    stage.cluster.members[0].wrapper.clear();
    stage.cluster.members[0].start();
    stage.served(Instant::now()).await;
    stage.end("a server whose disk was full").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_room_on_its_disk_ends_and_the_others_go_on() {
    let mut stage = Stage::new(Settings::of(3), heavy()).await;
    let place = stage.cluster.leader().await;
    // Only one that is started anew can be given a bound; it may lead again or not.
    stage.cluster.members[place].kill().await;
    fill(&mut stage.cluster, place);
    stage.cluster.members[place].start();
    fails(&mut stage.cluster, place, "File too large").await;
    stage.served(Instant::now()).await;
    stage.cluster.members[place].wrapper.clear();
    stage.cluster.members[place].start();
    stage.end("a member whose disk was full").await;
}

/// Changes one byte of a file.
fn flip(file: &Path, offset: usize) {
    let file = OpenOptions::new().read(true).write(true).open(file).expect("a file of the log");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset as u64).expect("it can be read");
    file.write_all_at(&[byte[0] ^ 0x10], offset as u64).expect("it can be written");
}

/// The number behind `text`.
fn number_behind(words: &str, text: &str) -> Option<usize> {
    let (_, behind) = words.rsplit_once(text)?;
    behind.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_log_was_changed_refuses_to_start_and_names_the_place() {
    let mut stage = Stage::new(Settings::of(1), load::Settings::default()).await;
    stage.cluster.members[0].kill().await;
    let segment = newest(&stage.cluster.members[0].data);
    let bytes = std::fs::read(&segment).expect("it can be read");
    let written = records(&bytes);
    let middle = written[written.len() / 2];
    let value = find(&bytes[middle.start..], b"<w").expect("more was written") + middle.start;
    // A byte of what a client has written, and one of what the log has written around it.
    for offset in [value, middle.start + 20] {
        flip(&segment, offset);
        let member = &mut stage.cluster.members[0];
        member.start();
        let status = member.ended().await;
        let words = member.last_words();
        assert_eq!(status.code(), Some(1), "{words}");
        assert!(words.contains(&segment.display().to_string()), "{words}");
        let named = number_behind(&words, "damaged at byte ").expect("the place is named");
        let record = named <= offset && offset - named < 1_000;
        assert!(record, "byte {named} is named, and {offset} was changed:\n{words}");
        flip(&segment, offset);
    }
    stage.cluster.members[0].start();
    stage.served(Instant::now()).await;
    stage.end("a server whose log was changed, and changed back").await;
}

/// Whether something in this batch was acknowledged.
fn is_acknowledged(batch: &[u8], ledgers: &[impl std::ops::Deref<Target = Ledger>]) -> bool {
    ledgers.iter().enumerate().any(|(worker, ledger)| {
        ledger.paths.iter().any(|(path, known)| {
            let settled = known.possible.iter().filter(|state| state.zxid.is_some());
            settled.into_iter().any(|state| match state.value {
                Some(value) => find(batch, &data_of(worker, value, 0)).is_some(),
                None => find(batch, path.as_bytes()).is_some(),
            })
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_last_write_was_torn_starts_without_it() {
    const TRIES: usize = 50;
    let mut stage = Stage::new(Settings::of(1), load::Settings::default()).await;
    let mut torn = 0;
    for _ in 0..TRIES * repetitions() {
        stage.cluster.members[0].kill().await;
        let segment = newest(&stage.cluster.members[0].data);
        let bytes = std::fs::read(&segment).expect("it can be read");
        let batch = last_batch(&bytes);
        let (start, end) = (batch[0].start, batch[batch.len() - 1].end);
        let torn_ones: Vec<_> = batch.iter().filter(|it| it.payload.0 < it.payload.1).collect();
        // Whoever was told of it was told after it was on disk: that no power loss takes away.
        let tearable =
            !torn_ones.is_empty() && !is_acknowledged(&bytes[start..end], &stage.load.ledgers());
        if tearable {
            let file = OpenOptions::new().write(true).open(&segment).expect("a file of the log");
            let (from, behind) = torn_ones[torn % torn_ones.len()].payload;
            file.set_len(((from + behind) / 2) as u64).expect("it can be cut");
            torn += 1;
        }
        stage.cluster.members[0].start();
        stage.served(Instant::now()).await;
        if tearable {
            let words = stage.cluster.members[0].output();
            let cut = words.matches("of an unfinished write").count();
            assert_eq!(cut, torn, "what was cut off is to be said:\n{words}");
            stage.check().await;
            stage.load.resume();
        }
        if torn >= repetitions() {
            break;
        }
    }
    assert!(torn > 0, "no last write of {TRIES} was without an acknowledgement");
    stage.end(&format!("a server whose last write was torn {torn} times")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_behind_whose_log_stands_rubbish_starts_without_it() {
    let mut stage = Stage::new(Settings::of(1), load::Settings::default()).await;
    stage.cluster.members[0].kill().await;
    let segment = newest(&stage.cluster.members[0].data);
    let bytes = std::fs::read(&segment).expect("it can be read");
    let end = records(&bytes).last().expect("there was a load").end;
    let file = OpenOptions::new().write(true).open(&segment).expect("a file of the log");
    file.write_all_at(&[0xA5; 1_000], end as u64).expect("it can be written");
    stage.cluster.members[0].start();
    stage.served(Instant::now()).await;
    stage.end("a server behind whose log stood rubbish").await;
}
