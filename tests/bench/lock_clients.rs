//! Locks of three clients side by side on one Apache ZooKeeper: ours, the crate `zookeeper-client`'s,
//! and kazoo's, which runs in a Python of its own (see `lock_kazoo.py`) and is left out without one.
//!
//! * Alone: acquire and release, both confirmed, again and again.
//! * In line: 10, and 50, each with a session of its own, wait for one lock; the holder releases, and
//!   so does each one that it comes to. A hand-over is the time from the beginning of a release until the
//!   next one holds. How many a release wakes is what the *server* counts: events of watches on znodes
//!   that were deleted.
//!
//! The clients take turns, round by round; medians are told. In line, a fourth takes its turn, which is
//! none: what the server alone takes for a hand-over (see `least.rs`).
//!
//! ```text
//! PYTHON=target/interop/venv/bin/python cargo bench -p synod-tests --features apache --bench lock_clients
//! ```

mod common;
mod least;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Counts, Kazoo, SESSION_TIMEOUT, client as our_client, median, on_two_workers};
use synod::guard::Released;
use synod::{Client, Lock};
use synod_tests::recipes::ground::{Ground, soon};
use tokio::task::JoinHandle;
use zookeeper_client as zk;

const ROUNDS: usize = 15;
const LOCKS_PER_ROUND: usize = 300;
const LINES: [usize; 2] = [10, 50];
/// Lines of a length, of each client.
const LINE_ROUNDS: usize = 15;
/// Where kazoo's half is.
const KAZOO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/lock_kazoo.py");

const PERSISTENT: zk::CreateOptions<'static> =
    zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());

const NAMES: [&str; 3] = ["synod", "zookeeper-client", "kazoo"];

fn main() {
    on_two_workers(measure());
}

async fn measure() {
    // No server ends a session of a client that waits its turn for long.
    let ground = Ground::apache_with(&["maxSessionTimeout=600000"]).await;
    let server = ground.faults().address(0);
    let mut kazoo = KazooLocks::start(server);
    alone(server, &mut kazoo).await;
    for line in LINES {
        in_line(server, line, &mut kazoo).await;
    }
}

async fn alone(server: SocketAddr, kazoo: &mut Option<KazooLocks>) {
    let ours = our_client(server).await;
    let theirs = their_client(server).await;
    let (our_path, their_path) = ("/alone/synod", "/alone/crate");
    for path in ["/alone", our_path, their_path] {
        ours.create(path, b"").await.expect("new");
    }
    let mut times: [Vec<f64>; 3] = Default::default();
    for round in 0..=ROUNDS {
        let begun = Instant::now();
        let lock = Lock::new(&ours, our_path).expect("valid");
        let mut last = synod::Zxid::ZERO;
        for _ in 0..LOCKS_PER_ROUND {
            let guard = lock.acquire().await.expect("free");
            assert!(guard.token() > last, "tokens grow");
            last = guard.token();
            assert_eq!(guard.release().await.expect("held"), Released::Confirmed);
        }
        let us = per_lock(begun.elapsed());
        let begun = Instant::now();
        let mut last = String::new();
        for _ in 0..LOCKS_PER_ROUND {
            let guard = their_lock(&theirs, their_path).await;
            assert!(suffix(guard.lock_path()) > suffix(&last), "suffixes grow");
            last = guard.lock_path().to_owned();
            their_release(&theirs, guard).await;
        }
        let them = per_lock(begun.elapsed());
        let kazoo = kazoo.as_mut().map(|kazoo| kazoo.alone(LOCKS_PER_ROUND));
        // The first one warms up.
        if round > 0 {
            times[0].push(us);
            times[1].push(them);
            times[2].extend(kazoo);
        }
    }
    for path in [our_path, their_path] {
        assert!(ours.children(path).await.expect("it is there").is_empty(), "all are released");
    }
    let [us, them, kazoo] = times.map(median);
    println!("acquire + confirmed release, alone ({ROUNDS} rounds of {LOCKS_PER_ROUND})");
    told(NAMES[0], us, None, "");
    told(NAMES[1], them, Some(them / us), "x ours, target >= 1.25");
    told(NAMES[2], kazoo, Some(kazoo / us), "x ours, target >= 2.2");
}

