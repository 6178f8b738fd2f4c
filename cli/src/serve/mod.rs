//! `synod serve`.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use synod_server::net::Exposed;
use synod_server::{Config, Founding, MemberConfig, Sasl, Server, StartError, Words};
use tokio::signal::unix::{SignalKind, signal};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::exit::Exit;

mod memory;
mod settings;

use settings::{ClientName, Settings};

/// The arguments of `synod serve`.
#[derive(Args)]
pub(crate) struct Serve {
    /// A TOML file with the same names as the flags, without the dashes in front.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// What is logged on stderr: a level (error, warn, info, debug, trace), or levels of parts
    /// between commas.
    #[arg(long, value_name = "LEVELS", env = "SYNOD_LOG", default_value = "info,openraft=error")]
    log: Targets,

    #[command(flatten)]
    flags: Settings,
}

impl Serve {
    pub(crate) async fn run(self) -> Exit {
        let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
        tracing_subscriber::registry().with(format.with_filter(self.log.clone())).init();
        let config = match self.config() {
            Ok(config) => config,
            Err(problem) => {
                crate::complain!("synod: {problem}");
                return Exit::Usage;
            }
        };
        // Before it says that it serves: from then on it can be told to stop.
        let (mut terminate, mut interrupt) =
            match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
                (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
                (Err(error), _) | (_, Err(error)) => {
                    crate::complain!("synod: cannot listen to signals: {error}");
                    return Exit::Failure;
                }
            };
        let data = config.member.as_ref().map(|member| member.data.clone());
        let server = match Server::start(config).await {
            Ok(server) => server,
            Err(StartError::Exposed(exposed @ Exposed::Clients(_))) => {
                crate::complain!("synod: {exposed}: --tls-cert and --tls-key, or --insecure");
                return Exit::Usage;
            }
            Err(error) => {
                crate::complain!("synod: {error}");
                let usage = matches!(error, StartError::Config(_));
                return if usage { Exit::Usage } else { Exit::Failure };
            }
        };
        let address = server.local_addr();
        let (is_secure, with_tls) = match server.secure_addr() {
            Some(secure) if secure == address => (true, " with TLS".to_owned()),
            Some(secure) => (false, format!(" and, with TLS, on {secure}")),
            None => (false, String::new()),
        };
        if !address.ip().is_loopback() && !is_secure {
            crate::complain!(
                "synod: warning: {address} can be reached from elsewhere, without TLS"
            );
        }
        say(&match &data {
            Some(data) => {
                let data = data.display();
                format!("serving the ZooKeeper protocol on {address}{with_tls}, data in {data}")
            }
            None => format!(
                "serving the ZooKeeper protocol on {address}{with_tls}, in memory only: everything \
                 is lost when this process ends"
            ),
        });
        let failed = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            reason = server.failed() => Some(reason),
        };
        if let Some(reason) = failed {
            crate::complain!("synod: this member must not go on: {reason}");
            return Exit::Failure;
        }
        server.stop().await;
        say("stopped");
        Exit::Ok
    }

    fn config(self) -> Result<Config, String> {
        let file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let flags = self.flags;
        let mut config = Config::default();
        config.limits.memory_bytes_max = memory::of_state();
        flags.bound(&file, &mut config.limits);
        if let Some(listen) = flags.listen.or(file.listen) {
            config.listen = listen;
        }
        if let Some(tick_ms) = flags.tick_ms.or(file.tick_ms) {
            config.tick_ms = tick_ms;
        }
        set_client_tls(
            &mut config,
            flags.tls_listen.or(file.tls_listen),
            (flags.tls_cert.or(file.tls_cert), flags.tls_key.or(file.tls_key)),
            flags.tls_client_ca.or(file.tls_client_ca),
            flags.tls_client_name.or(file.tls_client_name),
        )?;
        config.insecure = flags.insecure || file.insecure;
        config.session_timeout_ms_min =
            flags.min_session_timeout_ms.or(file.min_session_timeout_ms);
        config.session_timeout_ms_max =
            flags.max_session_timeout_ms.or(file.max_session_timeout_ms);
        if let Some(words) = flags.words.or(file.words) {
            config.words = words.parse::<Words>().map_err(|error| error.to_string())?;
        }
        config.super_digest = flags.super_digest.or(file.super_digest);
        let required = flags.require_sasl || file.require_sasl;
        let super_user = flags.super_user.or(file.super_user);
        config.sasl = match flags.sasl_users.or(file.sasl_users) {
            Some(users) => {
                let users = Sasl::read_users(&users).map_err(|error| error.to_string())?;
                Some(Sasl { users, required, super_user })
            }
            None if required => return Err("require-sasl needs sasl-users".to_owned()),
            None if super_user.is_some() => return Err("super-user needs sasl-users".to_owned()),
            None => None,
        };
        config.reconfig_enabled = flags.reconfig_enabled || file.reconfig_enabled;
        if let Some(interval_ms) = flags.reap_interval_ms.or(file.reap_interval_ms) {
            config.reap_interval = Duration::from_millis(interval_ms);
        }
        let member = Membership {
            data: flags.data.or(file.data),
            in_memory: flags.in_memory || file.in_memory,
            id: flags.id.or(file.id),
            peer_listen: flags.peer_listen.or(file.peer_listen),
            peer_advertise: flags.peer_advertise.or(file.peer_advertise),
            cluster: flags.cluster.or(file.cluster),
            join: flags.join || file.join,
            tls: (
                flags.peer_tls_ca.or(file.peer_tls_ca),
                flags.peer_tls_cert.or(file.peer_tls_cert),
                flags.peer_tls_key.or(file.peer_tls_key),
            ),
            insecure_peers: flags.insecure_peers || file.insecure_peers,
            heartbeat_ms: flags.heartbeat_ms.or(file.heartbeat_ms),
            election_ms: flags.election_ms.or(file.election_ms),
            snapshot_entries: flags.snapshot_entries.or(file.snapshot_entries),
        };
        config.member = member.config()?;
        Ok(config)
    }
}

