//! Random steps over a universe so small that they keep meeting: four clients, two names, three
//! levels, small versions, five identities; and among them, in small doses, all that is refused.

use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::strategy::BoxedStrategy;
use synod_core::model::limits::{TTL_MS_MAX, ZXID_STEP_MAX};
use synod_core::model::{
    Acl, AddWatchMode, Create, CreateMode, Identity, Op, Password, Perms, Read, ReadOp, Rearm,
    WatchKind, WatchRequest, Write, Zxid,
};

use crate::program::{Action, CLIENTS, Stamp, Step, World};

/// `alice` with the password `secret`, as the digest scheme writes her.
pub const ALICE: &str = "alice:aYXlLOpEooaV1cRAvUL1fp9Qt7E=";

/// `bob` with the password `hidden`.
pub const BOB: &str = "bob:t6EE4g1VcSWwVE0HlwKXoBOX6Vk=";

const PLACES: [&str; 9] =
    ["/a", "/b", "/a/a", "/a/b", "/b/a", "/b/b", "/a/a/a", "/a/b/a", "/a0000000000"];

/// What the coordinator itself made.
pub const OWN: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];

/// A name that does not fit where short ones may be kept.
const LONG: &str = "a-name-that-is-longer-than-most-names-are";

/// Sizes of data and lengths of names around those where something may be kept otherwise.
pub const SIZES: &[usize] =
    &[7, 8, 9, 15, 16, 17, 22, 23, 24, 25, 31, 32, 33, 63, 64, 65, 255, 256];

/// Paths that no znode can have.
pub const MALFORMED: [&str; 15] = [
    "",
    "a",
    "a/b",
    "/a/",
    "//",
    "/a//b",
    "/.",
    "/a/..",
    "/a/./b",
    "/\u{1}",
    "/a/\u{7F}",
    "/a/\u{E000}",
    "/\u{FFF0}",
    "/a/\u{1F980}",
    "/none/\u{1}",
];

/// A step that may come next.
pub fn step(world: &World) -> BoxedStrategy<Step> {
    let elapsed_ms = prop_oneof![3 => Just(0i64), 4 => 1..50i64, 1 => 50..3_000i64];
    (elapsed_ms, action(world)).prop_map(|(elapsed_ms, action)| Step { elapsed_ms, action }).boxed()
}

fn action(world: &World) -> BoxedStrategy<Action> {
    let open: Vec<usize> = (0..CLIENTS).filter(|client| world.is_open(*client)).collect();
    let closed: Vec<usize> = (0..CLIENTS).filter(|client| !world.is_open(*client)).collect();
    if open.is_empty() {
        return any_client().prop_flat_map(opening).boxed();
    }
    // Mostly who lives; now and then somebody whose session is over.
    let writer = prop_oneof![30 => select(open.clone()), 1 => any_client()].boxed();
    let reader = writer.clone();
    let newcomer =
        if closed.is_empty() { any_client().boxed() } else { select(closed.clone()).boxed() };
    let weight_of_opening = 1 + 2 * closed.len() as u32;
    prop_oneof![
        weight_of_opening => newcomer.prop_flat_map(opening),
        44 => write_action(world, writer.clone()),
        10 => (writer.clone(), quota_write(world)).prop_map(|(client, write)| {
            Action::Write { client, stamp: Stamp::True, write }
        }),
        4 => (writer.clone(), ahead(), op(world)).prop_map(|(client, ahead, op)| {
            Action::Propose { client, ahead, op }
        }),
        20 => (reader.clone(), read(world)).prop_map(|(client, read)| {
            Action::Read { client, read }
        }),
        14 => (reader.clone(), watch(world)).prop_map(|(client, request)| {
            Action::Watch { client, request }
        }),
        4 => (reader.clone(), behind(), rearm(world)).prop_map(|(client, behind, rearm)| {
            Action::Rearm { client, behind, rearm }
        }),
        2 => (writer.clone(), timeout()).prop_map(|(client, timeout_ms)| {
            Action::Attach { client, timeout_ms }
        }),
        1 => reader.clone().prop_map(|client| Action::Disconnect { client }),
        2 => (reader, identity()).prop_map(|(client, identity)| {
            Action::Authenticate { client, identity }
        }),
        2 => (writer, stamp()).prop_map(|(client, stamp)| Action::Expire { client, stamp }),
        4 => reap(world).prop_map(|write| Action::System { write }),
        1 => prop_oneof![write(world), requests_of_system()].prop_map(|write| {
            Action::System { write }
        }),
        1 => select(vec![1u64, 1, 2, 7]).prop_map(|terms| Action::Elect { terms }),
    ]
    .boxed()
}

