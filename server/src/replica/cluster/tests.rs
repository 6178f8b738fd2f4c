use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_entries_reach_every_member_although_connections_break() {
    within(1, async {
        let cluster = Cluster::on_loopback().await;
        let leader = cluster.leader().await;
        let mut written = 0u32;
        for round in 0..10 {
            let commands = (0..1_000).map(|_| {
                written += 1;
                Command { time_ms: 0, entries: written.to_be_bytes().to_vec().into() }
            });
            let mut results = leader.raft.client_write_many(commands).await.expect("accepted");
            // One follower's connections break, so that the other's acknowledgements suffice.
            cluster.others(leader.id)[round % 2].net.cut();
            use futures::StreamExt;
            while let Some(result) = results.next().await {
                result.expect("running").expect("committed");
            }
        }
        let expected: Vec<Bytes> =
            (1..=10_000u32).map(|n| n.to_be_bytes().to_vec().into()).collect();
        for node in &cluster.nodes {
            node.applied(10_000).await;
            assert!(node.machine.commands() == expected, "member {}", node.id);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn entries_follow_each_other_on_one_connection_and_many_are_under_way() {
    within(2, async {
        let cluster = Cluster::in_memory().await;
        let leader = cluster.leader().await;
        leader.write("first").await;
        let before = leader.net.connected();
        for n in 0..500u32 {
            leader.write(n.to_be_bytes().to_vec()).await;
        }
        for node in &cluster.nodes {
            node.applied(501).await;
        }
        assert!(leader.net.connected() <= before + 2, "one to each other member at most");
        // An entry larger than what goes into a frame beside others.
        leader.write(vec![7; 1 << 20]).await;
        leader.write(vec![8; 1 << 20]).await;
        for node in &cluster.nodes {
            node.applied(503).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_member_that_comes_back_does_not_depose_the_leader() {
    within(3, async {
        let cluster = Cluster::in_memory().await;
        let leader = cluster.leader().await;
        leader.write("one").await;
        let (term, cut_off) = (leader.term(), cluster.others(leader.id)[0]);
        cut_off.net.isolate();
        // Many election timeouts.
        for n in 0..20u8 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            leader.write(vec![n]).await;
        }
        assert_eq!(cut_off.term(), term, "it may not even begin an election");
        cut_off.net.heal();
        cut_off.applied(21).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(leader.is_leader());
        assert_eq!(leader.term(), term);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_others_elect_another_when_the_leader_is_cut_off_and_it_follows_when_back() {
    within(4, async {
        let cluster = Cluster::in_memory().await;
        let old = cluster.leader().await;
        old.write("one").await;
        old.net.isolate();
        let others: Vec<u64> = cluster.others(old.id).iter().map(|node| node.id).collect();
        let new = cluster.leader_among(&others).await;
        new.write("two").await;
        assert!(old.raft.ensure_linearizable(ReadPolicy::ReadIndex).await.is_err());
        old.net.heal();
        old.applied(2).await;
        assert_eq!(cluster.leader().await.id, new.id);
    })
    .await;
}

/// Cuts one follower off until the leader's log no longer reaches back to where it is.
async fn lag(cluster: &Cluster, bytes: usize) -> (&Node, &Node) {
    let leader = cluster.leader().await;
    leader.write("one").await;
    let lagging = cluster.others(leader.id)[0];
    lagging.applied(1).await;
    lagging.net.isolate();
    for n in 0..(bytes >> 16) {
        leader.write(vec![n as u8; 1 << 16]).await;
    }
    leader.raft.trigger().snapshot().await.expect("running");
    let built = |metrics: &RaftMetrics<Types>| {
        metrics.snapshot.is_some_and(|snapshot| Some(snapshot) == metrics.last_applied)
    };
    leader.raft.wait(Some(PATIENCE)).metrics(built, "a snapshot").await.expect("in time");
    let upto = leader.raft.wait(Some(PATIENCE)).metrics(built, "as before").await.expect("there");
    let upto = upto.snapshot.expect("built").index;
    leader.raft.trigger().purge_log(upto).await.expect("running");
    let purged =
        |metrics: &RaftMetrics<Types>| metrics.purged.is_some_and(|purged| purged.index == upto);
    leader.raft.wait(Some(PATIENCE)).metrics(purged, "purged").await.expect("in time");
    (leader, lagging)
}

#[tokio::test(start_paused = true)]
async fn a_member_too_far_behind_receives_a_snapshot_larger_than_the_window() {
    within(5, async {
        let cluster = Cluster::in_memory().await;
        let (leader, lagging) = lag(&cluster, 10 << 20).await;
        lagging.net.heal();
        lagging.applied(161).await;
        assert_eq!(lagging.machine.installed(), 1);
        leader.write("after").await;
        lagging.applied(162).await;
        assert_eq!(lagging.machine.commands(), leader.machine.commands());
        assert!(lagging.log.len() < 10, "the rest came in the snapshot");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_cut_off_begins_anew() {
    within(6, async {
        let cluster = Cluster::in_memory().await;
        let (leader, lagging) = lag(&cluster, 10 << 20).await;
        lagging.net.cut_after(&[1 << 20, 6 << 20, 9 << 20]);
        lagging.net.heal();
        lagging.applied(161).await;
        assert_eq!(lagging.machine.commands(), leader.machine.commands());
        assert_eq!(lagging.machine.installed(), 1);
        assert_eq!(lagging.net.cuts_left(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn leadership_is_handed_on_at_once() {
    within(7, async {
        let cluster = Cluster::in_memory().await;
        let leader = cluster.leader().await;
        leader.write("one").await;
        let heir = cluster.others(leader.id)[1];
        let begun = tokio::time::Instant::now();
        leader.raft.trigger().transfer_leader(heir.id).await.expect("running");
        let became = |metrics: &RaftMetrics<Types>| metrics.state == ServerState::Leader;
        heir.raft.wait(Some(PATIENCE)).metrics(became, "the heir leads").await.expect("in time");
        assert!(begun.elapsed() < Duration::from_millis(400), "before any election timeout");
        heir.write("two").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_joiner_without_a_cluster_is_reached_and_a_member_of_another_is_not() {
    within(8, async {
        let mesh = Mesh::default();
        let net = || Arc::new(mesh.clone());
        let first = Node::start(1, Some(CLUSTER), net(), "member1:1").await;
        let cluster = Cluster::of(vec![first]).await;
        let first = cluster.leader_among(&[1]).await;
        first.write("one").await;
        let joiner = Node::start(2, None, net(), "member2:1").await;
        first.raft.add_learner(2, joiner.address.clone(), true).await.expect("added");
        joiner.applied(1).await;
        let stranger = Node::start(3, Some(ClusterId([9; 16])), net(), "member3:1").await;
        first.raft.add_learner(3, stranger.address.clone(), false).await.expect("added");
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(stranger.machine.commands().is_empty() && stranger.log.len() == 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_costs_no_connection() {
    within(10, async {
        let cluster = Cluster::in_memory().await;
        let leader = cluster.leader().await;
        leader.write("one").await;
        let connections = leader.net.connected();
        // Many times as long as the patience of a request to append.
        for follower in cluster.others(leader.id) {
            follower.log.delay(Duration::from_secs(2));
        }
        let begun = tokio::time::Instant::now();
        leader.write("two").await;
        assert!(begun.elapsed() >= Duration::from_secs(2));
        for node in &cluster.nodes {
            node.applied(2).await;
        }
        assert_eq!(leader.net.connected(), connections);
        assert!(leader.is_leader());
    })
    .await;
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_replicate_over_tls() {
    use crate::tls::tests::{Files, authority};
    within(9, async {
        let (ca, mut nodes, mut files) = (authority(), Vec::new(), Vec::new());
        for id in 1..=3 {
            let own = Files::new(&format!("member{id}"), &ca, &ca, false);
            let net = Arc::new(own.net());
            nodes.push(Node::start(id, Some(CLUSTER), net, "127.0.0.1:0").await);
            files.push(own);
        }
        let cluster = Cluster::of(nodes).await;
        let leader = cluster.leader().await;
        for n in 0..100u8 {
            leader.write(vec![n; 10_000]).await;
        }
        for node in &cluster.nodes {
            node.applied(100).await;
        }
    })
    .await;
}
