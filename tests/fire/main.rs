//! Safety under fire, a recipe a test: see `synod_tests::fire`.
//!
//! ```sh
//! cargo test -p synod-tests --test fire       # a few seconds each
//! tests/faults/run fire                       # half an hour in all, on a release build
//! tests/faults/run fire 5 lock                # five minutes of one recipe
//! ```

use std::time::Duration;

use synod_tests::fire::Recipe;
use synod_tests::fire::run::{Plan, run};

/// How long there are faults, unless `SYNOD_FIRE_SECONDS` says otherwise.
const SECONDS: u64 = 4;

async fn under_fire(recipe: Recipe) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let fire = Duration::from_secs(number("SYNOD_FIRE_SECONDS").unwrap_or(SECONDS));
    // Recipes that run side by side are to meet different faults.
    let own = || u64::from(std::process::id()) * 8 + recipe as u64;
    let seed = number("SYNOD_SEED").unwrap_or_else(own);
    println!("{}", run(Plan { recipe, fire, seed }).await);
}

macro_rules! under_fire {
    ($($name:ident: $recipe:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                under_fire(Recipe::$recipe).await;
            }
        )*
    };
}

under_fire! {
    no_stale_holder_of_a_lock_writes: Lock
    no_stale_holder_of_a_rwlock_writes_or_reads: RwLock
    no_stale_holder_of_a_semaphore_writes: Semaphore
    no_stale_leader_of_an_election_writes: Election
    no_stale_holder_of_a_partition_writes: Partition
}
