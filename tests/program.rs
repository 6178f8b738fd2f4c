//! Programs: what a few clients and the coordinator itself do, step by step.
//!
//! A [`Step`] names clients by number and says "the last zxid but two" rather than a zxid, so
//! that a program still makes sense when steps are left out of it (which is how a failing one is
//! made small), and so that it can be sent to any coordinator. `World::resolve` makes of a step
//! what an engine takes, a [`Command`].

use std::sync::Arc;

use proptest::strategy::{BoxedStrategy, Just, Strategy};
use proptest_state_machine::ReferenceStateMachine;
use synod_core::model::{
    Entry, Identity, Op, Password, Read, Rearm, Response, SessionId, WatchRequest, Write, Zxid,
};

use crate::generator;
use crate::model::{Fault, NaiveCoordinator, Told, Verdict};

/// How many clients there are.
pub const CLIENTS: usize = 4;

/// The sessions of the clients: small and large, and a negative one as a server of a high number
/// gives them.
const SESSIONS: [SessionId; CLIENTS] =
    [SessionId(0x0100_0000_0000_0002), SessionId(7), SessionId(-5), SessionId(i64::MAX)];

/// The session of who looks at the tree at the end; no client has it.
const OBSERVER: SessionId = SessionId(0x0BB);

/// Where the clients of a simulated program connect from.
const ADDRESSES: [&str; CLIENTS] = ["10.1.2.3", "10.1.2.4", "192.168.0.9", "::1"];

/// What the clock shows when a program begins, in milliseconds.
const START_MS: i64 = 1_700_000_000_000;

/// One step of a program.
#[derive(Clone, Debug)]
pub struct Step {
    /// How long after the step before, in milliseconds.
    pub elapsed_ms: i64,
    /// What happens.
    pub action: Action,
}

/// What happens in a step. `client` is below [`CLIENTS`].
#[derive(Clone, Debug)]
pub enum Action {
    /// A session is opened for the client.
    Open {
        /// Which client.
        client: usize,
        /// The timeout in milliseconds.
        timeout_ms: u32,
    },
    /// The client's session is attached anew. Its watches on the member under test remain until
    /// [`Action::Disconnect`].
    Attach {
        /// Which client.
        client: usize,
        /// The timeout in milliseconds.
        timeout_ms: u32,
    },
    /// The client's connection to the member under test breaks.
    Disconnect {
        /// Which client.
        client: usize,
    },
    /// The client's connection proves one more identity.
    Authenticate {
        /// Which client.
        client: usize,
        /// What it is.
        identity: Identity,
    },
    /// The client writes.
    Write {
        /// Which client.
        client: usize,
        /// In what state its session is.
        stamp: Stamp,
        /// What it asks for.
        write: Write,
    },
    /// The client writes at a zxid of its own choice.
    Propose {
        /// Which client.
        client: usize,
        /// The zxid, as a distance from the one that comes anyway.
        ahead: i64,
        /// What it asks for.
        op: Op,
    },
    /// The client reads.
    Read {
        /// Which client.
        client: usize,
        /// What it asks for.
        read: Read,
    },
    /// The client asks about watches.
    Watch {
        /// Which client.
        client: usize,
        /// What it asks for.
        request: WatchRequest,
    },
    /// The client brings back watches that it had.
    Rearm {
        /// Which client.
        client: usize,
        /// How far behind the last zxid the last one is that it has seen.
        behind: i64,
        /// The watches; `since` is ignored.
        rearm: Rearm,
    },
    /// The coordinator ends the client's session.
    Expire {
        /// Which client.
        client: usize,
        /// What the coordinator takes for its state.
        stamp: Stamp,
    },
    /// The coordinator asks itself for something.
    System {
        /// For what.
        write: Write,
    },
    /// A session is opened for who looks at the tree at the end.
    Observe,
    /// Another leader takes over.
    Elect {
        /// How many terms later.
        terms: u64,
    },
}

/// How the attachment and the sequence of an entry relate to the true ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// As they should be.
    True,
    /// The attachment is the one before.
    OtherAttachment,
    /// The sequence is off by this much.
    Sequence(i64),
}

