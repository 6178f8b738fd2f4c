//! A coordination server that speaks the ZooKeeper protocol, as a library: any ZooKeeper client
//! can talk to it, and a program can hold one inside itself.
//!
//! ```
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! use synod_server::{Config, Server};
//!
//! let config = Config { listen: ([127, 0, 0, 1], 0).into(), ..Config::default() };
//! let server = Server::start(config).await?;
//! println!("serving on {}", server.local_addr());
//! server.stop().await;
//! # Ok::<(), synod_server::StartError>(())
//! # }).unwrap();
//! ```
//!
//! The log is volatile for now: what is written is in memory only, and there is one member.
//!
//! # Layout
//! A request comes down this list and its reply goes back up.
//!
//! | file | what it holds |
//! |---|---|
//! | `listener` | takes connections in, within the bounds |
//! | `roster` | who is connected |
//! | `connection` | one task a connection: handshake, requests in, replies and events out |
//! | `outbox` | what waits to be sent on a connection |
//! | `member` | the state behind one mutex, and (in `state`) the seam to the log |
//! | `expiry` | the deadlines of sessions |
//! | `words` | the four-letter words |
//! | `counters` | what is counted |
//! | [`limits`] | every bound, a named constant with its unit |
//! | `config` | what a server is started with |

mod config;
mod connection;
mod counters;
mod expiry;
pub mod limits;
mod listener;
mod member;
mod outbox;
mod roster;
mod words;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use config::{Config, PORT};
pub use limits::Limits;
pub use words::{UnknownWord, VERSION, Word, Words};

use counters::Counters;
use member::Member;
use roster::Roster;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration breaks a rule.
    #[error("the configuration: {0}")]
    Config(&'static str),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {}", reason(.source))]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there already".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not (a port below 1024?)".to_owned(),
        _ => error.to_string(),
    }
}

/// What the tasks of a server share.
struct Shared {
    config: Config,
    local_address: SocketAddr,
    member: Member,
    roster: Roster,
    counters: Arc<Counters>,
    started: Instant,
}

/// A server that runs. Dropping it ends it at once; [`stop`](Server::stop) lets its connections
/// receive their last replies.
#[must_use = "a server that is dropped ends"]
pub struct Server {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    /// The listener's first: it owns the connections.
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts a server: it takes connections when this returns.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config) -> Result<Server, StartError> {
        config.validate().map_err(StartError::Config)?;
        let address = config.listen;
        let listening = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listening)?;
        let local_address = listener.local_addr().map_err(listening)?;
        let counters = Arc::new(Counters::default());
        let shared = Arc::new(Shared {
            member: Member::new(&config, Arc::clone(&counters)),
            config,
            local_address,
            roster: Roster::default(),
            counters,
            started: Instant::now(),
        });
        let (stop, stopped) = oneshot::channel();
        let tasks = vec![
            tokio::spawn(listener::listen(listener, Arc::clone(&shared), stopped)),
            tokio::spawn(expire(Arc::clone(&shared))),
            tokio::spawn(reap(Arc::clone(&shared))),
        ];
        Ok(Server { shared, stop: Some(stop), tasks })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_address
    }

    /// Takes no further connection, lets those that are there receive what waits for them, and
    /// ends. It returns within a few seconds, whatever the clients do.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        let mut tasks = std::mem::take(&mut self.tasks).into_iter();
        if let Some(listener) = tasks.next()
            && let Err(error) = listener.await
        {
            tracing::error!(%error, "the listener has failed");
        }
        for task in tasks {
            task.abort();
            // It was aborted, which is an error of its own.
            let _ = task.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The connections are the listener's, and end with it.
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Looks for sessions that were not heard of, each tick.
async fn expire(shared: Arc<Shared>) {
    let tick = Duration::from_millis(shared.config.tick_ms.into());
    loop {
        let expected = tokio::time::Instant::now() + tick;
        tokio::time::sleep_until(expected).await;
        // Less than that is how timers are.
        shared.member.look_for_expired(expected, tick / 10);
        while shared.member.expire_some() {
            tokio::task::yield_now().await;
        }
    }
}

/// Deletes containers and TTL znodes whose time has come.
async fn reap(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(shared.config.reap_interval).await;
        while shared.member.reap_some() {
            tokio::task::yield_now().await;
        }
    }
}
