//! The server that is measured: started here, or there already; and what its processes use.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::Failed;
use super::line::Line;
use super::work::znodes;

/// How long a server may take to open its first session.
const START_MS_MAX: u64 = 60_000;
/// How long a try to open it may take.
const OPEN_MS_MAX: u64 = 2_000;
/// Between two tries to open it.
const TRY_MS: u64 = 50;
/// How long a server may take to end when it is asked to.
const STOP_MS_MAX: u64 = 15_000;
/// Clock ticks a second in `/proc`: what Linux tells user space, whatever its own rate is.
const TICKS: f64 = 100.0;

/// A server, or several that are one cluster.
pub(super) struct Server {
    pub(super) addresses: Vec<String>,
    /// What it was started as; it has its process group to itself, and its folder.
    started: Option<(Child, tempfile::TempDir)>,
    /// The process that is asked about CPU and memory, where it was not started here.
    pid: Option<u32>,
    /// Below which znode the case that runs works.
    ground: Mutex<Option<Arc<str>>>,
}

/// What processes have used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) cpu: Duration,
    pub(super) resident_bytes: u64,
}

impl Server {
    /// One that runs already.
    pub(super) fn running(servers: &str, pid: Option<u32>) -> Result<Server, Failed> {
        if servers.contains('/') {
            let rule = "plain HOST:PORT between commas, without TLS and chroot, can be measured";
            return Err(Failed::Usage(format!("{servers}: {rule}")));
        }
        let addresses = servers.split(',').map(|address| address.trim().to_owned()).collect();
        Ok(Server { addresses, started: None, pid, ground: Mutex::default() })
    }

