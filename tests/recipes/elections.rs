//! Cases of work that a leader does and hands over, for every ground, and with connections that
//! break.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use synod::election::{Leadership, Observed};
use synod::{Client, Election, Error, Fence, Zxid};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::cases::{cancel_at, until_children};
use super::ground::{Ground, PATIENCE, SESSION_TIMEOUT, soon};

const PATH: &str = "/scheduler";

fn election(client: &Client, name: &str) -> Election {
    Election::new(client, PATH).expect("valid").with_name(name)
}

/// Starts a campaign and waits until it is in line behind `before` others.
async fn stands(
    client: &Client,
    observer: &Client,
    name: &str,
    before: usize,
) -> JoinHandle<Result<Leadership, Error>> {
    let election = election(client, name);
    let campaign = tokio::spawn(async move { election.campaign().await });
    until_children(observer, PATH, before + 1).await;
    campaign
}

async fn leads(campaign: JoinHandle<Result<Leadership, Error>>) -> Leadership {
    soon(campaign).await.expect("no panic").expect("its turn")
}

pub async fn a_leadership_is_handed_over_in_growing_terms(ground: &Ground) {
    let (a, b, c) = (ground.client().await, ground.client().await, ground.client().await);
    let resource = Fence::new();
    let first = election(&a, "a").campaign().await.expect("nobody leads");
    first.proclaim("at a").await.expect("leads");
    resource.admit(first.term()).expect("the first");
    let b_stands = stands(&b, &a, "b", 1).await;
    let c_stands = stands(&c, &a, "c", 2).await;
    let error = soon(first.hand_over("d", PATIENCE)).await.expect_err("nobody of that name");
    assert!(matches!(error, Error::NoCandidate { .. }), "{error}");

    let mut seen = election(&a, "").observe();
    let Some(Observed::Following(leader)) = soon(seen.next()).await else { panic!("a leads") };
    assert_eq!((leader.name.as_str(), leader.value), ("a", Some("at a".into())));
    soon(first.hand_over("c", PATIENCE)).await.expect("c stands");
    let c_leads = leads(c_stands).await;
    resource.admit(c_leads.term()).expect("the newest");
    let error = first.txn().delete("/x").commit().await.expect_err("leads no longer");
    assert!(error.is_lost() && resource.admit(first.term()).is_err(), "{error}");
    let candidates = election(&a, "").candidates().await.expect("can be asked");
    let names: Vec<_> = candidates.iter().map(|candidate| candidate.name.as_str()).collect();
    assert_eq!(names, ["c", "b"], "b keeps its place");
    let c_term = c_leads.term();
    let Some(Observed::Following(leader)) = soon(seen.next()).await else { panic!("c leads") };
    assert_eq!((leader.name.as_str(), leader.term), ("c", c_term));
    c_leads.resign().await.expect("connected");

    // It came before the one that led last.
    let b_leads = leads(b_stands).await;
    resource.admit(b_leads.term()).expect("the newest");
    assert!(b_leads.term() > c_term);
    soon(async {
        loop {
            match seen.next().await.expect("the client lives") {
                Observed::Following(leader) if leader.term == b_leads.term() => break,
                Observed::Following(leader) => assert_eq!(leader.term, c_term),
                observed => assert_eq!(observed, Observed::NoLeader),
            }
        }
    })
    .await;
    drop(b_leads);
    until_children(&a, PATH, 0).await;
}

pub async fn a_cancelled_campaign_leaves_no_candidate(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    for n in 1.. {
        let leader = election(&a, "a").campaign().await.expect("nobody leads");
        let observer = a.clone();
        let handing_over = tokio::spawn(async move {
            until_children(&observer, PATH, 2).await;
            // It may be gone by then.
            let _ = leader.hand_over("b", SESSION_TIMEOUT / 4).await;
            drop(leader);
        });
        let done = soon(cancel_at(n, election(&b, "b").campaign())).await;
        let finished = done.is_some();
        drop(done);
        handing_over.abort();
        until_children(&a, PATH, 0).await;
        if finished {
            break;
        }
    }
}

pub async fn the_leaders_work_goes_on_until_it_is_done(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    let mut attempts = 0;
    let work = |leadership: Arc<Leadership>| {
        attempts += 1;
        let fails = attempts < 3;
        async move { if fails { Err("not yet") } else { Ok(leadership.term()) } }
    };
    let term = soon(election(&a, "a").run_as_leader(work)).await.expect("led");
    let next = election(&b, "b").campaign().await.expect("nobody leads: it has resigned");
    assert!(attempts == 3 && next.term() > term);
}

pub async fn work_of_a_leader_that_is_cut_off_is_dropped_before_another_leads(ground: &Ground) {
    /// Says when it is dropped.
    struct Dropped(mpsc::UnboundedSender<Instant>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send(Instant::now());
        }
    }
    let (a, b) = (ground.client().await, ground.unharmed_client().await);
    let (sender, mut dropped) = mpsc::unbounded_channel();
    let (begun, mut terms) = mpsc::unbounded_channel();
    let ours = election(&a, "a");
    let running = tokio::spawn(async move {
        let work = |leadership: Arc<Leadership>| {
            let dropped = Dropped(sender.clone());
            begun.send(leadership.term()).expect("the test listens");
            async move {
                let _dropped = dropped;
                std::future::pending::<Result<(), Error>>().await
            }
        };
        ours.run_as_leader(work).await
    });
    let term = soon(terms.recv()).await.expect("it works");
    let waiting = stands(&b, &b, "b", 1).await;
    ground.faults().proxy.close();
    let next = leads(waiting).await;
    let led_at = Instant::now();
    assert!(next.term() > term && soon(dropped.recv()).await.expect("dropped") <= led_at);
    // It is back, and works again in its turn.
    ground.faults().proxy.open();
    let later = next.term();
    until_children(&b, PATH, 2).await;
    next.resign().await.expect("connected");
    assert!(soon(terms.recv()).await.expect("it works again") > later);
    running.abort();
}

pub async fn a_hand_over_through_cuts_and_lost_replies_leaves_one_leader(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    let (observer, resource) = (ground.unharmed_client().await, Fence::new());
    let mut last = Zxid::ZERO;
    for round in 0..12 {
        let leader = soon(election(&a, "a").campaign()).await.expect("nobody leads");
        assert!(leader.term() > last, "round {round}");
        resource.admit(leader.term()).expect("the newest");
        let waiting = stands(&b, &observer, "b", 1).await;
        let (handed, ()) = tokio::join!(soon(leader.hand_over("b", SESSION_TIMEOUT)), async {
            tokio::time::sleep(Duration::from_millis(round / 2)).await;
            match round % 2 {
                0 => ground.faults().proxy.cut(),
                _ => ground.faults().proxy.lose_next_reply(),
            }
        });
        match handed {
            Ok(()) => {
                let next = leads(waiting).await;
                resource.admit(next.term()).expect("the newest");
                assert!(next.term() > leader.term(), "round {round}");
                last = next.term();
            }
            Err(error) => {
                assert!(matches!(error, Error::TimedOut { .. }), "round {round}: {error}");
                last = leader.term();
                leader.resign().await.expect("connected");
                drop(leads(waiting).await);
            }
        }
        until_children(&observer, PATH, 0).await;
    }
}
