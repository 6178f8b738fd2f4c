//! A network in memory, on tokio's paused clock, from a seed.
//!
//! A connection is two pipes; a task carries what is written into one end of a pipe to its other
//! end, in order, with a delay drawn for each write. A link (from one node to another) that is cut
//! holds back what is under way and lets it go, late, when it heals, as TCP does by sending again:
//! nothing of a connection is ever lost but by a reset or with a node's power. So the bytes of a
//! connection that its client has long given up still arrive.
//!
//! | file | what it holds |
//! |---|---|
//! | `mod` | nodes, links between them, connecting and listening |
//! | `pipe` | one direction of a connection: bounded, in order, late |
//! | `shape` | which links a partition of a shape cuts |

mod pipe;
mod shape;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use synod_core::testing::SeededEntropy;
use synod_server::net::{Listener, Net, NetFuture, Stream};
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use pipe::{Connection, carry};
pub(crate) use pipe::{Heard, SimStream};
pub(crate) use shape::{Shape, shape};

/// Connections that wait to be accepted at one address.
const BACKLOG_MAX: usize = 64;

/// What a pipe holds, in bytes: written and not yet read. One in four holds so little that a
/// writer is often made to wait.
const PIPE_BYTES: usize = 64 << 10;
const NARROW_PIPE_BYTES: usize = 600;

/// A write goes as two segments once in so many.
pub(crate) const SPLIT_ONE_IN: u64 = 10;

/// How much later than a link's healing what it held back arrives, in milliseconds.
const RESEND_MS_MAX: u64 = 300;

/// Who is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    /// A member of the cluster, from 1.
    Member(u8),
    /// A client, from 0.
    Client(u8),
}

impl Node {
    pub(crate) fn ip(self) -> Ipv4Addr {
        match self {
            Node::Member(id) => Ipv4Addr::new(10, 0, 0, id),
            Node::Client(id) => Ipv4Addr::new(10, 0, 1, id),
        }
    }

    fn of(address: SocketAddr) -> Option<Node> {
        match address.ip() {
            IpAddr::V4(ip) => match ip.octets() {
                [10, 0, 0, id] => Some(Node::Member(id)),
                [10, 0, 1, id] => Some(Node::Client(id)),
                _ => None,
            },
            IpAddr::V6(_) => None,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Member(id) => write!(f, "m{id}"),
            Node::Client(id) => write!(f, "c{id}"),
        }
    }
}

/// How one direction between two nodes behaves.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// Cut by so many faults at a time.
    cuts: u32,
    /// Refuses new connections, by so many faults at a time.
    refusals: u32,
    /// On top of every delay, in milliseconds.
    extra_ms: u64,
}

struct State {
    links: BTreeMap<(Node, Node), Link>,
    /// Without power: what is sent to them waits, and they send nothing.
    off: BTreeSet<Node>,
    listeners: BTreeMap<SocketAddr, Port>,
    connections: BTreeMap<u64, Arc<Connection>>,
    last_connection: u64,
    last_port: u16,
    /// The longest ordinary delay, in milliseconds.
    delay_ms_max: u64,
}

/// Where connections wait to be accepted.
struct Port {
    number: u64,
    waiting: mpsc::Sender<(SimStream, SocketAddr)>,
}

/// The whole network.
#[derive(Clone)]
pub(crate) struct SimNet {
    state: Arc<Mutex<State>>,
    random: Arc<SeededEntropy>,
    /// A link has changed.
    changed: Arc<Notify>,
}

impl SimNet {
    pub(crate) fn new(seed: u64) -> SimNet {
        let random = SeededEntropy::new(seed);
        let state = State {
            links: BTreeMap::new(),
            off: BTreeSet::new(),
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            last_connection: 0,
            last_port: 1_024,
            delay_ms_max: 1 + random.below(6),
        };
        SimNet {
            state: Arc::new(Mutex::new(state)),
            random: Arc::new(random),
            changed: Arc::new(Notify::new()),
        }
    }

    /// The network as `node` has it.
    pub(crate) fn of(&self, node: Node) -> Arc<dyn Net> {
        Arc::new(Handle { net: self.clone(), node })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the network does not panic")
    }

    fn change_link(&self, from: Node, to: Node, change: impl FnOnce(&mut Link)) {
        change(self.lock().links.entry((from, to)).or_default());
        self.changed.notify_waiters();
    }

