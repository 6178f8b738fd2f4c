//! How a configuration is opened.

use std::future::IntoFuture;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use synod_core::client::{Client, IntoPath};
use synod_core::model::{Acl, Error as ClientError, Path, Zxid};
use tracing::warn;

use super::disk::Copy;
use super::fault::Fault;
use super::follow::{Begun, Follower};
use super::format::Format;
use super::layer::{Layer, Parsed, Viewpoint};
use super::limits::{HISTORY, HISTORY_MAX, VALUE_BYTES_MAX};
use super::pointer::Places;
use super::publish::judge_name;
use super::store::{Check, ConfigStore, Inner};
use super::{Config, Origin};
use crate::error::Error;

/// How long a start waits for the coordinator before it takes the disk copy, unless it is told
/// otherwise.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a rule says of a value: `true` or `Ok` if it holds. The reason of an `Err` is shown in
/// errors, logs and reports: it should name no secret.
pub trait Verdict {
    /// The rule holds, or why it does not.
    fn into_result(self) -> Result<(), String>;
}

impl Verdict for bool {
    fn into_result(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("the rule that it is held to does not hold".to_owned()) }
    }
}

impl<E: std::fmt::Display> Verdict for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        self.map_err(|reason| reason.to_string())
    }
}

/// A configuration about to be opened. Made by [`Config::open`].
///
/// Awaited, it reads the value and follows it from then on. [`store`](Open::store) opens it for
/// publishing only.
///
/// **Cancelling** it leaves nothing behind.
///
/// # Errors
/// [`Error::Unpublished`] when nothing is published, and neither defaults nor a file say anything;
/// [`Error::BadValue`] when what there is makes no valid value: a service does not start on a
/// configuration that it does not understand; [`Error::Client`] when it cannot be read, or an
/// argument breaks a rule. With a disk copy that can be taken instead, none of these.
///
/// # Panics
/// Outside of a tokio runtime with time.
#[must_use = "a configuration is opened when awaited"]
pub struct Open<T> {
    client: Client,
    path: Result<Path, ClientError>,
    defaults: Option<Parsed>,
    file: Option<PathBuf>,
    viewpoint: Viewpoint,
    check: Option<Check<T>>,
    keep: usize,
    acl: Vec<Acl>,
    disk_copy: Option<PathBuf>,
    patience: Duration,
    /// The first argument that broke a rule.
    invalid: Option<ClientError>,
}

impl<T> Open<T> {
    pub(super) fn new(client: &Client, path: impl IntoPath) -> Open<T> {
        Open {
            client: client.clone(),
            path: path.into_path(),
            defaults: None,
            file: None,
            viewpoint: Viewpoint::default(),
            check: None,
            keep: HISTORY,
            acl: Acl::open(),
            disk_copy: None,
            patience: PATIENCE,
            invalid: None,
        }
    }

    /// Holds every value to a rule, beside being of the type: before it is published, and before
    /// it is taken. `rule` gives a `bool`, or a `Result` whose error says what is wrong.
    pub fn validate<V: Verdict>(self, rule: impl Fn(&T) -> V + Send + Sync + 'static) -> Self {
        Open { check: Some(Arc::new(move |value| rule(value).into_result())), ..self }
    }

    /// The lowest layer: keys that nobody else gives are taken from here. A whole value, or some
    /// of its keys.
    pub fn defaults(mut self, values: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_value(values) {
            Ok(values) => self.defaults = Some(Parsed::defaults(values)),
            Err(error) => {
                let rule = format!("they can be written as JSON: {error}");
                self.invalid = Some(ClientError::invalid("defaults", "", rule));
            }
        }
        self
    }

    /// The layer above the defaults: a file on this machine, whose extension says its format
    /// (`json`; `toml`, `yaml` and `yml` with the features of these names). It is read once, now.
    pub fn file(self, file: impl AsRef<FilePath>) -> Self {
        Open { file: Some(file.as_ref().to_owned()), ..self }
    }

    /// Takes the layer that is published for this group, too.
    pub fn group(mut self, name: &str) -> Self {
        self.judge_name("group", name);
        self.viewpoint.group = Some(name.to_owned());
        self
    }

    /// The name of this instance, by which it takes the layer that is published for it, takes part
    /// in roll-outs and reports which version it runs. No two that run at a time should have the
    /// same.
    pub fn instance(mut self, name: &str) -> Self {
        self.judge_name("instance", name);
        self.viewpoint.instance = Some(name.to_owned());
        self
    }

    /// How many versions a publication leaves in the history (1 to 100; 20 by default), beside
    /// those that are in use.
    pub fn keep(mut self, versions: usize) -> Self {
        self.keep = versions;
        if !(1..=HISTORY_MAX).contains(&versions) {
            let rule = format!("it is 1 to {HISTORY_MAX}");
            self.invalid = Some(ClientError::invalid("number of versions", versions, rule));
        }
        self
    }

