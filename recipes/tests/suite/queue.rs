//! The queue under virtual time, with faults.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::{cancel_at, soon, until_children};
use futures::FutureExt;
use synod::queue::{Added, Full, Nacked, PUT_ALL_ITEMS_MAX, SimpleQueue};
use synod::testing::Coordinator;
use synod::{Client, Error, Queue};
use tokio::time::{Instant, sleep, timeout};

const PATH: &str = "/jobs";

/// Longer than a consumer needs to see that there is nothing.
const A_WHILE: Duration = Duration::from_millis(500);

async fn open(client: &Client) -> Queue<u32> {
    Queue::open(client, PATH).await.expect("valid")
}

async fn two(zk: &Coordinator) -> (Client, Queue<u32>, Client, Queue<u32>) {
    let (a, b) = (zk.client().await, zk.client().await);
    let (of_a, of_b) = (open(&a).await, open(&b).await);
    (a, of_a, b, of_b)
}

async fn take(queue: &Queue<u32>) -> synod::queue::Delivery<u32> {
    soon(queue.take()).await.expect("connected").expect("not shut down")
}

async fn nothing_comes(queue: &Queue<u32>) {
    let taken = timeout(A_WHILE, queue.take()).await;
    assert!(taken.is_err(), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn items_are_taken_in_their_order_and_are_gone_when_finished() {
    let zk = Coordinator::start();
    let queue = open(&zk.client().await).await;
    for number in 0..10 {
        queue.put(&number).await.expect("connected");
    }
    let mut last = synod::Zxid::ZERO;
    for number in 0..10 {
        let delivery = take(&queue).await;
        assert_eq!((*delivery, delivery.attempt()), (number, 1));
        assert!(delivery.token() > last, "tokens grow");
        last = delivery.token();
        delivery.ack().await.expect("held");
    }
    assert!(queue.try_take().await.expect("connected").is_none());
    assert_eq!(queue.stats().await.expect("connected"), synod::queue::Stats::default());
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_waits_is_woken_by_a_put() {
    let zk = Coordinator::start();
    let (_, producer, _, consumer) = two(&zk).await;
    nothing_comes(&consumer).await;
    let waiting = tokio::spawn(async move { *take(&consumer).await });
    sleep(A_WHILE).await;
    let begun = Instant::now();
    producer.put(&7).await.expect("connected");
    assert_eq!(soon(waiting).await.expect("no panic"), 7);
    assert!(begun.elapsed() < Duration::from_secs(1), "told, not found by a recheck");
}

#[tokio::test(start_paused = true)]
async fn higher_priorities_are_taken_first() {
    let zk = Coordinator::start();
    let queue = open(&zk.client().await).await;
    for priority in [0, 9, 3, 9, 0, 5] {
        queue.put(&u32::from(priority)).priority(priority).await.expect("connected");
    }
    let mut taken = Vec::new();
    while let Some(delivery) = queue.try_take().await.expect("connected") {
        assert_eq!(u32::from(delivery.priority()), *delivery);
        taken.push(*delivery);
        delivery.ack().await.expect("held");
        if taken.len() == 2 {
            // One that comes now goes before those that wait.
            queue.put(&7).priority(7).await.expect("connected");
        }
    }
    assert_eq!(taken, [9, 9, 7, 5, 3, 0, 0]);
    let error = queue.put(&1).priority(10).await.expect_err("too high").to_string();
    assert!(error.contains("10") && error.contains("0 to 9"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_item_that_was_given_back_comes_again_after_a_pause_that_doubles() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let queue: Queue<u32> = Queue::open(&client, PATH).max_attempts(4).await.expect("valid");
    queue.put(&7).priority(2).await.expect("connected");
    let mut delivery = take(&queue).await;
    let id = delivery.id().to_owned();
    for (attempt, seconds) in [(1, 1), (2, 2), (3, 4)] {
        assert_eq!((delivery.attempt(), delivery.priority(), delivery.id()), (attempt, 2, &*id));
        let begun = Instant::now();
        let nacked = delivery.nack(format!("no {attempt}")).await.expect("held");
        assert_eq!(nacked, Nacked::In(Duration::from_secs(seconds)));
        delivery = take(&queue).await;
        let waited_ms = begun.elapsed().as_millis() as u64;
        assert!((1_000 * seconds..1_000 * seconds + 300).contains(&waited_ms), "{waited_ms} ms");
    }
    assert_eq!(delivery.nack("no 4").await.expect("held"), Nacked::Dead);
    let dead = queue.dead_letters(10).await.expect("connected");
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].attempts(), dead[0].reason()), (4, "no 4"));
    assert_eq!(dead[0].value(), Ok(7));
}

#[tokio::test(start_paused = true)]
async fn an_item_that_is_given_back_at_once_keeps_its_place_and_its_reason() {
    let zk = Coordinator::start();
    let queue = open(&zk.client().await).await;
    for number in [1, 2] {
        queue.put(&number).await.expect("connected");
    }
    let delivery = take(&queue).await;
    assert_eq!(delivery.nack_in(Duration::ZERO, "not now").await.expect("held"), Nacked::Ready);
    let peeked = queue.peek(10).await.expect("connected");
    assert_eq!(peeked.len(), 2);
    assert_eq!((&peeked[0].value, peeked[0].attempts, peeked[0].claimed), (&Ok(1), 1, false));
    assert_eq!(peeked[0].reason.as_deref(), Some("not now"));
    let delivery = take(&queue).await;
    assert_eq!((*delivery, delivery.attempt()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn the_claim_of_a_dead_consumer_goes_with_its_session() {
    let zk = Coordinator::start();
    let (a, of_a, _, of_b) = two(&zk).await;
    of_b.put(&7).await.expect("connected");
    let held = take(&of_a).await;
    nothing_comes(&of_b).await;
    zk.disconnect(&a, Duration::from_secs(3_600));
    let delivery = take(&of_b).await;
    assert_eq!((*delivery, delivery.attempt()), (7, 2));
    assert!(delivery.token() > held.token());
    let loss = soon(held.lost()).await;
    assert!(matches!(loss.reason, synod::LossReason::SessionOver(_)), "{loss}");
    assert!(held.valid_until() <= Instant::now());
    let error = held.ack().await.expect_err("lost");
    assert!(error.is_lost(), "{error:?}");
    delivery.ack().await.expect("held");
}

#[tokio::test(start_paused = true)]
async fn an_item_that_kills_its_consumers_goes_to_the_dead_letters() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let queue: Queue<u32> = Queue::open(&client, PATH).max_attempts(2).await.expect("valid");
    queue.put(&666).await.expect("connected");
    queue.put(&7).await.expect("connected");
    for attempt in [1, 2] {
        let victim = zk.client().await;
        let of_victim: Queue<u32> = Queue::open(&victim, PATH).await.expect("valid");
        let delivery = take(&of_victim).await;
        assert_eq!((*delivery, delivery.attempt()), (666, attempt));
        zk.expire(&victim).await;
        // No goodbye.
        std::mem::forget(delivery);
    }
    let delivery = take(&queue).await;
    assert_eq!(*delivery, 7);
    let dead = queue.dead_letters(10).await.expect("connected");
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].value(), dead[0].attempts()), (Ok(666), 3));
    assert!(dead[0].reason().contains("2 attempts"), "{}", dead[0].reason());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_goes_to_the_dead_letters_byte_for_byte() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let queue = open(&client).await;
    let foreign: Queue<String> = Queue::open(&client, PATH).await.expect("valid");
    foreign.put(&"many".to_owned()).await.expect("connected");
    // By hand, without a head.
    let bucket = format!("{PATH}/ready/p0/b0000000000");
    client.create(format!("{bucket}/i-00000000-"), b"\xff\n{}").sequential().await.expect("new");
    client.create(format!("{bucket}/i-00000001-"), b"8").sequential().await.expect("new");
    queue.put(&7).await.expect("connected");
    let (by_hand, put) = (take(&queue).await, take(&queue).await);
    assert_eq!((*by_hand, *put), (8, 7), "JSON is JSON");
    let dead = queue.dead_letters(10).await.expect("connected");
    let payloads: Vec<&[u8]> = dead.iter().map(|letter| letter.payload()).collect();
    assert_eq!(payloads, [&b"\"many\""[..], b"\xff\n{}"]);
    assert!(dead.iter().all(|letter| letter.reason().contains("not decodable")), "{dead:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_put_back_in_line_or_discarded_once() {
    let zk = Coordinator::start();
    let queue = open(&zk.client().await).await;
    for number in [1, 2] {
        queue.put(&number).priority(4).await.expect("connected");
        take(&queue).await.reject("bad").await.expect("held");
    }
    let dead = queue.dead_letters(10).await.expect("connected");
    assert!(queue.redrive(&dead[0]).await.expect("connected"));
    assert!(!queue.redrive(&dead[0]).await.expect("connected"), "once");
    assert!(queue.discard(&dead[1]).await.expect("connected"));
    assert!(!queue.discard(&dead[1]).await.expect("connected"), "once");
    let delivery = take(&queue).await;
    assert_eq!((*delivery, delivery.attempt(), delivery.priority()), (1, 1, 4));
    assert_eq!(queue.stats().await.expect("connected").dead, 0);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_item_comes_at_its_time_whoever_waits() {
    let zk = Coordinator::start();
    let (_, producer, _, consumer) = two(&zk).await;
    let begun = Instant::now();
    producer.put(&2).delay(Duration::from_secs(600)).await.expect("connected");
    let waiting = tokio::spawn({
        let consumer = consumer.clone();
        async move {
            let first = take(&consumer).await;
            (*first, begun.elapsed())
        }
    });
    sleep(Duration::from_secs(60)).await;
    // Due before the one that is waited for.
    producer.put(&1).delay(Duration::from_secs(60)).await.expect("connected");
    assert_eq!(producer.stats().await.expect("connected").delayed, 2);
    let (first, after) = soon(waiting).await.expect("no panic");
    assert_eq!(first, 1);
    assert!((120..121).contains(&after.as_secs()), "{after:?}");
    // The first was let go with the task.
    take(&consumer).await.ack().await.expect("held");
    let second = take(&consumer).await;
    assert_eq!(*second, 2);
    assert_eq!(begun.elapsed().as_secs(), 600);
    second.ack().await.expect("held");
    until_children(&zk.client().await, "/jobs/delayed", 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_id_is_put_once_within_its_window_and_again_after_two() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let open = || Queue::open(&client, PATH).dedup_window(Duration::from_secs(60));
    let (a, b): (Queue<u32>, Queue<u32>) =
        (open().await.expect("valid"), open().await.expect("valid"));
    let begun = Instant::now();
    for (at_s, is_new) in [(0, true), (1, false), (30, false), (59, false), (120, true)] {
        tokio::time::sleep_until(begun + Duration::from_secs(at_s)).await;
        let added = b.put(&7).dedup("order/991").await.expect("connected");
        assert_eq!(matches!(added, Added::New { .. }), is_new, "{at_s} s");
    }
    assert_eq!(a.stats().await.expect("connected").length(), 2);
    // Old windows are swept by who comes later.
    sleep(Duration::from_secs(180)).await;
    zk.reap();
    b.put(&8).dedup("another").await.expect("connected");
    let windows = client.children("/jobs/ids").await.expect("there");
    assert!(windows.len() <= 4, "{windows:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_or_waits() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let strict: Queue<u32> =
        Queue::open(&client, PATH).max_length(3, Full::Refuse).await.expect("valid");
    for number in 0..3 {
        strict.put(&number).await.expect("room");
    }
    let error = strict.put(&3).await.expect_err("full");
    assert!(matches!(error, Error::Full { length: 3, max: 3, .. }), "{error}");
    assert!(error.retryable());
    let patient: Queue<u32> =
        Queue::open(&client, PATH).max_length(3, Full::Wait).await.expect("valid");
    let waiting = tokio::spawn(async move { patient.put(&3).await.map(drop) });
    sleep(Duration::from_secs(10)).await;
    assert!(!waiting.is_finished(), "no room yet");
    take(&strict).await.ack().await.expect("held");
    soon(waiting).await.expect("no panic").expect("room");
    assert_eq!(strict.stats().await.expect("connected").length(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_item_is_finished_together_with_the_applications_own_writes_or_not_at_all() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let queue = open(&client).await;
    queue.put(&7).await.expect("connected");
    let delivery = take(&queue).await;
    let refused = delivery.ack_with(|txn| txn.create("/done", b"").set("/none", b"")).await;
    let error = refused.expect_err("there is no such znode");
    assert!(
        matches!(&error, Error::Client(synod::model::Error::Refused { index: Some(1), path, .. })
            if &**path == "/none"),
        "{error:?}"
    );
    assert!(client.exists("/done").await.expect("connected").is_none(), "nothing half done");
    assert!(delivery.lost().now_or_never().is_none(), "still in hand");
    delivery.ack_with(|txn| txn.create("/done", b"7")).await.expect("held");
    assert_eq!(&client.get("/done").await.expect("there").0[..], b"7");
    assert_eq!(queue.stats().await.expect("connected").length(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_a_put_adds_no_second_item() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let queue = open(&client).await;
    queue.put(&0).await.expect("connected");
    zk.lose_next_reply(&client);
    assert!(matches!(queue.put(&1).await.expect("found"), Added::New { .. }));
    zk.lose_next_reply(&client);
    queue.put_all(&[2, 3]).await.expect("found");
    queue.put(&9).dedup("x").await.expect("connected");
    zk.lose_next_reply(&client);
    let own = queue.put(&4).dedup("y").await.expect("decided by the id");
    assert!(matches!(own, Added::New { .. }), "{own:?}");
    assert_eq!(queue.put(&4).dedup("y").await.expect("connected"), Added::Duplicate);
    queue.put(&8).delay(Duration::from_secs(1)).await.expect("connected");
    zk.lose_next_reply(&client);
    queue.put(&5).delay(Duration::from_secs(1)).await.expect("found");
    sleep(Duration::from_secs(2)).await;
    let mut taken = BTreeSet::new();
    while let Some(delivery) = queue.try_take().await.expect("connected") {
        assert!(taken.insert(*delivery), "{} twice", *delivery);
        delivery.ack().await.expect("held");
    }
    assert_eq!(taken, BTreeSet::from([0, 1, 2, 3, 4, 5, 8, 9]));
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_a_claim_or_an_ack_is_asked_about() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let queue = open(&client).await;
    queue.put_all(&[1, 2]).await.expect("connected");
    take(&queue).await.ack().await.expect("held");
    zk.lose_next_reply(&client);
    let delivery = take(&queue).await;
    assert_eq!((*delivery, delivery.attempt()), (2, 1), "one claim");
    zk.lose_next_reply(&client);
    delivery.ack().await.expect("done");
    assert!(queue.try_take().await.expect("connected").is_none());
    queue.put(&3).await.expect("connected");
    let delivery = take(&queue).await;
    zk.lose_next_reply(&client);
    delivery.nack_in(Duration::from_secs(5), "later").await.expect("done");
    let again = take(&queue).await;
    assert_eq!((*again, again.attempt()), (3, 2));
    assert_eq!(queue.stats().await.expect("connected").length(), 1, "not doubled");
}

#[tokio::test(start_paused = true)]
async fn a_take_that_is_cancelled_anywhere_keeps_no_claim() {
    let mut awaits = 0;
    for n in 1.. {
        let zk = Coordinator::start();
        let client = zk.client().await;
        let queue = open(&client).await;
        queue.put(&7).await.expect("connected");
        if let Some(taken) = cancel_at(n, queue.take()).await {
            assert_eq!(*taken.expect("connected").expect("not shut down"), 7);
            break;
        }
        awaits += 1;
        // It may have counted an attempt, but it is free.
        let delivery = take(&open(&zk.client().await).await).await;
        assert_eq!(*delivery, 7);
        delivery.ack().await.expect("held");
        soon(async {
            while client.session().cleanups_reserved() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    assert!(awaits >= 4, "only {awaits} awaits");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_cancelled_anywhere_finishes_the_item_or_gives_it_back() {
    for how in 0..3 {
        let mut awaits = 0;
        for n in 1.. {
            let zk = Coordinator::start();
            let client = zk.client().await;
            let queue = open(&client).await;
            queue.put(&7).await.expect("connected");
            let delivery = take(&queue).await;
            let end = async {
                match how {
                    0 => delivery.ack().await.map(drop),
                    1 => delivery.nack("later").await.map(drop),
                    _ => delivery.reject("bad").await.map(drop),
                }
            };
            let ended = cancel_at(n, end).await;
            soon(async {
                while client.session().cleanups_reserved() > 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
            let stats = queue.stats().await.expect("connected");
            assert_eq!(stats.claimed, 0, "{how} {n}: {stats:?}");
            let left = stats.length() + stats.delayed + stats.dead;
            assert!(left == 1 || (how == 0 && left == 0), "{how} {n}: {stats:?}");
            if let Some(ended) = ended {
                ended.expect("held");
                break;
            }
            awaits += 1;
        }
        assert!(awaits >= 1, "{how}: only {awaits} awaits");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_takes_and_waits_for_deliveries() {
    let zk = Coordinator::start();
    let queue = open(&zk.client().await).await;
    queue.put(&7).await.expect("connected");
    let delivery = take(&queue).await;
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.take().await.map(|taken| taken.is_none()) }
    });
    sleep(A_WHILE).await;
    let mut shutdown = Box::pin(queue.shutdown());
    assert!((&mut shutdown).now_or_never().is_none(), "a delivery is outstanding");
    assert!(soon(waiting).await.expect("no panic").expect("connected"), "woken with None");
    assert!((&mut shutdown).now_or_never().is_none(), "a delivery is outstanding");
    delivery.ack().await.expect("held");
    soon(shutdown).await;
    assert!(queue.take().await.expect("connected").is_none());
    assert_eq!(zk.watch_count(), 0, "nobody watches any more");
}

#[tokio::test(start_paused = true)]
async fn a_long_queue_is_taken_in_order_over_its_buckets_which_go_when_they_are_empty() {
    const ITEMS: u32 = 2_200;
    let zk = Coordinator::start();
    let (producer, of_producer, client, consumer) = two(&zk).await;
    let numbers: Vec<u32> = (0..ITEMS).collect();
    for some in numbers.chunks(PUT_ALL_ITEMS_MAX / 2) {
        of_producer.put_all(some).await.expect("connected");
    }
    let buckets = client.children("/jobs/ready/p0").await.expect("there").len();
    assert!((2..=4).contains(&buckets), "{buckets}");
    for number in 0..ITEMS {
        let delivery = take(&consumer).await;
        assert_eq!(*delivery, number);
        delivery.ack().await.expect("held");
    }
    assert!(consumer.try_take().await.expect("connected").is_none());
    // A new window looks at every bucket.
    let fresh = open(&producer).await;
    assert!(fresh.try_take().await.expect("connected").is_none());
    until_children(&client, "/jobs/ready/p0", 1).await;
    of_producer.put(&7).await.expect("connected");
    assert_eq!(*take(&consumer).await, 7);
    let too_many = vec![0; PUT_ALL_ITEMS_MAX + 1];
    let error = of_producer.put_all(&too_many).await.expect_err("too many").to_string();
    assert!(error.contains("1001") && error.contains("at most 1000"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn consumers_share_the_items_and_none_gets_one_that_another_has() {
    const ITEMS: u32 = 400;
    let zk = Coordinator::start();
    let producer = open(&zk.client().await).await;
    let numbers: Vec<u32> = (0..ITEMS).collect();
    producer.put_all(&numbers).await.expect("connected");
    let mut consumers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let client = zk.client().await;
        consumers.spawn(async move {
            let (queue, mut taken) = (open(&client).await, Vec::new());
            while let Some(delivery) = queue.try_take().await.expect("connected") {
                assert_eq!(delivery.attempt(), 1);
                sleep(Duration::from_millis(u64::from(*delivery % 3))).await;
                taken.push(*delivery);
                delivery.ack().await.expect("held");
            }
            taken
        });
    }
    let shares = soon(consumers.join_all()).await;
    let mut all: Vec<u32> = shares.iter().flatten().copied().collect();
    all.sort_unstable();
    assert_eq!(all, numbers, "each once");
    assert!(shares.iter().all(|share| share.len() > 40), "{:?}", shares.iter().map(Vec::len));
}

#[tokio::test(start_paused = true)]
async fn a_consumer_goes_on_over_cuts_and_expired_sessions() {
    let zk = Coordinator::start();
    let (_, producer, client, consumer) = two(&zk).await;
    let waiting = tokio::spawn(async move {
        let mut taken = Vec::new();
        for _ in 0..3 {
            let delivery = take(&consumer).await;
            taken.push(*delivery);
            delivery.ack().await.expect("held");
        }
        taken
    });
    for (number, expires) in [(1, false), (2, true), (3, false)] {
        sleep(A_WHILE).await;
        match expires {
            true => zk.expire(&client).await,
            false => zk.disconnect(&client, Duration::from_secs(2)),
        }
        producer.put(&number).await.expect("connected");
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(soon(waiting).await.expect("no panic"), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_take_of_a_closed_client_fails() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    let queue = open(&client).await;
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.take().await.map(drop) }
    });
    sleep(A_WHILE).await;
    client.close().await.expect("connected");
    let error = soon(waiting).await.expect("no panic").expect_err("closed");
    assert!(error.session_over(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn the_plain_queue_hands_out_each_item_once_by_priority_and_order() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let (of_a, of_b) =
        (SimpleQueue::new(&a, PATH).expect("valid"), SimpleQueue::new(&b, PATH).expect("valid"));
    assert_eq!(of_a.take().await.expect("connected"), None);
    for (priority, payload) in [(100, "2"), (50, "1"), (100, "3"), (999, "4")] {
        of_a.put_at(priority, payload).await.expect("connected");
    }
    a.create(format!("{PATH}/foreign"), b"").await.expect("new");
    let mut taken = Vec::new();
    for turn in 0.. {
        let queue = if turn % 2 == 0 { &of_a } else { &of_b };
        let Some(payload) = queue.take().await.expect("connected") else { break };
        taken.push(String::from_utf8_lossy(&payload).into_owned());
    }
    assert_eq!(taken, ["1", "2", "3", "4"]);
    assert!(of_a.put_at(1_000, "").await.is_err());
    // As kazoo writes them.
    a.create(format!("{PATH}/entry-100-"), b"k").sequential().await.expect("new");
    assert_eq!(of_b.take().await.expect("connected").as_deref(), Some(&b"k"[..]));
}
