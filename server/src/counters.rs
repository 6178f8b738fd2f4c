//! What is counted, for the four-letter words. Figures are added a batch at a time and read
//! without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Numbers since the start.
#[derive(Default)]
pub(crate) struct Counters {
    /// Requests, the connects among them.
    pub(crate) packets_received: AtomicU64,
    /// Replies and events.
    pub(crate) packets_sent: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    /// First frames that were connect requests.
    pub(crate) connects: AtomicU64,
    /// Connections past a bound.
    pub(crate) connections_rejected: AtomicU64,
    /// Connections that the server ended: for a stall, a bad frame, a bound.
    pub(crate) connections_dropped: AtomicU64,
    /// Connections that ended before they had a session.
    pub(crate) handshakes_failed: AtomicU64,
    pub(crate) auths_failed: AtomicU64,
    pub(crate) large_requests_rejected: AtomicU64,
    pub(crate) sessions_expired: AtomicU64,
    latency_micros_sum: AtomicU64,
    latency_count: AtomicU64,
    /// One more than the least, so that 0 means none.
    latency_micros_min_plus_1: AtomicU64,
    latency_micros_max: AtomicU64,
}

/// How long requests took from their arrival to their reply's being ready.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) sum_micros: u64,
    pub(crate) min_micros: u64,
    pub(crate) max_micros: u64,
}

impl Latency {
    pub(crate) fn add(&mut self, took: Duration) {
        let micros = took.as_micros() as u64;
        self.min_micros = if self.count == 0 { micros } else { self.min_micros.min(micros) };
        self.max_micros = self.max_micros.max(micros);
        self.sum_micros += micros;
        self.count += 1;
    }

    pub(crate) fn average_ms(&self) -> f64 {
        self.sum_micros as f64 / 1_000.0 / self.count.max(1) as f64
    }
}

impl Counters {
    pub(crate) fn add_latency(&self, batch: &Latency) {
        if batch.count == 0 {
            return;
        }
        self.latency_count.fetch_add(batch.count, Relaxed);
        self.latency_micros_sum.fetch_add(batch.sum_micros, Relaxed);
        self.latency_micros_max.fetch_max(batch.max_micros, Relaxed);
        let min = batch.min_micros + 1;
        let lower = |least: u64| (least == 0 || min < least).then_some(min);
        // An error says that there was nothing to lower.
        let _ = self.latency_micros_min_plus_1.fetch_update(Relaxed, Relaxed, lower);
    }

    /// Counts packets and latencies anew.
    pub(crate) fn reset(&self) {
        let all = [
            &self.packets_received,
            &self.packets_sent,
            &self.latency_micros_sum,
            &self.latency_count,
            &self.latency_micros_min_plus_1,
            &self.latency_micros_max,
        ];
        all.into_iter().for_each(|counter| counter.store(0, Relaxed));
    }

    pub(crate) fn latency(&self) -> Latency {
        Latency {
            count: self.latency_count.load(Relaxed),
            sum_micros: self.latency_micros_sum.load(Relaxed),
            min_micros: self.latency_micros_min_plus_1.load(Relaxed).saturating_sub(1),
            max_micros: self.latency_micros_max.load(Relaxed),
        }
    }
}

/// Counts one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_batches_add_up() {
        let counters = Counters::default();
        assert_eq!(counters.latency(), Latency::default());
        for batch in [&[3_000, 5_000][..], &[0, 4_000]] {
            let mut latency = Latency::default();
            batch.iter().for_each(|micros| latency.add(Duration::from_micros(*micros)));
            counters.add_latency(&latency);
        }
        let all = counters.latency();
        assert_eq!((all.count, all.min_micros, all.max_micros), (4, 0, 5_000));
        assert_eq!(all.average_ms(), 3.0);
    }
}
