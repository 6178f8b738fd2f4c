//! Durable servers in one process, over loopback: how a cluster grows, hands its leadership on, and
//! stops a member that went wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::{PATIENCE, Raw, config, start};
use synod_core::engine::Plant;
use synod_core::model::{Acl, Code, Create, CreateMode, Op, Request, Response, Write};
use synod_server::admin::Admin;
use synod_server::{Bug, Config, Founding, MemberConfig, Server};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

/// An address that nobody listens on now.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it has an address").to_string()
}

fn member(data: &TempDir, id: u64, peer: &str) -> MemberConfig {
    let peer_listen = Some(peer.to_owned());
    MemberConfig { id, peer_listen, ..MemberConfig::new(data.path()) }
}

async fn run(member: MemberConfig) -> Server {
    start(Config { member: Some(member), ..config() }).await
}

fn create(path: &str, mode: CreateMode) -> Request {
    Request::Write(Write::Op(Op::Create(Create {
        path: path.into(),
        data: Some(path.as_bytes().to_vec().into()),
        acl: Acl::open(),
        mode,
    })))
}

/// A session on a server that may have no leader yet.
async fn session(server: &Server) -> Raw {
    Raw::when_led(server).await
}

/// Asks again until it is so.
async fn soon<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_one_grows_to_three_while_it_serves() {
    let (folders, peers): (Vec<_>, Vec<_>) =
        (0..3).map(|_| (TempDir::new().expect("a folder"), free_address())).unzip();
    let first = run(member(&folders[0], 1, &peers[0])).await;
    // Its connection must outlive every change.
    let mut client = session(&first).await;
    client.call(&create("/before", CreateMode::Persistent)).await.expect("is new");

    let mut admin = Admin::new(&peers[0]).expect("an address");
    let mut others = Vec::new();
    for id in 2..=3 {
        let index = id as usize - 1;
        let founding = Founding::Join;
        others.push(
            run(MemberConfig { founding, ..member(&folders[index], id, &peers[index]) }).await,
        );
        admin.add(id, &peers[index], "", |_| {}).await.expect("is taken in");
        client.call(&create(&format!("/with-{id}"), CreateMode::Persistent)).await.expect("new");
        admin.promote(id).await.expect("gets its vote");
    }
    let status = admin.status().await.expect("is told");
    let voters = status.members.iter().filter(|member| member.voter).count();
    assert_eq!((voters, status.leader), (3, Some(1)), "{status:?}");

    // The leadership goes on, and the one it came from may go.
    admin.transfer(2).await.expect("there is a heir");
    // A connection whose write meets the change itself is cut; a new one is served.
    drop(client);
    soon("the new leader is served through the old one", async || {
        let mut client = session(&first).await;
        client.send(&create("/after", CreateMode::Persistent)).await;
        let done = [0, Code::NodeExists.number()];
        client.header().await.is_some_and(|(_, _, error)| done.contains(&error))
    })
    .await;
    first.stop().await;
    let mut client = session(&others[1]).await;
    for path in ["/before", "/with-2", "/with-3", "/after"] {
        let there = client.call(&crate::common::exists(path, false)).await;
        there.unwrap_or_else(|refusal| panic!("{path}: {refusal:?}"));
    }
    client.call(&create("/of-two", CreateMode::Persistent)).await.expect("two of three are enough");
    for other in others {
        other.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_state_differs_stops_and_says_where() {
    let peers: BTreeMap<u64, String> = (1..=3).map(|id| (id, free_address())).collect();
    let mut servers = Vec::new();
    let mut folders = Vec::new();
    for (id, peer) in &peers {
        let folder = TempDir::new().expect("a folder");
        let mut member = member(&folder, *id, peer);
        member.founding = Founding::Together(peers.clone());
        member.keeping.digest_entries = 10;
        // The last one numbers children wrongly.
        let bug = (*id == 3).then_some(Bug::Engine(Plant::ReusedSequence));
        servers.push(start(Config { member: Some(member), bug, ..config() }).await);
        folders.push(folder);
    }
    // It must not lead: then the others would differ from it.
    let mut admin = Admin::new(&peers[&1]).expect("an address");
    soon("somebody leads", async || {
        matches!(Admin::new(&peers[&1]).expect("an address").status().await, Ok(status) if status.leader.is_some())
    })
    .await;
    if admin.status().await.expect("is told").leader == Some(3) {
        admin.transfer(1).await.expect("there is a heir");
    }
    let mut client = session(&servers[0]).await;
    let sequential = create("/seq-", CreateMode::PersistentSequential);
    for round in 0..20 {
        let Ok(Response::Created { path, .. }) = client.call(&sequential).await else {
            panic!("round {round}: not created");
        };
        // With one gone, the count of the children that are there and of those that ever were differ.
        if round == 3 {
            let delete = Op::Delete { path, version: -1 };
            client.call(&Request::Write(Write::Op(delete))).await.expect("it is there");
        }
    }
    let writing = async {
        loop {
            client.call(&sequential).await.expect("the others go on");
        }
    };
    let reason = tokio::select! {
        reason = timeout(PATIENCE, servers[2].failed()) => reason.expect("it is found soon"),
        () = writing => unreachable!("it has no end"),
    };
    assert!(reason.contains("differs from the leader's at entry"), "{reason}");
    // The others go on. (The writing was left in the middle of a call.)
    let mut client = session(&servers[0]).await;
    client.call(&create("/on", CreateMode::Persistent)).await.expect("two of three are enough");
    for server in &servers[..2] {
        assert!(timeout(Duration::from_millis(100), server.failed()).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_stays_with_its_member() {
    let folder = TempDir::new().expect("a folder");
    let first = run(MemberConfig::new(folder.path())).await;
    let second =
        Server::start(Config { member: Some(MemberConfig::new(folder.path())), ..config() });
    let error = second.await.err().expect("one process uses it").to_string();
    assert!(error.contains(&folder.path().display().to_string()), "{error}");
    first.stop().await;
    let other = MemberConfig { id: 2, ..MemberConfig::new(folder.path()) };
    let error = Server::start(Config { member: Some(other), ..config() }).await.err();
    let error = error.expect("it is member 1's").to_string();
    assert_eq!(error, "the data folder is member 1's, and this is to be member 2");
}
