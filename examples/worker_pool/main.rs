//! A pool of worker processes: they elect a leader, the leader hands out work, all follow a
//! configuration, and a leader that is killed is replaced.
//!
//! `cargo run --example worker_pool -- --server 127.0.0.1:2181 [--workers 5] [--items 60]
//! [--kill-leader]`, with `synod serve` (or a ZooKeeper) in another terminal.
//!
//! ```text
//! /worker-pool-7f3a…
//! ├── config/…      {"pause_ms": 20}, in versions, followed by every worker
//! ├── leader/…      the election
//! ├── term          the term of the leader that hands out; who is deposed cannot write it
//! ├── workers/3     ephemeral: worker 3 lives
//! ├── next          the next item to hand out
//! ├── todo/17-3     item 17 is worker 3's; holds the term it was handed out in
//! └── done/17       item 17 is done; holds worker and term
//! ```

mod worker;

use std::collections::BTreeMap;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use futures::StreamExt;
use synod::election::{Leader, Observed};
use synod::{Client, Config, Election, Error, If, Path};
use synod_examples::remove_tree;
use worker::Settings;

const SESSION_TIMEOUT: Duration = Duration::from_secs(4);

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn number(name: &str, default: u32) -> u32 {
    argument(name).map_or(default, |text| text.parse().expect("a number"))
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(server) = argument("--server") else {
        eprintln!("--server HOST:PORT is needed: the workers are processes of their own");
        return ExitCode::from(2);
    };
    let options = Client::builder().servers(server).session_timeout(SESSION_TIMEOUT);
    let client = options.connect().await.expect("the server can be reached");
    let outcome = match (argument("--worker"), argument("--root")) {
        (Some(name), Some(root)) => worker::run(&client, &root, &name).await,
        _ => direct(&client).await,
    };
    client.close().await.ok();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The pool's processes, killed with this.
struct Pool(BTreeMap<String, Child>);

impl Drop for Pool {
    fn drop(&mut self) {
        for process in self.0.values_mut() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Starts the workers, watches them, and checks what they did.
async fn direct(client: &Client) -> Result<(), Error> {
    let (workers, items) = (number("--workers", 5), number("--items", 60));
    let root = Path::new(format!("/worker-pool-{}", client.random_id().simple()))?;
    client.create(&root, b"").await?;
    for name in ["workers", "todo", "done", "leader"] {
        client.create(root.join(name)?, b"").await?;
    }
    let config = Config::open(client, root.join("config")?).store()?;
    config.publish(&Settings { pause_ms: 20 }, If::Absent).await?;
    client.create(root.join("term")?, b"").await?;
    client.create(root.join("next")?, b"0").await?;

    let mut pool = Pool(BTreeMap::new());
    let program = std::env::current_exe().expect("this program has a path");
    for name in (1..=workers).map(|name| name.to_string()) {
        let mut command = Command::new(&program);
        command.args(std::env::args().skip(1)).args(["--worker", &name, "--root", &root]);
        pool.0.insert(name, command.spawn().expect("a process can be started"));
    }
    let mut leaders = Election::new(client, root.join("leader")?)?.observe();
    let first = next_leader(&mut leaders, "").await;
    println!("worker {} of {workers} leads in term {}", first.name, first.term);

    until_done(client, &root, items / 3).await?;
    config.publish(&Settings { pause_ms: 10 }, If::Version(1)).await?;
    println!("{} items are done; the pause is changed to 10 ms", items / 3);
    if std::env::args().any(|argument| argument == "--kill-leader") {
        let mut leader = pool.0.remove(&first.name).expect("the leader is one of the pool");
        leader.kill().expect("it can be killed");
        let killed = Instant::now();
        leader.wait().expect("it is dead");
        println!("worker {} is killed", first.name);
        let next = next_leader(&mut leaders, &first.name).await;
        let took_ms = killed.elapsed().as_millis();
        println!("worker {} leads in term {}, after {took_ms} ms", next.name, next.term);
    }
    until_done(client, &root, items).await?;
    client.create(root.join("finished")?, b"").await?;
    for process in pool.0.values_mut() {
        assert!(process.wait().expect("it ends").success(), "a worker failed");
    }
    report(client, &root, items).await?;
    remove_tree(client, &root).await
}

async fn next_leader(
    leaders: &mut (impl futures::Stream<Item = Observed> + Unpin),
    before: &str,
) -> Leader {
    loop {
        match leaders.next().await.expect("the client is open") {
            Observed::Following(leader) if leader.name != before => return leader,
            _ => {}
        }
    }
}

async fn until_done(client: &Client, root: &Path, count: u32) -> Result<(), Error> {
    loop {
        let ((names, _), changed) = client.children(root.join("done")?).watched().await?;
        if names.len() >= count as usize {
            return Ok(());
        }
        changed.await?;
    }
}

/// Every item was done once, and none for a leader that had been deposed by then.
async fn report(client: &Client, root: &Path, items: u32) -> Result<(), Error> {
    let done = root.join("done")?;
    let (mut in_order, mut by_worker) = (BTreeMap::new(), BTreeMap::<String, u32>::new());
    for name in client.children(&done).await? {
        let (data, stat) = client.get(done.join(&name)?).await?;
        let text = String::from_utf8_lossy(&data).into_owned();
        let (worker, term) = text.split_once(' ').expect("worker and term");
        *by_worker.entry(worker.to_owned()).or_default() += 1;
        in_order.insert(stat.czxid, i64::from_str_radix(term, 16).expect("a term"));
    }
    assert_eq!(in_order.len(), items as usize, "each item is done once");
    let terms: Vec<i64> = in_order.into_values().collect();
    assert!(terms.is_sorted(), "an item was done for a deposed leader");
    for (worker, count) in by_worker {
        println!("worker {worker} did {count} items");
    }
    println!("{items} items were done once each, none for a deposed leader");
    Ok(())
}
