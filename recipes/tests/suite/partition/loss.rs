//! Sessions that end, connections that break, requests that are refused, futures that are dropped.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_cut_off_member_knows_of_its_losses_before_another_holds_its_items() {
    let zk = Coordinator::start();
    let mut members = divided(&zk, &["ann", "bob"]).await;
    let (b, bob) = members.pop().expect("two");
    let (a, mut ann) = members.pop().expect("two");
    zk.disconnect(&b, Duration::from_secs(600));
    let all = share(&["ann"], "ann");
    ann.until(&all).await;
    a.close().await.expect("connected");
    b.close().await.expect("its session is over");
    let (ann, bob) = (soon(ann.task).await.expect("no panic"), soon(bob.task).await);
    let bob = bob.expect("no panic");
    for item in share(&["ann", "bob"], "bob") {
        let last = |events: &[Event], held: bool| {
            let is_last = |event: &&Event| event.1 == item && event.2.is_some() == held;
            events.iter().rfind(is_last).cloned()
        };
        let (lost, held) = (last(&bob, false).expect("lost"), last(&bob, true).expect("held"));
        let taken = last(&ann, true).expect("taken over");
        assert!(lost.0 <= taken.0 && held.2 < taken.2, "{lost:?} {taken:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_cut_moves_nothing() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let mut ann = join(&a, "ann");
    let held = take(&mut ann, ITEMS as usize).await;
    zk.disconnect(&a, Duration::from_secs(3));
    silence(&mut ann, Duration::from_secs(60)).await;
    assert_eq!(held.len(), ITEMS as usize);
    assert_eq!(
        Group::new(&b, "/jobs/members").expect("valid").members().await.map_or(0, |m| m.len()),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn after_an_expiry_all_is_lost_and_comes_again_when_the_old_has_been_dropped() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let mut ann = join(&client, "ann");
    let mut held = take(&mut ann, ITEMS as usize).await;
    // Again and again: taking part is never given up.
    for _ in 0..3 {
        let old = client.session().id();
        zk.expire(&client).await;
        for _ in 0..ITEMS {
            match next(&mut ann).await {
                PartitionEvent::Lost { item, loss } => {
                    let gone = SessionEnd::Expired;
                    assert_eq!(loss.reason, LossReason::SessionOver(gone));
                    assert_eq!(held.get(&*item).map(|held| held.token()), Some(loss.token));
                }
                event => panic!("{event:?}"),
            }
        }
        silence(&mut ann, Duration::from_secs(30)).await;
        let (item, one) = held.pop_first().expect("24");
        drop(one);
        let again = assigned(&mut ann).await;
        assert!(again.item() == item && again.session().id() != old);
        silence(&mut ann, Duration::from_secs(30)).await;
        held.clear();
        held = take(&mut ann, ITEMS as usize - 1).await;
        held.insert(item, again);
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_client_is_closed_all_is_lost_and_it_ends() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let mut ann = join(&client, "ann");
    let mut held = take(&mut ann, ITEMS as usize).await;
    client.close().await.expect("connected");
    for _ in 0..ITEMS {
        match next(&mut ann).await {
            PartitionEvent::Lost { item, loss } => {
                assert_eq!(loss.reason, LossReason::SessionOver(SessionEnd::Closed));
                drop(held.remove(&*item).expect("held"));
            }
            event => panic!("{event:?}"),
        }
    }
    assert!(soon(ann.next()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_dropped_leaves_and_what_it_handed_out_is_revoked_and_kept() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let mut ann = join(&a, "ann");
    let mut held = take(&mut ann, ITEMS as usize).await;
    let bob = Obedient::start(join(&b, "bob"));
    let (item, kept) = held.pop_first().expect("24");
    assert!(kept.revoked().now_or_never().is_none());
    drop(held);
    drop(ann);
    soon(kept.revoked()).await;
    until_children(&b, "/jobs/members", 1).await;
    let mut bob = bob;
    let mut others = share(&["bob"], "bob");
    others.remove(&item);
    bob.until(&others).await;
    assert!(timeout(Duration::from_secs(300), kept.lost()).await.is_err(), "it is hers still");
    drop(kept);
    bob.until(&share(&["bob"], "bob")).await;
    assert_eq!(a.session().cleanups_reserved(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_item_whose_znode_is_deleted_is_lost_and_comes_again() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let mut ann = join(&a, "ann");
    let mut held = take(&mut ann, ITEMS as usize).await;
    b.delete(held["7"].path()).await.expect("forced");
    match next(&mut ann).await {
        PartitionEvent::Lost { item, loss } => {
            assert_eq!((&*item, loss.reason), ("7", LossReason::Removed));
        }
        event => panic!("{event:?}"),
    }
    let old = held.remove("7").expect("held");
    let token = old.token();
    drop(old);
    let again = assigned(&mut ann).await;
    assert!(again.item() == "7" && again.token() > token);
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_znode_is_deleted_hands_all_over_and_takes_part_again() {
    let zk = Coordinator::start();
    let mut members = divided(&zk, &["ann", "bob"]).await;
    let group = Group::new(&zk.client().await, "/jobs/members").expect("valid");
    let observer = zk.client().await;
    for name in children(&observer, "/jobs/members").await {
        if name.ends_with("-ann") {
            observer.delete(format!("/jobs/members/{name}")).await.expect("forced");
        }
    }
    let shares = [share(&["ann", "bob"], "ann"), share(&["ann", "bob"], "bob")];
    let (_, ann) = &mut members[0];
    ann.until(&BTreeSet::new()).await;
    for ((_, member), share) in members.iter_mut().zip(&shares) {
        member.until(share).await;
    }
    assert_eq!(group.members().await.expect("connected").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_cannot_be_had_is_told_of_and_keeps_no_other_from_being_assigned() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    for path in ["/jobs", "/jobs/items", "/jobs/items/7"] {
        a.create(path, b"").await.expect("new");
    }
    zk.set_sequence("/jobs/items/7", i32::MAX).expect("it exists");
    let mut ann = join(&a, "ann");
    let (mut held, mut failed) = (Vec::new(), 0);
    while held.len() < ITEMS as usize - 1 || failed < 3 {
        match next(&mut ann).await {
            PartitionEvent::Assigned(partition) => held.push(partition),
            PartitionEvent::Failed { item, error } => {
                assert_eq!(item.as_deref(), Some("7"));
                assert!(matches!(error, Error::SequenceExhausted { .. }), "{error}");
                failed += 1;
            }
            event => panic!("{event:?}"),
        }
    }
    b.delete("/jobs/items/7").await.expect("nobody is in line");
    let last = soon(async {
        loop {
            match ann.next().await {
                Some(PartitionEvent::Assigned(partition)) => return partition,
                Some(PartitionEvent::Failed { .. }) => {}
                event => panic!("{event:?}"),
            }
        }
    });
    assert_eq!(last.await.item(), "7");
}

#[tokio::test(start_paused = true)]
async fn a_group_that_cannot_be_joined_is_told_of_and_joined_when_it_can() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    // An ephemeral znode can have no children.
    b.create("/jobs", b"").ephemeral().await.expect("new");
    let mut ann = join(&a, "ann");
    for _ in 0..3 {
        match next(&mut ann).await {
            PartitionEvent::Failed { item: None, .. } => {}
            event => panic!("{event:?}"),
        }
    }
    b.close().await.expect("connected");
    let first = soon(async {
        loop {
            match ann.next().await {
                Some(PartitionEvent::Assigned(partition)) => return partition,
                Some(PartitionEvent::Failed { .. }) => {}
                event => panic!("{event:?}"),
            }
        }
    });
    assert!(first.await.token() > Zxid::ZERO);
}

#[tokio::test(start_paused = true)]
async fn asking_may_be_cancelled_at_any_await_and_nothing_is_lost() {
    let mut cancelled = 0;
    for n in 1.. {
        let zk = Coordinator::start();
        let client = zk.client().await;
        let mut ann = Partitioner::new(&client, PATH, ["eu", "us"])
            .expect("valid")
            .join("ann")
            .expect("valid");
        let mut held = BTreeMap::new();
        // Dropped and asked anew, each time after `n` awaits.
        soon(async {
            while held.len() < 2 {
                match cancel_at(n, ann.next()).await {
                    Some(Some(PartitionEvent::Assigned(one))) => {
                        drop(held.insert(one.item().to_owned(), one))
                    }
                    Some(event) => panic!("{event:?}"),
                    None => {
                        cancelled += 1;
                        sleep(Duration::from_millis(1)).await;
                    }
                }
            }
        })
        .await;
        silence(&mut ann, Duration::from_secs(10)).await;
        // And given up after `n` awaits, in the middle of whatever it is.
        let other = zk.client().await;
        let mut bob = Partitioner::new(&other, PATH, ["eu", "us"])
            .expect("valid")
            .join("bob")
            .expect("valid");
        let asked = async {
            loop {
                drop(bob.next().await);
            }
        };
        let obeying = async {
            while let Some(event) = ann.next().await {
                if let PartitionEvent::Revoked { item } = event {
                    // Not at once, so that the other one waits.
                    sleep(Duration::from_millis(20)).await;
                    drop(held.remove(&*item).expect("held"));
                }
            }
        };
        tokio::select! {
            _ = timeout(Duration::from_secs(60), cancel_at(n, asked)) => {}
            () = obeying => panic!("it goes on"),
        }
        drop(bob);
        drop((ann, held));
        let observer = zk.client().await;
        for parent in ["/jobs/members", "/jobs/items/eu", "/jobs/items/us"] {
            until_children(&observer, parent, 0).await;
        }
        soon(async {
            let reserved = |client: &Client| client.session().cleanups_reserved();
            while reserved(&client) + reserved(&other) + zk.watch_count() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        if n > 40 {
            break;
        }
    }
    assert!(cancelled > 40, "cancelled {cancelled} times only");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_release_gives_up_in_the_background() {
    for n in 1.. {
        let zk = Coordinator::start();
        let client = zk.client().await;
        let mut ann =
            Partitioner::new(&client, PATH, ["eu"]).expect("valid").join("ann").expect("valid");
        let held = assigned(&mut ann).await;
        drop(ann);
        let done = cancel_at(n, held.release()).await;
        until_children(&client, "/jobs/items/eu", 0).await;
        if done.is_some() {
            assert!(n > 1, "it was cancelled at least once");
            break;
        }
    }
}
