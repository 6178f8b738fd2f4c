//! The requests and replies of consensus as bytes. Numbers are big-endian; an optional value has a
//! byte in front that says whether it is there.
//!
//! Whatever comes in is judged here, so that nothing reaches consensus that a member could not
//! have sent: entries follow on each other, an established leader speaks for itself, terms and
//! indexes stay where one can be added to them.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::StoredMembership;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::vote::RaftLeaderId;
use synod_core::model::limits::TERM_MAX;

use super::frame;
use super::types::{
    CommittedLeaderId, LogId, Members, RaftEntry, Types, Vote, decode_members, decode_payload,
    encode_members, encode_payload, malformed,
};
use crate::limits::{APPEND_BYTES_SOFT, LOG_INDEX_MAX};

pub(crate) type SnapshotMeta =
    openraft::SnapshotMeta<CommittedLeaderId, u64, super::types::Address>;
pub(crate) type Append = AppendEntriesRequest<Types>;
pub(crate) type AppendResult = StreamAppendResult<Types>;

/// The kinds of frames. Those below 10 are the handshake's.
pub(crate) mod kind {
    /// Entries; or none, for a heartbeat or a commit.
    pub(crate) const APPEND: u8 = 10;
    /// What came of them.
    pub(crate) const APPENDED: u8 = 11;
    /// Whoever is asked is at work.
    pub(crate) const ALIVE: u8 = 12;
    /// It cannot be done, with a text that says why.
    pub(crate) const FAILED: u8 = 13;
    /// Asks for a vote, or whether there would be one.
    pub(crate) const VOTE: u8 = 20;
    pub(crate) const PRE_VOTE: u8 = 21;
    pub(crate) const VOTED: u8 = 22;
    /// Hands the leadership on.
    pub(crate) const TRANSFER: u8 = 23;
    pub(crate) const TRANSFERRED: u8 = 24;
    /// A snapshot comes.
    pub(crate) const SNAPSHOT: u8 = 30;
    pub(crate) const CHUNK: u8 = 31;
    /// So many bytes of it were taken.
    pub(crate) const TAKEN: u8 = 32;
    /// It is whole.
    pub(crate) const END: u8 = 33;
    /// It is installed, or not needed.
    pub(crate) const INSTALLED: u8 = 34;
}

fn short<E>(_: E) -> io::Error {
    malformed("a message is longer than what is there")
}

fn ended(body: &Bytes) -> io::Result<()> {
    if body.is_empty() { Ok(()) } else { Err(malformed("a message ends where its fields end")) }
}

fn get_flag(body: &mut Bytes) -> io::Result<bool> {
    match body.try_get_u8().map_err(short)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(malformed("a flag is 0 or 1")),
    }
}

fn get_term(body: &mut Bytes) -> io::Result<u64> {
    let term = body.try_get_u64().map_err(short)?;
    if term > TERM_MAX { Err(malformed("a term is below 2^31")) } else { Ok(term) }
}

fn put_vote(out: &mut BytesMut, vote: &Vote) {
    out.put_u64(vote.leader_id.term);
    out.put_u64(vote.leader_id.voted_for);
    out.put_u8(vote.committed.into());
}

fn get_vote(body: &mut Bytes) -> io::Result<Vote> {
    let term = get_term(body)?;
    let node_id = body.try_get_u64().map_err(short)?;
    let mut vote = Vote::new(term, node_id);
    vote.committed = get_flag(body)?;
    Ok(vote)
}

/// The vote of an established leader, `from`.
fn get_leaders_vote(body: &mut Bytes, from: u64) -> io::Result<Vote> {
    let vote = get_vote(body)?;
    if !vote.committed {
        Err(malformed("a leader's vote is committed"))
    } else if *vote.leader_id.node_id() != from {
        Err(malformed("a leader speaks for itself"))
    } else {
        Ok(vote)
    }
}

fn put_log_id(out: &mut BytesMut, id: &LogId) {
    out.put_u64(id.leader_id.term);
    out.put_u64(id.index);
}

