//! How a member calls another: one connection for log entries, one for heartbeats, one for each
//! election and each snapshot. They are made when something is to be said, and again when they
//! broke.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use tokio::time::{Instant, Sleep};

use super::caller::Caller;
use super::frame::{self, Frame, Wire};
use super::handshake::Purpose;
use super::messages::{self, Append, AppendResult, Range, kind};
use super::snapshots::{self, SnapshotFiles, SnapshotOf};
use super::types::{Address, Types, Vote, malformed};
use crate::limits::{
    APPEND_BYTES_IN_FLIGHT_SOFT, APPENDS_IN_FLIGHT_MAX, PEER_CONNECT_MS_MIN,
    PEER_OUTPUT_BYTES_SOFT, PEER_SILENCE_MS_MAX,
};

/// Makes what calls the others.
#[derive(Clone, Debug)]
pub(crate) struct Network<F> {
    caller: Arc<Caller>,
    files: F,
}

impl<F: SnapshotFiles> Network<F> {
    /// `files` is where the snapshots to send are read.
    pub(crate) fn new(caller: Arc<Caller>, files: F) -> Network<F> {
        Network { caller, files }
    }

    fn peer(&self, target: u64, address: &Address, purpose: Purpose) -> Peer<F> {
        let caller = Arc::clone(&self.caller);
        let dial = Dial { caller, target, address: address.clone() };
        Peer { dial, files: self.files.clone(), purpose, channel: None }
    }
}

impl<F: SnapshotFiles> RaftNetworkFactory<Types> for Network<F> {
    type Network = Peer<F>;

    async fn new_client(&mut self, target: u64, node: &Address) -> Peer<F> {
        self.peer(target, node, Purpose::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Address) -> Peer<F> {
        self.peer(target, node, Purpose::Heartbeat)
    }
}

/// How another member is reached.
#[derive(Debug)]
pub(super) struct Dial {
    caller: Arc<Caller>,
    target: u64,
    address: Address,
}

impl Dial {
    /// A new connection, within `patience`.
    pub(super) async fn connect(&self, purpose: Purpose, patience: Duration) -> io::Result<Wire> {
        let connecting = self.caller.connect(self.target, &self.address, purpose, patience);
        Ok(Wire::new(connecting.await?))
    }

    /// One question and its answer, on a connection of their own.
    async fn ask(
        &self,
        kind: u8,
        encode: impl FnOnce(&mut bytes::BytesMut),
        option: &RPCOption,
    ) -> Result<Frame, RPCError<Types>> {
        let patience = option.soft_ttl();
        let give_up_at = Instant::now() + patience;
        let mut wire = self.connect(Purpose::Vote, patience).await.map_err(unreachable)?;
        frame::put(wire.output(), kind, encode).map_err(broken)?;
        loop {
            match tokio::time::timeout_at(give_up_at, wire.next()).await {
                Ok(Ok(frame)) if frame.kind == kind::ALIVE => {}
                Ok(Ok(frame)) if frame.kind == kind::FAILED => return Err(broken(failed(frame))),
                Ok(Ok(frame)) => return Ok(frame),
                Ok(Err(error)) => return Err(broken(error)),
                Err(_) => return Err(self.late(RPCTypes::Vote, patience)),
            }
        }
    }

    fn late(&self, action: RPCTypes, timeout: Duration) -> RPCError<Types> {
        let (id, target) = (self.caller.identity().id(), self.target);
        RPCError::Timeout(Timeout { action, id, target, timeout })
    }
}

/// A connection cannot be made: wait before the next attempt.
pub(super) fn unreachable(error: io::Error) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(&error))
}

/// A connection broke: the next may be better.
pub(super) fn broken(error: io::Error) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(&error))
}

pub(super) fn failed(frame: Frame) -> io::Error {
    io::Error::other(format!("the other member: {}", String::from_utf8_lossy(&frame.body)))
}

fn expect(frame: Frame, kind: u8) -> Result<bytes::Bytes, RPCError<Types>> {
    if frame.kind == kind { Ok(frame.body) } else { Err(broken(unexpected(frame.kind))) }
}

pub(super) fn unexpected(kind: u8) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a frame of kind {kind} has no place here"))
}

