//! What the tests share.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt;
use synod_core::client::{Client, Notice, SessionState, Watch};
use synod_core::model::{Event, EventKind};
use synod_core::testing::Coordinator;
use tokio::time::Instant;

/// Longer than any session timeout.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// Shorter than any session timeout.
pub(crate) const SHORT: Duration = Duration::from_millis(500);

/// A private coordinator inside this process.
pub(crate) async fn embedded() -> Client {
    Client::connect("embedded:").await.expect("the embedded ground is there")
}

/// A coordinator for tests, and two clients of it.
pub(crate) async fn two_clients() -> (Coordinator, Client, Client) {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    (zk, a, b)
}

/// Polls a future until its `pendings`-th pending and drops it there; `Some` if it was done
/// before.
pub(crate) async fn cancelled_at<F: IntoFuture>(work: F, pendings: usize) -> Option<F::Output> {
    let mut future = pin!(work.into_future());
    let mut seen = 0;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => {
            seen += 1;
            if seen >= pendings { Poll::Ready(None) } else { Poll::Pending }
        }
    })
    .await
}

/// Polls a future once.
pub(crate) async fn once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    poll_fn(|context| match pin!(&mut *future).poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Lets virtual time pass.
pub(crate) async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// The next state, which must be there before `LONG` is over.
pub(crate) async fn next_state<S>(states: &mut S) -> SessionState
where
    S: futures::Stream<Item = SessionState> + Unpin,
{
    let next = tokio::time::timeout(LONG, states.next()).await;
    next.expect("a state comes").expect("the stream goes on")
}

/// The next notice of a watch as an event.
pub(crate) async fn event(watch: &mut Watch) -> Event {
    match watch.next().await.expect("the session lives") {
        Notice::Event(event) => event,
        Notice::Lagged => panic!("an event, not a lag"),
    }
}

/// Kind and path of an event.
pub(crate) fn told(event: &Event) -> (EventKind, &str) {
    (event.kind, &event.path)
}

/// How long something takes in virtual time, and what it yields.
pub(crate) async fn timed<F: IntoFuture>(work: F) -> (Duration, F::Output) {
    let start = Instant::now();
    let output = work.await;
    (start.elapsed(), output)
}
