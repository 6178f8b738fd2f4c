//! Which znodes requests and entries are about, so that those of several come from memory together.

use std::collections::VecDeque;

use synod_core::engine::Engine;
use synod_core::model::{Entry, Op, Read, Request, Write};

use super::Decoded;

/// Of requests that come together. Writes are looked at again when they are applied.
pub(super) fn for_requests(engine: &Engine, batch: &VecDeque<Decoded>) {
    if batch.len() > 1 {
        engine.prefetch(batch.iter().filter_map(path_of_read));
    }
}

/// Of entries that are applied together.
pub(super) fn for_entries(engine: &Engine, entries: &[Entry]) {
    if entries.len() > 1 {
        engine.prefetch(entries.iter().filter_map(path_of_write));
    }
}

fn path_of_read(decoded: &Decoded) -> Option<&str> {
    match &decoded.request.as_ref().ok()?.request {
        Request::Read(
            Read::Exists { path, .. } | Read::GetData { path, .. } | Read::Children { path, .. },
        ) => Some(path),
        _ => None,
    }
}

fn path_of_write(entry: &Entry) -> Option<&str> {
    match &entry.request {
        Write::Op(op) | Write::ProposeAt { op, .. } => Some(match op {
            Op::Create(create) => &create.path,
            Op::Delete { path, .. } | Op::SetData { path, .. } | Op::Check { path, .. } => path,
        }),
        _ => None,
    }
}
