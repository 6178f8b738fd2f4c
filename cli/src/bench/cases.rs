//! What is run: a name, connections, and requests on the way of each.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep_until};

use super::Failed;
use super::drive::{Window, drive};
use super::figures::{Row, Tally};
use super::line::Line;
use super::server::{Server, own_cpu};
use super::work::points::{Ground, Kind, Work};
use super::work::{TOP, fan_out, locks, sessions, znodes};

/// What follows the help.
pub(super) const HELP: &str = "\
Cases, each with as many connections, and requests on the way of each connection, as it says:
  get, set, mixed (90 % gets), list (100 children), create, create-delete (in turns),
  multi (check, set, create, delete)    NAME:CONNECTIONSxDEPTH, 16x16 if not said
  watch:N       one znode is set again and again that N sessions watch; counted are events
  rewatch:N     the same with watches that are used up: all read and watch again before the next set
  sessions:N    N clients that connect, open a session and close it, again and again
  lock:N        N contenders for a lock; with one of them, a lock alone
  idle:N        N sessions that rest, and what memory each takes
  load:N        N znodes, and what memory each takes";

/// Connections, and requests on the way, where nothing is said.
const CONNECTIONS: u32 = 16;
const DEPTH: usize = 16;
/// The most there may be of what stands behind a name.
const COUNT_MAX: u32 = 100_000_000;
/// Connections of a case.
const CONNECTIONS_MAX: u32 = 50_000;
/// Requests on the way of a connection. (Servers may refuse more than a thousand.)
const DEPTH_MAX: usize = 1_000;
/// How often the bar moves.
const BAR_MS: u64 = 100;

/// How long a case runs before it counts, and then.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) warm_up: Duration,
    pub(super) length: Duration,
}

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Points { kind: Kind, connections: u32, depth: usize },
    Watch(u32),
    Rewatch(u32),
    Sessions(u32),
    Lock(u32),
    Idle(u32),
    Load(u32),
}

impl Case {
    /// The name alone.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Case::Points { kind: Kind::Get, .. } => "get",
            Case::Points { kind: Kind::Set, .. } => "set",
            Case::Points { kind: Kind::Mixed, .. } => "mixed",
            Case::Points { kind: Kind::List, .. } => "list",
            Case::Points { kind: Kind::Create, .. } => "create",
            Case::Points { kind: Kind::CreateDelete, .. } => "create-delete",
            Case::Points { kind: Kind::Multi, .. } => "multi",
            Case::Watch(_) => "watch",
            Case::Rewatch(_) => "rewatch",
            Case::Sessions(_) => "sessions",
            Case::Lock(_) => "lock",
            Case::Idle(_) => "idle",
            Case::Load(_) => "load",
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Case::Points { connections, depth, .. } => write!(f, "{name}:{connections}x{depth}"),
            Case::Watch(count)
            | Case::Rewatch(count)
            | Case::Sessions(count)
            | Case::Lock(count)
            | Case::Idle(count)
            | Case::Load(count) => write!(f, "{name}:{count}"),
        }
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Case, String> {
        let (name, size) = match text.split_once(':') {
            Some((name, size)) => (name, Some(size)),
            None => (text, None),
        };
        let kind = match name {
            "get" => Kind::Get,
            "set" => Kind::Set,
            "mixed" => Kind::Mixed,
            "list" => Kind::List,
            "create" => Kind::Create,
            "create-delete" => Kind::CreateDelete,
            "multi" => Kind::Multi,
            _ => {
                let case = match name {
                    "watch" => Case::Watch,
                    "rewatch" => Case::Rewatch,
                    "sessions" => Case::Sessions,
                    "lock" => Case::Lock,
                    "idle" => Case::Idle,
                    "load" => Case::Load,
                    _ => return Err(format!("{name:?} is not a case: see --help")),
                };
                let most = if name == "load" { COUNT_MAX } else { CONNECTIONS_MAX };
                let rule = || format!("{text:?}: a number from 1 to {most} follows {name}:");
                let count = size.ok_or_else(rule)?.parse().map_err(|_| rule())?;
                return if (1..=most).contains(&count) { Ok(case(count)) } else { Err(rule()) };
            }
        };
        let Some(size) = size else {
            return Ok(Case::Points { kind, connections: CONNECTIONS, depth: DEPTH });
        };
        let rule = || {
            format!(
                "{text:?}: {name}:CxD has 1 to {CONNECTIONS_MAX} connections, and 1 to {DEPTH_MAX} \
                 requests on the way of each"
            )
        };
        let (connections, depth) = size.split_once('x').ok_or_else(rule)?;
        let connections = connections.parse().map_err(|_| rule())?;
        let depth = depth.parse().map_err(|_| rule())?;
        if (1..=CONNECTIONS_MAX).contains(&connections) && (1..=DEPTH_MAX).contains(&depth) {
            Ok(Case::Points { kind, connections, depth })
        } else {
            Err(rule())
        }
    }
}

