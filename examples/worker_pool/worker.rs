//! One worker: it does what it is handed, follows the configuration, and leads when elected.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use synod::election::Leadership;
use synod::{Client, Code, Config, Election, Error, Path};
use tokio::time::sleep;

#[derive(Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) pause_ms: u64,
}

/// Most items that wait for each worker.
const AHEAD: usize = 2;

/// Works until the pool is finished.
pub(crate) async fn run(client: &Client, root: &str, name: &str) -> Result<(), Error> {
    let root = Path::new(root)?;
    client.create(root.join("workers")?.join(name)?, b"").ephemeral().await?;
    let election = Election::new(client, root.join("leader")?)?.with_name(name);
    let lead = async {
        loop {
            let leadership = election.campaign().await?;
            // Until deposed; then it stands again.
            match leadership.run(hand_out(client, &root, &leadership)).await {
                Ok(outcome) => outcome?,
                Err(error) if error.is_lost() => {}
                Err(error) => return Err(error),
            }
        }
    };
    tokio::select! {
        outcome = lead => outcome,
        outcome = work(client, &root, name) => outcome,
        finished = until_finished(client, &root) => finished,
    }
}

async fn until_finished(client: &Client, root: &Path) -> Result<(), Error> {
    let (there, made) = client.exists(root.join("finished")?).watched().await?;
    if there.is_none() {
        made.await?;
    }
    Ok(())
}

/// The leader's part. Every write is guarded: who is deposed hands out nothing.
async fn hand_out(client: &Client, root: &Path, leadership: &Leadership) -> Result<(), Error> {
    let (workers, todo) = (root.join("workers")?, root.join("todo")?);
    let term = format!("{:x}", leadership.term().as_i64());
    leadership.txn().set(root.join("term")?, &term).commit().await?;
    let items = super::number("--items", 60);
    loop {
        let (alive, members_changed) = client.children(&workers).watched().await?;
        let (waiting, todo_changed) = client.children(&todo).watched().await?;
        let (alive, waiting) = (alive.0, waiting.0);
        for item in &waiting {
            let (number, worker) = item.split_once('-').expect("item and worker");
            let (path, (data, stat)) = match client.get(todo.join(item)?).await {
                Err(error) if error.is(Code::NoNode) => continue,
                read => (todo.join(item)?, read?),
            };
            // Of an earlier leader, or a worker that died: handed out again, in this term.
            let owner = alive.iter().find(|name| *name == worker).or(alive.first());
            if let Some(owner) = owner
                && (data != term || owner != worker)
            {
                let txn = leadership.txn().delete_at(&path, stat.version);
                let again = txn.create(todo.join(&format!("{number}-{owner}"))?, &term);
                done_or_outdated(again.commit().await)?;
            }
        }
        let (next, stat) = client.get(root.join("next")?).await?;
        let number: u32 = String::from_utf8_lossy(&next).parse().expect("a number");
        if number < items && waiting.len() < AHEAD * alive.len() {
            let owner = &alive[number as usize % alive.len()];
            let next = (number + 1).to_string();
            let txn = leadership.txn().set_at(root.join("next")?, next, stat.version);
            let handed = txn.create(todo.join(&format!("{number}-{owner}"))?, &term);
            done_or_outdated(handed.commit().await)?;
        } else {
            tokio::select! {
                event = members_changed => drop(event?),
                event = todo_changed => drop(event?),
            }
        }
    }
}

/// The worker's part: an item is done in one transaction with the check that the leader which
/// handed it out still leads.
async fn work(client: &Client, root: &Path, name: &str) -> Result<(), Error> {
    let config = Config::<Settings>::open(client, root.join("config")?).await?;
    let todo = root.join("todo")?;
    let mut changes = client.watch(&todo).recursive().await?;
    loop {
        for item in client.children(&todo).await? {
            let Some((number, _)) = item.split_once('-').filter(|(_, owner)| *owner == name) else {
                continue;
            };
            let (path, (term, leader)) = (todo.join(&item)?, client.get(root.join("term")?).await?);
            let (handed_in, stat) = match client.get(&path).await {
                Err(error) if error.is(Code::NoNode) => continue,
                read => read?,
            };
            if handed_in != term {
                continue; // a deposed leader's: the present one hands it out again
            }
            sleep(Duration::from_millis(config.current().value.pause_ms)).await;
            let result = format!("{name} {}", String::from_utf8_lossy(&term));
            let txn = client.txn().check(root.join("term")?, leader.version);
            let txn = txn.delete_at(&path, stat.version);
            let txn = txn.create(root.join("done")?.join(number)?, result);
            done_or_outdated(txn.commit().await.map_err(Error::from))?;
        }
        changes.next().await;
    }
}

/// A transaction that came too late was not done; what it was based on is read again.
fn done_or_outdated<T>(outcome: Result<T, Error>) -> Result<(), Error> {
    let outdated = [Code::NoNode, Code::BadVersion, Code::NodeExists];
    match outcome {
        Err(Error::Client(error)) if outdated.iter().any(|code| error.is(*code)) => Ok(()),
        outcome => outcome.map(drop),
    }
}
