//! What waits to be sent on one connection.
//!
//! Replies and events are encoded into it while the member's lock is held, so that they stand in
//! the order in which things happened; the connection's own task takes them out and writes them.
//! Nobody ever waits for a client while holding that lock.

use std::future::poll_fn;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use bytes::BytesMut;
use futures::task::AtomicWaker;
use synod_core::model::Event;
use synod_core::wire::encode_event;

use crate::limits::{OUTPUT_BYTES_COUNTED, OUTPUT_PART_OF_CONNECTION};

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

/// What waits on all connections that have much of it, together.
pub(crate) struct Output {
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl Output {
    pub(crate) fn new(bytes_max: usize) -> Arc<Output> {
        Arc::new(Output { bytes: AtomicUsize::new(0), bytes_max })
    }

    fn is_full(&self, more: usize) -> bool {
        self.bytes.load(Relaxed).saturating_add(more) > self.bytes_max
    }
}

struct Waiting {
    bytes: BytesMut,
    /// Bytes that were taken out and are not yet written.
    in_flight_bytes: usize,
    /// How many they were when they were taken out: their room is held until all are written.
    taken_bytes: usize,
    /// Of the bytes, those of events.
    event_bytes: usize,
    fate: Fate,
    /// The task was notified and has not looked since.
    notified: bool,
}

pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    /// What of it is counted in [`Output`]. It changes with that locked.
    counted: AtomicUsize,
    /// The task was woken and has not gone on since.
    woken: AtomicBool,
    /// The connection's own: nobody else waits.
    task: AtomicWaker,
    event_bytes_max: usize,
    output: Arc<Output>,
}

