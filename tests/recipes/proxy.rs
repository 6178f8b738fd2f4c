//! Proxies between clients and servers, whose connections can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Carries connections to one server.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    /// Counts cuts: every connection from before the present count is over.
    cuts: watch::Sender<u64>,
    /// New connections are refused.
    closed: AtomicBool,
    /// The next bytes from the server are thrown away, and their connection with them. Of several
    /// proxies it is the first that has some.
    lose_reply: Arc<AtomicBool>,
}

/// One for each server, all treated alike.
pub struct Proxies(Vec<Proxy>);

impl Proxies {
    /// Proxies before these servers.
    pub async fn start(servers: &[SocketAddr]) -> Proxies {
        let lose_reply = Arc::new(AtomicBool::new(false));
        let mut proxies = Vec::new();
        for server in servers {
            proxies.push(Proxy::start(*server, Arc::clone(&lose_reply)).await);
        }
        Proxies(proxies)
    }

    /// That of one server, from 0.
    pub fn of(&self, server: usize) -> &Proxy {
        &self.0[server]
    }

    /// A connect string of all of them.
    pub fn servers(&self) -> String {
        let addresses: Vec<_> = self.0.iter().map(|proxy| proxy.address.to_string()).collect();
        addresses.join(",")
    }

    /// Cuts every connection; new ones can be made.
    pub fn cut(&self) {
        self.0.iter().for_each(Proxy::cut);
    }

    /// Cuts every connection and takes no new ones, until `open`.
    pub fn close(&self) {
        self.0.iter().for_each(Proxy::close);
    }

    /// Takes connections again.
    pub fn open(&self) {
        self.0.iter().for_each(Proxy::open);
    }

    /// The next reply of a server is lost, and its connection cut.
    pub fn lose_next_reply(&self) {
        self.0[0].state.lose_reply.store(true, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Proxy {
    async fn start(server: SocketAddr, lose_reply: Arc<AtomicBool>) -> Proxy {
        // A port of its own, for as long as it lives.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let state = Arc::new(State {
            cuts: watch::Sender::new(0),
            closed: AtomicBool::new(false),
            lose_reply,
        });
        let accepting = tokio::spawn(accept(listener, server, Arc::clone(&state)));
        Proxy { address, state, accepting }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection; new ones can be made.
    pub fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts every connection and takes no new ones, until `open`.
    pub fn close(&self) {
        self.state.closed.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Takes connections again.
    pub fn open(&self) {
        self.state.closed.store(false, Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        if !state.closed.load(Ordering::SeqCst) {
            tokio::spawn(carry(client, server, Arc::clone(&state)));
        }
    }
}

async fn carry(client: TcpStream, server: SocketAddr, state: Arc<State>) {
    let mut cuts = state.cuts.subscribe();
    // A cut that comes while the server is being reached counts too.
    cuts.mark_unchanged();
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            if to_server.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            if state.lose_reply.swap(false, Ordering::SeqCst)
                || to_client.write_all(&bytes[..count]).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        _ = cuts.changed() => {}
        () = up => {}
        () = down => {}
    }
}