/// What an engine takes.
#[derive(Clone, Debug)]
pub enum Command {
    /// `apply`.
    Apply {
        /// The leader's term.
        term: u64,
        /// The entry of the log.
        entry: Entry,
    },
    /// `read`.
    Read {
        /// Who.
        session: SessionId,
        /// What it is.
        identities: Arc<[Identity]>,
        /// What it asks for.
        read: Read,
    },
    /// `watch`.
    Watch {
        /// Who.
        session: SessionId,
        /// What it is.
        identities: Arc<[Identity]>,
        /// What it asks for.
        request: WatchRequest,
    },
    /// `disconnect`.
    Disconnect(SessionId),
    /// `set_identities`: the connection has proved more.
    Prove(SessionId, Arc<[Identity]>),
    /// Nothing: the step concerns only the world outside.
    Nothing,
}

/// What the model says to a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// To an entry.
    Applied(Verdict, Vec<Told>),
    /// To a read or a request about watches.
    Answered(Result<Response, Fault>, Vec<Told>),
    /// To anything else.
    Nothing,
}

#[derive(Clone, Debug)]
struct Connection {
    identities: Arc<[Identity]>,
    /// The last two attachments, the later one first.
    attachments: [Zxid; 2],
}

/// The model, and the world around it: clients, their connections, the clock, the leader.
#[derive(Clone, Debug)]
pub struct World {
    /// The model.
    pub model: NaiveCoordinator,
    /// The last command.
    pub command: Command,
    /// What the model said to it.
    pub outcome: Outcome,
    /// The clock, in milliseconds.
    pub clock_ms: i64,
    /// The leader's term.
    pub term: u64,
    addresses: [&'static str; CLIENTS],
    connections: [Connection; CLIENTS],
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}

impl World {
    /// Before the first step.
    pub fn new() -> World {
        World::at(ADDRESSES)
    }

    /// Before the first step, with clients that connect from these addresses.
    pub fn at(addresses: [&'static str; CLIENTS]) -> World {
        let connect = |client: usize| Connection {
            identities: known_by(addresses[client]),
            attachments: [Zxid::ZERO; 2],
        };
        World {
            model: NaiveCoordinator::new(),
            command: Command::Nothing,
            outcome: Outcome::Nothing,
            clock_ms: START_MS,
            term: 1,
            addresses,
            connections: std::array::from_fn(connect),
        }
    }

    /// The sessions that clients have, living or not.
    pub fn sessions() -> &'static [SessionId] {
        &SESSIONS
    }

    /// The session of [`Action::Observe`].
    pub fn observer() -> SessionId {
        OBSERVER
    }

    /// What the client's connection has proved by now.
    pub fn identities(&self, client: usize) -> &Arc<[Identity]> {
        &self.connections[client].identities
    }

    /// Whether the client's session lives.
    pub fn is_open(&self, client: usize) -> bool {
        self.model.session(SESSIONS[client]).is_some()
    }

    /// Takes the step in the model; `command` and `outcome` tell of it then.
    pub fn take(mut self, step: &Step) -> World {
        self.command = self.resolve(step);
        self.outcome = match &self.command {
            Command::Apply { term, entry } => {
                let (verdict, told) = self.model.apply(*term, entry);
                Outcome::Applied(verdict, told)
            }
            Command::Read { session, identities, read } => {
                Outcome::Answered(self.model.read(*session, identities, read), Vec::new())
            }
            Command::Watch { session, identities, request } => {
                let (result, told) = self.model.watch(*session, identities, request);
                Outcome::Answered(result, told)
            }
            Command::Disconnect(session) => {
                self.model.disconnect(*session);
                Outcome::Nothing
            }
            Command::Prove(session, identities) => {
                self.model.set_identities(*session, identities);
                Outcome::Nothing
            }
            Command::Nothing => Outcome::Nothing,
        };
        self.note_attachments();
        self
    }

    fn note_attachments(&mut self) {
        for (session, connection) in SESSIONS.iter().zip(&mut self.connections) {
            if let Some(session) = self.model.session(*session)
                && session.attachment != connection.attachments[0]
            {
                connection.attachments = [session.attachment, connection.attachments[0]];
            }
        }
    }

