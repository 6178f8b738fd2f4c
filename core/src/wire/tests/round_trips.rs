//! What one end writes, the other reads.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::request::{Shape, number_of};
use super::*;
use crate::model::{
    Acl, AddWatchMode, Code, Create, CreateMode, Event, EventKind, Identity, Op, OpResult, Perms,
    Read, ReadOp, ReadOpResult, Rearm, Reconfig, Refusal, Request, Response, SaslToken, WatchKind,
    WatchRequest, Write,
};

pub(super) fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z/:]{1,12}", any::<String>()]
}

pub(super) fn paths() -> impl Strategy<Value = Arc<str>> {
    text().prop_map(Arc::from)
}

pub(super) fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

pub(super) fn zxids() -> impl Strategy<Value = Zxid> {
    (0..=i64::MAX).prop_map(Zxid::from_i64)
}

pub(super) fn acls() -> impl Strategy<Value = Vec<Acl>> {
    let line = (any::<u32>(), text(), text());
    vec(line.prop_map(|(perms, scheme, id)| Acl::new(Perms(perms), scheme, id)), 0..4)
}

fn modes() -> impl Strategy<Value = CreateMode> {
    prop_oneof![
        Just(CreateMode::Persistent),
        Just(CreateMode::PersistentSequential),
        Just(CreateMode::Ephemeral),
        Just(CreateMode::EphemeralSequential),
        Just(CreateMode::Container),
        any::<i64>().prop_map(|ttl_ms| CreateMode::Ttl { ttl_ms }),
        any::<i64>().prop_map(|ttl_ms| CreateMode::TtlSequential { ttl_ms }),
    ]
}

/// An operation that may stand alone.
fn lone_ops() -> impl Strategy<Value = Op> {
    let create = (paths(), option::of(bytes()), acls(), modes());
    prop_oneof![
        create.prop_map(|(path, data, acl, mode)| Op::Create(Create { path, data, acl, mode })),
        (paths(), any::<i32>()).prop_map(|(path, version)| Op::Delete { path, version }),
        (paths(), option::of(bytes()), any::<i32>())
            .prop_map(|(path, data, version)| Op::SetData { path, data, version }),
    ]
}

pub(super) fn ops() -> impl Strategy<Value = Op> {
    let check = (paths(), any::<i32>()).prop_map(|(path, version)| Op::Check { path, version });
    prop_oneof![3 => lone_ops(), 1 => check]
}

fn writes() -> impl Strategy<Value = Write> {
    prop_oneof![
        lone_ops().prop_map(Write::Op),
        (zxids(), lone_ops()).prop_map(|(zxid, op)| Write::ProposeAt { zxid, op }),
        (paths(), acls(), any::<i32>()).prop_map(|(path, acl, version)| Write::SetAcl {
            path,
            acl,
            version
        }),
        vec(ops(), 0..6).prop_map(Write::Multi),
        Just(Write::CloseSession),
    ]
}

fn read_ops() -> impl Strategy<Value = ReadOp> {
    prop_oneof![
        paths().prop_map(|path| ReadOp::GetData { path }),
        paths().prop_map(|path| ReadOp::Children { path }),
    ]
}

fn reads() -> impl Strategy<Value = Read> {
    prop_oneof![
        (paths(), any::<bool>()).prop_map(|(path, watch)| Read::Exists { path, watch }),
        (paths(), any::<bool>()).prop_map(|(path, watch)| Read::GetData { path, watch }),
        (paths(), any::<bool>()).prop_map(|(path, watch)| Read::Children { path, watch }),
        paths().prop_map(|path| Read::GetAcl { path }),
        vec(read_ops(), 0..6).prop_map(Read::Multi),
        option::of(paths()).prop_map(|prefix| Read::Ephemerals { prefix }),
        paths().prop_map(|path| Read::DescendantCount { path }),
        Just(Read::WhoAmI),
    ]
}

