//! Staged roll-outs: some instances run a version before the others do.

use serde::{Deserialize, Serialize};
use synod_core::model::{Code, Error as ClientError};
use tracing::info;

use super::limits::PUBLISH_ATTEMPTS_MAX;
use super::pointer::Pointer;
use super::publish::judge_percent;
use super::store::ConfigStore;
use crate::error::Error;
use crate::znodes::persist;

/// What an instance says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its name.
    pub instance: String,
    /// The version that it runs; 0 if it runs on what it has itself.
    pub running: u64,
    /// The version that it was to run last.
    pub offered: u64,
    /// Why it does not run that one.
    pub fault: Option<String>,
}

impl Report {
    /// Whether it runs what it was to run.
    pub fn is_valid(&self) -> bool {
        self.fault.is_none()
    }
}

/// A report as it lies in its znode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) running: u64,
    pub(crate) offered: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<String>,
}

impl<T> ConfigStore<T> {
    /// Ends the roll-out of `version`: it applies to everybody. The answer is confirmed.
    ///
    /// Cancelling it leaves it done or not.
    ///
    /// # Errors
    /// [`Error::Conflict`] when no roll-out of that version is under way; [`Error::Unpublished`];
    /// [`Error::Client`].
    pub async fn promote(&self, version: u64) -> Result<(), Error> {
        let promoted = |pointer: &mut Pointer| {
            pointer.rollout = None;
            pointer.current = version;
        };
        self.turn(version, promoted).await?;
        info!(path = %self.path(), version, "promoted");
        Ok(())
    }

    /// Ends the roll-out of `version`: those who run it go back to the version that applies to
    /// everybody. The aborted one stays in the history.
    ///
    /// Cancelling it leaves it done or not.
    ///
    /// # Errors
    /// As [`promote`](ConfigStore::promote).
    pub async fn abort(&self, version: u64) -> Result<(), Error> {
        self.turn(version, |pointer| pointer.rollout = None).await?;
        info!(path = %self.path(), version, "aborted");
        Ok(())
    }

    /// Sets how many of 100 instances run `version`, which is being rolled out.
    ///
    /// Cancelling it leaves it done or not.
    ///
    /// # Errors
    /// As [`promote`](ConfigStore::promote).
    pub async fn widen(&self, version: u64, percent: u8) -> Result<(), Error> {
        judge_percent(percent)?;
        let widened = |pointer: &mut Pointer| {
            if let Some(rollout) = &mut pointer.rollout {
                rollout.percent = percent;
            }
        };
        self.turn(version, widened).await?;
        info!(path = %self.path(), version, percent, "rolled out further");
        Ok(())
    }

    /// Changes the pointer, if that version is being rolled out.
    async fn turn(&self, version: u64, change: impl Fn(&mut Pointer)) -> Result<(), Error> {
        let client = self.inner.client.pin().await?;
        // What an attempt whose reply was lost has written, over which version, and that loss.
        let mut maybe: Option<(Pointer, i32, ClientError)> = None;
        for _ in 0..PUBLISH_ATTEMPTS_MAX {
            let look = self.published(&client).await;
            let (pointer, stat) = match &maybe {
                Some(_) => look.map_err(Error::in_doubt)?,
                None => look?,
            };
            match maybe.take() {
                Some((written, _, _)) if written == pointer => return Ok(()),
                // Somebody has changed it since: whether this has before them is not known.
                Some((_, version, lost)) if stat.version != version => return Err(lost.into()),
                _ => {}
            }
            if pointer.rollout.as_ref().is_none_or(|rollout| rollout.version != version) {
                let rule = format!("a roll-out of version {version} must be under way");
                return Err(self.inner.places.conflict(rule));
            }
            let mut changed = pointer;
            change(&mut changed);
            match client.set(self.path(), changed.encode()).version(stat.version).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is(Code::BadVersion) || error.is(Code::NoNode) => {}
                Err(lost @ ClientError::ConnectionLost { maybe_applied: true, .. }) => {
                    maybe = Some((changed, stat.version, lost));
                    persist!(client.sync()).map_err(|error| Error::from(error).in_doubt())?;
                }
                Err(ClientError::ConnectionLost { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match maybe {
            Some((_, _, lost)) => Err(lost.into()),
            None => {
                let rule = format!("at most {PUBLISH_ATTEMPTS_MAX} others may change it meanwhile");
                Err(self.inner.places.conflict(rule))
            }
        }
    }

    /// What the instances say of themselves, by name. An instance that has no name says nothing;
    /// one that has lost its session is listed until that has expired, and only by its newest
    /// report.
    ///
    /// # Errors
    /// [`Error::Client`].
    pub async fn reports(&self) -> Result<Vec<Report>, Error> {
        let client = self.inner.client.pin().await?;
        let names = match persist!(client.children(&self.inner.places.reports)) {
            Err(error) if error.is(Code::NoNode) => return Ok(Vec::new()),
            names => names?,
        };
        let mut reports = Vec::new();
        for name in names {
            // Others' znodes are passed over.
            let Some((instance, _)) = name.rsplit_once('@') else { continue };
            let (data, stat) = match persist!(client.get(self.inner.places.reports.join(&name)?)) {
                Err(error) if error.is(Code::NoNode) => continue,
                read => read?,
            };
            let Ok(Standing { running, offered, fault }) = serde_json::from_slice(&data) else {
                continue;
            };
            let instance = instance.to_owned();
            reports.push((stat.mzxid, Report { instance, running, offered, fault }));
        }
        reports.sort_by(|(a_zxid, a), (b_zxid, b)| {
            a.instance.cmp(&b.instance).then(b_zxid.cmp(a_zxid))
        });
        let mut reports: Vec<Report> = reports.into_iter().map(|(_, report)| report).collect();
        reports.dedup_by(|later, first| later.instance == first.instance);
        Ok(reports)
    }
}
