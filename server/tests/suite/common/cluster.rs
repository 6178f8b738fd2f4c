//! Durable members in this process: one alone, or three that reach each other over TCP.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use synod_server::admin::Admin;
use synod_server::net::{Listener, Net, NetFuture, Stream, Tcp};
use synod_server::tls::{Tls, TlsFiles};
use synod_server::{Config, Founding, Keeping, MemberConfig, Sasl, Server, Timing};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{PATIENCE, config, word};

/// Small, so that a new log is there at once.
const SEGMENT_BYTES: u64 = 1 << 20;

/// How often members are asked who leads, while nobody does.
const PAUSE: Duration = Duration::from_millis(10);

/// A member alone, in this folder.
pub(crate) fn durable(folder: &TempDir) -> Config {
    let mut member = MemberConfig::new(folder.path());
    member.keeping = Keeping { segment_bytes: SEGMENT_BYTES, ..Keeping::default() };
    Config {
        member: Some(member),
        tick_ms: 50,
        // Longer than anybody waits: then no silence ends what something else is to end.
        session_timeout_ms_max: Some(600_000),
        words: "*".parse().expect("is all"),
        ..config()
    }
}

/// The same, and others reach it at that address, by TLS.
pub(crate) fn secure(folder: &TempDir, files: &TlsFiles) -> (Config, String) {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
    let address = free.expect("a free port").to_string();
    let mut config = durable(folder);
    let member = config.member.as_mut().expect("is durable");
    member.peer_listen = Some(address.clone());
    member.tls = Some(files.clone());
    (config, address)
}

/// Administration of who reaches members by what these files hold now.
pub(crate) fn admin(address: &str, files: &TlsFiles) -> Admin {
    let net = Tls::over(Arc::new(Tcp), files).expect("good files");
    Admin::new(address).expect("an address").net(Arc::new(net))
}

/// Two members, of which neither leads without the other.
pub(crate) struct Two {
    folders: Vec<TempDir>,
    pub(crate) peers: BTreeMap<u64, String>,
}

impl Two {
    pub(crate) fn new() -> Two {
        let free = |_: u64| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.local_addr().expect("it has an address").to_string()
        };
        let folders = (0..2).map(|_| TempDir::new().expect("a folder")).collect();
        Two { folders, peers: (1..=2).map(|id| (id, free(id))).collect() }
    }

    pub(crate) fn config(&self, id: u64) -> Config {
        let member = MemberConfig {
            id,
            peer_listen: Some(self.peers[&id].clone()),
            founding: Founding::Together(self.peers.clone()),
            ..MemberConfig::new(self.folders[id as usize - 1].path())
        };
        Config { member: Some(member), ..config() }
    }
}

/// What a member says that it is.
pub(crate) async fn mode(server: &Server) -> String {
    let srvr = word(server, "srvr").await;
    let mode = srvr.lines().find_map(|line| line.strip_prefix("Mode: "));
    mode.expect("says what it is").to_owned()
}

