//! What a member knows of a connection that has a session: who it is, and its requests that are
//! not answered yet, in the order in which they came.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::BytesMut;
use synod_core::SaslExchange;
use synod_core::engine::{Applied, Reader};
use synod_core::model::limits::REPLY_BYTES_MAX;
use synod_core::model::{Code, Refusal, Response, Zxid};
use synod_core::wire::{Shape, encode_reply};
use tokio::time::Instant;

use super::Decoded;
use crate::limits::OUTSTANDING_BYTES_SOFT;
use crate::roster::Peer;

/// A request that is not answered yet.
pub(super) enum Slot {
    /// It is on its way through the log; those behind it wait, but for writes, which follow it.
    Write {
        arrived: Instant,
        xid: i32,
        shape: Shape,
        /// Its place among the writes of the attachment.
        sequence: u64,
        /// Its place among everything that this member has proposed.
        number: u64,
        /// What it counts for among the bytes on their way.
        bytes: usize,
        /// It was applied while something before it was not answered.
        done: Option<Box<Applied>>,
    },
    /// A ping or a sync that waits for the leader's word.
    Asked { arrived: Instant, xid: i32, shape: Shape, done: bool },
    /// A change of the members that the leader is making.
    Reconfig {
        arrived: Instant,
        xid: i32,
        shape: Shape,
        done: Option<Box<Result<Response, Refusal>>>,
    },
    /// To be done when it is at the front.
    Other { arrived: Instant, decoded: Decoded },
}

impl Slot {
    /// Whether it can be answered.
    pub(super) fn is_done(&self) -> bool {
        matches!(
            self,
            Slot::Write { done: Some(_), .. }
                | Slot::Asked { done: true, .. }
                | Slot::Reconfig { done: Some(_), .. }
        )
    }
}

/// A connection that has a session.
pub(super) struct Seat {
    pub(super) peer: Arc<Peer>,
    pub(super) reader: Reader,
    /// How far its client is with SASL.
    pub(super) sasl: SaslExchange,
    pub(super) attachment: Zxid,
    /// The number of the last write that came through the attachment.
    pub(super) sequence: u64,
    pub(super) queue: VecDeque<Slot>,
    /// What those of them take in memory that are to be done at the front, in bytes.
    pub(super) queued_bytes: usize,
    /// Bytes of its writes that are on their way through the log.
    pub(super) unapplied_bytes: usize,
    /// Requests wait for room in the queue.
    pub(super) hungry: bool,
    /// The leader is to be told that the session was heard of.
    pub(super) touched: bool,
    /// The session is this member's alone, and only reads.
    pub(super) read_only: bool,
}

impl Seat {
    pub(super) fn new(peer: Arc<Peer>, reader: Reader, attachment: Zxid) -> Seat {
        Seat {
            peer,
            reader,
            sasl: SaslExchange::default(),
            attachment,
            sequence: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            unapplied_bytes: 0,
            hungry: false,
            touched: false,
            read_only: false,
        }
    }

    /// Takes what a write came to. Whether there is such a write.
    pub(super) fn applied(&mut self, number: u64, applied: Applied) -> bool {
        let write = self.queue.iter_mut().find_map(|slot| match slot {
            Slot::Write { sequence, done, bytes, .. } if *sequence == number => {
                Some((done, *bytes))
            }
            _ => None,
        });
        let Some((done, bytes)) = write else { return false };
        *done = Some(Box::new(applied));
        self.unapplied_bytes -= bytes;
        true
    }

    /// The leader has answered what stands at the front.
    pub(super) fn answered(&mut self) {
        if let Some(Slot::Asked { done, .. }) = self.queue.front_mut() {
            *done = true;
        }
    }

    /// What the change has come to that stands at the front.
    pub(super) fn reconfigured(&mut self, result: Result<Response, Refusal>) {
        if let Some(Slot::Reconfig { done, .. }) = self.queue.front_mut() {
            *done = Some(Box::new(result));
        }
    }

    /// Whether a write that was proposed up to `number` has not been applied.
    pub(super) fn awaits(&self, taken: u64) -> bool {
        self.queue
            .iter()
            .any(|slot| matches!(slot, Slot::Write { number, done: None, .. } if *number <= taken))
    }

    /// What the writes count for that the courier has not taken, when it has all up to `taken`.
    pub(super) fn untaken_bytes(&self, taken: u64) -> usize {
        let untaken = self.queue.iter().map(|slot| match slot {
            Slot::Write { number, done: None, bytes, .. } if *number > taken => *bytes,
            _ => 0,
        });
        untaken.sum()
    }

    /// Puts a reply into the outbox; how many bytes wait there.
    pub(super) fn reply(
        &self,
        xid: i32,
        zxid: Zxid,
        shape: &Shape,
        result: &Result<Response, Refusal>,
    ) -> usize {
        self.peer.packets_sent.fetch_add(1, Relaxed);
        self.peer.outbox.reply(|out| {
            let start = out.len();
            encode_reply(out, xid, zxid, shape, result);
            let bytes = out.len() - start;
            let rule = if bytes > REPLY_BYTES_MAX {
                "a reply has at most 64 MiB"
            } else if !self.peer.outbox.admits(bytes) {
                "all clients together have not taken as much as may wait for them"
            } else {
                return;
            };
            // Not in the room that was made for it.
            *out = BytesMut::from(&out[..start]);
            let refusal = Refusal::new(Code::Throttled, rule);
            encode_reply(out, xid, zxid, &Shape::Empty, &Err(refusal));
        })
    }

    /// Whether no more requests are taken in until some are answered.
    pub(super) fn is_full(&self, requests_max: usize) -> bool {
        self.queue.len() >= requests_max || self.queued_bytes >= OUTSTANDING_BYTES_SOFT
    }

    /// Takes in what is to be done when it is at the front.
    pub(super) fn enqueue(&mut self, arrived: Instant, decoded: Decoded) {
        self.queued_bytes += decoded.bytes;
        self.queue.push_back(Slot::Other { arrived, decoded });
    }

    /// Takes what is at the front out, if it is to be done there.
    pub(super) fn dequeue(&mut self) -> Option<(Instant, Decoded)> {
        if !matches!(self.queue.front(), Some(Slot::Other { .. })) {
            return None;
        }
        let Some(Slot::Other { arrived, decoded }) = self.queue.pop_front() else { return None };
        self.queued_bytes -= decoded.bytes;
        Some((arrived, decoded))
    }

    /// What `queued` and `queued_bytes` show.
    pub(super) fn count_queue(&self) {
        self.peer.queued.store(self.queue.len(), Relaxed);
        self.peer.queued_bytes.store(self.queued_bytes, Relaxed);
    }
}
