//! The four-letter words: what operators and monitors ask in place of a first frame.
//!
//! The formats are ZooKeeper's, since parsers read them; the figures are this server's own, and
//! what it does not count it does not show.

mod lists;

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::str::FromStr;
use std::sync::atomic::Ordering::Relaxed;

use crate::Shared;
use crate::counters::Latency;
use crate::replica::peers::TreeState;
use crate::roster::Peer;

/// The release of ZooKeeper whose protocol this speaks, and this crate's own.
pub const VERSION: &str =
    concat!("3.9.3-synod-", env!("CARGO_PKG_VERSION"), ", built on 11/22/2026 00:00 UTC");

/// What ZooKeeper answers as a word, besides those of [`Word`]. They are not allowed here.
const OTHERS: [&[u8; 4]; 4] = [b"lead", b"lsnp", b"obsr", b"orst"];

macro_rules! words {
    ($($(#[doc = $doc:literal])* $word:ident = $text:literal,)*) => {
        /// A four-letter word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Word {
            $($(#[doc = $doc])* $word,)*
        }

        impl Word {
            /// Every word that can be answered.
            pub const ALL: &'static [Word] = &[$(Word::$word),*];

            /// Its letters.
            pub fn text(self) -> &'static str {
                match self { $(Word::$word => $text,)* }
            }
        }
    };
}

words! {
    /// A summary of the server.
    Srvr = "srvr",
    /// Whether it serves: `imok`.
    Ruok = "ruok",
    /// Figures for monitoring.
    Mntr = "mntr",
    /// `rw`: it takes writes; `ro`: nobody leads, and it is read-only.
    Isro = "isro",
    /// A summary of the server and its connections.
    Stat = "stat",
    /// The environment that it runs in.
    Envi = "envi",
    /// Its configuration.
    Conf = "conf",
    /// Its connections, in detail.
    Cons = "cons",
    /// How many watches there are.
    Wchs = "wchs",
    /// Who watches what, by session.
    Wchc = "wchc",
    /// Who watches what, by path.
    Wchp = "wchp",
    /// Its sessions, and their ephemeral znodes.
    Dump = "dump",
    /// What it takes on disk.
    Dirs = "dirs",
    /// Counts the packets and latencies of the server anew.
    Srst = "srst",
    /// Counts the packets of each connection anew.
    Crst = "crst",
    /// Its last zxid, and the digest of the state there: that of every member that has it.
    Hash = "hash",
    /// What is traced.
    Gtmk = "gtmk",
    /// Traces what the next 8 bytes say.
    Stmk = "stmk",
}

/// A set of words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Words(u32);

impl Words {
    /// None.
    pub const NONE: Words = Words(0);

    /// All that there are.
    pub fn all() -> Words {
        Word::ALL.iter().copied().collect()
    }

    /// Whether the word is among them.
    pub fn contains(self, word: Word) -> bool {
        self.0 & (1 << word as u8) != 0
    }
}

impl Default for Words {
    /// `srvr`, `ruok`, `mntr` and `isro`: what monitors ask, and nothing about clients.
    fn default() -> Words {
        [Word::Srvr, Word::Ruok, Word::Mntr, Word::Isro].into_iter().collect()
    }
}

impl FromIterator<Word> for Words {
    fn from_iter<I: IntoIterator<Item = Word>>(words: I) -> Words {
        Words(words.into_iter().fold(0, |set, word| set | 1 << word as u8))
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let among = Word::ALL.iter().filter(|word| self.contains(**word));
        f.debug_set().entries(among.map(|word| word.text())).finish()
    }
}

/// A word that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no four-letter word that is answered; there are srvr, ruok, mntr, isro, stat, envi, conf, \
     cons, wchs, wchc, wchp, dump, dirs, srst, crst, hash, gtmk, stmk"
)]
pub struct UnknownWord(String);

impl FromStr for Words {
    type Err = UnknownWord;

    /// Words between commas, or `*` for all.
    fn from_str(list: &str) -> Result<Words, UnknownWord> {
        if list.trim() == "*" {
            return Ok(Words::all());
        }
        let texts = list.split(',').map(str::trim).filter(|text| !text.is_empty());
        texts
            .map(|text| {
                let word = Word::ALL.iter().find(|word| word.text() == text);
                word.copied().ok_or_else(|| UnknownWord(text.to_owned()))
            })
            .collect()
    }
}

/// What stands in place of a first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Word(Word),
    /// `stmk`, and what is to be traced as far as it has come.
    Trace(Option<i64>),
    Other(&'static [u8; 4]),
}

/// The word that a connection begins with. (As a length, each is far beyond any frame.)
pub(crate) fn recognize(received: &[u8]) -> Option<Asked> {
    let letters = received.get(..4)?;
    let word = Word::ALL.iter().find(|word| word.text().as_bytes() == letters);
    if word == Some(&Word::Stmk) {
        return Some(Asked::Trace(
            received[4..].first_chunk().map(|mask| i64::from_be_bytes(*mask)),
        ));
    }
    let other = || OTHERS.iter().find(|other| &other[..] == letters);
    word.map(|word| Asked::Word(*word)).or_else(|| other().map(|other| Asked::Other(other)))
}