fn get_log_id(body: &mut Bytes) -> io::Result<LogId> {
    let leader_id = CommittedLeaderId::new(get_term(body)?);
    let index = body.try_get_u64().map_err(short)?;
    if index > LOG_INDEX_MAX {
        return Err(malformed("the index of an entry is at most 2^62"));
    }
    Ok(LogId { leader_id, index })
}

pub(super) fn put_option(out: &mut BytesMut, id: Option<&LogId>) {
    out.put_u8(id.is_some().into());
    if let Some(id) = id {
        put_log_id(out, id);
    }
}

pub(super) fn get_option(body: &mut Bytes) -> io::Result<Option<LogId>> {
    if get_flag(body)? { Ok(Some(get_log_id(body)?)) } else { Ok(None) }
}

/// What was sent in one frame: from which entry to which. Its reply is held against that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) bytes: usize,
    pub(crate) prev: Option<LogId>,
    pub(crate) last: Option<LogId>,
}

/// Appends a request as one frame, or as several where its entries are too large for one. Each is
/// a request of its own and is answered; `sent` is told of each.
///
/// # Errors
/// The entries do not follow on each other; or a single one is larger than a frame may be, and then
/// nothing of it is in `out`, but what goes before it.
pub(crate) fn encode_append(
    out: &mut BytesMut,
    session: u32,
    request: &Append,
    mut sent: impl FnMut(Range),
) -> io::Result<()> {
    let mut prev = request.prev_log_id;
    let mut left = request.entries.as_slice();
    // They travel without their indexes.
    let first = prev.map_or(0, |prev| prev.index + 1);
    if left.iter().zip(first..).any(|(entry, index)| entry.log_id.index != index) {
        return Err(malformed("entries follow on each other"));
    }
    loop {
        let mut count = 0;
        let start = out.len();
        frame::put(out, kind::APPEND, |out| {
            out.put_u32(session);
            put_vote(out, &request.vote);
            put_option(out, prev.as_ref());
            put_option(out, request.leader_commit.as_ref());
            while count < left.len() && (count == 0 || out.len() - start < APPEND_BYTES_SOFT) {
                put_entry(out, &left[count]);
                count += 1;
            }
        })?;
        let (encoded, rest) = left.split_at(count);
        let last = encoded.last().map(|entry| entry.log_id).or(prev);
        sent(Range { bytes: out.len() - start, prev, last });
        if rest.is_empty() {
            return Ok(());
        }
        (prev, left) = (last, rest);
    }
}

