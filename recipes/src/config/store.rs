//! The versions of a configuration, without following it: for whoever publishes, compares and
//! rolls out.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use synod_core::client::Client;
use synod_core::model::{Acl, Code, Error as ClientError, Path, Stat, Zxid};

use super::chunks;
use super::fault::Fault;
use super::layer::{Layer, Layers, Parsed, Viewpoint};
use super::pointer::{Places, Pointer, Rollout};
use super::record::{Document, Header};
use crate::error::Error;
use crate::znodes::persist;

/// What a value is held to, beside being of its type.
pub(crate) type Check<T> = Arc<dyn Fn(&T) -> Result<(), String> + Send + Sync>;

/// The versions of a configuration: published, listed, compared, rolled out, brought back.
///
/// Cheap to clone. It holds nothing and follows nothing: each call asks the coordinator, over the
/// session of the moment. A [`Config`](super::Config) is one too. Made by
/// [`Open::store`](super::Open::store).
pub struct ConfigStore<T> {
    pub(crate) inner: Arc<Inner<T>>,
}

pub(crate) struct Inner<T> {
    pub(crate) client: Client,
    pub(crate) places: Places,
    pub(crate) defaults: Option<Parsed>,
    pub(crate) check: Option<Check<T>>,
    /// How many versions are kept.
    pub(crate) keep: usize,
    /// Of the znodes that publishers make.
    pub(crate) acl: Vec<Acl>,
}

impl<T> Clone for ConfigStore<T> {
    fn clone(&self) -> ConfigStore<T> {
        ConfigStore { inner: Arc::clone(&self.inner) }
    }
}

impl<T> std::fmt::Debug for ConfigStore<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigStore").field("path", self.path()).finish_non_exhaustive()
    }
}

/// One version, as the history tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number: 1 is the first.
    pub version: u64,
    /// Who published it, in their own words.
    pub author: String,
    /// Why, in their own words.
    pub reason: String,
    /// The version that it brought back, if it came by a rollback.
    pub restores: Option<u64>,
    /// The layers that it holds.
    pub layers: Vec<Layer>,
    /// Its size, in bytes.
    pub bytes: usize,
    /// The zxid of its publication.
    pub zxid: Zxid,
    /// When it was published, in milliseconds since the Unix epoch, by the coordinator's clock.
    pub published_ms: i64,
}

/// Which version applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The version that applies to everybody who is not in a roll-out.
    pub current: u64,
    /// The highest version that there has ever been.
    pub last: u64,
    /// The roll-out that is under way.
    pub rollout: Option<Rollout>,
}

/// A version as it was read.
pub(crate) struct Stored {
    pub(crate) version: u64,
    pub(crate) stat: Stat,
    pub(crate) document: Document,
}

/// Why a version could not be read.
#[derive(Debug)]
pub(crate) enum Unreadable {
    Client(ClientError),
    Fault(Fault),
}

impl From<ClientError> for Unreadable {
    fn from(error: ClientError) -> Unreadable {
        Unreadable::Client(error)
    }
}

impl From<Fault> for Unreadable {
    fn from(fault: Fault) -> Unreadable {
        Unreadable::Fault(fault)
    }
}

/// Reads a version; `None` if it is not there, or goes while it is read.
pub(crate) async fn load(
    client: &Client,
    places: &Places,
    version: u64,
) -> Result<Option<Stored>, Unreadable> {
    let (data, stat) = match client.get(places.version(version)?).await {
        Err(error) if error.is(Code::NoNode) => return Ok(None),
        read => read?,
    };
    let (header, body) = Header::split(&data)?;
    let document = match &header.chunks {
        None => Document::decode(&header, body)?,
        Some(set) => match chunks::read(client, places, set, header.body_bytes()).await? {
            Some(body) => Document::decode(&header, &body)?,
            None => return Ok(None),
        },
    };
    Ok(Some(Stored { version, stat, document }))
}

impl<T> ConfigStore<T> {
    /// The configuration's znode.
    pub fn path(&self) -> &Path {
        &self.inner.places.root
    }

    pub(crate) fn bad(&self, version: u64, zxid: Zxid, fault: Fault) -> Error {
        Error::BadValue { path: self.path().clone(), version, zxid, fault: Box::new(fault) }
    }

    /// The pointer and its Stat; `None` if there is no znode.
    pub(crate) async fn pointer(&self, client: &Client) -> Result<Option<(Pointer, Stat)>, Error> {
        match persist!(client.get(self.path())) {
            Err(error) if error.is(Code::NoNode) => Ok(None),
            read => {
                let (data, stat) = read?;
                let pointer = Pointer::decode(&data);
                Ok(Some((pointer.map_err(|fault| self.bad(0, stat.mzxid, fault))?, stat)))
            }
        }
    }

