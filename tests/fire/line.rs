//! A line of a resource's journal.

use std::fmt;
use std::str::FromStr;

/// Whom the holder of a token excludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Everybody else.
    Exclusive,
    /// Every exclusive holder.
    Shared,
}

/// A write that a holder asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What is to be written: tokens are compared for each alone.
    pub key: String,
    /// As what kind of holder.
    pub kind: Kind,
    /// Under which token.
    pub token: i64,
    /// Who asks: `SLOT.LIFE/GRANT`, the place of the process in the run, which process in that
    /// place, and which of its grants.
    pub holder: String,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was written.
    Admitted,
    /// A later holder has written already.
    Stale,
    /// Another holder has written under the same token.
    Taken,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A write that was asked for.
    Offer {
        /// Milliseconds since the resource was started.
        at_ms: u64,
        /// The write.
        offer: Offer,
        /// What came of it.
        verdict: Verdict,
    },
    /// What a holder has seen that must not be.
    Complaint(String),
}

impl Offer {
    /// Which process it was, by the place that it has in the run, and its name.
    pub fn slot(&self) -> &str {
        self.process().split('.').next().unwrap_or_default()
    }

    /// The name of the process.
    pub fn process(&self) -> &str {
        self.holder.split('/').next().unwrap_or_default()
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Exclusive => "exclusive",
            Kind::Shared => "shared",
        };
        write!(f, "{} {kind} {} {}", self.key, self.token, self.holder)
    }
}

impl FromStr for Offer {
    type Err = String;

    fn from_str(text: &str) -> Result<Offer, String> {
        let not = || format!("not KEY exclusive|shared TOKEN HOLDER: {text:?}");
        let parts: Vec<&str> = text.split(' ').collect();
        let &[key, kind, token, holder] = parts.as_slice() else { return Err(not()) };
        let kind = match kind {
            "exclusive" => Kind::Exclusive,
            "shared" => Kind::Shared,
            _ => return Err(not()),
        };
        let token = token.parse().map_err(|_| not())?;
        Ok(Offer { key: key.to_owned(), kind, token, holder: holder.to_owned() })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Admitted => "admitted",
            Verdict::Stale => "stale",
            Verdict::Taken => "taken",
        })
    }
}

impl FromStr for Verdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Verdict, String> {
        match text {
            "admitted" => Ok(Verdict::Admitted),
            "stale" => Ok(Verdict::Stale),
            "taken" => Ok(Verdict::Taken),
            _ => Err(format!("not a verdict: {text:?}")),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Offer { at_ms, offer, verdict } => write!(f, "{at_ms} {verdict} {offer}"),
            Line::Complaint(text) => write!(f, "complaint {text}"),
        }
    }
}

impl FromStr for Line {
    type Err = String;

    fn from_str(line: &str) -> Result<Line, String> {
        let (first, rest) = line.split_once(' ').ok_or_else(|| format!("not a line: {line:?}"))?;
        if first == "complaint" {
            return Ok(Line::Complaint(rest.to_owned()));
        }
        let at_ms = first.parse().map_err(|_| format!("not a time: {line:?}"))?;
        let (verdict, offer) = rest.split_once(' ').ok_or_else(|| format!("no offer: {line:?}"))?;
        Ok(Line::Offer { at_ms, offer: offer.parse()?, verdict: verdict.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in [
            "120 admitted lock exclusive 4294967301 h2.1/15",
            "0 stale item-3 shared 7 h0.0/1",
            "9 taken lock exclusive 7 h0.0/1",
            "complaint h1.0/3 was refused in time",
        ] {
            assert_eq!(text.parse::<Line>().expect("a line").to_string(), text);
        }
        for text in
            ["", "120", "120 admitted", "x admitted lock exclusive 1 h", "1 ok a shared 1 h"]
        {
            assert!(text.parse::<Line>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_holder_tells_its_place_and_its_process() {
        let offer: Offer = "lock exclusive 7 h2.11/15".parse().expect("an offer");
        assert_eq!((offer.slot(), offer.process()), ("h2", "h2.11"));
    }
}
