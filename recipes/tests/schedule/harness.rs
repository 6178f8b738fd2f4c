//! One run: clients of one coordinator use a recipe while their sessions expire and their
//! connections break, by a seed; then the faults stop.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use synod::testing::{Coordinator, SeededEntropy};
use synod::{Client, Error, Fence, Guard, SessionId, Zxid};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::common::{soon, until_children};

/// Seeds of a recipe, unless `SYNOD_SEEDS` says otherwise.
const SEEDS: u64 = 6;

const WORKERS: usize = 4;
/// How long things fail, from the beginning on.
pub(crate) const FAULTS_FOR: Duration = Duration::from_secs(120);
const CALM_FOR: Duration = Duration::from_secs(120);

/// Fewer faults than that in a run say nothing.
const FAULTS_MIN: usize = 20;

/// How long a worker waits for its turn before it asks anew.
pub(crate) const TURN: Duration = Duration::from_secs(20);

pub(crate) fn seeds() -> Seeds {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let left = match number("SYNOD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SYNOD_SEEDS").unwrap_or(SEEDS),
    };
    Seeds { left, at: None }
}

/// The seeds to run, one after the other. A run that panics says how to repeat it.
pub(crate) struct Seeds {
    left: Range<u64>,
    at: Option<u64>,
}

impl Iterator for Seeds {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.at = self.left.next();
        self.at
    }
}

impl Drop for Seeds {
    fn drop(&mut self) {
        let thread = std::thread::current();
        if let (true, Some(seed)) = (std::thread::panicking(), self.at) {
            let (command, test) =
                ("cargo test --profile sim -p synod --test schedule", thread.name());
            eprintln!("again: SYNOD_SEED={seed} {command} {}", test.unwrap_or_default());
        }
    }
}

pub(crate) fn in_virtual_time<T>(test: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(test)
}

/// What may happen to a worker under faults: it tries again.
pub(crate) fn expected(error: &Error) -> bool {
    error.session_over() || error.retryable() || error.is_lost()
}

/// Passes over what faults bring about; anything else is a fault of the recipe.
pub(crate) fn tolerate<T: Debug>(result: Result<T, Error>) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(error) => {
            assert!(expected(&error), "{error:?}");
            None
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Faults {
    /// Everything that the coordinator for tests can do.
    All,
    /// Nothing but what networks do: nobody expires a session before its time, so that
    /// deadlines are proof.
    Cuts,
}

/// What the workers of a run share, and are held to.
pub(crate) trait Subject: Send + Sync + 'static {
    /// How much has been done: it has to grow once the faults stop.
    fn progress(&self) -> usize;
}

/// The resource that an exclusive recipe guards: who it has admitted, by token.
pub(crate) struct Resource {
    fence: Fence,
    admitted: Mutex<BTreeMap<Zxid, SessionId>>,
    refused: AtomicUsize,
    /// Whether deadlines are proof.
    proof: bool,
}

impl Subject for Resource {
    fn progress(&self) -> usize {
        self.admitted.lock().expect("no panic").len()
    }
}

impl Resource {
    pub(crate) fn new(faults: Faults) -> Resource {
        Resource {
            fence: Fence::new(),
            admitted: Mutex::default(),
            refused: AtomicUsize::new(0),
            proof: faults == Faults::Cuts,
        }
    }

    /// Writes that only the fence has kept out.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn write(&self, token: Zxid, session: SessionId) {
        if self.fence.admit(token).is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let before = self.admitted.lock().expect("no panic").insert(token, session);
        assert!(before.is_none_or(|before| before == session), "two holders of {token}");
    }

    /// Holds for a while, writing; gives up when the guard is lost.
    pub(crate) async fn hold(&self, guard: &Guard) {
        let session = guard.session().id();
        let work = async {
            for _ in 0..5 {
                let valid = self.proof && Instant::now() < guard.valid_until();
                let highest = self.fence.highest();
                assert!(!valid || highest <= guard.token(), "{highest} holds before the deadline");
                self.write(guard.token(), session);
                sleep(Duration::from_millis(400)).await;
            }
        };
        // A loss ends the work; that is what the guard is for.
        let _ = guard.run(work).await;
    }
}

