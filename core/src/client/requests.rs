//! The operations, each a builder that does its work when awaited.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::Client;
use super::inbox::Interest;
use super::session::Subject;
use super::watch::{Subscription, Watch, WatchOnce};
use crate::model::limits::{ACL_ENTRIES_MAX, DATA_BYTES_MAX};
use crate::model::{
    Acl, AddWatchMode, Code, Create, CreateMode, Error, Identity, Op, Path, Read, Request,
    Response, Stat, WatchKind, WatchRequest, Write, Zxid,
};

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
    match acl.iter().find(|line| line.perms.0 & !crate::model::Perms::ALL.0 != 0) {
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

#[derive(Clone, Copy)]
enum Lifetime {
    Persistent,
    Ephemeral,
    Container,
    Ttl(Duration),
}

/// See [`Client::create`]. Yields the path, with the suffix if it is sequential.
#[must_use = "a request does nothing until awaited"]
pub struct CreateZnode<'a> {
    client: &'a Client,
    path: Result<Arc<str>, Error>,
    data: Result<Bytes, Error>,
    lifetime: Lifetime,
    sequential: bool,
    acl: Vec<Acl>,
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

/// See [`Client::get`].
#[must_use = "a request does nothing until awaited"]
pub struct Get<'a> {
    client: &'a Client,
    path: Result<Arc<str>, Error>,
}

impl Get<'_> {
    async fn run(self) -> Result<(Bytes, Stat), Error> {
        let path = self.path?;
        let subject = Subject::new("get", &path);
        let request = Request::Read(Read::GetData { path, watch: false });
        data_of(self.client.call(request, subject).await?.0)
    }

    /// Reads what is the newest when this is called: linearizable, on every ground. A plain get may
    /// lag behind what other sessions have written, where members other than the leader answer
    /// it. It sends a sync ahead of the get and waits for both at once.
    ///
    /// # Errors
    /// As awaiting the builder.
    pub async fn latest(self) -> Result<(Bytes, Stat), Error> {
        let sync = self.client.sync();
        // In the order of their first polls, both go over one session.
        let (synced, got) = futures::future::join(sync.run(), self.run()).await;
        synced.and(got)
    }

    /// Leaves a watch in the same step: it fires at the first change after what was read. If the
    /// znode is not there, no watch is left.
    ///
    /// # Errors
    /// As awaiting the builder; [`Error::TooMany`] when the session has too many watches.
    pub async fn watched(self) -> Result<((Bytes, Stat), WatchOnce), Error> {
        let path = self.path?;
        let subject = Subject::new("get", &path);
        let request = Request::Read(Read::GetData { path: Arc::clone(&path), watch: true });
        let (answer, handle) = self.client.watched(path, Interest::Data, request, subject).await?;
        Ok((data_of(answer?)?, self.client.once(handle)))
    }
}
awaited!(Get => (Bytes, Stat));

fn data_of(response: Response) -> Result<(Bytes, Stat), Error> {
    match response {
        Response::Data { data, stat } => Ok((data.unwrap_or_default(), stat)),
        other => Err(unexpected("get", &other)),
    }
}

/// See [`Client::exists`].
#[must_use = "a request does nothing until awaited"]
pub struct Exists<'a> {
    client: &'a Client,
    path: Result<Arc<str>, Error>,
}

impl Exists<'_> {
    async fn run(self) -> Result<Option<Stat>, Error> {
        let path = self.path?;
        let subject = Subject::new("exists", &path);
        let request = Request::Read(Read::Exists { path, watch: false });
        stat_of(self.client.call(request, subject).await.map(|(response, _)| response))
    }

    /// Leaves a watch in the same step, also where there is no znode: then it fires when one is
    /// created.
    ///
    /// # Errors
    /// As awaiting the builder; [`Error::TooMany`] when the session has too many watches.
    pub async fn watched(self) -> Result<(Option<Stat>, WatchOnce), Error> {
        let path = self.path?;
        let subject = Subject::new("exists", &path);
        let request = Request::Read(Read::Exists { path: Arc::clone(&path), watch: true });
        let (answer, handle) = self.client.watched(path, Interest::Data, request, subject).await?;
        Ok((stat_of(answer)?, self.client.once(handle)))
    }
}
awaited!(Exists => Option<Stat>);

fn stat_of(answer: Result<Response, Error>) -> Result<Option<Stat>, Error> {
    match answer {
        Ok(Response::Stat(stat)) => Ok(Some(stat)),
        Ok(other) => Err(unexpected("exists", &other)),
        Err(error) if error.is(Code::NoNode) => Ok(None),
        Err(error) => Err(error),
    }
}

/// See [`Client::children`].
#[must_use = "a request does nothing until awaited"]
pub struct Children<'a> {
    client: &'a Client,
    path: Result<Arc<str>, Error>,
}

impl Children<'_> {
    async fn run(self) -> Result<Vec<String>, Error> {
        self.with_stat().await.map(|(names, _)| names)
    }

    /// Yields the parent's Stat of the same moment too.
    ///
    /// # Errors
    /// As awaiting the builder.
    pub async fn with_stat(self) -> Result<(Vec<String>, Stat), Error> {
        let path = self.path?;
        let subject = Subject::new("children of", &path);
        let request = Request::Read(Read::Children { path, watch: false });
        names_of(self.client.call(request, subject).await?.0)
    }

    /// Leaves a watch in the same step: it fires when a child is created or deleted, or the
    /// parent is deleted.
    ///
    /// # Errors
    /// As awaiting the builder; [`Error::TooMany`] when the session has too many watches.
    pub async fn watched(self) -> Result<((Vec<String>, Stat), WatchOnce), Error> {
        let path = self.path?;
        let subject = Subject::new("children of", &path);
        let request = Request::Read(Read::Children { path: Arc::clone(&path), watch: true });
        let (answer, handle) = self.client.watched(path, Interest::Child, request, subject).await?;
        Ok((names_of(answer?)?, self.client.once(handle)))
    }
}
awaited!(Children => Vec<String>);

