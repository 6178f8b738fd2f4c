//! What the suites share.

// Each suite is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

pub mod everything;
pub mod history;
pub mod store;

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use synod::{Client, Code, Error};

/// Longer than anything in these suites takes in virtual time.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// Waits for `event`, but not for ever.
pub async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event).await.expect("it happens within an hour")
}

/// Polls `future` until it is pending for the `n`-th time (from 1), and drops it there: `None`.
/// `Some` if it was ready before.
pub async fn cancel_at<T>(n: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut pending = 0;
    std::future::poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => {
            pending += 1;
            if pending == n { Poll::Ready(None) } else { Poll::Pending }
        }
    })
    .await
}

/// The children of `path`, none if there is no such znode.
pub async fn children(client: &Client, path: &str) -> Vec<String> {
    match client.children(path).await {
        Err(error) if error.is(Code::NoNode) => Vec::new(),
        names => names.expect("the children can be read"),
    }
}

/// Waits until `path` has that many children.
pub async fn until_children(client: &Client, path: &str, count: usize) {
    soon(async {
        loop {
            match client.children(path).watched().await {
                Ok(((names, _), _)) if names.len() == count => return,
                Ok((_, changed)) => drop(changed.await.expect("the session lives")),
                Err(error) if error.is(Code::NoNode) && count == 0 => return,
                Err(error) if error.is(Code::NoNode) => {
                    let (stat, made) = client.exists(path).watched().await.expect("can be asked");
                    if stat.is_none() {
                        drop(made.await.expect("the session lives"));
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
}

/// Whether the error is a loss or the end of a session.
pub fn is_over(error: &Error) -> bool {
    error.session_over()
}
