//! Every request that writes, in bytes and as it is read.

use super::super::request::Shape;
use super::golden_requests::{Case, both, one_way};
use super::*;
use crate::model::{Acl, Create, CreateMode, Op, Perms, Request, Write};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = creates();
    cases.extend(writes());
    cases.extend(multis());
    cases
}

fn open() -> Vec<Acl> {
    vec![Acl::new(Perms::ALL, "world", "anyone")]
}

fn create(mode: CreateMode) -> Op {
    let data = Some(Bytes::from_static(b"xyz"));
    Op::Create(Create { path: path("/a"), data, acl: open(), mode })
}

fn op(op: Op) -> Request {
    Request::Write(Write::Op(op))
}

fn creates() -> Vec<Case> {
    use CreateMode::*;
    let null = Op::Create(Create { path: path("/a"), data: None, acl: open(), mode: Persistent });
    let bare = Create { path: path(""), data: None, acl: Vec::new(), mode: Persistent };
    let two_lines = Create {
        path: path("/a/b"),
        data: Some(Bytes::new()),
        acl: vec![
            Acl::new(Perms::READ | Perms::ADMIN, "digest", "u:h"),
            Acl::new(Perms::CREATE, "ip", "10.0.0.0/8"),
        ],
        mode: EphemeralSequential,
    };
    vec![
        one_way(
            "create",
            "00000009                    # xid
             00000001                    # create
             00000002 2f61               # path: /a
             00000003 78797a             # data: xyz
             00000001                    # acl: 1 line
               0000001f                  #   perms: all
               00000005 776f726c64       #   scheme: world
               00000006 616e796f6e65     #   id: anyone
             00000000                    # flags: persistent",
            op(create(Persistent)),
            Shape::Path,
        ),
        one_way(
            "create-container-by-flags",
            "00000009 00000001           # xid, create
             00000002 2f61               # path: /a
             00000003 78797a             # data: xyz
             00000001 0000001f           # acl: 1 line, all
               00000005 776f726c64 00000006 616e796f6e65
             00000004                    # flags: container",
            op(create(Container)),
            Shape::Path,
        ),
        one_way(
            "create-nulls",
            "00000009 00000001           # xid, create
             ffffffff                    # path: null
             ffffffff                    # data: null
             ffffffff                    # acl: null
             00000000                    # flags: persistent",
            op(Op::Create(bare)),
            Shape::Path,
        ),
        both(
            "create2",
            "00000009                    # xid
             0000000f                    # create2
             00000002 2f61               # path: /a
             00000003 78797a             # data: xyz
             00000001                    # acl: 1 line
               0000001f                  #   perms: all
               00000005 776f726c64       #   scheme: world
               00000006 616e796f6e65     #   id: anyone
             00000000                    # flags: persistent",
            op(create(Persistent)),
            Shape::PathStat,
        ),
        both(
            "create2-ephemeral",
            "00000009 0000000f           # xid, create2
             00000002 2f61               # path: /a
             00000003 78797a             # data: xyz
             00000001 0000001f           # acl: 1 line, all
               00000005 776f726c64 00000006 616e796f6e65
             00000001                    # flags: ephemeral",
            op(create(Ephemeral)),
            Shape::PathStat,
        ),
        both(
            "create2-sequential",
            "00000009 0000000f           # xid, create2
             00000002 2f61               # path: /a
             00000003 78797a             # data: xyz
             00000001 0000001f           # acl: 1 line, all
               00000005 776f726c64 00000006 616e796f6e65
             00000002                    # flags: persistent sequential",
            op(create(PersistentSequential)),
            Shape::PathStat,
        ),
        both(
            "create2-empty-data-two-lines",
            "00000009 0000000f           # xid, create2
             00000004 2f612f62           # path: /a/b
             00000000                    # data: empty
             00000002                    # acl: 2 lines
               00000011                  #   perms: read, admin
               00000006 646967657374     #   scheme: digest
               00000003 753a68           #   id: u:h
               00000004                  #   perms: create
               00000002 6970             #   scheme: ip
               0000000a 31302e302e302e302f38 # id: 10.0.0.0/8
             00000003                    # flags: ephemeral sequential",
            op(Op::Create(two_lines)),
            Shape::PathStat,
        ),
        both(
            "create2-null-data",
            "00000009 0000000f           # xid, create2
             00000002 2f61               # path: /a
             ffffffff                    # data: null
             00000001 0000001f           # acl: 1 line, all
               00000005 776f726c64 00000006 616e796f6e65
             00000000                    # flags: persistent",
            op(null),
            Shape::PathStat,
        ),
        one_way(
            "create2-ttl-without-ttl",
            "00000009 0000000f           # xid, create2
             00000002 2f61               # path: /a
             00000003 78797a             # data: xyz
             00000001 0000001f           # acl: 1 line, all
               00000005 776f726c64 00000006 616e796f6e65
             00000005                    # flags: TTL, which this record does not hold",
            op(create(Ttl { ttl_ms: -1 })),
            Shape::PathStat,
        ),
        both(
            "create-container",
            "00000009                    # xid
             00000013                    # createContainer
             00000002 2f61               # path: /a
             00000003 78797a             # data: xyz
             00000001 0000001f           # acl: 1 line, all
               00000005 776f726c64 00000006 616e796f6e65
             00000004                    # flags: container",
            op(create(Container)),
            Shape::PathStat,
        ),
        one_way(
            "create-container-obeys-its-flags",
            "00000009 00000013           # xid, createContainer
             00000002 2f61               # path: /a
             00000003 78797a             # data: xyz
             00000001 0000001f           # acl: 1 line, all
               00000005 776f726c64 00000006 616e796f6e65
             00000001                    # flags: ephemeral",
            op(create(Ephemeral)),
            Shape::PathStat,
        ),
        both(
            "create-ttl",
            "00000009                    # xid
             00000015                    # createTTL
             00000002 2f61               # path: /a
             00000003 78797a             # data: xyz
             00000001 0000001f           # acl: 1 line, all
               00000005 776f726c64 00000006 616e796f6e65
             00000005                    # flags: TTL
             000000ffffffffff            # ttl: 2^40 - 1",
            op(create(Ttl { ttl_ms: (1 << 40) - 1 })),
            Shape::PathStat,
        ),
        both(
            "create-ttl-sequential",
            "00000009 00000015           # xid, createTTL
             00000002 2f61               # path: /a
             00000003 78797a             # data: xyz
             00000001 0000001f           # acl: 1 line, all
               00000005 776f726c64 00000006 616e796f6e65
             00000006                    # flags: TTL sequential
             0000000000000001            # ttl",
            op(create(TtlSequential { ttl_ms: 1 })),
            Shape::PathStat,
        ),
    ]
}

