//! The bounded queue between a connection and one watch handle.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::watch::Notice;
use crate::model::Event;
use crate::model::limits::WATCH_BACKLOG_EVENTS_MAX;

#[derive(Default)]
struct Inner {
    /// The oldest event, unless it came while others waited. A reader that keeps up, and every
    /// one-shot watch, needs no allocation.
    first: Option<Event>,
    /// What came after it.
    more: VecDeque<Event>,
    /// Events were dropped, or missed while the connection was broken.
    lagged: bool,
    ended: bool,
    waker: Option<Waker>,
}

impl Inner {
    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    fn push(&mut self, event: Event) {
        if self.len() == 0 {
            self.first = Some(event);
        } else {
            self.more.push_back(event);
        }
    }

    fn pop(&mut self) -> Option<Event> {
        self.first.take().or_else(|| self.more.pop_front())
    }

    /// Drops what waits, for one notice of it.
    fn lag(&mut self) {
        self.first = None;
        self.more.clear();
        self.lagged = true;
    }
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
        if inner.len() >= WATCH_BACKLOG_EVENTS_MAX {
            inner.lag();
        }
        inner.push(event);
        inner.waker.take()
    }

    /// Notes that events were missed: what waits is no longer the whole story.
    pub(crate) fn lag(&self) -> Option<Waker> {
        let mut inner = self.lock();
        inner.lag();
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
        if let Some(event) = inner.pop() {
            return Poll::Ready(Some(Notice::Event(event)));
        }
        if inner.ended {
            return Poll::Ready(None);
        }
        inner.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
