//! The rule by which changes are numbered.

use synod_core::model::Zxid;
use synod_core::model::limits::{TERM_MAX, ZXID_STEP_MAX};

/// What comes after `last` under a leader of `term`; `None` when no number is left.
pub(super) fn next(last: Zxid, term: u64) -> Option<Zxid> {
    let last = last.as_i64() as u64;
    let (epoch, counter) = (last >> 32, last & 0xFFFF_FFFF);
    let number = if term > TERM_MAX {
        return None;
    } else if term > epoch {
        (term << 32) + 1
    } else if counter < 0xFFFF_FFFF {
        last + 1
    } else if epoch < TERM_MAX {
        ((epoch + 1) << 32) + 1
    } else {
        return None;
    };
    Some(Zxid::from_i64(number as i64))
}

/// Whether a change may be made at exactly `wanted`, when `next` is the one that comes anyway.
pub(super) fn may_be(wanted: Zxid, next: Zxid) -> bool {
    let (wanted, next) = (wanted.as_i64(), next.as_i64());
    wanted >= next && wanted >> 32 == next >> 32 && wanted - next < i64::from(ZXID_STEP_MAX)
}
