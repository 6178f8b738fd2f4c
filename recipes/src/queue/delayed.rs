//! Items whose time has not come.
//!
//! ```text
//! /jobs/delayed/
//! └── h00472222/                            an hour
//!     └── s2733/                            a second of it
//!         └── d1700000733120-0000000002     due then, in milliseconds of the coordinator's clock
//! ```
//!
//! Any consumer moves what is due to its lane, in one transaction; who is second finds it gone.
//! An hour or a second without items is deleted by who finds it so.

use synod_core::client::Client;
use synod_core::model::{Acl, Code, CreateMode, Error as ClientError, Path};

use super::item::Item;
use super::{Core, Shelf};
use crate::error::Error;
use crate::znodes::{make_parents, persist};

const SECOND_MS: i64 = 1_000;
const HOUR_MS: i64 = 3_600 * SECOND_MS;

/// The latest that an item can be due, in milliseconds since the epoch: 13 digits, in the year
/// 2286.
pub(crate) const DUE_MS_MAX: i64 = 9_999_999_999_999;

/// Most items that are moved before anything else is done.
const MOVED_MAX: usize = 100;

/// How often a look may find nothing but a folder that others have just emptied.
const LOOKS_MAX: usize = 16;

pub(crate) struct Delayed {
    path: Path,
}

/// When the name says that an item is due.
pub(crate) fn due_of(name: &str) -> Option<i64> {
    let (due, suffix) = name.strip_prefix('d')?.split_once('-')?;
    (due.len() == 13 && suffix.len() == 10).then_some(())?;
    due.parse().ok().filter(|due| *due >= 0)
}

impl Delayed {
    pub(crate) fn new(path: Path) -> Delayed {
        Delayed { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where an item that is due then is created: the path before its sequence. What is missing
    /// above it is made.
    pub(crate) async fn place(&self, client: &Client, due_ms: i64) -> Result<Path, Error> {
        let due_ms = due_ms.clamp(0, DUE_MS_MAX);
        let second = self.second(due_ms)?;
        let place = second.join(&format!("d{due_ms:013}-"))?;
        make_parents(client, &second).await?;
        match persist!(client.create(&second, b"")) {
            // The hour may have been swept: who creates the item will be told, and ask again.
            Err(error) if !error.is(Code::NodeExists) && !error.is(Code::NoNode) => {
                Err(error.into())
            }
            _ => Ok(place),
        }
    }

    fn second(&self, due_ms: i64) -> Result<Path, ClientError> {
        let (hour, second) = (due_ms / HOUR_MS, due_ms % HOUR_MS / SECOND_MS);
        self.path.join(&format!("h{hour:08}"))?.join(&format!("s{second:04}"))
    }

    /// The first name below `path` in the order of the names, and whether there are more.
    async fn first(client: &Client, path: &Path) -> Result<Option<Path>, Error> {
        let names = match persist!(client.children(path)) {
            Err(error) if error.is(Code::NoNode) => return Ok(None),
            names => names?,
        };
        match names.iter().min() {
            Some(name) => Ok(Some(path.join(name)?)),
            None => Ok(None),
        }
    }

    async fn sweep(client: &Client, path: &Path) -> Result<(), Error> {
        match persist!(client.delete(path)) {
            Err(error) if !error.is(Code::NotEmpty) && !error.is(Code::NoNode) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The item that is due first, and when.
    pub(crate) async fn next(&self, client: &Client) -> Result<Option<(i64, Path)>, Error> {
        for _ in 0..LOOKS_MAX {
            let Some(hour) = Self::first(client, &self.path).await? else { return Ok(None) };
            let Some(second) = Self::first(client, &hour).await? else {
                Self::sweep(client, &hour).await?;
                continue;
            };
            match Self::first(client, &second).await? {
                Some(item) => {
                    // A foreign child is due at once, and then passed over by who moves it.
                    let due_ms = due_of(item.name()).unwrap_or(0);
                    return Ok(Some((due_ms, item)));
                }
                None => Self::sweep(client, &second).await?,
            }
        }
        Ok(None)
    }

    /// How many items wait for their time; those that come and go meanwhile may be counted or not.
    pub(crate) async fn count(&self, client: &Client) -> Result<u64, Error> {
        let (mut count, mut hours) = (0, Vec::new());
        match persist!(client.children(&self.path)) {
            Err(error) if error.is(Code::NoNode) => return Ok(0),
            names => hours.extend(names?),
        }
        for hour in hours {
            let hour = self.path.join(&hour)?;
            let below = match persist!(client.descendant_count(&hour)) {
                Err(error) if error.is(Code::NoNode) => continue,
                below => below?,
            };
            let seconds = persist!(client.exists(&hour))?.map_or(0, |stat| stat.children);
            count += u64::from(below).saturating_sub(seconds.into());
        }
        Ok(count)
    }
}

impl Core {
    /// Moves items that are due to their lanes. `None` when the next one is not due yet, or there
    /// is none; else there may be more.
    pub(crate) async fn move_due(&self, client: &Client) -> Result<Option<i64>, Error> {
        for _ in 0..MOVED_MAX {
            let Some((due_ms, path)) = self.delayed.next(client).await? else { return Ok(None) };
            if due_ms > self.clock.now_ms(client).await? {
                return Ok(Some(due_ms));
            }
            self.move_to_lane(client, &path).await?;
        }
        Ok(Some(0))
    }

    async fn move_to_lane(&self, client: &Client, path: &Path) -> Result<(), Error> {
        loop {
            let data = match persist!(client.get(path)) {
                Err(error) if error.is(Code::NoNode) => return Ok(()),
                read => read?.0,
            };
            let item = Item::read(&data);
            let lane = self.lane(item.head.priority);
            let place = lane.place(client, &item.head.id).await?;
            let mode = CreateMode::PersistentSequential;
            let txn = client.txn().delete(path).create_as(place, &data, mode, Acl::open());
            match txn.commit().await {
                Ok(results) => {
                    self.created(client, Shelf::Ready(item.head.priority), &results).await;
                    return Ok(());
                }
                // Another consumer was faster.
                Err(ClientError::Refused { index: Some(0), code: Code::NoNode, .. }) => {
                    return Ok(());
                }
                Err(error) if error.is(Code::NoNode) => lane.forget(),
                // Done or not: the next look at it tells.
                Err(ClientError::ConnectionLost { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_when_an_item_is_due() {
        assert_eq!(due_of("d1700000733120-0000000002"), Some(1_700_000_733_120));
        for foreign in ["", "d", "d17-0000000002", "x1700000733120-0000000002", "d1700000733120-2"]
        {
            assert_eq!(due_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn every_moment_has_its_hour_and_second() {
        let delayed = Delayed::new(Path::new("/q").expect("valid"));
        for (due_ms, place) in [
            (0, "/q/h00000000/s0000"),
            (3_599_999, "/q/h00000000/s3599"),
            (3_600_000, "/q/h00000001/s0000"),
            (DUE_MS_MAX, "/q/h02777777/s2799"),
        ] {
            assert_eq!(delayed.second(due_ms).expect("valid").as_str(), place);
        }
    }
}
