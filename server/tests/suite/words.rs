//! The four-letter words, in the forms that parsers read.

use crate::common::cluster::{Cluster, durable};
use crate::common::{PATIENCE, Raw, config, create, exists, start, word};
use synod_core::model::CreateMode;
use synod_server::{Config, VERSION, Word};
use tokio::io::AsyncReadExt;

fn all() -> Config {
    Config { words: "*".parse().expect("is all"), ..config() }
}

/// Replaces every run of digits by `#`, and what is in hexadecimal as a whole.
fn masked(text: &str) -> String {
    let text = text.replace(VERSION, "VERSION");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let length = match rest.strip_prefix("0x") {
            Some(hex) => {
                2 + hex.len() - hex.trim_start_matches(|c: char| c.is_ascii_hexdigit()).len()
            }
            None => rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len(),
        };
        if length > 0 {
            out.push('#');
            rest = &rest[length..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

#[tokio::test]
async fn the_words_that_monitors_ask_are_answered_by_default() {
    let server = start(config()).await;
    assert_eq!(word(&server, "ruok").await, "imok");
    assert_eq!(word(&server, "isro").await, "rw");
    assert!(word(&server, "ruok\r\n").await == "imok", "as telnet sends it");
    for (asked, begin) in [("srvr", "Zookeeper version: 3.9.3-synod-"), ("mntr", "zk_version\t")] {
        assert!(word(&server, asked).await.starts_with(begin), "{asked}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_word_that_is_not_allowed_is_refused_as_zookeeper_does() {
    let server = start(config()).await;
    for asked in ["stat", "envi", "conf", "cons", "wchs", "dump", "wchc", "crst", "gtmk", "hash"] {
        let refusal = format!("{asked} is not executed because it is not in the whitelist.\n");
        assert_eq!(word(&server, asked).await, refusal);
    }
    assert_eq!(word(&server, "help").await, "", "that is no word, but a bad length");
    server.stop().await;
}

#[tokio::test]
async fn srvr_is_what_parsers_read() {
    let server = start(all()).await;
    let golden = "Zookeeper version: VERSION\nLatency min/avg/max: #/#/#\nReceived: #\nSent: #\n\
                  Connections: #\nOutstanding: #\nZxid: #\nMode: standalone\nNode count: #\n";
    assert_eq!(masked(&word(&server, "srvr").await), golden);
    // As `MM/dd/yyyy HH:mm ZONE`.
    let built = VERSION.split_once(", built on ").expect("says when").1;
    let form: String = built.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(form, "00/00/0000 00:00 UTC");
    server.stop().await;
}

#[tokio::test]
async fn figures_are_real() {
    let server = start(all()).await;
    let mut raw = Raw::open(&server).await;
    raw.call(&create("/e", b"12345", CreateMode::Ephemeral)).await.expect("is created");
    raw.call(&exists("/e", true)).await.expect("is there");
    let srvr = word(&server, "srvr").await;
    for line in ["Received: 3", "Sent: 3", "Connections: 2", "Zxid: 0x100000002", "Node count: 5"] {
        assert!(srvr.lines().any(|there| there == line), "{line} in {srvr}");
    }
    let mntr = word(&server, "mntr").await;
    let expected = [
        "zk_server_state\tstandalone",
        "zk_znode_count\t5",
        "zk_ephemerals_count\t1",
        "zk_watch_count\t1",
        "zk_global_sessions\t1",
        "zk_num_alive_connections\t2",
        "zk_packets_received\t3",
        "zk_packets_sent\t3",
        "zk_outstanding_requests\t0",
        "zk_connection_request_count\t1",
    ];
    for line in expected {
        assert!(mntr.lines().any(|there| there == line), "{line} in {mntr}");
    }
    assert!(mntr.lines().all(|line| line.split('\t').count() == 2), "{mntr}");
    for name in ["zk_avg_latency", "zk_min_latency", "zk_max_latency", "zk_approximate_data_size"] {
        let line = mntr.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().parse::<f64>().expect("is a number");
    }
    assert_eq!(word(&server, "wchs").await, "1 connections watching 1 paths\nTotal watches:1\n");
    server.stop().await;
}

#[tokio::test]
async fn connections_are_listed() {
    let server = start(all()).await;
    let raw = Raw::open(&server).await;
    let port = raw.stream.local_addr().expect("is connected").port();
    let stat = word(&server, "stat").await;
    let begin = format!(
        "Zookeeper version: {VERSION}\nClients:\n /127.0.0.1:{port}[1](queued=0,recved=1,sent=1)\n"
    );
    assert!(stat.starts_with(&begin), "{stat}");
    assert_eq!(
        masked(&stat).split_once("\n\n").expect("has two parts").1,
        "Latency min/avg/max: #/#/#\nReceived: #\nSent: #\nConnections: #\nOutstanding: #\n\
         Zxid: #\nMode: standalone\nNode count: #\n"
    );
    let session = raw.welcome.expect("has a session").session;
    let cons = word(&server, "cons").await;
    let begin = format!(" /127.0.0.1:{port}[1](queued=0,recved=1,sent=1,sid={session},est=");
    assert!(cons.starts_with(&begin), "{cons}");
    assert_eq!(
        masked(&cons),
        " /#.#.#.#:#[#](queued=#,recved=#,sent=#,sid=#,est=#,to=#)\n \
         /#.#.#.#:#[#](queued=#,recved=#,sent=#)\n\n"
    );
    server.stop().await;
}

#[tokio::test]
async fn the_environment_and_the_configuration_are_told() {
    let server = start(all()).await;
    let envi = word(&server, "envi").await;
    assert!(envi.starts_with(&format!("Environment:\nzookeeper.version={VERSION}\n")), "{envi}");
    let conf = word(&server, "conf").await;
    let port = server.local_addr().port();
    for line in [&*format!("clientPort={port}"), "tickTime=2000", "minSessionTimeout=4000"] {
        assert!(conf.lines().any(|there| there == line), "{line} in {conf}");
    }
    assert!(conf.contains("secureClientPort=-1\n"), "{conf}");
    assert_eq!(Word::ALL.len(), 18, "a word more needs a test more");
    server.stop().await;
}

#[tokio::test]
async fn sessions_ephemerals_and_watches_are_listed() {
    let server = start(all()).await;
    assert_eq!(
        word(&server, "dump").await,
        "SessionTracker dump:\nGlobal Sessions(0):\nephemeral nodes dump:\n\
         Sessions with Ephemerals (0):\nConnections dump:\n"
    );
    let (mut one, mut two) = (Raw::open(&server).await, Raw::open(&server).await);
    let session = |raw: &Raw| raw.welcome.as_ref().expect("has a session").session;
    let (first, second) = (session(&one), session(&two));
    for path in ["/b", "/a"] {
        two.call(&create(path, b"", CreateMode::Ephemeral)).await.expect("is created");
        one.call(&exists(path, true)).await.expect("is there");
    }
    two.call(&exists("/a", true)).await.expect("is there");
    assert_eq!(
        word(&server, "dump").await,
        format!(
            "SessionTracker dump:\nGlobal Sessions(2):\n{first}\t10000ms\n{second}\t10000ms\n\
             ephemeral nodes dump:\nSessions with Ephemerals (1):\n{second}:\n\t/a\n\t/b\n\
             Connections dump:\n"
        )
    );
    let by_session = format!("{first}\n\t/a\n\t/b\n{second}\n\t/a\n\n");
    assert_eq!(word(&server, "wchc").await, by_session);
    let by_path = format!("/a\n\t{first}\n\t{second}\n/b\n\t{first}\n\n");
    assert_eq!(word(&server, "wchp").await, by_path);
    assert_eq!(word(&server, "dirs").await, "datadir_size: 0\nlogdir_size: 0\n");
    server.stop().await;
}

#[tokio::test]
async fn what_a_durable_member_has_on_disk_is_told_by_what_it_is() {
    let folder = tempfile::tempdir().expect("can be made");
    let server = start(durable(&folder)).await;
    // A session is open, so there is a log. A snapshot comes after more than that.
    let _raw = Raw::open(&server).await;
    let of = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("is told");
        line.parse::<u64>().expect("is a number")
    };
    let told = word(&server, "dirs").await;
    assert_eq!(of(&told, "datadir_size: "), 0);
    assert!(of(&told, "logdir_size: ") > 0, "{told}");
    std::fs::write(folder.path().join("snapshot-of-a-test"), [0; 1_000]).expect("is written");
    assert_eq!(of(&word(&server, "dirs").await, "datadir_size: "), 1_000);
    server.stop().await;
}

#[tokio::test]
async fn figures_are_counted_anew_on_demand() {
    let server = start(all()).await;
    let mut raw = Raw::open(&server).await;
    raw.call(&exists("/", false)).await.expect("is there");
    assert_eq!(word(&server, "srst").await, "Server stats reset.\n");
    let srvr = word(&server, "srvr").await;
    assert!(srvr.contains("Received: 0\nSent: 0\n"), "{srvr}");
    assert!(word(&server, "stat").await.contains("recved=2,sent=2)"));
    assert_eq!(word(&server, "crst").await, "Connection stats reset.\n");
    assert!(word(&server, "stat").await.contains("[1](queued=0,recved=0,sent=0)"));
    server.stop().await;
}

#[tokio::test]
async fn members_with_the_same_state_tell_the_same_hash() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let mut raw = Raw::when_led(cluster.member(leader)).await;
    raw.call(&create("/a", b"1", CreateMode::Persistent)).await.expect("is created");
    let hash = async |place| word(cluster.member(place), "hash").await;
    let same = async {
        loop {
            // The state may change between one answer and the next: somebody's session, for one.
            let all = [hash(0).await, hash(1).await, hash(2).await];
            if all[0] == all[1] && all[1] == all[2] {
                return all[0].clone();
            }
        }
    };
    let told = tokio::time::timeout(PATIENCE, same).await.expect("all come to the same state");
    let (zxid, digest) = told.trim_end().split_once(": ").expect("has two parts");
    assert!(i64::from_str_radix(zxid, 16).expect("is hexadecimal") > 0, "{told}");
    digest.parse::<u64>().expect("is a number");
    raw.call(&create("/b", b"1", CreateMode::Persistent)).await.expect("is created");
    assert_ne!(hash(leader).await, told);
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_traced_is_set_by_a_word_of_twelve_bytes() {
    let server = start(all()).await;
    assert_eq!(word(&server, "gtmk").await, "0");
    let mut raw = Raw::dial(&server).await;
    // They may come in pieces.
    raw.bytes(b"stmk\0\0\0\0").await;
    raw.bytes(&[0, 0, 0, 0b10_0010]).await;
    let mut answer = String::new();
    raw.stream.read_to_string(&mut answer).await.expect("is text");
    assert_eq!(answer, "34");
    assert_eq!(word(&server, "gtmk").await, "34");
    server.stop().await;
    let server = start(config()).await;
    assert!(word(&server, "stmk").await.starts_with("stmk is not executed"), "at once");
    server.stop().await;
}
