//! Random faults from a seed.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Coordinator, SeededEntropy};
use crate::client::Client;

/// A fault that a schedule has brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The session was expired.
    Expire,
    /// The connection was cut for that long.
    Disconnect(Duration),
    /// The reply to the next write is lost.
    LoseReply,
    /// The next request is delayed by that much.
    Delay(Duration),
}

/// Longest pause between two faults, in milliseconds.
const PAUSE_MS_MAX: u64 = 3_000;

/// Longest time that a connection is cut, in milliseconds: beyond every session timeout.
const DISCONNECT_MS_MAX: u64 = 60_000;

/// Longest delay of one request, in milliseconds.
const DELAY_MS_MAX: u64 = 5_000;

impl Coordinator {
    /// Brings faults about, chosen by `seed`, at random moments and on random ones of `clients`,
    /// for `duration`; then heals every connection and says what was done: when (since the start
    /// of the schedule), to which of `clients`, and what.
    ///
    /// Cancelling it leaves the last faults as they are.
    ///
    /// # Panics
    /// If there are no clients, or one is not of this coordinator.
    pub async fn run_schedule(
        &self,
        seed: u64,
        clients: &[Client],
        duration: Duration,
    ) -> Vec<(Duration, usize, Fault)> {
        let random = SeededEntropy::new(seed);
        let start = Instant::now();
        let mut done = Vec::new();
        loop {
            sleep(Duration::from_millis(1 + random.below(PAUSE_MS_MAX))).await;
            if start.elapsed() >= duration {
                break;
            }
            let which = random.below(clients.len() as u64) as usize;
            let fault = choose(&random);
            let client = &clients[which];
            match fault {
                Fault::Expire => self.expire_now(client),
                Fault::Disconnect(duration) => self.disconnect(client, duration),
                Fault::LoseReply => self.lose_next_reply(client),
                Fault::Delay(delay) => self.delay_next(client, delay),
            }
            done.push((start.elapsed(), which, fault));
        }
        for client in clients {
            self.heal(client);
        }
        done
    }
}

fn choose(random: &SeededEntropy) -> Fault {
    match random.below(10) {
        0..=1 => Fault::Expire,
        2..=4 => {
            // Short cuts mostly; one in four outlasts a session.
            let longest = if random.below(4) == 0 { DISCONNECT_MS_MAX } else { PAUSE_MS_MAX };
            Fault::Disconnect(Duration::from_millis(1 + random.below(longest)))
        }
        5..=7 => Fault::LoseReply,
        _ => Fault::Delay(Duration::from_millis(1 + random.below(DELAY_MS_MAX))),
    }
}
