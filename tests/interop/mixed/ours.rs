//! A member of a mixed fleet that is ours: see README.md in the folder above.
//!
//! `mixed_member lock|election SERVERS PATH NAME curator|kazoo`

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use synod::election::Leadership;
use synod::{Client, Election, Guard, Layout, Lock};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

const SESSION_TIMEOUT: Duration = Duration::from_secs(2);

type Failure = Box<dyn std::error::Error>;

enum Recipe {
    Lock(Lock, Option<Guard>),
    Election(Election, Option<Leadership>),
}

impl Recipe {
    fn of(arguments: &[String], client: &Client) -> Result<Recipe, Failure> {
        let [kind, _, path, name, layout] = arguments else {
            return Err("mixed_member lock|election SERVERS PATH NAME curator|kazoo".into());
        };
        let layout = match layout.as_str() {
            "curator" => Layout::Curator,
            "kazoo" => Layout::Kazoo,
            other => return Err(format!("not a layout: {other:?}").into()),
        };
        match kind.as_str() {
            "lock" => {
                let lock = Lock::new(client, path.as_str())?.with_label(name);
                Ok(Recipe::Lock(lock.with_layout(layout), None))
            }
            "election" => {
                let election = Election::new(client, path.as_str())?.with_name(name);
                Ok(Recipe::Election(election.with_layout(layout), None))
            }
            other => Err(format!("not a recipe: {other:?}").into()),
        }
    }

    async fn acquire(&mut self) -> Result<(), synod::Error> {
        match self {
            Recipe::Lock(lock, held) => *held = Some(lock.acquire().await?),
            Recipe::Election(election, held) => *held = Some(election.campaign().await?),
        }
        Ok(())
    }

    async fn release(&mut self) -> Result<(), synod::Error> {
        match self {
            Recipe::Lock(_, held) => {
                if let Some(guard) = held.take() {
                    guard.release().await?;
                }
            }
            Recipe::Election(_, held) => {
                if let Some(leadership) = held.take() {
                    leadership.resign().await?;
                }
            }
        }
        Ok(())
    }

    /// Who holds, and who waits, in their order.
    async fn line(&self) -> Result<Vec<String>, synod::Error> {
        match self {
            Recipe::Lock(lock, _) => {
                let (holder, waiters) = (lock.holder().await?, lock.waiters().await?);
                Ok(holder.into_iter().chain(waiters).map(|owner| owner.label).collect())
            }
            Recipe::Election(election, _) => {
                let candidates = election.candidates().await?;
                Ok(candidates.into_iter().map(|candidate| candidate.name).collect())
            }
        }
    }

    /// Nobody else is in the folder as long as it holds.
    async fn take_turns(&mut self, count: usize, folder: &Path) -> Result<(), Failure> {
        let inside = folder.join("inside");
        for _ in 0..count {
            self.acquire().await?;
            OpenOptions::new().write(true).create_new(true).open(&inside)?;
            tokio::time::sleep(Duration::from_millis(5)).await;
            std::fs::remove_file(&inside)?;
            self.release().await?;
        }
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let servers = arguments.get(1).ok_or("where are the servers?")?;
    let client = Client::builder().servers(servers.as_str()).session_timeout(SESSION_TIMEOUT);
    let client = client.connect().await?;
    let mut recipe = Recipe::of(&arguments, &client)?;
    println!("ready");
    let mut commands = BufReader::new(stdin()).lines();
    while let Some(command) = commands.next_line().await? {
        let words: Vec<&str> = command.split(' ').collect();
        match words.as_slice() {
            ["acquire"] => {
                recipe.acquire().await?;
                println!("held");
            }
            ["release"] => {
                recipe.release().await?;
                println!("released");
            }
            ["turns", count, folder] => {
                recipe.take_turns(count.parse()?, Path::new(folder)).await?;
                println!("done");
            }
            ["line"] => {
                let line: Vec<String> =
                    std::iter::once("line".to_owned()).chain(recipe.line().await?).collect();
                println!("{}", line.join(" "));
            }
            _ => return Err(format!("not a command: {command:?}").into()),
        }
    }
    client.close().await?;
    Ok(())
}
