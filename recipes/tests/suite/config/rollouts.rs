//! Staged roll-outs.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use serde_json::json;
use synod::config::{ConfigStore, Report, Rollout};
use synod::testing::Coordinator;
use synod::{Client, Config, Error, If};
use tokio::time::sleep;

use super::{Limits, careless, limits, open, store};
use crate::common::{cancel_at, soon};

/// Ten instances that run version 1, and one without a name.
async fn fleet(zk: &Coordinator) -> (ConfigStore<Limits>, Vec<(Client, Config<Limits>)>) {
    let store = store(&zk.client().await);
    store.publish(&limits(1), If::Absent).await.expect("valid");
    let mut fleet = Vec::new();
    for number in 0..10 {
        let client = zk.client().await;
        let config = open(&client).instance(&format!("node-{number}")).await.expect("valid");
        fleet.push((client, config));
    }
    let client = zk.client().await;
    let nameless = open(&client).await.expect("valid");
    fleet.push((client, nameless));
    (store, fleet)
}

fn running(fleet: &[(Client, Config<Limits>)]) -> Vec<u64> {
    fleet.iter().map(|(_, config)| config.current().version).collect()
}

async fn reported(store: &ConfigStore<Limits>, done: impl Fn(&[Report]) -> bool) -> Vec<Report> {
    soon(async {
        loop {
            let reports = store.reports().await.expect("connected");
            if done(&reports) {
                return reports;
            }
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_version_goes_to_some_instances_first_and_to_all_when_it_is_promoted() {
    let zk = Coordinator::start();
    let (store, fleet) = fleet(&zk).await;
    let publish = store.publish(&limits(2), If::Version(1)).to_percent(30);
    assert_eq!(publish.to_instances(["node-9"]).await.expect("valid"), 2);
    let status = store.status().await.expect("published");
    let rollout = Rollout { version: 2, percent: 30, instances: vec!["node-9".into()] };
    assert_eq!((status.current, status.last, status.rollout.as_ref()), (1, 2, Some(&rollout)));
    sleep(Duration::from_secs(1)).await;
    let expected = |rollout: &Rollout| -> Vec<u64> {
        let name = |number| format!("node-{number}");
        let mut all: Vec<u64> =
            (0..10).map(|number| 1 + u64::from(rollout.takes(&name(number)))).collect();
        // Without a name it waits.
        all.push(1);
        all
    };
    assert_eq!(running(&fleet), expected(&rollout));
    let (early, late) = (expected(&rollout), vec![2; 11]);
    assert!(early[9] == 2 && early.contains(&1), "{early:?}");
    store.widen(2, 70).await.expect("under way");
    sleep(Duration::from_secs(1)).await;
    let wider = Rollout { percent: 70, ..rollout };
    assert_eq!(running(&fleet), expected(&wider));
    assert!(running(&fleet).iter().zip(&early).all(|(now, before)| now >= before));
    store.promote(2).await.expect("under way");
    for (_, config) in &fleet {
        assert_eq!(soon(config.wait_for(2)).await.expect("valid").value, limits(2));
    }
    assert_eq!(running(&fleet), late);
    assert_eq!(store.status().await.expect("published").rollout, None);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_version_is_left_by_those_who_ran_it_and_stays_in_the_history() {
    let zk = Coordinator::start();
    let (store, fleet) = fleet(&zk).await;
    store.publish(&limits(2), If::Any).to_instances(["node-3"]).await.expect("valid");
    let (_, early) = &fleet[3];
    soon(early.wait_for(2)).await.expect("valid");
    let mut changes = early.changes();
    store.abort(2).await.expect("under way");
    let change = soon(changes.next()).await.expect("a change").expect("valid");
    assert_eq!((change.version, change.value.rps), (1, 1));
    let reports = reported(&store, |all| all.iter().all(|it| it.running == 1)).await;
    assert_eq!(reports.len(), 10);
    let history = store.history().await.expect("connected");
    assert_eq!(history.iter().map(|record| record.version).collect::<Vec<_>>(), [2, 1]);
    // Its number is not given again.
    assert_eq!(store.publish(&limits(3), If::Version(1)).await.expect("valid"), 3);
    for (_, config) in &fleet {
        assert_eq!(soon(config.wait_for(3)).await.expect("valid").value, limits(3));
    }
}

#[tokio::test(start_paused = true)]
async fn instances_report_what_they_run_and_whether_it_was_valid() {
    let zk = Coordinator::start();
    let (store, fleet) = fleet(&zk).await;
    let reports = reported(&store, |all| all.len() == 10).await;
    assert!(reports.iter().all(|it| it.is_valid() && (it.running, it.offered) == (1, 1)));
    assert!(reports.is_sorted_by(|a, b| a.instance < b.instance));
    let other = careless(&fleet[0].0);
    let bad = other.publish(&json!({"rps": "hunter2"}), If::Any);
    bad.to_instances(["node-4"]).await.expect("it takes anything");
    let reports = reported(&store, |all| all.iter().any(|it| !it.is_valid())).await;
    let (bad, good): (Vec<_>, Vec<_>) = reports.iter().partition(|it| !it.is_valid());
    let [bad] = bad[..] else { panic!("{bad:?}") };
    assert_eq!((&*bad.instance, bad.running, bad.offered), ("node-4", 1, 2));
    let told = bad.fault.as_deref().expect("it says why");
    assert!(told.contains("key \"rps\"") && !told.contains("hunter2"), "{told}");
    assert!(good.iter().all(|it| it.running == 1 && it.offered == 1));
    let (_, config) = &fleet[4];
    let mut changes = config.changes();
    store.abort(2).await.expect("under way");
    reported(&store, |all| all.iter().all(Report::is_valid)).await;
    assert!(changes.next().now_or_never().is_none(), "what it runs has not changed");
}

#[tokio::test(start_paused = true)]
async fn a_report_lives_as_long_as_its_session_and_comes_again_with_the_next() {
    let zk = Coordinator::start();
    let (store, mut fleet) = fleet(&zk).await;
    reported(&store, |all| all.len() == 10).await;
    let (client, config) = &fleet[5];
    zk.expire(client).await;
    store.publish(&limits(2), If::Any).await.expect("valid");
    soon(config.wait_for(2)).await.expect("valid");
    reported(&store, |all| all.len() == 10 && all.iter().all(|it| it.running == 2)).await;
    // One that comes back before its old session has expired is told of once, by what is newer.
    zk.disconnect(client, Duration::from_secs(12));
    client.session().lost().await;
    store.publish(&limits(3), If::Any).await.expect("valid");
    reported(&store, |all| all.len() == 10 && all.iter().all(|it| it.running == 3)).await;
    fleet.truncate(8);
    reported(&store, |all| all.len() == 8).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_else_is_published_while_a_roll_out_is_under_way() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let store = store(&client);
    store.publish(&limits(1), If::Absent).await.expect("valid");
    let rule = |error: Error| {
        let Error::Conflict { rule, .. } = error else { panic!("{error:?}") };
        rule
    };
    for error in [
        store.promote(1).await.expect_err("none is under way"),
        store.abort(1).await.expect_err("none is under way"),
        store.widen(1, 10).await.expect_err("none is under way"),
    ] {
        assert_eq!(rule(error), "a roll-out of version 1 must be under way");
    }
    store.publish(&limits(2), If::Any).to_percent(0).await.expect("valid");
    for error in [
        store.publish(&limits(3), If::Any).await.expect_err("one is under way"),
        store.rollback(1).await.expect_err("one is under way"),
        store.publish(&limits(3), If::Any).to_percent(5).await.expect_err("one is under way"),
    ] {
        let told = "no roll-out must be under way, but that of version 2 is";
        assert_eq!(rule(error), told);
    }
    assert!(store.widen(2, 101).await.expect_err("too many").to_string().starts_with("invalid"));
    // However many are aborted, what applies is kept.
    for version in 2..=40 {
        store.abort(version).await.expect("under way");
        let publish = store.publish(&limits(3), If::Version(1)).to_percent(5);
        assert_eq!(publish.await.expect("valid"), version + 1);
    }
    let config = open(&client).await.expect("valid");
    assert_eq!((config.current().version, config.current().value.rps), (1, 1));
    assert_eq!(store.history().await.expect("connected").len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_promotion_whose_reply_is_lost_is_done_once() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let store = store(&client);
    store.publish(&limits(1), If::Absent).await.expect("valid");
    for version in 2..10 {
        store.publish(&limits(2), If::Any).to_percent(5).await.expect("valid");
        zk.lose_next_reply(&client);
        match version % 3 {
            0 => store.promote(version).await.expect("under way"),
            1 => store.abort(version).await.expect("under way"),
            _ => {
                store.widen(version, 50).await.expect("under way");
                let rollout = store.status().await.expect("published").rollout;
                assert_eq!(rollout.expect("under way").percent, 50);
                store.promote(version).await.expect("under way");
            }
        }
        assert_eq!(store.status().await.expect("published").rollout, None);
    }
}

/// How a roll-out goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Turn {
    Promote,
    Abort,
    Widen,
}

impl Turn {
    async fn take(self, store: &ConfigStore<Limits>) -> Result<(), Error> {
        match self {
            Turn::Promote => store.promote(2).await,
            Turn::Abort => store.abort(2).await,
            Turn::Widen => store.widen(2, 100).await,
        }
    }

    /// What it comes to: the version that applies, and the share that runs the other one.
    fn outcome(self) -> (u64, Option<u8>) {
        match self {
            Turn::Promote => (2, None),
            Turn::Abort => (1, None),
            Turn::Widen => (1, Some(100)),
        }
    }
}

/// Cancels it at its `n`-th wait, and does it again. Whether there was such a wait.
async fn cancelled_at(n: usize, turn: Turn, lost_reply: bool) -> bool {
    let zk = Coordinator::start();
    let (client, reader) = (zk.client().await, zk.client().await);
    let (store, other) = (store(&client), store(&reader));
    store.publish(&limits(1), If::Absent).await.expect("valid");
    store.publish(&limits(2), If::Any).to_percent(0).await.expect("valid");
    let config = open(&reader).instance("node-7").await.expect("valid");
    let outcome = async || {
        let status = other.status().await.expect("published");
        assert_eq!(status.last, 2, "nothing is published");
        (status.current, status.rollout.map(|rollout| rollout.percent))
    };
    if lost_reply {
        zk.lose_next_reply(&client);
    }
    let done = cancel_at(n, turn.take(&store)).await;
    let cancelled = done.is_none();
    done.unwrap_or(Ok(())).expect("under way");
    let before = outcome().await;
    assert!(before == turn.outcome() || cancelled && before == (1, Some(0)), "{n}: {before:?}");
    match turn.take(&store).await {
        Ok(()) => assert!(turn == Turn::Widen || before == (1, Some(0)), "{n}: {before:?}"),
        Err(Error::Conflict { .. }) => assert_ne!(turn, Turn::Widen),
        Err(error) => panic!("{error}"),
    }
    assert_eq!(outcome().await, turn.outcome());
    let runs = if turn == Turn::Abort { 1 } else { 2 };
    let running = soon(config.wait_for(runs)).await.expect("valid");
    assert_eq!((running.version, &running.value), (runs, &limits(runs as u32)));
    // Another goes on from there.
    if turn == Turn::Widen {
        other.promote(2).await.expect("under way");
    }
    other.publish(&limits(3), If::Any).await.expect("none is under way");
    assert_eq!(soon(config.wait_for(3)).await.expect("valid").value, limits(3));
    cancelled
}

#[tokio::test(start_paused = true)]
async fn a_promotion_an_abort_or_a_widening_that_is_cancelled_anywhere_is_done_or_not() {
    for turn in [Turn::Promote, Turn::Abort, Turn::Widen] {
        for (lost_reply, awaits) in [(false, 2), (true, 4)] {
            let mut n = 1;
            while cancelled_at(n, turn, lost_reply).await {
                n += 1;
            }
            assert!(n > awaits, "{turn:?} was cancelled at {} places only", n - 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_version_can_be_rolled_out_too() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let store = store(&client);
    store.publish(&limits(1), If::Absent).to_instances(["node-1"]).await.expect("valid");
    let early = open(&client).instance("node-1").await.expect("valid");
    assert_eq!(early.current().version, 1);
    let error = open(&client).instance("node-2").await.expect_err("nothing for it yet");
    assert!(matches!(error, Error::Unpublished { .. }), "{error}");
    store.promote(1).await.expect("under way");
    open(&client).instance("node-2").await.expect("valid");
}
