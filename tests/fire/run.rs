//! A run from its begin to its verdict.

use std::fmt;
use std::time::Duration;

use synod::HashRing;
use tokio::time::Instant;

use super::account::Account;
use super::faults::{Counts, Course, of_connections, of_holders, of_members};
use super::stage::Stage;
use super::{ITEMS, Recipe};
use crate::faults::report::machine;
use crate::faults::until;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Who says who may write.
    pub recipe: Recipe,
    /// How long there are faults, at least.
    pub fire: Duration,
    /// What chance begins with. Processes run as they like: it does not repeat a run.
    pub seed: u64,
}

/// What a run has come to.
pub struct Report {
    plan: Plan,
    /// How long there were faults.
    took: Duration,
    /// What was done.
    faults: Counts,
    fenced: Account,
    open: Account,
}

/// Runs a recipe under fire, and then at peace.
///
/// # Panics
/// If a rule was broken, somebody had to wait for ever, or the faults have not bitten.
pub async fn run(plan: Plan) -> Report {
    let mut stage = Stage::start(plan.recipe).await;
    everybody_writes(plan.recipe, &mut stage).await;
    let begun = Instant::now();
    let course = |nth| Course::new(plan.seed.wrapping_add(nth), begun + plan.fire);
    let Stage { slots, proxies, resources, cluster } = &mut stage;
    let (holders, members, connections) = tokio::join!(
        of_holders(course(0), slots, proxies, resources),
        of_members(course(1), cluster),
        of_connections(course(2), proxies),
    );
    let took = begun.elapsed();
    everybody_writes(plan.recipe, &mut stage).await;
    for slot in &mut stage.slots {
        slot.is_well();
        slot.kill().await;
    }
    stage.resources.are_silent();
    let fenced = stage.resources.account().clone();
    let open = stage.resources.open.journal.account().clone();
    let faults = holders.into_iter().chain(members).chain(connections).collect();
    let report = Report { plan, took, faults, fenced, open };
    assert_eq!(report.open.doubled.count, 0, "{report}\n{:#?}", report.open.doubled.first);
    let bitten = report.open.stale.count > 0 && report.fenced.refused > 0;
    assert!(bitten, "the faults have not bitten: {report}");
    report
}

/// Waits until every holder has had its turn, from now on; or every item is written by whose it is.
async fn everybody_writes(recipe: Recipe, stage: &mut Stage) {
    let names: Vec<String> = stage.slots.iter().map(|slot| slot.name.clone()).collect();
    let ring = HashRing::of(names.iter().map(|name| (name, 1))).expect("valid");
    let account = stage.resources.account();
    account.mark();
    until("everybody has had a turn", async || {
        let account = stage.resources.account();
        let had = match recipe {
            Recipe::Partition => (0..ITEMS).all(|item| {
                let item = item.to_string();
                account.written.get(&item).map(String::as_str) == ring.owner(&item)
            }),
            _ => names.iter().all(|name| account.writers.contains_key(name)),
        };
        had.then_some(())
    })
    .await;
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fenced, open) = (&self.fenced, &self.open);
        let Plan { recipe, seed, .. } = self.plan;
        writeln!(
            f,
            "{recipe}, {:.0} s of faults, seed {seed}; {}",
            self.took.as_secs_f64(),
            machine()
        )?;
        writeln!(
            f,
            "  fenced: {} writes under {} tokens, {} refused; stale {}, two holders {}, complaints {}",
            fenced.admitted,
            fenced.tokens,
            fenced.refused,
            fenced.stale.count,
            fenced.doubled.count,
            fenced.complaints.count,
        )?;
        writeln!(
            f,
            "  open: {} writes, of which {} stale; at most {:.1} s without a write where there was one before",
            open.admitted,
            open.stale.count,
            fenced.silence_ms() as f64 / 1_000.0,
        )?;
        let faults: Vec<String> =
            self.faults.iter().map(|(what, count)| format!("{what} {count}")).collect();
        write!(f, "  {} faults: {}", self.faults.values().sum::<usize>(), faults.join(", "))
    }
}
