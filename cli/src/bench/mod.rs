//! `synod bench`: puts a load on any server that speaks the ZooKeeper protocol, and believes none of
//! its replies.
//!
//! | file | what it holds |
//! |---|---|
//! | `cases` | what is run: names, connections, requests on the way |
//! | `work` | the kinds of load, and what their replies must say |
//! | `line` | one connection |
//! | `drive` | keeps a connection busy |
//! | `server` | the server that is measured: started, or found; its CPU and memory |
//! | `figures` | latencies, tables, JSON |

mod cases;
mod drive;
mod figures;
mod line;
mod server;
mod work;

use std::fmt::Display;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use synod_core::model::{Refusal, Request};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::client::{Failure, Options, say};
use crate::exit::Exit;

use cases::{Case, Times};
use figures::Row;
use server::Server;
use work::points::Ground;

/// What `synod bench` runs where no case is named.
const CASES: &str = "get:16x16 get:64x1 get:1x1 set:16x16 set:64x1 set:1x1 create:16x16 multi:16x4 \
                     watch:100 sessions:16 lock:1 lock:11";
/// Znodes a run may have: their numbers are part of their data.
const NODES_MAX: i64 = 100_000_000;
/// What is shown of a reply that is wrong, in characters.
const WRONG_CHARS_MAX: usize = 1_000;
/// How long a case may take.
const SECONDS_MAX: f64 = 86_400.0;
/// Bytes a value may have: two of them are in one transaction of `multi`, which servers take up to a
/// mebibyte.
const VALUE_BYTES_MAX: i64 = 500_000;
/// How long may be spent on taking away what a run that was given up has made.
const SWEEP_MS_MAX: u64 = 60_000;

/// The arguments of `synod bench`.
#[derive(Args)]
#[command(after_help = cases::HELP)]
pub(crate) struct Bench {
    /// What to run, as `NAME[:CONNECTIONS[xDEPTH]]`: see below.
    #[arg(value_name = "CASE", default_values = CASES.split_whitespace())]
    cases: Vec<Case>,

    /// Start the server that is measured: a command for the shell that serves on port $PORT with
    /// its data in $DIR until SIGTERM, rather than one that runs already (--server).
    #[arg(long, value_name = "COMMAND")]
    start: Option<String>,

    /// Start another one too, in turns with the first, each on fresh data, and compare them.
    #[arg(long, value_name = "COMMAND", requires = "start")]
    against: Option<String>,

    /// How many servers a command starts, as one cluster: on $PORT1, $PORT2 …
    #[arg(long, value_name = "N", default_value_t = 1, requires = "start",
        value_parser = clap::value_parser!(u16).range(1..=9))]
    members: u16,

    /// How often each is started and measured.
    #[arg(long, value_name = "N", default_value_t = 3, requires = "against",
        value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,

    /// How long a case is measured, in seconds.
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    seconds: Duration,

    /// How long it runs before that, in seconds.
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds)]
    warm_up: Duration,

    /// Znodes that get, set, mixed and multi spread over.
    #[arg(long, value_name = "N", default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..=NODES_MAX))]
    nodes: u32,

    /// Bytes of a value.
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(8..=VALUE_BYTES_MAX))]
    value_bytes: u32,

    /// The process whose CPU and memory are told, where the server was not started here.
    #[arg(long, value_name = "PID", conflicts_with = "start")]
    pid: Option<u32>,
}

/// Why a run was given up.
#[derive(Debug)]
pub(crate) enum Failed {
    Usage(String),
    CannotConnect(String),
    Broken(String),
    /// A reply that is not what it must be: whatever was measured means nothing.
    Wrong(String),
}

impl Failed {
    fn broken(error: impl Display) -> Failed {
        Failed::Broken(format!("the connection broke: {error}"))
    }

    fn wrong(error: impl Display) -> Failed {
        Failed::Wrong(error.to_string())
    }

    fn refused(request: &Request, refusal: &Refusal) -> Failed {
        Failed::Wrong(format!("{request:?} was refused: {:?}", refusal.code))
    }
}

impl Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failed::Usage(text) | Failed::Broken(text) => f.write_str(text),
            Failed::CannotConnect(text) => write!(f, "cannot connect: {text}"),
            // A reply may have megabytes.
            Failed::Wrong(text) => write!(f, "the server is wrong: {text:.WRONG_CHARS_MAX$}"),
        }
    }
}

