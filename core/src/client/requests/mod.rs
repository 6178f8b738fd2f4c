//! The operations, each a builder that does its work when awaited.

use std::sync::Arc;

use bytes::Bytes;

use super::Client;
use super::inbox::Interest;
use super::session::Subject;
use super::watch::{Subscription, WatchOnce};
use crate::model::limits::{ACL_ENTRIES_MAX, DATA_BYTES_MAX};
use crate::model::{
    Acl, AddWatchMode, Code, CreateMode, Error, Identity, Path, Perms, Read, Request, Response,
    WatchKind,
};

/// Boxes the future of a builder.
macro_rules! awaited {
    ($builder:ident => $output:ty) => {
        impl<'a> IntoFuture for $builder<'a> {
            type Output = Result<$output, Error>;
            type IntoFuture = BoxFuture<'a, Self::Output>;

            fn into_future(self) -> Self::IntoFuture {
                Box::pin(self.run())
            }
        }
    };
}

mod ensemble;
mod reads;
mod writes;

pub use ensemble::EnsembleConfig;
pub use reads::{
    CheckWatch, Children, DescendantCount, Ephemerals, Exists, Get, GetAcl, Sync, WatchPath,
};
use writes::Lifetime;
pub use writes::{CreateZnode, Delete, Set, SetAcl};

/// What can be taken for a path: text is validated, a [`Path`] is valid already.
pub trait IntoPath {
    /// The valid path.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the text and the rule it breaks.
    fn into_path(self) -> Result<Path, Error>;
}

impl IntoPath for Path {
    fn into_path(self) -> Result<Path, Error> {
        Ok(self)
    }
}

impl IntoPath for &Path {
    fn into_path(self) -> Result<Path, Error> {
        Ok(self.clone())
    }
}

impl IntoPath for &str {
    fn into_path(self) -> Result<Path, Error> {
        Path::new(self)
    }
}

impl IntoPath for &String {
    fn into_path(self) -> Result<Path, Error> {
        Path::new(self.as_str())
    }
}

impl IntoPath for String {
    fn into_path(self) -> Result<Path, Error> {
        Path::new(self)
    }
}

pub(super) fn check_data(data: &[u8]) -> Result<Bytes, Error> {
    if data.len() > DATA_BYTES_MAX {
        let rule = "the data of a znode has at most 1048575 bytes";
        return Err(Error::invalid("size of data", data.len(), rule));
    }
    Ok(Bytes::copy_from_slice(data))
}

pub(super) fn check_version(version: i32) -> Result<i32, Error> {
    if version < -1 {
        let rule = "an expected version is 0 or above, or -1 for any";
        return Err(Error::invalid("version", version, rule));
    }
    Ok(version)
}

pub(super) fn check_mode(mode: CreateMode) -> Result<CreateMode, Error> {
    match mode.ttl_ms() {
        Some(ttl_ms) if !mode.has_valid_ttl() => {
            let rule = "a time to live is 1 to 2^40 - 1 milliseconds";
            Err(Error::invalid("time to live in ms", ttl_ms, rule))
        }
        _ => Ok(mode),
    }
}

/// What can be judged without a connection; who may be named in an ACL is the coordinator's.
pub(super) fn check_acl(acl: Vec<Acl>) -> Result<Vec<Acl>, Error> {
    if acl.is_empty() {
        return Err(Error::invalid("ACL", "[]", "an ACL has at least one line"));
    }
    if acl.len() > ACL_ENTRIES_MAX {
        return Err(Error::invalid("lines of an ACL", acl.len(), "an ACL has at most 1024 lines"));
    }
    match acl.iter().find(|line| line.perms.0 & !Perms::ALL.0 != 0) {
        Some(line) => {
            let rule = "permissions are a sum of 1, 2, 4, 8 and 16";
            Err(Error::invalid("permissions", line.perms.0, rule))
        }
        None => Ok(acl),
    }
}

/// A coordinator that answers another question than it was asked.
pub(super) fn unexpected(verb: &str, response: &Response) -> Error {
    Error::Refused {
        request: verb.to_owned(),
        path: Path::root().into(),
        code: Code::Marshalling,
        rule: format!("the reply must fit the request, not be {response:?}").into(),
        index: None,
    }
}

impl Client {
    fn resolve(&self, path: impl IntoPath) -> Result<Arc<str>, Error> {
        path.into_path().and_then(|path| self.absolute(path)).map(Into::into)
    }

