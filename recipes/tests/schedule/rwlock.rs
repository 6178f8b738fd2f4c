//! Readers and writers of one shelf: nobody reads while somebody writes, by the coordinator's own
//! word, and a fence admits whoever holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use synod::rwlock::{NotUpgraded, ReadGuard, WriteGuard};
use synod::testing::SeededEntropy;
use synod::{Client, Code, Error, Fence, Guard, RwLock, Zxid};
use tokio::time::{Instant, sleep};

use crate::harness::{Faults, Outcome, Plan, Subject, TURN, in_virtual_time, run, seeds, tolerate};

const SHELF: &str = "/shelf";

/// A session of 10 s may have to expire first; then there is a holder every second.
const WRITES_MIN: usize = 20;

fn plan(seed: u64, faults: Faults) -> Plan<'static> {
    Plan { seed, faults, empty: &["/lock"], progress_min: WRITES_MIN }
}

/// A znode that says under which token it was written last, and the fence of another resource.
struct Shelf {
    fence: Fence,
    /// Whether deadlines are proof.
    proof: bool,
    writes: AtomicUsize,
    reads: AtomicUsize,
    upgrades: AtomicUsize,
    refused: AtomicUsize,
}

impl Subject for Shelf {
    fn progress(&self) -> usize {
        self.writes.load(Ordering::Relaxed)
    }
}

/// What one has found on the shelf.
#[derive(Clone, Copy, Debug)]
struct Found {
    version: i32,
    written_under: Zxid,
}

impl Shelf {
    fn new(faults: Faults) -> Shelf {
        Shelf {
            fence: Fence::new(),
            proof: faults == Faults::Cuts,
            writes: AtomicUsize::default(),
            reads: AtomicUsize::default(),
            upgrades: AtomicUsize::default(),
            refused: AtomicUsize::default(),
        }
    }

    async fn look(&self, client: &Client) -> Option<Found> {
        let (data, stat) = tolerate(client.get(SHELF).await.map_err(Error::from))?;
        let written_under = match data.len() {
            0 => Zxid::ZERO,
            _ => Zxid::from_i64(i64::from_be_bytes(data[..].try_into().expect("a token"))),
        };
        Some(Found { version: stat.version, written_under })
    }

    fn admit(&self, guard: &Guard, admit: impl Fn(&Fence, Zxid) -> bool) {
        let valid = self.proof && Instant::now() < guard.valid_until();
        let admitted = admit(&self.fence, guard.token());
        assert!(admitted || !valid, "{guard:?} holds, and is refused: {:?}", self.fence);
        self.refused.fetch_add(usize::from(!admitted), Ordering::Relaxed);
    }

    /// Whether the guard is held, and the shelf is as it was found.
    async fn still(&self, guard: &ReadGuard, found: Found) -> bool {
        self.admit(guard, |fence, token| fence.admit_shared(token).is_ok());
        let checked = guard.txn().check(SHELF, found.version).commit().await;
        let changed = matches!(&checked, Err(Error::Client(error)) if error.is(Code::BadVersion));
        assert!(!changed, "written to while {guard:?} reads");
        let held = tolerate(checked).is_some();
        assert!(!held || found.written_under <= guard.token(), "{found:?} before {guard:?}");
        self.reads.fetch_add(usize::from(held), Ordering::Relaxed);
        held
    }

    /// Whether the guard is held; then it was written.
    async fn write(&self, guard: &WriteGuard, found: Found) -> bool {
        self.admit(guard, |fence, token| fence.admit(token).is_ok());
        let token = guard.token().as_i64().to_be_bytes();
        let written = guard.txn().set_at(SHELF, token, found.version).commit().await;
        let changed = matches!(&written, Err(Error::Client(error)) if error.is(Code::BadVersion));
        assert!(!changed, "written to by another while {guard:?} writes");
        let held = tolerate(written).is_some();
        assert!(!held || found.written_under <= guard.token(), "{found:?} before {guard:?}");
        self.writes.fetch_add(usize::from(held), Ordering::Relaxed);
        held
    }

