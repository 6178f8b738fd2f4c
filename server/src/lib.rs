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
//! Without more, its state is in memory only. A [durable member](MemberConfig) keeps it in a
//! replicated log and snapshots, alone or with others:
//!
//! ```no_run
//! # async fn durable() -> Result<(), synod_server::StartError> {
//! use synod_server::{Config, MemberConfig, Server};
//!
//! let member = Some(MemberConfig::new("data"));
//! let server = Server::start(Config { member, ..Config::default() }).await?;
//! # server.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//! A request comes down this list and its reply goes back up.
//!
//! | file | what it holds |
//! |---|---|
//! | `listener` | takes connections in, within the bounds |
//! | `roster` | who is connected |
//! | `connection` | one task a connection: handshake, requests in, replies and events out |
//! | [`net`] | the seam to the network |
//! | `tls` | TLS, for clients and between members (feature `tls`) |
//! | `pace` | how fast requests of one address may come |
//! | `input` | what all connections hold of what clients have sent |
//! | `outbox` | what waits to be sent on a connection |
//! | `member` | the state behind one mutex, and (in `state`) the seam to the log |
//! | `replica` | consensus: the one place that names openraft |
//! | [`log`] | the log on disk, and snapshots |
//! | `expiry` | the deadlines of sessions |
//! | `words` | the four-letter words |
//! | `trace` | what goes to the log while somebody looks |
//! | [`admin`] | looks into a cluster and changes its members, from outside |
//! | `counters` | what is counted |
//! | [`limits`] | every bound, a named constant with its unit |
//! | `watched` | a value whose changes are waited for |
//! | `bug` | mistakes that tests make on purpose |
//! | `fuzz` | what fuzz targets do with their input |
//! | `sasl` | the users of SASL |
//! | `secret` | files that others must not read |
//! | `config` | what a server is started with |

pub mod admin;
#[cfg_attr(
    not(feature = "testing"),
    allow(dead_code, unreachable_pub, reason = "nothing is planted without the feature")
)]
mod bug;
mod config;
mod connection;
mod counters;
mod expiry;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzz;
mod input;
pub mod limits;
mod listener;
pub mod log;
mod member;
pub mod net;
mod outbox;
mod pace;
mod replica;
mod roster;
mod sasl;
mod secret;
mod seldom;
#[cfg(feature = "testing")]
mod tap;
#[cfg(feature = "tls")]
pub mod tls;
mod trace;
mod watched;
mod words;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use synod_core::model::Identity;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

#[cfg(feature = "testing")]
pub use bug::Bug;
pub use config::{Config, PORT};
pub use limits::Limits;
pub use replica::{Founding, Keeping, MEMBER_ID_MAX, MemberConfig, Timing};
pub use sasl::{Sasl, SaslUsersError};
pub use synod_core::SaslUsers;
#[cfg(feature = "testing")]
pub use tap::Tap;
pub use words::{UnknownWord, VERSION, Word, Words};

use counters::Counters;
use limits::{FOLDER_LOOK_MS, FOLDER_WAIT_MS_MAX};
use listener::Door;
use log::{Disk, LogError, RealDisk};
use member::Member;
use net::{Exposed, Stream, check_listen};
use replica::Durable;
use roster::Roster;
use trace::Trace;

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
        address: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The data folder belongs to another member.
    #[error("the data folder is member {written}'s, and this is to be member {told}")]
    AnotherMember {
        /// What the folder says.
        written: u64,
        /// What the configuration says.
        told: u64,
    },
    /// The log or a snapshot cannot be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The data folder cannot be used.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// It would listen in plain text where strangers reach it.
    #[error(transparent)]
    Exposed(#[from] net::Exposed),
    /// The certificates cannot be used.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// Consensus does not start.
    #[error("replication does not start: {0}")]
    Consensus(String),
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
    /// Where clients speak TLS.
    secure_address: Option<SocketAddr>,
    member: Arc<Member>,
    roster: Roster,
    counters: Arc<Counters>,
    trace: Trace,
    started: Instant,
    #[cfg(feature = "tls")]
    tls: Option<tls::Port>,
}

impl Shared {
    /// The stream inside a client's TLS, and who the client has proved to be by it.
    async fn secure(
        &self,
        stream: Box<dyn Stream>,
    ) -> io::Result<(Box<dyn Stream>, Option<Identity>)> {
        #[cfg(feature = "tls")]
        if let Some(port) = &self.tls {
            return port.accept(stream).await;
        }
        Ok((stream, None))
    }
}

/// Where clients come in.
struct Entrance {
    /// That of [`Config::listen`] first.
    doors: Vec<Door>,
    #[cfg(feature = "tls")]
    tls: Option<tls::Port>,
}

impl Entrance {
    async fn open(config: &Config) -> Result<Entrance, StartError> {
        #[cfg(feature = "tls")]
        let tls = config.tls.as_ref().map(tls::Port::open).transpose()?;
        let mut doors = Vec::new();
        let secure = config.secure_listen().map(|listen| (listen, true));
        for (listen, is_secure) in [(config.listen, config.is_secure())].into_iter().chain(secure) {
            let address = listen.to_string();
            let of_address = |source| StartError::Listen { address: address.clone(), source };
            let listener = config.net.listen(&address).await.map_err(of_address)?;
            let address = listener.local_addr().map_err(of_address)?;
            check_listen(address, is_secure, config.insecure, Exposed::Clients)?;
            doors.push(Door { listener, address, is_secure });
        }
        Ok(Entrance {
            doors,
            #[cfg(feature = "tls")]
            tls,
        })
    }

