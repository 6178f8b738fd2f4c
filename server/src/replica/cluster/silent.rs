//! Another member that does not do what it should.

use futures::StreamExt;
use openraft::RaftNetworkFactory;
use openraft::RaftNetworkV2;
use openraft::errors::RPCError;
use openraft::network::RPCOption;
use tokio::time::Instant;

use super::*;
use crate::limits::APPENDS_IN_FLIGHT_MAX;
use crate::net::Listener;
use crate::replica::frame::{self, Wire};
use crate::replica::handshake;
use crate::replica::messages::{self, Append, kind};
use crate::replica::types::{CommittedLeaderId, LogId, Vote};

fn log_id(index: u64) -> LogId {
    LogId { leader_id: CommittedLeaderId::new(1), index }
}

fn heartbeat() -> Append {
    Append {
        vote: Vote::new_committed(1, 1),
        prev_log_id: Some(log_id(5)),
        entries: Vec::new(),
        leader_commit: None,
    }
}

async fn accepted(listener: &mut Box<dyn Listener>) -> Wire {
    let identity = Identity::new(2, folder(2), Some(CLUSTER));
    let (mut stream, _) = listener.accept().await.expect("one comes");
    let received = handshake::receive(&mut *stream, &identity, async |_| Ok(())).await;
    received.expect("it is there").expect("it is a member");
    Wire::new(stream)
}

async fn caller(mesh: &Mesh) -> super::super::network::Peer<Files> {
    let identity = Arc::new(Identity::new(1, folder(1), Some(CLUSTER)));
    let caller = Arc::new(Caller::new(Arc::new(mesh.clone()), identity));
    let mut network = Network::new(caller, Files);
    let (peer, client) = ("member2:1".to_owned(), String::new());
    let address = Address { folder: folder(2), peer, client, ..Address::default() };
    network.new_heartbeat_client(2, &address).await
}

fn once(request: Append) -> impl futures::Stream<Item = Append> + Send + Unpin + 'static {
    Box::pin(futures::stream::once(std::future::ready(request)))
}

