//! An engine on the bench: short words for what the tests do all the time.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use synod_core::engine::{Applied, Engine, Fired, Reader};
use synod_core::model::{
    Acl, AddWatchMode, Code, Create, CreateMode, Entry, EventKind, Identity, Op, Password, Read,
    Refusal, Response, SessionId, Stat, WatchKind, WatchRequest, Write, Zxid,
};

/// `alice`, as the digest scheme writes her.
pub(crate) const ALICE: &str = "alice:aYXlLOpEooaV1cRAvUL1fp9Qt7E=";

/// The two sessions of most tests, and a third whose number is negative.
pub(crate) const ANN: SessionId = SessionId(1);
pub(crate) const BEN: SessionId = SessionId(2);
pub(crate) const CAT: SessionId = SessionId(-3);

/// Who looks at the tree for the tests themselves.
const OBSERVER: SessionId = SessionId(99);

pub(crate) const PERSISTENT: CreateMode = CreateMode::Persistent;
pub(crate) const SEQUENTIAL: CreateMode = CreateMode::PersistentSequential;
pub(crate) const EPHEMERAL: CreateMode = CreateMode::Ephemeral;

/// An engine, its clock, its leader's term, and the events that it has told so far.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) clock_ms: i64,
    pub(crate) term: u64,
    identities: BTreeMap<SessionId, Vec<Identity>>,
    fired: Vec<Fired>,
}

impl Bench {
    /// With the sessions [`ANN`], [`BEN`] and [`CAT`], which are nobody but an address.
    pub(crate) fn new() -> Bench {
        let mut bench = Bench {
            engine: Engine::new(),
            clock_ms: 1_000,
            term: 1,
            identities: BTreeMap::new(),
            fired: Vec::new(),
        };
        for id in [ANN, BEN, CAT, OBSERVER] {
            bench.open(id).expect("a new session");
        }
        bench
    }

    /// With these persistent znodes too.
    pub(crate) fn with(paths: &[&str]) -> Bench {
        let mut bench = Bench::new();
        for path in paths {
            bench.create(ANN, path, PERSISTENT);
        }
        bench
    }

    /// The session's connection proves one more identity.
    pub(crate) fn prove(&mut self, session: SessionId, scheme: &str, id: &str) {
        self.identities.entry(session).or_default().push(Identity::new(scheme, id));
        let proved = self.reader(session).identities;
        self.engine.set_identities(session, &proved);
    }

    pub(crate) fn reader(&self, session: SessionId) -> Reader {
        let address = [Identity::new("ip", "10.1.2.3")];
        let proved = self.identities.get(&session).cloned().unwrap_or_default();
        Reader { session, identities: address.into_iter().chain(proved).collect() }
    }

    /// The entry that the session would write next.
    pub(crate) fn entry(&self, session: SessionId, request: Write) -> Entry {
        let known = self.engine.session(session);
        let (attachment, sequence) =
            known.map_or((Zxid::ZERO, 1), |known| (known.attachment, known.sequence + 1));
        Entry {
            session,
            attachment,
            sequence,
            identities: self.reader(session).identities,
            time_ms: self.clock_ms,
            request,
        }
    }

    pub(crate) fn apply(&mut self, entry: &Entry) -> Applied {
        self.engine.apply(self.term, entry, &mut self.fired)
    }

    pub(crate) fn write(
        &mut self,
        session: SessionId,
        request: Write,
    ) -> Result<Response, Refusal> {
        let entry = self.entry(session, request);
        self.apply(&entry).result
    }

    /// The coordinator asks itself.
    pub(crate) fn system(&mut self, request: Write) -> Result<Response, Refusal> {
        let entry = Entry {
            session: SessionId::SYSTEM,
            attachment: Zxid::ZERO,
            sequence: 0,
            identities: Arc::from([]),
            time_ms: self.clock_ms,
            request,
        };
        self.apply(&entry).result
    }

    pub(crate) fn open(&mut self, id: SessionId) -> Result<Response, Refusal> {
        let password = Password([7; 16]);
        self.system(Write::CreateSession { id, password, timeout_ms: 4_000 })
    }

    /// Ends a session whose state the coordinator knows well.
    pub(crate) fn expire(&mut self, id: SessionId) -> Result<Response, Refusal> {
        let known = self.engine.session(id).expect("the session lives");
        let (attachment, sequence) = (known.attachment, known.sequence);
        self.system(Write::ExpireSession { id, attachment, sequence })
    }

    /// Creates a znode that everybody may use; its path and Stat.
    pub(crate) fn create(
        &mut self,
        session: SessionId,
        path: &str,
        mode: CreateMode,
    ) -> (String, Stat) {
        self.create_for(session, path, mode, Acl::open())
    }

    pub(crate) fn create_for(
        &mut self,
        session: SessionId,
        path: &str,
        mode: CreateMode,
        acl: Vec<Acl>,
    ) -> (String, Stat) {
        match self.write(session, Write::Op(create_op(path, mode, acl))) {
            Ok(Response::Created { path, stat }) => (path.to_string(), stat),
            other => panic!("create {path}: {other:?}"),
        }
    }

    pub(crate) fn delete(&mut self, session: SessionId, path: &str) {
        let done = self.write(session, delete(path));
        assert_eq!(done, Ok(Response::Done), "delete {path}");
    }

    pub(crate) fn set(&mut self, session: SessionId, path: &str, text: &str) -> Stat {
        match self.write(session, set(path, text)) {
            Ok(Response::Stat(stat)) => stat,
            other => panic!("set {path}: {other:?}"),
        }
    }