fn told(name: &str, figure: f64, ratio: Option<f64>, of: &str) {
    if figure.is_nan() {
        return println!("  {name:<18} not measured: set PYTHON to one that has kazoo");
    }
    match ratio {
        Some(ratio) => println!("  {name:<18} {figure:>8.1} us   {ratio:>5.2} {of}"),
        None => println!("  {name:<18} {figure:>8.1} us"),
    }
}

async fn their_client(server: SocketAddr) -> zk::Client {
    let connector = zk::Client::connector().with_session_timeout(SESSION_TIMEOUT);
    connector.connect(&server.to_string()).await.expect("the server is there")
}

async fn their_lock<'a>(client: &'a zk::Client, path: &str) -> zk::LockClient<'a> {
    let prefix = zk::LockPrefix::new_curator(path, "lock-").expect("valid");
    client.lock(prefix, b"", zk::Acls::anyone_all()).await.expect("in line")
}

/// Deletes the znode and waits for it. (A drop would delete it some time later, unconfirmed.)
async fn their_release(client: &zk::Client, guard: zk::LockClient<'_>) {
    client.delete(guard.lock_path(), None).await.expect("held");
    std::mem::forget(guard);
}

fn suffix(path: &str) -> &str {
    &path[path.len().saturating_sub(10)..]
}

fn per_lock(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6 / LOCKS_PER_ROUND as f64
}

async fn in_line(server: SocketAddr, length: usize, kazoo: &mut Option<KazooLocks>) {
    let observer = their_client(server).await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..=length {
        ours.push(our_client(server).await);
        theirs.push(their_client(server).await);
    }
    if let Some(kazoo) = kazoo {
        kazoo.connect(length);
    }
    let mut times: [Vec<f64>; 3] = Default::default();
    let mut woken = [0; 3];
    let mut least = Vec::new();
    for round in 0..=LINE_ROUNDS {
        let path = format!("/least-{length}-{round}");
        let hand_overs = the_least(&observer, server, &path, length).await;
        if round > 0 {
            least.push(median(hand_overs));
        }
        for (client, name) in NAMES.iter().enumerate() {
            let path = format!("/line-{length}-{name}-{round}");
            observer.create(&path, b"", &PERSISTENT).await.expect("new");
            let line = Arc::new(Line::default());
            let before = Counted::by(server).await;
            let all = async {
                match client {
                    0 => line.of_ours(&ours, &path, server).await,
                    1 => line.of_theirs(&theirs, &path, server).await,
                    _ => {
                        let Some(kazoo) = kazoo.as_mut() else { return false };
                        kazoo.form(&path);
                        until_in_line(server, length).await;
                        *line.hand_overs() = kazoo.dissolve();
                    }
                }
                true
            };
            if !soon(all).await {
                continue;
            }
            let hand_overs = std::mem::take(&mut *line.hand_overs());
            assert_eq!(hand_overs.len(), length, "each had its turn");
            let left = observer.list_children(&path).await.expect("it is there");
            assert!(left.is_empty(), "all are released");
            let after = Counted::by(server).await;
            assert_eq!(after.watches, 0);
            if round > 0 {
                woken[client] += after.deletion_events - before.deletion_events;
                times[client].push(median(hand_overs));
            }
        }
    }
    println!("hand-over, {length} in line ({LINE_ROUNDS} lines)");
    let releases = (LINE_ROUNDS * length) as f64;
    let ours = median(times[0].clone());
    for ((name, times), woken) in NAMES.iter().zip(times).zip(woken) {
        let woken = woken as f64 / releases;
        let figure = median(times);
        let of = format!("of that, ours; {woken:.3} woken a release");
        told(name, figure, Some(ours / figure), &of);
    }
    let least = median(least);
    told("(the least)", least, Some(ours / least), "of that, ours");
}

async fn the_least(
    observer: &zk::Client,
    server: SocketAddr,
    path: &str,
    length: usize,
) -> Vec<f64> {
    observer.create(path, b"", &PERSISTENT).await.expect("new");
    // Names as long as those of ours, and one more: whoever lists finds itself.
    let names: Vec<_> =
        (0..=length).map(|place| format!("_c_{:036}-lock-{place:010}", 0)).collect();
    for name in &names {
        let options = zk::CreateMode::Ephemeral.with_acls(zk::Acls::anyone_all());
        observer.create(&format!("{path}/{name}"), b"", &options).await.expect("new");
    }
    let path = path.to_owned();
    let all =
        tokio::task::spawn_blocking(move || least::hand_overs(server, &path, &names[..length]));
    all.await.expect("no panic")
}

