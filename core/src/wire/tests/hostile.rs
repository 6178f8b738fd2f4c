//! No input makes the codec panic, or believe a count that the payload does not bear out. What
//! memory it takes is measured in `tests/wire_memory.rs`.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::request::Shape;
use super::*;

/// Every shape, some of them with operations.
fn shapes() -> Vec<Shape> {
    vec![
        Shape::Empty,
        Shape::Path,
        Shape::PathStat,
        Shape::Stat,
        Shape::DataStat,
        Shape::AclStat,
        Shape::Names,
        Shape::NamesStat,
        Shape::Echo(path("/a")),
        Shape::Multi(Vec::new()),
        Shape::Multi(vec![1, 15, 19, 21, 2, 5, 13]),
        Shape::MultiRead(Vec::new()),
        Shape::MultiRead(vec![4, 8, 4, 8, 4]),
        Shape::Paths,
        Shape::Count,
        Shape::Identities,
        Shape::Zero,
        Shape::Token,
    ]
}

/// Whether a change of the input goes to the bytes as they come, or to a number in them.
#[derive(Clone, Debug)]
enum Mutation {
    Byte(Index, u8),
    Number(Index, i32),
    Cut(Index),
    Remove(Index),
    Insert(Index, Vec<u8>),
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let numbers = [-2, -1, 0, 1, 2, 3, 13, 14, 22, 255, 65_536, i32::MAX, i32::MIN];
    let mutation = prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Byte(at, byte)),
        (any::<Index>(), prop_oneof![select(numbers.to_vec()), any::<i32>()])
            .prop_map(|(at, number)| Mutation::Number(at, number)),
        any::<Index>().prop_map(Mutation::Cut),
        any::<Index>().prop_map(Mutation::Remove),
        (any::<Index>(), vec(any::<u8>(), 1..9))
            .prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
    ];
    vec(mutation, 1..5)
}

fn mutated(mut bytes: Vec<u8>, mutations: Vec<Mutation>) -> Bytes {
    for mutation in mutations {
        match mutation {
            Mutation::Byte(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            Mutation::Number(at, number) if bytes.len() >= 4 => {
                let at = at.index(bytes.len() - 3);
                bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
            }
            Mutation::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Mutation::Remove(at) if !bytes.is_empty() => {
                bytes.remove(at.index(bytes.len()));
            }
            Mutation::Insert(at, inserted) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, inserted);
            }
            _ => {}
        }
    }
    bytes.into()
}

/// Golden bytes of every kind.
fn golden() -> Vec<Vec<u8>> {
    let requests = super::golden_requests::cases().into_iter().map(|case| hex(case.bytes));
    let replies = super::golden_replies::cases().into_iter().map(|case| hex(case.bytes));
    let events = super::golden_replies::events().into_iter().map(|event| hex(event.2));
    let connects = super::connects::payloads().into_iter().map(|payload| payload.1);
    requests.chain(replies).chain(events).chain(connects).collect()
}

/// Lets everything that reads have a go; what was read, can be written.
fn read_in_every_way(payload: &Bytes) {
    if let Ok(SubmittedRequest { xid, request, .. }) = decode_request(payload.clone()) {
        let mut out = BytesMut::new();
        let (xid, shape) = encode_request(&mut out, xid, &request).expect("a client's request");
        let again = decode_request(out.split_off(LENGTH_BYTES).freeze());
        assert_eq!(again, Ok(SubmittedRequest { xid, request, shape }));
    }
    for shape in shapes() {
        let incoming = decode_incoming(payload.clone(), |_| Some(shape.clone()));
        if let Ok(Incoming::Reply { xid, zxid, result }) = incoming {
            let zxid = zxid.unwrap_or_default();
            let mut out = BytesMut::new();
            encode_reply(&mut out, xid, zxid, &shape, &result);
            let again = decode_incoming(out.split_off(LENGTH_BYTES).freeze(), |_| Some(shape));
            assert!(again.is_ok(), "{again:?}, from {result:?}");
        }
    }
    let _ = ConnectRequest::decode(payload.clone());
    let _ = ConnectReply::decode(payload.clone());
    for (min, max) in [(0, 0), (8, 100), (0, usize::MAX)] {
        let mut received = BytesMut::from(&payload[..]);
        while let Ok(Some(_)) = take_frame(&mut received, min, max) {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        read_in_every_way(&bytes.into());
    }

    #[test]
    fn golden_bytes_that_were_changed_are_read_or_refused(
        bytes in select(golden()),
        mutations in mutations(),
    ) {
        read_in_every_way(&mutated(bytes, mutations));
    }

    #[test]
    fn a_body_of_any_bytes_is_read_or_refused(
        number in prop_oneof![-12..25_i32, 99..109_i32, Just(0x53_0001)],
        body in vec(prop_oneof![Just(0_u8), Just(1), Just(0xFF), any::<u8>()], 0..200),
    ) {
        let bytes = [&9_i32.to_be_bytes()[..], &number.to_be_bytes(), &body].concat();
        read_in_every_way(&bytes.into());
    }
}

#[test]
fn golden_bytes_are_read_in_every_way() {
    for bytes in golden() {
        read_in_every_way(&bytes.into());
    }
}
