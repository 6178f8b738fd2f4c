use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use proptest::prelude::*;

use super::*;
use crate::replica::types::{Address, Command, FolderId};

const LEADER: u64 = 3;

fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: CommittedLeaderId::new(term), index }
}

fn a_log_id() -> impl Strategy<Value = LogId> {
    (0..=TERM_MAX, 0..=LOG_INDEX_MAX).prop_map(|(term, index)| log_id(term, index))
}

fn a_vote() -> impl Strategy<Value = Vote> {
    (0..=TERM_MAX, any::<u64>(), any::<bool>()).prop_map(|(term, node, committed)| {
        let mut vote = Vote::new(term, node);
        vote.committed = committed;
        vote
    })
}

fn members() -> Members {
    let node = |id: u64| Address {
        folder: FolderId([id as u8; 16]),
        peer: format!("peer{id}:1"),
        election: id as u16,
        client: format!("client{id}:2"),
    };
    let nodes: BTreeMap<u64, Address> = (1..=4).map(|id| (id, node(id))).collect();
    Members::new(vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])], nodes).expect("valid")
}

fn a_payload() -> impl Strategy<Value = super::super::types::Payload> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        Just(EntryPayload::Blank),
        Just(EntryPayload::Membership(members())),
        (any::<i64>(), bytes).prop_map(|(time_ms, entry)| {
            EntryPayload::Normal(Command { time_ms, entries: entry.into() })
        }),
    ]
}

/// A request that a leader of term 100 could send.
fn a_request() -> impl Strategy<Value = Append> {
    let prev = proptest::option::of((0..50u64, 0..1_000u64));
    let payloads = proptest::collection::vec(a_payload(), 0..20);
    (prev, payloads, proptest::option::of(0..1_000u64)).prop_map(|(prev, payloads, commit)| {
        let prev = prev.map(|(term, index)| log_id(term, index));
        let first = prev.map_or(0, |prev| prev.index + 1);
        let entries = payloads
            .into_iter()
            .zip(first..)
            .map(|(payload, index)| RaftEntry { log_id: log_id(50 + index / 500, index), payload });
        Append {
            vote: Vote::new_committed(100, LEADER),
            prev_log_id: prev,
            entries: entries.collect(),
            leader_commit: commit.map(|index| log_id(50, index)),
        }
    })
}

fn bodies(request: &Append) -> (Vec<Bytes>, Vec<Range>) {
    let (mut out, mut ranges, mut bodies) = (BytesMut::new(), Vec::new(), Vec::new());
    encode_append(&mut out, 9, request, |range| ranges.push(range)).expect("it fits");
    while let Some(frame) = frame::take(&mut out).expect("frames") {
        assert_eq!(frame.kind, kind::APPEND);
        bodies.push(frame.body);
    }
    assert!(out.is_empty());
    (bodies, ranges)
}

fn assert_same(left: &Append, right: &Append) {
    assert_eq!(
        (&left.vote, &left.prev_log_id, &left.entries, &left.leader_commit),
        (&right.vote, &right.prev_log_id, &right.entries, &right.leader_commit)
    );
}

/// Every shorter piece of a message is refused.
fn assert_cuts<T>(whole: &BytesMut, decode: impl Fn(Bytes) -> io::Result<T>) {
    let whole = Bytes::copy_from_slice(whole);
    assert!(decode(whole.clone()).is_ok());
    for cut in 0..whole.len() {
        assert!(decode(whole.slice(..cut)).is_err(), "cut at {cut}");
    }
    let mut longer = BytesMut::from(&whole[..]);
    longer.put_u8(0);
    assert!(decode(longer.freeze()).is_err());
}

