//! A value that others wait for the changes of, as tokio's `watch` is one, but for two things. Who
//! waits longer is woken first: tokio draws the order at random, from a generator that cannot be
//! seeded, and a simulated run could not be repeated. And a change that nobody waits for costs next to
//! nothing: consensus tells of several with each entry.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::Notify;

struct Shared<T> {
    value: RwLock<T>,
    /// Grows with each change, while the value is locked.
    version: AtomicU64,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    changed: Notify,
}

impl<T> Shared<T> {
    fn read(&self) -> RwLockReadGuard<'_, T> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the value is set. It ends for its receivers when the last sender is dropped.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// Where it is seen.
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The version that was seen last.
    seen: u64,
}

/// The value as it is now; it cannot change as long as this is there.
pub(crate) type Ref<'a, T> = RwLockReadGuard<'a, T>;

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.0.senders.fetch_add(1, AcqRel);
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, AcqRel) == 1 {
            self.0.changed.notify_waiters();
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.shared.receivers.fetch_add(1, AcqRel);
        Receiver { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.fetch_sub(1, AcqRel);
    }
}

impl<T> Sender<T> {
    pub(crate) fn new(value: T) -> Sender<T> {
        Sender(Arc::new(Shared {
            value: RwLock::new(value),
            version: AtomicU64::new(0),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(0),
            changed: Notify::new(),
        }))
    }

    /// Sets the value, and gives it back if nobody can see it.
    pub(crate) fn send(&self, value: T) -> Result<(), T> {
        if self.0.receivers.load(Acquire) == 0 {
            return Err(value);
        }
        self.send_replace(value);
        Ok(())
    }

    /// Sets the value, whether anybody can see it or not.
    pub(crate) fn send_replace(&self, value: T) {
        self.send_if_modified(|present| {
            *present = value;
            true
        });
    }

    /// Changes the value; nobody is woken if `modify` says that it did not.
    pub(crate) fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = {
            let mut value = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
            let modified = modify(&mut value);
            if modified {
                self.0.version.fetch_add(1, Release);
            }
            modified
        };
        if modified {
            self.0.changed.notify_waiters();
        }
        modified
    }

    pub(crate) fn borrow(&self) -> Ref<'_, T> {
        self.0.read()
    }

    pub(crate) fn subscribe(&self) -> Receiver<T> {
        self.0.receivers.fetch_add(1, AcqRel);
        Receiver { shared: Arc::clone(&self.0), seen: self.0.version.load(Acquire) }
    }
}

/// There are no senders any more, and the last value was seen.
#[derive(Debug)]
pub(crate) struct Ended;

impl<T> Receiver<T> {
    /// Waits for a value that was not seen yet, and takes it for seen. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    /// [`Ended`].
    pub(crate) async fn changed(&mut self) -> Result<(), Ended> {
        let shared = Arc::clone(&self.shared);
        loop {
            let notified = shared.changed.notified();
            tokio::pin!(notified);
            // From here on a change is not missed.
            notified.as_mut().enable();
            // Before the version is looked at: what the last sender has sent is seen.
            let ended = shared.senders.load(Acquire) == 0;
            let version = shared.version.load(Acquire);
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if ended {
                return Err(Ended);
            }
            notified.await;
        }
    }

    pub(crate) fn borrow(&self) -> Ref<'_, T> {
        self.shared.read()
    }

    pub(crate) fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.read();
        self.seen = self.shared.version.load(Acquire);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_seen_once_and_the_last_one_after_the_end() {
        let sender = Sender::new(1);
        let mut receiver = sender.subscribe();
        sender.send_replace(2);
        assert!(receiver.changed().await.is_ok());
        assert_eq!(*receiver.borrow_and_update(), 2);
        assert!(!sender.send_if_modified(|_| false));
        sender.send_replace(3);
        drop(sender);
        assert!(receiver.changed().await.is_ok());
        assert!(receiver.changed().await.is_err());
    }

    #[tokio::test]
    async fn who_waits_longer_is_woken_first() {
        let sender = Sender::new(0);
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..20)
            .map(|number| {
                let (mut receiver, order) = (sender.subscribe(), Arc::clone(&order));
                tokio::spawn(async move {
                    receiver.changed().await.expect("the sender is there");
                    order.lock().expect("nobody panics").push(number);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        sender.send_replace(1);
        for task in tasks {
            task.await.expect("does not panic");
        }
        assert_eq!(*order.lock().expect("nobody panics"), (0..20).collect::<Vec<_>>());
    }
}
