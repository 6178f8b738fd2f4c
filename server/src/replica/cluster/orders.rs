//! Administration, from outside.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Mutex;

use openraft::ChangeMembers;
use synod_core::model::Reconfig;
use tokio::time::Instant;

use super::*;
use crate::admin::{Admin, AdminError, Progress, Role};
use crate::limits::{LINE_TEXT_BYTES_MAX, SELDOM_MS};

/// Starts with one member; the others are to be added.
struct Growing {
    cluster: Cluster,
    mesh: Mesh,
}

impl Growing {
    async fn new() -> Growing {
        let mesh = Mesh::default();
        let first = Node::start(1, Some(CLUSTER), Arc::new(mesh.clone()), "member1:1").await;
        let mut growing = Growing { cluster: Cluster::of(vec![first]).await, mesh };
        growing.cluster.leader_among(&[1]).await.write("one").await;
        for id in 2..=4 {
            let net = Arc::new(growing.mesh.clone());
            growing.cluster.nodes.push(Node::start(id, None, net, &format!("member{id}:1")).await);
        }
        growing
    }

    fn admin(&self, peers: &str) -> Admin {
        Admin::new(peers).expect("addresses").net(Arc::new(self.mesh.clone()))
    }

    /// Three voters.
    async fn three() -> Growing {
        let growing = Growing::new().await;
        let mut admin = growing.admin("member1:1");
        for id in 2..=3 {
            admin.add(id, &format!("member{id}:1"), "", |_| {}).await.expect("added");
            admin.promote(id).await.expect("promoted");
        }
        growing.cluster.leader_among(&[1, 2, 3]).await;
        growing
    }
}

