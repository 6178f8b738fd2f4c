//! Who may do what: every operation under each permission alone, and under all but each, for every
//! way to be named in an ACL; and what a watch still tells when its owner may no longer read.
//!
//! What is expected is Apache ZooKeeper's specification, 3.9.2 and later; and that what a watch has
//! missed is told to those only who may read, as are the events themselves. One table is asked of the
//! engine, of a server over the wire, and (with the feature `apache`) of Apache ZooKeeper as Debian
//! has it: 3.8.0, where `exists` needs no permission yet and what was missed is told to everybody.

#[path = "../../server/tests/suite/common/certificates.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod certificates;
mod connection;
mod engine;
mod table;
mod wire;