/// What makes a server durable.
struct Membership {
    data: Option<PathBuf>,
    in_memory: bool,
    id: Option<u64>,
    peer_listen: Option<String>,
    peer_advertise: Option<String>,
    cluster: Option<String>,
    join: bool,
    /// Authority, certificate, key.
    tls: (Option<PathBuf>, Option<PathBuf>, Option<PathBuf>),
    insecure_peers: bool,
    heartbeat_ms: Option<u64>,
    election_ms: Option<u64>,
    snapshot_entries: Option<u64>,
}

impl Membership {
    fn config(self) -> Result<Option<MemberConfig>, String> {
        let (ca, certificate, key) = &self.tls;
        let of_peers = [
            ("peer-advertise", self.peer_advertise.is_some()),
            ("cluster", self.cluster.is_some()),
            ("join", self.join),
            ("peer-tls-ca", ca.is_some()),
            ("peer-tls-cert", certificate.is_some()),
            ("peer-tls-key", key.is_some()),
            ("insecure-peers", self.insecure_peers),
        ];
        let of_data = [
            ("id", self.id.is_some()),
            ("peer-listen", self.peer_listen.is_some()),
            ("heartbeat-ms", self.heartbeat_ms.is_some()),
            ("election-ms", self.election_ms.is_some()),
            ("snapshot-entries", self.snapshot_entries.is_some()),
        ];
        let first = |options: &[(&'static str, bool)]| {
            options.iter().find(|(_, given)| *given).map(|(name, _)| *name)
        };
        if let (Some(option), None) = (first(&of_peers), &self.peer_listen) {
            return Err(format!("{option} is for a member among others: it needs peer-listen too"));
        }
        let Some(data) = self.data else {
            return match first(&of_data) {
                Some(option) => Err(format!("{option} is for a durable member: it needs data too")),
                None => Ok(None),
            };
        };
        if self.in_memory {
            return Err("in-memory and data exclude each other".to_owned());
        }
        let mut member = MemberConfig::new(data);
        member.id = self.id.unwrap_or(member.id);
        member.peer_listen = self.peer_listen;
        member.peer_advertise = self.peer_advertise;
        member.insecure_peers = self.insecure_peers;
        match self.tls {
            (Some(ca), Some(certificate), Some(key)) => {
                set_tls(&mut member, ca, certificate, key)?;
            }
            (None, None, None) => {}
            _ => return Err("peer-tls-ca, peer-tls-cert and peer-tls-key go together".to_owned()),
        }
        member.founding = match (self.cluster, self.join) {
            (Some(_), true) => return Err("cluster and join exclude each other".to_owned()),
            (Some(members), false) => Founding::Together(members_of(&members)?),
            (None, true) => Founding::Join,
            (None, false) => Founding::Alone,
        };
        if let Some(heartbeat_ms) = self.heartbeat_ms {
            member.timing.heartbeat = Duration::from_millis(heartbeat_ms);
        }
        if let Some(election_ms) = self.election_ms {
            // As it is by default.
            member.timing.election_min = Duration::from_millis(election_ms / 5 * 2);
            member.timing.election_max = Duration::from_millis(election_ms);
        }
        if let Some(entries) = self.snapshot_entries {
            member.keeping.snapshot_entries = entries;
        }
        Ok(Some(member))
    }
}

#[cfg(feature = "tls")]
fn set_client_tls(
    config: &mut Config,
    listen: Option<SocketAddr>,
    own: (Option<PathBuf>, Option<PathBuf>),
    client_ca: Option<PathBuf>,
    client_name: Option<ClientName>,
) -> Result<(), String> {
    use synod_server::tls::{CertificateName, ClientTls};
    match own {
        (Some(_), Some(_)) if client_name.is_some() && client_ca.is_none() => {
            Err("tls-client-name is for clients with certificates: it needs tls-client-ca too"
                .to_owned())
        }
        (Some(certificate), Some(key)) => {
            let mut tls = ClientTls::new(certificate, key);
            tls.listen = listen;
            tls.client_ca = client_ca;
            tls.client_name = match client_name {
                None | Some(ClientName::Subject) => CertificateName::Subject,
                Some(ClientName::San) => CertificateName::AlternativeName,
            };
            config.tls = Some(tls);
            Ok(())
        }
        (None, None) if listen.is_none() && client_ca.is_none() && client_name.is_none() => Ok(()),
        _ => Err("tls-cert and tls-key go together, and tls-listen and tls-client-ca with them"
            .to_owned()),
    }
}

#[cfg(not(feature = "tls"))]
fn set_client_tls(
    _: &mut Config,
    listen: Option<SocketAddr>,
    own: (Option<PathBuf>, Option<PathBuf>),
    client_ca: Option<PathBuf>,
    _: Option<ClientName>,
) -> Result<(), String> {
    match (own, listen, client_ca) {
        ((None, None), None, None) => Ok(()),
        _ => Err("this program was built without TLS".to_owned()),
    }
}

#[cfg(feature = "tls")]
fn set_tls(
    member: &mut MemberConfig,
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
) -> Result<(), String> {
    member.tls = Some(synod_server::tls::TlsFiles { ca, certificate, key });
    Ok(())
}

#[cfg(not(feature = "tls"))]
fn set_tls(_: &mut MemberConfig, _: PathBuf, _: PathBuf, _: PathBuf) -> Result<(), String> {
    Err("this program was built without TLS".to_owned())
}

/// Reads `1=host:port,2=host:port`.
fn members_of(list: &str) -> Result<BTreeMap<u64, String>, String> {
    let mut members = BTreeMap::new();
    for part in list.split(',') {
        let rule = || format!("{part:?}: a member is given as ID=HOST:PORT");
        let (id, address) = part.trim().split_once('=').ok_or_else(rule)?;
        let id: u64 = id.trim().parse().map_err(|_| rule())?;
        let (host, port) = address.rsplit_once(':').ok_or_else(rule)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(rule());
        }
        if members.insert(id, address.to_owned()).is_some() {
            return Err(format!("{list:?}: member {id} is named twice"));
        }
    }
    Ok(members)
}

fn read(path: &Path) -> Result<Settings, String> {
    let problem = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| problem(&error))?;
    toml::from_str(&text).map_err(|error| {
        // Not the line itself, which may say something secret.
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        // Nor a value of another type than was expected.
        let message = match error.message().rsplit_once(", expected ") {
            Some((what, expected)) if what.starts_with("invalid type") => {
                format!("invalid type, expected {expected}")
            }
            _ => error.message().to_owned(),
        };
        problem(&format_args!("line {line}: {message}"))
    })
}

/// A line for whoever started the server, be it a person or a pipe.
fn say(line: &str) {
    let mut out = std::io::stdout();
    // Nobody may be listening: the server serves all the same.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
