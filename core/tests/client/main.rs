//! The client as its users see it: what the documentation promises, on the embedded ground and
//! under the coordinator for tests.

mod bad_input;
mod cancellation;
mod closing;
mod common;
mod concurrency;
mod determinism;
mod disconnects;
mod identities;
mod namespaces;
mod operations;
mod proposals;
mod reaper;
mod rearming;
mod sessions;
mod tcp;
mod transactions;
mod watches;
