//! How a member is called: takes connections of the others in, and owns the task of each.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut;
use futures::StreamExt;
use openraft::Raft;
use openraft::base::BoxFuture;
use openraft::errors::Fatal;
use openraft::storage::RaftStateMachine;
use synod_core::model::Zxid;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::admin::{Lines, Orders};
use super::caller::Caller;
use super::frame::{self, Frame, Wire};
use super::handshake::{self, ClusterId, Hello, Purpose};
use super::messages::{self, Append, AppendResult, kind};
use super::network::unexpected;
use super::snapshots::{self, Receiving, SnapshotFiles, signs_of_life};
use super::strangers::{Stranger, Strangers};
use super::types::{Runtime, Types};
use crate::limits::{
    ACCEPT_PAUSE_MS, APPEND_BYTES_IN_FLIGHT_SOFT, APPENDS_IN_FLIGHT_MAX, PEER_CONNECTIONS_MAX,
    PEER_HANDSHAKE_MS_MAX, PEER_IDLE_MS_MAX, PEER_OUTPUT_BYTES_SOFT,
};
use crate::net::{Listener, Stream};
use crate::seldom::Seldom;

/// What else there is to a member.
pub(crate) trait PeerHooks: Send + Sync + 'static {
    /// This member has no cluster yet, and one has reached it: writes that down for good. It is
    /// called once at a time, and not again after it returned `Ok`. The future may be dropped, and
    /// the cluster is not this member's then.
    ///
    /// # Errors
    /// It could not be written: the connection is refused, and the next may try.
    fn adopt(&self, cluster: ClusterId) -> BoxFuture<'static, io::Result<()>>;

    /// Serves requests of clients that come from member `from`, until the connection ends. The
    /// future is dropped when the member stops.
    fn courier(&self, stream: Box<dyn Stream>, from: u64) -> BoxFuture<'static, ()>;

    /// How far the state is that administration is told of; `None` if there is none yet.
    fn tree(&self) -> Option<TreeState> {
        None
    }
}

/// The state of a member in two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TreeState {
    pub(crate) zxid: Zxid,
    pub(crate) digest: u64,
    /// The version of the znode that says who the members are.
    pub(crate) config_version: Option<i64>,
}

/// What the connections of the other members reach.
pub(crate) struct Peers<SM: RaftStateMachine<Types>, F, H> {
    caller: Arc<Caller>,
    raft: Raft<Types, SM>,
    files: F,
    hooks: H,
    /// What the generators of the connections' tasks are seeded from.
    seed: u64,
    receiving: Receiving,
    reconfiguring: Semaphore,
    order_lines: Lines,
    strangers: Arc<Strangers>,
    /// Log lines that whoever reaches the port can cause.
    lines: Seldom,
}

