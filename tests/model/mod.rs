//! The coordinator as plain maps and sets.
//!
//! It is written from the specification alone, to be *obviously right* rather than fast: the
//! tree is a map of full paths, what has no field of its own is counted anew each time, and a
//! transaction works on the state and puts a clone of the old one back when it fails. It shares
//! no code with the engine but the types of requests and responses; a rule that the types come
//! with (valid paths, the next zxid) is written here a second time.
//!
//! | file | what it holds |
//! |---|---|
//! | `mod` | sessions, and what an entry of the log does |
//! | `tree` | znodes, and the operations on them |
//! | `quotas` | how much there may be at a path and below |
//! | `reads` | what is answered without a change |
//! | `watches` | who is told of what |
//! | `acl`, `paths`, `zxids` | the rules named so |

mod acl;
mod paths;
mod quotas;
mod reads;
mod tree;
mod watches;
mod zxids;

use std::collections::BTreeMap;
use std::sync::Arc;

use synod_core::model::limits::{MULTI_BYTES_MAX, MULTI_OPS_MAX};
use synod_core::model::{
    Code, Entry, Event, Identity, Op, OpResult, Response, SessionId, Write, Zxid,
};

pub use tree::{Lifetime, Znode};
pub use watches::Watches;

/// Why the model refuses: as a refusal of the engine, without its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The code of the protocol.
    pub code: Code,
    /// In a transaction, the place of the operation that failed, from 0.
    pub index: Option<u32>,
}

impl From<Code> for Fault {
    fn from(code: Code) -> Fault {
        Fault { code, index: None }
    }
}

/// What came of an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The zxid it took, or the last one if it took none.
    pub zxid: Zxid,
    /// The answer.
    pub result: Result<Response, Fault>,
}

/// An event, and the session that is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// To whom.
    pub session: SessionId,
    /// Of what.
    pub event: Event,
}

/// A session as the log knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its timeout in milliseconds.
    pub timeout_ms: u32,
    /// The zxid at which it was attached last.
    pub attachment: Zxid,
    /// How many writes have come through that attachment.
    pub sequence: u64,
}

/// What an operation's outcome depends on besides the state.
#[derive(Clone, Debug)]
struct Change {
    zxid: Zxid,
    time_ms: i64,
    session: SessionId,
    identities: Arc<[Identity]>,
}

/// The whole state of one member: what is replicated (tree, sessions, last zxid), and its own
/// watches.
#[derive(Clone, Debug)]
pub struct NaiveCoordinator {
    nodes: BTreeMap<String, Znode>,
    sessions: BTreeMap<SessionId, Session>,
    watches: Watches,
    last: Zxid,
}

impl Default for NaiveCoordinator {
    fn default() -> NaiveCoordinator {
        NaiveCoordinator::new()
    }
}

impl NaiveCoordinator {
    /// A coordinator that has nothing but its own znodes.
    pub fn new() -> NaiveCoordinator {
        NaiveCoordinator {
            nodes: tree::own_znodes(),
            sessions: BTreeMap::new(),
            watches: Watches::default(),
            last: Zxid::ZERO,
        }
    }

    /// The zxid of the last change.
    pub fn last_zxid(&self) -> Zxid {
        self.last
    }

    /// The zxid that a change takes under a leader of `term`; `None` when no number is left.
    pub fn next_zxid(&self, term: u64) -> Option<Zxid> {
        zxids::next(self.last, term)
    }

    /// All znodes by path.
    pub fn nodes(&self) -> &BTreeMap<String, Znode> {
        &self.nodes
    }

    /// Sets how many children the root has ever had: the next sequence suffix there.
    pub fn set_creates_of_root(&mut self, creates: i32) {
        if let Some(root) = self.nodes.get_mut("/") {
            root.creates = creates;
        }
    }

    /// What is known of a session that lives.
    pub fn session(&self, id: SessionId) -> Option<Session> {
        self.sessions.get(&id).copied()
    }

    /// Lets a session that is in no log be told of every change of a znode, as a recursive watch
    /// on the root is.
    pub fn observe_everything(&mut self, observer: SessionId) {
        let nobody = Session { timeout_ms: 0, attachment: Zxid::ZERO, sequence: 0 };
        self.sessions.insert(observer, nobody);
        self.watches.know(observer, &Arc::from([Identity::new("super", "")]));
        self.watches.leave(watches::Kind::Recursive, &Arc::from("/"), observer);
    }

    /// The session's connection has proved to be all of this.
    pub fn set_identities(&mut self, session: SessionId, who: &Arc<[Identity]>) {
        self.watches.know(session, who);
    }

    /// The session's connection to this member is gone, and its watches with it.
    pub fn disconnect(&mut self, session: SessionId) {
        self.watches.forget(session);
    }

    /// Applies an entry of the log, and says who is told of what, in order.
    pub fn apply(&mut self, term: u64, entry: &Entry) -> (Verdict, Vec<Told>) {
        let mut told = Vec::new();
        let Some(next) = self.next_zxid(term) else {
            let result = Err(Code::SystemError.into());
            return (Verdict { zxid: self.last, result }, told);
        };
        let mut change = Change {
            zxid: next,
            time_ms: entry.time_ms,
            session: entry.session,
            identities: entry.identities.clone(),
        };
        let result = if entry.session == SessionId::SYSTEM {
            self.apply_of_system(&change, &entry.request, &mut told).map_err(Fault::from)
        } else {
            match self.admit(entry) {
                Err(code) => Err(code.into()),
                Ok(()) => {
                    if let Write::ProposeAt { zxid, .. } = entry.request {
                        if !zxids::may_be(zxid, next) {
                            let result = Err(Code::StaleZxid.into());
                            return (Verdict { zxid: self.last, result }, told);
                        }
                        change.zxid = zxid;
                    }
                    self.apply_of_client(&change, &entry.request, &mut told)
                }
            }
        };
        self.last = change.zxid;
        (Verdict { zxid: change.zxid, result }, told)
    }

