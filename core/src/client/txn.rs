//! Requests of several operations, and the one that names its own zxid.

use std::future::IntoFuture;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::requests::{IntoPath, check_acl, check_data, check_mode, check_version, unexpected};
use super::{Client, Subject};
use crate::model::limits::{MULTI_BYTES_MAX, MULTI_OPS_MAX};
use crate::model::{
    Acl, Create, CreateMode, Error, Op, OpResult, Path, Read, ReadOp, ReadOpResult, Request,
    Response, Stat, Write, Zxid,
};

/// Operations that are done at one zxid, all of them or none. Made by [`Client::txn`].
#[must_use = "a transaction is done when committed"]
pub struct Txn {
    client: Client,
    ops: Vec<Op>,
    bytes: usize,
    /// The first argument that broke a rule.
    invalid: Option<Error>,
}

impl Txn {
    fn add(mut self, path: impl IntoPath, op: impl FnOnce(Arc<str>) -> Result<Op, Error>) -> Txn {
        if self.invalid.is_some() {
            return self;
        }
        let path = path.into_path().and_then(|path| self.client.absolute(path));
        match path.and_then(|path| op(path.into())) {
            Ok(op) => {
                self.bytes += bytes_of(&op);
                self.ops.push(op);
            }
            Err(error) => self.invalid = Some(error),
        }
        self
    }

    /// Aborts the transaction unless the znode exists and has that version (−1: any).
    pub fn check(self, path: impl IntoPath, version: i32) -> Txn {
        self.add(path, |path| Ok(Op::Check { path, version: check_version(version)? }))
    }

    /// Creates a persistent znode that is open to everybody.
    pub fn create(self, path: impl IntoPath, data: impl AsRef<[u8]>) -> Txn {
        self.create_as(path, data, CreateMode::Persistent, Acl::open())
    }

    /// Creates a znode of that mode and ACL.
    pub fn create_as(
        self,
        path: impl IntoPath,
        data: impl AsRef<[u8]>,
        mode: CreateMode,
        acl: Vec<Acl>,
    ) -> Txn {
        let client = self.client.clone();
        self.add(path, |path| {
            let (data, mode) = (Some(check_data(data.as_ref())?), check_mode(mode)?);
            let path = client.stem(path, mode);
            Ok(Op::Create(Create { path, data, acl: check_acl(acl)?, mode }))
        })
    }

    /// Sets the data, whatever the version.
    pub fn set(self, path: impl IntoPath, data: impl AsRef<[u8]>) -> Txn {
        self.set_at(path, data, -1)
    }

    /// Sets the data if the znode has that version (−1: any).
    pub fn set_at(self, path: impl IntoPath, data: impl AsRef<[u8]>, version: i32) -> Txn {
        self.add(path, |path| {
            let (data, version) = (Some(check_data(data.as_ref())?), check_version(version)?);
            Ok(Op::SetData { path, data, version })
        })
    }

    /// Deletes a znode without children, whatever its version.
    pub fn delete(self, path: impl IntoPath) -> Txn {
        self.delete_at(path, -1)
    }

    /// Deletes a znode without children if it has that version (−1: any).
    pub fn delete_at(self, path: impl IntoPath, version: i32) -> Txn {
        self.add(path, |path| Ok(Op::Delete { path, version: check_version(version)? }))
    }

