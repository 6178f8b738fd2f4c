//! One test for each known vulnerability of Apache ZooKeeper that such a server could share: by
//! its number, what it was, and that it is not so here.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::certificates::Authority;
use crate::common::cluster::{admin, durable, secure};
use crate::common::{PATIENCE, Raw, config, create, delete, start, watch};
use synod_core::client::Client;
use synod_core::model::{
    Acl, AddWatchMode, Code, Create, CreateMode, EventKind, Op, Perms, Read, Request, Response,
    Write,
};
use synod_server::admin::Admin;
use synod_server::tls::ClientTls;
use synod_server::{Config, Sasl, SaslUsers, Server};
use tokio::io::AsyncReadExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn create_with(path: &str, acl: Vec<Acl>) -> Request {
    let (path, mode) = (path.into(), CreateMode::Persistent);
    Request::Write(Write::Op(Op::Create(Create { path, data: None, acl, mode })))
}

fn acl_of(path: &str) -> Request {
    Request::Read(Read::GetAcl { path: path.into() })
}

fn auth(credentials: &'static str) -> Request {
    Request::Auth { scheme: "digest".into(), credentials: credentials.into() }
}

/// `getACL` asked for no permission, and so gave the hashes of passwords to everybody.
#[tokio::test]
async fn cve_2019_0201_an_acl_is_shown_to_those_who_may_read_and_its_hashes_to_those_who_govern() {
    let server = start(config()).await;
    let mut raw = Raw::open(&server).await;
    let secret = Acl::digest(Perms::ALL, "ann", "pw");
    let readable = vec![Acl::new(Perms::READ, "world", "anyone"), secret.clone()];
    for (path, acl) in [("/closed", vec![secret.clone()]), ("/readable", readable)] {
        raw.call(&create_with(path, acl)).await.expect("is created");
    }
    let refused = raw.call(&acl_of("/closed")).await.expect_err("may not read");
    assert_eq!(refused.code, Code::NoAuth);
    let digests = |response| match response {
        Response::Acl { acl, .. } => {
            let digests = acl.into_iter().filter(|line: &Acl| line.who.scheme == "digest");
            digests.map(|line| line.who.id).collect::<Vec<_>>()
        }
        other => panic!("no ACL: {other:?}"),
    };
    let shown = raw.call(&acl_of("/readable")).await.expect("may read");
    assert_eq!(digests(shown), ["ann:x"]);
    raw.call(&auth("ann:pw")).await.expect("is ann");
    let shown = raw.call(&acl_of("/readable")).await.expect("may govern");
    assert_eq!(digests(shown), [secret.who.id]);
    server.stop().await;
}

