//! What the benches of servers share.

// Each bench is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::ffi::OsStr;
use std::fmt::Debug;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use synod::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const SESSION_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs a bench on a runtime of two workers.
pub fn on_two_workers<T: Send + 'static>(measure: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async { tokio::spawn(measure).await.expect("it does not panic") })
}

/// A client in a session of its own.
pub async fn client(server: SocketAddr) -> Client {
    let builder = Client::builder().servers(server.to_string());
    builder.session_timeout(SESSION_TIMEOUT).connect().await.expect("the server is there")
}

/// The middle one; not a number if there is none.
pub fn median(figures: Vec<f64>) -> f64 {
    percentile(figures, 50)
}

/// The least figure that so many of 100 do not exceed; not a number if there is none.
pub fn percentile(mut figures: Vec<f64>, percent: usize) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    let rank = (figures.len() * percent).div_ceil(100);
    figures.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// What the server says of itself, and how it counts a thing of that name; 0 if it does not.
pub struct Counts(String);

impl Counts {
    pub async fn by(server: SocketAddr) -> Counts {
        let mut stream = TcpStream::connect(server).await.expect("it listens");
        stream.write_all(b"mntr").await.expect("connected");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("it answers");
        Counts(text)
    }

    pub fn of(&self, name: &str) -> f64 {
        let mut lines = self.0.lines();
        let of = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
        of.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
    }
}

/// A program that runs kazoo: a line asks, a line answers.
pub struct Kazoo {
    process: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Kazoo {
    /// Runs `script` in a Python that has kazoo.
    pub fn start(python: &OsStr, script: &str, server: SocketAddr) -> Kazoo {
        let mut command = Command::new(python);
        command.arg(script).arg(server.to_string());
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("PYTHON runs");
        let asks = process.stdin.take().expect("piped");
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        Kazoo { process, asks, answers }
    }

    pub fn ask(&mut self, what: &str) {
        writeln!(self.asks, "{what}").expect("it listens");
    }

    pub fn answer<N: FromStr<Err: Debug>>(&mut self) -> Vec<N> {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        let numbers = answer.strip_prefix("ok").unwrap_or_else(|| panic!("kazoo: {answer}"));
        numbers.split_whitespace().map(|number| number.parse().expect("a number")).collect()
    }
}

impl Drop for Kazoo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
