//! What asks, and what watches.

use std::future::IntoFuture;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::unexpected;
use crate::client::Client;
use crate::client::inbox::Interest;
use crate::client::session::Subject;
use crate::client::watch::{Watch, WatchOnce};
use crate::model::{
    Acl, AddWatchMode, Code, Error, Path, Read, Request, Response, Stat, WatchKind, WatchRequest,
    Zxid,
};

/// See [`Client::get`].
#[must_use = "a request does nothing until awaited"]
pub struct Get<'a> {
    pub(super) client: &'a Client,
    pub(super) path: Result<Arc<str>, Error>,
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
    pub(super) client: &'a Client,
    pub(super) path: Result<Arc<str>, Error>,
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
    pub(super) client: &'a Client,
    pub(super) path: Result<Arc<str>, Error>,
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

/// See [`Client::get_acl`].
#[must_use = "a request does nothing until awaited"]
pub struct GetAcl<'a> {
    pub(super) client: &'a Client,
    pub(super) path: Result<Arc<str>, Error>,
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

/// See [`Client::sync`].
#[must_use = "a request does nothing until awaited"]
pub struct Sync<'a> {
    pub(super) client: &'a Client,
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
    pub(super) client: &'a Client,
    pub(super) prefix: Result<Arc<str>, Error>,
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
    pub(super) client: &'a Client,
    pub(super) path: Result<Arc<str>, Error>,
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
    pub(super) client: &'a Client,
    pub(super) path: Result<Arc<str>, Error>,
    pub(super) mode: AddWatchMode,
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
    pub(super) client: &'a Client,
    pub(super) path: Result<Arc<str>, Error>,
    pub(super) kind: WatchKind,
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
