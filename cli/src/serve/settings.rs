//! What `synod serve` can be told, by flags and by a file. What one of them needs may be in the other:
//! it is judged when both are read.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;
use synod_server::Limits;

/// What the file and the flags can say; flags win.
// Not Debug: it may hold what is secret.
#[derive(Args, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Settings {
    /// Where to listen, an IP address and a port [default: 127.0.0.1:2181].
    #[arg(long, value_name = "IP:PORT")]
    pub(super) listen: Option<SocketAddr>,

    /// Where clients speak TLS; without, where `--listen` says [default: none].
    #[arg(long, value_name = "ADDR")]
    pub(super) tls_listen: Option<SocketAddr>,

    /// PEM file of the server's certificate: clients speak TLS then.
    #[arg(long, value_name = "FILE")]
    pub(super) tls_cert: Option<PathBuf>,

    /// PEM file of its private key.
    #[arg(long, value_name = "FILE")]
    pub(super) tls_key: Option<PathBuf>,

    /// PEM file of the authorities that sign clients' certificates: who shows none is refused
    /// then, and who shows one is known by it in ACLs of the scheme x509.
    #[arg(long, value_name = "FILE")]
    pub(super) tls_client_ca: Option<PathBuf>,

    /// What a client's certificate is known by: its subject, as to ZooKeeper, or the first URI or
    /// DNS name of its alternative names [default: subject].
    #[arg(long, value_name = "NAME")]
    pub(super) tls_client_name: Option<ClientName>,

    /// Listen beyond loopback without TLS: whoever is on the way reads passwords and data.
    #[arg(long)]
    #[serde(default)]
    pub(super) insecure: bool,

    /// The unit of session timeouts in milliseconds, and how often expiry looks [default: 2000].
    #[arg(long, value_name = "MS")]
    pub(super) tick_ms: Option<u32>,

    /// The shortest session timeout that is granted, in milliseconds [default: 2 ticks].
    #[arg(long, value_name = "MS")]
    pub(super) min_session_timeout_ms: Option<u32>,

    /// The longest session timeout that is granted, in milliseconds [default: 20 ticks].
    #[arg(long, value_name = "MS")]
    pub(super) max_session_timeout_ms: Option<u32>,

    /// The four-letter words that are answered, between commas; '*' for all
    /// [default: srvr,ruok,mntr,isro].
    #[arg(long, value_name = "LIST")]
    pub(super) words: Option<String>,

    /// Who proves this digest may do everything.
    #[arg(long, value_name = "USER:HASH")]
    pub(super) super_digest: Option<String>,

    /// The users that can prove themselves by SASL's DIGEST-MD5, NAME:PASSWORD a line; others than
    /// the file's owner and group must not be able to read it. They are known by their names in ACLs
    /// of the scheme sasl.
    #[arg(long, value_name = "FILE")]
    pub(super) sasl_users: Option<PathBuf>,

    /// The one of these users who may do everything.
    #[arg(long, value_name = "NAME")]
    pub(super) super_user: Option<String>,

    /// Do nothing for a client that has not proved itself by SASL.
    #[arg(long)]
    #[serde(default)]
    pub(super) require_sasl: bool,

    /// Let clients change who the members are, by the operation `reconfig`, if they may write to
    /// `/zookeeper/config`: who proves the super digest, unless its ACL says otherwise.
    #[arg(long)]
    #[serde(default)]
    pub(super) reconfig_enabled: bool,

    /// Connections of one address, loopback exempt; 0 for no bound [default: 60].
    #[arg(long, value_name = "COUNT")]
    pub(super) max_connections_per_address: Option<usize>,

    /// Connections in all [default: 65536].
    #[arg(long, value_name = "COUNT")]
    pub(super) max_connections: Option<usize>,

    /// How long a client may take from its connection to its first request, TLS included, in
    /// milliseconds [default: 5000].
    #[arg(long, value_name = "MS")]
    handshake_ms: Option<u64>,

    /// The longest request in bytes; whoever sends a longer one is disconnected
    /// [default, and at most: 1114111].
    #[arg(long, value_name = "BYTES")]
    request_bytes: Option<usize>,

    /// The most data of a znode in bytes; more is refused [default, and at most: 1048575].
    #[arg(long, value_name = "BYTES")]
    data_bytes: Option<usize>,

    /// Requests a second of one address, loopback exempt; beyond it they wait; 0 for no bound
    /// [default: 0].
    #[arg(long, value_name = "COUNT")]
    requests_per_second: Option<u32>,

    /// Requests of one connection that are read and not answered; beyond it they wait
    /// [default: 1024].
    #[arg(long, value_name = "COUNT")]
    outstanding_requests: Option<usize>,

    /// Bytes of replies that a client has not taken, beyond which its requests wait
    /// [default: 1048576].
    #[arg(long, value_name = "BYTES")]
    output_bytes: Option<usize>,

    /// Bytes that all clients together have not taken, beyond which large replies are refused
    /// [default: 536870912].
    #[arg(long, value_name = "BYTES")]
    total_output_bytes: Option<usize>,

    /// Bytes that all clients together have sent and that are not done, beyond which long requests
    /// wait [default: 536870912; at least: 1114111].
    #[arg(long, value_name = "BYTES")]
    total_input_bytes: Option<usize>,

    /// Bytes of events that a client has not taken, beyond which it is disconnected
    /// [default: 16777216].
    #[arg(long, value_name = "BYTES")]
    event_bytes: Option<usize>,

    /// Watches of one session; beyond it they are refused [default: 1048576].
    #[arg(long, value_name = "COUNT")]
    watches_per_session: Option<usize>,

    /// Children that are listed in one reply, and descendants that are counted; beyond it that is
    /// refused [default: 1000000].
    #[arg(long, value_name = "COUNT")]
    children_per_reply: Option<usize>,

    /// What znodes, sessions and watches may take in memory, in bytes; beyond it, what would add
    /// to them is refused; 0 for no bound [default: half of what the machine has, or the control
    /// group].
    #[arg(long, value_name = "BYTES")]
    memory_bytes: Option<u64>,

    /// How often containers and TTL znodes are looked at, in milliseconds [default: 60000].
    #[arg(long, value_name = "MS")]
    pub(super) reap_interval_ms: Option<u64>,

    /// The folder for the log and the snapshots, made if it is not there. Without it everything is
    /// in memory only.
    #[arg(long, value_name = "DIR", conflicts_with = "in_memory")]
    pub(super) data: Option<PathBuf>,

    /// Keep everything in memory only [default without --data].
    #[arg(long)]
    #[serde(default)]
    pub(super) in_memory: bool,

    /// The number of this member, 1 to 255; it stays with the folder [default: 1].
    #[arg(long, value_name = "ID")]
    pub(super) id: Option<u64>,

    /// Where the other members reach this one; without it the member stays alone.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) peer_listen: Option<String>,

    /// What the other members are told to reach this one at [default: where it listens].
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) peer_advertise: Option<String>,

    /// The members that found a cluster together, itself among them, all told the same; it counts
    /// while the folder is new.
    #[arg(long, value_name = "ID=HOST:PORT,…")]
    pub(super) cluster: Option<String>,

    /// Found no cluster: wait until `synod cluster add` takes this member into one.
    #[arg(long, conflicts_with = "cluster")]
    #[serde(default)]
    pub(super) join: bool,

    /// PEM file of the authority that signs the members' certificates; with TLS they prove
    /// themselves to each other by these.
    #[arg(long, value_name = "FILE")]
    pub(super) peer_tls_ca: Option<PathBuf>,

    /// PEM file of this member's certificate.
    #[arg(long, value_name = "FILE")]
    pub(super) peer_tls_cert: Option<PathBuf>,

    /// PEM file of its private key.
    #[arg(long, value_name = "FILE")]
    pub(super) peer_tls_key: Option<PathBuf>,

    /// Let members reach each other beyond loopback without TLS: whoever reaches that port speaks
    /// for a member.
    #[arg(long)]
    #[serde(default)]
    pub(super) insecure_peers: bool,

    /// How often a leader is heard of, in milliseconds [default: 75].
    #[arg(long, value_name = "MS")]
    pub(super) heartbeat_ms: Option<u64>,

    /// A leader's lease in milliseconds: a follower that has not heard of it for that long, and
    /// two fifths of it to all of it again, wants to lead [default: 250].
    #[arg(long, value_name = "MS")]
    pub(super) election_ms: Option<u64>,

    /// Entries of the log after which a snapshot is made [default: 100000].
    #[arg(long, value_name = "COUNT")]
    pub(super) snapshot_entries: Option<u64>,
}

