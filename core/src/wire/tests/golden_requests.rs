//! Every request of the protocol, in bytes and as it is read; those that write are in
//! `golden_writes`.

use super::super::request::Shape;
use super::*;
use crate::model::{
    AddWatchMode, Read, ReadOp, Rearm, Reconfig, Request, SaslToken, WatchKind, WatchRequest,
};

/// A request in bytes, and how it is read.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) bytes: &'static str,
    pub(super) xid: i32,
    pub(super) request: Request,
    pub(super) shape: Shape,
    /// Whether the client of this project writes it in the same bytes.
    pub(super) written: bool,
}

fn read(read: Read) -> Request {
    Request::Read(read)
}

fn watch(watch: WatchRequest) -> Request {
    Request::Watch(watch)
}

/// The case of a request that is read, and written in the same bytes.
pub(super) fn both(
    name: &'static str,
    bytes: &'static str,
    request: Request,
    shape: Shape,
) -> Case {
    Case { name, bytes, xid: 9, request, shape, written: true }
}

/// The case of a request that is read; the client of this project writes another one instead.
pub(super) fn one_way(
    name: &'static str,
    bytes: &'static str,
    request: Request,
    shape: Shape,
) -> Case {
    Case { written: false, ..both(name, bytes, request, shape) }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = super::golden_writes::cases();
    cases.extend(reads());
    cases.extend(multi_reads());
    cases.extend(watches());
    cases.extend(others());
    cases
}

fn reads() -> Vec<Case> {
    let a = || path("/a");
    let ephemerals = |prefix| read(Read::Ephemerals { prefix: Some(path(prefix)) });
    vec![
        both(
            "exists",
            "00000009                    # xid
             00000003                    # exists
             00000002 2f61               # path: /a
             01                          # watch",
            read(Read::Exists { path: a(), watch: true }),
            Shape::Stat,
        ),
        both(
            "get-data",
            "00000009                    # xid
             00000004                    # getData
             00000002 2f61               # path: /a
             00                          # watch",
            read(Read::GetData { path: a(), watch: false }),
            Shape::DataStat,
        ),
        one_way(
            "get-data-watch-is-any-number-but-zero",
            "00000009 00000004           # xid, getData
             00000002 2f61               # path: /a
             80                          # watch",
            read(Read::GetData { path: a(), watch: true }),
            Shape::DataStat,
        ),
        one_way(
            "get-data-not-utf-8",
            "00000009 00000004           # xid, getData
             00000003 2fff61             # path: /, a byte that UTF-8 does not know, a
             00                          # watch",
            read(Read::GetData { path: path("/\u{FFFD}a"), watch: false }),
            Shape::DataStat,
        ),
        both(
            "get-acl",
            "00000009                    # xid
             00000006                    # getACL
             00000002 2f61               # path: /a",
            read(Read::GetAcl { path: a() }),
            Shape::AclStat,
        ),
        one_way(
            "get-children",
            "00000009                    # xid
             00000008                    # getChildren
             00000002 2f61               # path: /a
             01                          # watch",
            read(Read::Children { path: a(), watch: true }),
            Shape::Names,
        ),
        both(
            "get-children2",
            "00000009                    # xid
             0000000c                    # getChildren2
             00000002 2f61               # path: /a
             01                          # watch",
            read(Read::Children { path: a(), watch: true }),
            Shape::NamesStat,
        ),
        both(
            "get-ephemerals",
            "00000009                    # xid
             00000067                    # getEphemerals
             00000002 2f61               # prefixPath: /a",
            ephemerals("/a"),
            Shape::Paths,
        ),
        both(
            "get-ephemerals-empty",
            "00000009 00000067           # xid, getEphemerals
             00000000                    # prefixPath: empty",
            ephemerals(""),
            Shape::Paths,
        ),
        one_way(
            "get-ephemerals-null",
            "00000009 00000067           # xid, getEphemerals
             ffffffff                    # prefixPath: null",
            ephemerals(""),
            Shape::Paths,
        ),
        both(
            "get-all-children-number",
            "00000009                    # xid
             00000068                    # getAllChildrenNumber
             00000002 2f61               # path: /a",
            read(Read::DescendantCount { path: a() }),
            Shape::Count,
        ),
        both(
            "who-am-i",
            "00000009                    # xid
             0000006b                    # whoAmI",
            read(Read::WhoAmI),
            Shape::Identities,
        ),
    ]
}

