//! Every example runs to its end, and says what it is there to show.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The program of an example: cargo builds them beside the tests.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps");
    profile.join("examples").join(name)
}

fn run(name: &str) -> String {
    let Output { status, stdout, stderr } =
        Command::new(program(name)).output().expect("the example is built");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{name}: {status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

fn assert_says(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let at = rest.find(part);
        let at = at.unwrap_or_else(|| panic!("{part:?} is not, or not in its place, in\n{text}"));
        rest = &rest[at + part.len()..];
    }
}

#[test]
fn the_tour_hands_a_lock_over_replaces_a_leader_and_follows_a_change() {
    assert_says(
        &run("tour"),
        &[
            "ann holds the lock with token",
            "bob holds the lock with token",
            "eve holds the lock with token",
            "is stale",
            "ann leads in term",
            "ann dies",
            "bob leads in term",
            "\"hello\", version 1",
            "\"good morning\", version 2",
        ],
    );
}

#[test]
fn the_seeds_sample_shows_zxid_and_versions_grow() {
    assert_says(
        &run("version_control"),
        &[
            "created /test: czxid 0x100000002, version 0",
            "it holds \"data\" at version 0",
            "mzxid 0x100000003, version 1",
            "mzxid 0x100000004, version 2",
            "the watch says DataChanged of /test",
            "BadVersion -103",
            "the gate says Ok(()) to 0x100000006, then Err(StaleZxid",
            "set \"mine\" at exactly 0x100000006",
            "zxid 0x100000006 refused",
        ],
    );
}

#[test]
fn the_lock_example_gives_six_turns_with_growing_tokens() {
    let text = run("lock");
    let tokens = text.lines().filter_map(|line| line.split("holds the lock with token ").nth(1));
    let tokens: Vec<u64> = tokens
        .map(|token| u64::from_str_radix(token.trim_start_matches("0x"), 16).expect("a zxid"))
        .collect();
    assert_eq!(tokens.len(), 6, "{text}");
    assert!(tokens.is_sorted_by(|a, b| a < b), "{text}");
}

#[test]
fn the_table_example_refuses_a_stale_holder_and_keeps_what_the_next_one_wrote() {
    assert_says(
        &run("fenced_table"),
        &[
            "ann writes with token",
            "bob writes with token",
            "ann comes back late with a write: fencing token",
            "is stale: the resource has seen",
            "the report is \"bob's report\"",
        ],
    );
}

#[test]
fn the_mirror_example_is_equal_to_the_tree_after_its_crashes() {
    let text = run("db_sync");
    let checkpoints = text.lines().filter_map(|line| line.split("is killed at 0x").nth(1));
    let zxid = |text| u64::from_str_radix(text, 16).expect("a zxid");
    let checkpoints: Vec<u64> = [0].into_iter().chain(checkpoints.map(zxid)).collect();
    assert_eq!(checkpoints.len(), 4, "{text}");
    assert!(checkpoints.is_sorted_by(|a, b| a < b), "it goes on where it was: {text}");
    assert_says(&text, &["znodes are equal to their rows at 0x"]);
}

#[test]
fn the_queue_example_does_each_item_through_its_kills_and_buries_the_poison_alone() {
    let text = run("work_queue");
    assert_eq!(text.matches("a consumer is killed after").count(), 3, "{text}");
    assert_says(&text, &["400 items in", "396 done", "4 are dead letters, none is lost"]);
}

#[test]
fn the_election_example_sees_three_leaders_after_each_other() {
    let text = run("leader_election");
    for name in ["ann", "bob", "eve"] {
        assert_says(
            &text,
            &[&format!("{name} leads in term"), "Following", &format!("{name} dies")],
        );
    }
}

#[test]
fn the_discovery_example_picks_by_weight_and_never_who_is_drained_or_gone() {
    assert_says(
        &run("discovery"),
        &[
            "all three: of 100 picks {\"web-1\": 60, \"web-2\": 20, \"web-3\": 20}",
            "web-1 is drained: of 100 picks {\"web-2\": 50, \"web-3\": 50}",
            "web-2 is gone: of 100 picks {\"web-3\": 100}",
            "nobody is left: None",
        ],
    );
}

#[test]
fn the_config_example_refuses_what_is_bad_goes_back_and_rolls_out_in_stages() {
    assert_says(
        &run("config_service"),
        &[
            "version 1: Limits { rps: 100",
            "version 2: now Limits { rps: 200",
            "a burst is not below the rate",
            "version 1 must apply, but version 2 does",
            "not taken: version 3",
            "key \"rps\", line 3 column 10: it is a text, expected u32",
            "version 2 stays",
            "version 4 is version 2 again: Limits { rps: 200",
            "node-1 runs version 5, node-2 still version 4",
            "promoted: node-2 runs version 5",
            "shared burst: 400 -> 800",
            "burst is 800 by shared",
        ],
    );
}

#[test]
fn the_durable_example_keeps_what_was_written_and_loses_a_member() {
    assert_says(
        &run("durable_member"),
        &[
            "after a restart: \"hello\", written at 0x100000002",
            "one of three members is gone",
            "two go on: \"still here\", written at 0x",
        ],
    );
}

#[cfg(unix)]
#[test]
fn an_example_ends_its_session_on_ctrl_c() {
    use std::io::{BufRead, BufReader};

    let mut tour =
        Command::new(program("tour")).stdout(Stdio::piped()).spawn().expect("the example is built");
    let mut lines = BufReader::new(tour.stdout.take().expect("piped")).lines();
    // It has begun, and takes about two seconds in all.
    lines.next().expect("a line").expect("text");
    let signal = ["-INT".to_owned(), tour.id().to_string()];
    assert!(Command::new("kill").args(signal).status().expect("kill is there").success());
    let rest: Vec<String> = lines.map(|line| line.expect("text")).collect();
    assert!(tour.wait().expect("it ends").success());
    assert!(rest.iter().any(|line| line.starts_with("interrupted")), "{rest:?}");
}
