//! What waits to be sent on one connection.
//!
//! Replies and events are encoded into it while the member's lock is held, so that they stand in
//! the order in which things happened; the connection's own task takes them out and writes them.
//! Nobody ever waits for a client while holding that lock.

use std::future::poll_fn;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Release};
use std::sync::{Mutex, MutexGuard};
use std::task::Poll;

use bytes::BytesMut;
use futures::task::AtomicWaker;
use synod_core::model::Event;
use synod_core::wire::encode_event;

/// How a connection stands, from good to bad: it never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// It goes on.
    Open,
    /// It ends when what waits is written.
    Drain,
    /// It ends now.
    Cut,
}

struct Waiting {
    bytes: BytesMut,
    /// Bytes that were taken out and are not yet written.
    in_flight_bytes: usize,
    /// Of the bytes, those of events.
    event_bytes: usize,
    fate: Fate,
    /// The task was notified and has not looked since.
    notified: bool,
}

pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    /// The task was woken and has not gone on since.
    woken: AtomicBool,
    /// The connection's own: nobody else waits.
    task: AtomicWaker,
    event_bytes_max: usize,
}

impl Outbox {
    pub(crate) fn new(event_bytes_max: usize) -> Outbox {
        let waiting = Waiting {
            bytes: BytesMut::new(),
            in_flight_bytes: 0,
            event_bytes: 0,
            fate: Fate::Open,
            notified: false,
        };
        Outbox {
            waiting: Mutex::new(waiting),
            woken: AtomicBool::new(false),
            task: AtomicWaker::new(),
            event_bytes_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("encoding does not panic")
    }

    /// Lets `encode` append replies; how many bytes wait afterwards. Somebody else than the
    /// connection's own task gives it [notice](Outbox::notice).
    pub(crate) fn reply(&self, encode: impl FnOnce(&mut BytesMut)) -> usize {
        let mut waiting = self.lock();
        if waiting.fate != Fate::Cut {
            encode(&mut waiting.bytes);
        }
        waiting.bytes.len() + waiting.in_flight_bytes
    }

    /// Appends an event; whether the task must be [woken](Outbox::wake) to see it.
    pub(crate) fn event(&self, event: &Event) -> bool {
        let mut waiting = self.lock();
        if waiting.fate == Fate::Cut {
            return false;
        }
        let before = waiting.bytes.len();
        encode_event(&mut waiting.bytes, event);
        waiting.event_bytes += waiting.bytes.len() - before;
        if waiting.event_bytes > self.event_bytes_max {
            waiting.fate = Fate::Cut;
            waiting.bytes = BytesMut::new();
        }
        !std::mem::replace(&mut waiting.notified, true)
    }

    /// Whether the task must be [woken](Outbox::wake) to see what has changed.
    pub(crate) fn notice(&self) -> bool {
        !std::mem::replace(&mut self.lock().notified, true)
    }

    /// How many bytes wait, those in flight among them.
    pub(crate) fn waiting(&self) -> usize {
        let waiting = self.lock();
        waiting.bytes.len() + waiting.in_flight_bytes
    }

    pub(crate) fn wake(&self) {
        self.woken.store(true, Release);
        self.task.wake();
    }

    /// The connection is to end like this, unless it ends worse already.
    pub(crate) fn end(&self, fate: Fate) {
        let mut waiting = self.lock();
        waiting.fate = waiting.fate.max(fate);
        drop(waiting);
        self.wake();
    }

    /// How many bytes wait: those here, and those that were taken out and are not yet written.
    pub(crate) fn waiting_bytes(&self, writing: &BytesMut) -> usize {
        self.lock().bytes.len() + writing.len()
    }

    /// Takes out what waits, if what was taken before is written.
    pub(crate) fn take(&self, writing: &mut BytesMut) -> Fate {
        let mut waiting = self.lock();
        waiting.notified = false;
        waiting.in_flight_bytes = writing.len();
        if writing.is_empty() {
            *writing = std::mem::take(&mut waiting.bytes);
            waiting.in_flight_bytes = writing.len();
            // Those that are in flight no longer count: they may be as many again.
            waiting.event_bytes = 0;
        }
        waiting.fate
    }

    /// The connection is to end. It takes what [`Outbox::changed`] waits for: nobody waits there
    /// meanwhile.
    pub(crate) async fn ended(&self) {
        while self.lock().fate == Fate::Open {
            self.changed().await;
        }
    }

    /// Something was appended, or the connection is to end. Only the connection's own task may wait
    /// for it.
    pub(crate) async fn changed(&self) {
        poll_fn(|cx| {
            self.task.register(cx.waker());
            match self.woken.swap(false, AcqRel) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use synod_core::model::EventKind;

    use super::*;

    fn event() -> Event {
        Event { kind: EventKind::Created, path: "/a".into(), zxid: None }
    }

    #[test]
    fn events_past_the_bound_cut_the_connection_and_free_its_memory() {
        let outbox = Outbox::new(100);
        assert!(outbox.event(&event()), "the first one wakes the task");
        assert!(!outbox.event(&event()), "the task is awake");
        let mut writing = BytesMut::new();
        while outbox.take(&mut writing) == Fate::Open {
            let taken = writing.len();
            assert!(taken <= 100, "{taken}");
            writing.clear();
            (0..3).for_each(|_| _ = outbox.event(&event()));
        }
        assert!(writing.is_empty() && outbox.lock().bytes.capacity() == 0);
    }

    #[test]
    fn a_connection_never_comes_back() {
        let outbox = Outbox::new(100);
        outbox.end(Fate::Cut);
        outbox.end(Fate::Drain);
        assert_eq!(outbox.reply(|bytes| bytes.extend_from_slice(b"late")), 0);
        assert_eq!(outbox.take(&mut BytesMut::new()), Fate::Cut);
    }

    #[test]
    fn what_is_in_flight_counts_as_waiting() {
        let outbox = Outbox::new(100);
        outbox.reply(|bytes| bytes.extend_from_slice(b"12345"));
        let mut writing = BytesMut::new();
        outbox.take(&mut writing);
        assert_eq!(outbox.reply(|bytes| bytes.extend_from_slice(b"67")), 7);
        outbox.take(&mut writing);
        assert_eq!(&writing[..], b"12345", "the rest waits for its turn");
    }
}
