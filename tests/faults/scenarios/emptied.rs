//! A member that has lost its data folder.

use std::time::Instant;

use synod_tests::faults::cluster::Settings;
use synod_tests::faults::{load, until};

use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_emptied_ends_by_saying_what_to_do_and_that_brings_it_back() {
    let mut stage = Stage::new(Settings::of(3), load::Settings::default()).await;
    let place = stage.cluster.leader().await;
    let id = place + 1;
    stage.cluster.members[place].kill().await;
    stage.cluster.members[place].empty();
    // As its unit file would have it.
    let member = &mut stage.cluster.members[place];
    member.start();
    let status = member.ended().await;
    let words = member.last_words();
    assert_eq!(status.code(), Some(1), "{words}");
    for part in [&*format!("remove {id}"), "--join", &format!("add {id}="), "promote"] {
        assert!(words.contains(part), "{part} is to be said:\n{words}");
    }
    stage.served(Instant::now()).await;

    let number = id.to_string();
    stage.cluster.order(&["remove", &number]).await.expect("two are left to agree");
    let member = &mut stage.cluster.members[place];
    member.empty();
    member.join();
    member.start();
    let (peer, client) = (member.peer, member.address);
    stage.cluster.becomes(place, "looking").await;
    let added = stage.cluster.order(&["add", &format!("{id}={peer},{client}")]).await;
    // On a machine with too much to do the leader may change under it.
    assert!(added.as_ref().err().is_none_or(|text| text.contains("was added")), "{added:?}");
    until("it has caught up, and gets its vote", async || {
        stage.cluster.order(&["promote", &number]).await.ok()
    })
    .await;
    stage.cluster.becomes(place, "follower").await;
    stage.end("a leader that was emptied, and added anew").await;
}
