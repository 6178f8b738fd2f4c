//! The main job in a minute: workers take turns on a lock, one leads and is replaced when it
//! dies, and all follow a configuration.
//!
//! `cargo run --example tour [-- --server 127.0.0.1:2181]`

use std::time::Duration;

use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream::FuturesUnordered;
use synod::{Client, Config, Election, Error, Fence, If, Lock, Path};
use synod_examples::{remove_tree, server, until_ctrl_c};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::connect(&server("embedded:tour")).await?;
    until_ctrl_c(&client, async {
        println!("1. A lock: one holder at a time, each with a greater fencing token");
        take_turns(&client).await?;
        println!("2. An election: the leader dies, the next one leads");
        replace_a_leader().await?;
        println!("3. A configuration: everybody follows a change");
        follow_a_change(&client).await
    })
    .await
}

async fn take_turns(client: &Client) -> Result<(), Error> {
    let (lock, resource) = (Lock::new(client, "/locks/report")?, Fence::new());
    let worker = async |name: &str| {
        let guard = lock.acquire().await?;
        resource.admit(guard.token())?;
        println!("   {name} holds the lock with token {}", guard.token());
        sleep(Duration::from_millis(300)).await;
        guard.release().await?;
        Ok::<_, Error>(guard.token())
    };
    let tokens = try_join_all(["ann", "bob", "eve"].map(worker)).await?;
    let error = resource.admit(tokens[0]).expect_err("others have held since");
    println!("   ann comes back late with a write: {error}");
    Ok(())
}

async fn replace_a_leader() -> Result<(), Error> {
    let mut campaigns = FuturesUnordered::new();
    for name in ["ann", "bob"] {
        // A client of its own, as on a machine of its own.
        let client = Client::connect(&server("embedded:tour")).await?;
        let election = Election::new(&client, "/leader")?.with_name(name);
        campaigns.push(async move { (name, client, election.campaign().await) });
    }
    while let Some((name, client, leadership)) = campaigns.next().await {
        let leadership = leadership?;
        println!("   {name} leads in term {}", leadership.term());
        sleep(Duration::from_millis(300)).await;
        client.close().await?;
        println!("   {name} dies: {}", leadership.lost().await);
    }
    Ok(())
}

async fn follow_a_change(client: &Client) -> Result<(), Error> {
    let path = Path::new(format!("/greeting-{}", client.random_id().simple()))?;
    let store = Config::<String>::open(client, &path).store()?;
    store.publish(&"hello".to_owned(), If::Absent).await?;
    let follower = async |name: &str| {
        let config = Config::<String>::open(client, &path).await?;
        let (mut changes, now) = (config.changes(), config.current());
        println!("   {name} starts with {:?}, version {}", now.value, now.version);
        let new = changes.next().await.expect("the client is open")?;
        println!("   {name} follows to {:?}, version {}", new.value, new.version);
        Ok::<_, Error>(())
    };
    let publish = async {
        sleep(Duration::from_millis(300)).await;
        store.publish(&"good morning".to_owned(), If::Version(1)).author("eve").await
    };
    tokio::try_join!(try_join_all(["ann", "bob"].map(follower)), publish)?;
    remove_tree(client, &path).await
}
