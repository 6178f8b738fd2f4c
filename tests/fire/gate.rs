//! What a resource admits. It is written from what a fencing token promises, and uses nothing of
//! the crate under test.

use std::collections::HashMap;

use super::line::{Kind, Offer, Verdict};

/// The highest tokens that were admitted for a key.
#[derive(Clone, Copy, Default)]
struct Highest {
    exclusive: i64,
    shared: i64,
}

/// The gate of a resource.
pub struct Gate {
    fenced: bool,
    highest: HashMap<String, Highest>,
    /// Who has written under a token of a key.
    holders: HashMap<(String, i64), String>,
}

impl Gate {
    /// A gate that asks for tokens; or an open one, which admits everything.
    pub fn new(fenced: bool) -> Gate {
        Gate { fenced, highest: HashMap::new(), holders: HashMap::new() }
    }

    /// Admits a token that is equal to or greater than every one that was admitted of those that
    /// it excludes, of the one holder that has it.
    pub fn judge(&mut self, offer: &Offer) -> Verdict {
        if !self.fenced {
            return Verdict::Admitted;
        }
        let highest = self.highest.entry(offer.key.clone()).or_default();
        let excluded = match offer.kind {
            Kind::Exclusive => highest.exclusive.max(highest.shared),
            Kind::Shared => highest.exclusive,
        };
        if offer.token < excluded {
            return Verdict::Stale;
        }
        let held = (offer.key.clone(), offer.token);
        let holder = self.holders.entry(held).or_insert_with(|| offer.holder.clone());
        if *holder != offer.holder {
            return Verdict::Taken;
        }
        match offer.kind {
            Kind::Exclusive => highest.exclusive = offer.token,
            Kind::Shared => highest.shared = highest.shared.max(offer.token),
        }
        Verdict::Admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(gate: &mut Gate, offers: &[&str]) -> Vec<Verdict> {
        offers.iter().map(|offer| gate.judge(&offer.parse().expect("an offer"))).collect()
    }

    use Verdict::{Admitted, Stale, Taken};

    #[test]
    fn equal_and_greater_are_admitted_and_lower_is_not() {
        let offers = [
            "k exclusive 5 a",
            "k exclusive 5 a",
            "k exclusive 9 b",
            "k exclusive 5 a",
            "j exclusive 1 a",
        ];
        let verdicts = judged(&mut Gate::new(true), &offers);
        assert_eq!(verdicts, [Admitted, Admitted, Admitted, Stale, Admitted]);
        assert_eq!(judged(&mut Gate::new(false), &offers), [Admitted; 5]);
    }

    #[test]
    fn readers_exclude_writers_alone() {
        let offers =
            ["k shared 5 a", "k shared 4 b", "k exclusive 4 c", "k exclusive 6 d", "k shared 5 a"];
        let verdicts = judged(&mut Gate::new(true), &offers);
        assert_eq!(verdicts, [Admitted, Admitted, Stale, Admitted, Stale]);
    }

    #[test]
    fn a_token_has_one_holder() {
        let offers = ["k exclusive 5 a", "k exclusive 5 b", "j exclusive 5 b"];
        assert_eq!(judged(&mut Gate::new(true), &offers), [Admitted, Taken, Admitted]);
    }
}