/// What a line shares.
#[derive(Default)]
struct Line {
    /// When the holder began to release.
    released: Mutex<Option<Instant>>,
    hand_overs: Mutex<Vec<f64>>,
}

impl Line {
    fn hand_overs(&self) -> std::sync::MutexGuard<'_, Vec<f64>> {
        self.hand_overs.lock().expect("no panic")
    }

    fn releases(&self) {
        *self.released.lock().expect("no panic") = Some(Instant::now());
    }

    fn holds(&self) {
        let released = self.released.lock().expect("no panic").expect("released before");
        self.hand_overs().push(released.elapsed().as_secs_f64() * 1e6);
    }

    async fn of_ours(self: &Arc<Line>, clients: &[Client], path: &str, server: SocketAddr) {
        let lock = |client| Lock::new(client, path.to_owned()).expect("valid");
        let first = lock(&clients[0]).acquire().await.expect("free");
        let mut others = Vec::new();
        for client in &clients[1..] {
            let (lock, line) = (lock(client), Arc::clone(self));
            others.push(tokio::spawn(async move {
                let guard = lock.acquire().await.expect("its turn");
                line.holds();
                line.releases();
                assert_eq!(guard.release().await.expect("held"), Released::Confirmed);
            }));
        }
        until_in_line(server, others.len()).await;
        self.releases();
        assert_eq!(first.release().await.expect("held"), Released::Confirmed);
        all_had_it(others).await;
    }

    async fn of_theirs(self: &Arc<Line>, clients: &[zk::Client], path: &str, server: SocketAddr) {
        let first = their_lock(&clients[0], path).await;
        let mut others = Vec::new();
        for client in &clients[1..] {
            let (client, path, line) = (client.clone(), path.to_owned(), Arc::clone(self));
            others.push(tokio::spawn(async move {
                let guard = their_lock(&client, &path).await;
                line.holds();
                line.releases();
                their_release(&client, guard).await;
            }));
        }
        until_in_line(server, others.len()).await;
        self.releases();
        their_release(&clients[0], first).await;
        all_had_it(others).await;
    }
}

async fn all_had_it(others: Vec<JoinHandle<()>>) {
    for other in others {
        other.await.expect("no panic");
    }
}

/// Waits until so many wait, each with its watch.
async fn until_in_line(server: SocketAddr, waiting: usize) {
    while Counted::by(server).await.watches < waiting {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What the server counts.
struct Counted {
    watches: usize,
    /// Of watches on znodes that were deleted.
    deletion_events: usize,
}

impl Counted {
    async fn by(server: SocketAddr) -> Counted {
        let counts = Counts::by(server).await;
        Counted {
            watches: counts.of("zk_watch_count") as usize,
            deletion_events: counts.of("zk_sum_node_deleted_watch_count") as usize,
        }
    }
}

/// Kazoo's locks; see `lock_kazoo.py`.
struct KazooLocks(Kazoo);

impl KazooLocks {
    /// `None` without a Python that has kazoo.
    fn start(server: SocketAddr) -> Option<KazooLocks> {
        let python = std::env::var_os("PYTHON")?;
        Some(KazooLocks(Kazoo::start(&python, KAZOO, server)))
    }

    fn ask(&mut self, what: &str) -> Vec<f64> {
        self.0.ask(what);
        self.0.answer()
    }

    /// Microseconds of an acquire and its release.
    fn alone(&mut self, locks: usize) -> f64 {
        self.ask(&format!("alone /alone/kazoo {locks}"))[0]
    }

    fn connect(&mut self, length: usize) {
        self.ask(&format!("connect {}", length + 1));
    }

    /// All of them ask for the lock; the first one has it.
    fn form(&mut self, path: &str) {
        self.ask(&format!("form {path}"));
    }

    /// The first one releases, and each one that it comes to; microseconds of each hand-over.
    fn dissolve(&mut self) -> Vec<f64> {
        self.ask("dissolve")
    }
}
