//! The operations, the permissions that they need, and the identities that may be given them.

use bytes::Bytes;
use synod_core::digest_identity;
use synod_core::model::{
    Acl, AddWatchMode, Code, Create, CreateMode, Identity, Op, Perms, Read, ReadOp, Rearm, Refusal,
    Request, Response, WatchKind, WatchRequest, Write, Zxid,
};
use synod_core::wire::Shape;

/// Of everybody who has one.
pub(crate) const PASSWORD: &str = "secret";

pub(crate) const EACH: [Perms; 5] =
    [Perms::READ, Perms::WRITE, Perms::CREATE, Perms::DELETE, Perms::ADMIN];

/// Nothing, each permission alone, all but each, and all.
pub(crate) fn grants() -> Vec<Perms> {
    let but = EACH.map(|perm| Perms(Perms::ALL.0 & !perm.0));
    [&[Perms(0)][..], &EACH, &but, &[Perms::ALL]].concat()
}

/// What an operation needs of the znode `/…` that it is asked about, whose child is `/…/old`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Needs {
    Nothing,
    /// One of them.
    Any(Perms),
    /// All of them.
    All(Perms),
}

impl Needs {
    pub(crate) fn met_by(self, granted: Perms) -> bool {
        match self {
            Needs::Nothing => true,
            Needs::Any(perms) => granted.intersects(perms),
            Needs::All(perms) => granted.0 & perms.0 == perms.0,
        }
    }
}

/// An operation on a znode.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) request: Request,
    pub(crate) needs: Needs,
    /// Under which number it goes over the wire, and how it is answered then, where that is not
    /// what this project's client takes.
    pub(crate) number: Option<(i32, Shape)>,
}

fn case(name: &'static str, needs: Needs, request: Request) -> Case {
    Case { name, request, needs, number: None }
}

pub(crate) fn create_op(path: &str, mode: CreateMode, acl: Vec<Acl>) -> Op {
    Op::Create(Create { path: path.into(), data: Some(Bytes::from_static(b"data")), acl, mode })
}

pub(crate) fn delete_op(path: &str) -> Op {
    Op::Delete { path: path.into(), version: -1 }
}

pub(crate) fn set_op(path: &str) -> Op {
    Op::SetData { path: path.into(), data: Some(Bytes::from_static(b"new")), version: -1 }
}

pub(crate) fn get(path: &str, watch: bool) -> Request {
    Request::Read(Read::GetData { path: path.into(), watch })
}

pub(crate) fn exists(path: &str, watch: bool) -> Request {
    Request::Read(Read::Exists { path: path.into(), watch })
}

pub(crate) fn children(path: &str, watch: bool) -> Request {
    Request::Read(Read::Children { path: path.into(), watch })
}

pub(crate) fn set_acl(path: &str, acl: Vec<Acl>) -> Request {
    Request::Write(Write::SetAcl { path: path.into(), acl, version: -1 })
}

pub(crate) fn op(op: Op) -> Request {
    Request::Write(Write::Op(op))
}

fn multi(ops: Vec<Op>) -> Request {
    Request::Write(Write::Multi(ops))
}

fn watch(request: WatchRequest) -> Request {
    Request::Watch(request)
}

