//! Every reply of the protocol, in bytes and as it is read.

use super::super::request::Shape;
use super::*;
use crate::model::{
    Acl, Code, Event, EventKind, Identity, OpResult, Perms, ReadOpResult, Refusal, Response,
    SaslToken,
};

/// A reply in bytes, with what it is written from and what is read from it. Every one goes under
/// xid 9 and zxid (2, 9).
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) bytes: &'static str,
    pub(super) shape: Shape,
    pub(super) written: Result<Response, Refusal>,
    /// What is read, where the bytes carry less than what was written.
    pub(super) read: Result<Response, Refusal>,
}

fn both(name: &'static str, shape: Shape, response: Response, bytes: &'static str) -> Case {
    Case { name, bytes, shape, written: Ok(response.clone()), read: Ok(response) }
}

fn no(code: Code, index: Option<u32>) -> Result<Response, Refusal> {
    Err(Refusal { code, rule: code.rule(), index })
}

fn refusal(name: &'static str, shape: Shape, code: Code, bytes: &'static str) -> Case {
    Case { name, bytes, shape, written: no(code, None), read: no(code, None) }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = answers();
    cases.extend(multis());
    cases.extend(refusals());
    cases
}

fn answers() -> Vec<Case> {
    let created = |stat| Response::Created { path: path("/a"), stat };
    let data = |data| Response::Data { data, stat: stat() };
    let children = |names: &[&str], stat| Response::Children {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        stat,
    };
    let identities = |digest| {
        Response::WhoAmI(vec![Identity::new("ip", "::1"), Identity::new("digest", digest)])
    };
    vec![
        both(
            "empty",
            Shape::Empty,
            Response::Done,
            "00000009                    # xid
             0000000200000009            # zxid
             00000000                    # err",
        ),
        Case {
            read: Ok(created(Stat::default())),
            ..both(
                "create",
                Shape::Path,
                created(stat()),
                "00000009 0000000200000009 00000000 # xid, zxid, err
                 00000002 2f61           # path: /a",
            )
        },
        both(
            "create2",
            Shape::PathStat,
            created(stat()),
            "00000009 0000000200000009 00000000 # xid, zxid, err
             00000002 2f61               # path: /a
             0000000100000002            # czxid
             0000000100000003            # mzxid
             000001890000000a            # ctime
             000001890000000b            # mtime
             00000004                    # version
             00000005                    # cversion
             00000006                    # aversion
             0700000000000007            # ephemeralOwner
             00000008                    # dataLength
             00000009                    # numChildren
             000000010000000c            # pzxid",
        ),
        both(
            "stat",
            Shape::Stat,
            Response::Stat(stat()),
            "00000009 0000000200000009 00000000 # xid, zxid, err
             S                           # stat",
        ),
        both(
            "stat-of-the-root",
            Shape::Stat,
            Response::Stat(Stat { cversion: -1, ..Stat::default() }),
            "00000009 0000000200000009 00000000 # xid, zxid, err
             0000000000000000            # czxid
             0000000000000000            # mzxid
             0000000000000000            # ctime
             0000000000000000            # mtime
             00000000                    # version
             ffffffff                    # cversion: -1
             00000000                    # aversion
             0000000000000000            # ephemeralOwner: none
             00000000                    # dataLength
             00000000                    # numChildren
             0000000000000000            # pzxid",
        ),
        both(
            "data",
            Shape::DataStat,
            data(Some(Bytes::from_static(b"xyz"))),
            "00000009 0000000200000009 00000000 # xid, zxid, err
             00000003 78797a             # data: xyz
             S                           # stat",
        ),
        both(
            "data-empty",
            Shape::DataStat,
            data(Some(Bytes::new())),
            "00000009 0000000200000009 00000000 # xid, zxid, err
             00000000                    # data: empty
             S                           # stat",
        ),
        both(
            "data-null",
            Shape::DataStat,
            data(None),
            "00000009 0000000200000009 00000000 # xid, zxid, err
             ffffffff                    # data: null
             S                           # stat",
        ),
        both(
            "acl",
            Shape::AclStat,
            Response::Acl {
                acl: vec![
                    Acl::new(Perms::READ, "world", "anyone"),
                    Acl::new(Perms::ALL, "digest", "u:x"),
                ],
                stat: stat(),
            },
            "00000009 0000000200000009 00000000 # xid, zxid, err
             00000002                    # acl: 2 lines
               00000001                  #   perms: read
               00000005 776f726c64       #   scheme: world
               00000006 616e796f6e65     #   id: anyone
               0000001f                  #   perms: all
               00000006 646967657374     #   scheme: digest
               00000003 753a78           #   id: u:x
             S                           # stat",
        ),
        Case {
            read: Ok(children(&["a", "bc"], Stat::default())),
            ..both(
                "children",
                Shape::Names,
                children(&["a", "bc"], stat()),
                "00000009 0000000200000009 00000000 # xid, zxid, err
                 00000002                # children: 2
                   00000001 61           #   a
                   00000002 6263         #   bc",
            )
        },
        both(
            "children2",
            Shape::NamesStat,
            children(&["a", "bc"], stat()),
            "00000009 0000000200000009 00000000 # xid, zxid, err
             00000002                    # children: 2
               00000001 61               #   a
               00000002 6263             #   bc
             S                           # stat",
        ),
        both(
            "children2-none",
            Shape::NamesStat,
            children(&[], stat()),
            "00000009 0000000200000009 00000000 # xid, zxid, err
             00000000                    # children: none
             S                           # stat",
        ),
        both(
            "sync",
            Shape::Echo(path("/a")),
            Response::Done,
            "00000009 0000000200000009 00000000 # xid, zxid, err
             00000002 2f61               # path: /a",
        ),
        both(
            "ephemerals",
            Shape::Paths,
            Response::Ephemerals(vec![path("/a"), path("/b")]),
            "00000009 0000000200000009 00000000 # xid, zxid, err
             00000002                    # ephemerals: 2
               00000002 2f61             #   /a
               00000002 2f62             #   /b",
        ),
        both(
            "all-children-number",
            Shape::Count,
            Response::DescendantCount(258),
            "00000009 0000000200000009 00000000 # xid, zxid, err
             00000102                    # totalNumber",
        ),
        Case {
            read: Ok(identities("u")),
            ..both(
                "who-am-i",
                Shape::Identities,
                identities("u:hash"),
                "00000009 0000000200000009 00000000 # xid, zxid, err
                 00000002                # clientInfo: 2
                   00000002 6970         #   authScheme: ip
                   00000003 3a3a31       #   user: ::1
                   00000006 646967657374 #   authScheme: digest
                   00000001 75           #   user: u, without the hash",
            )
        },
        both(
            "add-watch",
            Shape::Zero,
            Response::Done,
            "00000009 0000000200000009 00000000 # xid, zxid, err
             00000000                    # err, again",
        ),
        both(
            "sasl",
            Shape::Token,
            Response::Sasl(Some(SaslToken(Bytes::from_static(b"hi")))),
            "00000009 0000000200000009 00000000 # xid, zxid, err
             00000002 6869               # token",
        ),
        both(
            "sasl-null",
            Shape::Token,
            Response::Sasl(None),
            "00000009 0000000200000009 00000000 # xid, zxid, err
             ffffffff                    # token: null",
        ),
    ]
}

