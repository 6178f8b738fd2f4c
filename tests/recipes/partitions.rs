//! Cases of the partitioner for every ground, and one with a connection that is cut.

use std::collections::{BTreeMap, BTreeSet};

use synod::partition::{Partition, PartitionEvent, Partitions};
use synod::{Client, Fence, HashRing, Partitioner};
use tokio::time::Instant;

use super::cases::{cancel_at, until_children};
use super::ground::{Ground, soon};

const ITEMS: u32 = 8;

fn join(client: &Client, name: &str) -> Partitions {
    let partitioner = Partitioner::numbered(client, "/jobs", ITEMS).expect("valid");
    partitioner.join(name).expect("a valid name")
}

/// What the ring of these members gives to `name`.
fn share(members: &[&str], name: &str) -> BTreeSet<String> {
    let ring = HashRing::of(members.iter().map(|name| (name, 1))).expect("weight 1");
    let items = (0..ITEMS).map(|item| item.to_string());
    items.filter(|item| ring.owner(item) == Some(name)).collect()
}

/// A member that does what it is told, and the tokens that each item has had.
struct Obedient<'a> {
    partitions: Partitions,
    held: BTreeMap<String, Partition>,
    fences: &'a BTreeMap<String, Fence>,
}

impl Obedient<'_> {
    async fn obey(&mut self) {
        match self.partitions.next().await.expect("it goes on") {
            PartitionEvent::Assigned(partition) => {
                let item = partition.item().to_owned();
                self.fences[&item].admit(partition.token()).expect("the newest");
                assert!(self.held.insert(item, partition).is_none(), "it was dropped");
            }
            PartitionEvent::Revoked { item } | PartitionEvent::Lost { item, .. } => {
                assert!(self.held.remove(&*item).is_some(), "{item} was held");
            }
            event => panic!("{event:?}"),
        }
    }

    async fn until(&mut self, items: &BTreeSet<String>) {
        soon(async {
            while !self.held.keys().eq(items) {
                self.obey().await;
            }
        })
        .await;
    }
}

fn fences() -> BTreeMap<String, Fence> {
    (0..ITEMS).map(|item| (item.to_string(), Fence::new())).collect()
}

fn obedient<'a>(client: &Client, name: &str, fences: &'a BTreeMap<String, Fence>) -> Obedient<'a> {
    Obedient { partitions: join(client, name), held: BTreeMap::new(), fences }
}

pub async fn items_move_to_who_comes_and_back_under_growing_tokens(ground: &Ground) {
    let (a, b, fences) = (ground.client().await, ground.client().await, fences());
    let mut ann = obedient(&a, "ann", &fences);
    ann.until(&share(&["ann"], "ann")).await;
    let both = ["ann", "bob"];
    for _ in 0..3 {
        let mut bob = obedient(&b, "bob", &fences);
        let (of_ann, of_bob) = (share(&both, "ann"), share(&both, "bob"));
        tokio::join!(ann.until(&of_ann), bob.until(&of_bob));
        // What is dropped with it is given up.
        drop(bob);
        ann.until(&share(&["ann"], "ann")).await;
    }
}

pub async fn a_partitioner_that_is_cancelled_leaves_nothing(ground: &Ground) {
    let (client, observer) = (ground.client().await, ground.client().await);
    for n in 1.. {
        let mut partitions = join(&client, "ann");
        let asking = async {
            for _ in 0..ITEMS {
                drop(partitions.next().await);
            }
        };
        let finished = soon(cancel_at(n, asking)).await.is_some();
        drop(partitions);
        until_children(&observer, "/jobs/members", 0).await;
        for item in 0..ITEMS {
            until_children(&observer, &format!("/jobs/items/{item}"), 0).await;
        }
        if finished {
            break;
        }
    }
}

pub async fn a_member_that_is_cut_off_loses_its_items_before_others_have_them_in_time(
    ground: &Ground,
) {
    let (a, b) = (ground.client().await, ground.unharmed_client().await);
    let fences = fences();
    let (mut ann, mut bob) = (obedient(&a, "ann", &fences), obedient(&b, "bob", &fences));
    let both = ["ann", "bob"];
    let (of_ann, of_bob) = (share(&both, "ann"), share(&both, "bob"));
    tokio::join!(ann.until(&of_ann), bob.until(&of_bob));
    ground.faults().proxy.close();
    let losing = async {
        ann.until(&BTreeSet::new()).await;
        Instant::now()
    };
    let all = share(&["bob"], "bob");
    let taking = async {
        while !bob.held.contains_key(of_ann.first().expect("some")) {
            bob.obey().await;
        }
        let first = Instant::now();
        bob.until(&all).await;
        first
    };
    let (lost, taken) = soon(async { tokio::join!(losing, taking) }).await;
    assert!(lost <= taken, "lost {:?} after it was taken", lost - taken);
    // It comes back, and takes part again.
    ground.faults().proxy.open();
    soon(async { tokio::join!(ann.until(&of_ann), bob.until(&of_bob)) }).await;
}
