//! How candidates wait for their turn, under virtual time, with faults: others' among them.

use std::time::Duration;

use crate::common::{cancel_at, children, soon, until_children};
use synod::election::Leadership;
use synod::model::WatchKind;
use synod::testing::Coordinator;
use synod::{Acl, Client, Election, Error, Fence, LossReason};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const PATH: &str = "/scheduler";

fn election(client: &Client) -> Election {
    Election::new(client, PATH).expect("a valid path")
}

type Campaign = JoinHandle<Result<Leadership, Error>>;

/// Starts a campaign and waits until it is in line behind `before` others.
async fn stands(zk: &Coordinator, client: &Client, before: usize) -> Campaign {
    let election = election(client);
    let campaign = tokio::spawn(async move { election.campaign().await });
    until_children(&zk.client().await, PATH, before + 1).await;
    campaign
}

async fn leads(campaign: Campaign) -> Leadership {
    soon(campaign).await.expect("no panic").expect("its turn")
}

/// The names of the candidates, first in line first.
async fn line(client: &Client) -> Vec<String> {
    let mut names = children(client, PATH).await;
    names.sort_by_key(|name| name[name.len() - 10..].to_owned());
    names
}

#[tokio::test(start_paused = true)]
async fn a_campaign_whose_session_dies_fails_and_the_next_one_is_of_another_session() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    for silently in [false, true] {
        let leader = soon(election(&a).campaign()).await.expect("nobody leads");
        let waiting = stands(&zk, &b, 1).await;
        match silently {
            true => zk.disconnect(&b, Duration::from_secs(60)),
            false => zk.expire(&b).await,
        }
        let error = soon(waiting).await.expect("no panic").expect_err("its session is over");
        assert!(error.session_over(), "{error}");
        until_children(&a, PATH, 1).await;
        zk.heal(&b);
        let again = stands(&zk, &b, 1).await;
        leader.resign().await.expect("connected");
        let next = leads(again).await;
        assert_eq!(next.session().id(), b.session().id());
        next.resign().await.expect("connected");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_reconnects_after_its_session_expired_leads_no_longer() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    a.create("/plan", b"").await.expect("new");
    let resource = Fence::new();
    for round in 0..5 {
        let deposed = soon(election(&a).campaign()).await.expect("nobody leads");
        resource.admit(deposed.term()).expect("the newest");
        let waiting = stands(&zk, &b, 1).await;
        zk.disconnect(&a, Duration::from_secs(11 + round));
        let next = leads(waiting).await;
        resource.admit(next.term()).expect("the newest");
        // It is back, in a session that has never led.
        soon(async { while a.pin().await.is_err() {} }).await;
        assert!(deposed.run(async {}).await.expect_err("deposed").is_lost(), "round {round}");
        let error = deposed.txn().set("/plan", b"").commit().await.expect_err("deposed");
        assert!(error.is_lost() && resource.admit(deposed.term()).is_err(), "{error}");
        assert_eq!(children(&b, PATH).await, [next.path().name()]);
        next.resign().await.expect("connected");
    }
}