fn watches() -> impl Strategy<Value = WatchRequest> {
    let mode = prop_oneof![Just(AddWatchMode::Persistent), Just(AddWatchMode::PersistentRecursive)];
    let kind = prop_oneof![
        Just(WatchKind::Children),
        Just(WatchKind::Data),
        Just(WatchKind::Any),
        Just(WatchKind::Persistent),
        Just(WatchKind::PersistentRecursive),
    ];
    let list = || vec(paths(), 0..4);
    let rearm = (zxids(), list(), list(), list(), list(), list());
    prop_oneof![
        (paths(), mode).prop_map(|(path, mode)| WatchRequest::Add { path, mode }),
        (paths(), kind.clone()).prop_map(|(path, kind)| WatchRequest::Check { path, kind }),
        (paths(), kind).prop_map(|(path, kind)| WatchRequest::Remove { path, kind }),
        rearm.prop_map(|(since, data, exist, child, persistent, recursive)| {
            WatchRequest::Rearm(Rearm { since, data, exist, child, persistent, recursive })
        }),
    ]
}

fn requests() -> impl Strategy<Value = Request> {
    prop_oneof![
        4 => writes().prop_map(Request::Write),
        4 => reads().prop_map(Request::Read),
        4 => watches().prop_map(Request::Watch),
        1 => paths().prop_map(|path| Request::Sync { path }),
        1 => Just(Request::Ping),
        1 => (text(), bytes()).prop_map(|(scheme, credentials)| Request::Auth { scheme, credentials }),
        1 => bytes().prop_map(|token| Request::Sasl(SaslToken(token))),
        1 => (vec(option::of(text()), 3), any::<i64>()).prop_map(|(mut lists, from_version)| {
            let (members, leaving, joining) = (lists.remove(2), lists.remove(1), lists.remove(0));
            Request::Reconfig(Reconfig { joining, leaving, members, from_version })
        }),
    ]
}

fn stats() -> impl Strategy<Value = Stat> {
    let zxids = (zxids(), zxids(), zxids());
    let times = (any::<i64>(), any::<i64>());
    let versions = (any::<i32>(), any::<i32>(), any::<i32>());
    let owner = option::of(any::<i64>().prop_filter("0 is nobody", |owner| *owner != 0));
    (zxids, times, versions, owner, any::<u32>(), any::<u32>()).prop_map(
        |(zxids, times, versions, owner, data_bytes, children)| Stat {
            czxid: zxids.0,
            mzxid: zxids.1,
            ctime_ms: times.0,
            mtime_ms: times.1,
            version: versions.0,
            cversion: versions.1,
            aversion: versions.2,
            ephemeral_owner: owner.map(SessionId),
            data_bytes,
            children,
            pzxid: zxids.2,
        },
    )
}

fn codes() -> impl Strategy<Value = Code> {
    let unknown = any::<i32>().prop_filter("0 is no error", |number| *number != 0);
    prop_oneof![proptest::sample::select(Code::ALL), unknown.prop_map(Code::from_number)]
}

/// A result of a transaction, and the number of its operation.
fn op_results() -> impl Strategy<Value = (OpResult, i32)> {
    let create = proptest::sample::select(&[1, 15, 19, 21][..]);
    prop_oneof![
        (paths(), stats(), create)
            .prop_map(|(path, stat, number)| (OpResult::Created { path, stat }, number)),
        Just((OpResult::Deleted, 2)),
        stats().prop_map(|stat| (OpResult::Set(stat), 5)),
        Just((OpResult::Checked, 13)),
    ]
}

/// An answer of a multi-read, and the number of its read.
fn read_results() -> impl Strategy<Value = (Result<ReadOpResult, Code>, i32)> {
    prop_oneof![
        (option::of(bytes()), stats())
            .prop_map(|(data, stat)| (Ok(ReadOpResult::Data { data, stat }), 4)),
        vec(text(), 0..4).prop_map(|names| (Ok(ReadOpResult::Children(names)), 8)),
        (codes(), proptest::sample::select(&[4, 8][..]))
            .prop_map(|(code, number)| (Err(code), number)),
    ]
}

