//! The quiet end of a run: nothing goes wrong any more, and what is left must be as if nothing
//! ever had.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use synod_core::model::{Request, Response, Write};
use synod_server::admin::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::cluster::{Cluster, client_address, peer_address};
use super::history::{Recorder, Trouble};
use super::net::{Node, SimNet};
use super::operator::{admin, look, network};
use super::run::{PATIENCE, attach};
use super::workload::{children, get, register, set, sync, write};

/// Within that of everything's healing every member serves again.
const SERVING: Duration = Duration::from_secs(10);

/// How long the members must stay the same to count as settled: an order of before may still be
/// carried out.
const SETTLED: Duration = Duration::from_secs(1);

/// Within that of a leader's stop another leads: an election takes longer.
const HANDED_ON: Duration = Duration::from_millis(250);

/// How often something is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// How long a whole tree may take to be read.
const READING: Duration = Duration::from_secs(60);

/// What every member has when all sessions are over.
const NOTHING_LEFT: [(&str, u64); 5] = [
    ("zk_global_sessions", 0),
    ("zk_ephemerals_count", 0),
    ("zk_watch_count", 0),
    ("zk_outstanding_requests", 0),
    // The one that asks.
    ("zk_num_alive_connections", 1),
];

const PROBE: u8 = 200;
const READER: u8 = 220;
const WORDS: Node = Node::Client(197);

/// Waits until the members are certain, and ends those that are none; who they are.
pub(crate) async fn settle(net: &SimNet, recorder: &Recorder, cluster: &mut Cluster) -> Vec<u8> {
    if !cluster.is_durable() {
        return cluster.ids();
    }
    let settled = timeout(SERVING, settled(net, &cluster.ids())).await;
    let Ok(status) = settled else {
        recorder.complain(format!("no leader within {SERVING:?} after healing"));
        return Vec::new();
    };
    let members: Vec<u8> = status.members.iter().map(|member| member.id as u8).collect();
    recorder.note("run", format_args!("the members are {members:?}"));
    for id in cluster.ids() {
        if !members.contains(&id) {
            cluster.retire(id).await;
        }
    }
    for id in &members {
        if !cluster.is_deployed(*id) {
            recorder.complain(format!("m{id} was seen to be out, and is a member"));
        }
    }
    members.into_iter().filter(|id| cluster.is_deployed(*id)).collect()
}

async fn settled(net: &SimNet, ids: &[u8]) -> Status {
    let net = network(net);
    let mut last: Option<(Status, Instant)> = None;
    loop {
        let mut now = look(&net, ids).await;
        if let Some(status) = now.take_if(|status| status.changing) {
            // A change that was left half done is brought to its end by whatever is ordered next.
            let leader = [status.id as u8];
            let refused = admin(&net, &leader).promote(status.id).await;
            drop(refused);
        }
        let who = |status: &Status| -> Vec<(u64, bool)> {
            status.members.iter().map(|member| (member.id, member.voter)).collect()
        };
        last = match (now, last) {
            (None, _) => None,
            (Some(now), Some((last, since))) if who(&now) == who(&last) => {
                if since.elapsed() >= SETTLED {
                    return now;
                }
                Some((last, since))
            }
            (Some(now), _) => Some((now, Instant::now())),
        };
        sleep(LOOK * 5).await;
    }
}

/// A new client of each member writes and reads within the bound.
pub(crate) async fn all_serve_again(net: &SimNet, recorder: &Recorder, members: &[u8]) {
    let probe = |id: &u8| tokio::spawn(serves_again(net.clone(), recorder.clone(), *id));
    let probes: Vec<_> = members.iter().map(probe).collect();
    for probe in probes {
        probe.await.expect("a probe does not panic");
    }
}

