//! What a search by fuzzing begins from: the golden bytes.

use std::path::PathBuf;

use super::super::request::{Shape, op};
use super::*;
use crate::model::Code;

/// The shape as the fuzz target `reply` reads it: its number, and how many operations it has.
fn shape_bytes(shape: &Shape) -> [u8; 2] {
    match shape {
        Shape::Empty => [0, 0],
        Shape::Path => [1, 0],
        Shape::PathStat => [2, 0],
        Shape::Stat => [3, 0],
        Shape::DataStat => [4, 0],
        Shape::AclStat => [5, 0],
        Shape::Names => [6, 0],
        Shape::NamesStat => [7, 0],
        Shape::Echo(_) => [8, 0],
        Shape::Multi(numbers) => [9, numbers.len() as u8],
        Shape::MultiRead(numbers) => [10, numbers.len() as u8],
        Shape::Paths => [11, 0],
        Shape::Count => [12, 0],
        Shape::Identities => [13, 0],
        Shape::Zero => [14, 0],
        Shape::Token => [15, 0],
    }
}

fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let connect = || framed(&super::connects::payloads()[0].1);
    for case in super::golden_requests::cases() {
        let (name, bytes) = (case.name.to_owned(), hex(case.bytes));
        // Behind a handshake, and in pieces of 7 bytes.
        let stream = [&[7], &connect()[..], &framed(&bytes)].concat();
        seeds.push(("frame", name.clone(), stream));
        // Of two targets the header is not searched: a byte says which of two requests it is.
        let behind_header = |which: u8| [&[which], &bytes[8..]].concat();
        match case.shape {
            Shape::Multi(_) => seeds.push(("multi", name.clone(), behind_header(0))),
            Shape::MultiRead(_) => seeds.push(("multi", name.clone(), behind_header(1))),
            _ if bytes[4..8] == op::SET_WATCHES.to_be_bytes() => {
                seeds.push(("set-watches", name.clone(), behind_header(0)));
            }
            _ if bytes[4..8] == op::SET_WATCHES2.to_be_bytes() => {
                seeds.push(("set-watches", name.clone(), behind_header(1)));
            }
            _ => {}
        }
        seeds.push(("request", name, bytes));
    }
    for case in super::golden_replies::cases() {
        let bytes = [&shape_bytes(&case.shape)[..], &hex(case.bytes)].concat();
        seeds.push(("reply", case.name.to_owned(), bytes));
    }
    for (name, _, bytes) in super::golden_replies::events() {
        let bytes = [&[0, 0][..], &hex(bytes)].concat();
        seeds.push(("reply", format!("event-{name}"), bytes));
    }
    for (name, bytes) in super::connects::payloads() {
        // As the connection carries it: with its length.
        seeds.push(("connect", name.to_owned(), framed(&bytes)));
    }
    seeds
}

fn corpus() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "fuzz", "corpus"].iter().collect()
}

/// Of every operation that a client can ask for there is a request to begin from.
#[test]
fn every_operation_has_a_seed() {
    let numbers: std::collections::BTreeSet<i32> = super::golden_requests::cases()
        .iter()
        .map(|case| i32::from_be_bytes(hex(case.bytes)[4..8].try_into().expect("4 bytes")))
        .collect();
    let known = (-20..200).chain([op::PROPOSE_AT]).filter(|number| {
        let payload = [&9_i32.to_be_bytes()[..], &number.to_be_bytes()].concat();
        // Without a body most are refused, but not as unknown.
        let refused = super::super::decode_request(payload.into()).err();
        refused.is_none_or(|refused| refused.code != Code::Unimplemented)
    });
    for number in known {
        assert!(numbers.contains(&number), "no request of the operation {number}");
    }
}

/// Writes them anew first if `SYNOD_WRITE_SEEDS` is set. A package of this crate has no corpus.
#[test]
fn the_seeds_are_the_golden_bytes() {
    if std::env::var_os("SYNOD_WRITE_SEEDS").is_some() {
        for (target, name, bytes) in seeds() {
            let folder = corpus().join(target);
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join(name), bytes).expect("a file");
        }
    }
    if !corpus().exists() {
        return;
    }
    for (target, name, bytes) in seeds() {
        let seed = std::fs::read(corpus().join(target).join(&name)).unwrap_or_default();
        assert!(seed == bytes, "{target}/{name} is not up to date: write the seeds anew");
    }
}
