//! What goes wrong, when, and for how long: a schedule from the seed.

use std::time::Duration;

use synod_core::testing::SeededEntropy;
use tokio::time::{Instant, sleep, sleep_until};

use super::cluster::Cluster;
use super::history::{Recorder, Trouble};
use super::net::{Node, Shape, SimNet, shape};
use super::operator::Operator;

/// Pause between the beginnings of two faults, in milliseconds.
const PAUSE_MS_MAX: u64 = 1_000;

/// Pause between two changes of who the members are, in milliseconds.
const ORDERS_MS_MAX: u64 = 2_500;

/// How much longer the faults go on, at a time, where there were not operations enough.
const MORE: Duration = Duration::from_secs(1);

/// How long a fault lasts, in milliseconds. One in four is long: beyond the shorter session
/// timeouts.
const SHORT_MS_MAX: u64 = 900;
const LONG_MS_MAX: u64 = 4_000;

/// The most that a link is slower, in milliseconds.
const SLOW_MS_MAX: u64 = 400;

/// The most that a member applies later, in milliseconds.
const BEHIND_MS_MAX: u64 = 300;

/// The most that is left on a full disk, in bytes: a segment, or a snapshot.
const ROOM_BYTES_MAX: u64 = 20 << 10;

/// Clocks jump by at most so much, in milliseconds: an hour.
const JUMP_MS_MAX: u64 = 3_600_000;

/// What ends a fault.
enum Undo {
    Mend(Vec<(Node, Node)>),
    Accept(Node, Node),
    Quicken(Node, Node),
    Start(u8),
    QuickenDisks(Vec<u8>),
    EmptyDisk(u8),
    Release(u64),
    ApplyAtOnce(Vec<u8>),
}

struct Under {
    until: Instant,
    undo: Undo,
    /// Since when the members are hindered by it, if they are.
    trouble_from_ms: Option<u64>,
}

pub(crate) struct Faults<'a> {
    pub(crate) net: &'a SimNet,
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) recorder: &'a Recorder,
    pub(crate) random: SeededEntropy,
    pub(crate) clients: u8,
    operator: Operator,
    under: Vec<Under>,
}