/// A server without an instance in its SASL name was taken into the quorum unasked.
#[tokio::test]
async fn cve_2023_44981_nobody_speaks_for_a_member_without_a_certificate_of_its_authority() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let own = authority.member(&authority);
    let folder = tempfile::tempdir().expect("can be made");
    let (config, address) = secure(&folder, &own);
    let server = start(config).await;
    let brief = Duration::from_secs(2);
    let mut unproved = Admin::new(&address).expect("an address").timeout(brief);
    unproved.status().await.expect_err("shows no certificate");
    let mut forged = admin(&address, &foreign.member(&authority)).timeout(brief);
    forged.status().await.expect_err("shows one of another authority");
    let founded = async {
        loop {
            let status = admin(&address, &own).timeout(brief).status().await;
            if let Ok(status) = status
                && status.leader.is_some()
            {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(PATIENCE, founded).await.expect("is one of them");
    assert_eq!(status.members.len(), 1, "and nobody was taken in");
    server.stop().await;
}

/// A persistent watch told the paths of znodes that its owner may not read.
#[tokio::test]
async fn cve_2024_23944_a_watch_tells_of_nothing_that_its_owner_may_not_read() {
    let server = start(config()).await;
    let (mut watcher, mut owner) = (Raw::open(&server).await, Raw::open(&server).await);
    owner.call(&auth("ann:pw")).await.expect("is ann");
    owner.call(&create_with("/private", Acl::creator())).await.expect("is created");
    for (path, mode) in [
        ("/", AddWatchMode::PersistentRecursive),
        ("/private", AddWatchMode::Persistent),
        ("/private/child", AddWatchMode::Persistent),
    ] {
        watcher.call(&watch(path, mode)).await.expect("is left");
    }
    let open = |path| create(path, b"", CreateMode::Persistent);
    owner.call(&create_with("/private/child", Acl::creator())).await.expect("is created");
    owner.call(&delete("/private/child")).await.expect("is deleted");
    owner.call(&open("/public")).await.expect("is created");
    // What comes first is the last of them.
    let event = watcher.event().await;
    assert_eq!((event.kind, &*event.path), (EventKind::Created, "/public"));
    server.stop().await;
}

/// Snapshots could be taken and restored over HTTP by who had proved any digest.
#[tokio::test]
async fn cve_2025_58457_no_client_takes_or_brings_a_snapshot() {
    let all = "*".parse().expect("is all");
    let server = start(Config { words: all, ..config() }).await;
    let mut raw = Raw::open(&server).await;
    raw.call(&auth("ann:pw")).await.expect("is ann");
    raw.call(&create("/a", b"", CreateMode::Persistent)).await.expect("is created");
    for asked in [
        &b"GET /commands/snapshot?streaming=true HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"POST /commands/restore HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"snap",
        b"rest",
    ] {
        let mut stranger = Raw::dial(&server).await;
        stranger.bytes(asked).await;
        stranger.closed().await;
    }
    raw.call(&delete("/a")).await.expect("is there still");
    server.stop().await;
}

/// A client that found no name in a certificate asked the DNS for that of the address.
#[tokio::test]
async fn cve_2026_24281_a_server_is_not_believed_for_a_name_that_the_dns_has_for_its_address() {
    let authority = Authority::new();
    // What every machine calls 127.0.0.1.
    let named = authority.sign("server", &["localhost"]);
    let tls = Some(ClientTls::new(named.certificate, named.key));
    let server = start(Config { tls, ..config() }).await;
    let connect = |host: &str, patience| {
        let servers = format!("zks://{host}:{}", server.local_addr().port());
        let builder = Client::builder().servers(servers).tls(authority.client());
        builder.connect_timeout(patience).connect()
    };
    connect("localhost", PATIENCE).await.expect("that is its name");
    let refused = async {
        loop {
            let attempt = connect("127.0.0.1", Duration::from_millis(500)).await;
            let text = attempt.expect_err("the certificate names no address").to_string();
            if text.contains("not valid for name") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("says why");
}

/// What was logged, by all threads of this process.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Logged {
    type Writer = Logged;

    fn make_writer(&self) -> Logged {
        self.clone()
    }
}

/// A client logged its configuration, with passwords in it.
#[tokio::test]
async fn cve_2026_24308_neither_side_logs_or_shows_or_keeps_what_is_secret() {
    let logged = Logged::default();
    let layer = tracing_subscriber::fmt::layer().with_writer(logged.clone()).with_ansi(false);
    tracing_subscriber::registry().with(layer).init();
    let folder = tempfile::tempdir().expect("can be made");
    let mut member = durable(&folder);
    member.member.as_mut().expect("is durable").keeping.snapshot_entries = 1;
    for config in [config(), member] {
        logged.0.lock().expect("no panic").clear();
        nothing_secret_is_logged_or_shown(config, &logged).await;
    }
    for prefix in ["log-", "snapshot-", ""] {
        let kept = Kept::of(folder.path(), prefix);
        assert!(kept.has("mine") && kept.has("ann:"), "{prefix}: they are looked through");
        for secret in CLEAR_TEXTS {
            assert!(!kept.has(secret), "{secret} is in the data folder");
        }
    }
}

/// What clients prove themselves by. (The log of a member has hashes of them, for ACLs have.)
const CLEAR_TEXTS: [&str; 6] =
    ["swordfish", "opensesame", "super:test", "mellon", "friend", "rspauth"];

/// What is in the files of a member whose names begin with that, one behind the other.
struct Kept(Vec<u8>);

impl Kept {
    fn of(folder: &Path, prefix: &str) -> Kept {
        let entries = std::fs::read_dir(folder).expect("is a folder").map_while(Result::ok);
        let names = entries.map(|entry| entry.file_name());
        let names = names.filter(|name| name.to_string_lossy().starts_with(prefix));
        // One of a member that runs may be gone by then.
        let files = names.filter_map(|name| std::fs::read(folder.join(name)).ok());
        Kept(files.flatten().collect())
    }

    fn has(&self, text: &str) -> bool {
        self.0.windows(text.len()).any(|part| part == text.as_bytes())
    }
}

async fn nothing_secret_is_logged_or_shown(config: Config, logged: &Logged) {
    let super_digest = Some("super:D/InIHSb7yEEbrWz8b9l71RjZJU=".to_owned());
    let mut users = SaslUsers::default();
    users.insert("cat", "mellon").expect("is a name");
    let sasl = Some(Sasl { users, required: false, super_user: None });
    let words = "stmk".parse().expect("is a word");
    let told = Config { super_digest, sasl, words, ..config };
    let folder = told.member.as_ref().map(|member| member.data.clone());
    let shown = format!("{told:?}");
    let server = Server::start(told).await.expect("starts");
    let mut traced = Raw::dial(&server).await;
    traced.bytes(b"stmk\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF").await;
    let mut mask = String::new();
    traced.stream.read_to_string(&mut mask).await.expect("is text");
    assert_eq!(mask, i64::MAX.to_string(), "all that can be traced is");
    let servers = server.local_addr().to_string();
    let builder = || Client::builder().servers(servers.as_str());
    Raw::when_led(&server).await;
    let refused = builder().sasl_digest("cat", "friend").connect().await;
    let refused = format!("{0} {0:?}", refused.expect_err("is another's"));
    let builder = builder().sasl_digest("cat", "mellon").auth_digest("ann", "swordfish");
    let client = builder.connect().await.expect("connects");
    client.create("/mine", "1").acl(Acl::creator()).await.expect("is created");
    client.add_auth("digest", "super:test").await.expect("never fails");
    client.get("/mine").await.expect("is read");
    let mut resumed = Raw::open(&server).await;
    resumed.call(&auth("bob:opensesame")).await.expect("never fails");
    let password = resumed.welcome.as_ref().expect("has a session").password.clone();
    if let Some(folder) = folder {
        let snapshot = async {
            while !Kept::of(&folder, "snapshot-").has("mine") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, snapshot).await.expect("is made in time");
    }
    client.close().await.expect("closes");
    server.stop().await;
    let log = String::from_utf8(logged.0.lock().expect("no panic").clone()).expect("is text");
    for heard in ["closing the session", "operation=\"auth\"", "path=\"/mine\"", "attached"] {
        assert!(log.contains(heard), "it is listened to for {heard}: {log}");
    }
    let hex: String = password.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{:?}", &password[..]);
    let text = format!("{password:?}");
    let text = text.trim_start_matches('b').trim_matches('"');
    assert!(!refused.contains("friend"), "{refused}");
    for secret in CLEAR_TEXTS.into_iter().chain(["D/InIHSb", &hex, &list, text]) {
        assert!(!log.contains(secret), "{secret} in {log}");
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}
