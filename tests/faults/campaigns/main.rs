//! Runs that measure, and take their time: `tests/faults/run elections 60`, for example.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use synod_core::model::{CreateMode, Read, Request, Response, Zxid};
use synod_tests::faults::check::Checker;
use synod_tests::faults::cluster::{Cluster, Settings};
use synod_tests::faults::connection::Connection;
use synod_tests::faults::load::{self, Load, create};
use synod_tests::faults::report::{Times, machine};
use synod_tests::faults::{PATIENCE, until};

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => default,
    }
}

/// Threads that take what the processors have, and end with this.
struct Hogs(Arc<AtomicBool>);

impl Hogs {
    fn start(count: u64) -> Hogs {
        let over = Arc::new(AtomicBool::new(false));
        for _ in 0..count {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Hogs(over)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Loads three members with all that there is for `SYNOD_SECONDS`, besides `SYNOD_HOGS` threads
/// that do nothing but run, and counts the leaders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elections() {
    let seconds = setting("SYNOD_SECONDS", 10);
    let hogs = setting("SYNOD_HOGS", 0);
    let cluster = Cluster::start(Settings::of(3)).await;
    let settings = load::Settings { workers: 12, window: 64, ..load::Settings::default() };
    let mut load = Load::start(cluster.addresses(), settings).await;
    let hogs = (Hogs::start(hogs), hogs);
    let (begun, mut leaders) = (Instant::now(), BTreeSet::new());
    let mut silent = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        for (place, member) in cluster.members.iter().enumerate() {
            match member.standing().await {
                Some(standing) if standing.mode == "leader" => {
                    leaders.insert((standing.zxid >> 32, place + 1));
                }
                Some(_) => {}
                None => silent += 1,
            }
        }
        load.more(1_000).await;
    }
    drop(hogs.0);
    let rate = load.pause().await;
    let epochs: BTreeSet<u32> = load
        .ledgers()
        .iter()
        .flat_map(|ledger| ledger.zxids.iter().map(|zxid| zxid.epoch()))
        .collect();
    println!(
        "{seconds} s of load and {} hogs: {:.0} changes a second; terms that wrote: {epochs:?}, \
         leaders (term, member): {leaders:?}, words not answered in time: {silent}; {}",
        hogs.1,
        rate.a_second,
        machine()
    );
    Checker::default().check(&cluster, &load).await;
    load.finish().await;
    println!("unwanted elections: {}", epochs.len() - 1);
}

/// Fills a server with `SYNOD_ZNODES` znodes, then kills and starts it a few times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart() {
    const CONNECTIONS: u64 = 8;
    const AT_A_TIME: u64 = 250;
    const A_FOLDER: u64 = 1_000;
    const RESTARTS: usize = 7;
    let znodes = setting("SYNOD_ZNODES", 100_000);
    let mut cluster = Cluster::start(Settings::of(1)).await;
    let address = cluster.members[0].address;
    let session = Duration::from_secs(40);
    let open = async || {
        Connection::open(address, None, Zxid::ZERO, session, Duration::from_secs(60)).await
    };
    let begun = Instant::now();
    let mut filling = tokio::task::JoinSet::new();
    for number in 0..CONNECTIONS {
        let mut connection = open().await.expect("it serves");
        filling.spawn(async move {
            let count = znodes / CONNECTIONS;
            let folder = |of: u64| format!("/f{number}-{}", of / A_FOLDER);
            let mut made = 0;
            while made < count {
                let end = count.min(made + AT_A_TIME);
                for znode in made..end {
                    let path = match znode % A_FOLDER {
                        0 => folder(znode),
                        _ => format!("{}/n{znode}", folder(znode)),
                    };
                    connection.put(&create(&path, vec![b'.'; 100], CreateMode::Persistent));
                }
                connection.flush().await.expect("connected");
                while connection.outstanding() > 0 {
                    connection.reply().await.expect("connected").result.expect("a new znode");
                }
                made = end;
            }
            made
        });
    }
    let made: u64 = filling.join_all().await.into_iter().sum();
    let took = begun.elapsed().as_secs_f64();
    println!("{made} znodes in {took:.0} s, {:.0} a second; {}", made as f64 / took, machine());
    let mut times = Times::of("from exec to the first request that is served");
    for _ in 0..RESTARTS {
        cluster.members[0].kill().await;
        let begun = Instant::now();
        cluster.members[0].start();
        let mut connection = until("it serves", async || open().await.ok()).await;
        let exists = Request::Read(Read::Exists { path: "/f0-0/n1".into(), watch: false });
        connection.ask(&exists).await.expect("connected").result.expect("it was made");
        times.add(begun.elapsed());
        let count = Request::Read(Read::DescendantCount { path: "/".into() });
        let count = connection.ask(&count).await.expect("connected").result;
        match count {
            Ok(Response::DescendantCount(count)) => assert!(u64::from(count) >= made, "{count}"),
            other => panic!("{other:?}"),
        }
        assert!(begun.elapsed() < PATIENCE);
    }
    println!("{made} znodes: {times}; {}", machine());
    let recovered = cluster.members[0].output();
    println!("{}", recovered.lines().rfind(|line| line.contains("the log:")).unwrap_or_default());
}
