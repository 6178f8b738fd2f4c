//! The partitioner under virtual time: who gets what, and what becomes of it when things fail.

mod loss;
mod moves;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::common::{cancel_at, children, soon, until_children};
use futures::FutureExt;
use futures::future::join_all;
use synod::partition::{ITEMS_MAX, Partition, PartitionEvent, Partitions, WEIGHT_MAX};
use synod::testing::Coordinator;
use synod::{Client, Error, Group, HashRing, LossReason, Partitioner, SessionEnd, Zxid};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const PATH: &str = "/jobs";
const ITEMS: u32 = 24;

/// How long after a session timeout its items are others' at the latest.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(1);

fn partitioner(client: &Client) -> Partitioner {
    Partitioner::numbered(client, PATH, ITEMS).expect("valid")
}

fn join(client: &Client, name: &str) -> Partitions {
    partitioner(client).join(name).expect("a valid name")
}

/// What the ring of these members gives to `name`.
fn share(members: &[&str], name: &str) -> BTreeSet<String> {
    let ring = HashRing::of(members.iter().map(|name| (name, 1))).expect("weight 1");
    let items = (0..ITEMS).map(|item| item.to_string());
    items.filter(|item| ring.owner(item) == Some(name)).collect()
}

async fn next(partitions: &mut Partitions) -> PartitionEvent {
    soon(partitions.next()).await.expect("it goes on")
}

async fn assigned(partitions: &mut Partitions) -> Partition {
    match next(partitions).await {
        PartitionEvent::Assigned(partition) => partition,
        event => panic!("{event:?}"),
    }
}

/// That many assignments, and nothing else.
async fn take(partitions: &mut Partitions, count: usize) -> BTreeMap<String, Partition> {
    let mut taken = BTreeMap::new();
    for _ in 0..count {
        let partition = assigned(partitions).await;
        let before = taken.insert(partition.item().to_owned(), partition);
        assert!(before.is_none(), "{before:?} was not dropped");
    }
    taken
}

/// Nothing is told for that long.
async fn silence(partitions: &mut Partitions, duration: Duration) {
    if let Ok(event) = timeout(duration, partitions.next()).await {
        panic!("{event:?}");
    }
}

/// What happened at a member: the item, and the token that it is held with by now.
type Event = (Instant, String, Option<Zxid>);

/// A member that does what it is told, at once.
struct Obedient {
    held: watch::Receiver<BTreeMap<String, Zxid>>,
    task: JoinHandle<Vec<Event>>,
    leave: watch::Sender<bool>,
}

impl Obedient {
    fn start(mut partitions: Partitions) -> Obedient {
        let (tell, held) = watch::channel(BTreeMap::new());
        let (leave, mut leaving) = watch::channel(false);
        let task = tokio::spawn(async move {
            let (mut events, mut mine) = (Vec::new(), BTreeMap::new());
            loop {
                let event = tokio::select! {
                    Ok(()) = leaving.changed() => {
                        partitions.leave();
                        continue;
                    }
                    event = partitions.next() => event,
                };
                let (item, token) = match event {
                    Some(PartitionEvent::Assigned(partition)) => {
                        let (item, token) = (partition.item().to_owned(), partition.token());
                        assert!(mine.insert(item.clone(), partition).is_none(), "{item} twice");
                        (item, Some(token))
                    }
                    Some(PartitionEvent::Revoked { item }) => (item.to_string(), None),
                    Some(PartitionEvent::Lost { item, .. }) => (item.to_string(), None),
                    Some(event) => panic!("{event:?}"),
                    None => return events,
                };
                if token.is_none() {
                    assert!(mine.remove(&item).is_some(), "{item} is not held");
                }
                let tokens = mine.iter().map(|(item, held)| (item.clone(), held.token()));
                tell.send_replace(tokens.collect());
                events.push((Instant::now(), item, token));
            }
        });
        Obedient { held, task, leave }
    }

    /// Waits until it holds exactly these.
    async fn until(&mut self, items: &BTreeSet<String>) -> BTreeMap<String, Zxid> {
        let holds = |held: &BTreeMap<String, Zxid>| held.keys().eq(items);
        soon(self.held.wait_for(holds)).await.expect("it runs").clone()
    }
}

/// Obedient members of these names, each with a client of its own, that have divided the items.
async fn divided(zk: &Coordinator, names: &[&str]) -> Vec<(Client, Obedient)> {
    let mut members = Vec::new();
    for name in names {
        let client = zk.client().await;
        let obedient = Obedient::start(join(&client, name));
        members.push((client, obedient));
    }
    let settled = members.iter_mut().zip(names);
    join_all(settled.map(|((_, member), name)| async move {
        member.until(&share(names, name)).await;
    }))
    .await;
    members
}