fn names_of(response: Response) -> Result<(Vec<String>, Stat), Error> {
    match response {
        Response::Children { names, stat } => Ok((names, stat)),
        other => Err(unexpected("children", &other)),
    }
}

/// See [`Client::set`]. Yields the Stat after the change.
#[must_use = "a request does nothing until awaited"]
pub struct Set<'a> {
    client: &'a Client,
    path: Result<Arc<str>, Error>,
    data: Result<Bytes, Error>,
    version: i32,
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
    client: &'a Client,
    path: Result<Arc<str>, Error>,
    version: i32,
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

/// See [`Client::get_acl`].
#[must_use = "a request does nothing until awaited"]
pub struct GetAcl<'a> {
    client: &'a Client,
    path: Result<Arc<str>, Error>,
}

impl GetAcl<'_> {
    async fn run(self) -> Result<(Vec<Acl>, Stat), Error> {
        let path = self.path?;
        let subject = Subject::new("get the ACL of", &path);
        match self.client.call(Request::Read(Read::GetAcl { path }), subject).await?.0 {
            Response::Acl { acl, stat } => Ok((acl, stat)),
            other => Err(unexpected("get ACL", &other)),
        }
    }
}
awaited!(GetAcl => (Vec<Acl>, Stat));

/// See [`Client::set_acl`]. Yields the Stat after the change.
#[must_use = "a request does nothing until awaited"]
pub struct SetAcl<'a> {
    client: &'a Client,
    path: Result<Arc<str>, Error>,
    acl: Result<Vec<Acl>, Error>,
    version: i32,
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

/// See [`Client::sync`].
#[must_use = "a request does nothing until awaited"]
pub struct Sync<'a> {
    client: &'a Client,
}

impl Sync<'_> {
    async fn run(self) -> Result<Zxid, Error> {
        let path: Arc<str> = Path::root().into();
        let subject = Subject::new("sync", &path);
        self.client.call(Request::Sync { path }, subject).await.map(|(_, zxid)| zxid)
    }
}
awaited!(Sync => Zxid);

/// See [`Client::ephemerals`].
#[must_use = "a request does nothing until awaited"]
pub struct Ephemerals<'a> {
    client: &'a Client,
    prefix: Result<Arc<str>, Error>,
}

impl Ephemerals<'_> {
    async fn run(self) -> Result<Vec<Path>, Error> {
        let prefix = self.prefix?;
        let subject = Subject::new("ephemerals below", &prefix);
        let request = Request::Read(Read::Ephemerals { prefix: Some(prefix) });
        match self.client.call(request, subject).await?.0 {
            Response::Ephemerals(paths) => {
                // The coordinator compares text: `/apple` is not in `/app`.
                let inside = paths.iter().filter(|path| self.client.is_inside(path));
                inside.map(|path| self.client.relative(path)).collect()
            }
            other => Err(unexpected("ephemerals", &other)),
        }
    }
}
awaited!(Ephemerals => Vec<Path>);

/// See [`Client::descendant_count`].
#[must_use = "a request does nothing until awaited"]
pub struct DescendantCount<'a> {
    client: &'a Client,
    path: Result<Arc<str>, Error>,
}

impl DescendantCount<'_> {
    async fn run(self) -> Result<u32, Error> {
        let path = self.path?;
        let subject = Subject::new("count the descendants of", &path);
        match self.client.call(Request::Read(Read::DescendantCount { path }), subject).await?.0 {
            Response::DescendantCount(count) => Ok(count),
            other => Err(unexpected("descendant count", &other)),
        }
    }
}
awaited!(DescendantCount => u32);

/// See [`Client::watch`].
#[must_use = "a watch is left when awaited"]
pub struct WatchPath<'a> {
    client: &'a Client,
    path: Result<Arc<str>, Error>,
    mode: AddWatchMode,
}

impl WatchPath<'_> {
    /// The znode and all below it; then changes of the list of children are told as created and
    /// deleted of the children themselves.
    pub fn recursive(self) -> Self {
        WatchPath { mode: AddWatchMode::PersistentRecursive, ..self }
    }

    async fn run(self) -> Result<Watch, Error> {
        let (client, path, mode) = (self.client, self.path?, self.mode);
        let interest = match mode {
            AddWatchMode::Persistent => Interest::Persistent,
            AddWatchMode::PersistentRecursive => Interest::Recursive,
        };
        let subject = Subject::new("watch", &path);
        let request = Request::Watch(WatchRequest::Add { path: Arc::clone(&path), mode });
        let (answer, handle) = client.watched(path, interest, request, subject).await?;
        answer?;
        Ok(Watch::new(handle, client.namespace.clone()))
    }
}
awaited!(WatchPath => Watch);

/// See [`Client::has_watch`].
#[must_use = "a request does nothing until awaited"]
pub struct CheckWatch<'a> {
    client: &'a Client,
    path: Result<Arc<str>, Error>,
    kind: WatchKind,
}

impl CheckWatch<'_> {
    async fn run(self) -> Result<bool, Error> {
        let (path, kind) = (self.path?, self.kind);
        let subject = Subject::new("check the watches of", &path);
        let request = Request::Watch(WatchRequest::Check { path, kind });
        match self.client.call(request, subject).await {
            Ok(_) => Ok(true),
            Err(error) if error.is(Code::NoWatcher) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
awaited!(CheckWatch => bool);
