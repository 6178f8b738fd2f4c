//! `/zookeeper/config`: who the members are, as ZooKeeper's clients read it.

use crate::common::cluster::{Cluster, durable};
use crate::common::{Raw, get, new_session, start};
use synod_core::model::{CONFIG_PATH, Event, EventKind, Request, Response, Zxid};
use synod_server::Founding;
use synod_server::admin::Admin;

/// A session on a member that may have no leader yet.
async fn session(cluster: &Cluster, place: usize) -> Raw {
    Raw::when_led(cluster.member(place)).await
}

/// The lines, and the version behind them, as this member has them once it is up to date. A watch
/// is left.
async fn config(raw: &mut Raw) -> (Vec<String>, u64) {
    raw.call(&Request::Sync { path: "/".into() }).await.expect("there is a leader");
    let Ok(Response::Data { data, stat }) = raw.call(&get(CONFIG_PATH, true)).await else {
        panic!("is always there")
    };
    let text = String::from_utf8(data.expect("has data").to_vec()).expect("is text");
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let version = lines.pop().expect("there is a line");
    let version = version.strip_prefix("version=").expect("is the last");
    let version = u64::from_str_radix(version, 16).expect("is a number");
    assert_eq!(version as i64, stat.mzxid.as_i64(), "the zxid at which it came to be so");
    (lines, version)
}

fn line(cluster: &Cluster, place: usize, role: &str, client: &str) -> String {
    let (host, port) = cluster.peer(place).rsplit_once(':').expect("has a port");
    format!("server.{}={host}:{port}:{port}:{role}{client}", place + 1)
}

/// A change was told once, by nothing but its event.
async fn assert_told(raw: &mut Raw) {
    let Event { kind, path, zxid } = raw.event().await;
    assert_eq!((kind, &*path), (EventKind::DataChanged, CONFIG_PATH));
    assert!(zxid.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_of_the_members_is_written_down_and_told_on_all_of_them() {
    let mut cluster = Cluster::new();
    cluster.start_as(0, Founding::Alone).await;
    let mut first = session(&cluster, 0).await;
    let client = format!(";{}", cluster.member(0).local_addr());
    let founder = line(&cluster, 0, "participant", &client);
    let (lines, mut before) = config(&mut first).await;
    assert_eq!(lines, std::slice::from_ref(&founder));

    cluster.start_as(1, Founding::Join).await;
    let mut admin = Admin::new(cluster.peer(0)).expect("an address");
    admin.add(2, cluster.peer(1), "127.0.0.1:9", |_| {}).await.expect("is taken in");
    assert_told(&mut first).await;
    let mut second = session(&cluster, 1).await;
    let role = |role| line(&cluster, 1, role, ";127.0.0.1:9");
    for (order, expected) in [
        (None, vec![founder.clone(), role("observer")]),
        (Some(true), vec![founder.clone(), role("participant")]),
        (Some(false), vec![founder.clone()]),
    ] {
        match order {
            None => {}
            Some(true) => admin.promote(2).await.expect("gets its vote"),
            Some(false) => admin.remove(2).await.expect("may go"),
        }
        if order.is_some() {
            assert_told(&mut first).await;
        }
        let (lines, version) = config(&mut first).await;
        assert_eq!(lines, expected);
        assert!(version > before, "{version:x} after {before:x}");
        before = version;
        // The one that was removed may or may not hear of it.
        if order != Some(false) {
            if order.is_some() {
                assert_told(&mut second).await;
            }
            assert_eq!(config(&mut second).await, (lines, version));
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_found_a_cluster_together_agree_on_it_and_keep_it() {
    let mut cluster = Cluster::start().await;
    let lines: Vec<String> = (0..3).map(|at| line(&cluster, at, "participant", "")).collect();
    let mut versions = Vec::new();
    for place in 0..3 {
        let mut raw = session(&cluster, place).await;
        let (found, version) = config(&mut raw).await;
        assert_eq!(found, lines);
        versions.push(version);
    }
    cluster.lose(0);
    cluster.start_one(0).await;
    cluster.leader().await;
    let mut raw = session(&cluster, 0).await;
    versions.push(config(&mut raw).await.1);
    assert!(versions.iter().all(|version| *version == versions[0]), "{versions:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_nobody_can_reach_writes_nothing_down() {
    let folder = tempfile::tempdir().expect("can be made");
    let server = start(durable(&folder)).await;
    let mut raw = Raw::dial(&server).await;
    raw.hello(&new_session()).await.expect("is answered");
    let Ok(Response::Data { data, stat }) = raw.call(&get(CONFIG_PATH, false)).await else {
        panic!("is always there")
    };
    assert_eq!((data.as_deref(), stat.mzxid), (Some(&b""[..]), Zxid::ZERO));
    server.stop().await;
}