/// Every operation, on the znode at `path`. Each works if it is permitted, on a znode of its own.
pub(crate) fn cases(path: &str) -> Vec<Case> {
    use Needs::{All, Any, Nothing};
    use Perms as P;
    let (new, old) = (format!("{path}/new"), format!("{path}/old"));
    let make = |mode| create_op(&new, mode, Acl::open());
    let check = || Op::Check { path: path.into(), version: -1 };
    let read = |read| Request::Read(read);
    let at = || path.into();
    let rearm = |staying: bool| {
        let (now, list) = (Zxid::from_i64(i64::MAX), vec![at()]);
        let (data, exist, child) = (list.clone(), list.clone(), list.clone());
        let lists = if staying { (list.clone(), list) } else { (Vec::new(), Vec::new()) };
        let (persistent, recursive) = lists;
        watch(WatchRequest::Rearm(Rearm { since: now, data, exist, child, persistent, recursive }))
    };
    let of_kind = |check: bool, kind| {
        watch(match check {
            true => WatchRequest::Check { path: at(), kind },
            false => WatchRequest::Remove { path: at(), kind },
        })
    };
    let numbered = |name, needs, request, number, shape| Case {
        number: Some((number, shape)),
        ..case(name, needs, request)
    };
    let create = P::CREATE;
    let names = children(path, false);
    let mut all = vec![
        numbered("create", Any(create), op(make(CreateMode::Persistent)), 1, Shape::Path),
        case("create2", Any(create), op(make(CreateMode::Persistent))),
        case("create sequential", Any(create), op(make(CreateMode::PersistentSequential))),
        case("create ephemeral", Any(create), op(make(CreateMode::Ephemeral))),
        case("create both", Any(create), op(make(CreateMode::EphemeralSequential))),
        case("createContainer", Any(create), op(make(CreateMode::Container))),
        case("createTTL", Any(create), op(make(CreateMode::Ttl { ttl_ms: 60_000 }))),
        case("delete", Any(P::DELETE), op(delete_op(&old))),
        case("exists", Any(P::READ), exists(path, false)),
        case("getData", Any(P::READ), get(path, false)),
        case("getData and watch", Any(P::READ), get(path, true)),
        case("setData", Any(P::WRITE), op(set_op(path))),
        case("getACL", Any(P::READ | P::ADMIN), read(Read::GetAcl { path: at() })),
        case("setACL", Any(P::ADMIN), set_acl(path, Acl::open())),
        numbered("getChildren", Any(P::READ), names.clone(), 8, Shape::Names),
        case("getChildren2", Any(P::READ), names),
        case("getAllChildrenNumber", Any(P::READ), read(Read::DescendantCount { path: at() })),
        case("getEphemerals", Nothing, read(Read::Ephemerals { prefix: Some(at()) })),
        case("sync", Nothing, Request::Sync { path: at() }),
        case("whoAmI", Nothing, read(Read::WhoAmI)),
        case("multi of a create", Any(create), multi(vec![make(CreateMode::Persistent)])),
        case("multi of a delete", Any(P::DELETE), multi(vec![delete_op(&old)])),
        case("multi of a set", Any(P::WRITE), multi(vec![set_op(path)])),
        case("multi of a check", Any(P::READ), multi(vec![check()])),
        case(
            "multi of a check and a set",
            All(P::READ | P::WRITE),
            multi(vec![check(), set_op(path)]),
        ),
        case(
            "multi of a create below what it creates",
            Any(create),
            multi(vec![
                make(CreateMode::Persistent),
                create_op(&format!("{new}/x"), CreateMode::Persistent, Acl::open()),
            ]),
        ),
        case(
            "multiRead of getData",
            Any(P::READ),
            read(Read::Multi(vec![ReadOp::GetData { path: at() }])),
        ),
        case(
            "multiRead of getChildren",
            Any(P::READ),
            read(Read::Multi(vec![ReadOp::Children { path: at() }])),
        ),
        case("setWatches", Nothing, rearm(false)),
        case("setWatches2", Nothing, rearm(true)),
    ];
    for mode in [AddWatchMode::Persistent, AddWatchMode::PersistentRecursive] {
        all.push(case("addWatch", Nothing, watch(WatchRequest::Add { path: at(), mode })));
    }
    // None is there: not permitted would be another answer.
    for kind in [WatchKind::Children, WatchKind::Data, WatchKind::Any] {
        all.push(case("checkWatches", Nothing, of_kind(true, kind)));
        all.push(case("removeWatches", Nothing, of_kind(false, kind)));
    }
    all
}

/// Whether the answer says that it is permitted. Of reads in one request all must be.
pub(crate) fn permitted(answer: &Result<Response, Refusal>) -> bool {
    match answer {
        Ok(Response::MultiRead(answers)) => !answers.contains(&Err(Code::NoAuth)),
        Ok(_) => true,
        Err(refusal) if refusal.code == Code::NoAuth => false,
        // Of the operations before the one that failed nothing is said.
        Err(refusal) => match refusal.code {
            Code::NoWatcher => true,
            code => panic!("neither permitted nor not: {code}"),
        },
    }
}

/// A way to be named in an ACL.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// What somebody has proved besides the address.
    pub(crate) proved: Option<Identity>,
    /// What stands in the ACL for it.
    pub(crate) line: Identity,
    /// What stands there for others; nobody else is there if everybody is meant.
    pub(crate) others: Vec<Identity>,
    /// Whoever asks has made the znode: `auth` stands for who sets the list.
    pub(crate) is_creator: bool,
}

fn digest_id(user: &str) -> String {
    digest_identity(format!("{user}:{PASSWORD}").as_bytes()).expect("has a colon").id
}

