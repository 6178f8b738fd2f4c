//! Members that stand still: nobody who is alive is expired for it.

use std::time::{Duration, Instant};

use synod_core::model::{CreateMode, Read, Request, Zxid};
use synod_tests::faults::cluster::Settings;
use synod_tests::faults::connection::Connection;
use synod_tests::faults::load::{self, create};
use synod_tests::faults::{PATIENCE, until};

use crate::stage::Stage;

/// Of all sessions.
const SESSION_TIMEOUT: Duration = Duration::from_secs(3);

const SHORTER: Duration = Duration::from_secs(1);
const LONGER: Duration = Duration::from_millis(4_500);

async fn stage(members: usize) -> Stage {
    let settings = Settings::of(members).with(&["--tick-ms=250"]);
    let load = load::Settings { session_timeout: SESSION_TIMEOUT, ..load::Settings::default() };
    // A pause is part of such a run.
    Stage::new(settings, load::Settings { rate_min: 50.0, ..load }).await
}

/// What is left of a pause that began then: it is the fault itself, nothing is waited for.
async fn rest_of(pause: Duration, begun: Instant) {
    tokio::time::sleep(pause.saturating_sub(begun.elapsed())).await;
}

/// An ephemeral znode whose client is gone, and has not said so.
async fn orphan(stage: &Stage) {
    let address = stage.cluster.members[0].address;
    let opening = Connection::open(address, None, Zxid::ZERO, SESSION_TIMEOUT, PATIENCE);
    let mut connection = opening.await.expect("it serves");
    let made = connection.ask(&create("/orphan", Vec::new(), CreateMode::Ephemeral)).await;
    made.expect("connected").result.expect("a new znode");
}

/// That nobody is expired does not come of nobody being expired ever.
async fn orphan_goes(stage: &Stage, place: usize) {
    let address = stage.cluster.members[place].address;
    let opening = Connection::open(address, None, Zxid::ZERO, SESSION_TIMEOUT, PATIENCE);
    let mut connection = opening.await.expect("it serves");
    let exists = Request::Read(Read::Exists { path: "/orphan".into(), watch: false });
    until("the znode of a dead client is gone", async || {
        connection.ask(&exists).await.expect("connected").result.err()
    })
    .await;
}

async fn paused_leader(pause: Duration) {
    let mut stage = stage(3).await;
    orphan(&stage).await;
    let old = stage.cluster.leader().await;
    stage.cluster.members[old].freeze().await;
    let begun = Instant::now();
    let (first, all) = stage.served(begun).await;
    let new = stage.cluster.leader_but(Some(old)).await;
    rest_of(pause, begun).await;
    stage.cluster.members[old].thaw();
    stage.cluster.becomes(old, "follower").await;
    orphan_goes(&stage, new).await;
    let what = format!(
        "a leader paused for {pause:?}: a client was served after {first:?}, all after {all:?}"
    );
    stage.end(&what).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_paused_for_less_than_a_session_is_replaced_and_expires_nobody() {
    paused_leader(SHORTER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_paused_for_more_than_a_session_is_replaced_and_expires_nobody() {
    paused_leader(LONGER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_paused_holds_nobody_up_and_nobody_is_expired() {
    let mut stage = stage(3).await;
    let follower = stage.cluster.follower().await;
    stage.cluster.members[follower].freeze().await;
    let begun = Instant::now();
    let (first, all) = stage.served(begun).await;
    rest_of(LONGER, begun).await;
    stage.cluster.members[follower].thaw();
    stage.cluster.becomes(follower, "follower").await;
    let what = format!(
        "a follower paused for {LONGER:?}: a client was served after {first:?}, all after {all:?}"
    );
    stage.end(&what).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standalone_server_that_is_paused_for_more_than_a_session_expires_nobody() {
    let mut stage = stage(1).await;
    orphan(&stage).await;
    stage.cluster.members[0].freeze().await;
    rest_of(LONGER, Instant::now()).await;
    stage.cluster.members[0].thaw();
    let (first, all) = stage.served(Instant::now()).await;
    orphan_goes(&stage, 0).await;
    let what = format!(
        "a server paused for {LONGER:?}: a client was served {first:?} after, all {all:?} after"
    );
    stage.end(&what).await;
}