/// The answer to a word; `None` if more of it is to come.
pub(crate) fn answer(asked: Asked, shared: &Shared) -> Option<String> {
    let word = match asked {
        Asked::Word(word) => word,
        Asked::Trace(_) => Word::Stmk,
        Asked::Other(other) => return Some(refusal(&String::from_utf8_lossy(other))),
    };
    if !shared.config.words.contains(word) {
        return Some(refusal(word.text()));
    }
    if let Asked::Trace(mask) = asked {
        shared.trace.set(mask?);
    }
    let mut out = String::new();
    let written = match word {
        Word::Ruok => write!(out, "imok"),
        Word::Isro => {
            let only_reads = shared.member.census().is_read_only;
            write!(out, "{}", if only_reads { "ro" } else { "rw" })
        }
        Word::Srvr => version(&mut out).and_then(|()| summary(&mut out, shared)),
        Word::Stat => stat(&mut out, shared),
        Word::Mntr => figures(&mut out, shared),
        Word::Envi => environment(&mut out),
        Word::Conf => configuration(&mut out, shared),
        Word::Cons => connections(&mut out, shared, true),
        Word::Wchs => watches(&mut out, shared),
        Word::Wchc => lists::watches_by_session(&mut out, shared),
        Word::Wchp => lists::watches_by_path(&mut out, shared),
        Word::Dump => lists::dump(&mut out, shared),
        Word::Dirs => lists::folders(&mut out, shared),
        Word::Srst => {
            shared.counters.reset();
            writeln!(out, "Server stats reset.")
        }
        Word::Crst => {
            shared.roster.peers().iter().for_each(|peer| peer.reset());
            writeln!(out, "Connection stats reset.")
        }
        Word::Hash => {
            let TreeState { zxid, digest, .. } = shared.member.state_in_short();
            writeln!(out, "{:x}: {digest}", zxid.as_i64())
        }
        Word::Gtmk | Word::Stmk => write!(out, "{}", shared.trace.mask()),
    };
    written.expect("a string takes everything");
    Some(out)
}

fn refusal(word: &str) -> String {
    format!("{word} is not executed because it is not in the whitelist.\n")
}

fn version(out: &mut String) -> fmt::Result {
    writeln!(out, "Zookeeper version: {VERSION}")
}

fn summary(out: &mut String, shared: &Shared) -> fmt::Result {
    let census = shared.member.census();
    let counters = &shared.counters;
    let Latency { min_micros, max_micros, .. } = counters.latency();
    let average_ms = counters.latency().average_ms().round();
    // Whole numbers: old parsers know no others.
    writeln!(
        out,
        "Latency min/avg/max: {}/{average_ms}/{}",
        min_micros / 1_000,
        max_micros / 1_000
    )?;
    writeln!(out, "Received: {}", counters.packets_received.load(Relaxed))?;
    writeln!(out, "Sent: {}", counters.packets_sent.load(Relaxed))?;
    writeln!(out, "Connections: {}", shared.roster.len())?;
    writeln!(out, "Outstanding: {}", outstanding(shared))?;
    writeln!(out, "Zxid: {}", census.zxid)?;
    writeln!(out, "Mode: {}", census.mode())?;
    writeln!(out, "Node count: {}", census.znodes)
}

/// Requests that were read and not yet done.
fn outstanding(shared: &Shared) -> usize {
    shared.roster.peers().iter().map(|peer| peer.queued.load(Relaxed)).sum()
}

fn stat(out: &mut String, shared: &Shared) -> fmt::Result {
    version(out)?;
    writeln!(out, "Clients:")?;
    connections(out, shared, false)?;
    summary(out, shared)
}

fn connections(out: &mut String, shared: &Shared, detailed: bool) -> fmt::Result {
    for peer in shared.roster.peers() {
        connection(out, &peer, detailed)?;
    }
    writeln!(out)
}

fn connection(out: &mut String, peer: &Peer, detailed: bool) -> fmt::Result {
    let session = peer.session.load(Relaxed);
    let (address, queued) = (peer.address, peer.queued.load(Relaxed));
    let received = peer.packets_received.load(Relaxed);
    let sent = peer.packets_sent.load(Relaxed);
    // Whether requests are read from it: not from one that asks a word.
    let reads = u8::from(session != 0);
    write!(out, " /{address}[{reads}](queued={queued},recved={received},sent={sent}")?;
    if detailed && session != 0 {
        let timeout_ms = peer.timeout_ms.load(Relaxed);
        write!(out, ",sid={session:#x},est={},to={timeout_ms}", peer.since_ms)?;
    }
    writeln!(out, ")")
}

fn watches(out: &mut String, shared: &Shared) -> fmt::Result {
    let census = shared.member.census();
    let (sessions, paths) = (census.watching_sessions, census.watched_paths);
    writeln!(out, "{sessions} connections watching {paths} paths")?;
    writeln!(out, "Total watches:{}", census.watches)
}