/// A response, and a shape that it is written in.
fn responses() -> impl Strategy<Value = (Shape, Response)> {
    let created = || (paths(), stats()).prop_map(|(path, stat)| Response::Created { path, stat });
    let children = || {
        (vec(text(), 0..4), stats()).prop_map(|(names, stat)| Response::Children { names, stat })
    };
    let identity = (prop_oneof![Just("digest".to_owned()), text()], text())
        .prop_map(|(scheme, id)| Identity { scheme, id });
    prop_oneof![
        Just((Shape::Empty, Response::Done)),
        created().prop_map(|response| (Shape::Path, response)),
        created().prop_map(|response| (Shape::PathStat, response)),
        stats().prop_map(|stat| (Shape::Stat, Response::Stat(stat))),
        (option::of(bytes()), stats())
            .prop_map(|(data, stat)| (Shape::DataStat, Response::Data { data, stat })),
        (acls(), stats()).prop_map(|(acl, stat)| (Shape::AclStat, Response::Acl { acl, stat })),
        children().prop_map(|response| (Shape::Names, response)),
        children().prop_map(|response| (Shape::NamesStat, response)),
        paths().prop_map(|path| (Shape::Echo(path), Response::Done)),
        vec(op_results(), 0..6).prop_map(|results| {
            let (results, numbers) = results.into_iter().unzip();
            (Shape::Multi(numbers), Response::Multi(results))
        }),
        vec(read_results(), 0..6).prop_map(|results| {
            let (results, numbers) = results.into_iter().unzip();
            (Shape::MultiRead(numbers), Response::MultiRead(results))
        }),
        vec(paths(), 0..4).prop_map(|paths| (Shape::Paths, Response::Ephemerals(paths))),
        any::<u32>().prop_map(|count| (Shape::Count, Response::DescendantCount(count))),
        vec(identity, 0..4).prop_map(|all| (Shape::Identities, Response::WhoAmI(all))),
        Just((Shape::Zero, Response::Done)),
        option::of(bytes()).prop_map(|token| (Shape::Token, Response::Sasl(token.map(SaslToken)))),
    ]
}

/// What of a response its shape carries.
fn carried(shape: &Shape, mut response: Response) -> Response {
    match (shape, &mut response) {
        (Shape::Path, Response::Created { stat, .. })
        | (Shape::Names, Response::Children { stat, .. }) => *stat = Stat::default(),
        (Shape::Multi(numbers), Response::Multi(results)) => {
            for (result, number) in results.iter_mut().zip(numbers) {
                if let (OpResult::Created { stat, .. }, 1) = (result, number) {
                    *stat = Stat::default();
                }
            }
        }
        (Shape::Identities, Response::WhoAmI(identities)) => {
            for identity in identities.iter_mut().filter(|identity| identity.scheme == "digest") {
                let user = identity.id.find(':').unwrap_or(identity.id.len());
                identity.id.truncate(user);
            }
        }
        _ => {}
    }
    response
}

/// The code as which another one goes.
fn sent_as(code: Code) -> Code {
    match code {
        Code::SequenceExhausted => Code::BadArguments,
        Code::SequenceGap => Code::ConnectionLoss,
        code => code,
    }
}

fn one_frame(mut out: BytesMut) -> Bytes {
    let frame = take_frame(&mut out, 8, usize::MAX).expect("a good length").expect("complete");
    assert!(out.is_empty(), "one frame and no more");
    frame
}

