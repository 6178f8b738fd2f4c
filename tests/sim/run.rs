//! One seed, from the start to the verdict.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use synod_core::model::{Code, Request, Write};
use synod_core::testing::SeededEntropy;
use synod_server::Bug;
use tokio::time::{sleep, timeout};

use super::check::{Checked, Violation, check};
use super::client::{Client, Finish, TIMEOUTS_MS};
use super::cluster::{Cluster, TICK_MS, client_address};
use super::ending;
use super::faults::Faults;
use super::history::{Recorder, Tally, hash};
use super::liar::Lie;
use super::net::{Node, SimNet};
use super::panics::Watched;
use super::wire::{Held, Wire};
use super::workload::furniture;

/// How long things go wrong; and the most, where so little is answered under them that it is not
/// enough for a verdict. A run that has not enough by then is void.
const FAULTS: Duration = Duration::from_secs(9);
const FAULTS_MAX: Duration = Duration::from_secs(80);

/// How long clients go on after that.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// How long after everything's healing the clock of a session may still begin anew, in
/// milliseconds: there may be an election.
pub(super) const ELECTION_MS: u32 = 5_000;

/// How long clients may take to end.
const ENDING: Duration = Duration::from_secs(20);

/// How long one answer may take where nothing is wrong.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How many members a cluster has, by its seed.
const SIZES: [u8; 4] = [3, 1, 3, 5];

/// A client that is not of the workload.
const SETTER_UP: Node = Node::Client(199);

/// A bug on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plant {
    /// A right server with a liar before it.
    Lie(Lie),
    /// Every member makes this mistake.
    Bug(Bug),
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Where all chance comes from.
    pub seed: u64,
    /// How many members; by the seed if it is not said.
    pub members: Option<u8>,
    /// What is to be wrong.
    pub plant: Option<Plant>,
}

impl Plan {
    /// The run of a seed.
    pub fn new(seed: u64) -> Plan {
        Plan { seed, members: None, plant: None }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Of which seed.
    pub seed: u64,
    /// How many members it had.
    pub members: u8,
    /// One line an event.
    pub trace: Vec<String>,
    /// Of the trace.
    pub hash: u64,
    /// Promises that were not held.
    pub violations: Vec<Violation>,
    /// What was done in all.
    pub tally: Tally,
    /// What was done while things went wrong.
    pub under_faults: Tally,
    /// What the checkers had to check.
    pub checked: Checked,
}

impl Report {
    /// Why the run says nothing, if it does not.
    pub fn void(&self) -> Option<String> {
        let few = !self.under_faults.is_enough();
        few.then(|| format!("seed {} is void: {:?} under faults", self.seed, self.under_faults))
    }
}

/// Runs a seed and checks what was seen.
pub fn run(plan: Plan) -> Report {
    let watched = Watched::begin();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O can be made");
    let recorder = runtime.block_on(async { Recorder::new() });
    let members = runtime.block_on(simulate(plan, recorder.clone()));
    let history = recorder.finish();
    // Members of the runtime that are still there have nothing more to say.
    drop(runtime);
    let panics = watched.finish().into_iter();
    let mut violations: Vec<_> = panics.map(|what| Violation { checker: "panics", what }).collect();
    let (seen, checked) = check(&history);
    violations.extend(seen);
    Report {
        seed: plan.seed,
        members,
        hash: hash(&history.trace),
        violations,
        tally: history.tally,
        under_faults: history.under_faults,
        checked,
        trace: history.trace,
    }
}

async fn simulate(plan: Plan, recorder: Recorder) -> u8 {
    let random = SeededEntropy::new(plan.seed);
    let fork = || SeededEntropy::new(random.next_u64());
    let by_seed = match plan.plant {
        Some(Plant::Lie(_)) => 1,
        _ => SIZES[plan.seed as usize % SIZES.len()],
    };
    let size = plan.members.unwrap_or(by_seed);
    let clients = 5 + random.below(3) as u8;
    let pause_ms_max = 25 + random.below(60);
    let hands_on = random.below(2) == 0;
    recorder.note("run", format_args!("seed {}: {size} members, {clients} clients", plan.seed));

    let net = SimNet::new(random.next_u64());
    let mut cluster = Cluster::new(&net, &recorder, &fork(), size, plan.plant);
    cluster.start_all().await;
    let directory = cluster.directory.clone();
    set_up(&net, &recorder, &directory.members()).await;

    let finish = Arc::new(Finish::default());
    let tasks: Vec<_> = (0..clients)
        .map(|id| {
            let client = Client {
                id,
                net: net.clone(),
                recorder: recorder.clone(),
                directory: directory.clone(),
                finish: Arc::clone(&finish),
                pause_ms_max,
                random: fork(),
            };
            tokio::spawn(client.run())
        })
        .collect();

    let faults = Faults::new(&net, &mut cluster, &recorder, fork(), clients);
    faults.run(FAULTS, FAULTS_MAX).await;
    let members = ending::settle(&net, &recorder, &mut cluster).await;
    ending::all_serve_again(&net, &recorder, &members).await;
    finish.calm();
    // Not always: a new leader watches over every session anew.
    if hands_on {
        ending::leader_hands_on(&net, &recorder, &mut cluster).await;
    }
    sleep(AFTERWARDS).await;
    finish.tell();
    let all = async {
        for task in tasks {
            task.await.expect("a client does not panic");
        }
    };
    if timeout(ENDING, all).await.is_err() {
        recorder.complain("clients could not end their sessions in time".to_owned());
    }
    // Those whose clients went without a word are over by then: a leader that all members have
    // found watches over them.
    let longest_ms = TIMEOUTS_MS.iter().max().copied().unwrap_or(0) + 3 * TICK_MS;
    sleep(Duration::from_millis(longest_ms.into())).await;
    if cluster.is_durable() {
        for id in &members {
            ending::nothing_is_left(&net, &recorder, *id).await;
        }
    }
    for id in &members {
        ending::read_everything(&net, &recorder, (*id, client_address(*id))).await;
    }
    cluster.failed();
    size
}

/// Attaches to a member, as often as it takes.
pub(super) async fn attach(
    net: &SimNet,
    recorder: &Recorder,
    who: Node,
    member: (u8, SocketAddr),
) -> (Wire, Held) {
    loop {
        let attached = Wire::attach(net, recorder, who, member, None, TIMEOUTS_MS[1]).await;
        if let Ok(attached) = attached {
            return attached;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Creates what the workload finds there.
async fn set_up(net: &SimNet, recorder: &Recorder, members: &[(u8, SocketAddr)]) {
    let (mut wire, _) = attach(net, recorder, SETTER_UP, members[0]).await;
    for request in furniture() {
        // A cluster that is electing its first leader may say no, or nothing.
        while !matches!(
            wire.call(request.clone(), None, PATIENCE).await,
            Some(Ok(_)) | Some(Err(synod_core::model::Refusal { code: Code::NodeExists, .. }))
        ) {
            sleep(Duration::from_millis(100)).await;
            wire = attach(net, recorder, SETTER_UP, members[0]).await.0;
        }
    }
    wire.call(Request::Write(Write::CloseSession), None, PATIENCE).await;
}
