//! Work of the leader: nobody else's is admitted in between, and there is always a next leader.

use std::sync::Arc;
use std::time::Duration;

use synod::election::{Leadership, StepDown};
use synod::{Client, Election, Error};
use tokio::time::{Instant, timeout};

use crate::harness::{
    Faults, Outcome, Plan, Resource, TURN, in_virtual_time, run, seeds, tolerate,
};

/// A reign is two seconds; a session of 10 s may have to expire first.
const REIGNS_MIN: usize = 15;

/// The longest that one may have to wait for its turn, or for a campaign that hangs.
const PATIENCE: Duration = Duration::from_secs(300);

fn plan(seed: u64) -> Plan<'static> {
    Plan { seed, faults: Faults::All, empty: &["/lead"], progress_min: REIGNS_MIN }
}

async fn worker(number: usize, client: Client, resource: Arc<Resource>, end: Instant) -> usize {
    let step_down = match number % 2 {
        0 => StepDown::AtDeadline,
        _ => StepDown::AtOnce,
    };
    let election = Election::new(&client, "/lead").expect("valid").with_step_down(step_down);
    let mut reigns = 0;
    while Instant::now() < end {
        let reign = |leadership: Arc<Leadership>| {
            reigns += 1;
            let (resource, fails) = (Arc::clone(&resource), reigns % 3 == 0);
            async move {
                resource.hold(&leadership).await;
                if fails { Err("one in three") } else { Ok(()) }
            }
        };
        let done = timeout(PATIENCE, election.run_as_leader(reign)).await;
        done.expect("in time").expect("nothing ends it but its work");
    }
    reigns
}

/// Each leader hands over to the next but one, if that stands.
async fn giver(number: usize, client: Client, resource: Arc<Resource>, end: Instant) -> usize {
    let election = Election::new(&client, "/lead").expect("valid").with_name(&number.to_string());
    let heir = ((number + 2) % 4).to_string();
    let mut given = 0;
    while Instant::now() < end {
        let Ok(campaign) = timeout(TURN, election.campaign()).await else { continue };
        let Some(leadership) = tolerate(campaign) else { continue };
        resource.hold(&leadership).await;
        match leadership.hand_over(&heir, Duration::from_secs(5)).await {
            Ok(()) => given += 1,
            // It leads on.
            Err(Error::NoCandidate { .. } | Error::TimedOut { .. }) => {
                resource.hold(&leadership).await;
            }
            Err(error) => drop(tolerate(Err::<(), _>(error))),
        }
    }
    given
}

fn givers(seed: u64, faults: Faults) -> Outcome {
    in_virtual_time(async {
        let resource = Arc::new(Resource::new(faults));
        run(Plan { faults, ..plan(seed) }, &resource, |number, client, resource, end| {
            giver(number, client, resource, end)
        })
        .await
    })
}

#[test]
fn a_leadership_that_is_handed_over_has_one_holder_at_a_time_in_growing_terms() {
    let mut given = 0;
    for seed in seeds() {
        let outcome = givers(seed, Faults::All);
        given += outcome.counts.iter().sum::<usize>();
    }
    assert!(given > seeds().count() * 10, "handed over {given} times only");
}

#[test]
fn before_the_deadline_of_a_leadership_nobody_leads_by_a_hand_over_either() {
    for seed in seeds() {
        givers(seed, Faults::Cuts);
    }
}

fn leaders(seed: u64) -> Outcome {
    in_virtual_time(async {
        let resource = Arc::new(Resource::new(Faults::All));
        run(plan(seed), &resource, |number, client, resource, end| {
            worker(number, client, resource, end)
        })
        .await
    })
}

#[test]
fn leaders_work_one_at_a_time_and_campaign_again_whatever_fails() {
    for seed in seeds() {
        leaders(seed);
    }
}

#[test]
fn a_seed_repeats_itself() {
    assert_eq!(leaders(42), leaders(42));
}
