//! `reconfig`: clients change who the members are.

use std::time::Duration;

use crate::common::cluster::{Cluster, durable};
use crate::common::{PATIENCE, Raw, get, new_session, start};
use synod_core::model::{CONFIG_PATH, Code, Reconfig, Refusal, Request, Response};
use synod_core::wire::ConnectRequest;
use synod_server::admin::Admin;
use synod_server::{Config, Founding};
use tokio::net::TcpListener;

fn joining(servers: impl Into<String>) -> Reconfig {
    Reconfig { joining: Some(servers.into()), from_version: -1, ..Reconfig::default() }
}

fn leaving(ids: &str) -> Reconfig {
    Reconfig { leaving: Some(ids.to_owned()), from_version: -1, ..Reconfig::default() }
}

/// The lines of the configuration that it comes to, and its version.
async fn change(raw: &mut Raw, change: Reconfig) -> Result<(Vec<String>, i64), Refusal> {
    match raw.call(&Request::Reconfig(change)).await? {
        Response::Data { data, stat } => {
            let text = String::from_utf8(data.expect("has data").to_vec()).expect("is text");
            let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
            let version = stat.mzxid.as_i64();
            assert_eq!(lines.pop(), Some(format!("version={version:x}")));
            Ok((lines, version))
        }
        other => panic!("{other:?}"),
    }
}

async fn refused(raw: &mut Raw, reconfig: Reconfig) -> Code {
    change(raw, reconfig).await.expect_err("is refused").code
}

/// A session that may do everything.
async fn superuser(cluster: &Cluster, place: usize) -> Raw {
    // It waits for longer than it pings.
    let hello = ConnectRequest { timeout_ms: i32::MAX, ..new_session() };
    let mut raw = Raw::open_at_last(cluster.member(place), &hello).await;
    let credentials = bytes::Bytes::from_static(b"super:test");
    let auth = Request::Auth { scheme: "digest".to_owned(), credentials };
    raw.call(&auth).await.expect("is who it says");
    raw
}

