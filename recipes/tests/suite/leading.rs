//! Work that only the leader does, under virtual time, with faults.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{cancel_at, soon, until_children};
use synod::election::{Leadership, StepDown};
use synod::testing::Coordinator;
use synod::{Acl, Client, Code, Election, Error, LossReason, SessionEnd, Zxid};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

const PATH: &str = "/scheduler";

fn election(client: &Client) -> Election {
    Election::new(client, PATH).expect("a valid path")
}

/// Work that tells the term that it began in, and goes on for ever.
fn endless(terms: &mpsc::UnboundedSender<Zxid>) -> impl FnMut(Arc<Leadership>) -> Endless {
    let terms = terms.clone();
    move |leadership| {
        terms.send(leadership.term()).expect("the test listens");
        Box::pin(std::future::pending())
    }
}

type Endless = std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

#[tokio::test(start_paused = true)]
async fn it_ends_with_what_the_work_returns_and_has_resigned_by_then() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let work = |leadership: Arc<Leadership>| async move {
        sleep(Duration::from_secs(60)).await;
        Ok::<_, Error>(leadership.term())
    };
    let term = soon(election(&a).run_as_leader(work)).await.expect("led");
    until_children(&b, PATH, 0).await;
    let next = soon(election(&b).campaign()).await.expect("nobody leads");
    assert!(next.term() > term);
    // An error that is to end it is a value as well.
    drop(next);
    let work = |_| async { Ok::<Result<(), &str>, Error>(Err("enough")) };
    assert_eq!(soon(election(&a).run_as_leader(work)).await.expect("led"), Err("enough"));
}

#[tokio::test(start_paused = true)]
async fn work_that_fails_resigns_and_is_begun_anew_in_its_turn() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let terms = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&terms);
    let ours = election(&a);
    let running = tokio::spawn(async move {
        ours.run_as_leader(|leadership| {
            let log = Arc::clone(&log);
            async move {
                sleep(Duration::from_secs(5)).await;
                let mut log = log.lock().expect("no panic");
                log.push(leadership.term());
                if log.len() < 3 { Err("not yet") } else { Ok(log.len()) }
            }
        })
        .await
    });
    until_children(&b, PATH, 1).await;
    let theirs = soon(election(&b).campaign()).await.expect("it has resigned");
    assert_eq!(terms.lock().expect("no panic").len(), 1);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(terms.lock().expect("no panic").len(), 1, "somebody else leads");
    theirs.resign().await.expect("connected");
    assert_eq!(soon(running).await.expect("no panic").expect("led"), 3);
    assert!(terms.lock().expect("no panic").is_sorted(), "terms grow");
}

#[tokio::test(start_paused = true)]
async fn a_loss_drops_the_work_and_leads_to_the_next_campaign() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let (sender, mut terms) = mpsc::unbounded_channel();
    let ours = election(&a);
    let running = tokio::spawn(async move { ours.run_as_leader(endless(&sender)).await });
    let mut last = Zxid::ZERO;
    for fault in 0..3 {
        let term = soon(terms.recv()).await.expect("it runs");
        assert!(term > last);
        last = term;
        match fault {
            // In the next session.
            0 => zk.expire(&a).await,
            1 => zk.disconnect(&a, Duration::from_secs(60)),
            // In the same one.
            _ => {
                let name = b.children(PATH).await.expect("it is there").remove(0);
                b.delete(format!("{PATH}/{name}")).await.expect("forced");
            }
        }
    }
    assert!(soon(terms.recv()).await.expect("it runs") > last);
    assert!(!running.is_finished());
    running.abort();
    until_children(&b, PATH, 0).await;
}

