//! The replicated table of sessions.
//!
//! A session is attached to one connection at a time. Each attachment is itself an entry of the
//! log and is named by its zxid; the writes that come through it are numbered from 1. So a write
//! of an older connection is recognized (*session moved*), and so is one that went missing
//! between two others (a *gap*).

use std::collections::BTreeMap;

use crate::model::{Code, Password, Refusal, SessionId, Zxid};

/// What the coordinator knows about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// How long it may go unheard, in milliseconds.
    pub timeout_ms: u32,
    /// The zxid at which it was attached to its present connection.
    pub attachment: Zxid,
    /// The number of the last write through that attachment; 0 before the first.
    pub sequence: u64,
}

#[derive(Clone, Debug)]
struct Session {
    password: Password,
    info: SessionInfo,
}

/// All sessions, in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    by_id: BTreeMap<SessionId, Session>,
}

const OVER: Refusal = Refusal::new(Code::SessionExpired, "the session must be open");
const MOVED: Refusal = Refusal::new(
    Code::SessionMoved,
    "the request must come through the session's present attachment",
);

impl Sessions {
    pub(crate) fn info(&self, id: SessionId) -> Option<SessionInfo> {
        self.by_id.get(&id).map(|session| session.info)
    }

    /// Whether the session is open and this is its password, compared in constant time.
    pub(crate) fn admits(&self, id: SessionId, password: &[u8]) -> bool {
        self.by_id.get(&id).is_some_and(|session| session.password.matches(password))
    }

    pub(crate) fn create(
        &mut self,
        id: SessionId,
        password: Password,
        timeout_ms: u32,
        zxid: Zxid,
    ) -> Result<(), Refusal> {
        if id == SessionId::SYSTEM || self.by_id.contains_key(&id) {
            return Err(Refusal::new(Code::SystemError, "the number of a new session is free"));
        }
        let info = SessionInfo { timeout_ms, attachment: zxid, sequence: 0 };
        self.by_id.insert(id, Session { password, info });
        Ok(())
    }

    pub(crate) fn attach(
        &mut self,
        id: SessionId,
        timeout_ms: u32,
        zxid: Zxid,
    ) -> Result<(), Refusal> {
        let session = self.by_id.get_mut(&id).ok_or(OVER)?;
        session.info = SessionInfo { timeout_ms, attachment: zxid, sequence: 0 };
        Ok(())
    }

    /// Takes the next write of an attachment, or says why it may not be done.
    pub(crate) fn admit_write(
        &mut self,
        id: SessionId,
        attachment: Zxid,
        sequence: u64,
    ) -> Result<(), Refusal> {
        let info = &mut self.by_id.get_mut(&id).ok_or(OVER)?.info;
        if info.attachment != attachment {
            return Err(MOVED);
        }
        if info.sequence.checked_add(1) != Some(sequence) {
            return Err(Refusal::new(
                Code::SequenceGap,
                "the writes of an attachment come one after the other, none missing",
            ));
        }
        info.sequence = sequence;
        Ok(())
    }

    /// Takes the session out if it is still as it was when it was judged to be dead.
    pub(crate) fn expire(
        &mut self,
        id: SessionId,
        attachment: Zxid,
        sequence: u64,
    ) -> Result<(), Refusal> {
        let info = self.by_id.get(&id).ok_or(OVER)?.info;
        if (info.attachment, info.sequence) != (attachment, sequence) {
            return Err(Refusal::new(
                Code::SessionMoved,
                "a session is expired only if it was not heard of since it was judged",
            ));
        }
        self.by_id.remove(&id);
        Ok(())
    }

    pub(crate) fn close(&mut self, id: SessionId) {
        self.by_id.remove(&id);
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// A digest of the whole table, for comparing replicas.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        for (id, Session { password, info }) in &self.by_id {
            hasher.update(&id.0.to_le_bytes());
            hasher.update(&password.0);
            hasher.update(&info.timeout_ms.to_le_bytes());
            hasher.update(&info.attachment.as_i64().to_le_bytes());
            hasher.update(&info.sequence.to_le_bytes());
        }
        hasher.digest()
    }
}
