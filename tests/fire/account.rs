//! What a journal shows: it is reckoned from the lines alone, apart from the gate that has written
//! them.

use std::collections::{BTreeMap, HashMap};

use super::line::{Kind, Line, Offer, Verdict};

/// How many faults of a kind are kept to be shown.
const SHOWN: usize = 5;

/// Something that must not be, how often it was, and the first times.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// How often.
    pub count: usize,
    /// The first ones.
    pub first: Vec<String>,
}

impl Faults {
    fn add(&mut self, text: String) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(text);
        }
    }
}

/// The writes of one key.
#[derive(Clone, Debug, Default)]
struct Key {
    /// The highest token of an exclusive holder that has written.
    exclusive: i64,
    /// The same of a shared one.
    shared: i64,
    /// When somebody has written last.
    last_ms: u64,
    /// How long nobody has, at most.
    silence_ms: u64,
    /// Who has written under which token.
    holders: HashMap<i64, String>,
}

impl Key {
    /// Whether a holder that this one excludes has written since under a greater token.
    fn is_past(&self, kind: Kind, token: i64) -> bool {
        token < self.exclusive || (kind == Kind::Exclusive && token < self.shared)
    }
}

/// The account of one journal.
#[derive(Clone, Debug, Default)]
pub struct Account {
    keys: BTreeMap<String, Key>,
    /// Writes that were done.
    pub admitted: usize,
    /// Writes that were refused as stale.
    pub refused: usize,
    /// Tokens under which something was written.
    pub tokens: usize,
    /// Writes that were done after one under a greater token, of a holder that this one excludes.
    pub stale: Faults,
    /// Tokens under which a second holder wanted to write.
    pub doubled: Faults,
    /// Writes that were refused although nothing stood against them.
    pub wrongly_refused: Faults,
    /// What holders have complained of.
    pub complaints: Faults,
    last: Option<Offer>,
    /// Writes that were done since the mark, by the place of the writer in the run, and by key.
    pub writers: BTreeMap<String, usize>,
    /// See `writers`.
    pub written: BTreeMap<String, String>,
}

impl Account {
    /// The next line.
    pub fn add(&mut self, line: Line) {
        match line {
            Line::Complaint(text) => self.complaints.add(text),
            Line::Offer { at_ms, offer, verdict } => self.add_offer(at_ms, offer, verdict),
        }
    }

    fn add_offer(&mut self, at_ms: u64, offer: Offer, verdict: Verdict) {
        let key = self.keys.entry(offer.key.clone()).or_default();
        let is_past = key.is_past(offer.kind, offer.token);
        if verdict != Verdict::Stale {
            let holder = key.holders.entry(offer.token).or_insert_with(|| {
                self.tokens += 1;
                offer.holder.clone()
            });
            if *holder != offer.holder {
                self.doubled.add(format!("{offer}, which is that of {holder}"));
            }
        }
        match verdict {
            Verdict::Taken => {}
            Verdict::Stale => {
                self.refused += 1;
                if !is_past {
                    self.wrongly_refused.add(offer.to_string());
                }
            }
            Verdict::Admitted => {
                self.admitted += 1;
                if is_past {
                    let (exclusive, shared) = (key.exclusive, key.shared);
                    self.stale.add(format!("{offer} after {exclusive} (shared {shared})"));
                }
                match offer.kind {
                    Kind::Exclusive => key.exclusive = key.exclusive.max(offer.token),
                    Kind::Shared => key.shared = key.shared.max(offer.token),
                }
                if key.last_ms > 0 {
                    key.silence_ms = key.silence_ms.max(at_ms.saturating_sub(key.last_ms));
                }
                key.last_ms = at_ms;
                *self.writers.entry(offer.slot().to_owned()).or_default() += 1;
                self.written.insert(offer.key.clone(), offer.slot().to_owned());
                self.last = Some(offer);
            }
        }
    }

    /// The last write that was done.
    pub fn last(&self) -> Option<&Offer> {
        self.last.as_ref()
    }

    /// Whether the holder is past: others, whom it excludes, have written since.
    pub fn is_past(&self, offer: &Offer) -> bool {
        self.keys.get(&offer.key).is_some_and(|key| key.is_past(offer.kind, offer.token))
    }

    /// From now on `writers` and `written` count anew.
    pub fn mark(&mut self) {
        self.writers.clear();
        self.written.clear();
    }

    /// How long nobody has written a key, at most.
    pub fn silence_ms(&self) -> u64 {
        self.keys.values().map(|key| key.silence_ms).max().unwrap_or_default()
    }

    /// What a resource that asks for tokens must not show; empty if all is well.
    pub fn faults(&self) -> Vec<String> {
        let kinds = [
            ("a stale write was admitted", &self.stale),
            ("a token has two holders", &self.doubled),
            ("a write was refused that nothing stood against", &self.wrongly_refused),
            ("a holder complains", &self.complaints),
        ];
        let there = kinds.into_iter().filter(|(_, faults)| faults.count > 0);
        there
            .map(|(what, Faults { count, first })| format!("{what}, {count} times: {first:#?}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(lines: &[&str]) -> Account {
        let mut account = Account::default();
        lines.iter().for_each(|line| account.add(line.parse().expect("a line")));
        account
    }

    fn faults(lines: &[&str]) -> [usize; 4] {
        let Account { stale, doubled, wrongly_refused, complaints, .. } = account(lines);
        [stale, doubled, wrongly_refused, complaints].map(|faults| faults.count)
    }

    #[test]
    fn nothing_is_found_where_nothing_is_wrong() {
        let account = account(&[
            "1 admitted k exclusive 5 h1.0/1",
            "2 admitted k exclusive 7 h2.0/1",
            "9 stale k exclusive 5 h1.0/1",
            "12 admitted k exclusive 7 h2.0/1",
            "13 admitted j exclusive 3 h1.0/2",
        ]);
        assert_eq!(account.faults(), Vec::<String>::new());
        assert_eq!((account.admitted, account.refused, account.tokens), (4, 1, 3));
        assert_eq!(account.silence_ms(), 10);
    }

    #[test]
    fn a_stale_write_that_was_admitted_is_found() {
        let newer = "2 admitted k exclusive 7 h2.0/1";
        assert_eq!(faults(&[newer, "3 admitted k exclusive 5 h1.0/1"]), [1, 0, 0, 0]);
        assert_eq!(faults(&[newer, "3 admitted k shared 5 h1.0/1"]), [1, 0, 0, 0]);
        let newer = "2 admitted k shared 7 h2.0/1";
        assert_eq!(faults(&[newer, "3 admitted k exclusive 5 h1.0/1"]), [1, 0, 0, 0]);
        assert_eq!(faults(&[newer, "3 admitted k shared 5 h1.0/1"]), [0; 4]);
    }

    #[test]
    fn a_token_with_two_holders_is_found() {
        let first = "2 admitted k exclusive 7 h2.0/1";
        assert_eq!(faults(&[first, "3 taken k exclusive 7 h1.0/1"]), [0, 1, 0, 0]);
        assert_eq!(faults(&[first, "3 admitted k exclusive 7 h2.0/2"]), [0, 1, 0, 0]);
    }

    #[test]
    fn a_refusal_without_a_reason_and_a_complaint_are_found() {
        assert_eq!(faults(&["3 stale k exclusive 7 h1.0/1"]), [0, 0, 1, 0]);
        assert_eq!(faults(&["complaint h1.0/1 was refused in time"]), [0, 0, 0, 1]);
    }
}
