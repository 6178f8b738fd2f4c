//! When two answers are the same.

use std::collections::BTreeMap;

use crate::bytes::Value;

/// What two servers say to the same request, where they say different things.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Difference {
    /// The request, or "event".
    pub(crate) operation: String,
    /// The place of the answer.
    pub(crate) field: String,
    /// What stands there in Apache's.
    pub(crate) apache: String,
    /// What stands there in ours.
    pub(crate) ours: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Difference { operation, field, apache, ours } = self;
        write!(f, "{operation}, {field}: Apache {apache}, ours {ours}")
    }
}

/// Which zxid of ours stands for which of Apache's. The two count apart, but in one order: equal
/// here is equal there, and greater here is greater there.
#[derive(Default)]
pub(crate) struct Zxids {
    ours: BTreeMap<i64, i64>,
    apaches: BTreeMap<i64, i64>,
}

impl Zxids {
    /// Whether the two may stand for one change; remembers it if so.
    pub(crate) fn agree(&mut self, apache: i64, ours: i64) -> bool {
        if apache <= 0 || ours <= 0 {
            return apache == ours;
        }
        if let Some(known) = self.ours.get(&apache) {
            return *known == ours;
        }
        let below = self.ours.range(..apache).next_back().is_none_or(|(_, it)| *it < ours);
        let above = self.ours.range(apache..).next().is_none_or(|(_, it)| *it > ours);
        let fits = below && above && !self.apaches.contains_key(&ours);
        if fits {
            self.ours.insert(apache, ours);
            self.apaches.insert(ours, apache);
        }
        fits
    }

    /// The last change that was seen: Apache's zxid of it, and ours.
    pub(crate) fn last(&self) -> Option<[i64; 2]> {
        self.ours.last_key_value().map(|(apache, ours)| [*apache, *ours])
    }
}

/// Compares two places of an answer: `None` if they are the same.
pub(crate) fn differ(
    zxids: &mut Zxids,
    clients: &[(i64, i64)],
    apache: &Value,
    ours: &Value,
) -> Option<(String, String)> {
    let same = match (apache, ours) {
        (Value::Zxid(apache), Value::Zxid(ours)) => zxids.agree(*apache, *ours),
        (Value::Session(0), Value::Session(0)) => true,
        (Value::Session(apache), Value::Session(ours)) => clients.contains(&(*apache, *ours)),
        _ => apache == ours,
    };
    let last = zxids.last().unwrap_or_default();
    (!same).then(|| (show(apache, last[0]), show(ours, last[1])))
}

fn show(value: &Value, last: i64) -> String {
    match value {
        Value::Same(bytes) => match <[u8; 4]>::try_from(&bytes[..]) {
            Ok(number) => i32::from_be_bytes(number).to_string(),
            Err(_) => bytes.escape_ascii().to_string(),
        },
        Value::Zxid(zxid) if *zxid > last => "a new one".to_owned(),
        Value::Zxid(zxid) if *zxid > 0 => "an earlier one".to_owned(),
        Value::Zxid(zxid) => zxid.to_string(),
        Value::Time => "time".to_owned(),
        Value::Session(session) => format!("session {session:#x}"),
    }
}
