//! Members that come back without their data folders.

use super::*;

/// Takes a member's folder away from it, and starts it again.
async fn empty(cluster: &mut Cluster, mesh: &Mesh, id: u64) {
    let place = id as usize - 1;
    cluster.nodes[place].raft.shutdown().await.expect("running");
    let net = Arc::new(mesh.clone());
    cluster.nodes[place] =
        Node::start_on(id, FolderId([99; 16]), Some(CLUSTER), net, &format!("member{id}:1")).await;
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_was_emptied_does_not_help_to_forget_a_write() {
    within(40, async {
        let mesh = Mesh::default();
        let mut cluster = Cluster::on(&mesh).await;
        let writer = cluster.leader().await.id;
        let (emptied, behind) = match cluster.others(writer)[..] {
            [one, other] => (one.id, other.id),
            _ => unreachable!("there are three"),
        };
        cluster.node(behind).net.isolate();
        // Acknowledged: two of three have it.
        cluster.node(writer).write("one").await;
        cluster.node(writer).net.isolate();
        empty(&mut cluster, &mesh, emptied).await;
        cluster.node(behind).net.heal();
        // Many election timeouts.
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(!cluster.node(behind).is_leader(), "by a vote of one that has forgotten");
        let claim = cluster.node(emptied).identity.notices.claim().await;
        assert!(claim.contains(&format!("remove {emptied}")), "{claim}");
        cluster.node(writer).net.heal();
        cluster.leader_among(&[writer, behind]).await.write("two").await;
        let expected = [Bytes::from("one"), Bytes::from("two")];
        for id in [writer, behind] {
            cluster.node(id).applied(2).await;
            assert_eq!(cluster.node(id).machine.commands(), expected, "member {id}");
        }
    })
    .await;
}
