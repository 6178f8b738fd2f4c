//! The steps of a program, and how they are drawn.

use std::sync::Arc;

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::strategy::BoxedStrategy;
use synod_core::model::{
    Acl, Code, Create, Op, Read, ReadOp, Rearm, WatchKind, WatchRequest, Write,
};
use synod_tests::generator;
use synod_tests::program::{CLIENTS, World};

use crate::raw::{Raw, raws};

/// One step of a program.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) client: usize,
    pub(crate) act: Act,
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Opens a session, if the client has none.
    Open { timeout_ms: i32, old: bool },
    /// Attaches the session to a new connection, while the one before is open (`stolen`) or after
    /// it was dropped.
    Attach { timeout_ms: i32, stolen: bool },
    /// Knocks with a hello that is refused, or leads to a session that is closed at once.
    Knock(Knock),
    /// Proves a name and a password.
    Prove(Who),
    /// Writes, reads, watches.
    Ask(Asked, Dialect),
    /// Something that changes nothing that the model knows of.
    Raw(Raw),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knock {
    WrongPassword,
    ShortPassword,
    UnknownSession,
    Ahead,
    ShortFrame,
    OddNewcomer,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Who {
    Alice,
    Bob,
    Super,
}

#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Write(Write),
    Read(Read),
    Watch(WatchRequest),
    /// With the last zxid but so many as the last that the client has seen.
    Rearm {
        behind: usize,
        rearm: Rearm,
    },
}

/// Which of several ways there are to ask for the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialect {
    /// The number of a create that is neither of a container nor of a TTL znode, and, unless it
    /// is 0, of a container.
    pub(crate) create: i32,
    /// The first of two numbers of a request, or the second.
    pub(crate) first: bool,
    /// Bytes behind the record.
    pub(crate) trailing: bool,
    /// In one of the ways after which the servers differ: ACLs may name IPv6 networks, ephemeral
    /// znodes may be created as containers.
    pub(crate) odd: bool,
}

/// A step that may come next.
pub(crate) fn step(world: &World) -> BoxedStrategy<Step> {
    let open: Vec<usize> = (0..CLIENTS).filter(|client| world.is_open(*client)).collect();
    let opening = (0..CLIENTS, timeout(), any::<bool>())
        .prop_map(|(client, timeout_ms, old)| Step { client, act: Act::Open { timeout_ms, old } });
    if open.is_empty() {
        return opening.boxed();
    }
    let write = generator::write(world).prop_filter_map("of a client", |write| {
        let internal = matches!(
            write,
            Write::CreateSession { .. }
                | Write::ExpireSession { .. }
                | Write::Reap { .. }
                | Write::Configure { .. }
                | Write::ProposeAt { .. }
                | Write::Attach { .. }
                // It is among the raw ones.
                | Write::Op(Op::Check { .. })
        );
        (!internal).then_some(Asked::Write(write))
    });
    let rearm = (select(vec![0usize, 1, 2, 5, 20, 1000]), generator::rearm(world))
        .prop_map(|(behind, rearm)| Asked::Rearm { behind, rearm });
    let asked = prop_oneof![
        50 => write,
        22 => generator::read(world).prop_map(Asked::Read),
        14 => generator::watch(world).prop_map(Asked::Watch),
        4 => rearm,
    ];
    let attach = || {
        (timeout(), any::<bool>())
            .prop_map(|(timeout_ms, stolen)| Act::Attach { timeout_ms, stolen })
    };
    let knock = select(vec![
        Knock::WrongPassword,
        Knock::ShortPassword,
        Knock::UnknownSession,
        Knock::Ahead,
        Knock::ShortFrame,
        Knock::OddNewcomer,
    ]);
    let who = prop_oneof![4 => Just(Who::Alice), 4 => Just(Who::Bob), 1 => Just(Who::Super)];
    let raw = generator::path(world).prop_flat_map(|mut path| {
        settle_path(&mut path);
        select(raws(&path))
    });
    let act = prop_oneof![
        90 => (asked, dialect()).prop_map(|(asked, dialect)| Act::Ask(asked, dialect)),
        10 => raw.prop_map(Act::Raw),
        3 => who.prop_map(Act::Prove),
        3 => attach(),
        1 => knock.prop_map(Act::Knock),
    ];
    let closed = CLIENTS - open.len();
    prop_oneof![
        1 + 10 * closed as u32 => opening,
        100 => (select(open), act).prop_map(|(client, act)| Step { client, act }),
    ]
    .boxed()
}

