//! Persistent nodes, and standing memberships, under virtual time, with faults.

use std::time::Duration;

use crate::common::{cancel_at, children, soon, until_children};
use futures::{Stream, StreamExt};
use synod::guard::Released;
use synod::membership::GroupEvent;
use synod::persistent_node::NodeState;
use synod::testing::Coordinator;
use synod::{
    Acl, Client, Code, CreateMode, Error, EventKind, Group, Notice, PersistentNode, SessionEnd,
    Zxid,
};
use tokio::time::sleep;

const PARENT: &str = "/services/web";
const PATH: &str = "/services/web/one";

fn node(client: &Client, data: &str) -> PersistentNode {
    PersistentNode::create(client, PATH, data).expect("a valid path")
}

async fn present(node: &PersistentNode) -> Zxid {
    soon(node.present()).await.expect("the client lives")
}

/// Data and owner's session, of a znode that is there.
async fn there(client: &Client) -> (String, Option<synod::SessionId>) {
    let (data, stat) = client.get(PATH).await.expect("it is there");
    (String::from_utf8_lossy(&data).into_owned(), stat.ephemeral_owner)
}

/// Waits for a state of that kind.
async fn until<S>(states: &mut S, wanted: impl Fn(&NodeState) -> bool) -> NodeState
where
    S: Stream<Item = NodeState> + Unpin,
{
    soon(states.filter(|state| std::future::ready(wanted(state))).next()).await.expect("it comes")
}

async fn until_gone(client: &Client) {
    soon(async {
        while let (Some(_), changed) = client.exists(PATH).watched().await.expect("connected") {
            changed.await.expect("connected");
        }
    })
    .await;
}

