//! A process that holds, writes, and lets go, until it is killed:
//! `fire_holder RECIPE PROCESS SERVERS TIMEOUT_MS OPEN FENCED`.
//!
//! Each write is offered to both resources under the token of the guard. The work is of the kind
//! that nobody can interrupt: it blocks, and then writes, whatever has become of the guard.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use synod::partition::{Partition, PartitionEvent};
use synod::rwlock::{NotUpgraded, ReadGuard, WriteGuard};
use synod::semaphore::Permits;
use synod::{Client, Election, Error, Guard, Lock, Partitioner, RwLock, Semaphore, Session, Zxid};
use synod_tests::fire::line::{Kind, Offer, Verdict};
use synod_tests::fire::service::Service;
use synod_tests::fire::{ITEMS, PERMITS, Recipe};
use tokio::time::{Instant, sleep};

/// What a write takes: a holder that is stopped is so within it, mostly.
const THINKING: Duration = Duration::from_millis(30);

/// Between two writes.
const REST: Duration = Duration::from_millis(3);

/// Writes under one guard.
const WRITES: usize = 8;

/// How long some wait for their turn: now and then in vain, among several holders.
const TURN: Duration = Duration::from_millis(600);

/// Before what has failed is tried again.
const PAUSE: Duration = Duration::from_millis(10);

/// The connections to both resources.
struct Resources {
    addresses: [SocketAddr; 2],
    connected: Option<[Service; 2]>,
}

impl Resources {
    fn connected(&mut self) -> io::Result<&mut [Service; 2]> {
        let [open, fenced] = self.addresses;
        let services = match self.connected.take() {
            Some(services) => services,
            None => [Service::connect(open)?, Service::connect(fenced)?],
        };
        Ok(self.connected.insert(services))
    }
}

struct Holder {
    process: String,
    client: Client,
    addresses: [SocketAddr; 2],
    grants: AtomicU64,
}

/// Something that is held.
#[derive(Clone)]
struct Grant {
    offer: Offer,
    session: Session,
    resources: Arc<Mutex<Resources>>,
}

impl Grant {
    /// Writes once; whether the resource that asks for tokens has admitted it.
    async fn write(&self) -> bool {
        let grant = self.clone();
        let write = tokio::task::spawn_blocking(move || {
            std::thread::sleep(THINKING);
            grant.offer().expect("the resources answer")
        });
        write.await.expect("no panic")
    }

    fn offer(&self) -> io::Result<bool> {
        let mut resources = self.resources.lock().expect("no panic");
        let [open, fenced] = resources.connected()?;
        open.offer(&self.offer)?;
        let admitted = fenced.offer(&self.offer)? == Verdict::Admitted;
        // The order matters: a deadline only moves on while the session lives.
        let valid_until = self.session.valid_until();
        let now = Instant::now();
        if !admitted && self.session.deadline_is_proof() && now < valid_until {
            let early = valid_until - now;
            fenced
                .complain(&format!("{} was refused {early:?} before its deadline", self.offer))?;
        }
        Ok(admitted)
    }

    async fn writes(&self) {
        for _ in 0..WRITES {
            if !self.write().await {
                return;
            }
            sleep(REST).await;
        }
    }
}

impl Holder {
    fn grant(&self, key: &str, kind: Kind, guard: &Guard) -> Grant {
        self.grant_of(key, kind, guard.token(), guard.session())
    }

    fn grant_of(&self, key: &str, kind: Kind, token: Zxid, session: Session) -> Grant {
        let nth = self.grants.fetch_add(1, Ordering::Relaxed);
        let holder = format!("{}/{nth}", self.process);
        let offer = Offer { key: key.to_owned(), kind, token: token.as_i64(), holder };
        let resources = Resources { addresses: self.addresses, connected: None };
        Grant { offer, session, resources: Arc::new(Mutex::new(resources)) }
    }

    /// Tells of something that must not be.
    fn complain(&self, text: &str) {
        let [_, fenced] = self.addresses;
        let text = format!("{}: {text}", self.process);
        let told = Service::connect(fenced).and_then(|mut service| service.complain(&text));
        told.expect("the resource answers");
    }

    /// Passes over what faults bring about; anything else is a fault of the recipe.
    async fn tolerate<T: Debug>(&self, result: Result<T, Error>) -> Option<T> {
        let error = match result {
            Ok(done) => return Some(done),
            Err(error) => error,
        };
        if !(error.session_over() || error.retryable() || error.is_lost()) {
            self.complain(&format!("{error:?}"));
        }
        sleep(PAUSE).await;
        None
    }

    async fn locks(&self) {
        let lock = Lock::new(&self.client, "/lock").expect("valid");
        for nth in 0_u64.. {
            // A place in line that is given up must leave nothing behind.
            let acquired = match nth % 2 {
                0 => lock.acquire().await,
                _ => lock.acquire_within(TURN).await,
            };
            let Some(guard) = self.tolerate(acquired).await else { continue };
            let grant = self.grant("lock", Kind::Exclusive, &guard);
            self.tolerate(guard.run(grant.writes()).await).await;
            self.tolerate(guard.release().await).await;
        }
    }

    async fn reads_and_writes(&self) {
        let lock = RwLock::new(&self.client, "/rwlock").expect("valid");
        for nth in 0_u64.. {
            match nth % 4 {
                0 => self.reads(lock.read().await, false).await,
                1 => self.writes(lock.write().await, false).await,
                2 => self.reads(lock.read_within(TURN).await, true).await,
                _ => self.writes(lock.write_within(TURN).await, true).await,
            };
        }
    }