    /// Whether the session may write now through that attachment; counts the write if so.
    fn admit(&mut self, entry: &Entry) -> Result<(), Code> {
        let session = self.sessions.get_mut(&entry.session).ok_or(Code::SessionExpired)?;
        if matches!(entry.request, Write::Attach { .. }) {
            return Ok(());
        }
        if entry.attachment != session.attachment {
            return Err(Code::SessionMoved);
        }
        if entry.sequence != session.sequence + 1 {
            return Err(Code::SequenceGap);
        }
        session.sequence += 1;
        Ok(())
    }

    fn apply_of_client(
        &mut self,
        change: &Change,
        request: &Write,
        told: &mut Vec<Told>,
    ) -> Result<Response, Fault> {
        match request {
            Write::Op(op) | Write::ProposeAt { op, .. } => {
                if matches!(op, Op::Check { .. }) {
                    return Err(Code::Unimplemented.into());
                }
                quotas::judge(op, false)?;
                Ok(match self.operate(change, op, told)? {
                    OpResult::Created { path, stat } => Response::Created { path, stat },
                    OpResult::Set(stat) => Response::Stat(stat),
                    OpResult::Deleted | OpResult::Checked => Response::Done,
                })
            }
            Write::SetAcl { path, acl, version } => {
                Ok(Response::Stat(self.set_acl(change, path, acl, *version)?))
            }
            Write::Multi(ops) => self.transact(change, ops, told),
            Write::Attach { timeout_ms } => {
                Ok(self.attach(change.session, *timeout_ms, change.zxid))
            }
            Write::CloseSession => Ok(self.end(change, change.session, told)),
            Write::CreateSession { .. }
            | Write::ExpireSession { .. }
            | Write::Reap { .. }
            | Write::Configure { .. } => Err(Code::Unimplemented.into()),
        }
    }

    /// All or nothing: the old state comes back if one of them fails.
    fn transact(
        &mut self,
        change: &Change,
        ops: &[Op],
        told: &mut Vec<Told>,
    ) -> Result<Response, Fault> {
        if ops.len() > MULTI_OPS_MAX || ops.iter().map(bytes).sum::<usize>() > MULTI_BYTES_MAX {
            return Err(Code::BadArguments.into());
        }
        let before = self.clone();
        let mut told_by_ops = Vec::new();
        let mut results = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            let judged = quotas::judge(op, true);
            match judged.and_then(|()| self.operate(change, op, &mut told_by_ops)) {
                Ok(result) => results.push(result),
                Err(code) => {
                    *self = before;
                    return Err(Fault { code, index: Some(index as u32) });
                }
            }
        }
        told.extend(told_by_ops);
        Ok(Response::Multi(results))
    }

    fn apply_of_system(
        &mut self,
        change: &Change,
        request: &Write,
        told: &mut Vec<Told>,
    ) -> Result<Response, Code> {
        match request {
            Write::CreateSession { id, timeout_ms, .. } => {
                if self.sessions.contains_key(id) {
                    return Err(Code::SystemError);
                }
                Ok(self.attach(*id, *timeout_ms, change.zxid))
            }
            Write::ExpireSession { id, attachment, sequence } => {
                let session = self.sessions.get(id).ok_or(Code::SessionExpired)?;
                if (session.attachment, session.sequence) != (*attachment, *sequence) {
                    return Err(Code::SessionMoved);
                }
                Ok(self.end(change, *id, told))
            }
            Write::Reap { path } => {
                let node = self.nodes.get(&**path).ok_or(Code::NoNode)?;
                if !self.is_reapable(path, node, change.time_ms) {
                    return Err(Code::BadArguments);
                }
                self.remove(change, path, told);
                Ok(Response::Done)
            }
            Write::Configure { members } => {
                let data = format!("{members}\nversion={:x}", change.zxid.as_i64());
                self.put_data(change, "/zookeeper/config", &Some(data.into()), told);
                Ok(Response::Done)
            }
            _ => Err(Code::Unimplemented),
        }
    }

    fn attach(&mut self, session: SessionId, timeout_ms: u32, attachment: Zxid) -> Response {
        self.sessions.insert(session, Session { timeout_ms, attachment, sequence: 0 });
        Response::Attached { session, attachment }
    }

    /// Ends a session: first it hears nothing any more, then its ephemerals go, each as a
    /// deletion of its own, at the one zxid.
    fn end(&mut self, change: &Change, session: SessionId, told: &mut Vec<Told>) -> Response {
        self.watches.forget(session);
        for path in self.ephemerals(session) {
            self.remove(change, &path, told);
        }
        self.sessions.remove(&session);
        Response::Done
    }
}

/// How much an operation counts towards the bound of a transaction.
fn bytes(op: &Op) -> usize {
    let size = |data: &Option<bytes::Bytes>| data.as_ref().map_or(0, |data| data.len());
    match op {
        Op::Create(create) => {
            let who = create.acl.iter().map(|line| line.who.scheme.len() + line.who.id.len());
            create.path.len() + size(&create.data) + who.sum::<usize>()
        }
        Op::SetData { path, data, .. } => path.len() + size(data),
        Op::Delete { path, .. } | Op::Check { path, .. } => path.len(),
    }
}