    /// Holds back everything from `from` to `to`, in this direction alone.
    pub(crate) fn cut(&self, from: Node, to: Node) {
        self.change_link(from, to, |link| link.cuts += 1);
    }

    /// Takes one cut back.
    pub(crate) fn mend(&self, from: Node, to: Node) {
        self.change_link(from, to, |link| link.cuts = link.cuts.saturating_sub(1));
    }

    /// Makes new connections from `from` to `to` be refused, or not any more.
    pub(crate) fn refuse(&self, from: Node, to: Node, refuse: bool) {
        self.change_link(from, to, |link| {
            link.refusals =
                if refuse { link.refusals + 1 } else { link.refusals.saturating_sub(1) };
        });
    }

    /// Delays everything between the two, both ways.
    pub(crate) fn slow(&self, a: Node, b: Node, extra_ms: u64) {
        self.change_link(a, b, |link| link.extra_ms = extra_ms);
        self.change_link(b, a, |link| link.extra_ms = extra_ms);
    }

    /// Holds one connection between the two back, one way or both, or makes it late by so many
    /// milliseconds, while the others are as ever; its number, if there is one.
    pub(crate) fn hinder_one(&self, a: Node, b: Node, extra_ms: Option<u64>) -> Option<u64> {
        let between = self.between(a, b);
        let count = between.len() as u64;
        let (number, connection) = between.get(self.random.below(count.max(1)) as usize)?;
        match extra_ms {
            Some(extra_ms) => connection.extra_ms.store(extra_ms, Relaxed),
            None => {
                let ways = 1 + self.random.below(3);
                for (way, held) in connection.held.iter().enumerate() {
                    held.store(ways & (1 << way) != 0, Relaxed);
                }
            }
        }
        Some(*number)
    }

    /// Makes a connection like the others again.
    pub(crate) fn release(&self, number: u64) {
        if let Some(connection) = self.lock().connections.get(&number) {
            connection.held.iter().for_each(|held| held.store(false, Relaxed));
            connection.extra_ms.store(0, Relaxed);
        }
        self.changed.notify_waiters();
    }

    /// Every link as at the start.
    pub(crate) fn heal(&self) {
        self.lock().links.clear();
        self.changed.notify_waiters();
    }

    /// Resets the connections between the two; how many.
    pub(crate) fn reset(&self, a: Node, b: Node) -> usize {
        let between = self.between(a, b);
        between.iter().for_each(|(_, connection)| connection.reset());
        between.len()
    }

    /// The next write on each connection between the two goes half, and a reset behind it.
    pub(crate) fn cut_next_write(&self, a: Node, b: Node) {
        for (_, connection) in self.between(a, b) {
            connection.cut_next_write();
        }
    }

    fn between(&self, a: Node, b: Node) -> Vec<(u64, Arc<Connection>)> {
        let state = self.lock();
        let joins =
            |connection: &Connection| connection.ends == [a, b] || connection.ends == [b, a];
        let all = state.connections.iter().filter(|(_, connection)| joins(connection));
        all.map(|(number, connection)| (*number, Arc::clone(connection))).collect()
    }

    /// Takes the node's power: from now on nothing of it is heard, not even the end of its
    /// connections.
    pub(crate) fn power_off(&self, node: Node) {
        self.lock().off.insert(node);
    }

    /// Gives it back; its connections of before are reset.
    pub(crate) fn power_on(&self, node: Node) {
        let mut state = self.lock();
        if !state.off.remove(&node) {
            return;
        }
        let of_node: Vec<_> =
            state.connections.values().filter(|it| it.ends.contains(&node)).cloned().collect();
        drop(state);
        of_node.iter().for_each(|connection| connection.reset());
        self.changed.notify_waiters();
    }

    fn passes(&self, from: Node, to: Node) -> bool {
        let state = self.lock();
        let cut = state.links.get(&(from, to)).is_some_and(|link| link.cuts > 0);
        !cut && !state.off.contains(&from) && !state.off.contains(&to)
    }

    fn delay(&self, from: Node, to: Node) -> Duration {
        let state = self.lock();
        let extra_ms = state.links.get(&(from, to)).map_or(0, |link| link.extra_ms);
        // A peak now and then.
        let max_ms = state.delay_ms_max * if self.random.below(50) == 0 { 20 } else { 1 };
        Duration::from_millis(1 + self.random.below(max_ms) + extra_ms)
    }