fn any_client() -> impl Strategy<Value = usize> + Clone {
    0..CLIENTS
}

fn opening(client: usize) -> impl Strategy<Value = Action> {
    timeout().prop_map(move |timeout_ms| Action::Open { client, timeout_ms })
}

fn timeout() -> impl Strategy<Value = u32> {
    select(vec![4_000u32, 10_000, 40_000])
}

/// What a connection may prove: two users, a certificate, a Kerberos name, the superuser.
fn identity() -> impl Strategy<Value = Identity> {
    prop_oneof![
        4 => Just(Identity::new("digest", ALICE)),
        4 => Just(Identity::new("digest", BOB)),
        1 => Just(Identity::new("x509", "CN=carol")),
        1 => Just(Identity::new("sasl", "dave")),
        1 => Just(Identity::new("super", "")),
    ]
}

fn stamp() -> impl Strategy<Value = Stamp> {
    prop_oneof![
        40 => Just(Stamp::True),
        1 => Just(Stamp::OtherAttachment),
        1 => select(vec![1i64, -1, 5]).prop_map(Stamp::Sequence),
    ]
}

/// Distances of a proposed zxid, around both ends of what is accepted.
fn ahead() -> impl Strategy<Value = i64> {
    let step = i64::from(ZXID_STEP_MAX);
    prop_oneof![
        3 => Just(0i64),
        2 => 1..4i64,
        2 => select(vec![-1i64, -2, step - 1, step, 1 << 32, -(1 << 32), i64::MIN / 2]),
    ]
}

fn behind() -> impl Strategy<Value = i64> {
    select(vec![0i64, 1, 2, 5, 20, 1 << 40])
}

/// A path that is there (of a sequential znode, for instance), or one of the universe that may
/// be, or one that cannot be.
pub fn path(world: &World) -> BoxedStrategy<Arc<str>> {
    let nodes = world.model.nodes().keys().filter(|path| !OWN.contains(&path.as_str()));
    let mut there: Vec<Arc<str>> = nodes.map(|path| Arc::from(path.as_str())).collect();
    if there.is_empty() {
        there.push(Arc::from("/"));
    }
    prop_oneof![
        14 => select(there),
        6 => select(&PLACES[..]).prop_map(Arc::from),
        3 => select(&["/", "/", "/", OWN[1], OWN[2], OWN[3]][..]).prop_map(Arc::from),
        1 => select(&MALFORMED[..]).prop_map(Arc::from),
    ]
    .boxed()
}

/// A path for a new znode: mostly right below one that is there.
fn new_path(world: &World) -> BoxedStrategy<Arc<str>> {
    let nodes = world.model.nodes().keys();
    let parents = nodes.filter(|path| !path.starts_with("/zookeeper") && depth(path) < 3);
    let below: Vec<Arc<str>> = parents
        .flat_map(|parent| {
            let parent = parent.trim_end_matches('/');
            ["a", "b", "s-", LONG].map(|name| Arc::from(format!("{parent}/{name}")))
        })
        .collect();
    let bare = select(vec!["/", "/a/", "/b/", "/.", "/a/s"]).prop_map(Arc::from);
    prop_oneof![12 => select(below), 4 => path(world), 1 => bare].boxed()
}

