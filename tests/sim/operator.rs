//! Whoever runs the cluster: members are added, get votes, are taken out, and hand the leadership
//! on, while clients work and other things go wrong. One order at a time, after a look at what
//! there is; one whose outcome is not known is not given up for lost.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use synod_core::testing::SeededEntropy;
use synod_server::admin::{Admin, AdminError, Status};
use synod_server::net::Net;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::cluster::{Cluster, client_address, peer_address};
use super::history::{Recorder, Trouble};
use super::net::{Node, SimNet};

const OPERATOR: Node = Node::Client(198);

/// How long a member may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// How long an order is waited for.
const PATIENCE: Duration = Duration::from_secs(6);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Add(u8),
    Promote(u8),
    Remove(u8),
    Transfer(u8),
}

enum Doing {
    Nothing,
    Looking(JoinHandle<Option<Status>>),
    Ordering(Order, JoinHandle<Result<(), AdminError>>),
}

/// What has come back.
pub(crate) enum Told {
    Looked(Option<Box<Status>>),
    Ordered(Order, Result<(), AdminError>),
}

pub(crate) struct Operator {
    net: Arc<dyn Net>,
    recorder: Recorder,
    random: SeededEntropy,
    doing: Doing,
    since_ms: u64,
    /// When a member was last seen to be one, by the term and the last entry of the leader.
    seen: BTreeMap<u8, (u64, Option<u64>)>,
}

/// Gives orders to these, or asks them.
pub(crate) fn admin(net: &Arc<dyn Net>, ids: &[u8]) -> Admin {
    let peers: Vec<_> = ids.iter().map(|id| peer_address(*id)).collect();
    let admin = Admin::new(&peers.join(",")).expect("addresses are addresses");
    admin.net(Arc::clone(net)).timeout(ANSWER)
}

/// The network as the operator has it.
pub(crate) fn network(net: &SimNet) -> Arc<dyn Net> {
    net.of(OPERATOR)
}

/// The cluster as its leader sees it: of those that take themselves for it, the latest.
pub(crate) async fn look(net: &Arc<dyn Net>, ids: &[u8]) -> Option<Status> {
    let mut leader: Option<Status> = None;
    if ids.is_empty() {
        return leader;
    }
    let mut admin = admin(net, ids);
    for id in ids {
        let Ok(status) = admin.status_of(&peer_address(*id)).await else { continue };
        let leads = status.leader == Some(status.id);
        if leads && leader.as_ref().is_none_or(|leader| leader.term < status.term) {
            leader = Some(status);
        }
    }
    leader
}

impl Operator {
    pub(crate) fn new(net: &SimNet, recorder: &Recorder, random: SeededEntropy) -> Operator {
        Operator {
            net: network(net),
            recorder: recorder.clone(),
            random,
            doing: Doing::Nothing,
            since_ms: 0,
            seen: BTreeMap::new(),
        }
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.recorder.note("op", what);
    }

    /// Begins to change the members, unless that is under way.
    pub(crate) fn begin(&mut self, cluster: &Cluster) {
        if !matches!(self.doing, Doing::Nothing) || !cluster.is_durable() {
            return;
        }
        self.since_ms = self.recorder.now_ms();
        let (net, ids) = (Arc::clone(&self.net), cluster.ids());
        self.doing = Doing::Looking(tokio::spawn(async move { look(&net, &ids).await }));
    }

    /// Waits for what was asked for. Dropping the future loses nothing.
    pub(crate) async fn told(&mut self) -> Told {
        match &mut self.doing {
            Doing::Nothing => pending().await,
            Doing::Looking(looking) => {
                Told::Looked(looking.await.expect("a look does not panic").map(Box::new))
            }
            Doing::Ordering(order, ordering) => {
                Told::Ordered(*order, ordering.await.expect("an order does not panic"))
            }
        }
    }

    /// Acts on what was told.
    pub(crate) async fn act(&mut self, told: Told, cluster: &mut Cluster) {
        self.doing = Doing::Nothing;
        match told {
            Told::Looked(None) => self.note(format_args!("sees no leader")),
            Told::Looked(Some(status)) => {
                self.clear_away(&status, cluster).await;
                if let Some(order) = self.choose(&status, cluster) {
                    return self.order(order, status.id as u8, cluster).await;
                }
            }
            Told::Ordered(order, outcome) => self.outcome(order, outcome, cluster).await,
        }
        self.trouble();
    }

