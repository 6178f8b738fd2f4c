//! A coordinator for tests: in this process, under virtual time, with faults on demand.
//!
//! It runs the same engine and the same client as the other grounds, but requests travel through a
//! simulated connection that can be cut, delayed, or lose a reply after the request was done. Use
//! it under tokio's paused clock (`#[tokio::test(start_paused = true)]`, or
//! `Builder::start_paused`): then an hour of session timeouts passes in no time, and, on the
//! current-thread runtime, a seed gives the same run again and again.
//!
//! ```
//! use std::time::Duration;
//!
//! use synod_core::testing::Coordinator;
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread()
//! #     .enable_time().start_paused(true).build().unwrap();
//! # runtime.block_on(async {
//! let zk = Coordinator::start();
//! let (a, b) = (zk.client().await, zk.client().await);
//! a.create("/mine", b"").ephemeral().await?;
//! let (_, gone) = b.exists("/mine").watched().await?;
//!
//! zk.disconnect(&a, Duration::from_secs(60)); // longer than the session timeout
//! gone.await?; // a's session expired, and what hung on it went with it
//! # Ok::<(), synod_core::model::Error>(())
//! # }).unwrap();
//! ```

mod net;
mod schedule;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::client::embedded::Coordinator as Core;
use crate::client::{Client, ClientBuilder};
use crate::model::{Error, Path, Zxid};
use crate::seams::{Clock, Entropy};

use net::{Heard, Net};
pub use schedule::Fault;

/// How long a request travels to the coordinator, and as long a reply back, in milliseconds of
/// virtual time.
pub const LATENCY_MS: u64 = 1;

/// How often the coordinator looks for sessions that it has not heard of, in milliseconds.
const EXPIRY_TICK_MS: u64 = 50;

/// What the coordinator's clock shows when it starts: 2023-11-14T22:13:20Z.
const EPOCH_MS: i64 = 1_700_000_000_000;

struct TestClock {
    start: Instant,
}

