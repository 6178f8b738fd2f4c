//! One program on both servers, step by step, beside the model, which says what may come next.

use std::net::IpAddr;

use synod_core::model::{Identity, Write};
use synod_tests::generator::{ALICE, BOB};
use synod_tests::program::{Action, CLIENTS, Stamp, World};

use crate::allowed::Allowed;
use crate::ask;
use crate::bytes::Out;
use crate::bytes::Value;
use crate::compare::{Difference, differ};
use crate::connection::{Connection, Event, Hello, Reply, Welcome};
use crate::pair::{Pair, SUPER};
use crate::step::{Act, Asked, Dialect, Knock, Step, Who, settle};

/// Where the clients connect from.
const ADDRESSES: [&str; CLIENTS] = ["127.1.2.3", "127.1.2.4", "127.168.0.9", "127.0.0.1"];

/// A client with a session: its connection to each server.
struct Seat {
    connections: [Connection; 2],
    sessions: [i64; 2],
    passwords: [Vec<u8>; 2],
}

/// A program under way.
pub(crate) struct Run<'a> {
    pair: &'a mut Pair,
    allowed: &'a mut Allowed,
    pub(crate) world: World,
    seats: [Option<Seat>; CLIENTS],
    /// Every session that there was: Apache's number of it, and ours.
    sessions: Vec<(i64, i64)>,
    /// Zxids of one moment: Apache's, ours, the model's.
    history: Vec<([i64; 2], i64)>,
    withheld: u64,
    xid: i32,
    /// A difference that is not listed.
    pub(crate) found: Option<Difference>,
    /// Whether the program ends here.
    pub(crate) over: bool,
}