    async fn reads(&self, guard: Result<ReadGuard, Error>, upgraded: bool) -> Option<()> {
        let guard = self.tolerate(guard).await?;
        let reading = self.grant("rwlock", Kind::Shared, &guard);
        self.tolerate(guard.run(reading.writes()).await).await?;
        if !upgraded {
            return self.tolerate(guard.release().await).await.map(drop);
        }
        match guard.upgrade().await {
            Ok(guard) => self.writes(Ok(guard), false).boxed().await,
            // Under the same token as before.
            Err(NotUpgraded::Conflict(guard)) => {
                self.tolerate(guard.run(reading.writes()).await).await.map(drop)
            }
            Err(NotUpgraded::Failed(error)) => self.tolerate(Err(error)).await,
        }
    }

    async fn writes(&self, guard: Result<WriteGuard, Error>, downgraded: bool) -> Option<()> {
        let guard = self.tolerate(guard).await?;
        let mut writing = self.grant("rwlock", Kind::Exclusive, &guard);
        self.tolerate(guard.run(writing.writes()).await).await?;
        if !downgraded {
            return self.tolerate(guard.release().await).await.map(drop);
        }
        let guard = self.tolerate(guard.downgrade().await).await?;
        writing.offer.kind = Kind::Shared;
        self.tolerate(guard.run(writing.writes()).await).await.map(drop)
    }

    async fn takes_permits(&self) {
        let semaphore = Semaphore::new(&self.client, "/permits", PERMITS).expect("valid");
        for nth in 0_u64.. {
            let acquired = match nth % 3 {
                0 => semaphore.acquire().await,
                1 => semaphore.acquire_within(TURN).await,
                _ => semaphore.acquire_many_within(PERMITS, TURN).await,
            };
            let Some(permits) = self.tolerate(acquired).await else { continue };
            let works = self.grants_of(&permits);
            let works = join_all(works.iter().map(Grant::writes));
            self.tolerate(permits.run(works).await).await;
            self.tolerate(permits.release().await).await;
        }
    }

    /// Each slot is a key of its own: what excludes a permit is a later one of the same slot.
    fn grants_of(&self, permits: &Permits) -> Vec<Grant> {
        let slots = permits.slots().iter();
        let grants = slots.map(|slot| {
            if slot.number >= PERMITS {
                self.complain(&format!("slot {} of {PERMITS} was granted", slot.number));
            }
            let key = format!("slot-{}", slot.number);
            self.grant_of(&key, Kind::Exclusive, slot.token, permits.session())
        });
        grants.collect()
    }

    async fn leads(&self) {
        let election = Election::new(&self.client, "/lead").expect("valid");
        let election = election.with_name(&self.process);
        loop {
            let led = election.run_as_leader(|leadership| async move {
                let grant = self.grant("lead", Kind::Exclusive, &leadership);
                grant.writes().await;
                Ok::<(), Error>(())
            });
            self.tolerate(led.await).await;
        }
    }

    async fn partitions(self: Arc<Self>) {
        let partitioner = Partitioner::numbered(&self.client, "/jobs", ITEMS).expect("valid");
        // Whoever comes in the place of one who was killed has its items.
        let place = self.process.split('.').next().unwrap_or_default();
        let mut partitions = partitioner.join(place).expect("valid");
        while let Some(event) = partitions.next().await {
            match event {
                PartitionEvent::Assigned(partition) => {
                    let holder = Arc::clone(&self);
                    tokio::spawn(async move { holder.works_on(partition).await });
                }
                PartitionEvent::Failed { error, .. } => {
                    self.tolerate(Err::<(), _>(error)).await;
                }
                _ => {}
            }
        }
    }

    async fn works_on(&self, partition: Partition) {
        let grant = self.grant(partition.item(), Kind::Exclusive, &partition);
        while partition.revoked().now_or_never().is_none() {
            match partition.run(grant.write()).await {
                Ok(true) => sleep(REST).await,
                Err(error) if error.retryable() => sleep(PAUSE).await,
                _ => break,
            }
        }
        self.tolerate(partition.release().await).await;
    }
}

async fn connect(servers: &str, session_timeout: Duration) -> Client {
    loop {
        let builder = Client::builder().servers(servers).session_timeout(session_timeout);
        match builder.connect().await {
            Ok(client) => return client,
            // Nobody may be there to serve just now.
            Err(_) => sleep(PAUSE).await,
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [recipe, process, servers, timeout_ms, open, fenced] = arguments.as_slice() else {
        return Err("fire_holder RECIPE PROCESS SERVERS TIMEOUT_MS OPEN FENCED".to_owned());
    };
    let address = |text: &String| text.parse().map_err(|error| format!("{text:?}: {error}"));
    let timeout_ms = timeout_ms.parse().map_err(|error| format!("{timeout_ms:?}: {error}"))?;
    let holder = Arc::new(Holder {
        process: process.clone(),
        client: connect(servers, Duration::from_millis(timeout_ms)).await,
        addresses: [address(open)?, address(fenced)?],
        grants: AtomicU64::new(0),
    });
    match recipe.parse()? {
        Recipe::Lock => holder.locks().await,
        Recipe::RwLock => holder.reads_and_writes().await,
        Recipe::Semaphore => holder.takes_permits().await,
        Recipe::Election => holder.leads().await,
        Recipe::Partition => holder.partitions().await,
    }
    Err("it was to go on for ever".to_owned())
}
