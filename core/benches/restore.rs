//! What it takes to write a snapshot, and to make an engine of it.
//!
//! Half of the znodes are leaves of 1,000 directories, as the members of large groups; the other
//! half have three parts above them. Writing is to memory, and both are on one thread, so that
//! it is the code's time alone. `cargo bench -p synod-core --bench restore` with a million znodes and
//! 100,000 sessions; `SYNOD_ZNODES=10000000` before it for ten times as many.

use std::ffi::OsStr;
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use synod_core::engine::{Engine, Restore};
use synod_core::model::limits::SNAPSHOT_CHUNK_BYTES;
use synod_core::model::{
    Acl, Create, CreateMode, Entry, Op, Password, Response, SessionId, Write, Zxid,
};

const ZNODES: u32 = 1_000_000;
const SESSIONS: u32 = 100_000;
const DATA_BYTES: usize = 32;
const ROUNDS: usize = 5;

/// Names the file to be restored from, in the environment of the process that does it.
const FILE: &str = "SYNOD_RESTORE_FILE";

fn main() {
    if let Some(file) = std::env::var_os(FILE) {
        return restore(&file);
    }
    let znodes = match std::env::var("SYNOD_ZNODES") {
        Ok(number) => number.parse().expect("SYNOD_ZNODES is a number"),
        Err(_) => ZNODES,
    };
    let before = resident_bytes();
    let mut writer = Writer::new();
    for znode in 0..znodes {
        writer.create(path(znode), znode);
    }
    let tree_bytes = resident_bytes() - before;
    let count = writer.engine.znode_count() as f64;
    println!("znodes, sessions             {count:>9} {SESSIONS}");
    println!("resident bytes a znode       {:>9.1}", tree_bytes / count);

    let mut stalls = Vec::new();
    let (mut chunks, mut longest, mut write) = (Vec::new(), 0.0_f64, f64::INFINITY);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let view = black_box(writer.engine.snapshot());
        let taken = millis(start);
        writer.create(format!("/after-{}", stalls.len()), 0);
        stalls.push((taken, millis(start)));

        chunks.clear();
        let start = Instant::now();
        let mut last = start;
        for chunk in view.chunks() {
            longest = longest.max(millis(last));
            chunks.push(chunk);
            last = Instant::now();
        }
        write = write.min(millis(start));
    }
    drop(writer);

    stalls.sort_by(|one, other| one.1.total_cmp(&other.1));
    let (taken, stall) = stalls[stalls.len() / 2];
    let bytes: usize = chunks.iter().map(Bytes::len).sum();
    println!("snapshot                     {taken:>9.3} ms");
    println!("with the write after it      {stall:>9.3} ms");
    println!("bytes a znode                {:>9.1}", bytes as f64 / count);
    println!("write                        {write:>9.1} ms, {:.0} ns a znode", write * 1e6 / count);
    println!("longest piece                {longest:>9.3} ms");

    // In a process of its own, so that its memory is that of the restored engine.
    let file = std::env::temp_dir().join(format!("synod-restore-{}", std::process::id()));
    std::fs::write(&file, chunks.concat()).expect("room for a snapshot");
    drop(chunks);
    let program = std::env::current_exe().expect("the name of this program");
    let child = Command::new(program).env(FILE, &file).status();
    std::fs::remove_file(&file).expect("it was written");
    assert!(child.expect("a process").success(), "it was restored");
}

/// Restores what is in a file, in pieces as they were written or not.
fn restore(file: &OsStr) {
    let mut best = f64::INFINITY;
    let mut count = 0.0;
    for _ in 0..ROUNDS {
        let mut snapshot = File::open(file).expect("a snapshot");
        let mut piece = vec![0; SNAPSHOT_CHUNK_BYTES];
        let start = Instant::now();
        let mut restore = Restore::new();
        loop {
            match snapshot.read(&mut piece).expect("a snapshot") {
                0 => break,
                bytes => restore.feed(&piece[..bytes]).expect("a snapshot"),
            }
        }
        let engine = restore.finish().expect("the whole snapshot");
        best = best.min(millis(start));
        count = engine.znode_count() as f64;
    }
    println!("restore, with its file       {best:>9.1} ms, {:.0} ns a znode", best * 1e6 / count);
    println!("peak of memory a znode       {:>9.1} bytes", status("VmHWM") / count);
}

/// One session's writes, beside many that are open.
struct Writer {
    engine: Engine,
    attachment: Zxid,
    sequence: u64,
}

impl Writer {
    fn new() -> Writer {
        let mut writer = Writer { engine: Engine::new(), attachment: Zxid::ZERO, sequence: 0 };
        for id in (1..=i64::from(SESSIONS)).rev() {
            let (id, password) = (SessionId(id << 20), Password([7; 16]));
            let request = Write::CreateSession { id, password, timeout_ms: 10_000 };
            match writer.apply(SessionId::SYSTEM, request) {
                Response::Attached { attachment, .. } => writer.attachment = attachment,
                other => panic!("{other:?}"),
            }
        }
        writer
    }

    fn apply(&mut self, session: SessionId, request: Write) -> Response {
        let (attachment, sequence) = (self.attachment, self.sequence);
        let identities = Arc::from([]);
        let entry = Entry { session, attachment, sequence, identities, time_ms: 1, request };
        self.engine.apply(1, &entry, &mut Vec::new()).result.expect("not refused")
    }

    fn create(&mut self, path: String, znode: u32) {
        self.sequence += 1;
        let mut data = vec![0; DATA_BYTES];
        data[..4].copy_from_slice(&znode.to_le_bytes());
        let (path, data, acl) = (path.into(), Some(data.into()), Acl::open());
        let create = Create { path, data, acl, mode: CreateMode::Persistent };
        let response = self.apply(SessionId(1 << 20), Write::Op(Op::Create(create)));
        assert!(matches!(response, Response::Created { .. }));
    }
}

/// The first 1,000 and 100 of each half are directories.
fn path(znode: u32) -> String {
    let number = znode / 2;
    match znode % 2 {
        0 if number < 1_000 => format!("/group-{number:06}"),
        0 => format!("/group-{:06}/member-{number:010}", number % 1_000),
        _ if number == 0 => "/application".to_owned(),
        _ if number < 100 => format!("/application/service-{:02}", number - 1),
        _ if number < 10_000 => {
            format!("/application/service-{:02}/part-{number:06}", number % 99)
        }
        _ => {
            let part = 100 + number % 9_900;
            format!("/application/service-{:02}/part-{part:06}/leaf-{number:010}", part % 99)
        }
    }
}

fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn resident_bytes() -> f64 {
    status("VmRSS")
}

/// A line of the process's status, in bytes; 0 where there is none.
fn status(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let kilobytes: f64 =
        line.split_whitespace().nth(1).and_then(|it| it.parse().ok()).unwrap_or(0.0);
    kilobytes * 1024.0
}