async fn cut_connections(zk: &Coordinator, seed: u64, clients: &[Client]) -> usize {
    let random = SeededEntropy::new(seed);
    let until = Instant::now() + FAULTS_FOR;
    let mut faults = 0;
    while Instant::now() < until {
        sleep(Duration::from_millis(1 + random.below(3_000))).await;
        let client = &clients[random.below(clients.len() as u64) as usize];
        match random.below(4) {
            0 => zk.disconnect(client, Duration::from_millis(1 + random.below(30_000))),
            1 => zk.disconnect(client, Duration::from_millis(1 + random.below(3_000))),
            2 => zk.lose_next_reply(client),
            _ => zk.delay_next(client, Duration::from_millis(1 + random.below(5_000))),
        }
        faults += 1;
    }
    clients.iter().for_each(|client| zk.heal(client));
    faults
}

/// What a run came to; two runs of a seed come to the same.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) digest: u64,
    /// What each worker has counted.
    pub(crate) counts: Vec<usize>,
}

/// What to run.
pub(crate) struct Plan<'a> {
    pub(crate) seed: u64,
    pub(crate) faults: Faults,
    /// Parents without children at the end: no contender is orphaned.
    pub(crate) empty: &'a [&'a str],
    /// How much progress there has to be when the faults have stopped.
    pub(crate) progress_min: usize,
}

/// Runs workers of a recipe under faults, then without, and holds them to progress and to
/// leaving nothing behind. A worker gets its number, its client, the subject and the moment at
/// which it is to end; it ends what it holds itself.
pub(crate) async fn run<S: Subject, W>(
    plan: Plan<'_>,
    subject: &Arc<S>,
    worker: impl Fn(usize, Client, Arc<S>, Instant) -> W,
) -> Outcome
where
    W: Future<Output = usize> + Send + 'static,
{
    run_on(&Coordinator::with_seed(plan.seed), plan, subject, worker).await
}

/// The same on a coordinator that has clients besides, which are spared.
pub(crate) async fn run_on<S: Subject, W>(
    zk: &Coordinator,
    plan: Plan<'_>,
    subject: &Arc<S>,
    worker: impl Fn(usize, Client, Arc<S>, Instant) -> W,
) -> Outcome
where
    W: Future<Output = usize> + Send + 'static,
{
    let Plan { seed, faults, empty, progress_min } = plan;
    let mut clients = Vec::new();
    for _ in 0..WORKERS {
        clients.push(zk.client().await);
    }
    let until = Instant::now() + FAULTS_FOR + CALM_FOR;
    let mut workers = JoinSet::new();
    for (number, client) in clients.iter().enumerate() {
        let counted = worker(number, client.clone(), Arc::clone(subject), until);
        workers.spawn(async move { (number, counted.await) });
    }
    let count = match faults {
        Faults::All => zk.run_schedule(seed, &clients, FAULTS_FOR).await.len(),
        Faults::Cuts => cut_connections(zk, seed, &clients).await,
    };
    assert!(count > FAULTS_MIN, "seed {seed}: only {count} faults");
    let at_peace = subject.progress();
    let mut counts = soon(workers.join_all()).await;
    counts.sort_unstable();
    let progress = subject.progress() - at_peace;
    assert!(progress >= progress_min, "seed {seed}: {progress} after the faults");
    let observer = zk.client().await;
    for parent in empty {
        until_children(&observer, parent, 0).await;
    }
    assert!(observer.ephemerals("/").await.expect("connected").is_empty());
    for client in clients {
        let reserved = client.session().cleanups_reserved();
        assert_eq!(reserved, 0, "seed {seed}: a contender was not cleaned up");
    }
    let counts = counts.into_iter().map(|(_, count)| count).collect();
    Outcome { digest: zk.digest(), counts }
}
