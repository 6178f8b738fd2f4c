//! Requests, both directions, and the shapes of their replies.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::jute::{DecodeError, Decoder, Encoder};
use super::multi;
use super::records::{mode_of, put_acl, take_acl};
use super::{XID_AUTH, XID_PING, XID_SET_WATCHES, frame};
use crate::model::{
    AddWatchMode, Code, Create, CreateMode, Op, Read, Rearm, Reconfig, Request, SaslToken,
    WatchKind, WatchRequest, Write, Zxid,
};

/// Numbers of the operations in the protocol.
pub(super) mod op {
    pub(crate) const CREATE: i32 = 1;
    pub(crate) const DELETE: i32 = 2;
    pub(crate) const EXISTS: i32 = 3;
    pub(crate) const GET_DATA: i32 = 4;
    pub(crate) const SET_DATA: i32 = 5;
    pub(crate) const GET_ACL: i32 = 6;
    pub(crate) const SET_ACL: i32 = 7;
    pub(crate) const GET_CHILDREN: i32 = 8;
    pub(crate) const SYNC: i32 = 9;
    pub(crate) const PING: i32 = 11;
    pub(crate) const GET_CHILDREN2: i32 = 12;
    pub(crate) const CHECK: i32 = 13;
    pub(crate) const MULTI: i32 = 14;
    pub(crate) const CREATE2: i32 = 15;
    pub(crate) const RECONFIG: i32 = 16;
    pub(crate) const CHECK_WATCHES: i32 = 17;
    pub(crate) const REMOVE_WATCHES: i32 = 18;
    pub(crate) const CREATE_CONTAINER: i32 = 19;
    pub(crate) const CREATE_TTL: i32 = 21;
    pub(crate) const MULTI_READ: i32 = 22;
    pub(crate) const AUTH: i32 = 100;
    pub(crate) const SET_WATCHES: i32 = 101;
    pub(crate) const SASL: i32 = 102;
    pub(crate) const GET_EPHEMERALS: i32 = 103;
    pub(crate) const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub(crate) const SET_WATCHES2: i32 = 105;
    pub(crate) const ADD_WATCH: i32 = 106;
    pub(crate) const WHO_AM_I: i32 = 107;
    pub(crate) const CLOSE_SESSION: i32 = -11;
    /// Of this project's own: an operation at a zxid that the client names.
    pub(crate) const PROPOSE_AT: i32 = 0x53_0001;
}

/// How the reply to a request is laid out: requests that mean the same are answered differently
/// by the number they came under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing.
    Empty,
    /// The path of a created znode.
    Path,
    /// Path and Stat of a created znode.
    PathStat,
    /// A Stat.
    Stat,
    /// Data and Stat.
    DataStat,
    /// ACL and Stat.
    AclStat,
    /// Names of children.
    Names,
    /// Names of children and Stat.
    NamesStat,
    /// The path that was asked about.
    Echo(Arc<str>),
    /// Results of a transaction, by the numbers of its operations.
    Multi(Vec<i32>),
    /// Answers of a multi-read, by the numbers of its reads.
    MultiRead(Vec<i32>),
    /// Paths.
    Paths,
    /// A number of znodes.
    Count,
    /// Identities.
    Identities,
    /// A zero: a watch was added.
    Zero,
    /// A token of SASL, or null; null also where the request failed.
    Token,
}

/// A request as it came over a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct SubmittedRequest {
    /// The number of the reply: the client's for the request, but a ping's own for a ping.
    pub xid: i32,
    /// What is asked.
    pub request: Request,
    /// How to lay out the reply.
    pub shape: Shape,
}

/// A request that is answered without being looked at further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The client's number for it.
    pub xid: i32,
    /// Why.
    pub code: Code,
    /// Whether the connection ends with the reply, whose zxid is −1 then.
    pub closes: bool,
    /// Whether the reply has a body in spite of the error: an empty list of results.
    pub empty_results: bool,
}

