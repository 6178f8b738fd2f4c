//! Who is connected: for the bounds on connections, for the words that list them, and for the
//! end of the server.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::time::Instant;

use crate::input::{Holding, Input};
use crate::limits::{Limits, RESTING_ADDRESSES_MAX};
use crate::outbox::{Fate, Outbox, Output};
use crate::pace::Pace;

/// One connection, as everybody but its own task sees it.
pub(crate) struct Peer {
    pub(crate) number: u64,
    pub(crate) address: SocketAddr,
    pub(crate) outbox: Outbox,
    /// That of its address.
    pub(crate) pace: Arc<Pace>,
    /// When it came, in milliseconds since the Unix epoch.
    pub(crate) since_ms: i64,
    /// Its session; 0 before it has one.
    pub(crate) session: AtomicI64,
    pub(crate) timeout_ms: AtomicU32,
    /// Requests that were read and not yet done.
    pub(crate) queued: AtomicUsize,
    /// What of them waits in memory, in bytes.
    pub(crate) queued_bytes: AtomicUsize,
    /// There is something at the front of its queue that its task can do.
    pub(crate) runnable: AtomicBool,
    pub(crate) packets_received: AtomicU64,
    pub(crate) packets_sent: AtomicU64,
}

impl Peer {
    /// Counts packets anew.
    pub(crate) fn reset(&self) {
        self.packets_received.store(0, Relaxed);
        self.packets_sent.store(0, Relaxed);
    }
}

/// All connections, in the order in which they came.
pub(crate) struct Roster {
    inner: Mutex<Inner>,
    input: Arc<Input>,
    output: Arc<Output>,
}

#[derive(Default)]
struct Inner {
    peers: BTreeMap<u64, Arc<Peer>>,
    /// Looked up only, never iterated.
    by_address: HashMap<IpAddr, Address>,
    /// Those whose last connection went, in that order; some of them have come again.
    resting: VecDeque<IpAddr>,
    last_number: u64,
    closed: bool,
}

/// An address that has connections, or had some a moment ago: its pace would begin anew if it
/// were forgotten at once, and with each connection then.
struct Address {
    connections: usize,
    /// Whether it is among those that may be forgotten.
    is_resting: bool,
    pace: Arc<Pace>,
}

impl Inner {
    /// Forgets addresses that would get a new pace like the one that they have.
    fn forget_rested(&mut self, now: Instant) {
        while let Some(ip) = self.resting.front() {
            if let Some(address) = self.by_address.get_mut(ip) {
                let has_room = self.resting.len() <= RESTING_ADDRESSES_MAX;
                if address.connections > 0 {
                    address.is_resting = false;
                } else if has_room && !address.pace.is_rested(now) {
                    return;
                } else {
                    self.by_address.remove(ip);
                }
            }
            self.resting.pop_front();
        }
    }
}