impl Outbox {
    pub(crate) fn new(event_bytes_max: usize, output: Arc<Output>) -> Outbox {
        let waiting = Waiting {
            bytes: BytesMut::new(),
            in_flight_bytes: 0,
            taken_bytes: 0,
            event_bytes: 0,
            fate: Fate::Open,
            notified: false,
        };
        Outbox {
            waiting: Mutex::new(waiting),
            counted: AtomicUsize::new(0),
            woken: AtomicBool::new(false),
            task: AtomicWaker::new(),
            event_bytes_max,
            output,
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
        self.count(&waiting)
    }

    /// Whether a reply of so many bytes may wait, with what waits here, and on all connections.
    pub(crate) fn admits(&self, bytes: usize) -> bool {
        if bytes <= OUTPUT_BYTES_COUNTED {
            return true;
        }
        let counted = self.counted.load(Relaxed);
        let most = self.output.bytes_max / OUTPUT_PART_OF_CONNECTION;
        !self.output.is_full(bytes) && (counted == 0 || counted.saturating_add(bytes) <= most)
    }

    /// Whether as much waits, with what waits on all connections, that none of this one's requests
    /// is to be looked at.
    pub(crate) fn is_sated(&self, waiting_bytes: usize, bytes_soft: usize) -> bool {
        waiting_bytes >= bytes_soft
            || waiting_bytes >= OUTPUT_BYTES_COUNTED && self.output.is_full(0)
    }

    /// Counts what waits among what waits on all connections; how much that is here.
    fn count(&self, waiting: &Waiting) -> usize {
        let bytes = waiting.bytes.len() + waiting.in_flight_bytes;
        let in_flight = if waiting.in_flight_bytes > 0 { waiting.taken_bytes } else { 0 };
        let held = waiting.bytes.len() + in_flight;
        let counted = if held > OUTPUT_BYTES_COUNTED { held } else { 0 };
        let before = self.counted.swap(counted, Relaxed);
        if counted > before {
            self.output.bytes.fetch_add(counted - before, Relaxed);
        } else if counted < before {
            self.output.bytes.fetch_sub(before - counted, Relaxed);
        }
        bytes
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
        let too_many = waiting.event_bytes > OUTPUT_BYTES_COUNTED && self.output.is_full(0);
        if too_many || waiting.event_bytes > self.event_bytes_max {
            waiting.fate = Fate::Cut;
            waiting.bytes = BytesMut::new();
        }
        self.count(&waiting);
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
            waiting.taken_bytes = writing.len();
            // Those that are in flight no longer count: they may be as many again.
            waiting.event_bytes = 0;
        }
        self.count(&waiting);
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

impl Drop for Outbox {
    fn drop(&mut self) {
        self.output.bytes.fetch_sub(self.counted.load(Relaxed), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use synod_core::model::EventKind;

    use super::*;

    fn outbox(output: &Arc<Output>) -> Outbox {
        Outbox::new(100, Arc::clone(output))
    }

    fn event() -> Event {
        Event { kind: EventKind::Created, path: "/a".into(), zxid: None }
    }

    #[test]
    fn events_past_the_bound_cut_the_connection_and_free_its_memory() {
        let outbox = outbox(&Output::new(usize::MAX));
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
        let outbox = outbox(&Output::new(usize::MAX));
        outbox.end(Fate::Cut);
        outbox.end(Fate::Drain);
        assert_eq!(outbox.reply(|bytes| bytes.extend_from_slice(b"late")), 0);
        assert_eq!(outbox.take(&mut BytesMut::new()), Fate::Cut);
    }

    #[test]
    fn what_is_in_flight_counts_as_waiting() {
        let outbox = outbox(&Output::new(usize::MAX));
        outbox.reply(|bytes| bytes.extend_from_slice(b"12345"));
        let mut writing = BytesMut::new();
        outbox.take(&mut writing);
        assert_eq!(outbox.reply(|bytes| bytes.extend_from_slice(b"67")), 7);
        outbox.take(&mut writing);
        assert_eq!(&writing[..], b"12345", "the rest waits for its turn");
    }

    #[test]
    fn one_connection_holds_a_part_of_that_or_one_reply() {
        let most = 2 * OUTPUT_BYTES_COUNTED;
        let output = Output::new(OUTPUT_PART_OF_CONNECTION * most);
        let (mut writing, first, second) = (BytesMut::new(), outbox(&output), outbox(&output));
        first.reply(|bytes| bytes.resize(OUTPUT_BYTES_COUNTED + 1, 0));
        assert!(!first.admits(OUTPUT_BYTES_COUNTED + 1), "it would be more than the part");
        assert!(first.admits(OUTPUT_BYTES_COUNTED), "small replies always go");
        assert!(second.admits(2 * most), "one reply may be larger");
        second.reply(|bytes| bytes.resize(2 * most, 0));
        second.take(&mut writing);
        assert!(!second.admits(OUTPUT_BYTES_COUNTED + 1), "the other is not taken");
        writing.clear();
        second.take(&mut writing);
        assert!(second.admits(2 * most));
    }

    #[test]
    fn what_waits_on_all_connections_together_is_bounded() {
        let large = OUTPUT_BYTES_COUNTED + 1;
        let output = Output::new(2 * large);
        let (mut writing, first, second) = (BytesMut::new(), outbox(&output), outbox(&output));
        let third = outbox(&output);
        first.reply(|bytes| bytes.resize(large, 0));
        assert!(second.admits(large) && !second.admits(large + 1));
        // What is being written counts until it is.
        first.take(&mut writing);
        second.reply(|bytes| bytes.resize(large, 0));
        assert!(!third.admits(large), "both have as much as they may");
        assert!(second.admits(OUTPUT_BYTES_COUNTED), "small replies always go");
        assert!(!second.is_sated(large, large + 1));
        first.reply(|bytes| bytes.resize(1, 0));
        assert!(second.is_sated(OUTPUT_BYTES_COUNTED, large), "there is too much in all");
        assert!(!second.is_sated(OUTPUT_BYTES_COUNTED - 1, large));
        first.reply(BytesMut::clear);
        assert!(second.is_sated(large, large) && !second.is_sated(large - 1, large));
        writing.truncate(1);
        first.take(&mut writing);
        assert!(!third.admits(large), "the room of what is left is as large as ever");
        writing.clear();
        first.take(&mut writing);
        assert!(third.admits(large));
        drop(second);
        assert!(first.admits(2 * large), "it took its own along");
        assert_eq!(output.bytes.load(Relaxed), 0);
    }
}