impl<SM, F, H> Peers<SM, F, H>
where
    F: SnapshotFiles,
    SM: RaftStateMachine<Types, SnapshotData = F::Data>,
    H: PeerHooks,
{
    pub(crate) fn new(
        caller: Arc<Caller>,
        raft: Raft<Types, SM>,
        files: F,
        hooks: H,
        seed: u64,
    ) -> Peers<SM, F, H> {
        Peers {
            caller,
            raft,
            files,
            hooks,
            seed,
            receiving: Receiving::default(),
            reconfiguring: Semaphore::new(1),
            order_lines: Lines::default(),
            strangers: Arc::default(),
            lines: Seldom::default(),
        }
    }

    /// Accepts until told to stop, or until whoever could tell is gone. The connections end with
    /// it; so they do when the future is dropped.
    pub(crate) async fn listen(
        self: Arc<Self>,
        mut listener: Box<dyn Listener>,
        mut stop: oneshot::Receiver<()>,
    ) {
        let mut tasks = JoinSet::new();
        let mut accepted = 0u64;
        loop {
            tokio::select! {
                biased;
                _ = &mut stop => break,
                Some(ended) = tasks.join_next() => complain(ended),
                incoming = listener.accept() => match incoming {
                    Ok((stream, address)) => {
                        let stranger = self.strangers.enter(address.ip());
                        let Some(stranger) =
                            stranger.filter(|_| tasks.len() < PEER_CONNECTIONS_MAX)
                        else {
                            self.warn(address, &"too many connections of members");
                            continue;
                        };
                        accepted += 1;
                        let serving = Arc::clone(&self).serve(stream, address, stranger);
                        // Consensus draws from the generator of the task that calls it.
                        let seed = self.seed.wrapping_add(accepted);
                        tasks.spawn(Runtime::scope(seed, serving));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection of a member");
                        tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                    }
                },
            }
        }
        drop(listener);
        tasks.shutdown().await;
    }

    /// Says why a connection is closed, if nothing like it was said a moment ago.
    fn warn(&self, address: SocketAddr, why: &dyn std::fmt::Display) {
        if let Some(kept_back) = self.lines.may_say(tokio::time::Instant::now()) {
            tracing::warn!(%address, %why, kept_back, "a connection to the members' port is closed");
        }
    }

    async fn serve(
        self: Arc<Self>,
        mut stream: Box<dyn Stream>,
        address: SocketAddr,
        stranger: Stranger,
    ) {
        let limit = Duration::from_millis(PEER_HANDSHAKE_MS_MAX);
        let adopt = |cluster| self.hooks.adopt(cluster);
        let receiving = handshake::receive(&mut *stream, self.caller.identity(), adopt);
        let hello = match tokio::time::timeout(limit, receiving).await {
            Ok(Ok(Ok(hello))) => hello,
            // It comes again and again; the notices say it once.
            Ok(Ok(Err(refusal))) => {
                tracing::debug!(%address, %refusal, "a connection of a member is refused");
                return;
            }
            Ok(Err(error)) => {
                return self.warn(address, &format_args!("it is no member's: {error}"));
            }
            Err(_) => {
                return self.warn(address, &"it said nothing in time");
            }
        };
        drop(stranger);
        let Hello { from, purpose, .. } = hello;
        let outcome = match purpose {
            Purpose::Append | Purpose::Heartbeat => {
                Appends::new(&self.raft, Wire::new(stream), &hello).serve().await
            }
            Purpose::Vote => self.vote(&mut Wire::new(stream), from).await,
            Purpose::Snapshot => {
                let (wire, patience) = (&mut Wire::new(stream), patience(&hello));
                let (files, raft) = (&self.files, &self.raft);
                snapshots::receive(wire, from, patience, files, raft, &self.receiving).await
            }
            Purpose::Courier => {
                self.hooks.courier(stream, from).await;
                Ok(())
            }
            Purpose::Admin => {
                let tree = || self.hooks.tree();
                let orders = Orders {
                    caller: &self.caller,
                    raft: &self.raft,
                    tree: &tree,
                    reconfiguring: &self.reconfiguring,
                    lines: &self.order_lines,
                };
                orders.serve(&mut Wire::new(stream)).await
            }
            // All was said.
            Purpose::Meet => Ok(()),
        };
        match outcome {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                tracing::info!(%address, from, ?purpose, %error, "a connection of a member ended");
            }
            _ => tracing::debug!(%address, from, ?purpose, "a connection of a member ended"),
        }
    }

    /// Answers what candidates and leaders that hand on ask, until the connection ends.
    async fn vote(&self, wire: &mut Wire, from: u64) -> io::Result<()> {
        loop {
            let Frame { kind, body } = next(wire).await?;
            match kind {
                kind::VOTE | kind::PRE_VOTE => {
                    let request = messages::decode_vote_request(body, from)?;
                    let answer = if kind == kind::VOTE {
                        self.raft.vote(request).await
                    } else {
                        self.raft.pre_vote(request).await
                    };
                    let answer = answer.map_err(|fatal| io::Error::other(fatal.to_string()))?;
                    frame::put(wire.output(), kind::VOTED, |out| {
                        messages::encode_vote_response(out, &answer);
                    })?;
                }
                kind::TRANSFER => {
                    let request = messages::decode_transfer(body, from)?;
                    let answer =
                        self.raft.handle_transfer_leader(request).await.map_err(stopped)?;
                    frame::put(wire.output(), kind::TRANSFERRED, |out| {
                        messages::encode_transferred(out, &answer);
                    })?;
                }
                kind => return Err(unexpected(kind)),
            }
        }
    }
}

fn complain(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of a member's connection has failed");
    }
}

fn stopped(fatal: Fatal<Types>) -> io::Error {
    io::Error::other(fatal.to_string())
}

fn patience(hello: &Hello) -> Duration {
    Duration::from_millis(hello.patience_ms.into())
}