async fn serves_again(net: SimNet, recorder: Recorder, id: u8) {
    let (who, member) = (Node::Client(PROBE + id), (id, client_address(id)));
    let path = register(0);
    let served = async {
        loop {
            let (mut wire, _) = attach(&net, &recorder, who, member).await;
            let written = wire.call(write(set(&path, "probe", -1)), None, PATIENCE).await;
            let synced = wire.call(sync(&path), None, PATIENCE).await;
            let read = wire.call(get(&path, false), None, PATIENCE).await;
            if let (Some(Ok(_)), Some(Ok(_)), Some(Ok(_))) = (written, synced, read) {
                wire.call(Request::Write(Write::CloseSession), None, PATIENCE).await;
                return;
            }
        }
    };
    if timeout(SERVING, served).await.is_err() {
        recorder.complain(format!("m{id} does not serve {SERVING:?} after healing"));
    }
}

/// The leader stops, under load: another leads at once.
pub(crate) async fn leader_hands_on(net: &SimNet, recorder: &Recorder, cluster: &mut Cluster) {
    if !cluster.is_durable() {
        return;
    }
    let (net, ids) = (network(net), cluster.ids());
    let Some(status) = look(&net, &ids).await else {
        return recorder.complain("no leader can be asked, and nothing is wrong".to_owned());
    };
    let old = status.id;
    let others: Vec<_> = status.members.iter().filter(|it| it.voter && it.id != old).collect();
    // Of two voters, one that is left leads nobody.
    let [other, _, ..] = others[..] else { return };
    let other = peer_address(other.id as u8);
    let from_ms = recorder.now_ms();
    cluster.stop(old as u8, true);
    cluster.has_stopped(old as u8).await;
    let mut asking = admin(&net, &ids);
    let another_leads = async {
        loop {
            let status = asking.status_of(&other).await;
            if status.is_ok_and(|status| status.leader.is_some_and(|leader| leader != old)) {
                return;
            }
            sleep(LOOK).await;
        }
    };
    if timeout(HANDED_ON, another_leads).await.is_err() {
        let text = format!("m{old} led and has stopped, and {HANDED_ON:?} later no other leads");
        recorder.complain(text);
    }
    cluster.start(old as u8).await;
    let to_ms = recorder.now_ms();
    recorder.lock().troubles.push(Trouble { from_ms, to_ms });
}

/// All sessions are over: a member has nothing of them left.
pub(crate) async fn nothing_is_left(net: &SimNet, recorder: &Recorder, id: u8) {
    let asked = async {
        let mut stream = net.dial(WORDS, client_address(id)).await.ok()?;
        stream.write_all(b"mntr").await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        Some(text)
    };
    let Some(text) = timeout(PATIENCE, asked).await.ok().flatten() else {
        return recorder.complain(format!("m{id} does not tell its figures at the end"));
    };
    for (name, expected) in NOTHING_LEFT {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
        if line.and_then(|figure| figure.parse().ok()) != Some(expected) {
            recorder.complain(format!(
                "m{id} tells {name} {line:?} when every session must be over, not {expected}"
            ));
        }
    }
}

/// Reads the whole tree from a member: the replay compares it.
pub(crate) async fn read_everything(
    net: &SimNet,
    recorder: &Recorder,
    member @ (id, _): (u8, SocketAddr),
) {
    let who = Node::Client(READER + id);
    let everything = async {
        let (mut wire, _) = attach(net, recorder, who, member).await;
        wire.call(sync("/"), None, PATIENCE).await?.ok()?;
        let mut paths = VecDeque::from(["/".to_owned()]);
        while let Some(path) = paths.pop_front() {
            wire.call(get(&path, false), None, PATIENCE).await?.ok()?;
            let below = wire.call(children(&path, false), None, PATIENCE).await?.ok()?;
            let Response::Children { mut names, .. } = below else { return None };
            names.sort();
            let parent = path.trim_end_matches('/');
            paths.extend(names.iter().map(|name| format!("{parent}/{name}")));
        }
        wire.call(Request::Write(Write::CloseSession), None, PATIENCE).await?.ok()
    };
    if timeout(READING, everything).await.ok().flatten().is_none() {
        recorder.complain(format!("m{id} cannot be read at the end"));
    }
}
