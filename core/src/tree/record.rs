//! A znode in a snapshot.
//!
//! Its place is told by how many levels it lies above the one before it, its ACL by a number. Most
//! znodes were never changed since they were created: flags say which fields are there. In order:
//! flags (1 byte), levels (2), length of the name (2), number of the ACL (4), length of the data
//! (4), czxid (8), ctime (8); owner or time to live (8); mzxid (8), mtime (8), version (4); pzxid
//! (8), sequence counter (4); aversion (4); the ACL itself where it is used first; name; data.

use bytes::{BufMut, BytesMut};

use super::node::{Life, Node};
use crate::cursor::{Cursor, Stop};
use crate::model::limits::{ACL_ENTRIES_MAX, DATA_BYTES_MAX, TTL_MS_MAX};
use crate::model::{Acl, Identity, Perms};

/// Most bytes of a record without ACL, name and data.
pub(super) const FIELDS_BYTES_MAX: usize = 73;

// Bits of the flags.
const LIFE_MASK: u8 = 0b11;
const NULL_DATA: u8 = 1 << 2;
/// Its data was set.
const SET: u8 = 1 << 3;
/// It has had children.
const PARENT: u8 = 1 << 4;
/// Its ACL was set, or it is the configuration znode.
const ACL_SET: u8 = 1 << 5;
/// The ACL follows.
const NEW_ACL: u8 = 1 << 6;
const KNOWN: u8 = LIFE_MASK | NULL_DATA | SET | PARENT | ACL_SET | NEW_ACL;

/// What a record says.
pub(super) struct Record<'a> {
    /// How many levels above the znode of the record before; its child is 0.
    pub(super) up: u16,
    pub(super) name: &'a str,
    pub(super) data: Option<&'a [u8]>,
    /// The number of the ACL in the snapshot, in the order of first use.
    pub(super) acl: u32,
    /// The ACL where it is used first.
    pub(super) new_acl: Option<Vec<Acl>>,
    pub(super) life: Life,
    pub(super) czxid: i64,
    pub(super) mzxid: i64,
    pub(super) pzxid: i64,
    pub(super) ctime_ms: i64,
    pub(super) mtime_ms: i64,
    pub(super) version: i32,
    pub(super) aversion: i32,
    pub(super) creates: i32,
}

/// Appends the record of a znode.
pub(super) fn put(out: &mut BytesMut, node: &Node, up: u16, acl: u32, new_acl: Option<&[Acl]>) {
    let (kind, owner) = node.life().pack();
    let (name, data) = (node.name(), node.data());
    let is_set = (node.mzxid, node.mtime_ms, node.version) != (node.czxid, node.ctime_ms, 0);
    let is_parent = (node.pzxid, node.creates) != (node.czxid, 0);
    let flag = |holds: bool, bit: u8| if holds { bit } else { 0 };
    let flags = kind as u8
        | flag(data.is_none(), NULL_DATA)
        | flag(is_set, SET)
        | flag(is_parent, PARENT)
        | flag(node.aversion != 0, ACL_SET)
        | flag(new_acl.is_some(), NEW_ACL);
    let data = data.unwrap_or_default();

    out.put_u8(flags);
    out.put_u16(up);
    // A name is shorter than a path, data than a frame.
    out.put_u16(name.len() as u16);
    out.put_u32(acl);
    out.put_u32(data.len() as u32);
    out.put_i64(node.czxid);
    out.put_i64(node.ctime_ms);
    if has_owner(kind) {
        out.put_i64(owner);
    }
    if is_set {
        out.put_i64(node.mzxid);
        out.put_i64(node.mtime_ms);
        out.put_i32(node.version);
    }
    if is_parent {
        out.put_i64(node.pzxid);
        out.put_i32(node.creates);
    }
    if node.aversion != 0 {
        out.put_i32(node.aversion);
    }
    if let Some(list) = new_acl {
        put_acl(out, list);
    }
    out.put_slice(name);
    out.put_slice(data);
}

fn has_owner(kind: u32) -> bool {
    kind & 1 == 1
}

fn put_acl(out: &mut BytesMut, list: &[Acl]) {
    out.put_u16(list.len() as u16);
    for Acl { perms, who } in list {
        out.put_u32(perms.0);
        for text in [&who.scheme, &who.id] {
            out.put_u32(text.len() as u32);
            out.put_slice(text.as_bytes());
        }
    }
}

impl<'a> Record<'a> {
    /// Reads the next record, and holds it to all rules that need no look at the others.
    pub(super) fn read(from: &mut Cursor<'a>) -> Result<Record<'a>, Stop> {
        let flags = from.u8()?;
        if flags & !KNOWN != 0 {
            return Err(Stop::damaged(format!("flags {flags:#04x}"), "bit 7 is not used"));
        }
        let up = from.u16()?;
        let name_bytes = from.u16()?.into();
        let acl = from.u32()?;
        let data_bytes = from.u32()? as usize;
        let null = flags & NULL_DATA != 0;
        if data_bytes > if null { 0 } else { DATA_BYTES_MAX } {
            let rule = "data has at most 1048575 bytes, and null has none";
            return Err(Stop::damaged(format!("{data_bytes} bytes of data"), rule));
        }
        let (czxid, ctime_ms) = (from.i64()?, from.i64()?);
        let kind = u32::from(flags & LIFE_MASK);
        let life = Life::unpack(kind, if has_owner(kind) { from.i64()? } else { 0 });
        if let Life::Ttl { ttl_ms } = life
            && !(1..=TTL_MS_MAX).contains(&ttl_ms)
        {
            let rule = "a time to live is 1 to 2^40 - 1 ms";
            return Err(Stop::damaged(format!("time to live {ttl_ms}"), rule));
        }
        let (mzxid, mtime_ms, version) = match flags & SET {
            0 => (czxid, ctime_ms, 0),
            _ => (from.i64()?, from.i64()?, from.i32()?),
        };
        let (pzxid, creates) = match flags & PARENT {
            0 => (czxid, 0),
            _ => (from.i64()?, from.i32()?),
        };
        if creates < 0 {
            let rule = "a count is not negative";
            return Err(Stop::damaged(format!("sequence counter {creates}"), rule));
        }
        let aversion = if flags & ACL_SET == 0 { 0 } else { from.i32()? };
        let new_acl = if flags & NEW_ACL == 0 { None } else { Some(take_acl(from)?) };
        let name = from.text("name", name_bytes)?;
        let data = from.bytes(data_bytes)?;
        let data = (!null).then_some(data);
        Ok(Record {
            up,
            name,
            data,
            acl,
            new_acl,
            life,
            czxid,
            mzxid,
            pzxid,
            ctime_ms,
            mtime_ms,
            version,
            aversion,
            creates,
        })
    }
}

/// Lines are not held to the rules of those that clients send: the identities that stand for
/// `auth` are kept as they were proved.
fn take_acl(from: &mut Cursor<'_>) -> Result<Vec<Acl>, Stop> {
    let lines = usize::from(from.u16()?);
    if !(1..=ACL_ENTRIES_MAX).contains(&lines) {
        let rule = "an ACL has 1 to 1024 entries";
        return Err(Stop::damaged(format!("an ACL of {lines} entries"), rule));
    }
    let mut list = Vec::new();
    for _ in 0..lines {
        let perms = Perms(from.u32()?);
        let mut text = || {
            let length = from.u32()? as usize;
            from.text("ACL", length).map(str::to_owned)
        };
        list.push(Acl { perms, who: Identity { scheme: text()?, id: text()? } });
    }
    Ok(list)
}