/// Waits until nothing of the client's is still to be cleaned up.
async fn until_clean(client: &Client) {
    soon(async {
        while client.session().cleanups_reserved() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

fn is_present(state: &NodeState) -> bool {
    matches!(state, NodeState::Present { .. })
}

#[tokio::test(start_paused = true)]
async fn it_is_made_with_what_is_missing_above_it_and_removed_again() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let node = node(&a, "1");
    assert!(matches!(node.state(), NodeState::Absent));
    let token = present(&node).await;
    assert_eq!(there(&b).await, ("1".to_owned(), Some(a.session().id())));
    let state = node.state();
    assert!(
        matches!(&state, NodeState::Present { path, token: same } if **path == *PATH && *same == token),
        "{state:?}"
    );
    soon(node.update("2")).await.expect("connected");
    assert_eq!(there(&b).await.0, "2");
    assert_eq!(soon(node.remove()).await.expect("connected"), Released::Confirmed);
    assert_eq!(children(&b, PARENT).await, Vec::<String>::new());
    assert_eq!(a.session().cleanups_reserved(), 0);
}

#[tokio::test(start_paused = true)]
async fn it_is_restored_in_each_new_session_with_a_greater_token() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let node = node(&a, "1");
    let mut states = node.states();
    let mut token = present(&node).await;
    for silently in [false, true, false] {
        until(&mut states, is_present).await;
        if silently {
            // Nobody tells it: its deadline passes.
            zk.disconnect(&a, Duration::from_secs(60));
        } else {
            zk.expire(&a).await;
        }
        until(&mut states, |state| !is_present(state)).await;
        let later = present(&node).await;
        assert!(later > token, "{later} after {token}");
        token = later;
        let owner = there(&b).await.1;
        assert_eq!(owner, Some(a.session().id()));
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_restored_when_others_delete_or_overwrite_it_however_often() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let node = node(&a, "mine");
    let mut token = present(&node).await;
    for _ in 0..5 {
        let mut watch = b.watch(PATH).await.expect("connected");
        b.delete(PATH).await.expect("it is there");
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let Some(Notice::Event(event)) = soon(watch.next()).await else { panic!("connected") };
            seen.push(event.kind);
        }
        assert_eq!(seen, [EventKind::Deleted, EventKind::Created]);
        let later = present(&node).await;
        assert!(later > token);
        token = later;

        b.set(PATH, b"theirs").await.expect("it is there");
        soon(async {
            loop {
                let ((data, _), changed) = b.get(PATH).watched().await.expect("it is there");
                if data == "mine" {
                    break;
                }
                changed.await.expect("connected");
            }
        })
        .await;
        assert_eq!(present(&node).await, token, "the same znode, written to");
    }
    drop(node);
    until_gone(&b).await;
}

#[tokio::test(start_paused = true)]
async fn data_that_is_wanted_while_nobody_can_be_reached_is_written_later() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let node = node(&a, "1");
    present(&node).await;
    for (away_s, data) in [(2, "2"), (60, "3")] {
        zk.disconnect(&a, Duration::from_secs(away_s));
        let mut states = node.states();
        until(&mut states, |state| matches!(state, NodeState::Uncertain)).await;
        soon(node.update(data)).await.expect("the client lives");
        assert_eq!(there(&b).await, (data.to_owned(), Some(a.session().id())));
    }
    // Cancelled, it is written all the same.
    for n in 1.. {
        let data = format!("cancelled {n}");
        let done = cancel_at(n, node.update(&data)).await;
        present(&node).await;
        assert_eq!(there(&b).await.0, data);
        if done.is_some() {
            assert!(n > 1, "it was cancelled at least once");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_anothers_znode_to_go_and_never_deletes_it() {
    let zk = Coordinator::start();
    let (a, b, c) = (zk.client().await, zk.client().await, zk.client().await);
    let first = node(&a, "first");
    present(&first).await;
    for _ in 0..2 {
        let second = node(&b, "second");
        let state = until(&mut second.states(), |state| !matches!(state, NodeState::Absent)).await;
        let owner = Some(a.session().id());
        assert!(matches!(state, NodeState::Taken { owner: seen } if seen == owner), "{state:?}");
        // It goes by its handle, or its handle by it; both leave the first alone.
        drop(second);
        until_clean(&b).await;
        assert_eq!(there(&c).await.0, "first");
    }
    for after_ms in 0..8 {
        let second = node(&b, "second");
        sleep(Duration::from_millis(after_ms)).await;
        drop(second);
        until_clean(&b).await;
        assert_eq!(there(&c).await.0, "first", "dropped after {after_ms} ms");
    }
    let second = node(&b, "second");
    until(&mut second.states(), |state| matches!(state, NodeState::Taken { .. })).await;
    zk.disconnect(&a, Duration::from_secs(60));
    present(&second).await;
    assert_eq!(there(&c).await.1, Some(b.session().id()));
    // The first one is back in a new session, and waits in its turn.
    until(&mut first.states(), |state| matches!(state, NodeState::Taken { .. })).await;
    soon(second.remove()).await.expect("connected");
    present(&first).await;
    assert_eq!(there(&c).await, ("first".to_owned(), Some(a.session().id())));
}

#[tokio::test(start_paused = true)]
async fn a_persistent_znode_in_its_place_is_left_alone_too() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    for path in ["/services", PARENT, PATH] {
        b.create(path, b"old").await.expect("new");
    }
    let node = node(&a, "new");
    let state = until(&mut node.states(), |state| matches!(state, NodeState::Taken { .. })).await;
    assert!(matches!(state, NodeState::Taken { owner: None }), "{state:?}");
    b.delete(PATH).await.expect("it is there");
    present(&node).await;
    assert_eq!(there(&b).await.0, "new");
}

#[tokio::test(start_paused = true)]
async fn two_of_one_session_at_one_path_take_turns() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let first = node(&client, "1");
    present(&first).await;
    let second = node(&client, "2");
    until(&mut second.states(), |state| matches!(state, NodeState::Taken { .. })).await;
    assert_eq!(there(&client).await.0, "1", "the same session is not the same owner");
    drop(first);
    present(&second).await;
    assert_eq!(there(&client).await.0, "2");
    assert_eq!(client.session().cleanups_reserved(), 1);
}

/// Puts another znode in its place, in one step.
async fn replace(client: &Client) {
    let txn = client.txn().delete(PATH);
    let txn = txn.create_as(PATH, b"other", CreateMode::Ephemeral, Acl::open());
    txn.commit().await.expect("it is there");
}

#[tokio::test(start_paused = true)]
async fn one_that_was_replaced_waits_and_leaves_what_took_its_place_alone() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    for by in [&a, &b] {
        let node = node(&a, "mine");
        present(&node).await;
        replace(by).await;
        let state = until(&mut node.states(), |state| !is_present(state)).await;
        let state = match state {
            NodeState::Absent => {
                until(&mut node.states(), |state| !matches!(state, NodeState::Absent)).await
            }
            state => state,
        };
        let owner = by.session().id();
        assert!(
            matches!(state, NodeState::Taken { owner: Some(seen) } if seen == owner),
            "{state:?}"
        );
        assert_eq!(there(&b).await.0, "other");
        soon(node.remove()).await.expect("connected");
        assert_eq!(there(&b).await.0, "other");
        b.delete(PATH).await.expect("it is there");
    }
    // It has not heard of it yet when it goes.
    let node = node(&a, "mine");
    present(&node).await;
    zk.disconnect(&a, Duration::from_secs(2));
    a.session().disconnected().await;
    replace(&b).await;
    drop(node);
    until_clean(&a).await;
    assert_eq!(there(&b).await.0, "other");
}