impl Case {
    /// Runs it.
    pub(super) async fn run(
        self,
        server: &Server,
        ground: Ground,
        times: Times,
        bar: &ProgressBar,
    ) -> Result<Row, Failed> {
        let mut admin = Line::open(&server.addresses[0]).await?;
        admin.ensure(TOP).await?;
        // Of its own, whatever an earlier run that was given up has left.
        let ground = Ground { top: format!("{}-{}", ground.top, admin.session()).into(), ..ground };
        server.works_below(Some(Arc::clone(&ground.top)));
        admin.ensure(&ground.top).await?;
        let mut ground = ground;
        if let Case::Points { kind, connections, .. } = self {
            // One of its own for each connection, at least.
            ground.nodes = ground.nodes.max(connections);
            Work::prepare(kind, &ground, connections, &mut admin).await?;
        }
        let before = admin.seen().epoch();
        // It would expire while others are busy.
        admin.close().await?;
        let mut row = match self {
            Case::Idle(count) => self.idle(count, server, bar).await?,
            Case::Load(count) => {
                self.load(server, Ground { nodes: count, ..ground.clone() }).await?
            }
            _ => self.timed(server, &ground, times, bar).await?,
        };
        let mut admin = Line::open(&server.addresses[0]).await?;
        row.resident_bytes = server.usage().map(|usage| usage.resident_bytes);
        if let Case::Points { kind, connections, .. } = self {
            Work::clear(kind, &ground, connections, &mut admin).await?;
        }
        znodes::remove(&mut admin, [ground.top.to_string()].into_iter()).await?;
        server.works_below(None);
        row.elections = admin.seen().epoch().saturating_sub(before);
        admin.close().await?;
        Ok(row)
    }

    /// What runs for a time and is counted.
    async fn timed(
        self,
        server: &Server,
        ground: &Ground,
        times: Times,
        bar: &ProgressBar,
    ) -> Result<Row, Failed> {
        let progress = Arc::new(AtomicU64::new(0));
        let address = |number: u32| &server.addresses[number as usize % server.addresses.len()];
        let mut lines = Vec::new();
        if let Case::Points { connections: count, .. }
        | Case::Watch(count)
        | Case::Rewatch(count)
        | Case::Lock(count) = self
        {
            let (mut tally, opened) = (Tally::default(), AtomicU64::new(0));
            let idle = sessions::Idle::open(&server.addresses, count, &mut tally, &opened).await?;
            lines = idle.into_lines();
            for line in &mut lines {
                // A member that lags would not know what was made.
                line.catch_up().await?;
            }
        }
        let window = Window::new(times.warm_up, times.length);
        let mut tasks: JoinSet<Result<Tally, Failed>> = JoinSet::new();
        match self {
            Case::Points { kind, connections, depth } => {
                for (number, line) in (0..).zip(lines) {
                    let work = Work::new(kind, ground, number, connections);
                    let progress = Arc::clone(&progress);
                    tasks.spawn(async move { drive(line, work, depth, window, &progress).await });
                }
            }
            Case::Watch(_) => {
                let setter = Line::open(address(0)).await?;
                let (path, progress) = (Arc::clone(&ground.top), Arc::clone(&progress));
                tasks.spawn(fan_out::stream(lines, setter, path, window, progress));
            }
            Case::Rewatch(_) => {
                let setter = Line::open(address(0)).await?;
                let (path, progress) = (Arc::clone(&ground.top), Arc::clone(&progress));
                tasks.spawn(fan_out::rounds(lines, setter, path, window, progress));
            }
            Case::Lock(_) => {
                let place = Arc::new(locks::Place::new(ground.top.to_string()));
                for line in lines {
                    let (place, progress) = (Arc::clone(&place), Arc::clone(&progress));
                    tasks.spawn(locks::contend(line, place, window, progress));
                }
            }
            Case::Sessions(count) => {
                for number in 0..count {
                    let (address, progress) = (address(number).clone(), Arc::clone(&progress));
                    tasks.spawn(async move { sessions::churn(address, window, &progress).await });
                }
            }
            // They have no window.
            Case::Idle(_) | Case::Load(_) => {}
        }
        let watching = watch(server, window, &progress, bar);
        let joining = async {
            let mut all = Tally::default();
            while let Some(joined) = tasks.join_next().await {
                all.join(&joined.map_err(|error| Failed::Wrong(error.to_string()))??);
            }
            Ok::<_, Failed>(all)
        };
        // A reply that is wrong ends it at once.
        let watching = async { Ok(watching.await) };
        let (joined, used) = tokio::try_join!(joining, watching)?;
        let mut row = Row::new(&self.to_string(), &joined, window.length());
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / row.operations.max(1) as f64;
        (row.server_cpu_us, row.own_cpu_us) = (used.0.map(each), each(used.1));
        Ok(row)
    }

