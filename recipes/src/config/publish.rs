//! Publishing a version: compare-and-set on the pointer, in one transaction with the version.

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use synod_core::client::Client;
use synod_core::model::{Code, CreateMode, Error as ClientError, Path, Stat, Zxid};
use tracing::{info, warn};

use super::chunks::{self, Draft};
use super::format::Format;
use super::layer::{Layer, Parsed, patch};
use super::limits::{
    AUTHOR_BYTES_MAX, INLINE_BYTES_MAX, NAME_BYTES_MAX, PRUNED_MAX, PUBLISH_ATTEMPTS_MAX,
    REASON_BYTES_MAX, ROLLOUT_INSTANCES_MAX,
};
use super::pointer::{Pointer, Rollout};
use super::record::{About, Document, Header};
use super::store::{ConfigStore, Unreadable, load};
use crate::error::Error;
use crate::znodes::{make_parents, persist};

/// What must be so for a publication to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum If {
    /// Whatever is there.
    Any,
    /// Nothing has been published yet.
    Absent,
    /// That version applies.
    Version(u64),
}

/// A change of one layer.
enum Edit {
    Put(Layer, Format, Arc<str>),
    Patch(Layer, Value),
    Remove(Layer),
}

impl Edit {
    fn layer(&self) -> &Layer {
        match self {
            Edit::Put(layer, ..) | Edit::Patch(layer, _) | Edit::Remove(layer) => layer,
        }
    }
}

/// A version about to be published. Made by [`ConfigStore::publish`], [`ConfigStore::edit`] and
/// [`ConfigStore::rollback`]; done when awaited, which yields its number.
///
/// All its changes are published at once: a reader sees all of them or none. Before that it is
/// held to the type and the rules, each layer over what lies below it: those that it changes, and
/// those that were good before. What is refused is not published. (A layer that somebody else broke
/// keeps nobody from publishing others; and who takes a layer away says that nobody needs it.)
///
/// **Cancelling** it leaves it published or not, never half; chunks that were written are deleted
/// in the background, or by the next publisher. **If the session ends** before the answer it fails;
/// [`Error::maybe_applied`] says whether the version may be there all the same. A reply that is
/// lost with the connection is found out about.
///
/// # Errors
/// [`Error::Conflict`] when what was to be so is not, when a roll-out is under way, or when too
/// many others published meanwhile; [`Error::BadValue`] when the value is refused, or the present
/// version, which is changed, is damaged; [`Error::Client`] for an argument that breaks a rule, and
/// for requests that fail.
#[must_use = "a version is published when awaited"]
pub struct Publish<'a, T> {
    store: &'a ConfigStore<T>,
    condition: If,
    /// The version that is brought back; the changes are made to it.
    restores: Option<u64>,
    edits: Vec<Edit>,
    author: String,
    reason: String,
    rollout: Option<Rollout>,
    /// The first argument that broke a rule.
    invalid: Option<ClientError>,
}

impl<T> ConfigStore<T> {
    /// Publishes `value` for everybody (the layer [`Layer::Shared`]), if `condition` holds. The
    /// layers of groups and instances stay as they are.
    pub fn publish(&self, value: &T, condition: If) -> Publish<'_, T>
    where
        T: Serialize,
    {
        self.edit(condition).put(Layer::Shared, value)
    }

    /// Begins a version that changes what is published, if `condition` holds: any layers, in one
    /// step.
    pub fn edit(&self, condition: If) -> Publish<'_, T> {
        Publish {
            store: self,
            condition,
            restores: None,
            edits: Vec::new(),
            author: String::new(),
            reason: String::new(),
            rollout: None,
            invalid: None,
        }
    }

    /// Publishes all layers of version `to` again, as a new version. Changes that are added are
    /// made to those layers.
    pub fn rollback(&self, to: u64) -> Publish<'_, T> {
        let publish = self.edit(If::Any).reason(&format!("back to version {to}"));
        Publish { restores: Some(to), ..publish }
    }
}

