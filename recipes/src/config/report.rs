//! What an instance says of itself: an ephemeral znode.

use synod_core::client::{CleanupSlot, Client};
use synod_core::model::{Code, Error as ClientError, Path};
use tracing::warn;

use super::pointer::Places;
use super::rollout::Standing;
use crate::znodes::persist;

/// The report of one session. Dropping it hands its deletion to the session's reaper.
pub(crate) struct Reported {
    client: Client,
    path: Path,
    /// What it says, as far as that is known.
    said: Option<Standing>,
    slot: Option<CleanupSlot>,
}

impl Reported {
    /// A report to be made. `client` is pinned. `None` if the session has too much to clean up.
    pub(crate) fn new(
        client: &Client,
        places: &Places,
        instance: &str,
    ) -> Result<Option<Reported>, ClientError> {
        let path = places.report(instance, client.session().id())?;
        let slot = match client.session().reserve_cleanup() {
            Ok(slot) => slot,
            Err(error) => {
                warn!(%path, %error, "this instance does not report");
                return Ok(None);
            }
        };
        Ok(Some(Reported { client: client.clone(), path, said: None, slot: Some(slot) }))
    }

    /// Whether it is of this client's session.
    pub(crate) fn is_of(&self, client: &Client) -> bool {
        self.client.session().id() == client.session().id()
    }

    /// Says it, if it is news. A refusal is logged: following goes on without reports.
    pub(crate) async fn say(&mut self, standing: Standing) -> Result<(), ClientError> {
        if self.said.as_ref() == Some(&standing) {
            return Ok(());
        }
        // Texts and numbers alone: nothing that cannot be written.
        let data = serde_json::to_vec(&standing).unwrap_or_default();
        let said = match self.client.set(&self.path, &data).await {
            Err(error) if error.is(Code::NoNode) => {
                self.client.create(&self.path, &data).ephemeral().await.map(drop)
            }
            said => said.map(drop),
        };
        match said {
            // Nothing is published yet, so that there is no place for it.
            Err(error) if error.is(Code::NoNode) => return Ok(()),
            Err(error @ (ClientError::ConnectionLost { .. } | ClientError::SessionOver { .. })) => {
                return Err(error);
            }
            Err(error) => warn!(path = %self.path, %error, "a report was refused"),
            Ok(()) => {}
        }
        self.said = Some(standing);
        Ok(())
    }
}

impl Drop for Reported {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        let (client, path) = (self.client.clone(), self.path.clone());
        slot.run(async move {
            match persist!(client.delete(&path)) {
                Err(error) if !error.is(Code::NoNode) && !error.session_over() => {
                    warn!(%path, %error, "a report could not be deleted");
                }
                _ => {}
            }
        });
    }
}
