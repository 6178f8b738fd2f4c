//! One connection of a client, through the codec alone: what is sent and received is recorded,
//! and nothing is made better.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use synod_core::model::limits::REPLY_BYTES_MAX;
use synod_core::model::{Event, Refusal, Request, Response, SessionId, Zxid};
use synod_core::wire::{
    ConnectReply, ConnectRequest, Incoming, Shape, decode_incoming, encode_request, take_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::history::{ConnectionRecord, Received, Recorder, Reply, SessionRecord, brief};
use super::net::{Node, SimNet, SimStream};

/// Longest wait for a connection and its handshake.
const ATTACH: Duration = Duration::from_millis(1_500);

/// A session that a client has.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// Its place among the recorded ones.
    pub(crate) index: usize,
    pub(crate) id: SessionId,
    pub(crate) password: Bytes,
    pub(crate) timeout_ms: u64,
    /// The highest zxid of a reply. Events do not count: of two at one zxid the second may be
    /// lost with the connection, and would never be told if the first had moved this.
    pub(crate) last_zxid: Zxid,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAttached {
    /// The member could not be reached, or hung up.
    Unreachable,
    /// The session is over.
    Over,
}

/// What came.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// The reply to the operation of this place.
    Reply(usize),
    Event(Event),
}

struct Flying {
    xid: i32,
    shape: Shape,
    op: usize,
}

/// An open connection.
pub(crate) struct Wire {
    who: Node,
    recorder: Recorder,
    read: ReadHalf<SimStream>,
    write: WriteHalf<SimStream>,
    received: BytesMut,
    out: BytesMut,
    flying: VecDeque<Flying>,
    /// Its place among the recorded ones.
    pub(crate) connection: usize,
    xid: i32,
}

impl Wire {
    /// Connects to a member and opens a session, or takes up the one that is held.
    pub(crate) async fn attach(
        net: &SimNet,
        recorder: &Recorder,
        who: Node,
        (member, address): (u8, SocketAddr),
        held: Option<&Held>,
        timeout_ms: u32,
    ) -> Result<(Wire, Held), NotAttached> {
        let attaching =
            Wire::attach_at_leisure(net, recorder, who, (member, address), held, timeout_ms);
        match timeout(ATTACH, attaching).await {
            Ok(attached) => attached,
            Err(_) => {
                recorder.note(who, format_args!("gives up on m{member}"));
                Err(NotAttached::Unreachable)
            }
        }
    }

    async fn attach_at_leisure(
        net: &SimNet,
        recorder: &Recorder,
        who: Node,
        (member, address): (u8, SocketAddr),
        held: Option<&Held>,
        timeout_ms: u32,
    ) -> Result<(Wire, Held), NotAttached> {
        let unreachable = |what: &str| {
            recorder.note(who, format_args!("m{member}: {what}"));
            NotAttached::Unreachable
        };
        let stream = net.dial(who, address).await.map_err(|_| unreachable("refused"))?;
        let heard = stream.heard();
        let (read, write) = tokio::io::split(stream);
        let hello = ConnectRequest {
            last_zxid: held.map_or(Zxid::ZERO, |held| held.last_zxid),
            timeout_ms: timeout_ms as i32,
            session: held.map_or(SessionId(0), |held| held.id),
            password: held.map_or(Bytes::from_static(&[0; 16]), |held| held.password.clone()),
            read_only: Some(false),
        };
        let connection = {
            let hello_ms = recorder.now_ms();
            let mut history = recorder.lock();
            history.connections.push(ConnectionRecord {
                session: held.map(|held| held.index),
                hello_ms,
                attached: false,
                ops: Vec::new(),
                received: Vec::new(),
                heard,
            });
            history.connections.len() - 1
        };
        let mut out = BytesMut::new();
        hello.encode(&mut out);
        let (recorder, flying) = (recorder.clone(), VecDeque::new());
        let received = BytesMut::new();
        let mut wire =
            Wire { who, recorder, read, write, received, out, flying, connection, xid: 0 };
        let payload = wire.frame().await.ok_or_else(|| unreachable("hung up"))?;
        let reply = ConnectReply::decode(payload).map_err(|_| unreachable("nonsense"))?;
        wire.welcome(held, member, &reply)
    }

    fn welcome(
        self,
        held: Option<&Held>,
        member: u8,
        reply: &ConnectReply,
    ) -> Result<(Wire, Held), NotAttached> {
        let now_ms = self.recorder.now_ms();
        let timeout_ms = reply.timeout_ms as u64;
        if reply.timeout_ms == 0 {
            let session = held.map(|held| held.id);
            self.recorder.note(self.who, format_args!("m{member}: session {session:?} is over"));
            if let Some(held) = held {
                let mut history = self.recorder.lock();
                history.sessions[held.index].told_over_ms.get_or_insert(now_ms);
            }
            return Err(NotAttached::Over);
        }
        let number = self.connection;
        let text = format!("m{member}: connection {number} has session {}", reply.session);
        self.recorder.note(self.who, format_args!("{text}"));
        let mut history = self.recorder.lock();
        let client = match self.who {
            Node::Client(id) | Node::Member(id) => id,
        };
        let index = held.map_or(history.sessions.len(), |held| held.index);
        if held.is_none() {
            history.sessions.push(SessionRecord {
                client,
                id: reply.session,
                timeout_ms,
                connections: Vec::new(),
                told_over_ms: None,
            });
        }
        history.sessions[index].timeout_ms = timeout_ms;
        history.sessions[index].connections.push(self.connection);
        history.connections[self.connection].session = Some(index);
        history.connections[self.connection].attached = true;
        drop(history);
        let last_zxid = held.map_or(Zxid::ZERO, |held| held.last_zxid);
        let (id, password) = (reply.session, reply.password.clone());
        Ok((self, Held { index, id, password, timeout_ms, last_zxid }))
    }

