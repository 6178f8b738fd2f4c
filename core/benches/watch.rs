//! One write that wakes 100,000 watches.
//!
//! Every handle is awaited by a task of its own. The time runs from the call of `set` until the
//! last task has its event, counted. The limit is the same number of tasks that wait for a
//! `tokio::sync::oneshot` each, woken from one place: what a runtime needs to run them, with no
//! coordinator. Measured in one run, in turns. `cargo bench -p synod-core --bench watch`

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Instant;

use synod_core::client::Client;
use synod_core::model::EventKind;
use tokio::sync::{Notify, oneshot};

const HANDLES: usize = 100_000;
const WORKERS: usize = 2;
const ROUNDS: usize = 7;
const PATH: &str = "/watched";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_time()
        .build()
        .expect("a runtime");
    let rounds = async {
        let writer = Client::connect("embedded:watch").await.expect("it is here");
        writer.create(PATH, b"").await.expect("a new path");
        for sessions in [1_000, 100_000, 1] {
            let mut clients = Vec::with_capacity(sessions);
            for _ in 0..sessions {
                clients.push(Client::connect("embedded:watch").await.expect("it is here"));
            }
            let mut times = [const { Vec::new() }; 4];
            for _ in 0..ROUNDS {
                times[0].push(wake_oneshots().await);
                let (leave, set, all) = wake_watches(&writer, &clients).await;
                times[1].push(leave);
                times[2].push(set);
                times[3].push(all);
            }
            let [limit, leave, set, all] = times.map(median);
            println!("{HANDLES} handles in {sessions} sessions");
            println!("  leaving one         {:>8.2} us", leave * 1e3 / HANDLES as f64);
            println!("  set returns after   {set:>8.1} ms");
            println!("  all have the event  {all:>8.1} ms   target <= 50");
            println!("  oneshots            {limit:>8.1} ms   ratio {:.2}", all / limit);
        }
    };
    runtime.block_on(async { tokio::spawn(rounds).await.expect("it does not panic") });
}

/// Counts down, and tells when nothing is left.
struct Countdown {
    left: AtomicUsize,
    done: Notify,
}

impl Countdown {
    fn new() -> Arc<Countdown> {
        Arc::new(Countdown { left: AtomicUsize::new(HANDLES), done: Notify::new() })
    }

    fn one(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }
}

/// Milliseconds: to leave all watches, to do the write, and from its call to the last event.
async fn wake_watches(writer: &Client, clients: &[Client]) -> (f64, f64, f64) {
    let (ready, woken) = (Countdown::new(), Countdown::new());
    let start = Instant::now();
    let mut watches = Vec::with_capacity(HANDLES);
    for handle in 0..HANDLES {
        let client = &clients[handle % clients.len()];
        watches.push(client.get(PATH).watched().await.expect("it exists").1);
    }
    let leave = millis(start);
    let mut tasks = Vec::with_capacity(HANDLES);
    for mut watch in watches {
        let (ready, woken) = (Arc::clone(&ready), Arc::clone(&woken));
        tasks.push(tokio::spawn(async move {
            wait_from_now(&mut watch, &ready).await;
            let event = (&mut watch).await.expect("the session lives");
            woken.one();
            // The handle is dropped later: that is not part of waking it.
            (event, watch)
        }));
    }
    ready.done.notified().await;
    let start = Instant::now();
    writer.set(PATH, b"changed").await.expect("it exists");
    let set = millis(start);
    woken.done.notified().await;
    let all = millis(start);
    let zxid = Some(writer.last_zxid());
    for task in tasks {
        let (event, _watch) = task.await.expect("it does not panic");
        assert!((event.kind, &*event.path, event.zxid) == (EventKind::DataChanged, PATH, zxid));
    }
    (leave, set, all)
}

/// Milliseconds from the first send to the last task that has what was sent.
async fn wake_oneshots() -> f64 {
    let (ready, woken) = (Countdown::new(), Countdown::new());
    let mut tasks = Vec::with_capacity(HANDLES);
    let mut senders = Vec::with_capacity(HANDLES);
    for _ in 0..HANDLES {
        let (sender, mut receiver) = oneshot::channel::<usize>();
        senders.push(sender);
        let (ready, woken) = (Arc::clone(&ready), Arc::clone(&woken));
        tasks.push(tokio::spawn(async move {
            wait_from_now(&mut receiver, &ready).await;
            let sent = (&mut receiver).await.expect("it is sent");
            woken.one();
            (sent, receiver)
        }));
    }
    ready.done.notified().await;
    let start = Instant::now();
    for (number, sender) in senders.into_iter().enumerate() {
        sender.send(number).expect("it is waited for");
    }
    woken.done.notified().await;
    let all = millis(start);
    for (number, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.expect("it does not panic").0, number);
    }
    all
}

/// Polls once before it counts as waiting, so that what is waited for finds a waker.
async fn wait_from_now(future: &mut (impl Future + Unpin), ready: &Countdown) {
    let once = poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_pending()));
    assert!(once.await);
    ready.one();
}

fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}