impl<'a> Run<'a> {
    pub(crate) fn new(pair: &'a mut Pair, allowed: &'a mut Allowed) -> Run<'a> {
        let mut world = World::at(ADDRESSES);
        world.model.set_creates_of_root(pair.creates_of_root());
        Run {
            pair,
            allowed,
            world,
            seats: Default::default(),
            sessions: Vec::new(),
            history: vec![([0, 0], 0)],
            withheld: 0,
            xid: 0,
            found: None,
            over: false,
        }
    }

    fn note(&mut self, differences: impl IntoIterator<Item = Difference>) {
        for difference in differences {
            // Once they have parted, whatever follows says nothing.
            if self.over {
                return;
            }
            match self.allowed.find(&difference) {
                Some(diverges) => {
                    self.over |= diverges;
                    // One of them has taken one that the other has not.
                    if ["zxid", "error", "reply"].contains(&&*difference.field)
                        && difference.operation != "event"
                    {
                        self.pair.tick();
                    }
                }
                None => {
                    self.over = true;
                    self.found.get_or_insert(difference);
                }
            }
        }
    }

    fn note_one(&mut self, operation: &str, field: &str, values: Option<(String, String)>) {
        self.note(values.map(|(apache, ours)| Difference {
            operation: operation.to_owned(),
            field: field.to_owned(),
            apache,
            ours,
        }));
    }

    fn note_unequal<T: PartialEq + std::fmt::Debug>(
        &mut self,
        operation: &str,
        field: &str,
        [apache, ours]: [T; 2],
    ) {
        let values = (apache != ours).then(|| (format!("{apache:?}"), format!("{ours:?}")));
        self.note_one(operation, field, values);
    }

    fn model(&mut self, action: Action) {
        let step = synod_tests::program::Step { elapsed_ms: 0, action };
        self.world = self.world.clone().take(&step);
    }

    /// Takes one step. One that makes no sense here (others before it may have been left out) is
    /// passed over.
    pub(crate) fn take(&mut self, step: &Step) {
        let Step { client, act } = settle(&self.world, step.clone());
        if let Act::Open { timeout_ms, old } = act {
            if self.seats[client].is_none() {
                self.open(client, timeout_ms, old);
                self.barrier("connect");
            }
            return;
        }
        if self.seats[client].is_none() {
            return;
        }
        match act {
            Act::Open { .. } => {}
            Act::Attach { timeout_ms, stolen } => {
                self.attach(client, timeout_ms, stolen);
                self.barrier("attach");
            }
            Act::Knock(knock) => {
                let name = format!("connect: {knock:?}");
                self.knock(client, knock, &name);
                self.barrier(&name);
            }
            Act::Prove(who) => {
                let (credentials, identity) = match who {
                    Who::Alice => ("alice:secret", Identity::new("digest", ALICE)),
                    Who::Bob => ("bob:hidden", Identity::new("digest", BOB)),
                    Who::Super => (SUPER, Identity::new("super", "")),
                };
                let body = Out::default().i32(0).text("digest").text(credentials);
                self.ask(client, "auth", None, 100, &body.0);
                self.model(Action::Authenticate { client, identity });
                self.barrier("auth");
            }
            Act::Raw(raw) => {
                self.ask(client, raw.what, raw.xid, raw.op, &raw.body);
                self.barrier(raw.what);
            }
            Act::Ask(asked, dialect) => self.put(client, asked, dialect),
        }
        if let Some(zxids) = self.pair.zxids.last() {
            self.history.push((zxids, self.world.model.last_zxid().as_i64()));
        }
    }

    /// Asks both servers and the model for something that the model knows of.
    fn put(&mut self, client: usize, asked: Asked, dialect: Dialect) {
        let mut since = ([0, 0], 0);
        let mut changes = false;
        let mut closes = false;
        let action = match asked.clone() {
            Asked::Write(write) => {
                changes = true;
                closes = matches!(write, Write::CloseSession);
                Action::Write { client, stamp: Stamp::True, write }
            }
            Asked::Read(read) => Action::Read { client, read },
            Asked::Watch(request) => Action::Watch { client, request },
            Asked::Rearm { behind, rearm } => {
                changes = true;
                let at = self.history.len().saturating_sub(behind + 1);
                since = self.history[at];
                let behind = self.world.model.last_zxid().as_i64() - since.1;
                Action::Rearm { client, behind, rearm }
            }
        };
        let requests = since.0.map(|since| ask::request(&asked, dialect, since));
        let kind = if asked.has_ipv6() { " with an IPv6 network" } else { "" };
        let name = &format!("{}{kind}", ask::name(requests[0].0));
        let bodies = requests.each_ref().map(|(_, body)| &body[..]);
        self.ask_apart(client, name, None, requests[0].0, bodies);
        self.model(action);
        if closes {
            let Some(mut seat) = self.seats[client].take() else { return };
            let ended = seat.connections.each_mut().map(Connection::end);
            self.note_unequal(name, "connection", ended);
        }
        if changes {
            self.barrier(name);
        }
    }

    fn ask(&mut self, client: usize, name: &str, xid: Option<i32>, op: i32, body: &[u8]) {
        self.ask_apart(client, name, xid, op, [body, body]);
    }

    /// Sends a request to both, and compares the replies.
    fn ask_apart(
        &mut self,
        client: usize,
        name: &str,
        xid: Option<i32>,
        op: i32,
        bodies: [&[u8]; 2],
    ) {
        self.xid += 1;
        let xid = xid.unwrap_or_else(|| ask::xid_for(op, self.xid));
        let Some(seat) = &mut self.seats[client] else { return };
        for (connection, body) in seat.connections.iter_mut().zip(bodies) {
            connection.replied = false;
            connection.request(xid, op, body);
        }
        let replies = seat.connections.each_mut().map(|connection| {
            let reply = connection.reply();
            connection.replied = true;
            reply
        });
        match &replies {
            [Some(apache), Some(ours)] => {
                // Some time after such a reply the connection ends.
                let ends = [apache.zxid, ours.zxid] == [-1, -1];
                let ends = ends.then(|| seat.connections.each_mut().map(Connection::end));
                let found = self.pair.compare(name, op, &self.sessions, apache, ours);
                self.note(found);
                if let Some(ends) = ends {
                    self.note_unequal(name, "connection", ends);
                }
            }
            _ => {
                let mut silent = seat.connections.iter().map(|connection| connection.silent);
                let said = replies.map(|reply| match (reply, silent.next()) {
                    (Some(reply), _) => format!("error {}", reply.error),
                    (None, Some(true)) => "nothing".to_owned(),
                    (None, _) => "closed".to_owned(),
                });
                self.note_unequal(name, "reply", said);
            }
        }
    }

    /// Waits until every client has heard what there is to hear, and compares that.
    fn barrier(&mut self, name: &str) {
        for seat in self.seats.iter_mut().flatten() {
            for connection in &mut seat.connections {
                connection.request(-2, 11, &[]);
            }
        }
        let mut heard: Vec<[Vec<Event>; 2]> = Vec::new();
        let mut pongs: Vec<(usize, [Option<Reply>; 2])> = Vec::new();
        for (client, seat) in self.seats.iter_mut().enumerate() {
            let Some(seat) = seat else { continue };
            pongs.push((client, seat.connections.each_mut().map(Connection::reply)));
            heard.push(seat.connections.each_mut().map(|connection| {
                connection.replied = false;
                std::mem::take(&mut connection.events)
            }));
        }
        self.compare_events(name, heard);
        let mut ended = Vec::new();
        for (client, pong) in pongs {
            match &pong {
                [Some(apache), Some(ours)] => {
                    let found = self.pair.compare(name, 11, &self.sessions, apache, ours);
                    self.note(found);
                }
                _ => {
                    let open = pong.map(|pong| pong.is_some());
                    self.note_unequal(name, "connection lives on", open);
                    ended.push(client);
                }
            }
        }
        for client in ended {
            if !self.over {
                self.attach(client, 10_000, false);
            }
        }
    }

    /// Where ours tells less, what is missing must be what the model has withheld.
    fn compare_events(&mut self, name: &str, heard: Vec<[Vec<Event>; 2]>) {
        let withheld = self.world.model.watches().withheld();
        let mut missing = withheld - std::mem::replace(&mut self.withheld, withheld);
        for [apache, mut ours] in heard {
            if name == "closeSession" && reorder(&apache, &mut ours) {
                self.note_one("event", "order", Some(("any".to_owned(), "by path".to_owned())));
            }
            let mut left = ours.iter().peekable();
            for event in &apache {
                if let Some(other) = left.next_if(|other| other.is_like(event)) {
                    let values = [event.zxid, other.zxid].map(Value::Zxid);
                    let values = differ(&mut self.pair.zxids, &[], &values[0], &values[1]);
                    self.note_one("event", "zxid", values);
                } else if missing > 0 {
                    missing -= 1;
                    let values = Some(("told".to_owned(), "withheld".to_owned()));
                    self.note_one("event", "of a znode that may not be read", values);
                } else {
                    self.note_unequal("event", "list", [&apache, &ours]);
                    return;
                }
            }
            if left.peek().is_some() {
                self.note_unequal("event", "list", [&apache, &ours]);
            }
        }
    }

    fn open(&mut self, client: usize, timeout_ms: i32, old: bool) {
        let mut hello = Hello::new_session(timeout_ms);
        hello.read_only = (!old).then_some(false);
        let hellos = [hello.clone(), hello];
        let Some((connections, welcomes)) = self.connect(client, "connect", &hellos) else {
            return;
        };
        let sessions = welcomes.each_ref().map(|welcome| welcome.session);
        let passwords = welcomes.map(|welcome| welcome.password);
        self.note_unequal("connect", "password", passwords.each_ref().map(Vec::len));
        self.sessions.push((sessions[0], sessions[1]));
        self.seats[client] = Some(Seat { connections, sessions, passwords });
        self.model(Action::Disconnect { client });
        self.model(Action::Open { client, timeout_ms: 10_000 });
    }

    /// Attaches the session to a new connection.
    fn attach(&mut self, client: usize, timeout_ms: i32, stolen: bool) {
        let Some(seat) = self.seats[client].take() else { return };
        let hellos = [0, 1].map(|side| Hello {
            last_zxid: seat.connections[side].last_zxid,
            session: seat.sessions[side],
            password: seat.passwords[side].clone(),
            ..Hello::new_session(timeout_ms)
        });
        let Seat { connections, sessions, passwords } = seat;
        let before = if stolen {
            Some(connections)
        } else {
            connections.into_iter().for_each(Connection::hang_up);
            None
        };
        let Some((mut connections, welcomes)) = self.connect(client, "attach", &hellos) else {
            return;
        };
        self.note_unequal(
            "attach",
            "session",
            [0, 1].map(|side| {
                welcomes[side].session == sessions[side]
                    && welcomes[side].password == passwords[side]
            }),
        );
        if let Some(mut before) = before {
            let ended = before.each_mut().map(Connection::end);
            self.note_unequal("attach", "the connection before", ended);
        }
        let zxids = connections.each_mut().map(|connection| {
            connection.request(-2, 11, &[]);
            connection.reply().map_or(0, |reply| reply.zxid)
        });
        let [apache, ours] = zxids.map(Value::Zxid);
        let values = differ(&mut self.pair.zxids, &[], &apache, &ours);
        self.note_one("attach", "zxid", values);
        self.seats[client] = Some(Seat { connections, sessions, passwords });
        self.model(Action::Attach { client, timeout_ms: 10_000 });
        self.model(Action::Disconnect { client });
    }

    /// Connects to both; `None` if that was refused.
    fn connect(
        &mut self,
        client: usize,
        name: &str,
        hellos: &[Hello; 2],
    ) -> Option<([Connection; 2], [Welcome; 2])> {
        let from: IpAddr = ADDRESSES[client].parse().expect("an address");
        let [apache, ours] =
            [0, 1].map(|side| Connection::open(from, self.pair.addresses[side], &hellos[side]));
        self.note_unequal(name, "welcome", [apache.1.is_some(), ours.1.is_some()]);
        let (Some(first), Some(second)) = (apache.1, ours.1) else { return None };
        let welcomes = [first, second];
        self.note_unequal(name, "timeout", welcomes.each_ref().map(|welcome| welcome.timeout_ms));
        self.note_unequal(name, "bytes", welcomes.each_ref().map(|welcome| welcome.bytes));
        self.note_unequal(name, "refused", welcomes.each_ref().map(|welcome| welcome.session == 0));
        Some(([apache.0, ours.0], welcomes))
    }

    fn knock(&mut self, client: usize, knock: Knock, name: &str) {
        let Some(seat) = &self.seats[client] else { return };
        let hellos = [0, 1].map(|side| {
            let mut hello = Hello {
                last_zxid: seat.connections[side].last_zxid,
                session: seat.sessions[side],
                password: seat.passwords[side].clone(),
                ..Hello::new_session(10_000)
            };
            match knock {
                Knock::WrongPassword => hello.password[3] ^= 1,
                Knock::ShortPassword => hello.password.truncate(15),
                Knock::UnknownSession => hello.session ^= 1 << 40,
                Knock::Ahead => hello.last_zxid = i64::MAX / 2,
                Knock::ShortFrame => {
                    hello.password.clear();
                    hello.read_only = None;
                }
                Knock::OddNewcomer => {
                    (hello.session, hello.proto, hello.timeout_ms) = (0, 7, i32::MIN);
                    hello.password = vec![9; 20];
                    hello.trailing = vec![1; 9];
                }
            }
            hello
        });
        let Some((mut connections, _)) = self.connect(client, name, &hellos) else { return };
        if knock == Knock::OddNewcomer {
            let replies = connections.each_mut().map(|connection| {
                connection.request(1, -11, &[]);
                connection.reply().map(|reply| reply.error)
            });
            self.note_unequal(name, "closeSession", replies);
        }
        let ended = connections.each_mut().map(Connection::end);
        self.note_unequal(name, "connection", ended);
    }

    /// Compares the whole trees, closes the sessions, and clears up. Whether another program may
    /// follow: not if the two servers are in different states.
    pub(crate) fn finish(&mut self) -> bool {
        if !self.over {
            let found = self.pair.audit(&self.sessions);
            self.note(found);
        }
        for client in 0..CLIENTS {
            if !self.over && self.seats[client].is_some() {
                let dialect = Dialect { create: 1, first: true, trailing: false, odd: false };
                self.put(client, Asked::Write(Write::CloseSession), dialect);
            }
        }
        if !self.over {
            self.pair.clean();
        }
        !self.over
    }
}

/// Puts our events into Apache's order, as far as both have them; whether that changed anything.
fn reorder(apache: &[Event], ours: &mut Vec<Event>) -> bool {
    let before = ours.clone();
    let mut rest = std::mem::take(ours);
    for event in apache {
        if let Some(at) = rest.iter().position(|other| other.is_like(event)) {
            ours.push(rest.remove(at));
        }
    }
    ours.append(&mut rest);
    *ours != before
}
