//! What a courier and a leader say to each other, as frames.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use synod_core::model::SessionId;

use super::Asked;
use crate::member::{Outgoing, Waiter};
use crate::replica::batch;
use crate::replica::frame::{self, Frame, Wire};
use crate::replica::types::malformed;

// From a member to the leader.
pub(super) const PROPOSE: u8 = 1;
pub(super) const TOUCH: u8 = 2;
pub(super) const ASK_INDEX: u8 = 3;
// From the leader to a member.
pub(super) const TOUCHED: u8 = 16;
pub(super) const INDEX: u8 = 17;
pub(super) const DIGEST: u8 = 18;

/// The next frame, or none for as long as there is no room for what it asks; output goes out all the
/// same. Dropping the future loses nothing.
pub(super) async fn next_if(wire: &mut Wire, room: bool) -> io::Result<Frame> {
    if room {
        return wire.next().await;
    }
    wire.flush().await?;
    std::future::pending().await
}

pub(super) fn sessions_of(waiters: &[Waiter]) -> Vec<SessionId> {
    let session = |waiter: &Waiter| match waiter {
        Waiter::Seat { session, .. } => Some(*session),
        Waiter::Caller(_) => None,
    };
    waiters.iter().filter_map(session).collect()
}

/// Makes frames of what a member has for the leader, of so many bytes each, or
/// [one only](crate::Bug::OneFrameOnly); `ask` if it is to be answered in any case.
pub(super) fn pack(
    outgoing: Outgoing,
    ask: bool,
    (frame_bytes_soft, one_only): (usize, bool),
    out: &mut BytesMut,
    asked: &mut Asked,
) -> io::Result<()> {
    let Outgoing { proposals, mut touched, pings, barriers, .. } = outgoing;
    let left = proposals.into_iter().filter(|proposal| !proposal.pinned);
    let mut left = left.map(|proposal| proposal.entry).peekable();
    while left.peek().is_some() {
        frame::put(out, PROPOSE, |out| batch::fill(out, &mut left, frame_bytes_soft))?;
        if one_only {
            break;
        }
    }
    touched.extend(sessions_of(&pings));
    let wants_answer = ask || !pings.is_empty();
    if wants_answer || !touched.is_empty() {
        frame::put(out, TOUCH, |out| {
            encode_sessions(out, &touched);
            if wants_answer {
                out.put_u8(1);
            }
        })?;
    }
    if wants_answer {
        asked.pings.push_back(pings);
    }
    if !barriers.is_empty() {
        frame::put(out, ASK_INDEX, |_| {})?;
        asked.barriers.push_back(barriers);
    }
    Ok(())
}

pub(super) fn encode_sessions(out: &mut BytesMut, sessions: &[SessionId]) {
    out.put_u32(sessions.len() as u32);
    sessions.iter().for_each(|session| out.put_i64(session.0));
}

pub(super) fn decode_sessions(body: &mut Bytes) -> io::Result<Vec<SessionId>> {
    const SHORT: &str = "a list of sessions is longer than what is there";
    let count = body.try_get_u32().map_err(|_| malformed(SHORT))? as usize;
    if count > body.len() / 8 {
        return Err(malformed(SHORT));
    }
    Ok((0..count).map(|_| SessionId(body.get_i64())).collect())
}

/// A body is nothing that a courier or its leader says, or it is read without harm.
#[cfg(feature = "testing")]
pub(in crate::replica) fn read_any(mut body: Bytes) {
    let _ = batch::check(&body);
    if let Ok(entries) = batch::split(body.clone()) {
        let mut again = BytesMut::new();
        batch::fill(&mut again, &mut entries.into_iter().peekable(), usize::MAX);
        assert_eq!(again, body);
    }
    if let Ok(sessions) = decode_sessions(&mut body) {
        let mut out = BytesMut::new();
        encode_sessions(&mut out, &sessions);
        let again = decode_sessions(&mut out.freeze()).expect("it was written here");
        assert_eq!(again, sessions);
    }
}
