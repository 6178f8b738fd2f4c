//! Three instances of a service register; a client picks among them, by weight, while one is drained
//! and one dies.
//!
//! `cargo run --example discovery [-- --server 127.0.0.1:2181]`

use std::collections::BTreeMap;

use futures::StreamExt;
use synod::discovery::Provider;
use synod::{Client, Discovery, Error, Instance};
use synod_examples::{server, until_ctrl_c};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::connect(&server("embedded:discovery")).await?;
    until_ctrl_c(&client, ask(&client)).await
}

async fn ask(client: &Client) -> Result<(), Error> {
    let provider = Discovery::new(client, "/services")?.provider("web").open().await?;
    let mut running = Vec::new();
    for (id, weight) in [("web-1", 3), ("web-2", 1), ("web-3", 1)] {
        // Each instance is a client of its own, as it would be on a machine of its own.
        let owner = Client::connect(&server("embedded:discovery")).await?;
        let instance = Instance::new(id, format!("{id}.example:80")).with_weight(weight);
        let registration = Discovery::new(&owner, "/services")?.register("web", &instance)?;
        registration.registered().await?;
        running.push((owner, registration, instance));
    }
    until(&provider, |instances| instances.len() == 3).await;
    show("all three", &provider);

    let (_, registration, instance) = &running[0];
    registration.update(&instance.clone().with_weight(0)).await?;
    until(&provider, |instances| instances.iter().any(|one| one.weight == 0)).await;
    show("web-1 is drained", &provider);

    let (owner, ..) = &running[1];
    owner.close().await?;
    until(&provider, |instances| instances.len() == 2).await;
    show("web-2 is gone", &provider);

    for (owner, registration, _) in running {
        registration.withdraw().await?;
        owner.close().await?;
    }
    until(&provider, <[_]>::is_empty).await;
    println!("nobody is left: {:?}", provider.pick());
    Ok(())
}

/// Waits until the provider knows such instances.
async fn until(provider: &Provider, such: impl Fn(&[std::sync::Arc<Instance>]) -> bool) {
    let mut changes = provider.changes();
    while let Some(instances) = changes.next().await {
        if such(&instances) {
            return;
        }
    }
}

fn show(when: &str, provider: &Provider) {
    let mut picked = BTreeMap::new();
    for instance in (0..100).filter_map(|_| provider.pick()) {
        *picked.entry(instance.id.clone()).or_insert(0) += 1;
    }
    println!("{when}: of 100 picks {picked:?}");
}