impl<T> Publish<'_, T> {
    /// Who publishes, in their own words: at most 256 bytes.
    pub fn author(self, author: &str) -> Self {
        Publish { author: author.to_owned(), ..self }
    }

    /// Why, in their own words: at most 4,096 bytes.
    pub fn reason(self, reason: &str) -> Self {
        Publish { reason: reason.to_owned(), ..self }
    }

    /// Replaces a layer by a value: the whole configuration, or a part of its keys. It is written
    /// as JSON.
    pub fn put(mut self, layer: Layer, value: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.edits.push(Edit::Put(layer, Format::Json, text.into())),
            Err(error) => self.refuse(invalid_value(&layer, &error)),
        }
        self
    }

    /// Replaces a layer by a text, which is kept as it is written.
    pub fn text(mut self, layer: Layer, format: Format, text: &str) -> Self {
        self.edits.push(Edit::Put(layer, format, text.into()));
        self
    }

    /// Changes keys of a layer, by a value that holds just these (RFC 7396): `null` takes a key
    /// away. The layer is written as JSON from then on.
    pub fn patch(mut self, layer: Layer, keys: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_value(keys) {
            Ok(keys) => self.edits.push(Edit::Patch(layer, keys)),
            Err(error) => self.refuse(invalid_value(&layer, &error)),
        }
        self
    }

    /// Takes a layer away.
    pub fn remove(mut self, layer: Layer) -> Self {
        self.edits.push(Edit::Remove(layer));
        self
    }

    /// Only about so many of 100 instances run it at first (0 to 100), until it is
    /// [promoted](ConfigStore::promote) or [aborted](ConfigStore::abort). An instance without a
    /// name waits for the promotion.
    pub fn to_percent(mut self, percent: u8) -> Self {
        self.early().percent = percent;
        self
    }

    /// Only these instances run it at first; together with
    /// [`to_percent`](Publish::to_percent), these too.
    pub fn to_instances(mut self, instances: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.early().instances.extend(instances.into_iter().map(Into::into));
        self
    }

    fn early(&mut self) -> &mut Rollout {
        self.rollout.get_or_insert(Rollout { version: 0, percent: 0, instances: Vec::new() })
    }

    fn refuse(&mut self, error: ClientError) {
        self.invalid.get_or_insert(error);
    }

    /// What can be judged without a connection.
    fn judge(&self) -> Result<(), ClientError> {
        if let Some(error) = &self.invalid {
            return Err(error.clone());
        }
        if self.author.len() > AUTHOR_BYTES_MAX {
            let rule = format!("an author has at most {AUTHOR_BYTES_MAX} bytes");
            return Err(ClientError::invalid("author", &self.author, rule));
        }
        if self.reason.len() > REASON_BYTES_MAX {
            let rule = format!("a reason has at most {REASON_BYTES_MAX} bytes");
            return Err(ClientError::invalid("reason", &self.reason, rule));
        }
        if let Some(Rollout { percent, instances, .. }) = &self.rollout {
            judge_percent(*percent)?;
            if instances.len() > ROLLOUT_INSTANCES_MAX {
                let rule = format!("a roll-out names at most {ROLLOUT_INSTANCES_MAX} instances");
                return Err(ClientError::invalid("instances", instances.len(), rule));
            }
            instances.iter().try_for_each(|name| judge_name("instance", name))?;
        }
        for layer in self.edits.iter().map(Edit::layer) {
            match layer {
                Layer::Shared => {}
                Layer::Group(name) => judge_name("group", name)?,
                Layer::Instance(name) => judge_name("instance", name)?,
                _ => {
                    let rule = "only shared, group and instance layers are published";
                    return Err(ClientError::invalid("layer", layer, rule));
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn judge_percent(percent: u8) -> Result<(), ClientError> {
    match percent {
        0..=100 => Ok(()),
        _ => Err(ClientError::invalid("percentage", percent, "it is 0 to 100")),
    }
}

/// A name is a part of a path.
pub(crate) fn judge_name(of: &'static str, name: &str) -> Result<(), ClientError> {
    if name.len() > NAME_BYTES_MAX {
        let rule = format!("a name has at most {NAME_BYTES_MAX} bytes");
        return Err(ClientError::invalid(of, name, rule));
    }
    Path::root().join(name).map(drop)
}

/// A value that has no JSON; its text may hold a secret.
fn invalid_value(layer: &Layer, error: &serde_json::Error) -> ClientError {
    ClientError::invalid("value of layer", layer, format!("it can be written as JSON: {error}"))
}

impl<T: DeserializeOwned> Publish<'_, T> {
    async fn run(self) -> Result<u64, Error> {
        self.judge()?;
        let store = self.store;
        let client = store.inner.client.pin().await?;
        for _ in 0..PUBLISH_ATTEMPTS_MAX {
            let Some((pointer, stat)) = store.pointer(&client).await? else {
                self.make_places(&client).await?;
                continue;
            };
            self.may_follow(&pointer)?;
            let Some(base) = self.base(&client, &pointer).await? else { continue };
            let (document, changed) = self.edited(&base, &pointer)?;
            self.examine(&base, &document, changed, &pointer)?;
            if let Some(version) = self.commit(&client, pointer, &stat, &document).await? {
                // What it leaves behind does no harm, and the next one tries again.
                if let Err(error) = chunks::sweep(&client, &store.inner.places).await {
                    warn!(path = %store.path(), %error, "leftovers were not swept");
                }
                return Ok(version);
            }
        }
        let rule = format!("at most {PUBLISH_ATTEMPTS_MAX} others may publish meanwhile");
        Err(store.inner.places.conflict(rule))
    }

    /// Whether it may come after what is there.
    fn may_follow(&self, pointer: &Pointer) -> Result<(), Error> {
        let current = pointer.current;
        let rule = match self.condition {
            If::Absent if pointer.last > 0 => {
                format!("nothing must be published yet, but version {current} is")
            }
            If::Version(version) if version != current => {
                format!("version {version} must apply, but version {current} does")
            }
            _ => match &pointer.rollout {
                None => return Ok(()),
                Some(Rollout { version, .. }) => {
                    format!("no roll-out must be under way, but that of version {version} is")
                }
            },
        };
        Err(self.store.inner.places.conflict(rule))
    }

    /// The document to publish, and which of its layers are new.
    fn edited(
        &self,
        base: &Document,
        pointer: &Pointer,
    ) -> Result<(Document, BTreeSet<Layer>), Error> {
        let (mut document, mut changed) = (base.clone(), BTreeSet::new());
        if self.restores.is_some() {
            changed.extend(document.layers().cloned());
        }
        for edit in &self.edits {
            match edit {
                Edit::Put(layer, format, text) => {
                    document.put(layer.clone(), *format, Arc::clone(text));
                    changed.insert(layer.clone());
                }
                Edit::Patch(layer, keys) => {
                    let before = document.parsed(layer).transpose().map_err(|fault| {
                        let base = self.restores.unwrap_or(pointer.current);
                        self.store.bad(base, Zxid::ZERO, fault)
                    })?;
                    let mut after = before.map_or(Value::Null, Parsed::into_value);
                    patch(&mut after, keys);
                    let text = serde_json::to_string_pretty(&after);
                    let text = text.map_err(|error| invalid_value(layer, &error))?;
                    document.put(layer.clone(), Format::Json, text.into());
                    changed.insert(layer.clone());
                }
                Edit::Remove(layer) => {
                    document.remove(layer);
                    changed.remove(layer);
                }
            }
        }
        Ok((document, changed))
    }

    /// What the changes are made to: the version that is brought back, or else the one that
    /// applies; `None` if that one has gone meanwhile.
    async fn base(&self, client: &Client, pointer: &Pointer) -> Result<Option<Document>, Error> {
        let store = self.store;
        if let Some(to) = self.restores {
            return Ok(Some(store.stored(client, to).await?.document));
        }
        if pointer.current == 0 {
            return Ok(Some(Document::default()));
        }
        match load(client, &store.inner.places, pointer.current).await {
            Ok(stored) => Ok(stored.map(|stored| stored.document)),
            Err(Unreadable::Client(ClientError::ConnectionLost { .. })) => Ok(None),
            Err(Unreadable::Client(error)) => Err(error.into()),
            Err(Unreadable::Fault(fault)) => Err(store.bad(pointer.current, Zxid::ZERO, fault)),
        }
    }

    fn examine(
        &self,
        base: &Document,
        document: &Document,
        mut held: BTreeSet<Layer>,
        pointer: &Pointer,
    ) -> Result<(), Error> {
        let version = pointer.last + 1;
        if document.is_empty() {
            let rule = "a version has at least one layer";
            return Err(ClientError::invalid("version", version, rule).into());
        }
        if let Some(rule) = document.too_large() {
            return Err(ClientError::invalid("version", version, rule).into());
        }
        // It is the one layer that others lie over.
        if base.text(&Layer::Shared) != document.text(&Layer::Shared) {
            let good = |layer: &&Layer| self.store.examine(base, [*layer]).is_ok();
            let kept = base.layers().filter(|layer| document.text(layer).is_some());
            held.extend(kept.filter(good).cloned());
        }
        let examined = self.store.examine(document, &held);
        examined.map_err(|fault| self.store.bad(version, Zxid::ZERO, fault))
    }

    /// Makes the znodes that every configuration has. It is the first publisher's, or somebody
    /// else's, who was faster.
    async fn make_places(&self, client: &Client) -> Result<(), Error> {
        let (places, acl) = (&self.store.inner.places, &self.store.inner.acl);
        make_parents(client, &places.root).await?;
        let mode = CreateMode::Persistent;
        let made = persist!({
            let nothing = Pointer::unpublished().encode();
            let mut txn = client.txn().create_as(&places.root, nothing, mode, acl.clone());
            for place in [&places.versions, &places.chunks] {
                txn = txn.create_as(place, b"", mode, acl.clone());
            }
            // Every instance may report, whoever may publish.
            txn.create(&places.reports, b"").commit()
        });
        match made {
            // A container above it was reaped in between, or somebody was faster.
            Err(error) if !error.is(Code::NoNode) && !error.is(Code::NodeExists) => {
                Err(error.into())
            }
            _ => Ok(()),
        }
    }

    /// Publishes a document, if the pointer is still as it was; `None` if it is not.
    async fn commit(
        &self,
        client: &Client,
        mut pointer: Pointer,
        stat: &Stat,
        document: &Document,
    ) -> Result<Option<u64>, Error> {
        let inner = &self.store.inner;
        let version = pointer.last + 1;
        let (author, reason) = (self.author.clone(), self.reason.clone());
        let id = client.random_id().simple().to_string();
        let about = About { id: id.clone(), author, reason, restores: self.restores };
        let (mut header, mut body) = document.encode(about);
        let mut draft = None;
        if body.len() > INLINE_BYTES_MAX {
            let written = Draft::upload(client, &inner.places, &inner.acl, &body).await?;
            pointer.chunked.insert(version, written.chunk_set().set);
            header.chunks = Some(written.chunk_set());
            draft = Some(written);
            body.clear();
        }
        pointer.last = version;
        match &self.rollout {
            Some(early) => pointer.rollout = Some(Rollout { version, ..early.clone() }),
            None => pointer.current = version,
        }
        let pruned = self.pruned(client, &pointer).await?;
        pruned.iter().for_each(|old| drop(pointer.chunked.remove(old)));

        let (path, mode) = (inner.places.version(version)?, CreateMode::Persistent);
        let data = [header.line(), body].concat();
        let mut txn = client.txn().set_at(&inner.places.root, pointer.encode(), stat.version);
        txn = txn.create_as(&path, data, mode, inner.acl.clone());
        if let Some(draft) = &draft {
            txn = txn.delete(draft.owner()?);
        }
        for old in pruned {
            txn = txn.delete(inner.places.version(old)?);
        }
        let done = match txn.commit().await {
            Ok(_) => true,
            Err(error @ ClientError::ConnectionLost { maybe_applied: true, .. }) => {
                self.settle(client, version, &id, error).await.map_err(Error::in_doubt)?
            }
            // Somebody else published, or swept, or the znode is gone.
            Err(error)
                if [Code::BadVersion, Code::NodeExists, Code::NoNode]
                    .iter()
                    .any(|code| error.is(*code))
                    || matches!(error, ClientError::ConnectionLost { .. }) =>
            {
                false
            }
            Err(error) => return Err(error.into()),
        };
        if !done {
            return Ok(None);
        }
        draft.into_iter().for_each(Draft::published);
        info!(path = %inner.places.root, version, author = %self.author, "published");
        Ok(Some(version))
    }

    /// The versions to delete: the oldest, but none that is in use.
    async fn pruned(&self, client: &Client, pointer: &Pointer) -> Result<Vec<u64>, Error> {
        let mut kept = self.store.kept(client).await?;
        let over = (kept.len() + 1).saturating_sub(self.store.inner.keep).min(PRUNED_MAX);
        kept.retain(|version| !pointer.uses(*version));
        kept.truncate(over);
        Ok(kept)
    }

    /// Whether a publication was done whose reply was lost. Behind a sync, on the same session,
    /// the answer is final: what was sent before has been done by now or never will be.
    async fn settle(
        &self,
        client: &Client,
        version: u64,
        id: &str,
        lost: ClientError,
    ) -> Result<bool, Error> {
        persist!(client.sync())?;
        match persist!(client.get(self.store.inner.places.version(version)?)) {
            Ok((data, _)) => {
                Ok(Header::split(&data).is_ok_and(|(header, _)| header.about.id == id))
            }
            Err(error) if error.is(Code::NoNode) => {
                let pointer = self.store.pointer(client).await?;
                match pointer.is_some_and(|(pointer, _)| pointer.last >= version) {
                    // It has been there and is deleted by now: whose it was is not known.
                    true => Err(lost.into()),
                    false => Ok(false),
                }
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl<'a, T: DeserializeOwned> IntoFuture for Publish<'a, T> {
    type Output = Result<u64, Error>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
