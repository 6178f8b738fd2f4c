//! A proxy between clients and a server, whose connections can be cut.

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
    /// The next bytes from the server are thrown away, and their connection with them.
    lose_reply: AtomicBool,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Proxy {
    /// Listens on a port of its own.
    pub async fn start(server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let state = Arc::new(State {
            cuts: watch::Sender::new(0),
            closed: AtomicBool::new(false),
            lose_reply: AtomicBool::new(false),
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

    /// The next reply of the server is lost, and its connection cut.
    pub fn lose_next_reply(&self) {
        self.state.lose_reply.store(true, Ordering::SeqCst);
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
