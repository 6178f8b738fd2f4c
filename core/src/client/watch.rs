//! Handles of watches: streams and one-shot futures that remove themselves.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;

use super::Session;
use super::inbox::{Arm, HandleId, Interest};
use super::queue::Queue;
use crate::model::{Error, Event, Path, SessionEnd};

/// What a [`Watch`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Something changed.
    Event(Event),
    /// Changes may have been missed: the stream was not read for more than
    /// [`WATCH_BACKLOG_EVENTS_MAX`](crate::model::limits::WATCH_BACKLOG_EVENTS_MAX) events, or
    /// the connection was broken for a while. Read again what the watch is for.
    Lagged,
}

/// A handle in the session's inbox; leaves it when dropped, and takes the coordinator's watch
/// away if no other handle needs it.
pub(crate) struct Subscription {
    session: Session,
    path: Arc<str>,
    id: HandleId,
    queue: Arc<Queue>,
}

impl Subscription {
    /// Enters a handle that the reply to a request will arm.
    pub(crate) fn new(
        session: Session,
        path: Arc<str>,
        interest: Interest,
    ) -> Result<Subscription, Error> {
        let queue = Arc::new(Queue::default());
        let id = {
            // Not between a removal and its message: what is sent for this one comes after both.
            let _order = session.core.in_order();
            session.inbox().subscribe(&path, interest, &queue)?
        };
        Ok(Subscription { session, path, id, queue })
    }

    /// What the request has to carry.
    pub(crate) fn arm(&self, even_if_missing: bool) -> Arm {
        Arm { path: Arc::clone(&self.path), handle: self.id, even_if_missing }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("path", &self.path)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let _order = self.session.core.in_order();
        if let Some(kind) = self.session.inbox().unsubscribe(&self.path, self.id) {
            self.session.remove_watch(Arc::clone(&self.path), kind);
        }
    }
}

/// The changes of a znode, or of a whole subtree: a stream of [`Notice`]s.
///
/// Made by [`Client::watch`](super::Client::watch). The stream is never silently short: past its
/// bound, and after the connection was broken, it yields [`Notice::Lagged`]. It ends with the
/// session it was made in. Dropping it removes the watch from the coordinator.
#[derive(Debug)]
#[must_use = "a watch that is dropped is removed"]
pub struct Watch {
    subscription: Subscription,
    namespace: Option<Path>,
}

impl Watch {
    pub(crate) fn new(subscription: Subscription, namespace: Option<Path>) -> Watch {
        Watch { subscription, namespace }
    }

    /// The next notice; `None` when the session is over.
    ///
    /// Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Notice> {
        std::future::poll_fn(|context| self.poll_notice(context)).await
    }

    fn poll_notice(&mut self, context: &mut Context<'_>) -> Poll<Option<Notice>> {
        self.subscription.queue.poll(context).map(|notice| match notice {
            Some(Notice::Event(event)) => Some(Notice::Event(relative(event, &self.namespace))),
            other => other,
        })
    }
}

impl Stream for Watch {
    type Item = Notice;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Notice>> {
        self.get_mut().poll_notice(context)
    }
}

/// The next change of what was read: a future of one [`Event`].
///
/// Made by the `watched` reads. It fails with [`Error::SessionOver`] when the session ends first.
/// What changes while the connection is broken is told when it is back. Dropping it removes the
/// watch from the coordinator; cancelling an await on `&mut` of it loses nothing.
#[derive(Debug)]
#[must_use = "a watch that is dropped is removed"]
pub struct WatchOnce {
    subscription: Subscription,
    namespace: Option<Path>,
}

impl WatchOnce {
    pub(crate) fn new(subscription: Subscription, namespace: Option<Path>) -> WatchOnce {
        WatchOnce { subscription, namespace }
    }
}

impl Future for WatchOnce {
    type Output = Result<Event, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match this.subscription.queue.poll(context) {
                Poll::Ready(Some(Notice::Event(event))) => {
                    return Poll::Ready(Ok(relative(event, &this.namespace)));
                }
                // A queue of one event cannot overflow, and a one-shot watch that was away is
                // told what it missed.
                Poll::Ready(Some(Notice::Lagged)) => {}
                Poll::Ready(None) => {
                    let session = &this.subscription.session;
                    let end = session.end().unwrap_or(SessionEnd::Closed);
                    return Poll::Ready(Err(session.over(end, false)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// The event as the namespace sees it.
fn relative(event: Event, namespace: &Option<Path>) -> Event {
    match namespace {
        Some(prefix) => Event { path: strip(&event.path, prefix).into(), ..event },
        None => event,
    }
}

/// The path below a namespace; the namespace itself is `/`.
pub(crate) fn strip<'a>(path: &'a str, namespace: &Path) -> &'a str {
    match path.strip_prefix(namespace.as_str()) {
        Some("") => "/",
        Some(below) if below.starts_with('/') => below,
        _ => path,
    }
}