fn multi_reads() -> Vec<Case> {
    let reads = vec![ReadOp::GetData { path: path("/a") }, ReadOp::Children { path: path("/b") }];
    vec![
        both(
            "multi-read",
            "00000009 00000016           # xid, multiRead
             00000004 00 ffffffff        # header: getData
               00000002 2f61             #   path: /a
               00                        #   watch
             00000008 00 ffffffff        # header: getChildren
               00000002 2f62             #   path: /b
               00                        #   watch
             ffffffff 01 ffffffff        # header: done",
            read(Read::Multi(reads)),
            Shape::MultiRead(vec![4, 8]),
        ),
        one_way(
            "multi-read-watch-is-passed-over",
            "00000009 00000016           # xid, multiRead
             00000004 00 ffffffff        # header: getData
               00000002 2f61             #   path: /a
               01                        #   watch
             ffffffff 01 ffffffff        # header: done",
            read(Read::Multi(vec![ReadOp::GetData { path: path("/a") }])),
            Shape::MultiRead(vec![4]),
        ),
        both(
            "multi-read-empty",
            "00000009                    # xid
             00000016                    # multiRead
             ffffffff 01 ffffffff        # header: done",
            read(Read::Multi(Vec::new())),
            Shape::MultiRead(Vec::new()),
        ),
    ]
}

fn watches() -> Vec<Case> {
    let add = |mode| watch(WatchRequest::Add { path: path("/a"), mode });
    let check = |kind| watch(WatchRequest::Check { path: path("/a"), kind });
    let remove = |kind| watch(WatchRequest::Remove { path: path("/a"), kind });
    let rearm = Rearm {
        since: Zxid::new(2, 9),
        data: vec![path("/a"), path("/b")],
        exist: Vec::new(),
        child: vec![path("/c")],
        ..Rearm::default()
    };
    let staying = Rearm {
        since: Zxid::new(2, 9),
        exist: vec![path("/a")],
        persistent: vec![path("/p")],
        recursive: vec![path("/r")],
        ..Rearm::default()
    };
    let nothing = Rearm { since: Zxid::new(2, 9), ..Rearm::default() };
    vec![
        both(
            "add-watch-persistent",
            "00000009                    # xid
             0000006a                    # addWatch
             00000002 2f61               # path: /a
             00000000                    # mode: persistent",
            add(AddWatchMode::Persistent),
            Shape::Zero,
        ),
        both(
            "add-watch-recursive",
            "00000009 0000006a           # xid, addWatch
             00000002 2f61               # path: /a
             00000001                    # mode: persistent recursive",
            add(AddWatchMode::PersistentRecursive),
            Shape::Zero,
        ),
        both(
            "check-watches",
            "00000009                    # xid
             00000011                    # checkWatches
             00000002 2f61               # path: /a
             00000001                    # type: child",
            check(WatchKind::Children),
            Shape::Empty,
        ),
        both(
            "check-watches-recursive",
            "00000009 00000011           # xid, checkWatches
             00000002 2f61               # path: /a
             00000005                    # type: persistent recursive",
            check(WatchKind::PersistentRecursive),
            Shape::Empty,
        ),
        both(
            "remove-watches-data",
            "00000009                    # xid
             00000012                    # removeWatches
             00000002 2f61               # path: /a
             00000002                    # type: data",
            remove(WatchKind::Data),
            Shape::Empty,
        ),
        both(
            "remove-watches-any",
            "00000009 00000012           # xid, removeWatches
             00000002 2f61               # path: /a
             00000003                    # type: any",
            remove(WatchKind::Any),
            Shape::Empty,
        ),
        both(
            "remove-watches-persistent",
            "00000009 00000012           # xid, removeWatches
             00000002 2f61               # path: /a
             00000004                    # type: persistent",
            remove(WatchKind::Persistent),
            Shape::Empty,
        ),
        Case {
            xid: -8,
            ..both(
                "set-watches",
                "fffffff8                # xid: -8
                 00000065                # setWatches
                 0000000200000009        # relativeZxid
                 00000002                # dataWatches: 2
                   00000002 2f61         #   /a
                   00000002 2f62         #   /b
                 00000000                # existWatches: none
                 00000001                # childWatches: 1
                   00000002 2f63         #   /c",
                watch(WatchRequest::Rearm(rearm)),
                Shape::Empty,
            )
        },
        Case {
            xid: -8,
            ..both(
                "set-watches2",
                "fffffff8                # xid: -8
                 00000069                # setWatches2
                 0000000200000009        # relativeZxid
                 00000000                # dataWatches: none
                 00000001                # existWatches: 1
                   00000002 2f61         #   /a
                 00000000                # childWatches: none
                 00000001                # persistentWatches: 1
                   00000002 2f70         #   /p
                 00000001                # persistentRecursiveWatches: 1
                   00000002 2f72         #   /r",
                watch(WatchRequest::Rearm(staying)),
                Shape::Empty,
            )
        },
        one_way(
            "set-watches2-under-another-xid",
            "00000009 00000069           # xid, setWatches2
             0000000200000009            # relativeZxid
             00000000 00000000 00000000  # data, exist, child: none
             00000000 00000000           # persistent, recursive: none",
            watch(WatchRequest::Rearm(nothing)),
            Shape::Empty,
        ),
    ]
}

