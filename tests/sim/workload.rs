//! What clients ask for: a universe so small that they keep meeting.
//!
//! | below | what happens there |
//! |---|---|
//! | `/r` | registers: set, compare-and-set, sync and read; never deleted |
//! | `/p` | pairs that are written in one transaction, and transactions that fail |
//! | `/q` | sequential znodes, created and deleted |
//! | `/e` | ephemeral znodes |
//! | `/t` | znodes of every other mode, created and deleted, two levels |

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use synod_core::model::{
    Acl, AddWatchMode, Create, CreateMode, Op, Read, Request, Response, WatchRequest, Write,
};
use synod_core::testing::SeededEntropy;

pub(crate) const REGISTERS: u64 = 4;
const PAIRS: u64 = 3;
const EPHEMERALS: u64 = 4;
const PLACES: u64 = 4;

/// Parents that nobody deletes.
pub(crate) const LASTING: [&str; 5] = ["/r", "/p", "/q", "/e", "/t"];

/// The path of a register.
pub(crate) fn register(number: u64) -> String {
    format!("/r/k{number}")
}

/// What is there before anything else happens.
pub(crate) fn furniture() -> Vec<Request> {
    let mut paths: Vec<String> = LASTING.map(String::from).into();
    paths.extend((0..REGISTERS).map(register));
    paths.extend((0..PAIRS).flat_map(|pair| [format!("/p/a{pair}"), format!("/p/b{pair}")]));
    paths.into_iter().map(|path| write(create(&path, CreateMode::Persistent, "0"))).collect()
}