fn option() -> RPCOption {
    RPCOption::new(Duration::from_millis(400))
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_costs_its_patience_and_later_its_connection() {
    let mesh = Mesh::default();
    let mut listener = mesh.listen("member2:1").await.expect("listens");
    let mut peer = caller(&mesh).await;
    let asking = async {
        for _ in 0..8 {
            let begun = Instant::now();
            let mut replies = peer.stream_append(once(heartbeat()), option()).await.expect("open");
            let reply = replies.next().await.expect("an error");
            assert!(matches!(reply, Err(RPCError::Timeout(_))), "{reply:?}");
            assert!(replies.next().await.is_none());
            assert_eq!(begun.elapsed(), Duration::from_millis(300));
        }
    };
    let mut kept = Vec::new();
    let accepting = async {
        loop {
            kept.push(accepted(&mut listener).await);
        }
    };
    tokio::select! {
        () = asking => {}
        () = accepting => {}
    }
    assert_eq!(kept.len(), 2, "one is kept for a second of silence");
}

#[tokio::test(start_paused = true)]
async fn as_many_requests_as_are_allowed_go_out_before_the_first_reply() {
    let mesh = Mesh::default();
    let mut listener = mesh.listen("member2:1").await.expect("listens");
    let mut peer = caller(&mesh).await;
    let answering = async {
        let mut wire = accepted(&mut listener).await;
        let mut left = 200;
        while left > 0 {
            let mut sessions = Vec::new();
            let pause = Duration::from_millis(10);
            while let Ok(frame) = tokio::time::timeout(pause, wire.next()).await {
                let frame = frame.expect("a request");
                sessions.push(messages::decode_append(frame.body, 1).expect("one").0);
            }
            assert_eq!(sessions.len(), left.min(APPENDS_IN_FLIGHT_MAX));
            left -= sessions.len();
            for session in sessions {
                frame::put(wire.output(), kind::APPENDED, |out| {
                    messages::encode_appended(out, session, &Ok(Some(log_id(5))));
                })
                .expect("short");
            }
        }
        wire.flush().await.expect("it reads");
        wire
    };
    let asking = async {
        let many = futures::stream::iter(std::iter::repeat_with(heartbeat).take(200));
        let replies = peer.stream_append(many, option()).await.expect("open");
        assert_eq!(replies.filter(|reply| std::future::ready(reply.is_ok())).count().await, 200);
    };
    tokio::join!(answering, asking);
}

#[tokio::test(start_paused = true)]
async fn a_busy_member_is_waited_for_as_long_as_it_gives_signs_of_life() {
    let mesh = Mesh::default();
    let mut listener = mesh.listen("member2:1").await.expect("listens");
    let mut peer = caller(&mesh).await;
    let slow = async {
        let mut wire = accepted(&mut listener).await;
        let frame = wire.next().await.expect("a request");
        let (session, _) = messages::decode_append(frame.body, 1).expect("one");
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            frame::put(wire.output(), kind::ALIVE, |_| {}).expect("short");
            wire.flush().await.expect("it reads");
        }
        frame::put(wire.output(), kind::APPENDED, |out| {
            messages::encode_appended(out, session, &Ok(Some(log_id(5))));
        })
        .expect("short");
        wire.flush().await.expect("it reads");
        wire
    };
    let asking = async {
        let mut replies = peer.stream_append(once(heartbeat()), option()).await.expect("open");
        assert_eq!(replies.next().await, Some(Ok(Ok(Some(log_id(5))))));
        assert!(replies.next().await.is_none());
    };
    tokio::join!(slow, asking);
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_is_not_taken_for_that_of_a_later_request() {
    let mesh = Mesh::default();
    let mut listener = mesh.listen("member2:1").await.expect("listens");
    let mut peer = caller(&mesh).await;
    let late = async {
        let mut wire = accepted(&mut listener).await;
        let first = wire.next().await.expect("a request");
        let second = wire.next().await.expect("the next");
        for frame in [first, second] {
            let (session, request) = messages::decode_append(frame.body, 1).expect("one");
            frame::put(wire.output(), kind::APPENDED, |out| {
                messages::encode_appended(out, session, &Ok(request.prev_log_id));
            })
            .expect("short");
        }
        wire.flush().await.expect("it reads");
        wire
    };
    let asking = async {
        let mut replies = peer.stream_append(once(heartbeat()), option()).await.expect("open");
        assert!(replies.next().await.is_some_and(|reply| reply.is_err()));
        drop(replies);
        let later = Append { prev_log_id: Some(log_id(9)), ..heartbeat() };
        let mut replies = peer.stream_append(once(later), option()).await.expect("open");
        assert_eq!(replies.next().await, Some(Ok(Ok(Some(log_id(9))))));
    };
    tokio::join!(late, asking);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_acknowledges_what_it_was_not_sent_is_not_believed() {
    let mesh = Mesh::default();
    let mut listener = mesh.listen("member2:1").await.expect("listens");
    let mut peer = caller(&mesh).await;
    let lying = async {
        let mut wire = accepted(&mut listener).await;
        let frame = wire.next().await.expect("a request");
        let (session, _) = messages::decode_append(frame.body, 1).expect("one");
        frame::put(wire.output(), kind::APPENDED, |out| {
            messages::encode_appended(out, session, &Ok(Some(log_id(6))));
        })
        .expect("short");
        wire.flush().await.expect("it reads");
        wire
    };
    let asking = async {
        let mut replies = peer.stream_append(once(heartbeat()), option()).await.expect("open");
        let reply = replies.next().await.expect("an error");
        assert!(matches!(&reply, Err(RPCError::Network(_))), "{reply:?}");
        assert!(replies.next().await.is_none());
    };
    tokio::join!(lying, asking);
}

#[tokio::test]
async fn who_is_not_there_is_unreachable() {
    let mut peer = caller(&Mesh::default()).await;
    let refused = peer.stream_append(once(heartbeat()), option()).await.err().expect("refused");
    assert!(matches!(refused, RPCError::Unreachable(_)), "{refused:?}");
    let vote = openraft::raft::VoteRequest::new(Vote::new(2, 1), None);
    let refused = peer.pre_vote(vote, option()).await.expect_err("nobody grants it");
    assert!(matches!(refused, RPCError::Unreachable(_)), "{refused:?}");
}
