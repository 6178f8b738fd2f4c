//! The replicated state machine: tree, sessions and watches behind one [`Engine::apply`].
//!
//! Synchronous and without I/O, clock or randomness: what an entry comes to depends on the
//! entries before it and on nothing else, so that replicas which apply the same log hold the same
//! state ([`Engine::digest`] compares them). Reads and watches concern this member alone.
//!
//! Validity is decided here, where the state is: a request is logged first and judged when it is
//! applied. A failed write takes a zxid too.
//!
//! [`Engine::snapshot`] is the state of one moment, to be written out in [`EngineView::chunks`];
//! [`Restore`] makes an engine of them.

mod config;
mod figures;
mod restore;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use self::restore::{Restore, RestoreError};
pub use self::snapshot::{EngineView, SnapshotChunks};
use crate::model::limits::MULTI_OPS_MAX;
use crate::model::{
    Code, Entry, Event, EventKind, Identity, Op, OpResult, Perms, Read, Rearm, Refusal, Response,
    SessionId, WatchRequest, Write, Zxid, ZxidGate,
};
pub use crate::plant::Plant;
pub use crate::session::SessionInfo;
use crate::session::Sessions;
pub use crate::tree::QuotaWarning;
use crate::tree::{Change, Effect, EffectKind, Tree, TreeView};
use crate::watch::{Kinds, Watches};

/// Who reads or watches: a session on this member, and what its connection has proved to be.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The session.
    pub session: SessionId,
    /// The identities of its connection.
    pub identities: Arc<[Identity]>,
}

/// A watch event for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// Whom to tell.
    pub session: SessionId,
    /// What happened.
    pub event: Event,
}

/// What came of an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The zxid that the entry was given; the last one if it was given none.
    pub zxid: Zxid,
    /// The answer for who asked.
    pub result: Result<Response, Refusal>,
}

const NOT_OPEN: Refusal = Refusal::new(Code::SessionExpired, "the session must be open");
const INTERNAL: Refusal =
    Refusal::new(Code::Unimplemented, "the operation is not one that a client may ask for");

/// Effects of one change that there is always room for: the end of a session can have very many.
const EFFECTS_KEPT: usize = 1_024;

/// What one session, and one reply, may take on a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most watches of a session.
    pub watches_per_session: usize,
    /// Most names in a list of children.
    pub children_per_reply: usize,
}

/// The state of one member.
#[derive(Default)]
pub struct Engine {
    tree: Tree,
    sessions: Sessions,
    watches: Watches,
    /// Sessions of this member alone, which read and watch.
    locals: BTreeSet<SessionId>,
    gate: ZxidGate,
    /// Kept between calls for its capacity; empty outside of them.
    effects: Vec<Effect>,
}

impl Engine {
    /// The state before the first entry.
    pub fn new() -> Engine {
        Engine::default()
    }

