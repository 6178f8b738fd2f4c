//! A server that is wrong: it stands before a right one, and changes what passes. Each lie is one
//! that a checker must see through.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use synod_core::model::limits::REPLY_BYTES_MAX;
use synod_core::testing::SeededEntropy;
use synod_core::wire::take_frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;

use super::net::{Node, SimNet, SimStream};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lie {
    /// An event is not told.
    LoseEvent,
    /// An event is told twice.
    RepeatEvent,
    /// An event is told after the reply that follows it.
    LateEvent,
    /// A re-armed watch's missed event is not told (an event that has no zxid).
    LoseMissedEvent,
    /// A reply has an older zxid than it should.
    OlderZxid,
    /// A read answers with a changed byte of data.
    WrongData,
    /// A write is acknowledged and not done.
    LoseWrite,
    /// A write is done twice.
    RepeatWrite,
    /// Two replies change places.
    SwapReplies,
    /// A sync is answered at once, and the read after it from before.
    StaleRead,
    /// A sequence number is told that another znode has.
    WrongSequence,
    /// A session's requests are not passed on for a while, and it expires though it speaks.
    Deaf,
}

/// A lie is told once in so many chances.
const ONE_IN: u64 = 25;

const SET_DATA: i32 = 5;
const GET_DATA: i32 = 4;
const CREATE2: i32 = 15;

pub(crate) struct Liar {
    task: JoinHandle<()>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Liar {
    pub(crate) fn start(
        net: &SimNet,
        node: Node,
        front: SocketAddr,
        back: SocketAddr,
        lie: Lie,
        seed: u64,
    ) -> Liar {
        let (net, random) = (net.clone(), Arc::new(SeededEntropy::new(seed)));
        let task = tokio::spawn(async move {
            let mut listener = net.listen(front).expect("the address is free");
            while let Ok((client, _)) = listener.next().await {
                let (net, random) = (net.clone(), Arc::clone(&random));
                tokio::spawn(async move {
                    let Ok(server) = net.dial(node, back).await else { return };
                    Conversation::new(client, server, lie, random).carry().await;
                });
            }
        });
        Liar { task }
    }
}

/// Both directions of a connection that the liar stands in.
struct Conversation {
    client: (ReadHalf<SimStream>, WriteHalf<SimStream>),
    server: (ReadHalf<SimStream>, WriteHalf<SimStream>),
    lie: Lie,
    random: Arc<SeededEntropy>,
    /// Operations under way, by their numbers in the protocol.
    asked: std::collections::VecDeque<(i32, i32)>,
    /// Replies that must not reach the client: to what the liar itself has asked.
    swallow: Vec<i32>,
    /// An event or a reply that waits for the next reply.
    held: Option<Bytes>,
    /// The last true answer to a read, by its path.
    old_reads: std::collections::BTreeMap<Vec<u8>, Bytes>,
    paths: std::collections::BTreeMap<i32, Vec<u8>>,
    last_created: Option<Bytes>,
    deaf: bool,
}

impl Conversation {
    fn new(client: SimStream, server: SimStream, lie: Lie, random: Arc<SeededEntropy>) -> Self {
        Conversation {
            client: tokio::io::split(client),
            server: tokio::io::split(server),
            lie,
            random,
            asked: Default::default(),
            swallow: Vec::new(),
            held: None,
            old_reads: Default::default(),
            paths: Default::default(),
            last_created: None,
            deaf: false,
        }
    }

    fn lies(&self, lie: Lie) -> bool {
        self.lie == lie && self.random.below(ONE_IN) == 0
    }

    async fn carry(mut self) {
        let (mut from_client, mut from_server) = (BytesMut::new(), BytesMut::new());
        let (mut hello, mut welcome) = (true, true);
        loop {
            tokio::select! {
                biased;
                read = self.server.0.read_buf(&mut from_server) => {
                    if !matches!(read, Ok(1..)) {
                        return;
                    }
                    let mut out = BytesMut::new();
                    while let Ok(Some(frame)) = take_frame(&mut from_server, 0, REPLY_BYTES_MAX) {
                        if std::mem::take(&mut welcome) {
                            put(&mut out, &frame);
                        } else {
                            self.answer(frame, &mut out);
                        }
                    }
                    if self.client.1.write_all(&out).await.is_err() {
                        return;
                    }
                }
                read = self.client.0.read_buf(&mut from_client) => {
                    if !matches!(read, Ok(1..)) {
                        return;
                    }
                    let (mut out, mut back) = (BytesMut::new(), BytesMut::new());
                    while let Ok(Some(frame)) = take_frame(&mut from_client, 0, REPLY_BYTES_MAX) {
                        if std::mem::take(&mut hello) {
                            put(&mut out, &frame);
                        } else {
                            self.ask(frame, &mut out, &mut back);
                        }
                    }
                    let _ = self.server.1.write_all(&out).await;
                    let _ = self.client.1.write_all(&back).await;
                }
            }
        }
    }