/// Every way to be named, for somebody at this address.
pub(crate) fn names(address: &str) -> Vec<Named> {
    let of = |scheme: &str, id: &str, others: &[(&str, &str)]| Named {
        proved: Some(Identity::new(scheme, id)),
        line: Identity::new(scheme, id),
        others: others.iter().map(|(scheme, id)| Identity::new(*scheme, *id)).collect(),
        is_creator: false,
    };
    let elsewhere = ("ip", "192.0.2.0/24");
    let (alice, bob) = (digest_id("alice"), digest_id("bob"));
    let others = [("digest", &*bob), ("sasl", "alice"), ("x509", "CN=alice"), elsewhere];
    let digest = of("digest", &alice, &others);
    let others = [("sasl", "carol"), ("sasl", "Dave"), ("x509", "CN=dave"), elsewhere];
    let sasl = of("sasl", "dave", &others);
    let x509 = of("x509", "CN=carol", &[("x509", "CN=dave"), ("sasl", "CN=carol"), elsewhere]);
    let auth = |named: &Named| Named {
        line: Identity::new("auth", ""),
        is_creator: true,
        ..named.clone()
    };
    let [proves_digest, proves_sasl, proves_x509] = [&digest, &sasl, &x509].map(auth);
    vec![
        Named { proved: None, ..of("world", "anyone", &[]) },
        Named { proved: None, ..of("ip", address, &[elsewhere, ("sasl", address)]) },
        Named { proved: None, ..of("ip", &format!("{address}/8"), &[elsewhere]) },
        digest,
        sasl,
        x509,
        proves_digest,
        proves_sasl,
        proves_x509,
    ]
}

impl Named {
    /// Whether it takes TLS to prove it.
    pub(crate) fn has_certificate(&self) -> bool {
        self.proved.as_ref().is_some_and(|proved| proved.scheme == "x509")
    }

    /// A list that gives `perms` to this one, and to all others everything.
    pub(crate) fn list(&self, perms: Perms) -> Vec<Acl> {
        let own = Acl { perms, who: self.line.clone() };
        let others = self.others.iter().cloned().map(|who| Acl { perms: Perms::ALL, who });
        [own].into_iter().chain(others).collect()
    }
}

/// A change that a watch tells.
pub(crate) struct Change {
    pub(crate) name: &'static str,
    /// What leaves the watch, while everything is permitted.
    pub(crate) leave: Request,
    /// What fires it.
    pub(crate) change: Request,
}

fn above(path: &str) -> &str {
    path.rsplit_once('/').expect("is a path").0
}

fn stay(path: &str, mode: AddWatchMode) -> Request {
    watch(WatchRequest::Add { path: path.into(), mode })
}

/// Every kind of watch and change of the znode at `path`, whose ACL counts for the event. That of
/// the znode above it permits everybody everything.
pub(crate) fn changes(path: &str) -> Vec<Change> {
    let (new, old) = (format!("{path}/new"), format!("{path}/old"));
    let persistent = || stay(path, AddWatchMode::Persistent);
    let recursive = || stay(path, AddWatchMode::PersistentRecursive);
    let from_above = || stay(above(path), AddWatchMode::PersistentRecursive);
    let create = || op(create_op(&new, CreateMode::Persistent, Acl::open()));
    let change = |name, leave, change| Change { name, leave, change };
    vec![
        change("getData, data changed", get(path, true), op(set_op(path))),
        change("exists, data changed", exists(path, true), op(set_op(path))),
        change("getChildren, child created", children(path, true), create()),
        change("getChildren, child deleted", children(path, true), op(delete_op(&old))),
        change("persistent, data changed", persistent(), op(set_op(path))),
        change("persistent, child created", persistent(), create()),
        change("persistent, child deleted", persistent(), op(delete_op(&old))),
        change("recursive, data changed", recursive(), op(set_op(path))),
        change("recursive from above, data changed", from_above(), op(set_op(path))),
        change(
            "recursive from above, deleted",
            from_above(),
            multi(vec![delete_op(&old), delete_op(path)]),
        ),
    ]
}

/// What leaves watches that see the znode at `path` come and go. For the first one who may not read
/// it is refused while it is there.
pub(crate) fn comings_and_goings(path: &str) -> [(&'static str, Request); 2] {
    let from_above = stay(above(path), AddWatchMode::PersistentRecursive);
    [("exists", exists(path, true)), ("recursive from above", from_above)]
}

/// What leaves watches again that have missed a change: of the data, of the znode's creation, of its
/// children.
pub(crate) fn missed(path: &str) -> Vec<(&'static str, Request)> {
    let list = || vec![path.into()];
    let all = || Rearm { since: Zxid::ZERO, ..Rearm::default() };
    let rearm = |lists| watch(WatchRequest::Rearm(lists));
    vec![
        ("data", rearm(Rearm { data: list(), ..all() })),
        ("exist", rearm(Rearm { exist: list(), ..all() })),
        ("child", rearm(Rearm { child: list(), ..all() })),
    ]
}
