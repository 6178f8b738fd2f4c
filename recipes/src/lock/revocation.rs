//! How a holder is asked to let go, and how it is made to.
//!
//! ```text
//! {"host":"db-3","pid":4711,"revoke":true}    the holder's own znode, marked
//! __REVOKE__                                  the same in Curator's words
//! ```
//!
//! A request is written into the holder's znode at the version that was read, so that it reaches
//! that holder and nobody else; the holder watches its own znode. A forced release deletes the
//! znode, at the version that was shown.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Lock, Owner};
use crate::error::Error;

/// What Curator's `Revoker` writes, and the only thing that its holders understand.
const CURATOR: &[u8] = b"__REVOKE__";

/// The mark in the metadata.
const MARK: &str = "revoke";

/// Whether a contender with that data has been asked to let go.
pub(crate) fn is_requested(data: &[u8]) -> bool {
    data == CURATOR
        || serde_json::from_slice::<Map<String, Value>>(data)
            .is_ok_and(|said| said.get(MARK) == Some(&Value::Bool(true)))
}

/// The data of one that is asked to let go.
pub(super) fn request(data: &[u8]) -> Bytes {
    let said = serde_json::from_slice::<Map<String, Value>>(data).ok();
    let marked = said.and_then(|mut said| {
        said.insert(MARK.to_owned(), Value::Bool(true));
        serde_json::to_vec(&said).ok()
    });
    marked.map_or(Bytes::from_static(CURATOR), Bytes::from)
}

impl Lock {
    /// Asks a holder to let go; it sees that by
    /// [`Guard::revocation_requested`](crate::Guard::revocation_requested), and does with it what it
    /// likes. One that waits sees it when it holds.
    ///
    /// Returns who was asked, as it stands now: that is what
    /// [`force_release`](Lock::force_release) takes afterwards. `None` if it is gone: then nobody was
    /// asked. Asking twice does nothing.
    ///
    /// Holders of Curator are asked in their own way; those of Kazoo take no notice.
    ///
    /// Cancelling it may leave either.
    ///
    /// # Errors
    /// [`Error::Client`], also when the owner is of another lock.
    pub async fn revoke_request(&self, owner: &Owner) -> Result<Option<Owner>, Error> {
        self.line().revoke_request(owner).await
    }

    /// Takes the lock away from a holder, or its place from one that waits, by deleting its znode.
    /// To the holder that is a loss, [`LossReason::Removed`](crate::LossReason::Removed); but code
    /// of it that does not listen goes on, as after every loss: what it writes elsewhere has to be
    /// fenced.
    ///
    /// Returns whether that was done: `false` if the owner was gone already.
    ///
    /// Cancelling it may leave either.
    ///
    /// # Errors
    /// [`Error::Client`], with [`Code::BadVersion`](crate::Code::BadVersion) when the owner's znode
    /// was written to since it was looked at (by a [`revoke_request`](Lock::revoke_request) of
    /// another, say): then it holds on. Also when the owner is of another lock.
    pub async fn force_release(&self, owner: &Owner) -> Result<bool, Error> {
        self.line().force_release(owner).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_what_the_contender_says_of_itself() {
        let asked = request(b"{\"host\":\"a\",\"pid\":7,\"rack\":\"b\"}");
        assert!(is_requested(&asked));
        let said: Value = serde_json::from_slice(&asked).expect("JSON");
        let expected = serde_json::json!({"host": "a", "pid": 7, "rack": "b", "revoke": true});
        assert_eq!(said, expected);
    }

    #[test]
    fn what_says_nothing_of_this_form_is_asked_as_curator_does() {
        for data in [&b""[..], b"10.0.0.7", b"[]", b"\xFF"] {
            assert!(!is_requested(data));
            assert_eq!(&request(data)[..], CURATOR);
            assert!(is_requested(&request(data)));
        }
        for data in [&b"{}"[..], b"{\"revoke\":false}", b"{\"revoke\":1}", b"__REVOKE__ "] {
            assert!(!is_requested(data), "{data:?}");
        }
    }
}
