//! The hash ring: what moves when its members change, how even it is, and that it is the same
//! everywhere.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::btree_map;
use proptest::prelude::*;
use synod::HashRing;
use synod::partition::{VIRTUAL_NODES_MAX, WEIGHT_MAX};

const ITEMS: usize = 500;

fn items() -> impl Iterator<Item = String> {
    (0..ITEMS).map(|number| format!("item-{number}"))
}

fn owners(ring: &HashRing) -> BTreeMap<String, String> {
    items().filter_map(|item| Some((item.clone(), ring.owner(&item)?.to_owned()))).collect()
}

fn ring(members: &BTreeMap<String, u32>) -> HashRing {
    HashRing::of(members.iter().map(|(name, &weight)| (name, weight)))
        .expect("weights within bounds")
}

/// Members by name, with weights; few points each, so that a case is quick.
fn members(count: std::ops::Range<usize>) -> impl Strategy<Value = BTreeMap<String, u32>> {
    btree_map("[a-z0-9.:é-]{1,12}", 1_u32..4, count)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn when_a_member_goes_only_its_share_moves(
        members in members(2..12), gone in any::<prop::sample::Index>(),
    ) {
        let before = ring(&members);
        let gone = members.keys().nth(gone.index(members.len())).expect("within").clone();
        let mut after = before.clone();
        prop_assert!(after.remove(&gone));
        for (item, owner) in owners(&before) {
            let now = after.owner(&item).expect("somebody is left");
            match owner == gone {
                true => prop_assert_eq!(Some(now), before.owners(&item, 2).pop()),
                false => prop_assert_eq!(now, owner),
            }
        }
    }

    #[test]
    fn when_a_member_comes_only_what_it_takes_moves(members in members(1..12), weight in 1_u32..4) {
        let before = ring(&members);
        let mut after = before.clone();
        after.insert("Newcomer", weight).expect("within bounds");
        for (item, owner) in owners(&before) {
            let now = after.owner(&item).expect("there are members");
            prop_assert!(now == owner || now == "Newcomer", "{} moved to {}", item, now);
        }
        after.remove("Newcomer");
        prop_assert_eq!(after, before, "as if it had never been");
    }

    #[test]
    fn a_greater_weight_only_takes_and_a_lesser_one_only_gives(
        members in members(2..8), which in any::<prop::sample::Index>(), weight in 0_u32..6,
    ) {
        let light = ring(&members);
        let (member, old) = members.iter().nth(which.index(members.len())).expect("within");
        let mut changed = light.clone();
        changed.insert(member, weight).expect("within bounds");
        for (item, owner) in owners(&light) {
            let now = changed.owner(&item).expect("there are members");
            let moved = now != owner;
            prop_assert!(!moved || weight != *old);
            prop_assert!(!moved || (now == member) == (weight > *old));
            prop_assert!(!moved || (owner == *member) == (weight < *old));
        }
    }

    #[test]
    fn the_order_in_which_members_came_does_not_show(
        members in members(1..10), order in Just((0..10).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let all: Vec<_> = members.iter().collect();
        let mut one_by_one = HashRing::new();
        for (member, &weight) in order.iter().filter_map(|&index| all.get(index).copied()) {
            one_by_one.insert(member, weight).expect("within bounds");
        }
        prop_assert_eq!(&one_by_one, &ring(&members));
        let listed: Vec<_> = one_by_one.members().map(|(name, _)| name).collect();
        prop_assert!(listed.is_sorted());
    }

    #[test]
    fn owners_are_all_members_that_have_weight_each_once(members in members(1..10)) {
        let mut with_idle = members.clone();
        with_idle.insert("Idle".to_owned(), 0);
        let ring = ring(&with_idle);
        for item in items().take(20) {
            let owners = ring.owners(&item, usize::MAX);
            let distinct: BTreeSet<_> = owners.iter().copied().collect();
            prop_assert_eq!(owners.first().copied(), ring.owner(&item));
            prop_assert_eq!(owners.len(), distinct.len());
            prop_assert_eq!(ring.owners(&item, 2), owners[..2.min(owners.len())].to_vec());
            prop_assert_eq!(distinct, members.keys().map(String::as_str).collect());
        }
    }
}

/// The greatest and the least share of a member, as parts of what its weight says.
fn extremes(members: &BTreeMap<String, u32>, items: usize) -> (f64, f64) {
    let ring = ring(members);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for item in 0..items {
        *counts.entry(ring.owner(format!("item-{item}")).expect("members")).or_default() += 1;
    }
    let weights: u32 = members.values().sum();
    let shares = members.iter().map(|(member, &weight)| {
        let fair = items as f64 * f64::from(weight) / f64::from(weights);
        *counts.get(member.as_str()).unwrap_or(&0) as f64 / fair
    });
    shares.fold((0.0, f64::MAX), |(most, least), share| (share.max(most), share.min(least)))
}

#[test]
fn shares_are_within_a_quarter_of_what_the_weights_say() {
    // The figures of the documentation are these, printed with `--nocapture`.
    let (mut most, mut least) = (0.0, f64::MAX);
    for count in [2_u32, 3, 5, 10, 20, 50, 100] {
        let shapes: [fn(u32) -> String; 3] =
            [|n| format!("node-{n}"), |n| format!("10.0.{n}.7:2181"), |n| format!("{n}")];
        for shape in shapes {
            let even = (1..=count).map(|number| (shape(number), 1)).collect();
            let uneven = (1..=count).map(|number| (shape(number), 1 + number % 3)).collect();
            for members in [even, uneven] {
                let (high, low) = extremes(&members, 100_000);
                println!("{count} like {}: {high:.3} to {low:.3}", shape(1));
                assert!(high < 1.25 && low > 0.75, "{members:?}: {high} to {low}");
                (most, least) = (f64::max(most, high), f64::min(least, low));
            }
        }
    }
    println!("in all: {most:.3} to {least:.3}");
}

#[test]
fn more_points_make_more_even_shares() {
    let spread = |virtual_nodes| {
        let mut ring = HashRing::with_virtual_nodes(virtual_nodes).expect("within bounds");
        (0..10).for_each(|number| ring.insert(format!("node-{number}"), 1).expect("weight 1"));
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for item in 0..20_000 {
            *counts.entry(ring.owner(format!("item-{item}")).expect("members")).or_default() += 1;
        }
        counts.values().max().expect("ten") - counts.values().min().expect("ten")
    };
    assert!(spread(1) > 2 * spread(32) && spread(32) > 2 * spread(VIRTUAL_NODES_MAX));
}

/// From an implementation of the documented rule in another language, on another XXH3.
#[test]
fn a_ring_says_the_same_in_every_process_and_version() {
    let ring = HashRing::of([("ann", 1), ("bob", 1), ("eve", 2)]).expect("within bounds");
    let long = format!(
        "a fairly long name of an item, as keys of a store tend to have, so that it goes \
         through the long-input path of the hash: {}",
        "x".repeat(300)
    );
    let expected = [
        ("", "ann"),
        ("0", "bob"),
        ("3", "ann"),
        ("order-991", "bob"),
        ("orders/eu", "eve"),
        ("ü", "eve"),
        (&long, "bob"),
    ];
    for (item, owner) in expected {
        assert_eq!(ring.owner(item), Some(owner), "{item:?}");
    }
    let lengthy = format!(
        "a fairly long name of a member, of more bytes than the short paths of the hash take: {}",
        "x".repeat(300)
    );
    let ring = HashRing::of([(&*lengthy, 1), ("10.0.0.17:2181", 3)]).expect("within bounds");
    let of_lengthy = (0..12).filter(|item| ring.owner(item.to_string()) == Some(&lengthy));
    assert_eq!(of_lengthy.collect::<Vec<_>>(), [7, 11]);
}

#[test]
fn an_empty_ring_owns_nothing_and_bounds_are_refused_by_name() {
    let mut ring = HashRing::new();
    assert_eq!(ring.owner("item"), None);
    assert_eq!(ring.owners("item", 3).len(), 0);
    ring.insert("ann", WEIGHT_MAX).expect("the greatest");
    let error = ring.insert("ann", WEIGHT_MAX + 1).expect_err("too heavy").to_string();
    assert!(error.contains("101") && error.contains("0 to 100"), "{error}");
    assert_eq!(ring.members().collect::<Vec<_>>(), [("ann", WEIGHT_MAX)], "as it was");
    for virtual_nodes in [0, VIRTUAL_NODES_MAX + 1] {
        let error = HashRing::with_virtual_nodes(virtual_nodes).expect_err("out of bounds");
        assert!(error.to_string().contains("1 to 1024"), "{error}");
    }
    assert!(!ring.remove("nobody") && ring.remove("ann") && ring.owner("item").is_none());
}
