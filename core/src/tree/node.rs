use std::iter::repeat_n;
use std::sync::Arc;

use bytes::Bytes;

use super::digest::Term;
use crate::model::{CreateMode, SessionId, Stat, Zxid};

/// The number of a znode in the arena. It is used again after a deletion, and it differs between
/// members: it never shows.
pub(super) type NodeId = u32;

/// No znode, in links.
pub(super) const NIL: NodeId = NodeId::MAX;

/// Data of at least this size is handed out without a copy; below, a copy is cheaper than the
/// bookkeeping, and pins nothing.
const SHARED_DATA_BYTES_MIN: usize = 1024;

/// Most bytes of name and data that stand in the znode itself.
const INLINE_BYTES_MAX: usize = 38;

// Bits of `Node::layout`. A name is shorter than a path, which has at most 2^16 − 1 bytes.
const NAME_BYTES_MASK: u32 = 0xF_FFFF;
const NULL_DATA: u32 = 1 << 20;
const KIND_SHIFT: u32 = 30;

/// One znode. It is what a million of are in memory: its size is asserted below.
#[derive(Clone)]
pub(super) struct Node {
    payload: Payload,
    /// Digest of full path and data, kept so that a change of Stat alone needs neither.
    content: u64,
    pub(super) czxid: i64,
    pub(super) mzxid: i64,
    pub(super) pzxid: i64,
    pub(super) ctime_ms: i64,
    pub(super) mtime_ms: i64,
    /// The session or the time to live, by the kind in `layout`.
    owner: i64,
    pub(super) version: i32,
    pub(super) aversion: i32,
    /// How many children were ever created (the server's own not counted): the next sequence
    /// suffix. It stops at `i32::MAX`.
    pub(super) creates: i32,
    pub(super) children: u32,
    pub(super) parent: NodeId,
    pub(super) first_child: NodeId,
    pub(super) next: NodeId,
    pub(super) prev: NodeId,
    pub(super) acl: u32,
    /// Length of the name, whether the data is null, kind of life.
    layout: u32,
}

// Free slots cost nothing extra. Chunks of the arena are as large as they are because of it.
const _: () = assert!(size_of::<Option<Node>>() == 136);

/// The name, then the data.
///
/// Most are small: a lock's contender, a member's address. Those stand in the znode itself: a
/// read waits for memory once less, and a write allocates nothing.
#[derive(Clone)]
enum Payload {
    Inline {
        len: u8,
        bytes: [u8; INLINE_BYTES_MAX],
    },
    /// Shared, so that copying a chunk copies no large data.
    Shared(Arc<[u8]>),
}

impl Payload {
    fn new(name: &[u8], data: &[u8]) -> Payload {
        let len = name.len() + data.len();
        let mut payload = if len <= INLINE_BYTES_MAX {
            Payload::Inline { len: len as u8, bytes: [0; INLINE_BYTES_MAX] }
        } else {
            Payload::Shared(repeat_n(0, len).collect())
        };
        if let Some(bytes) = payload.bytes_mut() {
            bytes[..name.len()].copy_from_slice(name);
            bytes[name.len()..].copy_from_slice(data);
        }
        payload
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Payload::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Payload::Shared(bytes) => bytes,
        }
    }

    /// `None` while somebody else holds them.
    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        match self {
            Payload::Inline { len, bytes } => Some(&mut bytes[..usize::from(*len)]),
            Payload::Shared(bytes) => Arc::get_mut(bytes),
        }
    }
}

/// How long a znode lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Persistent,
    Ephemeral(SessionId),
    Container,
    Ttl { ttl_ms: i64 },
}

impl Life {
    pub(super) fn of(mode: CreateMode, session: SessionId) -> Life {
        match mode {
            CreateMode::Persistent | CreateMode::PersistentSequential => Life::Persistent,
            CreateMode::Ephemeral | CreateMode::EphemeralSequential => Life::Ephemeral(session),
            CreateMode::Container => Life::Container,
            CreateMode::Ttl { ttl_ms } | CreateMode::TtlSequential { ttl_ms } => {
                Life::Ttl { ttl_ms }
            }
        }
    }

    /// The mode that makes such a znode again, never a sequential one.
    pub(super) fn mode(self) -> CreateMode {
        match self {
            Life::Persistent => CreateMode::Persistent,
            Life::Ephemeral(_) => CreateMode::Ephemeral,
            Life::Container => CreateMode::Container,
            Life::Ttl { ttl_ms } => CreateMode::Ttl { ttl_ms },
        }
    }

    /// A kind of two bits and a number.
    pub(super) fn pack(self) -> (u32, i64) {
        match self {
            Life::Persistent => (0, 0),
            Life::Ephemeral(session) => (1, session.0),
            Life::Container => (2, 0),
            Life::Ttl { ttl_ms } => (3, ttl_ms),
        }
    }

    /// The opposite; of the kind only two bits count.
    pub(super) fn unpack(kind: u32, owner: i64) -> Life {
        match kind & 3 {
            0 => Life::Persistent,
            1 => Life::Ephemeral(SessionId(owner)),
            2 => Life::Container,
            _ => Life::Ttl { ttl_ms: owner },
        }
    }
}

/// What a znode says besides its Stat: name and data, together with their digest.
#[derive(Clone)]
pub(super) struct Content {
    payload: Payload,
    null: bool,
    digest: u64,
}

impl Content {
    pub(super) fn new(name: &[u8], data: Option<&[u8]>, digest: u64) -> Content {
        let (null, data) = (data.is_none(), data.unwrap_or_default());
        let payload = Payload::new(name, data);
        Content { payload, null, digest }
    }
}

