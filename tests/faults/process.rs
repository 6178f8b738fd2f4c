//! One server process: it dies with the harness, always.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use super::until;

/// What a process can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ends it at once.
    Kill,
    /// Asks it to end.
    Terminate,
    /// Freezes it.
    Stop,
    /// Lets it go on.
    Continue,
}

impl Signal {
    fn option(self) -> &'static str {
        match self {
            Signal::Kill => "-KILL",
            Signal::Terminate => "-TERM",
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
        }
    }
}

/// A process that runs.
pub struct Process {
    child: Child,
    /// Kills the process when this end of its pipe is gone without a word: that is so however the
    /// harness ends.
    watchdog: Child,
    leash: Option<ChildStdin>,
    /// Where its output goes.
    output: PathBuf,
}

/// Signals that a terminal sends to all are not for the watchdog: it has its work to do then.
const WATCHDOG: &str = r#"trap "" INT TERM HUP; read -r done || kill -KILL "$1""#;

impl Process {
    /// Starts a program whose output is appended to a file.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command, output: &Path) -> Process {
        let file: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(output)
            .expect("a file for the output of a process");
        let errors = file.try_clone().expect("a second handle to a file");
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = command.spawn().expect("the program can be started");
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(child.id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell can be started");
        let leash = watchdog.stdin.take();
        Process { child, watchdog, leash, output: output.to_owned() }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it cannot be sent: the process is gone.
    pub fn signal(&mut self, signal: Signal) {
        if signal == Signal::Kill {
            self.child.kill().expect("it can be killed");
            return;
        }
        let id = self.id().to_string();
        let sent = Command::new("kill").args([signal.option(), &id]).status();
        assert!(sent.expect("kill is there").success(), "{signal:?} to process {id}");
    }

    /// Waits until it is frozen: a signal is sent before it has come.
    pub async fn frozen(&self) {
        let stat = format!("/proc/{}/stat", self.id());
        until("the process is frozen", async || {
            let stat = std::fs::read_to_string(&stat).ok()?;
            let (_, state) = stat.rsplit_once(") ")?;
            state.starts_with('T').then_some(())
        })
        .await;
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let status = until("the process has ended", async || {
            self.child.try_wait().expect("a child can be waited for")
        })
        .await;
        self.release();
        status
    }

    /// How it has ended, if it has.
    ///
    /// # Panics
    /// If the operating system does not tell.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Everything it has said, in this life and in earlier ones.
    pub fn output(&self) -> String {
        let bytes = std::fs::read(&self.output).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The process is gone, and its number may be another's soon.
    fn release(&mut self) {
        if let Some(mut leash) = self.leash.take() {
            let _ = leash.write_all(b"done\n");
        }
        let _ = self.watchdog.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.release();
    }
}