/// Another member, as this one calls it.
#[derive(Debug)]
pub(crate) struct Peer<F> {
    dial: Dial,
    files: F,
    /// Of the connection that entries go on.
    purpose: Purpose,
    channel: Option<Channel>,
}

/// A connection that entries go on. It outlives a session, of which there is one for each stream of
/// requests: replies to requests that nobody waits for any more are told by their session's number.
struct Channel {
    wire: Wire,
    session: u32,
    /// Since when there was something to answer and nothing came.
    silent_since: Option<Instant>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("session", &self.session).finish_non_exhaustive()
    }
}

impl<F: SnapshotFiles> RaftNetworkV2<Types> for Peer<F> {
    type SnapshotData = F::Data;

    async fn append_entries(
        &mut self,
        request: Append,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let once = Box::pin(futures::stream::once(std::future::ready(request)));
        let mut replies = self.stream_append(once, option).await?;
        let mut last = None;
        // Several, if the request went in several parts: the last one or the first error counts.
        while let Some(reply) = replies.next().await {
            last = Some(reply?);
        }
        last.map(AppendEntriesResponse::from).ok_or_else(|| broken(malformed("no reply")))
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<AppendResult, RPCError<Types>>>, RPCError<Types>>>
    where
        S: Stream<Item = Append> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            let patience = match self.purpose {
                // openraft allows entries no longer than a heartbeat. A disk that syncs, or a
                // processor that others use, takes that now and then, and giving up there means to
                // begin anew after a pause: too late for the followers' patience with a leader.
                // Heartbeats, which have a connection of their own, say soon enough who is gone.
                Purpose::Append => Duration::from_millis(PEER_SILENCE_MS_MAX),
                _ => option.soft_ttl(),
            };
            let connect_patience =
                option.soft_ttl().max(Duration::from_millis(PEER_CONNECT_MS_MIN));
            let mut input = input;
            // Something to say first: it is while a request is drawn that the pauses between
            // attempts to reach a member are kept.
            let Some(first) = input.next().await else {
                let nothing: BoxStream<'s, _> = Box::pin(futures::stream::empty());
                return Ok(nothing);
            };
            let channel = match self.channel.take() {
                Some(Channel { wire, session, silent_since }) => {
                    Channel { wire, session: session.wrapping_add(1), silent_since }
                }
                None => {
                    let wire = self.dial.connect(self.purpose, connect_patience).await;
                    Channel { wire: wire.map_err(unreachable)?, session: 0, silent_since: None }
                }
            };
            self.channel = Some(channel);
            let replies: BoxStream<'s, _> = Box::pin(Session {
                dial: &self.dial,
                channel: &mut self.channel,
                input: Some(futures::stream::iter([first]).chain(input)),
                waiting: VecDeque::new(),
                waiting_bytes: 0,
                patience,
                moved: 0,
                deadline: Box::pin(tokio::time::sleep(patience)),
            });
            Ok(replies)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let encode = |out: &mut _| messages::encode_vote_request(out, &request);
        let answer = self.dial.ask(kind::VOTE, encode, &option).await?;
        messages::decode_vote_response(expect(answer, kind::VOTED)?).map_err(broken)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let encode = |out: &mut _| messages::encode_vote_request(out, &request);
        let answer = self.dial.ask(kind::PRE_VOTE, encode, &option).await?;
        messages::decode_vote_response(expect(answer, kind::VOTED)?).map_err(broken)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let encode = |out: &mut _| messages::encode_transfer(out, &request);
        let answer = self.dial.ask(kind::TRANSFER, encode, &option).await?;
        messages::decode_transferred(expect(answer, kind::TRANSFERRED)?).map_err(broken)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<F::Data>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let patience = option.soft_ttl();
        let sending =
            snapshots::send(&self.dial, &self.files, &vote, snapshot, &option, |action| {
                self.dial.late(action, patience)
            });
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sending => sent.map(SnapshotResponse::new),
        }
    }
}

/// The requests of one stream on their way, and the replies to them.
struct Session<'s, S> {
    dial: &'s Dial,
    /// Taken away when the connection is of no more use: the next session makes another.
    channel: &'s mut Option<Channel>,
    /// `None` once it has ended.
    input: Option<S>,
    /// What was sent and is not answered yet, in order.
    waiting: VecDeque<Range>,
    /// The sum of its bytes.
    waiting_bytes: usize,
    patience: Duration,
    /// How much had gone either way when the deadline was set.
    moved: u64,
    /// When to give up, unless something moves before.
    deadline: Pin<Box<Sleep>>,
}

