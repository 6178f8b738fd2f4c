//! A value that others wait for the changes of: tokio's `watch`, but for the order in which it wakes
//! who waits. tokio draws that at random, from a generator that cannot be seeded; here who waits
//! longer is woken first, so that a simulated run can be repeated.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;

/// Where the value is set. It ends for its receivers when the last sender is dropped.
pub(crate) struct Sender<T> {
    // Dropped first: who is woken by the bell must find it gone.
    value: watch::Sender<T>,
    bell: Bell,
}

/// Where it is seen.
pub(crate) struct Receiver<T> {
    value: watch::Receiver<T>,
    changed: Arc<Notify>,
}

/// Rings when it is dropped.
#[derive(Clone)]
struct Bell(Arc<Notify>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { value: self.value.clone(), bell: self.bell.clone() }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        Receiver { value: self.value.clone(), changed: Arc::clone(&self.changed) }
    }
}

impl<T> Sender<T> {
    pub(crate) fn new(value: T) -> Sender<T> {
        Sender { value: watch::Sender::new(value), bell: Bell(Arc::default()) }
    }

    /// Sets the value, and gives it back if nobody can see it.
    pub(crate) fn send(&self, value: T) -> Result<(), T> {
        let sent = self.value.send(value);
        self.bell.0.notify_waiters();
        sent.map_err(|unsent| unsent.0)
    }

    /// Sets the value, whether anybody can see it or not.
    pub(crate) fn send_replace(&self, value: T) {
        self.value.send_replace(value);
        self.bell.0.notify_waiters();
    }

    /// Changes the value; nobody is woken if `modify` says that it did not.
    pub(crate) fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = self.value.send_if_modified(modify);
        if modified {
            self.bell.0.notify_waiters();
        }
        modified
    }

    pub(crate) fn borrow(&self) -> watch::Ref<'_, T> {
        self.value.borrow()
    }

    pub(crate) fn subscribe(&self) -> Receiver<T> {
        Receiver { value: self.value.subscribe(), changed: Arc::clone(&self.bell.0) }
    }
}

impl<T> Receiver<T> {
    /// Waits for a value that was not seen yet, and takes it for seen. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    /// There are no senders any more, and the last value was seen.
    pub(crate) async fn changed(&mut self) -> Result<(), RecvError> {
        loop {
            let notified = self.changed.notified();
            tokio::pin!(notified);
            // From here on a ring is not missed.
            notified.as_mut().enable();
            match self.value.has_changed() {
                Ok(false) => {}
                // Neither has to wait.
                Ok(true) | Err(_) => return self.value.changed().await,
            }
            notified.await;
        }
    }

    pub(crate) fn borrow(&self) -> watch::Ref<'_, T> {
        self.value.borrow()
    }

    pub(crate) fn borrow_and_update(&mut self) -> watch::Ref<'_, T> {
        self.value.borrow_and_update()
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
