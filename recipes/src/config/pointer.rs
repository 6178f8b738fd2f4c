//! The znode that says which version applies, and the names of those below it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use synod_core::model::{Error as ClientError, Path, SessionId};
use xxhash_rust::xxh3::xxh3_64;

use super::fault::Fault;
use crate::error::Error;

/// Of what is written here. A reader refuses one that it does not know.
const FORMAT: u32 = 1;

/// The data of the configuration's znode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pointer {
    format: u32,
    /// The version that applies; 0 before the first.
    pub(crate) current: u64,
    /// The highest version that there has ever been.
    pub(crate) last: u64,
    /// The chunk sets of the versions that are kept. So a set is garbage exactly if it is neither
    /// here nor owned.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) chunked: BTreeMap<u64, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rollout: Option<Rollout>,
}

/// A version that some instances run before the others do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The version.
    pub version: u64,
    /// Of 100 instances, about so many run it: those whose names have the lowest hashes, so that a
    /// higher percentage only adds to them.
    pub percent: u8,
    /// Instances that run it in any case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<String>,
}

impl Rollout {
    /// Whether the instance of that name runs the version. The hash is one of the name alone: the
    /// same instances come first each time.
    pub fn takes(&self, instance: &str) -> bool {
        let place = xxh3_64(instance.as_bytes()) % 10_000;
        place < u64::from(self.percent) * 100 || self.instances.iter().any(|name| name == instance)
    }
}

impl Pointer {
    pub(crate) fn unpublished() -> Pointer {
        Pointer { format: FORMAT, current: 0, last: 0, chunked: BTreeMap::new(), rollout: None }
    }

    pub(crate) fn decode(data: &[u8]) -> Result<Pointer, Fault> {
        let pointer: Pointer = serde_json::from_slice(data).map_err(|_| {
            Fault::whole(
                "the znode does not say which version applies: it is not a configuration's",
            )
        })?;
        match pointer.format {
            FORMAT => Ok(pointer),
            found => Err(Fault::whole(format!("the znode has format {found}, expected {FORMAT}"))),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Texts and numbers alone: nothing that cannot be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The version that an instance is to run; `None` before the first.
    pub(crate) fn version_for(&self, instance: Option<&str>) -> Option<u64> {
        let early = self.rollout.as_ref().filter(|it| instance.is_some_and(|name| it.takes(name)));
        let version = early.map_or(self.current, |rollout| rollout.version);
        (version > 0).then_some(version)
    }

    /// Whether a version is in use.
    pub(crate) fn uses(&self, version: u64) -> bool {
        version == self.current || self.rollout.as_ref().is_some_and(|it| it.version == version)
    }
}

/// The znodes of one configuration.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The pointer's own.
    pub(crate) root: Path,
    pub(crate) versions: Path,
    pub(crate) chunks: Path,
    pub(crate) reports: Path,
}

impl Places {
    pub(crate) fn new(root: Path) -> Result<Places, ClientError> {
        let (versions, chunks) = (root.join("versions")?, root.join("chunks")?);
        let reports = root.join("reports")?;
        Ok(Places { root, versions, chunks, reports })
    }

    pub(crate) fn version(&self, version: u64) -> Result<Path, ClientError> {
        self.versions.join(&format!("{version:010}"))
    }

    pub(crate) fn set(&self, name: &str) -> Result<Path, ClientError> {
        self.chunks.join(name)
    }

    /// By its session too: a report of an earlier session, which is about to go, is not in the way.
    pub(crate) fn report(&self, instance: &str, session: SessionId) -> Result<Path, ClientError> {
        self.reports.join(&format!("{instance}@{:x}", session.0))
    }

    pub(crate) fn conflict(&self, rule: impl Into<String>) -> Error {
        Error::Conflict { path: self.root.clone(), rule: rule.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taking(percent: u8) -> Vec<String> {
        let rollout = Rollout { version: 2, percent, instances: vec!["node-7".into()] };
        let names = (0..10_000).map(|number| format!("node-{number}"));
        names.filter(|name| rollout.takes(name)).collect()
    }

    #[test]
    fn a_higher_percentage_only_adds_instances_and_takes_its_share() {
        assert_eq!(taking(0), ["node-7"]);
        assert_eq!(taking(100).len(), 10_000);
        let mut before = taking(0);
        for percent in (10..=90).step_by(10) {
            let now = taking(percent);
            assert!(before.iter().all(|name| now.contains(name)), "{percent}%");
            let share = now.len() as i64 - i64::from(percent) * 100;
            assert!(share.abs() < 200, "{percent}%: {} of 10,000", now.len());
            before = now;
        }
    }

    #[test]
    fn the_hash_of_a_name_is_the_same_for_ever() {
        // Other releases must choose the same instances.
        assert_eq!(xxh3_64(b"node-7") % 10_000, 7_127);
    }

    #[test]
    fn a_pointer_is_read_as_written_and_nothing_else_is_taken_for_one() {
        let rollout = Some(Rollout { version: 9, percent: 10, instances: vec![] });
        let chunked = BTreeMap::from([(7, "x".to_owned())]);
        let pointer = Pointer { current: 7, last: 9, chunked, rollout, ..Pointer::unpublished() };
        assert_eq!(Pointer::decode(&pointer.encode()).expect("good"), pointer);
        assert_eq!(pointer.version_for(None), Some(7));
        assert!(pointer.uses(7) && pointer.uses(9) && !pointer.uses(8));
        for other in [&b""[..], b"{}", b"\"hello\"", b"{\"rps\": 1}"] {
            assert!(Pointer::decode(other).is_err());
        }
        let newer = Pointer { format: 2, ..pointer };
        assert!(Pointer::decode(&newer.encode()).expect_err("newer").reason.contains("format 2"));
    }
}