fn depth(path: &str) -> usize {
    path.matches('/').count() - usize::from(path == "/")
}

fn data() -> impl Strategy<Value = Option<Bytes>> {
    let size = prop_oneof![4 => 0..3usize, 1 => select(SIZES)];
    prop_oneof![1 => Just(None), 5 => size.prop_map(|size| Some(bytes(size)))]
}

/// So many bytes, no two of them alike for long.
pub fn bytes(size: usize) -> Bytes {
    (0..size).map(|at| b'a' + (at % 23) as u8).collect()
}

/// −1 often, else a version that a znode of this universe may have, or none has.
fn version() -> impl Strategy<Value = i32> {
    prop_oneof![10 => Just(-1), 4 => Just(0), 4 => 1..3i32, 1 => select(vec![-2, i32::MIN, i32::MAX])]
}

fn ttl_ms() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => select(vec![1i64, 20, 500]),
        1 => select(vec![TTL_MS_MAX, TTL_MS_MAX + 1, 0, -1, i64::MAX]),
    ]
}

fn mode() -> impl Strategy<Value = CreateMode> {
    prop_oneof![
        6 => Just(CreateMode::Persistent),
        2 => Just(CreateMode::PersistentSequential),
        3 => Just(CreateMode::Ephemeral),
        2 => Just(CreateMode::EphemeralSequential),
        2 => Just(CreateMode::Container),
        2 => ttl_ms().prop_map(|ttl_ms| CreateMode::Ttl { ttl_ms }),
        1 => ttl_ms().prop_map(|ttl_ms| CreateMode::TtlSequential { ttl_ms }),
    ]
}

fn acl() -> impl Strategy<Value = Vec<Acl>> {
    prop_oneof![16 => Just(Acl::open()), 8 => select(closed_acls()), 1 => select(invalid_acls())]
}

/// Lists that shut somebody out of something.
fn closed_acls() -> Vec<Vec<Acl>> {
    let world = |perms| Acl::new(perms, "world", "anyone");
    let but_read = Perms(Perms::ALL.0 & !Perms::READ.0);
    vec![
        Acl::read_only(),
        Acl::creator(),
        vec![world(but_read)],
        vec![world(Perms(Perms::ALL.0 & !Perms::DELETE.0))],
        vec![world(Perms(Perms::ALL.0 & !Perms::CREATE.0))],
        vec![world(Perms(0))],
        vec![world(Perms::ALL), world(Perms::READ), world(Perms::ALL)],
        vec![world(Perms::READ | Perms::CREATE), Acl::new(Perms::ALL, "digest", ALICE)],
        vec![Acl::new(Perms::ALL, "digest", ALICE), Acl::new(Perms::READ, "digest", BOB)],
        vec![Acl::new(Perms::ADMIN, "digest", BOB), world(but_read)],
        vec![Acl::new(Perms::ALL, "auth", ""), Acl::new(Perms::ALL, "digest", ALICE)],
        vec![world(Perms::READ), Acl::new(Perms::ALL, "auth", "whoever")],
        vec![Acl::new(Perms::ALL, "ip", "10.1.2.3")],
        vec![Acl::new(Perms::READ, "ip", "10.0.0.0/8"), Acl::new(Perms::ALL, "ip", "10.1.2.4/31")],
        vec![Acl::new(Perms::ALL, "ip", "0.0.0.0/0")],
        vec![Acl::new(Perms::ALL, "ip", "::/64"), Acl::new(Perms::READ, "x509", "CN=carol")],
        vec![Acl::new(Perms::ALL, "sasl", "dave"), world(Perms::READ)],
    ]
}

fn invalid_acls() -> Vec<Vec<Acl>> {
    let all = |scheme, id| vec![Acl::new(Perms::ALL, scheme, id)];
    vec![
        vec![],
        all("world", "someone"),
        all("nonsense", "x"),
        all("super", ""),
        all("", ""),
        all("digest", "alice"),
        all("digest", "a:b:c"),
        all("ip", "10.0.0"),
        all("ip", "10.0.0.0/33"),
        all("ip", "10.0.0.0/"),
        all("ip", "::/129"),
        vec![Acl::new(Perms::ALL, "world", "anyone"), Acl::new(Perms::ALL, "digest", "alice")],
    ]
}

