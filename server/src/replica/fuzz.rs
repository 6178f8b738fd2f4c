//! What members say to each other, read from whatever bytes: what the fuzz target `message` does.

use std::io;

use bytes::{Bytes, BytesMut};

use super::courier::frames as courier;
use super::frame::{self, Frame};
use super::handshake;
use super::messages::{self, kind};
use crate::admin::wire;

/// Who is taken to have sent it: a leader and a candidate speak for themselves.
const FROM: u64 = 3;

/// A body is refused, or what is written of what was read is read the same.
fn again<T>(
    body: Bytes,
    decode: impl Fn(Bytes) -> io::Result<T>,
    encode: impl Fn(&mut BytesMut, &T),
) where
    T: std::fmt::Debug,
{
    let Ok(first) = decode(body) else { return };
    let mut out = BytesMut::new();
    encode(&mut out, &first);
    let out = out.freeze();
    let second = decode(out.clone()).expect("it was written here");
    // Not all of openraft's can be compared; and what entries say is not shown.
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
    let mut again = BytesMut::new();
    encode(&mut again, &second);
    assert_eq!(again, out);
}

/// What a snapshot says about itself.
pub(crate) fn meta(bytes: Bytes) {
    again(bytes, |mut body| messages::decode_meta(&mut body), messages::encode_meta);
}

fn append(out: &mut BytesMut, (session, request): &(u32, messages::Append)) {
    let mut framed = BytesMut::new();
    messages::encode_append(&mut framed, *session, request, |_| {}).expect("it came in a frame");
    let frame = frame::take(&mut framed).expect("a good length").expect("complete");
    assert!(framed.is_empty() && frame.kind == kind::APPEND);
    out.extend_from_slice(&frame.body);
}

fn body(frame: Frame) {
    let Frame { kind, body } = frame;
    match kind {
        kind::APPEND => again(body, |body| messages::decode_append(body, FROM), append),
        kind::APPENDED => again(body, messages::decode_appended, |out, (session, result)| {
            messages::encode_appended(out, *session, result);
        }),
        kind::VOTE | kind::PRE_VOTE => {
            let decode = |body| messages::decode_vote_request(body, FROM);
            again(body, decode, messages::encode_vote_request);
        }
        kind::VOTED => again(body, messages::decode_vote_response, messages::encode_vote_response),
        kind::TRANSFER => {
            again(body, |body| messages::decode_transfer(body, FROM), messages::encode_transfer);
        }
        kind::TRANSFERRED => {
            again(body, messages::decode_transferred, messages::encode_transferred);
        }
        kind::SNAPSHOT => {
            let encode = |out: &mut BytesMut, (vote, meta): &_| {
                messages::encode_snapshot(out, vote, meta);
            };
            again(body, |body| messages::decode_snapshot(body, FROM), encode);
        }
        kind::INSTALLED => again(body, messages::decode_installed, messages::encode_installed),
        kind::TAKEN | kind::END => drop(messages::decode_count(body)),
        wire::kind::ORDER => again(body, wire::decode_order, wire::encode_order),
        wire::kind::PROGRESS => again(body, wire::decode_progress, wire::encode_progress),
        wire::kind::STATUS => again(body, wire::decode_status, wire::encode_status),
        wire::kind::ELSEWHERE => again(body, wire::decode_elsewhere, |out, (leader, address)| {
            wire::encode_elsewhere(out, *leader, address);
        }),
        _ => {
            courier::read_any(body.clone());
            handshake::read_any(Frame { kind, body });
        }
    }
}

