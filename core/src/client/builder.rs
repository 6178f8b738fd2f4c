//! Connect strings and options.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::{Notify, oneshot, watch as latest};
use tokio::time::Instant;

use super::driver::{Backoff, Driver, authenticate};
use super::embedded::Embedded;
use super::ground::{ConnectError, Ground, Hello, ServerKind, proved_until};
use super::hosts::Hosts;
use super::inbox::{Inbox, SessionStatus};
use super::sasl::Sasl;
use super::session::SessionCore;
use super::tcp::{Tcp, Transport};
#[cfg(feature = "tls")]
use super::tls::Tls;
use super::{Auths, Client, SessionState, Shared, announce};
use crate::model::{Error, Password, Path, Refusal, SessionEnd, SessionId, Zxid};
use crate::sasl::Credentials;
use crate::seams::{Entropy, OsEntropy};

/// The session timeout that is asked for by default.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to try to connect by default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Options of a [`Client`]. Made by [`Client::builder`].
#[must_use = "a client is made by connect"]
pub struct ClientBuilder {
    servers: String,
    session_timeout: Duration,
    connect_timeout: Duration,
    auths: Vec<(String, Bytes)>,
    sasl: Option<Credentials>,
    server_kind: Option<ServerKind>,
    read_only: bool,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    ground: Option<Arc<dyn Ground>>,
    entropy: Arc<dyn Entropy>,
}

impl ClientBuilder {
    pub(super) fn new() -> ClientBuilder {
        ClientBuilder {
            servers: "embedded:".to_owned(),
            session_timeout: SESSION_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            auths: Vec::new(),
            sasl: None,
            server_kind: None,
            read_only: false,
            #[cfg(feature = "tls")]
            tls: None,
            ground: None,
            entropy: Arc::new(OsEntropy),
        }
    }

    /// Where to connect to; see [`Client::connect`].
    pub fn servers(self, servers: impl Into<String>) -> ClientBuilder {
        ClientBuilder { servers: servers.into(), ..self }
    }

    /// The session timeout to ask for (default 10 s): how long the coordinator keeps locks and
    /// other ephemerals of a client that it does not hear of. The coordinator may grant another.
    pub fn session_timeout(self, timeout: Duration) -> ClientBuilder {
        ClientBuilder { session_timeout: timeout, ..self }
    }

    /// How long `connect`, and a request that needs a new session, may take (default 30 s).
    pub fn connect_timeout(self, timeout: Duration) -> ClientBuilder {
        ClientBuilder { connect_timeout: timeout, ..self }
    }

    /// Proves a user and a password by the `digest` scheme, on every connection.
    pub fn auth_digest(mut self, user: &str, password: &str) -> ClientBuilder {
        let credentials = Bytes::from(format!("{user}:{password}"));
        self.auths.push(("digest".to_owned(), credentials));
        self
    }

    /// Proves a user and a password to the servers by SASL's DIGEST-MD5, on every connection before
    /// anything else goes over it, and takes the server's proof that it has the password too. On
    /// this project's servers and on Apache ZooKeeper, the user is the client's identity of the
    /// scheme `sasl` in ACLs. The password is not sent, but who reads along can try passwords on
    /// what is: take TLS with it.
    ///
    /// A server that does not accept it any more when the client reconnects is asked again, as one
    /// that is out of reach, until the session is over.
    pub fn sasl_digest(self, user: &str, password: &str) -> ClientBuilder {
        ClientBuilder { sasl: Some(Credentials::new(user, password)), ..self }
    }

    /// What the servers are. Left out, the client finds out by the word `srvr`, on a connection
    /// of its own.
    pub fn server_kind(self, kind: ServerKind) -> ClientBuilder {
        ClientBuilder { server_kind: Some(kind), ..self }
    }

    /// Whether a server may be used that has no quorum and answers reads alone (default `false`). A
    /// new session is [read-only](super::SessionStatus::ConnectedReadOnly) then: what is read may
    /// be old, also older than what the session before has read; writes and `sync` fail with
    /// [`Error::Refused`] and `NotReadOnly`, and so does every recipe that writes; and nothing is
    /// held by it. The client goes on to look for a server that takes writes, and ends the session
    /// ([`SessionEnd::ReadOnlyEnded`]) for one in full when it finds one. A session in full is
    /// never continued read-only: it lives on or ends first.
    pub fn read_only(self, allowed: bool) -> ClientBuilder {
        ClientBuilder { read_only: allowed, ..self }
    }

    /// Reaches the servers by TLS, also if the connect string does not begin with `zks://`.
    #[cfg(feature = "tls")]
    pub fn tls(self, tls: Tls) -> ClientBuilder {
        ClientBuilder { tls: Some(tls), ..self }
    }

    /// Stands on that ground, whatever `servers` says, and takes its random bytes from there.
    #[cfg(feature = "testing")]
    pub(crate) fn on(self, ground: Arc<dyn Ground>, entropy: Arc<dyn Entropy>) -> ClientBuilder {
        ClientBuilder { ground: Some(ground), entropy, ..self }
    }

