//! A program that contends: it is told what to do in a line, and says in one what it has done.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use synod_tests::recipes::ground::{program, soon};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Whose program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// In this layout.
    Ours(&'static str),
    Kazoo,
    Curator,
}

/// What it contends for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taking {
    Lock,
    Election,
}

/// One that runs; it dies with this.
pub(crate) struct Member {
    pub(crate) name: &'static str,
    command: Command,
    child: Child,
    commands: ChildStdin,
    words: mpsc::UnboundedReceiver<String>,
}

/// What `interop/run` says.
fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: tests/interop/run sets it"))
}

impl Side {
    /// The layout in which ours is one with theirs.
    pub(crate) fn layout(self) -> &'static str {
        match self {
            Side::Ours(layout) => layout,
            Side::Kazoo => "kazoo",
            Side::Curator => "curator",
        }
    }

    fn command(self, arguments: [&str; 4]) -> Command {
        let mut command;
        match self {
            Side::Ours(layout) => {
                command = Command::new(program("mixed_member"));
                command.args(arguments).arg(layout);
            }
            Side::Kazoo => {
                let script = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
                command = Command::new(setting("PYTHON"));
                command.arg(script.join("interop/mixed/kazoo_member.py")).args(arguments);
            }
            Side::Curator => {
                command = Command::new("java");
                command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
                command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error");
                command.args(["-cp", &setting("CURATOR_CLASSPATH"), "CuratorMember"]);
                command.args(arguments);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }
}

impl Member {
    pub(crate) fn start(
        side: Side,
        taking: Taking,
        servers: &str,
        path: &str,
        name: &'static str,
    ) -> Member {
        let taking = match taking {
            Taking::Lock => "lock",
            Taking::Election => "election",
        };
        let mut command = side.command([taking, servers, path, name]);
        let (child, commands, words) = spawn(&mut command);
        Member { name, command, child, commands, words }
    }

    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("it listens");
    }

    pub(crate) async fn hears(&mut self, word: &str) {
        let heard = soon(self.words.recv()).await;
        assert_eq!(heard.as_deref(), Some(word), "{}", self.name);
    }

    /// The wait is what is looked at: whoever holds where another does says so at once.
    pub(crate) async fn is_silent_for(&mut self, time: Duration) {
        if let Ok(heard) = timeout(time, self.words.recv()).await {
            panic!("{} is to wait and says {heard:?}", self.name);
        }
    }

    /// kill −9.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it is dead");
    }

    pub(crate) fn start_again(&mut self) {
        (self.child, self.commands, self.words) = spawn(&mut self.command);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(command: &mut Command) -> (Child, ChildStdin, mpsc::UnboundedReceiver<String>) {
    let mut child = command.spawn().expect("the program can be started");
    let commands = child.stdin.take().expect("piped");
    let said = child.stdout.take().expect("piped");
    let (tell, words) = mpsc::unbounded_channel();
    // It ends with the program, whose words are few.
    std::thread::spawn(move || {
        for word in BufReader::new(said).lines().map_while(Result::ok) {
            let _ = tell.send(word);
        }
    });
    (child, commands, words)
}
