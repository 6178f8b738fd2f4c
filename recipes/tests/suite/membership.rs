//! Groups under virtual time, with faults.

use std::time::Duration;

use crate::common::{cancel_at, children, soon, until_children};
use futures::StreamExt;
use synod::membership::{GroupEvent, GroupWatch, Member};
use synod::testing::Coordinator;
use synod::{Acl, Client, Error, Group, LossReason, SessionEnd};
use tokio::time::sleep;

const PATH: &str = "/workers";

fn group(client: &Client) -> Group {
    Group::new(client, PATH).expect("a valid path")
}

/// Names and metadata.
async fn members(client: &Client) -> Vec<(String, String)> {
    let members = soon(group(client).members()).await.expect("can be asked");
    members.iter().map(named).collect()
}

fn named(member: &Member) -> (String, String) {
    (member.name.clone(), String::from_utf8_lossy(&member.metadata).into_owned())
}

fn pair(name: &str, metadata: &str) -> (String, String) {
    (name.to_owned(), metadata.to_owned())
}

/// The next event, short: what happened, to whom, with which metadata.
async fn next(watch: &mut GroupWatch) -> String {
    match soon(watch.next()).await.expect("the client lives") {
        GroupEvent::Joined(member) => format!("+{} {}", named(&member).0, named(&member).1),
        GroupEvent::Changed(member) => format!("~{} {}", named(&member).0, named(&member).1),
        GroupEvent::Left(member) => format!("-{} {}", named(&member).0, named(&member).1),
        other => format!("{other:?}"),
    }
}

