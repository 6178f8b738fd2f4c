//! A snapshot's way from one member to another, on a connection of its own: what it is, its bytes
//! in chunks, its end. The other side says how many bytes it has taken, and no more than
//! [`SNAPSHOT_WINDOW_BYTES`] are under way. What is cut off begins anew.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use openraft::errors::{ErrorSource, RPCError, StreamingError};
use openraft::network::RPCOption;
use openraft::storage::RaftStateMachine;
use openraft::type_config::alias::ErrorSourceOf;
use openraft::{ErrorSubject, ErrorVerb, RPCTypes, Raft, StorageError};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::frame::{self, Frame, Wire};
use super::handshake::Purpose;
use super::messages::{self, SnapshotMeta, kind};
use super::network::{Dial, broken, failed, unexpected, unreachable};
use super::types::{Address, CommittedLeaderId, Types, Vote, malformed};
use crate::limits::{SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_STALL_MS_MAX, SNAPSHOT_WINDOW_BYTES};

pub(crate) type SnapshotOf<D> = openraft::Snapshot<CommittedLeaderId, u64, Address, D>;

/// Where snapshots are read and written.
pub(crate) trait SnapshotFiles: Clone + Send + Sync + 'static {
    /// An open snapshot: what the state machine calls its snapshot data.
    type Data: Send + Sync + 'static;
    /// One that is being written.
    type Receiver: Receiver<Data = Self::Data>;

    /// The bytes that follow on those read before, at least 1 and at most `bytes_max`; `None` at
    /// the end.
    ///
    /// # Errors
    /// It cannot be read. Consensus stops: a member whose disk lies must not lead.
    fn next_chunk(
        &self,
        data: &mut Self::Data,
        bytes_max: usize,
    ) -> impl Future<Output = io::Result<Option<Bytes>>> + Send;

    /// Begins to write one. Only one is written at a time; dropping the receiver gives it up.
    ///
    /// # Errors
    /// It cannot be written.
    fn receive(
        &self,
        meta: &SnapshotMeta,
    ) -> impl Future<Output = io::Result<Self::Receiver>> + Send;
}

/// A snapshot that is being written.
pub(crate) trait Receiver: Send {
    /// What comes of it.
    type Data;

    /// Takes the next bytes.
    ///
    /// # Errors
    /// They cannot be written, or are not what a snapshot is made of.
    fn push(&mut self, chunk: Bytes) -> impl Future<Output = io::Result<()>> + Send;

    /// All bytes were pushed: the snapshot is durable when this returns.
    ///
    /// # Errors
    /// It cannot be written, or is not whole.
    fn finish(self) -> impl Future<Output = io::Result<Self::Data>> + Send;
}

