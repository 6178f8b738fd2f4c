//! Hand-over of a leadership, under virtual time, with faults.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{cancel_at, children, soon, until_children};
use futures::StreamExt;
use synod::election::{Leadership, Observed};
use synod::model::Perms;
use synod::testing::Coordinator;
use synod::{Acl, Client, Election, Error, Fence, LossReason, SessionEnd, Zxid};
use tokio::task::JoinHandle;
use tokio::time::sleep;

const PATH: &str = "/scheduler";
const LONG: Duration = Duration::from_secs(600);

fn election(client: &Client, name: &str) -> Election {
    Election::new(client, PATH).expect("a valid path").with_name(name)
}

type Campaign = JoinHandle<Result<Leadership, Error>>;

/// Starts a campaign and waits until it is in line behind `before` others.
async fn stands(zk: &Coordinator, client: &Client, name: &str, before: usize) -> Campaign {
    let election = election(client, name);
    let campaign = tokio::spawn(async move { election.campaign().await });
    until_children(&zk.client().await, PATH, before + 1).await;
    // It has looked at the line, and watches.
    sleep(Duration::from_millis(100)).await;
    campaign
}

async fn leads(campaign: Campaign) -> Leadership {
    soon(campaign).await.expect("no panic").expect("its turn")
}

/// A leader `a`, and `b`, `c` and so on behind it.
struct Line {
    zk: Coordinator,
    clients: Vec<Client>,
    leader: Leadership,
    waiting: Vec<Campaign>,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

async fn line(candidates: usize) -> Line {
    let zk = Coordinator::start();
    let mut clients = Vec::new();
    for _ in 0..candidates {
        clients.push(zk.client().await);
    }
    let leader = election(&clients[0], "a").campaign().await.expect("nobody leads");
    let mut waiting = Vec::new();
    for place in 1..candidates {
        waiting.push(stands(&zk, &clients[place], NAMES[place], place).await);
    }
    Line { zk, clients, leader, waiting }
}

/// The names of who stands, in line.
async fn names(client: &Client) -> Vec<String> {
    let candidates = election(client, "").candidates().await.expect("can be asked");
    candidates.into_iter().map(|candidate| candidate.name).collect()
}

#[tokio::test(start_paused = true)]
async fn the_named_candidate_leads_at_once_and_those_passed_over_later_in_growing_terms() {
    let Line { zk, clients, leader, mut waiting } = line(4).await;
    let observer = zk.client().await;
    let mut seen = election(&observer, "").observe();
    let Some(Observed::Following(_)) = soon(seen.next()).await else { panic!("a leads") };
    let watching = tokio::spawn(async move {
        let mut terms = Vec::new();
        while let Some(observed) = seen.next().await {
            match observed {
                Observed::Following(leader) => terms.push((leader.name, leader.term)),
                // Between two, in turn; by a hand-over there is no such time.
                Observed::NoLeader if !terms.is_empty() => {}
                other => panic!("{other:?}"),
            }
            if terms.len() == 3 {
                break;
            }
        }
        terms
    });
    sleep(Duration::from_secs(1)).await;
    soon(leader.hand_over("c", LONG)).await.expect("c stands");
    let loss = soon(leader.lost()).await;
    assert_eq!((loss.reason, loss.token), (LossReason::Removed, leader.term()));
    let error = leader.txn().delete("/x").commit().await.expect_err("leads no longer");
    assert!(error.is_lost(), "{error}");
    let c = leads(waiting.remove(1)).await;
    assert!(c.term() > leader.term());
    assert_eq!(names(&clients[0]).await, ["c", "b", "d"], "the others keep their places");

    let c_term = c.term();
    sleep(Duration::from_secs(1)).await;
    c.resign().await.expect("connected");
    let b = leads(waiting.remove(0)).await;
    assert!(b.term() > c_term, "{} came before {c_term}, and leads after it", b.term());
    let b_term = b.term();
    sleep(Duration::from_secs(1)).await;
    b.resign().await.expect("connected");
    let d = leads(waiting.remove(0)).await;
    assert!(d.term() > b_term);
    let observed = soon(watching).await.expect("no panic");
    let expected = [("c", c_term), ("b", b_term), ("d", d.term())];
    assert_eq!(observed, expected.map(|(name, term)| (name.to_owned(), term)));
}

#[tokio::test(start_paused = true)]
async fn terms_grow_through_hand_overs_in_any_order() {
    let Line { zk, clients, leader, waiting } = line(4).await;
    let resource = Fence::new();
    resource.admit(leader.term()).expect("the first");
    let mut waiting: Vec<_> = NAMES[1..].iter().copied().zip(waiting).collect();
    let (mut leader, mut name) = (leader, "a");
    for turn in 0..20 {
        // To the last, the first and the middle one in turn; the old leader stands again behind.
        let next = [2, 0, 1][turn % 3];
        let (to, campaign) = waiting.remove(next);
        let before = leader.term();
        soon(leader.hand_over(to, LONG)).await.unwrap_or_else(|error| panic!("{turn}: {error}"));
        let place = NAMES.iter().position(|other| *other == name).expect("known");
        let again = stands(&zk, &clients[place], name, 3).await;
        waiting.push((name, again));
        (leader, name) = (leads(campaign).await, to);
        assert!(leader.term() > before, "turn {turn}");
        resource.admit(leader.term()).expect("the newest");
        assert!(resource.admit(before).is_err());
    }
    // And in turn from then on.
    for (name, campaign) in waiting {
        let before = leader.term();
        leader.resign().await.expect("connected");
        leader = leads(campaign).await;
        assert!(leader.term() > before, "{name} leads in {} after {before}", leader.term());
    }
    drop(leader);
    until_children(&clients[0], PATH, 0).await;
}

#[tokio::test(start_paused = true)]
async fn one_passed_over_by_a_leader_that_it_never_saw_takes_a_new_term_all_the_same() {
    let Line { zk, clients, leader, mut waiting } = line(3).await;
    // All that happens is told to b when it is over: c leads, and is gone.
    zk.disconnect(&clients[1], Duration::from_secs(3));
    soon(leader.hand_over("c", LONG)).await.expect("c stands");
    let c = leads(waiting.remove(1)).await;
    let c_term = c.term();
    zk.expire(&clients[2]).await;
    let b = leads(waiting.remove(0)).await;
    assert!(b.term() > c_term, "{} after {c_term}", b.term());
    assert_eq!(b.session().id(), clients[1].session().id(), "it has stood all along");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_reply_is_lost_is_found_again() {
    let Line { zk, clients, leader, mut waiting } = line(3).await;
    soon(leader.hand_over("c", LONG)).await.expect("c stands");
    let c = leads(waiting.remove(1)).await;
    zk.lose_next_reply(&clients[1]);
    let c_term = c.term();
    c.resign().await.expect("connected");
    let b = leads(waiting.remove(0)).await;
    assert!(b.term() > c_term);
    let (_, stat) = clients[0].get(b.path()).await.expect("it is there");
    assert_eq!((stat.czxid, stat.ephemeral_owner), (b.term(), Some(clients[1].session().id())));
    assert_eq!(children(&clients[0], PATH).await, [b.path().name()]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_candidate_is_not_there_leads_on() {
    let Line { zk, clients, leader, mut waiting } = line(3).await;
    for name in ["nobody", "a"] {
        let error = soon(leader.hand_over(name, LONG)).await.expect_err("does not stand");
        assert!(
            matches!(&error, Error::NoCandidate { path, name: asked } if **path == *PATH && asked == name),
            "{error}"
        );
    }
    assert_eq!(leader.run(async { 7 }).await.expect("leads on"), 7);
    // One that dies after it was asked is no candidate either.
    zk.disconnect(&clients[2], Duration::from_secs(60));
    let error = soon(leader.hand_over("c", LONG)).await.expect_err("its session expires");
    assert!(matches!(&error, Error::NoCandidate { .. }), "{error}");
    assert_eq!(names(&clients[0]).await, ["a", "b"]);
    leader.run(async {}).await.expect("leads on");
    leader.resign().await.expect("connected");
    drop(leads(waiting.remove(0)).await);
    until_children(&clients[0], PATH, 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_offer_that_is_not_answered_in_time_is_void_for_ever() {
    let Line { zk, clients, leader, mut waiting } = line(2).await;
    zk.disconnect(&clients[1], Duration::from_secs(5));
    let within = Duration::from_secs(2);
    let error = soon(leader.hand_over("b", within)).await.expect_err("b is away");
    assert!(matches!(&error, Error::TimedOut { waited, .. } if *waited == within), "{error}");
    // It comes back within its session, reads the offer, and cannot take it.
    sleep(Duration::from_secs(120)).await;
    assert!(!waiting[0].is_finished());
    leader.run(async {}).await.expect("leads on");
    // The next offer is taken.
    soon(leader.hand_over("b", within)).await.expect("b is back");
    assert!(leads(waiting.remove(0)).await.term() > leader.term());
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_answers_at_the_last_moment_leads_or_never_does() {
    let mut timed_out = 0;
    for within_ms in 0..24 {
        let Line { zk, clients, leader, mut waiting } = line(2).await;
        zk.delay_next(&clients[1], Duration::from_millis(within_ms % 5));
        match soon(leader.hand_over("b", Duration::from_millis(within_ms))).await {
            Ok(()) => drop(leads(waiting.remove(0)).await),
            Err(error) => {
                assert!(matches!(error, Error::TimedOut { .. }), "{within_ms} ms: {error}");
                timed_out += 1;
                let leading = leader.run(sleep(Duration::from_secs(60))).await;
                leading.unwrap_or_else(|error| panic!("{within_ms} ms: {error}"));
            }
        }
    }
    assert!((3..22).contains(&timed_out), "timed out {timed_out} times");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_removed_by_force_has_not_handed_over() {
    let Line { zk, clients, leader, mut waiting } = line(2).await;
    zk.disconnect(&clients[1], Duration::from_secs(5));
    let (handed, ()) = tokio::join!(soon(leader.hand_over("b", LONG)), async {
        sleep(Duration::from_secs(1)).await;
        zk.client().await.delete(leader.path()).await.expect("it is there");
    });
    let error = handed.expect_err("b has not answered");
    assert!(error.is_lost() && !error.session_over(), "{error}");
    drop(leads(waiting.remove(0)).await);
}

#[tokio::test(start_paused = true)]
async fn who_was_handed_the_leadership_observes_it_as_its_own() {
    let Line { zk, leader, .. } = line(1).await;
    let client = zk.client().await;
    let own = election(&client, "b");
    let mut seen = own.observe();
    assert!(matches!(soon(seen.next()).await, Some(Observed::Following(_))));
    let (handed, b) = tokio::join!(
        async {
            until_children(&client, PATH, 2).await;
            leader.hand_over("b", LONG).await
        },
        soon(own.campaign())
    );
    handed.expect("b stands");
    let b = b.expect("handed over");
    let Some(Observed::Elected(leader)) = soon(seen.next()).await else { panic!("b leads") };
    assert_eq!((leader.name.as_str(), leader.term), ("b", b.term()));
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_stands_again_after_it_was_asked_is_asked_again() {
    let Line { zk, clients, leader, mut waiting } = line(2).await;
    // The session of the one that was asked expires; the same name stands in another.
    zk.disconnect(&clients[1], Duration::from_secs(60));
    let other = zk.client().await;
    let again = stands(&zk, &other, "b", 2).await;
    soon(leader.hand_over("b", LONG)).await.expect("another of that name");
    assert_eq!(leads(again).await.session().id(), other.session().id());
    assert!(soon(waiting.remove(0)).await.expect("no panic").is_err(), "its session is over");
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_or_a_lost_reply_leaves_one_leader_whatever_request_it_falls_on() {
    let mut handed = 0;
    for after_ms in 0..24 {
        for (who, lose) in [(0, false), (0, true), (1, false), (1, true)] {
            let Line { zk, clients, leader, mut waiting } = line(2).await;
            let (result, ()) =
                tokio::join!(soon(leader.hand_over("b", Duration::from_secs(4))), async {
                    sleep(Duration::from_millis(after_ms)).await;
                    match lose {
                        true => zk.lose_next_reply(&clients[who]),
                        false => zk.disconnect(&clients[who], Duration::from_secs(1)),
                    }
                });
            sleep(Duration::from_secs(60)).await;
            let case = format!("{after_ms} ms, {who}, {lose}: {result:?}");
            match result {
                Ok(()) => {
                    handed += 1;
                    assert!(waiting[0].is_finished(), "{case}");
                    let b = leads(waiting.remove(0)).await;
                    assert!(b.term() > leader.term(), "{case}");
                    b.run(async {}).await.expect("leads");
                    assert_eq!(names(&clients[0]).await, ["b"], "{case}");
                }
                Err(error) => {
                    assert!(!error.is_lost() && !waiting[0].is_finished(), "{case}");
                    leader.run(async {}).await.expect("leads on");
                    assert_eq!(names(&clients[0]).await, ["a", "b"], "{case}");
                }
            }
        }
    }
    assert!(handed > 80, "handed over {handed} times only");
}

#[tokio::test(start_paused = true)]
async fn cancelled_at_any_await_a_hand_over_leaves_one_leader() {
    let mut n = 0;
    loop {
        n += 1;
        let Line { zk: _zk, clients, leader, mut waiting } = line(2).await;
        let done = soon(cancel_at(n, leader.hand_over("b", LONG))).await;
        // What was under way comes to its end.
        sleep(Duration::from_secs(1)).await;
        let taken = waiting[0].is_finished();
        sleep(Duration::from_secs(120)).await;
        assert_eq!(waiting[0].is_finished(), taken, "at {n}: an old offer was taken");
        if taken {
            let b = leads(waiting.remove(0)).await;
            assert!(b.term() > leader.term());
            soon(leader.lost()).await;
            assert_eq!(names(&clients[0]).await, ["b"]);
        } else {
            leader.run(async {}).await.expect("leads on");
            leader.resign().await.expect("connected");
            drop(leads(waiting.remove(0)).await);
        }
        until_children(&clients[0], PATH, 0).await;
        assert!(clients[0].session().cleanups_reserved() <= 1);
        if done.is_some() {
            assert!(taken);
            break;
        }
    }
    assert!(n > 5, "cancelled at {n} awaits only");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_hand_over_takes_its_offer_back() {
    let Line { zk, clients, leader, waiting } = line(2).await;
    zk.disconnect(&clients[1], Duration::from_secs(5));
    let second = Duration::from_secs(1);
    let cancelled = tokio::time::timeout(second, leader.hand_over("b", LONG)).await;
    assert!(cancelled.is_err(), "b is away");
    leader.run(sleep(Duration::from_secs(60))).await.expect("leads on");
    assert!(!waiting[0].is_finished(), "it is back, and has read an offer that is void");
    assert_eq!(clients[0].session().cleanups_reserved(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_campaign_cancelled_while_it_is_handed_the_leadership_leaves_nobody_behind() {
    for lose_reply in [false, true] {
        let mut n = 0;
        loop {
            n += 1;
            let Line { zk, clients, leader, mut waiting } = line(2).await;
            let client = zk.client().await;
            let candidate = election(&client, "c");
            let (campaign, _) = tokio::join!(cancel_at(n, candidate.campaign()), async {
                sleep(Duration::from_secs(1)).await;
                if lose_reply {
                    zk.lose_next_reply(&client);
                }
                // It may be gone before it is asked, and while.
                leader.hand_over("c", Duration::from_secs(5)).await
            });
            let finished = campaign.is_some();
            drop((campaign, leader));
            // The election goes on.
            drop(leads(waiting.remove(0)).await);
            until_children(&clients[0], PATH, 0).await;
            soon(async {
                while client.session().cleanups_reserved() > 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
            if finished {
                break;
            }
        }
        assert!(n > 6, "cancelled at {n} awaits only");
    }
}

#[tokio::test(start_paused = true)]
async fn the_data_of_the_elections_znode_stays_what_it_is() {
    let Line { zk, clients, leader, mut waiting } = line(3).await;
    clients[0].set(PATH, b"about this election").await.expect("it is there");
    // It is written to while it is handed over, too.
    let (handed, ()) = tokio::join!(soon(leader.hand_over("c", LONG)), async {
        for n in 0..20 {
            zk.delay_next(&clients[2], Duration::from_millis(3));
            clients[0].set(PATH, format!("{n}")).await.expect("it is there");
        }
    });
    handed.expect("c stands");
    assert_eq!(clients[0].get(PATH).await.expect("it is there").0, &b"19"[..]);
    // That somebody has written there makes nobody lead twice, nor in an older term.
    let c = leads(waiting.remove(1)).await;
    clients[0].set(PATH, b"again").await.expect("it is there");
    c.run(async {}).await.expect("leads");
    let c_term = c.term();
    drop(c);
    assert!(leads(waiting.remove(0)).await.term() > c_term);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_may_not_write_the_elections_znode_is_not_handed_it() {
    let Line { zk: _zk, clients, leader, waiting } = line(2).await;
    clients[0].add_auth("digest", b"ann:secret").await.expect("any digest is accepted");
    let mut acl = Acl::creator();
    acl.extend(Acl::read_only());
    clients[0].set_acl(PATH, acl).await.expect("open");
    let error = soon(leader.hand_over("b", Duration::from_secs(60))).await.expect_err("refused");
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert!(!waiting[0].is_finished());
    leader.run(async {}).await.expect("leads on");
}

#[tokio::test(start_paused = true)]
async fn one_passed_over_that_may_not_write_the_elections_znode_stands_again_at_the_end() {
    let Line { zk, clients, leader, mut waiting } = line(3).await;
    soon(leader.hand_over("c", LONG)).await.expect("c stands");
    let c = leads(waiting.remove(1)).await;
    let last = stands(&zk, &zk.client().await, "d", 2).await;
    let perms = Perms(Perms::READ.0 | Perms::CREATE.0 | Perms::DELETE.0);
    clients[0].set_acl(PATH, vec![Acl::new(perms, "world", "anyone")]).await.expect("open");
    let c_term = c.term();
    c.resign().await.expect("connected");
    let d = leads(last).await;
    assert!(d.term() > c_term && !waiting[0].is_finished());
    let d_term = d.term();
    d.resign().await.expect("connected");
    let b = leads(waiting.remove(0)).await;
    assert!(b.term() > d_term);
    assert_eq!(children(&clients[0], PATH).await, [b.path().name()]);
}

#[tokio::test(start_paused = true)]
async fn what_is_proclaimed_while_it_is_handed_over_is_seen_until_then() {
    let Line { zk, clients, leader, mut waiting } = line(2).await;
    zk.disconnect(&clients[1], Duration::from_secs(5));
    let (handed, ()) = tokio::join!(soon(leader.hand_over("b", LONG)), async {
        sleep(Duration::from_secs(1)).await;
        leader.proclaim("still here").await.expect("leads");
    });
    handed.expect("offered again");
    let b = leads(waiting.remove(0)).await;
    let seen = election(&clients[0], "").leader().await.expect("can be asked").expect("b leads");
    assert_eq!((seen.name.as_str(), seen.term, seen.value), ("b", b.term(), None));
}

#[tokio::test(start_paused = true)]
async fn work_that_hands_over_goes_on_to_its_end() {
    let Line { zk: _zk, clients, leader, mut waiting } = line(2).await;
    let handed = leader.run(async {
        leader.hand_over("b", LONG).await.expect("b stands");
        sleep(Duration::from_secs(60)).await;
        "done"
    });
    assert_eq!(soon(handed).await.expect("it was its own wish"), "done");
    let b = leads(waiting.remove(0)).await;

    // The same within `run_as_leader`, which ends by it.
    let (third, next) = (election(&clients[0], "a"), election(&clients[1], "b"));
    let running = tokio::spawn(async move {
        let work = |leadership: Arc<Leadership>| async move {
            leadership.hand_over("b", LONG).await?;
            Ok::<Zxid, Error>(leadership.term())
        };
        third.run_as_leader(work).await
    });
    until_children(&clients[0], PATH, 2).await;
    let term = b.term();
    b.resign().await.expect("connected");
    let b = soon(next.campaign()).await.expect("handed over");
    let term_between = soon(running).await.expect("no panic").expect("led");
    assert!(term < term_between && term_between < b.term());
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_that_fails_leaves_the_work_to_losses_again() {
    let Line { zk: _zk, clients, leader, .. } = line(2).await;
    let work = leader.run(async {
        let error = leader.hand_over("nobody", LONG).await.expect_err("does not stand");
        assert!(matches!(error, Error::NoCandidate { .. }), "{error}");
        std::future::pending::<()>().await
    });
    let (outcome, ()) = tokio::join!(soon(work), async {
        sleep(Duration::from_secs(1)).await;
        clients[1].delete(leader.path()).await.expect("forced");
    });
    assert!(outcome.expect_err("lost").is_lost());
    // Gone by force is not handed over.
    let error = leader.hand_over("b", LONG).await.expect_err("leads no longer");
    assert!(error.is_lost() && !error.session_over(), "{error}");

    let Line { zk: _zk, leader, clients, .. } = line(2).await;
    clients[0].close().await.expect("connected");
    let error = leader.hand_over("b", LONG).await.expect_err("its session is over");
    let Error::Lost(loss) = error else { panic!("{error}") };
    assert_eq!(loss.reason, LossReason::SessionOver(SessionEnd::Closed));
}
