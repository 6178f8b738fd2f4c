//! Pauses between attempts that fail.

use std::time::Duration;

use synod_core::client::Client;
use tokio::time::sleep;

/// Pauses that double within bounds, jittered by the client's generator, so that those who failed
/// together do not come back together.
pub(crate) struct Backoff {
    shortest: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(shortest: Duration, longest: Duration) -> Backoff {
        Backoff { shortest, longest, next: shortest }
    }

    /// The next pause is the shortest again.
    pub(crate) fn reset(&mut self) {
        self.next = self.shortest;
    }

    pub(crate) async fn wait(&mut self, client: &Client) {
        let pause = self.pause(client.random_id().as_u128());
        sleep(pause).await;
    }

    /// Between half of the pause and all of it.
    fn pause(&mut self, random: u128) -> Duration {
        let half = self.next / 2;
        let span = u128::max((self.next - half).as_millis() + 1, 1);
        let jitter = u64::try_from(random % span).unwrap_or(0);
        self.next = (self.next * 2).min(self.longest);
        half + Duration::from_millis(jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_bounds_and_are_at_least_half() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(350));
        let highest = |full: u64| u128::from(full / 2);
        assert_eq!(backoff.pause(highest(100)), ms(100));
        assert_eq!(backoff.pause(0), ms(100));
        assert_eq!(backoff.pause(highest(350)), ms(350));
        assert_eq!(backoff.pause(0), ms(175), "the longest stays");
        backoff.reset();
        assert_eq!(backoff.pause(51), ms(50), "one above the span begins anew");
    }
}
