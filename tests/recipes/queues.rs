//! Cases of the queue for every ground, and with connections that break and servers that are killed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use synod::queue::{Added, Delivery, Nacked};
use synod::{Client, Queue};
use tokio::task::JoinSet;

use super::cases::cancel_at;
use super::ground::{Ground, PATIENCE, run_example, soon};

async fn open(client: &Client) -> Queue<u32> {
    soon(async {
        loop {
            match Queue::open(client, "/jobs").max_attempts(3).await {
                Ok(queue) => return queue,
                Err(error) => assert!(error.retryable() || error.session_over(), "{error}"),
            }
        }
    })
    .await
}

async fn take(queue: &Queue<u32>) -> Delivery<u32> {
    soon(queue.take()).await.expect("connected").expect("not shut down")
}

pub async fn items_are_finished_given_back_and_given_up(ground: &Ground) {
    let (producer, consumer) = (ground.client().await, ground.client().await);
    let (of_producer, of_consumer) = (open(&producer).await, open(&consumer).await);
    of_producer.put_all(&[1, 2]).await.expect("connected");
    of_producer.put(&3).priority(9).await.expect("connected");
    let urgent = take(&of_consumer).await;
    assert_eq!((*urgent, urgent.attempt()), (3, 1));
    urgent.ack_with(|txn| txn.create("/done", b"3")).await.expect("held");
    assert_eq!(&producer.get("/done").latest().await.expect("there").0[..], b"3");
    for attempt in 1..=3 {
        let delivery = take(&of_consumer).await;
        assert_eq!((*delivery, delivery.attempt()), (1, attempt));
        let nacked = delivery.nack_in(Duration::ZERO, "no").await.expect("held");
        assert_eq!(nacked, if attempt < 3 { Nacked::Ready } else { Nacked::Dead });
    }
    take(&of_consumer).await.ack().await.expect("held");
    producer.sync().await.expect("connected");
    let stats = of_producer.stats().await.expect("connected");
    assert_eq!((stats.length(), stats.claimed, stats.dead), (0, 0, 1));
    let dead = of_producer.dead_letters(10).await.expect("connected");
    assert_eq!((dead[0].value(), dead[0].attempts(), dead[0].reason()), (Ok(1), 3, "no"));
    assert!(of_producer.redrive(&dead[0]).await.expect("connected"));
    let delivery = take(&of_consumer).await;
    assert_eq!((*delivery, delivery.attempt()), (1, 1));
}

pub async fn a_delayed_item_and_one_of_an_id_come_once(ground: &Ground) {
    let (producer, consumer) = (ground.client().await, ground.client().await);
    let (of_producer, of_consumer) = (open(&producer).await, open(&consumer).await);
    of_producer.put(&1).delay(Duration::from_millis(300)).await.expect("connected");
    let first = of_producer.put(&2).dedup("order/1").await.expect("connected");
    assert!(matches!(first, Added::New { .. }));
    let second = of_producer.put(&3).dedup("order/1").await.expect("connected");
    assert_eq!(second, Added::Duplicate);
    for number in [2, 1] {
        let delivery = take(&of_consumer).await;
        assert_eq!(*delivery, number);
        delivery.ack().await.expect("held");
    }
    consumer.sync().await.expect("connected");
    assert!(of_consumer.try_take().await.expect("connected").is_none());
}

pub async fn a_cancelled_take_keeps_no_item(ground: &Ground) {
    let client = ground.client().await;
    let queue: Queue<u32> = Queue::open(&client, "/jobs").max_attempts(99).await.expect("valid");
    queue.put(&7).await.expect("connected");
    for n in 1.. {
        if let Some(taken) = cancel_at(n, queue.take()).await {
            assert_eq!(*taken.expect("connected").expect("not shut down"), 7);
            break;
        }
        take(&queue).await.nack_in(Duration::ZERO, "again").await.expect("held");
    }
    soon(async {
        while client.session().cleanups_reserved() > 0 {
            client.sync().await.expect("connected");
        }
    })
    .await;
    client.sync().await.expect("connected");
    assert_eq!(queue.stats().await.expect("connected").claimed, 0);
}

pub async fn consumers_share_the_items(ground: &Ground) {
    const ITEMS: u32 = 200;
    let producer = ground.client().await;
    let numbers: Vec<u32> = (0..ITEMS).collect();
    open(&producer).await.put_all(&numbers).await.expect("connected");
    let mut consumers = JoinSet::new();
    for _ in 0..4 {
        let client = ground.client().await;
        consumers.spawn(async move {
            client.sync().await.expect("connected");
            let (queue, mut taken) = (open(&client).await, Vec::new());
            while let Some(delivery) = queue.try_take().await.expect("connected") {
                assert_eq!(delivery.attempt(), 1);
                taken.push(*delivery);
                delivery.ack().await.expect("held");
            }
            taken
        });
    }
    let mut all: Vec<u32> = soon(consumers.join_all()).await.into_iter().flatten().collect();
    all.sort_unstable();
    assert_eq!(all, numbers, "each once");
}

