//! The grounds that the recipe suite stands on.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use synod::{Client, ClientBuilder};
use tokio::time::timeout;

use super::ports::Ports;
use super::servers::{Process, Servers};

/// What the suite asks for: short, so that faults that outlast it do not take long.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(2);

/// Longer than anything takes, on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How many members the ground of a cluster has.
const MEMBERS: u16 = 3;

/// The unit of session timeouts that servers are told, in milliseconds: the suite's is granted.
const TICK_MS: &str = "500";

/// A coordinator of its own for each test.
pub enum Ground {
    /// In this process, under a name that no other test has. It lives as long as one of its
    /// clients, so the ground has one of its own: the next one would count zxids anew.
    Embedded(String, Client),
    /// Servers in processes of their own, and a proxy in front of each.
    Servers(Box<Servers>),
}

/// A program that cargo builds beside the tests of the workspace.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps");
    let program = profile.join(name);
    assert!(
        program.exists(),
        "{} is not built: cargo build --workspace --examples --bins",
        program.display()
    );
    program
}

/// Runs an example on the ground. Whenever it says that it has killed something, for the second
/// time, the fourth and so on, the server is killed too, if it keeps what was written. How often
/// something was killed, and all that the example said.
pub async fn run_example(
    ground: &Ground,
    name: &str,
    arguments: &[&str],
    killed: &str,
) -> (usize, Vec<String>) {
    let mut example = Command::new(program(&format!("examples/{name}")));
    example.args(["--server", &ground.faults().addresses()]).args(arguments);
    let (said, mut lines) = futures::channel::mpsc::unbounded();
    let running = tokio::task::spawn_blocking(move || {
        let mut example = example.stdout(Stdio::piped()).spawn().expect("it can be started");
        let stdout = example.stdout.take().expect("piped");
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            said.unbounded_send(line).expect("somebody listens");
        }
        example.wait().expect("it ends")
    });
    let (mut all, mut kills) = (Vec::new(), 0);
    while let Some(line) = lines.next().await {
        if line.starts_with(killed) {
            kills += 1;
            if ground.faults().durable && kills % 2 == 0 {
                ground.faults().kill().await;
                ground.faults().start_again().await;
            }
        }
        all.push(line);
    }
    assert!(running.await.expect("no panic").success(), "{all:?}");
    (kills, all)
}

/// A folder for what servers keep.
fn data_folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("synod-suite-").tempdir().expect("can be made")
}

/// Our server; it is silent as long as all is as it should be.
fn serve() -> Command {
    let mut command = Command::new(program("synod"));
    command.args(["serve", "--log", "warn,openraft=error"]);
    command
}

impl Ground {
    /// A coordinator in this process.
    pub async fn embedded() -> Ground {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("embedded:suite-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let keeper = Client::connect(&name).await.expect("in this process");
        Ground::Embedded(name, keeper)
    }

    /// `synod serve --data`: one durable member.
    pub async fn synod() -> Ground {
        let (ports, data) = (Ports::claim(1), data_folder());
        let mut command = serve();
        command.args(["--tick-ms", TICK_MS, "--data"]).arg(data.path());
        command.arg("--listen").arg(ports.address(0).to_string());
        let process = Process::new(command, ports.address(0));
        Ground::of(Servers::start(vec![process], ports, Some(data)).await)
    }

    /// `synod serve --in-memory`, which forgets everything when it ends.
    pub async fn in_memory() -> Ground {
        Ground::in_memory_with(&["--tick-ms", TICK_MS]).await
    }

    /// The same with these arguments.
    pub async fn in_memory_with(arguments: &[&str]) -> Ground {
        let ports = Ports::claim(1);
        let mut command = serve();
        command.args(["--in-memory", "--listen"]).arg(ports.address(0).to_string());
        command.args(arguments);
        let process = Process::new(command, ports.address(0));
        Ground::of(Servers::start(vec![process], ports, None).await)
    }

    /// A cluster of three durable members.
    pub async fn cluster() -> Ground {
        let (ports, data) = (Ports::claim(2 * MEMBERS), data_folder());
        let peer = |id: u16| ports.address(MEMBERS + id - 1);
        let members: Vec<_> = (1..=MEMBERS).map(|id| format!("{id}={}", peer(id))).collect();
        let processes = (1..=MEMBERS).map(|id| {
            let address = ports.address(id - 1);
            let mut command = serve();
            command.args(["--tick-ms", TICK_MS, "--data"]);
            command.arg(data.path().join(id.to_string()));
            command.arg("--listen").arg(address.to_string());
            command.arg("--id").arg(id.to_string());
            command.arg("--peer-listen").arg(peer(id).to_string());
            command.arg("--cluster").arg(members.join(","));
            Process::new(command, address)
        });
        let processes = processes.collect();
        Ground::of(Servers::start(processes, ports, Some(data)).await)
    }

    /// Apache ZooKeeper, by the script that starts one.
    pub async fn apache() -> Ground {
        Ground::apache_with(&[&format!("tickTime={TICK_MS}")]).await
    }

    /// Apache ZooKeeper with these settings, as the script takes them.
    pub async fn apache_with(settings: &[&str]) -> Ground {
        let (ports, data) = (Ports::claim(1), data_folder());
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("interop/apache_zk");
        let mut command = Command::new(script);
        command.arg(ports.address(0).port().to_string()).arg(data.path()).args(settings);
        let process = Process::new(command, ports.address(0));
        Ground::of(Servers::start(vec![process], ports, Some(data)).await)
    }

    fn of(servers: Servers) -> Ground {
        Ground::Servers(Box::new(servers))
    }

    /// Options of a client, through the proxies if there are any.
    pub fn builder(&self) -> ClientBuilder {
        let servers = match self {
            Ground::Embedded(name, _) => name.clone(),
            Ground::Servers(servers) => servers.proxy.servers(),
        };
        Client::builder().servers(servers).session_timeout(SESSION_TIMEOUT)
    }

    /// A client, through the proxies if there are any.
    pub async fn client(&self) -> Client {
        self.builder().connect().await.expect("the coordinator is reachable")
    }

    /// A client whose connection the faults leave alone.
    pub async fn unharmed_client(&self) -> Client {
        match self {
            Ground::Embedded(..) => self.client().await,
            Ground::Servers(servers) => {
                let builder = self.builder().servers(servers.addresses());
                builder.connect().await.expect("the servers are reachable")
            }
        }
    }

    /// The servers, on the grounds that have some.
    pub fn faults(&self) -> &Servers {
        match self {
            Ground::Servers(servers) => servers,
            Ground::Embedded(..) => panic!("the embedded ground has no connection to break"),
        }
    }
}

/// Waits for `event`, but not for ever.
pub async fn soon<T>(event: impl Future<Output = T>) -> T {
    timeout(PATIENCE, event).await.expect("it happens within a minute")
}