fn configuration(out: &mut String, shared: &Shared) -> fmt::Result {
    let config = &shared.config;
    let timeouts_ms = config.session_timeouts_ms();
    let plain = (!config.is_secure()).then_some(shared.local_address);
    for (port, address) in [("clientPort", plain), ("secureClientPort", shared.secure_address)] {
        match address {
            Some(address) => writeln!(out, "{port}={}\n{port}Address={address}", address.port())?,
            None => writeln!(out, "{port}=-1")?,
        }
    }
    writeln!(out, "tickTime={}", config.tick_ms)?;
    writeln!(out, "maxClientCnxns={}", config.limits.connections_per_address_max)?;
    writeln!(out, "maxCnxns={}", config.limits.connections_max)?;
    writeln!(out, "minSessionTimeout={}", timeouts_ms.start())?;
    writeln!(out, "maxSessionTimeout={}", timeouts_ms.end())?;
    writeln!(out, "serverId={}", config.member_id())
}

fn environment(out: &mut String) -> fmt::Result {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    writeln!(out, "Environment:")?;
    writeln!(out, "zookeeper.version={VERSION}")?;
    writeln!(out, "host.name={}", read("/proc/sys/kernel/hostname"))?;
    writeln!(out, "os.name={}", std::env::consts::OS)?;
    writeln!(out, "os.arch={}", std::env::consts::ARCH)?;
    writeln!(out, "os.version={}", read("/proc/sys/kernel/osrelease"))
}

fn figures(out: &mut String, shared: &Shared) -> fmt::Result {
    let census = shared.member.census();
    let counters = &shared.counters;
    let latency = counters.latency();
    let uptime_ms = shared.started.elapsed().as_millis();
    let mut figures: BTreeMap<&str, String> = BTreeMap::new();
    let mut put = |name, figure: &dyn fmt::Display| _ = figures.insert(name, figure.to_string());
    put("zk_approximate_data_size", &census.data_bytes);
    put("zk_auth_failed_count", &counters.auths_failed.load(Relaxed));
    put("zk_avg_latency", &format_args!("{:.4}", latency.average_ms()));
    put("zk_bytes_received_count", &counters.bytes_received.load(Relaxed));
    put("zk_connection_drop_count", &counters.connections_dropped.load(Relaxed));
    put("zk_connection_rejected", &counters.connections_rejected.load(Relaxed));
    put("zk_connection_request_count", &counters.connects.load(Relaxed));
    put("zk_ephemerals_count", &census.ephemerals);
    put("zk_global_sessions", &census.sessions);
    put("zk_large_requests_rejected", &counters.large_requests_rejected.load(Relaxed));
    put("zk_max_latency", &(latency.max_micros / 1_000));
    put("zk_min_latency", &(latency.min_micros / 1_000));
    put("zk_num_alive_connections", &shared.roster.len());
    put("zk_outstanding_requests", &outstanding(shared));
    put("zk_packets_received", &counters.packets_received.load(Relaxed));
    put("zk_packets_sent", &counters.packets_sent.load(Relaxed));
    put("zk_response_bytes", &counters.bytes_sent.load(Relaxed));
    put("zk_stale_sessions_expired", &counters.sessions_expired.load(Relaxed));
    put("zk_unsuccessful_handshake", &counters.handshakes_failed.load(Relaxed));
    put("zk_uptime", &uptime_ms);
    put("zk_watch_count", &census.watches);
    put("zk_znode_count", &census.znodes);
    if let Some((open, max)) = file_descriptors() {
        put("zk_open_file_descriptor_count", &open);
        put("zk_max_file_descriptor_count", &max);
    }
    writeln!(out, "zk_version\t{VERSION}")?;
    writeln!(out, "zk_server_state\t{}", census.mode())?;
    figures.iter().try_for_each(|(name, figure)| writeln!(out, "{name}\t{figure}"))
}

/// How many this process has open and may have, where the system tells.
fn file_descriptors() -> Option<(usize, u64)> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    Some((open, line.split_whitespace().next()?.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_from_a_list() {
        let list: Words = "ruok, stat".parse().expect("both are words");
        assert!(list.contains(Word::Ruok) && list.contains(Word::Stat));
        assert!(!list.contains(Word::Srvr));
        assert_eq!("*".parse(), Ok(Words::all()));
        assert_eq!("".parse(), Ok(Words::NONE));
        assert_eq!("ruok,halt".parse::<Words>(), Err(UnknownWord("halt".to_owned())));
    }

    #[test]
    fn a_word_is_recognized_by_its_first_four_bytes_alone() {
        assert_eq!(recognize(b"ruok\r\n"), Some(Asked::Word(Word::Ruok)));
        assert_eq!(recognize(b"orst"), Some(Asked::Other(b"orst")));
        assert_eq!(recognize(b"stmk1234567"), Some(Asked::Trace(None)));
        assert_eq!(recognize(b"stmk\0\0\0\0\0\0\0\x02"), Some(Asked::Trace(Some(2))));
        assert_eq!(recognize(b"GET "), None);
        assert_eq!(recognize(b"ruo"), None);
    }
}
