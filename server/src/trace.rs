//! What is written to the log while somebody looks: ZooKeeper's trace mask, which the words `gtmk`
//! and `stmk` read and set. Data, ACLs and credentials are never written.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use synod_core::model::{Create, Op, Read, Request, WatchRequest, Write};

use crate::member::Decoded;
use crate::roster::Peer;

/// Each request but pings.
const REQUESTS: i64 = 1 << 1;

/// Each ping.
const PINGS: i64 = 1 << 3;

/// Each session that a connection is attached to, and each end of such a connection.
const SESSIONS: i64 = 1 << 5;

/// What is traced, bit by bit. ZooKeeper's other bits are kept, and nothing goes by them.
#[derive(Default)]
pub(crate) struct Trace(AtomicI64);

impl Trace {
    pub(crate) fn mask(&self) -> i64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn set(&self, mask: i64) {
        self.0.store(mask, Relaxed);
    }

    /// A request that has come.
    pub(crate) fn request(&self, peer: &Peer, decoded: &Decoded) {
        let mask = self.mask();
        if mask == 0 {
            return;
        }
        let (xid, (operation, path)) = match &decoded.request {
            Ok(submitted) => (submitted.xid, described(&submitted.request)),
            Err(refused) => (refused.xid, ("unreadable", "")),
        };
        if mask & if operation == "ping" { PINGS } else { REQUESTS } != 0 {
            let session = peer.session.load(Relaxed);
            tracing::info!(
                session = %format_args!("{session:#x}"), xid, operation, path, "traced: a request"
            );
        }
    }

    /// A connection has its session, or ends.
    pub(crate) fn session(&self, peer: &Peer, what: &'static str) {
        if self.mask() & SESSIONS != 0 {
            let session = peer.session.load(Relaxed);
            let address = peer.address;
            tracing::info!(session = %format_args!("{session:#x}"), %address, what, "traced: a session");
        }
    }
}

/// A request's operation and its path, if it has one.
fn described(request: &Request) -> (&'static str, &str) {
    match request {
        Request::Write(Write::Op(op)) => match op {
            Op::Create(Create { path, .. }) => ("create", path),
            Op::Delete { path, .. } => ("delete", path),
            Op::SetData { path, .. } => ("setData", path),
            Op::Check { path, .. } => ("check", path),
        },
        Request::Write(Write::SetAcl { path, .. }) => ("setACL", path),
        Request::Write(Write::Multi(_)) => ("multi", ""),
        Request::Write(Write::CloseSession) => ("closeSession", ""),
        Request::Write(_) => ("proposeAt", ""),
        Request::Read(read) => match read {
            Read::Exists { path, .. } => ("exists", path),
            Read::GetData { path, .. } => ("getData", path),
            Read::GetAcl { path } => ("getACL", path),
            Read::Children { path, .. } => ("getChildren", path),
            Read::DescendantCount { path } => ("getAllChildrenNumber", path),
            Read::Ephemerals { prefix } => ("getEphemerals", prefix.as_deref().unwrap_or("")),
            Read::Multi(_) => ("multiRead", ""),
            Read::WhoAmI => ("whoAmI", ""),
        },
        Request::Watch(watch) => match watch {
            WatchRequest::Add { path, .. } => ("addWatch", path),
            WatchRequest::Check { path, .. } => ("checkWatches", path),
            WatchRequest::Remove { path, .. } => ("removeWatches", path),
            WatchRequest::Rearm(_) => ("setWatches", ""),
        },
        Request::Sync { path } => ("sync", path),
        Request::Ping => ("ping", ""),
        Request::Auth { .. } => ("auth", ""),
        Request::Sasl(_) => ("sasl", ""),
        Request::Reconfig(_) => ("reconfig", ""),
    }
}