    /// The pointer; an error before the first version.
    pub(crate) async fn published(&self, client: &Client) -> Result<(Pointer, Stat), Error> {
        let unpublished = || Error::Unpublished { path: self.path().clone() };
        let found = self.pointer(client).await?;
        found.filter(|(pointer, _)| pointer.last > 0).ok_or_else(unpublished)
    }

    /// A version that has to be in the history.
    pub(crate) async fn stored(&self, client: &Client, version: u64) -> Result<Stored, Error> {
        loop {
            match load(client, &self.inner.places, version).await {
                Ok(Some(stored)) => return Ok(stored),
                Ok(None) => {
                    let rule = format!("version {version} must be in the history");
                    return Err(self.inner.places.conflict(rule));
                }
                Err(Unreadable::Client(ClientError::ConnectionLost { .. })) => {}
                Err(Unreadable::Client(error)) => return Err(error.into()),
                Err(Unreadable::Fault(fault)) => return Err(self.bad(version, Zxid::ZERO, fault)),
            }
        }
    }

    /// The numbers of the versions that are kept, in order. They change only together with the
    /// pointer.
    pub(crate) async fn kept(&self, client: &Client) -> Result<Vec<u64>, Error> {
        let names = match persist!(client.children(&self.inner.places.versions)) {
            Err(error) if error.is(Code::NoNode) => Vec::new(),
            names => names?,
        };
        let mut kept: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
        kept.sort_unstable();
        Ok(kept)
    }

    /// Which version applies now, and what is being rolled out.
    ///
    /// # Errors
    /// [`Error::Unpublished`]; [`Error::BadValue`] if the znode is not a configuration's;
    /// [`Error::Client`].
    pub async fn status(&self) -> Result<Status, Error> {
        let client = self.inner.client.pin().await?;
        let (Pointer { current, last, rollout, .. }, _) = self.published(&client).await?;
        Ok(Status { current, last, rollout })
    }

    /// The versions that are kept, newest first. Each is read, one after the other; one that goes
    /// in the meantime is left out.
    ///
    /// # Errors
    /// [`Error::Client`]; [`Error::BadValue`] for a version that is damaged.
    pub async fn history(&self) -> Result<Vec<Record>, Error> {
        let client = self.inner.client.pin().await?;
        let mut records = Vec::new();
        for version in self.kept(&client).await?.into_iter().rev() {
            let (data, stat) = match persist!(client.get(self.inner.places.version(version)?)) {
                Err(error) if error.is(Code::NoNode) => continue,
                read => read?,
            };
            let header = Header::split(&data).map_err(|fault| self.bad(version, stat.czxid, fault));
            let (header, _) = header?;
            records.push(Record {
                version,
                layers: header.layers(),
                bytes: header.body_bytes(),
                author: header.about.author,
                reason: header.about.reason,
                restores: header.about.restores,
                zxid: stat.czxid,
                published_ms: stat.ctime_ms,
            });
        }
        Ok(records)
    }

    fn defaults(&self) -> &[Parsed] {
        self.inner.defaults.as_slice()
    }
}

impl<T: DeserializeOwned> ConfigStore<T> {
    /// The layers of a document that matter to one of them: those below it, and itself.
    pub(crate) fn beside(&self, document: &Document, layer: &Layer) -> Result<Layers, Fault> {
        let viewpoint = match layer {
            Layer::Group(name) => Viewpoint { group: Some(name.clone()), instance: None },
            Layer::Instance(name) => Viewpoint { group: None, instance: Some(name.clone()) },
            _ => Viewpoint::default(),
        };
        document.seen_from(&viewpoint, self.defaults())
    }

    /// The value that layers come to, held to the rules.
    pub(crate) fn checked(&self, layers: &Layers) -> Result<T, Fault> {
        let value = layers.read()?;
        if let Some(check) = &self.inner.check {
            check(&value).map_err(Fault::whole)?;
        }
        Ok(value)
    }

    /// Whether a document can be published, as far as it can be known here: each layer in `of` is
    /// held to the rules over what lies below it. What files say elsewhere is not known.
    pub(crate) fn examine<'a>(
        &self,
        document: &Document,
        of: impl IntoIterator<Item = &'a Layer>,
    ) -> Result<(), Fault> {
        for layer in of {
            match self.beside(document, layer).and_then(|layers| self.checked(&layers)) {
                Err(fault) if fault.layer.is_none() => {
                    return Err(Fault { layer: Some(layer.clone()), ..fault });
                }
                outcome => drop(outcome?),
            }
        }
        Ok(())
    }
}
