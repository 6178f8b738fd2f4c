//! A durable member inside a program: what was written is there when it starts again. Then three
//! members, of which one is lost, and nobody misses it.
//!
//! `cargo run --example durable_member`

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use synod::{Client, model};
use synod_server::{Config, Founding, MemberConfig, Server, StartError};

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Client(#[from] model::Error),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    one_that_comes_back(&folder.path().join("alone")).await?;
    three_of_which_one_is_lost(folder.path()).await
}

/// A member on a port of the system's choice.
async fn start(member: MemberConfig) -> Result<Server, StartError> {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    Server::start(Config { listen, member: Some(member), ..Config::default() }).await
}

async fn one_that_comes_back(folder: &Path) -> Result<(), Error> {
    let server = start(MemberConfig::new(folder)).await?;
    let client = Client::connect(&server.local_addr().to_string()).await?;
    client.create("/greeting", b"hello").await?;
    client.close().await?;
    server.stop().await;

    let server = start(MemberConfig::new(folder)).await?;
    let client = Client::connect(&server.local_addr().to_string()).await?;
    let (data, stat) = client.get("/greeting").await?;
    println!("after a restart: {:?}, written at {}", String::from_utf8_lossy(&data), stat.mzxid);
    client.close().await?;
    server.stop().await;
    Ok(())
}

async fn three_of_which_one_is_lost(folder: &Path) -> Result<(), Error> {
    // Where the members reach each other: all of them are told the same.
    let peers = (1..=3).map(|id| Ok((id, free_address()?.to_string())));
    let peers: BTreeMap<u64, String> = peers.collect::<Result<_, std::io::Error>>()?;
    let mut members = Vec::new();
    for (id, peer) in &peers {
        let mut member = MemberConfig::new(folder.join(id.to_string()));
        member.id = *id;
        member.peer_listen = Some(peer.clone());
        member.founding = Founding::Together(peers.clone());
        members.push(start(member).await?);
    }

    let addresses: Vec<_> = members.iter().map(|one| one.local_addr().to_string()).collect();
    let client = Client::connect(&addresses.join(",")).await?;
    client.create("/greeting", b"hello").await?;
    // Not stopped, which would be polite: gone.
    drop(members.remove(0));
    println!("one of three members is gone");
    // Should it have led, another one does in half a second, and this may be told "perhaps".
    while let Err(error) = client.set("/greeting", b"still here").await {
        println!("    {error}");
    }
    let (data, stat) = client.get("/greeting").await?;
    println!("two go on: {:?}, written at {}", String::from_utf8_lossy(&data), stat.mzxid);
    client.close().await?;
    for member in members {
        member.stop().await;
    }
    Ok(())
}

/// A program that is configured knows where its members are; this one asks the system.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