/// Waits until a member says that it is `expected`.
pub(crate) async fn until_mode(server: &Server, expected: &str) {
    let becoming = async {
        while mode(server).await != expected {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(PATIENCE, becoming).await.expect("comes in time");
}

/// Whether the mode is that of a member that knows no leader.
pub(crate) fn is_leaderless(mode: &str) -> bool {
    matches!(mode, "looking" | "read-only")
}

/// Waits until a member knows no leader.
pub(crate) async fn until_leaderless(server: &Server) {
    let becoming = async {
        while !is_leaderless(&mode(server).await) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(PATIENCE, becoming).await.expect("comes in time");
}

/// Three members; 0 to 2, whose numbers are 1 to 3.
pub(crate) struct Cluster {
    folders: [TempDir; 3],
    peers: BTreeMap<u64, String>,
    holds: [Arc<Hold>; 3],
    members: [Option<Server>; 3],
    /// What those that start from now on are told of SASL.
    pub(crate) sasl: Option<Sasl>,
    /// And how long they wait for a leader.
    pub(crate) timing: Timing,
    /// Holds the port before theirs, so that no other test takes them.
    _claim: TcpListener,
}

impl Cluster {
    /// Nobody runs yet.
    pub(crate) fn new() -> Cluster {
        let (_claim, ports) = claim_ports();
        let address = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
        let peers = (1..).zip(ports.map(address)).collect();
        let folders = std::array::from_fn(|_| tempfile::tempdir().expect("can be made"));
        let (holds, members) = (Default::default(), Default::default());
        let (sasl, timing) = (None, Timing::default());
        Cluster { folders, peers, holds, members, sasl, timing, _claim }
    }

    /// All three run, and one leads.
    pub(crate) async fn start() -> Cluster {
        let mut cluster = Cluster::new();
        for place in 0..3 {
            cluster.start_one(place).await;
        }
        cluster.leader().await;
        cluster
    }

    /// Starts one, on its folder.
    pub(crate) async fn start_one(&mut self, place: usize) {
        self.start_as(place, Founding::Together(self.peers.clone())).await;
    }

    /// Takes its folder away from one that does not run, and gives it an empty one.
    pub(crate) fn empty(&mut self, place: usize) {
        self.folders[place] = tempfile::tempdir().expect("can be made");
    }

    /// Where its peers reach one.
    pub(crate) fn peer(&self, place: usize) -> &str {
        &self.peers[&(place as u64 + 1)]
    }

    /// Starts one, on its folder; `founding` counts if that is empty.
    pub(crate) async fn start_as(&mut self, place: usize, founding: Founding) {
        let mut config = durable(&self.folders[place]);
        config.reconfig_enabled = true;
        config.sasl.clone_from(&self.sasl);
        // Whose password is `test`.
        config.super_digest = Some("super:D/InIHSb7yEEbrWz8b9l71RjZJU=".to_owned());
        let id = place as u64 + 1;
        let peer_listen = self.peers[&id].clone();
        let hold = Arc::clone(&self.holds[place]);
        config.net = Arc::new(HeldTcp { peer_listen: peer_listen.clone(), hold });
        let member = config.member.as_mut().expect("is durable");
        member.id = id;
        member.timing = self.timing;
        member.peer_listen = Some(peer_listen);
        member.founding = founding;
        // One that was lost just before ends as soon as its tasks notice.
        let starting = async {
            loop {
                match Server::start(config.clone()).await {
                    Ok(server) => return server,
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        let server = tokio::time::timeout(PATIENCE, starting).await.expect("starts in time");
        self.members[place] = Some(server);
    }

    pub(crate) fn member(&self, place: usize) -> &Server {
        self.members[place].as_ref().expect("runs")
    }

    /// Takes one away: it is dropped, and says nothing more to anybody.
    pub(crate) fn lose(&mut self, place: usize) {
        drop(self.members[place].take().expect("runs"));
    }

    /// Nothing that others say comes to this one until it is let go. It goes on to believe the
    /// leader that it had, whom it can ask.
    pub(crate) fn hold(&self, place: usize) {
        self.holds[place].set(true);
    }

    pub(crate) fn let_go(&self, place: usize) {
        self.holds[place].set(false);
    }

    /// The one that leads, once one does and the others follow it.
    pub(crate) async fn leader(&self) -> usize {
        let finding = async {
            loop {
                let mut leaders = Vec::new();
                let mut lost = false;
                for (place, member) in self.members.iter().enumerate() {
                    let Some(member) = member else { continue };
                    match &*mode(member).await {
                        "leader" => leaders.push(place),
                        mode => lost |= mode != "follower",
                    }
                }
                if let ([leader], false) = (&leaders[..], lost) {
                    return *leader;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(PATIENCE, finding).await.expect("comes in time")
    }

    pub(crate) async fn stop(self) {
        for member in self.members.into_iter().flatten() {
            member.stop().await;
        }
    }
}

/// Three ports in a row, below those that the system gives to clients, and what holds the one
/// before them.
fn claim_ports() -> (TcpListener, [u16; 3]) {
    const BLOCKS: u16 = 1_000;
    let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    // Processes that run side by side begin at different places.
    let start = std::process::id() as u16 % BLOCKS;
    let claimed = (0..BLOCKS).find_map(|nth| {
        let port = 12_000 + (start + nth) % BLOCKS * 4;
        let claim = bind(port).ok()?;
        let ports = [port + 1, port + 2, port + 3];
        ports.iter().all(|port| bind(*port).is_ok()).then_some((claim, ports))
    });
    claimed.expect("three free ports in a row")
}

/// Whether what comes in is held up.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    held: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Hold {
    fn set(&self, held: bool) {
        let mut waiting = self.waiting.lock().expect("no panic");
        self.held.store(held, Ordering::SeqCst);
        waiting.drain(..).for_each(Waker::wake);
    }

    fn holds(&self, cx: &Context<'_>) -> bool {
        let mut waiting = self.waiting.lock().expect("no panic");
        let held = self.held.load(Ordering::SeqCst);
        if held {
            waiting.push(cx.waker().clone());
        }
        held
    }
}

/// TCP; what other members say to this one can be held up.
#[derive(Debug)]
struct HeldTcp {
    peer_listen: String,
    hold: Arc<Hold>,
}

impl Net for HeldTcp {
    fn connect<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Stream>> {
        Tcp.connect(address)
    }

    fn listen<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Listener>> {
        Box::pin(async move {
            let inner = Tcp.listen(address).await?;
            let hold = Arc::clone(&self.hold);
            let peers = address == self.peer_listen;
            Ok(if peers { Box::new(HeldListener { inner, hold }) } else { inner })
        })
    }
}

struct HeldListener {
    inner: Box<dyn Listener>,
    hold: Arc<Hold>,
}

impl Listener for HeldListener {
    fn accept(&mut self) -> NetFuture<'_, (Box<dyn Stream>, SocketAddr)> {
        Box::pin(async move {
            let (inner, address) = self.inner.accept().await?;
            let stream = HeldStream { inner, hold: Arc::clone(&self.hold) };
            Ok((Box::new(stream) as Box<dyn Stream>, address))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

struct HeldStream {
    inner: Box<dyn Stream>,
    hold: Arc<Hold>,
}

impl AsyncRead for HeldStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.hold.holds(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}

impl AsyncWrite for HeldStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