pub async fn an_item_of_a_consumer_that_is_cut_off_goes_to_another(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.unharmed_client().await);
    let (of_a, of_b) = (open(&a).await, open(&b).await);
    of_b.put(&7).await.expect("connected");
    let held = take(&of_a).await;
    ground.faults().proxy.close();
    let delivery = take(&of_b).await;
    assert_eq!((*delivery, delivery.attempt()), (7, 2));
    assert!(delivery.token() > held.token());
    soon(held.lost()).await;
    ground.faults().proxy.open();
    let error = held.ack().await.expect_err("lost");
    assert!(error.is_lost(), "{error:?}");
    delivery.ack().await.expect("held");
}

pub async fn no_item_is_lost_through_cuts_lost_replies_and_a_kill(ground: &Ground) {
    const ITEMS: u32 = 300;
    let done = Arc::new(Mutex::new(BTreeMap::<u32, usize>::new()));
    let perhaps = Arc::new(Mutex::new(BTreeSet::<u32>::new()));
    let mut consumers = JoinSet::new();
    for _ in 0..3 {
        let (client, done) = (ground.client().await, Arc::clone(&done));
        let perhaps = Arc::clone(&perhaps);
        consumers.spawn(async move {
            let queue: Queue<u32> = loop {
                match Queue::open(&client, "/jobs").max_attempts(1_000).await {
                    Ok(queue) => break queue,
                    Err(error) => assert!(error.retryable() || error.session_over(), "{error}"),
                }
            };
            loop {
                let delivery = match queue.take().await {
                    Ok(delivery) => delivery.expect("not shut down"),
                    Err(error) => {
                        assert!(error.retryable() || error.session_over(), "{error}");
                        continue;
                    }
                };
                let number = *delivery;
                let mut done = match delivery.ack().await {
                    Ok(()) => done.lock().expect("no panic"),
                    // Then nobody knows: it is gone, or it comes again.
                    Err(error) if error.maybe_applied() => {
                        perhaps.lock().expect("no panic").insert(number);
                        continue;
                    }
                    Err(error) => {
                        assert!(error.is_lost() || error.session_over(), "{error}");
                        continue;
                    }
                };
                *done.entry(number).or_default() += 1;
            }
        });
    }
    let producer = open(&ground.client().await).await;
    for number in 0..ITEMS {
        match number {
            50 | 100 => ground.faults().proxy.cut(),
            75 | 125 | 200 => ground.faults().proxy.lose_next_reply(),
            // What is in memory only is gone with the process.
            150 if ground.faults().durable => {
                ground.faults().kill().await;
                ground.faults().start_again().await;
            }
            _ => {}
        }
        // The id makes it safe to put it until the answer is there.
        let put = async {
            while let Err(error) = producer.put(&number).dedup(number.to_string()).await {
                assert!(error.retryable() || error.session_over(), "{error}");
            }
        };
        soon(put).await;
    }
    let all = async {
        loop {
            let mut ended = perhaps.lock().expect("no panic").clone();
            ended.extend(done.lock().expect("no panic").keys());
            if ended.len() == ITEMS as usize {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        let (stats, left) = (producer.stats().await, producer.peek(3).await);
        let done = done.lock().expect("no panic").len();
        panic!("{done} of {ITEMS} done; {stats:?}, {left:?}");
    }
    consumers.abort_all();
    for (number, count) in &*done.lock().expect("no panic") {
        assert_eq!(*count, 1, "{number}");
    }
}

/// Of so many items, while so many consumers are killed, and the server half as often.
pub async fn a_queue_is_worked_off_through_kills_of_consumers_and_the_server(ground: &Ground) {
    let setting = |name, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let (items, kills) = (setting("SYNOD_ITEMS", "600"), setting("SYNOD_KILLS", "4"));
    let arguments = ["--items", items.as_str(), "--kills", kills.as_str()];
    let (killed, all) = run_example(ground, "work_queue", &arguments, "a consumer is killed").await;
    println!("{all:#?}");
    assert_eq!(killed.to_string(), kills, "{all:?}");
    let last = all.last().expect("it says how it ended");
    assert!(last.starts_with(&items) && last.ends_with("none is lost"), "{last}");
}