/// Reads the payload of a request.
///
/// # Errors
/// [`Refused`], which says what to answer: −5 for a record that cannot be read, −8 for flags that
/// mean nothing, −6 (and the end of the connection) for an operation that is unknown or not for
/// clients.
pub fn decode_request(payload: Bytes) -> Result<SubmittedRequest, Refused> {
    let mut from = Decoder::new(payload);
    let refused = |xid, code| Refused { xid, code, closes: false, empty_results: false };
    // The least frame is checked to hold both.
    let (Ok(xid), Ok(number)) = (from.i32(), from.i32()) else {
        return Err(refused(0, Code::Marshalling));
    };
    match body(number, &mut from) {
        Ok((request, shape)) => {
            let xid = if matches!(request, Request::Ping) { XID_PING } else { xid };
            Ok(SubmittedRequest { xid, request, shape })
        }
        Err(BodyError::Malformed) => Err(refused(xid, Code::Marshalling)),
        Err(BodyError::WritesAsReads) => {
            Err(Refused { empty_results: true, ..refused(xid, Code::Marshalling) })
        }
        Err(BodyError::BadFlags) => Err(refused(xid, Code::BadArguments)),
        Err(BodyError::Unknown) => {
            Err(Refused { closes: true, ..refused(xid, Code::Unimplemented) })
        }
    }
}

pub(super) enum BodyError {
    Malformed,
    /// A transaction that came as a multi-read.
    WritesAsReads,
    BadFlags,
    Unknown,
}

impl From<DecodeError> for BodyError {
    fn from(_: DecodeError) -> BodyError {
        BodyError::Malformed
    }
}