    /// Does all of it, or nothing. The results are in the order of the operations; they share
    /// one zxid, so that two znodes created here share their `czxid` (take a fencing token from
    /// one at most).
    ///
    /// # Errors
    /// [`Error::Refused`] with the `index` of the first operation that failed;
    /// [`Error::Invalid`] for more than
    /// [`MULTI_OPS_MAX`] operations or
    /// [`MULTI_BYTES_MAX`] bytes.
    pub async fn commit(self) -> Result<Vec<OpResult>, Error> {
        if let Some(error) = self.invalid {
            return Err(error);
        }
        if self.ops.len() > MULTI_OPS_MAX {
            let rule = "a transaction has at most 65536 operations";
            return Err(Error::invalid("number of operations", self.ops.len(), rule));
        }
        if self.bytes > MULTI_BYTES_MAX {
            let rule = "a transaction has at most 1048575 bytes";
            return Err(Error::invalid("size in bytes", self.bytes, rule));
        }
        let paths: Vec<Arc<str>> = self.ops.iter().map(|op| Arc::clone(path_of(op))).collect();
        let root: Arc<str> = Path::root().into();
        let subject = Subject::new("transaction on", paths.first().unwrap_or(&root));
        let answer = self.client.call(Request::Write(Write::Multi(self.ops)), subject).await;
        let results = match answer {
            Ok((Response::Multi(results), _)) => results,
            Ok((other, _)) => return Err(unexpected("transaction", &other)),
            // The path of the operation that failed says more than that of the first.
            Err(Error::Refused { path: first, code, rule, index, .. }) => {
                let path = index.and_then(|index| paths.get(index).cloned()).unwrap_or(first);
                let request = match index {
                    Some(index) => format!("operation {index} of a transaction, on {path:?},"),
                    None => "transaction".to_owned(),
                };
                return Err(Error::Refused { request, path, code, rule, index });
            }
            Err(error) => return Err(error),
        };
        let client = &self.client;
        let relative = |result| match result {
            OpResult::Created { path, stat } => {
                Ok(OpResult::Created { path: client.relative(&path)?.into(), stat })
            }
            other => Ok(other),
        };
        results.into_iter().map(relative).collect()
    }
}

fn path_of(op: &Op) -> &Arc<str> {
    match op {
        Op::Create(create) => &create.path,
        Op::Delete { path, .. } | Op::SetData { path, .. } | Op::Check { path, .. } => path,
    }
}

fn bytes_of(op: &Op) -> usize {
    path_of(op).len()
        + match op {
            Op::Create(Create { data, acl, .. }) => {
                let lines = acl.iter().map(|acl| acl.who.scheme.len() + acl.who.id.len() + 12);
                data.as_ref().map_or(0, Bytes::len) + lines.sum::<usize>()
            }
            Op::SetData { data, .. } => data.as_ref().map_or(0, Bytes::len),
            Op::Delete { .. } | Op::Check { .. } => 0,
        }
}

/// Reads of one moment. Made by [`Client::multi_read`].
#[must_use = "a read does nothing until awaited"]
pub struct MultiRead {
    client: Client,
    reads: Vec<ReadOp>,
    invalid: Option<Error>,
}

impl MultiRead {
    fn add(mut self, path: impl IntoPath, read: impl FnOnce(Arc<str>) -> ReadOp) -> MultiRead {
        match path.into_path().and_then(|path| self.client.absolute(path)) {
            Ok(path) => self.reads.push(read(path.into())),
            Err(error) => self.invalid = self.invalid.or(Some(error)),
        }
        self
    }

    /// Data and Stat of a znode.
    pub fn get(self, path: impl IntoPath) -> MultiRead {
        self.add(path, |path| ReadOp::GetData { path })
    }

    /// Names of a znode's children.
    pub fn children(self, path: impl IntoPath) -> MultiRead {
        self.add(path, |path| ReadOp::Children { path })
    }

    /// Yields the zxid of that moment too: the last change that the answers show.
    ///
    /// # Errors
    /// As awaiting the builder.
    pub async fn with_zxid(self) -> Result<(Vec<Result<ReadOpResult, Error>>, Zxid), Error> {
        if let Some(error) = self.invalid {
            return Err(error);
        }
        if self.reads.len() > MULTI_OPS_MAX {
            let rule = "a multi-read has at most 65536 reads";
            return Err(Error::invalid("number of reads", self.reads.len(), rule));
        }
        let paths: Vec<Arc<str>> = self
            .reads
            .iter()
            .map(|read| match read {
                ReadOp::GetData { path } | ReadOp::Children { path } => Arc::clone(path),
            })
            .collect();
        let root: Arc<str> = Path::root().into();
        let subject = Subject::new("multi-read of", paths.first().unwrap_or(&root));
        let request = Request::Read(Read::Multi(self.reads));
        let (answers, zxid) = match self.client.call(request, subject).await? {
            (Response::MultiRead(answers), zxid) => (answers, zxid),
            (other, _) => return Err(unexpected("multi-read", &other)),
        };
        let named = |(answer, path): (Result<_, _>, Arc<str>)| {
            answer.map_err(|code| Error::Refused {
                request: format!("read of {path:?}"),
                path,
                code,
                rule: code.rule().into(),
                index: None,
            })
        };
        Ok((answers.into_iter().zip(paths).map(named).collect(), zxid))
    }
}

