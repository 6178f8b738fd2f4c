//! The replicated table of sessions.
//!
//! A session is attached to one connection at a time. Each attachment is itself an entry of the
//! log and is named by its zxid; the writes that come through it are numbered from 1. So a write
//! of an older connection is recognized (*session moved*), and so is one that went missing
//! between two others (a *gap*).

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};

use crate::arena::{Arena, Slots};
use crate::cursor::{Cursor, Stop};
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

/// An open session.
#[derive(Clone)]
pub(crate) struct Session {
    id: SessionId,
    password: Password,
    info: SessionInfo,
}

/// All sessions.
pub(crate) struct Sessions {
    /// Places in the arena, in the order of the sessions' numbers.
    by_id: BTreeMap<SessionId, u32>,
    sessions: Arena<Session>,
}

/// All sessions at one point in time. It costs one count for thousands of them.
#[derive(Clone)]
pub(crate) struct SessionsView {
    sessions: Slots<Session>,
}

impl Session {
    pub(crate) fn known(&self) -> (SessionId, SessionInfo) {
        (self.id, self.info)
    }

    /// Appends the record that [`Sessions::read`] reads.
    pub(crate) fn put(&self, out: &mut BytesMut) {
        out.put_i64(self.id.0);
        out.put_slice(&self.password.0);
        out.put_u32(self.info.timeout_ms);
        out.put_i64(self.info.attachment.as_i64());
        out.put_u64(self.info.sequence);
    }
}

impl SessionsView {
    /// The sessions in the order of their numbers.
    pub(crate) fn sorted(&self) -> Vec<Session> {
        let mut sessions: Vec<Session> = self.sessions.iter().cloned().collect();
        sessions.sort_unstable_by_key(|session| session.id);
        sessions
    }
}

/// A digest of a whole table, in the order of the sessions' numbers, for comparing replicas.
pub(crate) fn digest<'a>(sessions: impl Iterator<Item = &'a Session>) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for Session { id, password, info } in sessions {
        hasher.update(&id.0.to_le_bytes());
        hasher.update(&password.0);
        hasher.update(&info.timeout_ms.to_le_bytes());
        hasher.update(&info.attachment.as_i64().to_le_bytes());
        hasher.update(&info.sequence.to_le_bytes());
    }
    hasher.digest()
}

const OVER: Refusal = Refusal::new(Code::SessionExpired, "the session must be open");
const MOVED: Refusal = Refusal::new(
    Code::SessionMoved,
    "the request must come through the session's present attachment",
);

impl Sessions {
    fn get(&self, id: SessionId) -> Option<&Session> {
        Some(self.sessions.get(*self.by_id.get(&id)?))
    }

    fn info_mut(&mut self, id: SessionId) -> Option<&mut SessionInfo> {
        Some(&mut self.sessions.get_mut(*self.by_id.get(&id)?).info)
    }

    fn insert(&mut self, session: Session) {
        self.by_id.insert(session.id, self.sessions.insert(session));
    }

    pub(crate) fn info(&self, id: SessionId) -> Option<SessionInfo> {
        self.get(id).map(|session| session.info)
    }

    /// Whether the session is open and this is its password, compared in constant time.
    pub(crate) fn admits(&self, id: SessionId, password: &[u8]) -> bool {
        self.get(id).is_some_and(|session| session.password.matches(password))
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
        self.insert(Session { id, password, info });
        Ok(())
    }

    pub(crate) fn attach(
        &mut self,
        id: SessionId,
        timeout_ms: u32,
        zxid: Zxid,
    ) -> Result<(), Refusal> {
        *self.info_mut(id).ok_or(OVER)? = SessionInfo { timeout_ms, attachment: zxid, sequence: 0 };
        Ok(())
    }

    /// Takes the next write of an attachment, or says why it may not be done.
    pub(crate) fn admit_write(
        &mut self,
        id: SessionId,
        attachment: Zxid,
        sequence: u64,
    ) -> Result<(), Refusal> {
        let info = self.info_mut(id).ok_or(OVER)?;
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
        let info = self.info(id).ok_or(OVER)?;
        if (info.attachment, info.sequence) != (attachment, sequence) {
            return Err(Refusal::new(
                Code::SessionMoved,
                "a session is expired only if it was not heard of since it was judged",
            ));
        }
        self.close(id);
        Ok(())
    }

    pub(crate) fn close(&mut self, id: SessionId) {
        if let Some(place) = self.by_id.remove(&id) {
            self.sessions.remove(place);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// In the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SessionId, SessionInfo)> {
        self.by_id.values().map(|place| self.sessions.get(*place).known())
    }

    /// Reads the next session of a snapshot whose last zxid is this. If it is cut off, nothing has
    /// changed.
    pub(crate) fn read(&mut self, from: &mut Cursor<'_>, last_zxid: Zxid) -> Result<(), Stop> {
        let (id, password) = (SessionId(from.i64()?), Password(from.array()?));
        let info = SessionInfo {
            timeout_ms: from.u32()?,
            attachment: Zxid::from_i64(from.i64()?),
            sequence: from.u64()?,
        };
        let before = self.by_id.last_key_value().map(|(id, _)| *id);
        if id == SessionId::SYSTEM || before >= Some(id) {
            let what = format!("session {id}");
            return Err(Stop::damaged(what, "sessions go up by their numbers, and none is 0"));
        }
        if !(Zxid::ZERO..=last_zxid).contains(&info.attachment) {
            let what = format!("attachment {} of session {id}", info.attachment);
            return Err(Stop::damaged(what, "a zxid is 0 to that of the last change"));
        }
        self.insert(Session { id, password, info });
        Ok(())
    }

    pub(crate) fn digest(&self) -> u64 {
        digest(self.by_id.values().map(|place| self.sessions.get(*place)))
    }

    pub(crate) fn view(&self) -> SessionsView {
        SessionsView { sessions: self.sessions.view() }
    }
}

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions { by_id: BTreeMap::new(), sessions: Arena::new() }
    }
}