/// What clients ask for; servers grant 4 to 40 seconds.
fn timeout() -> impl Strategy<Value = i32> {
    select(vec![0, -1, 3_999, 4_000, 10_000, 40_000, 40_001, i32::MAX])
}

fn dialect() -> impl Strategy<Value = Dialect> {
    let one_in = |count: u32| (0..count).prop_map(|it| it == 0);
    (select(vec![1, 15, 19, 0]), any::<bool>(), one_in(20), one_in(120))
        .prop_map(|(create, first, trailing, odd)| Dialect { create, first, trailing, odd })
}

impl Asked {
    /// Whether an ACL names an IPv6 network.
    pub(crate) fn has_ipv6(&self) -> bool {
        let ipv6 = |acl: &[Acl]| {
            acl.iter().any(|line| line.who.scheme == "ip" && line.who.id.contains(':'))
        };
        let creates = |op: &Op| matches!(op, Op::Create(create) if ipv6(&create.acl));
        match self {
            Asked::Write(Write::Op(op)) => creates(op),
            Asked::Write(Write::Multi(ops)) => ops.iter().any(creates),
            Asked::Write(Write::SetAcl { acl, .. }) => ipv6(acl),
            _ => false,
        }
    }
}

/// Makes the step one that the servers under test can be asked and the model can follow: nothing
/// after which they would hold different watches, as `differences.toml` tells.
pub(crate) fn settle(world: &World, step: Step) -> Step {
    let Step { client, act } = step;
    let Act::Ask(mut asked, dialect) = act else { return Step { client, act } };
    let watches = Watching { world, client };
    match &mut asked {
        Asked::Write(write) => settle_write(write, dialect),
        Asked::Read(read) => watches.settle_read(read),
        Asked::Watch(request) => watches.settle_request(request),
        Asked::Rearm { rearm, .. } => watches.settle_rearm(rearm),
    }
    Step { client, act: Act::Ask(asked, dialect) }
}

/// The watches of a client, as the model knows them.
struct Watching<'a> {
    world: &'a World,
    client: usize,
}

