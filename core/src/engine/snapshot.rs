//! A snapshot: the whole replicated state of one moment in bytes.
//!
//! A head (magic, format, last zxid, digest, how many sessions and znodes), then the sessions in
//! the order of their numbers, then the znodes, parents before their children. Numbers are
//! big-endian. Watches are not in it: they belong to the connections of one member.

use std::vec;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Engine, Plant, SessionInfo, digest_of};
use crate::cursor::{Cursor, Stop};
use crate::model::limits::SNAPSHOT_CHUNK_BYTES;
use crate::model::{SessionId, Zxid};
use crate::session::{self, Session, SessionsView};
use crate::tree::{TreeDump, TreeView};

const MAGIC: [u8; 8] = *b"synodsnp";

/// A change of the layout, or of how digests are made, takes the next number.
pub(super) const FORMAT: u8 = 1;

/// The state of an [`Engine`] at one point in time, unaffected by what is applied later.
///
/// It can be sent to another thread and written out there. While it lives, each chunk of znodes
/// that is written to is copied once.
#[derive(Clone)]
pub struct EngineView {
    tree: TreeView,
    sessions: SessionsView,
    last_zxid: Zxid,
}

impl Engine {
    /// The replicated state as it is now, to be written out while applying goes on.
    pub fn snapshot(&self) -> EngineView {
        let (tree, mut sessions) = (self.tree.view(), self.sessions.view());
        if self.tree.planted.is(Plant::SnapshotWithoutSessions) {
            sessions = crate::session::Sessions::default().view();
        }
        EngineView { tree, sessions, last_zxid: self.last_zxid() }
    }
}

impl EngineView {
    /// The zxid of the last entry that took one.
    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }

    /// What [`Engine::digest`] was. It takes a time that grows with the number of open sessions.
    pub fn digest(&self) -> u64 {
        self.digest_with(&self.sessions.sorted())
    }

    fn digest_with(&self, sessions: &[Session]) -> u64 {
        digest_of(self.tree.digest(), session::digest(sessions.iter()), self.last_zxid)
    }

    /// The znodes.
    pub fn tree(&self) -> &TreeView {
        &self.tree
    }

    /// The open sessions, in the order of their numbers.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, SessionInfo)> {
        self.sessions.sorted().into_iter().map(|session| session.known())
    }

    /// The snapshot, in pieces of [`SNAPSHOT_CHUNK_BYTES`] and what one znode takes more; the last
    /// is shorter. Each is made when it is asked for. [`Restore`](super::Restore) reads them.
    pub fn chunks(self) -> SnapshotChunks {
        let sessions = self.sessions.sorted();
        let head = Head {
            last_zxid: self.last_zxid,
            digest: self.digest_with(&sessions),
            sessions: sessions.len() as u64,
            znodes: self.tree.len() as u64,
        };
        let (sessions, tree) = (sessions.into_iter(), TreeDump::new(self.tree));
        SnapshotChunks { head: Some(head), sessions, tree, more: true }
    }
}

/// The pieces of a snapshot: see [`EngineView::chunks`].
pub struct SnapshotChunks {
    /// Until it is written.
    head: Option<Head>,
    sessions: vec::IntoIter<Session>,
    tree: TreeDump,
    /// Whether znodes are left.
    more: bool,
}

impl Iterator for SnapshotChunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if !self.more {
            return None;
        }
        // Most pieces end within the first few hundred bytes past their size.
        let mut out = BytesMut::with_capacity(SNAPSHOT_CHUNK_BYTES + SNAPSHOT_CHUNK_BYTES / 64);
        if let Some(head) = self.head.take() {
            head.put(&mut out);
        }
        while out.len() < SNAPSHOT_CHUNK_BYTES
            && let Some(session) = self.sessions.next()
        {
            session.put(&mut out);
        }
        self.more = self.tree.fill(&mut out, SNAPSHOT_CHUNK_BYTES);
        Some(out.freeze())
    }
}

/// What stands before everything else.
pub(super) struct Head {
    pub(super) last_zxid: Zxid,
    pub(super) digest: u64,
    pub(super) sessions: u64,
    pub(super) znodes: u64,
}

/// Why there is no head.
pub(super) enum NoHead {
    Stop(Stop),
    Magic,
    Format(u8),
}

impl From<Stop> for NoHead {
    fn from(stop: Stop) -> NoHead {
        NoHead::Stop(stop)
    }
}

impl Head {
    fn put(&self, out: &mut BytesMut) {
        out.put_slice(&MAGIC);
        out.put_u8(FORMAT);
        out.put_i64(self.last_zxid.as_i64());
        out.put_u64(self.digest);
        out.put_u64(self.sessions);
        out.put_u64(self.znodes);
    }

    pub(super) fn read(from: &mut Cursor<'_>) -> Result<Head, NoHead> {
        if from.array()? != MAGIC {
            return Err(NoHead::Magic);
        }
        let format = from.u8()?;
        if format != FORMAT {
            return Err(NoHead::Format(format));
        }
        let last_zxid = from.i64()?;
        if last_zxid < 0 {
            let what = format!("last zxid {last_zxid}");
            return Err(Stop::damaged(what, "a zxid is not negative").into());
        }
        let (digest, sessions, znodes) = (from.u64()?, from.u64()?, from.u64()?);
        for (what, count) in [("sessions", sessions), ("znodes", znodes)] {
            if count >= u64::from(u32::MAX - 1) {
                let what = format!("a count of {count} {what}");
                return Err(Stop::damaged(what, "there are fewer than 2^32 - 2 of them").into());
            }
        }
        Ok(Head { last_zxid: Zxid::from_i64(last_zxid), digest, sessions, znodes })
    }
}