    /// Bounds what one session and one reply may take on this member. The state does not depend on
    /// it: members may differ.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.watches.per_session_max = bounds.watches_per_session;
        self.tree.children_listed_max = bounds.children_per_reply;
    }

    /// The zxid of the last entry that took one.
    pub fn last_zxid(&self) -> Zxid {
        self.gate.highest()
    }

    /// Applies the next entry of the log, committed under a leader of `term`, and appends the
    /// watch events to `fired` in the order in which they happened.
    ///
    /// Every entry takes the next zxid, whether it succeeds or not, but for a proposal whose own
    /// zxid is refused.
    pub fn apply(&mut self, term: u64, entry: &Entry, fired: &mut impl Extend<Fired>) -> Applied {
        let last = self.last_zxid();
        let Some(next) = last.next(term) else {
            let rule = "the term must be below 2^31, and zxids must be left";
            return Applied { zxid: last, result: Err(Refusal::new(Code::SystemError, rule)) };
        };
        let admitted = self.admit(entry);
        let zxid = match &entry.request {
            Write::ProposeAt { zxid, .. } if admitted.is_ok() => *zxid,
            _ => next,
        };
        if !zxid.may_follow(last, term) || self.gate.admit(zxid).is_err() {
            let rule = "the zxid must be above the last one, in the current epoch, and near";
            return Applied { zxid: last, result: Err(Refusal::new(Code::StaleZxid, rule)) };
        }
        let result = admitted.and_then(|()| self.execute(zxid, entry, fired));
        Applied { zxid, result }
    }

    /// Whether the entry may be looked at: it comes from an open session, through its present
    /// attachment, and no write before it is missing.
    fn admit(&mut self, entry: &Entry) -> Result<(), Refusal> {
        match (entry.session, &entry.request) {
            (SessionId::SYSTEM, _) => Ok(()),
            // An attachment begins the count anew, whatever was before it.
            (_, Write::Attach { .. }) => Ok(()),
            (session, _) => self.sessions.admit_write(session, entry.attachment, entry.sequence),
        }
    }

    fn execute(
        &mut self,
        zxid: Zxid,
        entry: &Entry,
        fired: &mut impl Extend<Fired>,
    ) -> Result<Response, Refusal> {
        if entry.session == SessionId::SYSTEM {
            return self.execute_system(zxid, entry, fired);
        }
        let change = change_of(entry, zxid, entry.session);
        let response = match &entry.request {
            Write::Op(Op::Check { .. }) | Write::ProposeAt { op: Op::Check { .. }, .. } => {
                let rule = "a check stands in a transaction only";
                return Err(Refusal::new(Code::Unimplemented, rule));
            }
            Write::Op(op) | Write::ProposeAt { op, .. } => {
                match self.tree.op(&change, op, &mut self.effects)? {
                    OpResult::Created { path, stat } => Response::Created { path, stat },
                    OpResult::Set(stat) => Response::Stat(stat),
                    OpResult::Deleted | OpResult::Checked => Response::Done,
                }
            }
            Write::SetAcl { path, acl, version } => {
                Response::Stat(self.tree.set_acl(&change, path, acl, *version)?)
            }
            Write::Multi(ops) => {
                Response::Multi(self.tree.multi(&change, ops, &mut self.effects)?)
            }
            Write::Attach { timeout_ms } => {
                self.sessions.attach(entry.session, *timeout_ms, zxid)?;
                Response::Attached { session: entry.session, attachment: zxid }
            }
            Write::CloseSession => {
                self.sessions.close(entry.session);
                self.bury(&change);
                Response::Done
            }
            Write::CreateSession { .. }
            | Write::ExpireSession { .. }
            | Write::Reap { .. }
            | Write::Configure { .. } => {
                return Err(INTERNAL);
            }
        };
        self.tell(zxid, fired);
        Ok(response)
    }

    /// What the coordinator asks of itself.
    fn execute_system(
        &mut self,
        zxid: Zxid,
        entry: &Entry,
        fired: &mut impl Extend<Fired>,
    ) -> Result<Response, Refusal> {
        let response = match &entry.request {
            Write::CreateSession { id, password, timeout_ms } => {
                self.sessions.create(*id, *password, *timeout_ms, zxid)?;
                Response::Attached { session: *id, attachment: zxid }
            }
            Write::ExpireSession { id, attachment, sequence } => {
                self.sessions.expire(*id, *attachment, *sequence)?;
                self.bury(&change_of(entry, zxid, *id));
                Response::Done
            }
            Write::Reap { path } => {
                let change = change_of(entry, zxid, SessionId::SYSTEM);
                self.tree.reap(&change, path, &mut self.effects)?;
                Response::Done
            }
            Write::Configure { members } => {
                let change = change_of(entry, zxid, SessionId::SYSTEM);
                let data = config::data(members, zxid);
                self.tree.configure(&change, data.as_bytes(), &mut self.effects)?;
                Response::Done
            }
            _ => return Err(INTERNAL),
        };
        self.tell(zxid, fired);
        Ok(response)
    }

    /// Removes what a session leaves behind. Its watches go first: it hears nothing of its end.
    fn bury(&mut self, change: &Change<'_>) {
        self.watches.disconnect(change.session);
        self.tree.remove_ephemerals(change, &mut self.effects);
    }

    /// Turns the effects of a change into events for those who watch and may read.
    fn tell(&mut self, zxid: Zxid, fired: &mut impl Extend<Fired>) {
        let Engine { tree, watches, effects, .. } = self;
        if watches.is_empty() {
            effects.clear();
        }
        for Effect { kind, path, acl, parent_acl } in effects.drain(..) {
            let (event_kind, exact) = match kind {
                EffectKind::Created => (EventKind::Created, Kinds::DATA | Kinds::PERSISTENT),
                EffectKind::Deleted => {
                    (EventKind::Deleted, Kinds::DATA | Kinds::CHILD | Kinds::PERSISTENT)
                }
                EffectKind::DataChanged => {
                    (EventKind::DataChanged, Kinds::DATA | Kinds::PERSISTENT)
                }
            };
            watches.fire(&path, exact, true, |session, identities| {
                if tree.permits(acl, identities, Perms::READ) {
                    let path = Arc::clone(&path);
                    let event = Event { kind: event_kind, path, zxid: Some(zxid) };
                    fired.extend([Fired { session, event }]);
                }
            });
            if kind == EffectKind::DataChanged {
                continue;
            }
            let parent = parent_of(&path);
            // Made when the first session is told: mostly nobody watches the parent.
            let mut shared: Option<Arc<str>> = None;
            watches.fire(parent, Kinds::CHILD | Kinds::PERSISTENT, false, |session, identities| {
                if tree.permits(parent_acl, identities, Perms::READ) {
                    let path = Arc::clone(shared.get_or_insert_with(|| Arc::from(parent)));
                    let kind = EventKind::ChildrenChanged;
                    let event = Event { kind, path, zxid: Some(zxid) };
                    fired.extend([Fired { session, event }]);
                }
            });
        }
        effects.shrink_to(EFFECTS_KEPT);
    }

    /// Answers from this member's state, and leaves a one-shot watch where the read asks for one.
    ///
    /// # Errors
    /// The protocol's refusals; `SessionExpired` when the reader's session is not open;
    /// `Throttled` when it has too many watches.
    pub fn read(&mut self, reader: &Reader, read: &Read) -> Result<Response, Refusal> {
        self.open(reader)?;
        let identities = &*reader.identities;
        let response = match read {
            Read::Exists { path, watch } => {
                let stat = self.tree.exists(identities, path);
                let there_or_not = !matches!(&stat, Err(refusal) if refusal.code != Code::NoNode);
                if *watch && there_or_not {
                    self.leave(reader, path, Kinds::DATA)?;
                }
                Response::Stat(stat?)
            }
            Read::GetData { path, watch } => {
                let (data, stat) = self.tree.get_data(identities, path)?;
                if *watch {
                    self.leave(reader, path, Kinds::DATA)?;
                }
                Response::Data { data, stat }
            }
            Read::GetAcl { path } => {
                let (acl, stat) = self.tree.get_acl(identities, path)?;
                Response::Acl { acl, stat }
            }
            Read::Children { path, watch } => {
                let (names, stat) = self.tree.children(identities, path)?;
                if *watch {
                    self.leave(reader, path, Kinds::CHILD)?;
                }
                Response::Children { names, stat }
            }
            Read::Multi(reads) if reads.len() > MULTI_OPS_MAX => {
                let rule = "a multi-read has at most 65536 reads";
                return Err(Refusal::new(Code::BadArguments, rule));
            }
            Read::Multi(reads) => Response::MultiRead(self.tree.multi_read(identities, reads)?),
            Read::Ephemerals { prefix } => {
                Response::Ephemerals(self.tree.ephemerals(reader.session, prefix.as_deref()))
            }
            Read::DescendantCount { path } => {
                Response::DescendantCount(self.tree.descendant_count(identities, path)?)
            }
            Read::WhoAmI => Response::WhoAmI(reader.identities.to_vec()),
        };
        Ok(response)
    }

    /// Has what reads and writes of these paths will need come from memory beforehand, side by side,
    /// so that they wait together instead of one after the other.
    pub fn prefetch<'a>(&self, paths: impl Iterator<Item = &'a str>) {
        self.tree.prefetch(paths);
    }

    /// Leaves, checks, removes or re-arms watches; what a re-armed watch has missed is appended
    /// to `fired`.
    ///
    /// # Errors
    /// `NoWatcher` where there is none; `SessionExpired` when the reader's session is not open;
    /// `Throttled` when it has too many watches.
    pub fn watch(
        &mut self,
        reader: &Reader,
        request: &WatchRequest,
        fired: &mut impl Extend<Fired>,
    ) -> Result<Response, Refusal> {
        self.open(reader)?;
        let found = match request {
            WatchRequest::Add { path, mode } => {
                self.leave(reader, path, Kinds::from(*mode))?;
                true
            }
            WatchRequest::Check { path, kind } => self.watches.has(reader.session, path, *kind),
            WatchRequest::Remove { path, kind } => self.watches.remove(reader.session, path, *kind),
            WatchRequest::Rearm(rearm) => {
                self.rearm(reader, rearm, fired)?;
                true
            }
        };
        if found {
            Ok(Response::Done)
        } else {
            Err(Refusal::new(Code::NoWatcher, "the session must have such a watch"))
        }
    }

    fn open(&self, reader: &Reader) -> Result<(), Refusal> {
        let id = reader.session;
        let is_open = self.sessions.info(id).is_some() || self.locals.contains(&id);
        if is_open { Ok(()) } else { Err(NOT_OPEN) }
    }

    fn leave(&mut self, reader: &Reader, path: &Arc<str>, kinds: Kinds) -> Result<(), Refusal> {
        self.watches.add(reader.session, &reader.identities, path, kinds)
    }

    /// Makes a mistake from now on, to show that a test finds it.
    #[cfg(feature = "testing")]
    pub fn plant(&mut self, plant: Plant) {
        self.tree.planted.set(plant);
    }

    /// Leaves the watches of a client that comes back; where something changed since, it is told
    /// at once instead. Persistent watches cannot know what they missed and are only left.
    fn rearm(
        &mut self,
        reader: &Reader,
        rearm: &Rearm,
        fired: &mut impl Extend<Fired>,
    ) -> Result<(), Refusal> {
        if self.tree.planted.is(Plant::LostRearm) {
            return Ok(());
        }
        for path in &rearm.data {
            match self.tree.stat(path) {
                None => self.tell_missed(reader, path, EventKind::Deleted, fired),
                Some(stat) if stat.mzxid > rearm.since => {
                    self.tell_missed(reader, path, EventKind::DataChanged, fired);
                }
                Some(_) => self.leave(reader, path, Kinds::DATA)?,
            }
        }
        for path in &rearm.exist {
            match self.tree.stat(path) {
                Some(_) => self.tell_missed(reader, path, EventKind::Created, fired),
                None => self.leave(reader, path, Kinds::DATA)?,
            }
        }
        for path in &rearm.child {
            match self.tree.stat(path) {
                None => self.tell_missed(reader, path, EventKind::Deleted, fired),
                Some(stat) if stat.pzxid > rearm.since => {
                    self.tell_missed(reader, path, EventKind::ChildrenChanged, fired);
                }
                Some(_) => self.leave(reader, path, Kinds::CHILD)?,
            }
        }
        for path in &rearm.persistent {
            self.leave(reader, path, Kinds::PERSISTENT)?;
        }
        for path in &rearm.recursive {
            self.leave(reader, path, Kinds::RECURSIVE)?;
        }
        Ok(())
    }

    fn tell_missed(
        &self,
        reader: &Reader,
        path: &Arc<str>,
        kind: EventKind,
        fired: &mut impl Extend<Fired>,
    ) {
        let hidden = self
            .tree
            .acl_of(path)
            .is_some_and(|acl| !self.tree.permits(acl, &reader.identities, Perms::READ));
        if !hidden {
            let event = Event { kind, path: Arc::clone(path), zxid: None };
            fired.extend([Fired { session: reader.session, event }]);
        }
    }

    /// Opens a session of this member alone: it reads and watches until it is
    /// [disconnected](Engine::disconnect). It is no part of the state, and no entry is admitted
    /// from it. The number is one that no session in the log has.
    pub fn open_local(&mut self, session: SessionId) {
        self.locals.insert(session);
    }

    /// The session's connection to this member is gone: drops its watches.
    pub fn disconnect(&mut self, session: SessionId) {
        self.locals.remove(&session);
        self.watches.disconnect(session);
    }

    /// The session's connection has proved more: its events are filtered by these identities
    /// from now on.
    pub fn set_identities(&mut self, session: SessionId, identities: &Arc<[Identity]>) {
        self.watches.set_identities(session, identities);
    }

    /// Whether [`CONFIG_PATH`](crate::model::CONFIG_PATH) says that these are the members.
    pub fn config_is(&self, members: &str) -> bool {
        config::is_of(self.tree.config(), members)
    }

    /// The version of [`CONFIG_PATH`](crate::model::CONFIG_PATH); `None` while it is empty.
    pub fn config_version(&self) -> Option<i64> {
        config::version(self.tree.config())
    }

    /// Whether who has these identities may write to a znode.
    pub fn may_write(&self, identities: &[Identity], path: &str) -> bool {
        let acl = self.tree.acl_of(path);
        acl.is_some_and(|acl| self.tree.permits(acl, identities, Perms::WRITE))
    }

    /// What is known of an open session.
    pub fn session(&self, id: SessionId) -> Option<SessionInfo> {
        self.sessions.info(id)
    }

    /// All open sessions, in the order of their numbers.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, SessionInfo)> {
        self.sessions.iter()
    }

    /// Whether the session is open and this is its password, compared in constant time.
    pub fn admits(&self, id: SessionId, password: &[u8]) -> bool {
        self.sessions.admits(id, password)
    }

    /// Paths of containers and TTL znodes whose time has come at `now_ms`, at most `max`.
    pub fn reapable(&self, now_ms: i64, max: usize) -> Vec<Arc<str>> {
        self.tree.reapable(now_ms, max)
    }

    /// A number that is equal on replicas which have applied the same entries, and differs, but
    /// for chance, when their state does.
    pub fn digest(&self) -> u64 {
        digest_of(self.tree.digest(), self.sessions.digest(), self.last_zxid())
    }

    /// The tree as it is now, to be read while applying goes on.
    pub fn view(&self) -> TreeView {
        self.tree.view()
    }

    /// Sets how many children `parent` has ever had, which is the next sequence suffix.
    ///
    /// # Errors
    /// `NoNode` when there is no such znode.
    #[cfg(feature = "testing")]
    pub fn set_sequence(&mut self, parent: &str, creates: i32) -> Result<(), Refusal> {
        self.tree.set_sequence(parent, creates)
    }
}

fn digest_of(tree: u64, sessions: u64, last_zxid: Zxid) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&tree.to_le_bytes());
    hasher.update(&sessions.to_le_bytes());
    hasher.update(&last_zxid.as_i64().to_le_bytes());
    hasher.digest()
}

fn change_of(entry: &Entry, zxid: Zxid, session: SessionId) -> Change<'_> {
    Change { zxid, time_ms: entry.time_ms, session, identities: &entry.identities }
}

fn parent_of(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(slash) => &path[..slash],
    }
}
