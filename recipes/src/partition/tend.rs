//! What becomes of one item at one member: wanted, waited for, held, given up.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use synod_core::client::Client;
use synod_core::model::{Path, SessionId, Zxid};
use tokio::sync::{mpsc, oneshot, watch as latest};
use tokio::time::sleep;

use super::member::RETRY;
use super::partitioner::{Partition, PartitionEvent};
use crate::error::{Error, Loss};
use crate::guard::Guard;
use crate::holding::gone;
use crate::lock::Lock;
use crate::telemetry;

/// How long an item rests that the application has given up unasked, before it comes again: work
/// that fails at once is not begun again in a tight loop.
const GIVEN_UP_REST: Duration = Duration::from_secs(1);

/// Tends one item. It ends when the item is not wanted, and nothing of it is held.
pub(super) struct Tend {
    pub(super) item: Arc<str>,
    /// Of its lock.
    pub(super) path: Path,
    /// Pinned to the session in which the item is wanted; `None`: it is not.
    pub(super) wanted: latest::Receiver<Option<Client>>,
    pub(super) events: mpsc::Sender<PartitionEvent>,
}

impl Tend {
    pub(super) async fn run(mut self) -> Arc<str> {
        loop {
            let Some(client) = self.wanted.borrow_and_update().clone() else { return self.item };
            let acquired = {
                let acquire = acquire(&client, &self.path);
                tokio::select! {
                    biased;
                    () = changed(&mut self.wanted) => continue,
                    acquired = acquire => acquired,
                }
            };
            match acquired {
                Ok(guard) => self.hold(client, guard).await,
                Err(error) => self.put_off(error).await,
            }
        }
    }

    /// Waits until it makes sense to try again.
    async fn put_off(&mut self, error: Error) {
        if error.session_over() {
            // It is wanted in the next one, or not at all.
            return changed(&mut self.wanted).await;
        }
        if error.retryable() {
            return;
        }
        self.tell(PartitionEvent::Failed { item: Some(self.item.clone()), error }).await;
        tokio::select! {
            biased;
            () = changed(&mut self.wanted) => {}
            () = sleep(RETRY) => {}
        }
    }

    /// Hands the item out, and waits until it has been given up.
    async fn hold(&mut self, client: Client, guard: Guard) {
        let session = client.session().id();
        let mut lost = pin!(lost(client, guard.path().clone(), guard.token()));
        let (dropped, mut given_up) = oneshot::channel();
        let (revoke, revoked) = latest::channel(false);
        let partition = Partition { dropped, item: self.item.clone(), guard, revoked };
        self.tell(PartitionEvent::Assigned(partition)).await;

        let mut loss = tokio::select! {
            biased;
            _ = &mut given_up => {
                // Unasked.
                return tokio::select! {
                    biased;
                    () = unwanted(&mut self.wanted, session) => {}
                    () = sleep(GIVEN_UP_REST) => {}
                };
            }
            loss = &mut lost => Some(loss),
            () = unwanted(&mut self.wanted, session) => None,
        };
        if loss.is_none() {
            revoke.send_replace(true);
            self.tell(PartitionEvent::Revoked { item: self.item.clone() }).await;
            loss = tokio::select! {
                biased;
                _ = &mut given_up => None,
                loss = lost => Some(loss),
            };
        }
        if let Some(loss) = loss {
            self.tell(PartitionEvent::Lost { item: self.item.clone(), loss }).await;
            // One of an item at a time, even if the one before is worth nothing.
            let _ = given_up.await;
        }
    }

    async fn tell(&self, event: PartitionEvent) {
        // It fails when there is nobody to tell any more; a partition is released by that.
        let _ = self.events.send(event).await;
    }
}

async fn acquire(client: &Client, path: &Path) -> Result<Guard, Error> {
    Lock::new(client, path.clone())?.counted_as(&telemetry::PARTITION).acquire().await
}

async fn lost(client: Client, path: Path, token: Zxid) -> Loss {
    let reason = gone(&client, &path).await;
    Loss { path, token, reason }
}

/// Waits until it is not wanted in that session.
async fn unwanted(wanted: &mut latest::Receiver<Option<Client>>, session: SessionId) {
    let in_session = |client: &Client| client.session().id() == session;
    while wanted.borrow_and_update().as_ref().is_some_and(in_session) {
        changed(wanted).await;
    }
}

async fn changed(wanted: &mut latest::Receiver<Option<Client>>) {
    if wanted.changed().await.is_err() {
        // Its partitioner is gone, and takes this along.
        std::future::pending::<()>().await;
    }
}
