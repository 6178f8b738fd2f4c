//! What comes up from a connection: replies, events, and word of the session.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use hashbrown::HashMap;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ground::{Failure, Reply, ReplyTo};
use super::queue::Queue;
use crate::model::limits::{REARM_BYTES_SOFT, WATCHES_PER_SESSION_MAX};
use crate::model::{Code, Error, Event, EventKind, Rearm, SessionEnd, WatchKind, Zxid};

/// How a session stands, as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionStatus {
    /// It is attached to a connection.
    Connected,
    /// It is attached to a server that has no quorum and answers reads alone, which the client was
    /// [allowed](crate::client::ClientBuilder::read_only) to use. Nobody else knows the session.
    ConnectedReadOnly,
    /// The connection is broken; the session may live on, and the client tries to re-attach it.
    Disconnected,
    /// It is over. Nothing comes after this.
    Over(SessionEnd),
}

impl SessionStatus {
    /// Whether requests go out at once: it is attached to a connection, be it read-only.
    pub fn is_connected(self) -> bool {
        matches!(self, SessionStatus::Connected | SessionStatus::ConnectedReadOnly)
    }
}

/// What a local watch handle waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Interest {
    /// One-shot: created, deleted, data changed; left by a read of a znode that exists.
    Data,
    /// The same, left by `exists` on a znode that did not.
    Exist,
    /// One-shot: children changed, deleted.
    Child,
    /// All events of one znode.
    Persistent,
    /// Events of a znode and of all below it, children changed excepted.
    Recursive,
}

impl Interest {
    fn is_one_shot(self) -> bool {
        matches!(self, Interest::Data | Interest::Exist | Interest::Child)
    }

    fn matches(self, kind: EventKind) -> bool {
        match self {
            Interest::Data | Interest::Exist => kind != EventKind::ChildrenChanged,
            Interest::Child => matches!(kind, EventKind::ChildrenChanged | EventKind::Deleted),
            Interest::Persistent => true,
            Interest::Recursive => kind != EventKind::ChildrenChanged,
        }
    }

    fn kind(self) -> WatchKind {
        match self {
            Interest::Data | Interest::Exist => WatchKind::Data,
            Interest::Child => WatchKind::Children,
            Interest::Persistent => WatchKind::Persistent,
            Interest::Recursive => WatchKind::PersistentRecursive,
        }
    }

    /// Whether both are one watch to the coordinator.
    fn shares_watch_with(self, other: Interest) -> bool {
        let is_data = |interest| matches!(interest, Interest::Data | Interest::Exist);
        self == other || (is_data(self) && is_data(other))
    }
}

/// The number of a watch handle within its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HandleId(u64);

/// Tells the inbox which handle a reply arms.
pub(crate) struct Arm {
    pub(crate) path: Arc<str>,
    pub(crate) handle: HandleId,
    /// `exists`: the watch is left even when there is no such znode.
    pub(crate) even_if_missing: bool,
}

struct Handle {
    id: HandleId,
    interest: Interest,
    /// Events reach a handle from the reply on that left its watch. It is entered when the
    /// request is sent, so that the removal of another one on the same path does not take the
    /// watch away that is just being left.
    armed: bool,
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Handles {
    by_path: HashMap<Arc<str>, Vec<Handle>, foldhash::fast::RandomState>,
    next: u64,
    count: usize,
    recursive: usize,
}

/// Where a connection delivers. It lives as long as the session, over all its connections.
pub(crate) struct Inbox {
    handles: Mutex<Handles>,
    status: Mutex<SessionStatus>,
    /// Wakes those who wait for a status in the order in which they began to wait, so that runs
    /// repeat (a `watch` channel of tokio's wakes them in a random one).
    status_changed: Notify,
    /// Whether `status` is a connected one: every request asks, and asking this takes no lock.
    connected: AtomicBool,
    /// How often the session was attached to a connection.
    attachments: AtomicU64,
    last_zxid: AtomicI64,
    /// Until when the session is proved to live; `None` on a ground where it cannot expire.
    valid_until: Mutex<Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing below panics half way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox {
            handles: Mutex::default(),
            status: Mutex::new(SessionStatus::Disconnected),
            status_changed: Notify::new(),
            connected: AtomicBool::new(false),
            attachments: AtomicU64::new(0),
            last_zxid: AtomicI64::new(0),
            valid_until: Mutex::default(),
        }
    }

