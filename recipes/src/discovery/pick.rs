//! Which of several instances to ask.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Instance;

/// How one of several instances is picked. In each way, by weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pick {
    /// In turn: an instance of weight 3 is picked three times in a round, spread over it (the smooth
    /// weighted round robin of nginx).
    #[default]
    RoundRobin,
    /// At random, by the client's generator.
    Random,
    /// The same one each time, found at random, as long as it is there and not down.
    Sticky,
}

/// When an instance that was reported to fail is down: passed over for a while. If all are, they are
/// picked as if none was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownPolicy {
    /// How many reports make it down.
    pub failures: u32,
    /// Reports that are longer apart than this from the first do not count together.
    pub within: Duration,
    /// For how long it is passed over.
    pub down_for: Duration,
}

impl Default for DownPolicy {
    /// Two reports within 30 s, for 30 s.
    fn default() -> DownPolicy {
        let half_a_minute = Duration::from_secs(30);
        DownPolicy { failures: 2, within: half_a_minute, down_for: half_a_minute }
    }
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    first: Instant,
    /// When it was found to be down.
    down_since: Option<Instant>,
}

/// What is remembered from pick to pick, for instances that are there.
pub(super) struct Picker {
    pick: Pick,
    policy: DownPolicy,
    /// Of the round robin: how much an instance has been passed over.
    credit: HashMap<String, i64>,
    failures: HashMap<String, Failures>,
    stuck_to: Option<String>,
}

impl Picker {
    pub(super) fn new(pick: Pick, policy: DownPolicy) -> Picker {
        let (credit, failures) = (HashMap::new(), HashMap::new());
        Picker { pick, policy, credit, failures, stuck_to: None }
    }

    /// Forgets what is there no longer.
    pub(super) fn retain(&mut self, instances: &[Arc<Instance>]) {
        let there = |id: &String| instances.iter().any(|instance| instance.id == *id);
        self.credit.retain(|id, _| there(id));
        self.failures.retain(|id, _| there(id));
    }

    pub(super) fn failed(&mut self, id: &str) {
        let now = Instant::now();
        let fresh = Failures { count: 0, first: now, down_since: None };
        let failures = self.failures.entry(id.to_owned()).or_insert(fresh);
        if now - failures.first > self.policy.within {
            failures.count = 0;
            failures.first = now;
        }
        failures.count += 1;
        if failures.count >= self.policy.failures {
            failures.down_since = Some(now);
        }
    }

    fn is_down(&self, id: &str) -> bool {
        let down_since = self.failures.get(id).and_then(|failures| failures.down_since);
        down_since.is_some_and(|since| since.elapsed() < self.policy.down_for)
    }

    /// One of the instances, which are sorted by id. `random` is asked when it is needed.
    pub(super) fn pick(
        &mut self,
        instances: &[Arc<Instance>],
        random: impl FnOnce() -> u128,
    ) -> Option<Arc<Instance>> {
        let able: Vec<_> = instances.iter().filter(|instance| instance.weight > 0).collect();
        let up: Vec<_> = able.iter().copied().filter(|one| !self.is_down(&one.id)).collect();
        let from = if up.is_empty() { able } else { up };
        match self.pick {
            Pick::RoundRobin => self.next_in_turn(&from),
            Pick::Random => at_random(&from, random),
            Pick::Sticky => {
                let stuck_to = self.stuck_to.as_deref();
                let same = from.iter().find(|instance| stuck_to == Some(&*instance.id));
                let picked = match same {
                    Some(same) => Some(Arc::clone(same)),
                    None => at_random(&from, random),
                };
                self.stuck_to = picked.as_ref().map(|instance| instance.id.clone());
                picked
            }
        }
    }

    /// Each gains its weight; who has most is picked, and pays the sum of all.
    fn next_in_turn(&mut self, from: &[&Arc<Instance>]) -> Option<Arc<Instance>> {
        let mut best: Option<(&Arc<Instance>, i64)> = None;
        for instance in from {
            let credit = self.credit.entry(instance.id.clone()).or_default();
            *credit += i64::from(instance.weight);
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((instance, *credit));
            }
        }
        let (picked, _) = best?;
        let sum: i64 = from.iter().map(|instance| i64::from(instance.weight)).sum();
        *self.credit.entry(picked.id.clone()).or_default() -= sum;
        Some(Arc::clone(picked))
    }
}

