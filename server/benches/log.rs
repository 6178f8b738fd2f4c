//! How fast the log is on this machine's disk: `cargo bench -p synod-server --features testing
//! --bench log [-- FOLDER]`. The folder has to be on the disk that is meant.

use std::time::{Duration, Instant};

use bytes::Bytes;
use synod_server::limits::LOG_READ_BYTES_MAX;
use synod_server::log::{Log, LogConfig, Position, RealDisk, Record};

/// A small write, encoded.
const PAYLOAD_BYTES: usize = 256;
const RUN: Duration = Duration::from_secs(3);
/// What a start reads.
const LARGE_BYTES: usize = 1 << 30;
/// Entries that stay when earlier ones are purged, as a snapshot would allow.
const KEPT: u64 = 100_000;

fn records(next: &mut u64, count: usize, payload: &Bytes) -> Vec<Record> {
    let record = || {
        *next += 1;
        Record { position: Position { term: 1, index: *next }, payload: payload.clone() }
    };
    std::iter::repeat_with(record).take(count).collect()
}

async fn run(folder: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let open = async |name: &str| {
        Log::open(RealDisk::open(folder.join(name))?, LogConfig::default())
            .await
            .map_err(Box::<dyn std::error::Error>::from)
    };
    let payload = Bytes::from(vec![0x5a; PAYLOAD_BYTES]);
    for batch in [1, 16, 64, 256] {
        let (log, _) = open(&format!("batch-{batch}")).await?;
        let (mut next, mut purged, begun) = (0, 0, Instant::now());
        while begun.elapsed() < RUN {
            log.append(records(&mut next, batch, &payload), |_| ()).await?;
            log.flush().await?;
            if next > purged + 2 * KEPT {
                purged += KEPT;
                log.purge(Position { term: 1, index: purged })?;
            }
        }
        let rate = next as f64 / begun.elapsed().as_secs_f64();
        println!("batch {batch}: {rate:.0} appends/s, each batch with its fdatasync");
        log.shutdown().await?;
    }

    let (log, _) = open("large").await?;
    let (mut next, begun) = (0, Instant::now());
    let count = LARGE_BYTES / (PAYLOAD_BYTES + 40);
    while next < count as u64 {
        log.append(records(&mut next, 1_000, &payload), |_| ()).await?;
    }
    log.flush().await?;
    let rate = next as f64 / begun.elapsed().as_secs_f64();
    println!("1 GiB in appends of 1000 that do not wait: {rate:.0} appends/s");
    log.shutdown().await?;
    drop(log);
    for _ in 0..3 {
        let begun = Instant::now();
        let (log, recovery) = open("large").await?;
        let seconds = begun.elapsed().as_secs_f64();
        let gib = recovery.bytes as f64 / (1u64 << 30) as f64;
        println!("start: {gib:.2} GiB in {seconds:.2} s: {recovery}");
        let (begun, mut from) = (Instant::now(), 0);
        while let Some(last) = log.read(from..u64::MAX, LOG_READ_BYTES_MAX).await?.last() {
            from = last.position.index + 1;
        }
        let rate = next as f64 / begun.elapsed().as_secs_f64();
        println!("read back: {rate:.0} entries/s");
        log.shutdown().await?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let folder = tempfile::tempdir_in(folder.unwrap_or_else(|| ".".to_owned()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    runtime.block_on(run(folder.path()))
}
