//! `synod serve`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use synod_server::{Config, Server, Words};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Exit;

/// What the file and the flags can say; flags win.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// Where to listen [default: 127.0.0.1:2181].
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,

    /// The unit of session timeouts in milliseconds, and how often expiry looks [default: 2000].
    #[arg(long, value_name = "MS")]
    tick_ms: Option<u32>,

    /// The shortest session timeout that is granted, in milliseconds [default: 2 ticks].
    #[arg(long, value_name = "MS")]
    min_session_timeout_ms: Option<u32>,

    /// The longest session timeout that is granted, in milliseconds [default: 20 ticks].
    #[arg(long, value_name = "MS")]
    max_session_timeout_ms: Option<u32>,

    /// The four-letter words that are answered, between commas; '*' for all
    /// [default: srvr,ruok,mntr,isro].
    #[arg(long, value_name = "LIST")]
    words: Option<String>,

    /// Who proves this digest may do everything.
    #[arg(long, value_name = "USER:HASH")]
    super_digest: Option<String>,

    /// Connections of one address, loopback exempt; 0 for no bound [default: 60].
    #[arg(long, value_name = "COUNT")]
    max_connections_per_address: Option<usize>,

    /// Connections in all [default: 65536].
    #[arg(long, value_name = "COUNT")]
    max_connections: Option<usize>,

    /// How often containers and TTL znodes are looked at, in milliseconds [default: 60000].
    #[arg(long, value_name = "MS")]
    reap_interval_ms: Option<u64>,

    /// Keep everything in memory only (this version always does).
    #[arg(long)]
    #[serde(default)]
    in_memory: bool,
}

/// The arguments of `synod serve`.
#[derive(Args)]
pub(crate) struct Serve {
    /// A TOML file with the same names as the flags, without the dashes in front.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    flags: Settings,
}

impl Serve {
    pub(crate) async fn run(self) -> Exit {
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
        let server = match Server::start(config).await {
            Ok(server) => server,
            Err(error) => {
                crate::complain!("synod: {error}");
                return Exit::Failure;
            }
        };
        let address = server.local_addr();
        if !address.ip().is_loopback() {
            crate::complain!(
                "synod: warning: {address} can be reached from elsewhere, without TLS"
            );
        }
        say(&format!(
            "serving the ZooKeeper protocol on {address}, in memory only: everything is lost when \
             this process ends"
        ));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        server.stop().await;
        say("stopped");
        Exit::Ok
    }

    fn config(self) -> Result<Config, String> {
        let file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let flags = self.flags;
        let mut config = Config::default();
        if let Some(listen) = flags.listen.or(file.listen) {
            config.listen = listen;
        }
        if let Some(tick_ms) = flags.tick_ms.or(file.tick_ms) {
            config.tick_ms = tick_ms;
        }
        config.session_timeout_ms_min =
            flags.min_session_timeout_ms.or(file.min_session_timeout_ms);
        config.session_timeout_ms_max =
            flags.max_session_timeout_ms.or(file.max_session_timeout_ms);
        if let Some(words) = flags.words.or(file.words) {
            config.words = words.parse::<Words>().map_err(|error| error.to_string())?;
        }
        config.super_digest = flags.super_digest.or(file.super_digest);
        let per_address = flags.max_connections_per_address.or(file.max_connections_per_address);
        if let Some(max) = per_address {
            config.limits.connections_per_address_max = max;
        }
        if let Some(max) = flags.max_connections.or(file.max_connections) {
            config.limits.connections_max = max;
        }
        if let Some(interval_ms) = flags.reap_interval_ms.or(file.reap_interval_ms) {
            config.reap_interval = std::time::Duration::from_millis(interval_ms);
        }
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Settings, String> {
    let problem = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| problem(&error))?;
    toml::from_str(&text).map_err(|error| problem(&error))
}

/// A line for whoever started the server, be it a person or a pipe.
fn say(line: &str) {
    let mut out = std::io::stdout();
    // Nobody may be listening: the server serves all the same.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