impl<S: Stream<Item = Append> + Unpin> Stream for Session<'_, S> {
    type Item = Result<AppendResult, RPCError<Types>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match this.poll_reply(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Err(error))) => {
                *this.channel = None;
                Poll::Ready(Some(Err(broken(error))))
            }
            Poll::Ready(Some(Ok(Some(reply)))) => Poll::Ready(Some(Ok(reply))),
            Poll::Ready(Some(Ok(None))) => {
                this.end();
                Poll::Ready(Some(Err(this.dial.late(RPCTypes::AppendEntries, this.patience))))
            }
            Poll::Ready(None) => Poll::Ready(None),
        }
    }
}

impl<S: Stream<Item = Append> + Unpin> Session<'_, S> {
    /// The next reply; `Ok(None)` if none came in time.
    fn poll_reply(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Option<AppendResult>>>> {
        loop {
            let Some(channel) = &mut *self.channel else {
                return Poll::Ready(None);
            };
            // As much as may go out, so that it goes out in one write.
            while let Some(input) = &mut self.input
                && self.waiting.len() < APPENDS_IN_FLIGHT_MAX
                && self.waiting_bytes < APPEND_BYTES_IN_FLIGHT_SOFT
                && channel.wire.output_bytes() < PEER_OUTPUT_BYTES_SOFT
            {
                match input.poll_next_unpin(cx) {
                    Poll::Pending => break,
                    Poll::Ready(None) => self.input = None,
                    Poll::Ready(Some(request)) => {
                        if self.waiting.is_empty() {
                            self.deadline.as_mut().reset(Instant::now() + self.patience);
                        }
                        let (session, waiting) = (channel.session, &mut self.waiting);
                        let bytes = &mut self.waiting_bytes;
                        let sent = |range: Range| {
                            *bytes += range.bytes;
                            waiting.push_back(range);
                        };
                        messages::encode_append(channel.wire.output(), session, &request, sent)?;
                        channel.silent_since.get_or_insert_with(Instant::now);
                    }
                }
            }
            if self.waiting.is_empty() && self.input.is_none() {
                return Poll::Ready(None);
            }
            match channel.wire.poll_next(cx) {
                Poll::Ready(frame) => {
                    channel.silent_since = None;
                    if let Some(reply) = self.take(frame?)? {
                        return Poll::Ready(Some(Ok(Some(reply))));
                    }
                }
                Poll::Pending => {
                    if self.waiting.is_empty() {
                        return Poll::Pending;
                    }
                    if self.moved != channel.wire.moved() {
                        self.moved = channel.wire.moved();
                        self.deadline.as_mut().reset(Instant::now() + self.patience);
                    }
                    return self.deadline.as_mut().poll(cx).map(|()| Some(Ok(None)));
                }
            }
        }
    }

    fn take(&mut self, frame: Frame) -> io::Result<Option<AppendResult>> {
        match frame.kind {
            kind::ALIVE => Ok(None),
            kind::FAILED => Err(failed(frame)),
            kind::APPENDED => {
                let (session, result) = messages::decode_appended(frame.body)?;
                if self.channel.as_ref().is_none_or(|channel| channel.session != session) {
                    return Ok(None);
                }
                let range = self.waiting.pop_front();
                let range = range.ok_or_else(|| malformed("a reply answers a request"))?;
                self.waiting_bytes -= range.bytes;
                messages::check_appended(&result, &range)?;
                if result.is_err() {
                    // What was sent behind it is not answered.
                    self.end();
                }
                Ok(Some(result))
            }
            kind => Err(unexpected(kind)),
        }
    }

    /// Nothing more is sent or waited for.
    fn end(&mut self) {
        self.input = None;
        self.waiting.clear();
        let silence = Duration::from_millis(PEER_SILENCE_MS_MAX);
        let silent = |channel: &Channel| {
            channel.silent_since.is_some_and(|since| since.elapsed() >= silence)
        };
        if self.channel.as_ref().is_some_and(silent) {
            *self.channel = None;
        }
    }
}
