//! What changes the tree.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::{check_acl, check_mode, check_version, unexpected};
use crate::client::Client;
use crate::client::session::Subject;
use crate::model::{Acl, Create, CreateMode, Error, Op, Path, Request, Response, Stat, Write};

#[derive(Clone, Copy)]
pub(super) enum Lifetime {
    Persistent,
    Ephemeral,
    Container,
    Ttl(Duration),
}

/// See [`Client::create`]. Yields the path, with the suffix if it is sequential.
#[must_use = "a request does nothing until awaited"]
pub struct CreateZnode<'a> {
    pub(super) client: &'a Client,
    pub(super) path: Result<Arc<str>, Error>,
    pub(super) data: Result<Bytes, Error>,
    pub(super) lifetime: Lifetime,
    pub(super) sequential: bool,
    pub(super) acl: Vec<Acl>,
}

impl<'a> CreateZnode<'a> {
    /// It dies with the session, and can have no children.
    pub fn ephemeral(self) -> Self {
        CreateZnode { lifetime: Lifetime::Ephemeral, ..self }
    }

    /// The name gets a suffix of ten digits that grows with each child of the parent.
    pub fn sequential(self) -> Self {
        CreateZnode { sequential: true, ..self }
    }

    /// The coordinator deletes it some time after its last child has gone.
    pub fn container(self) -> Self {
        CreateZnode { lifetime: Lifetime::Container, ..self }
    }

    /// The coordinator deletes it when it has no children and its data was not set for `ttl` (1
    /// ms to 2^40 − 1 ms).
    pub fn ttl(self, ttl: Duration) -> Self {
        CreateZnode { lifetime: Lifetime::Ttl(ttl), ..self }
    }

    /// Who may do what with it.
    pub fn acl(self, acl: Vec<Acl>) -> Self {
        CreateZnode { acl, ..self }
    }

    fn mode(&self) -> Result<CreateMode, Error> {
        let mode = match (self.lifetime, self.sequential) {
            (Lifetime::Persistent, false) => CreateMode::Persistent,
            (Lifetime::Persistent, true) => CreateMode::PersistentSequential,
            (Lifetime::Ephemeral, false) => CreateMode::Ephemeral,
            (Lifetime::Ephemeral, true) => CreateMode::EphemeralSequential,
            (Lifetime::Container, false) => CreateMode::Container,
            (Lifetime::Container, true) => {
                let rule = "a container has no sequence suffix";
                return Err(Error::invalid("create mode", "container, sequential", rule));
            }
            (Lifetime::Ttl(ttl), sequential) => {
                let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
                match sequential {
                    false => CreateMode::Ttl { ttl_ms },
                    true => CreateMode::TtlSequential { ttl_ms },
                }
            }
        };
        check_mode(mode)
    }

    /// Yields the Stat too. Its `czxid` is the fencing token of the znode.
    ///
    /// # Errors
    /// As awaiting the builder.
    pub async fn with_stat(self) -> Result<(Path, Stat), Error> {
        let mode = self.mode()?;
        let (path, data, acl) = (self.path?, self.data?, check_acl(self.acl)?);
        let subject = Subject::new("create", &path);
        let path = self.client.stem(path, mode);
        let op = Op::Create(Create { path, data: Some(data), acl, mode });
        match self.client.call(Request::Write(Write::Op(op)), subject).await?.0 {
            Response::Created { path, stat } => Ok((self.client.relative(&path)?, stat)),
            other => Err(unexpected("create", &other)),
        }
    }

    async fn run(self) -> Result<Path, Error> {
        self.with_stat().await.map(|(path, _)| path)
    }
}
awaited!(CreateZnode => Path);

/// See [`Client::set`]. Yields the Stat after the change.
#[must_use = "a request does nothing until awaited"]
pub struct Set<'a> {
    pub(super) client: &'a Client,
    pub(super) path: Result<Arc<str>, Error>,
    pub(super) data: Result<Bytes, Error>,
    pub(super) version: i32,
}

impl Set<'_> {
    /// Only if the znode has this version (−1: any).
    pub fn version(self, version: i32) -> Self {
        Set { version, ..self }
    }

    async fn run(self) -> Result<Stat, Error> {
        let (path, data, version) = (self.path?, self.data?, check_version(self.version)?);
        let subject = Subject::at("set", &path, version);
        let op = Op::SetData { path, data: Some(data), version };
        match self.client.call(Request::Write(Write::Op(op)), subject).await?.0 {
            Response::Stat(stat) => Ok(stat),
            other => Err(unexpected("set", &other)),
        }
    }
}
awaited!(Set => Stat);

/// See [`Client::delete`].
#[must_use = "a request does nothing until awaited"]
pub struct Delete<'a> {
    pub(super) client: &'a Client,
    pub(super) path: Result<Arc<str>, Error>,
    pub(super) version: i32,
}

impl Delete<'_> {
    /// Only if the znode has this version (−1: any).
    pub fn version(self, version: i32) -> Self {
        Delete { version, ..self }
    }

    async fn run(self) -> Result<(), Error> {
        let (path, version) = (self.path?, check_version(self.version)?);
        let subject = Subject::at("delete", &path, version);
        let op = Op::Delete { path, version };
        self.client.call(Request::Write(Write::Op(op)), subject).await.map(drop)
    }
}
awaited!(Delete => ());

/// See [`Client::set_acl`]. Yields the Stat after the change.
#[must_use = "a request does nothing until awaited"]
pub struct SetAcl<'a> {
    pub(super) client: &'a Client,
    pub(super) path: Result<Arc<str>, Error>,
    pub(super) acl: Result<Vec<Acl>, Error>,
    pub(super) version: i32,
}

impl SetAcl<'_> {
    /// Only if the znode's `aversion` is this one (−1: any).
    pub fn version(self, version: i32) -> Self {
        SetAcl { version, ..self }
    }

    async fn run(self) -> Result<Stat, Error> {
        let (path, acl, version) = (self.path?, self.acl?, check_version(self.version)?);
        let subject = Subject::at("set the ACL of", &path, version);
        let request = Request::Write(Write::SetAcl { path, acl, version });
        match self.client.call(request, subject).await?.0 {
            Response::Stat(stat) => Ok(stat),
            other => Err(unexpected("set ACL", &other)),
        }
    }
}
awaited!(SetAcl => Stat);