fn multis() -> Vec<Case> {
    let created = |stat| OpResult::Created { path: path("/a"), stat };
    let all = |first| {
        Response::Multi(vec![
            created(first),
            created(stat()),
            created(stat()),
            created(stat()),
            OpResult::Deleted,
            OpResult::Set(stat()),
            OpResult::Checked,
        ])
    };
    let failed = no(Code::BadVersion, Some(1));
    let data = |data| Ok(ReadOpResult::Data { data, stat: stat() });
    vec![
        Case {
            read: Ok(all(Stat::default())),
            ..both(
                "multi",
                Shape::Multi(vec![1, 15, 19, 21, 2, 5, 13]),
                all(stat()),
                "00000009 0000000200000009 00000000 # xid, zxid, err
                 00000001 00 00000000    # header: create, not done, err 0
                   00000002 2f61         #   path: /a
                 0000000f 00 00000000    # header: create2
                   00000002 2f61 S       #   path, stat
                 0000000f 00 00000000    # header: create2, for createContainer
                   00000002 2f61 S       #   path, stat
                 0000000f 00 00000000    # header: create2, for createTTL
                   00000002 2f61 S       #   path, stat
                 00000002 00 00000000    # header: delete
                 00000005 00 00000000    # header: setData
                   S                     #   stat
                 0000000d 00 00000000    # header: check
                 ffffffff 01 ffffffff    # header: done",
            )
        },
        both(
            "multi-empty",
            Shape::Multi(Vec::new()),
            Response::Multi(Vec::new()),
            "00000009 0000000200000009 00000000 # xid, zxid, err
             ffffffff 01 ffffffff        # header: done",
        ),
        Case {
            name: "multi-failed",
            bytes: "00000009 0000000200000009 # xid, zxid
                 00000000                # err: 0, though it failed
                 ffffffff 00 00000000    # header: error 0
                   00000000              #   before the failure
                 ffffffff 00 ffffff99    # header: error -103
                   ffffff99              #   the failure: badVersion
                 ffffffff 00 fffffffe    # header: error -2
                   fffffffe              #   after it: runtimeInconsistency
                 ffffffff 01 ffffffff    # header: done",
            shape: Shape::Multi(vec![1, 13, 2]),
            written: failed.clone(),
            read: failed,
        },
        Case {
            name: "multi-failed-first",
            bytes: "00000009 0000000200000009 00000000 # xid, zxid, err
                 ffffffff 00 ffffff92    # header: error -110
                   ffffff92              #   nodeExists
                 ffffffff 01 ffffffff    # header: done",
            shape: Shape::Multi(vec![15]),
            written: no(Code::NodeExists, Some(0)),
            read: no(Code::NodeExists, Some(0)),
        },
        both(
            "multi-read",
            Shape::MultiRead(vec![4, 8, 4, 8, 4]),
            Response::MultiRead(vec![
                data(Some(Bytes::from_static(b"xyz"))),
                Ok(ReadOpResult::Children(vec!["a".to_owned()])),
                Err(Code::NoNode),
                Err(Code::NoAuth),
                data(None),
            ]),
            "00000009 0000000200000009 00000000 # xid, zxid, err
             00000004 00 00000000        # header: getData
               00000003 78797a S         #   data: xyz, stat
             00000008 00 00000000        # header: getChildren
               00000001 00000001 61      #   children: a
             ffffffff 00 ffffff9b        # header: error -101
               ffffff9b                  #   noNode
             ffffffff 00 ffffff9a        # header: error -102
               ffffff9a                  #   noAuth
             00000004 00 00000000        # header: getData
               ffffffff S                #   data: null, stat
             ffffffff 01 ffffffff        # header: done",
        ),
        both(
            "multi-read-empty",
            Shape::MultiRead(Vec::new()),
            Response::MultiRead(Vec::new()),
            "00000009 0000000200000009 00000000 # xid, zxid, err
             ffffffff 01 ffffffff        # header: done",
        ),
    ]
}

