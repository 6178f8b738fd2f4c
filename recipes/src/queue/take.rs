//! Taking items out.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use synod_core::model::{Error as ClientError, SessionEnd};
use tokio::sync::watch as latest;
use tokio::time::sleep;
use tracing::warn;

use super::claim::{Claim, Tried};
use super::delivery::{Claimed, Delivery};
use super::item::{Item, claims_of};
use super::window::{Due, Window};
use super::{Core, Outstanding, Queue};
use crate::error::Error;

/// A consumer that waits lists anew now and then, even if nothing is told.
const RECHECK: Duration = Duration::from_secs(30);

impl<T: DeserializeOwned> Queue<T> {
    /// Takes the next item, and waits for one if there is none; `None` when the queue is
    /// [shut down](Queue::shutdown). Several takes at a time are fine, of one handle or of clones.
    ///
    /// An item that cannot be decoded goes to the dead letters, and so does one that has had its
    /// attempts; neither is ever lost.
    ///
    /// **Cancelling** it, at any moment, leaves nothing behind: an item that was just claimed is let
    /// go, and that attempt counts. It goes on over broken connections and expired sessions.
    ///
    /// # Errors
    /// [`Error::Client`] when a request was refused or the client is closed.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time, if it has to wait.
    pub async fn take(&self) -> Result<Option<Delivery<T>>, Error> {
        self.next(true).await
    }

    /// Takes the next item if there is one; `None` otherwise.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// As [`take`](Queue::take), and [`Error::Client`] when the session ends meanwhile.
    pub async fn try_take(&self) -> Result<Option<Delivery<T>>, Error> {
        self.next(false).await
    }

    /// Takes the next item and finishes it at once: at most once, for work that may be lost with
    /// its consumer. It waits for an item if there is none; `None` when the queue is shut down.
    ///
    /// # Errors
    /// As [`take`](Queue::take) and [`Delivery::ack`].
    pub async fn pop(&self) -> Result<Option<T>, Error>
    where
        T: Clone,
    {
        let Some(delivery) = self.take().await? else { return Ok(None) };
        let value = delivery.value().clone();
        delivery.ack().await?;
        Ok(Some(value))
    }

    async fn next(&self, wait: bool) -> Result<Option<Delivery<T>>, Error> {
        while let Some(claimed) = self.core.next(wait).await? {
            match claimed.item.value() {
                Ok(value) => return Ok(Some(Delivery::new(value, claimed))),
                Err(reason) => claimed.give_up(&reason).await?,
            }
        }
        Ok(None)
    }
}

/// A window while somebody uses it.
struct Lent<'a> {
    core: &'a Core,
    window: Option<Window>,
}

impl Lent<'_> {
    /// One whose session goes on.
    async fn window(&mut self) -> Result<&mut Window, Error> {
        let alive = self.window.take().filter(Window::is_alive);
        let window = match alive {
            Some(window) => window,
            None => Window::open(self.core).await?,
        };
        Ok(self.window.insert(window))
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(window) = self.window.take() {
            self.core.give_back(window);
        }
    }
}

/// What came of one step.
enum Step {
    Got(Box<Claimed>),
    /// There may be more to do at once.
    On,
    /// There is nothing to be had before that time has passed, or something is told.
    Nothing(Duration),
}

impl Claimed {
    /// To the dead letters, unless the claim is lost: then the next consumer does it.
    async fn give_up(&self, reason: &str) -> Result<(), Error> {
        warn!(path = %self.claim.item(), reason, "given up");
        match self.bury(reason).await {
            Err(error) if error.is_lost() || error.session_over() => Ok(()),
            done => done,
        }
    }
}

impl Core {
    async fn next(self: &Arc<Self>, wait: bool) -> Result<Option<Box<Claimed>>, Error> {
        let mut stopped = self.stopped.subscribe();
        let mut lent = Lent { core: self, window: self.lend() };
        loop {
            if *stopped.borrow_and_update() {
                return Ok(None);
            }
            match self.step(&mut lent).await {
                Ok(Step::Got(claimed)) => return Ok(Some(claimed)),
                Ok(Step::On) => {}
                Ok(Step::Nothing(_)) if !wait => return Ok(None),
                Ok(Step::Nothing(pause)) => wait_for_more(&mut lent, &mut stopped, pause).await?,
                // Nothing was held: it goes on in the next session.
                Err(error) if wait && is_passing(&error) => lent.window = None,
                Err(error) => return Err(error),
            }
        }
    }

    async fn step(self: &Arc<Self>, lent: &mut Lent<'_>) -> Result<Step, Error> {
        let outstanding = Outstanding::new(&self.outstanding);
        let window = lent.window().await?;
        window.catch_up();
        let mut pause = RECHECK;
        match window.due {
            Due::Never => {}
            Due::Unknown => {
                window.due = match self.move_due(&window.client).await? {
                    None => Due::Never,
                    Some(0) => Due::Unknown,
                    Some(due_ms) => Due::At(due_ms),
                };
                return Ok(Step::On);
            }
            Due::At(due_ms) => {
                let left_ms = due_ms - self.clock.now_ms(&window.client).await?;
                match u64::try_from(left_ms) {
                    Ok(left_ms) if left_ms > 0 => pause = pause.min(Duration::from_millis(left_ms)),
                    _ => {
                        window.due = Due::Unknown;
                        return Ok(Step::On);
                    }
                }
            }
        }
        let Some(key) = window.candidate().cloned() else {
            if window.is_exhausted() {
                return Ok(Step::Nothing(pause));
            }
            window.list_on(self).await?;
            return Ok(Step::On);
        };
        match Claim::attempt(&window.client, window.path_of(&key)?).await? {
            Tried::Busy => window.missed(&key),
            Tried::Gone => window.took(&key),
            Tried::Ours(claim, data, stat) => {
                window.took(&key);
                let item = Item::read(&data);
                let attempt = item.head.attempts.saturating_add(claims_of(&stat));
                let claimed = Box::new(Claimed {
                    core: Arc::clone(self),
                    claim,
                    item,
                    version: stat.version,
                    attempt,
                    _outstanding: outstanding,
                });
                if attempt <= self.settings.attempts_max {
                    return Ok(Step::Got(claimed));
                }
                let max = self.settings.attempts_max;
                let last = claimed.item.head.reason.as_deref().unwrap_or("it was let go or lost");
                let reason = format!("not finished in {max} attempts; the last: {last}");
                claimed.give_up(&reason).await?;
            }
        }
        Ok(Step::On)
    }
}

/// Waits until there may be something: what is told, a delayed item's time, or a while.
async fn wait_for_more(
    lent: &mut Lent<'_>,
    stopped: &mut latest::Receiver<bool>,
    pause: Duration,
) -> Result<(), Error> {
    let window = lent.window().await?;
    let alive = tokio::select! {
        biased;
        // The sender lives as long as the queue, which is borrowed.
        _ = stopped.changed() => true,
        alive = window.changed() => alive,
        () = sleep(pause) => {
            window.forget();
            true
        }
    };
    if !alive {
        lent.window = None;
    }
    Ok(())
}

/// Whether the next session, or connection, may do better.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Client(ClientError::SessionOver { end, .. }) => *end != SessionEnd::Closed,
        Error::Client(ClientError::ConnectionLost { .. }) => true,
        _ => false,
    }
}
