//! The first in line, which alone takes permits.

use std::collections::BTreeSet;
use std::time::Duration;

use synod_core::client::{Client, WatchOnce};
use synod_core::model::{Acl, Code, CreateMode, Error as ClientError, OpResult, Path, Zxid};
use tracing::{debug, warn};

use super::permits::Permits;
use super::{Limit, SLOT, Semaphore};
use crate::error::{Error, LossReason};
use crate::holding::{Holding, rotate};
use crate::znodes::{PARENT_ATTEMPTS_MAX, make_parents, persist};

/// It looks again now and then, even if no watch has fired: see `contender`.
const RECHECK: Duration = Duration::from_secs(30);

/// The first in line. Dropping it, at any moment, leaves nothing behind.
pub(super) struct Turn<'a> {
    semaphore: &'a Semaphore,
    /// The znode in line.
    place: Holding,
    count: u32,
}

/// What there was at a look.
struct View {
    limit: Limit,
    /// As many free slots as are wanted, if so many may be taken.
    free: Option<Vec<u32>>,
    limit_changed: WatchOnce,
    /// `None` if the parent of the slots is missing: then none is held.
    slots_changed: Option<WatchOnce>,
}

/// Operations of a grant before those that create the slots.
const PLACE: usize = 0;
const LIMIT: usize = 1;

