//! Members that come back without their data folders.

use std::collections::BTreeMap;

use crate::common::cluster::{Cluster, mode, until_mode};
use crate::common::{PATIENCE, Raw, create, exists};
use synod_core::model::CreateMode;
use synod_server::Founding;
use synod_server::admin::Admin;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_emptied_ends_by_saying_what_to_do_and_that_brings_it_back() {
    let mut cluster = Cluster::start().await;
    // The one that has founded the cluster, and one that has not.
    for (round, place) in [0, 2].into_iter().enumerate() {
        let (id, other) = (place as u64 + 1, (place + 1) % 3);
        let path = format!("/before-{round}");
        let mut raw = Raw::open(cluster.member(other)).await;
        raw.call(&create(&path, b"", CreateMode::Persistent)).await.expect("is created");
        cluster.lose(place);
        cluster.empty(place);
        cluster.start_one(place).await;
        let failed = timeout(PATIENCE, cluster.member(place).failed()).await;
        let reason = failed.expect("it does not go on");
        for word in [&*format!("remove {id}"), "--join", &format!("add {id}="), "promote"] {
            assert!(reason.contains(word), "{word} is to be said: {reason}");
        }
        cluster.lose(place);
        // It was never one of them.
        cluster.leader().await;

        let peer = cluster.peer(place).to_owned();
        // The first of them does not know the others while it waits.
        let peers = format!("{peer},{}", cluster.peer(other));
        let mut admin = Admin::new(&peers).expect("addresses");
        admin.remove(id).await.expect("two are left to agree");
        cluster.empty(place);
        cluster.start_as(place, Founding::Join).await;
        admin.add(id, &peer, "", |_| {}).await.expect("is taken in");
        admin.promote(id).await.expect("gets its vote");
        let status = admin.status().await.expect("is told");
        let voters = status.members.iter().filter(|member| member.voter).count();
        assert_eq!(voters, 3, "{status:?}");
        until_mode(cluster.member(place), "follower").await;
        let mut raw = Raw::open(cluster.member(place)).await;
        raw.call(&exists(&path, false)).await.expect("is there");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_its_folder_is_not_taken_in_again_before_it_is_removed() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let place = (leader + 1) % 3;
    cluster.lose(place);
    cluster.empty(place);
    cluster.start_as(place, Founding::Join).await;
    let mut admin = Admin::new(cluster.peer(leader)).expect("an address");
    let peer = cluster.peer(place).to_owned();
    let refused = admin.add(place as u64 + 1, &peer, "", |_| {}).await.expect_err("is refused");
    assert!(refused.to_string().contains("its id is taken until it is removed"), "{refused}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_emptied_does_not_found_a_cluster_of_its_own() {
    let mut cluster = Cluster::start().await;
    let own = BTreeMap::from([(1, cluster.peer(0).to_owned())]);
    for founding in [Founding::Alone, Founding::Together(own)] {
        cluster.lose(0);
        cluster.empty(0);
        cluster.start_as(0, founding.clone()).await;
        let failed = timeout(PATIENCE, cluster.member(0).failed()).await;
        let reason = failed.expect("it does not go on");
        assert!(reason.contains("knows member 1 with the data folder"), "{founding:?}: {reason}");
        assert_eq!(mode(cluster.member(0)).await, "looking", "{founding:?}");
    }
    cluster.stop().await;
}