    /// Makes a command of the step, and lets the world outside of the coordinator move on.
    fn resolve(&mut self, step: &Step) -> Command {
        self.clock_ms += step.elapsed_ms;
        match &step.action {
            Action::Open { client, timeout_ms } => self.system(Write::CreateSession {
                id: SESSIONS[*client],
                password: Password([*client as u8; 16]),
                timeout_ms: *timeout_ms,
            }),
            Action::Attach { client, timeout_ms } => {
                let write = Write::Attach { timeout_ms: *timeout_ms };
                self.write(*client, Stamp::OtherAttachment, write)
            }
            Action::Disconnect { client } => {
                self.connections[*client].identities = known_by(self.addresses[*client]);
                Command::Disconnect(SESSIONS[*client])
            }
            Action::Authenticate { client, identity } => {
                let mine = &mut self.connections[*client].identities;
                if !mine.contains(identity) {
                    *mine = mine.iter().chain([identity]).cloned().collect();
                }
                Command::Prove(SESSIONS[*client], mine.clone())
            }
            Action::Write { client, stamp, write } => self.write(*client, *stamp, write.clone()),
            Action::Propose { client, ahead, op } => {
                let next = self.model.next_zxid(self.term).unwrap_or(Zxid::ZERO);
                let zxid = Zxid::from_i64(next.as_i64().saturating_add(*ahead));
                self.write(*client, Stamp::True, Write::ProposeAt { zxid, op: op.clone() })
            }
            Action::Read { client, read } => Command::Read {
                session: SESSIONS[*client],
                identities: self.connections[*client].identities.clone(),
                read: read.clone(),
            },
            Action::Watch { client, request } => self.watch(*client, request.clone()),
            Action::Rearm { client, behind, rearm } => {
                let since = Zxid::from_i64((self.model.last_zxid().as_i64() - behind).max(0));
                self.watch(*client, WatchRequest::Rearm(Rearm { since, ..rearm.clone() }))
            }
            Action::Expire { client, stamp } => {
                let (attachment, next) = self.stamp(*client, *stamp);
                let id = SESSIONS[*client];
                let sequence = next.saturating_sub(1);
                self.system(Write::ExpireSession { id, attachment, sequence })
            }
            Action::System { write } => self.system(write.clone()),
            Action::Observe => self.system(Write::CreateSession {
                id: OBSERVER,
                password: Password([0xFF; 16]),
                timeout_ms: 4_000,
            }),
            Action::Elect { terms } => {
                self.term += terms;
                Command::Nothing
            }
        }
    }

    fn watch(&self, client: usize, request: WatchRequest) -> Command {
        let identities = self.connections[client].identities.clone();
        Command::Watch { session: SESSIONS[client], identities, request }
    }

    /// The attachment and the sequence that the client's next write should have, bent as `stamp`
    /// says.
    fn stamp(&self, client: usize, stamp: Stamp) -> (Zxid, u64) {
        let connection = &self.connections[client];
        let session = self.model.session(SESSIONS[client]);
        let attachment = session.map_or(connection.attachments[0], |session| session.attachment);
        let next = session.map_or(0, |session| session.sequence) + 1;
        match stamp {
            Stamp::True => (attachment, next),
            Stamp::OtherAttachment => (connection.attachments[1], next),
            Stamp::Sequence(off) => (attachment, next.saturating_add_signed(off)),
        }
    }

    fn write(&self, client: usize, stamp: Stamp, request: Write) -> Command {
        let (attachment, sequence) = self.stamp(client, stamp);
        let entry = Entry {
            session: SESSIONS[client],
            attachment,
            sequence,
            identities: self.connections[client].identities.clone(),
            time_ms: self.clock_ms,
            request,
        };
        Command::Apply { term: self.term, entry }
    }

    fn system(&self, request: Write) -> Command {
        let entry = Entry {
            session: SessionId::SYSTEM,
            attachment: Zxid::ZERO,
            sequence: 0,
            identities: Arc::from([]),
            time_ms: self.clock_ms,
            request,
        };
        Command::Apply { term: self.term, entry }
    }
}

/// Random programs, as `proptest-state-machine` makes them: each step is drawn with the state
/// before it in sight.
#[derive(Clone, Copy, Debug)]
pub struct Programs;

impl ReferenceStateMachine for Programs {
    type State = World;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<World> {
        Just(World::new()).boxed()
    }

    fn transitions(world: &World) -> BoxedStrategy<Step> {
        generator::step(world)
    }

    fn apply(world: World, step: &Step) -> World {
        world.take(step)
    }
}

/// What a connection is known by before it proves anything.
fn known_by(address: &str) -> Arc<[Identity]> {
    Arc::from([Identity::new("ip", address)])
}
