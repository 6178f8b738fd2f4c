//! A service follows its limits: good changes are taken, bad ones are reported.
//!
//! `cargo run --example config_watch [-- --server 127.0.0.1:2181]`

use futures::StreamExt;
use serde::Deserialize;
use synod::{Client, ConfigWatch, Error};
use synod_examples::{server, until_ctrl_c};

#[derive(Debug, Deserialize)]
struct Limits {
    rps: u32,
    burst: u32,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::connect(&server("embedded:")).await?;
    until_ctrl_c(&client, follow(&client)).await
}

async fn follow(client: &Client) -> Result<(), Error> {
    // Ephemeral, so that the example leaves nothing behind.
    client.create("/limits", br#"{"rps": 100, "burst": 200}"#).ephemeral().await?;
    let config = ConfigWatch::<Limits>::open(client, "/limits").await?;
    let (mut changes, now) = (config.changes(), config.current());
    let Limits { rps, burst } = now.value;
    println!("version {}: {rps} requests a second, bursts of {burst}", now.version);

    let edits =
        [r#"{"rps": 200, "burst": 400}"#, r#"{"rps": "many"}"#, r#"{"rps": 5, "burst": 9}"#];
    for edit in edits {
        client.set("/limits", edit).await?;
        match changes.next().await {
            Some(Ok(new)) => println!("version {}: now {:?}", new.version, new.value),
            Some(Err(error)) => {
                let kept = config.current();
                println!("refused: {error}");
                println!("    version {} stays: {:?}", kept.version, kept.value);
            }
            None => break,
        }
    }
    Ok(())
}
