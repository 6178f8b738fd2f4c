//! Those who have entered a double barrier together.

use std::ops::Deref;

use synod_core::model::{Code, Path};
use tracing::debug;

use super::double::LINE;
use crate::error::{Error, LossReason};
use crate::guard::Guard;
use crate::telemetry;
use crate::znodes::persist;

/// Proof of having entered a [`DoubleBarrier`](super::DoubleBarrier) with others: a [`Guard`].
///
/// Dropping it leaves in the background, without waiting for the others. If the session ends, it has
/// left to the others, who are told nothing: a cohort whose members may die is to look at its results.
#[must_use = "a cohort that is dropped is left"]
#[derive(Debug)]
pub struct Cohort {
    guard: Guard,
    line: Path,
    number: u64,
    /// Names of znodes, in the order in which they came.
    members: Vec<String>,
}

impl Cohort {
    pub(super) fn new(guard: Guard, line: Path, number: u64, members: Vec<String>) -> Cohort {
        Cohort { guard, line, number, members }
    }

    /// The number of the cohort, from 1: the same for all that have entered together, and greater
    /// than that of every cohort before.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many have entered together.
    pub fn parties(&self) -> usize {
        self.members.len()
    }

    /// The place among those who have entered together, from 0, in the order in which they came: a
    /// rank that nobody else of the cohort has.
    pub fn place(&self) -> usize {
        let own = self.guard.path().name();
        self.members.iter().position(|name| name == own).unwrap_or(0)
    }

    /// Leaves, and waits until all that have entered together have left, or died.
    ///
    /// Cancelling it leaves without waiting, in the background if need be.
    ///
    /// # Errors
    /// [`Error::Lost`] when the session ended meanwhile: then this one has left, and what the others
    /// do is not known. [`Error::Client`] when a request was refused.
    pub async fn leave(self) -> Result<(), Error> {
        let left = telemetry::DOUBLE_BARRIER.waiting("leave", &self.line, self.left()).await;
        match (left, self.guard.session().end()) {
            (Err(error), Some(end)) if error.session_over() => {
                Err(self.guard.loss(LossReason::SessionOver(end)).into())
            }
            (left, _) => left,
        }
    }

    async fn left(&self) -> Result<(), Error> {
        let client = self.guard.client();
        let own = self.guard.path().name();
        loop {
            let names = match persist!(client.children(&self.line)) {
                Err(error) if error.is(Code::NoNode) => Vec::new(),
                names => names?,
            };
            let inside: Vec<String> = LINE
                .line_up(&self.line, &names)?
                .into_iter()
                .map(|entrant| entrant.name)
                .filter(|name| self.members.contains(name))
                .collect();
            let awaited = match &inside[..] {
                // The lowest goes last: all others wait for it.
                [lowest, .., highest] if lowest == own => highest,
                [lowest, ..] if lowest != own => {
                    self.guard.release().await?;
                    lowest
                }
                _ => {
                    self.guard.release().await?;
                    debug!(line = %self.line, cohort = self.number, "all have left");
                    return Ok(());
                }
            };
            match persist!(client.get(self.line.join(awaited)?).watched()) {
                Err(error) if error.is(Code::NoNode) => {}
                read => {
                    let (_, gone) = read?;
                    gone.await?;
                }
            }
        }
    }
}

impl Deref for Cohort {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.guard
    }
}
