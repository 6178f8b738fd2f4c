//! Random calls and random power losses, checked against a model that knows nothing of disks.
//!
//! The log is a line of operations. When one of them was said to be on disk, so are all before it;
//! after a restart the log has to be what the first `n` operations come to, for an `n` not below
//! what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use crate::log::sim::{Dice, Faults, SimDisk};
use crate::log::{Bug, Log, LogConfig, Position, Record};

const CASES: u64 = 1_500;

/// Lives of a process in one case.
const LIVES: u64 = 4;

/// Says which case to run alone.
const SEED: &str = "SYNOD_LOG_SEED";

/// Says how many cases to run, for a long soak.
const SEEDS: &str = "SYNOD_LOG_SEEDS";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    entries: BTreeMap<u64, (u64, Bytes)>,
    purged: Option<Position>,
    vote: Option<Bytes>,
}

#[derive(Clone, Debug)]
enum Op {
    Append(Record),
    Truncate(u64),
    Purge(Position),
    Vote(Bytes),
}

impl Model {
    fn next(&self) -> Option<u64> {
        let last = self.entries.keys().next_back().copied();
        last.or(self.purged.map(|purged| purged.index)).map(|last| last + 1)
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(record) => {
                let Position { term, index } = record.position;
                self.entries.insert(index, (term, record.payload.clone()));
            }
            Op::Truncate(from) => drop(self.entries.split_off(from)),
            Op::Purge(upto) if self.purged.is_none_or(|purged| purged.index < upto.index) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = Some(*upto);
            }
            Op::Purge(_) => {}
            Op::Vote(vote) => self.vote = Some(vote.clone()),
        }
    }
}

/// One case: a disk, and what was called for since the log was last found whole.
struct Case {
    dice: Dice,
    disk: SimDisk,
    config: LogConfig,
    /// What the log came to when it was last opened, which is on disk.
    base: Model,
    ops: Vec<Op>,
    /// How many of the operations were said to be on disk.
    acknowledged: Arc<AtomicUsize>,
    now: Model,
    term: u64,
    unique: u64,
    committed: Option<Position>,
}

impl Case {
    fn new(seed: u64, bug: Option<Bug>) -> Case {
        let mut dice = Dice::new(seed);
        let config = LogConfig {
            segment_bytes: 2_048 << dice.below(3),
            batch_bytes_max: 256 << dice.below(5),
            cache_bytes_max: 1_000 * dice.below(3) as usize,
            queue_bytes_max: 4_096 << dice.below(3),
            spare_segments_max: dice.below(3) as usize,
            bug,
        };
        Case {
            disk: SimDisk::new(dice.roll()),
            dice,
            config,
            base: Model::default(),
            ops: Vec::new(),
            acknowledged: Arc::default(),
            now: Model::default(),
            term: 1,
            unique: 0,
            committed: None,
        }
    }

    fn bytes(&mut self) -> Bytes {
        self.unique += 1;
        let most = if self.dice.once_in(40) { 5_000 } else { 250 };
        // Often the same, so that new records end where old ones did.
        let count = if self.dice.once_in(2) { 80 } else { self.dice.below(most) };
        let mut bytes = vec![self.dice.roll() as u8; count as usize];
        bytes.extend_from_slice(&self.unique.to_be_bytes());
        bytes.into()
    }

    fn queue(&mut self, op: Op) -> usize {
        self.now.apply(&op);
        self.ops.push(op);
        self.ops.len()
    }

