//! Ports that a server can come back to.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

/// Below those that the system gives to clients: no connection takes the port of a server that is
/// down for a while. (The kazoo suite draws from the same.)
const PORTS: Range<u16> = 21_000..30_000;

/// How far apart the blocks are.
const BLOCK: u16 = 50;

/// Ports in a row. As long as it lives, nobody else who draws from the same has them.
pub struct Ports {
    /// Holds the port before them.
    _claim: TcpListener,
    first: u16,
}

impl Ports {
    /// Claims `count` ports that nobody uses.
    ///
    /// # Panics
    /// If there are none.
    pub fn claim(count: u16) -> Ports {
        assert!(count < BLOCK, "a block has {BLOCK} ports");
        let blocks = (PORTS.end - PORTS.start) / BLOCK;
        // Processes that run side by side begin at different places.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
        let start = (now.wrapping_add(std::process::id()) % u32::from(blocks)) as u16;
        let claimed = (0..blocks).find_map(|nth| {
            let before = PORTS.start + (start + nth) % blocks * BLOCK;
            let _claim = TcpListener::bind((Ipv4Addr::LOCALHOST, before)).ok()?;
            let free = (1..=count)
                .all(|nth| TcpListener::bind((Ipv4Addr::LOCALHOST, before + nth)).is_ok());
            free.then_some(Ports { _claim, first: before + 1 })
        });
        claimed.unwrap_or_else(|| panic!("no {count} free ports in a row in {PORTS:?}"))
    }

    /// The address with the `nth` port, from 0.
    pub fn address(&self, nth: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.first + nth).into()
    }
}