    /// Reads for a while; `None` if it is lost meanwhile.
    async fn hold_reading(&self, client: &Client, guard: ReadGuard) -> Option<(ReadGuard, Found)> {
        let found = self.look(client).await?;
        for _ in 0..3 {
            if !self.still(&guard, found).await {
                return None;
            }
            sleep(Duration::from_millis(200)).await;
        }
        Some((guard, found))
    }

    async fn hold_writing(&self, client: &Client, guard: WriteGuard) -> Option<WriteGuard> {
        for _ in 0..3 {
            let found = self.look(client).await?;
            if !self.write(&guard, found).await {
                return None;
            }
            sleep(Duration::from_millis(200)).await;
        }
        Some(guard)
    }

    /// Reads, and writes without a look if nobody else is there.
    async fn upgrade(&self, client: &Client, guard: ReadGuard) -> Option<()> {
        let (guard, found) = self.hold_reading(client, guard).await?;
        match guard.upgrade().await {
            Ok(writer) => {
                self.upgrades.fetch_add(1, Ordering::Relaxed);
                self.write(&writer, found).await;
            }
            Err(NotUpgraded::Conflict(guard)) => drop(self.still(&guard, found).await),
            Err(NotUpgraded::Failed(error)) => drop(tolerate::<()>(Err(error))),
        }
        Some(())
    }
}

async fn worker(seed: u64, client: Client, shelf: Arc<Shelf>, until: Instant) -> usize {
    let random = SeededEntropy::new(seed);
    let lock = RwLock::new(&client, "/lock").expect("valid");
    if let Err(error) = client.create(SHELF, b"").await {
        assert!(error.is(Code::NodeExists) || error.retryable(), "{error}");
    }
    let mut turns = 0;
    while Instant::now() < until {
        turns += 1;
        match random.below(5) {
            0 | 1 => {
                if let Some(guard) = tolerate(lock.read_within(TURN).await) {
                    shelf.hold_reading(&client, guard).await;
                }
            }
            2 => {
                if let Some(guard) = tolerate(lock.read_within(TURN).await) {
                    shelf.upgrade(&client, guard).await;
                }
            }
            kind => {
                let Some(guard) = tolerate(lock.write_within(TURN).await) else { continue };
                let Some(guard) = shelf.hold_writing(&client, guard).await else { continue };
                match kind {
                    3 => drop(tolerate(guard.release().await)),
                    _ => {
                        let token = guard.token();
                        let Some(guard) = tolerate(guard.downgrade().await) else { continue };
                        assert_eq!(guard.token(), token);
                        shelf.upgrade(&client, guard).await;
                    }
                }
            }
        }
    }
    turns
}

/// What was refused by the fence, and how many have upgraded.
fn rwlocks(seed: u64, faults: Faults) -> (Outcome, usize, usize) {
    in_virtual_time(async {
        let shelf = Arc::new(Shelf::new(faults));
        let outcome = run(plan(seed, faults), &shelf, |number, client, shelf, until| {
            worker(seed * 16 + number as u64, client, shelf, until)
        })
        .await;
        let reads = shelf.reads.load(Ordering::Relaxed);
        assert!(reads >= WRITES_MIN, "seed {seed}: {reads} reads");
        let (refused, upgrades) = (&shelf.refused, &shelf.upgrades);
        (outcome, refused.load(Ordering::Relaxed), upgrades.load(Ordering::Relaxed))
    })
}

#[test]
fn rwlocks_let_nobody_read_while_another_writes_leave_no_orphans_and_go_on() {
    let (mut refused, mut upgrades) = (0, 0);
    for seed in seeds() {
        let (_, more_refused, more_upgrades) = rwlocks(seed, Faults::All);
        refused += more_refused;
        upgrades += more_upgrades;
    }
    let few = seeds().count() < 10;
    assert!(refused > 0 || few, "no stale holder has even tried");
    assert!(upgrades > 0 || few, "nobody has upgraded");
}

#[test]
fn before_the_deadline_of_a_reader_or_writer_a_fence_admits_it() {
    for seed in seeds() {
        rwlocks(seed, Faults::Cuts);
    }
}

#[test]
fn a_seed_repeats_itself() {
    assert_eq!(rwlocks(42, Faults::All), rwlocks(42, Faults::All));
}
