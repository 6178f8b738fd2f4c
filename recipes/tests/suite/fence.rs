//! The gates, with holders that are late: a store that keeps them between read and write.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{cancel_at, soon};
use futures::future::join_all;
use synod::fence::{
    ConditionalStore, FencedObject, MemoryStore, Object, Stale, StoreError, UPDATE_ATTEMPTS_MAX,
    When,
};
use synod::testing::Coordinator;
use synod::{Error, Lock, Zxid};
use tokio::sync::Notify;
use tokio::time::sleep;

type Body = bytes::Bytes;

const KEY: &str = "reports/last";

/// A store over a network: each request and each reply takes a millisecond. It counts its writes.
#[derive(Default)]
struct Remote {
    store: MemoryStore,
    writes: AtomicUsize,
    /// Replies to writes that are lost.
    lose: AtomicUsize,
}

impl ConditionalStore for Remote {
    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        sleep(Duration::from_millis(1)).await;
        let object = self.store.get(key).await;
        sleep(Duration::from_millis(1)).await;
        object
    }

    async fn put(
        &self,
        key: &str,
        body: Body,
        fence: Zxid,
        when: When,
    ) -> Result<bool, StoreError> {
        sleep(Duration::from_millis(1)).await;
        let done = self.store.put(key, body, fence, when).await?;
        self.writes.fetch_add(usize::from(done), Ordering::Relaxed);
        sleep(Duration::from_millis(1)).await;
        let lose = |left: usize| left.checked_sub(1);
        match self.lose.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lose) {
            Ok(_) => Err("the reply is lost".into()),
            Err(_) => Ok(done),
        }
    }
}

/// A store in which a process stops between read and write, until it is let go on.
struct Paused<S> {
    store: S,
    stopped: Notify,
    go_on: Notify,
}

impl<S: ConditionalStore> Paused<S> {
    fn new(store: S) -> Paused<S> {
        Paused { store, stopped: Notify::new(), go_on: Notify::new() }
    }
}

impl<S: ConditionalStore> ConditionalStore for Paused<S> {
    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        self.store.get(key).await
    }

    async fn put(
        &self,
        key: &str,
        body: Body,
        fence: Zxid,
        when: When,
    ) -> Result<bool, StoreError> {
        self.stopped.notify_one();
        self.go_on.notified().await;
        self.store.put(key, body, fence, when).await
    }
}

fn token(counter: u32) -> Zxid {
    Zxid::new(1, counter)
}

async fn held(store: &impl ConditionalStore) -> (String, Zxid) {
    let object = store.get(KEY).await.expect("in memory").expect("written");
    (String::from_utf8(object.body.to_vec()).expect("text"), object.fence)
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_late_writes_no_object() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let store = Arc::new(Remote::default());
    let object = FencedObject::new(Arc::clone(&store), KEY);
    let late = Lock::new(&a, "/lock").expect("valid").acquire().await.expect("free");
    object.put(late.token(), "of a").await.expect("it holds");
    object.put(late.token(), "more of a").await.expect("a holder writes many times");
    zk.expire(&a).await;
    let next = soon(Lock::new(&b, "/lock").expect("valid").acquire()).await.expect("free");
    object.put(next.token(), "of b").await.expect("it holds");

    let error = object.put(late.token(), "late").await.expect_err("stale");
    let refused = Stale { token: late.token(), highest: next.token() };
    assert!(matches!(error, Error::Stale(stale) if stale == refused), "{error}");
    assert_eq!(held(&*store).await, ("of b".to_owned(), next.token()));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_stops_between_its_check_and_its_write_writes_no_object() {
    for first in [None, Some("first")] {
        let store = Arc::new(MemoryStore::new());
        let paused = Arc::new(Paused::new(Arc::clone(&store)));
        let object = FencedObject::new(Arc::clone(&store), KEY);
        if let Some(first) = first {
            object.put(token(3), first).await.expect("nobody else");
        }
        let late = FencedObject::new(Arc::clone(&paused), KEY);
        let late = tokio::spawn(async move { late.put(token(5), "late").await });
        paused.stopped.notified().await;
        object.put(token(9), "new").await.expect("the next holder");
        paused.go_on.notify_one();
        let error = soon(late).await.expect("no panic").expect_err("the condition does not hold");
        assert!(matches!(error, Error::Stale(Stale { highest, .. }) if highest == token(9)));
        assert_eq!(held(&*store).await, ("new".to_owned(), token(9)));
    }
}

#[tokio::test(start_paused = true)]
async fn updates_under_one_token_are_all_done() {
    let store = Arc::new(Remote::default());
    let object = FencedObject::new(Arc::clone(&store), KEY);
    let updates = (0..5).map(|number| {
        let object = object.clone();
        async move {
            object
                .update(token(5), |body| {
                    let body =
                        body.map_or(String::new(), |body| String::from_utf8_lossy(body).into());
                    format!("{body}{number}").into()
                })
                .await
        }
    });
    for done in join_all(updates).await {
        done.expect("few enough");
    }
    let (body, fence) = held(&*store).await;
    let mut digits: Vec<char> = body.chars().collect();
    digits.sort_unstable();
    assert_eq!((digits, fence), ("01234".chars().collect(), token(5)));
}

#[tokio::test(start_paused = true)]
async fn an_update_that_others_always_overtake_is_given_up_after_some_attempts() {
    /// Whoever reads it is overtaken.
    struct Busy(MemoryStore);
    impl ConditionalStore for Busy {
        async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
            self.0.get(key).await
        }
        async fn put(&self, _: &str, _: Body, _: Zxid, _: When) -> Result<bool, StoreError> {
            Ok(false)
        }
    }
    let mut changes = 0;
    let object = FencedObject::new(Busy(MemoryStore::new()), KEY);
    let error = object
        .update(token(5), |_| {
            changes += 1;
            Body::new()
        })
        .await
        .expect_err("overtaken");
    assert!(matches!(error, Error::Contended { attempts: UPDATE_ATTEMPTS_MAX, .. }), "{error}");
    assert!(error.retryable() && !error.maybe_applied());
    assert_eq!(changes, UPDATE_ATTEMPTS_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_reply_is_lost_says_that_it_may_be_done_and_is_not_repeated() {
    let store = Arc::new(Remote::default());
    store.lose.store(1, Ordering::Relaxed);
    let object = FencedObject::new(Arc::clone(&store), KEY);
    let error = object.put(token(5), "new").await.expect_err("no reply");
    assert!(error.maybe_applied() && error.to_string().contains(KEY), "{error}");
    assert_eq!(store.writes.load(Ordering::Relaxed), 1);
    object.put(token(5), "newer").await.expect("the token is still good");
    assert_eq!(held(&*store).await, ("newer".to_owned(), token(5)));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_write_is_done_or_not_and_the_fence_stands_with_it() {
    let mut written = Vec::new();
    for n in 1.. {
        let store = Arc::new(Remote::default());
        let object = FencedObject::new(Arc::clone(&store), KEY);
        object.put(token(5), "old").await.expect("nobody else");
        let done = cancel_at(n, object.put(token(9), "new")).await;
        let is = held(&*store).await;
        assert!(is == ("old".into(), token(5)) || is == ("new".into(), token(9)), "{is:?}");
        written.push(is.1 == token(9));
        if let Some(done) = done {
            done.expect("not cancelled");
            break;
        }
    }
    assert_eq!(written, [false, false, false, true, true], "at each await");
}
