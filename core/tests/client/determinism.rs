//! Two runs of one seed are one run.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use synod_core::client::Client;
use synod_core::testing::{Coordinator, Fault};
use tokio::time::Instant;

use crate::common::{LONG, pass};

type Trace = Rc<RefCell<Vec<String>>>;

/// A workload of several tasks a client; what each sees is noted, with the moment.
async fn work(client: Client, name: String, start: Instant, trace: Trace) {
    let note = |what: String| {
        trace.borrow_mut().push(format!("{:?} {name} {what}", start.elapsed()));
    };
    for round in 0..40 {
        match round % 5 {
            0 => note(format!("{:?}", client.create("/q/n-", b"").ephemeral().sequential().await)),
            1 => note(format!("{:?}", client.set("/q", name.as_bytes()).await)),
            2 => note(format!("{:?}", client.get("/q").latest().await)),
            3 => match client.get("/q").watched().await {
                Ok((_, changed)) => {
                    let changed = tokio::time::timeout(Duration::from_secs(1), changed).await;
                    note(format!("{changed:?}"));
                }
                Err(error) => note(format!("{error}")),
            },
            _ => note(format!("{:?}", client.session().id())),
        }
        pass(Duration::from_millis(700)).await;
    }
}

fn run(seed: u64) -> (Vec<String>, Vec<(Duration, usize, Fault)>, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let zk = Coordinator::with_seed(seed);
        let start = Instant::now();
        let mut clients = Vec::new();
        for user in ["ann", "bob", "cyn"] {
            let client = zk.builder().auth_digest(user, "pw").connect().await.expect("connects");
            clients.push(client);
        }
        clients[0].create("/q", b"").await.expect("creates");
        let trace = Trace::default();
        let mut tasks = Vec::new();
        for (number, client) in clients.iter().enumerate() {
            for part in 0..4 {
                let name = format!("{number}.{part}");
                let work = work(client.clone(), name, start, Rc::clone(&trace));
                tasks.push(tokio::task::spawn_local(work));
            }
            let mut states = client.session_states();
            let trace = Rc::clone(&trace);
            tokio::task::spawn_local(async move {
                while let Some(state) = states.next().await {
                    let now = start.elapsed();
                    trace.borrow_mut().push(format!("{now:?} {number} {state:?}"));
                }
            });
        }
        let faults = zk.run_schedule(seed, &clients, Duration::from_secs(60)).await;
        for task in tasks {
            task.await.expect("no panic");
        }
        let trace = trace.take();
        (trace, faults, zk.digest())
    })
}

#[test]
fn two_runs_of_a_seed_have_equal_traces_and_digests() {
    for seed in 0..12 {
        let (first, second) = (run(seed), run(seed));
        assert!(first.1.len() > 10, "there were faults");
        for (one, other) in first.0.iter().zip(&second.0) {
            assert_eq!(one, other, "seed {seed}");
        }
        assert_eq!(first, second, "seed {seed}");
    }
    assert_ne!(run(1).0, run(2).0, "the seed is what it depends on");
}

/// The order in which the waiting tasks of a client wake when something befalls its session.
fn wakes(fault: fn(&Coordinator, &Client)) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let zk = Coordinator::start();
        let client = zk.client().await;
        let trace = Trace::default();
        for number in 0..16 {
            let (client, trace) = (client.clone(), Rc::clone(&trace));
            tokio::task::spawn_local(async move {
                let mut watch = client.watch(format!("/{number}").as_str()).await.expect("watches");
                let notice = watch.next().await;
                trace.borrow_mut().push(format!("watch {number}: {notice:?}"));
            });
        }
        for number in 0..16 {
            let (client, trace) = (client.clone(), Rc::clone(&trace));
            tokio::task::spawn_local(async move {
                let session = client.session();
                session.disconnected().await;
                trace.borrow_mut().push(format!("disconnected {number}"));
                session.connected().await;
                trace.borrow_mut().push(format!("connected {number}"));
                session.lost().await;
                trace.borrow_mut().push(format!("lost {number}"));
                let zxid = client.sync().await;
                trace.borrow_mut().push(format!("next {number} {zxid:?}"));
            });
        }
        pass(Duration::from_millis(50)).await;
        fault(&zk, &client);
        pass(LONG).await;
        trace.take()
    })
}

#[test]
fn tasks_wake_in_the_same_order_in_every_run() {
    let briefly = |zk: &Coordinator, client: &Client| {
        zk.disconnect(client, Duration::from_secs(1));
    };
    let for_long = |zk: &Coordinator, client: &Client| {
        zk.disconnect(client, Duration::from_secs(60));
    };
    for fault in [briefly as fn(&Coordinator, &Client), for_long] {
        let first = wakes(fault);
        assert!(first.len() >= 32, "{first:?}");
        for _ in 0..4 {
            assert_eq!(wakes(fault), first);
        }
    }
}
