//! Connections that write without end, as long as they are let.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use synod_core::model::{Acl, Code, Create, CreateMode, Op, Request, SessionId, Write, Zxid};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::connection::Connection;
use super::ledger::Ledger;
use super::worker::Worker;
use super::{PATIENCE, until};

/// How a load is made.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Connections, each with a session of its own.
    pub workers: usize,
    /// Requests that a worker has on their way at a time.
    pub window: usize,
    /// What each writes, in bytes.
    pub value_bytes: usize,
    /// The timeout that the sessions ask for.
    pub session_timeout: Duration,
    /// Acknowledged changes a second below which a run is void.
    pub rate_min: f64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            workers: 6,
            window: 8,
            value_bytes: 100,
            session_timeout: Duration::from_secs(6),
            rate_min: 200.0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Run,
    /// The how-manieth pause it is: rest in an earlier one is no rest in this.
    Pause(u64),
    Stop,
}

/// What can be seen of a worker from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// A change that was sent after this mark was acknowledged, and when.
    pub(super) served: (u64, Instant),
    /// In which pause it has nothing on its way, and a connection; 0 while it is not so.
    pub(super) idle: u64,
}

pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) mark: AtomicU64,
    /// Acknowledged changes of all.
    pub(super) acknowledged: AtomicU64,
    /// The highest zxid that anybody has seen.
    pub(super) highest: AtomicI64,
}

struct Handle {
    ledger: Arc<Mutex<Ledger>>,
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

/// A load that runs.
pub struct Load {
    shared: Arc<Shared>,
    workers: Vec<Handle>,
    /// Since when it is let, and how many changes had been acknowledged then.
    running: (Instant, u64),
    pauses: u64,
}

/// How the load has gone since it was started or resumed.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Changes that were acknowledged.
    pub acknowledged: u64,
    /// A second, the time in which nobody was served included.
    pub a_second: f64,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.workers.iter().for_each(|worker| worker.task.abort());
    }
}

/// The request that creates a znode.
pub fn create(path: &str, data: Vec<u8>, mode: CreateMode) -> Request {
    let (path, data) = (path.into(), Some(Bytes::from(data)));
    Request::Write(Write::Op(Op::Create(Create { path, data, acl: Acl::open(), mode })))
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// Starts a load on the servers with these addresses: it writes when this returns.
    pub async fn start(addresses: Vec<SocketAddr>, settings: Settings) -> Load {
        let asked = settings.session_timeout;
        let opening = Connection::open(addresses[0], None, Zxid::ZERO, asked, PATIENCE);
        let mut connection = opening.await.expect("the cluster serves");
        assert_eq!(connection.timeout, asked, "the timeout that was asked for is granted");
        for path in ["/load", "/load/e", "/load/seq"] {
            let reply = connection.ask(&create(path, Vec::new(), CreateMode::Persistent)).await;
            match reply.expect("connected").result {
                Ok(_) => {}
                Err(refusal) => assert_eq!(refusal.code, Code::NodeExists, "{path}"),
            }
        }
        let closed = connection.ask(&Request::Write(Write::CloseSession)).await;
        closed.expect("connected");
        let shared = Arc::new(Shared {
            settings,
            addresses,
            phase: watch::Sender::new(Phase::Run),
            mark: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            highest: AtomicI64::new(0),
        });
        let mut workers = Vec::new();
        for number in 0..settings.workers {
            let ledger = Arc::new(Mutex::new(Ledger::default()));
            let (tell, seen) = watch::channel(Seen { served: (0, Instant::now()), idle: 0 });
            let worker = Worker::new(number, Arc::clone(&shared), Arc::clone(&ledger), tell);
            let worker = timeout(PATIENCE, worker.set_up()).await.expect("it is soon set up");
            workers.push(Handle { ledger, seen, task: tokio::spawn(worker.run()) });
        }
        Load { shared, workers, running: (Instant::now(), 0), pauses: 0 }
    }

    fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until so many more changes were acknowledged.
    pub async fn more(&self, changes: u64) {
        let enough = self.acknowledged() + changes;
        until(&format!("{changes} more changes"), async || {
            self.assert_well();
            (self.acknowledged() >= enough).then_some(())
        })
        .await;
    }

    /// A worker that found a promise broken has no more to do, and nobody should wait for it.
    fn assert_well(&self) {
        for worker in &self.workers {
            let ledger = locked(&worker.ledger);
            assert!(ledger.violations.is_empty(), "{:#?}", ledger.violations);
            assert!(!worker.task.is_finished(), "a worker has ended");
        }
    }

    /// From now on it counts who is served.
    pub fn mark(&self) -> u64 {
        self.shared.mark.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Waits until every worker has had a change acknowledged that it sent after the mark; when
    /// that was for each, the first one first.
    pub async fn served(&self, mark: u64) -> Vec<Instant> {
        let mut times = Vec::new();
        for worker in &self.workers {
            let mut seen = worker.seen.clone();
            let served = async {
                let seen = seen.wait_for(|seen| seen.served.0 >= mark).await;
                seen.map(|seen| seen.served.1)
            };
            match timeout(PATIENCE, served).await {
                Ok(Ok(time)) => times.push(time),
                _ => {
                    self.assert_well();
                    panic!("a worker was not served within {PATIENCE:?}");
                }
            }
        }
        times.sort_unstable();
        times
    }

    /// Lets what is on its way come to its end, and sends no more. Sessions go on: every worker is
    /// connected when this returns.
    pub async fn pause(&mut self) -> Rate {
        let elapsed = self.running.0.elapsed();
        let acknowledged = self.acknowledged() - self.running.1;
        self.pauses += 1;
        self.shared.phase.send_replace(Phase::Pause(self.pauses));
        self.idle().await;
        let a_second = acknowledged as f64 / elapsed.as_secs_f64();
        let rate_min = self.shared.settings.rate_min;
        assert!(
            a_second >= rate_min,
            "void: {a_second:.0} changes a second, and {rate_min} are the least"
        );
        Rate { acknowledged, a_second }
    }

    /// Waits until every worker has nothing on its way, and a connection.
    async fn idle(&self) {
        for worker in &self.workers {
            let mut seen = worker.seen.clone();
            if timeout(PATIENCE, seen.wait_for(|seen| seen.idle == self.pauses)).await.is_err() {
                self.assert_well();
                panic!("a worker did not come to rest within {PATIENCE:?}");
            }
        }
        self.assert_well();
    }

    /// Goes on after a pause.
    pub fn resume(&mut self) {
        self.running = (Instant::now(), self.acknowledged());
        self.shared.phase.send_replace(Phase::Run);
    }

    /// What the workers know.
    pub fn ledgers(&self) -> Vec<MutexGuard<'_, Ledger>> {
        self.workers.iter().map(|worker| locked(&worker.ledger)).collect()
    }

    /// The sessions of the workers.
    pub fn sessions(&self) -> Vec<SessionId> {
        self.ledgers().iter().filter_map(|ledger| Some(ledger.held.as_ref()?.session)).collect()
    }

    /// Closes the sessions and ends.
    pub async fn finish(mut self) {
        self.shared.phase.send_replace(Phase::Stop);
        for worker in &mut self.workers {
            let ended = timeout(PATIENCE, &mut worker.task).await;
            ended.expect("a worker ends soon").expect("no panic");
        }
    }
}