impl Node {
    /// A znode of that name, not linked to any other but its parent.
    pub(super) fn new(
        parent: NodeId,
        name: &str,
        content: Content,
        acl: u32,
        life: Life,
        zxid: Zxid,
        time_ms: i64,
    ) -> Node {
        let (kind, owner) = life.pack();
        let null = if content.null { NULL_DATA } else { 0 };
        Node {
            payload: content.payload,
            content: content.digest,
            czxid: zxid.as_i64(),
            mzxid: zxid.as_i64(),
            pzxid: zxid.as_i64(),
            ctime_ms: time_ms,
            mtime_ms: time_ms,
            owner,
            version: 0,
            aversion: 0,
            creates: 0,
            children: 0,
            parent,
            first_child: NIL,
            next: NIL,
            prev: NIL,
            acl,
            layout: name.len() as u32 | null | (kind << KIND_SHIFT),
        }
    }

    fn name_bytes(&self) -> usize {
        (self.layout & NAME_BYTES_MASK) as usize
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.payload.bytes()[..self.name_bytes()]
    }

    /// Bytes of name and data.
    pub(super) fn payload_bytes(&self) -> usize {
        self.payload.bytes().len()
    }

    pub(super) fn data_bytes(&self) -> i64 {
        (self.payload.bytes().len() - self.name_bytes()) as i64
    }

    pub(super) fn is_null(&self) -> bool {
        self.layout & NULL_DATA != 0
    }

    pub(super) fn data(&self) -> Option<&[u8]> {
        if self.is_null() { None } else { Some(&self.payload.bytes()[self.name_bytes()..]) }
    }

    pub(super) fn data_for_reply(&self) -> Option<Bytes> {
        let data = self.data()?;
        Some(match &self.payload {
            Payload::Shared(bytes) if data.len() >= SHARED_DATA_BYTES_MIN => {
                Bytes::from_owner(Arc::clone(bytes)).slice(self.name_bytes()..)
            }
            _ => Bytes::copy_from_slice(data),
        })
    }

    /// A number for which the znode itself must have come from memory, all lines of it.
    pub(super) fn touch(&self) -> u64 {
        self.content ^ self.mtime_ms as u64 ^ u64::from(self.layout)
    }

    /// The same of name and data, where they do not stand in the znode.
    pub(super) fn touch_payload(&self) -> u64 {
        let bytes = self.payload.bytes();
        u64::from(bytes.first().copied().unwrap_or(0)) ^ bytes.last().map_or(0, |it| u64::from(*it))
    }

    pub(super) fn content(&self) -> Content {
        Content { payload: self.payload.clone(), null: self.is_null(), digest: self.content }
    }

    /// Replaces name and data by what another state of the same znode held.
    pub(super) fn set_content(&mut self, content: Content) {
        self.payload = content.payload;
        self.content = content.digest;
        self.set_null(content.null);
    }

    /// Replaces the data; in place when nobody else holds it and the size is the same, as it
    /// often is (a counter, a heartbeat, a lock's holder).
    pub(super) fn set_data(&mut self, data: Option<&[u8]>, digest: u64) {
        let name_bytes = self.name_bytes();
        let bytes = data.unwrap_or_default();
        match self.payload.bytes_mut() {
            Some(payload) if payload.len() == name_bytes + bytes.len() => {
                payload[name_bytes..].copy_from_slice(bytes);
                self.content = digest;
                self.set_null(data.is_none());
            }
            _ => self.set_content(Content::new(self.name(), data, digest)),
        }
    }

    fn set_null(&mut self, null: bool) {
        self.layout = if null { self.layout | NULL_DATA } else { self.layout & !NULL_DATA };
    }

    pub(super) fn life(&self) -> Life {
        Life::unpack(self.layout >> KIND_SHIFT, self.owner)
    }

    pub(super) fn is_ephemeral(&self) -> bool {
        self.layout >> KIND_SHIFT == 1
    }

    /// When the coordinator may delete the znode: at any time later than this. `None` while it
    /// may not: it has children, is a container that never had any, or lives by other rules.
    pub(super) fn reap_after_ms(&self) -> Option<i64> {
        if self.children != 0 {
            return None;
        }
        match self.life() {
            Life::Container if self.creates > 0 => Some(i64::MIN),
            Life::Ttl { ttl_ms } => Some(self.mtime_ms.saturating_add(ttl_ms)),
            _ => None,
        }
    }

    pub(super) fn stat(&self) -> Stat {
        let ephemeral_owner = match self.life() {
            Life::Ephemeral(session) => Some(session),
            _ => None,
        };
        Stat {
            czxid: Zxid::from_i64(self.czxid),
            mzxid: Zxid::from_i64(self.mzxid),
            ctime_ms: self.ctime_ms,
            mtime_ms: self.mtime_ms,
            version: self.version,
            cversion: self.creates.wrapping_mul(2).wrapping_sub(self.children as i32),
            aversion: self.aversion,
            ephemeral_owner,
            data_bytes: self.data_bytes() as u32,
            children: self.children,
            pzxid: Zxid::from_i64(self.pzxid),
        }
    }

    /// What the znode adds to the digest of the tree.
    pub(super) fn term(&self, acl: u64) -> u64 {
        let term = Term {
            content: self.content,
            czxid: self.czxid,
            mzxid: self.mzxid,
            pzxid: self.pzxid,
            ctime_ms: self.ctime_ms,
            mtime_ms: self.mtime_ms,
            version: self.version,
            creates: self.creates,
            aversion: self.aversion,
            acl,
            life: self.life(),
        };
        term.digest()
    }
}
