//! What recipes tell of themselves in spans.
//!
//! Alone in its process: `tracing` asks the subscriber of the thread that comes by a span first
//! whether anybody wants it, and a test beside this one has none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::everything::{PATH, use_every_recipe};
use synod::testing::Coordinator;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};

/// Every span of a recipe that was begun: recipe, what, path.
#[derive(Clone, Default)]
struct Spans {
    begun: Arc<Mutex<BTreeSet<[String; 3]>>>,
    next: Arc<AtomicU64>,
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.name() == "recipe"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        let begun = ["recipe", "what", "path"].map(|name| fields.0.remove(name).expect("told"));
        self.begun.lock().expect("no panic").insert(begun);
        Id::from_u64(self.next.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn every_recipe_waits_within_a_span_that_says_what_for() {
    let spans = Spans::default();
    let _listening = tracing::subscriber::set_default(spans.clone());
    let zk = Coordinator::start();
    use_every_recipe(&zk.client().await).await;
    let expected = [
        ["barrier", "wait", "/open"],
        ["cell", "write", "/counter"],
        ["double_barrier", "acquire", "/double"],
        ["double_barrier", "leave", "/double/line"],
        ["election", "acquire", "/election"],
        ["election", "lead", "/election"],
        ["election", "observe", "/election"],
        ["latch", "wait", "/latch"],
        ["lock", "acquire", "/both/a"],
        ["lock", "acquire", "/both/b"],
        ["lock", "acquire", PATH],
        ["membership", "acquire", "/group"],
        ["membership", "acquire", "/partitions/members"],
        ["membership", "watch", "/group"],
        ["membership", "watch", "/partitions/members"],
        ["multi_lock", "acquire", "/both/a"],
        ["partition", "acquire", "/partitions/items/0"],
        ["partition", "tend", "/partitions/items/0"],
        ["persistent_node", "keep", "/node"],
        ["rwlock", "acquire", "/rwlock"],
        ["semaphore", "acquire", "/semaphore"],
    ];
    let begun = spans.begun.lock().expect("no panic");
    assert!(begun.iter().eq(&expected.map(|span| span.map(str::to_owned))), "{begun:#?}");
}
