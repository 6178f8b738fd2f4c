//! What can be measured: each kind of load, and what its replies must say.

pub(super) mod fan_out;
pub(super) mod locks;
pub(super) mod points;
pub(super) mod sessions;
pub(super) mod znodes;

use std::sync::Arc;

use bytes::Bytes;
use synod::CreateMode;
use synod_core::model::{Acl, Create, Op, Request, Write};

/// The znode below which everything happens.
pub(super) const TOP: &str = "/synod-bench";

/// What creates a znode that everybody may change.
pub(super) fn op_create(path: &str, data: Option<Bytes>, mode: CreateMode) -> Op {
    Op::Create(Create { path: path.into(), data, acl: Acl::open(), mode })
}

/// The same as a request.
pub(super) fn create(path: &str, data: Option<Bytes>, mode: CreateMode) -> Request {
    Request::Write(Write::Op(op_create(path, data, mode)))
}

/// What deletes a znode, whatever its version.
pub(super) fn op_delete(path: Arc<str>) -> Op {
    Op::Delete { path, version: -1 }
}

/// What sets a znode's data, whatever its version.
pub(super) fn set(path: &Arc<str>, data: &[u8]) -> Request {
    let data = Some(Bytes::copy_from_slice(data));
    Request::Write(Write::Op(Op::SetData { path: Arc::clone(path), data, version: -1 }))
}