impl Watching<'_> {
    fn has(&self, path: &Arc<str>, kind: WatchKind) -> bool {
        self.world.model.watches().has(World::sessions()[self.client], path, kind)
    }

    fn has_staying(&self, path: &Arc<str>) -> bool {
        STAYING.iter().any(|kind| self.has(path, *kind))
    }

    /// Before 3.9 a client has one kind of watch at a path, the last one. Before 3.8.4 `exists`
    /// needs no READ, and so leaves a watch that ours does not.
    fn settle_read(&self, read: &mut Read) {
        match read {
            Read::Exists { path, .. }
            | Read::GetData { path, .. }
            | Read::Children { path, .. }
            | Read::GetAcl { path }
            | Read::DescendantCount { path } => settle_path(path),
            Read::Multi(reads) => reads.iter_mut().for_each(|read| {
                let (ReadOp::GetData { path } | ReadOp::Children { path }) = read;
                settle_path(path);
            }),
            _ => {}
        }
        let (Read::Exists { path, watch }
        | Read::GetData { path, watch }
        | Read::Children { path, watch }) = read
        else {
            return;
        };
        *watch = *watch && !self.has_staying(path) && !self.is_hidden(path);
    }

    fn is_hidden(&self, path: &Arc<str>) -> bool {
        let session = World::sessions()[self.client];
        let identities = self.world.identities(self.client);
        let read = Read::Exists { path: Arc::clone(path), watch: false };
        let refused = self.world.model.clone().read(session, identities, &read).err();
        refused.is_some_and(|fault| fault.code == Code::NoAuth)
    }

    /// Before 3.9 the types 4 and 5 are unknown, and the types 1 and 2 mean watches that stay, too.
    fn settle_request(&self, request: &mut WatchRequest) {
        match request {
            WatchRequest::Add { path, mode } => {
                let own = STAYING[*mode as usize];
                let others = ALL.iter().filter(|kind| **kind != own);
                if others.into_iter().any(|kind| self.has(path, *kind)) {
                    *request = WatchRequest::Check { path: Arc::clone(path), kind: own };
                }
            }
            WatchRequest::Remove { path, kind } => {
                let unknown = STAYING.contains(kind) && self.has(path, *kind);
                if unknown || (!STAYING.contains(kind) && self.has_staying(path)) {
                    *kind = WatchKind::Any;
                }
            }
            _ => {}
        }
    }

    fn settle_rearm(&self, rearm: &mut Rearm) {
        let one_shot = [&mut rearm.data, &mut rearm.exist, &mut rearm.child];
        let mut taken: Vec<Arc<str>> = Vec::new();
        for paths in one_shot {
            paths.iter_mut().for_each(settle_path);
            // Apache tells of such a path in bytes that are not UTF-8.
            paths.retain(|path| path.chars().all(|char| char <= '\u{FFFF}'));
            // When those of the coordinator itself last changed the model does not know.
            paths.retain(|path| {
                let own = generator::OWN.contains(&&**path);
                !(self.has_staying(path) || own && self.is_hidden(path))
            });
            taken.extend(paths.iter().cloned());
        }
        for (paths, own) in [&mut rearm.persistent, &mut rearm.recursive].into_iter().zip(STAYING) {
            paths.retain(|path| {
                let others = ALL.iter().filter(|kind| **kind != own);
                !taken.contains(path) && !others.into_iter().any(|kind| self.has(path, *kind))
            });
            taken.extend(paths.iter().cloned());
        }
    }
}

/// The kinds of watch that stay, by the number of their mode.
const STAYING: [WatchKind; 2] = [WatchKind::Persistent, WatchKind::PersistentRecursive];

const ALL: [WatchKind; 4] =
    [WatchKind::Data, WatchKind::Children, WatchKind::Persistent, WatchKind::PersistentRecursive];

/// To Apache an empty path is the root, where it is not judged.
fn settle_path(path: &mut Arc<str>) {
    if path.is_empty() {
        *path = Arc::from("//");
    }
}

fn settle_write(write: &mut Write, dialect: Dialect) {
    let op = |op: &mut Op| match op {
        Op::Create(Create { acl, .. }) => acl.iter_mut().for_each(|line| settle_acl(line, dialect)),
        Op::Delete { path, version }
        | Op::SetData { path, version, .. }
        | Op::Check { path, version } => settle_version(path, version),
    };
    match write {
        Write::Op(one) => op(one),
        Write::Multi(ops) => ops.iter_mut().for_each(op),
        Write::SetAcl { path, acl, version } => {
            acl.iter_mut().for_each(|line| settle_acl(line, dialect));
            settle_version(path, version);
        }
        _ => {}
    }
}

/// Clients connect from 127.0.0.0/8 rather than 10.0.0.0/8.
fn settle_acl(line: &mut Acl, dialect: Dialect) {
    if line.who.scheme == "ip" {
        if let Some(rest) = line.who.id.strip_prefix("10.") {
            line.who.id = format!("127.{rest}");
        } else if line.who.id.contains(':') && !dialect.odd {
            line.who.id = "127.0.0.0/9".to_owned();
        }
    }
}

/// What the coordinator itself made outlives programs: its versions are unknown to the model.
fn settle_version(path: &str, version: &mut i32) {
    if generator::OWN.contains(&path) && *version != -1 {
        *version = i32::MAX;
    }
}
