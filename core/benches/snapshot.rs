//! What a view of a million znodes costs those who write meanwhile.
//!
//! Sets go through [`Engine::apply`], one after the other, each timed. A pause is told as the
//! time for which nothing else could be applied: the view together with the write after it, and
//! then the longest write while another thread walks the view, as one that writes a snapshot
//! does, and drops it. Beside each stands the same of as many writes with no view, while another
//! thread reads memory for as long, in the same run, in turns. `cargo bench -p synod-core --bench snapshot`

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use synod_core::engine::Engine;
use synod_core::model::{
    Acl, Create, CreateMode, Entry, Op, Password, Response, SessionId, Write, Zxid,
};
use synod_core::tree::TreeView;

/// 1,000 directories of 1,000 leaves.
const FAN_OUT: u32 = 1_000;
const LEAVES: u32 = FAN_OUT * FAN_OUT;
const DATA_BYTES: usize = 32;
const ROUNDS: usize = 11;
/// Writes of a round at most.
const WRITES_MAX: usize = 1 << 22;
/// As much as the znodes take, about.
const MEMORY_BYTES: usize = 1 << 27;
const SESSION: SessionId = SessionId(1);

fn main() {
    let mut writer = Writer::new();
    for leaf in 0..LEAVES {
        if leaf % FAN_OUT == 0 {
            writer.create(directory(leaf));
        }
        writer.create(path(leaf));
    }
    println!("znodes                       {:>9}", writer.engine.znode_count());
    let memory = vec![1_u8; MEMORY_BYTES];
    let mut stalls = [const { Vec::new() }; 3];
    let mut walking = [const { Vec::new() }; 3];
    let mut alone = [const { Vec::new() }; 3];
    let mut longest = (0.0_f64, 0.0_f64, 0.0_f64);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let view = black_box(writer.engine.view());
        let viewed = micros(start);
        let first = writer.set();
        let start = Instant::now();
        let writes = writer.set_during(move || walk(view));
        let walk_time = start.elapsed();
        let plain = writer.set_during(|| {
            let start = Instant::now();
            while start.elapsed() < walk_time {
                black_box(memory.iter().step_by(64).map(|byte| u64::from(*byte)).sum::<u64>());
            }
        });

        let noted = [viewed, first, viewed + first];
        stalls.iter_mut().zip(noted).for_each(|(all, one)| all.push(one));
        let (with, without) = (summary(writes), summary(plain));
        walking.iter_mut().zip(with).for_each(|(all, one)| all.push(one));
        alone.iter_mut().zip(without).for_each(|(all, one)| all.push(one));
        longest.0 = longest.0.max(viewed + first);
        longest.1 = longest.1.max(with[2]);
        longest.2 = longest.2.max(without[2]);
    }
    let [view, first, stall] = stalls.map(median);
    let [walking_median, walking_p99, walking_max] = walking.map(median);
    let [alone_median, alone_p99, alone_max] = alone.map(median);
    println!("view                         {view:>9.1} us");
    println!("first set after it           {first:>9.1} us");
    println!("the stall: both              {stall:>9.1} us   target <= 1000");
    println!("the worst stall of {ROUNDS}        {:>9.1} us", longest.0);
    println!("                               walking   no view");
    println!("a set, median                {walking_median:>9.2} {alone_median:>9.2} us");
    println!("a set, p99                   {walking_p99:>9.2} {alone_p99:>9.2} us");
    println!("the longest set of a round   {walking_max:>9.1} {alone_max:>9.1} us");
    println!("the longest set of all       {:>9.1} {:>9.1} us", longest.1, longest.2);
}

/// Median, 99th percentile and maximum.
fn summary(mut times: Vec<f64>) -> [f64; 3] {
    times.sort_unstable_by(f64::total_cmp);
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    [at(50), at(99), at(100)]
}

/// One session's writes, to leaves in a shuffled order.
struct Writer {
    engine: Engine,
    attachment: Zxid,
    sequence: u64,
    /// The state of a generator of pseudo-random numbers.
    random: u64,
}

impl Writer {
    fn new() -> Writer {
        let mut engine = Engine::new();
        let password = Password([0; 16]);
        let request = Write::CreateSession { id: SESSION, password, timeout_ms: 10_000 };
        let entry = entry(SessionId::SYSTEM, Zxid::ZERO, 0, request);
        let attachment = engine.apply(1, &entry, &mut Vec::new()).zxid;
        Writer { engine, attachment, sequence: 0, random: 0x9E37_79B9_7F4A_7C15 }
    }

    fn write(&mut self, op: Op) -> (Response, f64) {
        self.sequence += 1;
        let entry = entry(SESSION, self.attachment, self.sequence, Write::Op(op));
        let mut fired = Vec::new();
        let start = Instant::now();
        let applied = self.engine.apply(1, &entry, &mut fired);
        let time = micros(start);
        (applied.result.expect("not refused"), time)
    }

    fn create(&mut self, path: String) {
        let (path, data, acl) = (path.into(), Some(data(0)), Acl::open());
        let create = Create { path, data, acl, mode: CreateMode::Persistent };
        assert!(matches!(self.write(Op::Create(create)).0, Response::Created { .. }));
    }

    /// Microseconds that one write took.
    fn set(&mut self) -> f64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let leaf = (self.random >> 33) as u32 % LEAVES;
        let op = Op::SetData { path: path(leaf).into(), data: Some(data(leaf)), version: -1 };
        let (response, time) = self.write(op);
        assert!(matches!(response, Response::Stat(stat) if stat.version > 0));
        time
    }

    /// Writes until `work` is done on another thread.
    fn set_during(&mut self, work: impl FnOnce() + Send) -> Vec<f64> {
        let done = &AtomicBool::new(false);
        let mut times = Vec::with_capacity(WRITES_MAX);
        thread::scope(|scope| {
            scope.spawn(move || {
                work();
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) && times.len() < WRITES_MAX {
                times.push(self.set());
            }
        });
        times
    }
}

fn walk(view: TreeView) {
    let (mut znodes, mut bytes) = (0, 0);
    view.visit(|path, znode| {
        znodes += 1;
        bytes += path.len() + znode.data.map_or(0, <[u8]>::len);
    });
    assert_eq!((znodes, bytes > 0), (view.len(), true));
}

fn entry(session: SessionId, attachment: Zxid, sequence: u64, request: Write) -> Entry {
    Entry { session, attachment, sequence, identities: Arc::from([]), time_ms: 1, request }
}

fn directory(leaf: u32) -> String {
    format!("/directory-{:014}", leaf / FAN_OUT)
}

fn path(leaf: u32) -> String {
    format!("{}/the-znode-{leaf:014}", directory(leaf))
}

fn data(leaf: u32) -> Bytes {
    let mut data = vec![0; DATA_BYTES];
    data[..4].copy_from_slice(&leaf.to_le_bytes());
    data.into()
}

fn micros(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}
