//! The recipes on the coordinator for tests, each in a module: one program, which is built and linked once.

mod barrier;
mod cache;
mod campaign;
#[path = "../common/mod.rs"]
mod common;
mod config;
mod counter;
mod discovery;
mod election;
mod every_recipe;
mod feed;
mod fence;
mod hand_over;
mod hash_ring;
mod layouts;
mod leading;
mod lock;
mod lock_owners;
mod lock_reentrant;
mod lock_revocation;
mod membership;
mod multi_lock;
mod partition;
mod persistent_node;
mod queue;
mod rwlock;
mod semaphore;
mod spans;
mod telemetry;