    /// Delivers the reply to a call. A watch that the call left is armed first, so that no event
    /// after the reply is missed.
    pub(crate) fn reply(&self, reply_to: ReplyTo, arm: Option<Arm>, reply: Reply) {
        if let Some(arm) = arm {
            match &reply {
                Ok(_) => self.arm(&arm, false),
                Err(Failure::Refused(refusal, _))
                    if arm.even_if_missing && refusal.code == Code::NoNode =>
                {
                    self.arm(&arm, true);
                }
                Err(_) => {}
            }
        }
        match &reply {
            Ok((_, zxid)) | Err(Failure::Refused(_, zxid)) => self.saw(*zxid),
            Err(Failure::Disconnected { .. }) => {}
        }
        // Nobody may be waiting any more: a request whose future was dropped.
        let _ = reply_to.send(reply);
    }

    fn saw(&self, zxid: Zxid) {
        // Looked at first: reads mostly bring no news, and then change nothing that is shared.
        if self.last_zxid() < zxid {
            self.last_zxid.fetch_max(zxid.as_i64(), Ordering::AcqRel);
        }
    }

    /// The highest zxid that this session has seen.
    pub(crate) fn last_zxid(&self) -> Zxid {
        Zxid::from_i64(self.last_zxid.load(Ordering::Acquire))
    }

    /// Puts an event into every handle that it concerns. The wakers are given back, to be woken
    /// when no lock is held.
    pub(crate) fn event(&self, event: &Event, wakers: &mut Vec<Waker>) {
        if let Some(zxid) = event.zxid {
            self.saw(zxid);
        }
        let mut handles = lock(&self.handles);
        handles.deliver(&event.path, event, true, wakers);
        if handles.recursive > 0 {
            let mut above = &*event.path;
            while let Some(slash) = above.rfind('/') {
                let parent = if slash == 0 { "/" } else { &above[..slash] };
                if parent != above {
                    handles.deliver(parent, event, false, wakers);
                }
                above = &above[..slash];
            }
        }
    }

    /// Enters a handle; it gets events once it is armed.
    pub(crate) fn subscribe(
        &self,
        path: &Arc<str>,
        interest: Interest,
        queue: &Arc<Queue>,
    ) -> Result<HandleId, Error> {
        let mut handles = lock(&self.handles);
        if handles.count >= WATCHES_PER_SESSION_MAX {
            return Err(Error::TooMany { what: "watches", max: WATCHES_PER_SESSION_MAX });
        }
        let id = HandleId(handles.next);
        handles.next += 1;
        handles.count += 1;
        handles.recursive += usize::from(interest == Interest::Recursive);
        let queue = Arc::clone(queue);
        let handle = Handle { id, interest, armed: false, queue };
        handles.by_path.entry(Arc::clone(path)).or_default().push(handle);
        Ok(id)
    }

    fn arm(&self, arm: &Arm, missing: bool) {
        let mut handles = lock(&self.handles);
        let Some(of_path) = handles.by_path.get_mut(&arm.path) else { return };
        // From the end: replies come soon after their handles were entered there.
        let handle = of_path.iter_mut().rev().find(|handle| handle.id == arm.handle);
        let Some(handle) = handle else { return };
        handle.armed = true;
        if handle.interest == Interest::Data && missing {
            handle.interest = Interest::Exist;
        }
    }

    /// Takes a handle out. `Some` if it was there and was the last that needed its watch: the
    /// kind of watch that can be removed from the coordinator.
    pub(crate) fn unsubscribe(&self, path: &str, id: HandleId) -> Option<WatchKind> {
        let mut handles = lock(&self.handles);
        let of_path = handles.by_path.get_mut(path)?;
        let place = of_path.iter().position(|handle| handle.id == id)?;
        let gone = of_path.swap_remove(place);
        let last = !of_path.iter().any(|other| gone.interest.shares_watch_with(other.interest));
        // By that name where it means the same: servers before ZooKeeper 3.9 know no names for
        // watches that stay.
        let kind = if of_path.is_empty() {
            handles.by_path.remove(path);
            WatchKind::Any
        } else {
            gone.interest.kind()
        };
        handles.count -= 1;
        handles.recursive -= usize::from(gone.interest == Interest::Recursive);
        last.then_some(kind)
    }