fn others() -> Vec<Case> {
    let auth = |credentials| Request::Auth { scheme: "digest".into(), credentials };
    let sasl = |token| Request::Sasl(SaslToken(Bytes::from_static(token)));
    let sync = |to| Request::Sync { path: path(to) };
    vec![
        both(
            "sync",
            "00000009                    # xid
             00000009                    # sync
             00000002 2f61               # path: /a",
            sync("/a"),
            Shape::Echo(path("/a")),
        ),
        both(
            "reconfig-incremental",
            "00000009                    # xid
             00000010                    # reconfig
             00000003 613d62             # joining: a=b
             00000001 34                 # leaving: 4
             ffffffff                    # members: null
             0000000100000007            # from version",
            Request::Reconfig(Reconfig {
                joining: Some("a=b".to_owned()),
                leaving: Some("4".to_owned()),
                members: None,
                from_version: 0x1_0000_0007,
            }),
            Shape::DataStat,
        ),
        both(
            "reconfig-to-a-list",
            "00000009                    # xid
             00000010                    # reconfig
             ffffffff                    # joining: null
             ffffffff                    # leaving: null
             00000000                    # members: none
             ffffffffffffffff            # from version: any",
            Request::Reconfig(Reconfig {
                joining: None,
                leaving: None,
                members: Some(String::new()),
                from_version: -1,
            }),
            Shape::DataStat,
        ),
        Case {
            xid: -2,
            ..both(
                "ping",
                "fffffffe                # xid: -2
                 0000000b                # ping",
                Request::Ping,
                Shape::Empty,
            )
        },
        Case {
            xid: -2,
            ..one_way(
                "ping-is-answered-under-its-own-xid",
                "00000009                # xid: not a ping's
                 0000000b                # ping",
                Request::Ping,
                Shape::Empty,
            )
        },
        Case {
            xid: -4,
            ..both(
                "auth",
                "fffffffc                # xid: -4
                 00000064                # auth
                 00000000                # type
                 00000006 646967657374   # scheme: digest
                 00000003 753a70         # auth: u:p",
                auth(Bytes::from_static(b"u:p")),
                Shape::Empty,
            )
        },
        Case {
            xid: -4,
            ..one_way(
                "auth-null",
                "fffffffc 00000064       # xid, auth
                 00000007                # type: passed over
                 00000006 646967657374   # scheme: digest
                 ffffffff                # auth: null",
                auth(Bytes::new()),
                Shape::Empty,
            )
        },
        both(
            "sasl",
            "00000009                    # xid
             00000066                    # sasl
             00000002 6869               # token",
            sasl(b"hi"),
            Shape::Token,
        ),
        one_way(
            "sasl-null",
            "00000009 00000066           # xid, sasl
             ffffffff                    # token: null",
            sasl(b""),
            Shape::Token,
        ),
    ]
}
