//! Random faults by a seed, the same for every recipe: exclusion, nothing orphaned, nothing lost,
//! and progress once the faults stop.
//!
//! ```text
//! SYNOD_SEEDS=5000 cargo test --profile sim -p synod --test schedule       # a campaign
//! SYNOD_SEED=17 cargo test --profile sim -p synod --test schedule locks    # one again
//! ```

mod barrier;
#[path = "../common/mod.rs"]
mod common;
mod configuration;
mod counter;
mod discovery;
mod following;
mod harness;
mod latch;
mod leading;
mod membership;
mod multi_lock;
mod ownership;
mod partition;
mod permits;
mod queue;
mod rwlock;
mod standing;
