//! Queues of two clients side by side, each where it is at home: our `Queue` on one durable
//! `synod serve`, and kazoo's `LockingQueue` on one Apache ZooKeeper. Both sync what they write.
//!
//! * Through: four workers, each with a session of its own (kazoo's: each in a Python of its own, see
//!   `queue_kazoo.py`), put a quarter of the items, one at a time; when all are there, they take and
//!   finish items, one at a time, until none is left. Each item is to come once.
//! * A take: how many requests one costs, as the *server* counts them, while 10 and while 100,000 items
//!   wait.
//!
//! The two take turns, round by round; medians are told.
//!
//! ```text
//! PYTHON=target/interop/venv/bin/python cargo bench -p synod-tests --features apache --bench queue_clients
//! ```

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{Counts, Kazoo, client, median, on_two_workers};
use synod::{Client, Queue};
use synod_tests::recipes::ground::Ground;
use tokio::task::JoinSet;

const ROUNDS: usize = 5;
const WORKERS: u32 = 4;
/// Of all workers, in a round.
const ITEMS: u32 = 2_000;
const WAITING: [u32; 2] = [10, 100_000];
/// As many as a queue takes in one go.
const PUT_AT_ONCE: usize = 1_000;
/// Takes that are counted.
const TAKES: u32 = 1_000;
/// Where kazoo's half is.
const KAZOO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/queue_kazoo.py");

fn main() {
    on_two_workers(measure());
}

async fn measure() {
    let python = std::env::var_os("PYTHON").expect("PYTHON names one that has kazoo");
    let (ours, apache) = (Ground::synod().await, Ground::apache_with(&[]).await);
    let (ours, apache) = (ours.faults().address(0), apache.faults().address(0));
    let mut clients = Vec::new();
    let mut kazoos = Vec::new();
    for _ in 0..WORKERS {
        clients.push(client(ours).await);
        kazoos.push(Kazoo::start(&python, KAZOO, apache));
    }
    let (mut us, mut them) = (Phases::default(), Phases::default());
    for round in 0..=ROUNDS {
        let mine = through(&clients, &format!("/through-{round}")).await;
        let theirs = kazoo_through(&mut kazoos, &format!("/through-{round}"));
        // The first one warms up.
        if round > 0 {
            us.add(mine);
            them.add(theirs);
        }
    }
    println!("{ITEMS} items through a queue, {WORKERS} workers ({ROUNDS} rounds)");
    let target = "target >= 5";
    told("put", us.put, them.put, "");
    told("take and ack", us.take, them.take, "");
    told("all three", us.all, them.all, target);
    for waiting in WAITING {
        let requests = a_take(ours, waiting).await;
        println!("requests of a put, a take and an ack while {waiting} items wait: {requests:.3}");
    }
}

fn told(what: &str, us: Vec<f64>, them: Vec<f64>, target: &str) {
    let (us, them) = (median(us), median(them));
    println!(
        "  {what:<14} synod {us:>8.0} items/s   kazoo {them:>8.0} items/s   {:>5.2} {target}",
        us / them
    );
}

/// Items a second.
#[derive(Default)]
struct Phases {
    put: Vec<f64>,
    take: Vec<f64>,
    all: Vec<f64>,
}

impl Phases {
    fn add(&mut self, (put, take): (Duration, Duration)) {
        let rate = |time: Duration| f64::from(ITEMS) / time.as_secs_f64();
        self.put.push(rate(put));
        self.take.push(rate(take));
        self.all.push(rate(put + take));
    }
}

fn share(worker: u32) -> std::ops::Range<u32> {
    worker * (ITEMS / WORKERS)..(worker + 1) * (ITEMS / WORKERS)
}

fn verify(done: impl IntoIterator<Item = u32>) {
    let mut all = BTreeSet::new();
    for item in done {
        assert!(all.insert(item), "{item} came twice");
    }
    assert!(all.iter().copied().eq(0..ITEMS), "all came");
}

async fn through(clients: &[Client], path: &str) -> (Duration, Duration) {
    let mut queues = Vec::new();
    for client in clients {
        queues.push(Queue::<u32>::open(client, path).await.expect("connected"));
    }
    let (begun, mut workers) = (Instant::now(), JoinSet::new());
    for (queue, worker) in queues.iter().zip(0..) {
        let queue = queue.clone();
        workers.spawn(async move {
            for item in share(worker) {
                queue.put(&item).await.expect("connected");
            }
        });
    }
    workers.join_all().await;
    let put = begun.elapsed();
    let (begun, mut workers) = (Instant::now(), JoinSet::new());
    for queue in queues {
        workers.spawn(async move {
            let mut done = Vec::new();
            while let Some(delivery) = queue.try_take().await.expect("connected") {
                done.push(*delivery);
                delivery.ack().await.expect("held");
            }
            done
        });
    }
    let done = workers.join_all().await;
    let take = begun.elapsed();
    verify(done.into_iter().flatten());
    (put, take)
}

fn kazoo_through(kazoos: &mut [Kazoo], path: &str) -> (Duration, Duration) {
    let begun = Instant::now();
    for (kazoo, worker) in kazoos.iter_mut().zip(0..) {
        let share = share(worker);
        kazoo.ask(&format!("put {path} {} {}", share.start, share.end));
    }
    kazoos.iter_mut().for_each(|kazoo| drop(kazoo.answer::<u32>()));
    let put = begun.elapsed();
    for kazoo in &mut *kazoos {
        kazoo.ask(&format!("take {path}"));
    }
    let (mut done, mut take) = (Vec::new(), Duration::ZERO);
    for kazoo in kazoos {
        let mut numbers = kazoo.answer::<u32>().into_iter();
        let micros = numbers.next().expect("it says how long it took");
        take = take.max(Duration::from_micros(micros.into()));
        done.extend(numbers);
    }
    verify(done);
    (put, take)
}

/// Requests that the server counts in a put, a take and an ack, while so many items wait.
async fn a_take(server: SocketAddr, waiting: u32) -> f64 {
    let (producer, consumer) = (client(server).await, client(server).await);
    let path = format!("/waiting-{waiting}");
    let puts = Queue::<u32>::open(&producer, path.as_str()).await.expect("connected");
    let takes = Queue::<u32>::open(&consumer, path.as_str()).await.expect("connected");
    for items in (0..waiting).collect::<Vec<u32>>().chunks(PUT_AT_ONCE) {
        puts.put_all(items).await.expect("connected");
    }
    let mut next = 0;
    let mut take = async || {
        puts.put(&(waiting + next)).await.expect("connected");
        let delivery = takes.take().await.expect("connected").expect("not shut down");
        assert_eq!(*delivery, next, "in order");
        delivery.ack().await.expect("held");
        next += 1;
    };
    take().await;
    let before = requests(server).await;
    for _ in 0..TAKES {
        take().await;
    }
    (requests(server).await - before) / f64::from(TAKES)
}

async fn requests(server: SocketAddr) -> f64 {
    Counts::by(server).await.of("zk_packets_received")
}