/// The events up to the next that is `Settled`.
async fn batch(watch: &mut GroupWatch) -> Vec<String> {
    let mut events = Vec::new();
    loop {
        match next(watch).await.as_str() {
            "Settled" => return events,
            event => events.push(event.to_owned()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn members_are_seen_by_name_with_what_they_say_of_themselves() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    assert_eq!(members(&b).await, [], "nobody has made the group yet");
    let second = group(&a).join("node-2", "4 cores").await.expect("joins");
    let first = group(&b).join("node-1", "8 cores").await.expect("joins");
    assert_eq!(second.name(), "node-2");
    assert!(first.token() > second.token());
    assert_eq!(members(&b).await, [pair("node-1", "8 cores"), pair("node-2", "4 cores")]);
    let seen = group(&b).members().await.expect("can be asked");
    assert_eq!((seen[1].token, seen[1].session), (second.token(), Some(a.session().id())));
    second.leave().await.expect("connected");
    assert_eq!(members(&b).await, [pair("node-1", "8 cores")]);
    drop(first);
    until_children(&a, PATH, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_member_is_one_only_while_its_session_lives() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let membership = group(&a).join("a", "").await.expect("joins");
    zk.disconnect(&a, Duration::from_secs(600));
    let loss = soon(membership.lost()).await;
    assert_eq!(loss.reason, LossReason::SessionOver(SessionEnd::DeadlinePassed));
    until_children(&b, PATH, 0).await;
    zk.heal(&a);
    // The next session of its client is no member by itself.
    a.pin().await.expect("a new session");
    let error = membership.update("late").await.expect_err("a member no longer");
    assert!(error.is_lost(), "{error}");
    assert_eq!(members(&b).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_join_leaves_no_member_whatever_await_it_was_at() {
    for (made, lost_reply) in [(false, false), (true, false), (true, true)] {
        let mut n = 0;
        loop {
            n += 1;
            let zk = Coordinator::start();
            let (a, b) = (zk.client().await, zk.client().await);
            if made {
                a.create(PATH, b"").await.expect("new");
            }
            if lost_reply {
                zk.lose_next_reply(&b);
            }
            let done = cancel_at(n, group(&b).join("b", "")).await;
            let finished = done.is_some();
            drop(done);
            until_children(&a, PATH, 0).await;
            soon(async {
                while b.session().cleanups_reserved() > 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
            if finished {
                break;
            }
        }
        assert!(n > if made { 1 } else { 4 }, "cancelled at {n} awaits only");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_makes_no_second_member() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    client.create(PATH, b"").await.expect("new");
    zk.lose_next_reply(&client);
    let membership = soon(group(&client).join("a", "1")).await.expect("known by its id");
    assert_eq!(children(&client, PATH).await, [membership.path().name()]);
    let (_, stat) = client.get(membership.path()).await.expect("it is there");
    assert_eq!(membership.token(), stat.czxid);
    zk.lose_next_reply(&client);
    soon(membership.update("2")).await.expect("done once or twice");
    assert_eq!(members(&client).await, [pair("a", "2")]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_who_joins_changes_and_leaves() {
    let zk = Coordinator::start();
    let (a, b, c) = (zk.client().await, zk.client().await, zk.client().await);
    let mut watch = group(&c).watch();
    assert_eq!(batch(&mut watch).await, Vec::<String>::new(), "an empty group is settled too");
    let first = group(&a).join("a", "1").await.expect("joins");
    assert_eq!(batch(&mut watch).await, ["+a 1"]);
    let second = group(&b).join("b", "1").await.expect("joins");
    assert_eq!(batch(&mut watch).await, ["+b 1"]);
    first.update("2").await.expect("a member");
    assert_eq!(batch(&mut watch).await, ["~a 2"]);
    assert_eq!(watch.members().map(named).collect::<Vec<_>>(), [pair("a", "2"), pair("b", "1")]);
    zk.expire(&a).await;
    assert_eq!(batch(&mut watch).await, ["-a 2"]);
    drop(second);
    assert_eq!(batch(&mut watch).await, ["-b 1"]);
    assert_eq!(watch.members().len(), 0);

    let mut late = group(&c).watch();
    let _third = group(&a).join("a", "3").await.expect("joins in a new session");
    assert_eq!(batch(&mut late).await, ["+a 3"], "a watch begins with who is there");
}

#[tokio::test(start_paused = true)]
async fn a_watch_says_that_it_does_not_know_while_it_is_disconnected_and_then_what_it_missed() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let stays = group(&a).join("stays", "1").await.expect("joins");
    let leaves = group(&a).join("leaves", "1").await.expect("joins");
    let mut watch = group(&b).watch();
    assert_eq!(batch(&mut watch).await, ["+leaves 1", "+stays 1"]);
    for over in [false, true] {
        zk.disconnect(&b, Duration::from_secs(if over { 60 } else { 2 }));
        assert_eq!(next(&mut watch).await, "Uncertain");
        stays.update(if over { "3" } else { "2" }).await.expect("a member");
        match over {
            false => drop(leaves.release().await.expect("connected")),
            true => drop(group(&a).join("comes", "1").await.expect("joins").leave().await),
        }
        assert_eq!(
            batch(&mut watch).await,
            if over { vec!["~stays 3"] } else { vec!["-leaves 1", "~stays 2"] },
            "no more than the difference"
        );
    }
    // A session that ends while nothing happens is no news of the members.
    zk.expire(&b).await;
    assert_eq!(batch(&mut watch).await, ["Uncertain"]);
    b.close().await.expect("connected");
    assert_eq!(next(&mut watch).await, "Uncertain");
    assert_eq!(soon(watch.next()).await, None, "it ends with the client");
}

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_when_the_groups_znode_is_gone_and_comes_again() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let mut watch = group(&b).watch();
    assert_eq!(next(&mut watch).await, "Settled");
    for _ in 0..3 {
        let membership = group(&a).join("a", "").await.expect("joins");
        assert_eq!(batch(&mut watch).await, ["+a "]);
        membership.leave().await.expect("connected");
        a.delete(PATH).await.expect("empty");
        assert_eq!(batch(&mut watch).await, ["-a "]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_comes_again_before_its_old_session_is_over_is_seen_once() {
    let zk = Coordinator::start();
    let (old, new, c) = (zk.client().await, zk.client().await, zk.client().await);
    let before = group(&old).join("a", "before").await.expect("joins");
    let mut watch = group(&c).watch();
    assert_eq!(batch(&mut watch).await, ["+a before"]);
    // The process is killed and started again; its old session lives on for a while.
    let after = soon(group(&new).join("a", "after")).await.expect("it does not wait");
    assert_eq!(batch(&mut watch).await, ["~a after"]);
    assert_eq!(members(&c).await, [pair("a", "after")]);
    zk.expire(&old).await;
    assert!(soon(before.lost()).await.token < after.token());
    until_children(&c, PATH, 1).await;
    after.update("later").await.expect("a member");
    assert_eq!(batch(&mut watch).await, ["~a later"], "the end of the old one is no news");
}

#[tokio::test(start_paused = true)]
async fn a_foreign_child_wedges_nobody() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    client.create(PATH, b"").await.expect("new");
    for name in ["readme", "_m_", "_m_short-a", &format!("_m_{}-", "0".repeat(36)), "_m_ü"] {
        client.create(format!("{PATH}/{name}"), b"").await.expect("new");
    }
    let mut watch = group(&client).watch();
    assert_eq!(batch(&mut watch).await, Vec::<String>::new());
    let _membership = group(&client).join("a", "").await.expect("joins");
    assert_eq!(batch(&mut watch).await, ["+a "]);
    assert_eq!(members(&client).await, [pair("a", "")]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_dropped_leaves_no_watch_whatever_await_it_was_at() {
    for n in 1.. {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let _first = group(&a).join("a", "").await.expect("joins");
        let _second = group(&a).join("b", "").await.expect("joins");
        let mut watch = group(&b).watch();
        let finished = cancel_at(n, watch.next()).await.is_some();
        if finished {
            assert_eq!(zk.watch_count(), 3, "the list, and each member");
        }
        drop(watch);
        soon(async {
            // A watch may be on its way.
            sleep(Duration::from_millis(10)).await;
            while zk.watch_count() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        if finished {
            assert!(n > 2, "dropped at {n} awaits only");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_next_event_was_not_waited_for_misses_nothing() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let mut watch = group(&b).watch();
    let mut seen = Vec::new();
    for n in 0..20 {
        let membership = group(&a).join(&format!("{n}"), "").await.expect("joins");
        for pending in 1..4 {
            seen.extend(cancel_at(pending, watch.next()).await.flatten());
        }
        if n % 2 == 0 {
            membership.leave().await.expect("connected");
        } else {
            std::mem::forget(membership);
        }
    }
    batch(&mut watch).await;
    batch(&mut watch).await;
    let told: Vec<Member> = watch.members().cloned().collect();
    assert_eq!(told, group(&a).members().await.expect("can be asked"));
    assert_eq!(told.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_removed_by_others_is_told_and_can_write_no_more() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    a.create("/work", b"").await.expect("new");
    let membership = group(&a).join("a", "").await.expect("joins");
    membership.txn().set("/work", b"1").commit().await.expect("a member");
    b.delete(membership.path()).await.expect("forced");
    let error = membership.update("2").await.expect_err("a member no longer");
    assert!(error.is_lost() && !error.session_over(), "{error}");
    let error = membership.txn().set("/work", b"2").commit().await.expect_err("no longer");
    assert!(error.is_lost(), "{error}");
    assert_eq!(soon(membership.lost()).await.reason, LossReason::Removed);
    assert_eq!(members(&b).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_no_part_of_a_path_is_refused() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    for name in ["", "a/b", "/", "a\n"] {
        let error = group(&client).join(name, "").await.expect_err("not a name");
        assert!(matches!(error, Error::Client(synod::model::Error::Invalid { .. })), "{error:?}");
    }
    let joined = group(&client).join("a-b.c ü-0000000001", "").await.expect("a name");
    assert_eq!(members(&client).await, [pair("a-b.c ü-0000000001", "")]);
    assert_eq!(client.session().cleanups_reserved(), 1);
    drop(joined);
}

#[tokio::test(start_paused = true)]
async fn a_group_in_a_namespace_stays_in_it() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let app = client.namespace("/app").expect("valid");
    let mut watch = group(&app).watch();
    assert_eq!(next(&mut watch).await, "Settled");
    let membership = group(&app).join("a", "1").await.expect("joins");
    assert_eq!(batch(&mut watch).await, ["+a 1"]);
    assert_eq!(children(&client, "/app/workers").await, [membership.path().name()]);
    assert_eq!(members(&app).await, [pair("a", "1")]);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_may_not_be_read_wedges_nobody() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    a.add_auth("digest", b"ann:secret").await.expect("any digest is accepted");
    let hidden = group(&a).join("hidden", "").await.expect("joins");
    let mut watch = group(&b).watch();
    assert_eq!(batch(&mut watch).await, ["+hidden "]);
    // What happens to it is not told any more; the list of children is.
    a.set_acl(hidden.path(), Acl::creator()).await.expect("its own");
    let mut late = group(&b).watch();
    assert_eq!(batch(&mut late).await, Vec::<String>::new());
    assert_eq!(members(&b).await, []);
    hidden.leave().await.expect("connected");
    assert_eq!(batch(&mut watch).await, ["-hidden "]);
    let _seen = group(&a).join("seen", "").await.expect("joins");
    assert_eq!(batch(&mut late).await, ["+seen "]);
}

#[test]
fn what_groups_are_asked_can_be_asked_in_any_task() {
    fn sent<T: Send>(_: &T) {}
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let client = runtime.expect("a runtime").block_on(Client::connect("embedded:"));
    let group = group(&client.expect("embedded"));
    sent(&group.members());
    sent(&group.join("a", ""));
    sent(&group.watch());
    assert_eq!(group.path().as_str(), PATH);
}
