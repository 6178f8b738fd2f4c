//! The line at a lock, as others see it: who holds, who waits, and what can be done about them.

use bytes::Bytes;
use futures::StreamExt;
use synod_core::client::Client;
use synod_core::model::{Code, Error as ClientError, Path, Stat};
use tracing::warn;

use super::Owner;
use super::revocation::{is_requested, request};
use crate::contender::{Entrant, Marker};
use crate::error::Error;
use crate::layout::Layout;
use crate::znodes::persist;

/// How many contenders are read at the same time.
const READS_MAX: usize = 64;

/// Of a lock, or a read/write lock.
pub(crate) struct Line<'a> {
    pub(crate) client: &'a Client,
    pub(crate) path: &'a Path,
    /// Of those who hold together, if there are some.
    pub(crate) marker: Marker,
    pub(crate) layout: Layout,
}

impl Line<'_> {
    /// Those who hold.
    pub(crate) async fn holders(&self) -> Result<Vec<Owner>, Error> {
        loop {
            let line = self.entrants().await?;
            let holding = self.marker.holding(&line);
            let holders = self.owners(&line[..holding]).await?;
            // Those who went meanwhile have made way for the next.
            if !holders.is_empty() || line.is_empty() {
                return Ok(holders);
            }
        }
    }

    /// Those who wait, in the order in which they came.
    pub(crate) async fn waiters(&self) -> Result<Vec<Owner>, Error> {
        let line = self.entrants().await?;
        self.owners(&line[self.marker.holding(&line)..]).await
    }

    async fn entrants(&self) -> Result<Vec<Entrant>, Error> {
        match self.client.children(self.path).await {
            Err(error) if error.is(Code::NoNode) => Ok(Vec::new()),
            names => self.marker.line_up(self.path, &names?),
        }
    }

    async fn owners(&self, entrants: &[Entrant]) -> Result<Vec<Owner>, Error> {
        let mut owners = Vec::with_capacity(entrants.len());
        let reads = entrants.iter().map(|entrant| self.owner(entrant));
        let mut reads = futures::stream::iter(reads).buffered(READS_MAX);
        while let Some(read) = reads.next().await {
            owners.extend(read?);
        }
        Ok(owners)
    }

    async fn owner(&self, entrant: &Entrant) -> Result<Option<Owner>, Error> {
        let path = self.path.join(&entrant.name)?;
        match self.client.get(&path).await {
            Err(error) if error.is(Code::NoNode) => Ok(None),
            read => {
                let (data, stat) = read?;
                Ok(Some(self.seen(path, &data, &stat)))
            }
        }
    }

    fn seen(&self, path: Path, data: &Bytes, stat: &Stat) -> Owner {
        let shares = self.marker.shares(path.name());
        Owner { shares, ..Owner::new(path, data, stat, self.layout) }
    }

    /// See [`Lock::revoke_request`](super::Lock::revoke_request).
    pub(crate) async fn revoke_request(&self, owner: &Owner) -> Result<Option<Owner>, Error> {
        self.check_own(owner)?;
        let path = &owner.path;
        loop {
            let (data, stat) = match persist!(self.client.get(path)) {
                Err(error) if error.is(Code::NoNode) => return Ok(None),
                read => read?,
            };
            if stat.czxid != owner.token {
                return Ok(None);
            }
            if is_requested(&data) {
                return Ok(Some(self.seen(path.clone(), &data, &stat)));
            }
            let data = request(&data);
            match persist!(self.client.set(path, &data).version(stat.version)) {
                // Somebody else has asked meanwhile; or this one, and heard no reply.
                Err(error) if error.is(Code::BadVersion) => {}
                Err(error) if error.is(Code::NoNode) => return Ok(None),
                set => return Ok(Some(self.seen(path.clone(), &data, &set?))),
            }
        }
    }

    /// See [`Lock::force_release`](super::Lock::force_release).
    pub(crate) async fn force_release(&self, owner: &Owner) -> Result<bool, Error> {
        self.check_own(owner)?;
        let path = &owner.path;
        let stat = persist!(self.client.exists(path))?;
        if stat.is_none_or(|stat| stat.czxid != owner.token) {
            return Ok(false);
        }
        let mut unsure = false;
        loop {
            match self.client.delete(path).version(owner.version).await {
                Err(ClientError::ConnectionLost { maybe_applied, .. }) => unsure |= maybe_applied,
                Err(error) if error.is(Code::NoNode) => return Ok(unsure),
                deleted => {
                    deleted?;
                    warn!(%path, token = %owner.token, "released by force");
                    return Ok(true);
                }
            }
        }
    }

    fn check_own(&self, owner: &Owner) -> Result<(), Error> {
        match owner.path.parent().is_some_and(|parent| parent == *self.path) {
            true => Ok(()),
            false => {
                let rule = format!("it is of the lock {}", self.path);
                Err(ClientError::invalid("owner of a lock", &owner.path, rule).into())
            }
        }
    }
}
