//! Cases of groups, persistent nodes and discovery for every ground, and with connections that break
//! and servers that are restarted.

use std::collections::BTreeMap;

use futures::StreamExt;
use synod::membership::{GroupEvent, GroupWatch};
use synod::{Client, Code, Discovery, Group, Instance, LossReason, PersistentNode};

use super::cases::{cancel_at, until_children};
use super::ground::{Ground, soon};

const PATH: &str = "/workers";
const NODE: &str = "/nodes/one";

fn group(client: &Client) -> Group {
    Group::new(client, PATH).expect("valid")
}

/// Follows the group until its members are those.
async fn until(watch: &mut GroupWatch, members: &[(&str, &str)]) {
    soon(async {
        loop {
            let seen = watch.members().map(|one| (one.name.as_str(), one.metadata.as_ref()));
            if seen.eq(members.iter().map(|(name, metadata)| (*name, metadata.as_bytes()))) {
                break;
            }
            while watch.next().await.expect("the client lives") != GroupEvent::Settled {}
        }
    })
    .await;
}

pub async fn members_are_seen_to_come_change_and_go(ground: &Ground) {
    let (a, b, c) = (ground.client().await, ground.client().await, ground.client().await);
    let mut watch = group(&c).watch();
    assert_eq!(soon(watch.next()).await, Some(GroupEvent::Settled), "an empty group");
    let first = group(&a).join("a", "1").await.expect("joins");
    let second = group(&b).join("b", "1").await.expect("joins");
    until(&mut watch, &[("a", "1"), ("b", "1")]).await;
    first.update("2").await.expect("a member");
    until(&mut watch, &[("a", "2"), ("b", "1")]).await;
    // It comes again before its old session is over.
    let again = group(&c).join("a", "3").await.expect("joins");
    assert!(again.token() > first.token());
    until(&mut watch, &[("a", "3"), ("b", "1")]).await;
    a.close().await.expect("connected");
    assert!(soon(first.lost()).await.token < again.token());
    second.leave().await.expect("connected");
    until(&mut watch, &[("a", "3")]).await;
    let seen = group(&c).members().await.expect("can be asked");
    assert_eq!((seen.len(), seen[0].token), (1, again.token()));
    c.delete(again.path()).await.expect("forced");
    until(&mut watch, &[]).await;
    assert_eq!(soon(again.lost()).await.reason, LossReason::Removed);
    assert!(again.update("4").await.expect_err("a member no longer").is_lost());
}

pub async fn a_cancelled_join_leaves_no_member(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    for n in 1.. {
        let done = soon(cancel_at(n, group(&b).join("b", ""))).await;
        let finished = done.is_some();
        drop(done);
        until_children(&a, PATH, 0).await;
        if finished {
            break;
        }
    }
}

pub async fn a_standing_member_that_is_told_something_and_cancelled_does_it_all_the_same(
    ground: &Ground,
) {
    let (a, b) = (ground.client().await, ground.client().await);
    let mut watch = group(&b).watch();
    for n in 1.. {
        let member = group(&a).join_standing("a", "0").expect("valid");
        let present = soon(cancel_at(n, member.present())).await;
        let updated = soon(cancel_at(n, member.update("1"))).await;
        until(&mut watch, &[("a", "1")]).await;
        let removed = soon(cancel_at(n, member.remove())).await;
        until(&mut watch, &[]).await;
        until_children(&b, PATH, 0).await;
        if present.is_some() && updated.is_some() && removed.is_some() {
            break;
        }
    }
}

/// Waits until the node has that data.
async fn until_data(client: &Client, data: &str) {
    soon(async {
        loop {
            match client.get(NODE).watched().await {
                Ok(((present, _), _)) if present == data => break,
                Ok((_, changed)) => drop(changed.await),
                Err(error) if error.is(Code::NoNode) => {
                    let (stat, made) = client.exists(NODE).watched().await.expect("can be asked");
                    if stat.is_none() {
                        drop(made.await);
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
}

pub async fn a_node_is_restored_until_it_is_removed(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    let node = PersistentNode::create(&a, NODE, "1").expect("valid");
    let mut token = soon(node.present()).await.expect("the client lives");
    for round in 0..5 {
        b.delete(NODE).await.expect("it is there");
        until_data(&b, "1").await;
        b.set(NODE, "theirs").await.expect("it is there");
        until_data(&b, "1").await;
        let later = soon(node.present()).await.expect("the client lives");
        assert!(later > token, "round {round}");
        token = later;
    }
    // A second one takes the place of the first when that is gone, and not before.
    let second = PersistentNode::create(&b, NODE, "2").expect("valid");
    soon(node.update("3")).await.expect("the client lives");
    until_data(&b, "3").await;
    soon(node.remove()).await.expect("connected");
    soon(second.present()).await.expect("the client lives");
    until_data(&a, "2").await;
    drop(second);
    until_children(&a, "/nodes", 0).await;
}

pub async fn instances_are_registered_followed_and_picked(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    let services = |client| Discovery::new(client, "/services").expect("valid");
    let provider = services(&b).provider("web").open().await.expect("can be read");
    let mut changes = provider.changes();
    let mut running = Vec::new();
    for (id, weight) in [("one", 3), ("two", 1)] {
        let instance = Instance::new(id, "x").with_weight(weight);
        let registration = services(&a).register("web", &instance).expect("valid");
        soon(registration.registered()).await.expect("the client lives");
        running.push(registration);
    }
    soon(async { while changes.next().await.expect("the client lives").len() != 2 {} }).await;
    let mut picked = BTreeMap::new();
    for instance in (0..40).filter_map(|_| provider.pick()) {
        *picked.entry(instance.id.clone()).or_insert(0) += 1;
    }
    assert_eq!(picked, [("one".to_owned(), 30), ("two".to_owned(), 10)].into());
    a.close().await.expect("connected");
    soon(async { while !changes.next().await.expect("the client lives").is_empty() {} }).await;
    assert!(provider.pick().is_none());
}

pub async fn a_member_that_is_cut_off_is_gone_and_knows(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.unharmed_client().await);
    let membership = group(&a).join("a", "").await.expect("joins");
    let standing = group(&a).join_standing("b", "").expect("valid");
    soon(standing.present()).await.expect("the client lives");
    let mut watch = group(&b).watch();
    until(&mut watch, &[("a", ""), ("b", "")]).await;
    ground.faults().proxy.close();
    let loss = soon(membership.lost()).await;
    assert!(matches!(loss.reason, LossReason::SessionOver(_)), "{loss}");
    until(&mut watch, &[]).await;
    ground.faults().proxy.open();
    // The standing one comes again, the other does not.
    until(&mut watch, &[("b", "")]).await;
    assert!(membership.update("late").await.expect_err("a member no longer").is_lost());
}

pub async fn a_standing_member_and_its_watcher_outlive_cuts_kills_and_restarts(ground: &Ground) {
    let (a, b, faults) = (ground.client().await, ground.client().await, ground.faults());
    let member = group(&a).join_standing("a", "0").expect("valid");
    let mut watch = group(&b).watch();
    for round in 1..=6 {
        match round % 4 {
            1 => faults.proxy.cut(),
            2 => faults.proxy.lose_next_reply(),
            3 if faults.durable => faults.restart().await,
            _ if faults.durable => {
                faults.kill().await;
                faults.start_again().await;
            }
            _ => {}
        }
        let round = round.to_string();
        soon(member.update(&round)).await.expect("the client lives");
        until(&mut watch, &[("a", &round)]).await;
    }
    member.remove().await.expect("connected");
    until(&mut watch, &[]).await;
    until_children(&b, PATH, 0).await;
}
