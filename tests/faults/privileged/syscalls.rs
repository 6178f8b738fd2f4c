//! That a sync comes before the acknowledgement that rests on it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use synod_core::model::{CreateMode, Op, Request, Write, Zxid};
use synod_core::wire::take_frame;
use synod_tests::faults::PATIENCE;
use synod_tests::faults::cluster::{Cluster, Settings};
use synod_tests::faults::connection::Connection;
use synod_tests::faults::ledger::data_of;
use synod_tests::faults::load::create;
use synod_tests::faults::process::Signal;

use crate::trace::{Step, steps};

const CALLS: &str = "trace=pwrite64,pwritev,pwritev2,fdatasync,fsync,write,writev,sendto,sendmsg";
const CONNECTIONS: usize = 3;
const ROUNDS: u64 = 40;
const AT_A_TIME: u64 = 5;

/// A change: the connection, and the number of its request.
type Change = (usize, u64);

/// The changes whose data is among these bytes.
fn changes_in(bytes: &[u8]) -> Vec<Change> {
    let text = String::from_utf8_lossy(bytes);
    let marks = text.split("<w").skip(1).filter_map(|rest| rest.split_once('>'));
    marks
        .filter_map(|(mark, _)| {
            let (connection, number) = mark.split_once('v')?;
            Some((connection.parse().ok()?, number.parse().ok()?))
        })
        .collect()
}