fn data(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

fn create(path: &str, mode: CreateMode, text: &str) -> Op {
    Op::Create(Create { path: path.into(), data: data(text), acl: Acl::open(), mode })
}

pub(crate) fn set(path: &str, text: &str, version: i32) -> Op {
    Op::SetData { path: path.into(), data: data(text), version }
}

pub(crate) fn write(op: Op) -> Request {
    Request::Write(Write::Op(op))
}

pub(crate) fn get(path: &str, watch: bool) -> Request {
    Request::Read(Read::GetData { path: path.into(), watch })
}

pub(crate) fn children(path: &str, watch: bool) -> Request {
    Request::Read(Read::Children { path: path.into(), watch })
}

pub(crate) fn sync(path: &str) -> Request {
    Request::Sync { path: path.into() }
}

/// One client's share of it, and what the client remembers to choose by.
pub(crate) struct Workload {
    client: u8,
    random: SeededEntropy,
    written: u64,
    versions: BTreeMap<Arc<str>, i32>,
    queue: Vec<Arc<str>>,
}

impl Workload {
    pub(crate) fn new(client: u8, random: SeededEntropy) -> Workload {
        Workload { client, random, written: 0, versions: BTreeMap::new(), queue: Vec::new() }
    }

    /// Data that nobody else writes, so that a value says who wrote it.
    pub(crate) fn tag(&mut self) -> String {
        self.written += 1;
        format!("{}.{}", self.client, self.written)
    }

    /// One client in four. A write that is not answered holds back the replies behind it, so that
    /// who writes never sees what a member says that is cut off from the others.
    fn reads_only(&self) -> bool {
        self.client % 4 == 1
    }

    fn read_of_register(&mut self) -> Vec<Request> {
        let path = register(self.random.below(REGISTERS));
        match self.random.below(10) {
            0..8 => vec![sync(&path), get(&path, false)],
            8 => vec![Request::Read(Read::Exists { path: "/e/c0".into(), watch: true })],
            _ => vec![children("/q", true)],
        }
    }

    fn one_in(&self, bound: u64) -> bool {
        self.random.below(bound) == 0
    }

    /// Requests to be sent together. A sync is followed by the read that it is for.
    pub(crate) fn burst(&mut self) -> Vec<Request> {
        let count = if self.one_in(3) { 1 + self.random.below(6) } else { 1 };
        (0..count).flat_map(|_| self.choose()).collect()
    }

    fn choose(&mut self) -> Vec<Request> {
        if self.reads_only() {
            return self.read_of_register();
        }
        match self.random.below(100) {
            0..28 => self.on_register(),
            28..42 => vec![self.on_pair()],
            42..60 => vec![self.on_queue()],
            60..74 => vec![self.on_ephemeral()],
            74..98 => vec![self.on_tree()],
            98 if self.one_in(6) => vec![self.watch_for_good()],
            _ => vec![Request::Ping],
        }
    }

    /// So few that most sessions do without.
    fn watch_for_good(&mut self) -> Request {
        let (path, mode) = match self.random.below(3) {
            0 => ("/q", AddWatchMode::Persistent),
            1 => ("/t", AddWatchMode::PersistentRecursive),
            _ => ("/e", AddWatchMode::PersistentRecursive),
        };
        Request::Watch(WatchRequest::Add { path: path.into(), mode })
    }

    fn on_register(&mut self) -> Vec<Request> {
        let path = register(self.random.below(REGISTERS));
        match self.random.below(10) {
            0..3 => vec![write(set(&path, &self.tag(), -1))],
            3..6 => {
                // Now and then of the future.
                let version = self.versions.get(path.as_str()).copied().unwrap_or(0);
                let version = if self.one_in(6) { version + 1 } else { version };
                vec![write(set(&path, &self.tag(), version))]
            }
            6..9 => vec![sync(&path), get(&path, self.one_in(3))],
            _ => vec![get(&path, self.one_in(2))],
        }
    }

    fn on_pair(&mut self) -> Request {
        let pair = self.random.below(PAIRS);
        let (a, b) = (format!("/p/a{pair}"), format!("/p/b{pair}"));
        let tag = self.tag();
        let check = |version| Op::Check { path: a.as_str().into(), version };
        match self.random.below(10) {
            0..5 => Request::Write(Write::Multi(vec![set(&a, &tag, -1), set(&b, &tag, -1)])),
            5..7 => {
                let failing = vec![set(&b, &tag, -1), check(i32::MAX), set(&a, &tag, -1)];
                Request::Write(Write::Multi(failing))
            }
            7 => {
                let child = create(&format!("/q/m{pair}-"), CreateMode::PersistentSequential, &tag);
                let version = self.versions.get(a.as_str()).copied().unwrap_or(0);
                Request::Write(Write::Multi(vec![check(version), set(&a, &tag, -1), child]))
            }
            8 => get(&a, self.one_in(2)),
            _ => get(&b, self.one_in(2)),
        }
    }

    fn on_queue(&mut self) -> Request {
        match self.random.below(10) {
            0..3 => write(create("/q/n-", CreateMode::PersistentSequential, &self.tag())),
            3..7 if !self.queue.is_empty() => {
                let which = self.random.below(self.queue.len() as u64) as usize;
                write(Op::Delete { path: self.queue.swap_remove(which), version: -1 })
            }
            _ => children("/q", self.one_in(2)),
        }
    }

    fn on_ephemeral(&mut self) -> Request {
        let path = format!("/e/c{}", self.random.below(EPHEMERALS));
        match self.random.below(10) {
            0..3 => write(create(&path, CreateMode::Ephemeral, &self.tag())),
            3 => write(create("/e/s-", CreateMode::EphemeralSequential, &self.tag())),
            4 => write(Op::Delete { path: path.as_str().into(), version: -1 }),
            5..8 => Request::Read(Read::Exists { path: path.as_str().into(), watch: true }),
            8 => Request::Read(Read::Ephemerals { prefix: None }),
            _ => children("/e", self.one_in(2)),
        }
    }

    fn on_tree(&mut self) -> Request {
        let mut path = format!("/t/x{}", self.random.below(PLACES));
        if self.one_in(2) {
            path = format!("{path}/y{}", self.random.below(2));
        }
        let watch = self.one_in(2);
        match self.random.below(12) {
            0..4 => {
                let mode = match self.random.below(8) {
                    0 => CreateMode::Container,
                    1 => CreateMode::Ttl { ttl_ms: 1 + self.random.below(3_000) as i64 },
                    2 => CreateMode::PersistentSequential,
                    3 => CreateMode::TtlSequential { ttl_ms: 1 + self.random.below(500) as i64 },
                    _ => CreateMode::Persistent,
                };
                write(create(&path, mode, &self.tag()))
            }
            4..7 => {
                let version = if self.one_in(4) { 1 } else { -1 };
                write(Op::Delete { path: path.as_str().into(), version })
            }
            7 => write(set(&path, &self.tag(), -1)),
            8 => get(&path, watch),
            9 => Request::Read(Read::Exists { path: path.as_str().into(), watch }),
            10 => children(&path, watch),
            _ => children("/t", watch),
        }
    }

    /// Remembers what an answer says.
    pub(crate) fn learn(&mut self, request: &Request, response: &Response) {
        match (request, response) {
            (Request::Read(Read::GetData { path, .. }), Response::Data { stat, .. })
            | (Request::Write(Write::Op(Op::SetData { path, .. })), Response::Stat(stat)) => {
                self.versions.insert(Arc::clone(path), stat.version);
            }
            (Request::Read(Read::Children { path, .. }), Response::Children { names, .. })
                if &**path == "/q" =>
            {
                self.queue = names.iter().map(|name| format!("/q/{name}").into()).collect();
                self.queue.sort();
            }
            _ => {}
        }
    }
}
