//! What `current()` costs beside a bare load of an `ArcSwap`, with one reader and with two, while
//! versions are published. `cargo bench -p synod --bench config`

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use synod::{Client, Config, If};

const ROUNDS: usize = 21;
const LOADS_PER_ROUND: usize = 1_000_000;
const PUBLISH_EVERY: Duration = Duration::from_millis(10);
const READERS: [usize; 2] = [1, 2];
/// Most that `current()` may cost, in bare loads.
const RATIO_MAX: f64 = 2.0;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .expect("a runtime");
    let (store, config) = runtime.block_on(async {
        let client = Client::connect("embedded:").await.expect("it is here");
        let store = Config::<u64>::open(&client, "/limit").store().expect("valid");
        store.publish(&1, If::Absent).await.expect("the first");
        let config = Config::<u64>::open(&client, "/limit").await.expect("valid");
        (store, config)
    });
    let stop = Arc::new(AtomicBool::new(false));
    let publishing = runtime.spawn({
        let stop = Arc::clone(&stop);
        async move {
            while !stop.load(Ordering::Relaxed) {
                store.publish(&2, If::Any).await.expect("connected");
                tokio::time::sleep(PUBLISH_EVERY).await;
            }
        }
    });
    let bare = ArcSwap::from_pointee(1_u64);
    for readers in READERS {
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            // One after the other, so that what disturbs the machine disturbs all alike.
            times[0].push(nanos(readers, || drop(black_box(bare.load()))));
            times[1].push(nanos(readers, || drop(black_box(bare.load_full()))));
            times[2].push(nanos(readers, || drop(black_box(config.current()))));
        }
        let [load, load_full, current] = times.map(median);
        let ratio = current / load_full;
        println!("{readers} reader(s): current() {current:.1} ns, load_full {load_full:.1} ns,");
        println!("    ratio {ratio:.2}; load, whose guard is not to be kept, {load:.1} ns");
        assert!(ratio <= RATIO_MAX, "current() is {ratio:.2} bare loads, at most {RATIO_MAX}");
    }
    stop.store(true, Ordering::Relaxed);
    runtime.block_on(publishing).expect("it does not panic");
}

/// What one load costs a reader, in nanoseconds.
fn nanos(readers: usize, load: impl Fn() + Sync) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| (0..LOADS_PER_ROUND).for_each(|_| load()));
        }
    });
    start.elapsed().as_secs_f64() * 1e9 / LOADS_PER_ROUND as f64
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
