//! The coordination core of Synod: the ZooKeeper data model as a deterministic state machine, and
//! the client that speaks to it.
//!
//! Applications depend on the crate `synod`, which re-exports what they need from here and adds
//! the recipes. This crate is for those who build on the core itself.
//!
//! # Layout
//! An arrow of imports only ever points down this list from its end.
//!
//! | module | what lives there |
//! |---|---|
//! | [`model`] | paths, zxids, Stats, ACLs, requests, responses, events, log entries, errors, limits |
//! | [`seams`] | clock and entropy, passed in |
//! | `arena` | values in chunks that are copied on the first write after a view |
//! | `cursor` | reads the records of a snapshot |
//! | [`tree`] | znodes in a copy-on-write arena, with point-in-time views and a digest |
//! | `session` | the table of sessions: attachments and sequences |
//! | `watch` | who on this member watches what |
//! | [`engine`] | all of that behind one deterministic `apply` |
//! | `auth`, `sasl` | how a user is proved: the scheme `digest`, and SASL's DIGEST-MD5 |
//! | [`client`] | [`client::Client`], and the grounds it stands on |
//! | `testing` | a coordinator under virtual time, with faults on demand (feature `testing`) |

mod arena;
mod auth;
pub mod client;
mod cursor;
pub mod engine;
pub mod model;
mod plant;
mod sasl;
pub mod seams;
mod session;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tree;
mod watch;
pub mod wire;

pub use auth::digest_identity;
pub use sasl::{SaslAnswer, SaslExchange, SaslUsers};