/// A member in ZooKeeper's words.
fn server(cluster: &Cluster, place: usize, role: &str) -> String {
    let (host, port) = cluster.peer(place).rsplit_once(':').expect("has a port");
    format!("server.{}={host}:{port}:{port}:{role};127.0.0.1:{}", place + 1, place + 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_join_get_other_roles_and_leave() {
    let mut cluster = Cluster::new();
    // The first is to lead all the time.
    cluster.timing.election_min = Duration::from_secs(2);
    cluster.timing.election_max = Duration::from_secs(4);
    cluster.start_as(0, Founding::Alone).await;
    for place in 1..3 {
        cluster.start_as(place, Founding::Join).await;
    }
    let mut raw = superuser(&cluster, 0).await;
    let (second, third) = (server(&cluster, 1, "participant"), server(&cluster, 2, "observer"));
    let both = joining(format!("{second},{third}"));
    let (lines, first) = change(&mut raw, both).await.expect("they run");
    assert_eq!(lines[1..], [second.clone(), third.clone()]);

    // One that the client is connected to, and that does not lead, passes it on.
    let mut other = superuser(&cluster, 1).await;
    let promoted = server(&cluster, 2, "participant");
    let promoting = Reconfig { from_version: first, ..joining(promoted.clone()) };
    let (lines, then) = change(&mut other, promoting.clone()).await.expect("has caught up");
    assert_eq!(lines[1..], [second.clone(), promoted]);
    assert!(then > first);
    assert_eq!(refused(&mut other, promoting).await, Code::BadVersion);

    // All in one, in the form in which it is told.
    let members = [lines[0].clone(), third, format!("version={then:x}")].join("\n");
    let whole = Reconfig { members: Some(members), from_version: then, ..Reconfig::default() };
    let (lines, _) = change(&mut raw, whole).await.expect("the one that is left will do");
    assert_eq!(lines.len(), 2);
    assert!(lines[1].contains(":observer;"), "{lines:?}");
    assert_eq!(refused(&mut raw, leaving("1")).await, Code::BadArguments, "it leads");
    let (lines, _) = change(&mut raw, leaving("3")).await.expect("may go");
    assert_eq!(lines.len(), 1);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_change_the_same_version_at_once_one_does() {
    let mut cluster = Cluster::new();
    cluster.start_as(0, Founding::Alone).await;
    cluster.start_as(1, Founding::Join).await;
    let mut ann = superuser(&cluster, 0).await;
    let observer = joining(server(&cluster, 1, "observer"));
    let (_, version) = change(&mut ann, observer).await.expect("it runs");
    // Each member passes on what its own clients ask for, one after the other.
    let mut bob = superuser(&cluster, 1).await;
    let hello = ConnectRequest { timeout_ms: i32::MAX, ..new_session() };
    let mut stranger = Raw::open_at_last(cluster.member(1), &hello).await;
    let joining = |server| Reconfig { from_version: version, ..joining(server) };
    // One that takes its time to be met: it says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let peer = silent.local_addr().expect("it has an address");
    let slow = joining(format!("server.10={peer}:9:observer;127.0.0.10:9"));
    let quick = joining(server(&cluster, 1, "observer").replace(";127.0.0.1", ";127.0.0.2"));
    let (done, refusal) = tokio::join!(change(&mut ann, slow), async {
        let _met = silent.accept().await.expect("is met");
        // Who may not takes nobody's turn, and waits for none.
        assert_eq!(refused(&mut stranger, quick.clone()).await, Code::NoAuth);
        refused(&mut bob, quick.clone()).await
    });
    assert_eq!(refusal, Code::ReconfigInProgress);
    let (lines, version) = done.expect("may come later");
    assert_eq!(lines.len(), 3);
    assert_eq!(refused(&mut bob, quick.clone()).await, Code::BadVersion);
    let quick = Reconfig { from_version: version, ..quick };
    change(&mut bob, quick).await.expect("the other one is through");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_refused_on_its_way_leaves_everything_as_it_was() {
    let mut cluster = Cluster::new();
    cluster.start_as(0, Founding::Alone).await;
    for place in 1..3 {
        cluster.start_as(place, Founding::Join).await;
    }
    let mut raw = superuser(&cluster, 0).await;
    let second = server(&cluster, 1, "observer");
    let (before, _) = change(&mut raw, joining(second)).await.expect("it runs");
    // The leader is to know that it is gone.
    cluster.lose(1);
    let silence = async {
        loop {
            let mut admin = Admin::new(cluster.peer(0)).expect("an address");
            let status = admin.status().await.expect("runs");
            let second = status.members.iter().find(|member| member.id == 2).expect("is listed");
            if second.heard_ms.is_none_or(|ms| ms > 1_000) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, silence).await.expect("is noticed in time");
    let (second, third) = (server(&cluster, 1, "participant"), server(&cluster, 2, "participant"));
    let silent = joining(format!("{second},{third}"));
    assert_eq!(refused(&mut raw, silent).await, Code::NewConfigNoQuorum);
    let (lines, _) = change(&mut raw, Reconfig::default()).await.expect("changes nothing");
    assert_eq!(lines, before, "the third was taken out again");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_run_may_observe_and_not_vote() {
    let mut cluster = Cluster::new();
    // The first is to lead all the time.
    cluster.timing.election_min = Duration::from_secs(2);
    cluster.timing.election_max = Duration::from_secs(4);
    cluster.start_as(0, Founding::Alone).await;
    let mut raw = superuser(&cluster, 0).await;
    // Nobody listens there.
    let absent = format!("server.100={}:7:observer;0.0.0.0:9", cluster.peer(1));
    let (lines, version) = change(&mut raw, joining(absent.clone())).await.expect("may come later");
    assert_eq!(lines[1], absent);
    let voting = joining(server(&cluster, 2, "participant"));
    assert_eq!(refused(&mut raw, voting).await, Code::NewConfigNoQuorum);
    let voting = joining(absent.replace("observer", "participant"));
    assert_eq!(refused(&mut raw, voting).await, Code::NewConfigNoQuorum);
    let far = joining("server.256=127.0.0.1:1:2:observer;3");
    assert_eq!(refused(&mut raw, far).await, Code::BadArguments, "numbers end at 255");
    let later = Reconfig { from_version: version + 1, ..leaving("100") };
    assert_eq!(refused(&mut raw, later).await, Code::BadVersion);
    let (lines, _) = change(&mut raw, leaving("100")).await.expect("may go");
    assert_eq!(lines.len(), 1);
    // One that runs later votes once it is named again.
    let later = server(&cluster, 1, "observer");
    change(&mut raw, joining(later)).await.expect("may come later");
    cluster.start_as(1, Founding::Join).await;
    let voting = server(&cluster, 1, "participant");
    let (lines, _) = change(&mut raw, joining(voting.clone())).await.expect("it runs by now");
    assert_eq!(lines[1..], [voting]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_write_the_configuration_changes_nothing() {
    let mut cluster = Cluster::new();
    cluster.start_as(0, Founding::Alone).await;
    let mut raw = Raw::when_led(cluster.member(0)).await;
    let before = raw.call(&get(CONFIG_PATH, false)).await.expect("is there");
    let absent = joining("server.999=127.0.0.1:1:2:observer;3");
    assert_eq!(refused(&mut raw, absent.clone()).await, Code::NoAuth);
    // What is wrong with it is said first, as in ZooKeeper.
    assert_eq!(refused(&mut raw, joining("some thing")).await, Code::BadArguments);
    let later = Reconfig { from_version: i64::MAX, ..absent };
    assert_eq!(refused(&mut raw, later).await, Code::BadVersion);
    let long = joining("x".repeat(100_000));
    assert_eq!(refused(&mut raw, long).await, Code::BadArguments);
    assert_eq!(raw.call(&get(CONFIG_PATH, false)).await.expect("is there"), before);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_off_unless_it_is_enabled_and_not_for_one_that_nobody_can_reach() {
    for (reconfig_enabled, code) in [(false, Code::ReconfigDisabled), (true, Code::Unimplemented)] {
        let folder = tempfile::tempdir().expect("can be made");
        let alone = Config { reconfig_enabled, ..durable(&folder) };
        let volatile = Config { reconfig_enabled, ..crate::common::config() };
        for config in [alone, volatile] {
            let server = start(config).await;
            let mut raw = Raw::when_led(&server).await;
            assert_eq!(refused(&mut raw, leaving("1")).await, code);
            server.stop().await;
        }
    }
}
