//! A use of every recipe, for suites about what all of them tell.

use futures::StreamExt;
use synod::election::Observed;
use synod::membership::GroupEvent;
use synod::partition::{PartitionEvent, Partitioner};
use synod::{
    Barrier, Client, DoubleBarrier, Election, Error, Group, Latch, Lock, MultiLock, PersistentNode,
    RwLock, Semaphore,
};

use super::soon;

/// Of the lock.
pub const PATH: &str = "/locks/report";

pub fn lock(client: &Client) -> Lock {
    Lock::new(client, PATH).expect("a valid path")
}

/// Has something of each recipe, and gives it up.
pub async fn use_every_recipe(client: &Client) {
    lock(client).acquire().await.expect("free").release().await.expect("connected");
    let rwlock = RwLock::new(client, "/rwlock").expect("valid");
    rwlock.read().await.expect("free").release().await.expect("connected");
    rwlock.write().await.expect("free").release().await.expect("connected");
    let both = MultiLock::new(client, ["/both/a", "/both/b"]).expect("valid");
    both.acquire().await.expect("free").release().await.expect("connected");
    let semaphore = Semaphore::new(client, "/semaphore", 2).expect("valid");
    semaphore.acquire_many(2).await.expect("free").release().await.expect("connected");
    let election = Election::new(client, "/election").expect("valid");
    let mut observed = election.observe();
    assert_eq!(soon(observed.next()).await, Some(Observed::NoLeader));
    election.campaign().await.expect("nobody leads").resign().await.expect("connected");
    election.run_as_leader(|_| async { Ok::<(), Error>(()) }).await.expect("nobody leads");
    let barrier = DoubleBarrier::new(client, "/double", 1).expect("valid");
    barrier.enter().await.expect("alone").leave().await.expect("alone");
    let group = Group::new(client, "/group").expect("valid");
    let mut watch = group.watch();
    assert_eq!(soon(watch.next()).await, Some(GroupEvent::Settled));
    group.join("a", "").await.expect("joins").leave().await.expect("connected");
    let partitioner = Partitioner::numbered(client, "/partitions", 1).expect("valid");
    let mut partitions = partitioner.join("a").expect("valid");
    let Some(PartitionEvent::Assigned(item)) = soon(partitions.next()).await else {
        panic!("it is alone")
    };
    partitions.leave();
    item.release().await.expect("connected");
    assert!(soon(partitions.next()).await.is_none());
    let node = PersistentNode::create(client, "/node", "").expect("valid");
    soon(node.present()).await.expect("connected");
    node.remove().await.expect("connected");
    Barrier::new(client, "/open").expect("valid").wait().await.expect("open");
    Latch::new(client, "/latch", 0).expect("valid").wait().await.expect("open");
    let counter = synod::Counter::new(client, "/counter").expect("valid");
    counter.add(1).await.expect("connected");
}
