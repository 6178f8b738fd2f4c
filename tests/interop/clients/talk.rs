//! A conversation with a program: what it is told, and what it is to say then.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use synod_tests::recipes::ground::{PATIENCE, soon};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How many lines of a program may wait to be heard.
const LINES_MAX: usize = 10_000;

/// A program that runs; it dies with this.
struct Program {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Program {
    fn start(mut command: Command) -> Program {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be started");
        let (tell, lines) = mpsc::channel(LINES_MAX);
        // They end with the program.
        read(child.stdout.take().expect("piped"), tell.clone());
        read(child.stderr.take().expect("piped"), tell);
        Program { child, lines }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(said: impl Read + Send + 'static, tell: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            if tell.blocking_send(line).is_err() {
                break;
            }
        }
    });
}

/// Starts the program and goes through the conversation: after `> ` stands what it is told, after
/// `< ` what a line of it is to have in it before it is told more. At the end it must end well.
pub(crate) async fn converse(command: Command, conversation: &str) {
    let mut program = Program::start(command);
    let mut heard = Vec::new();
    for part in conversation.lines() {
        match part.split_at_checked(2) {
            Some(("> ", words)) => {
                let listens = program.child.stdin.as_mut().expect("piped");
                heard.push(part.to_owned());
                writeln!(listens, "{words}").unwrap_or_else(|error| panic!("{error}: {heard:#?}"));
            }
            Some(("< ", words)) => loop {
                let Ok(Some(line)) = timeout(PATIENCE, program.lines.recv()).await else {
                    panic!("it does not say {words:?}: {heard:#?}");
                };
                heard.push(line);
                if heard.last().is_some_and(|line| line.contains(words)) {
                    break;
                }
            },
            _ => panic!("neither told nor heard: {part:?}"),
        }
    }
    drop(program.child.stdin.take());
    while let Some(line) = soon(program.lines.recv()).await {
        heard.push(line);
    }
    let status = program.child.wait().expect("it can be waited for");
    assert!(status.success(), "{status}: {heard:#?}");
}