impl Bench {
    /// Measures, and prints what came of it.
    pub(crate) async fn run(self, options: Options) -> Exit {
        let outcome = match (options.of_identity(), &self.start) {
            (Some(name), _) => {
                let rule = "bench opens plain connections, and proves nothing";
                Err(Failed::Usage(format!("{name}: {rule}")).into())
            }
            (None, None) => self.found(&options).await,
            // What is started goes with the future that has started it.
            (None, Some(start)) => unless_stopped(self.started(&options, start)).await,
        };
        options.report(outcome)
    }

    /// Measures a server that runs already, and leaves nothing there.
    async fn found(&self, options: &Options) -> Result<(), Failure> {
        let server = Server::running(options.servers(), self.pid)?;
        let outcome = unless_stopped(async {
            let rows = self.rows(&server, "").await?;
            print_rows(options, &rows)
        });
        let outcome = outcome.await;
        if outcome.is_err() {
            let patience = Duration::from_millis(SWEEP_MS_MAX);
            if !matches!(timeout(patience, server.sweep()).await, Ok(Ok(()))) {
                crate::complain!("synod: something may be left below {}", work::TOP);
            }
        }
        outcome
    }

    /// Measures servers that are started here.
    async fn started(&self, options: &Options, start: &str) -> Result<(), Failure> {
        let Some(against) = &self.against else {
            let rows = self.fresh(start, "").await?;
            return print_rows(options, &rows);
        };
        let mut rounds = Vec::new();
        for round in 1..=self.rounds {
            let label = |which: &str| format!("round {round} of {}, {which}: ", self.rounds);
            // Who comes first changes, so that a machine that slows down favours nobody.
            let (ours, theirs) = if round % 2 == 1 {
                let ours = self.fresh(start, &label("start")).await?;
                (ours, self.fresh(against, &label("against")).await?)
            } else {
                let theirs = self.fresh(against, &label("against")).await?;
                (self.fresh(start, &label("start")).await?, theirs)
            };
            rounds.push((ours, theirs));
        }
        let (table, value) = figures::comparison(&rounds);
        print(options, value, || table)
    }

    /// Starts a server on fresh data, runs all cases, and stops it.
    async fn fresh(&self, command: &str, label: &str) -> Result<Vec<Row>, Failed> {
        let server = Server::start(command, self.members).await?;
        let rows = self.rows(&server, label).await?;
        server.stop().await?;
        Ok(rows)
    }

    async fn rows(&self, server: &Server, label: &str) -> Result<Vec<Row>, Failed> {
        let times = Times { warm_up: self.warm_up, length: self.seconds };
        let mut rows = Vec::with_capacity(self.cases.len());
        for (number, case) in self.cases.iter().enumerate() {
            let ground = Ground {
                top: format!("{}/{number}-{}", work::TOP, case.name()).into(),
                nodes: self.nodes,
                value_bytes: self.value_bytes as usize,
            };
            let bar = bar(format!("{label}{case}"));
            rows.push(case.run(server, ground, times, &bar).await?);
            bar.finish_and_clear();
        }
        Ok(rows)
    }
}

/// Until Ctrl-C, or SIGTERM.
async fn unless_stopped(
    measuring: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failed::broken)?;
    tokio::select! {
        outcome = measuring => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        _ = terminate.recv() => Err(Failure::Interrupted),
    }
}

/// A length of time.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds));
    let rule = || format!("{text:?}: a number of seconds from 0 to {SECONDS_MAX}");
    seconds.map(Duration::from_secs_f64).ok_or_else(rule)
}

/// A bar on a terminal; nothing elsewhere.
fn bar(label: String) -> ProgressBar {
    let bar = ProgressBar::new(100).with_message(label);
    let style = ProgressStyle::with_template("{msg} {bar:30} {elapsed} {prefix}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn print_rows(options: &Options, rows: &[Row]) -> Result<(), Failure> {
    let value = json!(rows.iter().map(Row::json).collect::<Vec<_>>());
    print(options, value, || figures::table(rows))
}

fn print(options: &Options, value: Value, table: impl FnOnce() -> String) -> Result<(), Failure> {
    let text = if options.json() { String::new() } else { table() };
    say(options.json(), &value, text.trim_end())
}
