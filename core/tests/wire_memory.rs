//! What the codec allocates for what it reads, on a counting allocator: so this test has a
//! process of its own, and stands alone in it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use peak_alloc::PeakAlloc;
use synod_core::wire::{
    ConnectReply, ConnectRequest, Shape, decode_entry, decode_incoming, decode_request, take_frame,
};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Most bytes that are allocated for a byte of payload: an empty path is 4 bytes on the wire, and
/// 16 in a list and 16 of counts in memory; a check in a transaction is 17, and its place in
/// lists that double as they grow is counted thrice.
const BYTES_A_BYTE_MAX: usize = 24;

/// Most bytes that are allocated besides.
const BYTES_BESIDES_MAX: usize = 1_024;

/// The bytes that `act` had allocated at most, above what there was before.
fn peak_of<R>(act: impl FnOnce() -> R) -> usize {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    drop(act());
    MEMORY.peak_usage() - before
}

fn shapes(ops: usize) -> Vec<Shape> {
    vec![
        Shape::Path,
        Shape::PathStat,
        Shape::Stat,
        Shape::DataStat,
        Shape::AclStat,
        Shape::Names,
        Shape::NamesStat,
        Shape::Echo(Arc::from("/")),
        Shape::Multi(vec![13; ops]),
        Shape::MultiRead(vec![8; ops]),
        Shape::Paths,
        Shape::Count,
        Shape::Identities,
    ]
}

/// A payload of `head` and as many `item`s as go into `bytes`.
fn filled(head: &[i32], item: &[u8], bytes: usize) -> Bytes {
    let mut payload: Vec<u8> = head.iter().flat_map(|number| number.to_be_bytes()).collect();
    while payload.len() + item.len() <= bytes {
        payload.extend_from_slice(item);
    }
    payload.into()
}

#[test]
fn memory_is_bounded_by_the_payload() {
    const BYTES: usize = 1 << 20;
    const CHECK: &[u8] = &[0, 0, 0, 13, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];
    const READ: &[u8] = &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0];
    let number = |number: i32| number.to_be_bytes();
    let end = [&number(-1)[..], &[1], &number(-1)].concat();
    let mut inputs = vec![Bytes::new()];
    // Every operation, with a count that nothing bears out, in every place that may be one.
    for op in (-11..25).chain(100..108) {
        for count in [i32::MAX, 0x00FF_FFFF, 64] {
            inputs.push(filled(&[9, op], &number(count), 64));
            for (length, place) in [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (0, 6)] {
                let mut head = vec![9, op];
                head.extend(std::iter::repeat_n(length, place));
                head.push(count);
                inputs.push(filled(&head, &[0], 4 * head.len() + 40));
            }
        }
    }
    // The smallest items, as many as there may be.
    for (head, item, bytes) in [
        (&[9, 101, 0, 1, (BYTES / 4 - 7) as i32][..], &number(0)[..], BYTES),
        (&[9, 7, 0, (BYTES / 12 - 2) as i32], &number(0), BYTES),
        (&[9, 14], CHECK, BYTES),
        (&[9, 14], CHECK, 65_536 * CHECK.len()),
        (&[9, 22], READ, BYTES),
        (&[9, 22], CHECK, BYTES),
    ] {
        let payload = filled(head, item, bytes);
        inputs.push([&payload[..], &end].concat().into());
        inputs.push(payload);
    }
    for payload in &inputs {
        let most = BYTES_A_BYTE_MAX * payload.len() + BYTES_BESIDES_MAX;
        for (what, peak) in [
            ("request", peak_of(|| decode_request(payload.clone()))),
            ("connect request", peak_of(|| ConnectRequest::decode(payload.clone()))),
            ("connect reply", peak_of(|| ConnectReply::decode(payload.clone()))),
        ] {
            let (bytes, head) = (payload.len(), &payload[..payload.len().min(40)]);
            assert!(peak <= most, "{what} of {bytes} bytes, {head:02x?}…: {peak} bytes allocated");
        }
    }

    // Replies: xid, zxid, error, and a body.
    const ANSWER: &[u8] = &[0, 0, 0, 13, 0, 0, 0, 0, 0];
    const NAMES: &[u8] = &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut inputs = Vec::new();
    for count in [i32::MAX, 0x00FF_FFFF, 64, (BYTES / 4 - 5) as i32, (BYTES / 8 - 3) as i32] {
        inputs.push(filled(&[9, 0, 1, 0, count], &[0], 60));
        inputs.push(filled(&[9, 0, 1, 0, count], &number(0), BYTES));
        inputs.push(filled(&[9, 0, 1, 0, count / 3 * 2], &number(0), BYTES));
        inputs.push(filled(&[9, 0, 1, 0, 0, count], &[0], 60));
    }
    for item in [ANSWER, NAMES] {
        let payload = filled(&[9, 0, 1, 0], item, BYTES);
        inputs.push([&payload[..], &end].concat().into());
    }
    for payload in &inputs {
        // A server answers at most what was asked, however long its answer.
        for shape in shapes(2).into_iter().chain(shapes(1_000)) {
            let most = match &shape {
                Shape::Multi(numbers) | Shape::MultiRead(numbers) => 1_024 * numbers.len(),
                _ => BYTES_A_BYTE_MAX * payload.len(),
            };
            let peak = peak_of(|| decode_incoming(payload.clone(), |_| Some(shape.clone())));
            let (bytes, head) = (payload.len(), &payload[..payload.len().min(40)]);
            assert!(
                peak <= most + BYTES_BESIDES_MAX,
                "{shape:?} of {bytes} bytes, {head:02x?}…: {peak} bytes allocated"
            );
        }
    }

    // Log entries: the smallest identities and operations, as many as there may be, and counts that
    // nothing bears out.
    let head = [&[1][..], &[0; 24]].concat();
    let end_of_head = [0; 8];
    let check = [&[4][..], &[0; 8]].concat();
    for count in [(BYTES / 9) as i32 - 6, (BYTES / 8) as i32 - 6, 64, i32::MAX] {
        let identities = [&head[..], &number(count)].concat();
        let multi = [&head[..], &number(0), &end_of_head, &[3], &number(count)].concat();
        for (head, item) in [(&identities, &[0; 8][..]), (&multi, &check)] {
            let items = filled(&[], item, BYTES - head.len());
            let entry = Bytes::from([&head[..], &items].concat());
            let most = BYTES_A_BYTE_MAX * entry.len() + BYTES_BESIDES_MAX;
            let peak = peak_of(|| decode_entry(entry.clone()));
            assert!(peak <= most, "an entry that counts {count}: {peak} bytes allocated");
        }
    }

    // A length reserves nothing.
    let mut received = BytesMut::from(&[0x7F, 0xFF, 0xFF, 0xFF, 0][..]);
    let peak = peak_of(|| take_frame(&mut received, 8, usize::MAX));
    assert_eq!(peak, 0, "for a length alone");
}
