use super::*;
use crate::model::limits::SEQUENCE_MAX;

const SEQUENTIAL: CreateMode = CreateMode::PersistentSequential;

fn name(hand: &mut Hand, path: &str, mode: CreateMode) -> String {
    hand.create_as(path, mode).0.to_string()
}

#[test]
fn the_suffix_is_the_number_of_children_ever_created() {
    let mut hand = Hand::with(&["/q"]);
    assert_eq!(name(&mut hand, "/q/n-", SEQUENTIAL), "/q/n-0000000000");
    assert_eq!(name(&mut hand, "/q/m-", CreateMode::EphemeralSequential), "/q/m-0000000001");
    hand.create("/q/plain");
    let ttl = CreateMode::TtlSequential { ttl_ms: 1 };
    assert_eq!(name(&mut hand, "/q/n-", ttl), "/q/n-0000000003");
}

#[test]
fn a_slash_at_the_end_makes_a_name_of_digits_only() {
    let mut hand = Hand::with(&["/q"]);
    assert_eq!(name(&mut hand, "/q/", SEQUENTIAL), "/q/0000000000");
    assert_eq!(name(&mut hand, "/", SEQUENTIAL), "/0000000001", "`/q` was the first");
    assert_eq!(name(&mut Hand::new(), "/", SEQUENTIAL), "/0000000000");
    assert_sound(&hand.tree);
}

#[test]
fn failed_creates_and_deletes_do_not_count() {
    let mut hand = Hand::with(&["/q", "/q/a"]);
    assert_eq!(code(hand.op(&create("/q/a", CreateMode::Persistent))), Code::NodeExists);
    hand.delete("/q/a");
    assert_eq!(name(&mut hand, "/q/n-", SEQUENTIAL), "/q/n-0000000001");
}

#[test]
fn a_suffix_that_is_taken_is_refused() {
    let mut hand = Hand::with(&["/q", "/q/n-0000000001"]);
    assert_eq!(code(hand.op(&create("/q/n-", SEQUENTIAL))), Code::NodeExists);
}

#[test]
fn past_the_last_suffix_sequential_creates_are_refused_and_plain_ones_go_on() {
    let mut hand = Hand::with(&["/q"]);
    hand.tree.set_sequence("/q", SEQUENCE_MAX).expect("exists");
    assert_eq!(name(&mut hand, "/q/n-", SEQUENTIAL), "/q/n-2147483646");
    assert_eq!(code(hand.op(&create("/q/n-", SEQUENTIAL))), Code::SequenceExhausted);
    let cversion = hand.stat("/q").cversion;
    assert_eq!(cversion, i32::MAX.wrapping_mul(2) - 1);

    hand.create("/q/plain");
    let stat = hand.stat("/q");
    assert_eq!((stat.pzxid, stat.children), (hand.last(), 2), "the pzxid goes on");
    assert_eq!(code(hand.op(&create("/q/n-", SEQUENTIAL))), Code::SequenceExhausted);
    assert_sound(&hand.tree);
}

#[test]
fn exhaustion_is_judged_after_the_permission_and_before_the_path() {
    let mut hand = Hand::with(&["/q"]);
    hand.tree.set_sequence("/q", i32::MAX).expect("exists");
    assert_eq!(code(hand.op(&create("/q/\u{1}", SEQUENTIAL))), Code::SequenceExhausted);
    hand.set_acl("/q", &Acl::read_only()).expect("permitted");
    assert_eq!(code(hand.op(&create("/q/n-", SEQUENTIAL))), Code::NoAuth);
}

#[test]
fn a_path_that_its_suffix_makes_too_long_is_refused() {
    let mut hand = Hand::new();
    let long = format!("/{}", "n".repeat(crate::model::limits::PATH_BYTES_MAX - 5));
    assert_eq!(code(hand.op(&create(&long, SEQUENTIAL))), Code::BadArguments);
    hand.create(&long);
}
