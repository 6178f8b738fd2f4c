//! The copy in SQLite: a row a znode, and the checkpoint.

use std::path::Path as File;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use synod::feed::Change;
use synod::{Path, Zxid};

use super::Error;

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS znodes (
        path TEXT PRIMARY KEY, data BLOB NOT NULL, mzxid INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS checkpoint (
        only INTEGER PRIMARY KEY CHECK (only = 1), zxid INTEGER NOT NULL
    ) STRICT;";

/// Path, `mzxid` and data of a znode.
pub(crate) type Row = (Path, Zxid, Vec<u8>);

/// Any store does that can write rows and a number in one transaction.
pub(crate) struct Store(Connection);

impl Store {
    pub(crate) fn open(file: &File) -> Result<Store, Error> {
        let connection = Connection::open(file)?;
        // Who looks while the other writes waits for a moment.
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        connection.execute_batch(SCHEMA)?;
        Ok(Store(connection))
    }

    /// What the copy is a copy of: the subtree at this zxid. Zero if it never was one.
    pub(crate) fn checkpoint(&self) -> Result<Zxid, Error> {
        let select = "SELECT zxid FROM checkpoint";
        let zxid = self.0.query_row(select, [], |row| row.get(0)).optional()?;
        Ok(zxid.map_or(Zxid::ZERO, Zxid::from_i64))
    }

    /// Every row, in the order of paths.
    pub(crate) fn rows(&self) -> Result<Vec<Row>, Error> {
        let mut select = self.0.prepare("SELECT path, mzxid, data FROM znodes ORDER BY path")?;
        let mut rows = select.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let path = Path::new(row.get::<_, String>(0)?)?;
            found.push((path, Zxid::from_i64(row.get(1)?), row.get(2)?));
        }
        Ok(found)
    }

    /// Checkpoint and rows, of one moment.
    pub(crate) fn copy(&mut self) -> Result<(Zxid, Vec<Row>), Error> {
        let reading = self.0.unchecked_transaction()?;
        let copy = (self.checkpoint()?, self.rows()?);
        reading.finish()?;
        Ok(copy)
    }

    /// Takes a step, all of it or nothing: the changes, and the checkpoint that they lead to.
    pub(crate) fn take(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
        checkpoint: Zxid,
    ) -> Result<(), Error> {
        let transaction = self.0.transaction()?;
        for change in changes {
            apply(&transaction, change)?;
        }
        transaction.execute(
            "INSERT INTO checkpoint (only, zxid) VALUES (1, ?1)
             ON CONFLICT (only) DO UPDATE SET zxid = excluded.zxid",
            [checkpoint.as_i64()],
        )?;
        transaction.commit()?;
        Ok(())
    }
}

fn apply(transaction: &Transaction<'_>, change: Change) -> Result<(), Error> {
    match change {
        Change::Put { path, data, stat } => transaction.execute(
            "INSERT INTO znodes (path, data, mzxid) VALUES (?1, ?2, ?3)
             ON CONFLICT (path) DO UPDATE SET data = excluded.data, mzxid = excluded.mzxid",
            params![path.as_str(), &data[..], stat.mzxid.as_i64()],
        )?,
        Change::Delete { path } => {
            transaction.execute("DELETE FROM znodes WHERE path = ?1", [path.as_str()])?
        }
        Change::Checkpoint { .. } => 0,
    };
    Ok(())
}