    /// What to call when the first `count` operations are on disk.
    fn acknowledge<E>(&self, count: usize) -> impl FnOnce(Result<(), E>) + Send + 'static {
        let acknowledged = Arc::clone(&self.acknowledged);
        move |result: Result<(), E>| {
            if result.is_ok() {
                acknowledged.fetch_max(count, Relaxed);
            }
        }
    }

    /// Opens the log; `None` if the power went meanwhile.
    async fn open(&mut self) -> Result<Option<Log<SimDisk>>, String> {
        let disk = self.disk.restarted();
        let opening = Log::open(disk, self.config.clone());
        let opened = if self.dice.once_in(5) {
            let patience = Duration::from_millis(self.dice.below(15));
            match timeout(patience, opening).await {
                Ok(opened) => opened,
                Err(_) => return Ok(None),
            }
        } else {
            opening.await
        };
        let (log, _) = opened.map_err(|error| format!("it does not start: {error}"))?;
        let found = self.look(&log).await?;
        let mut model = self.base.clone();
        let least = self.acknowledged.load(Relaxed);
        let mut whole = (least == 0 && model == found).then_some(0);
        for (count, op) in self.ops.iter().enumerate() {
            model.apply(op);
            if count + 1 >= least && model == found {
                whole = Some(count + 1);
            }
        }
        if whole.is_none() {
            let all = self.ops.len();
            return Err(format!(
                "after {least} of {all} operations were on disk, it starts with what none of \
                 their prefixes comes to: {:?}, purged {:?}, vote {:?}",
                found.entries.iter().map(|(index, (term, _))| (*index, *term)).collect::<Vec<_>>(),
                found.purged,
                found.vote,
            ));
        }
        let committed = log.state().map_err(|error| error.to_string())?.committed;
        if committed > self.committed {
            return Err(format!("committed is {committed:?}, but only {:?} was", self.committed));
        }
        if let Some(committed) = committed.filter(|it| Some(it.index) >= found.next()) {
            return Err(format!("{committed:?} is committed, and not there"));
        }
        self.committed = committed;
        (self.base, self.now) = (found.clone(), found);
        self.ops.clear();
        self.acknowledged = Arc::default();
        Ok(Some(log))
    }

    async fn look(&self, log: &Log<SimDisk>) -> Result<Model, String> {
        let state = log.state().map_err(|error| error.to_string())?;
        let records = log.read(0..u64::MAX, usize::MAX).await.map_err(|error| error.to_string())?;
        let entries: BTreeMap<_, _> = records
            .into_iter()
            .map(|Record { position: Position { term, index }, payload }| (index, (term, payload)))
            .collect();
        let whole = entries.keys().copied().eq(state.first..state.next);
        if !whole {
            let found: Vec<_> = entries.keys().collect();
            return Err(format!("{} to {} are to be there: {found:?}", state.first, state.next));
        }
        Ok(Model { entries, purged: state.purged, vote: state.vote })
    }

    /// One random call. An error is no news: the disk may have failed.
    async fn call(&mut self, log: &Log<SimDisk>) -> Result<(), String> {
        match self.dice.below(12) {
            0 if !self.now.entries.is_empty() => {
                let (first, last) = self.ends();
                // As Raft has it, what is committed is never truncated.
                let least = self.committed.map_or(first, |it| first.max(it.index + 1));
                let from = least + self.dice.below((last + 2).saturating_sub(least));
                self.term += 1;
                self.queue(Op::Truncate(from));
                let _ = log.truncate_after(from.checked_sub(1));
            }
            1 => {
                let upto = match self.now.entries.is_empty() {
                    false if !self.dice.once_in(8) => {
                        let (first, last) = self.ends();
                        let index = first + self.dice.below(last + 1 - first);
                        Position { term: self.now.entries[&index].0, index }
                    }
                    _ => {
                        let index = self.now.next().unwrap_or(1) + self.dice.below(3);
                        Position { term: self.term, index }
                    }
                };
                self.queue(Op::Purge(upto));
                let _ = log.purge(upto);
            }
            2 => {
                self.unique += 1;
                let vote = Bytes::copy_from_slice(&self.unique.to_be_bytes());
                let count = self.queue(Op::Vote(vote.clone()));
                let (log, acknowledge) = (log.clone(), self.acknowledge(count));
                let saved = tokio::spawn(async move { acknowledge(log.save_vote(vote).await) });
                if self.dice.once_in(2) {
                    let _ = saved.await;
                } else {
                    // It is in the queue before the next call.
                    tokio::task::yield_now().await;
                }
            }
            3 => {
                let last = self.now.entries.last_key_value();
                let last = last.filter(|_| self.dice.once_in(2));
                if let Some((index, (term, _))) = last {
                    self.committed = Some(Position { term: *term, index: *index });
                    let _ = log.save_committed(Position { term: *term, index: *index });
                }
            }
            4 => {
                let from = self.now.next().unwrap_or(0).saturating_sub(self.dice.below(20));
                let bytes_max = self.dice.below(2_000) as usize;
                if let Ok(records) = log.read(from..from + 10, bytes_max).await {
                    let wanted = self.now.entries.range(from..from + 10);
                    let follows = records.iter().zip(wanted.clone()).all(|(record, want)| {
                        let Position { term, index } = record.position;
                        (&index, &(term, record.payload.clone())) == want
                    });
                    let some = wanted.count().min(1);
                    if !follows || records.len() < some {
                        return Err(format!("{from} and on read as something else: {records:?}"));
                    }
                }
            }
            5 => sleep(Duration::from_millis(self.dice.below(8))).await,
            _ => {
                let count = 1 + self.dice.below(4);
                let mut records = Vec::new();
                for _ in 0..count {
                    let index = self.now.next().unwrap_or(1);
                    let position = Position { term: self.term, index };
                    let record = Record { position, payload: self.bytes() };
                    self.queue(Op::Append(record.clone()));
                    records.push(record);
                }
                let acknowledge = self.acknowledge(self.ops.len());
                let _ = log.append(records, acknowledge).await;
            }
        }
        Ok(())
    }

    fn ends(&self) -> (u64, u64) {
        let mut indexes = self.now.entries.keys().copied();
        let first = indexes.next().unwrap_or(1);
        (first, indexes.next_back().unwrap_or(first))
    }

    async fn live(&mut self) -> Result<(), String> {
        let mut faults = Faults {
            write_delay_max: Duration::from_millis(2),
            sync_delay_max: Duration::from_millis(5),
            ..Faults::default()
        };
        self.disk.set_faults(faults.clone());
        if let Some(log) = self.open().await? {
            match self.dice.below(8) {
                0 => faults.syncs_until_failure = Some(self.dice.below(12)),
                1 => faults.bytes_free = Some(self.dice.below(12_000)),
                _ => {}
            }
            self.disk.set_faults(faults);
            for _ in 0..self.dice.below(40) {
                self.call(&log).await?;
            }
            if self.dice.once_in(4) {
                let ended = log.shutdown().await;
                if ended.is_ok() {
                    self.acknowledged.fetch_max(self.ops.len(), Relaxed);
                }
            } else {
                sleep(Duration::from_millis(self.dice.below(15))).await;
            }
        }
        if self.dice.once_in(3) {
            self.disk.crash();
        } else {
            self.disk.power_loss();
        }
        Ok(())
    }
}