    /// Waits for nothing any more: what was ordered may still be carried out.
    pub(crate) fn give_up(&mut self) {
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Nothing => return,
            Doing::Looking(looking) => looking.abort(),
            Doing::Ordering(order, ordering) => {
                self.note(format_args!("waits no longer for {order:?}"));
                ordering.abort();
            }
        }
        self.trouble();
    }

    fn trouble(&self) {
        let (from_ms, to_ms) = (self.since_ms, self.recorder.now_ms());
        self.recorder.lock().troubles.push(Trouble { from_ms, to_ms });
    }

    /// Members that were ordered out, and are, end.
    async fn clear_away(&mut self, status: &Status, cluster: &mut Cluster) {
        let now = (status.term, status.last_log);
        for id in cluster.ids() {
            if status.members.iter().any(|member| member.id == u64::from(id)) {
                self.seen.insert(id, now);
            } else if cluster.leaves(id) && self.seen.get(&id).is_some_and(|seen| *seen < now) {
                self.note(format_args!("m{id} is out"));
                cluster.directory.strike(id);
                cluster.retire(id).await;
            }
        }
    }

    fn one_of(&self, among: &[u8]) -> Option<u8> {
        let which = self.random.below(among.len().max(1) as u64) as usize;
        among.get(which).copied()
    }

    fn choose(&self, status: &Status, cluster: &Cluster) -> Option<Order> {
        let is_in = |id: u8| status.members.iter().any(|member| member.id == u64::from(id));
        let of_kind = |voter: bool| -> Vec<u8> {
            let kind = status.members.iter().filter(|member| member.voter == voter);
            kind.map(|member| member.id as u8).collect()
        };
        let (voters, learners) = (of_kind(true), of_kind(false));
        let outside: Vec<u8> = cluster.all().into_iter().filter(|id| !is_in(*id)).collect();
        let leader = status.id as u8;
        let others: Vec<u8> = voters.iter().copied().filter(|id| *id != leader).collect();
        for _ in 0..4 {
            let order = match self.random.below(12) {
                0..4 => self.one_of(&outside).map(Order::Add),
                4..8 => self.one_of(&learners).map(Order::Promote),
                8..10 => {
                    let any: Vec<u8> = [&voters[..], &learners].concat();
                    let which = self.one_of(&any).filter(|id| {
                        // Down to one voter now and then.
                        voters.len() > 2 || learners.contains(id) || self.random.below(3) == 0
                    });
                    match which {
                        Some(id) if id == leader => self.one_of(&others).map(Order::Transfer),
                        which => which.map(Order::Remove),
                    }
                }
                _ => self.one_of(&others).map(Order::Transfer),
            };
            if order.is_some() {
                return order;
            }
        }
        None
    }

    async fn order(&mut self, order: Order, leader: u8, cluster: &mut Cluster) {
        self.note(format_args!("orders {order:?}"));
        match order {
            Order::Add(id) if !cluster.is_deployed(id) => cluster.deploy(id).await,
            Order::Remove(id) => cluster.orders_out(id),
            _ => {}
        }
        // Any may be asked first: who leads may have changed since.
        let mut ids = cluster.ids();
        if ids.is_empty() {
            return;
        }
        let first = match self.random.below(2) {
            0 => ids.iter().position(|id| *id == leader).unwrap_or(0),
            _ => self.random.below(ids.len() as u64) as usize,
        };
        ids.rotate_left(first);
        let mut admin = admin(&self.net, &ids);
        let ordering = tokio::spawn(async move {
            let carried_out = async {
                match order {
                    Order::Add(id) => {
                        let client = client_address(id).to_string();
                        admin.add(id.into(), &peer_address(id), &client, |_| {}).await
                    }
                    Order::Promote(id) => admin.promote(id.into()).await,
                    Order::Remove(id) => admin.remove(id.into()).await,
                    Order::Transfer(id) => admin.transfer(id.into()).await,
                }
            };
            let given_up = || Err(AdminError::Lost("waited for in vain".to_owned()));
            timeout(PATIENCE, carried_out).await.unwrap_or_else(|_| given_up())
        });
        self.doing = Doing::Ordering(order, ordering);
    }

    async fn outcome(
        &mut self,
        order: Order,
        outcome: Result<(), AdminError>,
        cluster: &mut Cluster,
    ) {
        match &outcome {
            Ok(()) => self.note(format_args!("{order:?} is done")),
            Err(error) => self.note(format_args!("{order:?}: {error}")),
        }
        match (order, outcome) {
            (Order::Add(id), Ok(()) | Err(AdminError::Lost(_))) => cluster.directory.enter(id),
            (Order::Remove(id), Ok(())) => {
                cluster.directory.strike(id);
                // Or it goes on for a while and knows nothing of it.
                if self.random.below(2) == 0 {
                    cluster.retire(id).await;
                }
            }
            _ => {}
        }
    }
}