    /// Starts `command` in a shell, with a fresh folder `$DIR` and a free port `$PORT`; of several
    /// `members` the ports are `$PORT1`, `$PORT2` … as well.
    pub(super) async fn start(command: &str, members: u16) -> Result<Server, Failed> {
        let cannot = |error: std::io::Error| Failed::CannotConnect(format!("{command}: {error}"));
        let folder = tempfile::tempdir().map_err(cannot)?;
        // Held all at once, so that they differ.
        let ports = (0..members)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<Result<Vec<_>, _>>()
            .and_then(|held| held.iter().map(|port| Ok(port.local_addr()?.port())).collect())
            .map_err(cannot)?;
        let ports: Vec<u16> = ports;
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).env("DIR", folder.path()).stdin(Stdio::null());
        shell.stdout(log(folder.path())?).stderr(log(folder.path())?);
        std::os::unix::process::CommandExt::process_group(&mut shell, 0);
        for (number, port) in ports.iter().enumerate() {
            shell.env(format!("PORT{}", number + 1), port.to_string());
        }
        let child = shell.env("PORT", ports[0].to_string()).spawn().map_err(cannot)?;
        let addresses = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let started = Some((child, folder));
        let mut server = Server { addresses, started, pid: None, ground: Mutex::default() };
        server.await_session(command).await?;
        Ok(server)
    }

    /// Waits until each address opens a session.
    async fn await_session(&mut self, command: &str) -> Result<(), Failed> {
        let end = Instant::now() + Duration::from_millis(START_MS_MAX);
        for address in self.addresses.clone() {
            loop {
                // A server that is not ready may leave whoever comes without an answer.
                let patience = Duration::from_millis(OPEN_MS_MAX);
                let reason = match timeout(patience, Line::open(&address)).await {
                    Ok(Ok(line)) => break line.close().await?,
                    Ok(Err(reason)) => reason,
                    Err(_) => Failed::CannotConnect(format!("{address} does not answer")),
                };
                let ended = match &mut self.started {
                    Some((child, _)) => child.try_wait().ok().flatten(),
                    None => None,
                };
                if ended.is_some() || Instant::now() > end {
                    let log = self.log();
                    return Err(Failed::CannotConnect(format!("{command}: {reason}\n{log}")));
                }
                sleep(Duration::from_millis(TRY_MS)).await;
            }
        }
        Ok(())
    }

    /// What it has said.
    fn log(&self) -> String {
        let file = self.started.as_ref().map(|(_, folder)| folder.path().join(LOG));
        file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default()
    }

    /// What its processes have used; `None` where they are not known.
    pub(super) fn usage(&self) -> Option<Usage> {
        match (&self.started, self.pid) {
            (Some((child, _)), _) => Some(of_group(child.id())),
            (None, Some(pid)) => usage_of(&Path::new("/proc").join(pid.to_string())),
            (None, None) => None,
        }
    }

    /// A case begins to work below a znode, or has taken all of it away.
    pub(super) fn works_below(&self, top: Option<Arc<str>>) {
        *self.ground.lock().unwrap_or_else(PoisonError::into_inner) = top;
    }

    /// Takes away what a case has made that was given up.
    pub(super) async fn sweep(self) -> Result<(), Failed> {
        let ground = self.ground.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(top) = ground else { return Ok(()) };
        let mut line = Line::open(&self.addresses[0]).await?;
        znodes::sweep(&mut line, &top).await?;
        line.close().await
    }

    /// Ends it, if it was started here, and waits until it is gone.
    pub(super) async fn stop(mut self) -> Result<(), Failed> {
        let Some((child, _folder)) = &mut self.started else { return Ok(()) };
        signal("TERM", child.id());
        let end = Instant::now() + Duration::from_millis(STOP_MS_MAX);
        loop {
            match child.try_wait() {
                Ok(None) if Instant::now() < end => {
                    sleep(Duration::from_millis(TRY_MS)).await;
                }
                Ok(_) => break,
                Err(error) => return Err(Failed::broken(error)),
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    /// Nothing of it stays.
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.started {
            signal("KILL", child.id());
            let _ = child.wait();
        }
    }
}

/// Where a started server writes what it has to say.
const LOG: &str = "log-of-the-server";

fn log(folder: &Path) -> Result<std::fs::File, Failed> {
    let file = std::fs::File::options().create(true).append(true).open(folder.join(LOG));
    file.map_err(Failed::broken)
}

/// To a process and all that it has started.
fn signal(name: &str, group: u32) {
    let group = format!("-{group}");
    // It may have ended by itself.
    let _ = Command::new("kill").args(["-s", name, "--", &group]).stderr(Stdio::null()).status();
}

/// What the processes of a group have used together.
fn of_group(group: u32) -> Usage {
    let mut all = Usage::default();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let process = entry.path();
        let Ok(stat) = std::fs::read_to_string(process.join("stat")) else { continue };
        if field(&stat, 5) != Some(u64::from(group)) {
            continue;
        }
        if let Some(usage) = usage_of(&process) {
            all.cpu += usage.cpu;
            all.resident_bytes += usage.resident_bytes;
        }
    }
    all
}

/// What this command has used.
pub(super) fn own_cpu() -> Duration {
    usage_of(Path::new("/proc/self")).map_or(Duration::ZERO, |usage| usage.cpu)
}

/// See proc(5): user and system time in ticks; resident memory in kibibytes.
fn usage_of(process: &Path) -> Option<Usage> {
    let stat = std::fs::read_to_string(process.join("stat")).ok()?;
    let ticks = field(&stat, 14)? + field(&stat, 15)?;
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = resident.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Some(Usage {
        cpu: Duration::from_secs_f64(ticks as f64 / TICKS),
        resident_bytes: kibibytes.unwrap_or_default() << 10,
    })
}

/// A field of `/proc/PID/stat`, by its number in proc(5). The second may hold spaces.
fn field(stat: &str, number: usize) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(number - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_behind_a_name_with_spaces() {
        let stat = "12 (a (b) c) S 1 77 77 0 -1 4194560 9 0 0 0 31 4 0 0";
        assert_eq!(
            (field(stat, 5), field(stat, 14), field(stat, 15)),
            (Some(77), Some(31), Some(4))
        );
    }
}