    /// Sends a request when [`Wire::next`] is waited for; the place of the operation.
    pub(crate) fn send(&mut self, request: Request, synced_by: Option<usize>) -> usize {
        self.xid += 1;
        let encoded = encode_request(&mut self.out, self.xid, &request);
        let (xid, shape) = encoded.expect("the workload asks what clients may ask");
        let sent_ms = self.recorder.now_ms();
        let mut history = self.recorder.lock();
        let op = history.ops.len();
        let text = brief(&request);
        let sent = history.next_place();
        let connection = self.connection;
        let record = super::history::OpRecord { request, sent, sent_ms, synced_by, reply: None };
        history.ops.push(record);
        history.tally.ops += 1;
        history.connections[connection].ops.push(op);
        drop(history);
        self.recorder.note(self.who, format_args!("#{op} {text}"));
        self.flying.push_back(Flying { xid, shape, op });
        op
    }

    /// Operations that are not answered yet, and the first of them.
    pub(crate) fn flying(&self) -> (usize, Option<usize>) {
        (self.flying.len(), self.flying.front().map(|flying| flying.op))
    }

    async fn frame(&mut self) -> Option<Bytes> {
        loop {
            match take_frame(&mut self.received, 0, REPLY_BYTES_MAX) {
                Ok(Some(payload)) => return Some(payload),
                Ok(None) => {}
                Err(_) => return None,
            }
            tokio::select! {
                biased;
                read = self.read.read_buf(&mut self.received) => match read {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                },
                written = self.write.write_buf(&mut self.out), if !self.out.is_empty() => {
                    if written.is_err() {
                        return None;
                    }
                }
            }
        }
    }

    /// What comes next; `None` when the connection has ended. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Item> {
        let payload = self.frame().await?;
        let front = self.flying.front();
        let expected = front.map(|flying| flying.xid);
        let shape_of = |xid| front.filter(|it| it.xid == xid).map(|it| it.shape.clone());
        match decode_incoming(payload, shape_of) {
            Ok(Incoming::Event(Some(event))) => {
                self.recorder.note(self.who, format_args!("{event:?}"));
                let mut history = self.recorder.lock();
                let received = Received::Event(event.clone());
                history.connections[self.connection].received.push(received);
                Some(Item::Event(event))
            }
            Ok(Incoming::Event(None)) => {
                self.complain("an event that is about no znode");
                None
            }
            Ok(Incoming::Reply { zxid, result, .. }) => Some(self.reply(zxid, result)),
            Err(error) => {
                self.complain(&format!("a reply to xid {expected:?} was to come: {error}"));
                None
            }
        }
    }

    fn reply(&mut self, zxid: Option<Zxid>, result: Result<Response, Refusal>) -> Item {
        let flying = self.flying.pop_front().expect("it was just there");
        let op = flying.op;
        match &result {
            Ok(response) => {
                self.recorder.note(self.who, format_args!("#{op} {zxid:?} {response:?}"))
            }
            Err(refusal) => {
                self.recorder.note(self.who, format_args!("#{op} {zxid:?} {:?}", refusal.code));
            }
        }
        let mut history = self.recorder.lock();
        let at = history.next_place();
        history.tally.answered += 1;
        history.ops[op].reply = Some(Reply { at, zxid, result });
        history.connections[self.connection].received.push(Received::Reply(op));
        Item::Reply(op)
    }

    /// Whether a sync that is sent now is answered: it is not recorded, and what else comes is
    /// passed over. A session has one connection, so an older one is not to be served any more.
    pub(crate) async fn still_serves(mut self) -> bool {
        const XID: i32 = i32::MAX;
        let encoded = encode_request(&mut self.out, XID, &super::workload::sync("/"));
        if encoded.is_err() {
            return false;
        }
        let answered = async {
            while let Some(mut frame) = self.frame().await {
                let (xid, _zxid, error) = (frame.get_i32(), frame.get_i64(), frame.get_i32());
                if xid == XID {
                    return error == 0;
                }
            }
            false
        };
        timeout(ATTACH, answered).await.unwrap_or(false)
    }

    fn complain(&self, what: &str) {
        let text = format!("{}, connection {}: {what}", self.who, self.connection);
        self.recorder.note(self.who, format_args!("{what}"));
        self.recorder.lock().complaints.push(text);
    }

    /// Sends a request and takes what comes until its reply; `None` if that does not come in time.
    pub(crate) async fn call(
        &mut self,
        request: Request,
        synced_by: Option<usize>,
        patience: Duration,
    ) -> Option<Result<Response, Refusal>> {
        let sent = self.send(request, synced_by);
        let answered = async {
            while let Some(item) = self.next().await {
                if matches!(item, Item::Reply(op) if op == sent) {
                    return true;
                }
            }
            false
        };
        if !timeout(patience, answered).await.unwrap_or(false) {
            return None;
        }
        self.recorder.lock().ops[sent].reply.as_ref().map(|reply| reply.result.clone())
    }
}
