//! The three grounds that the recipe suite stands on, and what can be done to two of them.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use synod::{Client, ClientBuilder};
use tokio::time::{Instant, timeout};

use super::proxy::Proxy;

/// What the suite asks for: short, so that faults that outlast it do not take long.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(2);

/// Longer than anything takes, on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A coordinator of its own for each test.
pub enum Ground {
    /// In this process, under a name that no other test has. It lives as long as one of its
    /// clients, so the ground has one of its own: the next one would count zxids anew.
    Embedded(String, Client),
    /// A server in a process of its own, and a proxy in front of it.
    Server(Box<Server>),
}

/// A server process; it dies with this.
pub struct Server {
    command: Mutex<Command>,
    process: Mutex<Child>,
    address: SocketAddr,
    /// What stands between the clients and the server.
    pub proxy: Proxy,
    /// Whether what was written outlives the process.
    pub durable: bool,
}

impl Drop for Server {
    fn drop(&mut self) {
        let process = self.process.get_mut().expect("no panic");
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// A port that nobody uses now.
fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it has an address")
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

impl Ground {
    /// A coordinator in this process.
    pub async fn embedded() -> Ground {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("embedded:suite-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let keeper = Client::connect(&name).await.expect("in this process");
        Ground::Embedded(name, keeper)
    }

    /// `synod serve`.
    pub async fn synod() -> Ground {
        Ground::synod_with(&["--tick-ms", "500"]).await
    }

    /// `synod serve` with these arguments.
    pub async fn synod_with(arguments: &[&str]) -> Ground {
        let address = free_address();
        let mut command = Command::new(program("synod"));
        command.args(["serve", "--in-memory", "--listen"]).arg(address.to_string());
        command.args(arguments);
        Ground::server(command, address, false).await
    }

    /// Apache ZooKeeper, by the script that starts one.
    pub async fn apache() -> Ground {
        Ground::apache_with(&["tickTime=500"]).await
    }

    /// Apache ZooKeeper with these settings, as the script takes them.
    pub async fn apache_with(settings: &[&str]) -> Ground {
        let address = free_address();
        let data = std::env::temp_dir().join(format!("synod-suite-{}", address.port()));
        let _ = std::fs::remove_dir_all(&data);
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("interop/apache_zk");
        let mut command = Command::new(script);
        command.arg(address.port().to_string()).arg(data).args(settings);
        Ground::server(command, address, true).await
    }

    async fn server(mut command: Command, address: SocketAddr, durable: bool) -> Ground {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let process = start(&mut command);
        let proxy = Proxy::start(address).await;
        let (command, process) = (Mutex::new(command), Mutex::new(process));
        let server = Server { command, process, address, proxy, durable };
        server.until_it_serves().await;
        Ground::Server(Box::new(server))
    }

    /// Options of a client, through the proxy if there is one.
    pub fn builder(&self) -> ClientBuilder {
        let servers = match self {
            Ground::Embedded(name, _) => name.clone(),
            Ground::Server(server) => server.proxy.address().to_string(),
        };
        Client::builder().servers(servers).session_timeout(SESSION_TIMEOUT)
    }

    /// A client, through the proxy if there is one.
    pub async fn client(&self) -> Client {
        self.builder().connect().await.expect("the coordinator is reachable")
    }

    /// A client whose connection the faults leave alone.
    pub async fn unharmed_client(&self) -> Client {
        match self {
            Ground::Embedded(..) => self.client().await,
            Ground::Server(server) => {
                let builder = self.builder().servers(server.address.to_string());
                builder.connect().await.expect("the server is reachable")
            }
        }
    }

    /// The server, on the grounds that have one.
    pub fn faults(&self) -> &Server {
        match self {
            Ground::Server(server) => server,
            Ground::Embedded(..) => panic!("the embedded ground has no connection to break"),
        }
    }
}

fn start(command: &mut Command) -> Child {
    let mut process = command.spawn().expect("the server can be started");
    // What it says is read to the end, so that it never waits for a reader.
    let said = process.stdout.take().expect("piped");
    std::thread::spawn(move || {
        let _ = BufReader::new(said).lines().map_while(Result::ok).count();
    });
    process
}

impl Server {
    /// Where it listens itself, past the proxy.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks until the server gives a session.
    async fn until_it_serves(&self) {
        let begun = Instant::now();
        let probe = Client::builder().servers(self.address.to_string());
        let probe = probe.session_timeout(SESSION_TIMEOUT).connect_timeout(PATIENCE);
        let client = probe.connect().await.expect("the server serves");
        client.close().await.expect("connected");
        assert!(begun.elapsed() < PATIENCE);
    }

    /// kill −9.
    pub fn kill(&self) {
        let mut process = self.process.lock().expect("no panic");
        process.kill().expect("it can be killed");
        process.wait().expect("it is dead");
    }

    /// Starts it again, on the same address and data.
    pub async fn start_again(&self) {
        *self.process.lock().expect("no panic") =
            start(&mut self.command.lock().expect("no panic"));
        self.until_it_serves().await;
    }

    /// Stops it as an operator would, and starts it again.
    pub async fn restart(&self) {
        {
            let mut process = self.process.lock().expect("no panic");
            let signal = ["-TERM".to_owned(), process.id().to_string()];
            assert!(Command::new("kill").args(signal).status().expect("kill is there").success());
            process.wait().expect("it ends");
        }
        self.start_again().await;
    }
}

/// Waits for `event`, but not for ever.
pub async fn soon<T>(event: impl Future<Output = T>) -> T {
    timeout(PATIENCE, event).await.expect("it happens within a minute")
}
