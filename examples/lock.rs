//! Three workers take turns on a lock, and a fence at the resource knows their tokens.
//!
//! `cargo run --example lock [-- --server 127.0.0.1:2181]`

use std::sync::Arc;
use std::time::Duration;

use synod::{Client, Error, Fence, Lock};
use synod_examples::{server, until_ctrl_c};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::connect(&server("embedded:")).await?;
    until_ctrl_c(&client, take_turns(&client)).await
}

async fn take_turns(client: &Client) -> Result<(), Error> {
    let lock = Lock::new(client, "/locks/report")?;
    let resource = Arc::new(Fence::new());
    let workers = (1..=3).map(|worker| {
        let (lock, resource) = (lock.clone(), Arc::clone(&resource));
        tokio::spawn(async move { work(worker, &lock, &resource).await })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("a worker does not panic")?;
    }
    println!("the last token that the resource has seen is {}", resource.highest());
    Ok(())
}

async fn work(worker: u32, lock: &Lock, resource: &Fence) -> Result<(), Error> {
    for turn in 1..=2 {
        let guard = lock.acquire().await?;
        resource.admit(guard.token())?;
        println!("worker {worker}, turn {turn}: holds the lock with token {}", guard.token());
        // If the lock were lost, the work would be dropped here.
        guard.run(tokio::time::sleep(Duration::from_millis(50))).await?;
        guard.release().await?;
    }
    Ok(())
}
