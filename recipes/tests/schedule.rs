//! Random faults: exclusion, no orphans, and progress once they stop.
//!
//! `SYNOD_SEEDS=5000 cargo test -p synod --test schedule` runs more seeds than CI does;
//! `SYNOD_SEED=17` repeats one.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{soon, until_children};
use synod::testing::{Coordinator, SeededEntropy};
use synod::{Client, Election, Error, Fence, Lock, SessionId, Zxid};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const SEEDS: u64 = 100;
const WORKERS: usize = 4;
const FAULTS_FOR: Duration = Duration::from_secs(120);

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    match number("SYNOD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SYNOD_SEEDS").unwrap_or(SEEDS),
    }
}

fn in_virtual_time(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(test);
}

/// The resource that the recipe guards: who it has admitted, by token.
#[derive(Default)]
struct Resource {
    fence: Fence,
    admitted: Mutex<BTreeMap<Zxid, SessionId>>,
    refused: Mutex<usize>,
    /// Whether no session is expired before its time, so that deadlines are proof.
    proof: bool,
}

impl Resource {
    fn write(&self, token: Zxid, session: SessionId) {
        if self.fence.admit(token).is_err() {
            *self.refused.lock().expect("no panic") += 1;
            return;
        }
        let before = self.admitted.lock().expect("no panic").insert(token, session);
        assert!(before.is_none_or(|before| before == session), "two holders of {token}");
    }
}

/// Holds for a while, writing; gives up when the guard is lost.
async fn hold(guard: &synod::Guard, resource: &Resource) {
    let session = guard.session().id();
    let work = async {
        for _ in 0..5 {
            let valid = resource.proof && Instant::now() < guard.valid_until();
            let highest = resource.fence.highest();
            assert!(!valid || highest <= guard.token(), "{highest} holds before the deadline");
            resource.write(guard.token(), session);
            sleep(Duration::from_millis(400)).await;
        }
    };
    // A loss ends the work; that is what the guard is for.
    let _ = guard.run(work).await;
}

/// What may happen to a worker under faults: it tries again.
fn expected(error: &Error) -> bool {
    error.session_over() || error.retryable() || error.is_lost()
}

async fn lock_worker(client: Client, resource: Arc<Resource>, until: Instant) -> usize {
    let lock = Lock::new(&client, "/lock").expect("valid");
    let mut held = 0;
    while Instant::now() < until {
        match lock.acquire_within(Duration::from_secs(20)).await {
            Ok(guard) => {
                hold(&guard, &resource).await;
                held += 1;
            }
            Err(error) => assert!(expected(&error), "{error:?}"),
        }
    }
    held
}

async fn election_worker(client: Client, resource: Arc<Resource>, until: Instant) -> usize {
    let election = Election::new(&client, "/lead").expect("valid");
    let mut led = 0;
    while Instant::now() < until {
        let campaign = tokio::time::timeout(Duration::from_secs(20), election.campaign());
        match campaign.await {
            Ok(Ok(leadership)) => {
                hold(&leadership, &resource).await;
                led += 1;
                // Resigned by drop or by word; both have to work.
                if led % 2 == 0 {
                    let resigned = leadership.resign().await;
                    assert!(
                        resigned.as_ref().is_ok() || expected(&resigned.expect_err("an error"))
                    );
                }
            }
            Ok(Err(error)) => assert!(expected(&error), "{error:?}"),
            Err(_) => {}
        }
    }
    led
}

/// Nothing but what networks do: nobody expires a session before its time.
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

#[derive(Debug, PartialEq)]
struct Outcome {
    digest: u64,
    /// How often each worker held.
    held: Vec<usize>,
    /// Writes that only the fence has kept out.
    refused: usize,
}

async fn run<W>(
    seed: u64,
    path: &str,
    proof: bool,
    worker: impl Fn(Client, Arc<Resource>, Instant) -> W,
) -> Outcome
where
    W: Future<Output = usize> + Send + 'static,
{
    let zk = Coordinator::with_seed(seed);
    let resource = Arc::new(Resource { proof, ..Resource::default() });
    let mut clients = Vec::new();
    for _ in 0..WORKERS {
        clients.push(zk.client().await);
    }
    let until = Instant::now() + FAULTS_FOR + Duration::from_secs(120);
    let mut workers = JoinSet::new();
    for client in &clients {
        workers.spawn(worker(client.clone(), Arc::clone(&resource), until));
    }
    let faults = match proof {
        false => zk.run_schedule(seed, &clients, FAULTS_FOR).await.len(),
        true => cut_connections(&zk, seed, &clients).await,
    };
    assert!(faults > 20, "seed {seed}: only {faults} faults");
    let at_peace = resource.admitted.lock().expect("no panic").len();
    let held = soon(workers.join_all()).await;
    let admitted = resource.admitted.lock().expect("no panic").len();
    // A session of 10 s may have to expire first; then there is a holder every 2 s.
    assert!(admitted - at_peace >= 20, "seed {seed}: no progress after the faults");
    let observer = zk.client().await;
    until_children(&observer, path, 0).await;
    assert!(observer.ephemerals("/").await.expect("connected").is_empty());
    for client in clients {
        let reserved = client.session().cleanups_reserved();
        assert_eq!(reserved, 0, "seed {seed}: a contender was not cleaned up");
    }
    let refused = *resource.refused.lock().expect("no panic");
    Outcome { digest: zk.digest(), held, refused }
}

#[test]
fn locks_exclude_leave_no_orphans_and_go_on_after_faults() {
    let mut refused = 0;
    for seed in seeds() {
        in_virtual_time(async {
            refused += run(seed, "/lock", false, lock_worker).await.refused;
        });
    }
    // The faults bite: without the fence, old holders would have written.
    assert!(refused > 0 || seeds().count() < 10, "no stale write was even tried");
}

#[test]
fn elections_exclude_leave_no_orphans_and_go_on_after_faults() {
    for seed in seeds() {
        in_virtual_time(async {
            run(seed, "/lead", false, election_worker).await;
        });
    }
}

#[test]
fn before_the_deadline_of_a_guard_nobody_else_holds() {
    for seed in seeds() {
        in_virtual_time(async {
            run(seed, "/lock", true, lock_worker).await;
        });
    }
}

#[test]
fn a_seed_repeats_itself() {
    let once = || {
        let mut outcome = None;
        in_virtual_time(async { outcome = Some(run(42, "/lock", false, lock_worker).await) });
        outcome
    };
    let (first, second) = (once(), once());
    assert!(first.is_some() && first == second);
}
