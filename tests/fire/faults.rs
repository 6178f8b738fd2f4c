//! What is done to holders, members and connections: three courses of faults, side by side.

use std::collections::BTreeMap;
use std::time::Duration;

use synod::testing::SeededEntropy;
use tokio::time::{Instant, sleep};

use super::line::Offer;
use super::stage::{Resources, SESSION_TIMEOUT, Slot};
use crate::faults::cluster::Cluster;
use crate::faults::until;
use crate::recipes::proxy::Proxies;

/// How much longer than a session a holder is stopped or cut off, at least.
const BEYOND: Duration = Duration::from_millis(500);

/// Stops of holders that are tried for a stale write, be the time over or not.
const STOPS_MAX: usize = 20;

/// How often what was done.
pub type Counts = BTreeMap<&'static str, usize>;

/// Chance, and an end.
pub struct Course {
    random: SeededEntropy,
    until: Instant,
    counts: Counts,
    last: &'static str,
}

impl Course {
    /// A course by this seed, until then.
    pub fn new(seed: u64, until: Instant) -> Course {
        Course { random: SeededEntropy::new(seed), until, counts: Counts::new(), last: "" }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    fn below(&self, count: usize) -> usize {
        self.random.below(count as u64) as usize
    }

    /// Some time of so many milliseconds: it is the fault itself, or what lies between two; nothing
    /// is waited for.
    async fn some(&self, from_ms: u64, to_ms: u64) {
        sleep(Duration::from_millis(from_ms + self.random.below(to_ms - from_ms))).await;
    }

    /// All of them, in some order.
    fn shuffled<T: Copy>(&self, kinds: &[T]) -> Vec<T> {
        let mut kinds = kinds.to_vec();
        for last in (1..kinds.len()).rev() {
            kinds.swap(last, self.below(last + 1));
        }
        kinds
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
        self.last = what;
    }
}

#[derive(Clone, Copy)]
enum OfHolder {
    Stop,
    Kill,
    CutOff,
}

/// Harms whoever has written last, until the time is over, each way was gone, and a stale write
/// has come to both resources. It has not, if there is none after `STOPS_MAX` stops.
pub async fn of_holders(
    mut course: Course,
    slots: &mut [Slot],
    proxies: &[Proxies],
    resources: &mut Resources,
) -> Counts {
    use OfHolder::{CutOff, Kill, Stop};
    loop {
        for kind in course.shuffled(&[Stop, Kill, CutOff, Stop]) {
            let (place, offer) = last(slots, resources).await;
            let (slot, between) = (&mut slots[place], &proxies[place]);
            match kind {
                Stop => {
                    course.count("holder stopped");
                    slot.freeze().await;
                    is_past(&offer, resources).await;
                    slot.thaw();
                }
                Kill => {
                    course.count("holder killed");
                    slot.kill().await;
                    // Before its session is over, or after.
                    course.some(0, 3_000).await;
                    slot.start_again();
                }
                CutOff => {
                    course.count("holder cut off");
                    between.close();
                    is_past(&offer, resources).await;
                    between.open();
                }
            }
            course.some(100, 600).await;
        }
        let stale = resources.open.journal.account().stale.count;
        let refused = resources.account().refused;
        let tried = course.counts.get("holder stopped").copied().unwrap_or_default();
        if course.is_over() && ((stale > 0 && refused > 0) || tried > STOPS_MAX) {
            return course.counts;
        }
    }
}

/// The last write, and the place of who did it, and runs.
async fn last(slots: &[Slot], resources: &mut Resources) -> (usize, Offer) {
    until("somebody who runs has written", async || {
        let offer = resources.account().last()?.clone();
        let place = slots.iter().position(|slot| slot.process() == offer.process())?;
        Some((place, offer))
    })
    .await
}

/// Waits until the session of who wrote this is over, and others have written.
async fn is_past(offer: &Offer, resources: &mut Resources) {
    sleep(SESSION_TIMEOUT + BEYOND).await;
    until(&format!("others hold what was held by {offer}"), async || {
        resources.account().is_past(offer).then_some(())
    })
    .await;
}

#[derive(Clone, Copy)]
enum OfMember {
    KillLeader,
    KillFollower,
    KillAll,
    StopLeader,
    StopFollower,
    HoldLeader,
    MuteLeader,
    CutLeader,
}

/// Harms members. All serve again when it returns.
pub async fn of_members(mut course: Course, cluster: &mut Cluster) -> Counts {
    use OfMember::*;
    let all = [
        KillLeader,
        KillFollower,
        KillAll,
        StopLeader,
        StopFollower,
        HoldLeader,
        MuteLeader,
        CutLeader,
    ];
    loop {
        for kind in course.shuffled(&all) {
            if course.is_over() {
                return course.counts;
            }
            harm(kind, &mut course, cluster).await;
            serve(course.last, cluster).await;
            course.some(300, 1_500).await;
        }
    }
}

async fn harm(kind: OfMember, course: &mut Course, cluster: &mut Cluster) {
    use OfMember::*;
    let leader = cluster.leader().await;
    let follower = (leader + 1 + course.below(cluster.members.len() - 1)) % cluster.members.len();
    let number = leader as u64 + 1;
    match kind {
        KillLeader => {
            course.count("leader killed");
            kill(&[leader], course, cluster).await;
        }
        KillFollower => {
            course.count("follower killed");
            kill(&[follower], course, cluster).await;
        }
        KillAll => {
            course.count("all members killed");
            let all: Vec<usize> = (0..cluster.members.len()).collect();
            kill(&all, course, cluster).await;
        }
        StopLeader => {
            course.count("leader stopped");
            stop(leader, course, cluster).await;
        }
        StopFollower => {
            course.count("follower stopped");
            stop(follower, course, cluster).await;
        }
        HoldLeader => {
            course.count("leader parted from the others");
            cluster.links.hold(number);
            course.some(500, 3_000).await;
        }
        MuteLeader => {
            course.count("leader not heard by the others");
            cluster.links.mute(number);
            course.some(500, 3_000).await;
        }
        CutLeader => {
            course.count("leader's connections to the others cut");
            cluster.links.cut(number);
            course.some(500, 3_000).await;
        }
    }
    cluster.links.heal();
}

async fn kill(places: &[usize], course: &Course, cluster: &mut Cluster) {
    for place in places {
        cluster.members[*place].kill().await;
    }
    course.some(0, 1_500).await;
    places.iter().for_each(|place| cluster.members[*place].start());
}

/// Shorter than a session, or longer.
async fn stop(place: usize, course: &Course, cluster: &mut Cluster) {
    cluster.members[place].freeze().await;
    course.some(500, 4_000).await;
    cluster.members[place].thaw();
}

/// Waits until every member leads or follows, after that.
async fn serve(harmed: &str, cluster: &Cluster) {
    until(&format!("every member serves again ({harmed})"), async || {
        for member in &cluster.members {
            let mode = member.standing().await?.mode;
            if mode != "leader" && mode != "follower" {
                return None;
            }
        }
        Some(())
    })
    .await;
}

/// Cuts connections between holders and members, and loses replies.
pub async fn of_connections(mut course: Course, proxies: &[Proxies]) -> Counts {
    while !course.is_over() {
        course.some(200, 1_500).await;
        let one = &proxies[course.below(proxies.len())];
        match course.below(8) {
            0 => {
                course.count("every connection cut");
                proxies.iter().for_each(Proxies::cut);
            }
            1..=3 => {
                course.count("connections of a holder cut");
                one.cut();
            }
            _ => {
                course.count("reply lost");
                one.lose_next_reply();
            }
        }
    }
    course.counts
}