fn writes() -> Vec<Case> {
    let set = |data| Op::SetData { path: path("/a"), data, version: 7 };
    let set_acl = |acl, version| Request::Write(Write::SetAcl { path: path("/a"), acl, version });
    let at = |op| Request::Write(Write::ProposeAt { zxid: Zxid::new(2, 9), op });
    vec![
        both(
            "delete",
            "00000009                    # xid
             00000002                    # delete
             00000002 2f61               # path: /a
             ffffffff                    # version: any",
            op(Op::Delete { path: path("/a"), version: -1 }),
            Shape::Empty,
        ),
        both(
            "set-data",
            "00000009                    # xid
             00000005                    # setData
             00000002 2f61               # path: /a
             00000002 6869               # data: hi
             00000007                    # version",
            op(set(Some(Bytes::from_static(b"hi")))),
            Shape::Stat,
        ),
        both(
            "set-data-empty",
            "00000009 00000005           # xid, setData
             00000002 2f61               # path: /a
             00000000                    # data: empty
             00000007                    # version",
            op(set(Some(Bytes::new()))),
            Shape::Stat,
        ),
        both(
            "set-data-null",
            "00000009 00000005           # xid, setData
             00000002 2f61               # path: /a
             ffffffff                    # data: null
             00000007                    # version",
            op(set(None)),
            Shape::Stat,
        ),
        both(
            "set-acl",
            "00000009                    # xid
             00000007                    # setACL
             00000002 2f61               # path: /a
             00000001                    # acl: 1 line
               00000001                  #   perms: read
               00000004 61757468         #   scheme: auth
               00000000                  #   id: empty
             00000003                    # version",
            set_acl(vec![Acl::new(Perms::READ, "auth", "")], 3),
            Shape::Stat,
        ),
        both(
            "set-acl-empty",
            "00000009 00000007           # xid, setACL
             00000002 2f61               # path: /a
             00000000                    # acl: empty
             ffffffff                    # version: any",
            set_acl(Vec::new(), -1),
            Shape::Stat,
        ),
        one_way(
            "set-acl-null-strings",
            "00000009 00000007           # xid, setACL
             00000002 2f61               # path: /a
             00000001                    # acl: 1 line
               0000001f                  #   perms: all
               ffffffff                  #   scheme: null
               ffffffff                  #   id: null
             ffffffff                    # version: any",
            set_acl(vec![Acl::new(Perms::ALL, "", "")], -1),
            Shape::Stat,
        ),
        both(
            "propose-create-at",
            "00000009                    # xid
             00530001                    # proposeAt, of this project's own
             0000000200000009            # zxid
             0000000f                    # create2
             00000002 2f61               # path: /a
             00000003 78797a             # data: xyz
             00000001 0000001f           # acl: 1 line, all
               00000005 776f726c64 00000006 616e796f6e65
             00000000                    # flags: persistent",
            at(create(CreateMode::Persistent)),
            Shape::PathStat,
        ),
        both(
            "propose-create-container-at",
            "00000009 00530001           # xid, proposeAt
             0000000200000009            # zxid
             00000013                    # createContainer
             00000002 2f61               # path: /a
             00000003 78797a             # data: xyz
             00000001 0000001f           # acl: 1 line, all
               00000005 776f726c64 00000006 616e796f6e65
             00000004                    # flags: container",
            at(create(CreateMode::Container)),
            Shape::PathStat,
        ),
        both(
            "propose-create-ttl-at",
            "00000009 00530001           # xid, proposeAt
             0000000200000009            # zxid
             00000015                    # createTTL
             00000002 2f61               # path: /a
             00000003 78797a             # data: xyz
             00000001 0000001f           # acl: 1 line, all
               00000005 776f726c64 00000006 616e796f6e65
             00000005                    # flags: TTL
             00000000000003e8            # ttl",
            at(create(CreateMode::Ttl { ttl_ms: 1_000 })),
            Shape::PathStat,
        ),
        both(
            "propose-set-at",
            "00000009 00530001           # xid, proposeAt
             0000000200000009            # zxid
             00000005                    # setData
             00000002 2f61               # path: /a
             00000002 6869               # data: hi
             00000007                    # version",
            at(set(Some(Bytes::from_static(b"hi")))),
            Shape::Stat,
        ),
        both(
            "propose-delete-at",
            "00000009 00530001           # xid, proposeAt
             0000000200000009            # zxid
             00000002                    # delete
             00000002 2f61               # path: /a
             ffffffff                    # version: any",
            at(Op::Delete { path: path("/a"), version: -1 }),
            Shape::Empty,
        ),
        both(
            "close-session",
            "00000009                    # xid
             fffffff5                    # closeSession: -11",
            Request::Write(Write::CloseSession),
            Shape::Empty,
        ),
    ]
}

