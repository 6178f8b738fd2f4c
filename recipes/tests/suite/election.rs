//! The election under virtual time, with faults.

use std::time::Duration;

use crate::common::{cancel_at, children, soon, until_children};
use futures::StreamExt;
use synod::election::{Leader, Leadership, Observed};
use synod::testing::Coordinator;
use synod::{Client, Election, Fence, LossReason, SessionEnd};
use tokio::time::sleep;

const PATH: &str = "/scheduler";

fn election(client: &Client, name: &str) -> Election {
    Election::new(client, PATH).expect("a valid path").with_name(name)
}

/// A leader that has proclaimed nothing.
fn leader(name: &str, leadership: &Leadership) -> Leader {
    Leader { name: name.to_owned(), term: leadership.term(), value: None }
}

#[tokio::test(start_paused = true)]
async fn candidates_lead_in_the_order_in_which_they_came_with_growing_terms() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let first = soon(election(&a, "a").campaign()).await.expect("nobody leads");
    let next = election(&b, "b");
    let campaign = tokio::spawn(async move { next.campaign().await });
    until_children(&a, PATH, 2).await;
    assert!(!campaign.is_finished());
    let term = first.term();
    first.resign().await.expect("connected");
    let second = soon(campaign).await.expect("no panic").expect("its turn");
    assert!(second.term() > term);
    let asked = election(&a, "a").leader().await.expect("can be asked");
    assert_eq!(asked, Some(leader("b", &second)));
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_session_expires_while_it_is_paused_is_kept_out_by_its_term() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    a.create("/plan", b"").await.expect("new");
    let resource = Fence::new();
    let paused = election(&a, "a").campaign().await.expect("nobody leads");
    resource.admit(paused.term()).expect("the first");

    // Paused: it hears nothing, and its session expires meanwhile.
    zk.disconnect(&a, Duration::from_secs(30));
    zk.expire(&a).await;
    let leader = soon(election(&b, "b").campaign()).await.expect("nobody leads any more");
    resource.admit(leader.term()).expect("the next");

    // It goes on, and still believes to lead.
    assert_eq!(paused.session().end(), None);
    assert!(resource.admit(paused.term()).is_err(), "the resource refuses it");
    zk.heal(&a);
    let loss = soon(paused.lost()).await;
    assert_eq!(loss.reason, LossReason::SessionOver(SessionEnd::Expired));
    let error = paused.txn().set("/plan", b"stale").commit().await.expect_err("deposed");
    assert!(error.is_lost(), "{error}");
    leader.txn().set("/plan", b"new").commit().await.expect("leads");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_campaign_leaves_no_candidate_whatever_await_it_was_at() {
    for n in 1.. {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let done = cancel_at(n, election(&b, "b").campaign()).await;
        let finished = done.is_some();
        drop(done);
        until_children(&a, PATH, 0).await;
        if finished {
            assert!(n > 3, "cancelled at {n} awaits only");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_sees_every_leader_and_the_times_without_one() {
    let zk = Coordinator::start();
    let (a, b, c) = (zk.client().await, zk.client().await, zk.client().await);
    let own = election(&b, "b");
    let mut seen = own.observe();
    assert_eq!(soon(seen.next()).await, Some(Observed::NoLeader));

    let first = election(&a, "a").campaign().await.expect("nobody leads");
    assert_eq!(soon(seen.next()).await, Some(Observed::Following(leader("a", &first))));

    first.resign().await.expect("connected");
    assert_eq!(soon(seen.next()).await, Some(Observed::NoLeader));

    let second = own.campaign().await.expect("nobody leads");
    let leader = leader("b", &second);
    assert_eq!(soon(seen.next()).await, Some(Observed::Elected(leader.clone())));
    let mut others = election(&c, "c").observe();
    assert_eq!(soon(others.next()).await, Some(Observed::Following(leader)));
}

#[tokio::test(start_paused = true)]
async fn an_observer_says_that_it_does_not_know_while_it_is_disconnected() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let leadership = election(&a, "a").campaign().await.expect("nobody leads");
    let leader = leader("a", &leadership);
    let mut seen = election(&b, "b").observe();
    assert_eq!(soon(seen.next()).await, Some(Observed::Following(leader.clone())));
    zk.disconnect(&b, Duration::from_secs(2));
    assert_eq!(soon(seen.next()).await, Some(Observed::Uncertain));
    assert_eq!(soon(seen.next()).await, Some(Observed::Following(leader.clone())));
    // Over the end of its session too.
    zk.expire(&b).await;
    assert_eq!(soon(seen.next()).await, Some(Observed::Uncertain));
    assert_eq!(soon(seen.next()).await, Some(Observed::Following(leader)));
    b.close().await.expect("connected");
    assert_eq!(soon(seen.next()).await, Some(Observed::Uncertain));
    assert_eq!(soon(seen.next()).await, None, "it ends with the client");
}

#[tokio::test(start_paused = true)]
async fn observers_watch_the_leader_alone() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let _leadership = election(&a, "a").campaign().await.expect("nobody leads");
    let mut seen = election(&b, "b").observe();
    soon(seen.next()).await.expect("somebody leads");
    assert_eq!(zk.watch_count(), 1, "the child watch is given back");
    drop(seen);
    soon(async {
        while zk.watch_count() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_lock_and_an_election_at_one_path_do_not_mix() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let lock = synod::Lock::new(&client, PATH).expect("valid");
    let _guard = lock.acquire().await.expect("free");
    let leadership = soon(election(&client, "a").campaign()).await.expect("nobody leads");
    assert_eq!(children(&client, PATH).await.len(), 2);
    drop(leadership);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_leadership_resigns() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    drop(election(&a, "a").campaign().await.expect("nobody leads"));
    soon(election(&b, "b").campaign()).await.expect("nobody leads").resign().await.expect("led");
}

#[tokio::test(start_paused = true)]
async fn an_observer_ends_when_its_client_is_closed_between_two_sessions() {
    let zk = Coordinator::start();
    let a = zk.client().await;
    let mut seen = election(&a, "a").observe();
    assert_eq!(soon(seen.next()).await, Some(Observed::NoLeader));
    zk.disconnect(&a, Duration::from_secs(600));
    a.session().lost().await;
    let watching = tokio::spawn(async move { while seen.next().await.is_some() {} });
    sleep(Duration::from_millis(1)).await;
    a.close().await.expect("there is nobody to tell");
    soon(watching).await.expect("it ends");
}

#[tokio::test(start_paused = true)]
async fn writing_to_the_leaders_znode_is_no_news_and_no_new_term() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let leadership = election(&a, "a").campaign().await.expect("nobody leads");
    let leader = leader("a", &leadership);
    let mut seen = election(&b, "b").observe();
    // It looks while it is asked for the next, so somebody always asks.
    let observing = tokio::spawn(async move { [seen.next().await, seen.next().await] });
    for _ in 0..3 {
        sleep(Duration::from_secs(1)).await;
        a.set(leadership.path(), b"a").await.expect("it is there");
    }
    let asked = election(&b, "b").leader().await.expect("can be asked");
    assert_eq!(asked, Some(leader.clone()));
    sleep(Duration::from_secs(1)).await;
    leadership.resign().await.expect("connected");
    let seen = soon(observing).await.expect("no panic");
    assert_eq!(seen, [Some(Observed::Following(leader)), Some(Observed::NoLeader)]);
}

#[tokio::test(start_paused = true)]
async fn the_leader_is_the_first_of_several_candidates() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let first = election(&a, "a").campaign().await.expect("nobody leads");
    let next = election(&b, "b");
    let _campaign = tokio::spawn(async move { next.campaign().await });
    until_children(&a, PATH, 2).await;
    let leader = leader("a", &first);
    assert_eq!(election(&b, "b").leader().await.expect("can be asked"), Some(leader.clone()));
    let mut seen = election(&b, "b").observe();
    assert_eq!(soon(seen.next()).await, Some(Observed::Following(leader)));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_resigns_while_it_is_asked_for_is_no_error() {
    for resign_after_ms in 0..8 {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let leadership = election(&a, "a").campaign().await.expect("nobody leads");
        let (asked, ()) = tokio::join!(
            async {
                sleep(Duration::from_millis(3)).await;
                election(&b, "b").leader().await
            },
            async {
                sleep(Duration::from_millis(resign_after_ms)).await;
                leadership.resign().await.map(drop).expect("connected");
            }
        );
        asked.unwrap_or_else(|error| panic!("resigned after {resign_after_ms} ms: {error}"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_says_that_it_does_not_know_while_the_line_makes_no_sense() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    a.create(PATH, b"").await.expect("new");
    let mut seen = election(&b, "b").observe();
    assert_eq!(soon(seen.next()).await, Some(Observed::NoLeader));
    let paths =
        [1, 2].map(|id| format!("{PATH}/_c_{id:08}-0000-4000-8000-000000000000-lead-2147483647"));
    let both = a.txn().create(&paths[0], b"").create(&paths[1], b"");
    both.commit().await.expect("new");
    assert_eq!(soon(seen.next()).await, Some(Observed::Uncertain), "two would lead");
    a.txn().delete(&paths[0]).delete(&paths[1]).commit().await.expect("they are there");
    assert_eq!(soon(seen.next()).await, Some(Observed::NoLeader));
}

#[tokio::test(start_paused = true)]
async fn what_the_leader_proclaims_is_seen_with_it_and_goes_with_it() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let leadership = election(&a, "a").campaign().await.expect("nobody leads");
    let mut seen = election(&b, "b").observe();
    assert_eq!(soon(seen.next()).await, Some(Observed::Following(leader("a", &leadership))));
    for value in ["10.0.0.7:80", "", "two\nlines\nvalue\n"] {
        if value.is_empty() {
            // Whether it was done before the reply was lost or not: it is done.
            zk.lose_next_reply(&a);
        }
        soon(leadership.proclaim(value)).await.expect("leads");
        let value = Some(value.as_bytes().to_vec().into());
        let proclaimed = Leader { value, ..leader("a", &leadership) };
        assert_eq!(
            soon(seen.next()).await,
            Some(Observed::Following(proclaimed.clone())),
            "the same term, another value"
        );
        let asked = election(&b, "b").leader().await.expect("can be asked");
        assert_eq!(asked, Some(proclaimed));
    }
    leadership.resign().await.expect("connected");
    assert_eq!(soon(seen.next()).await, Some(Observed::NoLeader));
    let next = election(&b, "b").campaign().await.expect("nobody leads");
    let asked = election(&a, "a").leader().await.expect("can be asked");
    assert_eq!(asked, Some(leader("b", &next)), "the next one has proclaimed nothing");
}

#[tokio::test(start_paused = true)]
async fn who_leads_no_longer_proclaims_nothing() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let deposed = election(&a, "a").campaign().await.expect("nobody leads");
    b.delete(deposed.path()).await.expect("forced");
    let leads = election(&b, "b").campaign().await.expect("nobody leads");
    let error = deposed.proclaim("late").await.expect_err("leads no longer");
    assert!(error.is_lost(), "{error}");
    let asked = election(&a, "a").leader().await.expect("can be asked");
    assert_eq!(asked, Some(leader("b", &leads)));
}

#[tokio::test(start_paused = true)]
async fn candidates_are_listed_in_the_order_in_which_they_came_the_leader_first() {
    let zk = Coordinator::start();
    let clients = [zk.client().await, zk.client().await, zk.client().await];
    assert_eq!(election(&clients[0], "").candidates().await.expect("can be asked"), []);
    let first = election(&clients[0], "a").campaign().await.expect("nobody leads");
    first.proclaim("a value").await.expect("leads");
    let mut waiting = Vec::new();
    for (place, name) in [(1, "b"), (2, "a")] {
        let next = election(&clients[place], name);
        waiting.push(tokio::spawn(async move { next.campaign().await }));
        until_children(&clients[0], PATH, place + 1).await;
    }
    // Foreign children are passed over.
    clients[0].create(format!("{PATH}/readme"), b"").await.expect("new");
    let seen = election(&clients[0], "").candidates().await.expect("can be asked");
    let names: Vec<_> = seen.iter().map(|candidate| candidate.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "a"]);
    assert!(seen.is_sorted_by_key(|candidate| candidate.since) && seen[0].since == first.term());
    for (candidate, client) in seen.iter().zip(&clients) {
        assert_eq!(candidate.session, Some(client.session().id()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_of_two_lines_is_refused_before_anything_is_sent() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let before = zk.last_zxid();
    let error = election(&client, "a\nvalue\nforged").campaign().await.expect_err("two lines");
    assert!(error.to_string().contains("one line"), "{error}");
    assert_eq!(zk.last_zxid(), before);
}