#[tokio::test]
async fn one_that_was_replaced_within_its_session_goes_without_what_took_its_place() {
    let client = Client::connect("embedded:").await.expect("embedded");
    let node = node(&client, "mine");
    present(&node).await;
    // All of this is done before its task hears of it.
    replace(&client).await;
    drop(node);
    assert_eq!(there(&client).await.0, "other");
}

#[tokio::test(start_paused = true)]
async fn one_that_may_not_be_read_for_a_while_is_still_known_for_its_own() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    b.add_auth("digest", b"ann:secret").await.expect("any digest is accepted");
    let node = node(&a, "1");
    let token = present(&node).await;
    b.set_acl(PATH, Acl::creator()).await.expect("open");
    assert!(cancel_at(1, node.update("2")).await.is_none());
    until(&mut node.states(), |state| matches!(state, NodeState::Refused(_))).await;
    b.set_acl(PATH, Acl::open()).await.expect("its own");
    assert_eq!(present(&node).await, token);
    assert_eq!(there(&b).await.0, "2");
}

#[tokio::test(start_paused = true)]
async fn refusals_one_after_the_other_do_not_make_it_give_up() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    b.add_auth("digest", b"ann:secret").await.expect("any digest is accepted");
    b.create("/services", b"").await.expect("new");
    b.create(PARENT, b"").acl(Acl::creator()).await.expect("new");
    let node = node(&a, "1");
    let mut states = node.states();
    for _ in 0..20 {
        let state = until(&mut states, |state| matches!(state, NodeState::Refused(_))).await;
        let NodeState::Refused(error) = state else { unreachable!() };
        assert!(matches!(&error, Error::Client(error) if error.is(Code::NoAuth)), "{error}");
        sleep(Duration::from_secs(30)).await;
    }
    b.set_acl(PARENT, Acl::open()).await.expect("its own");
    // After the longest pause at the latest.
    tokio::time::timeout(Duration::from_secs(11), node.present())
        .await
        .expect("in time")
        .expect("the client lives");
    // A bad turn later on is overcome as well.
    b.set_acl(PARENT, Acl::creator()).await.expect("its own");
    zk.expire(&a).await;
    until(&mut states, |state| matches!(state, NodeState::Refused(_))).await;
    b.set_acl(PARENT, Acl::open()).await.expect("its own");
    present(&node).await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_or_a_lost_reply_keeps_it_from_nothing_whatever_request_it_falls_on() {
    for after_ms in 0..20 {
        for lose in [false, true] {
            let zk = Coordinator::start();
            let (a, b) = (zk.client().await, zk.client().await);
            let node = node(&a, "1");
            sleep(Duration::from_millis(after_ms)).await;
            match lose {
                true => zk.lose_next_reply(&a),
                false => zk.disconnect(&a, Duration::from_secs(1)),
            }
            sleep(Duration::from_secs(3)).await;
            let token = present(&node).await;
            let (_, stat) = b.get(PATH).await.expect("it is there");
            assert_eq!((stat.czxid, stat.ephemeral_owner), (token, Some(a.session().id())));
            // It is known for its own: it goes with its handle.
            assert_eq!(soon(node.remove()).await.expect("connected"), Released::Confirmed);
            assert!(b.exists(PATH).await.expect("connected").is_none(), "{after_ms} ms, {lose}");
            until_clean(&a).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_is_dropped_leaves_nothing_whenever_that_is() {
    for after_ms in 0..20 {
        for lose in [false, true] {
            let zk = Coordinator::start();
            let (a, b) = (zk.client().await, zk.client().await);
            if lose {
                zk.lose_next_reply(&a);
            }
            let node = node(&a, "1");
            sleep(Duration::from_millis(after_ms)).await;
            drop(node);
            until_clean(&a).await;
            sleep(Duration::from_secs(1)).await;
            assert!(b.exists(PATH).await.expect("connected").is_none(), "{after_ms} ms, {lose}");
            assert_eq!(zk.watch_count(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_removal_removes_in_the_background() {
    for n in 1.. {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let node = node(&a, "1");
        present(&node).await;
        let done = cancel_at(n, node.remove()).await;
        until_gone(&b).await;
        until_clean(&a).await;
        if done.is_some() {
            assert!(n > 2, "cancelled at {n} awaits only");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_cannot_reach_anyone_ends_with_the_session() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let node = node(&client, "1");
    present(&node).await;
    zk.disconnect(&client, Duration::from_secs(600));
    client.session().disconnected().await;
    let removed = soon(node.remove()).await.expect("no refusal");
    assert_eq!(removed, Released::WithSession(SessionEnd::DeadlinePassed));
}

#[test]
fn a_handle_dropped_outside_a_runtime_deletes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let client = runtime.block_on(Client::connect("embedded:")).expect("embedded");
    let node = runtime.block_on(async {
        let node = node(&client, "1");
        present(&node).await;
        node
    });
    // The runtime is there, but nobody drives it.
    drop(node);
    let left = futures::executor::block_on(children(&client, PARENT));
    assert!(left.is_empty(), "deleted by the drop itself");
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_its_client_and_says_so() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let node = node(&a, "1");
    present(&node).await;
    let mut states = node.states();
    a.close().await.expect("connected");
    until(&mut states, |state| matches!(state, NodeState::Ended)).await;
    assert!(soon(states.next()).await.is_none(), "nothing comes after the end");
    assert!(b.exists(PATH).await.expect("connected").is_none());
    let error = soon(node.update("2")).await.expect_err("nobody writes it");
    assert!(error.session_over(), "{error}");
    assert_eq!(soon(node.remove()).await.expect("gone already"), Released::Confirmed);
}

#[tokio::test(start_paused = true)]
async fn it_keeps_one_watch_and_one_place_however_much_happens() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let node = node(&a, "0");
    present(&node).await;
    for n in 0..10 {
        soon(node.update(format!("{n}"))).await.expect("connected");
        b.set(PATH, b"theirs").await.expect("it is there");
        present(&node).await;
        b.delete(PATH).await.expect("it is there");
        present(&node).await;
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!((zk.watch_count(), a.session().cleanups_reserved()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn data_that_is_too_large_is_refused_at_once() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let large = vec![0; synod::model::limits::DATA_BYTES_MAX + 1];
    let invalid = |error: &Error| {
        matches!(error, Error::Client(synod::model::Error::Invalid { what: "size of data", .. }))
    };
    let error = PersistentNode::create(&client, PATH, &large).expect_err("too large");
    assert!(invalid(&error), "{error}");
    let node = node(&client, "1");
    let error = node.update(&large).await.expect_err("too large");
    assert!(invalid(&error), "{error}");
    present(&node).await;
    assert_eq!(there(&client).await.0, "1");
}

#[tokio::test(start_paused = true)]
async fn a_standing_member_joins_again_in_each_session_and_after_a_deletion() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let group = |client| Group::new(client, "/workers").expect("valid");
    let mut watch = group(&b).watch();
    let member = group(&a).join_standing("a", "1").expect("a valid name");
    let mut next = async || loop {
        match soon(watch.next()).await.expect("the client lives") {
            GroupEvent::Settled => {}
            event => return event,
        }
    };
    let GroupEvent::Joined(first) = next().await else { panic!("it joins") };
    assert_eq!((first.name.as_str(), &first.metadata[..]), ("a", &b"1"[..]));
    soon(member.update("2")).await.expect("connected");
    let GroupEvent::Changed(second) = next().await else { panic!("it changes") };
    assert_eq!((second.token, &second.metadata[..]), (first.token, &b"2"[..]));

    zk.expire(&a).await;
    assert_eq!(next().await, GroupEvent::Left(second.clone()));
    let GroupEvent::Joined(third) = next().await else { panic!("it joins again") };
    assert!(third.token > second.token);
    assert_eq!((third.session, &third.metadata[..]), (Some(a.session().id()), &b"2"[..]));

    let NodeState::Present { path, .. } = member.state() else { panic!("it is there") };
    b.delete(&path).await.expect("forced");
    loop {
        match next().await {
            GroupEvent::Left(_) => {}
            GroupEvent::Joined(fourth) | GroupEvent::Changed(fourth) => {
                assert!(fourth.token > third.token);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    member.remove().await.expect("connected");
    until_children(&b, "/workers", 0).await;
    let error = group(&a).join_standing("a/b", "").expect_err("not a name");
    assert!(matches!(error, Error::Client(synod::model::Error::Invalid { .. })), "{error}");
}