    /// Connects and opens a session. Cancelling it leaves at most a session that nobody uses,
    /// which expires.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a connect string that names no ground, a session timeout of 0, or
    /// files of TLS that cannot be used; [`Error::Connect`] when nobody could be reached within the connect timeout;
    /// [`Error::Refused`] with `AuthFailed` when an identity was not accepted;
    /// [`Error::Unsupported`] for SASL to the embedded coordinator, which knows no users.
    pub async fn connect(self) -> Result<Client, Error> {
        let (ground, namespace) = self.ground()?;
        let failure = Failure::default();
        let first = open(&*ground, &*self.entropy, self.wishes(), &failure);
        let core = if ground.is_inline() {
            // It answers at once and needs no timer, so no runtime either.
            first.await
        } else {
            let first = tokio::time::timeout(self.connect_timeout, first);
            first.await.map_err(|_| Error::Connect {
                server: self.servers.clone(),
                reason: failure.told(self.connect_timeout),
            })?
        };
        let core = core.map_err(|refusal| Sasl::error(self.sasl.as_ref(), refusal))?;
        let client = self.client(ground, namespace, core, Vec::new());
        for (scheme, credentials) in self.auths {
            client.add_auth(&scheme, credentials).await?;
        }
        Ok(client)
    }

    /// A client at once, which connects in the background for as long as that takes: for a program
    /// that can start while nobody can be reached. Until its first session is open it stands as
    /// between two sessions: a request waits for the session, at most the connect timeout. An
    /// identity that is not accepted is told of in the log only.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a connect string that names no ground, or a session timeout of 0;
    /// [`Error::Unsupported`] for SASL to the embedded coordinator, which knows no users.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub fn connect_in_background(mut self) -> Result<Client, Error> {
        let (ground, namespace) = self.ground()?;
        let auths = std::mem::take(&mut self.auths);
        if ground.is_inline() {
            // It answers at once: there is nothing to wait for.
            let failure = Failure::default();
            let first = open(&*ground, &*self.entropy, self.wishes(), &failure);
            if let Some(Ok(core)) = first.now_or_never() {
                authenticate(&core, &Auths::new(auths.clone())).now_or_never();
                return Ok(self.client(ground, namespace, core, auths));
            }
        }
        let inbox = Arc::new(Inbox::new());
        inbox.set_status(SessionStatus::Over(SessionEnd::DeadlinePassed));
        let kind = (ground.is_inline(), ground.kind());
        let (nobody, password) = (SessionId(0), Password([0; 16]));
        let before = SessionCore::new(nobody, password, self.session_timeout, inbox, kind);
        Ok(self.client(ground, namespace, Arc::new(before), auths))
    }

    fn wishes(&self) -> Wishes {
        Wishes { timeout: self.session_timeout, read_only: self.read_only }
    }

    fn ground(&self) -> Result<(Arc<dyn Ground>, Option<Path>), Error> {
        if self.session_timeout.is_zero() {
            let rule = "a session timeout is above 0";
            return Err(Error::invalid("session timeout", "0", rule));
        }
        let (ground, namespace) = match &self.ground {
            Some(ground) => (Arc::clone(ground), None),
            None => self.named_ground()?,
        };
        if self.sasl.is_some() && ground.kind() == ServerKind::Embedded {
            let (what, ground) = ("SASL", ServerKind::Embedded.to_string());
            return Err(Error::Unsupported { what, ground });
        }
        Ok((ground, namespace))
    }

    /// The ground that the connect string names, and below which znode of it all paths lie.
    fn named_ground(&self) -> Result<(Arc<dyn Ground>, Option<Path>), Error> {
        let refuse = |rule| Err(Error::invalid("connect string", &self.servers, rule));
        let Some(name) = self.servers.strip_prefix("embedded:") else {
            let Hosts { servers, tls, chroot } = Hosts::parse(&self.servers)?;
            let transport = self.transport(tls)?;
            let sasl = self.sasl.as_ref().map(|it| Sasl::new(it, &self.entropy)).transpose()?;
            let tcp = Tcp::new(servers, transport, sasl, self.server_kind, &*self.entropy);
            return Ok((Arc::new(tcp), chroot));
        };
        if name.is_empty() {
            return Ok((Arc::new(Embedded::private()), None));
        }
        if Path::new(format!("/{name}")).is_err() || name.contains('/') {
            return refuse("the name of an embedded coordinator is one part of a path");
        }
        Ok((Arc::new(Embedded::shared(name)), None))
    }

    /// How servers are reached; `named` is what the connect string says of TLS.
    fn transport(&self, named: Option<bool>) -> Result<Transport, Error> {
        let refuse = |rule| Err(Error::invalid("connect string", &self.servers, rule));
        #[cfg(feature = "tls")]
        match (&self.tls, named) {
            (Some(_), Some(false)) => refuse("zk:// is without TLS, and TLS was asked for"),
            (Some(tls), _) => {
                tls.check()?;
                Ok(Transport::Tls(tls.clone()))
            }
            (None, Some(true)) => {
                refuse("zks:// needs the authorities to trust: ClientBuilder::tls")
            }
            (None, _) => Ok(Transport::Plain),
        }
        #[cfg(not(feature = "tls"))]
        match named {
            Some(true) => refuse("zks:// needs the feature tls, which this program is without"),
            _ => Ok(Transport::Plain),
        }
    }

    /// A client of that session, and its driver where the connection can break.
    fn client(
        &self,
        ground: Arc<dyn Ground>,
        namespace: Option<Path>,
        core: Arc<SessionCore>,
        auths: Vec<(String, Bytes)>,
    ) -> Client {
        let status = core.inbox.status();
        let state = SessionState { session: core.id, status };
        let states = Arc::new(latest::Sender::new(state));
        announce(&states, core.id, status);
        let auths = Arc::new(Auths::new(auths));
        let shared = Arc::new(Shared {
            #[cfg(feature = "testing")]
            ground: Arc::clone(&ground),
            entropy: Arc::clone(&self.entropy),
            current: ArcSwap::new(Arc::clone(&core)),
            states: Arc::clone(&states),
            session_changed: Notify::new(),
            closed: AtomicBool::new(false),
            connect_timeout: self.connect_timeout,
            auths: Arc::clone(&auths),
            driver: Mutex::default(),
        });
        if !ground.is_inline() {
            let (stop, stopped) = oneshot::channel();
            let driver = Driver {
                shared: Arc::downgrade(&shared),
                ground,
                entropy: Arc::clone(&self.entropy),
                states,
                auths,
                wishes: self.wishes(),
                stopped,
            };
            shared.keep_driver(stop);
            tokio::spawn(driver.run(core));
        }
        Client { shared, namespace, pinned: None }
    }
}

