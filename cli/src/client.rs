//! The commands that look into a server, or change what is there.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use synod::model::Error;
use synod::{Client, Event, Notice, Stat};
use synod_server::admin::AdminError;

use crate::exit::Exit;

/// Where the servers are, unless it is said.
const SERVER: &str = "127.0.0.1:2181";

/// How long to try to connect, in milliseconds, unless it is said.
const CONNECT_TIMEOUT_MS: u64 = 5_000;

/// Where to connect to, and how to answer.
#[derive(Args)]
pub(crate) struct Options {
    /// The servers, as `[zks://]HOST:PORT[,HOST:PORT…][/CHROOT]`; zks:// speaks TLS
    /// [default: 127.0.0.1:2181].
    #[arg(long, global = true, value_name = "S")]
    server: Option<String>,

    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,

    /// Prove a user and a password by the digest scheme.
    #[arg(long, global = true, value_name = "USER:PASSWORD")]
    auth: Option<String>,

    /// Prove a user and a password by SASL's DIGEST-MD5.
    #[arg(long, global = true, value_name = "USER:PASSWORD")]
    sasl: Option<String>,

    #[cfg(feature = "tls")]
    #[command(flatten)]
    tls: Tls,

    /// How long to try to connect, in milliseconds [default: 5000].
    #[arg(long, global = true, value_name = "MS")]
    connect_timeout_ms: Option<u64>,
}

/// How TLS is spoken to a server.
#[cfg(feature = "tls")]
#[derive(Args)]
struct Tls {
    /// PEM file of the authorities that the servers' certificates are signed by: TLS is spoken
    /// then.
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<std::path::PathBuf>,

    /// PEM file of the certificate to show a server that asks for one.
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<std::path::PathBuf>,

    /// PEM file of its private key.
    #[arg(long, global = true, value_name = "FILE")]
    key: Option<std::path::PathBuf>,
}

#[cfg(feature = "tls")]
impl Options {
    /// The first option that says how TLS is spoken to a server, if there is one.
    fn of_tls(&self) -> Option<&'static str> {
        let Tls { ca, cert, key } = &self.tls;
        let all = [("--ca", ca), ("--cert", cert), ("--key", key)];
        all.into_iter().find_map(|(name, file)| file.as_ref().map(|_| name))
    }
}

impl Options {
    /// The first option that means nothing where nobody connects to a server, if there is one.
    pub(crate) fn of_client(&self) -> Option<&'static str> {
        let all = [
            ("--server", self.server.is_some()),
            ("--json", self.json),
            ("--connect-timeout-ms", self.connect_timeout_ms.is_some()),
        ];
        let given = all.into_iter().find_map(|(name, is_given)| is_given.then_some(name));
        self.of_identity().or(given)
    }

    /// The first option that says who a client is, or how TLS is spoken, if there is one.
    pub(crate) fn of_identity(&self) -> Option<&'static str> {
        let name = match (&self.auth, &self.sasl) {
            (Some(_), _) => Some("--auth"),
            (None, Some(_)) => Some("--sasl"),
            (None, None) => None,
        };
        #[cfg(feature = "tls")]
        let name = name.or_else(|| self.of_tls());
        name
    }
}

#[cfg(feature = "tls")]
impl Tls {
    fn options(&self) -> Result<Option<synod::Tls>, Error> {
        match (&self.ca, &self.cert, &self.key) {
            (Some(ca), None, None) => Ok(Some(synod::Tls::trusting(ca))),
            (Some(ca), Some(cert), Some(key)) => {
                Ok(Some(synod::Tls::trusting(ca).proving(cert, key)))
            }
            (None, None, None) => Ok(None),
            _ => Err(Error::invalid("--ca", "…", "--cert and --key go together, and with --ca")),
        }
    }
}