impl Roster {
    pub(crate) fn new(limits: &Limits) -> Roster {
        Roster {
            inner: Mutex::default(),
            input: Input::new(limits.total_input_bytes_max),
            output: Output::new(limits.total_output_bytes_max),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("the roster does not panic")
    }

    /// Enters a connection; `None` if a bound is reached, or the server is ending.
    pub(crate) fn enter(
        &self,
        address: SocketAddr,
        since_ms: i64,
        limits: &Limits,
    ) -> Option<Arc<Peer>> {
        let ip = address.ip().to_canonical();
        let mut inner = self.lock();
        inner.forget_rested(Instant::now());
        let of_address = inner.by_address.get(&ip).map_or(0, |address| address.connections);
        let is_free = ip.is_loopback() && !limits.loopback_is_bounded;
        let exempt = limits.connections_per_address_max == 0 || is_free;
        if inner.closed
            || inner.peers.len() >= limits.connections_max
            || (!exempt && of_address >= limits.connections_per_address_max)
        {
            return None;
        }
        let address_of_peer = inner.by_address.entry(ip).or_insert_with(|| {
            let per_second = if is_free { 0 } else { limits.requests_per_second_max };
            let connections = 0;
            Address {
                connections,
                is_resting: false,
                pace: Arc::new(Pace::new(per_second, Instant::now())),
            }
        });
        address_of_peer.connections += 1;
        let pace = Arc::clone(&address_of_peer.pace);
        inner.last_number += 1;
        let peer = Arc::new(Peer {
            number: inner.last_number,
            address,
            outbox: Outbox::new(limits.event_bytes_max, Arc::clone(&self.output)),
            pace,
            since_ms,
            session: AtomicI64::new(0),
            timeout_ms: AtomicU32::new(0),
            queued: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            runnable: AtomicBool::new(false),
            packets_received: AtomicU64::new(0),
            packets_sent: AtomicU64::new(0),
        });
        inner.peers.insert(peer.number, Arc::clone(&peer));
        Some(peer)
    }

    /// What a connection holds of the input of all.
    pub(crate) fn holding(&self) -> Holding {
        Holding::new(Arc::clone(&self.input))
    }

    pub(crate) fn leave(&self, peer: &Peer) {
        let mut inner = self.lock();
        if inner.peers.remove(&peer.number).is_none() {
            return;
        }
        let ip = peer.address.ip().to_canonical();
        if let Some(address) = inner.by_address.get_mut(&ip) {
            address.connections -= 1;
            // Once each: an address that comes and goes does not push out others, nor itself.
            if address.connections == 0 && !address.is_resting {
                address.is_resting = true;
                inner.resting.push_back(ip);
            }
        }
        inner.forget_rested(Instant::now());
    }

    pub(crate) fn peers(&self) -> Vec<Arc<Peer>> {
        self.lock().peers.values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().peers.len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Takes no further connection, and lets those that are there end once their replies are
    /// written.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        for peer in self.peers() {
            peer.outbox.end(Fate::Drain);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_that_comes_again_goes_on_at_the_pace_that_it_had() {
        let roster = Roster::new(&Limits::default());
        let limits = Limits { requests_per_second_max: 10, ..Limits::default() };
        let address: SocketAddr = "10.0.0.1:1".parse().expect("an address");
        let peer = roster.enter(address, 0, &limits).expect("there is room");
        peer.pace.spend(10, Instant::now());
        for _ in 0..3 {
            roster.leave(&roster.peers()[0]);
            let again = roster.enter(address, 0, &limits).expect("there is room");
            assert_eq!(again.pace.allows(Instant::now()), 0);
        }
        roster.leave(&roster.peers()[0]);
        tokio::time::advance(Duration::from_secs(1)).await;
        let other = "10.0.0.2:1".parse().expect("an address");
        let other = roster.enter(other, 0, &limits).expect("there is room");
        assert_eq!(roster.lock().by_address.len(), 1, "the first has rested");
        roster.leave(&other);
        let inner = roster.lock();
        assert_eq!((inner.by_address.len(), inner.resting.len()), (0, 0), "it asked nothing");
    }

    /// However many come and go in a moment.
    #[tokio::test(start_paused = true)]
    async fn so_many_addresses_are_remembered_and_no_more() {
        let roster = Roster::new(&Limits::default());
        let limits = Limits { requests_per_second_max: 1, ..Limits::default() };
        for number in 0..RESTING_ADDRESSES_MAX as u32 + 9 {
            let address = SocketAddr::from((number.to_be_bytes(), 1));
            let peer = roster.enter(address, 0, &limits).expect("there is room");
            peer.pace.spend(1, Instant::now());
            roster.leave(&peer);
        }
        // Nor does one that comes and goes push out others.
        let restless = SocketAddr::from(([9, 9, 9, 9], 1));
        let remembered = roster.lock().by_address.len();
        for _ in 0..2 * RESTING_ADDRESSES_MAX {
            let peer = roster.enter(restless, 0, &limits).expect("there is room");
            peer.pace.spend(1, Instant::now());
            roster.leave(&peer);
        }
        let inner = roster.lock();
        assert!(inner.by_address.len() + 2 > remembered, "{}", inner.by_address.len());
        assert!(inner.by_address.len() <= RESTING_ADDRESSES_MAX, "{}", inner.by_address.len());
        assert!(inner.resting.len() <= RESTING_ADDRESSES_MAX, "{}", inner.resting.len());
    }
}