fn multis() -> Vec<Case> {
    let multi = |ops| Request::Write(Write::Multi(ops));
    let all = vec![
        create(CreateMode::Persistent),
        create(CreateMode::EphemeralSequential),
        create(CreateMode::Container),
        create(CreateMode::Ttl { ttl_ms: 1_000 }),
        Op::Delete { path: path("/b"), version: 2 },
        Op::SetData { path: path("/c"), data: None, version: -1 },
        Op::Check { path: path("/d"), version: 5 },
    ];
    vec![
        one_way(
            "multi",
            "00000009 0000000e           # xid, multi
             00000001 00 ffffffff        # header: create, not done, -1
               00000002 2f61             #   path: /a
               00000003 78797a           #   data: xyz
               00000001 0000001f         #   acl: 1 line, all
                 00000005 776f726c64 00000006 616e796f6e65
               00000000                  #   flags: persistent
             0000000f 00 ffffffff        # header: create2
               00000002 2f61             #   path: /a
               00000003 78797a           #   data: xyz
               00000001 0000001f         #   acl: 1 line, all
                 00000005 776f726c64 00000006 616e796f6e65
               00000003                  #   flags: ephemeral sequential
             00000013 00 ffffffff        # header: createContainer
               00000002 2f61             #   path: /a
               00000003 78797a           #   data: xyz
               00000001 0000001f         #   acl: 1 line, all
                 00000005 776f726c64 00000006 616e796f6e65
               00000004                  #   flags: container
             00000015 00 ffffffff        # header: createTTL
               00000002 2f61             #   path: /a
               00000003 78797a           #   data: xyz
               00000001 0000001f         #   acl: 1 line, all
                 00000005 776f726c64 00000006 616e796f6e65
               00000005                  #   flags: TTL
               00000000000003e8          #   ttl
             00000002 00 ffffffff        # header: delete
               00000002 2f62             #   path: /b
               00000002                  #   version
             00000005 00 ffffffff        # header: setData
               00000002 2f63             #   path: /c
               ffffffff                  #   data: null
               ffffffff                  #   version: any
             0000000d 00 ffffffff        # header: check
               00000002 2f64             #   path: /d
               00000005                  #   version
             ffffffff 01 ffffffff        # header: done",
            multi(all),
            Shape::Multi(vec![1, 15, 19, 21, 2, 5, 13]),
        ),
        both(
            "multi-two",
            "00000009 0000000e           # xid, multi
             0000000d 00 ffffffff        # header: check
               00000002 2f64             #   path: /d
               00000005                  #   version
             00000002 00 ffffffff        # header: delete
               00000002 2f62             #   path: /b
               00000002                  #   version
             ffffffff 01 ffffffff        # header: done",
            multi(vec![
                Op::Check { path: path("/d"), version: 5 },
                Op::Delete { path: path("/b"), version: 2 },
            ]),
            Shape::Multi(vec![13, 2]),
        ),
        one_way(
            "multi-header-error-is-passed-over",
            "00000009 0000000e           # xid, multi
             00000002 00 00000000        # header: delete, error 0
               00000002 2f62             #   path: /b
               00000002                  #   version
             00000000 01 00000000        # header: done is done",
            multi(vec![Op::Delete { path: path("/b"), version: 2 }]),
            Shape::Multi(vec![2]),
        ),
        both(
            "multi-empty",
            "00000009                    # xid
             0000000e                    # multi
             ffffffff 01 ffffffff        # header: done",
            multi(Vec::new()),
            Shape::Multi(Vec::new()),
        ),
    ]
}
