//! Work that only the leader does.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use synod_core::model::{Code, Error as ClientError, SessionEnd};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Election, Leadership};
use crate::backoff::Backoff;
use crate::error::{Error, LossReason};
use crate::telemetry;

/// Shortest and longest pause between the end of one candidacy and the next.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Resigns, whoever else still has a handle to the leadership.
struct Resigns(Arc<Leadership>);

impl Drop for Resigns {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Election {
    /// Campaigns, and does the work that `lead` gives as long as it leads; again and again, until
    /// the work returns `Ok`.
    ///
    /// | what happens | what follows |
    /// |---|---|
    /// | the work returns `Ok(done)` | it resigns, waits for the confirmation, and returns `Ok(done)` |
    /// | the work returns `Err(error)` | the error is logged; it resigns, pauses and campaigns again |
    /// | the leadership is lost | the work is dropped at its next await; it pauses and campaigns again |
    /// | the session ends during the campaign | it pauses and campaigns again, in the next session |
    /// | the client is closed, or the coordinator refuses the campaign | it returns that error |
    ///
    /// So an error that is to end it is returned as `Ok(Err(error))`. A pause is 0.1 s at first and
    /// doubles up to 10 s, less up to half by chance; after a leadership that has lasted for longer
    /// than that it is short again.
    ///
    /// `lead` is called for each leadership, after the coordinator has said that it is held. What
    /// [`Guard::run`](crate::Guard::run) says of work that does not await holds here too: it is not
    /// stopped, so write under the [`term`](Leadership::term). When this returns, or is dropped, the
    /// leadership is given up, whoever else has kept a handle to it.
    ///
    /// **Cancelling** it drops the work and leaves the resignation to the background.
    ///
    /// # Errors
    /// [`Error::Client`] when the client is closed, the name is not valid, or the coordinator refuses
    /// (no permission, say); [`Error::SequenceExhausted`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub async fn run_as_leader<T, E, W>(
        &self,
        lead: impl FnMut(Arc<Leadership>) -> W,
    ) -> Result<T, Error>
    where
        W: Future<Output = Result<T, E>>,
        E: Display,
    {
        telemetry::ELECTION.waiting("lead", &self.path, self.lead(lead)).await
    }

    async fn lead<T, E, W>(&self, mut lead: impl FnMut(Arc<Leadership>) -> W) -> Result<T, Error>
    where
        W: Future<Output = Result<T, E>>,
        E: Display,
    {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let campaign = self.campaign().await;
            let began = Instant::now();
            let lost = match campaign {
                Ok(leadership) => {
                    let leadership = Resigns(Arc::new(leadership));
                    let work = async { lead(Arc::clone(&leadership.0)).await };
                    match leadership.0.run(work).await {
                        Ok(Ok(done)) => {
                            self.resign(&leadership.0).await;
                            return Ok(done);
                        }
                        Ok(Err(error)) => {
                            warn!(election = %self.path, %error, "the leader's work has failed");
                            self.resign(&leadership.0).await;
                            None
                        }
                        Err(lost) => Some(lost),
                    }
                }
                Err(error) => Some(error),
            };
            match lost {
                Some(error) if ends(&error) => return Err(error),
                Some(error) => info!(election = %self.path, %error, "campaigning again"),
                None => {}
            }
            if began.elapsed() > PAUSES.1 {
                backoff.reset();
            }
            backoff.wait(&self.client).await;
        }
    }

    async fn resign(&self, leadership: &Leadership) {
        if let Err(error) = leadership.release().await {
            warn!(election = %self.path, %error, "the resignation is left to the background");
        }
    }
}

/// Whether campaigning again is of no use, or would be without end.
fn ends(error: &Error) -> bool {
    const CLOSED: SessionEnd = SessionEnd::Closed;
    match error {
        Error::Client(ClientError::SessionOver { end, .. }) => *end == CLOSED,
        Error::Lost(loss) => loss.reason == LossReason::SessionOver(CLOSED),
        // The next session may be one in full.
        Error::Client(error) if error.is(Code::NotReadOnly) => false,
        error => !error.retryable(),
    }
}