impl Settings {
    /// Sets the bounds that these flags say, or else the file.
    pub(super) fn bound(&self, file: &Settings, limits: &mut Limits) {
        fn set<T>(bound: &mut T, flag: Option<T>, file: Option<T>) {
            if let Some(said) = flag.or(file) {
                *bound = said;
            }
        }
        set(
            &mut limits.connections_per_address_max,
            self.max_connections_per_address,
            file.max_connections_per_address,
        );
        set(&mut limits.connections_max, self.max_connections, file.max_connections);
        let of_ms = |ms: Option<u64>| ms.map(Duration::from_millis);
        set(&mut limits.handshake, of_ms(self.handshake_ms), of_ms(file.handshake_ms));
        set(&mut limits.request_bytes_max, self.request_bytes, file.request_bytes);
        set(&mut limits.data_bytes_max, self.data_bytes, file.data_bytes);
        set(
            &mut limits.requests_per_second_max,
            self.requests_per_second,
            file.requests_per_second,
        );
        set(
            &mut limits.outstanding_requests_max,
            self.outstanding_requests,
            file.outstanding_requests,
        );
        set(&mut limits.output_bytes_soft, self.output_bytes, file.output_bytes);
        set(&mut limits.total_output_bytes_max, self.total_output_bytes, file.total_output_bytes);
        set(&mut limits.total_input_bytes_max, self.total_input_bytes, file.total_input_bytes);
        set(&mut limits.event_bytes_max, self.event_bytes, file.event_bytes);
        set(
            &mut limits.watches_per_session_max,
            self.watches_per_session,
            file.watches_per_session,
        );
        set(&mut limits.children_per_reply_max, self.children_per_reply, file.children_per_reply);
        set(&mut limits.memory_bytes_max, self.memory_bytes, file.memory_bytes);
    }
}