    /// Who may do what with the znodes that a publication makes; everybody everything by default.
    /// Instances must be able to read them.
    pub fn acl(self, acl: Vec<Acl>) -> Self {
        Open { acl, ..self }
    }

    /// Keeps a copy of the last good version in this file, and starts from it when there is none
    /// to be had from the coordinator: it cannot be reached (see also
    /// [`connect_in_background`](synod_core::client::ClientBuilder::connect_in_background)), nothing
    /// is published any more, or what is published is not valid. The file belongs to one process;
    /// its folder must be there. It is replaced in one step, only its owner may read it, and it is
    /// checked when it is read. Secrets lie in it as they are.
    pub fn disk_copy(self, file: impl AsRef<FilePath>) -> Self {
        Open { disk_copy: Some(file.as_ref().to_owned()), ..self }
    }

    /// How long to wait for the coordinator before the disk copy is taken (5 s by default).
    pub fn patience(self, patience: Duration) -> Self {
        Open { patience, ..self }
    }

    fn judge_name(&mut self, of: &'static str, name: &str) {
        if let Err(error) = judge_name(of, name) {
            self.invalid = Some(error);
        }
    }

    /// Opens it for publishing, comparing and rolling out, without reading anything now.
    ///
    /// # Errors
    /// [`Error::Client`] for an argument that breaks a rule.
    pub fn store(self) -> Result<ConfigStore<T>, Error> {
        match self.invalid {
            Some(error) => Err(error.into()),
            None => {
                let (client, places) = (self.client, Places::new(self.path?)?);
                let Open { defaults, check, keep, acl, .. } = self;
                let inner = Inner { client, places, defaults, check, keep, acl };
                Ok(ConfigStore { inner: Arc::new(inner) })
            }
        }
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Open<T> {
    async fn run(mut self) -> Result<Config<T>, Error> {
        let (file, disk_copy) = (self.file.take(), self.disk_copy.take());
        let (viewpoint, patience) = (std::mem::take(&mut self.viewpoint), self.patience);
        let store = self.store()?;
        let mut local: Vec<Parsed> = store.inner.defaults.iter().cloned().collect();
        if let Some(file) = file {
            let read = blocking(move || read_file(&file)).await;
            local.push(read.map_err(|fault| store.bad(0, Zxid::ZERO, fault))?);
        }
        let follower = Follower::new(store, viewpoint, local, disk_copy);
        let begun = match &follower.disk_copy {
            None => follower.begin().await?,
            Some(file) => {
                let tried = tokio::time::timeout(patience, follower.begin_in_any_session()).await;
                let waited =
                    || Error::TimedOut { path: follower.store.path().clone(), waited: patience };
                match tried.unwrap_or_else(|_| Err(waited())) {
                    Ok(begun) => begun,
                    Err(error) => follower.begin_from(file.clone(), error).await?,
                }
            }
        };
        Ok(follower.start(begun))
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Follower<T> {
    /// Starts from the disk copy, since it cannot start from the coordinator.
    async fn begin_from(&self, file: PathBuf, why: Error) -> Result<Begun<T>, Error> {
        let path = self.store.path().clone();
        let copy = blocking({
            let file = file.clone();
            move || Copy::read(&path, &file)
        });
        let (path, shown) = (self.store.path(), file.display());
        let value = match copy.await {
            Err(reason) => {
                warn!(%path, file = %shown, reason, "there is no disk copy to start from");
                return Err(why);
            }
            Ok(Copy { version, zxid, document }) => {
                self.value(&document, version, zxid, Origin::Disk)
            }
        };
        match value {
            Ok(value) => {
                let version = value.version;
                warn!(%path, version, file = %shown, %why, "started from the disk copy");
                Ok(Begun::unseen(value))
            }
            Err(fault) => {
                warn!(%path, file = %shown, %fault, "the disk copy is not valid");
                Err(why)
            }
        }
    }
}

/// Reads the file layer.
fn read_file(file: &FilePath) -> Result<Parsed, Fault> {
    let fault = |reason: &str| Fault::of(&Layer::File, format!("{}: {reason}", file.display()));
    let format = Format::of_file(file).ok_or_else(|| {
        fault("the extension of a configuration's file is json, toml, yaml or yml")
    })?;
    let text = std::fs::read_to_string(file).map_err(|error| fault(&error.to_string()))?;
    if text.len() > VALUE_BYTES_MAX {
        return Err(fault(&format!("it has more than {VALUE_BYTES_MAX} bytes")));
    }
    Parsed::new(Layer::File, format, text.into())
}

/// Does what waits for a disk, where that holds up nobody else.
pub(super) async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shut down, and this with it.
            Err(_) => std::future::pending().await,
        },
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> IntoFuture for Open<T> {
    type Output = Result<Config<T>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<T> Config<T> {
    /// Opens the configuration at `path`: await it to follow it, after options.
    pub fn open(client: &Client, path: impl IntoPath) -> Open<T> {
        Open::new(client, path)
    }
}
