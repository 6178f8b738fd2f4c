//! A look at what a member applies, and a hand in when, for tests.

use std::time::Duration;

use synod_core::model::{Entry, Zxid};

/// Is told of each entry of the log as it is applied.
pub trait Tap: Send + Sync + 'static {
    /// The entry was applied and took this zxid.
    fn applied(&self, zxid: Zxid, entry: &Entry);

    /// How much later the next entries are to be applied here.
    fn delay(&self) -> Duration {
        Duration::ZERO
    }
}