fn body(number: i32, from: &mut Decoder) -> Result<(Request, Shape), BodyError> {
    let write = Request::Write;
    let read = Request::Read;
    let watch = Request::Watch;
    Ok(match number {
        op::CREATE => (write(Write::Op(take_create(number, from)?)), Shape::Path),
        op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
            (write(Write::Op(take_create(number, from)?)), Shape::PathStat)
        }
        op::DELETE => (write(Write::Op(take_delete(from)?)), Shape::Empty),
        op::SET_DATA => (write(Write::Op(take_set_data(from)?)), Shape::Stat),
        op::SET_ACL => {
            let (path, acl, version) = (from.path()?, take_acl(from)?, from.i32()?);
            (write(Write::SetAcl { path, acl, version }), Shape::Stat)
        }
        op::MULTI => {
            let (ops, numbers) = multi::take_ops(from)?;
            (write(Write::Multi(ops)), Shape::Multi(numbers))
        }
        op::PROPOSE_AT => {
            let (zxid, number) = (Zxid::from_i64(from.i64()?), from.i32()?);
            let (op, shape) = match number {
                op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
                    (take_create(number, from)?, Shape::PathStat)
                }
                op::SET_DATA => (take_set_data(from)?, Shape::Stat),
                op::DELETE => (take_delete(from)?, Shape::Empty),
                _ => return Err(BodyError::Unknown),
            };
            (write(Write::ProposeAt { zxid, op }), shape)
        }
        op::RECONFIG => {
            let reconfig = Reconfig {
                joining: from.nullable()?,
                leaving: from.nullable()?,
                members: from.nullable()?,
                from_version: from.i64()?,
            };
            (Request::Reconfig(reconfig), Shape::DataStat)
        }
        op::CLOSE_SESSION => (write(Write::CloseSession), Shape::Empty),
        op::EXISTS => {
            let (path, watch) = (from.path()?, from.bool()?);
            (read(Read::Exists { path, watch }), Shape::Stat)
        }
        op::GET_DATA => {
            let (path, watch) = (from.path()?, from.bool()?);
            (read(Read::GetData { path, watch }), Shape::DataStat)
        }
        op::GET_ACL => (read(Read::GetAcl { path: from.path()? }), Shape::AclStat),
        op::GET_CHILDREN | op::GET_CHILDREN2 => {
            let (path, watch) = (from.path()?, from.bool()?);
            let shape = if number == op::GET_CHILDREN { Shape::Names } else { Shape::NamesStat };
            (read(Read::Children { path, watch }), shape)
        }
        op::MULTI_READ => {
            let mut as_writes = from.clone();
            let (reads, numbers) =
                multi::take_reads(from).map_err(|error| match multi::take_ops(&mut as_writes) {
                    Ok(_) => BodyError::WritesAsReads,
                    Err(_) => error.into(),
                })?;
            (read(Read::Multi(reads)), Shape::MultiRead(numbers))
        }
        op::GET_EPHEMERALS => (read(Read::Ephemerals { prefix: Some(from.path()?) }), Shape::Paths),
        op::GET_ALL_CHILDREN_NUMBER => {
            (read(Read::DescendantCount { path: from.path()? }), Shape::Count)
        }
        op::WHO_AM_I => (read(Read::WhoAmI), Shape::Identities),
        op::ADD_WATCH => {
            let (path, mode) = (from.path()?, from.i32()?);
            let mode = match mode {
                0 => AddWatchMode::Persistent,
                1 => AddWatchMode::PersistentRecursive,
                value => return Err(DecodeError::BadValue { what: "mode", value }.into()),
            };
            (watch(WatchRequest::Add { path, mode }), Shape::Zero)
        }
        op::CHECK_WATCHES | op::REMOVE_WATCHES => {
            let (path, kind) = (from.path()?, take_watch_kind(from)?);
            let request = match number {
                op::CHECK_WATCHES => WatchRequest::Check { path, kind },
                _ => WatchRequest::Remove { path, kind },
            };
            (watch(request), Shape::Empty)
        }
        op::SET_WATCHES | op::SET_WATCHES2 => {
            let since = Zxid::from_i64(from.i64()?);
            let mut list = || from.paths()?.ok_or(DecodeError::BadCount);
            let (data, exist, child) = (list()?, list()?, list()?);
            let (persistent, recursive) = match number {
                op::SET_WATCHES => (Vec::new(), Vec::new()),
                _ => (list()?, list()?),
            };
            let rearm = Rearm { since, data, exist, child, persistent, recursive };
            (watch(WatchRequest::Rearm(rearm)), Shape::Empty)
        }
        op::SYNC => {
            let path = from.path()?;
            (Request::Sync { path: Arc::clone(&path) }, Shape::Echo(path))
        }
        op::PING => (Request::Ping, Shape::Empty),
        op::AUTH => {
            let (_kind, scheme) = (from.i32()?, from.string()?);
            let credentials = from.buffer()?.unwrap_or_default();
            (Request::Auth { scheme, credentials }, Shape::Empty)
        }
        op::SASL => {
            let token = from.buffer()?.unwrap_or_default();
            (Request::Sasl(SaslToken(token)), Shape::Token)
        }
        _ => return Err(BodyError::Unknown),
    })
}

pub(super) fn take_create(number: i32, from: &mut Decoder) -> Result<Op, BodyError> {
    let (path, data) = (from.path()?, from.buffer()?);
    let (acl, flags) = (take_acl(from)?, from.i32()?);
    let ttl_ms = if number == op::CREATE_TTL { from.i64()? } else { -1 };
    let mode = mode_of(flags, ttl_ms).ok_or(BodyError::BadFlags)?;
    if number == op::CREATE_TTL && mode.ttl_ms().is_none() {
        return Err(BodyError::BadFlags);
    }
    Ok(Op::Create(Create { path, data, acl, mode }))
}

pub(super) fn take_delete(from: &mut Decoder) -> Result<Op, DecodeError> {
    Ok(Op::Delete { path: from.path()?, version: from.i32()? })
}

