//! The embedded client's `get` and `set` from several tasks, beside the engine alone.
//!
//! The limit of each figure is the same request put to [`Engine`] directly, under the one mutex
//! that the ground needs anyway, from as many threads as the runtime has workers: what the client
//! adds is the ratio. Both sides are measured in one run, in turns, and every answer is verified
//! inside the loops. `cargo bench -p synod-core --bench client`

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use synod_core::client::Client;
use synod_core::engine::{Engine, Reader};
use synod_core::model::{
    Acl, Create, CreateMode, Entry, Op, Password, Path, Read, Response, SessionId, Stat, Write,
    Zxid,
};
use synod_core::seams::{Clock, SystemClock};
use tokio::runtime::Runtime;

/// 100 directories of 100 leaves.
const FAN_OUT: usize = 100;
const LEAVES: usize = FAN_OUT * FAN_OUT;
const WORKERS: usize = 2;
const TASKS: usize = 4;
const ROUNDS: usize = 11;
const OPS_PER_ROUND: usize = 400_000;
const SESSION: SessionId = SessionId(1);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .build()
        .expect("a runtime");
    let paths: Arc<[Path]> = (0..LEAVES).map(|leaf| path(leaf).expect("valid")).collect();
    let client = runtime.block_on(connect(&paths));
    let bare = Bare::new(&paths);
    println!("{LEAVES} znodes, {TASKS} tasks on {WORKERS} workers, {WORKERS} threads");
    for (data_bytes, get_target, set_target) in [(32, 1_000_000.0, 300_000.0), (100, 1e6, 300e3)] {
        runtime.block_on(fill(&client, &paths, data_bytes));
        let mut rates = [const { Vec::new() }; 5];
        for _ in 0..ROUNDS {
            rates[0].push(bare.get(&paths));
            rates[1].push(client_get(&runtime, &client, &paths));
            rates[2].push(client_get_text(&runtime, &client, &paths));
            rates[3].push(bare.set(&paths, data_bytes));
            rates[4].push(client_set(&runtime, &client, &paths, data_bytes));
        }
        let [bare_get, get, get_text, bare_set, set] = rates.map(median);
        report(&format!("get, {data_bytes} bytes, a Path"), get, bare_get, get_target);
        report(&format!("get, {data_bytes} bytes, a &str"), get_text, bare_get, get_target);
        report(&format!("set, {data_bytes} bytes, a Path"), set, bare_set, set_target);
    }
}

fn report(case: &str, rate: f64, limit: f64, target: f64) {
    println!(
        "{case:<24} {rate:>9.0}/s   bare engine {limit:>9.0}/s   ratio {:>4.2}   target >= {target:.0}/s",
        rate / limit
    );
}

async fn connect(paths: &[Path]) -> Client {
    let client = Client::connect("embedded:").await.expect("it is here");
    for (leaf, path) in paths.iter().enumerate() {
        if leaf % FAN_OUT == 0 {
            let parent = path.parent().expect("two parts");
            client.create(&parent, b"").await.expect("a new path");
        }
        client.create(path, b"").await.expect("a new path");
    }
    client
}

async fn fill(client: &Client, paths: &[Path], data_bytes: usize) {
    for (leaf, path) in paths.iter().enumerate() {
        client.set(path, data(leaf, data_bytes)).await.expect("it exists");
    }
}

/// Lets every task do its part of a round; requests a second.
fn in_tasks<F: Future<Output = ()> + Send + 'static>(
    runtime: &Runtime,
    task: impl Fn(usize) -> F,
) -> f64 {
    let start = Instant::now();
    let tasks: Vec<_> = (0..TASKS).map(|number| runtime.spawn(task(number))).collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.expect("it does not panic");
        }
    });
    OPS_PER_ROUND as f64 / start.elapsed().as_secs_f64()
}

fn client_get(runtime: &Runtime, client: &Client, paths: &Arc<[Path]>) -> f64 {
    in_tasks(runtime, |task| {
        let (client, paths) = (client.clone(), Arc::clone(paths));
        async move {
            for leaf in leaves(task, TASKS) {
                let (data, stat) = client.get(&paths[leaf]).await.expect("it exists");
                verify(leaf, &data, &stat);
            }
        }
    })
}

/// The same, with paths that have to be validated.
fn client_get_text(runtime: &Runtime, client: &Client, paths: &Arc<[Path]>) -> f64 {
    in_tasks(runtime, |task| {
        let (client, paths) = (client.clone(), Arc::clone(paths));
        async move {
            for leaf in leaves(task, TASKS) {
                let (data, stat) = client.get(paths[leaf].as_str()).await.expect("it exists");
                verify(leaf, &data, &stat);
            }
        }
    })
}

