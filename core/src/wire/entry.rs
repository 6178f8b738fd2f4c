//! Log entries in bytes: on disk, and between members. The format is our own, no client speaks it.
//!
//! A format byte, the entry's fields in their order, and the request behind the number of its kind.
//! Numbers are big-endian; texts, data and lists begin with their length, as in the protocol.
//! An entry ends where its bytes end: what holds it (a record of the log, a frame) knows its length.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::jute::{DecodeError, Decoder, Encoder};
use super::records::{ACL_BYTES_MIN, mode_of, put_acl};
use crate::model::{
    Acl, Create, CreateMode, Entry, Identity, Op, Password, Perms, SessionId, Write, Zxid,
};

/// The first byte of every entry. A change of the layout below takes the next number.
const ENTRY_FORMAT: u8 = 1;

/// Numbers of the kinds of requests.
mod kind {
    pub(super) const OP: u8 = 1;
    pub(super) const SET_ACL: u8 = 2;
    pub(super) const MULTI: u8 = 3;
    pub(super) const PROPOSE_AT: u8 = 4;
    pub(super) const CREATE_SESSION: u8 = 5;
    pub(super) const ATTACH: u8 = 6;
    pub(super) const CLOSE_SESSION: u8 = 7;
    pub(super) const EXPIRE_SESSION: u8 = 8;
    pub(super) const REAP: u8 = 9;
    pub(super) const CONFIGURE: u8 = 10;
}

/// Numbers of the kinds of operations.
mod op {
    pub(super) const CREATE: u8 = 1;
    pub(super) const DELETE: u8 = 2;
    pub(super) const SET_DATA: u8 = 3;
    pub(super) const CHECK: u8 = 4;
}

/// The least that an identity takes: two empty texts.
const IDENTITY_BYTES_MIN: usize = 8;
/// The least that an operation takes: kind, an empty path and a version.
const OP_BYTES_MIN: usize = 9;

/// Appends an entry, without a length in front.
pub fn encode_entry(out: &mut BytesMut, entry: &Entry) {
    let Entry { session, attachment, sequence, identities, time_ms, request } = entry;
    out.put_u8(ENTRY_FORMAT);
    out.put_i64(session.0);
    out.put_i64(attachment.as_i64());
    out.put_u64(*sequence);
    out.vector(identities, put_identity);
    out.put_i64(*time_ms);
    put_request(out, request);
}

fn put_request(out: &mut BytesMut, request: &Write) {
    match request {
        Write::Op(op) => {
            out.put_u8(kind::OP);
            put_op(out, op);
        }
        Write::SetAcl { path, acl, version } => {
            out.put_u8(kind::SET_ACL);
            out.string(path);
            put_acl(out, acl);
            out.put_i32(*version);
        }
        Write::Multi(ops) => {
            out.put_u8(kind::MULTI);
            out.vector(ops, put_op);
        }
        Write::ProposeAt { zxid, op } => {
            out.put_u8(kind::PROPOSE_AT);
            out.put_i64(zxid.as_i64());
            put_op(out, op);
        }
        Write::CreateSession { id, password, timeout_ms } => {
            out.put_u8(kind::CREATE_SESSION);
            out.put_i64(id.0);
            out.put_slice(&password.0);
            out.put_u32(*timeout_ms);
        }
        Write::Attach { timeout_ms } => {
            out.put_u8(kind::ATTACH);
            out.put_u32(*timeout_ms);
        }
        Write::CloseSession => out.put_u8(kind::CLOSE_SESSION),
        Write::ExpireSession { id, attachment, sequence } => {
            out.put_u8(kind::EXPIRE_SESSION);
            out.put_i64(id.0);
            out.put_i64(attachment.as_i64());
            out.put_u64(*sequence);
        }
        Write::Reap { path } => {
            out.put_u8(kind::REAP);
            out.string(path);
        }
        Write::Configure { members } => {
            out.put_u8(kind::CONFIGURE);
            out.string(members);
        }
    }
}

fn put_op(out: &mut BytesMut, op: &Op) {
    match op {
        Op::Create(Create { path, data, acl, mode }) => {
            out.put_u8(op::CREATE);
            out.string(path);
            out.buffer(data.as_deref());
            put_acl(out, acl);
            out.put_u8(mode.flags() as u8);
            if let Some(ttl_ms) = mode.ttl_ms() {
                out.put_i64(ttl_ms);
            }
        }
        Op::Delete { path, version } => {
            out.put_u8(op::DELETE);
            out.string(path);
            out.put_i32(*version);
        }
        Op::SetData { path, data, version } => {
            out.put_u8(op::SET_DATA);
            out.string(path);
            out.buffer(data.as_deref());
            out.put_i32(*version);
        }
        Op::Check { path, version } => {
            out.put_u8(op::CHECK);
            out.string(path);
            out.put_i32(*version);
        }
    }
}

