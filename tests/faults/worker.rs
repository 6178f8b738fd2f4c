//! One connection of a load: a session for the whole of the run, an ephemeral znode that it holds,
//! and changes of paths that no other worker writes.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use synod_core::model::{
    Code, CreateMode, Op, OpResult, Read, Refusal, Request, Response, Stat, Write, Zxid,
};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::connection::{Connection, NoConnection, Reply, Session};
use super::ledger::{Change, Held, Ledger, data_of};
use super::load::{Phase, Seen, Shared, create, locked};

/// Znodes that a worker sets.
const KEYS: u64 = 8;

/// Znodes that a worker has created and not deleted; past it, it deletes the oldest.
const CREATED_MAX: usize = 40;

/// After all servers have refused a connection.
const RECONNECT_WAIT: Duration = Duration::from_millis(5);

/// A request on its way.
enum Pending {
    Change { change: Change, value: u64, mark: u64, sent_after: Zxid },
    Ping,
}

pub(super) struct Worker {
    number: usize,
    shared: Arc<Shared>,
    ledger: Arc<Mutex<Ledger>>,
    tell: watch::Sender<Seen>,
    /// Which server is tried next.
    server: usize,
    session: Option<Session>,
    last_zxid: Zxid,
    pending: VecDeque<Pending>,
    next_value: u64,
    /// What it has created and can delete, oldest first.
    created: VecDeque<String>,
}

impl Worker {
    pub(super) fn new(
        number: usize,
        shared: Arc<Shared>,
        ledger: Arc<Mutex<Ledger>>,
        tell: watch::Sender<Seen>,
    ) -> Worker {
        Worker {
            number,
            shared,
            ledger,
            tell,
            server: number,
            session: None,
            last_zxid: Zxid::ZERO,
            pending: VecDeque::new(),
            next_value: 1,
            created: VecDeque::new(),
        }
    }

    fn path(&self, name: &str) -> String {
        format!("/load/w{}/{name}", self.number)
    }

    /// Opens its session and creates what it needs. Nothing fails yet on purpose, but on a busy
    /// machine the leader may change at any time, and break connections.
    pub(super) async fn set_up(mut self) -> Worker {
        let mut connection = self.connect().await.expect("a new session");
        let folder = format!("/load/w{}", self.number);
        self.make(&mut connection, &folder, Vec::new(), CreateMode::Persistent).await;
        let keys = (0..KEYS).map(|key| format!("k{key}"));
        for name in keys.chain(["a".to_owned(), "b".to_owned()]) {
            let (path, value, before) = (self.path(&name), self.value(), self.last_zxid);
            let data = data_of(self.number, value, 0);
            let zxid = self.make(&mut connection, &path, data, CreateMode::Persistent).await;
            let change = Change::Create(path.clone());
            locked(&self.ledger).acknowledged(&change, value, zxid, before, &path);
        }
        let path = format!("/load/e/w{}", self.number);
        let czxid = self.make(&mut connection, &path, Vec::new(), CreateMode::Ephemeral).await;
        let session = connection.session.id;
        locked(&self.ledger).held = Some(Held { session, path, czxid });
        self
    }

    /// Creates a znode that is not there, and says at which zxid that was done.
    async fn make(
        &mut self,
        connection: &mut Connection,
        path: &str,
        data: Vec<u8>,
        mode: CreateMode,
    ) -> Zxid {
        let request = create(path, data, mode);
        let (reply, asked_again) = self.insist(connection, &request).await;
        let czxid = match reply.result {
            Ok(_) => reply.zxid,
            // It was there by the time that the connection broke.
            Err(refusal) if refusal.code == Code::NodeExists && asked_again => {
                let exists = Read::Exists { path: path.into(), watch: false };
                let (reply, _) = self.insist(connection, &Request::Read(exists)).await;
                match reply.result {
                    Ok(Response::Stat(stat)) => stat.czxid,
                    other => panic!("{path} is there: {other:?}"),
                }
            }
            Err(refusal) => panic!("{path} is new: {refusal:?}"),
        };
        self.last_zxid = self.last_zxid.max(czxid);
        czxid
    }