/// The input is what has come over a connection: it is refused, or read, and then it is written
/// and read the same.
///
/// # Panics
/// There is a bug.
pub fn message(input: &[u8]) {
    let mut received = BytesMut::from(input);
    while let Ok(Some(frame)) = frame::take(&mut received) {
        let mut out = BytesMut::new();
        frame::put(&mut out, frame.kind, |out| out.extend_from_slice(&frame.body))
            .expect("no longer than it was");
        assert_eq!(frame::take(&mut out).expect("a good length"), Some(frame.clone()));
        body(frame);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use openraft::raft::{
        StreamAppendError, TransferLeaderError, TransferLeaderRequest, VoteRequest, VoteResponse,
    };
    use openraft::{EntryPayload, StoredMembership};
    use synod_core::model::Reconfig;

    use super::super::types::{
        Address, Command, CommittedLeaderId, FolderId, LogId, Members, RaftEntry, Vote,
    };
    use super::*;

    fn log_id(term: u64, index: u64) -> LogId {
        LogId { leader_id: CommittedLeaderId::new(term), index }
    }

    fn members() -> Members {
        let node = |id: u64| Address {
            folder: FolderId([id as u8; 16]),
            peer: format!("peer{id}:1"),
            election: 3_888,
            client: format!("client{id}:2"),
        };
        let nodes: BTreeMap<u64, Address> = (1..=3).map(|id| (id, node(id))).collect();
        Members::new(vec![BTreeSet::from([1, 2]), BTreeSet::from([2])], nodes).expect("valid")
    }

    fn snapshot_meta() -> messages::SnapshotMeta {
        let last_membership = StoredMembership::new(Some(log_id(2, 7)), members());
        messages::SnapshotMeta { last_log_id: Some(log_id(2, 9)), last_membership }
    }

    /// What a snapshot says about itself, in bytes.
    pub(crate) fn meta() -> Vec<u8> {
        let mut out = BytesMut::new();
        messages::encode_meta(&mut out, &snapshot_meta());
        out.to_vec()
    }

    /// What the search begins from.
    fn seeds() -> Vec<(&'static str, BytesMut)> {
        let framed = |kind, encode: &dyn Fn(&mut BytesMut)| {
            let mut out = BytesMut::new();
            frame::put(&mut out, kind, encode).expect("short");
            out
        };
        let leader = Vote::new_committed(5, FROM);
        let entry = |index, payload| RaftEntry { log_id: log_id(5, index), payload };
        let request = messages::Append {
            vote: leader,
            prev_log_id: Some(log_id(3, 9)),
            entries: vec![
                entry(10, EntryPayload::Blank),
                entry(11, EntryPayload::Membership(members())),
                entry(
                    12,
                    EntryPayload::Normal(Command {
                        time_ms: 1,
                        entries: Bytes::from_static(b"one"),
                    }),
                ),
            ],
            leader_commit: Some(log_id(3, 8)),
        };
        let mut entries = BytesMut::new();
        messages::encode_append(&mut entries, 9, &request, |_| {}).expect("short");
        let appended = |result: messages::AppendResult| {
            framed(kind::APPENDED, &|out| messages::encode_appended(out, 9, &result))
        };
        let candidate = VoteRequest::new(Vote::new(5, FROM), Some(log_id(4, 9)));
        let voted = VoteResponse::new(Vote::new(5, FROM), Some(log_id(4, 9)), true);
        let transfer = TransferLeaderRequest::new(leader, 2, Some(log_id(5, 12)));
        let transferred = |response| {
            framed(kind::TRANSFERRED, &|out| messages::encode_transferred(out, &response))
        };
        let changed = TransferLeaderError::VoteChanged { expected: leader, actual: leader };
        let (expected, actual) = (Some(log_id(5, 12)), None);
        let behind = TransferLeaderError::LogNotFlushed { expected, actual };
        let mut seeds = vec![
            ("append", entries),
            ("appended", appended(Ok(Some(log_id(5, 12))))),
            ("appended-conflict", appended(Err(StreamAppendError::Conflict(log_id(3, 9))))),
            ("appended-higher", appended(Err(StreamAppendError::HigherVote(leader)))),
            ("vote", framed(kind::VOTE, &|out| messages::encode_vote_request(out, &candidate))),
            ("voted", framed(kind::VOTED, &|out| messages::encode_vote_response(out, &voted))),
            ("transfer", framed(kind::TRANSFER, &|out| messages::encode_transfer(out, &transfer))),
            ("transferred", transferred(Ok(()))),
            ("transferred-changed", transferred(Err(changed))),
            ("transferred-behind", transferred(Err(behind))),
            (
                "snapshot",
                framed(kind::SNAPSHOT, &|out| {
                    messages::encode_snapshot(out, &leader, &snapshot_meta());
                }),
            ),
            ("taken", framed(kind::TAKEN, &|out| out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 1, 0]))),
            ("installed", framed(kind::INSTALLED, &|out| messages::encode_installed(out, &leader))),
            (
                "order",
                framed(wire::kind::ORDER, &|out| {
                    let (peer, client) = ("a:1".to_owned(), "a:2".to_owned());
                    wire::encode_order(out, &wire::Order::Add { id: 4, peer, client });
                }),
            ),
            (
                "order-reconfig",
                framed(wire::kind::ORDER, &|out| {
                    let joining = Some("server.4=a:1:1;a:2".to_owned());
                    let (leaving, members) = (None, None);
                    let reconfig = Reconfig { joining, leaving, members, from_version: -1 };
                    wire::encode_order(out, &wire::Order::Reconfig(reconfig));
                }),
            ),
            (
                "elsewhere",
                framed(wire::kind::ELSEWHERE, &|out| wire::encode_elsewhere(out, 1, "a:1")),
            ),
            (
                "touch",
                framed(2, &|out| out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7])),
            ),
            ("propose", framed(1, &|out| out.extend_from_slice(b"\0\0\0\x03one"))),
        ];
        seeds.extend(handshake::tests::samples());
        seeds
    }

    #[test]
    fn the_seeds_of_the_target_message_are_these() {
        for (name, seed) in seeds() {
            crate::fuzz::tests::keep("message", name, &seed);
            message(&seed);
        }
    }
}