#[tokio::test(start_paused = true)]
async fn work_is_dropped_before_another_can_lead() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    /// Says when it is dropped.
    struct Dropped(mpsc::UnboundedSender<Instant>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send(Instant::now());
        }
    }
    let (sender, mut dropped) = mpsc::unbounded_channel();
    let ours = election(&a);
    let running = tokio::spawn(async move {
        ours.run_as_leader(|_| {
            let dropped = Dropped(sender.clone());
            async move {
                let _dropped = dropped;
                std::future::pending::<Result<(), Error>>().await
            }
        })
        .await
    });
    until_children(&b, PATH, 1).await;
    sleep(Duration::from_secs(1)).await;
    zk.disconnect(&a, Duration::from_secs(600));
    drop(soon(election(&b).campaign()).await.expect("the session expired"));
    assert!(soon(dropped.recv()).await.expect("it was dropped") < Instant::now());
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn it_steps_down_at_the_deadline_or_at_once_as_it_was_told() {
    for step_down in [StepDown::AtDeadline, StepDown::AtOnce] {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let (sender, mut terms) = mpsc::unbounded_channel();
        let ours = election(&a).with_step_down(step_down);
        let running = tokio::spawn(async move { ours.run_as_leader(endless(&sender)).await });
        let first = soon(terms.recv()).await.expect("it runs");
        let session = a.session().id();
        zk.disconnect(&a, Duration::from_millis(500));
        sleep(Duration::from_secs(30)).await;
        assert_eq!(a.session().id(), session, "the session has outlived it");
        match step_down {
            StepDown::AtOnce => {
                let second = terms.try_recv().expect("it leads again");
                assert!(second > first);
                until_children(&b, PATH, 1).await;
            }
            _ => assert!(terms.try_recv().is_err(), "it has led all along"),
        }
        running.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_leadership_that_stepped_down_at_once_stays_lost_when_the_connection_is_back() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let leadership = election(&client).with_step_down(StepDown::AtOnce).campaign().await;
    let leadership = leadership.expect("nobody leads");
    zk.disconnect(&client, Duration::from_millis(1));
    client.session().disconnected().await;
    client.session().connected().await;
    sleep(Duration::from_secs(1)).await;
    // Nobody has asked while it was away.
    let loss = soon(leadership.lost()).await;
    assert_eq!((loss.reason, loss.token), (LossReason::Disconnected, leadership.term()));
    let worked = leadership.run(async {}).await;
    assert!(worked.expect_err("lost").is_lost());
    leadership.resign().await.expect("connected");

    let leadership = election(&client).with_step_down(StepDown::AtOnce).campaign().await;
    let leadership = leadership.expect("nobody leads");
    leadership.run(sleep(Duration::from_secs(60))).await.expect("connected all along");
    zk.expire(&client).await;
    let loss = soon(leadership.lost()).await;
    assert_eq!(loss.reason, LossReason::SessionOver(SessionEnd::Expired));
}

#[tokio::test(start_paused = true)]
async fn cancelled_at_any_await_it_leaves_no_candidate_though_a_handle_was_kept() {
    let mut n = 0;
    loop {
        n += 1;
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&kept);
        let ours = election(&b);
        let running = ours.run_as_leader(|leadership| {
            let mut kept = keep.lock().expect("no panic");
            kept.push(Arc::clone(&leadership));
            let fails = kept.len() == 1;
            async move {
                sleep(Duration::from_secs(1)).await;
                if fails { Err("once") } else { Ok(()) }
            }
        });
        let finished = soon(cancel_at(n, running)).await.is_some();
        until_children(&a, PATH, 0).await;
        soon(async {
            while b.session().cleanups_reserved() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let kept = std::mem::take(&mut *kept.lock().expect("no panic"));
        for leadership in kept {
            assert_eq!(soon(leadership.lost()).await.reason, LossReason::Removed);
        }
        if finished {
            break;
        }
    }
    assert!(n > 12, "cancelled at {n} awaits only");
}

#[tokio::test(start_paused = true)]
async fn pauses_between_campaigns_grow_within_bounds_and_are_short_again_after_a_long_reign() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let count = AtomicUsize::new(0);
    let (sender, mut begun) = mpsc::unbounded_channel();
    let work = |_| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        sender.send(Instant::now()).expect("the test listens");
        async move {
            if number == 12 {
                sleep(Duration::from_secs(20)).await;
            }
            if number < 14 { Err("fails") } else { Ok(()) }
        }
    };
    soon(election(&client).run_as_leader(work)).await.expect("led");
    let mut times = Vec::new();
    while let Ok(time) = begun.try_recv() {
        times.push(time);
    }
    let pauses_ms: Vec<u128> = times.windows(2).map(|two| (two[1] - two[0]).as_millis()).collect();
    for (number, pause_ms) in pauses_ms.iter().enumerate() {
        // The campaign itself takes some milliseconds.
        let full = if number > 12 { 200 } else { (100 << number.min(7)).min(10_000) };
        match number {
            12 => assert!((20_050..=20_120).contains(pause_ms), "{pauses_ms:?}"),
            _ => assert!((full / 2..=full + 20).contains(pause_ms), "{number}: {pauses_ms:?}"),
        }
    }
    assert_eq!(pauses_ms.len(), 14);
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_client_and_with_what_the_coordinator_refuses() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    for close_after_ms in [0, 1, 3, 10_000] {
        let client = zk.client().await;
        let ours = election(&client);
        let (sender, _terms) = mpsc::unbounded_channel();
        let running = tokio::spawn(async move { ours.run_as_leader(endless(&sender)).await });
        sleep(Duration::from_millis(close_after_ms)).await;
        client.close().await.expect("connected");
        let error = soon(running).await.expect("no panic").expect_err("closed");
        assert!(error.session_over(), "{error}");
    }
    until_children(&b, PATH, 0).await;
    b.add_auth("digest", b"ann:secret").await.expect("any digest is accepted");
    b.set_acl(PATH, Acl::creator()).await.expect("open");
    let (sender, _terms) = mpsc::unbounded_channel();
    let error = soon(election(&a).run_as_leader(endless(&sender))).await.expect_err("refused");
    assert!(matches!(&error, Error::Client(error) if error.is(Code::NoAuth)), "{error}");
}
