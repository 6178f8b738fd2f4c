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
            "\"hello\", version 0",
            "\"good morning\", version 1",
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
fn the_config_example_takes_good_versions_and_keeps_the_last_good_one() {
    assert_says(
        &run("config_watch"),
        &["version 0: 100", "version 1: now", "refused: version 2", "version 1 stays", "version 3"],
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
