//! How this member introduces itself to others, whatever for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::handshake::{self, ConnectError, Hello, Identity, Purpose, Welcome};
use super::types::{Address, FolderId};
use crate::net::{Net, Stream};

#[derive(Debug)]
pub(crate) struct Caller {
    net: Arc<dyn Net>,
    identity: Arc<Identity>,
}

impl Caller {
    pub(crate) fn new(net: Arc<dyn Net>, identity: Arc<Identity>) -> Caller {
        Caller { net, identity }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// A new connection to member `to`, within `patience`.
    ///
    /// # Errors
    /// It is not reached in time, is not who was meant, or refuses.
    pub(crate) async fn connect(
        &self,
        to: u64,
        address: &Address,
        purpose: Purpose,
        patience: Duration,
    ) -> io::Result<Box<dyn Stream>> {
        let folder = Some(address.folder);
        let connected = self.call(to, folder, &address.peer, purpose, patience).await;
        Ok(connected.map(|(stream, _)| stream)?)
    }

    /// Learns which folder the member `to` has that is to be at `peer`, within `patience`. One
    /// that has no cluster yet belongs to this one from then on.
    ///
    /// # Errors
    /// It is not reached in time, is not who was meant, or refuses.
    pub(super) async fn meet(
        &self,
        to: u64,
        peer: &str,
        patience: Duration,
    ) -> Result<Welcome, ConnectError> {
        let connected = self.call(to, None, peer, Purpose::Meet, patience).await;
        connected.map(|(_, welcome)| welcome)
    }

    async fn call(
        &self,
        to: u64,
        to_folder: Option<FolderId>,
        peer: &str,
        purpose: Purpose,
        patience: Duration,
    ) -> Result<(Box<dyn Stream>, Welcome), ConnectError> {
        let identity = &self.identity;
        let cluster = identity.cluster();
        if cluster.is_none() {
            let text = "this member does not know yet which cluster it joins";
            return Err(io::Error::other(text).into());
        }
        let hello = Hello {
            cluster,
            from: identity.id(),
            from_folder: Some(identity.folder()),
            members: identity.members(),
            to,
            to_folder,
            purpose,
            patience_ms: u32::try_from(patience.as_millis()).unwrap_or(u32::MAX).max(1),
        };
        let connected = handshake::connect(&*self.net, peer, &hello, patience).await;
        match &connected {
            Ok((_, welcome)) => identity.notices.welcomed(to, identity.id(), welcome),
            Err(ConnectError::Refused { refusal, .. }) => {
                identity.notices.refused(to, identity.id(), refusal);
            }
            Err(ConnectError::Io(_)) => {}
        }
        connected
    }
}
