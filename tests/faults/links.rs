//! What stands between the members: whoever connects to one goes through here, and says in its
//! first frame who it is, so that each way from one member to another can be closed by itself.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes of the first frame between members: length, kind, magic, version, cluster, from, to,
/// purpose, patience.
const HELLO_BYTES: usize = 4 + 1 + 4 + 2 + 17 + 8 + 8 + 1 + 4;

/// Where in it stands who connects.
const FROM: std::ops::Range<usize> = 28..36;

/// From whom to whom.
type Way = (u64, u64);

/// Ways that are closed.
#[derive(Clone, Debug, Default)]
struct Closed {
    /// Nothing comes through; what was sent comes later. So does a network that drops packets.
    held: BTreeSet<Way>,
    /// Connections end, and there are no new ones.
    cut: BTreeSet<Way>,
}

/// The links of a cluster.
pub struct Links {
    closed: Arc<watch::Sender<Closed>>,
    tasks: Vec<JoinHandle<()>>,
    members: BTreeSet<u64>,
}

impl Default for Links {
    fn default() -> Links {
        let closed = Arc::new(watch::Sender::new(Closed::default()));
        Links { closed, tasks: Vec::new(), members: BTreeSet::new() }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Links {
    /// Stands in front of a member; where the others are to reach it.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn lead_to(&mut self, member: u64, listens: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let closed = Arc::clone(&self.closed);
        self.members.insert(member);
        self.tasks.push(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, member, listens, closed.subscribe()));
            }
        }));
        address
    }

    fn ways_of(&self, member: u64) -> Vec<Way> {
        let others = self.members.iter().filter(|other| **other != member);
        others.flat_map(|other| [(member, *other), (*other, member)]).collect()
    }

    /// Nothing comes through between this member and the others, either way.
    pub fn hold(&self, member: u64) {
        let ways = self.ways_of(member);
        self.closed.send_modify(|closed| closed.held.extend(ways));
    }

    /// Nothing comes from this member to the others; it hears them.
    pub fn mute(&self, member: u64) {
        let ways = self.ways_of(member);
        let ways = ways.into_iter().filter(|(from, _)| *from == member);
        self.closed.send_modify(|closed| closed.held.extend(ways));
    }

    /// Connections between this member and the others are cut and not made again.
    pub fn cut(&self, member: u64) {
        let ways = self.ways_of(member);
        self.closed.send_modify(|closed| closed.cut.extend(ways));
    }

    /// All ways are open.
    pub fn heal(&self) {
        self.closed.send_modify(|closed| *closed = Closed::default());
    }
}

async fn carry(
    mut stream: TcpStream,
    to: u64,
    listens: SocketAddr,
    mut closed: watch::Receiver<Closed>,
) {
    let mut hello = [0; HELLO_BYTES];
    if stream.read_exact(&mut hello).await.is_err() {
        return;
    }
    let mut from = [0; 8];
    from.copy_from_slice(&hello[FROM]);
    let from = u64::from_be_bytes(from);
    let ways = [(from, to), (to, from)];
    let mut cutting = closed.clone();
    let through = async {
        let there = |closed: &Closed| !closed.held.contains(&(from, to));
        if closed.wait_for(there).await.is_err() {
            return;
        }
        let Ok(mut server) = TcpStream::connect(listens).await else { return };
        let _ = (stream.set_nodelay(true), server.set_nodelay(true));
        if server.write_all(&hello).await.is_err() {
            return;
        }
        let (from_client, to_client) = stream.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::select! {
            () = pump(from_client, to_server, ways[0], closed.clone()) => {}
            () = pump(from_server, to_client, ways[1], closed.clone()) => {}
        }
    };
    tokio::select! {
        _ = cutting.wait_for(|closed| ways.iter().any(|way| closed.cut.contains(way))) => {}
        () = through => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Way,
    mut closed: watch::Receiver<Closed>,
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if closed.wait_for(|closed| !closed.held.contains(&way)).await.is_err()
            || to.write_all(&bytes[..count]).await.is_err()
        {
            return;
        }
    }
}