/// Sends one, and returns the other member's vote once it is installed there. Dropping the future
/// cuts it off.
pub(super) async fn send<F: SnapshotFiles>(
    dial: &Dial,
    files: &F,
    vote: &Vote,
    snapshot: SnapshotOf<F::Data>,
    option: &RPCOption,
    late: impl Fn(RPCTypes) -> RPCError<Types>,
) -> Result<Vote, StreamingError<Types>> {
    let patience = option.soft_ttl();
    let chunk_bytes = option.snapshot_chunk_size().unwrap_or(SNAPSHOT_CHUNK_BYTES_MAX);
    let chunk_bytes = chunk_bytes.clamp(1, SNAPSHOT_CHUNK_BYTES_MAX);
    let mut wire = dial.connect(Purpose::Snapshot, patience).await.map_err(unreachable)?;
    let SnapshotOf { meta, snapshot: mut data } = snapshot;
    frame::put(wire.output(), kind::SNAPSHOT, |out| messages::encode_snapshot(out, vote, &meta))
        .map_err(broken)?;
    let (mut sent, mut taken, mut ended) = (0u64, 0u64, false);
    let mut moved = wire.moved();
    let mut deadline = Instant::now() + patience;
    loop {
        let room = !ended && sent - taken < SNAPSHOT_WINDOW_BYTES as u64;
        let frame = tokio::select! {
            biased;
            frame = wire.next() => Some(frame.map_err(broken)?),
            () = std::future::ready(()), if room => None,
            () = tokio::time::sleep_until(deadline) => {
                if moved == wire.moved() {
                    return Err(late(RPCTypes::InstallSnapshot).into());
                }
                None
            }
        };
        if moved != wire.moved() {
            moved = wire.moved();
            deadline = Instant::now() + patience;
        }
        match frame {
            Some(Frame { kind: kind::ALIVE, .. }) => {}
            Some(Frame { kind: kind::TAKEN, body }) => {
                let count = messages::decode_count(body).map_err(broken)?;
                if count < taken || count > sent {
                    return Err(broken(malformed("what was taken was sent")).into());
                }
                taken = count;
            }
            Some(Frame { kind: kind::INSTALLED, body }) => {
                return Ok(messages::decode_installed(body).map_err(broken)?);
            }
            Some(frame) if frame.kind == kind::FAILED => return Err(broken(failed(frame)).into()),
            Some(frame) => return Err(broken(unexpected(frame.kind)).into()),
            None if room => {
                let read = files.next_chunk(&mut data, chunk_bytes).await;
                let read = read.map_err(|error| unreadable(&meta, &error))?;
                let put = match read {
                    Some(chunk) => {
                        sent += chunk.len() as u64;
                        frame::put(wire.output(), kind::CHUNK, |out| out.put_slice(&chunk))
                    }
                    None => {
                        ended = true;
                        frame::put(wire.output(), kind::END, |out| out.put_u64(sent))
                    }
                };
                put.map_err(broken)?;
            }
            None => {}
        }
    }
}

fn unreadable(meta: &SnapshotMeta, error: &io::Error) -> StreamingError<Types> {
    let subject = ErrorSubject::Snapshot(Some(meta.signature()));
    let source = ErrorSourceOf::<Types>::from_error(error);
    StreamingError::StorageError(StorageError::new(subject, ErrorVerb::Read, source))
}

/// The snapshot that is being received: one at a time, and a newer one takes its place.
pub(super) struct Receiving {
    /// Ends the newest when it is dropped.
    newest: Mutex<Option<oneshot::Sender<()>>>,
    one: Semaphore,
}

impl Default for Receiving {
    fn default() -> Receiving {
        Receiving { newest: Mutex::default(), one: Semaphore::new(1) }
    }
}

impl Receiving {
    /// Does it once the one before has been given up, until another comes.
    async fn replace<T>(&self, receive: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let (newest, mut superseded) = oneshot::channel();
        drop(self.newest.lock().unwrap_or_else(PoisonError::into_inner).replace(newest));
        let alone = async {
            let _one = self.one.acquire().await.map_err(io::Error::other)?;
            receive.await
        };
        tokio::select! {
            biased;
            _ = &mut superseded => Err(io::Error::other("another snapshot takes its place")),
            received = alone => received,
        }
    }
}

/// Receives the snapshot that a connection brings, and has it installed.
///
/// # Errors
/// What the stream says; the other side does not keep to the rules; the snapshot cannot be
/// written. The other side is told.
pub(super) async fn receive<SM, F>(
    wire: &mut Wire,
    from: u64,
    patience: Duration,
    files: &F,
    raft: &Raft<Types, SM>,
    receiving: &Receiving,
) -> io::Result<()>
where
    F: SnapshotFiles,
    SM: RaftStateMachine<Types, SnapshotData = F::Data>,
{
    let outcome = match begin(wire, from, raft).await {
        // Only now: a leader of the past gives nobody's snapshot up.
        Ok(Begun::Wanted(vote, meta)) => {
            let incoming = Incoming { wire: &mut *wire, patience, files, raft };
            receiving.replace(incoming.take(vote, meta)).await
        }
        Ok(Begun::Refused(own)) => Ok(own),
        Err(error) => Err(error),
    };
    match &outcome {
        Ok(vote) => {
            frame::put(wire.output(), kind::INSTALLED, |out| {
                messages::encode_installed(out, vote)
            })?;
        }
        Err(error) => {
            let text = error.to_string();
            frame::put(wire.output(), kind::FAILED, |out| out.put_slice(text.as_bytes()))?;
        }
    }
    wire.flush().await?;
    outcome.map(|_| ())
}