    /// Asks until it is answered, over another connection if need be; the reply, and whether it
    /// was asked more than once.
    async fn insist(&mut self, connection: &mut Connection, request: &Request) -> (Reply, bool) {
        let mut asked_again = false;
        loop {
            let asked = timeout(self.patience(), connection.ask(request)).await;
            if let Ok(Ok(reply)) = asked
                && !reply.result.as_ref().is_err_and(leaves_it_open)
            {
                return (reply, asked_again);
            }
            asked_again = true;
            self.server += 1;
            *connection = self.connect().await.expect("its session lives");
        }
    }

    fn value(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }

    /// Works until it is told to stop, or finds a promise broken.
    pub(super) async fn run(mut self) {
        while let Some(mut connection) = self.connect().await {
            let over = self.converse(&mut connection).await;
            self.tell.send_modify(|seen| seen.idle = 0);
            let mut ledger = locked(&self.ledger);
            for pending in self.pending.drain(..) {
                if let Pending::Change { change, value, .. } = pending {
                    ledger.unknown(&change, value);
                }
            }
            match over {
                Ok(()) => return,
                // A server that breaks a connection is left.
                Err(_) => self.server += 1,
            }
        }
    }

    /// How long it waits for an answer before it turns to another server: as others' clients do, a
    /// third of the session's timeout.
    fn patience(&self) -> Duration {
        self.shared.settings.session_timeout / 3
    }

    /// `None` when its session is over, which must not be.
    async fn connect(&mut self) -> Option<Connection> {
        let mut refused = 0;
        loop {
            let addresses = &self.shared.addresses;
            let address = addresses[self.server % addresses.len()];
            let opening = Connection::open(
                address,
                self.session.as_ref(),
                self.last_zxid,
                self.shared.settings.session_timeout,
                self.patience(),
            );
            match opening.await {
                Ok(connection) => {
                    self.session = Some(connection.session.clone());
                    return Some(connection);
                }
                Err(NoConnection::SessionOver) => {
                    let over = format!("the live session of worker {} is over", self.number);
                    locked(&self.ledger).violations.push(over);
                    return None;
                }
                Err(NoConnection::Broken(_)) => {
                    self.server += 1;
                    refused += 1;
                    if refused % addresses.len() == 0 {
                        tokio::time::sleep(RECONNECT_WAIT).await;
                    }
                }
            }
        }
    }

    /// Writes over a connection. `Ok` when it was told to stop.
    async fn converse(&mut self, connection: &mut Connection) -> io::Result<()> {
        let mut phase = self.shared.phase.subscribe();
        loop {
            let now = *phase.borrow_and_update();
            match now {
                Phase::Run => self.fill(connection),
                Phase::Stop if self.pending.is_empty() => {
                    let closing = connection.ask(&Request::Write(Write::CloseSession));
                    let _ = timeout(self.patience(), closing).await;
                    return Ok(());
                }
                Phase::Pause(pause) if self.pending.is_empty() => {
                    self.tell.send_modify(|seen| seen.idle = pause);
                    tokio::select! {
                        _ = phase.changed() => continue,
                        // Nothing was asked: only the end of the connection can come.
                        ended = connection.reply() => {
                            return Err(ended.err().unwrap_or(io::ErrorKind::InvalidData.into()));
                        }
                        () = tokio::time::sleep(self.patience() / 2) => {
                            connection.put(&Request::Ping);
                            self.pending.push_back(Pending::Ping);
                        }
                    }
                }
                Phase::Pause(_) | Phase::Stop => {}
            }
            timeout(self.patience(), connection.flush()).await??;
            let reply = timeout(self.patience(), connection.reply()).await??;
            self.settle(reply)?;
            while let Some(reply) = connection.ready()? {
                self.settle(reply)?;
            }
        }
    }