pub(super) fn take_set_data(from: &mut Decoder) -> Result<Op, DecodeError> {
    Ok(Op::SetData { path: from.path()?, data: from.buffer()?, version: from.i32()? })
}

pub(super) fn take_check(from: &mut Decoder) -> Result<Op, DecodeError> {
    Ok(Op::Check { path: from.path()?, version: from.i32()? })
}

fn take_watch_kind(from: &mut Decoder) -> Result<WatchKind, DecodeError> {
    Ok(match from.i32()? {
        1 => WatchKind::Children,
        2 => WatchKind::Data,
        3 => WatchKind::Any,
        4 => WatchKind::Persistent,
        5 => WatchKind::PersistentRecursive,
        value => return Err(DecodeError::BadValue { what: "kind of watch", value }),
    })
}

/// The xid under which a request goes: its own, or the one that the protocol reserves for it.
fn xid_of(request: &Request, xid: i32) -> i32 {
    match request {
        Request::Ping => XID_PING,
        Request::Auth { .. } => XID_AUTH,
        Request::Watch(WatchRequest::Rearm(_)) => XID_SET_WATCHES,
        _ => xid,
    }
}

/// Appends a client's request as a frame; the xid it went under, and the shape of its reply.
///
/// # Errors
/// `Unimplemented` for what only coordinators ask of themselves. Nothing is appended then.
pub fn encode_request(
    out: &mut BytesMut,
    xid: i32,
    request: &Request,
) -> Result<(i32, Shape), Code> {
    let xid = xid_of(request, xid);
    let start = out.len();
    let mut shape = Err(Code::Unimplemented);
    frame(out, |out| {
        out.put_i32(xid);
        shape = put_body(out, request);
    });
    if shape.is_err() {
        out.truncate(start);
    }
    shape.map(|shape| (xid, shape))
}

fn put_body(out: &mut BytesMut, request: &Request) -> Result<Shape, Code> {
    match request {
        Request::Write(write) => return put_write(out, write),
        Request::Read(read) => return Ok(put_read(out, read)),
        Request::Watch(watch) => return Ok(put_watch(out, watch)),
        Request::Sync { path } => {
            out.put_i32(op::SYNC);
            out.string(path);
            return Ok(Shape::Echo(Arc::clone(path)));
        }
        Request::Ping => out.put_i32(op::PING),
        Request::Auth { scheme, credentials } => {
            out.put_i32(op::AUTH);
            out.put_i32(0);
            out.string(scheme);
            out.buffer(Some(credentials));
        }
        Request::Sasl(SaslToken(token)) => {
            out.put_i32(op::SASL);
            out.buffer(Some(token));
            return Ok(Shape::Token);
        }
        Request::Reconfig(Reconfig { joining, leaving, members, from_version }) => {
            out.put_i32(op::RECONFIG);
            for list in [joining, leaving, members] {
                out.buffer(list.as_ref().map(String::as_bytes));
            }
            out.put_i64(*from_version);
            return Ok(Shape::DataStat);
        }
    }
    Ok(Shape::Empty)
}

fn put_write(out: &mut BytesMut, write: &Write) -> Result<Shape, Code> {
    Ok(match write {
        Write::Op(op) => {
            out.put_i32(number_of(op));
            put_op(out, op)
        }
        Write::ProposeAt { zxid, op } => {
            out.put_i32(op::PROPOSE_AT);
            out.put_i64(zxid.as_i64());
            out.put_i32(number_of(op));
            put_op(out, op)
        }
        Write::SetAcl { path, acl, version } => {
            out.put_i32(op::SET_ACL);
            out.string(path);
            put_acl(out, acl);
            out.put_i32(*version);
            Shape::Stat
        }
        Write::Multi(ops) => {
            out.put_i32(op::MULTI);
            Shape::Multi(multi::put_ops(out, ops))
        }
        Write::CloseSession => {
            out.put_i32(op::CLOSE_SESSION);
            Shape::Empty
        }
        Write::CreateSession { .. }
        | Write::Attach { .. }
        | Write::ExpireSession { .. }
        | Write::Reap { .. }
        | Write::Configure { .. } => return Err(Code::Unimplemented),
    })
}

