//! Faults against real processes: see `synod_tests::faults`.
//!
//! ```sh
//! cargo test -p synod-tests --test faults                    # each scenario once
//! SYNOD_KILLS=100 SYNOD_BIN=target/release/synod \
//!     cargo test --release -p synod-tests --test faults kills -- --nocapture --test-threads 1
//! ```
//!
//! Correctness is asserted; times are printed, and only a run that hangs fails by the clock.

mod disks;
mod emptied;
mod kills;
mod partitions;
mod pauses;
mod stage;
