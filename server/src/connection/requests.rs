//! From what has come to requests, within what all connections together may hold.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

use synod_core::wire::{BadFrame, decode_request, take_frame};

use super::Connection;
use crate::limits::{BATCH_REQUESTS_MAX, INPUT_BYTES_SOFT, REQUEST_BYTES_MIN};
use crate::member::Decoded;

/// What requests take in memory.
pub(super) fn bytes_of(batch: &VecDeque<Decoded>) -> usize {
    batch.iter().map(|decoded| decoded.bytes).sum()
}

impl Connection {
    /// Decodes whole frames into the batch, as many as it has room for, and not more than allowed.
    /// Whether the next must wait because all connections hold too much: what could be done at
    /// once never must.
    pub(super) fn decode(
        &mut self,
        batch: &mut VecDeque<Decoded>,
        allowed: usize,
    ) -> Result<bool, BadFrame> {
        let most = batch.len().saturating_add(allowed).min(BATCH_REQUESTS_MAX);
        let bytes_max = self.shared.config.limits.request_bytes_max;
        let mut batch_bytes = bytes_of(batch);
        self.hold(batch_bytes);
        while batch.len() < most {
            let is_first = batch.is_empty() && self.peer.queued.load(Relaxed) == 0;
            if !is_first && !self.received.is_empty() && self.holding.is_sated() {
                return Ok(true);
            }
            let Some(payload) = take_frame(&mut self.received, REQUEST_BYTES_MIN, bytes_max)?
            else {
                break;
            };
            self.let_in = 0;
            let bytes = payload.len();
            let decoded = Decoded::new(decode_request(payload), bytes);
            self.shared.trace.request(&self.peer, &decoded);
            batch_bytes += decoded.bytes;
            batch.push_back(decoded);
            self.hold(batch_bytes);
        }
        Ok(false)
    }

    /// Says how much it holds: what has come and what will of a frame that was let in, and the
    /// requests that wait here and in the queue.
    pub(super) fn hold(&mut self, batch_bytes: usize) {
        let received = self.received.len().max(self.let_in);
        self.holding.set(received + batch_bytes + self.peer.queued_bytes.load(Relaxed));
    }

    /// Whether more may be read of the frame that is half received: if it is long, there must be
    /// room for all of it.
    pub(super) fn lets_in(&mut self) -> bool {
        if self.received.len() < INPUT_BYTES_SOFT || self.let_in > 0 {
            return true;
        }
        let Some(length) = self.received.first_chunk() else { return true };
        let frame = length.len() + u32::from_be_bytes(*length) as usize;
        let lets_in = self.holding.try_set(frame + self.peer.queued_bytes.load(Relaxed));
        if lets_in {
            self.let_in = frame;
        }
        lets_in
    }
}