    /// What to leave again on a new connection, in pieces that servers take, and one at least; up to
    /// `since`, everything was told. Handles that stay have missed what happened after it; they are
    /// told so.
    pub(crate) fn rearm(&self, since: Zxid, wakers: &mut Vec<Waker>) -> Vec<Rearm> {
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        let mut rearm = Rearm { since, ..Rearm::default() };
        let handles = lock(&self.handles);
        // The table has no order of its own; what comes of it has, so that runs repeat.
        let mut by_path: Vec<_> = handles.by_path.iter().collect();
        by_path.sort_unstable_by_key(|(path, _)| *path);
        for (path, of_path) in by_path {
            let armed = || of_path.iter().filter(|handle| handle.armed);
            for handle in armed().filter(|handle| !handle.interest.is_one_shot()) {
                wakers.extend(handle.queue.lag());
            }
            for (interest, list) in [
                (Interest::Data, &mut rearm.data),
                (Interest::Exist, &mut rearm.exist),
                (Interest::Child, &mut rearm.child),
                (Interest::Persistent, &mut rearm.persistent),
                (Interest::Recursive, &mut rearm.recursive),
            ] {
                if armed().any(|handle| handle.interest == interest) {
                    list.push(Arc::clone(path));
                    bytes += 4 + path.len();
                }
            }
            if bytes >= REARM_BYTES_SOFT {
                let next = Rearm { since, ..Rearm::default() };
                pieces.push(std::mem::replace(&mut rearm, next));
                bytes = 0;
            }
        }
        if bytes > 0 || pieces.is_empty() {
            pieces.push(rearm);
        }
        pieces
    }

    pub(crate) fn status(&self) -> SessionStatus {
        *lock(&self.status)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    pub(crate) fn attachment(&self) -> u64 {
        self.attachments.load(Ordering::Acquire)
    }

    /// Waits for a status that is `wanted`.
    pub(crate) async fn status_when(
        &self,
        wanted: impl Fn(SessionStatus) -> bool,
    ) -> SessionStatus {
        loop {
            let mut changed = pin!(self.status_changed.notified());
            // Before the look, so that no change after it is missed.
            changed.as_mut().enable();
            let status = self.status();
            if wanted(status) {
                return status;
            }
            changed.await;
        }
    }

    /// Records how the session stands; nothing follows its end. Whether this is news.
    pub(crate) fn set_status(&self, status: SessionStatus) -> bool {
        {
            let mut present = lock(&self.status);
            if *present == status || matches!(*present, SessionStatus::Over(_)) {
                return false;
            }
            *present = status;
            if status.is_connected() {
                self.attachments.fetch_add(1, Ordering::AcqRel);
            }
            self.connected.store(status.is_connected(), Ordering::Release);
        }
        self.status_changed.notify_waiters();
        if matches!(status, SessionStatus::Over(_)) {
            let by_path = std::mem::take(&mut *lock(&self.handles)).by_path;
            // The table has no order of its own; the wakes have, so that runs repeat.
            let mut by_path: Vec<_> = by_path.into_iter().collect();
            by_path.sort_unstable_by(|(path, _), (other, _)| path.cmp(other));
            for handle in by_path.into_iter().flat_map(|(_, of_path)| of_path) {
                handle.queue.end().into_iter().for_each(Waker::wake);
            }
        }
        true
    }

    /// The coordinator has answered what was sent at `sent`, in a way that proves the session.
    pub(crate) fn prove_until(&self, deadline: Instant) {
        let mut valid_until = lock(&self.valid_until);
        if valid_until.is_none_or(|present| present < deadline) {
            *valid_until = Some(deadline);
        }
    }

    pub(crate) fn valid_until(&self) -> Option<Instant> {
        *lock(&self.valid_until)
    }
}

impl Handles {
    /// `here`: the event is of this very path, not of one below it.
    fn deliver(&mut self, path: &str, event: &Event, here: bool, wakers: &mut Vec<Waker>) {
        let Some(of_path) = self.by_path.get_mut(path) else { return };
        let before = of_path.len();
        of_path.retain(|handle| {
            let concerned = handle.armed
                && handle.interest.matches(event.kind)
                && (here || handle.interest == Interest::Recursive);
            if !concerned {
                return true;
            }
            wakers.extend(handle.queue.push(event.clone()));
            if handle.interest.is_one_shot() {
                wakers.extend(handle.queue.end());
            }
            !handle.interest.is_one_shot()
        });
        self.count -= before - of_path.len();
        if of_path.is_empty() {
            self.by_path.remove(path);
        }
    }
}