/// A command of a client.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Print the data of a znode.
    Get {
        /// The znode.
        path: String,
    },
    /// Replace the data of a znode.
    Set {
        /// The znode.
        path: String,
        /// The data; - reads it from the standard input.
        data: String,
        /// Only if the znode has this version.
        #[arg(long, value_name = "N")]
        version: Option<i32>,
    },
    /// Create a znode, and print its path.
    Create {
        /// The znode.
        path: String,
        /// The data; - reads it from the standard input.
        #[arg(default_value = "")]
        data: String,
        /// It goes with this command's session: the command stays until Ctrl-C.
        #[arg(long, conflicts_with_all = ["container", "ttl_ms"])]
        ephemeral: bool,
        /// Append a number that grows with each child of the parent.
        #[arg(long, conflicts_with = "container")]
        sequential: bool,
        /// The server deletes it some time after its last child has gone.
        #[arg(long, conflicts_with = "ttl_ms")]
        container: bool,
        /// The server deletes it when it has no children and was not set for so long.
        #[arg(long, value_name = "MS")]
        ttl_ms: Option<u64>,
    },
    /// Delete a znode without children.
    Delete {
        /// The znode.
        path: String,
        /// Only if the znode has this version.
        #[arg(long, value_name = "N")]
        version: Option<i32>,
    },
    /// List the names of a znode's children.
    Ls {
        /// The parent.
        #[arg(default_value = "/")]
        path: String,
    },
    /// Print what is known about a znode besides its data.
    Stat {
        /// The znode.
        path: String,
    },
    /// Print the changes of a znode as they come, until Ctrl-C.
    Watch {
        /// The znode; it need not exist.
        path: String,
        /// The znode and all below it.
        #[arg(long)]
        recursive: bool,
        /// End after so many changes.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Print a znode and all below it.
    Tree {
        /// The top.
        #[arg(default_value = "/")]
        path: String,
    },
}

/// Why a command did not do what it was told.
pub(crate) enum Failure {
    Refused(Error),
    Cluster(AdminError),
    Bench(crate::bench::Failed),
    Output(std::io::Error),
    Input(std::io::Error),
    SessionOver,
    Interrupted,
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Failure {
        Failure::Cluster(error)
    }
}

impl From<crate::bench::Failed> for Failure {
    fn from(failed: crate::bench::Failed) -> Failure {
        Failure::Bench(failed)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Refused(error)
    }
}

impl Options {
    /// Whether to answer in JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Where the servers are.
    pub(crate) fn servers(&self) -> &str {
        self.server.as_deref().unwrap_or(SERVER)
    }

    /// How long to try to connect.
    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms.unwrap_or(CONNECT_TIMEOUT_MS))
    }

    /// Says what went wrong, and how the command ends.
    pub(crate) fn report(&self, outcome: Result<(), Failure>) -> Exit {
        let (exit, text) = match outcome {
            Ok(()) => return Exit::Ok,
            // Whoever read the output has enough of it.
            Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                return Exit::Ok;
            }
            Err(Failure::Interrupted) => return Exit::Interrupted,
            Err(Failure::Refused(error)) => (Exit::from(&error), error.to_string()),
            Err(Failure::Cluster(error)) => (Exit::from(&error), error.to_string()),
            Err(Failure::Bench(failed)) => (Exit::from(&failed), failed.to_string()),
            Err(Failure::Output(error)) => (Exit::Failure, format!("cannot write: {error}")),
            Err(Failure::Input(error)) => (Exit::Failure, format!("cannot read: {error}")),
            Err(Failure::SessionOver) => (Exit::Lost, "the session is over".to_owned()),
        };
        if self.json {
            crate::complain!("{}", json!({ "error": text, "exit": exit as u8 }));
        } else {
            crate::complain!("synod: {text}");
        }
        exit
    }
}

impl Command {
    /// Connects, does it, and closes the session.
    pub(crate) async fn run(self, options: Options) -> Exit {
        let outcome = self.connected(&options).await;
        options.report(outcome)
    }

