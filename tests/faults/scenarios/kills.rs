//! kill −9 under load, and an orderly end.

use std::time::Instant;

use synod_tests::faults::check::Checker;
use synod_tests::faults::cluster::{Cluster, Settings};
use synod_tests::faults::load::{self, Load};
use synod_tests::faults::process::Signal;
use synod_tests::faults::repetitions;
use synod_tests::faults::report::{Times, machine};

use crate::stage::CHANGES;

/// Who is killed, or told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Leader,
    Follower,
    All,
}

/// Kills, sees that clients are served, starts the dead again, and checks.
async fn killed(members: usize, victim: Victim, restarted_at_once: bool, signal: Signal) {
    let mut cluster = Cluster::start(Settings::of(members)).await;
    let mut load = Load::start(cluster.addresses(), load::Settings::default()).await;
    let mut checker = Checker::default();
    let mut first = Times::of("until a client was served again");
    let mut all = Times::of("until every client was served again");
    let mut rates = Vec::new();
    for _ in 0..repetitions() {
        load.more(CHANGES).await;
        let leader = cluster.leader().await;
        let victims = match victim {
            Victim::Leader => vec![leader],
            Victim::Follower => vec![(leader + 1) % members],
            Victim::All => (0..members).collect(),
        };
        let mut begun = Instant::now();
        for victim in &victims {
            let member = &mut cluster.members[*victim];
            member.process().signal(signal);
            let status = member.ended().await;
            assert!(status.success() || signal == Signal::Kill, "{}", member.last_words());
        }
        // A majority that is gone serves nobody: it is the restart that is measured then.
        let mark = load.mark();
        if restarted_at_once || victims.len() > members / 2 {
            begun = Instant::now();
            victims.iter().for_each(|victim| cluster.members[*victim].start());
        }
        let served = load.served(mark).await;
        let since = |time: &tokio::time::Instant| time.into_std().saturating_duration_since(begun);
        first.add(served.first().map(since).unwrap_or_default());
        all.add(served.last().map(since).unwrap_or_default());
        load.more(CHANGES).await;
        if !restarted_at_once && victims.len() <= members / 2 {
            victims.iter().for_each(|victim| cluster.members[*victim].start());
        }
        rates.push(load.pause().await.a_second);
        checker.check(&cluster, &load).await;
        load.resume();
    }
    let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
    println!("{signal:?} {victim:?} of {members}, restarted at once: {restarted_at_once}");
    println!("  {first}\n  {all}\n  at least {least:.0} changes a second; {}", machine());
    load.finish().await;
}

macro_rules! kills {
    ($($name:ident: $signal:ident $victim:ident of $members:literal, at once: $at_once:literal)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                killed($members, Victim::$victim, $at_once, Signal::$signal).await;
            }
        )*
    };
}

kills! {
    a_standalone_server_that_is_killed_has_lost_nothing: Kill All of 1, at once: true
    a_leader_that_is_killed_is_replaced_and_nothing_is_lost: Kill Leader of 3, at once: false
    a_leader_that_is_killed_and_started_at_once_has_lost_nothing: Kill Leader of 3, at once: true
    a_follower_that_is_killed_holds_nobody_up: Kill Follower of 3, at once: false
    a_follower_that_is_killed_and_started_at_once_has_lost_nothing: Kill Follower of 3, at once: true
    a_cluster_that_is_killed_has_lost_nothing: Kill All of 3, at once: true
    a_leader_that_is_told_to_end_hands_its_office_on: Terminate Leader of 3, at once: false
    a_standalone_server_that_is_told_to_end_has_lost_nothing: Terminate All of 1, at once: true
}
