//! What the specification says of the data model, one test a sentence, on the engine alone.
//!
//! Each name says what holds. The expected values are written out by hand; nothing here is
//! computed by the naive model, so that the two cannot be wrong together without notice.

mod acls;
mod bench;
mod lifetimes;
mod multi;
mod paths;
mod precedence;
mod reads;
mod rearm;
mod sessions;
mod stat;
mod watches;
mod zxids;