fn refusals() -> Vec<Case> {
    vec![
        refusal(
            "no-node",
            Shape::DataStat,
            Code::NoNode,
            "00000009                    # xid
             0000000200000009            # zxid: that of the last change, errors included
             ffffff9b                    # err: noNode",
        ),
        refusal(
            "bad-arguments-instead-of-a-path",
            Shape::PathStat,
            Code::BadArguments,
            "00000009 0000000200000009   # xid, zxid
             fffffff8                    # err: badArguments",
        ),
        refusal(
            "auth-failed",
            Shape::Empty,
            Code::AuthFailed,
            "00000009 0000000200000009   # xid, zxid
             ffffff8d                    # err: authFailed",
        ),
        refusal(
            "sasl-failed",
            Shape::Token,
            Code::AuthFailed,
            "00000009 0000000200000009   # xid, zxid
             ffffff8d                    # err: authFailed
             ffffffff                    # token: null, in spite of the error",
        ),
        refusal(
            "no-watcher",
            Shape::Empty,
            Code::NoWatcher,
            "00000009 0000000200000009   # xid, zxid
             ffffff87                    # err: noWatcher",
        ),
        refusal(
            "multi-refused-as-a-whole",
            Shape::Multi(vec![1, 2]),
            Code::SessionExpired,
            "00000009 0000000200000009   # xid, zxid
             ffffff90                    # err: sessionExpired",
        ),
        refusal(
            "an-error-of-a-later-version",
            Shape::Stat,
            Code::Unknown(-999),
            "00000009 0000000200000009   # xid, zxid
             fffffc19                    # err: -999",
        ),
    ]
}

/// Events in bytes.
pub(super) fn events() -> Vec<(&'static str, Event, &'static str)> {
    let event = |kind, zxid| Event { kind, path: path("/a"), zxid };
    vec![
        (
            "created",
            event(EventKind::Created, None),
            "ffffffff                    # xid: -1
             ffffffffffffffff            # zxid: -1
             00000000                    # err
             00000001                    # type: created
             00000003                    # state: connected
             00000002 2f61               # path: /a",
        ),
        (
            "deleted",
            event(EventKind::Deleted, Some(Zxid::new(2, 9))),
            "ffffffff                    # xid: -1
             0000000200000009            # zxid: the change's
             00000000                    # err
             00000002                    # type: deleted
             00000003                    # state: connected
             00000002 2f61               # path: /a",
        ),
        (
            "data-changed",
            event(EventKind::DataChanged, Some(Zxid::new(2, 9))),
            "ffffffff 0000000200000009 00000000 # xid, zxid, err
             00000003 00000003           # dataChanged, connected
             00000002 2f61               # path: /a",
        ),
        (
            "children-changed",
            event(EventKind::ChildrenChanged, Some(Zxid::new(2, 9))),
            "ffffffff 0000000200000009 00000000 # xid, zxid, err
             00000004 00000003           # childrenChanged, connected
             00000002 2f61               # path: /a",
        ),
    ]
}
