//! Whoever runs a cluster, as its members see it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use synod_core::model::{Code, Reconfig};
use tokio::time::Instant;

use super::wire::{self, Order, kind};
use super::{AdminError, Progress, Status};
use crate::limits::{
    ADDRESS_BYTES_MAX, ADMIN_HOPS_MAX, ADMIN_PAUSE_MS, CATCH_UP_STALL_MS_MAX, MEMBERS_CHANGE_MS_MAX,
};
use crate::net::{Net, Tcp};
use crate::replica::frame::{self, Frame, Wire};
use crate::replica::handshake::{self, Hello, NO_MEMBER};

/// How long a member may take to answer, and the cluster to have a leader, unless it is set.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Gives orders to a cluster. What only the leader can do is sent on to it.
///
/// Dropping the future of an order gives up waiting: the order may have been carried out.
#[derive(Debug)]
pub struct Admin {
    net: Arc<dyn Net>,
    peers: Vec<String>,
    timeout: Duration,
}

/// What a member answers.
enum Answer {
    Status(Box<Status>),
    Done,
    Elsewhere(String),
    NoLeader,
}

impl Admin {
    /// `peers` is where some of the members reach each other, `HOST:PORT[,HOST:PORT…]`; they are
    /// tried in this order.
    ///
    /// # Errors
    /// [`AdminError::Invalid`].
    pub fn new(peers: &str) -> Result<Admin, AdminError> {
        let peers: Vec<String> = peers.split(',').map(|peer| peer.trim().to_owned()).collect();
        for peer in &peers {
            check_address(peer)?;
        }
        Ok(Admin { net: Arc::new(Tcp), peers, timeout: TIMEOUT })
    }

    /// Goes over another network, as with TLS.
    #[must_use]
    pub fn net(mut self, net: Arc<dyn Net>) -> Admin {
        self.net = net;
        self
    }

