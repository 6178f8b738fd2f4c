//! Who gets what, and how it changes hands.

use super::*;

#[tokio::test(start_paused = true)]
async fn items_are_divided_as_the_ring_says_each_with_a_token_of_its_own() {
    let zk = Coordinator::start();
    let members = divided(&zk, &["ann", "bob", "eve"]).await;
    let held = members.iter().map(|(_, member)| member.held.borrow().clone());
    let held: Vec<(String, Zxid)> = held.flatten().collect();
    let items: BTreeSet<_> = held.iter().map(|(item, _)| item).collect();
    let tokens: BTreeSet<_> = held.iter().map(|(_, token)| token).collect();
    assert_eq!((items.len(), tokens.len(), held.len()), (24, 24, 24));
}

#[tokio::test(start_paused = true)]
async fn when_a_member_dies_its_share_is_taken_over_in_time_and_nothing_else_moves() {
    let zk = Coordinator::start();
    let mut members = divided(&zk, &["ann", "bob", "eve"]).await;
    let (eve, dead) = members.pop().expect("three");
    let before: Vec<_> = members.iter().map(|(_, member)| member.held.borrow().clone()).collect();
    // Its last ping was answered a third of the timeout before this, at the earliest.
    zk.disconnect(&eve, Duration::from_secs(600));
    let died = Instant::now();
    for ((_, member), name) in members.iter_mut().zip(["ann", "bob"]) {
        member.until(&share(&["ann", "bob"], name)).await;
    }
    let within = died.elapsed();
    assert!(within <= eve.session().timeout() + TAKEN_OVER_WITHIN, "{within:?}");
    let orphaned = share(&["ann", "bob", "eve"], "eve");
    for ((_, member), before) in members.iter().zip(before) {
        let now = member.held.borrow().clone();
        for (item, token) in &now {
            let known = before.get(item);
            assert!(known == Some(token) || orphaned.contains(item), "{item} has moved");
        }
        assert!(before.iter().all(|(item, token)| now.get(item) == Some(token)), "it lost some");
    }
    assert!(dead.held.borrow().is_empty(), "it knew before");
}