    /// A request, on its way to the server.
    fn ask(&mut self, frame: Bytes, out: &mut BytesMut, back: &mut BytesMut) {
        let (xid, op) = (frame.clone().get_i32(), (&frame[4..]).get_i32());
        if self.lie == Lie::Deaf {
            self.deaf |= self.random.below(20) == 0;
            if self.deaf && op == 11 {
                // Pings are answered, and nobody hears of them.
                put(back, &reply(xid, self.random.below(1) as i64, &[]));
                return;
            }
        }
        if op == GET_DATA {
            let path = frame[8..frame.len() - 1].to_vec();
            self.paths.insert(xid, path);
        }
        if op == SET_DATA && self.asked.is_empty() && self.lies(Lie::LoseWrite) {
            // As if it were the version after that of another client: what matters is the zxid.
            if let Some(last) = &self.last_created {
                let mut answer = BytesMut::from(&last[..]);
                answer[..4].copy_from_slice(&xid.to_be_bytes());
                put(back, &answer);
                return;
            }
        }
        self.asked.push_back((xid, op));
        put(out, &frame);
        if op == SET_DATA && self.lies(Lie::RepeatWrite) {
            self.asked.push_back((xid, op));
            self.swallow.push(xid);
            put(out, &frame);
        }
    }

    /// A reply or an event, on its way to the client.
    fn answer(&mut self, frame: Bytes, out: &mut BytesMut) {
        let (xid, zxid) = (frame.clone().get_i32(), (&frame[4..]).get_i64());
        if xid == -1 {
            if self.lies(Lie::LoseEvent) || (self.lie == Lie::LoseMissedEvent && zxid == -1) {
                return;
            }
            if self.lies(Lie::LateEvent) && self.held.is_none() {
                self.held = Some(frame);
                return;
            }
            put(out, &frame);
            if self.lies(Lie::RepeatEvent) {
                put(out, &frame);
            }
            return;
        }
        let op = self.asked.pop_front().map_or(0, |(_, op)| op);
        let is_repeat = self.asked.iter().all(|(asked, _)| *asked != xid);
        if let Some(at) = self.swallow.iter().position(|it| *it == xid).filter(|_| is_repeat) {
            self.swallow.remove(at);
            return;
        }
        let frame = self.change(xid, op, frame);
        if self.lies(Lie::SwapReplies) && self.held.is_none() && !self.asked.is_empty() {
            self.held = Some(frame);
            return;
        }
        put(out, &frame);
        if let Some(held) = self.held.take() {
            put(out, &held);
        }
    }

    fn change(&mut self, xid: i32, op: i32, frame: Bytes) -> Bytes {
        let failed = (&frame[12..]).get_i32() != 0;
        let mut changed = BytesMut::from(&frame[..]);
        if self.lies(Lie::OlderZxid) {
            let zxid = (&frame[4..]).get_i64() - 40;
            changed[4..12].copy_from_slice(&zxid.to_be_bytes());
        }
        if op == SET_DATA && !failed {
            self.last_created = Some(frame.clone());
        }
        if op == CREATE2 && !failed && self.lies(Lie::WrongSequence) {
            let length = (&frame[16..]).get_i32() as usize;
            let last = 20 + length - 1;
            if frame[last].is_ascii_digit() && length > 10 {
                changed[last] = if frame[last] == b'0' { b'9' } else { frame[last] - 1 };
            }
        }
        if op == GET_DATA && !failed {
            let path = self.paths.remove(&xid).unwrap_or_default();
            if self.lies(Lie::WrongData) && frame.len() > 20 {
                changed[20] ^= 1;
            }
            let old = self.old_reads.insert(path, frame.clone());
            if let Some(old) = old.filter(|_| self.lies(Lie::StaleRead)) {
                // Under the zxid of now: a zxid of then would be seen to go back.
                changed = BytesMut::from(&old[..]);
                changed[..12].copy_from_slice(&frame[..12]);
            }
        }
        changed.freeze()
    }
}

fn put(out: &mut BytesMut, frame: &[u8]) {
    out.put_i32(frame.len() as i32);
    out.put_slice(frame);
}

fn reply(xid: i32, zxid: i64, body: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_i32(xid);
    frame.put_i64(zxid);
    frame.put_i32(0);
    frame.put_slice(body);
    frame
}
