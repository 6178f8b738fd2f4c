//! The members of a cluster as processes, their folders and addresses, and who leads.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::links::Links;
use super::process::{Process, Signal};
use super::until;
use crate::recipes::ground::program;

/// How long a member may take to answer a word before it counts as one that does not.
const WORD_PATIENCE: Duration = Duration::from_millis(500);

/// What the members of a cluster are started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many members.
    pub members: usize,
    /// Whether links stand between them.
    pub linked: bool,
    /// Further arguments.
    pub arguments: Vec<String>,
}

impl Settings {
    /// So many members with the defaults.
    pub fn of(members: usize) -> Settings {
        Settings { members, linked: false, arguments: Vec::new() }
    }

    /// With links between the members.
    pub fn linked(mut self) -> Settings {
        self.linked = true;
        self
    }

    /// With further arguments.
    pub fn with(mut self, arguments: &[&str]) -> Settings {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }
}

/// One member.
pub struct Member {
    /// Where clients reach it.
    pub address: SocketAddr,
    /// Where other members reach it.
    pub peer: SocketAddr,
    /// Its data folder.
    pub data: PathBuf,
    /// What stands in front of the program's name when it is started next: `strace`, for example.
    pub wrapper: Vec<String>,
    arguments: Vec<String>,
    output: PathBuf,
    process: Option<Process>,
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// `standalone`, `leader`, `follower`, `looking`.
    pub mode: String,
    /// The last zxid that it has applied; its upper half is the term.
    pub zxid: i64,
}

/// A cluster, in a folder that goes with it.
pub struct Cluster {
    /// Its members, whose ids begin with 1.
    pub members: Vec<Member>,
    /// What stands between the members.
    pub links: Links,
    folder: TempDir,
}

/// The program under test: `SYNOD_BIN`, or what cargo has built beside the tests.
fn synod() -> PathBuf {
    std::env::var_os("SYNOD_BIN").map_or_else(|| program("synod"), PathBuf::from)
}

/// A port that nobody uses now, below those that the operating system gives to whoever connects:
/// the port of a server that is dead for a moment must not become a client's.
fn free_address() -> SocketAddr {
    const PORTS: std::ops::Range<u16> = 10_000..30_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = (std::process::id() as u16).wrapping_mul(97);
    for _ in PORTS {
        let next = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(own);
        let address = SocketAddr::from(([127, 0, 0, 1], PORTS.start + next % PORTS.len() as u16));
        if std::net::TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port from {} to {}", PORTS.start, PORTS.end);
}

impl Cluster {
    /// Starts a cluster in a new folder, and waits until it has a leader.
    pub async fn start(settings: Settings) -> Cluster {
        let folder = tempfile::Builder::new().prefix("synod-faults-").tempdir();
        Cluster::start_in(settings, folder.expect("a folder for temporary files")).await
    }

    /// Starts a cluster in this folder, and waits until it has a leader.
    pub async fn start_in(settings: Settings, folder: TempDir) -> Cluster {
        let mut links = Links::default();
        let mut peers = Vec::new();
        for id in 1..=settings.members as u64 {
            let listens = free_address();
            let reached = match settings.linked {
                true => links.lead_to(id, listens).await,
                false => listens,
            };
            peers.push((id, listens, reached));
        }
        let named: Vec<String> =
            peers.iter().map(|(id, _, reached)| format!("{id}={reached}")).collect();
        let mut members = Vec::new();
        for (id, listens, reached) in &peers {
            let (address, data) = (free_address(), folder.path().join(format!("data-{id}")));
            let mut arguments: Vec<String> = vec![
                "serve".to_owned(),
                format!("--listen={address}"),
                format!("--data={}", data.display()),
            ];
            if settings.members > 1 {
                arguments.push(format!("--id={id}"));
                arguments.push(format!("--peer-listen={listens}"));
                arguments.push(format!("--peer-advertise={reached}"));
                arguments.push(format!("--cluster={}", named.join(",")));
            }
            arguments.extend(settings.arguments.iter().cloned());
            let output = folder.path().join(format!("member-{id}.log"));
            let (wrapper, process) = (Vec::new(), None);
            let peer = *reached;
            members.push(Member { address, peer, data, wrapper, arguments, output, process });
        }
        let mut cluster = Cluster { members, links, folder };
        cluster.members.iter_mut().for_each(Member::start);
        cluster.leader().await;
        cluster
    }

    /// The folder in which everything of this cluster is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where clients reach the members.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.address).collect()
    }

    /// Waits until one leads, by its own word; its place among the members.
    pub async fn leader(&self) -> usize {
        self.leader_but(None).await
    }

    /// The same, of the others than `but`.
    pub async fn leader_but(&self, but: Option<usize>) -> usize {
        until("there is a leader", async || {
            for (place, member) in self.members.iter().enumerate() {
                let standing = match Some(place) == but {
                    true => None,
                    false => member.standing().await,
                };
                if standing.is_some_and(|it| it.mode == "leader" || it.mode == "standalone") {
                    return Some(place);
                }
            }
            None
        })
        .await
    }

    /// The place of a member that follows.
    pub async fn follower(&self) -> usize {
        (self.leader().await + 1) % self.members.len()
    }

    /// Gives an order by `synod cluster`, to all of the members.
    ///
    /// # Errors
    /// What it says when it is not done.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub async fn order(&self, arguments: &[&str]) -> Result<(), String> {
        let peers: Vec<String> = self.members.iter().map(|it| it.peer.to_string()).collect();
        let mut command = Command::new(synod());
        command.args(["cluster", "--peer", &peers.join(",")]).args(arguments);
        let running = tokio::task::spawn_blocking(move || command.output());
        let output = running.await.expect("it does not panic").expect("the program can be started");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or(errors)
    }

    /// Waits until the member is what is said.
    pub async fn becomes(&self, place: usize, mode: &str) {
        until(&format!("member {} is {mode}", place + 1), async || {
            self.members[place].standing().await.filter(|it| it.mode == mode)
        })
        .await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for member in &mut self.members {
                let ended = member.process.as_mut().and_then(Process::has_ended);
                eprintln!("--- {} ({ended:?})\n{}", member.output.display(), member.last_words());
            }
        }
    }
}

