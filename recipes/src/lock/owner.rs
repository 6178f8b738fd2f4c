//! Who holds a lock, or waits for it: what every contender says of itself in its znode.
//!
//! ```text
//! {"host":"db-3","pid":4711,"label":"nightly report"}
//! ```

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use synod_core::model::{Path, SessionId, Stat, Zxid};

use super::revocation::is_requested;
use crate::layout::Layout;

/// Where Linux has the name of the host.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// What stands where nobody has said anything.
const UNKNOWN: &str = "unknown";

/// One that holds a lock or waits for it, as it was when it was looked at.
///
/// Host, process and label are what the contender says of itself: good for a human who looks for
/// it, no proof of anything.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// Its znode.
    pub path: Path,
    /// The fencing token that it holds with, or is going to.
    pub token: Zxid,
    /// The version of its znode.
    pub version: i32,
    /// Its session. `None` if its znode is not ephemeral: nobody of this library, then.
    pub session: Option<SessionId>,
    /// When it came, in milliseconds since 1970 by the coordinator's clock.
    pub since_ms: i64,
    /// The name of its host; `unknown` if it does not say.
    pub host: String,
    /// Its process on that host, if it says.
    pub pid: Option<u32>,
    /// What it does; empty if it does not say. Of a contender of another library, what it has in its
    /// znode: with Kazoo that is its identifier.
    pub label: String,
    /// Whether it was asked to let go.
    pub revocation_requested: bool,
    /// Whether it holds, or is going to, along with others: it is a reader of a read/write lock.
    pub shares: bool,
}

impl Owner {
    pub(super) fn new(path: Path, data: &Bytes, stat: &Stat, layout: Layout) -> Owner {
        // What others have written there is no reason to fail.
        let said = serde_json::from_slice(data).unwrap_or_else(|_| Metadata::foreign(data, layout));
        let Metadata { host, pid, label } = said;
        let (token, version, session) = (stat.czxid, stat.version, stat.ephemeral_owner);
        let host = host.unwrap_or_else(|| UNKNOWN.to_owned());
        let (since_ms, revocation_requested) = (stat.ctime_ms, is_requested(data));
        Owner {
            path,
            token,
            version,
            session,
            since_ms,
            host,
            pid,
            label,
            revocation_requested,
            shares: false,
        }
    }
}

/// What is in a contender's znode.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Metadata {
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    pid: Option<u32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    label: String,
}

impl Metadata {
    fn foreign(data: &[u8], layout: Layout) -> Metadata {
        let text = std::str::from_utf8(data).unwrap_or_default();
        match layout != Layout::Synod && !is_requested(data) {
            true => Metadata { label: text.to_owned(), ..Metadata::default() },
            false => Metadata::default(),
        }
    }
}

/// The data of a contender of this process.
pub(crate) fn metadata(label: &str) -> Arc<[u8]> {
    let (host, pid) = (Some(host().to_owned()), Some(std::process::id()));
    let metadata = Metadata { host, pid, label: label.to_owned() };
    // There is nothing in it that could not be written; who cannot say who it is locks all the same.
    serde_json::to_vec(&metadata).unwrap_or_default().into()
}

fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        let kernel = std::fs::read_to_string(HOSTNAME).ok();
        let said = [kernel, std::env::var("HOSTNAME").ok()].into_iter().flatten();
        let mut names = said.map(|name| name.trim().to_owned());
        names.find(|name| !name.is_empty()).unwrap_or_else(|| UNKNOWN.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(data: &[u8]) -> Owner {
        owner_in(data, Layout::Synod)
    }

    fn owner_in(data: &[u8], layout: Layout) -> Owner {
        Owner::new(Path::root(), &Bytes::copy_from_slice(data), &Stat::default(), layout)
    }

    #[test]
    fn what_contenders_of_other_libraries_have_written_is_their_label() {
        for layout in [Layout::Curator, Layout::Kazoo] {
            for (data, label) in
                [(&b"worker-7"[..], "worker-7"), (b"\xFF", ""), (b"__REVOKE__", "")]
            {
                let Owner { host, pid, label: read, .. } = owner_in(data, layout);
                assert_eq!((host.as_str(), pid, read.as_str()), (UNKNOWN, None, label));
            }
            assert_eq!(owner_in(&metadata("report"), layout).label, "report", "ours all the same");
        }
    }

    #[test]
    fn metadata_is_compact_json_that_is_read_as_it_was_written() {
        let data = metadata("nightly \"report\" ü");
        let text = String::from_utf8(data.to_vec()).expect("UTF-8");
        assert!(text.starts_with("{\"host\":\"") && !text.contains('\n'), "{text}");
        let Owner { host: read, pid, label, .. } = owner(&data);
        assert_eq!((read.as_str(), pid), (host(), Some(std::process::id())));
        assert_eq!(label, "nightly \"report\" ü");
        assert!(!host().is_empty());
        assert!(!String::from_utf8_lossy(&metadata("")).contains("label"));
    }

    #[test]
    fn what_others_have_written_is_unknown() {
        let foreign: [&[u8]; 7] =
            [b"", b"10.0.0.1", b"\xFF\0", b"{\"host\":", b"[]", b"{\"pid\":-1}", b"{\"host\":7}"];
        for data in foreign {
            let Owner { host, pid, label, .. } = owner(data);
            assert_eq!((host.as_str(), pid, label.as_str()), (UNKNOWN, None, ""), "{data:?}");
        }
        let newer = owner(b"{\"host\":\"a\",\"rack\":\"b\"}");
        assert_eq!((newer.host.as_str(), newer.pid), ("a", None), "what is known of it is read");
    }
}