enum Begun {
    Wanted(Vote, SnapshotMeta),
    /// This member follows another leader by now.
    Refused(Vote),
}

async fn begin<SM: RaftStateMachine<Types>>(
    wire: &mut Wire,
    from: u64,
    raft: &Raft<Types, SM>,
) -> io::Result<Begun> {
    let first = next(wire).await?;
    if first.kind != kind::SNAPSHOT {
        return Err(unexpected(first.kind));
    }
    let (vote, meta) = messages::decode_snapshot(first.body, from)?;
    Ok(match refusal(raft, &vote, &meta)? {
        Some(own) => Begun::Refused(own),
        None => Begun::Wanted(vote, meta),
    })
}

struct Incoming<'w, SM: RaftStateMachine<Types>, F> {
    wire: &'w mut Wire,
    patience: Duration,
    files: &'w F,
    raft: &'w Raft<Types, SM>,
}

impl<SM, F> Incoming<'_, SM, F>
where
    F: SnapshotFiles,
    SM: RaftStateMachine<Types, SnapshotData = F::Data>,
{
    async fn take(self, vote: Vote, meta: SnapshotMeta) -> io::Result<Vote> {
        let Incoming { wire, patience, files, raft } = self;
        let mut receiver = at_work(wire, patience, files.receive(&meta)).await?;
        let mut taken = 0u64;
        loop {
            let frame = next(wire).await?;
            match frame.kind {
                kind::CHUNK => {
                    taken += frame.body.len() as u64;
                    at_work(wire, patience, receiver.push(frame.body)).await?;
                    frame::put(wire.output(), kind::TAKEN, |out| out.put_u64(taken))?;
                }
                kind::END if messages::decode_count(frame.body.clone())? == taken => break,
                kind::END => {
                    return Err(malformed("a snapshot ends after as many bytes as were sent"));
                }
                kind => return Err(unexpected(kind)),
            }
        }
        let data = at_work(wire, patience, receiver.finish()).await?;
        // It took a while: judge again, since what contradicts the log stops consensus for good.
        if let Some(own) = refusal(raft, &vote, &meta)? {
            return Ok(own);
        }
        let snapshot = SnapshotOf { meta, snapshot: data };
        let installing = async { Ok(raft.install_full_snapshot(vote, snapshot).await) };
        let installed = at_work(wire, patience, installing).await?;
        Ok(installed.map_err(|fatal| io::Error::other(fatal.to_string()))?.vote)
    }
}

/// The vote of this member, if it follows another leader by now.
///
/// # Errors
/// The snapshot contradicts what is committed here.
fn refusal<SM: RaftStateMachine<Types>>(
    raft: &Raft<Types, SM>,
    vote: &Vote,
    meta: &SnapshotMeta,
) -> io::Result<Option<Vote>> {
    use openraft::async_runtime::watch::WatchReceiver;
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    if metrics.vote > *vote {
        return Ok(Some(metrics.vote));
    }
    let contradicts = metrics
        .local_committed
        .zip(meta.last_log_id)
        .is_some_and(|(own, theirs)| theirs > own && theirs.index <= own.index);
    if contradicts {
        return Err(malformed("a snapshot holds the entries that are committed here"));
    }
    Ok(None)
}

async fn next(wire: &mut Wire) -> io::Result<Frame> {
    let stall = Duration::from_millis(SNAPSHOT_STALL_MS_MAX);
    match tokio::time::timeout(stall, wire.next()).await {
        Ok(frame) => frame,
        Err(_) => {
            let text = format!("the snapshot stood still for {SNAPSHOT_STALL_MS_MAX} ms");
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        }
    }
}

/// Does something that may take longer than the other side's patience, and gives signs of life.
async fn at_work<T>(
    wire: &mut Wire,
    patience: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            flushed = wire.flush(), if wire.output_bytes() > 0 => flushed?,
            () = tokio::time::sleep(signs_of_life(patience)) => {
                frame::put(wire.output(), kind::ALIVE, |_| {})?;
            }
        }
    }
}

/// How often to give one to somebody with this patience.
pub(super) fn signs_of_life(patience: Duration) -> Duration {
    (patience / 3).max(Duration::from_millis(1))
}