    /// Waits until what was held back gets through.
    async fn until(&self, open: impl Fn() -> bool) {
        loop {
            let changed = self.changed.notified();
            if open() {
                break;
            }
            changed.await;
        }
        sleep(Duration::from_millis(1 + self.random.below(RESEND_MS_MAX))).await;
    }

    async fn travel(&self, from: Node, to: Node) {
        sleep(self.delay(from, to)).await;
        while !self.passes(from, to) {
            self.until(|| self.passes(from, to)).await;
        }
    }

    /// Connects. It takes one way there and one back; dropping the future gives up, but the other
    /// side may have accepted by then.
    pub(crate) async fn dial(&self, from: Node, address: SocketAddr) -> io::Result<SimStream> {
        let to = Node::of(address).ok_or(io::ErrorKind::AddrNotAvailable)?;
        self.travel(from, to).await;
        let (waiting, mine) = {
            let mut state = self.lock();
            let refused = state.links.get(&(from, to)).is_some_and(|link| link.refusals > 0);
            let port = state.listeners.get(&address).filter(|_| !refused);
            match port.map(|port| port.waiting.clone()) {
                None => (None, None),
                Some(waiting) => {
                    let (mine, theirs) = self.join(&mut state, from, to);
                    state.last_port = state.last_port.checked_add(1).unwrap_or(1_025);
                    let peer = SocketAddr::from((from.ip(), state.last_port));
                    (Some((waiting, theirs, peer)), Some(mine))
                }
            }
        };
        let accepted = match waiting {
            Some((waiting, theirs, peer)) => waiting.send((theirs, peer)).await.is_ok(),
            None => false,
        };
        self.travel(to, from).await;
        mine.filter(|_| accepted).ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
    }

    /// Makes a connection and the tasks that carry its bytes.
    fn join(&self, state: &mut State, from: Node, to: Node) -> (SimStream, SimStream) {
        state.last_connection += 1;
        let number = state.last_connection;
        let narrow = self.random.below(4) == 0;
        let bytes = if narrow { NARROW_PIPE_BYTES } else { PIPE_BYTES };
        let connection = Arc::new(Connection::new([from, to], bytes));
        state.connections.insert(number, Arc::clone(&connection));
        for way in 0..2 {
            let (net, connection) = (self.clone(), Arc::clone(&connection));
            tokio::spawn(async move {
                carry(&net, &connection, way).await;
                if connection.is_over() {
                    net.lock().connections.remove(&number);
                }
            });
        }
        let end = |which| SimStream::new(self.clone(), Arc::clone(&connection), which);
        (end(0), end(1))
    }
}

struct Handle {
    net: SimNet,
    node: Node,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the network of {}", self.node)
    }
}

impl Net for Handle {
    fn connect<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Stream>> {
        Box::pin(async move {
            let address = address.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
            Ok(Box::new(self.net.dial(self.node, address).await?) as Box<dyn Stream>)
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Listener>> {
        Box::pin(async move {
            let address: SocketAddr = address.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
            Ok(Box::new(self.net.listen(address)?) as Box<dyn Listener>)
        })
    }
}

static PORTS: AtomicU64 = AtomicU64::new(0);

impl SimNet {
    pub(crate) fn listen(&self, address: SocketAddr) -> io::Result<SimListener> {
        let mut state = self.lock();
        if state.listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (sender, waiting) = mpsc::channel(BACKLOG_MAX);
        // Never shown: it only tells a later listener of the address from this one.
        let number = PORTS.fetch_add(1, Relaxed);
        state.listeners.insert(address, Port { number, waiting: sender });
        Ok(SimListener { net: self.clone(), address, number, waiting })
    }
}

/// Where connections come in.
pub(crate) struct SimListener {
    net: SimNet,
    address: SocketAddr,
    number: u64,
    waiting: mpsc::Receiver<(SimStream, SocketAddr)>,
}

impl SimListener {
    pub(crate) async fn next(&mut self) -> io::Result<(SimStream, SocketAddr)> {
        let next = self.waiting.recv().await;
        next.ok_or_else(|| io::ErrorKind::ConnectionAborted.into())
    }
}

impl Listener for SimListener {
    fn accept(&mut self) -> NetFuture<'_, (Box<dyn Stream>, SocketAddr)> {
        Box::pin(async move {
            let (stream, peer) = self.next().await?;
            Ok((Box::new(stream) as Box<dyn Stream>, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let mut state = self.net.lock();
        if state.listeners.get(&self.address).is_some_and(|port| port.number == self.number) {
            state.listeners.remove(&self.address);
        }
    }
}
