//! Records that several messages share.

use bytes::{BufMut, BytesMut};

use super::jute::{DecodeError, Decoder, Encoder};
use crate::model::{Acl, CreateMode, Identity, Perms, SessionId, Stat, Zxid};

/// The least that one line of an ACL takes: permissions and two empty strings.
pub(super) const ACL_BYTES_MIN: usize = 12;

pub(super) fn put_stat(out: &mut BytesMut, stat: &Stat) {
    out.put_i64(stat.czxid.as_i64());
    out.put_i64(stat.mzxid.as_i64());
    out.put_i64(stat.ctime_ms);
    out.put_i64(stat.mtime_ms);
    out.put_i32(stat.version);
    out.put_i32(stat.cversion);
    out.put_i32(stat.aversion);
    out.put_i64(stat.ephemeral_owner.map_or(0, |session| session.0));
    out.put_i32(stat.data_bytes as i32);
    out.put_i32(stat.children as i32);
    out.put_i64(stat.pzxid.as_i64());
}

pub(super) fn take_stat(from: &mut Decoder) -> Result<Stat, DecodeError> {
    Ok(Stat {
        czxid: Zxid::from_i64(from.i64()?),
        mzxid: Zxid::from_i64(from.i64()?),
        ctime_ms: from.i64()?,
        mtime_ms: from.i64()?,
        version: from.i32()?,
        cversion: from.i32()?,
        aversion: from.i32()?,
        ephemeral_owner: match from.i64()? {
            0 => None,
            owner => Some(SessionId(owner)),
        },
        data_bytes: from.i32()? as u32,
        children: from.i32()? as u32,
        pzxid: Zxid::from_i64(from.i64()?),
    })
}

pub(super) fn put_acl(out: &mut BytesMut, acl: &[Acl]) {
    out.vector(acl, |out, line| {
        out.put_i32(line.perms.0 as i32);
        out.string(&line.who.scheme);
        out.string(&line.who.id);
    });
}

/// Null is empty, which no znode may have.
pub(super) fn take_acl(from: &mut Decoder) -> Result<Vec<Acl>, DecodeError> {
    let acl = from.vector(ACL_BYTES_MIN, |from| {
        let perms = Perms(from.i32()? as u32);
        Ok(Acl { perms, who: Identity { scheme: from.string()?, id: from.string()? } })
    })?;
    Ok(acl.unwrap_or_default())
}

/// The mode of `flags`; `None` where they mean nothing. A TTL that is missing is given as −1,
/// which the tree refuses.
pub(super) fn mode_of(flags: i32, ttl_ms: i64) -> Option<CreateMode> {
    Some(match flags {
        0 => CreateMode::Persistent,
        1 => CreateMode::Ephemeral,
        2 => CreateMode::PersistentSequential,
        3 => CreateMode::EphemeralSequential,
        4 => CreateMode::Container,
        5 => CreateMode::Ttl { ttl_ms },
        6 => CreateMode::TtlSequential { ttl_ms },
        _ => return None,
    })
}