#[tokio::test(start_paused = true)]
async fn two_candidates_of_one_session_are_two() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let first = election(&client).campaign().await.expect("nobody leads");
    let waiting = stands(&zk, &client, 1).await;
    sleep(Duration::from_secs(60)).await;
    assert!(!waiting.is_finished(), "the same session is not the same leader");
    let term = first.term();
    drop(first);
    assert!(leads(waiting).await.term() > term);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_campaign_that_waits_leaves_no_candidate_whatever_await_it_was_at() {
    let mut n = 0;
    loop {
        n += 1;
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let leader = election(&a).campaign().await.expect("nobody leads");
        let candidate = election(&b);
        let campaign = async {
            let (campaign, ()) = tokio::join!(candidate.campaign(), async {
                sleep(Duration::from_secs(1)).await;
                leader.release().await.map(drop).expect("connected");
            });
            campaign
        };
        let done = cancel_at(n, campaign).await;
        let finished = done.is_some();
        drop((done, leader));
        until_children(&a, PATH, 0).await;
        soon(async {
            while b.session().cleanups_reserved() > 0 || zk.watch_count() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        if finished {
            break;
        }
    }
    assert!(n > 7, "cancelled at {n} awaits only");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_watches_the_one_just_before_and_itself_alone() {
    let zk = Coordinator::start();
    let clients = [zk.client().await, zk.client().await, zk.client().await];
    let leader = election(&clients[0]).campaign().await.expect("nobody leads");
    let second = stands(&zk, &clients[1], 1).await;
    let third = stands(&zk, &clients[2], 2).await;
    sleep(Duration::from_secs(1)).await;
    let line = line(&clients[0]).await;
    for (watcher, client) in clients.iter().enumerate() {
        for (place, name) in line.iter().enumerate() {
            let watched = client.has_watch(format!("{PATH}/{name}"), WatchKind::Any).await;
            let expected = watcher > 0 && (place + 1 == watcher || place == watcher);
            assert_eq!(watched.expect("connected"), expected, "{watcher}, {place}");
        }
    }
    assert_eq!(zk.watch_count(), 4);
    // It looks again now and then, and leaves nothing of that behind.
    sleep(Duration::from_secs(600)).await;
    assert_eq!(zk.watch_count(), 4);
    leader.resign().await.expect("connected");
    let second = leads(second).await;
    assert!(!third.is_finished());
    second.resign().await.expect("connected");
    drop(leads(third).await);
}

#[tokio::test(start_paused = true)]
async fn one_that_gives_up_in_the_middle_of_the_line_lets_nobody_lead() {
    let zk = Coordinator::start();
    let clients = [zk.client().await, zk.client().await, zk.client().await];
    let leader = election(&clients[0]).campaign().await.expect("nobody leads");
    let second = stands(&zk, &clients[1], 1).await;
    let third = stands(&zk, &clients[2], 2).await;
    sleep(Duration::from_secs(1)).await;
    second.abort();
    until_children(&clients[0], PATH, 2).await;
    sleep(Duration::from_secs(60)).await;
    assert!(!third.is_finished(), "the first one leads");
    leader.resign().await.expect("connected");
    drop(leads(third).await);
}

#[tokio::test(start_paused = true)]
async fn one_whose_znode_is_deleted_while_it_waits_knows_at_once_and_never_leads() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let leader = election(&a).campaign().await.expect("nobody leads");
    let waiting = stands(&zk, &b, 1).await;
    sleep(Duration::from_secs(1)).await;
    let name = line(&a).await.pop().expect("two in line");
    a.delete(format!("{PATH}/{name}")).await.expect("forced");
    let told = timeout(Duration::from_secs(1), waiting).await.expect("at once");
    let error = told.expect("no panic").expect_err("no longer in line");
    let Error::Lost(loss) = error else { panic!("{error}") };
    assert_eq!(loss.reason, LossReason::Removed);
    leader.run(async {}).await.expect("it leads on");
}

#[tokio::test(start_paused = true)]
async fn one_that_may_not_read_what_it_watches_looks_again_by_itself() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    a.add_auth("digest", b"ann:secret").await.expect("any digest is accepted");
    for hide_own in [false, true] {
        let leader = soon(election(&a).campaign()).await.expect("nobody leads");
        let waiting = stands(&zk, &b, 1).await;
        sleep(Duration::from_secs(1)).await;
        for name in line(&a).await.iter().take(if hide_own { 2 } else { 1 }) {
            a.set_acl(format!("{PATH}/{name}"), Acl::creator()).await.expect("open");
        }
        // It has looked once more since, and could not leave a watch.
        sleep(Duration::from_secs(60)).await;
        assert!(!waiting.is_finished(), "it waits all the same");
        leader.resign().await.expect("connected");
        leads(waiting).await.resign().await.expect("connected");
    }
    // Without any watch, it hears of the end of its session all the same.
    let _leader = soon(election(&a).campaign()).await.expect("nobody leads");
    let waiting = stands(&zk, &b, 1).await;
    for name in line(&a).await {
        a.set_acl(format!("{PATH}/{name}"), Acl::creator()).await.expect("open");
    }
    sleep(Duration::from_secs(60)).await;
    zk.expire(&b).await;
    let told = timeout(Duration::from_secs(1), waiting).await.expect("at once");
    assert!(told.expect("no panic").expect_err("its session is over").session_over());
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_ends_no_campaign_whatever_request_it_falls_on() {
    for after_ms in 0..20 {
        for lose in [false, true] {
            let zk = Coordinator::start();
            let (a, b) = (zk.client().await, zk.client().await);
            let leader = election(&a).campaign().await.expect("nobody leads");
            let candidate = election(&b);
            let (next, ()) = tokio::join!(soon(candidate.campaign()), async {
                sleep(Duration::from_millis(after_ms)).await;
                match lose {
                    true => zk.lose_next_reply(&b),
                    false => zk.disconnect(&b, Duration::from_secs(1)),
                }
                sleep(Duration::from_secs(5)).await;
                assert_eq!(children(&a, PATH).await.len(), 2, "one candidate each");
                leader.release().await.map(drop).expect("connected");
            });
            let next = next.unwrap_or_else(|error| panic!("{after_ms} ms, {lose}: {error}"));
            assert!(next.term() > leader.term());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_goes_between_list_and_watch_is_noticed() {
    for release_after_ms in 0..16 {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let leader = election(&a).campaign().await.expect("nobody leads");
        let term = leader.term();
        let candidate = election(&b);
        let begun = tokio::time::Instant::now();
        let (next, ()) = tokio::join!(soon(candidate.campaign()), async {
            sleep(Duration::from_millis(release_after_ms)).await;
            drop(leader);
        });
        assert!(next.expect("its turn").term() > term);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}: it waited for the next look");
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_child_wedges_no_election() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    client.create(PATH, b"").await.expect("new");
    for name in ["readme", "_c_x-lead-0000000000", "lead-0000000000", "-lead-"] {
        client.create(format!("{PATH}/{name}"), b"").await.expect("new");
    }
    let leader = soon(election(&client).campaign()).await.expect("nobody leads");
    let seen = election(&client).leader().await.expect("can be asked").expect("it leads");
    assert_eq!(seen.term, leader.term());
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_sequence_elects_nobody_and_says_so() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    election(&client).campaign().await.expect("nobody leads").resign().await.expect("connected");
    zk.set_sequence(PATH, i32::MAX).expect("it exists");
    let error = election(&client).campaign().await.expect_err("no suffix is left");
    assert!(matches!(&error, Error::SequenceExhausted { path, .. } if **path == *PATH), "{error}");
    // The work of the leader is not retried without end: it ends, and says why.
    let work = |_| async { Ok::<(), Error>(()) };
    let error = soon(election(&client).run_as_leader(work)).await.expect_err("nobody can lead");
    assert!(matches!(error, Error::SequenceExhausted { .. }), "{error}");
    assert!(children(&client, PATH).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_election_leaves_its_znode_to_be_reaped() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    election(&client).campaign().await.expect("nobody leads").resign().await.expect("connected");
    zk.reap();
    assert_eq!(client.exists(PATH).await.expect("can be asked"), None, "a container");
    drop(election(&client).campaign().await.expect("it is made again"));
}
