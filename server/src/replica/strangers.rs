//! Connections to the members' port that have not said yet who they are: whoever reaches the port
//! can hold some of its places that long, and each address only so many.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::PEER_HANDSHAKES_PER_ADDRESS_MAX;

#[derive(Default)]
pub(super) struct Strangers {
    /// Looked up only, never iterated.
    of_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One of them; it is none any more when this is dropped.
pub(super) struct Stranger {
    address: IpAddr,
    among: Arc<Strangers>,
}

impl Strangers {
    fn of_address(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Nothing panics half way through a change of it.
        self.of_address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if the address has too many already.
    pub(super) fn enter(self: &Arc<Strangers>, address: IpAddr) -> Option<Stranger> {
        let address = address.to_canonical();
        let mut of_address = self.of_address();
        let count = of_address.entry(address).or_default();
        if *count >= PEER_HANDSHAKES_PER_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        Some(Stranger { address, among: Arc::clone(self) })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut of_address = self.among.of_address();
        if let Some(count) = of_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                of_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_and_the_others_have_theirs() {
        let strangers = Arc::new(Strangers::default());
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let one: Vec<Stranger> =
            std::iter::from_fn(|| strangers.enter(address("10.0.0.1"))).take(9_999).collect();
        assert_eq!(one.len(), PEER_HANDSHAKES_PER_ADDRESS_MAX);
        assert!(strangers.enter(address("::ffff:10.0.0.1")).is_none(), "it is the same one");
        let other = strangers.enter(address("10.0.0.2"));
        assert!(other.is_some());
        drop((one, other));
        assert!(strangers.of_address().is_empty());
    }
}