/// Length, term, payload. The index is known: entries follow on each other.
fn put_entry(out: &mut BytesMut, entry: &RaftEntry) {
    let start = out.len();
    out.put_u32(0);
    out.put_u64(entry.log_id.leader_id.term);
    encode_payload(out, &entry.payload);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// A request of `from`, and the session that it belongs to. Entries share the bytes of the frame.
///
/// # Errors
/// It is no request that a leader sends.
pub(crate) fn decode_append(mut body: Bytes, from: u64) -> io::Result<(u32, Append)> {
    let session = body.try_get_u32().map_err(short)?;
    let vote = get_leaders_vote(&mut body, from)?;
    let prev_log_id = get_option(&mut body)?;
    let leader_commit = get_option(&mut body)?;
    let mut entries = Vec::new();
    let mut before = prev_log_id;
    while body.has_remaining() {
        let length = body.try_get_u32().map_err(short)? as usize;
        if length > body.len() {
            return Err(short(()));
        }
        let mut bytes = body.split_to(length);
        let leader_id = CommittedLeaderId::new(get_term(&mut bytes)?);
        let index = before.map_or(0, |before| before.index + 1);
        if index > LOG_INDEX_MAX {
            return Err(malformed("the index of an entry is at most 2^62"));
        }
        let log_id = LogId { leader_id, index };
        if before.is_some_and(|before| before.leader_id > leader_id) {
            return Err(malformed("an entry's term is at least that of the entry before it"));
        }
        entries.push(RaftEntry { log_id, payload: decode_payload(bytes)? });
        before = Some(log_id);
    }
    for id in [before, leader_commit].into_iter().flatten() {
        if id.leader_id.term > vote.leader_id.term {
            return Err(malformed("no entry is of a later term than the leader's"));
        }
    }
    Ok((session, Append { vote, prev_log_id, entries, leader_commit }))
}

const OK: u8 = 0;
const CONFLICT: u8 = 1;
const HIGHER_VOTE: u8 = 2;

pub(crate) fn encode_appended(out: &mut BytesMut, session: u32, result: &AppendResult) {
    out.put_u32(session);
    match result {
        Ok(matching) => {
            out.put_u8(OK);
            put_option(out, matching.as_ref());
        }
        Err(StreamAppendError::Conflict(at)) => {
            out.put_u8(CONFLICT);
            put_log_id(out, at);
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            out.put_u8(HIGHER_VOTE);
            put_vote(out, vote);
        }
    }
}

/// # Errors
/// The bytes are no result.
pub(crate) fn decode_appended(mut body: Bytes) -> io::Result<(u32, AppendResult)> {
    let session = body.try_get_u32().map_err(short)?;
    let result = match body.try_get_u8().map_err(short)? {
        OK => Ok(get_option(&mut body)?),
        CONFLICT => Err(StreamAppendError::Conflict(get_log_id(&mut body)?)),
        HIGHER_VOTE => Err(StreamAppendError::HigherVote(get_vote(&mut body)?)),
        _ => return Err(malformed("the result of an append is 0, 1 or 2")),
    };
    ended(&body)?;
    Ok((session, result))
}

/// Whether a reply can be that to the request of this range. One that was not sent must not count
/// as replicated, and a conflict before the first entry does not exist.
///
/// # Errors
/// It cannot.
pub(crate) fn check_appended(result: &AppendResult, range: &Range) -> io::Result<()> {
    match result {
        Ok(matching) if *matching != range.last => {
            Err(malformed("a reply acknowledges the last entry of its request"))
        }
        Err(StreamAppendError::Conflict(at)) if Some(*at) != range.prev => {
            Err(malformed("a conflict is at the entry before those of its request"))
        }
        _ => Ok(()),
    }
}

pub(crate) fn encode_vote_request(out: &mut BytesMut, request: &VoteRequest<Types>) {
    put_vote(out, &request.vote);
    put_option(out, request.last_log_id.as_ref());
    out.put_u8(request.leadership_transfer.into());
}

/// # Errors
/// It is no request that the candidate `from` sends.
pub(crate) fn decode_vote_request(mut body: Bytes, from: u64) -> io::Result<VoteRequest<Types>> {
    let vote = get_vote(&mut body)?;
    if vote.committed || *vote.leader_id.node_id() != from {
        return Err(malformed("a candidate asks for a vote for itself that is not granted yet"));
    }
    let mut request = VoteRequest::new(vote, get_option(&mut body)?);
    request.leadership_transfer = get_flag(&mut body)?;
    ended(&body)?;
    Ok(request)
}

pub(crate) fn encode_vote_response(out: &mut BytesMut, response: &VoteResponse<Types>) {
    put_vote(out, &response.vote);
    put_option(out, response.last_log_id.as_ref());
    out.put_u8(response.vote_granted.into());
}

/// # Errors
/// The bytes are no response.
pub(crate) fn decode_vote_response(mut body: Bytes) -> io::Result<VoteResponse<Types>> {
    let vote = get_vote(&mut body)?;
    let last_log_id = get_option(&mut body)?;
    let granted = get_flag(&mut body)?;
    ended(&body)?;
    Ok(VoteResponse::new(vote, last_log_id, granted))
}

pub(crate) fn encode_transfer(out: &mut BytesMut, request: &TransferLeaderRequest<Types>) {
    put_vote(out, request.from_leader());
    out.put_u64(*request.to_node_id());
    put_option(out, request.last_log_id());
}

/// # Errors
/// It is no request that the leader `from` sends.
pub(crate) fn decode_transfer(
    mut body: Bytes,
    from: u64,
) -> io::Result<TransferLeaderRequest<Types>> {
    let vote = get_leaders_vote(&mut body, from)?;
    let to = body.try_get_u64().map_err(short)?;
    let last_log_id = get_option(&mut body)?;
    ended(&body)?;
    Ok(TransferLeaderRequest::new(vote, to, last_log_id))
}

const VOTE_CHANGED: u8 = 1;
const NOT_FLUSHED: u8 = 2;

pub(crate) fn encode_transferred(out: &mut BytesMut, response: &TransferLeaderResponse<Types>) {
    match response {
        Ok(()) => out.put_u8(OK),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            out.put_u8(VOTE_CHANGED);
            put_vote(out, expected);
            put_vote(out, actual);
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            out.put_u8(NOT_FLUSHED);
            put_option(out, expected.as_ref());
            put_option(out, actual.as_ref());
        }
    }
}

