//! What the recipes tell of themselves: numbers for the `metrics` facade, and a span around whatever
//! waits.
//!
//! | metric | kind | labels | |
//! |---|---|---|---|
//! | `synod_acquire_seconds` | histogram | `recipe` | from asking until it was granted |
//! | `synod_wait_depth` | histogram | `recipe` | how many were in line before one that came |
//! | `synod_time_to_expiry_seconds` | histogram | `recipe` | when released: how long the session was still sure to live |
//! | `synod_losses_total` | counter | `recipe`, `reason` | guards that were lost while they were held, once each |
//! | `synod_reaps_total` | counter | `recipe` | znodes left to the session's reaper: of a guard that was dropped, or an acquire that was cancelled |

use std::time::Duration;

use metrics::{Key, Label, Level, Metadata, with_recorder};
use synod_core::model::Path;
use tokio::time::Instant;
use tracing::{Instrument, debug_span};

use crate::error::{Error, LossReason};

const ACQUIRE: &str = "synod_acquire_seconds";
const DEPTH: &str = "synod_wait_depth";
const TO_EXPIRY: &str = "synod_time_to_expiry_seconds";
const LOSSES: &str = "synod_losses_total";
const REAPS: &str = "synod_reaps_total";

static METADATA: Metadata<'static> = Metadata::new("synod", Level::INFO, Some(module_path!()));

/// Under what name a recipe tells of itself. Its labels are made once, so that an acquire does not
/// allocate for them.
#[derive(Debug)]
pub(crate) struct Recipe {
    name: &'static str,
    labels: [Label; 1],
}

macro_rules! recipes {
    ($($recipe:ident: $name:literal)*) => {
        $(pub(crate) static $recipe: Recipe = Recipe::new($name);)*
    };
}

recipes! {
    BARRIER: "barrier"
    CELL: "cell"
    DOUBLE_BARRIER: "double_barrier"
    ELECTION: "election"
    LATCH: "latch"
    LOCK: "lock"
    MEMBERSHIP: "membership"
    MULTI_LOCK: "multi_lock"
    PARTITION: "partition"
    PERSISTENT_NODE: "persistent_node"
    RWLOCK: "rwlock"
    SEMAPHORE: "semaphore"
}

impl Recipe {
    pub(crate) const fn new(name: &'static str) -> Recipe {
        Recipe { name, labels: [Label::from_static_parts("recipe", name)] }
    }

    /// Waits for what was asked for, within a span, and counts how long that took if it was granted.
    pub(crate) async fn acquiring<T>(
        &'static self,
        path: &Path,
        acquire: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let begun = Instant::now();
        let granted = self.waiting("acquire", path, acquire).await?;
        self.histogram(ACQUIRE, begun.elapsed().as_secs_f64());
        Ok(granted)
    }

    /// Waits within a span.
    pub(crate) async fn waiting<T>(
        &'static self,
        what: &'static str,
        path: &Path,
        wait: impl Future<Output = T>,
    ) -> T {
        wait.instrument(debug_span!("recipe", recipe = self.name, what, %path)).await
    }

    pub(crate) fn came_behind(&'static self, others: usize) {
        self.histogram(DEPTH, others as f64);
    }

    pub(crate) fn released(&'static self, to_expiry: Duration) {
        self.histogram(TO_EXPIRY, to_expiry.as_secs_f64());
    }

    pub(crate) fn lost(&'static self, reason: LossReason) {
        let reason = match reason {
            LossReason::SessionOver(_) => "session_over",
            LossReason::Removed => "removed",
            LossReason::Disconnected => "disconnected",
        };
        metrics::counter!(LOSSES, "recipe" => self.name, "reason" => reason).increment(1);
    }

    pub(crate) fn reaped(&'static self) {
        let key = Key::from_static_parts(REAPS, &self.labels);
        with_recorder(|recorder| recorder.register_counter(&key, &METADATA)).increment(1);
    }

    fn histogram(&'static self, name: &'static str, value: f64) {
        let key = Key::from_static_parts(name, &self.labels);
        with_recorder(|recorder| recorder.register_histogram(&key, &METADATA)).record(value);
    }
}
