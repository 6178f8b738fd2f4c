//! A lock: uncontended, and with a thousand contenders. On the embedded ground.
//!
//! Beside each figure stands its limit of the same run: the same requests (create, children,
//! delete; of a hand-over delete, children and the next one's watch) through the same
//! client, without the recipe. How many contenders a release wakes is counted at the futures
//! themselves: every poll after all have taken their places is a wake.
//! `cargo bench -p synod --bench lock`

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use synod::guard::{Guard, Released};
use synod::{Client, Lock, Path};
use tokio::sync::Notify;

const ROUNDS: usize = 11;
const LOCKS_PER_ROUND: usize = 10_000;
const CONTENDERS: usize = 1_000;
/// The first finds the lock free.
const HAND_OVERS: usize = CONTENDERS - 1;
const CONTENDED_ROUNDS: usize = 7;
/// Digits of a sequence suffix.
const SUFFIX_BYTES: usize = 10;
const WORKERS: usize = 2;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_time()
        .build()
        .expect("a runtime");
    let rounds = async {
        uncontended().await;
        contended().await;
    };
    runtime.block_on(async { tokio::spawn(rounds).await.expect("it does not panic") });
}

async fn uncontended() {
    let client = Client::connect("embedded:").await.expect("it is here");
    let parent = Path::new("/locks/report").expect("valid");
    let lock = Lock::new(&client, &parent).expect("valid");
    lock.acquire().await.expect("free").release().await.expect("held");
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..LOCKS_PER_ROUND {
            raw_lock(&client, &parent).await;
        }
        times[0].push(micros(start) / LOCKS_PER_ROUND as f64);
        let start = Instant::now();
        for _ in 0..LOCKS_PER_ROUND {
            let guard = lock.acquire().await.expect("free");
            assert_eq!(guard.release().await.expect("held"), Released::Confirmed);
        }
        times[1].push(micros(start) / LOCKS_PER_ROUND as f64);
    }
    let [raw, lock] = times.map(median);
    println!("uncontended lock + confirmed release  {lock:>8.2} us   target <= 50");
    println!("  create + children + delete          {raw:>8.2} us   ratio {:.2}", lock / raw);
}

async fn raw_lock(client: &Client, parent: &Path) {
    let path = enter(client, parent).await;
    assert_eq!(client.children(parent).await.expect("it exists"), [path.name()]);
    client.delete(&path).await.expect("it exists");
}

/// The znode of one that waits, under a name as long as the recipe's.
async fn enter(client: &Client, parent: &Path) -> Path {
    let stem = parent.join("_c_00000000-0000-4000-8000-000000000000-lock-").expect("valid");
    let create = client.create(&stem, b"").ephemeral().sequential();
    create.await.expect("the parent exists")
}

async fn contended() {
    let client = Client::connect("embedded:").await.expect("it is here");
    let mut times = [const { Vec::new() }; 4];
    let mut most_woken = 0;
    for round in 0..CONTENDED_ROUNDS {
        let parent = Path::new(format!("/contended-{round}")).expect("valid");
        client.create(&parent, b"").await.expect("a new path");
        for (ground, recipe) in [false, true].into_iter().enumerate() {
            let line = Arc::new(Line::new(&client, &parent, recipe));
            let (hand_over, all) = line.run().await;
            times[2 * ground].push(hand_over);
            times[2 * ground + 1].push(all);
            if recipe {
                most_woken = most_woken.max(line.wakes.load(Ordering::Acquire));
            }
        }
    }
    let [raw, raw_all, lock, lock_all] = times.map(median);
    println!("{CONTENDERS} contenders, {HAND_OVERS} hand-overs");
    println!("  contenders woken (the worst round)  {most_woken:>8}      target = {HAND_OVERS}");
    println!("  a hand-over, median                 {lock:>8.2} us");
    println!("  delete + event + children           {raw:>8.2} us   ratio {:.2}", lock / raw);
    println!("  all hand-overs                      {lock_all:>8.1} ms");
    println!(
        "  the same, raw                       {raw_all:>8.1} ms   ratio {:.2}",
        lock_all / raw_all
    );
}

/// A lock and all who contend for it.
struct Line {
    client: Client,
    parent: Path,
    /// Whether they use the recipe, or its requests alone.
    recipe: bool,
    waiting: AtomicUsize,
    all_wait: Notify,
    /// Polls of waiting contenders since all wait.
    wakes: AtomicUsize,
    /// When the holder began to release.
    released: Mutex<Instant>,
    hand_overs: Mutex<Vec<f64>>,
}

/// What a contender has when it is its turn.
enum Held {
    Guard(Guard),
    Raw(Path),
}

impl Line {
    fn new(client: &Client, parent: &Path, recipe: bool) -> Line {
        Line {
            client: client.clone(),
            parent: parent.clone(),
            recipe,
            waiting: AtomicUsize::new(0),
            all_wait: Notify::new(),
            wakes: AtomicUsize::new(0),
            released: Mutex::new(Instant::now()),
            hand_overs: Mutex::default(),
        }
    }

    /// The median time of a hand-over in microseconds, and that of all in milliseconds.
    async fn run(self: &Arc<Line>) -> (f64, f64) {
        let first = self.turn().await;
        let contend = |line: Arc<Line>| async move { line.contend().await };
        let others: Vec<_> =
            (0..HAND_OVERS).map(|_| tokio::spawn(contend(Arc::clone(self)))).collect();
        self.all_wait.notified().await;
        self.wakes.store(0, Ordering::Release);
        let start = Instant::now();
        self.release(first).await;
        for other in others {
            other.await.expect("it does not panic");
        }
        let all = micros(start) / 1e3;
        let hand_overs = std::mem::take(&mut *self.hand_overs.lock().expect("no panic"));
        assert_eq!(hand_overs.len(), HAND_OVERS);
        (median(hand_overs), all)
    }

    async fn contend(&self) {
        let mut turn = pin!(self.turn());
        let mut polled = false;
        let held = poll_fn(|context| {
            let result = turn.as_mut().poll(context);
            if polled {
                self.wakes.fetch_add(1, Ordering::AcqRel);
            } else if self.waiting.fetch_add(1, Ordering::AcqRel) + 1 == HAND_OVERS {
                self.all_wait.notify_one();
            }
            polled = true;
            result
        });
        let held = held.await;
        let released = *self.released.lock().expect("no panic");
        self.hand_overs.lock().expect("no panic").push(micros(released));
        self.release(held).await;
    }

    async fn turn(&self) -> Held {
        if self.recipe {
            let lock = Lock::new(&self.client, &self.parent).expect("valid");
            return Held::Guard(lock.acquire().await.expect("in line"));
        }
        let path = enter(&self.client, &self.parent).await;
        self.client.children(&self.parent).await.expect("it exists");
        let (stem, suffix) = path.split_at(path.len() - SUFFIX_BYTES);
        let before: u32 = suffix.parse().expect("digits");
        let before = format!("{stem}{:010}", before.wrapping_sub(1));
        // It refuses for the first: nobody is before.
        if let Ok((_, gone)) = self.client.get(before).watched().await {
            gone.await.expect("the session lives");
            let names = self.client.children(&self.parent).await.expect("it exists");
            assert!(names.iter().any(|name| name == path.name()));
        }
        Held::Raw(path)
    }

    async fn release(&self, held: Held) {
        *self.released.lock().expect("no panic") = Instant::now();
        match held {
            Held::Guard(guard) => {
                assert_eq!(guard.release().await.expect("held"), Released::Confirmed);
            }
            Held::Raw(path) => self.client.delete(&path).await.expect("it exists"),
        }
    }
}

fn micros(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}
