//! What a search by fuzzing begins from: the golden bytes.

use std::path::PathBuf;

use super::super::request::Shape;
use super::*;

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
    for case in super::golden_requests::cases() {
        seeds.push(("request", case.name.to_owned(), hex(case.bytes)));
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
