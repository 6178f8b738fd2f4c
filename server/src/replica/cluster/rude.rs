//! Others that do to a member what no member does.

use bytes::BufMut;
use openraft::StoredMembership;
use tokio::io::AsyncReadExt;

use super::*;
use crate::replica::frame::{self, Wire};
use crate::replica::handshake::{self, Hello, Purpose};
use crate::replica::messages::{self, Append, SnapshotMeta, kind};
use crate::replica::types::{CommittedLeaderId, LogId, Vote};

fn hello(purpose: Purpose) -> Hello {
    Hello {
        cluster: Some(CLUSTER),
        from: 9,
        from_folder: Some(folder(9)),
        to: 1,
        to_folder: Some(folder(1)),
        purpose,
        ..Hello::of_admin(100)
    }
}

async fn connect(mesh: &Mesh, purpose: Purpose) -> Wire {
    let patience = Duration::from_secs(5);
    let connected = handshake::connect(mesh, "member1:1", &hello(purpose), patience).await;
    Wire::new(connected.expect("welcome").0)
}

async fn one() -> (Mesh, Cluster) {
    let mesh = Mesh::default();
    let node = Node::start(1, Some(CLUSTER), Arc::new(mesh.clone()), "member1:1").await;
    let cluster = Cluster::of(vec![node]).await;
    cluster.leader_among(&[1]).await.write("one").await;
    (mesh, cluster)
}

#[tokio::test(start_paused = true)]
async fn frames_that_make_no_sense_end_their_connection_and_nothing_else() {
    within(30, async {
        let (mesh, cluster) = one().await;
        let purposes =
            [Purpose::Append, Purpose::Heartbeat, Purpose::Vote, Purpose::Snapshot, Purpose::Admin];
        for purpose in purposes {
            for kind in 0..=64 {
                for body in [&[][..], &[0; 9], &[0xff; 9], &[1; 40], &[0xff; 400]] {
                    let mut wire = connect(&mesh, purpose).await;
                    frame::put(wire.output(), kind, |out| out.put_slice(body)).expect("short");
                    let _ = wire.flush().await;
                    // Whatever it says: the connection ends, or goes on.
                    let _ = tokio::time::timeout(Duration::from_millis(10), wire.next()).await;
                }
            }
        }
        let node = cluster.leader_among(&[1]).await;
        node.write("two").await;
        assert_eq!(node.term(), 1, "nobody made it follow");
        assert!(!node.listening.is_finished());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_after_it_was_accepted_is_given_up() {
    within(31, async {
        let (mesh, _cluster) = one().await;
        let mut silent = mesh.connect("member1:1").await.expect("accepted");
        let begun = tokio::time::Instant::now();
        let mut byte = [0];
        assert_eq!(silent.read(&mut byte).await.expect("closed"), 0);
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        let mut loud = mesh.connect("member1:1").await.expect("accepted");
        loud.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("there is room");
        assert_eq!(loud.read(&mut byte).await.expect("closed"), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_of_the_past_is_told_of_the_new_term_and_gives_no_snapshot() {
    within(32, async {
        let (mesh, cluster) = one().await;
        let node = cluster.node(1);
        let last = LogId { leader_id: CommittedLeaderId::new(0), index: 99 };
        let metrics = {
            use openraft::async_runtime::watch::WatchReceiver;
            node.raft.metrics().borrow_watched().clone()
        };
        let members = metrics.membership_config.membership().clone();
        let last_membership = StoredMembership::new(Some(last), members);
        let meta = SnapshotMeta { last_log_id: Some(last), last_membership };
        let mut wire = connect(&mesh, Purpose::Snapshot).await;
        let past = Vote::new_committed(0, 9);
        frame::put(wire.output(), kind::SNAPSHOT, |out| {
            messages::encode_snapshot(out, &past, &meta);
        })
        .expect("short");
        let answer = wire.next().await.expect("an answer");
        assert_eq!(answer.kind, kind::INSTALLED);
        assert_eq!(messages::decode_installed(answer.body).expect("a vote"), metrics.vote);

        let mut wire = connect(&mesh, Purpose::Append).await;
        let request =
            Append { vote: past, prev_log_id: None, entries: Vec::new(), leader_commit: None };
        messages::encode_append(wire.output(), 7, &request, |_| {}).expect("short");
        let answer = wire.next().await.expect("an answer");
        let (session, result) = messages::decode_appended(answer.body).expect("a result");
        let higher = openraft::raft::StreamAppendError::HigherVote(metrics.vote);
        assert_eq!((session, result), (7, Err(higher)));
        assert_eq!(node.machine.installed(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_couriers_connection_is_handed_on_with_who_it_is_from() {
    within(33, async {
        let (mesh, cluster) = one().await;
        let patience = Duration::from_secs(1);
        let address = &cluster.node(1).address.peer;
        let hello = hello(Purpose::Courier);
        let (mut stream, _) =
            handshake::connect(&mesh, address, &hello, patience).await.expect("welcome");
        assert_eq!(stream.read_u64().await.expect("who came"), 9);
        let another = Hello { to: 2, ..hello };
        let refused = handshake::connect(&mesh, address, &another, patience).await;
        let text = refused.err().expect("refused").to_string();
        assert!(text.contains("not member 2 that was meant"), "{text}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_whether_there_would_be_a_vote_gets_none_and_changes_nothing() {
    within(34, async {
        let (mesh, cluster) = one().await;
        let node = cluster.node(1);
        // As if the leader had allowed it, by which a vote goes past its lease.
        let mut asked = openraft::raft::VoteRequest::new(Vote::new(5, 9), None);
        asked.last_log_id = Some(LogId { leader_id: CommittedLeaderId::new(4), index: 99 });
        asked.leadership_transfer = true;
        for (kind, granted, term) in [(kind::PRE_VOTE, false, 1), (kind::VOTE, true, 5)] {
            let mut wire = connect(&mesh, Purpose::Vote).await;
            frame::put(wire.output(), kind, |out| messages::encode_vote_request(out, &asked))
                .expect("short");
            let answer = wire.next().await.expect("an answer");
            assert_eq!(answer.kind, kind::VOTED);
            let answer = messages::decode_vote_response(answer.body).expect("a response");
            assert_eq!(answer.vote_granted, granted, "{answer:?}");
            assert_eq!(node.vote_term().await, term);
        }
    })
    .await;
}