fn client_set(runtime: &Runtime, client: &Client, paths: &Arc<[Path]>, data_bytes: usize) -> f64 {
    in_tasks(runtime, |task| {
        let (client, paths) = (client.clone(), Arc::clone(paths));
        async move {
            let mut data = data(0, data_bytes);
            for leaf in leaves(task, TASKS) {
                stamp(&mut data, leaf);
                let stat = client.set(&paths[leaf], &data).await.expect("it exists");
                verify_set(&stat, data_bytes);
            }
        }
    })
}

/// The engine, and how far the session's writes have come.
struct Bare {
    state: Mutex<(Engine, u64)>,
    attachment: Zxid,
}

impl Bare {
    fn new(paths: &[Path]) -> Bare {
        let mut engine = Engine::new();
        let password = Password([0; 16]);
        let request = Write::CreateSession { id: SESSION, password, timeout_ms: 10_000 };
        let entry = entry(SessionId::SYSTEM, Zxid::ZERO, 0, request);
        let attachment = engine.apply(1, &entry, &mut Vec::new()).zxid;
        let bare = Bare { state: Mutex::new((engine, 0)), attachment };
        for (leaf, path) in paths.iter().enumerate() {
            if leaf % FAN_OUT == 0 {
                bare.create(path.parent().expect("two parts"), leaf);
            }
            bare.create(path.clone(), leaf);
        }
        bare
    }

    fn create(&self, path: Path, leaf: usize) {
        let (path, data, acl) = (path.into(), Some(data(leaf, 32).into()), Acl::open());
        let create = Create { path, data, acl, mode: CreateMode::Persistent };
        let created = self.write(Write::Op(Op::Create(create)));
        assert!(matches!(created, Response::Created { .. }));
    }

    fn write(&self, request: Write) -> Response {
        let mut state = self.state.lock().expect("no panic");
        let (engine, sequence) = &mut *state;
        *sequence += 1;
        let entry = entry(SESSION, self.attachment, *sequence, request);
        engine.apply(1, &entry, &mut Vec::new()).result.expect("not refused")
    }

    fn get(&self, paths: &[Path]) -> f64 {
        in_threads(|thread| {
            let reader = Reader { session: SESSION, identities: Arc::from([]) };
            for leaf in leaves(thread, WORKERS) {
                let read = Read::GetData { path: paths[leaf].clone().into(), watch: false };
                let response = self.state.lock().expect("no panic").0.read(&reader, &read);
                match response {
                    Ok(Response::Data { data: Some(data), stat }) => verify(leaf, &data, &stat),
                    other => panic!("{other:?}"),
                }
            }
        })
    }

    fn set(&self, paths: &[Path], data_bytes: usize) -> f64 {
        in_threads(|thread| {
            let mut data = data(0, data_bytes);
            for leaf in leaves(thread, WORKERS) {
                stamp(&mut data, leaf);
                let (path, data) =
                    (paths[leaf].clone().into(), Some(Bytes::copy_from_slice(&data)));
                match self.write(Write::Op(Op::SetData { path, data, version: -1 })) {
                    Response::Stat(stat) => verify_set(&stat, data_bytes),
                    other => panic!("{other:?}"),
                }
            }
        })
    }
}

fn in_threads(work: impl Fn(usize) + Sync) -> f64 {
    let start = Instant::now();
    thread::scope(|scope| {
        for number in 0..WORKERS {
            let work = &work;
            scope.spawn(move || work(number));
        }
    });
    OPS_PER_ROUND as f64 / start.elapsed().as_secs_f64()
}

fn entry(session: SessionId, attachment: Zxid, sequence: u64, request: Write) -> Entry {
    let (identities, time_ms) = (Arc::from([]), SystemClock.wall_ms());
    Entry { session, attachment, sequence, identities, time_ms, request }
}

/// The leaves that one of `parts` asks for in a round: in steps of a prime, so that neighbours
/// are not asked for one after the other.
fn leaves(part: usize, parts: usize) -> impl Iterator<Item = usize> {
    (0..OPS_PER_ROUND / parts).map(move |i| (part * LEAVES / parts + i * 7_919) % LEAVES)
}

fn path(leaf: usize) -> Result<Path, synod_core::model::Error> {
    Path::new(format!("/directory-{:04}/the-znode-{leaf:08}", leaf / FAN_OUT))
}

fn data(leaf: usize, data_bytes: usize) -> Vec<u8> {
    let mut data = vec![0; data_bytes];
    stamp(&mut data, leaf);
    data
}

fn stamp(data: &mut [u8], leaf: usize) {
    data[..8].copy_from_slice(&leaf.to_le_bytes());
}

fn verify(leaf: usize, data: &[u8], stat: &Stat) {
    assert!(data[..8] == leaf.to_le_bytes() && stat.data_bytes as usize == data.len());
}

fn verify_set(stat: &Stat, data_bytes: usize) {
    assert!(stat.version > 0 && stat.data_bytes as usize == data_bytes);
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}