proptest! {
    #[test]
    fn a_request_to_append_comes_out_as_it_went_in(request in a_request()) {
        let (bodies, ranges) = bodies(&request);
        prop_assert_eq!(bodies.len(), 1);
        let (session, decoded) = decode_append(bodies[0].clone(), LEADER).expect("decodes");
        prop_assert_eq!(session, 9);
        assert_same(&request, &decoded);
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let bytes = bodies[0].len() + 5;
        prop_assert_eq!(&ranges[..], &[Range { bytes, prev: request.prev_log_id, last }][..]);
    }

    #[test]
    fn a_cut_request_is_refused_or_ends_with_a_whole_entry(request in a_request()) {
        let (bodies, _) = bodies(&request);
        for cut in 0..bodies[0].len() {
            if let Ok((_, decoded)) = decode_append(bodies[0].slice(..cut), LEADER) {
                let count = decoded.entries.len();
                prop_assert!(count < request.entries.len());
                prop_assert_eq!(&decoded.entries[..], &request.entries[..count]);
            }
        }
    }

    #[test]
    fn results_votes_and_transfers_come_out_as_they_went_in(
        id in a_log_id(), other in proptest::option::of(a_log_id()), vote in a_vote(), flag: bool,
    ) {
        for result in [
            Ok(other), Err(StreamAppendError::Conflict(id)), Err(StreamAppendError::HigherVote(vote)),
        ] {
            let mut out = BytesMut::new();
            encode_appended(&mut out, 4, &result);
            assert_cuts(&out, decode_appended);
            prop_assert_eq!(decode_appended(out.freeze()).expect("decodes"), (4, result));
        }
        let mut request = VoteRequest::new(Vote::new(vote.leader_id.term, LEADER), other);
        request.leadership_transfer = flag;
        let mut out = BytesMut::new();
        encode_vote_request(&mut out, &request);
        assert_cuts(&out, |body| decode_vote_request(body, LEADER));
        prop_assert_eq!(decode_vote_request(out.freeze(), LEADER).expect("decodes"), request);

        let response = VoteResponse::new(vote, other, flag);
        let mut out = BytesMut::new();
        encode_vote_response(&mut out, &response);
        assert_cuts(&out, decode_vote_response);
        prop_assert_eq!(decode_vote_response(out.freeze()).expect("decodes"), response);

        let leader = Vote::new_committed(vote.leader_id.term, LEADER);
        let request = TransferLeaderRequest::new(leader, 8, other);
        let mut out = BytesMut::new();
        encode_transfer(&mut out, &request);
        assert_cuts(&out, |body| decode_transfer(body, LEADER));
        prop_assert_eq!(decode_transfer(out.freeze(), LEADER).expect("decodes"), request);
        for response in [
            Ok(()),
            Err(TransferLeaderError::VoteChanged { expected: vote, actual: leader }),
            Err(TransferLeaderError::LogNotFlushed { expected: other, actual: Some(id) }),
        ] {
            let mut out = BytesMut::new();
            encode_transferred(&mut out, &response);
            assert_cuts(&out, decode_transferred);
            prop_assert_eq!(decode_transferred(out.freeze()).expect("decodes"), response);
        }
    }

    #[test]
    fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let body = Bytes::from(bytes);
        let _ = decode_append(body.clone(), LEADER);
        let _ = decode_appended(body.clone());
        let _ = decode_vote_request(body.clone(), LEADER);
        let _ = decode_vote_response(body.clone());
        let _ = decode_transfer(body.clone(), LEADER);
        let _ = decode_transferred(body.clone());
        let _ = decode_snapshot(body.clone(), LEADER);
        let _ = decode_installed(body.clone());
        let _ = decode_count(body);
    }

    #[test]
    fn no_changed_byte_panics(request in a_request(), at: prop::sample::Index, to: u8) {
        let (bodies, _) = bodies(&request);
        let mut body = BytesMut::from(&bodies[0][..]);
        let at = at.index(body.len());
        body[at] = to;
        let _ = decode_append(body.freeze(), LEADER);
    }
}

#[test]
fn a_request_too_large_for_a_frame_goes_in_several_that_follow_on_each_other() {
    let entry = |index| RaftEntry {
        log_id: log_id(1, index),
        payload: EntryPayload::Normal(Command { time_ms: 1, entries: vec![1; 300 << 10].into() }),
    };
    let request = Append {
        vote: Vote::new_committed(1, LEADER),
        prev_log_id: Some(log_id(1, 9)),
        entries: (10..20).map(entry).collect(),
        leader_commit: Some(log_id(1, 5)),
    };
    let (bodies, ranges) = bodies(&request);
    assert_eq!(bodies.len(), 3);
    let mut prev = Some(log_id(1, 9));
    let mut entries = Vec::new();
    for (body, range) in bodies.into_iter().zip(ranges) {
        let bytes = body.len() + 5;
        let (_, part) = decode_append(body, LEADER).expect("decodes");
        assert_eq!(part.prev_log_id, prev);
        prev = part.entries.last().map(|entry| entry.log_id);
        assert_eq!(range, Range { bytes, prev: part.prev_log_id, last: prev });
        entries.extend(part.entries);
    }
    assert_eq!(entries, request.entries);
}

