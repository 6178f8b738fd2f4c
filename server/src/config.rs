//! What a server can be told.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use synod_core::model::limits::{REAP_INTERVAL_MS, TICK_MS};
use synod_core::seams::{Clock, Entropy, OsEntropy, SystemClock};

use crate::bug::Planted;
use crate::limits::Limits;
use crate::net::{Net, Tcp};
use crate::replica::MemberConfig;
use crate::sasl::Sasl;
use crate::words::Words;

/// The port that ZooKeeper's clients expect.
pub const PORT: u16 = 2181;

/// Session timeouts are granted between these many ticks, unless the configuration says otherwise.
const TIMEOUT_TICKS: RangeInclusive<u32> = 2..=20;

/// What a [`Server`](crate::Server) is started with. `Config::default()` listens on
/// 127.0.0.1:2181, with ZooKeeper's own defaults.
#[derive(Clone)]
pub struct Config {
    /// Where to listen; port 0 lets the operating system choose.
    pub listen: SocketAddr,
    /// TLS for the clients; without it they speak plainly. It can have a port of its own.
    #[cfg(feature = "tls")]
    pub tls: Option<crate::tls::ClientTls>,
    /// Plain clients are taken in from other machines: whoever listens on the way reads the
    /// passwords and the data.
    pub insecure: bool,
    /// A member whose state outlives its process; `None` for one that keeps it in memory only.
    pub member: Option<MemberConfig>,
    /// The unit of session timeouts, in milliseconds, and how often expiry looks.
    pub tick_ms: u32,
    /// The shortest session timeout that is granted, in milliseconds; 2 ticks if not set.
    pub session_timeout_ms_min: Option<u32>,
    /// The longest session timeout that is granted, in milliseconds; 20 ticks if not set.
    pub session_timeout_ms_max: Option<u32>,
    /// Which four-letter words are answered.
    pub words: Words,
    /// `super:HASH`: who proves this digest may do everything.
    pub super_digest: Option<String>,
    /// The users that can prove themselves by SASL; without, a token of SASL is answered by none.
    pub sasl: Option<Sasl>,
    /// Clients may change who the members are (`reconfig`), if they may write to
    /// `/zookeeper/config`.
    pub reconfig_enabled: bool,
    /// How often containers and TTL znodes are looked at.
    pub reap_interval: Duration,
    /// The bounds.
    pub limits: Limits,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Where session passwords and the nonces of SASL come from.
    pub entropy: Arc<dyn Entropy>,
    /// The network.
    pub net: Arc<dyn Net>,
    /// The mistake that the server makes.
    #[cfg(feature = "testing")]
    pub bug: Option<crate::Bug>,
    /// Who is told of each entry that is applied.
    #[cfg(feature = "testing")]
    pub tap: Option<Arc<dyn crate::Tap>>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)),
            #[cfg(feature = "tls")]
            tls: None,
            insecure: false,
            member: None,
            tick_ms: TICK_MS,
            session_timeout_ms_min: None,
            session_timeout_ms_max: None,
            words: Words::default(),
            super_digest: None,
            sasl: None,
            reconfig_enabled: false,
            reap_interval: Duration::from_millis(REAP_INTERVAL_MS.unsigned_abs()),
            limits: Limits::default(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            net: Arc::new(Tcp),
            #[cfg(feature = "testing")]
            bug: None,
            #[cfg(feature = "testing")]
            tap: None,
        }
    }
}

impl Config {
    /// What was planted.
    pub(crate) fn planted(&self) -> Planted {
        #[cfg(feature = "testing")]
        return Planted::new(self.bug);
        #[cfg(not(feature = "testing"))]
        Planted::default()
    }

    /// Whether the clients that come to `listen` speak TLS.
    pub(crate) fn is_secure(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.as_ref().is_some_and(|tls| tls.listen.is_none());
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Where clients speak TLS besides.
    pub(crate) fn secure_listen(&self) -> Option<SocketAddr> {
        #[cfg(feature = "tls")]
        return self.tls.as_ref()?.listen;
        #[cfg(not(feature = "tls"))]
        None
    }

    /// The number of the member.
    pub(crate) fn member_id(&self) -> u64 {
        self.member.as_ref().map_or(1, |member| member.id)
    }

    /// The session timeouts that are granted, in milliseconds.
    pub fn session_timeouts_ms(&self) -> RangeInclusive<u32> {
        let ticks = |count: &u32| self.tick_ms.saturating_mul(*count);
        let min = self.session_timeout_ms_min.unwrap_or_else(|| ticks(TIMEOUT_TICKS.start()));
        let max = self.session_timeout_ms_max.unwrap_or_else(|| ticks(TIMEOUT_TICKS.end()));
        min..=max
    }

    fn looks_without_pause(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.as_ref().is_some_and(|tls| tls.reload_interval.is_zero());
        #[cfg(not(feature = "tls"))]
        false
    }

    /// # Errors
    /// The rule that does not hold.
    pub(crate) fn validate(&self) -> Result<(), &'static str> {
        let timeouts = self.session_timeouts_ms();
        if self.tick_ms == 0 {
            Err("a tick has at least 1 millisecond")
        } else if timeouts.is_empty() || *timeouts.start() == 0 {
            Err("the shortest session timeout is above 0 and at most the longest")
        } else if i32::try_from(*timeouts.end()).is_err() {
            Err("the longest session timeout is below 2^31 milliseconds")
        } else if self.looks_without_pause() {
            Err("the interval in which the files of TLS are looked at is above 0")
        } else if self.reap_interval.is_zero() {
            Err("the interval of reaping is above 0")
        } else if self.super_digest.as_deref().is_some_and(|digest| !digest.contains(':')) {
            Err("the super digest is super:HASH")
        } else if self.sasl.as_ref().is_some_and(|sasl| !sasl.knows_super_user()) {
            Err("the super user is one of the users of SASL")
        } else {
            self.limits.validate()?;
            self.member.as_ref().map_or(Ok(()), MemberConfig::validate)
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("is_secure", &self.is_secure())
            .field("secure_listen", &self.secure_listen())
            .field("insecure", &self.insecure)
            .field("member", &self.member)
            .field("tick_ms", &self.tick_ms)
            .field("session_timeouts_ms", &self.session_timeouts_ms())
            .field("words", &self.words)
            .field("super_digest", &self.super_digest.as_ref().map(|_| "set"))
            .field("sasl", &self.sasl)
            .field("reconfig_enabled", &self.reconfig_enabled)
            .field("reap_interval", &self.reap_interval)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