    async fn idle(self, count: u32, server: &Server, bar: &ProgressBar) -> Result<Row, Failed> {
        let (mut tally, progress) = (Tally::default(), AtomicU64::new(0));
        let before = server.usage();
        let begun = Instant::now();
        bar.set_prefix("sessions are opened");
        let mut idle =
            sessions::Idle::open(&server.addresses, count, &mut tally, &progress).await?;
        let mut row = Row::new(&self.to_string(), &tally, begun.elapsed());
        idle.ping().await?;
        row.bytes_each = grown(before, server.usage(), count);
        idle.close().await?;
        Ok(row)
    }

    async fn load(self, server: &Server, ground: Ground) -> Result<Row, Failed> {
        let line = &mut Line::open(&server.addresses[0]).await?;
        let before = server.usage();
        let begun = Instant::now();
        znodes::fill(line, &ground).await?;
        let mut row = Row::new(&self.to_string(), &Tally::default(), begun.elapsed());
        row.operations = u64::from(ground.nodes);
        row.a_second = f64::from(ground.nodes) / begun.elapsed().as_secs_f64();
        znodes::count(line, &ground).await?;
        row.bytes_each = grown(before, server.usage(), ground.nodes);
        znodes::remove(line, ground.all()).await?;
        Ok(row)
    }
}

/// What each of `count` takes of the memory that was added.
fn grown(
    before: Option<super::server::Usage>,
    after: Option<super::server::Usage>,
    count: u32,
) -> Option<f64> {
    let added = after?.resident_bytes.saturating_sub(before?.resident_bytes);
    Some(added as f64 / f64::from(count))
}

/// Moves the bar, and tells what CPU server and load took within the window.
async fn watch(
    server: &Server,
    window: Window,
    progress: &AtomicU64,
    bar: &ProgressBar,
) -> (Option<Duration>, Duration) {
    sleep_until(window.from().into()).await;
    let (server_before, own_before) = (server.usage(), own_cpu());
    let (done_before, begun) = (progress.load(Relaxed), Instant::now());
    let mut ticks = interval(Duration::from_millis(BAR_MS));
    while !window.is_over() {
        tokio::select! {
            _ = ticks.tick() => {}
            () = sleep_until(window.until().into()) => break,
        }
        let share = begun.elapsed().as_secs_f64() / window.length().as_secs_f64();
        let rate = (progress.load(Relaxed) - done_before) as f64 / begun.elapsed().as_secs_f64();
        bar.set_position((share * 100.0) as u64);
        bar.set_prefix(format!("{rate:.0}/s"));
    }
    let server_used =
        server.usage().zip(server_before).map(|(now, before)| now.cpu.saturating_sub(before.cpu));
    (server_used, own_cpu().saturating_sub(own_before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_read_as_they_are_written() {
        for text in ["get:16x16", "create-delete:1x1", "multi:16x4", "watch:100", "load:1000"] {
            assert_eq!(text.parse::<Case>().map(|case| case.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("set".parse::<Case>().map(|case| case.to_string()), Ok("set:16x16".to_owned()));
    }

    #[test]
    fn what_is_no_case_is_named_with_the_rule() {
        for (text, word) in [
            ("fly:1x1", "not a case"),
            ("get:0x1", "1 to 50000 connections"),
            ("get:1x1001", "1 to 1000"),
            ("get:16", "CxD"),
            ("watch", "a number from 1 to 50000"),
            ("idle:50001", "a number from 1 to 50000"),
            ("load:100000001", "1 to 100000000"),
            ("load:-1", "a number"),
        ] {
            let error = text.parse::<Case>().expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