proptest! {
    #[test]
    fn a_request_is_read_as_it_was_written(request in requests(), xid in 1..=i32::MAX) {
        let mut out = BytesMut::new();
        let (xid, shape) = encode_request(&mut out, xid, &request).expect("a client's request");
        let request = match request {
            // No prefix, and an empty one, are all.
            Request::Read(Read::Ephemerals { prefix: None }) => {
                Request::Read(Read::Ephemerals { prefix: Some(path("")) })
            }
            request => request,
        };
        let submitted = SubmittedRequest { xid, request, shape };
        prop_assert_eq!(decode_request(one_frame(out)), Ok(submitted));
    }

    #[test]
    fn the_shape_of_a_multi_lists_its_operations(ops in vec(ops(), 0..6)) {
        let numbers: Vec<i32> = ops.iter().map(number_of).collect();
        let mut out = BytesMut::new();
        let encoded = encode_request(&mut out, 9, &Request::Write(Write::Multi(ops)));
        prop_assert_eq!(encoded, Ok((9, Shape::Multi(numbers))));
    }

    #[test]
    fn a_response_is_read_as_its_shape_carries_it(
        (shape, response) in responses(),
        xid in any::<i32>().prop_filter("-1 is an event", |xid| *xid != XID_EVENT),
        zxid in zxids(),
    ) {
        let mut out = BytesMut::new();
        encode_reply(&mut out, xid, zxid, &shape, &Ok(response.clone()));
        let incoming = decode_incoming(one_frame(out), |asked| {
            (asked == xid).then(|| shape.clone())
        });
        let zxid = (zxid > Zxid::ZERO).then_some(zxid);
        let result = Ok(carried(&shape, response));
        prop_assert_eq!(incoming, Ok(Incoming::Reply { xid, zxid, result }));
    }

    #[test]
    fn a_refusal_is_read_as_it_was_written(
        (shape, _) in responses(),
        code in codes(),
        zxid in zxids(),
        place in option::of(any::<prop::sample::Index>()),
    ) {
        // The place goes with a transaction alone.
        let index = match &shape {
            Shape::Multi(numbers) if !numbers.is_empty() => {
                place.map(|place| place.index(numbers.len()) as u32)
            }
            _ => None,
        };
        let mut out = BytesMut::new();
        encode_reply(&mut out, 9, zxid, &shape, &Err(Refusal { code, rule: "", index }));
        let incoming = decode_incoming(one_frame(out), |_| Some(shape));
        let code = sent_as(code);
        let zxid = (zxid > Zxid::ZERO).then_some(zxid);
        let result = Err(Refusal { code, rule: code.rule(), index });
        prop_assert_eq!(incoming, Ok(Incoming::Reply { xid: 9, zxid, result }));
    }

    #[test]
    fn an_event_is_read_as_it_was_written(
        kind in proptest::sample::select(&[
            EventKind::Created,
            EventKind::Deleted,
            EventKind::DataChanged,
            EventKind::ChildrenChanged,
        ][..]),
        path in paths(),
        zxid in option::of((1..=i64::MAX).prop_map(Zxid::from_i64)),
    ) {
        let event = Event { kind, path, zxid };
        let mut out = BytesMut::new();
        encode_event(&mut out, &event);
        let incoming = decode_incoming(one_frame(out), |_| None);
        prop_assert_eq!(incoming, Ok(Incoming::Event(Some(event))));
    }

    #[test]
    fn a_handshake_is_read_as_it_was_written(
        last_zxid in any::<i64>().prop_map(Zxid::from_i64),
        timeout_ms in any::<i32>(),
        session in any::<i64>().prop_map(SessionId),
        password in vec(any::<u8>(), 16..40).prop_map(Bytes::from),
        read_only in option::of(any::<bool>()),
    ) {
        let reply = ConnectReply { timeout_ms, session, password: password.clone(), read_only };
        let mut out = BytesMut::new();
        reply.encode(&mut out);
        prop_assert_eq!(ConnectReply::decode(one_frame(out)), Ok(reply));
        let request = ConnectRequest { last_zxid, timeout_ms, session, password, read_only };
        let mut out = BytesMut::new();
        request.encode(&mut out);
        prop_assert_eq!(ConnectRequest::decode(one_frame(out)), Ok(request));
    }
}