    /// Creates a znode: persistent and open to everybody, unless the builder says otherwise.
    pub fn create(&self, path: impl IntoPath, data: impl AsRef<[u8]>) -> CreateZnode<'_> {
        let (path, data) = (self.resolve(path), check_data(data.as_ref()));
        let (lifetime, sequential, acl) = (Lifetime::Persistent, false, Acl::open());
        CreateZnode { client: self, path, data, lifetime, sequential, acl }
    }

    /// Data and Stat of a znode. Null data reads as empty.
    pub fn get(&self, path: impl IntoPath) -> Get<'_> {
        Get { client: self, path: self.resolve(path) }
    }

    /// The Stat of a znode; `None` if there is none.
    pub fn exists(&self, path: impl IntoPath) -> Exists<'_> {
        Exists { client: self, path: self.resolve(path) }
    }

    /// Names of a znode's children, in no particular order.
    pub fn children(&self, path: impl IntoPath) -> Children<'_> {
        Children { client: self, path: self.resolve(path) }
    }

    /// Replaces the data of a znode, whatever its version unless the builder says otherwise.
    pub fn set(&self, path: impl IntoPath, data: impl AsRef<[u8]>) -> Set<'_> {
        let (path, data) = (self.resolve(path), check_data(data.as_ref()));
        Set { client: self, path, data, version: -1 }
    }

    /// Deletes a znode without children, whatever its version unless the builder says otherwise.
    pub fn delete(&self, path: impl IntoPath) -> Delete<'_> {
        Delete { client: self, path: self.resolve(path), version: -1 }
    }

    /// ACL and Stat of a znode; hashes are masked for who may not administer it.
    pub fn get_acl(&self, path: impl IntoPath) -> GetAcl<'_> {
        GetAcl { client: self, path: self.resolve(path) }
    }

    /// Replaces the ACL of a znode.
    pub fn set_acl(&self, path: impl IntoPath, acl: Vec<Acl>) -> SetAcl<'_> {
        SetAcl { client: self, path: self.resolve(path), acl: check_acl(acl), version: -1 }
    }

    /// Waits until this client's member has applied everything that was committed before: a read
    /// after it sees at least that. It yields the coordinator's last zxid.
    pub fn sync(&self) -> Sync<'_> {
        Sync { client: self }
    }

    /// Paths of this session's ephemeral znodes that begin with `prefix` (a path; `/` is all of
    /// them), sorted.
    pub fn ephemerals(&self, prefix: impl IntoPath) -> Ephemerals<'_> {
        Ephemerals { client: self, prefix: self.resolve(prefix) }
    }

    /// How many znodes lie below one, at any depth.
    pub fn descendant_count(&self, path: impl IntoPath) -> DescendantCount<'_> {
        DescendantCount { client: self, path: self.resolve(path) }
    }

    /// Watches a znode from now on, whether it exists or not: a stream of its changes.
    ///
    /// ZooKeeper before 3.9 keeps one kind of watch a session and path: there, do not mix a
    /// recursive watch with watched reads of the same path in one session.
    pub fn watch(&self, path: impl IntoPath) -> WatchPath<'_> {
        WatchPath { client: self, path: self.resolve(path), mode: AddWatchMode::Persistent }
    }

    /// Whether the coordinator holds a watch of that kind for this session; for diagnosis.
    /// Watches are removed by dropping their handles.
    pub fn has_watch(&self, path: impl IntoPath, kind: WatchKind) -> CheckWatch<'_> {
        CheckWatch { client: self, path: self.resolve(path), kind }
    }

    /// Proves an identity to the coordinator, for instance `("digest", "user:password")`. What
    /// the session does from then on is judged by it too; it is proved again after a reconnect.
    ///
    /// # Errors
    /// [`Error::Refused`] with `AuthFailed` for a scheme that the coordinator does not know.
    pub async fn add_auth(&self, scheme: &str, credentials: impl AsRef<[u8]>) -> Result<(), Error> {
        let credentials = Bytes::copy_from_slice(credentials.as_ref());
        let subject = Subject::new("prove an identity at", &Path::root().into());
        let request = Request::Auth { scheme: scheme.to_owned(), credentials: credentials.clone() };
        self.call(request, subject).await?;
        self.shared.remember_auth(scheme, credentials);
        Ok(())
    }

    /// The identities that the connection has proved.
    ///
    /// # Errors
    /// As every request.
    pub async fn who_am_i(&self) -> Result<Vec<Identity>, Error> {
        let subject = Subject::new("identities at", &Path::root().into());
        match self.call(Request::Read(Read::WhoAmI), subject).await?.0 {
            Response::WhoAmI(identities) => Ok(identities),
            other => Err(unexpected("identities", &other)),
        }
    }

    /// Sends a read that leaves a watch; the handle is entered before and armed by the reply.
    async fn watched(
        &self,
        path: Arc<str>,
        interest: Interest,
        request: Request,
        subject: Subject,
    ) -> Result<(Result<Response, Error>, Subscription), Error> {
        let session = self.open_session().await?;
        let subscription = Subscription::new(session.clone(), path, interest)?;
        let even_if_missing = matches!(request, Request::Read(Read::Exists { .. }));
        let arm = Some(subscription.arm(even_if_missing));
        let answer = session.core.call(request, arm, subject).await.map(|(response, _)| response);
        Ok((answer, subscription))
    }

    fn once(&self, subscription: Subscription) -> WatchOnce {
        WatchOnce::new(subscription, self.namespace.clone())
    }
}
