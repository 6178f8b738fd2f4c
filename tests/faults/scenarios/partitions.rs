//! Members that cannot reach each other, while clients reach all of them.

use std::time::{Duration, Instant};

use synod_core::model::Zxid;
use synod_tests::faults::cluster::Settings;
use synod_tests::faults::connection::Connection;
use synod_tests::faults::links::Links;
use synod_tests::faults::load;

use crate::stage::{CHANGES, Stage};

const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

/// How long a leader without followers is watched acknowledging nothing.
const WATCHED: Duration = Duration::from_secs(1);

async fn stage() -> Stage {
    let load = load::Settings { session_timeout: SESSION_TIMEOUT, ..load::Settings::default() };
    Stage::new(Settings::of(3).linked(), load::Settings { rate_min: 50.0, ..load }).await
}

async fn parted_leader(how: &str, part: impl Fn(&Links, u64)) {
    let stage = stage().await;
    let old = stage.cluster.leader().await;
    part(&stage.cluster.links, old as u64 + 1);
    let begun = Instant::now();
    let (first, all) = stage.served(begun).await;
    let new = stage.cluster.leader_but(Some(old)).await;
    stage.load.more(CHANGES).await;
    // A session is opened by an entry of the log: who gets one was promised that a quorum has it.
    let address = stage.cluster.members[old].address;
    let opened = Connection::open(address, None, Zxid::ZERO, SESSION_TIMEOUT, WATCHED).await;
    assert!(opened.is_err(), "a leader without followers has opened a session");
    stage.cluster.links.heal();
    stage.cluster.becomes(old, "follower").await;
    assert_ne!(stage.cluster.leader().await, old, "member {} had its office", new + 1);
    let what = format!("a leader {how}: a client was served after {first:?}, all after {all:?}");
    stage.end(&what).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_from_and_to_which_nothing_comes_is_replaced() {
    parted_leader("from and to which nothing comes", Links::hold).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_and_is_not_heard_is_replaced() {
    parted_leader("that hears and is not heard", Links::mute).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_connections_are_cut_is_replaced() {
    parted_leader("whose connections are cut", Links::cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_cut_off_holds_nobody_up_and_comes_back_without_an_election() {
    let mut stage = stage().await;
    let leader = stage.cluster.leader().await;
    let follower = stage.cluster.follower().await;
    let epoch = async |stage: &Stage| {
        stage.cluster.members[leader].standing().await.map(|standing| standing.zxid >> 32)
    };
    let before = epoch(&stage).await;
    stage.cluster.links.hold(follower as u64 + 1);
    let (first, all) = stage.served(Instant::now()).await;
    stage.load.more(CHANGES).await;
    stage.cluster.links.heal();
    stage.cluster.becomes(follower, "follower").await;
    stage.check().await;
    let after = epoch(&stage).await;
    stage.load.resume();
    let what = format!(
        "a follower that is cut off: a client was served after {first:?}, all after {all:?}; \
         epochs before and after: {before:?}, {after:?}"
    );
    stage.end(&what).await;
}