fn op(world: &World) -> BoxedStrategy<Op> {
    let create = (new_path(world), data(), acl(), mode())
        .prop_map(|(path, data, acl, mode)| Op::Create(Create { path, data, acl, mode }));
    let path = path(world);
    prop_oneof![
        10 => create,
        5 => (path.clone(), version()).prop_map(|(path, version)| Op::Delete { path, version }),
        5 => (path.clone(), data(), version()).prop_map(|(path, data, version)| {
            Op::SetData { path, data, version }
        }),
        1 => (path, version()).prop_map(|(path, version)| Op::Check { path, version }),
    ]
    .boxed()
}

/// What sets, changes and removes quotas: mostly the next znode that one still lacks.
fn quota_op(world: &World) -> BoxedStrategy<Op> {
    let parts = ["", "/zookeeper_limits", "/zookeeper_stats"];
    let of = ["/a", "/b", "/a/a", "/zookeeper", ""];
    let all: Vec<Arc<str>> = of
        .iter()
        .flat_map(|of| parts.map(|part| Arc::from(format!("/zookeeper/quota{of}{part}"))))
        .collect();
    let lacks = |path: &&Arc<str>| !world.model.nodes().contains_key(&***path);
    let next: Vec<Arc<str>> = all.iter().filter(lacks).take(1).cloned().collect();
    let any = select(all);
    let path = if next.is_empty() {
        any.clone().boxed()
    } else {
        prop_oneof![3 => select(next), 1 => any.clone()].boxed()
    };
    let limits = vec![
        "",
        "count=2,bytes=20",
        "byteHardLimit=2",
        "countHardLimit=2",
        "count=-1,bytes=-1=;byteHardLimit=9;countHardLimit=3",
        "countHardLimit=1",
        "byteHardLimit=0;else=x,,",
        "count=",
        "bytes=1==",
    ];
    let data = select(limits).prop_map(|text| Some(Bytes::from(text)));
    prop_oneof![
        9 => (path, data.clone()).prop_map(|(path, data)| {
            let (acl, mode) = (Acl::open(), CreateMode::Persistent);
            Op::Create(Create { path, data, acl, mode })
        }),
        2 => (any.clone(), data).prop_map(|(path, data)| Op::SetData { path, data, version: -1 }),
        1 => any.prop_map(|path| Op::Delete { path, version: -1 }),
    ]
    .boxed()
}

/// Also in a transaction, which is refused where limits change. No other server is asked this:
/// ZooKeeper counts otherwise.
fn quota_write(world: &World) -> BoxedStrategy<Write> {
    let multi =
        (op(world), quota_op(world)).prop_map(|(one, other)| Write::Multi(vec![one, other]));
    prop_oneof![8 => quota_op(world).prop_map(Write::Op), 1 => multi].boxed()
}

/// With more checks, and some that hold.
fn op_of_multi(world: &World) -> BoxedStrategy<Op> {
    let check = (path(world), version()).prop_map(|(path, version)| Op::Check { path, version });
    prop_oneof![8 => op(world), 3 => check].boxed()
}

/// A write of a client.
pub fn write(world: &World) -> BoxedStrategy<Write> {
    prop_oneof![
        30 => op(world).prop_map(Write::Op),
        4 => (path(world), acl(), version()).prop_map(|(path, acl, version)| {
            Write::SetAcl { path, acl, version }
        }),
        12 => vec(op_of_multi(world), 0..5).prop_map(Write::Multi),
        1 => Just(Write::CloseSession),
    ]
    .boxed()
}