#[test]
fn entries_with_a_gap_are_not_sent() {
    let entry = |index| RaftEntry { log_id: log_id(1, index), payload: EntryPayload::Blank };
    for (prev, indexes) in [(Some(9), vec![10, 12]), (Some(9), vec![9]), (None, vec![1])] {
        let request = Append {
            vote: Vote::new_committed(1, LEADER),
            prev_log_id: prev.map(|index| log_id(1, index)),
            entries: indexes.into_iter().map(entry).collect(),
            leader_commit: None,
        };
        let mut out = BytesMut::new();
        assert!(encode_append(&mut out, 9, &request, |_| {}).is_err() && out.is_empty());
    }
}

#[test]
fn a_snapshot_begins_as_it_was_said() {
    let last_membership = StoredMembership::new(Some(log_id(2, 7)), members());
    let meta = SnapshotMeta { last_log_id: Some(log_id(2, 9)), last_membership };
    let vote = Vote::new_committed(2, LEADER);
    let mut out = BytesMut::new();
    encode_snapshot(&mut out, &vote, &meta);
    assert_cuts(&out, |body| decode_snapshot(body, LEADER));
    assert_eq!(decode_snapshot(out.freeze(), LEADER).expect("decodes"), (vote, meta));
}

#[test]
fn what_no_member_sends_is_refused() {
    let entry =
        |term, index| RaftEntry { log_id: log_id(term, index), payload: EntryPayload::Blank };
    let good = Append {
        vote: Vote::new_committed(5, LEADER),
        prev_log_id: Some(log_id(3, 9)),
        entries: vec![entry(4, 10), entry(5, 11)],
        leader_commit: None,
    };
    let refused = |request: &Append, from: u64| {
        let (bodies, _) = bodies(request);
        decode_append(bodies[0].clone(), from).err().map(|error| error.to_string())
    };
    assert_eq!(refused(&good, LEADER), None);
    assert_eq!(refused(&good, 4).as_deref(), Some("a leader speaks for itself"));
    let candidate = Append { vote: Vote::new(5, LEADER), ..good.clone() };
    assert_eq!(refused(&candidate, LEADER).as_deref(), Some("a leader's vote is committed"));
    let backwards = Append { entries: vec![entry(5, 10), entry(4, 11)], ..good.clone() };
    assert!(refused(&backwards, LEADER).is_some_and(|text| text.contains("at least that of")));
    let later = Append { entries: vec![entry(6, 10)], ..good.clone() };
    assert!(refused(&later, LEADER).is_some_and(|text| text.contains("no entry is of a later")));
    let commit = Append { leader_commit: Some(log_id(6, 1)), ..good.clone() };
    assert!(refused(&commit, LEADER).is_some());
    let term = Append { vote: Vote::new_committed(TERM_MAX + 1, LEADER), ..good.clone() };
    assert_eq!(refused(&term, LEADER).as_deref(), Some("a term is below 2^31"));
    let beyond = vec![entry(5, LOG_INDEX_MAX + 1)];
    let index = Append { prev_log_id: Some(log_id(3, LOG_INDEX_MAX)), entries: beyond, ..good };
    assert!(refused(&index, LEADER).is_some_and(|text| text.contains("at most 2^62")));

    let mut out = BytesMut::new();
    let asked = VoteRequest::new(Vote::new(5, LEADER), None);
    encode_vote_request(&mut out, &asked);
    assert!(decode_vote_request(out.clone().freeze(), 4).is_err());

    let meta = SnapshotMeta { last_log_id: None, ..SnapshotMeta::default() };
    let mut out = BytesMut::new();
    encode_snapshot(&mut out, &Vote::new_committed(5, LEADER), &meta);
    assert!(decode_snapshot(out.freeze(), LEADER).is_err());
}

#[test]
fn a_reply_is_held_against_what_was_sent() {
    let range = Range { bytes: 9, prev: Some(log_id(1, 4)), last: Some(log_id(1, 6)) };
    let first = Range { prev: None, ..range };
    assert!(check_appended(&Ok(Some(log_id(1, 6))), &range).is_ok());
    assert!(check_appended(&Ok(Some(log_id(1, 7))), &range).is_err());
    assert!(check_appended(&Ok(None), &range).is_err());
    let conflict = |index| Err(StreamAppendError::Conflict(log_id(1, index)));
    assert!(check_appended(&conflict(4), &range).is_ok());
    assert!(check_appended(&conflict(3), &range).is_err());
    assert!(check_appended(&conflict(4), &first).is_err());
    let higher = Err(StreamAppendError::HigherVote(Vote::new(9, 1)));
    assert!(check_appended(&higher, &range).is_ok());
}
