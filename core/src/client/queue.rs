//! The bounded queue between a connection and one watch handle.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::watch::Notice;
use crate::model::Event;
use crate::model::limits::WATCH_BACKLOG_EVENTS_MAX;

#[derive(Default)]
struct Inner {
    events: VecDeque<Event>,
    /// Events were dropped, or missed while the connection was broken.
    lagged: bool,
    ended: bool,
    waker: Option<Waker>,
}

/// Events that wait to be read. Pushing never waits: past the bound all that waits is dropped
/// for one notice of it, since whoever has to read again gains nothing from older events.
///
/// Wakers are handed back rather than woken: the pusher holds the coordinator's lock.
#[derive(Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing below panics half way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, event: Event) -> Option<Waker> {
        let mut inner = self.lock();
        if inner.events.len() >= WATCH_BACKLOG_EVENTS_MAX {
            inner.events.clear();
            inner.lagged = true;
        }
        inner.events.push_back(event);
        inner.waker.take()
    }

    /// Notes that events were missed: what waits is no longer the whole story.
    pub(crate) fn lag(&self) -> Option<Waker> {
        let mut inner = self.lock();
        inner.events.clear();
        inner.lagged = true;
        inner.waker.take()
    }

    /// Nothing more will come; what waits can still be read.
    pub(crate) fn end(&self) -> Option<Waker> {
        let mut inner = self.lock();
        inner.ended = true;
        inner.waker.take()
    }

    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Notice>> {
        let mut inner = self.lock();
        if std::mem::take(&mut inner.lagged) {
            return Poll::Ready(Some(Notice::Lagged));
        }
        if let Some(event) = inner.events.pop_front() {
            return Poll::Ready(Some(Notice::Event(event)));
        }
        if inner.ended {
            return Poll::Ready(None);
        }
        inner.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
