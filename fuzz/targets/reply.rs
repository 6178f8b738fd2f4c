//! The payload of a reply or an event. The first byte says the shape of the reply, the second how
//! many operations it answers. What was read is written, and is then read the same.
#![no_main]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use synod_core::wire::{Incoming, Shape, decode_incoming, encode_event, encode_reply, take_frame};

/// The shape of a number; `core/src/wire/tests/seeds.rs` numbers them in the same way.
fn shape_of(number: u8, ops: u8) -> Option<Shape> {
    // Never 1, whose result would be written without the Stat that another number brought.
    let numbers = |kinds: &[i32]| kinds.iter().copied().cycle().take(ops.into()).collect();
    Some(match number {
        0 => Shape::Empty,
        1 => Shape::Path,
        2 => Shape::PathStat,
        3 => Shape::Stat,
        4 => Shape::DataStat,
        5 => Shape::AclStat,
        6 => Shape::Names,
        7 => Shape::NamesStat,
        8 => Shape::Echo(Arc::from("/a")),
        9 => Shape::Multi(numbers(&[15, 19, 21, 2, 5, 13])),
        10 => Shape::MultiRead(numbers(&[4, 8])),
        11 => Shape::Paths,
        12 => Shape::Count,
        13 => Shape::Identities,
        14 => Shape::Zero,
        15 => Shape::Token,
        _ => return None,
    })
}

fuzz_target!(|input: &[u8]| {
    let [number, ops, payload @ ..] = input else { return };
    let Some(shape) = shape_of(*number, *ops) else { return };
    let decode = |payload| decode_incoming(payload, |_| Some(shape.clone()));
    let Ok(first) = decode(Bytes::copy_from_slice(payload)) else { return };
    let mut out = BytesMut::new();
    match &first {
        Incoming::Event(None) => return,
        Incoming::Event(Some(event)) => encode_event(&mut out, event),
        Incoming::Reply { xid, zxid, result } => {
            encode_reply(&mut out, *xid, zxid.unwrap_or_default(), &shape, result);
        }
    }
    let frame = take_frame(&mut out, 16, usize::MAX).expect("a good length").expect("complete");
    let second = decode(frame).expect("it was written here");
    match shape {
        // The answers were put under the numbers of their reads, and an identity lost its hash.
        Shape::MultiRead(_) | Shape::Identities => {}
        _ => {
            // The codes of this project go as others.
            let own = |incoming: &Incoming| {
                matches!(incoming, Incoming::Reply { result: Err(refusal), .. }
                    if refusal.code.number() < -1_000)
            };
            assert!(own(&first) || first == second, "{first:?} became {second:?}");
        }
    }
});