/// Why the last attempt to connect failed.
#[derive(Default)]
pub(super) struct Failure(Mutex<Option<String>>);

impl Failure {
    fn note(&self, reason: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    fn told(&self, limit: Duration) -> String {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let last = last.unwrap_or_else(|| "no server answered".to_owned());
        format!("no session within {limit:?}; the last attempt: {last}")
    }
}

/// What a new session is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes {
    timeout: Duration,
    /// It may be one that only reads.
    read_only: bool,
}

/// Tries until a session is open, or a server does not accept who the client is.
pub(super) async fn open(
    ground: &dyn Ground,
    entropy: &dyn Entropy,
    wishes: Wishes,
    failure: &Failure,
) -> Result<Arc<SessionCore>, Refusal> {
    let Wishes { timeout, read_only } = wishes;
    let mut backoff = Backoff::new();
    loop {
        let inbox = Arc::new(Inbox::new());
        let sent = Instant::now();
        let hello = Hello { resume: None, last_zxid: Zxid::ZERO, timeout, read_only };
        match ground.connect(hello, Arc::clone(&inbox)).await {
            Ok(welcome) => {
                if !ground.is_inline() && !welcome.read_only {
                    inbox.prove_until(proved_until(sent, welcome.timeout));
                }
                let (id, password) = (welcome.session, welcome.password);
                let kind = (ground.is_inline(), ground.kind());
                let mut core = SessionCore::new(id, password, welcome.timeout, inbox, kind);
                core.read_only = welcome.read_only;
                core.set_link(Some(welcome.link));
                core.attached();
                return Ok(Arc::new(core));
            }
            Err(ConnectError::Unreachable(reason)) => {
                tracing::debug!(reason, "cannot connect");
                failure.note(reason);
                backoff.wait(entropy).await;
            }
            Err(ConnectError::NotAccepted(refusal)) => return Err(refusal),
            // There was no session to re-attach; a ground that says so is asked again.
            Err(ConnectError::SessionOver) => backoff.wait(entropy).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::IntoFuture;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[tokio::test]
    async fn a_failure_to_connect_names_its_cause() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has an address").to_string();
        drop(listener);
        let nobody = Client::builder().servers(&address);
        let error = nobody.connect_timeout(Duration::from_millis(100)).connect().await;
        let text = error.expect_err("nobody listens").to_string();
        assert!(text.contains(&address) && text.contains("refused"), "{text}");
    }

    #[test]
    fn an_embedded_client_needs_no_runtime() {
        let mut context = Context::from_waker(Waker::noop());
        let connect = pin!(Client::connect("embedded:"));
        let Poll::Ready(Ok(client)) = connect.poll(&mut context) else {
            panic!("connecting answers at once")
        };
        let create = pin!(client.create("/a", b"1").into_future());
        assert!(matches!(create.poll(&mut context), Poll::Ready(Ok(_))));
    }
}