/// # Errors
/// The bytes are no response.
pub(crate) fn decode_transferred(mut body: Bytes) -> io::Result<TransferLeaderResponse<Types>> {
    let response = match body.try_get_u8().map_err(short)? {
        OK => Ok(()),
        VOTE_CHANGED => Err(TransferLeaderError::VoteChanged {
            expected: get_vote(&mut body)?,
            actual: get_vote(&mut body)?,
        }),
        NOT_FLUSHED => Err(TransferLeaderError::LogNotFlushed {
            expected: get_option(&mut body)?,
            actual: get_option(&mut body)?,
        }),
        _ => return Err(malformed("the answer to a transfer is 0, 1 or 2")),
    };
    ended(&body)?;
    Ok(response)
}

/// What a snapshot holds: up to which entry, and who the members were there.
pub(crate) fn encode_meta(out: &mut BytesMut, meta: &SnapshotMeta) {
    put_option(out, meta.last_log_id.as_ref());
    put_option(out, meta.last_membership.log_id().as_ref());
    encode_members(out, meta.last_membership.membership());
}

/// # Errors
/// The bytes are no such thing.
pub(crate) fn decode_meta(body: &mut Bytes) -> io::Result<SnapshotMeta> {
    let last_log_id = get_option(body)?;
    let membership_id = get_option(body)?;
    let members: Members = decode_members(body)?;
    if membership_id > last_log_id {
        return Err(malformed("the members in a snapshot are those of its last entry or before"));
    }
    let last_membership = StoredMembership::new(membership_id, members);
    Ok(SnapshotMeta { last_log_id, last_membership })
}

/// The first frame of a snapshot.
pub(crate) fn encode_snapshot(out: &mut BytesMut, vote: &Vote, meta: &SnapshotMeta) {
    put_vote(out, vote);
    encode_meta(out, meta);
}

/// # Errors
/// It is no snapshot that the leader `from` sends.
pub(crate) fn decode_snapshot(mut body: Bytes, from: u64) -> io::Result<(Vote, SnapshotMeta)> {
    let vote = get_leaders_vote(&mut body, from)?;
    let meta = decode_meta(&mut body)?;
    ended(&body)?;
    let Some(last) = meta.last_log_id else {
        return Err(malformed("a snapshot holds at least one entry"));
    };
    if last.leader_id.term > vote.leader_id.term {
        return Err(malformed("no entry is of a later term than the leader's"));
    }
    let configs = meta.last_membership.membership().get_joint_config();
    if configs.is_empty() {
        return Err(malformed("a snapshot has at least one voter"));
    }
    Ok((vote, meta))
}

pub(crate) fn encode_installed(out: &mut BytesMut, vote: &Vote) {
    put_vote(out, vote);
}

/// # Errors
/// The bytes are no vote.
pub(crate) fn decode_installed(mut body: Bytes) -> io::Result<Vote> {
    let vote = get_vote(&mut body)?;
    ended(&body)?;
    Ok(vote)
}

/// # Errors
/// The bytes are no count.
pub(crate) fn decode_count(mut body: Bytes) -> io::Result<u64> {
    let count = body.try_get_u64().map_err(short)?;
    ended(&body)?;
    Ok(count)
}

#[cfg(test)]
mod tests;