/// What the coordinator asks of itself, with nothing in it that is true.
fn requests_of_system() -> impl Strategy<Value = Write> {
    select(World::sessions()).prop_flat_map(|id| {
        let password = Password([0; 16]);
        let attachment = Zxid::new(1, 1);
        select(vec![
            Write::CreateSession { id, password, timeout_ms: 4_000 },
            Write::ExpireSession { id, attachment, sequence: 0 },
            Write::Reap { path: Arc::from("/a") },
            Write::Configure { members: Arc::from("server.1=a:1:1:participant") },
        ])
    })
}

fn write_action(
    world: &World,
    writer: BoxedStrategy<usize>,
) -> impl Strategy<Value = Action> + use<> {
    let write = prop_oneof![60 => write(world), 1 => requests_of_system()];
    (writer, stamp(), write).prop_map(|(client, stamp, write)| Action::Write {
        client,
        stamp,
        write,
    })
}

fn reap(world: &World) -> BoxedStrategy<Write> {
    let ripe = world.model.reapable(world.clock_ms);
    let path = if ripe.is_empty() {
        path(world)
    } else {
        prop_oneof![3 => select(ripe), 1 => path(world)].boxed()
    };
    path.prop_map(|path| Write::Reap { path }).boxed()
}

/// A read.
pub fn read(world: &World) -> BoxedStrategy<Read> {
    let path = path(world);
    let watched = || (path.clone(), any::<bool>());
    let one = prop_oneof![
        path.clone().prop_map(|path| ReadOp::GetData { path }),
        path.clone().prop_map(|path| ReadOp::Children { path }),
    ];
    let prefix = select(vec![None, Some(""), Some("/"), Some("/a"), Some("/a/"), Some("a")]);
    prop_oneof![
        4 => watched().prop_map(|(path, watch)| Read::Exists { path, watch }),
        4 => watched().prop_map(|(path, watch)| Read::GetData { path, watch }),
        4 => watched().prop_map(|(path, watch)| Read::Children { path, watch }),
        3 => path.clone().prop_map(|path| Read::GetAcl { path }),
        1 => vec(one, 0..5).prop_map(Read::Multi),
        1 => prefix.prop_map(|prefix| Read::Ephemerals { prefix: prefix.map(Arc::from) }),
        2 => path.clone().prop_map(|path| Read::DescendantCount { path }),
        1 => Just(Read::WhoAmI),
    ]
    .boxed()
}

/// A request about one watch.
pub fn watch(world: &World) -> BoxedStrategy<WatchRequest> {
    let mode = select(vec![AddWatchMode::Persistent, AddWatchMode::PersistentRecursive]);
    let kind = || {
        select(vec![
            WatchKind::Children,
            WatchKind::Data,
            WatchKind::Any,
            WatchKind::Persistent,
            WatchKind::PersistentRecursive,
        ])
    };
    let watched: Vec<_> = world.model.watches().paths().into_iter().collect();
    let maybe_watched = if watched.is_empty() {
        path(world)
    } else {
        prop_oneof![3 => select(watched), 1 => path(world)].boxed()
    };
    prop_oneof![
        6 => (path(world), mode).prop_map(|(path, mode)| WatchRequest::Add { path, mode }),
        3 => (maybe_watched.clone(), kind()).prop_map(|(path, kind)| {
            WatchRequest::Check { path, kind }
        }),
        4 => (maybe_watched, kind()).prop_map(|(path, kind)| WatchRequest::Remove { path, kind }),
    ]
    .boxed()
}

/// What a client that comes back may have watched; `since` is zero.
pub fn rearm(world: &World) -> BoxedStrategy<Rearm> {
    // A client keeps its watches by path: no list names one twice.
    let paths = || {
        vec(path(world), 0..3).prop_map(|mut paths| {
            paths.sort();
            paths.dedup();
            paths
        })
    };
    (paths(), paths(), paths(), paths(), paths())
        .prop_map(|(data, exist, child, persistent, recursive)| Rearm {
            since: Zxid::ZERO,
            data,
            exist,
            child,
            persistent,
            recursive,
        })
        .boxed()
}