async fn run(seed: u64, bug: Option<Bug>) -> Result<(), String> {
    let case = async {
        let mut case = Case::new(seed, bug);
        for _ in 0..LIVES {
            case.live().await?;
        }
        // Once more, in peace.
        case.disk.set_faults(Faults::default());
        while case.open().await?.is_none() {
            case.disk.crash();
        }
        Ok(())
    };
    timeout(Duration::from_secs(3_600), case).await.unwrap_or(Err("it hangs".to_owned()))
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime")
}

#[test]
fn whatever_is_lost_with_the_power_nothing_acknowledged_is() {
    let runtime = runtime();
    let number = |name| Some(std::env::var(name).ok()?.parse::<u64>().expect("a number"));
    let seeds = match number(SEED) {
        Some(seed) => seed..seed + 1,
        None => 0..number(SEEDS).unwrap_or(CASES),
    };
    for seed in seeds {
        if let Err(what) = runtime.block_on(run(seed, None)) {
            panic!(
                "seed {seed}: {what}\nrepeat it with: {SEED}={seed} cargo test -p synod-server \
                 --lib log::tests::random::whatever"
            );
        }
    }
}

#[test]
fn every_planted_bug_is_found() {
    let runtime = runtime();
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let found = (0..CASES).find_map(|seed| {
            let what = runtime.block_on(run(seed, Some(bug))).err()?;
            Some((seed, what))
        });
        match found {
            Some((seed, what)) => println!("{bug:?} is found by seed {seed}: {what}"),
            None => missed.push(bug),
        }
    }
    assert_eq!(missed, [], "bugs that {CASES} cases do not find");
}
