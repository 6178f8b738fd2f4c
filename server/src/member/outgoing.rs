//! What a member has to take to the leader: entries in the order in which they were proposed,
//! sessions that were heard of, and questions. The courier takes it all at once.

use bytes::Bytes;
use synod_core::model::{Acl, Identity, Op, SessionId, Write, Zxid};
use tokio::sync::oneshot;

use crate::limits::BATCH_ENTRIES_MAX;

/// An entry on its way to the log.
pub(crate) struct Proposal {
    /// The entry, encoded.
    pub(crate) entry: Bytes,
    /// Its place among everything that this member has proposed.
    number: u64,
    /// It is void unless the leader's term is still the one in which it was proposed.
    pub(crate) pinned: bool,
}

/// Who waits for the leader's answer.
pub(crate) enum Waiter {
    /// A connection, with what stands at the front of its queue.
    Seat {
        /// Its session.
        session: SessionId,
        /// The attachment through which it asked.
        attachment: Zxid,
    },
    /// A task.
    Caller(oneshot::Sender<()>),
}

impl Waiter {
    /// Whether anybody is there to be answered, as far as can be seen from here.
    fn waits(&self) -> bool {
        match self {
            Waiter::Seat { .. } => true,
            Waiter::Caller(caller) => !caller.is_closed(),
        }
    }
}

/// What waits for the courier.
#[derive(Default)]
pub(crate) struct Outgoing {
    pub(crate) proposals: Vec<Proposal>,
    /// Sessions that were heard of since the last time.
    pub(crate) touched: Vec<SessionId>,
    /// Pings: answered when the leader has heard of their sessions, within its lease.
    pub(crate) pings: Vec<Waiter>,
    /// Syncs and others that wait for what is committed by now.
    pub(crate) barriers: Vec<Waiter>,
    /// What those of the proposals count for whose connections have left: they wait all the same.
    pub(super) left_bytes: usize,
    last_number: u64,
    /// The highest number that the courier has taken.
    pub(super) taken: u64,
    /// What the courier waits for, if it does.
    pub(super) awaited: Option<Awaited>,
}

/// What a courier waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// Anything that is to be done at once. What was merely heard of can wait.
    Anything,
    /// What does not wait for other entries: a whole batch of them, or a question.
    Pressing,
}

impl Outgoing {
    /// The number of the next proposal.
    pub(super) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// The number that the next proposal will have.
    pub(super) fn upcoming(&self) -> u64 {
        self.last_number + 1
    }

    /// Appends a proposal, under the number that was given last.
    pub(super) fn propose(&mut self, entry: Bytes, pinned: bool) {
        self.proposals.push(Proposal { entry, number: self.last_number, pinned });
    }

    /// Takes a proposal back, unless the courier has it: nobody waits for it any longer.
    pub(super) fn withdraw(&mut self, number: u64) {
        let place = self.proposals.binary_search_by_key(&number, |proposal| proposal.number);
        if let Ok(place) = place {
            self.proposals.remove(place);
        }
    }

    /// Drops what counts only in the term in which it was proposed.
    pub(super) fn end_term(&mut self) {
        self.proposals.retain(|proposal| !proposal.pinned);
    }

    /// Appends somebody who waits for what is committed by now. Those who have given up make room
    /// first: without a leader nobody else would take them out.
    pub(super) fn ask(&mut self, waiter: Waiter) {
        if self.barriers.len() == self.barriers.capacity() {
            self.barriers.retain(Waiter::waits);
            self.barriers.reserve(self.barriers.len() + 1);
        }
        self.barriers.push(waiter);
    }

    /// Takes everything out.
    pub(super) fn take(&mut self) -> Outgoing {
        self.taken = self.last_number;
        let left = Outgoing {
            last_number: self.last_number,
            taken: self.taken,
            awaited: self.awaited,
            ..Outgoing::default()
        };
        std::mem::replace(self, left)
    }

    /// Whether there is what a courier waits for.
    pub(super) fn has(&self, awaited: Awaited) -> bool {
        let entries = match awaited {
            Awaited::Anything => 1,
            Awaited::Pressing => BATCH_ENTRIES_MAX,
        };
        self.proposals.len() >= entries || !self.pings.is_empty() || !self.barriers.is_empty()
    }

    /// Whether the courier is to be woken, which it is once.
    pub(super) fn calls(&mut self) -> bool {
        let calls = self.awaited.is_some_and(|awaited| self.has(awaited));
        if calls {
            self.awaited = None;
        }
        calls
    }
}

/// Bytes of an identity.
pub(super) fn bytes_of(identity: &Identity) -> usize {
    identity.scheme.len() + identity.id.len()
}

/// What a write counts for among the bytes that are on their way: roughly what it takes in memory, there
/// and once it is done by somebody with these identities, which is what `auth` in an ACL stands for.
pub(super) fn weight(request: &Write, identities: &[Identity]) -> usize {
    const BASE: usize = 256;
    const LINE: usize = 64;
    let who = |who: &Identity| LINE + bytes_of(who);
    let line = |line: &Acl| match line.who.scheme.as_str() {
        "auth" => LINE + identities.iter().map(who).sum::<usize>(),
        _ => who(&line.who),
    };
    let list = |acl: &[Acl]| acl.iter().map(line).sum::<usize>();
    let op = |op: &Op| match op {
        Op::Create(create) => {
            let data = create.data.as_ref().map_or(0, Bytes::len);
            BASE + create.path.len() + data + list(&create.acl)
        }
        Op::SetData { path, data, .. } => BASE + path.len() + data.as_ref().map_or(0, Bytes::len),
        Op::Delete { path, .. } | Op::Check { path, .. } => BASE + path.len(),
    };
    match request {
        Write::Op(one) | Write::ProposeAt { op: one, .. } => op(one),
        Write::Multi(ops) => BASE + ops.iter().map(op).sum::<usize>(),
        Write::SetAcl { path, acl, .. } => BASE + path.len() + list(acl),
        _ => BASE,
    }
}

#[cfg(test)]
mod tests {
    use synod_core::model::{Create, CreateMode, Perms};

    use super::*;

    #[test]
    fn a_creation_counts_with_its_acl_and_with_what_auth_stands_for() {
        let create = |acl| {
            let mode = CreateMode::Persistent;
            Write::Op(Op::Create(Create { path: "/n".into(), data: None, acl, mode }))
        };
        let proved: Vec<Identity> =
            (0..60).map(|_| Identity::new("digest", "i".repeat(250))).collect();
        let bare = weight(&create(vec![]), &proved);
        let line = |id: &str| Acl::new(Perms::READ, "digest", id);
        assert!(weight(&create(vec![line(&"x".repeat(10_000)); 10]), &proved) > bare + 100_000);
        let auth = Acl::new(Perms::READ, "auth", "");
        assert!(weight(&create(vec![auth.clone()]), &proved) > bare + 60 * 250);
        let (path, acl) = ("/n".into(), vec![auth]);
        let set = Write::SetAcl { path, acl, version: -1 };
        assert!(weight(&set, &proved) > 60 * 250);
        assert!(weight(&Write::Multi(vec![]), &proved) < 1_000);
    }
}