/// Sends changes over some connections, a few at a time; the clients' ports.
async fn changes(cluster: &Cluster) -> Vec<u16> {
    let address = cluster.members[0].address;
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        let timeout = Duration::from_secs(20);
        let opening = Connection::open(address, None, Zxid::ZERO, timeout, PATIENCE);
        let mut connection = opening.await.expect("it serves");
        let path = format!("/c{number}");
        // The first request: number 1.
        let request = create(&path, data_of(number, 1, 0), CreateMode::Persistent);
        let made = connection.ask(&request).await;
        made.expect("connected").result.expect("a new znode");
        connections.push((connection, path));
    }
    let mut next = 2;
    for _ in 0..ROUNDS {
        for (number, (connection, path)) in connections.iter_mut().enumerate() {
            for value in next..next + AT_A_TIME {
                let data = Some(Bytes::from(data_of(number, value, 0)));
                let (path, version) = (path.as_str().into(), -1);
                let set = Op::SetData { path, data, version };
                connection.put(&Request::Write(Write::Op(set)));
            }
            connection.flush().await.expect("connected");
        }
        for (connection, _) in &mut connections {
            while connection.outstanding() > 0 {
                connection.reply().await.expect("connected").result.expect("it is there");
            }
        }
        next += AT_A_TIME;
    }
    connections.iter().map(|(connection, _)| connection.port()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_is_acknowledged_before_the_sync_that_covers_it() {
    let mut cluster = Cluster::start(Settings::of(1)).await;
    let file = cluster.folder().join("trace").display().to_string();
    cluster.members[0].kill().await;
    let wrapper = ["strace", "-D", "-f", "-xx", "-yy", "-s", "1000000", "-e", CALLS, "-o", &file];
    cluster.members[0].wrapper = wrapper.map(str::to_owned).to_vec();
    cluster.members[0].start();
    cluster.leader().await;
    let ports = changes(&cluster).await;
    cluster.members[0].process().signal(Signal::Terminate);
    assert!(cluster.members[0].ended().await.success());

    let trace = std::fs::read_to_string(&file).expect("strace was there");
    let seen = judge(&steps(&trace), &ports);
    let expected = CONNECTIONS as u64 * (1 + ROUNDS * AT_A_TIME);
    println!(
        "{} changes acknowledged in {} sends, after {} syncs of the log",
        seen.acknowledged, seen.sends, seen.syncs
    );
    assert_eq!(seen.acknowledged, expected, "every acknowledgement is in the trace");
    assert!(seen.early.is_empty(), "acknowledged before they were on disk: {:?}", seen.early);
}

#[derive(Debug, Default)]
struct Seen {
    acknowledged: u64,
    /// Sends that held an acknowledgement.
    sends: u64,
    syncs: u64,
    early: Vec<Change>,
}

fn judge(steps: &[Step], ports: &[u16]) -> Seen {
    let mut seen = Seen::default();
    let mut durable: HashSet<Change> = HashSet::new();
    // Written, and on no sync yet.
    let mut written: Vec<Change> = Vec::new();
    // What a thread is about to write, or to have synced.
    let mut doing: HashMap<u32, (bool, Vec<Change>)> = HashMap::new();
    // Bytes of a connection that are no whole frame yet.
    let mut streams: HashMap<usize, (bool, BytesMut)> = HashMap::new();
    for step in steps {
        match step {
            Step::Begins { thread, name, file, bytes } => {
                let of_log = file.rsplit('/').next().is_some_and(|name| name.starts_with("log-"));
                let to = ports.iter().position(|port| file.ends_with(&format!(":{port}]")));
                if of_log && name.starts_with("pwrite") {
                    doing.insert(*thread, (false, changes_in(bytes)));
                } else if of_log && name.ends_with("sync") {
                    doing.insert(*thread, (true, std::mem::take(&mut written)));
                } else if let Some(connection) = to {
                    let acknowledged = numbers(streams.entry(connection).or_default(), bytes);
                    seen.sends += u64::from(!acknowledged.is_empty());
                    seen.acknowledged += acknowledged.len() as u64;
                    let changes = acknowledged.into_iter().map(|number| (connection, number));
                    seen.early.extend(changes.filter(|change| !durable.contains(change)));
                }
            }
            Step::Ends { thread, result } => match doing.remove(thread) {
                Some((true, changes)) => {
                    assert_eq!(*result, 0, "a sync that fails");
                    seen.syncs += 1;
                    durable.extend(changes);
                }
                Some((false, changes)) => written.extend(changes),
                None => {}
            },
        }
    }
    seen
}

/// The numbers of the requests that are answered by what is sent next on a connection.
fn numbers((greeted, stream): &mut (bool, BytesMut), bytes: &[u8]) -> Vec<u64> {
    let mut numbers = Vec::new();
    stream.extend_from_slice(bytes);
    while let Ok(Some(mut frame)) = take_frame(stream, 1, 1 << 20) {
        // The first frame is the welcome.
        if std::mem::replace(greeted, true) {
            numbers.push(frame.get_i32() as u64);
        }
    }
    numbers
}

#[test]
fn an_acknowledgement_before_its_sync_is_seen() {
    let begins = |thread, name: &str, file: &str, bytes: &[u8]| Step::Begins {
        thread,
        name: name.to_owned(),
        file: file.to_owned(),
        bytes: bytes.to_vec(),
    };
    let ends = |thread, result| Step::Ends { thread, result };
    let to = "TCP:[127.0.0.1:1→127.0.0.1:99]";
    let welcome = [begins(2, "sendto", to, &[0, 0, 0, 1, 7]), ends(2, 5)];
    let reply = [begins(2, "sendto", to, &[0, 0, 0, 4, 0, 0, 0, 1]), ends(2, 8)];
    let write = [begins(1, "pwrite64", "/d/log-01", b"<w0v1>"), ends(1, 6)];
    let sync = [begins(1, "fdatasync", "/d/log-01", b""), ends(1, 0)];
    let judged = |parts: [&[Step]; 4]| judge(&parts.concat(), &[99]).early;
    assert!(judged([&welcome, &write, &sync, &reply]).is_empty());
    assert_eq!(judged([&welcome, &write, &reply, &sync]), [(0, 1)]);
    assert_eq!(judged([&welcome, &sync, &write, &reply]), [(0, 1)]);
}
