//! 1,000 watchers of one configuration on one durable `synod serve`, in a process of its own, which
//! syncs what it writes: how long it takes from the beginning of a publication until the last of
//! them has applied it.
//!
//! The watchers are all in this process, on two threads. First each has a session of its own, as if
//! it were a process of its own; then ten share a session, and with it a connection and a watch. A
//! round is one publication; every watcher's value is compared with what was published.
//!
//! ```text
//! cargo build --release -p synod-cli && cargo bench -p synod-tests --bench config_watchers
//! ```

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use synod::{Config, If};
use synod_tests::recipes::ground::{Ground, soon};
use tokio::task::JoinSet;

const WATCHERS: usize = 1_000;
const SESSIONS: [usize; 2] = [1_000, 100];
const ROUNDS: u64 = 200;
/// The first ones warm up.
const WARM_UP_ROUNDS: u64 = 10;
const UPSTREAMS: u64 = 16;
const TARGET: &str = "target <= 250";

/// What a service may be told: about a kilobyte.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
struct Settings {
    rps: u64,
    timeout: Duration,
    upstreams: Vec<String>,
}

impl Settings {
    fn of(round: u64) -> Settings {
        let upstream = |number| format!("https://{number}.upstream.example.net:8443/{round}");
        let upstreams = (0..UPSTREAMS).map(upstream).collect();
        Settings { rps: round, timeout: Duration::from_millis(round), upstreams }
    }
}

fn main() {
    common::on_two_workers(async {
        let ground = Ground::synod().await;
        let server = ground.faults().address(0);
        for sessions in SESSIONS {
            measure(server, sessions).await;
        }
    });
}

async fn measure(server: SocketAddr, sessions: usize) {
    let path = format!("/settings-{sessions}");
    let publisher = common::client(server).await;
    let store = Config::<Settings>::open(&publisher, path.as_str()).store().expect("valid");
    let mut version = store.publish(&Settings::of(0), If::Absent).await.expect("connected");
    let mut watchers = Vec::new();
    for _ in 0..sessions {
        let client = common::client(server).await;
        for _ in 0..WATCHERS / sessions {
            let config = Config::<Settings>::open(&client, path.as_str()).await;
            watchers.push(config.expect("valid"));
        }
    }
    assert_eq!(watchers.len(), WATCHERS);
    let mut figures = Vec::new();
    for round in 1..=WARM_UP_ROUNDS + ROUNDS {
        let (settings, next) = (Settings::of(round), version + 1);
        let mut applying = JoinSet::new();
        for config in watchers {
            applying.spawn(async move {
                let applied = config.wait_for(next).await.expect("the client is open");
                (Instant::now(), applied, config)
            });
        }
        let begun = Instant::now();
        version = store.publish(&settings, If::Version(version)).await.expect("connected");
        assert_eq!(version, next);
        let (mut last, mut back) = (begun, Vec::with_capacity(WATCHERS));
        for (at, applied, config) in soon(applying.join_all()).await {
            assert_eq!((applied.version, &applied.value), (version, &settings));
            last = last.max(at);
            back.push(config);
        }
        watchers = back;
        if round > WARM_UP_ROUNDS {
            figures.push((last - begun).as_secs_f64() * 1e3);
        }
    }
    let [median, p99, worst] = [50, 99, 100].map(|of| common::percentile(figures.clone(), of));
    println!(
        "publish to all applied, {WATCHERS} watchers in {sessions} sessions ({ROUNDS} rounds)"
    );
    println!("  median {median:.1} ms   p99 {p99:.1} ms, {TARGET}   worst {worst:.1} ms");
}