    /// Sends as much as may be on its way.
    fn fill(&mut self, connection: &mut Connection) {
        while self.pending.len() < self.shared.settings.window {
            let value = self.value();
            let change = self.choose(value);
            connection.put(&self.request(&change, value));
            let mark = self.shared.mark.load(Ordering::SeqCst);
            let sent_after = Zxid::from_i64(self.shared.highest.load(Ordering::SeqCst));
            self.pending.push_back(Pending::Change { change, value, mark, sent_after });
        }
    }

    fn choose(&mut self, value: u64) -> Change {
        match value % 16 {
            0..=2 => Change::Pair(self.path("a"), self.path("b")),
            3 | 4 if self.created.len() > CREATED_MAX => {
                Change::Delete(self.created.pop_front().expect("there are many"))
            }
            5 => Change::Create(self.path(&format!("c{value}"))),
            6 => Change::Sequential(format!("/load/seq/w{}-{value}-", self.number)),
            other => Change::Set(self.path(&format!("k{}", other % KEYS))),
        }
    }

    fn request(&self, change: &Change, value: u64) -> Request {
        let data = data_of(self.number, value, self.shared.settings.value_bytes);
        let set = |path: &str| Op::SetData {
            path: path.into(),
            data: Some(Bytes::from(data.clone())),
            version: -1,
        };
        match change {
            Change::Set(path) => Request::Write(Write::Op(set(path))),
            Change::Pair(one, other) => Request::Write(Write::Multi(vec![set(one), set(other)])),
            Change::Create(path) => create(path, data, CreateMode::Persistent),
            Change::Sequential(prefix) => create(prefix, data, CreateMode::PersistentSequential),
            Change::Delete(path) => {
                Request::Write(Write::Op(Op::Delete { path: path.as_str().into(), version: -1 }))
            }
        }
    }

    /// Takes the reply to the oldest request.
    fn settle(&mut self, reply: Reply) -> io::Result<()> {
        let Some(Pending::Change { change, value, mark, sent_after }) = self.pending.pop_front()
        else {
            return Ok(());
        };
        let mut ledger = locked(&self.ledger);
        let response = match reply.result {
            Ok(response) => response,
            Err(refusal) => {
                ledger.unknown(&change, value);
                if !leaves_it_open(&refusal) {
                    let violation = format!("{change:?} was refused: {refusal:?}");
                    ledger.violations.push(violation);
                }
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        };
        let zxid = reply.zxid;
        for stat in stats_of(&response) {
            if stat.mzxid != zxid {
                let violation = format!("{change:?} was acknowledged at {zxid} with {stat:?}");
                ledger.violations.push(violation);
            }
        }
        let path = match &response {
            Response::Created { path, .. } => path,
            _ => "",
        };
        if let Change::Create(_) | Change::Sequential(_) = change {
            self.created.push_back(path.to_owned());
        }
        ledger.acknowledged(&change, value, zxid, sent_after, path);
        drop(ledger);
        self.last_zxid = zxid;
        self.shared.highest.fetch_max(zxid.as_i64(), Ordering::SeqCst);
        self.shared.acknowledged.fetch_add(1, Ordering::SeqCst);
        self.tell.send_if_modified(|seen| {
            let news = mark > seen.served.0;
            if news {
                seen.served = (mark, Instant::now());
            }
            news
        });
        Ok(())
    }
}

/// Whether a server says by this that it does not know either what became of a request.
fn leaves_it_open(refusal: &Refusal) -> bool {
    matches!(refusal.code, Code::ConnectionLoss | Code::SessionMoved)
}

fn stats_of(response: &Response) -> Vec<Stat> {
    match response {
        Response::Stat(stat) | Response::Created { stat, .. } => vec![*stat],
        Response::Multi(results) => results
            .iter()
            .filter_map(|result| match result {
                OpResult::Set(stat) => Some(*stat),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}