#[tokio::test(start_paused = true)]
async fn when_a_member_comes_only_what_it_takes_moves() {
    let zk = Coordinator::start();
    let mut members = divided(&zk, &["ann", "bob"]).await;
    let client = zk.client().await;
    let mut newcomer = Obedient::start(join(&client, "eve"));
    let all = ["ann", "bob", "eve"];
    let taken = newcomer.until(&share(&all, "eve")).await;
    for ((client, member), name) in members.iter_mut().zip(all) {
        member.until(&share(&all, name)).await;
        client.close().await.expect("connected");
    }
    // Every item was assigned once before the newcomer came, or twice while the first two did.
    for (_, member) in members {
        let events = soon(member.task).await.expect("no panic");
        for (item, token) in &taken {
            let held = events.iter().filter(|event| event.1 == *item).filter_map(|event| event.2);
            assert!(held.max().is_none_or(|before| before < *token), "{item}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_waits_for_the_old_owner_however_long_it_takes() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let mut ann = join(&a, "ann");
    let mut of_ann = take(&mut ann, ITEMS as usize).await;
    let mut bob = join(&b, "bob");
    let moving = share(&["ann", "bob"], "bob");
    let revoked = async {
        let mut revoked = BTreeSet::new();
        while revoked.len() < moving.len() {
            match next(&mut ann).await {
                PartitionEvent::Revoked { item } => drop(revoked.insert(item.to_string())),
                event => panic!("{event:?}"),
            }
        }
        assert_eq!(revoked, moving);
    };
    tokio::select! {
        () = revoked => {}
        event = bob.next() => panic!("{event:?}"),
    }
    // She finishes what she is at, as long as it takes her.
    tokio::select! {
        () = silence(&mut ann, Duration::from_secs(300)) => {}
        event = bob.next() => panic!("{event:?}"),
    }
    a.create("/done", b"").await.expect("new");
    for item in &moving {
        let old = of_ann.remove(item).expect("hers");
        soon(old.revoked()).await;
        old.txn().set("/done", item).commit().await.expect("she holds it still");
        let token = old.token();
        old.release().await.expect("connected");
        let new = soon(async {
            tokio::select! {
                new = assigned(&mut bob) => new,
                event = ann.next() => panic!("{event:?}"),
            }
        });
        let new = new.await;
        assert_eq!(new.item(), item);
        assert!(new.token() > token);
        // It is his while this goes on.
        std::mem::forget(new);
    }
    let kept = of_ann.values().find(|kept| kept.revoked().now_or_never().is_some());
    assert!(kept.is_none(), "{kept:?} is hers");
}

#[tokio::test(start_paused = true)]
async fn one_that_leaves_hands_all_over_and_ends_when_all_is_dropped() {
    let zk = Coordinator::start();
    let mut members = divided(&zk, &["ann", "bob"]).await;
    let (_, mut bob) = members.pop().expect("two");
    let (_, ann) = members.pop().expect("two");
    ann.leave.send_replace(true);
    let events = soon(ann.task).await.expect("it ends");
    bob.until(&share(&["bob"], "bob")).await;
    let open =
        events.iter().fold(0_i32, |open, event| open + if event.2.is_some() { 1 } else { -1 });
    assert_eq!(open, 0, "everything was revoked");

    let client = zk.client().await;
    let mut eve = join(&client, "eve");
    let first = assigned(&mut eve).await;
    eve.leave();
    soon(async {
        loop {
            match eve.next().await {
                Some(PartitionEvent::Assigned(partition)) => drop(partition),
                Some(PartitionEvent::Revoked { item }) if *item == *first.item() => return,
                Some(PartitionEvent::Revoked { .. }) => {}
                event => panic!("{event:?}"),
            }
        }
    })
    .await;
    silence(&mut eve, Duration::from_secs(60)).await;
    soon(first.revoked()).await;
    first.release().await.expect("connected");
    assert!(soon(eve.next()).await.is_none());
    assert!(soon(eve.next()).await.is_none(), "and stays ended");
    assert_eq!(children(&client, "/jobs/members").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_given_up_unasked_comes_again_after_a_second() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let mut ann = join(&client, "ann");
    let mut held = take(&mut ann, ITEMS as usize).await;
    let (item, given_up) = held.pop_first().expect("24");
    let token = given_up.token();
    given_up.release().await.expect("connected");
    let since = Instant::now();
    let again = assigned(&mut ann).await;
    assert!(again.item() == item && again.token() > token);
    let rested = since.elapsed();
    let about = Duration::from_millis(900)..Duration::from_millis(1_100);
    assert!(about.contains(&rested), "{rested:?}");
}

#[tokio::test(start_paused = true)]
async fn an_item_that_comes_back_before_it_was_handed_over_is_given_up_first() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let mut ann = join(&a, "ann");
    let mut held = take(&mut ann, ITEMS as usize).await;
    let bob = Obedient::start(join(&b, "bob"));
    let moving = share(&["ann", "bob"], "bob");
    for _ in 0..moving.len() {
        assert!(matches!(next(&mut ann).await, PartitionEvent::Revoked { .. }));
    }
    bob.task.abort();
    until_children(&b, "/jobs/members", 1).await;
    silence(&mut ann, Duration::from_secs(30)).await;
    for item in &moving {
        let old = held.remove(item).expect("held");
        let token = old.token();
        drop(old);
        let again = assigned(&mut ann).await;
        assert!(again.item() == item && again.token() > token);
        held.insert(item.clone(), again);
    }
    assert_eq!(held.len(), ITEMS as usize);
}

#[tokio::test(start_paused = true)]
async fn of_two_members_under_one_name_the_later_one_has_the_items() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let mut first = Obedient::start(join(&a, "ann"));
    let all = share(&["ann"], "ann");
    first.until(&all).await;
    let mut second = Obedient::start(join(&b, "ann"));
    second.until(&all).await;
    first.until(&BTreeSet::new()).await;
    second.leave.send_replace(true);
    soon(second.task).await.expect("it ends");
    first.until(&all).await;
}

#[tokio::test(start_paused = true)]
async fn weights_say_who_gets_how_much() {
    let zk = Coordinator::start();
    let mut members = Vec::new();
    for (name, weight) in [("idle", 0), ("light", 1), ("heavy", 4)] {
        let client = zk.client().await;
        let weighted = partitioner(&client).with_weight(weight).expect("within bounds");
        members.push((name, Obedient::start(weighted.join(name).expect("valid")), client));
    }
    let ring = HashRing::of([("light", 1), ("heavy", 4)]).expect("within bounds");
    for (name, member, _) in &mut members {
        let items = (0..ITEMS).map(|item| item.to_string());
        let own: BTreeSet<_> = items.filter(|item| ring.owner(item) == Some(*name)).collect();
        member.until(&own).await;
    }
    assert!(members[2].1.held.borrow().len() > members[1].1.held.borrow().len());
}

#[tokio::test(start_paused = true)]
async fn a_member_without_a_weight_counts_as_one_and_other_children_are_passed_over() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let mut ann = Obedient::start(join(&a, "ann"));
    ann.until(&share(&["ann"], "ann")).await;
    let _bob = Group::new(&b, "/jobs/members").expect("valid").join("bob", "what?").await;
    b.create("/jobs/members/foreign", b"").await.expect("new");
    b.create("/jobs/items/foreign", b"").await.expect("new");
    b.create("/jobs/items/3/foreign", b"").await.expect("new");
    ann.until(&share(&["ann", "bob"], "ann")).await;
}

#[tokio::test(start_paused = true)]
async fn what_it_has_made_is_reaped_when_nobody_takes_part() {
    let zk = Coordinator::start();
    for (client, member) in divided(&zk, &["ann", "bob"]).await {
        member.leave.send_replace(true);
        soon(member.task).await.expect("it ends");
        client.close().await.expect("connected");
    }
    // The items, what they are below of, and what that is below of.
    (0..3).for_each(|_| zk.reap());
    let client = zk.client().await;
    assert_eq!(client.exists(PATH).await.expect("connected"), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_valid_is_refused_by_name() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    for item in ["", "a/b", "..", "\u{7}"] {
        let error = Partitioner::new(&client, PATH, [item]).expect_err("no part of a path");
        assert!(matches!(error, Error::Client(_)), "{error}");
    }
    let count = u32::try_from(ITEMS_MAX).expect("small") + 1;
    let error = Partitioner::numbered(&client, PATH, count).expect_err("too many").to_string();
    assert!(error.contains("16385") && error.contains("at most 16384"), "{error}");
    assert!(Partitioner::numbered(&client, PATH, count - 1).is_ok());
    let error = partitioner(&client).with_weight(WEIGHT_MAX + 1).expect_err("too heavy");
    assert!(error.to_string().contains("0 to 100"), "{error}");
    let error = partitioner(&client).join("a/b").expect_err("no part of a path").to_string();
    assert!(error.contains("a/b"), "{error}");
}