impl<'a> Faults<'a> {
    pub(crate) fn new(
        net: &'a SimNet,
        cluster: &'a mut Cluster,
        recorder: &'a Recorder,
        random: SeededEntropy,
        clients: u8,
    ) -> Faults<'a> {
        let operator = Operator::new(net, recorder, SeededEntropy::new(random.next_u64()));
        Faults { net, cluster, recorder, random, clients, operator, under: Vec::new() }
    }

    /// Brings faults about for at least so long, and longer if a run would say nothing, and heals
    /// everything.
    pub(crate) async fn run(mut self, shortest: Duration, longest: Duration) {
        let begun = Instant::now();
        let mut until = begun + shortest;
        let mut next = begun + self.millis(PAUSE_MS_MAX);
        let mut order = begun + self.millis(ORDERS_MS_MAX);
        loop {
            let end = self.under.iter().map(|under| under.until).min();
            let wake = end.map_or(next, |end| end.min(next)).min(order).min(until);
            let told = tokio::select! {
                biased;
                told = self.operator.told() => Some(told),
                () = sleep_until(wake) => None,
            };
            if let Some(told) = told {
                self.operator.act(told, self.cluster).await;
            }
            let now = Instant::now();
            if now >= until {
                if self.recorder.lock().tally.is_enough() || now >= begun + longest {
                    break;
                }
                until = now + MORE;
            }
            let (over, under) = self.under.drain(..).partition(|under| under.until <= now);
            self.under = under;
            self.undo(over).await;
            for id in self.cluster.failed() {
                self.crash(id);
            }
            if now >= order {
                self.operator.begin(self.cluster);
                order = now + self.millis(ORDERS_MS_MAX);
            }
            if now >= next {
                self.begin();
                next = now + self.millis(PAUSE_MS_MAX);
            }
        }
        {
            let mut history = self.recorder.lock();
            history.under_faults = history.tally;
        }
        self.operator.give_up();
        // Disks that were to fail and did not are well again. Where one has failed by now, its member
        // says so when it has had its turn, and is started.
        let ids = self.cluster.ids();
        ids.iter().for_each(|id| self.cluster.slow_disk(*id, false));
        sleep(Duration::from_millis(1)).await;
        for id in self.cluster.failed() {
            self.cluster.crash(id, false);
        }
        ids.iter().for_each(|id| self.cluster.mend_disk(*id));
        // Who has just crashed is gone when the others have had their turn.
        sleep(Duration::from_millis(1)).await;
        let all = std::mem::take(&mut self.under);
        self.undo(all).await;
        self.net.heal();
        self.cluster.start_all().await;
        self.recorder.note("net", format_args!("all is healed"));
    }

    async fn undo(&mut self, over: Vec<Under>) {
        for Under { undo, trouble_from_ms, .. } in over {
            match undo {
                Undo::Mend(links) => {
                    self.recorder.note("net", format_args!("{} links mend", links.len()));
                    links.iter().for_each(|(from, to)| self.net.mend(*from, *to));
                }
                Undo::Accept(from, to) => self.net.refuse(from, to, false),
                Undo::Quicken(a, b) => self.net.slow(a, b, 0),
                Undo::Start(id) if !self.cluster.is_deployed(id) => {}
                Undo::Start(id) => self.cluster.start(id).await,
                Undo::QuickenDisks(ids) => {
                    ids.iter().for_each(|id| self.cluster.slow_disk(*id, false));
                }
                // Who has failed by then starts again, and finds room.
                Undo::EmptyDisk(id) => self.cluster.slow_disk(id, false),
                Undo::Release(number) => self.net.release(number),
                Undo::ApplyAtOnce(ids) => ids.iter().for_each(|id| self.cluster.apply_late(*id, 0)),
            }
            if let Some(from_ms) = trouble_from_ms {
                let to_ms = self.recorder.now_ms();
                self.recorder.lock().troubles.push(Trouble { from_ms, to_ms });
            }
        }
    }

    fn millis(&self, max_ms: u64) -> Duration {
        Duration::from_millis(1 + self.random.below(max_ms))
    }

    fn one_of<T: Copy>(&self, among: &[T]) -> T {
        among[self.random.below(among.len() as u64) as usize]
    }

    /// Half of the time all of them, so that what is committed, or done, is late everywhere.
    fn one_or_all(&self, ids: &[u8]) -> Vec<u8> {
        if self.random.below(2) == 0 { ids.to_vec() } else { vec![self.one_of(ids)] }
    }

    fn lasting(&mut self, undo: Undo, hinders_members: bool) {
        let longest_ms = if self.random.below(4) == 0 { LONG_MS_MAX } else { SHORT_MS_MAX };
        self.lasting_up_to(longest_ms, undo, hinders_members);
    }

    fn lasting_up_to(&mut self, longest_ms: u64, undo: Undo, hinders_members: bool) {
        let until = Instant::now() + self.millis(longest_ms);
        let trouble_from_ms = hinders_members.then(|| self.recorder.now_ms());
        self.under.push(Under { until, undo, trouble_from_ms });
    }

    fn begin(&mut self) {
        self.recorder.lock().tally.faults += 1;
        let ids = self.cluster.ids();
        let member = Node::Member(self.one_of(&ids));
        let client = Node::Client(self.random.below(self.clients.into()) as u8);
        // A liar stands before a server whose state is in memory only.
        let durable = self.cluster.is_durable();
        match self.random.below(26) {
            0..3 if ids.len() > 1 => self.partition(&ids),
            12..15 if durable => self.crash(self.one_of(&ids)),
            19 | 20 if durable => self.stop(self.one_of(&ids)),
            21 if durable => self.fill_disk(self.one_of(&ids)),
            22 | 23 if durable => self.apply_late(self.one_or_all(&ids)),
            24 | 25 if ids.len() > 1 => self.hinder_one(&ids),
            15 if durable => ids.iter().for_each(|id| self.crash(*id)),
            16 | 17 if durable => {
                let which = self.one_or_all(&ids);
                self.note(format_args!("the disks of {which:?} are slow"));
                which.iter().for_each(|id| self.cluster.slow_disk(*id, true));
                self.lasting(Undo::QuickenDisks(which), true);
            }
            18 if durable => {
                let (id, syncs) = (self.one_of(&ids), self.random.below(20));
                self.note(format_args!("the disk of m{id} fails after {syncs} syncs"));
                self.cluster.doom(id, syncs);
            }
            0..3 => {
                self.note(format_args!("{client} and {member} are cut from each other"));
                self.cut(vec![(client, member), (member, client)], false);
            }
            3 => {
                let deaf = self.random.below(2) == 0;
                let way = if deaf { (client, member) } else { (member, client) };
                self.note(format_args!("nothing passes from {} to {}", way.0, way.1));
                self.cut(vec![way], false);
            }
            4..6 => {
                let peer = self.other_end(member, client, &ids);
                let count = self.net.reset(peer, member);
                self.note(format_args!("{count} connections of {peer} and {member} are reset"));
            }
            6..8 => {
                let peer = self.other_end(member, client, &ids);
                self.note(format_args!("writes of {peer} and {member} are cut short"));
                self.net.cut_next_write(peer, member);
            }
            8 => {
                self.note(format_args!("{member} refuses {client}"));
                self.net.refuse(client, member, true);
                self.lasting(Undo::Accept(client, member), false);
            }
            9 => {
                let peer = self.other_end(member, client, &ids);
                let extra_ms = 1 + self.random.below(SLOW_MS_MAX);
                self.note(format_args!("{peer} and {member} are {extra_ms} ms further apart"));
                self.net.slow(peer, member, extra_ms);
                self.lasting(Undo::Quicken(peer, member), peer != client);
            }
            10 => {
                let by_ms = self.random.below(2 * JUMP_MS_MAX) as i64 - JUMP_MS_MAX as i64;
                self.cluster.jump(self.one_of(&ids), by_ms);
            }
            _ => {
                // As if it were paused: nothing reaches it, nothing comes from it.
                self.note(format_args!("{member} is cut off from all"));
                let clients = (0..self.clients).map(Node::Client);
                let others = ids.iter().map(|id| Node::Member(*id)).filter(|it| *it != member);
                let all: Vec<_> = clients.chain(others).collect();
                self.cut(all.iter().flat_map(|it| [(*it, member), (member, *it)]).collect(), true);
            }
        }
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.recorder.note("net", what);
    }

    fn cut(&mut self, links: Vec<(Node, Node)>, hinders_members: bool) {
        links.iter().for_each(|(from, to)| self.net.cut(*from, *to));
        self.lasting(Undo::Mend(links), hinders_members);
    }

    /// A client as a rule, or another member.
    fn other_end(&self, member: Node, client: Node, ids: &[u8]) -> Node {
        let others: Vec<_> =
            ids.iter().map(|id| Node::Member(*id)).filter(|it| *it != member).collect();
        if others.is_empty() || self.random.below(2) == 0 { client } else { self.one_of(&others) }
    }

    /// A crash, with or without the power; it comes back by itself.
    fn crash(&mut self, id: u8) {
        if self.cluster.is_up(id) {
            self.cluster.crash(id, self.random.below(2) == 0);
            self.lasting(Undo::Start(id), true);
        }
    }

    /// An end as on SIGTERM; it comes back by itself, perhaps after a loss of power.
    fn stop(&mut self, id: u8) {
        if self.cluster.is_up(id) {
            self.cluster.stop(id, self.random.below(2) == 0);
            self.lasting(Undo::Start(id), true);
        }
    }

    fn fill_disk(&mut self, id: u8) {
        let bytes = self.random.below(ROOM_BYTES_MAX);
        self.note(format_args!("the disk of m{id} has room for {bytes} bytes"));
        self.cluster.fill_disk(id, bytes);
        // Long as a rule: the room that is left must be used up first.
        self.lasting_up_to(LONG_MS_MAX, Undo::EmptyDisk(id), true);
    }

    fn apply_late(&mut self, which: Vec<u8>) {
        let behind_ms = 1 + self.random.below(BEHIND_MS_MAX);
        self.note(format_args!("{which:?} apply {behind_ms} ms later"));
        which.iter().for_each(|id| self.cluster.apply_late(*id, behind_ms));
        self.lasting(Undo::ApplyAtOnce(which), true);
    }

    /// One connection of the several that two members have: of appends, votes, snapshots or a
    /// courier.
    fn hinder_one(&mut self, ids: &[u8]) {
        let a = self.one_of(ids);
        let b = self.one_of(&ids.iter().copied().filter(|id| *id != a).collect::<Vec<_>>());
        let extra_ms = (self.random.below(2) == 0).then(|| 1 + self.random.below(SLOW_MS_MAX));
        let hindered = self.net.hinder_one(Node::Member(a), Node::Member(b), extra_ms);
        let Some(number) = hindered else { return };
        let how =
            extra_ms.map_or("is held".to_owned(), |extra_ms| format!("is {extra_ms} ms late"));
        self.note(format_args!("connection {number} of m{a} and m{b} {how}"));
        self.lasting(Undo::Release(number), true);
    }

    fn partition(&mut self, ids: &[u8]) {
        let mut nodes: Vec<_> = ids.iter().map(|id| Node::Member(*id)).collect();
        for last in (1..nodes.len()).rev() {
            nodes.swap(last, self.random.below(last as u64 + 1) as usize);
        }
        let form = self.one_of(&Shape::ALL);
        let links = shape(form, &nodes, self.random.below(2) == 0);
        self.note(format_args!("a partition: {form:?} of {nodes:?}"));
        if self.random.below(3) == 0 {
            // With resets, as where a firewall rejects.
            links.iter().for_each(|(a, b)| _ = self.net.reset(*a, *b));
        }
        self.cut(links, true);
    }
}
