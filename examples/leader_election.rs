//! Three candidates; the leader dies, the next one leads, and an observer sees it all.
//!
//! `cargo run --example leader_election [-- --server 127.0.0.1:2181]`

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use synod::election::Observed;
use synod::{Client, Election, Error};
use synod_examples::{server, until_ctrl_c};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let observer = Client::connect(&server("embedded:election")).await?;
    until_ctrl_c(&observer, elect(&observer)).await
}

async fn elect(observer: &Client) -> Result<(), Error> {
    let mut seen = Election::new(observer, "/scheduler")?.observe();
    let mut campaigns = FuturesUnordered::new();
    for name in ["ann", "bob", "eve"] {
        // Each candidate is a client of its own, as it would be on a machine of its own.
        let client = Client::connect(&server("embedded:election")).await?;
        let election = Election::new(&client, "/scheduler")?.with_name(name);
        campaigns.push(async move { (name, client, election.campaign().await) });
    }
    while let Some((name, client, leadership)) = campaigns.next().await {
        let leadership = leadership?;
        println!("{name} leads in term {}", leadership.term());
        while let Some(observed) = seen.next().await {
            println!("    the observer sees {observed:?}");
            if matches!(&observed, Observed::Following(leader) if leader.name == name) {
                break;
            }
        }
        println!("{name} dies");
        client.close().await?;
        drop(leadership);
    }
    Ok(())
}