    async fn connected(self, options: &Options) -> Result<(), Failure> {
        let mut builder =
            Client::builder().servers(options.servers()).connect_timeout(options.connect_timeout());
        let rule = "a user and a password have a colon between them";
        if let Some(auth) = &options.auth {
            let (user, password) =
                auth.split_once(':').ok_or_else(|| Error::invalid("--auth", "…", rule))?;
            builder = builder.auth_digest(user, password);
        }
        if let Some(sasl) = &options.sasl {
            let (user, password) =
                sasl.split_once(':').ok_or_else(|| Error::invalid("--sasl", "…", rule))?;
            builder = builder.sasl_digest(user, password);
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = options.tls.options()? {
            builder = builder.tls(tls);
        }
        let client = tokio::select! {
            client = builder.connect() => client?,
            _ = tokio::signal::ctrl_c() => return Err(Failure::Interrupted),
        };
        let done = tokio::select! {
            done = self.perform(&client, options.json) => done,
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        };
        // Ephemeral znodes of this command go now, not after the session timeout.
        let closed = client.close().await;
        done?;
        Ok(closed?)
    }

    async fn perform(self, client: &Client, json: bool) -> Result<(), Failure> {
        match self {
            Command::Get { path } => {
                let (data, stat) = client.get(path.as_str()).await?;
                if json {
                    return line(&with_data(&path, &data, &stat));
                }
                let mut out = std::io::stdout();
                out.write_all(&data).and_then(|()| out.flush()).map_err(Failure::Output)
            }
            Command::Set { path, data, version } => {
                let set = client.set(path.as_str(), bytes_of(data)?);
                let stat = set.version(version.unwrap_or(-1)).await?;
                let text = format!("{path} has version {}", stat.version);
                say(json, &json!({ "path": path, "stat": stat_json(&stat) }), &text)
            }
            Command::Create { path, data, ephemeral, sequential, container, ttl_ms } => {
                let mut create = client.create(path.as_str(), bytes_of(data)?);
                if ephemeral {
                    create = create.ephemeral();
                }
                if sequential {
                    create = create.sequential();
                }
                if container {
                    create = create.container();
                }
                if let Some(ttl_ms) = ttl_ms {
                    create = create.ttl(Duration::from_millis(ttl_ms));
                }
                let (path, stat) = create.with_stat().await?;
                let value = json!({ "path": path.as_str(), "stat": stat_json(&stat) });
                say(json, &value, path.as_str())?;
                if ephemeral {
                    // Until Ctrl-C, or until it is gone.
                    client.session().lost().await;
                    return Err(Failure::SessionOver);
                }
                Ok(())
            }
            Command::Delete { path, version } => {
                client.delete(path.as_str()).version(version.unwrap_or(-1)).await?;
                say(json, &json!({ "path": path }), &format!("{path} is deleted"))
            }
            Command::Ls { path } => {
                let mut names = client.children(path.as_str()).await?;
                names.sort_unstable();
                say(json, &json!({ "path": path, "children": names }), &names.join("\n"))
            }
            Command::Stat { path } => match client.exists(path.as_str()).await? {
                Some(stat) => {
                    let value = stat_json(&stat);
                    say(json, &json!({ "path": path, "stat": value }), &stat_text(&value))
                }
                // The same refusal as for `get`, in its words.
                None => client.get(path.as_str()).await.map(|_| ()).map_err(Failure::from),
            },
            Command::Watch { path, recursive, count } => {
                let watch = client.watch(path.as_str());
                let watch = if recursive { watch.recursive() } else { watch };
                let mut watch = watch.await?;
                say(json, &json!({ "watching": path }), &format!("watching {path}"))?;
                let mut left = count.unwrap_or(u64::MAX);
                while left > 0 {
                    match watch.next().await {
                        Some(Notice::Event(event)) => {
                            event_line(json, &event)?;
                            left -= 1;
                        }
                        Some(Notice::Lagged) => {
                            let text = "changes may have been missed: read again";
                            say(json, &json!({ "lagged": true }), text)?;
                        }
                        None => return Err(Failure::SessionOver),
                    }
                }
                Ok(())
            }
            Command::Tree { path } => tree(client, &path, json).await,
        }
    }
}

/// Prints a subtree, parents before their children, siblings in order.
async fn tree(client: &Client, top: &str, json: bool) -> Result<(), Failure> {
    let mut left = vec![(0, top.to_owned())];
    while let Some((depth, path)) = left.pop() {
        let (mut names, stat) = match client.children(path.as_str()).with_stat().await {
            Ok(found) => found,
            // It went while the tree was walked.
            Err(error) if depth > 0 && Exit::from(&error) == Exit::NoNode => continue,
            Err(error) if depth > 0 && Exit::from(&error) == Exit::NoAuth => {
                let text = format!("{}{} (not permitted)", "  ".repeat(depth), name_of(&path));
                say(json, &json!({ "path": path, "permitted": false }), &text)?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let shown = if depth == 0 { path.as_str() } else { name_of(&path) };
        let mut text = format!("{}{shown}", "  ".repeat(depth));
        if stat.data_bytes > 0 {
            let _ = write!(text, " ({} B)", stat.data_bytes);
        }
        if stat.ephemeral_owner.is_some() {
            text.push_str(" ephemeral");
        }
        say(json, &json!({ "path": path, "stat": stat_json(&stat) }), &text)?;
        names.sort_unstable_by(|a, b| b.cmp(a));
        let base = if path == "/" { "" } else { &path };
        left.extend(names.into_iter().map(|name| (depth + 1, format!("{base}/{name}"))));
    }
    Ok(())
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn bytes_of(data: String) -> Result<Vec<u8>, Failure> {
    if data != "-" {
        return Ok(data.into_bytes());
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).map_err(Failure::Input)?;
    Ok(bytes)
}

/// One line, in the form that was asked for.
pub(crate) fn say(json: bool, value: &Value, text: &str) -> Result<(), Failure> {
    if json {
        return line(value);
    }
    if text.is_empty() {
        return Ok(());
    }
    line(&text)
}

fn line(text: &dyn std::fmt::Display) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(Failure::Output)
}

fn event_line(json: bool, event: &Event) -> Result<(), Failure> {
    let zxid = event.zxid.map(|zxid| zxid.to_string());
    let kind = format!("{:?}", event.kind);
    let text = format!("{kind} {} {}", event.path, zxid.as_deref().unwrap_or("-"));
    say(json, &json!({ "event": kind, "path": &*event.path, "zxid": zxid }), &text)
}

/// Data as text where it is text, else in base64.
fn with_data(path: &str, data: &[u8], stat: &Stat) -> Value {
    let (name, data) = match std::str::from_utf8(data) {
        Ok(text) => ("data", text.to_owned()),
        Err(_) => ("data_base64", STANDARD.encode(data)),
    };
    json!({ "path": path, name: data, "stat": stat_json(stat) })
}

/// The eleven fields, by their names in the protocol.
fn stat_json(stat: &Stat) -> Value {
    json!({
        "czxid": stat.czxid.to_string(),
        "mzxid": stat.mzxid.to_string(),
        "pzxid": stat.pzxid.to_string(),
        "ctime": stat.ctime_ms,
        "mtime": stat.mtime_ms,
        "version": stat.version,
        "cversion": stat.cversion,
        "aversion": stat.aversion,
        "ephemeralOwner": stat.ephemeral_owner.map(|session| session.to_string()),
        "dataLength": stat.data_bytes,
        "numChildren": stat.children,
    })
}

/// The same, a field a line.
fn stat_text(stat: &Value) -> String {
    let fields = stat.as_object().into_iter().flatten();
    let lines = fields.map(|(name, value)| match value {
        Value::String(text) => format!("{name} {text}"),
        Value::Null => format!("{name} none"),
        other => format!("{name} {other}"),
    });
    lines.collect::<Vec<_>>().join("\n")
}