async fn next(wire: &mut Wire) -> io::Result<Frame> {
    let limit = Duration::from_millis(PEER_IDLE_MS_MAX);
    tokio::time::timeout(limit, wire.next()).await.unwrap_or_else(|_| {
        let text = format!("nothing came for {PEER_IDLE_MS_MAX} ms");
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

type Results = Pin<Box<dyn futures::Stream<Item = Result<AppendResult, Fatal<Types>>> + Send>>;

/// A connection that entries come on.
struct Appends<'r, SM: RaftStateMachine<Types>> {
    raft: &'r Raft<Types, SM>,
    wire: Wire,
    from: u64,
    patience: Duration,
    session: Option<Session>,
}

/// One stream of requests. The connection carries one after the other; the next begins when the
/// leader has given the one before up.
struct Session {
    number: u32,
    requests: mpsc::Sender<Append>,
    /// `None` once it ended by a refusal: what is still under way then is not answered.
    results: Option<Results>,
    /// The bytes of each request without a reply so far.
    unanswered: VecDeque<usize>,
    /// Their sum.
    unanswered_bytes: usize,
}

impl Session {
    /// A leader keeps to half of that; one that does not waits.
    fn has_room(&self) -> bool {
        self.unanswered.len() < 2 * APPENDS_IN_FLIGHT_MAX
            && self.unanswered_bytes < 2 * APPEND_BYTES_IN_FLIGHT_SOFT
    }
}

impl<'r, SM: RaftStateMachine<Types>> Appends<'r, SM> {
    fn new(raft: &'r Raft<Types, SM>, wire: Wire, hello: &Hello) -> Self {
        Appends { raft, wire, from: hello.from, patience: patience(hello), session: None }
    }

    /// Until the connection ends.
    async fn serve(mut self) -> io::Result<()> {
        enum Happened {
            Result(Option<Result<AppendResult, Fatal<Types>>>),
            Frame(io::Result<Frame>),
            Quiet,
        }
        let mut idle = Duration::ZERO;
        loop {
            let room = self.wire.output_bytes() < PEER_OUTPUT_BYTES_SOFT;
            let (unanswered, more) = match &self.session {
                Some(session) => (!session.unanswered.is_empty(), session.has_room()),
                None => (false, true),
            };
            let at_work = unanswered || self.wire.half_received();
            let results = self.session.as_mut().and_then(|session| session.results.as_mut());
            let wait = if at_work {
                signs_of_life(self.patience)
            } else {
                Duration::from_millis(PEER_IDLE_MS_MAX)
            };
            let happened = tokio::select! {
                biased;
                // All that are there, before they go out in one write.
                result = next_result(results), if room && unanswered => {
                    Happened::Result(result)
                }
                frame = self.wire.drive(more) => Happened::Frame(frame),
                () = tokio::time::sleep(wait) => Happened::Quiet,
            };
            match happened {
                Happened::Result(result) => self.reply(result)?,
                Happened::Frame(frame) => {
                    idle = Duration::ZERO;
                    self.take(frame?)?;
                }
                Happened::Quiet => {
                    idle += wait;
                    if !unanswered && idle >= Duration::from_millis(PEER_IDLE_MS_MAX) {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    // More signs would not help one that does not read them.
                    if at_work && room {
                        frame::put(self.wire.output(), kind::ALIVE, |_| {})?;
                    }
                }
            }
        }
    }

    fn take(&mut self, Frame { kind, body }: Frame) -> io::Result<()> {
        if kind != kind::APPEND {
            return Err(unexpected(kind));
        }
        let bytes = body.len();
        let (number, request) = messages::decode_append(body, self.from)?;
        let session = match &mut self.session {
            Some(session) if session.number == number => session,
            session => {
                let (requests, mut input) = mpsc::channel(2 * APPENDS_IN_FLIGHT_MAX);
                let input = futures::stream::poll_fn(move |cx| input.poll_recv(cx));
                let results: Results = Box::pin(self.raft.stream_append(input));
                session.insert(Session {
                    number,
                    requests,
                    results: Some(results),
                    unanswered: VecDeque::new(),
                    unanswered_bytes: 0,
                })
            }
        };
        if session.results.is_none() {
            return Ok(());
        }
        session.unanswered.push_back(bytes);
        session.unanswered_bytes += bytes;
        match session.requests.try_send(request) {
            Ok(()) => Ok(()),
            // What it holds is unanswered, and there are fewer of those.
            Err(mpsc::error::TrySendError::Full(_)) => Err(io::ErrorKind::OutOfMemory.into()),
            // The refusal that ended it is on its way.
            Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    fn reply(&mut self, result: Option<Result<AppendResult, Fatal<Types>>>) -> io::Result<()> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let result = match result {
            Some(Ok(result)) => result,
            Some(Err(fatal)) => {
                frame::put(self.wire.output(), kind::FAILED, |out| {
                    out.put_slice(b"consensus has stopped here");
                })?;
                return Err(stopped(fatal));
            }
            None => return Err(io::Error::other("consensus has stopped")),
        };
        session.unanswered_bytes -= session.unanswered.pop_front().unwrap_or(0);
        if result.is_err() {
            session.results = None;
            session.unanswered.clear();
            session.unanswered_bytes = 0;
        }
        let number = session.number;
        frame::put(self.wire.output(), kind::APPENDED, |out| {
            messages::encode_appended(out, number, &result);
        })
    }
}

async fn next_result(results: Option<&mut Results>) -> Option<Result<AppendResult, Fatal<Types>>> {
    match results {
        Some(results) => results.next().await,
        None => std::future::pending().await,
    }
}
