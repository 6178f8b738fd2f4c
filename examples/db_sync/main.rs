//! A subtree that is mirrored into SQLite, while it is written, and while the mirror is killed
//! again and again: in the end both are equal.
//!
//! `cargo run --example db_sync [-- --server 127.0.0.1:2181] [--crashes 3] [--writes 600]`
//!
//! With a server, the mirror is a process of its own, and killed as such; the server may be killed
//! and started again meanwhile, if it keeps what was written. Without one, the mirror is a task.

mod store;

use std::collections::BTreeMap;
use std::path::{Path as File, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use futures::StreamExt;
use store::{Row, Store};
use synod::feed::Change;
use synod::{Client, Code, Feed, Path, Zxid};
use synod_examples::server;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A mirror that is killed leaves a session behind, which holds nothing.
const SESSION_TIMEOUT: Duration = Duration::from_secs(4);

/// Between two looks at what the mirror has done.
const PAUSE: Duration = Duration::from_millis(5);

/// The mirror is in step long before that.
const PATIENCE: Duration = Duration::from_secs(60);

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn number(name: &str, default: u64) -> u64 {
    argument(name).map_or(default, |text| text.parse().expect("a number"))
}

async fn connect() -> Result<Client, Error> {
    let options = Client::builder().servers(server("embedded:db_sync"));
    Ok(options.session_timeout(SESSION_TIMEOUT).connect().await?)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    if let (Some(root), Some(file)) = (argument("--root"), argument("--mirror")) {
        return mirror(Path::new(root)?, file.into()).await;
    }
    let folder = tempfile::tempdir()?;
    let (client, file) = (connect().await?, folder.path().join("mirror.db"));
    tokio::select! {
        outcome = direct(&client, &file) => outcome?,
        _ = tokio::signal::ctrl_c() => println!("interrupted"),
    }
    client.close().await?;
    Ok(())
}

/// Keeps the store in step with the subtree, from wherever it stands.
async fn mirror(root: Path, file: PathBuf) -> Result<(), Error> {
    let (client, mut store) = (connect().await?, Store::open(&file)?);
    let known = store.rows()?.into_iter().map(|(path, mzxid, _)| (path, mzxid));
    let mut feed = Feed::open(&client, root).resume(store.checkpoint()?, known).start()?;
    let mut step = Vec::new();
    while let Some(change) = feed.next().await {
        match change {
            // All that came since the checkpoint before, and this one: one transaction.
            Ok(Change::Checkpoint { zxid }) => store.take(step.drain(..), zxid)?,
            Ok(change) => step.push(change),
            Err(error) => eprintln!("behind for now: {error}"),
        }
    }
    Ok(())
}

/// A mirror that runs, and does not outlive this.
enum Mirror {
    Process(Child),
    Task(JoinHandle<Result<(), Error>>),
}

impl Mirror {
    fn start(root: &Path, file: &File) -> Result<Mirror, Error> {
        if argument("--server").is_none() {
            return Ok(Mirror::Task(tokio::spawn(mirror(root.clone(), file.to_owned()))));
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.args(std::env::args().skip(1)).args(["--root", root]).arg("--mirror").arg(file);
        Ok(Mirror::Process(command.spawn()?))
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        match self {
            Mirror::Process(process) => {
                let _ = process.kill();
                let _ = process.wait();
            }
            Mirror::Task(task) => task.abort(),
        }
    }
}

/// Writes, has the mirror crash now and then, and compares.
async fn direct(client: &Client, file: &File) -> Result<(), Error> {
    let (crashes, writes) = (number("--crashes", 3), number("--writes", 600));
    let root = Path::new(format!("/db-sync-{}", client.random_id().simple()))?;
    let mut store = Store::open(file)?;
    write(client, &root, b"0").await?;
    for crash in 0..=crashes {
        // The first half of its time it is away, but for the first.
        let share = writes / (crashes + 1) / 2;
        if crash > 0 {
            write_some(client, &root, share).await?;
        }
        let (running, before) = (Mirror::start(&root, file)?, store.checkpoint()?);
        write_some(client, &root, share).await?;
        if crash < crashes {
            // In the middle of its work, but not before it has done any.
            let working = async {
                while store.checkpoint()? <= before {
                    write_some(client, &root, 1).await?;
                    sleep(PAUSE).await;
                }
                Ok::<_, Error>(())
            };
            timeout(PATIENCE, working).await??;
            drop(running);
            println!("the mirror is killed at {}", store.checkpoint()?);
            continue;
        }
        // The last write that there is: with it, the mirror has all.
        let last = write(client, &root, b"the end").await?;
        let (checkpoint, rows) = timeout(PATIENCE, until(&mut store, last)).await??;
        let tree = read(client, &root).await?;
        let copied: BTreeMap<_, _> =
            rows.into_iter().map(|(p, zxid, data)| (p, (zxid, data))).collect();
        assert_eq!(copied, tree, "at {checkpoint}");
        println!("{} znodes are equal to their rows at {checkpoint}", tree.len());
    }
    for path in read(client, &root).await?.into_keys().rev() {
        client.delete(path).await?;
    }
    Ok(())
}

/// Waits until the store has what was written at that zxid.
async fn until(store: &mut Store, last: Zxid) -> Result<(Zxid, Vec<Row>), Error> {
    loop {
        let (checkpoint, rows) = store.copy()?;
        if checkpoint >= last {
            return Ok((checkpoint, rows));
        }
        sleep(PAUSE).await;
    }
}

/// Creates, sets and deletes here and there: at a few places, so that they meet again.
async fn write_some(client: &Client, root: &Path, writes: u64) -> Result<(), Error> {
    for _ in 0..writes {
        let (high, low) = client.random_id().as_u64_pair();
        let branch = root.join(&format!("branch-{}", high % 5))?;
        let leaf = branch.join(&format!("leaf-{}", low % 7))?;
        match low >> 60 {
            0..=3 => remove(client, &leaf).await?,
            4 => remove(client, &branch).await?,
            _ => {
                write(client, &branch, &high.to_be_bytes()).await?;
                write(client, &leaf, &low.to_be_bytes()).await?;
            }
        }
    }
    Ok(())
}

/// Sets the znode, or creates it; the zxid at which it was. It does no harm when done twice, so
/// that it is repeated while the server is away.
async fn write(client: &Client, path: &Path, data: &[u8]) -> Result<Zxid, Error> {
    loop {
        let written = match client.set(path, data).await {
            Err(error) if error.is(Code::NoNode) => {
                client.create(path, data).with_stat().await.map(|(_, stat)| stat)
            }
            written => written,
        };
        match written {
            Ok(stat) => return Ok(stat.mzxid),
            Err(error) if error.is(Code::NodeExists) || error.is(Code::NoNode) => {}
            Err(error) if error.retryable() || error.session_over() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Deletes the znode, unless it has children or is not there.
async fn remove(client: &Client, path: &Path) -> Result<(), Error> {
    loop {
        match client.delete(path).await {
            Err(error) if error.is(Code::NoNode) || error.is(Code::NotEmpty) => return Ok(()),
            Err(error) if error.retryable() || error.session_over() => {}
            outcome => return Ok(outcome?),
        }
    }
}

/// The subtree, while nobody writes.
async fn read(client: &Client, root: &Path) -> Result<BTreeMap<Path, (Zxid, Vec<u8>)>, Error> {
    let (mut tree, mut waiting) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(path) = waiting.pop() {
        let (data, stat) = client.get(&path).await?;
        for name in client.children(&path).await? {
            waiting.push(path.join(&name)?);
        }
        tree.insert(path, (stat.mzxid, data.to_vec()));
    }
    Ok(tree)
}