impl IntoFuture for MultiRead {
    type Output = Result<Vec<Result<ReadOpResult, Error>>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// The answers in the order of the questions; one that is refused does not stop the others.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.with_zxid().await.map(|(answers, _)| answers) })
    }
}

/// An operation at a zxid that the caller names. Made by [`Client::propose_at`].
#[must_use = "choose what to do at the zxid"]
pub struct ProposeAt {
    client: Client,
    zxid: Zxid,
}

impl ProposeAt {
    /// Creates a persistent znode that is open to everybody.
    pub fn create(self, path: impl IntoPath, data: impl AsRef<[u8]>) -> Proposal {
        self.proposal("propose create of", path, |path| {
            let (data, acl) = (Some(check_data(data.as_ref())?), Acl::open());
            Ok(Op::Create(Create { path, data, acl, mode: CreateMode::Persistent }))
        })
    }

    /// Sets the data, whatever the version.
    pub fn set(self, path: impl IntoPath, data: impl AsRef<[u8]>) -> Proposal {
        self.proposal("propose set of", path, |path| {
            Ok(Op::SetData { path, data: Some(check_data(data.as_ref())?), version: -1 })
        })
    }

    /// Deletes a znode without children, whatever its version.
    pub fn delete(self, path: impl IntoPath) -> Proposal {
        self.proposal("propose delete of", path, |path| Ok(Op::Delete { path, version: -1 }))
    }

    fn proposal(
        self,
        verb: &'static str,
        path: impl IntoPath,
        op: impl FnOnce(Arc<str>) -> Result<Op, Error>,
    ) -> Proposal {
        let path = path.into_path().and_then(|path| self.client.absolute(path));
        let request = path.and_then(|path| {
            let path: Arc<str> = path.into();
            Ok((Subject::new(verb, &path), op(path)?))
        });
        Proposal { client: self.client, zxid: self.zxid, request }
    }
}

/// A proposal, ready to be made.
#[must_use = "a proposal is made when awaited"]
pub struct Proposal {
    client: Client,
    zxid: Zxid,
    request: Result<(Subject, Op), Error>,
}

impl IntoFuture for Proposal {
    type Output = Result<Option<Stat>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// The Stat of the znode as the operation left it; `None` after a delete.
    ///
    /// # Errors
    /// [`Error::StaleZxid`], with the coordinator's last zxid, when the named one is not above
    /// it, in the current epoch and near: then nothing was done and no zxid was taken.
    /// [`Error::Refused`] when the operation itself failed: then it took its zxid.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (subject, op) = self.request?;
            let request = Request::Write(Write::ProposeAt { zxid: self.zxid, op });
            match self.client.call(request, subject).await?.0 {
                Response::Created { stat, .. } | Response::Stat(stat) => Ok(Some(stat)),
                Response::Done => Ok(None),
                other => Err(unexpected("proposal", &other)),
            }
        })
    }
}

impl Client {
    /// Begins a transaction.
    pub fn txn(&self) -> Txn {
        Txn { client: self.clone(), ops: Vec::new(), bytes: 0, invalid: None }
    }

    /// Begins a multi-read: several reads of one moment.
    pub fn multi_read(&self) -> MultiRead {
        MultiRead { client: self.clone(), reads: Vec::new(), invalid: None }
    }

    /// Names the zxid at which an operation is to be done: it is done, at exactly that zxid, only
    /// if the zxid is above the last one, in the current epoch, and at most
    /// [`ZXID_STEP_MAX`](crate::model::limits::ZXID_STEP_MAX) ahead; else it is refused with the
    /// last zxid, and takes none.
    ///
    /// This is compare-and-set on the order of the whole tree: of two clients that name the same
    /// zxid, one is done and one refused. Ordinary writes carry no zxid, since clients that number
    /// for themselves collide. Only this project's coordinators know the operation; others answer
    /// [`Error::Unsupported`].
    pub fn propose_at(&self, zxid: Zxid) -> ProposeAt {
        ProposeAt { client: self.clone(), zxid }
    }
}