    pub(crate) fn set_acl(&mut self, session: SessionId, path: &str, acl: Vec<Acl>) -> Stat {
        match self.write(session, set_acl(path, acl)) {
            Ok(Response::Stat(stat)) => stat,
            other => panic!("set the ACL of {path}: {other:?}"),
        }
    }

    pub(crate) fn read(&mut self, session: SessionId, read: Read) -> Result<Response, Refusal> {
        let reader = self.reader(session);
        self.engine.read(&reader, &read)
    }

    fn observe(&mut self, path: &str) -> Result<Stat, Code> {
        let identities = Arc::from([Identity::new("super", "")]);
        let reader = Reader { session: OBSERVER, identities };
        match self.engine.read(&reader, &exists(path, false)) {
            Ok(Response::Stat(stat)) => Ok(stat),
            refused => Err(code(refused)),
        }
    }

    /// The Stat, as the superuser sees it.
    #[track_caller]
    pub(crate) fn stat(&mut self, path: &str) -> Stat {
        self.observe(path).unwrap_or_else(|code| panic!("exists {path}: {code}"))
    }

    #[track_caller]
    pub(crate) fn is_there(&mut self, path: &str) -> bool {
        match self.observe(path) {
            Ok(_) => true,
            Err(Code::NoNode) => false,
            Err(code) => panic!("exists {path}: {code}"),
        }
    }

    pub(crate) fn watch(
        &mut self,
        session: SessionId,
        request: WatchRequest,
    ) -> Result<Response, Refusal> {
        let reader = self.reader(session);
        self.engine.watch(&reader, &request, &mut self.fired)
    }

    /// Leaves a watch that stays.
    pub(crate) fn add_watch(&mut self, session: SessionId, path: &str, mode: AddWatchMode) {
        let path = path.into();
        assert_eq!(self.watch(session, WatchRequest::Add { path, mode }), Ok(Response::Done));
    }

    /// Leaves a data watch, whether or not there is a znode.
    pub(crate) fn watch_exists(&mut self, session: SessionId, path: &str) {
        let code = self.read(session, exists(path, true)).map_err(|refusal| refusal.code);
        assert!(matches!(code, Ok(Response::Stat(_)) | Err(Code::NoNode)), "{code:?}");
    }

    /// Leaves a child watch.
    pub(crate) fn watch_children(&mut self, session: SessionId, path: &str) {
        self.read(session, children(path, true)).expect("the parent is there");
    }

    /// Whether the session has such a watch.
    pub(crate) fn has_watch(&mut self, session: SessionId, path: &str, kind: WatchKind) -> bool {
        match self.watch(session, WatchRequest::Check { path: path.into(), kind }) {
            Ok(Response::Done) => true,
            Err(Refusal { code: Code::NoWatcher, .. }) => false,
            other => panic!("check the watch of {path}: {other:?}"),
        }
    }

    /// What was told since the last call: to whom, what, of which znode.
    pub(crate) fn events(&mut self) -> Vec<(SessionId, EventKind, String)> {
        let event = |fired: Fired| (fired.session, fired.event.kind, fired.event.path.to_string());
        std::mem::take(&mut self.fired).into_iter().map(event).collect()
    }

    /// The same, with the zxids.
    pub(crate) fn fired(&mut self) -> Vec<Fired> {
        std::mem::take(&mut self.fired)
    }
}

/// What [`Bench::events`] should have given.
pub(crate) fn told(
    expected: &[(SessionId, EventKind, &str)],
) -> Vec<(SessionId, EventKind, String)> {
    expected.iter().map(|(session, kind, path)| (*session, *kind, path.to_string())).collect()
}

/// The code of a refusal.
#[track_caller]
pub(crate) fn code(result: Result<Response, Refusal>) -> Code {
    let refusal = result.expect_err("a refusal");
    assert!(!refusal.rule.is_empty(), "a refusal says which rule did not hold: {refusal:?}");
    refusal.code
}

pub(crate) fn create_op(path: &str, mode: CreateMode, acl: Vec<Acl>) -> Op {
    Op::Create(Create { path: path.into(), data: Some(Bytes::from_static(b"data")), acl, mode })
}

pub(crate) fn create(path: &str, mode: CreateMode) -> Write {
    Write::Op(create_op(path, mode, Acl::open()))
}

pub(crate) fn delete_op(path: &str, version: i32) -> Op {
    Op::Delete { path: path.into(), version }
}

pub(crate) fn delete(path: &str) -> Write {
    Write::Op(delete_op(path, -1))
}

pub(crate) fn set_op(path: &str, text: &str, version: i32) -> Op {
    Op::SetData { path: path.into(), data: Some(Bytes::from(text.to_owned())), version }
}

pub(crate) fn set(path: &str, text: &str) -> Write {
    Write::Op(set_op(path, text, -1))
}

pub(crate) fn set_acl(path: &str, acl: Vec<Acl>) -> Write {
    Write::SetAcl { path: path.into(), acl, version: -1 }
}

pub(crate) fn check_op(path: &str, version: i32) -> Op {
    Op::Check { path: path.into(), version }
}

pub(crate) fn exists(path: &str, watch: bool) -> Read {
    Read::Exists { path: path.into(), watch }
}

pub(crate) fn get(path: &str, watch: bool) -> Read {
    Read::GetData { path: path.into(), watch }
}

pub(crate) fn children(path: &str, watch: bool) -> Read {
    Read::Children { path: path.into(), watch }
}

pub(crate) fn get_acl(path: &str) -> Read {
    Read::GetAcl { path: path.into() }
}