fn put_identity(out: &mut BytesMut, identity: &Identity) {
    out.string(&identity.scheme);
    out.string(&identity.id);
}

/// Reads the entry that `bytes` hold, and nothing else. Data shares their memory.
///
/// # Errors
/// [`DecodeError::UnknownFormat`] for what another version wrote; the others for what none did.
/// No input makes it panic, or reserve more than a small multiple of its own length.
pub fn decode_entry(bytes: Bytes) -> Result<Entry, DecodeError> {
    let mut from = Decoder::new(bytes);
    let found = from.u8()?;
    if found != ENTRY_FORMAT {
        return Err(DecodeError::UnknownFormat { what: "log entry", found, known: ENTRY_FORMAT });
    }
    let entry = Entry {
        session: SessionId(from.i64()?),
        attachment: Zxid::from_i64(from.i64()?),
        sequence: from.u64()?,
        identities: from.list(IDENTITY_BYTES_MIN, take_identity)?.into(),
        time_ms: from.i64()?,
        request: take_request(&mut from)?,
    };
    if from.is_empty() { Ok(entry) } else { Err(DecodeError::Trailing) }
}

fn take_request(from: &mut Decoder) -> Result<Write, DecodeError> {
    Ok(match from.u8()? {
        kind::OP => Write::Op(take_op(from)?),
        kind::SET_ACL => {
            Write::SetAcl { path: take_path(from)?, acl: take_acl(from)?, version: from.i32()? }
        }
        kind::MULTI => Write::Multi(from.list(OP_BYTES_MIN, take_op)?),
        kind::PROPOSE_AT => {
            Write::ProposeAt { zxid: Zxid::from_i64(from.i64()?), op: take_op(from)? }
        }
        kind::CREATE_SESSION => Write::CreateSession {
            id: SessionId(from.i64()?),
            password: Password(from.array()?),
            timeout_ms: from.u32()?,
        },
        kind::ATTACH => Write::Attach { timeout_ms: from.u32()? },
        kind::CLOSE_SESSION => Write::CloseSession,
        kind::EXPIRE_SESSION => Write::ExpireSession {
            id: SessionId(from.i64()?),
            attachment: Zxid::from_i64(from.i64()?),
            sequence: from.u64()?,
        },
        kind::REAP => Write::Reap { path: take_path(from)? },
        kind::CONFIGURE => Write::Configure { members: from.text(|text| Arc::from(text))? },
        other => return Err(unknown("request", other)),
    })
}

fn take_op(from: &mut Decoder) -> Result<Op, DecodeError> {
    Ok(match from.u8()? {
        op::CREATE => Op::Create(Create {
            path: take_path(from)?,
            data: from.buffer()?,
            acl: take_acl(from)?,
            mode: take_mode(from)?,
        }),
        op::DELETE => Op::Delete { path: take_path(from)?, version: from.i32()? },
        op::SET_DATA => {
            Op::SetData { path: take_path(from)?, data: from.buffer()?, version: from.i32()? }
        }
        op::CHECK => Op::Check { path: take_path(from)?, version: from.i32()? },
        other => return Err(unknown("operation", other)),
    })
}

fn take_mode(from: &mut Decoder) -> Result<CreateMode, DecodeError> {
    let flags = from.u8()?;
    Ok(match mode_of(flags.into(), 0).ok_or(unknown("create mode", flags))? {
        CreateMode::Ttl { .. } => CreateMode::Ttl { ttl_ms: from.i64()? },
        CreateMode::TtlSequential { .. } => CreateMode::TtlSequential { ttl_ms: from.i64()? },
        mode => mode,
    })
}

fn take_acl(from: &mut Decoder) -> Result<Vec<Acl>, DecodeError> {
    from.list(ACL_BYTES_MIN, |from| {
        Ok(Acl { perms: Perms(from.u32()?), who: take_identity(from)? })
    })
}

fn take_identity(from: &mut Decoder) -> Result<Identity, DecodeError> {
    Ok(Identity { scheme: from.text(str::to_owned)?, id: from.text(str::to_owned)? })
}

fn take_path(from: &mut Decoder) -> Result<Arc<str>, DecodeError> {
    from.text(|text| Arc::from(text))
}

fn unknown(what: &'static str, value: u8) -> DecodeError {
    DecodeError::BadValue { what, value: value.into() }
}
