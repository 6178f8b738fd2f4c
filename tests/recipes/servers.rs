//! Servers in processes of their own, one or several, and what can be done to them. Where there
//! are several, what is done to *the* server is done to the one that leads.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use synod::Client;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::ground::{PATIENCE, SESSION_TIMEOUT, soon};
use super::ports::Ports;
use super::proxy::Proxies;

/// How long a member may take to say what it is. One that takes longer is asked again.
const WORD_PATIENCE: Duration = Duration::from_secs(2);

/// How often members are asked who leads, while nobody does.
const PAUSE: Duration = Duration::from_millis(20);

/// One server; it dies with this.
pub struct Process {
    address: SocketAddr,
    state: Mutex<State>,
}

struct State {
    command: Command,
    /// `None` while it is down.
    child: Option<Child>,
    /// It is stopped in its tracks, and answers nobody.
    paused: bool,
}

impl Process {
    /// What `command` starts listens on `address`.
    pub fn new(mut command: Command, address: SocketAddr) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        Process { address, state: Mutex::new(State { command, child: None, paused: false }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// Starts it, if it is down.
    fn start(&self) {
        let mut state = self.state();
        if state.child.is_some() {
            return;
        }
        let mut child = state.command.spawn().expect("the server can be started");
        // What it says is read to the end, so that it never waits for a reader.
        let said = child.stdout.take().expect("piped");
        std::thread::spawn(move || {
            let _ = BufReader::new(said).lines().map_while(Result::ok).count();
        });
        state.child = Some(child);
    }

    /// Sends a signal by its name.
    fn signal(&self, signal: &str) {
        let id = self.state().child.as_ref().expect("it runs").id().to_string();
        assert!(
            Command::new("kill").args([signal, &id]).status().expect("kill is there").success()
        );
    }

    /// kill −9.
    fn kill(&self) {
        let mut state = self.state();
        if let Some(mut child) = state.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it is dead");
        }
        state.paused = false;
    }

    /// Stops it as an operator would.
    fn stop(&self) {
        self.signal("-TERM");
        let mut child = self.state().child.take().expect("it runs");
        child.wait().expect("it ends");
    }

    /// What it has in memory, in bytes; nothing where the system does not say.
    fn resident_bytes(&self) -> Option<u64> {
        let id = self.state().child.as_ref()?.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
    }

    fn answers(&self) -> bool {
        let state = self.state();
        state.child.is_some() && !state.paused
    }

    /// What it says that it is; `None` if it does not say.
    async fn mode(&self) -> Option<String> {
        if !self.answers() {
            return None;
        }
        let asking = async {
            let mut stream = TcpStream::connect(self.address).await.ok()?;
            stream.write_all(b"srvr").await.ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.ok()?;
            text.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
        };
        timeout(WORD_PATIENCE, asking).await.ok().flatten()
    }

    /// Asks until it gives a session.
    async fn until_it_serves(&self) {
        let probe = Client::builder().servers(self.address.to_string());
        let probe = probe.session_timeout(SESSION_TIMEOUT).connect_timeout(PATIENCE);
        let client = probe.connect().await.expect("the server serves");
        // A leader may come or go at this very moment: the session ends by itself then.
        let _ = client.close().await;
    }
}

/// All servers of a ground.
pub struct Servers {
    processes: Vec<Process>,
    /// What stands between the clients and the servers.
    pub proxy: Proxies,
    /// Whether what was written outlives the process.
    pub durable: bool,
    /// Removed when the processes are dead.
    _data: Option<TempDir>,
    _ports: Ports,
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.processes.iter().for_each(Process::kill);
    }
}

impl Servers {
    pub(super) async fn start(
        processes: Vec<Process>,
        ports: Ports,
        data: Option<TempDir>,
    ) -> Servers {
        let addresses: Vec<_> = processes.iter().map(|process| process.address).collect();
        let proxy = Proxies::start(&addresses).await;
        let durable = data.is_some();
        let servers = Servers { processes, proxy, durable, _data: data, _ports: ports };
        servers.start_again().await;
        servers
    }

    /// Where one of them listens itself, past the proxy; from 0.
    pub fn address(&self, server: usize) -> SocketAddr {
        self.processes[server].address
    }

    /// What one of them has in memory, in bytes; nothing where the system does not say. From 0.
    pub fn resident_bytes(&self, server: usize) -> Option<u64> {
        self.processes[server].resident_bytes()
    }

    /// A connect string of all of them, past the proxies.
    pub fn addresses(&self) -> String {
        let addresses: Vec<_> =
            self.processes.iter().map(|process| process.address.to_string()).collect();
        addresses.join(",")
    }

    /// The one that leads, from 0: of one server that, of several the one that says so, as soon
    /// as one does.
    pub async fn leader(&self) -> usize {
        if self.processes.len() == 1 {
            return 0;
        }
        soon(async {
            loop {
                for (server, process) in self.processes.iter().enumerate() {
                    if process.mode().await.is_some_and(|mode| mode == "leader") {
                        return server;
                    }
                }
                sleep(PAUSE).await;
            }
        })
        .await
    }

    /// kill −9 of one of them.
    pub fn kill_one(&self, server: usize) {
        self.processes[server].kill();
    }

    /// kill −9.
    pub async fn kill(&self) {
        self.processes[self.leader().await].kill();
    }

    /// kill −9 of all of them.
    pub fn kill_all(&self) {
        self.processes.iter().for_each(Process::kill);
    }

    /// Starts those that are down, on the same addresses and data.
    pub async fn start_again(&self) {
        self.processes.iter().for_each(Process::start);
        for process in &self.processes {
            if process.answers() {
                process.until_it_serves().await;
            }
        }
    }

    /// Stops it as an operator would, and starts it again.
    pub async fn restart(&self) {
        self.processes[self.leader().await].stop();
        self.start_again().await;
    }

    /// Stops one of them in its tracks: SIGSTOP.
    pub fn pause(&self, server: usize) {
        self.processes[server].signal("-STOP");
        self.processes[server].state().paused = true;
    }

    /// Lets it go on.
    pub fn go_on(&self, server: usize) {
        self.processes[server].signal("-CONT");
        self.processes[server].state().paused = false;
    }
}
