//! A cluster under load, and what is asked of it in the end.

use std::time::{Duration, Instant};

use synod_tests::faults::check::Checker;
use synod_tests::faults::cluster::{Cluster, Settings};
use synod_tests::faults::load::{self, Load, Rate};
use synod_tests::faults::report::machine;

/// Changes before a fault, and after it.
pub(crate) const CHANGES: u64 = 500;

pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) load: Load,
    checker: Checker,
}

impl Stage {
    /// A cluster, and a load that has begun.
    pub(crate) async fn new(settings: Settings, load: load::Settings) -> Stage {
        let cluster = Cluster::start(settings).await;
        let load = Load::start(cluster.addresses(), load).await;
        load.more(CHANGES).await;
        Stage { cluster, load, checker: Checker::default() }
    }

    /// Goes on for a while, then holds everything to what was acknowledged. The load is paused
    /// when this returns.
    pub(crate) async fn check(&mut self) -> Rate {
        self.load.more(CHANGES).await;
        let rate = self.load.pause().await;
        self.checker.check(&self.cluster, &self.load).await;
        rate
    }

    /// The last check, and a line for the report.
    pub(crate) async fn end(mut self, what: &str) {
        let rate = self.check().await;
        println!("{what}: {:.0} changes a second; {}", rate.a_second, machine());
        self.load.finish().await;
    }

    /// Waits until every client has had a change acknowledged that it sent from now on; how long
    /// since `begun` the first and the last of them took.
    pub(crate) async fn served(&self, begun: Instant) -> (Duration, Duration) {
        let served = self.load.served(self.load.mark()).await;
        let since = |time: Option<&tokio::time::Instant>| {
            time.map_or(Duration::ZERO, |time| time.into_std().saturating_duration_since(begun))
        };
        (since(served.first()), since(served.last()))
    }
}
