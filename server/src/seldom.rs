//! Log lines that others can cause as often as they like: each kind comes at most once a while,
//! and says how many did not. None says more of what they sent than its beginning.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{LINE_TEXT_BYTES_MAX, SELDOM_MS};

/// One kind of line.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    kept_back: u64,
}

impl Seldom {
    /// Whether the line may be said now: if so, how many were kept back before it.
    pub(crate) fn may_say(&self, now: Instant) -> Option<u64> {
        // Nothing panics half way through a change of it.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.last.is_some_and(|last| now < last + Duration::from_millis(SELDOM_MS)) {
            said.kept_back += 1;
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.kept_back))
    }
}

/// What a line says of a text that others chose.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LINE_TEXT_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_beginning_of_a_text() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"ü".repeat(LINE_TEXT_BYTES_MAX)), "ü".repeat(LINE_TEXT_BYTES_MAX / 2));
        let odd = format!("x{}", "ü".repeat(LINE_TEXT_BYTES_MAX));
        assert_eq!(cut(&odd).len(), LINE_TEXT_BYTES_MAX - 1);
    }

    #[test]
    fn a_line_comes_once_a_while_and_says_how_many_did_not() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let line = Seldom::default();
        assert_eq!(line.may_say(start), Some(0));
        assert_eq!(line.may_say(start), None);
        assert_eq!(line.may_say(at(SELDOM_MS - 1)), None);
        assert_eq!(line.may_say(at(SELDOM_MS)), Some(2));
        assert_eq!(line.may_say(at(3 * SELDOM_MS)), Some(0));
    }
}
