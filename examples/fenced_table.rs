//! A table that is its own fence: the row remembers the highest token that it was written under,
//! and one statement compares, writes and remembers.
//!
//! `cargo run --example fenced_table [-- --server 127.0.0.1:2181]`

use rusqlite::{Connection, OptionalExtension, params};
use synod::fence::Stale;
use synod::{Client, Lock, Zxid};
use synod_examples::{server, until_ctrl_c};

/// Writes the row unless a later holder has written it. `fence` is a signed 64-bit number, as a
/// zxid is.
const WRITE: &str = "
    INSERT INTO reports (name, body, fence) VALUES (?1, ?2, ?3)
    ON CONFLICT (name) DO UPDATE SET body = excluded.body, fence = excluded.fence
    WHERE reports.fence <= excluded.fence";

type Error = Box<dyn std::error::Error>;

/// Reports in SQLite. Any database with a conditional `UPDATE` does; where rows are there already
/// it is `UPDATE reports SET body = ?2, fence = ?3 WHERE name = ?1 AND fence <= ?3`.
struct Reports(Connection);

impl Reports {
    fn open() -> Result<Reports, Error> {
        let table = Connection::open_in_memory()?;
        table.execute_batch(
            "CREATE TABLE reports (
                name TEXT PRIMARY KEY, body TEXT NOT NULL, fence INTEGER NOT NULL
            ) STRICT",
        )?;
        Ok(Reports(table))
    }

    /// Writes a report under a fencing token; fails with [`Stale`] when a later holder has
    /// written it.
    fn write(&self, name: &str, body: &str, token: Zxid) -> Result<(), Error> {
        match self.0.execute(WRITE, params![name, body, token.as_i64()])? {
            0 => Err(Stale { token, highest: self.fence(name)? }.into()),
            _ => Ok(()),
        }
    }

    fn fence(&self, name: &str) -> Result<Zxid, Error> {
        let select = "SELECT fence FROM reports WHERE name = ?1";
        let fence = self.0.query_row(select, [name], |row| row.get(0)).optional()?;
        Ok(fence.map_or(Zxid::ZERO, Zxid::from_i64))
    }

    fn body(&self, name: &str) -> Result<String, Error> {
        let select = "SELECT body FROM reports WHERE name = ?1";
        Ok(self.0.query_row(select, [name], |row| row.get(0))?)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let client = Client::connect(&server("embedded:fenced_table")).await?;
    let reports = Reports::open()?;
    until_ctrl_c(&client, async {
        // A client of her own, as on a machine of her own.
        let machine = Client::connect(&server("embedded:fenced_table")).await?;
        let ann = Lock::new(&machine, "/locks/report")?.acquire().await?;
        reports.write("daily", "ann's first line", ann.token()).expect("she holds the lock");
        println!("ann writes with token {}", ann.token());

        // Her machine is suspended, and her session ends with it.
        machine.close().await?;
        let bob = Lock::new(&client, "/locks/report")?.acquire().await?;
        reports.write("daily", "bob's report", bob.token()).expect("he holds the lock");
        println!("bob writes with token {}", bob.token());

        // It goes on where it stood: before a write.
        let error = reports.write("daily", "ann's second line", ann.token()).expect_err("stale");
        println!("ann comes back late with a write: {error}");
        println!("the report is {:?}", reports.body("daily").expect("it was written"));
        bob.release().await?;
        Ok(())
    })
    .await?;
    Ok(())
}
