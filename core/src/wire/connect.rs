//! The handshake.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::frame;
use super::jute::{DecodeError, Decoder, Encoder};
use crate::model::{SessionId, Zxid};

/// The first frame of a client.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// The highest zxid that the client has seen.
    pub last_zxid: Zxid,
    /// The session timeout that it wishes for, in milliseconds.
    pub timeout_ms: i32,
    /// The session to re-attach; 0 asks for a new one.
    pub session: SessionId,
    /// The session's password.
    pub password: Bytes,
    /// Whether a server without a quorum will do; `None` from old clients, which do not say, and
    /// then do not expect it in the reply either.
    pub read_only: Option<bool>,
}

/// The first frame of a server.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectReply {
    /// The timeout that was granted, in milliseconds; 0 says that the session is over.
    pub timeout_ms: i32,
    /// The session.
    pub session: SessionId,
    /// Its password.
    pub password: Bytes,
    /// Whether the server is read-only; left out for clients that did not say.
    pub read_only: Option<bool>,
}

impl fmt::Debug for ConnectRequest {
    /// Shows everything but the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectRequest")
            .field("last_zxid", &self.last_zxid)
            .field("timeout_ms", &self.timeout_ms)
            .field("session", &self.session)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ConnectReply {
    /// Shows everything but the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectReply")
            .field("timeout_ms", &self.timeout_ms)
            .field("session", &self.session)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

impl ConnectRequest {
    /// The least that a payload has.
    pub const BYTES_MIN: usize = 44;

    /// Reads a payload. What stands behind the record is passed over.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off, or its password runs beyond it.
    pub fn decode(payload: Bytes) -> Result<ConnectRequest, DecodeError> {
        if payload.len() < ConnectRequest::BYTES_MIN {
            return Err(DecodeError::CutOff);
        }
        let mut from = Decoder::new(payload);
        let _version = from.i32()?;
        Ok(ConnectRequest {
            last_zxid: Zxid::from_i64(from.i64()?),
            timeout_ms: from.i32()?,
            session: SessionId(from.i64()?),
            password: from.buffer()?.unwrap_or_default(),
            read_only: if from.is_empty() { None } else { Some(from.bool()?) },
        })
    }

    /// Appends it as a frame.
    pub fn encode(&self, out: &mut BytesMut) {
        frame(out, |out| {
            out.put_i32(0);
            out.put_i64(self.last_zxid.as_i64());
            out.put_i32(self.timeout_ms);
            out.put_i64(self.session.0);
            out.buffer(Some(&self.password));
            if let Some(read_only) = self.read_only {
                out.bool(read_only);
            }
        });
    }
}

impl ConnectReply {
    /// The least that a payload has: a reply without password and `read_only`.
    pub const BYTES_MIN: usize = 20;

    /// What a session that cannot be re-attached is answered.
    pub fn session_over(read_only: Option<bool>) -> ConnectReply {
        let password = Bytes::from_static(&[0; 16]);
        ConnectReply { timeout_ms: 0, session: SessionId(0), password, read_only }
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off, or its password runs beyond it.
    pub fn decode(payload: Bytes) -> Result<ConnectReply, DecodeError> {
        let mut from = Decoder::new(payload);
        let _version = from.i32()?;
        Ok(ConnectReply {
            timeout_ms: from.i32()?,
            session: SessionId(from.i64()?),
            password: from.buffer()?.unwrap_or_default(),
            read_only: if from.is_empty() { None } else { Some(from.bool()?) },
        })
    }

    /// Appends it as a frame.
    pub fn encode(&self, out: &mut BytesMut) {
        frame(out, |out| {
            out.put_i32(0);
            out.put_i32(self.timeout_ms);
            out.put_i64(self.session.0);
            out.buffer(Some(&self.password));
            if let Some(read_only) = self.read_only {
                out.bool(read_only);
            }
        });
    }
}
