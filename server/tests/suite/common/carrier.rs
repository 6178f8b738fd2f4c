//! What stands between clients and a server, and can cut them off.

use std::net::SocketAddr;
use std::sync::Arc;

use synod_server::Server;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

/// Carries connections to a server until they are cut.
pub(crate) struct Carrier {
    pub(crate) address: SocketAddr,
    carried: Arc<Mutex<JoinSet<()>>>,
    accepting: JoinHandle<()>,
}

impl Carrier {
    pub(crate) async fn to(server: &Server) -> Carrier {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("is bound");
        let carried = Arc::new(Mutex::new(JoinSet::new()));
        let (carrying, server) = (Arc::clone(&carried), server.local_addr());
        let accepting = tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                carrying.lock().await.spawn(async move {
                    let mut to = TcpStream::connect(server).await.expect("connects");
                    // It ends as it ends.
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        Carrier { address, carried, accepting }
    }

    /// Ends all connections that there are.
    pub(crate) async fn cut(&self) {
        self.carried.lock().await.shutdown().await;
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