    /// How long a member may take to answer, and the cluster to have a leader.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Admin {
        self.timeout = timeout;
        self
    }

    /// How the first member that is reached sees the cluster; with a leader, how that sees it, if
    /// it is reached too.
    ///
    /// # Errors
    /// [`AdminError::Connect`], [`AdminError::Lost`].
    pub async fn status(&mut self) -> Result<Status, AdminError> {
        let (address, mut wire) = self.connect_any(0).await?;
        let reached = self.status_over(&address, &mut wire).await?;
        let leader = reached.leader.filter(|leader| *leader != reached.id);
        let leader = leader.and_then(|id| reached.members.iter().find(|member| member.id == id));
        if let Some(leader) = leader
            && let Ok(mut wire) = self.connect(&leader.peer).await
            && let Ok(status) = self.status_over(&leader.peer, &mut wire).await
        {
            return Ok(status);
        }
        Ok(reached)
    }

    /// How the member at `peer` (`host:port`) sees the cluster.
    ///
    /// # Errors
    /// [`AdminError::Connect`], [`AdminError::Lost`].
    pub async fn status_of(&mut self, peer: &str) -> Result<Status, AdminError> {
        let mut wire = self.connect(peer).await?;
        self.status_over(peer, &mut wire).await
    }

    /// Adds a member as a learner, and waits until it has caught up: it replicates and does not
    /// vote. `peer` and `client` are where others and clients reach it, `host:port`; `client` may
    /// be empty. `progress` is told how far it is.
    ///
    /// # Errors
    /// Any. When it does not catch up in time, it stays a learner, and goes on.
    pub async fn add(
        &mut self,
        id: u64,
        peer: &str,
        client: &str,
        progress: impl FnMut(Progress),
    ) -> Result<(), AdminError> {
        check_id(id)?;
        check_address(peer)?;
        if !client.is_empty() {
            check_address(client)?;
        }
        let order = Order::Add { id, peer: peer.to_owned(), client: client.to_owned() };
        self.order(order, progress).await
    }

    /// Gives a learner that has caught up a vote.
    ///
    /// # Errors
    /// Any.
    pub async fn promote(&mut self, id: u64) -> Result<(), AdminError> {
        check_id(id)?;
        self.order(Order::Promote { id }, |_| {}).await
    }

    /// Takes a member out of the cluster; it is no longer replicated to. The leader has to hand
    /// its leadership on first.
    ///
    /// # Errors
    /// Any.
    pub async fn remove(&mut self, id: u64) -> Result<(), AdminError> {
        check_id(id)?;
        self.order(Order::Remove { id }, |_| {}).await
    }

    /// Hands the leadership to a voter, and waits until it leads. Writes wait meanwhile. To a
    /// member that does not answer it is not handed.
    ///
    /// # Errors
    /// Any.
    pub async fn transfer(&mut self, id: u64) -> Result<(), AdminError> {
        check_id(id)?;
        self.order(Order::Transfer { id }, |_| {}).await
    }

    /// Makes the change that a client asks for, who may.
    ///
    /// # Errors
    /// Any.
    pub(crate) async fn reconfig(&self, reconfig: &Reconfig) -> Result<(), AdminError> {
        self.order(Order::Reconfig(reconfig.clone()), |_| {}).await
    }

    async fn connect(&self, address: &str) -> Result<Wire, AdminError> {
        let hello = Hello::of_admin(u32::try_from(self.timeout.as_millis()).unwrap_or(u32::MAX));
        match handshake::connect(&*self.net, address, &hello, self.timeout).await {
            Ok((stream, _)) => Ok(Wire::new(stream)),
            Err(error) => Err(AdminError::Connect(error.to_string())),
        }
    }

    /// Whoever is reached, from the one at this place in the list on.
    async fn connect_any(&self, first: usize) -> Result<(String, Wire), AdminError> {
        let mut problems = Vec::new();
        let (before, from) = self.peers.split_at(first % self.peers.len().max(1));
        for address in from.iter().chain(before) {
            match self.connect(address).await {
                Ok(wire) => return Ok((address.clone(), wire)),
                Err(error) => problems.push(error.to_string()),
            }
        }
        Err(AdminError::Connect(problems.join("; ")))
    }

    async fn status_over(&self, address: &str, wire: &mut Wire) -> Result<Status, AdminError> {
        match self.ask(address, wire, &Order::Status, self.timeout, &mut |_| {}).await? {
            Answer::Status(status) => Ok(*status),
            _ => Err(AdminError::Lost(format!("{address} answers something else"))),
        }
    }

    async fn order(
        &self,
        order: Order,
        mut progress: impl FnMut(Progress),
    ) -> Result<(), AdminError> {
        // The member has deadlines of its own, and says which one has passed.
        let patience =
            self.timeout + Duration::from_millis(MEMBERS_CHANGE_MS_MAX.max(CATCH_UP_STALL_MS_MAX));
        let give_up_at = Instant::now() + self.timeout;
        let mut next: Option<String> = None;
        let mut hops = 0;
        let mut first = 0;
        loop {
            let connected = match next.take() {
                Some(address) => self.connect(&address).await.map(|wire| (address, wire)),
                None => self.connect_any(first).await,
            };
            match connected {
                Ok((address, mut wire)) => {
                    match self.ask(&address, &mut wire, &order, patience, &mut progress).await? {
                        Answer::Done => return Ok(()),
                        Answer::Elsewhere(leader) if hops < ADMIN_HOPS_MAX => {
                            hops += 1;
                            next = Some(leader);
                            continue;
                        }
                        // One that waits to be added knows nobody; another may know the leader.
                        Answer::Elsewhere(_) | Answer::NoLeader => first += 1,
                        Answer::Status(_) => {
                            return Err(AdminError::Lost(format!("{address} answers otherwise")));
                        }
                    }
                }
                // A leader that was named and is not there: the members will have another soon.
                Err(error) if hops == 0 => return Err(error),
                Err(_) => {}
            }
            if Instant::now() >= give_up_at {
                return Err(AdminError::NoLeader);
            }
            hops = 0;
            tokio::time::sleep(Duration::from_millis(ADMIN_PAUSE_MS)).await;
        }
    }

    async fn ask(
        &self,
        address: &str,
        wire: &mut Wire,
        order: &Order,
        patience: Duration,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Answer, AdminError> {
        let lost = |text: &dyn std::fmt::Display| AdminError::Lost(format!("{address}: {text}"));
        frame::put(wire.output(), kind::ORDER, |out| wire::encode_order(out, order))
            .map_err(|error| AdminError::Invalid(error.to_string()))?;
        loop {
            let answer = tokio::time::timeout(patience, wire.next()).await;
            let answer = answer
                .map_err(|_| lost(&format_args!("no answer within {} ms", patience.as_millis())))?;
            let Frame { kind, mut body } = answer.map_err(|error| lost(&error))?;
            let understood = match kind {
                kind::PROGRESS => wire::decode_progress(body).map(|told| {
                    progress(told);
                    None
                }),
                kind::DONE => Ok(Some(Answer::Done)),
                kind::STATUS => {
                    wire::decode_status(body).map(|status| Some(Answer::Status(Box::new(status))))
                }
                kind::ELSEWHERE => {
                    wire::decode_elsewhere(body).map(|(_, leader)| Some(Answer::Elsewhere(leader)))
                }
                kind::NO_LEADER => Ok(Some(Answer::NoLeader)),
                kind::REFUSED => {
                    let code = body.try_get_i32().map_err(|_| lost(&"a refusal has a code"))?;
                    let text = String::from_utf8_lossy(&body).into_owned();
                    return Err(AdminError::Refused { code: Code::from_number(code), text });
                }
                kind => return Err(lost(&format_args!("an answer of kind {kind} is not known"))),
            };
            if let Some(answer) = understood.map_err(|error| lost(&error))? {
                return Ok(answer);
            }
        }
    }
}

fn check_id(id: u64) -> Result<(), AdminError> {
    if id == NO_MEMBER {
        return Err(AdminError::Invalid("member 0: the id of a member is above 0".to_owned()));
    }
    Ok(())
}

fn check_address(address: &str) -> Result<(), AdminError> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let port = port.and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none_or(|port| port == 0) || address.len() > ADDRESS_BYTES_MAX {
        let text = format!("{address:?}: an address is HOST:PORT, of at most 512 bytes");
        return Err(AdminError::Invalid(text));
    }
    Ok(())
}
