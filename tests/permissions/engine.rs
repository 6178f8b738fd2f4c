//! The table, asked of the engine.

use std::sync::Arc;

use synod_core::engine::{Engine, Fired, Reader};
use synod_core::model::{
    Acl, CreateMode, Entry, Identity, Password, Perms, Refusal, Request, Response, SessionId,
    Write, Zxid,
};

use crate::table::{
    Case, Change, Named, cases, changes, comings_and_goings, create_op, delete_op, grants, missed,
    names, op, permitted, set_acl,
};

const ADDRESS: &str = "10.1.2.3";

/// What is asked about, and the znode above it.
const PATH: &str = "/top/a";
const TOP: &str = "/top";

/// Who may do everything, and who asks.
const ROOT: SessionId = SessionId(1);
const ASKER: SessionId = SessionId(2);

/// An engine with two sessions.
struct Bench {
    engine: Engine,
    asker: Vec<Identity>,
    fired: Vec<Fired>,
}

impl Bench {
    fn new(proved: Option<Identity>) -> Bench {
        let asker = [Identity::new("ip", ADDRESS)].into_iter().chain(proved).collect();
        let mut bench = Bench { engine: Engine::new(), asker, fired: Vec::new() };
        for id in [ROOT, ASKER] {
            let password = Password([7; 16]);
            let request = Write::CreateSession { id, password, timeout_ms: 4_000 };
            bench.apply(SessionId::SYSTEM, request).expect("is opened");
        }
        let asker = bench.identities(ASKER);
        bench.engine.set_identities(ASKER, &asker);
        bench.must(ROOT, &op(create_op(TOP, CreateMode::Persistent, Acl::open())));
        bench
    }

    fn identities(&self, session: SessionId) -> Arc<[Identity]> {
        match session {
            ASKER => self.asker.clone().into(),
            _ => [Identity::new("super", "")].into(),
        }
    }

    fn apply(&mut self, session: SessionId, request: Write) -> Result<Response, Refusal> {
        let known = self.engine.session(session);
        let (attachment, sequence) =
            known.map_or((Zxid::ZERO, 0), |known| (known.attachment, known.sequence + 1));
        let identities = self.identities(session);
        let entry = Entry { session, attachment, sequence, identities, time_ms: 1, request };
        self.engine.apply(1, &entry, &mut self.fired).result
    }

    fn ask(&mut self, session: SessionId, request: &Request) -> Result<Response, Refusal> {
        let reader = Reader { session, identities: self.identities(session) };
        match request {
            Request::Write(write) => self.apply(session, write.clone()),
            Request::Read(read) => self.engine.read(&reader, read),
            Request::Watch(watch) => self.engine.watch(&reader, watch, &mut self.fired),
            // Not the engine's.
            Request::Sync { .. } | Request::Ping => Ok(Response::Done),
            other => panic!("not in the table: {other:?}"),
        }
    }

    fn must(&mut self, session: SessionId, request: &Request) {
        self.ask(session, request).unwrap_or_else(|refusal| panic!("{request:?}: {refusal:?}"));
    }

    /// A znode with that list, and its child, which everybody may use.
    fn plant(&mut self, named: &Named, perms: Perms) {
        let creator = if named.is_creator { ASKER } else { ROOT };
        self.must(creator, &op(create_op(PATH, CreateMode::Persistent, Acl::open())));
        let old = create_op(&format!("{PATH}/old"), CreateMode::Persistent, Acl::open());
        self.must(creator, &op(old));
        self.must(creator, &set_acl(PATH, named.list(perms)));
    }

    /// Whether who asks is told of it.
    fn told(&self) -> bool {
        self.fired.iter().any(|fired| fired.session == ASKER && &*fired.event.path == PATH)
    }
}

#[test]
fn each_operation_needs_its_own_permission_and_no_other() {
    for named in names(ADDRESS) {
        for perms in grants() {
            for place in 0..cases(PATH).len() {
                let mut bench = Bench::new(named.proved.clone());
                bench.plant(&named, perms);
                let Case { name, request, needs, .. } = cases(PATH).swap_remove(place);
                let answer = bench.ask(ASKER, &request);
                let expected = needs.met_by(perms);
                assert_eq!(permitted(&answer), expected, "{name} with {perms:?} by {named:?}");
            }
        }
    }
}

#[test]
fn the_superuser_needs_no_permission() {
    let named = names(ADDRESS).swap_remove(3);
    for place in 0..cases(PATH).len() {
        let mut bench = Bench::new(Some(Identity::new("super", "")));
        bench.plant(&named, Perms(0));
        let Case { name, request, .. } = cases(PATH).swap_remove(place);
        assert!(permitted(&bench.ask(ASKER, &request)), "{name}");
    }
}

#[test]
fn a_change_is_told_to_who_may_read_when_it_happens() {
    for named in names(ADDRESS) {
        for perms in grants() {
            for place in 0..changes(PATH).len() {
                let mut bench = Bench::new(named.proved.clone());
                bench.plant(&named, Perms::ALL);
                let Change { name, leave, change } = changes(PATH).swap_remove(place);
                bench.must(ASKER, &leave);
                let setter = if named.is_creator { ASKER } else { ROOT };
                bench.must(setter, &set_acl(PATH, named.list(perms)));
                bench.must(ROOT, &change);
                let told = bench.told();
                let expected = perms.intersects(Perms::READ);
                assert_eq!(told, expected, "{name} with {perms:?} by {named:?}");
            }
        }
    }
}

#[test]
fn what_was_missed_is_told_to_who_may_read() {
    for named in names(ADDRESS) {
        for perms in grants() {
            for (name, request) in missed(PATH) {
                let mut bench = Bench::new(named.proved.clone());
                bench.plant(&named, perms);
                bench.must(ASKER, &request);
                let told = bench.told();
                let expected = perms.intersects(Perms::READ);
                assert_eq!(told, expected, "{name} with {perms:?} by {named:?}");
            }
        }
    }
}

#[test]
fn that_a_znode_comes_and_goes_is_told_by_its_own_list() {
    for named in names(ADDRESS).into_iter().filter(|named| !named.is_creator) {
        for perms in grants() {
            for (name, watched) in comings_and_goings(PATH) {
                let expected = perms.intersects(Perms::READ);
                let mut bench = Bench::new(named.proved.clone());
                for change in [
                    op(create_op(PATH, CreateMode::Persistent, named.list(perms))),
                    op(delete_op(PATH)),
                ] {
                    // Before, it is not there: anybody may ask. After, only who may read.
                    let _ = bench.ask(ASKER, &watched);
                    bench.fired.clear();
                    bench.must(ROOT, &change);
                    let told = bench.told();
                    assert_eq!(told, expected, "{name}, {change:?} with {perms:?} by {named:?}");
                }
            }
        }
    }
}
