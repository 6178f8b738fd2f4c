//! The configuration under virtual time, with faults.

mod crashes;
mod disk;
mod following;
mod layers;
mod publishing;
mod rollouts;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use synod::config::{ConfigStore, Open};
use synod::testing::Coordinator;
use synod::{Client, Config, If};

const PATH: &str = "/config/limits";

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
struct Limits {
    rps: u32,
    burst: u32,
}

fn limits(rps: u32) -> Limits {
    Limits { rps, burst: 2 * rps }
}

fn open(client: &Client) -> Open<Limits> {
    Config::open(client, PATH).validate(|limits: &Limits| limits.burst >= limits.rps)
}

fn store(client: &Client) -> ConfigStore<Limits> {
    open(client).store().expect("valid")
}

/// A store of whatever: it publishes what the others cannot take.
fn careless(client: &Client) -> ConfigStore<Value> {
    Config::open(client, PATH).store().expect("valid")
}

/// A publisher, and a reader that follows its first version, with `rps` 1.
async fn followed(zk: &Coordinator) -> (ConfigStore<Limits>, Client, Config<Limits>) {
    let (writer, reader) = (store(&zk.client().await), zk.client().await);
    writer.publish(&limits(1), If::Absent).await.expect("the first");
    let config = open(&reader).await.expect("valid");
    (writer, reader, config)
}

/// The path of a version's znode.
fn version_path(version: u64) -> String {
    format!("{PATH}/versions/{version:010}")
}
