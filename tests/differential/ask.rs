//! The bytes of what the model knows.

use synod_core::model::{Acl, Create, CreateMode, Op, Read, ReadOp, WatchRequest, Write};

use crate::bytes::Out;
use crate::step::{Asked, Dialect};

/// Number and body of a request, with `since` as the last zxid that the client has seen.
pub(crate) fn request(asked: &Asked, dialect: Dialect, since: i64) -> (i32, Vec<u8>) {
    let out = Out::default();
    let (op, out) = match asked {
        Asked::Write(write) => self::write(out, write, dialect),
        Asked::Read(read) => self::read(out, read, dialect),
        Asked::Watch(watch) => self::watch(out, watch),
        Asked::Rearm { rearm, .. } => {
            let path = |out: Out, path: &std::sync::Arc<str>| out.text(path);
            let out = out.i64(since).list(&rearm.data, path);
            let out = out.list(&rearm.exist, path).list(&rearm.child, path);
            if rearm.persistent.is_empty() && rearm.recursive.is_empty() && dialect.first {
                (101, out)
            } else {
                (105, out.list(&rearm.persistent, path).list(&rearm.recursive, path))
            }
        }
    };
    let trailing: &[u8] = if dialect.trailing { b"trailing" } else { b"" };
    (op, out.append(trailing).0)
}

/// The xid that goes with a number.
pub(crate) fn xid_for(op: i32, next: i32) -> i32 {
    match op {
        11 => -2,
        100 => -4,
        101 | 105 => -8,
        _ => next,
    }
}

/// What a number is called.
pub(crate) fn name(op: i32) -> &'static str {
    let names = [
        (1, "create"),
        (15, "create2"),
        (19, "createContainer"),
        (21, "createTTL"),
        (2, "delete"),
        (3, "exists"),
        (4, "getData"),
        (5, "setData"),
        (6, "getACL"),
        (7, "setACL"),
        (8, "getChildren"),
        (12, "getChildren2"),
        (13, "check"),
        (14, "multi"),
        (17, "checkWatches"),
        (18, "removeWatches"),
        (22, "multiRead"),
        (101, "setWatches"),
        (103, "getEphemerals"),
        (104, "getAllChildrenNumber"),
        (105, "setWatches2"),
        (106, "addWatch"),
        (107, "whoAmI"),
        (-11, "closeSession"),
    ];
    names.iter().find(|(number, _)| *number == op).map_or("unknown", |(_, name)| name)
}

fn acl(out: Out, acl: &[Acl]) -> Out {
    out.list(acl, |out, line| {
        out.i32(line.perms.0 as i32).text(&line.who.scheme).text(&line.who.id)
    })
}

/// The number of an operation, and its body.
fn op(out: Out, op: &Op, dialect: Dialect) -> (i32, Out) {
    match op {
        Op::Create(create) => self::create(out, create, dialect),
        Op::Delete { path, version } => (2, out.text(path).i32(*version)),
        Op::SetData { path, data, version } => {
            (5, out.text(path).buffer(data.as_deref()).i32(*version))
        }
        Op::Check { path, version } => (13, out.text(path).i32(*version)),
    }
}

fn create(out: Out, create: &Create, dialect: Dialect) -> (i32, Out) {
    let (flags, ttl_ms) = match create.mode {
        CreateMode::Persistent => (0, None),
        CreateMode::Ephemeral => (1, None),
        CreateMode::PersistentSequential => (2, None),
        CreateMode::EphemeralSequential => (3, None),
        CreateMode::Container => (4, None),
        CreateMode::Ttl { ttl_ms } => (5, Some(ttl_ms)),
        CreateMode::TtlSequential { ttl_ms } => (6, Some(ttl_ms)),
    };
    let number = match (ttl_ms, dialect.create, create.mode) {
        (Some(_), ..) => 21,
        (_, 0, CreateMode::Container) => 19,
        (_, 0, _) => 15,
        (_, 19, CreateMode::Ephemeral | CreateMode::EphemeralSequential) if !dialect.odd => 15,
        (_, number, _) => number,
    };
    let out = acl(out.text(&create.path).buffer(create.data.as_deref()), &create.acl).i32(flags);
    (number, ttl_ms.into_iter().fold(out, Out::i64))
}

fn write(out: Out, write: &Write, dialect: Dialect) -> (i32, Out) {
    match write {
        Write::Op(one) => op(out, one, dialect),
        Write::SetAcl { path, acl: list, version } => (7, acl(out.text(path), list).i32(*version)),
        Write::Multi(ops) => {
            // So that one transaction has creates of several numbers.
            let numbers = [1, 15, 19].into_iter().cycle();
            let numbers = numbers.skip_while(|number| *number != dialect.create.max(1));
            let out = ops.iter().zip(numbers).fold(out, |out, (one, create)| {
                let (number, body) = op(Out::default(), one, Dialect { create, ..dialect });
                out.i32(number).bool(false).i32(-1).append(&body.0)
            });
            (14, out.i32(-1).bool(true).i32(-1))
        }
        Write::CloseSession => (-11, out),
        _ => unreachable!("only what clients ask for is drawn"),
    }
}

fn read(out: Out, read: &Read, dialect: Dialect) -> (i32, Out) {
    match read {
        Read::Exists { path, watch } => (3, out.text(path).bool(*watch)),
        Read::GetData { path, watch } => (4, out.text(path).bool(*watch)),
        Read::GetAcl { path } => (6, out.text(path)),
        Read::Children { path, watch } => {
            (if dialect.first { 8 } else { 12 }, out.text(path).bool(*watch))
        }
        Read::Multi(reads) => {
            let out = reads.iter().fold(out, |out, read| {
                let (number, path) = match read {
                    ReadOp::GetData { path } => (4, path),
                    ReadOp::Children { path } => (8, path),
                };
                out.i32(number).bool(false).i32(-1).text(path).bool(dialect.first)
            });
            (22, out.i32(-1).bool(true).i32(-1))
        }
        Read::Ephemerals { prefix: Some(prefix) } => (103, out.text(prefix)),
        Read::Ephemerals { prefix: None } => (103, out.i32(-1)),
        Read::DescendantCount { path } => (104, out.text(path)),
        Read::WhoAmI => (107, out),
    }
}

fn watch(out: Out, watch: &WatchRequest) -> (i32, Out) {
    match watch {
        WatchRequest::Add { path, mode } => (106, out.text(path).i32(*mode as i32)),
        WatchRequest::Check { path, kind } => (17, out.text(path).i32(*kind as i32)),
        WatchRequest::Remove { path, kind } => (18, out.text(path).i32(*kind as i32)),
        WatchRequest::Rearm(_) => unreachable!("a re-arming is drawn apart"),
    }
}
