//! Replication: the one place that names openraft.
//!
//! An entry goes down through the courier into the log, by way of the leader, and comes up again
//! through the machine on every member.
//!
//! | file | what it holds |
//! |---|---|
//! | `config` | what a durable member is told |
//! | `start` | a durable member from its start to its end |
//! | `identity` | who it is, as its data folder says |
//! | `founding` | how a member begins that has nothing in its log |
//! | `notices` | what it has to say about how the others take it |
//! | `courier` | takes what a member has for the leader there |
//! | `machine` | applies what is committed; snapshots |
//! | `files` | snapshots on their way between members, as the folder's |
//! | `storage` | the log as consensus wants it |
//! | `admin` | the orders of whoever runs the cluster |
//! | `reconfig` | changes of the members that clients ask for |
//! | `frame` | how members cut a stream of bytes into frames |
//! | `handshake` | what a connection between members begins with: who, to whom, what for |
//! | `messages` | the requests and replies of consensus as bytes |
//! | `caller` | how a member introduces itself |
//! | `network` | how a member calls another |
//! | `peers` | how it is called |
//! | `snapshots` | a snapshot's way from one member to another |
//! | `runtime` | the runtime as openraft sees it |
//! | `fuzz` | what members say, read from whatever bytes |
//! | `batch` | entries that go through the log together |
//! | `types` | what openraft is told about our types, and how its entries are written down |

mod admin;
mod batch;
mod caller;
mod config;
mod courier;
mod files;
mod founding;
pub(crate) mod frame;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
pub(crate) mod handshake;
mod identity;
mod machine;
pub(crate) mod messages;
mod network;
mod notices;
pub(crate) mod peers;
mod reconfig;
mod runtime;
mod snapshots;
mod start;
mod storage;
mod strangers;
pub(crate) mod types;

#[cfg(test)]
mod cluster;

pub use config::{Founding, Keeping, MEMBER_ID_MAX, MemberConfig, Timing};
pub(crate) use start::{Durable, start};

use openraft::ServerState;
use openraft::metrics::RaftServerMetrics;

use self::machine::Machine;
use self::types::{Address, Types};

/// Consensus over this member's log and state.
type RaftOf<D> = openraft::Raft<Types, Machine<D>>;

/// How a member stands to its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// It leads.
    Leads { term: u64 },
    /// Another leads.
    Follows { term: u64, leader: u64, address: Address, votes: bool },
    /// Nobody is known to lead.
    Looking,
}

impl Standing {
    /// Whether it is the same leader in the same term.
    fn is_same(&self, other: &Standing) -> bool {
        match (self, other) {
            (
                Standing::Follows { term, leader, address, .. },
                Standing::Follows {
                    term: other_term,
                    leader: other_leader,
                    address: other_address,
                    ..
                },
            ) => (term, leader, address) == (other_term, other_leader, other_address),
            _ => self == other,
        }
    }
}

fn standing(metrics: &RaftServerMetrics<Types>) -> Standing {
    let (vote, id) = (&metrics.vote, metrics.id);
    let (term, leader) = (vote.leader_id.term, vote.leader_id.voted_for);
    if !vote.committed {
        return Standing::Looking;
    }
    if leader == id {
        return match metrics.state {
            ServerState::Leader => Standing::Leads { term },
            _ => Standing::Looking,
        };
    }
    let members = metrics.membership_config.membership();
    match members.get_node(&leader) {
        Some(address) => {
            let votes = members.voter_ids().any(|voter| voter == id);
            Standing::Follows { term, leader, address: address.clone(), votes }
        }
        None => Standing::Looking,
    }
}
