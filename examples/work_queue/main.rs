//! Items that are worked on by consumers that are killed again and again: in the end each was
//! done, at least once, and only what nobody can do is among the dead letters.
//!
//! `cargo run --example work_queue [-- --server 127.0.0.1:2181] [--items 400] [--consumers 4]
//! [--kills 3]`
//!
//! With a server, each consumer is a process of its own, and killed as such; the server may be
//! killed and started again meanwhile, if it keeps what was written. Without one, consumers are
//! tasks.

mod consumer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path as File, PathBuf};
use std::time::Duration;

use consumer::{Consumer, Done, consume};
use serde::{Deserialize, Serialize};
use synod::{Client, Path, Queue};
use synod_examples::server;
use tokio::time::{Instant, sleep};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The items of a consumer that is killed are others' after this time.
const SESSION_TIMEOUT: Duration = Duration::from_secs(4);

/// Between two looks at what is done.
const PAUSE: Duration = Duration::from_millis(5);

/// Nothing is done for so long only if something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// Items that are put in one transaction of a few.
const AT_A_TIME: u64 = 500;

/// One item of so many fails, whoever tries.
const POISON_EVERY: u64 = 100;

/// A consumer that is killed costs its item an attempt: far fewer than these.
const ATTEMPTS: u32 = 8;

/// The pause after the first attempt at poison; it doubles.
const BACKOFF: Duration = Duration::from_millis(20);

/// What there is to do.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    number: u64,
}

impl Job {
    fn is_poison(&self) -> bool {
        self.number % POISON_EVERY == POISON_EVERY - 1
    }
}

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn number(name: &str, default: u64) -> u64 {
    argument(name).map_or(default, |text| text.parse().expect("a number"))
}

async fn connect() -> Result<Client, Error> {
    let options = Client::builder().servers(server("embedded:work_queue"));
    Ok(options.session_timeout(SESSION_TIMEOUT).connect().await?)
}

/// Tries it until the server is there.
async fn persist<T>(attempt: impl AsyncFn() -> Result<T, synod::Error>) -> Result<T, Error> {
    loop {
        match attempt().await {
            Err(error) if error.retryable() || error.session_over() => {}
            outcome => return Ok(outcome?),
        }
    }
}

async fn open(client: &Client, path: &Path) -> Result<Queue<Job>, Error> {
    loop {
        let queue = Queue::open(client, path.clone()).max_attempts(ATTEMPTS).backoff(BACKOFF);
        match queue.await {
            Err(error) if error.retryable() || error.session_over() => {}
            queue => return Ok(queue?),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    if let (Some(path), Some(file)) = (argument("--queue"), argument("--done")) {
        return consume(Path::new(path)?, file.into()).await;
    }
    let folder = tempfile::tempdir()?;
    let client = connect().await?;
    let path = Path::new(format!("/work-queue-{}", client.random_id().simple()))?;
    tokio::select! {
        outcome = direct(&client, &path, folder.path()) => outcome?,
        _ = tokio::signal::ctrl_c() => println!("interrupted"),
    }
    client.close().await?;
    Ok(())
}

/// Puts the items, has consumers die now and then, and counts.
async fn direct(client: &Client, path: &Path, folder: &File) -> Result<(), Error> {
    let (items, kills) = (number("--items", 400), number("--kills", 3));
    let queue = open(client, path).await?;
    let files: Vec<PathBuf> = (0..number("--consumers", 4).max(1))
        .map(|consumer| folder.join(format!("done-{consumer}")))
        .collect();
    let mut consumers = Vec::new();
    for file in &files {
        consumers.push(Consumer::start(path, file)?);
    }
    let begun = Instant::now();
    let putting = put(&queue, items);
    let watching = async {
        let mut done = Done::open(&files)?;
        for kill in 1..=kills {
            done.reach(items * kill / (kills + 1)).await?;
            let victim = usize::try_from(kill)? % files.len();
            consumers[victim].kill();
            println!("a consumer is killed after {} of {items} items", done.count());
            consumers[victim] = Consumer::start(path, &files[victim])?;
        }
        done.reach(items - items / POISON_EVERY).await?;
        Ok(done)
    };
    let ((), mut done) = tokio::try_join!(putting, watching)?;
    // What is left: poison that has not had all its attempts, and what will be done once more.
    let emptied = async {
        loop {
            persist(async || Ok(client.sync().await?)).await?;
            let stats = persist(async || queue.stats().await).await?;
            let letters = persist(async || queue.dead_letters(1 << 20).await).await?;
            let buried = letters.iter().map(|letter| letter.value().map(|job| job.number));
            let buried: BTreeSet<u64> = buried.collect::<Result<_, _>>()?;
            // An item that comes back while they are counted may be in none of the counts.
            let over =
                (0..items).all(|number| !Job { number }.is_poison() || buried.contains(&number));
            if over && stats.length() + stats.delayed == 0 {
                return Ok::<_, Error>(buried);
            }
            sleep(PAUSE).await;
        }
    };
    let dead = tokio::time::timeout(PATIENCE, emptied).await??;
    let seconds = begun.elapsed().as_secs_f64();
    let done = done.read()?.clone();
    verify(items, &done, &dead);
    let again = done.values().filter(|times| **times > 1).count();
    println!(
        "{items} items in {seconds:.1} s: {} done, {again} of them more than once, {} are dead letters, none is lost",
        done.len(),
        dead.len()
    );
    drop(consumers);
    Ok(())
}

async fn put(queue: &Queue<Job>, items: u64) -> Result<(), Error> {
    let mut next = 0;
    while next < items {
        let end = items.min(next + AT_A_TIME);
        let jobs: Vec<Job> = (next..end).map(|number| Job { number }).collect();
        // What may be there already is put twice rather than not at all.
        persist(async || queue.put_all(&jobs).await).await?;
        next = end;
    }
    Ok(())
}

/// Each item is done, or a dead letter with reason to be one.
fn verify(items: u64, done: &BTreeMap<u64, u64>, dead: &BTreeSet<u64>) {
    for number in 0..items {
        let (is_done, is_dead) = (done.contains_key(&number), dead.contains(&number));
        let poison = Job { number }.is_poison();
        assert!(is_done != poison && is_dead == poison, "item {number}: {is_done} {is_dead}");
    }
}