fn at_random(from: &[&Arc<Instance>], random: impl FnOnce() -> u128) -> Option<Arc<Instance>> {
    let sum: u128 = from.iter().map(|instance| u128::from(instance.weight)).sum();
    let mut left = random().checked_rem(sum)?;
    for instance in from {
        let weight = u128::from(instance.weight);
        if left < weight {
            return Some(Arc::clone(instance));
        }
        left -= weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instances(weights: &[u32]) -> Vec<Arc<Instance>> {
        let named = weights.iter().zip('a'..);
        named.map(|(weight, id)| Arc::new(Instance::new(id, "x").with_weight(*weight))).collect()
    }

    fn picks(picker: &mut Picker, from: &[Arc<Instance>], count: usize) -> String {
        let mut random = 0..;
        let mut pick = || picker.pick(from, || random.next().unwrap_or_default());
        (0..count).map(|_| pick().map_or("-".to_owned(), |one| one.id.clone())).collect()
    }

    fn picker(pick: Pick) -> Picker {
        Picker::new(pick, DownPolicy::default())
    }

    #[test]
    fn in_turn_each_is_picked_as_often_as_it_weighs_and_no_burst_longer_than_needed() {
        assert_eq!(picks(&mut picker(Pick::RoundRobin), &instances(&[1, 1, 1]), 6), "abcabc");
        assert_eq!(picks(&mut picker(Pick::RoundRobin), &instances(&[3, 1]), 8), "aabaaaba");
        assert_eq!(picks(&mut picker(Pick::RoundRobin), &instances(&[5, 1, 1]), 7), "aabacaa");
        assert_eq!(picks(&mut picker(Pick::RoundRobin), &instances(&[2, 0, 1]), 6), "acaaca");
    }

    #[test]
    fn at_random_each_is_picked_as_often_as_it_weighs() {
        assert_eq!(picks(&mut picker(Pick::Random), &instances(&[2, 0, 1]), 6), "aacaac");
    }

    #[test]
    fn of_none_none_is_picked() {
        for pick in [Pick::RoundRobin, Pick::Random, Pick::Sticky] {
            assert_eq!(picks(&mut picker(pick), &[], 1), "-");
            assert_eq!(picks(&mut picker(pick), &instances(&[0, 0]), 1), "-");
        }
    }

    #[test]
    fn who_sticks_goes_elsewhere_only_when_the_one_is_gone() {
        let mut picker = picker(Pick::Sticky);
        let all = instances(&[1, 1, 1]);
        assert_eq!(picks(&mut picker, &all, 4), "aaaa");
        assert_eq!(picks(&mut picker, &all[1..], 3), "bbb");
        assert_eq!(picks(&mut picker, &all, 3), "bbb", "that it is back is no reason to change");
    }

    #[test]
    fn a_round_goes_on_when_one_comes_or_goes() {
        let mut picker = picker(Pick::RoundRobin);
        let all = instances(&[1, 1, 1]);
        assert_eq!(picks(&mut picker, &all, 1), "a");
        picker.retain(&all[1..]);
        assert_eq!(picks(&mut picker, &all[1..], 4), "bcbc");
        assert_eq!(picker.credit.len(), 2, "nothing is kept of who has gone");
        let six = picks(&mut picker, &all, 6);
        assert!("abc".chars().all(|id| six.matches(id).count() == 2), "{six}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_often_enough_is_passed_over_for_a_while() {
        let mut picker = picker(Pick::RoundRobin);
        let all = instances(&[1, 1]);
        let wait = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        picker.failed("a");
        assert_eq!(picks(&mut picker, &all, 2), "ab", "once is not enough");
        wait(31).await;
        picker.failed("a");
        assert_eq!(picks(&mut picker, &all, 2), "ab", "too far apart");
        wait(5).await;
        picker.failed("a");
        assert_eq!(picks(&mut picker, &all, 3), "bbb");
        wait(29).await;
        assert_eq!(picks(&mut picker, &all, 1), "b");
        // If all are down, none is passed over.
        picker.failed("b");
        picker.failed("b");
        let both = picks(&mut picker, &all, 4);
        assert!(both.contains('a') && both.contains('b'), "{both}");
        wait(1).await;
        assert_eq!(picks(&mut picker, &all, 2), "aa", "it is up again, the other is not");
        wait(30).await;
        let both = picks(&mut picker, &all, 6);
        assert!(both.contains('a') && both.contains('b'), "{both}");
    }
}
