//! Requests that no client of this project sends: numbers, flags, counts and lengths that mean
//! nothing, and operations that are not for clients.

use crate::bytes::Out;

/// A request as bytes.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) what: &'static str,
    pub(crate) xid: Option<i32>,
    pub(crate) op: i32,
    pub(crate) body: Vec<u8>,
}

fn raw(what: &'static str, op: i32, body: Out) -> Raw {
    Raw { what, xid: None, op, body: body.0 }
}

fn open_acl(out: Out) -> Out {
    out.i32(1).i32(31).text("world").text("anyone")
}

fn create(path: &str, flags: i32) -> Out {
    open_acl(Out::default().text(path).text("x")).i32(flags)
}

fn header(out: Out, number: i32) -> Out {
    out.i32(number).bool(false).i32(-1)
}

fn end(out: Out) -> Out {
    out.i32(-1).bool(true).i32(-1)
}

/// All of them, about one path.
pub(crate) fn raws(path: &str) -> Vec<Raw> {
    let out = Out::default;
    let with_path = || out().text(path);
    let multi = |number: i32, body: Out| end(header(out(), number).append(&body.0));
    let mut raws = vec![
        raw("deleteContainer", 20, with_path()),
        raw("createSession", -10, out().i32(10_000)),
        raw("check", 13, with_path().i32(i32::MAX)),
        raw("reconfig", 16, out().text("").text("").text("server.1=x:1:2;3").i64(-1)),
        raw("reconfig of null", 16, out().i32(-1).i32(-1).i32(-1).i64(-1)),
        raw("sasl", 102, out().buffer(Some(b""))),
        raw("sync", 9, with_path()),
        raw("sync of a character above U+FFFF", 9, out().text("/\u{1F980}")),
        raw("sync of null", 9, out().i32(-1)),
        raw("ping", 11, out()),
        raw("whoAmI", 107, out()),
        raw("getEphemerals of null", 103, out().i32(-1)),
        raw("getAllChildrenNumber of null", 104, out().i32(-1)),
        raw("exists of null", 3, out().i32(-1).bool(false)),
        raw("getData of null", 4, out().i32(-1).bool(false)),
        raw("getACL of null", 6, out().i32(-1)),
        raw("getChildren of null", 8, out().i32(-1).bool(false)),
        raw("delete of null", 2, out().i32(-1).i32(-1)),
        raw("setData of null", 5, out().i32(-1).text("x").i32(-1)),
        raw("setACL of null", 7, open_acl(out().i32(-1)).i32(-1)),
        raw("create of null", 1, open_acl(out().i32(-1).text("x")).i32(0)),
        raw("create with a null ACL", 1, with_path().text("x").i32(-1).i32(0)),
        raw("create2 with a null ACL", 15, with_path().text("x").i32(-1).i32(0)),
        raw("create with null in the ACL", 1, null_in_acl(with_path().text("x")).i32(0)),
        raw("setACL with a null ACL", 7, with_path().i32(-1).i32(-1)),
        raw("create cut off", 1, with_path().text("x")),
        raw("create with too long a path", 1, out().i32(1000).append(path.as_bytes())),
        raw("create with a negative length", 1, out().i32(-2)),
        raw("create with a negative count", 1, with_path().text("x").i32(-2).i32(0)),
        raw("createTTL cut off", 21, create(path, 5)),
        raw("delete cut off", 2, with_path()),
        raw("setData cut off", 5, with_path().text("x")),
        raw("getData cut off", 4, with_path()),
        raw("getData of nothing", 4, out()),
        raw("exists of an empty path", 3, out().text("").bool(false)),
        raw("getData of an empty path", 4, out().text("").bool(false)),
        raw("getACL of an empty path", 6, out().text("")),
        raw("getChildren of an empty path", 8, out().text("").bool(false)),
        raw("a path that is not UTF-8", 4, out().buffer(Some(b"/\xFF\xFE")).bool(false)),
        raw("create of what is not UTF-8", 1, not_utf8()),
        raw("addWatch with mode 2", 106, with_path().i32(2)),
        raw("addWatch with mode -1", 106, with_path().i32(-1)),
        raw("addWatch cut off", 106, with_path()),
        raw("checkWatches of type 0", 17, with_path().i32(0)),
        raw("checkWatches of type 6", 17, with_path().i32(6)),
        raw("checkWatches of null", 17, out().i32(-1).i32(3)),
        raw("removeWatches of type 0", 18, with_path().i32(0)),
        raw("removeWatches of type 6", 18, with_path().i32(6)),
        raw("removeWatches of null", 18, out().i32(-1).i32(3)),
        raw("setWatches with a null list", 101, out().i64(0).i32(-1).i32(0).i32(0)),
        raw("setWatches2 with a null list", 105, lists(&[0, 0, 0, 0, -1])),
        raw("setWatches2 cut off", 105, lists(&[0, 0, 0])),
        raw("setWatches of nothing", 101, lists(&[0, 0, 0])),
        raw("multi of nothing", 14, end(out())),
        raw("multi without an end", 14, out()),
        raw("multi with getData", 14, multi(4, with_path().bool(false))),
        raw("multi with setACL", 14, multi(7, open_acl(with_path()).i32(-1))),
        raw("multi with an unknown operation", 14, multi(77, with_path())),
        raw("multi with bad flags", 14, multi(1, create(path, 9))),
        raw("multi with TTL flags and no TTL", 14, multi(1, create(path, 5))),
        raw("multi with createTTL and flags 0", 14, multi(21, create(path, 0).i64(5))),
        raw("multi with createTTL and TTL 0", 14, multi(21, create(path, 5).i64(0))),
        raw("multi with deleteContainer", 14, multi(20, with_path())),
        raw("multiRead of nothing", 22, end(out())),
        raw("multiRead with a delete", 22, multi(2, with_path().i32(-1))),
        raw("multiRead with exists", 22, multi(3, with_path().bool(false))),
        raw("multiRead with watch", 22, multi(4, with_path().bool(true))),
        raw("auth of an unknown scheme", 100, out().i32(0).text("nonsense").text("x")),
        raw("auth of scheme world", 100, out().i32(0).text("world").text("anyone")),
        raw("auth of scheme sasl", 100, out().i32(0).text("sasl").text("x")),
        raw("auth of scheme ip", 100, out().i32(0).text("ip").text("1.2.3.4")),
        raw("auth of scheme super", 100, out().i32(0).text("super").text("")),
        raw("auth of a null scheme", 100, out().i32(0).i32(-1).text("x")),
        raw("unknown operation 0", 0, out()),
        raw("unknown operation 10", 10, with_path()),
        raw("unknown operation 23", 23, with_path()),
        raw("unknown operation 99", 99, out()),
        raw("unknown operation 108", 108, out()),
        raw("unknown operation -1", -1, out()),
        raw("unknown operation -12", -12, out()),
    ];
    for flags in [-1, 7, 8, 100, i32::MAX, i32::MIN] {
        for op in [1, 15, 19] {
            raws.push(raw("create with bad flags", op, create(path, flags)));
        }
        raws.push(raw("createTTL with bad flags", 21, create(path, flags).i64(5)));
    }
    for flags in [5, 6] {
        for op in [1, 15, 19] {
            raws.push(raw("create with TTL flags and no TTL", op, create(path, flags)));
        }
    }
    for flags in 0..5 {
        raws.push(raw("createTTL with other flags", 21, create(path, flags).i64(5)));
    }
    for raw in &mut raws {
        raw.xid = match raw.op {
            11 => Some(-2),
            100 => Some(-4),
            101 | 105 => Some(-8),
            _ => None,
        };
    }
    // Numbers that have a meaning, under requests that they do not belong to.
    raws.push(Raw { xid: Some(-8), ..raw("getData under xid -8", 4, with_path().bool(false)) });
    raws.push(Raw { xid: Some(-4), ..raw("getData under xid -4", 4, with_path().bool(false)) });
    raws.push(Raw { xid: Some(0), ..raw("getData under xid 0", 4, with_path().bool(false)) });
    raws.push(Raw { xid: Some(5), ..raw("setWatches under xid 5", 101, lists(&[0, 0, 0])) });
    raws.push(Raw { xid: Some(5), ..raw("ping under xid 5", 11, out()) });
    raws
}

fn lists(counts: &[i32]) -> Out {
    counts.iter().fold(Out::default().i64(0), |out, count| out.i32(*count))
}

fn null_in_acl(out: Out) -> Out {
    out.i32(1).i32(31).i32(-1).i32(-1)
}

fn not_utf8() -> Out {
    open_acl(Out::default().buffer(Some(b"/\xFF")).text("x")).i32(0)
}
