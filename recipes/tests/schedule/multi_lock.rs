//! Workers that hold two of three locks at a time, in any order: nobody else writes to what they hold,
//! by the coordinator's own word, and nobody waits in a circle.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use synod::multi_lock::MultiGuard;
use synod::testing::SeededEntropy;
use synod::{Client, Code, Error, MultiLock, Zxid};
use tokio::time::{Instant, sleep};

use crate::harness::{
    Faults, Outcome, Plan, Subject, TURN, expected, in_virtual_time, run, seeds, tolerate,
};

/// Each lock, and the znode that it guards.
const ACCOUNTS: [(&str, &str); 3] =
    [("/locks/ann", "/ann"), ("/locks/bob", "/bob"), ("/locks/cay", "/cay")];

/// A session of 10 s may have to expire first; then there is a transfer every second.
const TRANSFERS_MIN: usize = 20;

fn plan(seed: u64) -> Plan<'static> {
    let empty = &["/locks/ann", "/locks/bob", "/locks/cay"];
    Plan { seed, faults: Faults::All, empty, progress_min: TRANSFERS_MIN }
}

#[derive(Default)]
struct Transfers(AtomicUsize);

impl Subject for Transfers {
    fn progress(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Writes to what is guarded under the tokens; `None` if it is lost meanwhile.
async fn transfer(client: &Client, guard: &MultiGuard, of: [usize; 2]) -> Option<()> {
    let mut txn = guard.txn();
    let mut before = Vec::new();
    for (lock, account) in of.map(|index| ACCOUNTS[index]) {
        let (data, stat) = tolerate(client.get(account).await.map_err(Error::from))?;
        let token = guard.token(lock).expect("one of the two");
        let written_under = match data.len() {
            0 => Zxid::ZERO,
            _ => Zxid::from_i64(i64::from_be_bytes(data[..].try_into().expect("a token"))),
        };
        before.push((written_under, token));
        txn = txn.set_at(account, token.as_i64().to_be_bytes(), stat.version);
    }
    let written = txn.commit().await;
    let changed = matches!(&written, Err(Error::Client(error)) if error.is(Code::BadVersion));
    assert!(!changed, "written to by another while {guard:?} holds");
    tolerate(written)?;
    assert!(before.iter().all(|(before, token)| before <= token), "{before:?}");
    Some(())
}

async fn worker(seed: u64, client: Client, done: Arc<Transfers>, until: Instant) -> usize {
    let random = SeededEntropy::new(seed);
    for (_, account) in ACCOUNTS {
        while let Err(error) = client.create(account, b"").await {
            if error.is(Code::NodeExists) {
                break;
            }
            assert!(expected(&error.clone().into()), "{error}");
        }
    }
    let mut turns = 0;
    while Instant::now() < until {
        turns += 1;
        let first = random.below(3) as usize;
        let of = [first, (first + 1 + random.below(2) as usize) % 3];
        let locks = MultiLock::new(&client, of.map(|index| ACCOUNTS[index].0)).expect("valid");
        let Some(guard) = tolerate(locks.acquire_within(TURN).await) else { continue };
        for _ in 0..2 {
            if transfer(&client, &guard, of).await.is_none() {
                break;
            }
            done.0.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(300)).await;
        }
        if turns % 2 == 0 {
            tolerate(guard.release().await);
        }
    }
    turns
}

fn multi_locks(seed: u64) -> Outcome {
    in_virtual_time(async {
        run(plan(seed), &Arc::new(Transfers::default()), |number, client, done, until| {
            worker(seed * 16 + number as u64, client, done, until)
        })
        .await
    })
}

#[test]
fn multi_locks_exclude_leave_no_orphans_and_go_on_after_faults() {
    for seed in seeds() {
        multi_locks(seed);
    }
}

#[test]
fn a_seed_repeats_itself() {
    assert_eq!(multi_locks(42), multi_locks(42));
}
