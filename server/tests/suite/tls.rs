//! TLS between clients and a server.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::common::certificates::Authority;
use crate::common::cluster::{admin, durable, secure};
use crate::common::{PATIENCE, config, start};
use synod_core::client::{Client, Notice, ServerKind, Tls};
use synod_core::model::{Acl, Code, Error, Perms};
use synod_server::tls::{CertificateName, ClientTls};
use synod_server::{Config, Server, StartError};

async fn serve(tls: ClientTls) -> Server {
    start(Config { tls: Some(tls), ..config() }).await
}

/// Connects to where the server listens, under that name for its host.
async fn connect_as(server: &Server, host: &str, tls: Tls) -> Result<Client, Error> {
    let servers = format!("zks://{host}:{}", server.local_addr().port());
    Client::builder().servers(servers).tls(tls).connect_timeout(PATIENCE).connect().await
}

async fn connect(server: &Server, tls: Tls) -> Result<Client, Error> {
    connect_as(server, "127.0.0.1", tls).await
}

/// Tries for a while, until it fails for that reason.
async fn refused(server: &Server, tls: Tls, said: &str) {
    let refused = async {
        loop {
            let servers = format!("zks://{}", server.local_addr());
            let builder = Client::builder().servers(servers).tls(tls.clone());
            let attempt = builder.connect_timeout(Duration::from_millis(500)).connect().await;
            let text = attempt.expect_err(said).to_string();
            if text.contains(said) {
                return;
            }
            assert!(text.contains("no server answered"), "not {said}: {text}");
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect(said);
}

#[tokio::test]
async fn everything_that_works_in_plain_works_over_tls() {
    let authority = Authority::new();
    let server = serve(authority.server()).await;
    for host in ["127.0.0.1", "localhost"] {
        let client = connect_as(&server, host, authority.client()).await.expect("connects");
        assert_eq!(client.server_kind(), ServerKind::Synod, "the words are answered over TLS too");
        let mut watch = client.watch("/large").await.expect("watches");
        // More than any buffer on the way holds.
        let data = vec![7; 1_000_000];
        client.create("/large", &data).await.expect("is created");
        for _ in 0..3 {
            assert_eq!(client.get("/large").await.expect("is read").0, data);
        }
        let created = tokio::time::timeout(PATIENCE, watch.next()).await.expect("comes in time");
        assert!(matches!(created, Some(Notice::Event(_))));
        client.delete("/large").await.expect("is deleted");
        client.close().await.expect("closes");
    }
    server.stop().await;
}

#[tokio::test]
async fn plain_clients_are_served_beside_those_that_speak_tls_on_a_port_of_its_own() {
    let authority = Authority::new();
    let listen = Some(([127, 0, 0, 1], 0).into());
    let words = "conf".parse().expect("a word");
    let tls = Some(ClientTls { listen, ..authority.strict_server() });
    let server = start(Config { tls, words, ..config() }).await;
    let (plain, secure) = (server.local_addr(), server.secure_addr().expect("has one"));
    let at = |servers: String| Client::builder().servers(servers).connect_timeout(PATIENCE);
    let ann = at(plain.to_string()).connect().await.expect("in plain");
    let worker = authority.sign("worker", &["worker.example"]).client(&authority);
    let bob = at(format!("zks://{secure}")).tls(worker.clone()).connect().await.expect("by TLS");
    ann.create("/a", "1").await.expect("is created");
    bob.sync().await.expect("is connected");
    assert_eq!(bob.get("/a").await.expect("is one tree").0, "1");
    let known = bob.who_am_i().await.expect("is told");
    assert!(known.iter().any(|identity| identity.scheme == "x509"), "{known:?}");
    let conf = crate::common::word(&server, "conf").await;
    let ports = format!("clientPort={}\n", plain.port());
    assert!(conf.starts_with(&ports), "{conf}");
    assert!(conf.contains(&format!("secureClientPort={}\n", secure.port())), "{conf}");
    // Neither speaks what the other does.
    let briefly = Duration::from_millis(500);
    let wrong = at(secure.to_string()).connect_timeout(briefly).connect().await;
    wrong.expect_err("it speaks TLS alone");
    let wrong = at(format!("zks://{plain}")).tls(worker).connect_timeout(briefly).connect().await;
    wrong.expect_err("it speaks plainly");
    server.stop().await;
    at(plain.to_string()).connect_timeout(briefly).connect().await.expect_err("nobody listens");
}

#[tokio::test]
async fn a_client_is_known_by_its_certificate_and_by_nothing_else() {
    let authority = Authority::new();
    let server = serve(authority.strict_server()).await;
    let worker = authority.sign("worker", &["worker.example"]);
    let other = authority.sign("other", &["other.example"]);
    let client = connect(&server, worker.client(&authority)).await.expect("connects");
    let known = client.who_am_i().await.expect("is told");
    assert!(known.iter().any(|identity| identity.scheme == "x509" && identity.id == "CN=worker"));
    let acl = vec![Acl::new(Perms::ALL, "x509", "CN=worker")];
    client.create("/mine", "1").acl(acl).await.expect("is created");
    client.create("/by-whom", "2").acl(Acl::creator()).await.expect("is created");
    let stranger = connect(&server, other.client(&authority)).await.expect("connects");
    for path in ["/mine", "/by-whom"] {
        client.get(path).await.expect("is its own");
        let refused = stranger.get(path).await.expect_err("is another's");
        assert!(matches!(refused, Error::Refused { code: Code::NoAuth, .. }));
    }
    let forged = stranger.add_auth("x509", "CN=worker").await;
    forged.expect_err("a certificate is shown, not told");
    server.stop().await;
}

#[tokio::test]
async fn a_client_can_be_known_by_an_alternative_name() {
    let authority = Authority::new();
    let client_name = CertificateName::AlternativeName;
    let server = serve(ClientTls { client_name, ..authority.strict_server() }).await;
    let worker = authority.sign("worker", &["worker.example"]);
    let client = connect(&server, worker.client(&authority)).await.expect("connects");
    let known = client.who_am_i().await.expect("is told");
    let names: Vec<&str> =
        known.iter().filter(|it| it.scheme == "x509").map(|it| &*it.id).collect();
    assert_eq!(names, ["worker.example"]);
    server.stop().await;
}

#[tokio::test]
async fn who_is_not_to_be_believed_is_refused_and_told_why() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let hosts = ["127.0.0.1"];
    let open = serve(authority.server()).await;
    let strict = serve(authority.strict_server()).await;
    let expired = authority.sign_expired("expired", &hosts);
    let expired = serve(ClientTls::new(expired.certificate, expired.key)).await;
    let elsewhere = authority.sign("elsewhere", &["elsewhere.example"]);
    let elsewhere = serve(ClientTls::new(elsewhere.certificate, elsewhere.key)).await;
    let forged = foreign.sign("worker", &hosts).client(&authority);
    let late = authority.sign_expired("late", &hosts).client(&authority);
    for (server, tls, said) in [
        (&strict, authority.client(), "CertificateRequired"),
        (&strict, forged, "UnknownCA"),
        (&strict, late, "CertificateExpired"),
        (&open, foreign.client(), "UnknownIssuer"),
        (&expired, authority.client(), "certificate expired"),
        (&elsewhere, authority.client(), "not valid for name"),
    ] {
        refused(server, tls, said).await;
    }
    // None of them disturbed the others.
    let worker = authority.sign("worker", &hosts).client(&authority);
    for (server, tls) in [(&open, authority.client()), (&strict, worker)] {
        let client = connect(server, tls).await.expect("connects");
        client.get("/").await.expect("is served");
    }
}

#[tokio::test]
async fn plain_and_tls_do_not_mix() {
    let authority = Authority::new();
    let (plain, secure) = (start(config()).await, serve(authority.server()).await);
    let brief = Duration::from_millis(500);
    let servers = format!("zks://{}", plain.local_addr());
    let builder = Client::builder().servers(servers).tls(authority.client());
    builder.connect_timeout(brief).connect().await.expect_err("there is no TLS");
    let servers = secure.local_addr().to_string();
    let builder = Client::builder().servers(servers.as_str()).connect_timeout(brief);
    builder.connect().await.expect_err("there is nothing but TLS");
    // What the builder and the string say must agree.
    for (servers, tls, rule) in [
        (format!("zk://{servers}"), Some(authority.client()), "without TLS"),
        (format!("zks://{servers}"), None, "needs the authorities"),
        (format!("zks://{servers}"), Some(Tls::trusting("no/such.pem")), "no/such.pem"),
    ] {
        let builder = Client::builder().servers(servers);
        let builder = if let Some(tls) = tls { builder.tls(tls) } else { builder };
        let refused = builder.connect().await.expect_err(rule);
        assert!(matches!(refused, Error::Invalid { .. }), "{refused:?}");
        assert!(refused.to_string().contains(rule), "{refused}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_replaced_counts_for_those_who_come_after() {
    let (before, after) = (Authority::new(), Authority::new());
    let tls = ClientTls { reload_interval: Duration::from_millis(5), ..before.server() };
    let (certificate, key) = (tls.certificate.clone(), tls.key.clone());
    let server = serve(tls).await;
    let old = connect(&server, before.client()).await.expect("connects");
    // The new certificate does not fit the old key: everything stays as it was.
    let new = after.sign("server", &["127.0.0.1"]);
    std::fs::copy(&new.certificate, &certificate).expect("copies");
    connect(&server, before.client()).await.expect("connects as before");
    std::fs::copy(&new.key, &key).expect("copies");
    let new = connect(&server, after.client()).await.expect("connects in the end");
    new.create("/a", "1").await.expect("is created");
    assert_eq!(&old.get("/a").await.expect("goes on").0[..], b"1");
    refused(&server, before.client(), "UnknownIssuer").await;
    server.stop().await;
}

/// It takes as long as the member waits before it looks at the files again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_replaced_counts_for_members_who_come_after() {
    let (before, after) = (Authority::new(), Authority::new());
    let (files, new) = (before.member(&before), after.member(&after));
    let folder = tempfile::tempdir().expect("can be made");
    let (config, address) = secure(&folder, &files);
    let server = start(config).await;
    // These do not look at their files again.
    let (mut own, mut other) = (admin(&address, &files), admin(&address, &new));
    own.status().await.expect("is one of them");
    other.status().await.expect_err("is another's");
    let replaced = [(&new.key, &files.key), (&new.certificate, &files.certificate)];
    for (from, to) in replaced.into_iter().chain([(&new.ca, &files.ca)]) {
        std::fs::copy(from, to).expect("copies");
    }
    let taken = async {
        while other.status().await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("is looked at in time");
    own.status().await.expect_err("is another's by now");
    server.stop().await;
}

#[tokio::test]
async fn a_port_beyond_loopback_has_tls_or_is_said_to_be_insecure() {
    let authority = Authority::new();
    let open = || Config { listen: ([0, 0, 0, 0], 0).into(), ..Config::default() };
    let refused = Server::start(open()).await.err().expect("is refused");
    assert!(matches!(refused, StartError::Exposed(_)), "{refused}");
    let allowed = Config { insecure: true, ..open() };
    let secure = Config { tls: Some(authority.server()), ..open() };
    for config in [allowed, secure] {
        start(config).await.stop().await;
    }
    // So it is with what members say to each other.
    let folder = tempfile::tempdir().expect("can be made");
    for insecure_peers in [false, true] {
        let mut config = durable(&folder);
        let member = config.member.as_mut().expect("is durable");
        member.peer_listen = Some("0.0.0.0:0".to_owned());
        member.insecure_peers = insecure_peers;
        match Server::start(config).await {
            Ok(server) => {
                assert!(insecure_peers, "it listens beyond loopback in plain");
                server.stop().await;
            }
            Err(refused) => {
                assert!(!insecure_peers && matches!(refused, StartError::Exposed(_)), "{refused}");
            }
        }
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_at_the_start() {
    let authority = Authority::new();
    let good = authority.server();
    let other = authority.sign("other", &["127.0.0.1"]);
    let missing = ClientTls { certificate: "no/such.pem".into(), ..good.clone() };
    let swapped = ClientTls { client_ca: Some(good.key.clone()), ..good.clone() };
    let foreign = ClientTls { key: other.key.clone(), ..good.clone() };
    let open = authority.sign("open", &["127.0.0.1"]);
    let mode = Permissions::from_mode(0o644);
    std::fs::set_permissions(&open.key, mode).expect("is its own");
    let rule = "a private key that others may read (mode 644): chmod o-rw";
    let rule = format!("{}: {rule}", open.key.display());
    for (tls, file) in [
        (missing, "no/such.pem".to_owned()),
        (swapped, good.key.display().to_string()),
        (foreign, other.key.display().to_string()),
        (ClientTls::new(open.certificate, open.key), rule),
    ] {
        let refused = Server::start(Config { tls: Some(tls), ..config() }).await.err();
        let text = refused.expect("is refused").to_string();
        assert!(text.contains(&file), "{text}");
    }
}
