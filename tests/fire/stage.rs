//! The processes of a run, and what stands between them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Recipe;
use super::account::Account;
use super::journal::Journal;
use crate::faults::cluster::{Cluster, Settings};
use crate::faults::process::{Process, Signal};
use crate::faults::until;
use crate::recipes::ground::program;
use crate::recipes::proxy::Proxies;

/// Of all sessions of holders.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(2);

/// The members' unit of it: so short, that what is over is so soon.
const TICK: &str = "--tick-ms=200";

const MEMBERS: usize = 3;

/// How many holders there are at a time.
const HOLDERS: usize = 4;

/// A resource that runs.
pub struct Resource {
    /// What it has written down.
    pub journal: Journal,
    address: SocketAddr,
    process: Process,
}

/// A place in which one holder after the other runs.
pub struct Slot {
    /// Its name.
    pub name: String,
    /// How many have run in it before.
    life: u64,
    command: Vec<String>,
    output: PathBuf,
    process: Process,
}

/// Both resources.
pub struct Resources {
    /// It asks for tokens.
    pub fenced: Resource,
    /// It does not.
    pub open: Resource,
}

/// All of them.
pub struct Stage {
    /// The holders.
    pub slots: Vec<Slot>,
    /// Between each of them and the members.
    pub proxies: Vec<Proxies>,
    /// What they write to.
    pub resources: Resources,
    /// Who says who holds.
    pub cluster: Cluster,
}

impl Resource {
    async fn start(folder: &Path, gate: &str) -> Resource {
        let journal = folder.join(format!("{gate}.journal"));
        let mut command = Command::new(program("fire_resource"));
        command.arg(gate).arg(&journal);
        let process = Process::start(&mut command, &folder.join(format!("{gate}.log")));
        let address = until("the resource listens", async || {
            let output = process.output();
            let line = output.lines().find_map(|line| line.strip_prefix("listening on "));
            line.and_then(|address| address.parse().ok())
        })
        .await;
        Resource { journal: Journal::open(&journal).expect("it is there"), address, process }
    }
}

impl Resources {
    /// What the resource that asks for tokens has written down.
    ///
    /// # Panics
    /// As soon as it shows what must not be.
    pub fn account(&mut self) -> &mut Account {
        let account = self.fenced.journal.account();
        let found = account.faults();
        assert!(found.is_empty(), "{found:#?}");
        account
    }

    /// Nobody has an argument with them.
    ///
    /// # Panics
    /// If one has something to say but where it listens.
    pub fn are_silent(&self) {
        for resource in [&self.fenced, &self.open] {
            let output = resource.process.output();
            assert_eq!(output.lines().count(), 1, "{output}");
        }
    }
}

impl Slot {
    fn start(nth: usize, folder: &Path, command: Vec<String>) -> Slot {
        let name = format!("h{nth}");
        let output = folder.join(format!("{name}.log"));
        let process = spawn(&command, &format!("{name}.0"), &output);
        Slot { name, life: 0, command, output, process }
    }

    /// The name of the process that runs.
    pub fn process(&self) -> String {
        format!("{}.{}", self.name, self.life)
    }

    /// kill −9; it is dead when this returns.
    pub async fn kill(&mut self) {
        self.process.signal(Signal::Kill);
        self.process.ended().await;
    }

    /// Another one in the place of one that is dead.
    pub fn start_again(&mut self) {
        self.life += 1;
        self.process = spawn(&self.command, &self.process(), &self.output);
    }

    /// Stops it in its tracks; it is so when this returns.
    pub async fn freeze(&mut self) {
        self.process.signal(Signal::Stop);
        self.process.frozen().await;
    }

    /// Lets it go on.
    pub fn thaw(&mut self) {
        self.process.signal(Signal::Continue);
    }

    /// Nobody has ended of itself, and nobody has had anything to say.
    ///
    /// # Panics
    /// If it has.
    pub fn is_well(&mut self) {
        let (ended, output) = (self.process.has_ended(), self.process.output());
        assert!(ended.is_none() && output.is_empty(), "{}: {ended:?}\n{output}", self.process());
    }
}

fn spawn(command: &[String], process: &str, output: &Path) -> Process {
    let mut holder = Command::new(program("fire_holder"));
    holder.arg(&command[0]).arg(process).args(&command[1..]);
    Process::start(&mut holder, output)
}

impl Stage {
    /// Starts everything.
    pub async fn start(recipe: Recipe) -> Stage {
        let cluster = Cluster::start(Settings::of(MEMBERS).linked().with(&[TICK])).await;
        let fenced = Resource::start(cluster.folder(), "fenced").await;
        let open = Resource::start(cluster.folder(), "open").await;
        let resources = Resources { fenced, open };
        let (mut slots, mut proxies) = (Vec::new(), Vec::new());
        for nth in 0..HOLDERS {
            let between = Proxies::start(&cluster.addresses()).await;
            let command = vec![
                recipe.to_string(),
                between.servers(),
                SESSION_TIMEOUT.as_millis().to_string(),
                resources.open.address.to_string(),
                resources.fenced.address.to_string(),
            ];
            slots.push(Slot::start(nth, cluster.folder(), command));
            proxies.push(between);
        }
        Stage { slots, proxies, resources, cluster }
    }
}
