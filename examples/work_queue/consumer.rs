//! Who works on the items, and what is seen of it.

use std::collections::BTreeMap;
use std::fs::{File as Open, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path as File, PathBuf};
use std::process::{Child, Command};

use synod::Path;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{Error, PATIENCE, PAUSE, argument, connect, open};

/// Takes items until it is killed. What is done stands in the file before the queue is told: who
/// dies in between does it again, or another does.
pub(crate) async fn consume(path: Path, file: PathBuf) -> Result<(), Error> {
    let client = connect().await?;
    let queue = open(&client, &path).await?;
    let mut done = OpenOptions::new().create(true).append(true).open(file)?;
    loop {
        let delivery = match queue.take().await {
            Ok(Some(delivery)) => delivery,
            Ok(None) => return Ok(()),
            Err(error) if error.retryable() || error.session_over() => continue,
            Err(error) => return Err(error.into()),
        };
        let outcome = if delivery.is_poison() {
            delivery.nack("nobody can do this").await.map(drop)
        } else {
            done.write_all(&delivery.number.to_be_bytes())?;
            delivery.ack().await
        };
        if let Err(error) = outcome {
            eprintln!("it will be done again, unless it is: {error}");
        }
    }
}

/// A consumer that runs, and does not outlive this.
pub(crate) enum Consumer {
    Process(Child),
    Task(JoinHandle<Result<(), Error>>),
}

impl Consumer {
    pub(crate) fn start(path: &Path, file: &File) -> Result<Consumer, Error> {
        if argument("--server").is_none() {
            return Ok(Consumer::Task(tokio::spawn(consume(path.clone(), file.to_owned()))));
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.args(std::env::args().skip(1)).args(["--queue", path]).arg("--done").arg(file);
        Ok(Consumer::Process(command.spawn()?))
    }

    pub(crate) fn kill(&mut self) {
        match self {
            Consumer::Process(process) => {
                let _ = process.kill();
                let _ = process.wait();
            }
            Consumer::Task(task) => task.abort(),
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How often each item was done, from the files of all consumers.
pub(crate) struct Done {
    files: Vec<(PathBuf, Option<Open>, Vec<u8>)>,
    times: BTreeMap<u64, u64>,
}

impl Done {
    pub(crate) fn open(files: &[PathBuf]) -> Result<Done, Error> {
        let files = files.iter().map(|file| (file.clone(), None, Vec::new())).collect();
        Ok(Done { files, times: BTreeMap::new() })
    }

    /// Different items that are done.
    pub(crate) fn count(&self) -> usize {
        self.times.len()
    }

    /// Reads what has come since.
    pub(crate) fn read(&mut self) -> Result<&BTreeMap<u64, u64>, Error> {
        for (path, file, rest) in &mut self.files {
            if file.is_none() && path.exists() {
                *file = Some(Open::open(path)?);
            }
            let Some(file) = file else { continue };
            file.read_to_end(rest)?;
            let whole = rest.len() / 8 * 8;
            for number in rest.drain(..whole).as_slice().chunks_exact(8) {
                *self.times.entry(u64::from_be_bytes(number.try_into()?)).or_default() += 1;
            }
        }
        Ok(&self.times)
    }

    /// Waits until so many items are done.
    pub(crate) async fn reach(&mut self, items: u64) -> Result<(), Error> {
        let mut last = Instant::now();
        loop {
            let before = self.count();
            if self.read()?.len() as u64 >= items {
                return Ok(());
            }
            if self.count() > before {
                last = Instant::now();
            }
            if last.elapsed() > PATIENCE {
                return Err(format!("{} of {items} are done, and no more come", before).into());
            }
            sleep(PAUSE).await;
        }
    }
}