impl<'a> Turn<'a> {
    pub(super) fn new(semaphore: &'a Semaphore, place: Holding, count: u32) -> Turn<'a> {
        Turn { semaphore, place, count }
    }

    fn client(&self) -> &Client {
        self.place.client()
    }

    /// Waits until as many permits as are wanted are free, and takes them.
    pub(super) async fn granted(self) -> Result<Permits, Error> {
        loop {
            let view = self.look().await?;
            match view.free {
                Some(free) => {
                    if let Some(permits) = self.take(&view.limit, &free).await? {
                        return Ok(permits);
                    }
                }
                None => self.changed(view.limit_changed, view.slots_changed).await?,
            }
        }
    }

    /// Takes the permits if they are free now.
    pub(super) async fn granted_now(self) -> Result<Option<Permits>, Error> {
        loop {
            let view = self.look().await?;
            let Some(free) = view.free else {
                self.place.leave().await?;
                return Ok(None);
            };
            if let Some(permits) = self.take(&view.limit, &free).await? {
                return Ok(Some(permits));
            }
        }
    }

    async fn changed(&self, limit: WatchOnce, slots: Option<WatchOnce>) -> Result<(), Error> {
        let slots = async {
            match slots {
                Some(changed) => changed.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            loss = self.place.lost() => return Err(loss.into()),
            event = limit => drop(event?),
            event = slots => drop(event?),
            () = tokio::time::sleep(RECHECK) => {}
        }
        Ok(())
    }

    async fn look(&self) -> Result<View, Error> {
        let (limit, limit_changed) = self.limit().await?;
        if 0 < limit.permits && limit.permits < self.count {
            // It would wait for good, and everybody else behind it.
            let rule = "an acquire asks for no more permits than the semaphore has";
            return Err(ClientError::invalid("number of permits", self.count, rule).into());
        }
        let (names, slots_changed) =
            match persist!(self.client().children(&self.semaphore.slots).watched()) {
                Err(error) if error.is(Code::NoNode) => (Vec::new(), None),
                listed => {
                    let ((names, _), changed) = listed?;
                    (names, Some(changed))
                }
            };
        let free = free_slots(&self.semaphore.slots, &names, limit.permits, self.count);
        Ok(View { limit, free, limit_changed, slots_changed })
    }

    async fn limit(&self) -> Result<(Limit, WatchOnce), Error> {
        let semaphore = self.semaphore;
        loop {
            match persist!(self.client().get(&semaphore.limit_path).watched()) {
                Err(error) if error.is(Code::NoNode) => {
                    semaphore.write_down(self.client(), &semaphore.initial.to_string()).await?;
                }
                read => {
                    let ((data, stat), changed) = read?;
                    return Ok((semaphore.parse(&data, stat.version, stat.mzxid)?, changed));
                }
            }
        }
    }

    /// Takes the slots and leaves the line, if it is still the first there and the limit is what it
    /// was. `None` if not: then nothing was done, and it has to look again.
    async fn take(&self, limit: &Limit, free: &[u32]) -> Result<Option<Permits>, Error> {
        let granted = self.reserve(free)?;
        let mut attempts = 0;
        let token = loop {
            match self.commit(limit, &granted).await {
                Ok(token) => break token,
                Err(error @ ClientError::Refused { index, code, .. }) => {
                    match (index, code) {
                        (Some(LIMIT), Code::NoNode | Code::BadVersion) => break None,
                        (Some(PLACE), Code::NoNode) => {}
                        // A parent that was made may be reaped again before it has a child.
                        (Some(_), Code::NoNode) if attempts < PARENT_ATTEMPTS_MAX => {
                            attempts += 1;
                            make_parents(self.client(), granted[0].1.path()).await?;
                            continue;
                        }
                        _ => return Err(error.into()),
                    }
                    // Put out of the line by force.
                    return Err(self.place.removed().into());
                }
                Err(error) => return Err(error.into()),
            }
        };
        let Some(token) = token else {
            // None of them was created.
            granted.iter().for_each(|(_, holding)| holding.gone());
            return Ok(None);
        };
        self.place.gone();
        let permits = Permits::new(self.client(), token, granted);
        debug!(semaphore = %self.semaphore.path, slots = ?permits.slots(), "granted");
        rotate(self.client(), self.place.path()).await;
        match self.place.session().end() {
            Some(end) => Err(self.place.loss(LossReason::SessionOver(end)).into()),
            None => Ok(Some(permits)),
        }
    }

    /// Names for the permits, each with a place in the reaper, so that whatever becomes of the
    /// transaction is cleaned up.
    fn reserve(&self, free: &[u32]) -> Result<Vec<(u32, Holding)>, ClientError> {
        let client = self.client();
        let one = |number: &u32| {
            let name = SLOT.name(client, &format!("{number:010}"));
            let path = self.semaphore.slots.join(&name)?;
            let cleanup = client.session().reserve_cleanup()?;
            let recipe = SLOT.recipe();
            Ok((*number, Holding::new(recipe, client.clone(), path, Zxid::ZERO, cleanup)))
        };
        free.iter().map(one).collect()
    }

    /// The token of what was created, or `None` if a reply is missing and nothing was.
    async fn commit(
        &self,
        limit: &Limit,
        granted: &[(u32, Holding)],
    ) -> Result<Option<Zxid>, ClientError> {
        let txn = self.client().txn().delete(self.place.path());
        let txn = txn.check(&self.semaphore.limit_path, limit.version);
        let create = |txn: synod_core::client::Txn, (_, holding): &(u32, Holding)| {
            txn.create_as(holding.path(), b"", CreateMode::Ephemeral, Acl::open())
        };
        match granted.iter().fold(txn, create).commit().await.map(|mut results| results.pop()) {
            Ok(Some(OpResult::Created { stat, .. })) if stat.czxid != Zxid::ZERO => {
                Ok(Some(stat.czxid))
            }
            // Apache ZooKeeper leaves the Stat out here.
            Ok(_) => self.created(granted).await,
            Err(ClientError::ConnectionLost { .. }) => {
                // Behind a sync, on the same session, the answer is final.
                persist!(self.client().sync())?;
                self.created(granted).await
            }
            Err(error) => Err(error),
        }
    }

    async fn created(&self, granted: &[(u32, Holding)]) -> Result<Option<Zxid>, ClientError> {
        for (_, holding) in granted {
            // One that is missing may have been deleted by force since: then that is a loss.
            if let Some(stat) = persist!(self.client().exists(holding.path()))? {
                return Ok(Some(stat.czxid));
            }
        }
        Ok(None)
    }
}

/// The lowest free slots, if `count` more may be taken.
fn free_slots(parent: &Path, names: &[String], limit: u32, count: u32) -> Option<Vec<u32>> {
    let mut taken = BTreeSet::new();
    let mut held = 0;
    for name in names {
        match SLOT.suffix_of(name).and_then(|suffix| suffix.parse::<u32>().ok()) {
            Some(number) => {
                held += 1;
                taken.insert(number);
            }
            None => warn!(%parent, child = name, "passed over a child of another kind"),
        }
    }
    // Slots above a limit that was lowered count too, until they are released.
    let fits = u32::try_from(held + count as usize).is_ok_and(|all| all <= limit);
    fits.then(|| (0..limit).filter(|number| !taken.contains(number)).take(count as usize).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(numbers: &[u32], limit: u32, count: u32) -> Option<Vec<u32>> {
        let name = |number: &u32| format!("_c_{:036}-slot-{number:010}", 7);
        let mut names: Vec<String> = numbers.iter().map(name).collect();
        names.push("foreign".to_owned());
        free_slots(&Path::root(), &names, limit, count)
    }

    #[test]
    fn the_lowest_free_slots_are_taken_all_or_none() {
        assert_eq!(free(&[], 3, 2), Some(vec![0, 1]));
        assert_eq!(free(&[0, 2], 4, 2), Some(vec![1, 3]));
        assert_eq!(free(&[0, 2], 4, 3), None);
        assert_eq!(free(&[], 0, 1), None);
    }

    #[test]
    fn slots_above_a_lowered_limit_count_until_they_are_released() {
        assert_eq!(free(&[7, 8], 2, 1), None, "two are held");
        assert_eq!(free(&[7], 2, 1), Some(vec![0]));
    }
}
