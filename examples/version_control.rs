//! ZooKeeper's version control, step by step: an ephemeral znode, a watch, a get; zxid and
//! versions that grow; and a client that names the zxid of its own write.
//!
//! `cargo run --example version_control [-- --server 127.0.0.1:2181]`

use synod::{Client, Error, ZxidGate};
use synod_examples::{server, until_ctrl_c};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let zk = Client::connect(&server("embedded:")).await?;
    until_ctrl_c(&zk, step_by_step(&zk)).await
}

async fn step_by_step(zk: &Client) -> Result<(), Error> {
    // An ephemeral znode lives as long as the session that makes it.
    let (path, stat) = zk.create("/test", b"data").ephemeral().with_stat().await?;
    println!("created {path}: czxid {}, version {}", stat.czxid, stat.version);

    // A get that leaves a watch in the same step.
    let ((data, stat), watch) = zk.get("/test").watched().await?;
    println!("it holds {:?} at version {}", String::from_utf8_lossy(&data), stat.version);

    // Each change takes the next zxid, and the version hangs on it.
    for data in ["one", "two"] {
        let stat = zk.set("/test", data).await?;
        println!("set {data:?}: mzxid {}, version {}", stat.mzxid, stat.version);
    }

    // The watch tells of the first change after the get.
    let event = watch.await?;
    println!("the watch says {:?} of {}", event.kind, event.path);

    // A set at an old version is refused, but the attempt took a zxid.
    let error = zk.set("/test", b"late").version(0).await.expect_err("the version is 2 by now");
    println!("{error}");

    // The leader's rule, literally: a zxid is accepted above the highest seen, and remembered.
    let last = zk.last_zxid();
    let mut leader = ZxidGate::new(last);
    let next = last.next(last.epoch().into()).expect("zxids are left");
    println!("the gate says {:?} to {next}, then {:?}", leader.admit(next), leader.admit(next));

    // The same rule at the coordinator: of two writes that name one zxid, one is done. (Only this
    // project's coordinators know it.)
    for data in ["mine", "mine too"] {
        match zk.propose_at(next).set("/test", data).await {
            Ok(_) => println!("set {data:?} at exactly {next}"),
            Err(error) => println!("set {data:?}: {error}"),
        }
    }
    Ok(())
}