/// What a client's certificate is known by.
#[derive(Clone, Copy, Debug, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ClientName {
    Subject,
    San,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Told {
        #[command(flatten)]
        settings: Settings,
    }

    /// Says a bound's new value.
    type Set = fn(&mut Limits, u32);

    #[test]
    fn each_bound_is_set_by_its_own_name_on_the_command_line_and_in_the_file() {
        let bounds: [(&str, Set); 14] = [
            ("max-connections", |limits, n| limits.connections_max = n as usize),
            ("max-connections-per-address", |limits, n| {
                limits.connections_per_address_max = n as usize;
            }),
            ("handshake-ms", |limits, n| limits.handshake = Duration::from_millis(n.into())),
            ("request-bytes", |limits, n| limits.request_bytes_max = n as usize),
            ("data-bytes", |limits, n| limits.data_bytes_max = n as usize),
            ("requests-per-second", |limits, n| limits.requests_per_second_max = n),
            ("outstanding-requests", |limits, n| limits.outstanding_requests_max = n as usize),
            ("output-bytes", |limits, n| limits.output_bytes_soft = n as usize),
            ("total-output-bytes", |limits, n| limits.total_output_bytes_max = n as usize),
            ("total-input-bytes", |limits, n| limits.total_input_bytes_max = n as usize),
            ("event-bytes", |limits, n| limits.event_bytes_max = n as usize),
            ("watches-per-session", |limits, n| limits.watches_per_session_max = n as usize),
            ("children-per-reply", |limits, n| limits.children_per_reply_max = n as usize),
            ("memory-bytes", |limits, n| limits.memory_bytes_max = n.into()),
        ];
        for (number, (name, set)) in (300_000..).zip(bounds) {
            let told = ["serve".to_owned(), format!("--{name}"), number.to_string()];
            let flags = Told::try_parse_from(told).expect(name).settings;
            let file: Settings = toml::from_str(&format!("{name} = {number}")).expect(name);
            let mut expected = Limits::default();
            set(&mut expected, number);
            assert_ne!(expected, Limits::default(), "{name}");
            for (flags, file) in [(&flags, &Settings::default()), (&Settings::default(), &file)] {
                let mut limits = Limits::default();
                flags.bound(file, &mut limits);
                assert_eq!(limits, expected, "{name}");
            }
        }
    }
}