    fn address(&self) -> SocketAddr {
        self.doors[0].address
    }
}

/// A server that runs. Dropping it ends it at once; [`stop`](Server::stop) lets its connections
/// receive their last replies.
#[must_use = "a server that is dropped ends"]
pub struct Server {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    /// The listener's first: it owns the connections.
    tasks: Vec<JoinHandle<()>>,
    /// What keeps its state, if it is durable.
    replica: Option<Box<dyn Durable>>,
}

impl Server {
    /// Starts a server: it takes connections when this returns. The sessions of one that is
    /// [durable](Config::member) open as soon as its cluster has a leader.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config) -> Result<Server, StartError> {
        config.validate().map_err(StartError::Config)?;
        match &config.member {
            Some(member) => {
                let disk = open_folder(&member.data).await?;
                Server::start_on(config, disk).await
            }
            None => {
                let entrance = Entrance::open(&config).await?;
                let counters = Arc::new(Counters::default());
                let member = Arc::new(Member::volatile(&config, Arc::clone(&counters)));
                Ok(Server::serve(config, entrance, member, counters, None))
            }
        }
    }

    /// Starts a durable server on another disk than the operating system's.
    ///
    /// # Errors
    /// [`StartError`]; the configuration must be a durable [member](Config::member)'s.
    pub async fn start_on<D: Disk>(config: Config, disk: D) -> Result<Server, StartError> {
        config.validate().map_err(StartError::Config)?;
        let rule = "what is kept on a disk is a durable member";
        let member_config = config.member.as_ref().ok_or(StartError::Config(rule))?;
        let entrance = Entrance::open(&config).await?;
        let counters = Arc::new(Counters::default());
        let address = entrance.address().to_string();
        let (member, replica) =
            replica::start(&config, member_config, disk, Arc::clone(&counters), address).await?;
        Ok(Server::serve(config, entrance, member, counters, Some(Box::new(replica))))
    }

    fn serve(
        config: Config,
        entrance: Entrance,
        member: Arc<Member>,
        counters: Arc<Counters>,
        replica: Option<Box<dyn Durable>>,
    ) -> Server {
        let roster = Roster::new(&config.limits);
        let shared = Arc::new(Shared {
            member,
            config,
            local_address: entrance.address(),
            secure_address: entrance.doors.iter().find(|it| it.is_secure).map(|it| it.address),
            roster,
            counters,
            trace: Trace::default(),
            started: Instant::now(),
            #[cfg(feature = "tls")]
            tls: entrance.tls,
        });
        let (stop, stopped) = oneshot::channel();
        let tasks = vec![
            tokio::spawn(listener::listen(entrance.doors, Arc::clone(&shared), stopped)),
            tokio::spawn(expire(Arc::clone(&shared))),
            tokio::spawn(reap(Arc::clone(&shared))),
            #[cfg(feature = "tls")]
            tokio::spawn(reload(Arc::clone(&shared))),
        ];
        Server { shared, stop: Some(stop), tasks, replica }
    }

    /// Waits until the server must not go on, and says why: its disk has failed, or its state is
    /// found to differ from the other members'. It is to be dropped then. A server that is well
    /// waits for ever; dropping the future changes nothing.
    pub async fn failed(&self) -> String {
        let mut failures = self.shared.member.failures();
        match failures.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(reason)) => reason.clone(),
            // The sender is the member's, which is there as long as this is.
            _ => std::future::pending().await,
        }
    }

    /// Where it listens: the address of [`Config::listen`].
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_address
    }

    /// Where clients speak TLS: there too, or on a port of its own.
    pub fn secure_addr(&self) -> Option<SocketAddr> {
        self.shared.secure_address
    }

    /// Takes no further connection, lets those that are there receive what waits for them, and
    /// ends. It returns within a few seconds, whatever the clients do.
    ///
    /// A leader hands the leadership on first.
    pub async fn stop(mut self) {
        let at_once = self.shared.config.planted().is(bug::Bug::StopsAtOnce);
        if let Some(replica) = self.replica.as_ref().filter(|_| !at_once) {
            replica.hand_on().await;
        }
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
        if let Some(replica) = self.replica.take() {
            replica.stop().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The connections are the listener's, and end with it.
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Takes a data folder into use. One that was stopped a moment ago may hold it still: its last
/// tasks end on their own.
async fn open_folder(path: &Path) -> io::Result<RealDisk> {
    let give_up_at = tokio::time::Instant::now() + Duration::from_millis(FOLDER_WAIT_MS_MAX);
    loop {
        match RealDisk::open(path) {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock
                    && tokio::time::Instant::now() < give_up_at =>
            {
                tokio::time::sleep(Duration::from_millis(FOLDER_LOOK_MS)).await;
            }
            opened => return opened,
        }
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

/// Takes new certificates of the port when their files change.
#[cfg(feature = "tls")]
async fn reload(shared: Arc<Shared>) {
    let Some(interval) = shared.tls.as_ref().map(tls::Port::reload_interval) else { return };
    let reload = move || shared.tls.as_ref().map_or(Ok(false), tls::Port::reload);
    tls::keep_fresh("the clients' port", interval, reload).await;
}