fn refusal(outcome: Result<(), AdminError>) -> String {
    match outcome {
        Err(AdminError::Refused { text, .. }) => text,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_of_one_grows_to_three_and_says_so() {
    within(20, async {
        let growing = Growing::new().await;
        let mut admin = growing.admin("member1:1");
        let mut told = Vec::new();
        let progress = |progress: Progress| told.push(progress);
        admin.add(2, "member2:1", "client2:2", progress).await.expect("added");
        assert!(!told.is_empty(), "it takes a while, and that is told");
        let status = admin.status().await.expect("a status");
        assert_eq!((status.id, status.role, status.leader), (1, Role::Leader, Some(1)));
        assert_eq!(status.cluster, Some(CLUSTER.to_string()));
        let second = &status.members[1];
        assert_eq!((second.id, second.voter, second.client.as_str()), (2, false, "client2:2"));
        assert_eq!(second.lag, Some(0));
        admin.promote(2).await.expect("promoted");
        // Any member will do: it says who leads.
        let mut through_another = growing.admin("nobody:1,member2:1");
        through_another.add(3, "member3:1", "", |_| {}).await.expect("added");
        through_another.promote(3).await.expect("promoted");
        growing.cluster.node(3).applied(1).await;
        let status = through_another.status().await.expect("a status");
        assert_eq!(status.id, 1, "the leader's own");
        assert!(!status.changing && status.members.iter().all(|member| member.voter));
        let status = through_another.status_of("member3:1").await.expect("a status");
        assert_eq!((status.id, status.role, status.leader), (3, Role::Follower, Some(1)));
        assert_eq!(status.members[0].lag, None, "only the leader knows");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_order_finds_the_leader_behind_a_member_that_knows_of_none() {
    within(20, async {
        let growing = Growing::new().await;
        // The first one that is named runs, and has not been taken into the cluster.
        let mut admin = growing.admin("member4:1,member1:1");
        admin.add(2, "member2:1", "", |_| {}).await.expect("added");
        let status = growing.admin("member1:1").status().await.expect("a status");
        assert_eq!(status.members.len(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_by_a_change_left_half_done_leaves_the_next_one_to_the_others() {
    within(28, async {
        let growing = Growing::three().await;
        let leaves = &growing.cluster.node(1).raft;
        let is_joint =
            |metrics: &RaftMetrics<Types>| metrics.membership_config.get_joint_config().len() == 2;
        let half_done = leaves.wait(Some(PATIENCE));
        let without_it = ChangeMembers::RemoveVoters(BTreeSet::from([1]));
        tokio::select! {
            biased;
            half = half_done.metrics(is_joint, "half done") => drop(half.expect("in time")),
            _ = leaves.change_membership(without_it, false) => panic!("done at once"),
        }
        let is_committed = |metrics: &RaftMetrics<Types>| {
            metrics.last_applied >= *metrics.membership_config.log_id()
        };
        let joint = leaves.wait(Some(PATIENCE)).metrics(is_committed, "committed").await;
        assert!(is_joint(&joint.expect("in time")), "the second half was not ordered");
        let mut admin = growing.admin("member1:1,member2:1,member3:1");
        admin.add(4, "member4:1", "", |_| {}).await.expect("added");
        let status = growing.admin("member2:1").status().await.expect("a status");
        let ids: Vec<u64> = status.members.iter().map(|member| member.id).collect();
        assert_eq!((ids, status.changing), (vec![2, 3, 4], false));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_is_refused_with_the_value_and_the_rule() {
    within(21, async {
        let growing = Growing::three().await;
        let mut admin = growing.admin("member1:1");
        let told = refusal(admin.add(2, "member9:1", "", |_| {}).await);
        assert!(told.contains("member 2 is already there, at member2:1"), "{told}");
        let told = refusal(admin.add(9, "member2:1", "", |_| {}).await);
        assert!(told.contains("member2:1 is the address of member 2"), "{told}");
        let told = refusal(admin.promote(2).await);
        assert!(told.contains("member 2 is already a voter"), "{told}");
        let told = refusal(admin.promote(9).await);
        assert!(told.contains("member 9 is not in the cluster: its members are 1, 2, 3"), "{told}");
        let told = refusal(admin.remove(9).await);
        assert!(told.contains("member 9 is not in the cluster"), "{told}");
        let told = refusal(admin.remove(1).await);
        assert!(told.contains("member 1 leads: hand the leadership on first"), "{told}");
        let told = refusal(admin.transfer(1).await);
        assert!(told.contains("member 1 leads already"), "{told}");
        admin.add(4, "member4:1", "", |_| {}).await.expect("added");
        let told = refusal(admin.transfer(4).await);
        assert!(told.contains("member 4 is a learner: only a voter can lead"), "{told}");
        for invalid in ["", "nowhere", "host:", ":1", "host:0", "host:70000"] {
            assert!(matches!(Admin::new(invalid), Err(AdminError::Invalid(_))), "{invalid}");
        }
        assert!(matches!(admin.promote(0).await, Err(AdminError::Invalid(_))));
        let nobody = growing.admin("nobody:1,nothing:2").status().await;
        assert!(matches!(nobody, Err(AdminError::Connect(text)) if text.contains("nothing:2")));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn members_are_removed_down_to_the_last_voter() {
    within(22, async {
        let growing = Growing::three().await;
        let mut admin = growing.admin("member1:1");
        admin.add(4, "member4:1", "", |_| {}).await.expect("added");
        for id in [4, 3, 2] {
            admin.remove(id).await.expect("removed");
        }
        let told = refusal(admin.remove(1).await);
        assert!(told.contains("member 1 is the last voter"), "{told}");
        let status = admin.status().await.expect("a status");
        assert_eq!(status.members.len(), 1);
        growing.cluster.node(1).write("alone").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_voter_is_not_removed_when_too_few_of_the_others_answer() {
    within(23, async {
        let growing = Growing::three().await;
        let mut admin = growing.admin("member1:1");
        growing.cluster.node(3).net.isolate();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let told = refusal(admin.remove(2).await);
        assert!(told.contains("1 of the 2 voters that there would be answer"), "{told}");
        admin.remove(3).await.expect("the one that does not answer can go");
        growing.cluster.node(1).write("two").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn leadership_goes_to_who_is_named_and_back() {
    within(24, async {
        let growing = Growing::three().await;
        let mut admin = growing.admin("member1:1,member2:1");
        for id in [3, 2, 1] {
            admin.transfer(id).await.expect("handed on");
            assert_eq!(growing.cluster.leader_among(&[1, 2, 3]).await.id, id);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_keeps_serving_when_the_one_that_is_to_lead_is_dead() {
    within(25, async {
        let growing = Growing::three().await;
        let mut admin = growing.admin("member1:1");
        let (leader, dead) = (growing.cluster.node(1), growing.cluster.node(3));
        dead.net.isolate();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let told = refusal(admin.transfer(3).await);
        assert!(told.contains("member 3 does not answer"), "{told}");
        assert!(leader.is_leader());
        let begun = tokio::time::Instant::now();
        leader.write("two").await;
        assert!(begun.elapsed() < Duration::from_millis(100));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_cluster_serves_again_when_the_one_that_is_to_lead_dies_at_that_moment() {
    within(26, async {
        let growing = Growing::three().await;
        let mut admin = growing.admin("member1:1");
        // It was heard a moment ago: nothing tells that it is dead.
        growing.cluster.node(3).net.isolate();
        let begun = tokio::time::Instant::now();
        let told = refusal(admin.transfer(3).await);
        assert!(told.contains("member 3 did not take the leadership over"), "{told}");
        growing.cluster.leader_among(&[1, 2]).await.write("two").await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn of_two_changes_at_a_time_one_is_refused_or_both_are_made() {
    within(27, async {
        let growing = Growing::three().await;
        let (mut one, mut other) = (growing.admin("member1:1"), growing.admin("member1:1"));
        let adding = one.add(4, "member4:1", "", |_| {});
        let removing = other.remove(3);
        let (added, removed) = tokio::join!(adding, removing);
        for outcome in [&added, &removed] {
            if let Err(error) = outcome {
                assert!(error.to_string().contains("one at a time"), "{error}");
            }
        }
        let status = one.status().await.expect("a status");
        let has = |id| status.members.iter().any(|member| member.id == id);
        assert_eq!((has(4), has(3)), (added.is_ok(), removed.is_err()));
        assert!(!status.changing);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_there_is_no_leader_to_give_an_order_to() {
    within(28, async {
        let growing = Growing::three().await;
        growing.cluster.node(1).net.isolate();
        growing.cluster.node(2).net.isolate();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut admin = growing.admin("member3:1");
        let outcome = admin.promote(2).await;
        assert_eq!(outcome, Err(AdminError::NoLeader));
        let status = admin.status().await.expect("it still says what it sees");
        assert_eq!(status.id, 3);
    })
    .await;
}

/// What this thread logs.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_long_orders_little_is_logged() {
    const ORDERS: usize = 100;
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _here = tracing::subscriber::set_default(subscriber);
    within(20, async {
        let growing = Growing::new().await;
        let admin = growing.admin("member1:1");
        let joining = Some("x".repeat(10 * LINE_TEXT_BYTES_MAX));
        let reconfig = Reconfig { joining, from_version: -1, ..Reconfig::default() };
        let begun = Instant::now();
        for _ in 0..ORDERS {
            refusal(admin.reconfig(&reconfig).await);
        }
        let whiles = begun.elapsed().as_millis() as usize / SELDOM_MS as usize + 1;
        assert!(whiles < ORDERS / 2, "they come fast");
        let logged = logged.0.lock().expect("no panic");
        let logged = String::from_utf8_lossy(&logged);
        let is_of_orders = |line: &&str| line.contains("an order of administration");
        let lines: Vec<&str> = logged.lines().filter(is_of_orders).collect();
        // That it came, and that it was refused.
        assert!((2..=2 * whiles).contains(&lines.len()), "{} lines", lines.len());
        let longest = lines.iter().map(|line| line.len()).max();
        assert!(longest < Some(3 * LINE_TEXT_BYTES_MAX), "{longest:?} bytes");
    })
    .await;
}