impl Clock for TestClock {
    fn wall_ms(&self) -> i64 {
        EPOCH_MS + i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// A generator that repeats itself from a seed (SplitMix64, Steele et al. 2014). For tests: what
/// it gives can be guessed.
pub struct SeededEntropy {
    state: Mutex<u64>,
}

impl SeededEntropy {
    /// A generator of that seed.
    pub fn new(seed: u64) -> SeededEntropy {
        SeededEntropy { state: Mutex::new(seed) }
    }

    /// The next number.
    pub fn next_u64(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is above 0.
    pub fn below(&self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A coordinator for tests. Dropping it makes it unreachable.
pub struct Coordinator {
    core: Arc<Core>,
    entropy: Arc<SeededEntropy>,
    heard: Heard,
    nets: Mutex<Vec<Arc<Net>>>,
    expiry: JoinHandle<()>,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.expiry.abort();
        for net in &*self.nets() {
            net.disconnect(None);
        }
    }
}

impl Coordinator {
    /// Starts one, of seed 0.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub fn start() -> Coordinator {
        Coordinator::with_seed(0)
    }

    /// Starts one whose random bytes, and those of its clients, come from `seed`.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub fn with_seed(seed: u64) -> Coordinator {
        let entropy = Arc::new(SeededEntropy::new(seed));
        let clock = Arc::new(TestClock { start: Instant::now() });
        let core = Arc::new(Core::new(clock, Arc::clone(&entropy) as Arc<dyn Entropy>));
        let heard = Heard::default();
        let expiry = tokio::spawn(expire_unheard(Arc::clone(&core), heard.clone()));
        Coordinator { core, entropy, heard, nets: Mutex::default(), expiry }
    }

    fn nets(&self) -> MutexGuard<'_, Vec<Arc<Net>>> {
        self.nets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Options of a client of this coordinator, with a connection of its own.
    pub fn builder(&self) -> ClientBuilder {
        let net = Arc::new(Net::new(Arc::clone(&self.core), self.heard.clone()));
        self.nets().push(Arc::clone(&net));
        Client::builder().on(net, Arc::clone(&self.entropy) as Arc<dyn Entropy>)
    }

    /// A client of this coordinator, with default options.
    pub async fn client(&self) -> Client {
        self.builder().connect().await.expect("a coordinator for tests is reachable")
    }

    /// The connection of that client.
    ///
    /// # Panics
    /// If it is not a client of this coordinator.
    fn net_of(&self, client: &Client) -> Arc<Net> {
        let ground = Arc::as_ptr(&client.shared.ground).cast::<()>();
        let of_client = |net: &&Arc<Net>| Arc::as_ptr(net).cast::<()>() == ground;
        self.nets().iter().find(of_client).expect("a client of this coordinator").clone()
    }

    /// Ends the client's session, as if the coordinator had not heard of it for its timeout: its
    /// ephemerals go, and its connection is closed. If the client can be reached, this returns
    /// when the client knows; if it is disconnected, at once.
    ///
    /// # Panics
    /// If it is not a client of this coordinator.
    pub async fn expire(&self, client: &Client) {
        let session = client.session();
        self.expire_now(client);
        if self.net_of(client).is_reachable() {
            session.lost().await;
        }
    }

    fn expire_now(&self, client: &Client) {
        self.core.expire(client.session().id());
        self.net_of(client).cut();
    }

    /// Cuts the client's connection, and keeps it from connecting for `duration`. Requests under
    /// way fail with "may have been done". Longer than the session timeout, and the session
    /// expires.
    ///
    /// # Panics
    /// If it is not a client of this coordinator.
    pub fn disconnect(&self, client: &Client, duration: Duration) {
        self.net_of(client).disconnect(Some(duration));
    }

    /// Ends what is left of a [`disconnect`](Coordinator::disconnect).
    ///
    /// # Panics
    /// If it is not a client of this coordinator.
    pub fn heal(&self, client: &Client) {
        self.net_of(client).disconnect(Some(Duration::ZERO));
    }

    /// The client's next write is done, but its reply is lost with the connection, which can be
    /// made again at once.
    ///
    /// # Panics
    /// If it is not a client of this coordinator.
    pub fn lose_next_reply(&self, client: &Client) {
        self.net_of(client).lose_next_reply();
    }

    /// The client's next request reaches the coordinator that much later; those behind it wait.
    ///
    /// # Panics
    /// If it is not a client of this coordinator.
    pub fn delay_next(&self, client: &Client, delay: Duration) {
        self.net_of(client).delay_next(delay);
    }

    /// Sets how many children a znode has ever had: the next sequential one gets that suffix.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such znode, or `next` is negative.
    pub fn set_sequence(&self, parent: &str, next: i32) -> Result<(), Error> {
        let parent = Path::new(parent)?;
        if next < 0 {
            return Err(Error::invalid("sequence", next, "a sequence is 0 or above"));
        }
        let set = self.core.with_engine(|engine| engine.set_sequence(&parent, next));
        set.map_err(|refusal| Error::invalid("parent", &parent, refusal.rule))
    }

    /// Deletes containers and TTL znodes whose time has come, now.
    pub fn reap(&self) {
        self.core.reap_now();
    }

    /// The zxid of the last change.
    pub fn last_zxid(&self) -> Zxid {
        self.core.with_engine(|engine| engine.last_zxid())
    }

    /// A digest of the whole state; equal states have equal digests.
    pub fn digest(&self) -> u64 {
        self.core.with_engine(|engine| engine.digest())
    }

    /// How many watches all clients have here.
    pub fn watch_count(&self) -> usize {
        self.core.with_engine(|engine| engine.watch_count())
    }
}

/// Expires the sessions that were not heard of for their timeout.
async fn expire_unheard(core: Arc<Core>, heard: Heard) {
    loop {
        sleep(Duration::from_millis(EXPIRY_TICK_MS)).await;
        for session in heard.overdue(Instant::now()) {
            core.expire(session);
        }
    }
}