impl Member {
    /// Starts its process.
    ///
    /// # Panics
    /// If it runs already.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "it is not to be started twice");
        let program = synod();
        let mut command = match self.wrapper.split_first() {
            Some((wrapper, arguments)) => {
                let mut command = Command::new(wrapper);
                command.args(arguments).arg(program);
                command
            }
            None => Command::new(program),
        };
        // Another that takes it into its head to be told by these must not be.
        command.env_remove("SYNOD_LOG").args(&self.arguments);
        self.process = Some(Process::start(&mut command, &self.output));
    }

    /// Takes everything away that it has on disk. It does not run.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn empty(&self) {
        assert!(self.process.is_none(), "it is not to lose its files while it runs");
        std::fs::remove_dir_all(&self.data).expect("the folder can be removed");
    }

    /// Waits to be added, when it is started next, instead of founding anything.
    pub fn join(&mut self) {
        let founding = |argument: &&mut String| argument.starts_with("--cluster=");
        let founding = self.arguments.iter_mut().find(founding);
        *founding.expect("it was to found a cluster") = "--join".to_owned();
    }

    /// Its process.
    ///
    /// # Panics
    /// If it was not started.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    /// kill −9; it is dead when this returns.
    pub async fn kill(&mut self) {
        self.process().signal(Signal::Kill);
        self.ended().await;
    }

    /// Waits for its end; whether it was with exit code 0.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let status = self.process().ended().await;
        self.process = None;
        status
    }

    /// Freezes it; it is frozen when this returns.
    pub async fn freeze(&mut self) {
        self.process().signal(Signal::Stop);
        self.process().frozen().await;
    }

    /// Lets it go on.
    pub fn thaw(&mut self) {
        self.process().signal(Signal::Continue);
    }

    /// Everything it has said.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// The end of what it has said.
    pub fn last_words(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Asks it what it is; `None` if it does not answer soon.
    pub async fn standing(&self) -> Option<Standing> {
        let text = timeout(WORD_PATIENCE, word(self.address, "srvr")).await.ok()?.ok()?;
        let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let zxid = line("Zxid: 0x").and_then(|hex| i64::from_str_radix(hex, 16).ok())?;
        Some(Standing { mode: line("Mode: ")?.to_owned(), zxid })
    }
}

async fn word(address: SocketAddr, word: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(word.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}