pub(super) fn number_of(op: &Op) -> i32 {
    match op {
        Op::Create(Create { mode: CreateMode::Container, .. }) => op::CREATE_CONTAINER,
        Op::Create(Create { mode, .. }) if mode.ttl_ms().is_some() => op::CREATE_TTL,
        Op::Create(_) => op::CREATE2,
        Op::Delete { .. } => op::DELETE,
        Op::SetData { .. } => op::SET_DATA,
        Op::Check { .. } => op::CHECK,
    }
}

pub(super) fn put_op(out: &mut BytesMut, op: &Op) -> Shape {
    match op {
        Op::Create(Create { path, data, acl, mode }) => {
            out.string(path);
            out.buffer(data.as_deref());
            put_acl(out, acl);
            out.put_i32(mode.flags());
            if let Some(ttl_ms) = mode.ttl_ms() {
                out.put_i64(ttl_ms);
            }
            Shape::PathStat
        }
        Op::Delete { path, version } | Op::Check { path, version } => {
            out.string(path);
            out.put_i32(*version);
            Shape::Empty
        }
        Op::SetData { path, data, version } => {
            out.string(path);
            out.buffer(data.as_deref());
            out.put_i32(*version);
            Shape::Stat
        }
    }
}

fn put_read(out: &mut BytesMut, read: &Read) -> Shape {
    let (number, path, watch, shape) = match read {
        Read::Exists { path, watch } => (op::EXISTS, path, Some(*watch), Shape::Stat),
        Read::GetData { path, watch } => (op::GET_DATA, path, Some(*watch), Shape::DataStat),
        Read::Children { path, watch } => (op::GET_CHILDREN2, path, Some(*watch), Shape::NamesStat),
        Read::GetAcl { path } => (op::GET_ACL, path, None, Shape::AclStat),
        Read::DescendantCount { path } => (op::GET_ALL_CHILDREN_NUMBER, path, None, Shape::Count),
        Read::Ephemerals { prefix } => {
            out.put_i32(op::GET_EPHEMERALS);
            out.string(prefix.as_deref().unwrap_or_default());
            return Shape::Paths;
        }
        Read::WhoAmI => {
            out.put_i32(op::WHO_AM_I);
            return Shape::Identities;
        }
        Read::Multi(reads) => {
            out.put_i32(op::MULTI_READ);
            return Shape::MultiRead(multi::put_reads(out, reads));
        }
    };
    out.put_i32(number);
    out.string(path);
    if let Some(watch) = watch {
        out.bool(watch);
    }
    shape
}

fn put_watch(out: &mut BytesMut, watch: &WatchRequest) -> Shape {
    match watch {
        WatchRequest::Add { path, mode } => {
            out.put_i32(op::ADD_WATCH);
            out.string(path);
            out.put_i32(*mode as i32);
            return Shape::Zero;
        }
        WatchRequest::Check { path, kind } | WatchRequest::Remove { path, kind } => {
            let check = matches!(watch, WatchRequest::Check { .. });
            out.put_i32(if check { op::CHECK_WATCHES } else { op::REMOVE_WATCHES });
            out.string(path);
            out.put_i32(*kind as i32);
        }
        WatchRequest::Rearm(Rearm { since, data, exist, child, persistent, recursive }) => {
            // The older form where it suffices: every server knows it.
            let staying = !persistent.is_empty() || !recursive.is_empty();
            out.put_i32(if staying { op::SET_WATCHES2 } else { op::SET_WATCHES });
            out.put_i64(since.as_i64());
            let lists = [data, exist, child, persistent, recursive];
            for list in &lists[..if staying { 5 } else { 3 }] {
                out.vector(list, |out, path| out.string(path));
            }
        }
    }
    Shape::Empty
}
