//! A service follows its limits: good versions are taken, bad ones are refused where they are
//! published and where they are read, a new one goes to one instance first, an old one is brought
//! back.
//!
//! `cargo run --example config_service [-- --server 127.0.0.1:2181]`

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use synod::config::{Layer, Open};
use synod::{Client, Config, Error, If, Path};
use synod_examples::{remove_tree, server, until_ctrl_c};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Limits {
    rps: u32,
    burst: u32,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::connect(&server("embedded:")).await?;
    until_ctrl_c(&client, async {
        let path = Path::new(format!("/limits-{}", client.random_id().simple()))?;
        serve(&client, &path).await?;
        remove_tree(&client, &path).await
    })
    .await
}

fn open(client: &Client, path: &Path) -> Open<Limits> {
    Config::open(client, path).validate(|limits: &Limits| match limits.burst >= limits.rps {
        true => Ok(()),
        false => Err("a burst is not below the rate"),
    })
}

async fn serve(client: &Client, path: &Path) -> Result<(), Error> {
    let store = open(client, path).store()?;
    let first = store.publish(&Limits { rps: 100, burst: 200 }, If::Absent);
    first.author("ann").reason("the first").await?;

    let one = open(client, path).instance("node-1").await?;
    let two = open(client, path).instance("node-2").await?;
    let mut changes = one.changes();
    println!("version {}: {:?}", one.current().version, one.current().value);

    let version = store.publish(&Limits { rps: 200, burst: 400 }, If::Version(1)).await?;
    let now = one.wait_for(version).await?;
    println!("version {}: now {:?}", now.version, now.value);
    two.wait_for(version).await?;

    let error = store.publish(&Limits { rps: 9, burst: 1 }, If::Any).await.expect_err("a bad rule");
    println!("refused: {error}");
    let error = store.publish(&Limits { rps: 1, burst: 1 }, If::Version(1)).await;
    println!("refused: {}", error.expect_err("version 2 applies"));

    // Somebody whose program knows nothing of the type.
    let careless = Config::<serde_json::Value>::open(client, path).store()?;
    let version = careless.publish(&json!({"rps": "many", "burst": 9}), If::Any).await?;
    let error = two.wait_for(version).await.expect_err("it is not valid");
    println!("not taken: {error}");
    println!("    version {} stays", two.current().version);

    let back = store.rollback(2).author("bob").await?;
    println!("version {back} is version 2 again: {:?}", two.wait_for(back).await?.value);

    let staged = store.edit(If::Any).patch(Layer::Shared, &json!({"burst": 800}));
    let version = staged.to_instances(["node-1"]).await?;
    one.wait_for(version).await?;
    let running = (one.current().version, two.current().version);
    println!("node-1 runs version {}, node-2 still version {}", running.0, running.1);
    store.promote(version).await?;
    println!("promoted: node-2 runs version {}", two.wait_for(version).await?.version);
    for difference in store.diff(back, version).await? {
        println!("    {difference}");
    }
    while let Some(Ok(change)) = changes.next().await {
        if change.version == version {
            println!("    burst is {}", change.explain("burst").expect("it has that key"));
            break;
        }
    }
    Ok(())
}
