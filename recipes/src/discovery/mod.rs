//! Discovery: which instances of a service are there, and which of them to ask.
//!
//! ```text
//! /services                                a container, made when needed
//! └── web                                  one group a service (see `membership`)
//!     ├── _m_9f1c…-web-1   {"address":"10.0.0.7:80","weight":3}
//!     └── _m_40ab…-web-2   {"address":"10.0.0.8:80","metadata":{"zone":"a"}}
//! ```
//!
//! 1. An instance registers by a standing membership of its service's group: what is there is compared
//!    with what is wanted, and put right, until the registration is withdrawn.
//! 2. A provider reads the group, and follows it by a task of its own.
//! 3. It picks from what it knows, without asking anyone: by weight, in turn, at random, or always the
//!    same one.
//! 4. Instances that were reported to fail are passed over for a while.
//! 5. While nobody can be reached, what was known last stays.

mod pick;
mod provider;

use std::collections::BTreeMap;

use futures::Stream;
use serde::{Deserialize, Serialize};
use synod_core::client::{Client, IntoPath};
use synod_core::model::{Error as ClientError, Path};
use tracing::warn;

pub use pick::{DownPolicy, Pick};
pub use provider::{Provider, ProviderBuilder};

use crate::error::Error;
use crate::guard::Released;
use crate::membership::{Group, Member};
use crate::persistent_node::{NodeState, PersistentNode};

/// Services below a path, each with its instances. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Discovery {
    client: Client,
    base: Path,
}

/// One instance of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance {
    /// Its name among the instances of the service: one part of a path.
    pub id: String,
    /// Where it is reached, in whatever form its clients understand.
    pub address: String,
    /// How often it is picked, in proportion to the others; 0: never (while it is drained, say).
    pub weight: u32,
    /// Whatever else is to be known of it.
    pub metadata: BTreeMap<String, String>,
}

/// An instance as its znode says it.
#[derive(Deserialize, Serialize)]
struct Entry {
    address: String,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    weight: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}

fn is_one(weight: &u32) -> bool {
    *weight == 1
}

impl Instance {
    /// An instance of weight 1 without metadata.
    pub fn new(id: impl Into<String>, address: impl Into<String>) -> Instance {
        let (id, address, metadata) = (id.into(), address.into(), BTreeMap::new());
        Instance { id, address, weight: 1, metadata }
    }

    /// With that weight.
    pub fn with_weight(self, weight: u32) -> Instance {
        Instance { weight, ..self }
    }

    /// With one more piece of metadata.
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Instance {
        self.metadata.insert(key.into(), value.into());
        self
    }

    fn encode(&self) -> Result<Vec<u8>, ClientError> {
        let Instance { address, weight, metadata, .. } = self.clone();
        let entry = serde_json::to_vec(&Entry { address, weight, metadata });
        entry.map_err(|error| ClientError::invalid("instance", &self.id, error.to_string()))
    }

    /// What a member says of itself; `None`, and told of, if it is no instance: it must not hide the
    /// others.
    fn of(member: &Member) -> Option<Instance> {
        match serde_json::from_slice(&member.metadata) {
            Ok(Entry { address, weight, metadata }) => {
                Some(Instance { id: member.name.clone(), address, weight, metadata })
            }
            Err(error) => {
                warn!(id = member.name, %error, "passed over what is no instance");
                None
            }
        }
    }
}

impl Discovery {
    /// The services below `base`. Nothing is sent yet; the znodes are made (as containers) by the first
    /// instance.
    ///
    /// # Errors
    /// [`Error::Client`] if the path is not valid.
    pub fn new(client: &Client, base: impl IntoPath) -> Result<Discovery, Error> {
        Ok(Discovery { client: client.clone(), base: base.into_path()? })
    }

    fn group(&self, service: &str) -> Result<Group, Error> {
        if service.is_empty() {
            let rule = "a service's name is one part of a path: not empty, and without /";
            return Err(ClientError::invalid("service", service, rule).into());
        }
        Group::new(&self.client, self.base.join(service)?)
    }

    /// Registers an instance and keeps it registered: in each new session, and after others have deleted
    /// or overwritten it. However often that fails, it is tried again, until the registration is dropped
    /// or withdrawn.
    ///
    /// An instance that was registered under the same id, by this process before it was restarted most
    /// likely, is replaced at once in what others see.
    ///
    /// # Errors
    /// [`Error::Client`] when the service, the id or the instance is not valid. All else is told by the
    /// registration's state.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub fn register(&self, service: &str, instance: &Instance) -> Result<Registration, Error> {
        let node = self.group(service)?.join_standing(&instance.id, instance.encode()?)?;
        Ok(Registration { node, id: instance.id.clone() })
    }

    /// The instances of a service now, by id.
    ///
    /// # Errors
    /// [`Error::Client`].
    pub async fn instances(&self, service: &str) -> Result<Vec<Instance>, Error> {
        let members = self.group(service)?.members().await?;
        Ok(members.iter().filter_map(Instance::of).collect())
    }

    /// What picks among the instances of a service; choose how, then open it.
    pub fn provider(&self, service: &str) -> ProviderBuilder {
        ProviderBuilder::new(self.client.clone(), self.group(service))
    }
}

/// An instance that is kept registered, by a task that ends with this handle.
///
/// **Dropping** it withdraws the instance in the background, and needs no runtime;
/// [`withdraw`](Registration::withdraw) waits for it. **On session loss** the instance is gone with the
/// session, and registered anew in the next.
#[must_use = "a registration that is dropped is withdrawn"]
#[derive(Debug)]
pub struct Registration {
    node: PersistentNode,
    id: String,
}

impl Registration {
    /// The instance's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How it stands now. It neither waits nor asks.
    pub fn state(&self) -> NodeState {
        self.node.state()
    }

    /// How it stands, as a stream; see [`PersistentNode::states`].
    pub fn states(&self) -> impl Stream<Item = NodeState> + Send + Unpin + 'static {
        self.node.states()
    }

    /// Waits until the instance is registered, as it was described last.
    ///
    /// It waits as long as something keeps it away: use a timeout. Cancelling it changes nothing.
    ///
    /// # Errors
    /// [`Error::Client`] when the client is closed.
    pub async fn registered(&self) -> Result<(), Error> {
        self.node.present().await.map(drop)
    }

    /// Describes the instance anew, and waits until that is written.
    ///
    /// Cancelling it leaves the writing to the background.
    ///
    /// # Errors
    /// [`Error::Client`] when the instance has another id or is not valid, or the client is closed.
    pub async fn update(&self, instance: &Instance) -> Result<(), Error> {
        if instance.id != self.id {
            let rule = format!("the registration is of {:?}", self.id);
            return Err(ClientError::invalid("instance", &instance.id, rule).into());
        }
        self.node.update(instance.encode()?).await
    }

    /// Withdraws the instance, and waits until that is confirmed.
    ///
    /// Cancelling it leaves that to the background.
    ///
    /// # Errors
    /// What the deletion was refused with.
    pub async fn withdraw(self) -> Result<Released, Error> {
        self.node.remove().await
    }
}
