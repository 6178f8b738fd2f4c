//! What openraft is told about this project's types.

use std::fmt;
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::impls::leader_id_std;
use openraft::{EntryPayload, Membership};
use openraft_rt::deterministic_rng::DeterministicRng;

use super::runtime::OrderedRuntime;

openraft::declare_raft_types!(
    /// One leader a term; entries are commands; nobody waits for an answer from here, since the
    /// member that holds a connection answers from its own apply.
    pub(crate) Types:
        D = Command,
        R = (),
        NodeId = u64,
        Node = Address,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        // Its generator is seeded by us: nothing is left to chance in a simulation.
        AsyncRuntime = DeterministicRng<OrderedRuntime>,
);

pub(crate) type Runtime = DeterministicRng<OrderedRuntime>;
pub(crate) type CommittedLeaderId = openraft::type_config::alias::CommittedLeaderIdOf<Types>;
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
pub(crate) type Vote = openraft::Vote<leader_id_std::LeaderId<u64, u64>>;
pub(crate) type Members = Membership<u64, Address>;
pub(crate) type Payload = EntryPayload<Command, u64, Address>;
pub(crate) type RaftEntry = openraft::Entry<CommittedLeaderId, Payload>;

/// Which data folder it is: drawn at random when a folder is first used, and kept in it. A member
/// whose folder was emptied or replaced has another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FolderId(pub(crate) [u8; 16]);

impl fmt::Display for FolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Where a member is found, and what makes it the one that it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Address {
    /// Its data folder. Who has its number and another folder is not this member.
    pub folder: FolderId,
    /// Where its peers reach it, `host:port`.
    pub peer: String,
    /// The port that ZooKeeper has for elections, where somebody said it; 0 else. It serves nothing
    /// here, and is told again as it was said.
    pub election: u16,
    /// Where clients reach it, `host:port`.
    pub client: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.peer)
    }
}

/// Entries of the state machine as the log carries them: encoded once, where they are proposed, and
/// passed on as they are. What comes to the leader together goes through the log together.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Command {
    /// The leader's clock, in milliseconds since the Unix epoch: it takes the place of the time
    /// in the entries.
    pub(crate) time_ms: i64,
    /// The entries, in the form of [`batch`](super::batch).
    pub(crate) entries: Bytes,
}

impl fmt::Debug for Command {
    /// Without what they say: there are passwords among it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({self} at {})", self.time_ms)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entries of {} bytes", self.entries.len())
    }
}

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// What is read is not what was written.
pub(crate) fn malformed(rule: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, rule)
}

/// Appends a payload as the log on disk and the messages between members have it.
pub(crate) fn encode_payload(out: &mut BytesMut, payload: &Payload) {
    match payload {
        EntryPayload::Blank => out.put_u8(BLANK),
        EntryPayload::Normal(command) => {
            out.reserve(9 + command.entries.len());
            out.put_u8(NORMAL);
            out.put_i64(command.time_ms);
            out.put_slice(&command.entries);
        }
        EntryPayload::Membership(members) => {
            out.put_u8(MEMBERSHIP);
            encode_members(out, members);
        }
    }
}

/// # Errors
/// The bytes are no payload.
pub(crate) fn decode_payload(mut bytes: Bytes) -> io::Result<Payload> {
    match bytes.try_get_u8().map_err(|_| malformed("a payload has at least 1 byte"))? {
        BLANK => Ok(EntryPayload::Blank),
        NORMAL => {
            let time_ms =
                bytes.try_get_i64().map_err(|_| malformed("a command begins with its time"))?;
            Ok(EntryPayload::Normal(Command { time_ms, entries: bytes }))
        }
        MEMBERSHIP => Ok(EntryPayload::Membership(decode_members(&mut bytes)?)),
        _ => Err(malformed("the kind of a payload is 0, 1 or 2")),
    }
}

/// Who the members are, as ZooKeeper writes it down: see
/// [`CONFIG_PATH`](synod_core::model::CONFIG_PATH). One port serves for both that ZooKeeper has. A
/// member that nobody can reach is alone, and is not written down.
pub(crate) fn members_text(members: &Members) -> String {
    let voters: std::collections::BTreeSet<u64> = members.voter_ids().collect();
    let line = |(id, address): (&u64, &Address)| {
        let (host, port) = address.peer.rsplit_once(':')?;
        let role = if voters.contains(id) { "participant" } else { "observer" };
        let client = if address.client.is_empty() { "" } else { ";" };
        let election = Some(address.election).filter(|election| *election != 0);
        let election = election.map_or_else(|| port.to_owned(), |election| election.to_string());
        Some(format!("server.{id}={host}:{port}:{election}:{role}{client}{}", address.client))
    };
    members.nodes().filter_map(line).collect::<Vec<_>>().join("\n")
}

/// Appends who the members are: the sets of voters (two while they change), then everybody's
/// folder and addresses.
pub(crate) fn encode_members(out: &mut BytesMut, members: &Members) {
    let configs = members.get_joint_config();
    out.put_u32(configs.len() as u32);
    for voters in configs {
        out.put_u32(voters.len() as u32);
        voters.iter().for_each(|id| out.put_u64(*id));
    }
    out.put_u32(members.nodes().count() as u32);
    for (id, address) in members.nodes() {
        out.put_u64(*id);
        out.put_slice(&address.folder.0);
        out.put_u16(address.election);
        for text in [&address.peer, &address.client] {
            out.put_u32(text.len() as u32);
            out.put_slice(text.as_bytes());
        }
    }
}

/// # Errors
/// The bytes are no membership.
pub(crate) fn decode_members(bytes: &mut Bytes) -> io::Result<Members> {
    const SHORT: &str = "a membership is longer than what is there";
    let short = |_| malformed(SHORT);
    let mut configs = Vec::new();
    for _ in 0..bytes.try_get_u32().map_err(short)? {
        let mut voters = std::collections::BTreeSet::new();
        for _ in 0..bytes.try_get_u32().map_err(short)? {
            voters.insert(bytes.try_get_u64().map_err(short)?);
        }
        configs.push(voters);
    }
    let mut nodes = std::collections::BTreeMap::new();
    for _ in 0..bytes.try_get_u32().map_err(short)? {
        let id = bytes.try_get_u64().map_err(short)?;
        let mut folder = FolderId::default();
        bytes.try_copy_to_slice(&mut folder.0).map_err(short)?;
        let election = bytes.try_get_u16().map_err(short)?;
        let mut text = || {
            let length = bytes.try_get_u32().map_err(short)? as usize;
            if length > bytes.len() {
                return Err(malformed(SHORT));
            }
            String::from_utf8(bytes.split_to(length).to_vec())
                .map_err(|_| malformed("an address is UTF-8"))
        };
        nodes.insert(id, Address { folder, peer: text()?, election, client: text()? });
    }
    Members::new(configs, nodes).map_err(|_| malformed("every voter has an address"))
}
