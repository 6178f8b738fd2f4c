//! The instances of a service as they are known here, and picks among them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, StreamExt};
use synod_core::client::Client;
use tokio::sync::watch as latest;
use tokio::task::JoinHandle;

use super::pick::Picker;
use super::{DownPolicy, Instance, Pick};
use crate::error::Error;
use crate::membership::{Group, GroupEvent, GroupWatch, Member};

/// Options of a [`Provider`]. Made by [`Discovery::provider`](super::Discovery::provider).
#[must_use = "a provider is opened by `open`"]
pub struct ProviderBuilder {
    client: Client,
    group: Result<Group, Error>,
    pick: Pick,
    down: DownPolicy,
}

impl ProviderBuilder {
    pub(super) fn new(client: Client, group: Result<Group, Error>) -> ProviderBuilder {
        ProviderBuilder { client, group, pick: Pick::default(), down: DownPolicy::default() }
    }

    /// How to pick; in turn, unless this says otherwise.
    pub fn pick(self, pick: Pick) -> ProviderBuilder {
        ProviderBuilder { pick, ..self }
    }

    /// When an instance that fails is passed over; see [`Provider::failed`].
    pub fn down(self, down: DownPolicy) -> ProviderBuilder {
        ProviderBuilder { down, ..self }
    }

    /// Reads the instances, and follows them from then on. There need not be any.
    ///
    /// Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::Client`] when the service's name is not valid, or the instances cannot be read.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub async fn open(self) -> Result<Provider, Error> {
        let ProviderBuilder { client, group, pick, down } = self;
        let group = group?;
        let members = group.members().await?;
        let view = View { instances: instances(members.iter()), certain: true };
        let (sender, view) = latest::channel(view);
        let picker = Arc::new(Mutex::new(Picker::new(pick, down)));
        let follower = follow(group.watch(), sender, Arc::clone(&picker));
        Ok(Provider { client, view, picker, follower: tokio::spawn(follower) })
    }
}

/// The instances of a service, kept up to date by a task that ends with this handle, and picks among
/// them.
///
/// It goes on over broken connections and expired sessions: while nobody can be reached, the instances
/// that were known last stay, since a service that is cut off from the coordinator is mostly not cut off
/// from its clients ([`is_certain`](Provider::is_certain) says which it is).
pub struct Provider {
    client: Client,
    view: latest::Receiver<View>,
    picker: Arc<Mutex<Picker>>,
    follower: JoinHandle<()>,
}

#[derive(Clone)]
struct View {
    instances: Arc<[Arc<Instance>]>,
    certain: bool,
}

impl Provider {
    /// The instances, by id. It neither waits nor asks.
    pub fn instances(&self) -> Arc<[Arc<Instance>]> {
        Arc::clone(&self.view.borrow().instances)
    }

    /// Whether the instances are those that the coordinator knows; `false` while it cannot be reached.
    pub fn is_certain(&self) -> bool {
        self.view.borrow().certain
    }

    /// The instances at present, and whenever they change: a stream. A reader that is slow sees the
    /// newest, and may miss what was between. It ends with this handle, or when the client is closed.
    pub fn changes(&self) -> impl Stream<Item = Arc<[Arc<Instance>]>> + Send + Unpin + 'static {
        let mut view = self.view.clone();
        view.mark_changed();
        let seen: Option<Arc<[Arc<Instance>]>> = None;
        Box::pin(futures::stream::unfold((view, seen), async |(mut view, seen)| {
            loop {
                view.changed().await.ok()?;
                let instances = Arc::clone(&view.borrow_and_update().instances);
                if seen.as_ref() != Some(&instances) {
                    return Some((Arc::clone(&instances), (view, Some(instances))));
                }
            }
        }))
    }

    /// One of the instances; `None` if there is none that can be picked. It neither waits nor asks.
    pub fn pick(&self) -> Option<Arc<Instance>> {
        let instances = self.instances();
        lock(&self.picker).pick(&instances, || self.client.random_id().as_u128())
    }

    /// Reports that an instance could not be reached, or did not do what it was asked for. Often enough,
    /// and it is passed over for a while, by this provider alone (see [`DownPolicy`]).
    pub fn failed(&self, instance: &Instance) {
        // Not of one that has gone meanwhile: nobody would take it out.
        let instances = self.instances();
        if instances.iter().any(|other| other.id == instance.id) {
            lock(&self.picker).failed(&instance.id);
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (instances, certain) = (self.instances(), self.is_certain());
        f.debug_struct("Provider")
            .field("instances", &instances)
            .field("certain", &certain)
            .finish()
    }
}

fn lock(picker: &Mutex<Picker>) -> MutexGuard<'_, Picker> {
    // Nothing below panics half way through a change.
    picker.lock().unwrap_or_else(PoisonError::into_inner)
}

fn instances<'a>(members: impl Iterator<Item = &'a Member>) -> Arc<[Arc<Instance>]> {
    members.filter_map(Instance::of).map(Arc::new).collect()
}

/// Until the client is closed or the task aborted.
async fn follow(mut watch: GroupWatch, view: latest::Sender<View>, picker: Arc<Mutex<Picker>>) {
    while let Some(event) = watch.next().await {
        match event {
            GroupEvent::Settled => {
                let instances = instances(watch.members());
                lock(&picker).retain(&instances);
                view.send_replace(View { instances, certain: true });
            }
            GroupEvent::Uncertain => view.send_modify(|view| view.certain = false),
            _ => {}
        }
    }
}
